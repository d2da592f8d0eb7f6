"""The kinds of JPEG that decoders do not take, by their name: lossless, hierarchical, of 12 or 16 bits.

Source: ITU-T T.81, B.1 (markers) and B.2.2 (the frame header).
"""

from typing import Final

_FRAMES: Final = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers of a frame header; the three others between them are tables."""
_LOSSLESS: Final = (0xC3, 0xC7, 0xCB, 0xCF)
_HIERARCHICAL: Final = (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF)
_ALONE: Final = {0x01, *range(0xD0, 0xD9)}
"""Markers without a segment behind them."""
_MOST_PARTS: Final = 2**16
"""That are looked at; a header has some twenty."""


def odd_kind(data: bytes) -> str:
    """What makes a JPEG one that is not decoded here, in words; empty where its header says nothing of the kind."""
    marker, bits = _frame(data)
    if marker in _LOSSLESS:
        return "it is lossless JPEG, which is not decoded here; convert it"
    if marker in _HIERARCHICAL:
        return "it is hierarchical JPEG, which is not decoded here; convert it"
    if marker and bits != 8:
        return f"it has {bits} bits a channel, 8 are decoded here; convert it"
    return ""


def _frame(data: bytes) -> tuple[int, int]:
    """Marker and bits a channel of the first frame header; (0, 0) where there is none."""
    place = 2
    for _ in range(_MOST_PARTS):
        if place + 5 > len(data) or data[place] != 0xFF:
            break
        marker = data[place + 1]
        if marker in _FRAMES:
            return marker, data[place + 4]
        if marker == 0xFF:  # padding
            place += 1
        elif marker in _ALONE:
            place += 2
        else:
            place += 2 + max(2, int.from_bytes(data[place + 2 : place + 4], "big"))
    return 0, 0
