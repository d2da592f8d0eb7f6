"""A record as a line of JSON, and back."""

import json
import math
from dataclasses import MISSING, asdict, fields
from typing import Any

from sunspark.errors import ConfigError, RunError
from sunspark.records.kinds import EvaluationRecord, EventRecord, Record, StepRecord

_KINDS: dict[str, type[Record]] = {
    "step": StepRecord,
    "evaluation": EvaluationRecord,
    "event": EventRecord,
}
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def to_line(record: Record) -> str:
    """The line, its end included."""
    values = asdict(record)
    body = {"kind": values.pop("kind")} | {name: _to_json(value) for name, value in values.items()}
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"


def from_line(line: bytes, place: str) -> Record:
    """The record in a line. Raises RunError, naming `place`, when it holds none."""
    try:
        body = json.loads(line)
    except ValueError as error:
        raise _damaged(place, "is not JSON") from error
    if not isinstance(body, dict):
        raise _damaged(place, f"holds a {type(body).__name__}, not an object")
    kind = body.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise _damaged(place, f"has the kind {kind!r}; known are {', '.join(_KINDS)}")
    return _build(_KINDS[kind], body, place)


def _build(record_type: type[Record], body: dict[str, Any], place: str) -> Record:
    types = {field.name: field.type for field in fields(record_type)}
    needed = [field.name for field in fields(record_type) if field.default is MISSING]
    if missing := [name for name in needed if name not in body]:
        raise _damaged(place, f"lacks {', '.join(missing)}")
    if unknown := [name for name in body if name not in types]:
        raise _damaged(place, f"has unknown fields: {', '.join(unknown)}")
    values = {
        name: _from_json(body[name], expected, f"{place}, {name}") for name, expected in types.items() if name in body
    }
    try:
        return record_type(**values)
    except ConfigError as error:
        raise _damaged(place, f"cannot be: {error}") from error


def _to_json(value: object) -> object:
    """Floats that JSON cannot hold (a loss that diverged) become text, so that every line is JSON."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _from_json(value: object, expected: object, place: str) -> Any:
    if expected is float:
        if isinstance(value, str) and value in _NON_FINITE:
            return _NON_FINITE[value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif expected is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif isinstance(value, str):
        return value
    raise _damaged(place, f"holds {value!r}, which is not of type {getattr(expected, '__name__', 'str')}")


def _damaged(place: str, what: str) -> RunError:
    return RunError(f"{place}: {what}; move this file out of the run's records to go on without it")


def is_json(line: bytes) -> bool:
    """Whether a line was written to its end."""
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
