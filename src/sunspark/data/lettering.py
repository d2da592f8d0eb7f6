"""Lines of text in a picture, in fonts that this machine has; a letter that none of them has is written as a number."""

from __future__ import annotations

import functools
import math
from typing import Final

from PIL import Image, ImageDraw, ImageFont

LINE_HEIGHT: Final = 26
"""Pixels."""
_FONT_SIZE: Final = 14
_FONTS: Final = ("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "DroidSansFallbackFull.ttf", "wqy-zenhei.ttc")
"""Looked for where Pillow's own font has not every letter of a name."""
_NO_LETTER: Final = "\U0010ffff"
_INK: Final = (29, 31, 36)


def write_line(canvas: Image.Image, text: str, left: int, top: int, width: int) -> None:
    """One line, cut where the room ends."""
    draw, (text, font) = ImageDraw.Draw(canvas), drawable(text)
    while text and draw.textlength(text, font) > width:
        text = text[:-2] + "…" if len(text) > 2 else ""
    draw.text((left, top + (LINE_HEIGHT - _FONT_SIZE) // 2), text, _INK, font)


def width_of(text: str) -> int:
    """The pixels that a line takes, whole."""
    drawn, font = drawable(text)
    return math.ceil(font.getlength(drawn))


def drawable(text: str) -> tuple[str, ImageFont.FreeTypeFont]:
    """A text, and the font that has most of its letters; those that it has not are written as `\\u6d77`."""
    fonts = [font for font in map(_font, ("", *_FONTS)) if font is not None]
    font = min(fonts, key=lambda font: sum(not _has(font, letter) for letter in text))
    return "".join(letter if _has(font, letter) else ascii(letter)[1:-1] for letter in text), font


@functools.cache
def _font(name: str) -> ImageFont.FreeTypeFont | None:
    """Pillow's own without a name; None where this machine has it not."""
    try:
        font = ImageFont.truetype(name, _FONT_SIZE) if name else ImageFont.load_default(_FONT_SIZE)
    except OSError:
        return None
    return font if isinstance(font, ImageFont.FreeTypeFont) else None


@functools.cache
def _has(font: ImageFont.FreeTypeFont, letter: str) -> bool:
    """Whether it is drawn as itself, and not as the box that stands for what a font has not."""
    drawn, box = font.getmask(letter), font.getmask(_NO_LETTER)
    return (drawn.size, bytes(drawn)) != (box.size, bytes(box))
