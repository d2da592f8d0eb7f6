"""An image that kills the process that decodes it is found, left out and told of; the run goes on without it."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from sunspark.data.dataset import Dataset
from sunspark.data.in_hand import InHand, last_hold
from sunspark.data.trial import find_poison
from sunspark.launch.train import train
from sunspark.records import EventRecord, read_records
from sunspark.training.config import TrainingConfig
from sunspark.training.verify import verify
from tests.launch.short import short_config

pytestmark = pytest.mark.timeout(240)

ROW = 77

_DEADLY_DECODER = """
import ctypes, hashlib
from sunspark.data import augment

honest = augment.training_pixels

def training_pixels(jpeg, *arguments):
    if hashlib.sha256(jpeg).hexdigest() == "{digest}":
        ctypes.string_at(0)  # as a decoder with a bug would
    return honest(jpeg, *arguments)

augment.training_pixels = training_pixels
"""


@pytest.fixture
def poisoned(law_dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of an image at which every decoder that is started from now on crashes."""
    dataset = Dataset.open(law_dataset)
    block = dataset.read_block(dataset.block_of(ROW))
    digest = hashlib.sha256(block.images[ROW - block.first_row]).hexdigest()
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_DEADLY_DECODER.format(digest=digest))  # every Python imports it
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return dataset.path_of(ROW)


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


def test_a_trial_tells_the_one_that_kills_from_those_beside_it(law_dataset: str, poisoned: str) -> None:
    assert poisoned
    settings = {"dataset": law_dataset, "seed": 0, "num_epochs": 2, "image_size": 16, "augment": {}}
    assert find_poison([ROW - 1, ROW, ROW + 1], **settings) == {  # type: ignore[arg-type]
        ROW: "decoding it ends the process by SIGSEGV"
    }


def test_what_was_in_hand_outlives_the_process(tmp_path: Path) -> None:
    table = InHand(tmp_path / "table")
    table.set_step(9)
    with table.hold(4):
        assert last_hold(tmp_path / "table").rows == [4]
    hold = last_hold(tmp_path / "table")
    assert (hold.step, hold.rows) == (9, [])
    assert last_hold(tmp_path / "none").rows == []
