"""A host without sunspark and without its Python trains with what `--archives` brings.

The archive is without the CUDA libraries, which are most of it: the host has them elsewhere.
"""

import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from sunspark.training.verify import verify
from tests.cluster.namespaces import why_not
from tests.cluster.standalone import REPOSITORY, Standalone

pytestmark = [pytest.mark.spark, pytest.mark.laws, pytest.mark.timeout(900)]

PACKAGES = Path(sysconfig.get_path("purelib"))
SHIP_SECONDS = 400
"""Two gigabytes: packed, sent, unpacked."""


@pytest.fixture
def bare_host(tmp_path: Path) -> Iterator[Standalone]:
    """A cluster of one worker host, on which this environment's Python cannot be found."""
    if reason := why_not():
        pytest.skip(f"a cluster of network namespaces: {reason}")
    with Standalone(tmp_path / "cluster", megabits_per_second=10_000) as cluster:
        cluster.add_workers(1, hidden=[REPOSITORY / "src", *hidden_pythons()])
        yield cluster


def hidden_pythons() -> list[Path]:
    """Where this environment's Python lies, unless the whole system would go with it."""
    return [Path(prefix) for prefix in {sys.base_prefix} - {"/", "/usr", "/usr/local"}]


def test_a_host_without_python_trains_from_an_archive(
    bare_host: Standalone, law_dataset: str, run_folder: Path
) -> None:
    archive = bare_host.folder / "environment.tar.gz"
    for_gpus = [name for name in ("nvidia", "triton") if (PACKAGES / name).is_dir()]
    without = ["--without", *for_gpus] if for_gpus else []
    pack = [sys.executable, str(REPOSITORY / "scripts" / "pack_environment.py"), str(archive), *without]
    subprocess.run(pack, check=True, timeout=SHIP_SECONDS)
    cuda = ":".join(map(str, PACKAGES.glob("nvidia/*/lib")))
    where = subprocess.run(
        [sys.executable, "-m", "sunspark.cli", "where"], check=True, capture_output=True, text=True, timeout=60
    )
    submit = [
        *(str(Path(sys.executable).with_name("spark-submit")), "--archives", f"{archive}#environment"),
        *("--conf", f"spark.executorEnv.LD_LIBRARY_PATH={cuda}"),
        *("--conf", "spark.pyspark.driver.python=" + sys.executable),
        *("--conf", "spark.pyspark.python=./environment/bin/python"),
        where.stdout.strip(),
        *("train", law_dataset, str(run_folder), "--workers", "1", "--epochs", "1", "--image-size", "32"),
        *("--start-timeout", str(SHIP_SECONDS), "--json"),
    ]
    result = bare_host.drive(submit).result(SHIP_SECONDS)
    assert result["finished"]
    assert verify(str(run_folder)).exactly_once
