"""Laws of the report: shows what the run holds, says what is missing, needs nothing but its file."""

import re
import shlex
import subprocess
import sys
from dataclasses import asdict, replace
from html import unescape
from pathlib import Path

import pytest

from sunspark.bench.report import report
from sunspark.config import to_dict
from sunspark.errors import RunError
from sunspark.launch.config import LaunchConfig
from sunspark.launch.evaluate import ClassAccuracy, EvaluationResult, Example
from sunspark.launch.train import TrainResult
from sunspark.records import EventRecord, RecordWriter, StepRecord, driver_file, read_records, worker_file
from sunspark.training.config import WorkConfig
from sunspark.training.strategies.config import StrategyConfig
from sunspark.training.verify import EpochAccount, VerifyResult
from tests.bench.made_run import CONFIG, MadeRun
from tests.bench.page import page_html, page_of

pytestmark = pytest.mark.timeout(60)

GALLERY = ("Wrong, and sure of it", "Right")
"""Figures of images, which have no marks and no numbers."""


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
        "Top-1 on test",
        "while training, after step 480",
        "Not evaluated yet: sunspark evaluate measures it, class by class.",
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


def test_a_number_of_the_configuration_has_six_digits_and_the_command_has_all(made: MadeRun) -> None:
    made.write()
    made.put("config.json", CONFIG | {"work": CONFIG["work"] | {"data": {"crop_ratio": [0.75, 4 / 3]}}})
    made.put("start.json", {"command": ["sunspark", "train", "d", "r", "--crop-ratio", "0.75", str(4 / 3)]})
    text = page_of(made.run).text
    assert "crop_ratio 0.75, 1.33333 " in text
    assert "--crop-ratio 0.75 1.3333333333333333" in text


def test_a_long_account_without_a_fault_is_one_line_on_paper_too(made: MadeRun) -> None:
    made.write()
    made.verify()
    html = page_html(made.run)
    assert re.search(r'<details class="quiet"><summary>12 epochs, none with a sample missing or repeated', html)
    assert "details.quiet::details-content { display: none; }" in html.partition("@media print")[2]


def test_a_verdict_of_no_is_shown_as_no(made: MadeRun) -> None:
    made.write()
    made.verify(exactly_once=False)
    assert "Every sample exactly once no" in page_of(made.run).text


def test_the_page_loads_nothing_and_runs_nothing(made: MadeRun) -> None:
    made.write()
    made.evaluate()
    page = page_of(made.run)
    links = [row for row in page.attributes if row[1] in ("src", "href", "srcset", "xlink:href")]
    assert links
    for tag, _, value in links:
        assert (tag == "a" and value.startswith("data:text/csv;charset=utf-8;base64,")) or (
            tag == "img" and value.startswith("data:image/jpeg;base64,")
        )
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
        writer.write(EventRecord(worker=1, incarnation=0, time_unix_seconds=1.76e9, step=1, event="lost", detail=evil))
    page = page_of(run.run)
    tags = {tag for tag, _, _ in page.attributes}
    assert not tags & {"script", "img", "b"}
    assert not [row for row in page.attributes if row[1] in ("src", "onerror")]
    assert evil in page.text


def test_what_the_other_commands_write_is_what_the_report_reads(made: MadeRun) -> None:
    made.write()
    config = {"format": "sunspark-run-1", "dataset": "d", "dataset_id": "abc123", "work": to_dict(WorkConfig())}
    made.put("config.json", config | {"launch": to_dict(LaunchConfig())})
    accuracy = [ClassAccuracy(name="quiet beach", samples=10, correct=9)]
    seen = Example(path="scenes/00004.jpg", row=4, label=0, predicted=0, probability=0.99991)
    evaluation = EvaluationResult(
        split="test",
        dataset="no such dataset",
        dataset_id="abc123",
        samples=10,
        excused=0,
        top1=0.9,
        top5=1.0,
        mean_per_class=0.9,
        loss=0.3,
        seconds=1.0,
        per_class=accuracy,
        confusion=[(0, 0, 9)],
        mistakes=[],
        right=[seen],
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
        resumed_from_step=0,
        dataset_id="abc123",
        finished=True,
    )
    made.put("result.json", asdict(result))
    text = page_of(made.run).text
    for words in (
        "model scene_vgg dataset d split train",
        "Top-1 on test 90.0 %",
        "quiet beach 90 %",
        "Every sample exactly once no",
        "step 17 has other samples than it should",
        "1 30,720 64 0 0",
        "Images per second 307 the mean of 1 min 40 s",
        "Steps done again 7",
        "scenes/00004.jpg quiet beach over 99.9 %",
        "global_batch_size 64",
        "cores_per_worker 1",
    ):
        assert words in text, words


def test_something_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
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


def test_the_figures_of_a_resumed_run_are_those_of_all_its_starts(tmp_path: Path) -> None:
    run = MadeRun(run=tmp_path / "run", pause_at=200)
    run.write()
    (run.run / "result.json").unlink()
    whole = page_of(run.run).text
    last_start = {"steps": 480, "epochs": 12, "samples": 30720, "workers": 6543, "seconds": 1.0, "finished": True}
    last_start |= {"images_per_second": 9999.0, "steps_redone": 77, "recoveries": 88, "resumed_from_step": 200}
    run.put("result.json", last_start)
    text = page_of(run.run).text
    for label in ("Images per second", "Workers", "Steps done again", "Recoveries"):
        assert re.findall(f"{label} ([0-9,.]+)", text)[0] == re.findall(f"{label} ([0-9,.]+)", whole)[0]
    assert not {"9,999", "6,543", "77", "88"} & set(text.split())
    assert "Stopped and started again 1 time." in text


@pytest.mark.parametrize(
    ("strategy", "said", "waits"),
    [
        (StrategyConfig(), "strategy all_reduce run", "quorum"),
        (StrategyConfig(strategy="diloco", sync_every=1), "strategy diloco, every 1 step run", "quorum"),
        (
            StrategyConfig(strategy="async", sync_every="epoch", compression="int8"),
            "strategy async, every epoch, in int8 run",
            "waiting for the parameter server",
        ),
    ],
)
def test_the_strategy_is_named_and_what_it_sent_and_waited_for(
    made: MadeRun, strategy: StrategyConfig, said: str, waits: str
) -> None:
    made.write()
    work = CONFIG["work"] | {"strategy": to_dict(strategy.settled())}
    made.put("config.json", CONFIG | {"work": work})
    first = next(record for record in read_records(str(made.run)) if isinstance(record, StepRecord))
    with RecordWriter(worker_file(str(made.run), 7, 1)) as writer:
        writer.write(replace(first, worker=7, rank=2, world_size=2, bytes_sent=12_300_000))
    text = page_of(made.run).text
    assert said in text
    assert "Sent 12.3 MB" in text
    assert re.search(rf"{waits} [0-9.]+ s, ", text)
    assert ("quorum" in text.replace("the quorum changed", "")) == (waits == "quorum")


def test_every_chart_has_marks_a_caption_and_its_numbers(made: MadeRun) -> None:
    """Each figure is drawn: shapes in its SVG, or bars with a width, and below them a caption and a file."""
    made.write()
    made.evaluate()
    html = page_html(made.run)
    figures = re.findall(r"<figure.*?</figure>", html, re.DOTALL)
    titles = [re.findall(r"<h3[^>]*>(.*?)</h3>", figure)[0] for figure in figures]
    assert [title.partition(":")[0] for title in titles] == [
        "Loss",
        "Accuracy while training",
        "Learning rate",
        "Gradient norm",
        "How well each class is recognised",
        "Who is taken for whom",
        "Wrong, and sure of it",
        "Right",
        "Pace and events",
        "The time of all workers added up",
        "One step",
        "Memory",
    ]
    for title, figure in zip(titles, figures, strict=True):
        marks = re.findall(
            r'<path class="[^"]+" d="M[^"]+"/>|class="(?:bar|segment [a-z]+)"[^>]*style="width:\d', figure
        )
        assert marks or title in GALLERY, title
        caption = re.findall(r"<figcaption[^>]*>\s*(.+?)</figcaption>", figure, re.DOTALL)
        assert caption, title
        assert len(re.sub(r"<[^>]+>", "", caption[0]).strip()) > 20, title
        assert "download=" in figure or title in GALLERY, title


def test_accuracy_while_training_is_drawn_where_there_were_evaluations(made: MadeRun) -> None:
    made.write()
    text = page_of(made.run).text
    assert "Accuracy while training" in text
    assert "120 images. Best after step" in text
    for file in made.run.glob("records/worker-*"):
        lines = [line for line in file.read_text().splitlines(keepends=True) if '"kind":"evaluation"' not in line]
        file.write_text("".join(lines))
    text = page_of(made.run).text
    assert "Accuracy while training" not in text
    assert "Top-1 not evaluated yet" in text


def test_the_report_says_how_to_repeat_the_run(made: MadeRun) -> None:
    made.write()
    command = ["sunspark", "train", "my images", "run", "--epochs", "3", "--model-args", "n_filters=8", "wide=1"]
    machine = {"host": "thinker", "system": "Linux", "processor": "x", "cores": 2, "memory_bytes": 16_000_000_000}
    made.put("start.json", {"command": command, "versions": {"torch": "2.9.1"}, "machine": machine})
    shown = re.findall(r"<pre[^>]*><code>(.*?)</code>", page_html(made.run), re.DOTALL)
    assert shlex.split(unescape(shown[0]).replace("\\\n", "")) == command
    text = page_of(made.run).text
    for words in ("host thinker", "memory 16 GB", "torch 2.9.1"):
        assert words in text


def test_the_time_line_tells_losses_returns_and_steps_done_again(made: MadeRun) -> None:
    made.write()
    page = page_of(made.run)
    assert "2 workers lost, 2 workers joined again, 2 steps done again." in page.text
    marks = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "class")]
    for style in ("begin", "lost", "rejoined", "recovered", "redone", "checkpoint", "finished"):
        assert f"mark {style}" in marks, style


def test_a_step_that_was_done_again_twice_counts_twice_everywhere(made: MadeRun) -> None:
    made.finished = False
    made.write()
    with RecordWriter(driver_file(str(made.run))) as records:
        for detail in ("first", "second"):
            records.write(
                EventRecord(
                    worker=0, incarnation=1, time_unix_seconds=1_760_000_050.0, step=7, event="redone", detail=detail
                )
            )
    text = page_of(made.run).text
    assert "Steps done again 4 " in text
    assert "4 steps done again." in text


def test_the_title_tells_runs_apart_that_are_called_alike(made: MadeRun) -> None:
    made.write()
    assert f"<title>{made.run.parent.name}/{made.run.name}: sunspark report</title>" in page_html(made.run)
