"""What is right or wrong with an executor, from what came back of it; who gave no answer is named."""

from dataclasses import replace
from typing import Any

import pytest

from sunspark.launch.doctor.cluster import Connection, Executor, connections_of, result_of
from sunspark.launch.doctor.probe import Findings, Way
from tests.launch.doctor.test_checks import GOOD, VERSIONS

FINDINGS = Findings(
    clock_ahead_seconds=0.001,
    dataset_bytes_per_second=2e8,
    dataset_error="",
    ways=[Way(peer="1", latency_seconds=0.0005, bytes_per_second=1e8)],
)
EXECUTOR = Executor(name="0", host="10.0.0.5", machine=GOOD, findings=FINDINGS)


def test_nothing_is_wrong_with_a_good_executor() -> None:
    result = result_of(EXECUTOR, GOOD)
    assert result.checks == []
    assert (result.name, result.host, result.python, result.cores) == ("0", "10.0.0.5", "3.11.9", 4)
    assert (result.clock_ahead_seconds, result.dataset_bytes_per_second) == (0.001, 2e8)
    assert connections_of([EXECUTOR]) == [
        Connection(source="0", target="1", latency_seconds=0.0005, bytes_per_second=1e8, error="")
    ]


@pytest.mark.parametrize(
    ("change", "name", "status", "found", "remedy"),
    [
        ({"clock_ahead_seconds": -90.0}, "clock", "warning", "90.0 s behind the driver's", "NTP"),
        ({"clock_ahead_seconds": 2.0}, "clock", "warning", "2.0 s ahead of", "NTP"),
        ({"dataset_error": "/d is not a finished dataset"}, "dataset", "wrong", "/d is not", "shared folder"),
        (
            {"ways": [Way(peer="1"), Way(peer="2", error="no answer"), Way(peer="3", error="no")]},
            "network",
            "wrong",
            "executor 2, 3 cannot be reached: no answer",
            "docs/security.md",
        ),
    ],
)
def test_what_was_found_is_judged(change: dict[str, Any], name: str, status: str, found: str, remedy: str) -> None:
    (check,) = result_of(replace(EXECUTOR, findings=replace(FINDINGS, **change)), GOOD).checks
    assert (check.name, check.status) == (name, status)
    assert found in check.found
    assert remedy in check.remedy


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("", "--timeout gives it more time"),
        ("ModuleNotFoundError: No module named 'sunspark' (/usr/bin/python3)", "install sunspark"),
        ("[PYTHON_VERSION_MISMATCH] Python in worker has different version", "of one version"),
        ("WorkerError: the call 'join' to grpc://10.0.0.1:5 failed", "open the driver's port"),
        ('java.io.IOException: Cannot run program "python9": error=2', "a Python that is there"),
    ],
)
def test_an_executor_that_gave_no_answer_is_named_with_what_to_do(error: str, remedy: str) -> None:
    result = result_of(Executor(name="7", host="10.0.0.7", error=error), GOOD)
    (check,) = result.checks
    assert (result.name, result.host, result.python) == ("7", "10.0.0.7", None)
    assert (check.name, check.status) == ("executor", "wrong")
    assert (error or "nothing came back from it in time") in check.found
    assert remedy in check.remedy


def test_one_that_joined_and_then_fell_silent_is_wrong() -> None:
    (check,) = result_of(replace(EXECUTOR, findings=None), GOOD).checks
    assert (check.name, check.status) == ("measurements", "wrong")
    assert "did not come in time" in check.found


def test_a_version_that_differs_is_told_beside_the_rest() -> None:
    other = replace(GOOD, versions=VERSIONS | {"torchft": "0.1.9"})
    names = [(check.name, check.status) for check in result_of(replace(EXECUTOR, machine=other), GOOD).checks]
    assert names == [("torchft", "wrong"), ("torchft", "wrong")], "too old, and not the driver's"
