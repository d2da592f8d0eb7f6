"""`sunspark doctor` as it is typed: marks, remedies, exit codes, JSON."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest

import sunspark
from sunspark.commands.doctor import run
from sunspark.errors import ConfigError
from sunspark.launch import java
from sunspark.launch.doctor.checks import Check
from sunspark.launch.doctor.cluster import Connection, ExecutorResult
from sunspark.launch.doctor.examine import DoctorResult

pytestmark = pytest.mark.timeout(180)


def test_a_machine_that_can_train_is_told_so() -> None:
    outcome = run(["--launcher", "local", "--workers", "1"])
    assert outcome.exit_code == 0, outcome.text
    table = outcome.text.partition("\n\n")[0].splitlines()
    told = [line.split()[1] for line in table if not line.startswith(" ")]
    assert told[:7] == ["Python", "pyspark", "torch", "torchft", "libraries", "cores", "memory"]
    assert told[7:] == ["disk", "GPU", "Java", "ports", "slots"]
    assert outcome.text.splitlines()[-1].startswith("ready to train")


def test_more_workers_than_cores_are_a_warning() -> None:
    outcome = run(["--launcher", "local", "--workers", "99"])
    assert outcome.exit_code == 0
    assert "warning  slots      99 workers of 1 cores are planned" in outcome.text
    assert "-> lower --workers or --cores-per-worker" in outcome.text


def test_json_is_one_object_and_the_exit_code_2_where_something_is_wrong(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sunspark.cli", "doctor", "--json", "--dataset", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2, done.stderr
    result = json.loads(done.stdout)
    assert list(result) == ["ready", "checks", "executors", "connections"]
    assert result["ready"] is False
    (wrong,) = [check for check in result["checks"] if check["status"] == "wrong"]
    assert wrong["name"] == "dataset"
    assert "is not a finished dataset" in wrong["found"]


def test_a_port_that_is_taken_has_its_remedy_below_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        outcome = run(["--launcher", "local", "--port", str(port)])
    assert outcome.exit_code == 2
    lines = outcome.text.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("wrong    ports"))
    assert f"cannot listen on 127.0.0.1:{port}" in lines[place]
    assert lines[place + 1].strip() == "-> choose another --port, or 0 for any free one"
    assert lines[-1] == "1 wrong: training would fail"


@pytest.mark.parametrize(("launcher", "status", "code"), [("spark", "wrong", 2), ("local", "warning", 0)])
def test_without_java_spark_cannot_train_and_one_machine_can(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, launcher: str, status: str, code: int
) -> None:
    monkeypatch.setattr(java, "_USUAL_PLACES", ())
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    outcome = run(["--launcher", launcher])
    assert f"{status:<7}  Java       Spark {pyspark.__version__} needs Java " in outcome.text
    assert "-> install one, for instance with 'apt-get install openjdk-17-jre-headless'" in outcome.text
    assert outcome.exit_code == code


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--launcher", "local", "--master", "local[2]"], "has no effect with --launcher local"),
        (["--workers", "0"], "workers must be at least 1, got 0"),
        (["--port", "65535"], "port must be between 0 and 65534, got 65535"),
        (["--timeout", "0"], "timeout must be above 0 s, got 0.0"),
        (["--timeout", "nan"], "timeout must be finite, got nan"),
    ],
)
def test_the_users_mistakes_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        run(words)


def test_a_cluster_is_a_table_and_what_is_wrong_stands_below(monkeypatch: pytest.MonkeyPatch) -> None:
    def executor(name: str, checks: list[Check]) -> ExecutorResult:
        return ExecutorResult(
            name=name,
            host=f"10.0.0.{name}",
            python="3.11.9",
            cores=4.0,
            memory_bytes=8 * 2**30,
            cache_free_bytes=90 * 2**30,
            clock_ahead_seconds=-0.0123,
            dataset_bytes_per_second=211e6,
            checks=checks,
        )

    bad = Check(name="torchft", status="wrong", found="cannot be imported: No module", remedy="install torchft>=0.2")
    ways = [(str(one), str(other)) for one in range(6) for other in range(6) if one != other]
    result = DoctorResult(
        ready=False,
        checks=[Check(name="Python", status="ok", found="3.11.9")],
        executors=[executor("1", []), executor("2", [bad])],
        connections=[
            Connection(
                source=source,
                target=target,
                latency_seconds=None if source == "4" else 0.0005,
                bytes_per_second=1e9 if target == "1" else None,
                error="no answer" if source == "4" else "",
            )
            for source, target in ways
        ],
    )
    monkeypatch.setattr(sunspark, "doctor", lambda _: result)
    outcome = run([])
    assert outcome.exit_code == 2
    lines = outcome.text.splitlines()
    head = lines.index("executors") + 1
    assert lines[head].split() == [
        "executor",
        "address",
        "state",
        "Python",
        "cores",
        "memory",
        "disk",
        "dataset",
        "clock",
    ]
    assert lines[head + 1].split() == [
        "1",
        "10.0.0.1",
        "ok",
        "3.11.9",
        "4",
        "8.0",
        "GiB",
        "90.0",
        "GiB",
        "211",
        "MB/s",
        "-12.3",
        "ms",
    ]
    assert "wrong" in lines[head + 2]
    assert "executor 2 (10.0.0.2)" in lines
    assert "network (20 of 30; --json has all)" in lines
    assert [line.split()[0] for line in lines if " wrong " in line and line.startswith("   4")] == ["4"] * 5
    assert lines[-1] == "1 wrong: training would fail"
