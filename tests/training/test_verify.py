"""Laws of `verify`: yes to a history in which every sample was applied once, no to every other one.

The histories are made in this process by the parts that a worker uses, with a loader that cheats between them.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from sunspark.config import to_dict
from sunspark.data.augment import PIXELS_VERSION, AugmentConfig
from sunspark.data.cache import NodeCache
from sunspark.data.dataset import Dataset
from sunspark.data.decode_pool import Batch
from sunspark.data.loader import Loader, LoaderConfig
from sunspark.data.order import StepPlan
from sunspark.errors import RunError
from sunspark.parallel.ledger import Evidence, Ledger, evidence_of
from sunspark.parallel.recovery import Snapshot
from sunspark.run_directory import excused_file, only_driver
from sunspark.training import checkpoint, state_file
from sunspark.training.config import TrainingConfig, WorkConfig, plan_of
from sunspark.training.state import TrainingState
from sunspark.training.state_file import metadata_of
from sunspark.training.verify import VerifyResult, verify
from tests.distributed.laws import NUM_IMAGES, make_dataset

EPOCHS, BATCH, REPLICAS = 4, 32, 3
STEP = 12
"""Where the loader cheats."""
NOTHING = Evidence(samples=0, sample_sum=0, pixel_sum=0)

Cheat = Callable[[int, list[Batch], "Honest"], list[Batch]]


@dataclass
class Honest:
    """What a history is made with."""

    dataset: Dataset
    work: WorkConfig
    plan: StepPlan
    loader: Loader

    def take(self, step: int) -> list[Batch]:
        return self.loader.take(step, range(REPLICAS))


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Honest]:
    folder = tmp_path_factory.mktemp("verify")
    dataset = Dataset.open(make_dataset(folder))
    work = WorkConfig(
        data=LoaderConfig(image_size=16, cache_directory=str(folder / "cache")),
        training=TrainingConfig(epochs=EPOCHS, global_batch_size=BATCH, replicas=REPLICAS, dtype="float32", seed=3),
    )
    plan = plan_of(dataset, work)
    with contextlib.closing(Loader(dataset, plan, work.data, num_threads=2)) as loader:
        yield Honest(dataset, work, plan, loader)


def honestly(_step: int, batches: list[Batch], _honest: Honest) -> list[Batch]:
    return batches


def state_after(honest: Honest, cheat: Cheat, steps: range | list[int] | None = None) -> TrainingState:
    """The state that the loop of a worker comes to, with the samples that the cheating loader gives for `steps`."""
    model = nn.Linear(1, 1)
    state = TrainingState(model, torch.optim.SGD(model.parameters(), lr=0.1))
    for step in steps or range(honest.plan.num_steps):
        batches = cheat(step, honest.take(step), honest)
        epoch = honest.plan.epoch_of(step)
        parts = (evidence_of(b.sample_ids, b.labels, b.pixels, epoch) for b in batches)
        state.apply(0.1, 1 + step // 10, [sum(parts, NOTHING)])
    return state


def write_run(run: Path, honest: Honest, snapshot: Snapshot, finished: bool = True) -> str:
    run.mkdir()
    config = {
        "format": "sunspark-run-1",
        "dataset": honest.dataset.uri,
        "dataset_id": honest.dataset.id,
        "pixels_version": PIXELS_VERSION,
        "work": to_dict(honest.work),
        "launch": {},
    }
    (run / "config.json").write_text(json.dumps(config))
    if finished:
        (run / "result.json").write_text("{}")
    checkpoint.publish(str(run), snapshot)
    return str(run)


def verdict(run: Path, honest: Honest, state: TrainingState, pixels: bool = True) -> VerifyResult:
    return verify(write_run(run, honest, state.snapshot()), pixels=pixels)


def test_an_honest_history_is_exactly_once(tmp_path: Path, honest: Honest) -> None:
    result = verdict(tmp_path / "run", honest, state_after(honest, honestly))
    assert result.exactly_once
    assert result.finished
    assert result.problems == []
    assert result.steps == result.steps_with_pixels_checked == honest.plan.num_steps == 32
    accounts = [(a.epoch, a.samples, a.missing, a.repeated, a.excused) for a in result.epochs]
    assert accounts == [(epoch, NUM_IMAGES, 0, 0, 0) for epoch in range(EPOCHS)]
    assert json.loads((tmp_path / "run" / "verify.json").read_text())["exactly_once"] is True


def test_two_samples_of_a_step_may_be_excused_at_different_times(tmp_path: Path, honest: Honest) -> None:
    """Of the first step: one at once, another an epoch later, and one after the run."""
    first, second, other = (int(row) for row in honest.dataset.rows("train")[honest.plan.rows_of(0)][:3])

    def leave_out(step: int, batches: list[Batch], _honest: Honest) -> list[Batch]:
        epoch = honest.plan.epoch_of(step)
        gone = [row for row, since in ((first, 0), (second, 1)) if epoch >= since]
        return [only(batch, ~np.isin(batch.sample_ids, honest.dataset.sample_ids[gone])) for batch in batches]

    run = write_run(tmp_path / "run", honest, state_after(honest, leave_out).snapshot())
    assert not verify(run).exactly_once
    excuse(run, [first, other])
    assert not verify(run).exactly_once
    excuse(run, [first, second, other])
    result = verify(run, pixels=True)
    assert result.exactly_once, result.problems
    assert [account.excused for account in result.epochs] == [1, 2, 2, 2]


def only(batch: Batch, is_left: Any) -> Batch:
    return replace(
        batch, sample_ids=batch.sample_ids[is_left], labels=batch.labels[is_left], pixels=batch.pixels[is_left]
    )


def excuse(run: str, rows: list[int]) -> None:
    entries = [{"row": row, "reason": "it kills"} for row in rows]
    Path(excused_file(run)).write_text(json.dumps({"excused": entries}))


def test_a_history_that_is_still_made_is_right_so_far(tmp_path: Path, honest: Honest) -> None:
    state = state_after(honest, honestly, range(10))
    result = verify(write_run(tmp_path / "run", honest, state.snapshot(), finished=False))
    assert (result.exactly_once, result.finished, result.steps) == (True, False, 10)
    assert result.steps_with_pixels_checked == 10
    assert [(account.epoch, account.is_whole) for account in result.epochs] == [(0, True), (1, False)]


def test_twenty_steps_are_decoded_again_unless_all_are_asked_for(tmp_path: Path, honest: Honest) -> None:
    result = verdict(tmp_path / "run", honest, state_after(honest, honestly), pixels=False)
    assert (result.exactly_once, result.steps_with_pixels_checked) == (True, 20)


def test_pixels_of_another_version_are_not_called_wrong(
    tmp_path: Path, honest: Honest, caplog: pytest.LogCaptureFixture
) -> None:
    run = write_run(tmp_path / "run", honest, state_after(honest, honestly).snapshot())
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps(config | {"pixels_version": PIXELS_VERSION - 1}))
    result = verify(run)
    assert (result.exactly_once, result.steps, result.steps_with_pixels_checked) == (True, 32, 0)
    assert "only its samples are checked" in caplog.text
    with pytest.raises(RunError, match="leave out --pixels"):
        verify(run, pixels=True)


def test_a_run_that_diverged_lost_no_sample(tmp_path: Path, honest: Honest) -> None:
    state = state_after(honest, honestly)
    with torch.no_grad():
        for parameter in state.model.parameters():
            parameter.fill_(float("nan"))
    run = write_run(tmp_path / "run", honest, state.snapshot())
    folder = tmp_path / "run" / "model"
    folder.mkdir()
    safetensors.torch.save_file(state.model.state_dict(), folder / "model.safetensors")
    assert verify(run).exactly_once
    state.model.bias.data.fill_(1.0)
    safetensors.torch.save_file(state.model.state_dict(), folder / "model.safetensors")
    assert not verify(run).exactly_once


# --- a loader that cheats with samples: found by the sums over the index, whatever the pixels ------------------------


def _change(batch: Batch, rows: list[int]) -> Batch:
    return Batch(sample_ids=batch.sample_ids[rows], labels=batch.labels[rows], pixels=batch.pixels[rows])


def skip_one(step: int, batches: list[Batch], _: Honest) -> list[Batch]:
    return [_change(batches[0], list(range(1, len(batches[0])))), *batches[1:]] if step == STEP else batches


def repeat_one(step: int, batches: list[Batch], _: Honest) -> list[Batch]:
    return [*batches, _change(batches[0], [0])] if step == STEP else batches


def repeat_one_for_another(step: int, batches: list[Batch], _: Honest) -> list[Batch]:
    rows = [0, 0, *range(2, len(batches[0]))]
    return [_change(batches[0], rows), *batches[1:]] if step == STEP else batches


def swap_with_another_step(step: int, batches: list[Batch], honest: Honest) -> list[Batch]:
    if step not in (STEP, STEP + 1):
        return batches
    other = honest.take(STEP + 1 if step == STEP else STEP)
    return [_change(batches[0], list(range(1, len(batches[0])))), _change(other[0], [0]), *batches[1:]]


def swap_whole_steps(step: int, batches: list[Batch], honest: Honest) -> list[Batch]:
    return honest.take({STEP: STEP + 1, STEP + 1: STEP}.get(step, step)) if batches else batches


def swap_with_another_epoch(step: int, batches: list[Batch], honest: Honest) -> list[Batch]:
    return honest.take(STEP + honest.plan.steps_per_epoch) if step == STEP else batches


def substitute_a_sample(step: int, batches: list[Batch], honest: Honest) -> list[Batch]:
    if step != STEP:
        return batches
    stranger = _change(honest.take(STEP + 9)[0], [0])
    return [_change(batches[0], list(range(1, len(batches[0])))), stranger, *batches[1:]]


def change_a_label(step: int, batches: list[Batch], _: Honest) -> list[Batch]:
    labels = batches[1].labels.copy()
    labels[2] = (labels[2] + 1) % 6
    changed = replace(batches[1], labels=labels)
    return [batches[0], changed, *batches[2:]] if step == STEP else batches


def exchange_two_labels(step: int, batches: list[Batch], _: Honest) -> list[Batch]:
    labels = batches[1].labels.copy()
    first, second = 0, int(np.flatnonzero(labels != labels[0])[0])
    labels[[first, second]] = labels[[second, first]]
    return [batches[0], replace(batches[1], labels=labels), *batches[2:]] if step == STEP else batches


def drop_a_replica(step: int, batches: list[Batch], _: Honest) -> list[Batch]:
    return batches[:-1] if step == STEP else batches


def drop_the_tail(step: int, batches: list[Batch], honest: Honest) -> list[Batch]:
    """As a sampler that fills whole batches only would."""
    is_tail = honest.plan.num_samples_of(step) < BATCH
    return [] if is_tail else batches


def fill_the_tail(step: int, batches: list[Batch], honest: Honest) -> list[Batch]:
    """As a sampler that pads the last batch with the first samples would."""
    missing = BATCH - honest.plan.num_samples_of(step)
    return [*batches, _change(honest.take(step - 1)[0], list(range(missing)))] if missing else batches


CHEATS = [
    skip_one, repeat_one, repeat_one_for_another, swap_with_another_step, swap_whole_steps, swap_with_another_epoch,
    substitute_a_sample, change_a_label, exchange_two_labels, drop_a_replica, drop_the_tail, fill_the_tail,
]  # fmt: skip


@pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.__name__)
def test_a_loader_that_cheats_with_samples_is_found_out(tmp_path: Path, honest: Honest, cheat: Cheat) -> None:
    result = verdict(tmp_path / "run", honest, state_after(honest, cheat), pixels=False)
    assert not result.exactly_once
    assert result.problems
    assert sum(account.missing for account in result.epochs) > 0
    assert not json.loads((tmp_path / "run" / "verify.json").read_text())["exactly_once"]


@pytest.mark.parametrize(("cheat", "surplus"), [(repeat_one, 1), (fill_the_tail, EPOCHS * 6), (skip_one, 0)])
def test_samples_counted_too_often_are_reported(tmp_path: Path, honest: Honest, cheat: Cheat, surplus: int) -> None:
    result = verdict(tmp_path / "run", honest, state_after(honest, cheat), pixels=False)
    assert sum(account.repeated for account in result.epochs) == surplus


# --- a loader that cheats with pixels under the right names: found by decoding again --------------------------------


def other_pixels_at(where: int) -> Cheat:
    def cheat(step: int, batches: list[Batch], _: Honest) -> list[Batch]:
        if step != where:
            return batches
        pixels = batches[0].pixels.copy()
        pixels[0] = batches[0].pixels[1]
        return [replace(batches[0], pixels=pixels), *batches[1:]]

    return cheat


def one_level_off(step: int, batches: list[Batch], _: Honest) -> list[Batch]:
    pixels = batches[0].pixels.copy()
    pixels[0, 0, 0, 0] ^= 1
    return [replace(batches[0], pixels=pixels), *batches[1:]] if step == STEP else batches


def without_augmentation(step: int, batches: list[Batch], honest: Honest) -> list[Batch]:
    """The pixels of another epoch under the names of this one."""
    if step != STEP:
        return batches
    seen: dict[int, np.ndarray[Any, Any]] = {}
    for other in range(honest.plan.steps_per_epoch):
        for batch in honest.take(other):
            seen |= {int(i): image for i, image in zip(batch.sample_ids, batch.pixels, strict=True)}
    return [replace(b, pixels=np.stack([seen[int(i)] for i in b.sample_ids])) for b in batches]


@pytest.mark.parametrize("where", [0, 7, STEP, 31])
def test_other_pixels_under_the_right_name_are_found_at_every_step(tmp_path: Path, honest: Honest, where: int) -> None:
    result = verdict(tmp_path / "run", honest, state_after(honest, other_pixels_at(where)))
    assert not result.exactly_once
    assert result.problems == [f"step {where} was taken with other pixels than its own"]


@pytest.mark.parametrize("cheat", [one_level_off, without_augmentation])
def test_pixels_that_differ_ever_so_little_are_found(tmp_path: Path, honest: Honest, cheat: Cheat) -> None:
    assert not verdict(tmp_path / "run", honest, state_after(honest, cheat)).exactly_once


def test_a_cache_that_mixes_up_images_fools_training_but_not_verify(
    tmp_path: Path, honest: Honest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What trained must not be what checks: the cache gives the image of a neighbour under the right name."""
    read, read_cached = NodeCache.sample, NodeCache.cached_sample

    def neighbour(row: int) -> int:
        return row + 1 if row % 64 == 5 else row

    def sample(self: NodeCache, row: int) -> object:
        return read(self, row)._replace(jpeg=read(self, neighbour(row)).jpeg)

    def cached_sample(self: NodeCache, row: int) -> object:
        mine, its = read_cached(self, row), read_cached(self, neighbour(row))
        return mine and its and mine._replace(jpeg=its.jpeg)

    monkeypatch.setattr(NodeCache, "sample", sample)
    monkeypatch.setattr(NodeCache, "cached_sample", cached_sample)
    with contextlib.closing(Loader(honest.dataset, honest.plan, honest.work.data, num_threads=1)) as loader:
        state = state_after(replace(honest, loader=loader), honestly)
    assert not verdict(tmp_path / "run", honest, state).exactly_once


# --- histories that were changed afterwards, or are not one history -------------------------------------------------


@pytest.mark.parametrize("num_steps", [32, 33], ids=["and the last one not", "and all others too"])
def test_a_step_applied_twice_is_found(tmp_path: Path, honest: Honest, num_steps: int) -> None:
    steps = range(honest.plan.num_steps)
    state = state_after(honest, honestly, [*steps[:STEP], STEP, *steps[STEP:]][:num_steps])
    assert not verdict(tmp_path / "run", honest, state).exactly_once


def test_a_step_left_out_is_found(tmp_path: Path, honest: Honest) -> None:
    steps = [step for step in range(honest.plan.num_steps) if step != STEP]
    assert not verdict(tmp_path / "run", honest, state_after(honest, honestly, steps)).exactly_once


def test_a_finished_run_without_its_last_step_is_found(tmp_path: Path, honest: Honest) -> None:
    state = state_after(honest, honestly, range(honest.plan.num_steps - 1))
    result = verdict(tmp_path / "run", honest, state)
    assert not result.exactly_once
    assert not result.finished
    assert result.epochs[-1].missing == honest.plan.num_samples_of(honest.plan.num_steps - 1)


def rewritten(snapshot: Snapshot, change: Callable[[torch.Tensor], None], lineage: str = "") -> Snapshot:
    """The same file with other lines; `lineage` as it was if none is given."""
    tensors = safetensors.torch.load(bytes(snapshot.body))
    change(tensors["ledger"])
    metadata = metadata_of(snapshot.body, "") | ({"lineage": lineage} if lineage else {})
    del metadata["digest"]
    return replace(snapshot, body=state_file.write(tensors, metadata))


def test_the_lines_of_two_histories_are_found(tmp_path: Path, honest: Honest) -> None:
    """One history up to a step, another from there: every line is right, but the model has seen only one of them."""
    state, fork = state_after(honest, honestly), state_after(honest, honestly)
    other = fork.ledger.to_array().copy()
    other[:, 1] += 1  # the same samples, in other quorums

    def join(ledger: torch.Tensor) -> None:
        ledger[STEP:] = torch.from_numpy(other[STEP:])

    run = write_run(tmp_path / "run", honest, rewritten(state.snapshot(), join))
    result = verify(run, pixels=True)
    assert not result.exactly_once
    assert any("lineage" in problem for problem in result.problems)
    assert result.epochs[0].missing == 0


@pytest.mark.parametrize("column", range(5))
def test_a_line_changed_afterwards_is_found(tmp_path: Path, honest: Honest, column: int) -> None:
    def tamper(ledger: torch.Tensor) -> None:
        ledger[STEP, column] += 1

    snapshot = rewritten(state_after(honest, honestly).snapshot(), tamper)
    assert not verify(write_run(tmp_path / "run", honest, snapshot)).exactly_once


def test_a_cheat_with_a_chain_made_to_fit_is_found(tmp_path: Path, honest: Honest) -> None:
    state = state_after(honest, substitute_a_sample)
    right = state_after(honest, honestly).ledger.to_array()
    rows = state.ledger.to_array().copy()
    rows[STEP, 4] = right[STEP, 4] + 1  # the sums over samples as they should be, the pixels as nobody saw them
    rows[STEP, :4] = right[STEP, :4]

    def replace_all(ledger: torch.Tensor) -> None:
        ledger.copy_(torch.from_numpy(rows))

    snapshot = rewritten(state.snapshot(), replace_all, Ledger.from_array(rows).lineage)
    assert not verify(write_run(tmp_path / "run", honest, snapshot), pixels=True).exactly_once


# --- what cannot be judged ------------------------------------------------------------------------------------------


def test_what_is_no_run_is_refused(tmp_path: Path, honest: Honest) -> None:
    with pytest.raises(RunError, match="is not a run"):
        verify(str(tmp_path / "nothing"))
    run = write_run(tmp_path / "run", honest, state_after(honest, honestly, range(2)).snapshot(), finished=False)
    (saved,) = (tmp_path / "run" / "checkpoints").iterdir()
    body = saved.read_bytes()
    saved.unlink()
    with pytest.raises(RunError, match=r"no checkpoint yet, .*train it first"):
        verify(run)
    with only_driver(run), pytest.raises(RunError, match=r"no checkpoint yet, .*wait for its first one"):
        verify(run)
    saved.write_bytes(body[: len(body) // 2])
    with pytest.raises(RunError, match="step-000000002"):
        verify(run)


def test_of_a_run_that_still_trains_it_is_said(
    tmp_path: Path, honest: Honest, caplog: pytest.LogCaptureFixture
) -> None:
    run = write_run(tmp_path / "run", honest, state_after(honest, honestly, range(2)).snapshot(), finished=False)
    with only_driver(run):
        assert verify(run).exactly_once
    assert "is still training: this is about its first 2 steps" in caplog.text
    caplog.clear()
    verify(run)
    assert not caplog.text


def test_another_dataset_is_refused(tmp_path: Path, honest: Honest) -> None:
    run = write_run(tmp_path / "run", honest, state_after(honest, honestly, range(2)).snapshot())
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps(config | {"dataset_id": "f" * 64}))
    with pytest.raises(RunError, match="ffffffffffff"):
        verify(run, honest.dataset.uri)


# --- every augmentation is decoded and computed again ---------------------------------------------------------------

ALL_ON = AugmentConfig(color_jitter=(0.4, 0.4, 0.4, 0.1), trivial_augment=True, erasing_probability=0.5)
SHORT = range(6)


@pytest.fixture(scope="module")
def augmented(honest: Honest) -> Iterator[Honest]:
    work = replace(honest.work, data=replace(honest.work.data, augment=ALL_ON))
    with contextlib.closing(Loader(honest.dataset, honest.plan, work.data, num_threads=2)) as loader:
        yield replace(honest, work=work, loader=loader)


def test_a_run_with_every_augmentation_is_exactly_once(tmp_path: Path, augmented: Honest) -> None:
    state = state_after(augmented, honestly, SHORT)
    result = verify(write_run(tmp_path / "run", augmented, state.snapshot(), finished=False), pixels=True)
    assert (result.exactly_once, result.steps_with_pixels_checked) == (True, len(SHORT))


@pytest.mark.parametrize(
    "change",
    [
        {"color_jitter": (0.4, 0.5, 0.4, 0.1)},
        {"trivial_augment": False},
        {"erasing_probability": 0.9},
        {"erasing_area": (0.1, 0.2)},
        {"erasing_ratio": (1.0, 1.0)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_augmentation_changed_afterwards_is_found(
    tmp_path: Path, augmented: Honest, change: dict[str, object]
) -> None:
    state = state_after(augmented, honestly, SHORT)
    other = replace(augmented.work.data, augment=replace(ALL_ON, **change))
    claimed = replace(augmented, work=replace(augmented.work, data=other))
    result = verify(write_run(tmp_path / "run", claimed, state.snapshot(), finished=False), pixels=True)
    assert not result.exactly_once
    assert result.problems == [f"step {step} was taken with other pixels than its own" for step in SHORT]
