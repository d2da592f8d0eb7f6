"""The report of a sweep says what its data say, and the opposite where they say the opposite."""

import base64
import hashlib
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

import sunspark
from sunspark.bench.plot import Chart
from sunspark.bench.sweep_charts import pareto_front
from sunspark.bench.sweep_report import finding, sections_of
from sunspark.bench.sweep_results import Measurement, read_results, summaries, write_results
from sunspark.errors import RunError

SPEEDS = {"all_reduce": 1.6, "local_sgd, sync_every=epoch": 1.9, "async, sync_every=1": 1.2}
TOP1 = {"serial": 0.80, "all_reduce": 0.81, "local_sgd, sync_every=epoch": 0.74, "async, sync_every=1": 0.78}


def measured(setting: str, repeat: int, speed: float, cores: int) -> Measurement:
    return Measurement(
        setting=setting,
        repeat=repeat,
        status="measured",
        baseline="" if setting == "serial" else "serial",
        strategy=setting.split(",")[0],
        workers=cores,
        cores=cores,
        replicas=cores,
        images_per_second=speed,
        seconds_per_epoch=1000 / speed,
        seconds=5000 / speed,
        backward_seconds=20.0,
        forward_seconds=10.0,
        optimizer_seconds=3.0,
        data_seconds=0.5,
        communication_seconds=4.0 * cores,
        quorum_seconds=0.2,
        elsewhere_seconds=1.0,
        bytes_sent=100_000_000 * (cores - 1),
        peak_worker_bytes=600_000_000,
        peak_driver_bytes=400_000_000,
        top1=TOP1[setting],
        steps_redone=0,
        exactly_once=True,
    )


def results(factor: float = 1.0, repeats: int = 3) -> list[Measurement]:
    draw = random.Random(0)
    rows = []
    for repeat in range(repeats):
        drift = draw.uniform(0.8, 1.2)
        rows.append(measured("serial", repeat, 100 * drift, 1))
        for setting, speed_up in SPEEDS.items():
            rows.append(measured(setting, repeat, factor * 100 * drift * speed_up * draw.uniform(0.98, 1.02), 2))
    rows.append(Measurement(setting="all_reduce, workers=64", repeat=-1, status="refused", reason="it wants 64 cores"))
    return rows


def test_what_is_fastest_is_said_with_its_figures() -> None:
    said = finding(summaries(results()))
    assert said.startswith("The fastest is local_sgd, sync_every=epoch, with 1.9")
    assert "95 % interval 1.8" in said
    assert "The slowest is async, sync_every=1, with 1." in said
    assert "The most accurate is all_reduce with 81.0" in said
    assert "7.0 points above the 74.0" in said


def test_the_opposite_is_said_of_the_opposite() -> None:
    slower = finding(summaries(results(factor=0.4)))
    assert slower.startswith("No setting is faster than one worker that trains alone: local_sgd, sync_every=epoch, the")
    unclear = finding(
        summaries([replace(row, images_per_second=s) for row, s in zip(results(0.5), NOISE, strict=True)])
    )
    assert unclear.startswith("No setting is surely faster than one worker that trains alone")
    one_is_sure = [
        replace(row, images_per_second=(row.images_per_second or 0.0) * (0.4, 1.0, 2.5)[row.repeat])
        if row.setting.startswith("local")
        else row
        for row in results()
    ]
    said = finding(summaries(one_is_sure))
    assert said.startswith("local_sgd, sync_every=epoch, the fastest, has ")
    assert "which may be chance; all_reduce is faster than one worker, with " in said
    best = [replace(row, top1=0.9) if row.setting.startswith("local") else row for row in results()]
    assert "The fastest is also the most accurate, with 90.0" in finding(summaries(best))


@pytest.mark.parametrize(
    ("top1s", "said"),
    [
        ({}, "The most accurate is all_reduce with 81.0 % top-1, 7.0 points above the 74.0 % of the fastest."),
        (dict.fromkeys(TOP1, 0.5), "All settings are equally accurate, with 50.0 % top-1."),
        (
            {**dict.fromkeys(TOP1, 1 / 6), "serial": 0.2},
            "No setting is clearly more accurate than guessing among 6 classes, 16.7 %, so nothing can be said of "
            "accuracy: train for more epochs.",
        ),
        (
            {"serial": 0.9, "all_reduce": 0.9},
            "The most accurate are serial and all_reduce with 90.0 % top-1, 16.0 points above the 74.0 % of the "
            "fastest.",
        ),
        (
            {"serial": 0.9, "local_sgd, sync_every=epoch": 0.9},
            "The fastest is as accurate as any other, with 90.0 % top-1.",
        ),
    ],
)
def test_what_is_most_accurate_is_said_and_a_tie_or_guessing_is_no_lead(top1s: dict[str, float], said: str) -> None:
    rows = [replace(row, top1=top1s.get(row.setting, row.top1), num_classes=6) for row in results()]
    assert f" {said} " in f"{finding(summaries(rows))} ".replace("\u00a0", " ")


def test_guessing_takes_a_known_number_of_classes() -> None:
    rows = [replace(row, top1=1 / 6) for row in results()]
    assert "All settings are equally accurate" in finding(summaries(rows))


def test_trainings_of_seconds_are_no_measure_of_speed() -> None:
    assert "speeds say little" not in finding(summaries(results()))
    short = [replace(row, seconds=row.seconds and row.seconds / 10) for row in results()]
    said = finding(summaries(short))
    assert re.search(r"local_sgd, sync_every=epoch trained for 2\.\d+\xa0s: below some 10 s, times are mostly", said)


def test_costs_of_seconds_are_told_in_seconds() -> None:
    chart = charts([replace(row, seconds=0.1, cores=2) for row in results()])["Time and cost"]
    assert chart.y_label == "seconds of cores"
    assert all("e-" not in tick.label for tick in chart.y_ticks)
    assert "100\xa0ms, 0.2 seconds of cores" in chart.dots[0].text
    assert (
        charts([replace(row, seconds=3600.0, cores=2) for row in results()])["Time and cost"].y_label
        == "hours of cores"
    )


def charts(rows: list[Measurement]) -> dict[str, Chart]:
    return {chart.title: chart for chart in sections_of(rows)["charts"]}


def test_equal_settings_share_a_dot_that_names_them_all() -> None:
    rows = [replace(row, top1=0.5, seconds=10.0, cores=2) for row in results(repeats=1)]
    for title in ("Time and accuracy", "Time and cost"):
        (dot,) = charts(rows)[title].dots
        assert dot.label == "1, 2, 3, 4"
        assert all(row.setting in dot.text for row in rows if row.status == "measured")


def test_bytes_are_drawn_where_there_are_some_in_a_fitting_unit_with_those_that_send_none() -> None:
    few = [replace(row, bytes_sent=16) for row in results()]
    assert "Bytes and accuracy" not in charts(few)
    some = charts([replace(row, bytes_sent=row.bytes_sent and 40_000) for row in results()])["Bytes and accuracy"]
    assert some.x_label == "kB sent by all workers"
    assert [tick.label for tick in some.x_ticks] == ["0", "10", "20", "30", "40"]
    assert "serial" in " ".join(dot.text for dot in some.dots)


def test_the_fastest_comes_first_and_the_baseline_is_marked() -> None:
    rows = sections_of(results())["rows"]
    assert [row.summary.setting.partition(",")[0] for row in rows] == ["local_sgd", "all_reduce", "async", "serial"]
    assert [row.is_baseline for row in rows] == [False, False, False, True]
    bars = sections_of(results())["speeds"]
    assert [bar.share for bar in bars] == sorted((bar.share for bar in bars), reverse=True)
    assert bars[-1].name.endswith("serial, the baseline")


def test_the_lines_of_2020_are_told_apart_by_their_dashes_and_their_names() -> None:
    chart = charts(results())["Speed-up over one worker"]
    theirs = {shape.name: shape.style for shape in chart.shapes if "2020" in shape.name}
    assert len(theirs) == len(set(theirs.values())) == 2
    assert [label.text for label in chart.labels] == ["epoch", "batch"]


@pytest.mark.parametrize(
    ("factors", "said"),
    [
        ((1.06, 1.01, 1.2, 1.59), "13\xa0% of what was measured in the median and 59\xa0% at worst, of 4 settings"),
        ((0.95, 1.01, 0.8, None), "5\xa0% of what was measured in the median and 20\xa0% at worst, of 3 settings"),
    ],
)
def test_the_error_of_forecasts_is_their_median(factors: tuple[float | None, ...], said: str) -> None:
    forecasts = dict(zip(TOP1, factors, strict=True))
    rows = [
        replace(row, forecast_seconds_per_epoch=(row.seconds_per_epoch or 0.0) * factor)
        if (factor := forecasts.get(row.setting))
        else row
        for row in results(repeats=1)
    ]
    assert said in charts(rows)["Forecast and measured"].caption


NOISE = [100.0, 120, 130, 90, 100, 80, 70, 60, 100, 140, 90, 100, None]


def test_one_run_is_no_interval_and_is_said_so() -> None:
    said = finding(summaries(results(repeats=1)))
    assert "(one run)" in said
    assert "Settings that were run once have no interval" in said
    assert finding(summaries(results()[-1:])) == "No setting has a measurement beside that of its baseline yet."


def test_the_page_holds_every_setting_and_needs_nothing_else(tmp_path: Path) -> None:
    write_results(str(tmp_path / "compared"), rows := results())
    assert read_results(str(tmp_path / "compared")) == rows
    page = Path(sunspark.report(str(tmp_path / "compared"), str(tmp_path / "page.html")).path).read_text()
    for setting in {row.setting for row in rows}:
        assert setting in page
    assert "it wants 64 cores" in page
    assert "2020, every epoch" in page
    assert page.count('class="dot ') == 3 + 4 + 4 + 4
    assert "Forecast and measured" not in page


def test_the_only_script_is_the_one_that_the_page_allows(tmp_path: Path) -> None:
    rows = [replace(row, reason="<script>alert(1)</script>") for row in results()]
    write_results(str(tmp_path / "compared"), rows)
    page = Path(sunspark.report(str(tmp_path / "compared"), str(tmp_path / "page.html")).path).read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page


def test_what_was_forecast_stands_beside_what_was_measured(tmp_path: Path) -> None:
    forecasts = {"serial": 1.0, "all_reduce": 1.1, "local_sgd, sync_every=epoch": 0.8, "async, sync_every=1": None}
    rows = [
        replace(row, forecast_seconds_per_epoch=(row.seconds_per_epoch or 0.0) * factor)
        if (factor := forecasts.get(row.setting))
        else row
        for row in results(repeats=1)
    ]
    write_results(str(tmp_path / "compared"), rows)
    page = Path(sunspark.report(str(tmp_path / "compared"), str(tmp_path / "page.html")).path).read_text()
    assert "Its error is 10\xa0% of what was measured in the median and 20\xa0% at worst, of 3 settings" in page
    assert "forecast 10\xa0% too long" in page
    assert "forecast 20\xa0% too short" in page
    assert "+10%" in page
    assert "-20%" in page


def test_accuracy_of_more_replicas_than_workers_is_kept_apart_from_their_time(tmp_path: Path) -> None:
    rows = [
        replace(row, replicas=16, forecast_seconds_with_all=1.25) if row.setting == "all_reduce" else row
        for row in results()
    ]
    write_results(str(tmp_path / "compared"), rows)
    page = Path(sunspark.report(str(tmp_path / "compared"), str(tmp_path / "page.html")).path).read_text()
    assert "16 replicas on 2; with 16 workers 1.25 s an epoch by forecast" in page
    assert "its accuracy is that of as many workers as replicas" in page


def test_on_the_front_nothing_is_beaten_in_both() -> None:
    points = [(3.0, 1.0), (1.0, 3.0), (2.0, 2.0), (2.5, 2.5), (1.0, 4.0), (3.0, 1.0)]
    assert [points[place] for place in pareto_front(points)] == [(1.0, 3.0), (2.0, 2.0), (3.0, 1.0)]


def test_a_page_of_nothing_but_refusals_says_so(tmp_path: Path) -> None:
    write_results(str(tmp_path / "compared"), results()[-1:])
    page = Path(sunspark.report(str(tmp_path / "compared"), str(tmp_path / "page.html")).path).read_text()
    assert "No setting has a measurement" in page


def test_damaged_results_are_refused(tmp_path: Path) -> None:
    write_results(str(tmp_path / "compared"), results())
    (tmp_path / "compared" / "results.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(RunError, match="damaged or was written by something else"):
        sunspark.report(str(tmp_path / "compared"), str(tmp_path / "page.html"))
