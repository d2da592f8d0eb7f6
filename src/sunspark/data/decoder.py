"""Image bytes to pixels: every format an image set holds becomes 8-bit RGB, turned upright.

simplejpeg (libjpeg-turbo) decodes plain JPEG; Pillow takes everything else and whatever simplejpeg finds odd. Nothing
is dropped that can be converted: the first frame of a GIF, palettes, gray, 16 bits a channel, CMYK; transparent pixels
are laid on white; EXIF orientation is applied. Colour profiles are ignored.

Cost: the decoders release the GIL. docs/concepts/memory.md says how many bytes a pixel takes on its way; a JPEG at
least three times as large as needed is decoded at 1/2, 1/4 or 1/8 of its size.
Shapes: H W pixels, 3 channels red, green, blue.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError

from sunspark.data.image_format import DecodeError, sniff
from sunspark.data.jpeg_frame import odd_kind
from sunspark.data.pixels import Pixels
from sunspark.errors import first_line_of

MAX_PIXELS = 100_000_000
"""Larger images are refused: 300 MB of pixels, or a decompression bomb."""

MAX_SOURCE_BYTES: Final = 2**30
"""Of an image as it comes, which is read as a whole: `MAX_PIXELS` of 16 bits and four channels have 0.8 GB."""

_END_OF_JPEG = b"\xff\xd9"
_ORIENTATION_TAG = 0x0112
_TURNS: Final = {
    2: (False, 1, -1),
    3: (False, -1, -1),
    4: (False, -1, 1),
    5: (True, 1, 1),
    6: (True, 1, -1),
    7: (True, -1, -1),
    8: (True, -1, 1),
}
"""EXIF's orientations: whether rows and columns are exchanged, then the steps through rows and columns."""

_STRIP_PIXELS: Final = 1 << 20
"""Converted at once, so that no conversion has a second image beside the first."""

_MOST_READS: Final = 2**22
"""Of one image, by Pillow: some seconds. In a PNG of 0.8 GB whose pieces have 1 KiB there are fewer."""

_EXIF: Final = b"Exif\x00\x00"
_MOST_EXIF: Final = 64
"""Segments of one image that count, of 64 KiB each: cameras write one."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Picture:
    """A decoded image."""

    pixels: Pixels
    """uint8 (H, W, 3), upright; smaller than the source by 2, 4 or 8 where `short_side` allowed it."""
    source_format: str
    """JPEG, PNG, GIF, BMP, WEBP, TIFF or AVIF."""
    source_width: int
    source_height: int
    """Pixels, as the source says, before it is turned."""


def decode(data: bytes, *, short_side: int | None = None) -> Picture:
    """Image bytes as upright RGB pixels.

    With `short_side`, a JPEG may be decoded at a fraction of its size, but never below one and a half times
    that many pixels on its short side. Raises DecodeError (stage, reason) for what is not an image, is truncated, or
    has more than `MAX_PIXELS` pixels.
    """
    name = sniff(data)
    if name == "JPEG":
        picture = _decode_plain_jpeg(data, short_side)
        if picture is not None:
            return picture
    return _decode_with_pillow(data, name)


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DecodeError("size", f"{width}x{height} is more than {MAX_PIXELS} pixels")


def _decode_plain_jpeg(data: bytes, short_side: int | None) -> Picture | None:
    """A gray or YCbCr JPEG without faults; None for every other, which Pillow then judges.

    To lack the end marker, and nothing else, is no fault.
    """
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    if colorspace not in ("Gray", "YCbCr"):
        return None
    _check_size(width, height)
    least = _least_decoded(width, height, short_side)
    pixels = _decode_strictly(data, least)
    if pixels is None and not data.endswith(_END_OF_JPEG):
        pixels = _decode_strictly(data + _END_OF_JPEG, least)
    if pixels is None:
        return None
    return Picture(
        pixels=_turn(pixels, _orientation_of_jpeg(data)),
        source_format="JPEG",
        source_width=width,
        source_height=height,
    )


def _decode_strictly(data: bytes, least: int) -> Pixels | None:
    """The pixels of a JPEG, no side below `least`; None when libjpeg has anything to complain about."""
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, colorspace="RGB", min_height=least, min_width=least)
    except ValueError:
        return None
    return pixels


def _least_decoded(width: int, height: int, short_side: int | None) -> int:
    """The short side to decode to: a half, quarter or eighth, as long as that is one and a half times what is needed.

    Only these factors: libjpeg-turbo has no fast path for the others, and they are the same in every version.
    """
    if short_side is None:
        return 0
    have = min(width, height)
    factor = next((factor for factor in (8, 4, 2) if 2 * have >= 3 * short_side * factor), 1)
    return 0 if factor == 1 else have // factor


def _orientation_of_jpeg(data: bytes) -> int:
    if _EXIF not in data[:65536]:
        return 1
    try:
        with Image.open(_Pieces(data), formats=["JPEG"]) as image:
            return _orientation(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 1


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; damaged EXIF data says nothing about the pixels and counts as 1."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        return 1
    return value if value in _TURNS else 1


def _turn(pixels: Pixels, orientation: int) -> Pixels:
    if orientation == 1:
        return pixels
    is_transposed, vertical, horizontal = _TURNS[orientation]
    turned = pixels.swapaxes(0, 1) if is_transposed else pixels
    return np.ascontiguousarray(turned[::vertical, ::horizontal])


def _decode_with_pillow(data: bytes, name: str) -> Picture:
    """Everything odd. Only the decoder of the sniffed format may run: others of Pillow's start programs."""
    file = io.BytesIO(data) if name == "BMP" else _Pieces(data)  # of a BMP that is packed Pillow reads every byte
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(file, formats=[name]) as image:
                width, height = image.size
                _check_size(width, height)
                image.load()
                pixels = _turn(_to_rgb(image), _orientation(image))
        except DecodeError:
            raise
        except Image.DecompressionBombError as error:
            raise DecodeError("size", f"more than {MAX_PIXELS} pixels: {first_line_of(error)}") from error
        except MemoryError:
            raise
        except Exception as error:
            raise DecodeError("decode", f"{name}: {_why(error, data, name)}") from error
    return Picture(pixels=pixels, source_format=name, source_width=width, source_height=height)


@final
class _Pieces(io.BytesIO):
    """Bytes that are read in so many pieces at most: in a damaged file Pillow looks for a header byte by byte.

    Pillow joins the Exif segments of a JPEG one by one, each time all anew: of many, the later ones are emptied.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._reads_left = _MOST_READS
        self._exif_left = _MOST_EXIF

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads_left -= 1
        if self._reads_left < 0:
            raise OSError(f"it is damaged: no image in its first {self.tell()} bytes")
        piece = super().read(size)
        if not piece.startswith(_EXIF):
            return piece
        self._exif_left -= 1
        return piece if self._exif_left >= 0 else bytes(len(piece))


def _why(error: Exception, data: bytes, name: str) -> str:
    """The same words for the same bytes."""
    kind = odd_kind(data) if name == "JPEG" else ""
    if isinstance(error, UnidentifiedImageError):  # its words hold an address
        return kind or "its header cannot be read"
    told = first_line_of(error)
    return kind or ("the file ends too early" if "truncated" in told.lower() else told)


def _to_rgb(image: Image.Image) -> Pixels:
    """Any mode of Pillow as uint8 (H, W, 3); transparency is laid on white."""
    largest = _largest_gray(image) if _is_deep_gray(image) else None
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for rows, strip in _strips(image):
        pixels[rows] = np.asarray(_strip_to_rgb(strip, largest))
    return pixels


def _strips(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    height = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, height):
        bottom = min(top + height, image.height)
        yield slice(top, bottom), image.crop((0, top, image.width, bottom))


def _strip_to_rgb(strip: Image.Image, largest_gray: float | None) -> Image.Image:
    """`largest_gray`: of the whole image, where gray has more than 8 bits."""
    if largest_gray is not None:
        strip = _to_eight_bits(strip, largest_gray)
    if strip.has_transparency_data:
        strip = strip.convert("RGBA")
        white = Image.new("RGBA", strip.size, (255, 255, 255, 255))
        strip = Image.alpha_composite(white, strip)
    return strip.convert("RGB")


def _is_deep_gray(image: Image.Image) -> bool:
    return image.mode.startswith("I") or image.mode == "F"


def _largest_gray(image: Image.Image) -> float:
    """The largest value of gray of more than 8 bits; all must lie in 0 to 255 or 65,535."""
    largest = 0.0
    for _, strip in _strips(image):
        values: npt.NDArray[Any] = np.asarray(strip)
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 65_535:
            raise DecodeError("decode", f"gray values of mode {image.mode} outside 0 to 65535")
        largest = max(largest, float(values.max()))
    return largest


def _to_eight_bits(strip: Image.Image, largest: float) -> Image.Image:
    """Gray of more than 8 bits: 16-bit values keep their high byte."""
    values: npt.NDArray[Any] = np.asarray(strip).astype(np.float64)
    if strip.mode.startswith("I;16") or largest > 255:
        values = np.floor(values / 256)
    elif strip.mode == "F" and largest <= 1:
        values = np.rint(values * 255)
    return Image.fromarray(values.astype(np.uint8))
