import random
import signal
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.distributed.laws import Optimizer, law_config, losses, make_dataset


def pytest_configure(config: pytest.Config) -> None:
    """Ctrl-C is tested; whoever starts the tests in the background has the shell ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if version("pyspark").startswith("3."):  # it leaves its sockets to the garbage collector
        config.addinivalue_line("filterwarnings", "ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(scope="session")
def law_dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_dataset(tmp_path_factory.mktemp("law"))


@pytest.fixture(scope="session")
def undisturbed(law_dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Optimizer], str]:
    """The run of one local worker that nothing happened to; trained once per optimizer."""
    from sunspark.launch.train import train

    runs: dict[str, str] = {}

    def run_of(optimizer: Optimizer) -> str:
        if optimizer not in runs:
            run = str(tmp_path_factory.mktemp("undisturbed") / optimizer)
            train(law_dataset, run, law_config(optimizer, workers=1))
            history = losses(run)
            assert len(history) >= 300
            assert sum(history[-20:]) / 20 < history[0] / 2
            runs[optimizer] = run
        return runs[optimizer]

    return run_of


@pytest.fixture(scope="session")
def finished(law_dataset: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run of a few steps; it may be read, and evaluated."""
    from sunspark.launch.train import train
    from tests.launch.short import short_config

    run = str(tmp_path_factory.mktemp("finished") / "run")
    train(law_dataset, run, short_config())
    return run


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    """A new seed for every test; printed, so that a failure can be drawn again."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"{request.node.name}: seed {seed}")
    return random.Random(seed)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return tmp_path / "run"
