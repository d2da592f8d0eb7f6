"""The front door: exit codes, one message per error, and a standard output that holds one JSON object."""

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from sunspark.cli import COMMANDS, console, main
from sunspark.command_line import flags
from sunspark.commands.train import Arguments

# A command that prints on every way there is, as Java and Spark's Python workers do.
NOISY = """
import os, subprocess, sys, time, types
from dataclasses import dataclass
from sunspark import cli
from sunspark.commands.text import Outcome, summary

@dataclass(frozen=True)
class Result:
    answer: int = 42
    loss: float = float("nan")
    names: tuple = ("a", "b")

def run(argv):
    print("from Python")
    os.write(1, b"from the file descriptor\\n")
    subprocess.run(["echo", "from a child"], check=True)
    if "--fail" in argv:
        raise KeyError("something")
    if "--wait" in argv:
        print("waiting", file=sys.stderr, flush=True)
        time.sleep(60)
    return Outcome(result=Result(), text=summary(Result()), exit_code=1 if "--no" in argv else 0)

command = types.ModuleType("sunspark.commands.noisy")
command.run = run
sys.modules[command.__name__] = command
cli.COMMANDS["noisy"] = "make noise"
sys.exit(cli.main(sys.argv[1:]))
"""


def sunspark(*words: str, program: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    start = ["-c", program] if program else ["-m", "sunspark.cli"]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, *start, *words],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=environment,
    )


Here = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def here(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Here:
    """Run the command line in this process, which costs a hundredth."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        exit_code = main(words)
        said = capfd.readouterr()
        return subprocess.CompletedProcess(words, exit_code, said.out, said.err)

    return run


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """The user's mistake: exit code 2, nothing on standard output, one message without a traceback."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("sunspark: ")
    for word in words:
        assert word in done.stderr


def test_help_lists_every_command() -> None:
    done = sunspark("--help")
    assert done.returncode == 0
    for name, summary in COMMANDS.items():
        assert name in done.stdout
        assert summary in done.stdout


def test_the_version_is_printed() -> None:
    done = sunspark("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("sunspark 0.")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_shows_its_options_and_their_defaults(here: Here, command: str) -> None:
    done = here(command, "--help")
    assert done.returncode == 0, done.stderr
    assert f"usage: sunspark {command}" in done.stdout
    assert "--json" in done.stdout
    assert "--debug" in done.stdout
    assert done.stdout.count("(default: ") + done.stdout.count("(required)") + done.stdout.count("(repeatable)") >= 2


def test_the_help_of_train_names_every_flag(here: Here) -> None:
    words = set(re.findall(r"--[a-z][a-z0-9-]*", here("train", "--help").stdout))
    assert {flag for flag in flags(Arguments) if not flag.startswith("--no-")} <= words


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], ["a command is missing", "sample", "report"]),
        (["trian"], ["'trian'", "the nearest is train"]),
        (["xyzzy"], ["'xyzzy'", "there are doctor"]),
        (["sample"], ["DIRECTORY"]),
        (["sample", "x", "--num-clases", "3"], ["--num-clases", "--num-classes"]),
        (["sample", "x", "--seed", "one"], ["--seed", "'one'"]),
        (["inspect", "nowhere"], ["nowhere"]),
        (["ingest", "a", "b", "--config", "nowhere.toml"], ["nowhere.toml"]),
        (["ingest", "a", "b", "--jpeg-quality", "101"], ["jpeg_quality", "101"]),
    ],
)
def test_the_users_mistake_is_one_message_and_exit_code_2(here: Here, words: list[str], expected: list[str]) -> None:
    assert_refused(here(*words), *expected)


def test_an_unknown_key_in_the_config_file_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("[optim]\nlerning_rate = 0.1\n")
    done = sunspark("train", "dataset", "run", "--config", str(path))
    assert_refused(done, "run.toml", "'optim.lerning_rate'", "optim.learning_rate")


def test_a_file_in_place_of_a_folder_is_the_users_mistake(
    law_dataset: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    file = str(tmp_path / "file")
    for words in (["train", law_dataset, file, "--launcher", "local"], ["sample", file], ["inspect", file]):
        assert main(words) == 2, words
        said = capfd.readouterr().err
        assert file in said
        assert "; c" in said, "the remedy: choose, or check"


def test_debug_shows_the_traceback() -> None:
    done = sunspark("--debug", "inspect", "nowhere")
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "DatasetError" in done.stderr


def test_json_prints_one_object_and_everything_else_on_standard_error() -> None:
    done = sunspark("noisy", "--json", program=NOISY)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"answer": 42, "loss": None, "names": ["a", "b"]}
    assert done.stdout.count("\n") == 1
    for source in ("from Python", "from the file descriptor", "from a child"):
        assert source in done.stderr


def test_without_json_the_result_is_for_people() -> None:
    done = sunspark("noisy", program=NOISY)
    assert done.returncode == 0
    assert "answer" in done.stdout
    assert "42" in done.stdout
    assert done.stderr == ""


def test_a_result_that_says_no_is_printed_and_exits_with_1() -> None:
    done = sunspark("--json", "noisy", "--no", program=NOISY)
    assert done.returncode == 1
    assert json.loads(done.stdout)["answer"] == 42


def test_anything_else_exits_with_1_and_leaves_standard_output_empty() -> None:
    done = sunspark("noisy", "--json", "--fail", program=NOISY)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "unexpected KeyError: 'something'" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interrupt_is_one_line_and_exit_code_130() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", NOISY, "noisy", "--json", "--wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        while running.stderr.readline() != "waiting\n":
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert (running.returncode, out, err) == (130, "", "sunspark: interrupted\n")


def test_an_interrupt_that_says_more_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt("interrupted; 7 steps are saved")

    monkeypatch.setattr("sunspark.commands.sample.run", interrupted)
    assert main(["sample", "folder"]) == 130
    assert capsys.readouterr().err == "sunspark: interrupted; 7 steps are saved\n"


def test_a_reader_that_has_gone_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -c '{NOISY}' noisy 2>{tmp_path}/err | true"],
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert "Traceback" not in (tmp_path / "err").read_text()


LAST_WORDS = """
import atexit, os, sys
from sunspark import cli

atexit.register(lambda: print("at exit"))
sys.unraisablehook = lambda _: None

class Destructor:
    def __del__(self):
        os.write(2, b"destroyed\\n")

sys.modules["kept"] = Destructor()
cli.console()
"""


def test_a_process_ends_after_what_is_due_at_exit_and_without_destructors() -> None:
    """Those of torchft and Arrow now and then end in an abort."""
    done = sunspark("--version", program=LAST_WORDS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("at exit\n")
    done = sunspark("trian", program=LAST_WORDS)
    assert (done.returncode, done.stdout) == (2, "at exit\n")


def test_a_full_disk_behind_standard_output_is_no_success() -> None:
    with open("/dev/full", "w") as full:
        start = [sys.executable, "-m", "sunspark.cli", "--version"]
        assert subprocess.run(start, stdout=full, timeout=60, check=False).returncode == 1


def test_the_command_is_the_entry_point_that_ends_like_this() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    assert project["project"]["scripts"] == {"sunspark": f"{console.__module__}:{console.__name__}"}


def test_sample_draws_and_says_what(tmp_path: Path) -> None:
    done = sunspark("sample", str(tmp_path / "scenes"), "--num-classes", "2", "--images-per-class", "3", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["images"] == 6
    assert len(list((tmp_path / "scenes").glob("*/*.jpg"))) == 6


def test_the_program_for_spark_submit_takes_what_the_command_takes() -> None:
    program = sunspark("where").stdout.strip()
    done = subprocess.run(
        [sys.executable, program, "--version"], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.stdout == sunspark("--version").stdout
    assert done.stdout.startswith("sunspark ")
    assert list(Path(program).parent.glob("*.py")) == [Path(program)], "Python puts this folder before all others"
