"""What format image bytes are in: told by the first of them, never by a file's name."""

from __future__ import annotations

import codecs
from typing import Final

from PIL import features

from sunspark.errors import SunsparkError

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),  # BigTIFF
    (b"MM\x00+", "TIFF"),
)
_LOOKED_THROUGH: Final = 4096
"""Bytes: where they are all zero, so is the file, most likely."""
_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
_HEIC_BRANDS: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


class DecodeError(SunsparkError):
    """Bytes that are not an image that can be taken."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(stage, reason)
        self.stage = stage
        """Where it failed: read, sniff, size or decode."""
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.stage}: {self.reason}"


def sniff(data: bytes) -> str:
    """The format that the first bytes announce; DecodeError when they announce none that is known."""
    if not data:
        raise DecodeError("sniff", "the file is empty")
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        return _in_iso_media(data)
    if other := _what_else(data):
        raise DecodeError("sniff", f"{other}, not an image")
    raise DecodeError("sniff", f"not a JPEG, PNG, GIF, BMP, WEBP, TIFF or AVIF: it begins with {_in_words(data[:8])}")


def what_begins_with(head: bytes) -> str:
    """What a file is that was taken for something else: `is an image (JPEG)`, `begins with 'path;lab'`."""
    if other := _what_else(head):
        return f"is {other}"
    try:
        return f"is an image ({sniff(head)})"
    except DecodeError:
        return f"begins with {_in_words(head[:8])}"


def _in_iso_media(data: bytes) -> str:
    """AVIF, by the brands in the first box of an ISO media file; DecodeError for its relatives.

    Source: ISO/IEC 14496-12 (the box `ftyp`), ISO/IEC 23008-12 (HEIF) and the AV1 Image File Format (their brands).
    """
    head = data[8 : min(max(int.from_bytes(data[:4], "big"), 12), 256)]
    brands = {head[place : place + 4] for place in range(0, len(head), 4)}
    if brands & _AVIF_BRANDS and features.check("avif"):
        return "AVIF"
    if brands & (_AVIF_BRANDS | _HEIC_BRANDS):
        name = "AVIF" if brands & _AVIF_BRANDS else "HEIC"
        raise DecodeError("sniff", f"{name}, which is not decoded here; convert it to JPEG first")
    raise DecodeError("sniff", f"a video, or another medium, not an image: its brand is {_in_words(head[:4])}")


def _what_else(data: bytes) -> str:
    """What bytes are that are often found in the place of an image; empty for others."""
    head = data[:64].lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html", b"<head")):
        return "an HTML page"
    if head.startswith(b"<"):
        return "a text with tags (XML, SVG, HTML)"
    return "" if any(data[:_LOOKED_THROUGH]) else "zero bytes only"


def _in_words(head: bytes) -> str:
    """`'path;lab'` for a text, of which a last letter may be cut; `the bytes 00 ff 1f` for anything else."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        text = ""
    is_text = text and all(letter.isprintable() or letter in "\t\r\n" for letter in text)
    return repr(text) if is_text else f"the bytes {head.hex(' ')}"
