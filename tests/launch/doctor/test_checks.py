"""What is right, doubtful or wrong with a machine; whatever is not right has a remedy."""

from dataclasses import replace
from typing import Any

import pytest

from sunspark.launch.doctor.checks import Check, checks_of, differences_between
from sunspark.launch.doctor.machine import LIBRARIES, Machine, look_around

GIB = 2**30
VERSIONS = dict.fromkeys(LIBRARIES, "1.0") | {"torch": "2.9.1+cu128", "torchft": "0.2.0", "pyspark": "4.0.1"}
GOOD = Machine(
    python="3.11.9",
    executable="/opt/bin/python",
    versions=VERSIONS,
    broken={},
    cores=4,
    memory_bytes=16 * GIB,
    cache_directory="/data",
    cache_free_bytes=100 * GIB,
    cache_error="",
    cache_is_in_memory=False,
    gpus=[],
    gpus_of_system=0,
)


def without(name: str) -> dict[str, Any]:
    versions = {package: version for package, version in VERSIONS.items() if package != name}
    return {"versions": versions, "broken": {name: f"No module named '{name}'"}}


def test_nothing_is_wrong_with_a_good_machine() -> None:
    assert {check.status for check in checks_of(GOOD)} == {"ok"}
    assert not any(check.remedy for check in checks_of(GOOD))


@pytest.mark.parametrize(
    ("change", "name", "status", "found", "remedy"),
    [
        ({"python": "3.10.14"}, "Python", "wrong", "3.10.14", "3.11 or later"),
        (without("torch"), "torch", "wrong", "No module named 'torch'", "torch>=2.7 for /opt/bin/python"),
        (without("torchft"), "torchft", "wrong", "cannot be imported", "install torchft>=0.2"),
        (without("pyspark"), "pyspark", "wrong", "cannot be imported", "install pyspark>=3.5"),
        (without("simplejpeg"), "libraries", "wrong", "simplejpeg cannot be imported (No module", "install what"),
        ({"versions": VERSIONS | {"torch": "2.6.0"}}, "torch", "wrong", "2.6.0", "torch>=2.7"),
        ({"cores": 0.5}, "cores", "warning", "0.5, less than one", "whole core"),
        ({"memory_bytes": GIB // 2}, "memory", "wrong", "0.5 GiB", "memoryOverhead"),
        ({"memory_bytes": 3 * GIB // 2}, "memory", "warning", "1.5 GiB", "one small worker"),
        ({"cache_error": "No space left"}, "disk", "wrong", "/data cannot be written: No space", "--cache-directory"),
        ({"cache_is_in_memory": True}, "disk", "warning", "lies in memory", "--cache-directory"),
        ({"cache_free_bytes": GIB}, "disk", "warning", "1.0 GiB free in /data", "--cache-bytes"),
        ({"gpus_of_system": 2}, "GPU", "warning", "2 in this machine, none that torch 2.9", "nvidia-smi"),
    ],
)
def test_what_is_not_right_is_named_with_its_remedy(
    change: dict[str, Any], name: str, status: str, found: str, remedy: str
) -> None:
    bad = [check for check in checks_of(replace(GOOD, **change)) if check.status != "ok"]
    assert [(check.name, check.status) for check in bad] == [(name, status)]
    assert found in bad[0].found
    assert remedy in bad[0].remedy


def test_without_spark_only_its_launcher_suffers() -> None:
    assert next(check for check in checks_of(replace(GOOD, **without("pyspark")), "local") if check.status != "ok") == (
        Check(
            name="pyspark",
            status="warning",
            found="cannot be imported: No module named 'pyspark'",
            remedy="install pyspark>=3.5 for /opt/bin/python",
        )
    )


def test_a_gpu_is_shown() -> None:
    assert "H100, 80 GiB" in [check.found for check in checks_of(replace(GOOD, gpus=["H100, 80 GiB"]))]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, []),
        ({"python": "3.11.2"}, []),
        ({"python": "3.12.1"}, [("Python", "wrong")]),
        ({"versions": VERSIONS | {"torch": "2.9.0"}}, [("torch", "warning")]),
        ({"versions": VERSIONS | {"torchft": "0.3.0"}}, [("torchft", "wrong")]),
        ({"versions": VERSIONS | {"sunspark": "0.9"}}, [("sunspark", "wrong")]),
        (without("torch"), []),
    ],
)
def test_another_version_than_the_drivers_is_told(change: dict[str, Any], found: list[tuple[str, str]]) -> None:
    differences = list(differences_between(replace(GOOD, **change), GOOD))
    assert [(check.name, check.status) for check in differences] == found
    assert all("the driver has" in check.found and check.remedy for check in differences)


def test_this_machine_can_be_looked_at(tmp_path: Any) -> None:
    machine = look_around(str(tmp_path / "cache"))
    assert set(machine.versions) | set(machine.broken) == set(LIBRARIES)
    assert machine.cache_directory == str(tmp_path / "cache")
    assert machine.cache_free_bytes > 0
    (tmp_path / "file").touch()
    assert "exists" in look_around(str(tmp_path / "file")).cache_error
