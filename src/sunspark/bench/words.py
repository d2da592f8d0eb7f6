"""Quantities as people read them: counts, shares, durations, sizes.

Between a number and its unit stands a space at which no line breaks.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sunspark.errors import plural as plural

_SPACE = "\u00a0"


def count(value: int) -> str:
    """1234567 -> 1,234,567"""
    return f"{value:,}"


def epochs(is_whole: Sequence[bool]) -> str:
    """Epochs that are whole or not: (True, True, False) -> 2 epochs and a part of the next"""
    if all(is_whole):
        return plural(len(is_whole), "epoch")
    whole = sum(is_whole)
    return f"{plural(whole, 'epoch')} and a part of the next" if whole else "a part of the first epoch"


def percent(value: float, digits: int = 1) -> str:
    """0.9167 -> 91.7 %"""
    return f"{100 * value:.{digits}f}{_SPACE}%"


def share(value: float) -> str:
    """0.42 -> 42 %; what rounds to nothing says so."""
    return f"under {percent(0.01, 0)}" if 0 < value < 0.005 else percent(value, 0)


def dollars(usd: float) -> str:
    """12.3456 -> 12.35; 0.01234 -> 0.012"""
    return f"{usd:.2f}" if usd >= 1 or usd == 0 else f"{usd:.2g}"


def duration(seconds: float) -> str:
    """0.0123 -> 12.3 ms; 95 -> 1 min 35 s; 7260 -> 2 h 1 min"""
    if seconds < 0.9995:
        return f"{1000 * seconds:.3g}{_SPACE}ms"
    if seconds < 59.95:
        return f"{seconds:.3g}{_SPACE}s"
    if seconds < 3599.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes}{_SPACE}min {rest}{_SPACE}s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{count(hours)}{_SPACE}h {minutes}{_SPACE}min"


def size(num_bytes: int) -> str:
    """1234567890 -> 1.23 GB"""
    unit_bytes, unit = size_unit(num_bytes)
    return f"{num_bytes / unit_bytes:.3g}{_SPACE}{unit}"


def size_unit(num_bytes: float) -> tuple[int, str]:
    """1234567890 -> 1000000000 bytes, GB: the largest unit of which it is one at least."""
    power = min(4, max(0, int(math.log10(max(num_bytes, 1)) // 3)))
    return 1000**power, ("B", "kB", "MB", "GB", "TB")[power]


def off_by(error: float) -> str:
    """How wrong a forecast was, by forecast / measured - 1: 0.2 -> 20 % too long; -0.2 -> 20 % too short"""
    if abs(error) < 0.005:
        return f"right within {percent(0.01, 0)}"
    return f"{percent(abs(error), 0)} too {'long' if error > 0 else 'short'}"


def strategy(settings: Mapping[str, Any]) -> str:
    """Its name, and what of it shapes the exchange; `settings` holds what the strategy heeds."""
    name, compression = str(settings.get("strategy", "")), settings.get("compression", "none")
    every = None if name in ("serial", "all_reduce") else settings.get("sync_every")
    words = [name]
    if every:
        words.append("every epoch" if every == "epoch" else f"every {plural(every, 'step')}")
    if compression != "none":
        words.append(f"in {compression}")
    return ", ".join(words)


def hours(value: float) -> str:
    """0.0000646 -> under 0.001; 1.234 -> 1.23"""
    return "under 0.001" if 0 < value < 0.001 else rate(value)


def rate(per_second: float) -> str:
    """Three significant digits: 183.42 -> 183"""
    return count(round(per_second)) if per_second >= 100 else f"{per_second:.3g}"
