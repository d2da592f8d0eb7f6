"""Laws of the report: shows what the run holds, says what is missing, needs nothing but its file."""

import json
import math
import re
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sunspark.bench.history import (
    ELSEWHERE,
    PHASES,
    images_per_second,
    phase_totals,
    step_history,
    training_clock,
)
from sunspark.bench.plot import Scale, extremes, line_path, nice_ticks, number, running_mean, time_ticks
from sunspark.bench.report import ReportResult, report
from sunspark.bench.words import count, duration, interval, percent, rate, share, size
from sunspark.config import to_dict
from sunspark.errors import RunError
from sunspark.launch.config import LaunchConfig
from sunspark.launch.evaluate import ClassAccuracy, EvaluationResult
from sunspark.launch.train import TrainResult
from sunspark.records import (
    DRIVER,
    EvaluationRecord,
    EventRecord,
    Record,
    RecordWriter,
    StepRecord,
    driver_file,
    read_records,
    worker_file,
)
from sunspark.training.config import WorkConfig
from sunspark.training.verify import EpochAccount, VerifyResult

pytestmark = pytest.mark.timeout(60)

CONFIG = {
    "format": "sunspark-run-1",
    "dataset": "demo/dataset",
    "dataset_id": "3f9a1c0e5d77b2a4",
    "work": {
        "model": {"model": "scene_vgg", "args": {"n_filters": 16, "dropout": [0.4, 0.2]}},
        "data": {"image_size": 64, "cache_directory": None},
        "optim": {
            "optimizer": "adam",
            "learning_rate": 1e-3,
            "schedule": "one_cycle",
            "warmup_fraction": 0.3,
        },
        "training": {
            "strategy": "all_reduce",
            "split": "train",
            "epochs": 12,
            "global_batch_size": 64,
            "seed": 0,
        },
    },
    "launch": {
        "launcher": "spark",
        "master": "local[2]",
        "workers": 2,
        "replicas": None,
        "cores_per_worker": 1,
    },
}
DEMO_CLASSES = ("beach", "city street", "desert dunes", "forest", "mountain lake", "harbour at night")


@dataclass(kw_only=True)
class MadeRun:
    """A run as training leaves it, made from arithmetic: a loss that falls, steps that take time, kills."""

    run: Path
    num_workers: int = 2
    num_steps: int = 480
    steps_per_epoch: int = 40
    batch: int = 64
    classes: tuple[str, ...] = DEMO_CLASSES
    kills: dict[int, int] = field(default_factory=dict)
    """Step -> the worker that is killed in it."""
    pause_at: int | None = None
    """The step at which everybody stops for an hour."""
    finished: bool = True
    seed: int = 0

    def write(self) -> None:
        generator = np.random.default_rng(self.seed)
        now, incarnation = 1_760_000_000.0, [0] * self.num_workers
        records: dict[tuple[int, int], list[Record]] = {}

        def event(worker: int, step: int, name: Any, detail: str = "") -> None:
            number_of_start = 0 if worker == DRIVER else incarnation[worker]
            records.setdefault((worker, number_of_start), []).append(
                EventRecord(
                    worker=worker,
                    incarnation=number_of_start,
                    time_unix_seconds=now,
                    step=step,
                    event=name,
                    detail=detail,
                )
            )

        event(DRIVER, 0, "started")
        for worker in range(self.num_workers):
            now += 0.4
            event(worker, 0, "joined")
        for step in range(self.num_steps):
            if step == self.pause_at:
                now += 3600
                event(DRIVER, step, "resumed", f"from the checkpoint of step {step}")
            if step in self.kills:
                victim = self.kills[step]
                event(victim, step, "lost", "the process ended with signal 9 (SIGKILL)")
                now += 1.1
                event(victim, step, "redone", "the quorum changed")
                incarnation[victim] += 1
                now += 0.8
                event(victim, step, "joined")
                event(victim, step, "recovered", "74 MB in 0.31 s from worker 0")
            seconds = generator.normal([0.19, 0.10, 0.02, 0.008, 0.04, 0.004], 0.0015).clip(1e-4)
            seconds[3] += 0.5 * (generator.random() < 0.01)
            now += float(seconds.sum()) + 0.002
            loss = math.log(len(self.classes)) * math.exp(-4 * step / self.num_steps)
            loss = loss * float(generator.normal(1, 0.08)) + 0.03
            for worker in range(self.num_workers):
                records.setdefault((worker, incarnation[worker]), []).append(
                    StepRecord(
                        worker=worker,
                        incarnation=incarnation[worker],
                        time_unix_seconds=now + 0.001 * worker,
                        step=step,
                        epoch=step // self.steps_per_epoch,
                        loss=loss,
                        learning_rate=1e-3 * math.sin(math.pi * (step + 1) / (self.num_steps + 1)),
                        samples=self.batch // self.num_workers,
                        **{f"{phase}_seconds": float(value) for phase, value in zip(PHASES, seconds, strict=True)},
                        peak_memory_bytes=812_000_000 + 3_000_000 * worker + 50_000 * step,
                        world_size=self.num_workers,
                        rank=worker,
                    )
                )
            if step and step % (2 * self.steps_per_epoch) == 0:
                event(0, step, "checkpoint", f"step-{step:09d}.safetensors")
                now += 0.25
        if self.finished:
            event(DRIVER, self.num_steps, "finished")
        self._save(records, now)

    def _save(self, records: dict[tuple[int, int], list[Record]], now: float) -> None:
        for (worker, incarnation), written in records.items():
            uri = driver_file(str(self.run)) if worker == DRIVER else worker_file(str(self.run), worker, incarnation)
            with RecordWriter(uri) as writer:
                for record in written:
                    writer.write(record)
        self.put("config.json", CONFIG)
        if self.finished:
            self.put(
                "result.json",
                {
                    "run": str(self.run),
                    "steps": self.num_steps,
                    "epochs": self.num_steps // self.steps_per_epoch,
                    "samples": self.num_steps * self.batch,
                    "seconds": now - 1_760_000_000.0,
                    "images_per_second": self.num_steps * self.batch / (now - 1_760_000_000.0),
                    "workers": self.num_workers,
                    "steps_redone": len(self.kills),
                    "recoveries": len(self.kills),
                    "dataset_id": "3f9a1c0e5d77b2a4",
                    "finished": True,
                },
            )

    def evaluate(self, split: str = "test") -> None:
        """Write an evaluation whose classes spread from hard to easy."""
        generator = np.random.default_rng(self.seed + 1)
        samples = [20 + int(extra) for extra in generator.integers(0, 12, len(self.classes))]
        right = generator.beta(5, 2, len(self.classes)) if len(self.classes) > 20 else np.linspace(0.8, 1, 6)
        correct = [round(number * part) for number, part in zip(samples, right, strict=True)]
        self.put(
            f"evaluation-{split}.json",
            {
                "split": split,
                "samples": sum(samples),
                "top1": sum(correct) / sum(samples),
                "top5": min(1.0, sum(correct) / sum(samples) + 0.07),
                "mean_per_class": float(np.mean(np.divide(correct, samples))),
                "loss": 0.31,
                "per_class": [
                    {"name": name, "samples": number, "correct": good}
                    for name, number, good in zip(self.classes, samples, correct, strict=True)
                ],
            },
        )

    def verify(self, exactly_once: bool = True) -> None:
        epochs = [
            {
                "epoch": epoch,
                "samples": 2560,
                "missing": 0 if exactly_once else epoch,
                "repeated": 0,
                "excused": 0,
            }
            for epoch in range(self.num_steps // self.steps_per_epoch)
        ]
        self.put("verify.json", {"exactly_once": exactly_once, "epochs": epochs})

    def put(self, name: str, body: Any) -> None:
        self.run.mkdir(parents=True, exist_ok=True)
        (self.run / name).write_text(json.dumps(body))


class _Page(HTMLParser):
    """Collects what a browser would: visible text, references, tags that never closed."""

    _VOID = frozenset({"meta", "wbr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self._joined = False
        self.feed(html)
        self.close()

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._joined = tag == "wbr"  # a place where a line may break, not a space
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1:] == [tag], f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            if self._joined and self.words:
                data = self.words.pop() + data
            self.words.append(data)
        self._joined = False


def page_of(run: Path) -> _Page:
    out = run.parent / "report.html"
    result = report(str(run), str(out))
    assert result == ReportResult(run=str(run), path=str(out), size_bytes=out.stat().st_size)
    page = _Page(out.read_text())
    assert page.open == []
    return page


@pytest.fixture
def made(tmp_path: Path) -> MadeRun:
    return MadeRun(run=tmp_path / "demo", kills={130: 1, 333: 0})


def test_a_whole_run_shows_its_numbers(made: MadeRun) -> None:
    made.write()
    made.evaluate()
    made.verify()
    text = page_of(made.run).text
    for words in (
        "finished",
        "3f9a1c0e5d77b2a4",
        "Steps 480 12 epochs",
        "Samples 30,720",
        "Workers 2",
        "Steps done again 2",
        "Recoveries 2",
        "Every sample exactly once yes",
        "Top-1 on test",
        "guessing: 16.7 %",
        "harbour at night",
        "signal 9 (SIGKILL)",
        "n_filters",
        "0.4, 0.2",
        "836 MB",
    ):
        assert words in text, words
    assert "yet" not in text


def test_a_run_that_stopped_says_so_and_what_is_missing(made: MadeRun) -> None:
    made.finished = False
    made.write()
    text = page_of(made.run).text
    for words in (
        "not finished",
        "records hold 480 steps",
        "not evaluated yet",
        "not verified yet",
        "Steps 480",
    ):
        assert words in text, words


def test_a_run_without_a_single_step_has_a_report(tmp_path: Path) -> None:
    run = MadeRun(run=tmp_path / "new")
    run.put("config.json", CONFIG)
    text = page_of(run.run).text
    assert "No step has been recorded yet" in text


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_a_run_of_few_steps_has_a_report(tmp_path: Path, num_steps: int) -> None:
    run = MadeRun(run=tmp_path / "short", num_steps=num_steps, num_workers=1, steps_per_epoch=1)
    run.write()
    page = page_of(run.run)
    assert f"Steps {num_steps}" in page.text
    assert not any("nan" in value for _, name, value in page.attributes if name in ("d", "style", "x", "width"))


def test_a_verdict_of_no_is_shown_as_no(made: MadeRun) -> None:
    made.write()
    made.verify(exactly_once=False)
    assert "Every sample exactly once no" in page_of(made.run).text


def test_the_page_loads_nothing_and_runs_nothing(made: MadeRun) -> None:
    made.write()
    made.evaluate()
    page = page_of(made.run)
    assert not [row for row in page.attributes if row[1] in ("src", "href", "srcset", "xlink:href")]
    assert not [row for row in page.attributes if row[1].startswith("on")]
    html = (made.run.parent / "report.html").read_text()
    assert not re.search(r"<script|<link|@import|url\(|https?://", html)


def test_text_of_users_is_text_and_never_markup(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
    run = MadeRun(run=tmp_path / "run<b>", classes=tuple(f"{evil}{number}" for number in range(6)))
    run.write()
    run.evaluate(split=f"test {evil}".replace("/", "|"))
    run.put("config.json", CONFIG | {"dataset": evil, "work": CONFIG["work"] | {evil: {evil: evil}, "list": [evil]}})
    with RecordWriter(driver_file(str(run.run))) as writer:
        writer.write(
            EventRecord(worker=1, incarnation=0, time_unix_seconds=1.76e9, step=1, event="failed", detail=evil)
        )
    page = page_of(run.run)
    tags = {tag for tag, _, _ in page.attributes}
    assert not tags & {"script", "img", "b"}
    assert not [row for row in page.attributes if row[1] in ("src", "onerror")]
    assert evil in page.text


def test_hundreds_of_classes_are_all_there_best_first(tmp_path: Path) -> None:
    names = tuple(f"building_{number:03d}/outdoor" for number in range(397))
    run = MadeRun(run=tmp_path / "large", classes=names)
    run.write()
    run.evaluate()
    page = page_of(run.run)
    assert all(name in page.text for name in names)
    for words in ("Recognised worst", "All 397 classes", "0 % right"):
        assert words in page.text
    everything = page.text.split("All 397 classes")[1].split("What happened when")[0]
    rates = [int(value) for value in re.findall(r"outdoor (\d+) %", everything)]
    assert len(rates) == 397
    assert rates == sorted(rates, reverse=True)


def test_a_class_without_images_is_not_counted_as_wrong(made: MadeRun) -> None:
    made.write()
    per_class = [
        {"name": "beach", "samples": 4, "correct": 3},
        {"name": "unseen", "samples": 0, "correct": 0},
    ]
    made.put("evaluation-test.json", {"split": "test", "samples": 4, "top1": 0.75, "per_class": per_class})
    text = page_of(made.run).text
    assert "4 images of 1 class." in text
    assert "unseen -" in text


def test_accuracy_on_the_way_is_drawn(made: MadeRun) -> None:
    made.write()
    with RecordWriter(driver_file(str(made.run))) as writer:
        for step in (120, 240, 480):
            writer.write(
                EvaluationRecord(
                    worker=DRIVER,
                    incarnation=0,
                    time_unix_seconds=1.76e9 + step,
                    step=step,
                    epoch=step // 40,
                    split="test",
                    samples=120,
                    loss=1.0,
                    top1=step / 500,
                    top5=1.0,
                    mean_per_class=0.5,
                )
            )
    text = page_of(made.run).text
    assert "Best top-1: 96.0 % on test, after 480 steps" in text
    assert "test, top-5" in text


def test_a_loss_that_diverged_is_told(made: MadeRun) -> None:
    made.write()
    uri = worker_file(str(made.run), 0, 1)
    lines = [json.loads(line) for line in Path(uri).read_text().splitlines()]
    lines = [line | ({"loss": "nan"} if line["kind"] == "step" else {}) for line in lines]
    Path(uri).write_text("".join(json.dumps(line) + "\n" for line in lines))
    for other in made.run.glob("records/worker-01*"):
        other.unlink()
    page = page_of(made.run)
    assert "147 steps had a loss that is not finite" in page.text
    assert not [value for _, name, value in page.attributes if name in ("d", "style") and "nan" in value]


def test_what_the_other_commands_write_is_what_the_report_reads(made: MadeRun) -> None:
    made.write()
    config = {"format": "sunspark-run-1", "dataset": "d", "dataset_id": "abc123", "work": to_dict(WorkConfig())}
    made.put("config.json", config | {"launch": to_dict(LaunchConfig())})
    accuracy = [ClassAccuracy(name="quiet beach", samples=10, correct=9)]
    evaluation = EvaluationResult(
        split="test",
        samples=10,
        top1=0.9,
        top5=1.0,
        mean_per_class=0.9,
        loss=0.3,
        seconds=1.0,
        per_class=accuracy,
    )
    made.put("evaluation-test.json", asdict(evaluation))
    account = EpochAccount(epoch=0, samples=30720, missing=64, repeated=0, excused=0)
    verdict = VerifyResult(
        exactly_once=False,
        epochs=[account],
        steps=480,
        finished=True,
        steps_with_pixels_checked=20,
        problems=["step 17 has other samples than it should"],
    )
    made.put("verify.json", asdict(verdict))
    result = TrainResult(
        run=str(made.run),
        steps=480,
        epochs=12,
        samples=30720,
        seconds=100.0,
        images_per_second=307.2,
        workers=2,
        steps_redone=7,
        recoveries=5,
        resumed_from_step=100,
        dataset_id="abc123",
        finished=True,
    )
    made.put("result.json", asdict(result))
    text = page_of(made.run).text
    for words in (
        "model scene_vgg dataset abc123 split train strategy all_reduce",
        "Top-1 on test 90.0 %",
        "quiet beach 90 %",
        "Every sample exactly once no",
        "step 17 has other samples than it should",
        "0 30,720 64 0 0",
        "Images per second 307 in 1 min 40 s, since the last start",
        "Steps done again 7",
        "global_batch_size 64",
        "cores_per_worker 1",
    ):
        assert words in text, words


def test_something_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run at"):
        report(str(tmp_path / "nothing"), str(tmp_path / "report.html"))
    with pytest.raises(RunError, match="is not a run"):
        report(str(tmp_path), str(tmp_path / "report.html"))
    assert not (tmp_path / "report.html").exists()


def test_a_damaged_result_is_named(made: MadeRun) -> None:
    made.write()
    made.put("result.json", ["not", "an", "object"])
    with pytest.raises(RunError, match=r"result\.json holds a list"):
        report(str(made.run), str(made.run / "report.html"))


def test_the_report_needs_neither_torch_nor_spark(made: MadeRun) -> None:
    made.write()
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('torch', 'pyspark')))\n"
        "from sunspark.bench.report import report\n"
        "report(sys.argv[1], sys.argv[2])\n"
    )
    out = made.run / "report.html"
    subprocess.run([sys.executable, "-c", program, str(made.run), str(out)], check=True, timeout=50)
    assert out.exists()


# --- the arrays behind the charts ---


def test_a_step_has_the_samples_of_all_its_workers_and_the_time_of_the_last(made: MadeRun) -> None:
    made.write()
    records = read_records(str(made.run))
    history = step_history(records, training_clock(records))
    assert history.step_S.tolist() == list(range(480))
    assert set(history.samples_S.tolist()) == {64}
    assert set(history.num_workers_S.tolist()) == {2}
    assert (np.diff(history.finished_seconds_S) > 0).all()


def test_a_step_done_again_by_fewer_workers_counts_once(tmp_path: Path) -> None:
    run = MadeRun(run=tmp_path / "run", num_workers=3, num_steps=10, batch=66)
    run.write()
    last = [record for record in read_records(str(run.run)) if isinstance(record, StepRecord)][-1]
    with RecordWriter(worker_file(str(run.run), 0, 1)) as writer:
        for step in range(5, 10):
            values = {name: getattr(last, name) for name in StepRecord.__dataclass_fields__}
            values |= {"worker": 0, "incarnation": 1, "rank": 0, "world_size": 1, "samples": 66, "step": step}
            writer.write(StepRecord(**values | {"time_unix_seconds": last.time_unix_seconds + step}))
    records = read_records(str(run.run))
    history = step_history(records, training_clock(records))
    assert history.samples_S.tolist() == [66] * 10
    assert history.num_workers_S.tolist() == [3] * 5 + [1] * 5


def test_the_hour_between_two_sessions_is_not_training(tmp_path: Path) -> None:
    seconds = []
    for name, pause_at in (("paused", 200), ("through", None)):
        run = MadeRun(run=tmp_path / name, pause_at=pause_at)
        run.write()
        records = read_records(str(run.run))
        clock = training_clock(records)
        seconds.append(step_history(records, clock).finished_seconds_S[-1])
        seconds.append(sum(phase_totals(records, clock).values()))
    assert seconds[:2] == pytest.approx(seconds[2:], rel=1e-4)


def test_images_per_second_add_up_to_the_images(made: MadeRun) -> None:
    made.write()
    records = read_records(str(made.run))
    history = step_history(records, training_clock(records))
    edges, rates = images_per_second(history, 50)
    assert (np.diff(edges) * rates).sum() == pytest.approx(479 * 64)


def test_phases_and_what_lay_between_add_up_to_the_time_of_the_workers(tmp_path: Path) -> None:
    run = MadeRun(run=tmp_path / "run", num_workers=1, num_steps=100, steps_per_epoch=10)
    run.write()
    records = read_records(str(run.run))
    clock = training_clock(records)
    totals = phase_totals(records, clock)
    steps = [record for record in records if isinstance(record, StepRecord)]
    first = sum(getattr(steps[0], f"{phase}_seconds") for phase in PHASES)
    alive = steps[-1].time_unix_seconds - steps[0].time_unix_seconds + first
    assert sum(totals.values()) == pytest.approx(alive)
    assert totals[ELSEWHERE] > 4 * 0.25  # the checkpoints


# --- geometry and words: tables ---


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 1.79, [0, 0.5, 1.0, 1.5]),
        (0, 480, [0, 100, 200, 300, 400]),
        (-3, 3, [-2, 0, 2]),
        (0, 3e-5, [0, 1e-5, 2e-5, 3e-5]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round_and_within(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("seconds", "labels", "unit"),
    [
        (0.5, ["0"], "s"),
        (8, ["0", "2", "4", "6", "8"], "s"),
        (75, ["0", "15", "30", "45", "60", "75"], "s"),
        (600, ["0", "2", "4", "6", "8", "10"], "min"),
        (7200, ["0", "30", "60", "90", "120"], "min"),
        (90_000, ["0", "6", "12", "18", "24"], "h"),
        (900_000, ["0", "72", "144", "216"], "h"),
    ],
)
def test_time_has_round_ticks_in_one_unit(seconds: float, labels: list[str], unit: str) -> None:
    ticks, label = time_ticks(Scale(low=0, high=seconds))
    assert ([tick.label for tick in ticks], label) == (labels, unit)
    assert all(0 <= tick.at <= 1 for tick in ticks)


def test_a_line_breaks_where_there_is_no_value() -> None:
    x = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    y = np.array([0.0, 1.0, math.nan, 0.5, 0.25])
    assert line_path(x, y) == "M0.0 1000.0L250.0 0.0M750.0 500.0L1000.0 750.0"


def test_thinning_keeps_every_peak() -> None:
    values = np.zeros(10_000)
    values[[17, 5003, 9999]] = 5.0, -3.0, 7.0
    kept = extremes(values, 100)
    assert len(kept) <= 200
    assert {17, 5003, 9999} <= set(kept.tolist())


def test_a_running_mean_leaves_out_what_is_not_finite() -> None:
    values = np.array([1.0, math.nan, 3.0, math.inf, 5.0])
    assert running_mean(values, 3).tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]


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
        (rate(12345.6), "12,346"),
        (rate(1.234), "1.23"),
        (number(0.001), "0.001"),
        (number(2e-5), "2·10⁻⁵"),
        (number(0.30000000000000004), "0.3"),
        (number(123456.0), "123,456"),
        (number(math.nan), "not finite"),
    ],
)
def test_quantities_read_well(got: str, wanted: str) -> None:
    assert got.replace("\u00a0", " ") == wanted


def test_the_interval_of_an_accuracy_is_that_of_wilson() -> None:
    assert interval(110, 120) == pytest.approx((0.8534, 0.9541), abs=2e-4)
    assert interval(0, 0) == (0.0, 1.0)
    low, high = interval(50, 50)
    assert low == pytest.approx(0.9287, abs=2e-4)
    assert high == pytest.approx(1.0)
