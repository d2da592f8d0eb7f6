"""Images as a dataset stores them: decoded, shrunk once, and encoded as baseline JPEG, 4:2:0, slow DCT.

The same pixels give the same bytes.

Cost: decoders, resize and encoder release the GIL.
Shapes: H W pixels, 3 channels red, green, blue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import simplejpeg

from sunspark.data.decoder import decode
from sunspark.data.image_format import DecodeError
from sunspark.data.pixels import Pixels
from sunspark.data.resize import shrink

MAX_STORED_SIDE: Final = 65_500
"""Pixels of the longest side that a JPEG of libjpeg-turbo can have."""

DEFAULT_SHORT_SIDE: Final = 256
DEFAULT_JPEG_QUALITY: Final = 92


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredImage:
    """An image as a dataset stores it."""

    jpeg: bytes
    width: int
    height: int
    source_format: str
    source_width: int
    source_height: int


def to_stored_image(data: bytes, *, short_side: int, jpeg_quality: int = DEFAULT_JPEG_QUALITY) -> StoredImage:
    """Decode, convert, turn, resize once and encode; DecodeError when the bytes are not an image that can be stored."""
    picture = decode(data, short_side=short_side)
    pixels = resize_short_side(picture.pixels, short_side)
    if max(pixels.shape) > MAX_STORED_SIDE:
        raise DecodeError(
            "size", f"{pixels.shape[1]}x{pixels.shape[0]} has a side of more than {MAX_STORED_SIDE} pixels"
        )
    return StoredImage(
        jpeg=encode_jpeg(pixels, jpeg_quality),
        width=pixels.shape[1],
        height=pixels.shape[0],
        source_format=picture.source_format,
        source_width=picture.source_width,
        source_height=picture.source_height,
    )


def resize_short_side(pixels: Pixels, short_side: int) -> Pixels:
    """Shrink (bicubic, antialiased) to `short_side` pixels on the short side; a smaller image is kept."""
    height, width = pixels.shape[:2]
    scale = short_side / min(height, width)
    if scale >= 1:
        return pixels
    size = (max(short_side, round(width * scale)), max(short_side, round(height * scale)))
    return shrink(pixels, height=size[1], width=size[0])


def encode_jpeg(pixels: Pixels, quality: int = DEFAULT_JPEG_QUALITY) -> bytes:
    """uint8 (H, W, 3) as a baseline JPEG, chroma 4:2:0; equal pixels give equal bytes."""
    body: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=quality, colorspace="RGB", colorsubsampling="420", fastdct=False
    )
    return body
