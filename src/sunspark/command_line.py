"""The command line over configuration dataclasses, read by tyro; whatever is wrong becomes one message.

Flags, types, defaults and help (the docstring under each field) come from the definition that `config.py`
fills from files. tyro is imported when a command line is read, never by a worker.
"""

import contextlib
import dataclasses
import functools
import io
import itertools
import re
import shlex
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast

from sunspark.config import describe, nearest, required_fields, suggestion
from sunspark.errors import ConfigError

if TYPE_CHECKING:
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

T = TypeVar("T")

_CONFIG_FLAG: Final = "--config"
_HELP_FLAG: Final = "--help"
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
"""tyro draws its boxes in colour where standard output is a terminal, and of ASCII where that is not UTF-8."""
_RULES: Final = ("───", "---", "╰")
_MISSING: Final = re.compile(r"^[│|] {4,5}(\S+) *[│|]$", re.MULTILINE)
"""A positional argument in the box for those that are missing; its help stands further to the right."""
_NOT_GIVEN: Final = "none"
_MOST_DIGITS: Final = 8


def config_path(argv: Sequence[str]) -> str | None:
    """The file given as `--config FILE` in `argv`; None when there is none."""
    found = None
    for position, word in enumerate(argv):
        if word.startswith(_CONFIG_FLAG + "="):
            found = word.partition("=")[2]
        elif word == _CONFIG_FLAG and position + 1 < len(argv):
            found = argv[position + 1]
    return found


def parse(
    cls: type[T],
    argv: Sequence[str],
    *,
    prog: str,
    description: str,
    defaults: Mapping[str, object] | None = None,
) -> T:
    """Read `argv` into `cls`; `defaults` overrides the defaults of its fields (from a file, an earlier run).

    Flags are flat and kebab-case (`optim.learning_rate` is `--learning-rate`). A mapping is given as
    `name=value` words, which replace the whole mapping. Prints and raises SystemExit(0) on `--help`; raises
    ConfigError on whatever does not fit.
    """
    import tyro

    _refuse_unknown_flags(cls, argv, prog)
    with _errors_of_tyro(cls, prog):
        return tyro.cli(
            cls,
            args=list(argv),
            prog=prog,
            description=description,
            default=_default_instance(cls, defaults or {}),
            config=(
                tyro.conf.OmitArgPrefixes,
                tyro.conf.PositionalMetavarFromFieldName,
                tyro.conf.UseAppendAction,
            ),
            registry=_registry(),
        )


def command(*words: str) -> str:
    """A command of sunspark that a message suggests, as a shell takes it."""
    return shlex.join(("sunspark", *words))


def words_of(config: object, default: object) -> list[str]:
    """The flags that make `default` into `config`, two instances of one class: the inverse of `parse`."""
    words: list[str] = []
    for field in dataclasses.fields(cast(Any, config)):
        value, usual = getattr(config, field.name), getattr(default, field.name)
        if dataclasses.is_dataclass(value) and type(value) is type(usual):
            words += words_of(value, usual)
        elif value != usual:
            words += _flag_words(
                f"--{field.name.replace('_', '-')}", value, is_repeated=_is_open_ended(config, field.name)
            )
    return words


def flags(cls: type) -> list[str]:
    """Every `--flag` that `parse` takes for `cls`, nested ones included.

    Raises TypeError when two fields claim the same flag: a mistake in the program, not the user's.
    """
    found = list(_flags(cls))
    twice = sorted({flag for flag in found if found.count(flag) > 1})
    if twice:
        raise TypeError(f"{cls.__name__} has more than one field for {', '.join(twice)}")
    return found


def _flags(cls: type) -> Iterator[str]:
    from tyro.conf import Positional

    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        bare = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
        marks = getattr(hint, "__metadata__", ())
        if dataclasses.is_dataclass(bare):
            yield from _flags(cast(type, bare))
        elif Positional not in marks:
            names = [mark.name for mark in marks if getattr(mark, "name", None)]
            flag = (names or [name])[0].replace("_", "-")
            yield f"--{flag}"
            if bare is bool:
                yield f"--no-{flag}"


def _refuse_unknown_flags(cls: type, argv: Sequence[str], prog: str) -> None:
    known = [*flags(cls), _HELP_FLAG]
    for word in argv:
        flag = word.partition("=")[0]
        if not flag.startswith("--") or flag.replace("_", "-") in known:
            continue
        alike = [name for name in known if name.startswith("--no-") == flag.startswith("--no-")]
        hint = suggestion(flag, alike) if nearest(flag, alike) else f"'{prog} --help' tells which there are"
        raise ConfigError(f"there is no option {flag} in '{prog}'; {hint}")


def _default_instance(cls: type[T], defaults: Mapping[str, object]) -> T:
    """`cls` with its defaults or those in `defaults`, and tyro's mark in the fields that must be given."""
    import tyro

    required = dict.fromkeys(required_fields(cls), tyro.MISSING_NONPROP)
    return cls(**{**required, **defaults})


@contextlib.contextmanager
def _errors_of_tyro(cls: type, prog: str) -> Iterator[None]:
    """Turn the box that tyro draws on standard error before it exits into one message, a ConfigError."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            yield
    except SystemExit as stop:
        if not stop.code:
            raise
        problem = _missing(cls, said.getvalue(), prog) or _first_paragraph(said.getvalue())
        raise ConfigError(f"{problem}; '{prog} --help' explains the options") from None


def _missing(cls: type, box: str, prog: str) -> str:
    """What is missing, and what is needed; empty when the box tells of something else."""
    text = _COLOUR.sub("", box)
    if "Missing from" not in text:
        return ""
    names = _MISSING.findall(text)
    needed = " ".join([prog, *_positional(cls)])
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} missing: it is '{needed}'"


def _positional(cls: type) -> list[str]:
    from tyro.conf import Positional

    hints = typing.get_type_hints(cls, include_extras=True)
    return [name.upper() for name, hint in hints.items() if Positional in getattr(hint, "__metadata__", ())]


def _first_paragraph(box: str) -> str:
    """The text between the box's title and the next rule, on one line."""
    _title, *lines = [line.strip("│ ") for line in _COLOUR.sub("", box).strip().splitlines()] or [""]
    if lines and lines[0].startswith(_RULES):  # of ASCII: the title has no rule in its own line
        del lines[0]
    text = itertools.takewhile(lambda line: not line.startswith(_RULES), lines)
    return " ".join(" ".join(text).split()).rstrip(".") or "the command line cannot be understood"


@functools.cache
def _registry() -> "ConstructorRegistry":
    from tyro.constructors import ConstructorRegistry

    registry = ConstructorRegistry()
    registry.primitive_rule(_mapping_rule)
    registry.primitive_rule(_plain_rule)
    registry.primitive_rule(_number_or_word_rule)
    return registry


def _mapping_rule(info: "PrimitiveTypeInfo") -> "PrimitiveConstructorSpec[Any] | None":
    """Mappings on the command line: `--model-args n_filters=16 dropout=0.1 channels=32,64`."""
    from tyro.constructors import PrimitiveConstructorSpec

    origin: object = typing.get_origin(info.type)
    if origin not in (dict, Mapping):
        return None
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="[NAME=VALUE ...]",
        instance_from_str=lambda words: dict(_pair(word) for word in words),
        is_instance=lambda value: isinstance(value, Mapping),
        str_from_instance=lambda values: [f"{name}={_spelled(value)}" for name, value in values.items()],
    )


def _plain_rule(info: "PrimitiveTypeInfo") -> "PrimitiveConstructorSpec[Any] | None":
    """Numbers, and numbers or text that may be left out: what is expected is said in words, not in Python's."""
    from tyro.constructors import PrimitiveConstructorSpec

    arms = (
        typing.get_args(info.type) if typing.get_origin(info.type) in (typing.Union, types.UnionType) else [info.type]
    )
    kinds = [arm for arm in arms if arm is not types.NoneType]
    if len(kinds) != 1 or kinds[0] not in (int, float, str) or info.type is str:
        return None
    kind, may_lack = kinds[0], len(arms) > 1

    def read(words: list[str]) -> Any:
        [word] = words
        if may_lack and word.lower() == _NOT_GIVEN:
            return None
        try:
            return kind(word)
        except ValueError:
            raise ValueError(f"expected {describe(kind)}, got {word!r}") from None

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=kind.__name__.upper(),
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, kind) or (may_lack and value is None),
        str_from_instance=lambda value: [_NOT_GIVEN if value is None else _shown(value)],
    )


def _shown(value: object) -> str:
    """A default as the help shows it: a third in few digits."""
    text = str(value)
    return f"{value:.4g}" if isinstance(value, float) and len(text) > _MOST_DIGITS else text


def _number_or_word_rule(info: "PrimitiveTypeInfo") -> "PrimitiveConstructorSpec[Any] | None":
    """A whole number or one of some words, which may be left out: `--sync-every 16`, `--sync-every epoch`."""
    from tyro.constructors import PrimitiveConstructorSpec

    kinds = [arm for arm in typing.get_args(info.type) if arm is not types.NoneType]
    if len(kinds) != 2 or kinds[0] is not int or typing.get_origin(kinds[1]) is not Literal:
        return None
    words = typing.get_args(kinds[1])
    may_lack = len(typing.get_args(info.type)) > 2

    def read(given: list[str]) -> Any:
        [word] = given
        if may_lack and word.lower() == _NOT_GIVEN:
            return None
        if word in words:
            return word
        try:
            return int(word)
        except ValueError:
            raise ValueError(f"expected {describe(int)} or {' or '.join(words)}, got {word!r}") from None

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="|".join(["INT", *words]),
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, int) or value in words or (may_lack and value is None),
        str_from_instance=lambda value: [_NOT_GIVEN if value is None else str(value)],
    )


def _pair(word: str) -> tuple[str, object]:
    name, equals, text = word.partition("=")
    if not name or not equals:
        raise ValueError(f"expected name=value, got {word!r}")
    return name, _value_of(text)


def _value_of(text: str) -> object:
    """`text` as true or false, a whole number, a list of them (commas between), a number, or else the text itself."""
    if text in ("true", "false"):
        return text == "true"
    if "," in text:
        with contextlib.suppress(ValueError):
            return [int(item) for item in text.removesuffix(",").split(",")]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _flag_words(flag: str, value: object, *, is_repeated: bool) -> list[str]:
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    if isinstance(value, Mapping):
        return [flag, *(f"{name}={_spelled(item)}" for name, item in value.items())]
    items = [_spelled(item) for item in (value if isinstance(value, list | tuple) else [value])]
    return [word for item in items for word in (flag, item)] if is_repeated else [flag, *items]


def _is_open_ended(config: object, name: str) -> bool:
    """Whether a field takes any number of values: such a flag is given once for each."""
    hint = typing.get_type_hints(type(config))[name]
    return typing.get_origin(hint) is list or Ellipsis in typing.get_args(hint)


def _spelled(value: object) -> str:
    if isinstance(value, list):  # an argument of a network
        return ",".join(map(str, value)) + ("," if len(value) == 1 else "")
    return str(value).lower() if isinstance(value, bool) else str(value)
