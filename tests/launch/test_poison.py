"""An image that kills the process that decodes it is found, left out and told of; the run goes on without it."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sunspark.data import poison as poison_module
from sunspark.data.codec import encode_jpeg
from sunspark.data.dataset import Dataset
from sunspark.data.in_hand import InHand, last_hold
from sunspark.data.poison import find_poison
from sunspark.data.writer import write_dataset
from sunspark.errors import ConfigError, UserError
from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.launch.evaluate import evaluate
from sunspark.launch.excuses import Excuses
from sunspark.launch.train import train
from sunspark.records import EvaluationRecord, EventRecord, read_records
from sunspark.run_directory import evaluation_file, read_excused
from sunspark.training.config import TrainingConfig
from sunspark.training.validation import ValidationConfig
from sunspark.training.verify import verify
from tests.distributed.laws import NUM_IMAGES, make_dataset
from tests.launch.short import short_config

pytestmark = pytest.mark.timeout(240)

ROW = 77

_DEADLY_DECODER = """
import ctypes, hashlib, os, signal
from sunspark.data import augment

def deadly(honest):
    def decode(jpeg, *arguments):
        if hashlib.sha256(jpeg).hexdigest() in {digests}:
            {deed}
        return honest(jpeg, *arguments)
    return decode

for name in {names}:
    setattr(augment, name, deadly(getattr(augment, name)))
"""

Poison = Callable[..., None]


@pytest.fixture
def poison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Poison:
    """Makes rows of a dataset crash each process that is started from now on and decodes them by those functions."""

    def poison(
        names: Sequence[str],
        uri: str,
        rows: Sequence[int],
        deed: str = "ctypes.string_at(0)",  # as a decoder with a bug would
    ) -> None:
        dataset = Dataset.open(uri)
        blocks = [dataset.read_block(dataset.block_of(row)) for row in rows]
        images = [block.images[row - block.first_row] for row, block in zip(rows, blocks, strict=True)]
        digests = {hashlib.sha256(image).hexdigest() for image in images}
        folder = tmp_path / "site"
        folder.mkdir()
        code = _DEADLY_DECODER.format(names=list(names), digests=digests, deed=deed)
        (folder / "sitecustomize.py").write_text(code)  # every Python imports it
        monkeypatch.syspath_prepend(folder)
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)

    return poison


@pytest.fixture
def poisoned(law_dataset: str, poison: Poison) -> str:
    """The path of an image that training cannot survive."""
    poison(["training_pixels"], law_dataset, [ROW])
    return Dataset.open(law_dataset).path_of(ROW)


@pytest.fixture
def run(finished: str, tmp_path: Path) -> Path:
    """A finished run to write to."""
    return Path(shutil.copytree(finished, tmp_path / "finished"))


def test_a_poison_image_is_excused_and_nothing_else_is_missing(
    law_dataset: str, poisoned: str, run_folder: Path
) -> None:
    config = replace(
        short_config(workers=2), training=TrainingConfig(epochs=2, global_batch_size=64, checkpoint_every=2)
    )
    assert train(law_dataset, str(run_folder), config).finished
    kept = json.loads((run_folder / "excused.json").read_text())["excused"]
    assert kept == [{"row": ROW, "path": poisoned, "reason": "decoding it ends the process by SIGSEGV"}]
    verdict = verify(str(run_folder), pixels=True)
    assert verdict.exactly_once, verdict.problems
    assert [(epoch.missing, epoch.repeated, epoch.excused) for epoch in verdict.epochs] == [(0, 0, 1), (0, 0, 1)]
    events = [record for record in read_records(str(run_folder)) if isinstance(record, EventRecord)]
    assert any(event.event == "excused" and poisoned in event.detail for event in events)
    deaths = [event.detail for event in events if event.event == "lost"]
    assert any("SIGSEGV" in death and "segmentation fault" in death and poisoned in death for death in deaths)

    (run_folder / "excused.json").unlink()  # verify does not excuse what is not written down
    verdict = verify(str(run_folder))
    assert not verdict.exactly_once
    assert sum(epoch.missing for epoch in verdict.epochs) >= 1


def find(rows: Sequence[int], dataset: str, oom_kills: Sequence[int] = (0,) * 10) -> dict[int, str]:
    """What trials of those rows find; `oom_kills` are what the kernel's counter tells, look by look."""
    counts = iter(oom_kills)
    return find_poison(
        rows, dataset=dataset, seed=0, num_epochs=2, image_size=16, augment={}, count_oom_kills=lambda: next(counts)
    )


def test_a_trial_tells_the_one_that_kills_from_those_beside_it(law_dataset: str, poisoned: str) -> None:
    assert poisoned
    assert find([ROW - 1, ROW, ROW + 1], law_dataset) == {ROW: "decoding it ends the process by SIGSEGV"}


def test_a_decoder_that_never_ends_is_found_by_its_processor_time(
    law_dataset: str, poison: Poison, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(["training_pixels"], law_dataset, [ROW], "while True: pass")
    monkeypatch.setattr(poison_module, "_DECODING_SECONDS", 0.2)
    assert find([ROW], law_dataset) == {ROW: "decoding it takes more than 0.2 s of processor time"}


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGKILL"])
def test_an_image_is_not_condemned_for_a_trial_that_was_ended_from_outside(
    law_dataset: str, poison: Poison, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    poison(["training_pixels"], law_dataset, [ROW], f"os.kill(os.getpid(), signal.{name})")
    assert find([ROW], law_dataset) == {}
    assert f"row {ROW} of {law_dataset} stays" in caplog.text
    assert name in caplog.text or "KeyboardInterrupt" in caplog.text


def test_an_image_that_takes_all_memory_is_known_by_the_kernels_counter(law_dataset: str, poison: Poison) -> None:
    poison(["training_pixels"], law_dataset, [ROW], "os.kill(os.getpid(), signal.SIGKILL)")
    assert find([ROW], law_dataset, oom_kills=[4, 5, 5, 6]) == {ROW: "decoding it ends the process by SIGKILL"}


def test_an_image_is_not_condemned_for_a_crash_that_does_not_come_again(
    law_dataset: str, poison: Poison, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deed = f"os.path.exists({str(tmp_path / 'once')!r}) or (os.mkdir({str(tmp_path / 'once')!r}), ctypes.string_at(0))"
    poison(["training_pixels"], law_dataset, [ROW], deed)
    assert find([ROW], law_dataset) == {}
    assert "SIGSEGV" in caplog.text


def test_an_image_is_not_condemned_for_a_slow_start(
    law_dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import time\nwhile time.process_time() < 2: pass\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(poison_module, "_DECODING_SECONDS", 1.0)
    assert find([ROW], law_dataset) == {}


def test_a_trial_that_finds_nothing_out_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert find([ROW], str(tmp_path / "no such dataset")) == {}
    assert "ended with exit code 1: " in caplog.text
    assert "no such dataset" in caplog.text


def test_an_autopsy_has_one_deadline_for_all_its_images(
    law_dataset: str, poisoned: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert poisoned
    monkeypatch.setattr(poison_module, "_ALL_SECONDS", 0.0)
    assert find([ROW, ROW + 1], law_dataset) == {}
    assert caplog.text.count("took longer than 0 s") == 2


def test_an_evaluation_finds_poison_and_counts_all_else_once(
    law_dataset: str, poison: Poison, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    poison(["evaluation_pixels"], law_dataset, [ROW, ROW + 1])
    launch = LaunchConfig(launcher="local", workers=2)
    result = evaluate(str(run), split="train", config=launch)
    assert (result.samples, result.excused) == (NUM_IMAGES - 2, 2)
    assert read_excused(str(run)).keys() == {ROW, ROW + 1}
    told = capsys.readouterr().err
    for row in (ROW, ROW + 1):
        assert f"{Dataset.open(law_dataset).path_of(row)} is left out from now on: decoding it ends" in told
    assert f"{NUM_IMAGES}/{NUM_IMAGES} images, " in told
    assert json.loads(Path(evaluation_file(str(run), "train")).read_text())["excused"] == 2


def test_an_evaluation_leaves_out_what_training_has_excused(law_dataset: str, run: Path) -> None:
    path_of = Dataset.open(law_dataset).path_of
    excuses = Excuses(run=str(run), path_of=path_of, needed={"--split": ("train", np.arange(NUM_IMAGES))})
    excuses.write({ROW: "decoding it ends the process by SIGSEGV"})
    launch = LaunchConfig(launcher="local", workers=1)
    result = evaluate(str(run), split="train", config=launch)
    assert (result.samples, result.excused) == (NUM_IMAGES - 1, 1)
    assert not {one.row for one in (*result.mistakes, *result.right)} & {ROW}

    other = make_dataset(run.parent / "other", num_images=200)  # rows of another dataset are other images
    assert evaluate(str(run), other, "train", launch).excused == 0


def test_an_evaluation_while_training_finds_poison(law_dataset: str, poison: Poison, run_folder: Path) -> None:
    poison(["evaluation_pixels"], law_dataset, [ROW])
    config = replace(short_config(workers=2), validation=ValidationConfig(eval_every=1, eval_split="train"))
    assert train(law_dataset, str(run_folder), config).finished
    (found,) = [one for one in read_records(str(run_folder)) if isinstance(one, EvaluationRecord)]
    assert (found.samples, found.excused) == (NUM_IMAGES - 1, 1)
    assert verify(str(run_folder)).exactly_once


def test_what_was_in_hand_outlives_the_process(tmp_path: Path) -> None:
    table = InHand(tmp_path / "table")
    table.set_step(9)
    with table.hold(4):
        assert last_hold(tmp_path / "table").rows == [4]
    hold = last_hold(tmp_path / "table")
    assert (hold.step, hold.rows) == (9, [])
    assert last_hold(tmp_path / "none").rows == []
    with contextlib.suppress(ValueError), table.hold(9):
        raise ValueError("an image that cannot be decoded")
    assert last_hold(tmp_path / "table").rows == []


SPOILED = "spoiled"
"""A split of which nothing can be decoded, or of which nothing has come through ingest."""


@pytest.fixture
def spoiled(tmp_path: Path, poison: Poison) -> str:
    """A dataset with the splits train, whole; spoiled, all of it poison; and gone, all of it in quarantine."""
    samples = [
        (f"class{number % 2}/{number}.jpg", number % 2, ["train" if number < 16 else SPOILED], noise(number))
        for number in range(20)
    ]
    uri = str(tmp_path / "spoiled")
    dataset = write_dataset(
        uri, samples, classes=["class0", "class1"], split_names=["train", SPOILED, "gone"], block_size=8
    )
    poison(["training_pixels", "evaluation_pixels"], uri, dataset.rows(SPOILED).tolist())
    return uri


def noise(seed: int) -> bytes:
    return encode_jpeg(np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8))


def spoiled_config(split: str, validation: ValidationConfig | None = None) -> TrainConfig:
    return replace(
        short_config(),
        training=TrainingConfig(split=split, global_batch_size=4, epochs=1),
        validation=validation or ValidationConfig(),
    )


@pytest.mark.laws
def test_nothing_is_trained_on_a_split_that_is_all_poison(spoiled: str, run_folder: Path) -> None:
    """Found once, it is known at the next start."""
    for _ in range(2):
        with pytest.raises(UserError, match=r"^every image of the split 'spoiled' \(4\) kills .* --split$"):
            train(spoiled, str(run_folder), spoiled_config(SPOILED))
        assert len(read_excused(str(run_folder))) == 4
    assert not (run_folder / "result.json").exists()


@pytest.mark.laws
def test_an_evaluation_of_a_split_that_is_all_poison_says_so(spoiled: str, run_folder: Path) -> None:
    train(spoiled, str(run_folder), spoiled_config("train"))
    with pytest.raises(UserError, match=r"^every image of the split 'spoiled' \(4\) kills .* --split$"):
        evaluate(str(run_folder), split=SPOILED)
    assert not Path(evaluation_file(str(run_folder), SPOILED)).exists()
    with pytest.raises(ConfigError, match=r"the split 'gone' of .* is empty; choose another with --split"):
        evaluate(str(run_folder), split="gone")


@pytest.mark.laws
def test_an_evaluation_while_training_of_a_split_that_is_all_poison_says_so(spoiled: str, run_folder: Path) -> None:
    config = spoiled_config("train", ValidationConfig(eval_every=1, eval_split=SPOILED))
    with pytest.raises(UserError, match=r"every image of the split 'spoiled' \(4\) kills .* --eval-split"):
        train(spoiled, str(run_folder), config)


def test_a_split_that_is_all_in_quarantine_is_refused_before_anything_starts(spoiled: str, run_folder: Path) -> None:
    with pytest.raises(ConfigError, match="split 'gone' holds 0 samples; choose a split with at least one"):
        train(spoiled, str(run_folder), spoiled_config("gone"))
    validation = ValidationConfig(eval_every=1, eval_split="gone")
    with pytest.raises(ConfigError, match="the split 'gone' is empty; choose another with --eval-split"):
        train(spoiled, str(run_folder), spoiled_config("train", validation))
    assert not (run_folder / "config.json").exists()
