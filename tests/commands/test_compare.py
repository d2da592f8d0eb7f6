"""What `sunspark compare` prints: measured and, where there is one, forecast."""

from sunspark.bench.compare import CompareResult
from sunspark.bench.sweep_results import Measurement, summaries
from sunspark.commands.compare import in_words


def result_with(forecast: float | None) -> CompareResult:
    rows = [
        Measurement(setting="serial", repeat=0, status="measured", cores=1, images_per_second=50, seconds_per_epoch=20),
        Measurement(
            setting="all_reduce", repeat=0, status="measured", baseline="serial", cores=2, images_per_second=90,
            seconds_per_epoch=11.25, forecast_seconds_per_epoch=forecast,
        ),
    ]  # fmt: skip
    return CompareResult(folder="compared", runs=2, failed=0, refused=0, settings=summaries(rows))


def line_of(text: str, start: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.strip().startswith(start))


def test_a_forecast_stands_beside_what_was_measured() -> None:
    told = in_words(result_with(12.5))
    assert "s an epoch" in told
    assert line_of(told, "all_reduce")[-4:] == ["90%", "11.2", "12.5", "-"]
    assert line_of(told, "serial")[-4:] == ["-", "20", "-", "-"]


def test_without_forecasts_there_is_no_column_for_them() -> None:
    told = in_words(result_with(None))
    assert "forecast" not in told
    assert line_of(told, "all_reduce")[-2:] == ["90%", "-"]


def test_what_cannot_be_said_is_said_below_the_table() -> None:
    rows = [
        Measurement(
            setting=setting, repeat=0, status="measured", cores=1, images_per_second=50, seconds=3.0, top1=0.25,
            num_classes=4,
        )
        for setting in ("serial", "all_reduce")
    ]  # fmt: skip
    result = CompareResult(folder="compared", runs=2, failed=0, refused=0, settings=summaries(rows))
    told = in_words(result).replace("\xa0", " ")
    assert "guessing among 4 classes, 25.0 %, so nothing can be said of accuracy" in told
    assert "serial trained for 3 s: below some 10 s, times are mostly" in told
    assert "guessing" not in in_words(result_with(None))
