"""Quantities as people read them: a table."""

import pytest

from sunspark.bench.words import count, duration, epochs, hours, off_by, percent, rate, share, size


@pytest.mark.parametrize(
    ("got", "wanted"),
    [
        (count(1234567), "1,234,567"),
        (percent(0.9167), "91.7 %"),
        (share(0.424), "42 %"),
        (share(0.001), "under 1 %"),
        (share(0.0), "0 %"),
        (duration(0.0123), "12.3 ms"),
        (duration(1.104), "1.1 s"),
        (duration(59.99), "1 min 0 s"),
        (duration(95), "1 min 35 s"),
        (duration(7260), "2 h 1 min"),
        (size(999), "999 B"),
        (size(1234567890), "1.23 GB"),
        (size(0), "0 B"),
        (rate(183.42), "183"),
        (off_by(0.2), "20 % too long"),
        (off_by(-0.05), "5 % too short"),
        (off_by(-0.004), "right within 1 %"),
        (epochs([True]), "1 epoch"),
        (epochs([True, True, False]), "2 epochs and a part of the next"),
        (epochs([False]), "a part of the first epoch"),
        (rate(12345.6), "12,346"),
        (rate(1.234), "1.23"),
        (hours(6.46e-05), "under 0.001"),
        (hours(0.0), "0"),
        (hours(0.01234), "0.0123"),
        (hours(1234.5), "1,234"),
    ],
)
def test_quantities_read_well(got: str, wanted: str) -> None:
    assert got.replace("\u00a0", " ") == wanted
