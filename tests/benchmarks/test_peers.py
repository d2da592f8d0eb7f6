"""How the benchmark beside the peers comes to its figures."""

from dataclasses import replace

import pytest

from benchmarks.peers import Result, epoch_seconds, verdicts

RESULT = Result(
    arm="",
    round=0,
    epochs=6,
    images=512,
    parameters=1,
    steady_images_per_second=1.0,
    least_images_per_second=1.0,
    most_images_per_second=1.0,
    whole_images_per_second=1.0,
    whole_seconds=1.0,
)


@pytest.mark.parametrize(
    ("marks", "seconds"),
    [
        ([(1.0, 10), (3.0, 10), (6.0, 10)], [2.0, 3.0]),  # whole epochs
        ([(2.0, 5), (1.0, 5), (4.0, 5), (3.5, 5)], [2.0]),  # two workers, out of order
        ([(1.0, 30)], [0.0, 0.0]),  # several epochs at once
        ([(1.0, 10), (2.0, 9)], []),  # the second has not ended
    ],
)
def test_an_epoch_ends_when_all_workers_together_have_trained_on_its_images(
    marks: list[tuple[float, int]], seconds: list[float]
) -> None:
    assert epoch_seconds(marks, 10) == seconds


def test_ratios_are_of_runs_of_one_round_and_their_median_is_held_to_the_bound() -> None:
    results = [
        replace(RESULT, arm="all_reduce", round=number, steady_images_per_second=speed)
        for number, speed in enumerate([1.7, 1.8, 9.0])
    ]
    results += [replace(RESULT, arm="ddp_stock", round=number) for number in (2, 1, 0, 3)]
    steady, whole = verdicts(results)
    assert steady.values == (1.7, 1.8, 9.0)
    assert steady.is_kept
    assert not replace(steady, least=1.81).is_kept
    assert (whole.least, whole.is_kept) == (None, True)
