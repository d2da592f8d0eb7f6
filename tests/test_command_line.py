"""The command line: flags over files over defaults, and one helpful message for whatever does not fit."""

import os
import pty
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest
import tyro
from tyro.conf import Positional

from sunspark.command_line import command, config_path, flags, parse, words_of
from sunspark.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Optim:
    """How to learn."""

    learning_rate: float = 0.1
    """Highest learning rate."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """How it changes."""
    nesterov: bool = True
    """Look ahead."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """Everything."""

    optim: Optim = field(default_factory=Optim)
    model_args: Mapping[str, bool | int | float | str | list[int]] = field(default_factory=dict)
    """Arguments of the network."""
    lists: tuple[str, ...] = ()
    """Lists."""
    scale: tuple[float, float] = (0.5, 1.0)
    """Least and most."""
    workers: int = 2
    """Processes."""
    every: int | Literal["epoch"] | None = None
    """Steps, or an epoch."""
    limit: int | None = None
    """Most images."""
    master: str | None = None
    """Where."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"workers must be at least 1, got {self.workers}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Arguments:
    """The command line."""

    run: Positional[str]
    """Folder of the run."""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)


def parsed(*argv: str, config: Config | None = None) -> Config:
    defaults = {"config": config} if config else {}
    arguments = parse(Arguments, ["RUN", *argv], prog="bake", description="Bake.", defaults=defaults)
    assert arguments.run == "RUN"
    return arguments.config


def refused(*argv: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parsed(*argv)
    message = str(caught.value)
    assert "\n" not in message
    assert "│" not in message
    return message


def test_flags_are_flat_and_typed() -> None:
    config = parsed("--learning-rate", "1e-3", "--schedule", "constant", "--no-nesterov", "--workers=3")
    assert config == Config(optim=Optim(learning_rate=1e-3, schedule="constant", nesterov=False), workers=3)


def test_flags_win_over_the_file_and_the_file_over_defaults() -> None:
    from_file = Config(optim=Optim(learning_rate=0.5, schedule="constant"), workers=8)
    assert parsed("--workers", "3", config=from_file) == Config(
        optim=Optim(learning_rate=0.5, schedule="constant"), workers=3
    )


def test_a_mapping_is_given_as_pairs_and_replaces_the_whole() -> None:
    words = ["n=16", "rate=0.1", "deep=true", "name=a=b", "channels=8,16", "layers=2,", "text=a,b"]
    given = parsed("--model-args", *words, config=Config(model_args={"old": 1}))
    values = {"n": 16, "rate": 0.1, "deep": True, "name": "a=b", "channels": [8, 16], "layers": [2], "text": "a,b"}
    assert given.model_args == values
    assert [type(value) for value in given.model_args.values()] == [int, float, bool, str, list, list, str]
    assert parsed("--model-args", *words, config=given) == parsed(*words_of(given, Config()))


def test_a_list_is_given_by_repeating_its_flag() -> None:
    assert parsed("--lists", "a=b", "--lists", "c=d").lists == ("a=b", "c=d")
    assert parsed("--scale", "0.25", "0.5").scale == (0.25, 0.5)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--lerning-rate", "3"], ["--lerning-rate", "--learning-rate"]),
        (["--wrkers=3"], ["--wrkers", "--workers"]),
        (["--no-nestrov"], ["--no-nestrov", "--no-nesterov"]),
        (["--xyzzy"], ["--xyzzy", "bake --help"]),
        (["--workers", "two"], ["--workers", "expected a whole number, got 'two'"]),
        (["--learning-rate", "low"], ["--learning-rate", "expected a number, got 'low'"]),
        (["--limit", "3.5"], ["--limit", "expected a whole number, got '3.5'"]),
        (["--every", "foo"], ["--every", "expected a whole number or epoch, got 'foo'"]),
        (["--every", "1.5"], ["--every", "expected a whole number or epoch, got '1.5'"]),
        (["--workers"], ["--workers", "Missing value"]),
        (["--workers", "0"], ["workers must be at least 1, got 0"]),
        (["--schedule", "cosin"], ["'cosin'", "--schedule", "constant", "cosine"]),
        (["--model-args", "n"], ["--model-args", "expected name=value, got 'n'"]),
        (["one", "too", "many"], ["one", "bake --help"]),
    ],
)
def test_what_does_not_fit_is_one_message_with_a_remedy(argv: list[str], words: list[str]) -> None:
    message = refused(*argv)
    for word in words:
        assert word in message


def test_on_a_terminal_it_is_the_same_message(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refused("--workers", "two")
    assert "─" not in message
    master, slave = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        assert refused("--workers", "two") == message
    os.close(master)


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Arguments, [], prog="bake", description="Bake.")
    assert str(caught.value) == "RUN is missing: it is 'bake RUN'; 'bake --help' explains the options"


def test_what_may_be_left_out_may_be_none() -> None:
    assert (parsed().limit, parsed().master) == (None, None)
    assert (parsed("--limit", "3").limit, parsed("--master", "local").master) == (3, "local")
    assert (parsed("--every", "3").every, parsed("--every", "epoch").every) == (3, "epoch")
    given = Config(limit=3, every="epoch", master="local")
    assert parsed("--limit", "none", "--every", "none", "--master", "none", config=given) == Config()


def test_help_shows_a_third_in_few_digits_and_means_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    thirds = Config(scale=(3 / 4, 4 / 3))
    with pytest.raises(SystemExit):
        parsed("--help", config=thirds)
    assert "(default: 0.75 1.333)" in " ".join(capsys.readouterr().out.split())
    assert parsed(config=thirds).scale == (3 / 4, 4 / 3)


def test_help_shows_every_flag_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parsed("--help")
    said = capsys.readouterr().out
    assert stopped.value.code == 0
    for flag in flags(Arguments):
        assert flag in said
    assert "Highest learning rate. (default: 0.1)" in said


def test_two_fields_with_one_flag_are_a_mistake_of_the_program() -> None:
    @dataclass(frozen=True, kw_only=True, slots=True)
    class Twice:
        """Both have --learning-rate."""

        optim: Optim = field(default_factory=Optim)
        learning_rate: float = 1.0

    with pytest.raises(TypeError, match="--learning-rate"):
        flags(Twice)


@pytest.mark.parametrize(
    ("argv", "path"),
    [
        ([], None),
        (["a", "--config", "x.toml"], "x.toml"),
        (["--config=y.toml", "a"], "y.toml"),
        (["--config", "x.toml", "--config", "z.toml"], "z.toml"),
        (["--config"], None),
    ],
)
def test_the_config_file_is_found_before_anything_is_parsed(argv: list[str], path: str | None) -> None:
    assert config_path(argv) == path


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(optim=Optim(learning_rate=2e-5, schedule="constant", nesterov=False), workers=3),
        Config(model_args={"n_filters": 8, "dropout": 0.25, "bias": True, "name": "wide one"}, lists=("a b", "c")),
        Config(scale=(0.1, 0.25), lists=("one",)),
    ],
)
def test_a_configuration_in_words_is_that_configuration_again(config: Config) -> None:
    words = words_of(config, Config())
    assert parsed(*words) == config
    assert words or config == Config()


@pytest.mark.parametrize("place", ["s3://bucket/d?endpoint_override=minio:9&scheme=http", "/my photos/it's", "/plain"])
def test_a_command_that_is_suggested_can_be_pasted_into_a_shell(place: str) -> None:
    assert shlex.split(command("inspect", place, "--leaks")) == ["sunspark", "inspect", place, "--leaks"]
    assert command("inspect", "/plain") == "sunspark inspect /plain"
