"""How a training ends before its last step: early, because nothing gets better, or at once, because it has diverged."""

import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sunspark.bench.report import report
from sunspark.errors import RunError, StorageError, WorkerError
from sunspark.launch.train import train
from sunspark.models.registry import ModelConfig
from sunspark.optim import OptimConfig
from sunspark.parallel.faults import kill_at, stall_at
from sunspark.records import FLUSH_SECONDS, EventRecord, read_records
from sunspark.training import checkpoint
from sunspark.training.config import TrainingConfig
from sunspark.training.state_file import read
from sunspark.training.validation import ValidationConfig
from sunspark.training.verify import verify
from tests.launch.short import short_config

pytestmark = pytest.mark.timeout(180)


def test_training_ends_early_and_keeps_the_best_state(
    law_dataset: str, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A learning rate so low that nothing changes: the first of the equal states is the best."""
    config = replace(
        short_config(),
        optim=OptimConfig(optimizer="sgd", learning_rate=1e-12, schedule="constant"),
        training=TrainingConfig(epochs=9, global_batch_size=64, dtype="float32", checkpoint_every=1),
        validation=ValidationConfig(eval_every=1, eval_split="train", patience=2, keep="best"),
    )
    result = train(law_dataset, str(run_folder), config)
    assert (result.steps, result.epochs, result.samples) == (12, 3, 750)
    shown = capsys.readouterr().err
    assert "after step 4, train: top-1" in shown
    assert shown.splitlines()[-1].startswith("epoch 3/9, step 12/36")
    assert shown.splitlines()[-1].endswith("done")
    verdict = verify(str(run_folder))
    assert verdict.exactly_once, verdict.problems
    assert verdict.finished
    kept = [state.step for state in checkpoint.checkpoints(str(run_folder))]
    assert (kept[0], kept[-1], len(kept)) == (4, 12, 3)  # the best one, and the last two
    best = Path(checkpoint.uri_of(str(run_folder), 4)).read_bytes()
    exported = safetensors.torch.load_file(run_folder / "model" / "model.safetensors")
    judged = read(best, "it").judged_weights
    assert all(torch.equal(exported[name], judged[name]) for name in exported)


def test_a_loss_that_is_not_finite_ends_the_run_and_names_step_rate_and_images(
    law_dataset: str, run_folder: Path
) -> None:
    config = replace(
        short_config(),
        optim=OptimConfig(optimizer="sgd", learning_rate=1e30, schedule="constant", warmup_fraction=0.0),
    )
    with pytest.raises(
        WorkerError, match=r"of step [12] is not finite.*learning rate 1e\+30.*--learning-rate.*class\d/"
    ):
        train(law_dataset, str(run_folder), config)
    told = [r for r in read_records(str(run_folder)) if isinstance(r, EventRecord) and r.event == "diverged"]
    assert told[0].detail.count(".jpg") == 64


def test_workers_have_left_when_the_driver_ends_with_an_error(law_dataset: str, run_folder: Path) -> None:
    """Its records find no room. Whoever starts it again at once must find all that they have saved."""
    (run_folder / "records").mkdir(parents=True)
    (run_folder / "records" / "driver.jsonl").symlink_to("/dev/full")
    config = replace(
        short_config(), training=TrainingConfig(epochs=1000, global_batch_size=64, dtype="float32", checkpoint_every=2)
    )
    with pytest.raises(StorageError, match=r"driver\.jsonl"):
        train(law_dataset, str(run_folder), config)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("worker-")]


def test_steps_that_died_with_all_who_had_done_them_are_counted_as_done_again(
    law_dataset: str, run_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(
        short_config(), training=TrainingConfig(epochs=3, global_batch_size=64, dtype="float32", checkpoint_every=5)
    )
    faults = [stall_at(worker=0, phase="data", step=8, seconds=2 * FLUSH_SECONDS), kill_at(0, "forward", 8)]
    never = kill_at(0, "recovery", "first")
    result = train(law_dataset, str(run_folder), config, [*faults, never])
    assert (result.steps, result.steps_redone) == (12, 3)  # 5 to 7
    assert [record.message for record in caplog.records if "never struck" in record.message] == [
        "a fault never struck, because its moment did not come (worker 0, phase recovery, step first: kill)"
    ]
    report(str(run_folder), str(tmp_path / "report.html"))
    text = re.sub(r"<[^>]+>|\s+", " ", (tmp_path / "report.html").read_text())
    assert "3 steps done again" in text
    (run_folder / "result.json").unlink()
    report(str(run_folder), str(tmp_path / "report.html"))
    assert re.search(r"Steps done again\s+3\b", re.sub(r"<[^>]+>", " ", (tmp_path / "report.html").read_text()))


def test_training_starts_from_the_weights_of_a_file_and_needs_it_no_more(
    law_dataset: str, finished: str, run_folder: Path, tmp_path: Path
) -> None:
    """A linear probe on the network of another run, whose file is gone when the workers start anew."""
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes((Path(finished) / "model" / "model.safetensors").read_bytes())
    model = ModelConfig(model_args={"n_filters": 2, "wide_units": 16}, weights=str(weights), freeze="backbone")
    config = replace(short_config(), model=model)
    train(law_dataset, str(run_folder), config)
    before = safetensors.torch.load_file(weights)
    weights.unlink()
    after = safetensors.torch.load_file(run_folder / "model" / "model.safetensors")
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == ["head.4.bias", "head.4.weight"]
    assert train(law_dataset, str(run_folder), config).finished
    with pytest.raises(RunError, match=r"model\.freeze was 'backbone', now 'none'"):
        train(law_dataset, str(run_folder), replace(config, model=replace(model, freeze="none")))
