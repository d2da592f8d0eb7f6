import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from filelock import FileLock

from tests.distributed.laws import Optimizer, law_config, losses, make_dataset


def pytest_configure(config: pytest.Config) -> None:
    """Ctrl-C is tested; whoever starts the tests in the background has the shell ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Java processes that live for seconds: half of what they take otherwise is a compiler that optimizes for hours.
    os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:+UseSerialGC -XX:TieredStopAtLevel=1")
    if version("pyspark").startswith("3."):  # it leaves its sockets to the garbage collector
        config.addinivalue_line("filterwarnings", "ignore:unclosed <socket:ResourceWarning")


Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Once:
    """`once(name, make)`: a folder that `make` fills, for all pytest processes that share the work; only to be read."""
    own = tmp_path_factory.getbasetemp()
    root = (own if worker_id == "master" else own.parent) / "once"
    root.mkdir(exist_ok=True)

    def folder_of(name: str, make: Callable[[Path], object]) -> Path:
        folder, is_made = root / name, root / f"{name}.made"
        with FileLock(root / f"{name}.lock"):
            if not is_made.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                is_made.touch()
        return folder

    return folder_of


@pytest.fixture(scope="session")
def law_dataset(once: Once) -> str:
    return str(once("law", make_dataset) / "dataset")


@pytest.fixture(scope="session")
def undisturbed(law_dataset: str, once: Once) -> Callable[[Optimizer], str]:
    """The run of one local worker that nothing happened to; trained once per optimizer."""
    from sunspark.launch.train import train

    def run_of(optimizer: Optimizer) -> str:
        def make(folder: Path) -> None:
            run = str(folder / "run")
            train(law_dataset, run, law_config(optimizer, workers=1))
            history = losses(run)
            assert len(history) >= 300
            assert sum(history[-20:]) / 20 < history[0] / 2

        return str(once(f"undisturbed-{optimizer}", make) / "run")

    return run_of


@pytest.fixture(scope="session")
def alone(law_dataset: str, once: Once) -> Callable[[str], str]:
    """The run of one local worker that nothing happened to; trained once for each setting of a strategy."""
    from sunspark.launch.train import train
    from tests.distributed.strategies import config_of

    def run_of(setting: str) -> str:
        def make(folder: Path) -> None:
            train(law_dataset, str(folder / "run"), config_of(setting, workers=1))

        return str(once(f"alone-{setting}", make) / "run")

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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 kB; the test is skipped where none can be made."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=20)
