"""What is settled at the first start of a run, and what a later start may change."""

import fcntl
import json
import logging
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from sunspark import storage
from sunspark.data.augment import PIXELS_VERSION
from sunspark.data.dataset import Dataset
from sunspark.data.loader import LoaderConfig
from sunspark.errors import ConfigError, RunError, UserError, WorkerError
from sunspark.launch.train import tell_surprises, train
from sunspark.models.registry import ModelConfig
from sunspark.run_directory import read_config
from sunspark.training.config import TrainingConfig, WorkConfig, plan_of
from sunspark.training.strategies.config import StrategyConfig
from sunspark.training.verify import verify
from tests.launch.short import short_config

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training": TrainingConfig(epochs=1, split="trian")}, "no split 'trian'"),
        ({"model": ModelConfig(model_args={"n_filter": 2})}, "no argument 'n_filter'"),
        ({"data": LoaderConfig(image_size=8)}, "at least 16, got 8"),
    ],
)
def test_a_run_that_was_refused_may_be_started_again(
    law_dataset: str, run_folder: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train(law_dataset, str(run_folder), replace(short_config(), **change))
    assert not run_folder.exists()
    assert train(law_dataset, str(run_folder), short_config()).finished


def test_swapped_arguments_are_told(law_dataset: str, run_folder: Path) -> None:
    before = sorted(os.listdir(law_dataset))
    with pytest.raises(ConfigError, match="did you swap them"):
        train(str(run_folder), law_dataset, short_config())
    assert sorted(os.listdir(law_dataset)) == before
    assert not run_folder.exists()


def test_a_run_is_not_written_among_other_files(law_dataset: str, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "beach.jpg").write_bytes(b"mine")
    with pytest.raises(RunError, match=r"not empty and not a run .*beach\.jpg"):
        train(law_dataset, str(tmp_path / "photos"), short_config())
    for nested in (law_dataset, f"{law_dataset}/run", str(Path(law_dataset).parent)):
        with pytest.raises(ConfigError, match="lie in each other"):
            train(law_dataset, nested, short_config())
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["beach.jpg"]


def test_storage_without_append_is_refused_before_anything_is_written(
    law_dataset: str, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(uri: str) -> None:
        raise ConfigError(f"{uri} cannot be appended to")

    monkeypatch.setattr(storage, "append_text", refuse)
    with pytest.raises(ConfigError, match="cannot be appended to"):
        train(law_dataset, str(run_folder), short_config())
    assert not (run_folder / "config.json").exists()


def test_a_run_is_not_continued_with_another_configuration(law_dataset: str, finished: str) -> None:
    other = replace(short_config(), training=TrainingConfig(epochs=2, global_batch_size=64))
    with pytest.raises(RunError, match=r"training\.epochs was 1, now 2"):
        train(law_dataset, finished, other)


def test_what_was_meant_without_saying_so_may_be_said_at_a_later_start(law_dataset: str, run_folder: Path) -> None:
    short = replace(short_config(), strategy=StrategyConfig(strategy="local_sgd"))
    assert train(law_dataset, str(run_folder), short).finished
    assert read_config(str(run_folder))["work"]["strategy"]["sync_every"] == 16
    said = replace(short, strategy=StrategyConfig(strategy="local_sgd", sync_every=16, inner_state="average"))
    assert train(law_dataset, str(run_folder), said).finished
    with pytest.raises(RunError, match=r"strategy\.sync_every was 16, now 8"):
        train(law_dataset, str(run_folder), replace(short, strategy=StrategyConfig(strategy="local_sgd", sync_every=8)))


def test_the_order_is_settled_at_the_first_start(law_dataset: str, finished: str) -> None:
    assert read_config(finished)["work"]["training"]["order"] == "global"
    short = short_config()
    assert train(law_dataset, finished, replace(short, training=replace(short.training, order="global"))).finished
    with pytest.raises(RunError, match=r"training\.order was 'global', now 'window'"):
        train(law_dataset, finished, replace(short, training=replace(short.training, order="window")))


def test_a_run_in_windows_is_exactly_once_and_stays_in_windows(law_dataset: str, run_folder: Path) -> None:
    short = short_config()
    windows = replace(short, training=replace(short.training, order="window"))
    assert train(law_dataset, str(run_folder), windows).finished
    assert verify(str(run_folder), pixels=True).exactly_once
    assert train(law_dataset, str(run_folder), short).finished, "what is not said stays as it was"
    assert read_config(str(run_folder))["work"]["training"]["order"] == "window"


def test_a_run_in_windows_of_other_blocks_is_neither_continued_nor_judged(law_dataset: str, run_folder: Path) -> None:
    short = short_config()
    windows = replace(short, training=replace(short.training, order="window"))
    assert train(law_dataset, str(run_folder), windows).finished
    stored = read_config(str(run_folder))
    for blocks in ("0" * 32, None):
        storage.write_json_atomic(str(run_folder / "config.json"), stored | {"blocks": blocks})
        with pytest.raises(RunError, match="lie in other blocks"):
            verify(str(run_folder))
        with pytest.raises(RunError, match="lie in other blocks"):
            train(law_dataset, str(run_folder), windows)


def test_a_run_of_before_there_was_a_choice_has_the_global_order(law_dataset: str, run_folder: Path) -> None:
    short = short_config()
    assert train(law_dataset, str(run_folder), short).finished
    stored = read_config(str(run_folder))
    del stored["work"]["training"]["order"]
    storage.write_json_atomic(str(run_folder / "config.json"), stored)
    assert verify(str(run_folder)).exactly_once
    with pytest.raises(RunError, match=r"training\.order was 'global', now 'window'"):
        train(law_dataset, str(run_folder), replace(short, training=replace(short.training, order="window")))
    assert train(law_dataset, str(run_folder), short).finished


def test_a_run_whose_pixels_were_made_in_another_way_is_not_continued(law_dataset: str, run_folder: Path) -> None:
    assert train(law_dataset, str(run_folder), short_config()).finished
    stored = read_config(str(run_folder))
    del stored["pixels_version"]  # as in the first runs
    storage.write_json_atomic(str(run_folder / "config.json"), stored)
    with pytest.raises(RunError, match=rf"in another way \(version 1, now {PIXELS_VERSION}\); go on with that one"):
        train(law_dataset, str(run_folder), short_config())


def test_what_was_perhaps_not_meant_is_told(
    law_dataset: str, run_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    short = short_config()
    config = replace(
        short,
        strategy=StrategyConfig(strategy="local_sgd", sync_every=1000),
        training=replace(short.training, replicas=1),
        launch=replace(short.launch, workers=2),
    )
    assert train(law_dataset, str(run_folder), config).finished
    assert "--replicas 1: 1 of them stand by" in caplog.text
    assert "--sync-every 1000 is more than the" in caplog.text


@pytest.mark.parametrize(
    ("strategy", "workers", "is_told"), [("all_reduce", 1, True), ("all_reduce", 2, False), ("async", 1, False)]
)
def test_compression_where_nothing_travels_is_told(
    law_dataset: str,
    caplog: pytest.LogCaptureFixture,
    strategy: Literal["all_reduce", "async"],
    workers: int,
    is_told: bool,
) -> None:
    config = replace(short_config(workers=workers), strategy=StrategyConfig(strategy=strategy, compression="int8"))
    tell_surprises(config, plan_of(Dataset.open(law_dataset), WorkConfig(training=TrainingConfig(replicas=2))))
    assert ("--compression int8 has no effect with one worker, which sends nothing" in caplog.text) == is_told


def test_a_finished_run_is_not_trained_again(law_dataset: str, finished: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        result = train(law_dataset, finished, short_config())
    assert result.finished
    assert "finished already" in caplog.text


def test_a_result_that_is_damaged_is_named_and_can_be_made_again(
    law_dataset: str, finished: str, tmp_path: Path
) -> None:
    run = shutil.copytree(finished, tmp_path / "copy")
    (run / "result.json").write_text('{"a": 1}')
    with pytest.raises(
        RunError, match=r"result\.json is damaged .* no key 'a'.*delete it and start the training again"
    ):
        train(law_dataset, str(run), short_config())
    (run / "result.json").unlink()
    assert train(law_dataset, str(run), short_config()).finished


def test_launching_may_change_on_a_second_start(law_dataset: str, finished: str) -> None:
    assert train(law_dataset, finished, short_config(workers=2, start_timeout=10.0)).finished


def test_the_configuration_of_a_run_is_that_of_its_last_start(
    law_dataset: str, run_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(WorkerError):
        train(law_dataset, str(run_folder), short_config(workers=2, start_timeout=0.1))
    cache = str(tmp_path / "cache")
    again = replace(short_config(), data=LoaderConfig(image_size=16, cache_directory=cache))
    assert train(law_dataset, str(run_folder), again).finished
    config = json.loads((run_folder / "config.json").read_text())
    assert (config["launch"]["workers"], config["work"]["data"]["cache_directory"]) == (1, cache)
    assert config["work"]["training"]["replicas"] == 2, "what is settled stays"


def test_two_drivers_of_one_run_are_refused(law_dataset: str, run_folder: Path) -> None:
    run_folder.mkdir()
    with open(run_folder / ".driver.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another `sunspark train` works on"):
            train(law_dataset, str(run_folder), short_config())


def test_what_killed_writers_left_is_deleted_at_the_next_start(law_dataset: str, finished: str, tmp_path: Path) -> None:
    run = shutil.copytree(finished, tmp_path / "copy")
    names = [f".step-000000004.safetensors.{letter * 32}.tmp" for letter in "ab"]
    (run / "candidates").mkdir(exist_ok=True)
    (run / "rounds").mkdir()
    old, young = (
        [run / folder / name for folder in (".", "checkpoints", "candidates", "rounds", "model")] for name in names
    )
    for path in (*old, *young, run / ".notes.tmp"):
        path.write_bytes(b"half")
        if path not in young:
            os.utime(path, (time.time() - 100, time.time() - 100))
    assert train(law_dataset, str(run), short_config()).finished
    assert not [path for path in old if path.exists()]
    assert [path for path in (*young, run / ".notes.tmp") if not path.exists()] == []
