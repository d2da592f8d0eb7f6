"""The reference of the site, drawn from the code: commands, settings, files, functions.

What a field is for is the line of text under it, as for the command line's help; here it is read from the source.
"""

import ast
import dataclasses
import functools
import importlib
import inspect
import json
import textwrap
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import sunspark
from sunspark import records, run_directory
from sunspark.cli import COMMANDS
from sunspark.commands.arguments import CommonArguments, ConfigFileArguments
from sunspark.data import dataset
from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.spark.ingest import IngestConfig

Row = tuple[str, ...]

_KINDS: Final[Mapping[object, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
}
_ELSEWHERE: Final[Mapping[type, str]] = {
    TrainConfig: "Its settings are on the page [Configuration](configuration.md#sunspark-train).",
    IngestConfig: "Its settings are on the page [Configuration](configuration.md#sunspark-ingest).",
    LaunchConfig: "Besides, all settings of [launch](configuration.md#launch).",
}
"""Settings that can stand in a file have a page of their own."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """A field of a dataclass as a reader meets it."""

    name: str
    hint: Any
    marks: tuple[Any, ...]
    default: Any
    text: str

    @property
    def is_positional(self) -> bool:
        from tyro.conf import Positional

        return Positional in self.marks

    @property
    def is_section(self) -> bool:
        """Whether it holds options of its own."""
        return dataclasses.is_dataclass(self.hint)

    @property
    def flag(self) -> str:
        """As it stands on the command line."""
        named = [mark.name for mark in self.marks if getattr(mark, "name", None)]
        word = (named or [self.name])[0].replace("_", "-")
        if self.is_positional:
            return f"`{word.upper()}`"
        is_pair = self.hint is bool and not self.marks
        return f"`--{word}`, `--no-{word}`" if is_pair else f"`--{word}`"


def options_of(cls: type) -> list[Option]:
    """The fields of a dataclass, inherited ones first, as the command line has them."""
    hints = typing.get_type_hints(cls, include_extras=True)
    texts = _texts_of(cls)
    found = []
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        is_annotated = typing.get_origin(hint) is typing.Annotated
        bare = typing.get_args(hint)[0] if is_annotated else hint
        marks = getattr(hint, "__metadata__", ())
        text = texts.get(field.name, "")
        found.append(Option(name=field.name, hint=bare, marks=marks, default=_default_of(field), text=text))
    return found


def commands_page() -> str:
    """What each command takes."""
    parts = [
        "# Commands",
        "Drawn from the code. `sunspark COMMAND --help` says the same.",
        _table(("command", "what it does"), [(f"[{name}](#sunspark-{name})", text) for name, text in COMMANDS.items()]),
        "## What all commands share",
        _option_table(options_of(CommonArguments)),
        "With `--json`, a command that fails has no result: standard output stays empty, and the exit code tells.",
        "Commands that read a file of settings:",
        _option_table([one for one in options_of(ConfigFileArguments) if one.name == "config_file"]),
        _table(
            ("exit code", "meaning"),
            [
                ("0", "done"),
                ("1", "anything that is not listed here; `sunspark verify`: the answer is no"),
                ("2", "a mistake in what was asked; `sunspark doctor`: training would fail"),
                ("130", "interrupted"),
            ],
        ),
        *(_command(name) for name in COMMANDS),
    ]
    return _page(parts)


def configuration_page() -> str:
    """Every setting of `train` and `ingest`: its option, its key in a file."""
    parts = [
        "# Configuration",
        "Drawn from the code. Each setting is an option of the command, and a key of the TOML file that `--config` "
        "names, in the section in whose table it stands. Options win over the file, the file over defaults; "
        "a key that does not exist is refused.",
        '```toml\n[model]\nmodel = "resnet18"\n[data]\nimage_size = 64\n[data.augment]\ntrivial_augment = true\n'
        "[launch]\nworkers = 4\n```",
        "## sunspark train",
        *_sections(TrainConfig),
        "## sunspark ingest",
        "A file for `sunspark ingest` has no sections.",
        _setting_table(IngestConfig),
    ]
    return _page(parts)


def files_page() -> str:
    """What a dataset and a run consist of."""
    kinds = (records.StepRecord, records.EvaluationRecord, records.EventRecord)
    events = ", ".join(f"`{name}`" for name in typing.get_args(records.EventName))
    parts = [
        "# Files",
        "Drawn from the code.",
        "## A dataset",
        *_prose_and_code(dataset.__doc__),
        "## A run",
        *_prose_and_code(run_directory.__doc__),
        "## Records",
        *_prose_and_code(records.__doc__),
        *(part for kind in kinds for part in (f"### {kind.__name__}", _summary(kind), _field_table(kind))),
        f"Events are {events}.",
    ]
    return _page(parts)


def python_page() -> str:
    """The functions of the package."""
    names = [name for name, value in vars(sunspark).items() if inspect.isfunction(value) and name[0] != "_"]
    classes = [f"`sunspark.{name}`" for name in sorted(sunspark._HOMES)]
    parts = [
        "# Python",
        "Drawn from the code. Each function is one command; importing sunspark is cheap, because what a function needs "
        "is imported when it is called.",
        f"Settings are {', '.join(classes)}; what they hold stands on the page [Configuration](configuration.md).",
        f"Faults on purpose are {', '.join(f'`sunspark.{name}`' for name in sunspark._FAULTS)}: see "
        "[Test what a training survives](../guides/faults.md).",
        *(_function(name) for name in names),
    ]
    return _page(parts)


def arguments_of(command: str) -> type:
    """The dataclass that a command's line is read into."""
    return typing.cast(type, importlib.import_module(f"sunspark.commands.{command}").Arguments)


def _command(name: str) -> str:
    module, arguments = importlib.import_module(f"sunspark.commands.{name}"), arguments_of(name)
    common = {field.name for field in dataclasses.fields(ConfigFileArguments)}
    own = [one for one in options_of(arguments) if one.name not in common]
    positional = " ".join(one.flag.strip("`") for one in own if one.is_positional)
    description = getattr(module, "_DESCRIPTION", COMMANDS[name][:1].upper() + COMMANDS[name][1:])
    usage = " ".join(["sunspark", name, *positional.split(), "[OPTIONS]"])
    return _page([f"## sunspark {name}", f"```text\n{usage}\n```", *_prose_and_code(description), *_own_options(own)])


def _own_options(options: Sequence[Option]) -> Iterator[str]:
    plain = [one for one in options if not one.is_section]
    nested = [one.hint for one in options if one.is_section]
    inline = [part for cls in nested if cls not in _ELSEWHERE for part in options_of(cls)]
    if plain or inline:
        yield _option_table([*plain, *inline])
    yield from (_ELSEWHERE[cls] for cls in nested if cls in _ELSEWHERE)


def _function(name: str) -> str:
    function = getattr(sunspark, name)
    signature = inspect.signature(function)
    words = [str(one).replace("'", "") for one in signature.parameters.values()]
    returns = str(signature.return_annotation).replace("'", "")
    line = f"sunspark.{name}({', '.join(words)}) -> {returns}"
    if len(line) > 88:
        line = f"sunspark.{name}(\n" + "".join(f"    {word},\n" for word in words) + f") -> {returns}"
    return _page([f"## {name}", f"```python\n{line}\n```", *_prose_and_code(inspect.getdoc(function))])


def _sections(cls: type, prefix: str = "") -> Iterator[str]:
    """A table for each section of a file, nested ones after their owner."""
    for part in options_of(cls):
        if part.is_section:
            section = f"{prefix}{part.name}"
            yield _page([f"### {section}", _summary(part.hint), _setting_table(part.hint)])
            yield from _sections(part.hint, f"{section}.")


def _setting_table(cls: type) -> str:
    rows = [
        (f"`{one.name}`<br>{one.flag}", _kind(one.hint), _default(one), _escaped(one.text))
        for one in options_of(cls)
        if not one.is_section
    ]
    return _table(("key, option", "value", "default", "meaning"), rows)


def _option_table(options: Sequence[Option]) -> str:
    rows = [(one.flag, _kind(one.hint), _default(one), _escaped(one.text)) for one in options]
    return _table(("option", "value", "default", "meaning"), rows)


def _field_table(cls: type) -> str:
    rows = [(f"`{one.name}`", _kind(one.hint), _escaped(one.text)) for one in options_of(cls) if one.name != "kind"]
    return _table(("field", "value", "meaning"), rows)


def _table(head: Row, rows: Sequence[Row]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _page(parts: Sequence[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def _prose_and_code(text: str | None) -> Iterator[str]:
    """A docstring: what is indented, or stands in columns, as a block; the rest as prose."""
    for paragraph in inspect.cleandoc(text or "").split("\n\n"):
        if paragraph.startswith("    ") or "   " in paragraph:
            yield f"```text\n{textwrap.dedent(paragraph)}\n```"
        else:
            yield _escaped(paragraph)


def _summary(cls: type) -> str:
    return _escaped(inspect.getdoc(cls) or "")


def _kind(hint: Any) -> str:
    """What a value must be."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in arguments)
    if origin is tuple:
        return _kind_of_tuple(arguments)
    if origin is dict:
        return "`name=value` ..."
    if type(None) in arguments:
        return ", ".join(_kind(one) for one in arguments if one is not type(None))
    return _KINDS[hint]


def _kind_of_tuple(arguments: tuple[Any, ...]) -> str:
    if Ellipsis in arguments:
        return f"{_kind(arguments[0])}, any number of times"
    return f"{len(arguments)} numbers"


def _default(option: Option) -> str:
    value = option.default
    if value is dataclasses.MISSING:
        return "must be given"
    if value is None or value in ({}, ()):
        return "none"
    if isinstance(value, tuple):
        return f"`{' '.join(f'{item:.4g}' for item in value)}`"
    if option.name.endswith("_bytes") and value % 2**20 == 0:
        unit, size = ("GiB", 2**30) if value % 2**30 == 0 else ("MiB", 2**20)
        return f"`{value}` ({value // size} {unit})"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{json.dumps(value).strip(chr(34))}`"


def _default_of(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


@functools.cache
def _texts_of(cls: type) -> dict[str, str]:
    """The text under each field of a dataclass, and of those it inherits from."""
    texts: dict[str, str] = {}
    for base in reversed([one for one in cls.__mro__ if dataclasses.is_dataclass(one)]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        texts.update(_texts_in(typing.cast(ast.ClassDef, body)))
    return texts


def _texts_in(body: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr):
            text = typing.cast(ast.Constant, following.value).value
            yield typing.cast(ast.Name, statement.target).id, " ".join(str(text).split())


def _escaped(text: str) -> str:
    """Text of the code as Markdown: nothing in it is a tag, emphasis or the end of a cell."""
    parts = text.split("`")
    for outside in range(0, len(parts), 2):
        for sign in "*<|":
            parts[outside] = parts[outside].replace(sign, "&lt;" if sign == "<" else "\\" + sign)
    return "`".join(parts)
