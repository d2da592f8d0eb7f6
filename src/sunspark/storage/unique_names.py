"""Names that no other writer gives: of files that are being written, and of what an attempt has written."""

import re
import uuid
from typing import Final

_TEMPORARY: Final = re.compile(r"\.(.+)\.[0-9a-f]{32}\.tmp")


def temporary_name(name: str) -> str:
    """Of a file that is being written beside the place where it will be called `name`."""
    return f".{name}.{uuid.uuid4().hex}.tmp"


def final_name(name: str) -> str | None:
    """What a file with this temporary name was to be called; None where the name is no temporary one."""
    found = _TEMPORARY.fullmatch(name)
    return None if found is None else found[1]


def attempt_name(name: str, suffix: str) -> str:
    """`name`, 16 hexadecimal digits of this attempt, and the suffix: `block-000003-0123456789abcdef.parquet`."""
    return f"{name}-{uuid.uuid4().hex[:16]}{suffix}"
