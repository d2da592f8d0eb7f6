"""The locks: each Spark has one; what they name beside Spark is the same."""

import re
from pathlib import Path

import pytest

from tests.documents import ROOT

USUAL = ROOT / "requirements.lock"
OF_ANOTHER_SPARK = sorted(ROOT.glob("requirements-spark-*.lock"))


def entries(lock: Path) -> dict[str, str]:
    """Package, with where it is wanted -> version and hashes."""
    found = re.findall(r"^([^\s=]+)==(\S+)(.*(?:\n    .*)*)", lock.read_text(), re.MULTILINE)
    return {name + marker.partition("\\")[0]: version + marker.partition("\\")[2] for name, version, marker in found}


@pytest.mark.parametrize("lock", OF_ANOTHER_SPARK, ids=lambda lock: lock.stem)
def test_another_spark_decides_nothing_but_spark(lock: Path) -> None:
    usual, other = entries(USUAL), entries(lock)
    different = {name.strip() for name in usual.keys() | other.keys() if usual.get(name) != other.get(name)}
    assert "pyspark" in different
    assert different <= {"pyspark", "py4j"}
    assert other["pyspark "].startswith(lock.stem.removeprefix("requirements-spark-") + ".")


@pytest.mark.parametrize("lock", [USUAL, *OF_ANOTHER_SPARK], ids=lambda lock: lock.stem)
def test_a_lock_gives_hashes_and_names_no_host(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert all("--hash=sha256:" in entry for entry in entries(lock).values())
    assert len(entries(lock)) == len(re.findall(r"^\S", text, re.MULTILINE))
