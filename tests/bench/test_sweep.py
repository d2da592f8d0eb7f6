"""A sweep file says which settings are run; what makes no sense is a row with its reason, not the end."""

from collections import Counter
from pathlib import Path

import pytest

from sunspark.bench.sweep import load_sweep, order_of_runs, settings_of
from sunspark.errors import ConfigError

GRID = """
dataset = "dataset"
[base.training]
epochs = 2
global_batch_size = 16
[axes]
launch.workers = [1, 2, 4]
[[settings]]
strategy.strategy = "all_reduce"
[[settings]]
strategy = { strategy = "local_sgd", sync_every = "epoch" }
"""


def sweep_file(folder: Path, text: str) -> Path:
    path = folder / "sweep.toml"
    path.write_text(text)
    return path


def test_every_listed_setting_is_taken_with_every_value_of_an_axis_beside_one_baseline(tmp_path: Path) -> None:
    settings = settings_of(load_sweep(sweep_file(tmp_path, GRID)), num_cores=4)
    assert [setting.name for setting in settings] == [
        "serial",
        *(f"all_reduce, workers={workers}" for workers in (1, 2, 4)),
        *(f"local_sgd, sync_every=epoch, workers={workers}" for workers in (1, 2, 4)),
    ]
    assert [setting.is_baseline for setting in settings] == [True, *[False] * 6]
    assert {setting.baseline for setting in settings[1:]} == {"serial"}
    assert settings[0].config is not None
    assert (settings[0].config.strategy.strategy, settings[0].config.launch.workers) == ("serial", 1)
    assert settings[0].config.training.global_batch_size == 16
    assert len({setting.folder for setting in settings}) == 7


def test_a_listed_serial_is_the_baseline_whatever_the_workers_of_the_base(tmp_path: Path) -> None:
    text = (
        'dataset = "d"\n[base.launch]\nworkers = 2\n[base.training]\nreplicas = 4\n'
        '[[settings]]\nstrategy.strategy = "serial"\n[[settings]]\nstrategy.strategy = "all_reduce"\n'
    )
    settings = settings_of(load_sweep(sweep_file(tmp_path, text)), num_cores=4)
    assert [(one.name, one.baseline, one.refusal) for one in settings] == [
        ("serial", "", ""),
        ("all_reduce", "serial", ""),
    ]
    assert settings[0].config is not None
    assert settings[0].config.launch.workers == 1


def test_what_else_is_compared_has_a_baseline_of_its_own(tmp_path: Path) -> None:
    text = GRID.replace("launch.workers = [1, 2, 4]", "training.seed = [0, 1]\nlaunch.workers = [2]")
    settings = settings_of(load_sweep(sweep_file(tmp_path, text)), num_cores=4)
    assert {setting.baseline for setting in settings} == {"", "serial, seed=0", "serial, seed=1"}


def test_settings_that_want_more_cores_are_refused_or_marked(tmp_path: Path) -> None:
    sweep = load_sweep(sweep_file(tmp_path, GRID))
    refused = [setting for setting in settings_of(sweep, num_cores=2) if setting.refusal]
    assert [setting.name for setting in refused] == ["all_reduce, workers=4", "local_sgd, sync_every=epoch, workers=4"]
    assert "wants 4 cores, and there are 2; --oversubscribe" in refused[0].refusal
    marked = settings_of(sweep, num_cores=2, may_oversubscribe=True)
    assert [setting.is_oversubscribed for setting in marked] == [False, False, False, True, False, False, True]
    elsewhere = GRID.replace("[axes]", 'launch = { master = "spark://cluster:7077" }\n[axes]')
    elsewhere = elsewhere.replace("[base.training]", "[base]\ntraining.epochs = 2").replace("\nepochs = 2\n", "\n")
    elsewhere = elsewhere.replace("global_batch_size", "training.global_batch_size")
    assert not any(s.refusal for s in settings_of(load_sweep(sweep_file(tmp_path, elsewhere)), num_cores=2))


def test_a_setting_that_makes_no_sense_is_a_row_with_its_reason(tmp_path: Path) -> None:
    text = GRID + "[[settings]]\nstrategy.sync_every = 4\n"
    wrong = [s for s in settings_of(load_sweep(sweep_file(tmp_path, text)), num_cores=4) if s.refusal]
    assert [setting.name for setting in wrong] == [f"sync_every=4, workers={workers}" for workers in (1, 2, 4)]
    assert "sync_every 4 has no effect with --strategy all_reduce" in wrong[0].refusal


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset = 'd'", "the sweep has no setting"),
        ("dataset = 'd'\n[axes]\nlaunch.workers = 2", "axes.launch.workers must be a list of values, got 2"),
        ("dataset = 'd'\nrepeats = 2", "no key 'repeats'"),
        ("[axes]\nlaunch.workers = [2]", "dataset is missing"),
        ("dataset = 'd'\n[base.training]\nepoch = 2\n[axes]\nlaunch.workers = [2]", "no key 'training.epoch'"),
        (
            "dataset = 'd'\n[base.trainin]\nepochs = 2\n[axes]\nlaunch.workers = [2]",
            "no key 'trainin'; the nearest is training$",
        ),
        (GRID + "launch.workers = 2\n", "launch.workers is an axis, and a listed setting has it too"),
        (GRID + "[[settings]]\nstrategy.strategy = 'all_reduce'\n", "'all_reduce, workers=1' twice"),
        (GRID + "[[settings]]\nstrategy.sync_evry = 4\n", "the setting 'sync_evry=4, workers=1': there is no key"),
        (GRID + "[[settings]]\nstrategy.strategy = 'dilco'\n", "strategy.strategy must be one of"),
        ("dataset = ", "cannot read the sweep"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_of(load_sweep(sweep_file(tmp_path, text)), num_cores=4)


def test_every_repeat_has_every_setting_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    settings = settings_of(load_sweep(sweep_file(tmp_path, GRID)), num_cores=2)
    runs = [(setting.name, repeat) for setting, repeat in order_of_runs(settings, repeats=3, seed=0)]
    assert Counter(runs) == {(s.name, repeat): 1 for s in settings if not s.refusal for repeat in range(3)}
    orders = [[name for name, at in runs if at == repeat] for repeat in range(3)]
    assert orders[0] != orders[1] != orders[2]
    assert runs == [(setting.name, repeat) for setting, repeat in order_of_runs(settings, repeats=3, seed=0)]


@pytest.mark.parametrize("recipe", ["compare_quick", "compare_2020"])
def test_the_shipped_sweeps_make_sense(recipe: str) -> None:
    settings = settings_of(load_sweep(f"recipes/{recipe}.toml"), num_cores=16)
    assert not any(setting.refusal for setting in settings)
