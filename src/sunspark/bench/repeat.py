"""How to do a run again: its command, the machine and the versions, the whole configuration."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sunspark.bench.run_files import RunFiles
from sunspark.bench.words import size
from sunspark.config import flatten

Rows = list[tuple[str, str]]

_LONGEST_FLOAT: Final = 8
"""Digits of a number in the configuration; the command has all of a longer one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Repeat:
    """What is needed to do a run again."""

    command: str
    """Empty where the run did not record how it was started."""
    machine: Rows
    versions: Rows
    config: list[tuple[str, Rows]]
    """By section."""


def repeat(files: RunFiles) -> Repeat:
    """From RUN/start.json and RUN/config.json."""
    machine = dict(files.start.get("machine", {}))
    if memory := machine.pop("memory_bytes", None):
        machine["memory"] = size(int(memory))
    return Repeat(
        command=_command(files.start.get("command", [])),
        machine=[(key, str(value)) for key, value in machine.items()],
        versions=[(key, str(value)) for key, value in files.start.get("versions", {}).items()],
        config=_config_sections(files.config),
    )


def _command(words: Sequence[str]) -> str:
    """The command line, an option a line, as a shell takes it."""
    return " \\\n    ".join(shlex.join(part) for part in _by_option(words))


def _by_option(words: Sequence[str]) -> Iterator[list[str]]:
    part: list[str] = []
    for word in words:
        if word.startswith("--") and part:
            yield part
            part = []
        part.append(word)
    if part:
        yield part


def _config_sections(config: Mapping[str, Any]) -> list[tuple[str, Rows]]:
    """Sections of the configuration with their keys and values.

    Keys outside a section come first; a section that holds nothing but sections gives way to them.
    """
    plain = {key: value for key, value in config.items() if not isinstance(value, dict)}
    sections = {"run": plain} if plain else {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            sections |= value if all(isinstance(part, dict) for part in value.values()) else {key: value}
    return [(name, [(key, _text(value)) for key, value in flatten(body)]) for name, body in sections.items()]


def _text(value: Any) -> str:
    """A value of the configuration as its user would write it."""
    if value is None or value in ("", [], {}):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, float) and len(str(value)) > _LONGEST_FLOAT:
        return f"{value:.6g}"
    return str(value)
