"""What format image bytes are in: told by the first of them, never by a file's name."""

from __future__ import annotations

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
    raise DecodeError("sniff", _what_it_looks_like(data))


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
    raise DecodeError("sniff", f"a video, or another medium, not an image: its brand is {head[:4]!r}")


def _what_it_looks_like(data: bytes) -> str:
    head = data[:64].lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html", b"<head")):
        return "an HTML page, not an image"
    if head.startswith((b"<?xml", b"<svg", b"<")):
        return "a text with tags (XML, SVG, HTML), not an image of pixels"
    if not any(data[:4096]):
        return "zero bytes only, not an image"
    return f"not a JPEG, PNG, GIF, BMP, WEBP, TIFF or AVIF: it begins with {data[:8]!r}"
