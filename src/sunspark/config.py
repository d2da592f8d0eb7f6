"""Configuration: TOML files and dictionaries become strict, frozen dataclasses, and back.

Generic: it knows no section by name. Each part of the program keeps its own dataclass beside the code that it
configures; this file reads, writes and compares any tree of them. `command_line.py` adds the flags.
"""

import dataclasses
import difflib
import json
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, Union, cast, final

from sunspark.errors import ConfigError, MisspeltError, first_five

T = TypeVar("T")

_MOST_NAMES: Final = 14
"""As many as there are commands; of more, the first five are named."""

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")

_SECONDS_OF: Final = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}

_PLAIN_WORDS: Final[dict[object, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    types.NoneType: "nothing",
}


@final
class Absent:
    """Stands in `differences` for a key that one side does not have."""

    def __repr__(self) -> str:
        return "(not set)"


ABSENT: Final = Absent()


def load(cls: type[T], path: str | Path) -> T:
    """The configuration of type `cls` in the TOML file `path`; what the file leaves out keeps its default.

    Raises ConfigError when the file is missing, is not TOML, or does not fit `cls`.
    """
    try:
        with open(path, "rb") as file:
            values = tomllib.load(file)
    except FileNotFoundError:
        raise ConfigError(f"there is no configuration file {str(path)!r}; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration file {str(path)!r}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    try:
        return from_dict(cls, values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def from_dict(cls: type[T], values: Mapping[str, object]) -> T:
    """Build `cls` from nested dictionaries; the inverse of `to_dict`, and strict.

    Raises MisspeltError on an unknown key (with the nearest names), a missing one, a value of the wrong type, and what
    `cls` raises.
    """
    return _build(cls, values, "", tuple(_dotted_keys(cls)))


def to_dict(config: object) -> dict[str, Any]:
    """`config` as nested dictionaries of what JSON holds: a tuple becomes a list, a mapping a dictionary."""
    return {field.name: _plain(getattr(config, field.name)) for field in _fields(config)}


def to_toml(values: Mapping[str, Any]) -> str:
    """What `to_dict` gives as a TOML file of a line a key, for `load`; what is None is left out.

    Raises ConfigError where a value, or None in a list, is none that TOML holds.
    """
    return "".join(f"{key} = {value}\n" for key, value in _toml_lines(values, ""))


def as_json(value: Any) -> Any:
    """A result as what JSON can hold; NaN and infinities become null, what it does not know its own text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return as_json(to_dict(value))
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return as_json(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def refuse_not_finite(config: object) -> None:
    """ConfigError when a number in a field of `config` is infinite or none (nan): no JSON file holds it."""
    for field in _fields(config):
        value = getattr(config, field.name)
        numbers = value if isinstance(value, tuple) else (value,)
        if not all(math.isfinite(number) for number in numbers if isinstance(number, float)):
            got = " ".join(map(str, numbers))
            raise ConfigError(f"{field.name} must be finite, got {got}; give a number, or leave it out for its default")


def refuse_other_seeds(seed: int, bits: int = 63) -> None:
    """ConfigError when `seed` is negative, or has more bits than may be."""
    if not 0 <= seed < 2**bits:
        raise ConfigError(f"seed must be 0 to 2**{bits} - 1, got {seed}; use 0 if in doubt")


def differences(old: object, new: object) -> list[tuple[str, object, object]]:
    """Where two configurations differ: (dotted key, old value, new value), in the order of the fields.

    A key of which one side knows nothing (an argument of a model, say) has `ABSENT` there.
    """
    olds, news = ({key: value for key, value in flatten(to_dict(one)) if value != {}} for one in (old, new))
    pairs = [(key, olds.get(key, ABSENT), news.get(key, ABSENT)) for key in dict.fromkeys([*olds, *news])]
    return [(key, before, after) for key, before, after in pairs if before != after]


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """What nested dictionaries hold, by dotted key; a dictionary without keys is a value."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def nearest(name: str, names: Iterable[str], count: int = 3) -> list[str]:
    """What `name` was probably meant to be, best first; a dotted name is compared by its last part too.

    What is much less like it than the best is left out. The dashes before an option are no likeness.
    """
    scored = _by_likeness(name, names)
    least = max([0.6, *(score - 0.15 for score, _ in scored[:1])])
    return [candidate for score, candidate in scored if score >= least][:count]


def nearest_first(name: str, names: Sequence[str], most: int = 20) -> str:
    """All names, those first that are most like `name`; of more than `most`, how many there are beside them."""
    ordered = [candidate for _, candidate in _by_likeness(name, names)]
    return ", ".join(ordered[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _by_likeness(name: str, names: Iterable[str]) -> list[tuple[float, str]]:
    """Each with how like `name` it is, 0 to 1, the best first; equals in their order."""

    def likeness(candidate: str) -> float:
        whole = (name.lstrip("-"), candidate.lstrip("-"))
        last = (name.rpartition(".")[2].lstrip("-"), candidate.rpartition(".")[2].lstrip("-"))
        return max(difflib.SequenceMatcher(None, *pair).ratio() for pair in (whole, last))

    return sorted(((likeness(candidate), candidate) for candidate in names), key=lambda pair: -pair[0])


def suggestion(name: str, names: Sequence[str]) -> str:
    """What to say to who wrote `name`, which is none of `names`."""
    close = nearest(name, names)
    if close:
        return f"the nearest {'is' if len(close) == 1 else 'are'} {', '.join(close)}"
    return f"there are {', '.join(names) if len(names) <= _MOST_NAMES else first_five(names)}"


def seconds_of(name: str, text: str) -> float:
    """90s, 90min, 2h or 3d in seconds. Raises ConfigError when it is no such time, or not above 0."""
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    try:
        seconds = float(number) * _SECONDS_OF[text[len(number) :]]
    except (KeyError, ValueError):
        raise ConfigError(f"{name} must be a time such as 90min, 2h or 3d, got {text!r}") from None
    if not 0 < seconds < math.inf:
        raise ConfigError(f"{name} must be above 0, got {text!r}")
    return seconds


def refuse_unknown_fields(cls: type, names: Iterable[str]) -> None:
    """ConfigError when one of `names` is no field of `cls`, with the nested field that was probably meant."""
    for name in names:
        if name not in {field.name for field in _fields(cls)}:
            raise ConfigError(f"{cls.__name__} has no field {name!r}; {suggestion(name, list(_dotted_keys(cls)))}")


def required_fields(cls: type) -> list[str]:
    """Names of the fields of `cls` that have no default."""
    nothing = dataclasses.MISSING
    return [f.name for f in _fields(cls) if f.init and f.default is nothing and f.default_factory is nothing]


def _toml_lines(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        key = prefix + (name if _BARE_KEY.fullmatch(name) else _toml_text(name))
        if isinstance(value, Mapping) and value:
            yield from _toml_lines(value, f"{key}.")
        elif value is not None:
            yield key, _toml_value(key, value)


def _toml_value(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return _toml_text(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml_value(key, item) for item in value)}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name} = {item}' for name, item in _toml_lines(value, ''))}}}"
    raise ConfigError(f"{key} is {value!r} ({_kind(value)}), which no TOML file holds; leave it out")


def _toml_text(text: str) -> str:
    """As JSON writes it, but for two things: no pairs of surrogates, and the one control character that JSON leaves."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _plain(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _build(cls: type[T], values: Mapping[str, object], prefix: str, all_keys: Sequence[str]) -> T:
    hints = _hints(cls)
    for key in values:
        if key not in hints:
            tables = [
                prefix + name for name, hint in hints.items() if isinstance(values[key], Mapping) and _is_table(hint)
            ]
            raise MisspeltError(_no_such_key(prefix + key, tables or all_keys))
    for name in required_fields(cls):
        if name not in values:
            raise MisspeltError(f"{prefix}{name} is missing; it must be {describe(hints[name])}")
    return cls(**{key: _convert(hints[key], value, prefix + key, all_keys) for key, value in values.items()})


def _no_such_key(key: str, all_keys: Sequence[str]) -> str:
    return f"there is no key {key!r}; {suggestion(key, all_keys)}"


def _convert(hint: Any, value: object, key: str, all_keys: Sequence[str]) -> object:
    """`value` as what `hint` asks for; a whole number passes for a number, a list for a tuple, no more."""
    arms = _arms(hint)
    if type(value) in arms:
        return value
    for arm in arms:
        converted = _as_arm(arm, value, key, all_keys)
        if converted is not ABSENT:
            return converted
    raise MisspeltError(f"{key} must be {describe(hint)}, got {value!r} ({_kind(value)})")


def _as_arm(arm: Any, value: object, key: str, all_keys: Sequence[str]) -> object:
    """`value` as the one type `arm`; ABSENT when it does not fit."""
    origin, arguments = typing.get_origin(arm), typing.get_args(arm)
    if arm is object:
        return value
    if origin is Literal:
        return value if any(value == one and type(value) is type(one) for one in arguments) else ABSENT
    if arm is float and type(value) is int:
        return float(value)
    if isinstance(value, Mapping) and dataclasses.is_dataclass(arm):
        return _build(cast(type[object], arm), value, key + ".", all_keys)
    if isinstance(value, Mapping) and origin in (dict, Mapping):
        return {name: _convert(arguments[1], item, f"{key}.{name}", all_keys) for name, item in value.items()}
    if isinstance(value, list | tuple) and origin in (list, tuple):
        hints = _item_hints(arm, len(value))
        if len(hints) == len(value):
            return origin(_convert(hint, item, key, all_keys) for hint, item in zip(hints, value, strict=True))
    return ABSENT


def _item_hints(hint: Any, count: int) -> tuple[Any, ...]:
    arguments = typing.get_args(hint)
    open_ended = typing.get_origin(hint) is list or (len(arguments) == 2 and arguments[1] is Ellipsis)
    return (arguments[0],) * count if open_ended else arguments


def _arms(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)


def describe(hint: Any) -> str:
    """A type in words, for an error message: a whole number."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if len(_arms(hint)) > 1:
        return " or ".join(describe(arm) for arm in _arms(hint))
    if origin is Literal:
        return "one of " + ", ".join(repr(one) for one in arguments)
    if origin in (list, tuple):
        return f"a list of {describe(arguments[0])}"
    if _is_table(hint):
        return "a table"
    return _PLAIN_WORDS.get(hint, str(hint))


def _is_table(hint: Any) -> bool:
    return typing.get_origin(hint) in (dict, Mapping) or dataclasses.is_dataclass(hint)


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    return _PLAIN_WORDS.get(type(value), type(value).__name__)


def _fields(config: object) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cast(Any, config))


def _hints(cls: type) -> dict[str, Any]:
    names = {field.name for field in _fields(cls) if field.init}
    return {name: hint for name, hint in typing.get_type_hints(cls).items() if name in names}


def _dotted_keys(cls: type, prefix: str = "") -> Iterator[str]:
    for name, hint in _hints(cls).items():
        if dataclasses.is_dataclass(hint):
            yield from _dotted_keys(cast(type, hint), f"{prefix}{name}.")
        else:
            yield prefix + name
