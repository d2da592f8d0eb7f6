"""What a scene is painted on and with: the hour and the weather, the colours of the ground, the canvas.

Layers are painted back to front, each one an opacity and a colour per pixel, at the size of the image; the
only primitives are fractal noise, lines of heights, and rectangles. Shapes: H W pixels; a colour is three
numbers from 0 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
from PIL import Image

Array = npt.NDArray[np.float32]

_LONG_SIDES = (160, 260)
_ASPECTS = (4 / 3, 3 / 2, 4 / 3, 16 / 10, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Light:
    """Hour and weather: the colours of the sky, what they do to everything below it, and how far one sees."""

    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    tint: tuple[float, float, float]
    sun: tuple[float, float, float] | None
    haze: float
    clouds: float


_DAY = Light(
    zenith=(0.22, 0.48, 0.86),
    horizon=(0.76, 0.88, 0.96),
    tint=(1.05, 1.03, 0.98),
    sun=(1.0, 1.0, 0.9),
    haze=0.35,
    clouds=0.9,
)
_DAWN = Light(
    zenith=(0.45, 0.48, 0.70),
    horizon=(0.99, 0.78, 0.66),
    tint=(1.05, 0.85, 0.78),
    sun=(1.0, 0.93, 0.75),
    haze=0.5,
    clouds=0.7,
)
DUSK = Light(
    zenith=(0.28, 0.22, 0.44),
    horizon=(1.0, 0.54, 0.24),
    tint=(0.92, 0.60, 0.48),
    sun=(1.0, 0.75, 0.35),
    haze=0.4,
    clouds=0.7,
)
NIGHT = Light(
    zenith=(0.06, 0.10, 0.24),
    horizon=(0.26, 0.35, 0.54),
    tint=(0.46, 0.54, 0.72),
    sun=(0.85, 0.88, 0.95),
    haze=0.35,
    clouds=0.4,
)
_OVERCAST = Light(
    zenith=(0.62, 0.66, 0.72),
    horizon=(0.82, 0.84, 0.86),
    tint=(0.82, 0.85, 0.89),
    sun=None,
    haze=0.6,
    clouds=0.9,
)
_STORM = Light(
    zenith=(0.38, 0.43, 0.50),
    horizon=(0.66, 0.69, 0.69),
    tint=(0.70, 0.74, 0.75),
    sun=None,
    haze=0.5,
    clouds=1.0,
)
_LIGHTS = (_DAY, _DAY, _DAWN, DUSK, NIGHT, _OVERCAST, _STORM)
_GROUNDS = {
    "sand": (0.86, 0.72, 0.48),
    "grass": (0.36, 0.52, 0.20),
    "dark": (0.16, 0.28, 0.14),
    "autumn": (0.72, 0.40, 0.14),
    "snow": (0.90, 0.92, 0.96),
    "rock": (0.50, 0.48, 0.46),
    "clay": (0.66, 0.36, 0.24),
    "slate": (0.36, 0.42, 0.50),
}


@final
class Canvas:
    """A picture while it is painted."""

    def __init__(self, rng: np.random.Generator) -> None:
        long_side = int(rng.integers(*_LONG_SIDES))
        short_side = round(long_side / float(rng.choice(_ASPECTS)))
        portrait = rng.random() < 0.15
        self.width, self.height = (short_side, long_side) if portrait else (long_side, short_side)
        self.rng = rng
        self.light = _LIGHTS[int(rng.integers(len(_LIGHTS)))]
        self.pixels: Array = np.zeros((self.height, self.width, 3), np.float32)
        self.rows: Array = np.arange(self.height, dtype=np.float32)[:, None]
        self.columns: Array = np.arange(self.width, dtype=np.float32)[None, :]

    def uniform(self, low: float, high: float) -> float:
        """A number of the scene's own random numbers, from `low` up to `high`."""
        return float(self.rng.uniform(low, high))

    def ground(self, *names: str) -> Array:
        """One of the named colours of the ground, a little off."""
        colour = np.array(_GROUNDS[names[int(self.rng.integers(len(names)))]], np.float32)
        return np.clip(colour * self.rng.uniform(0.85, 1.15, 3).astype(np.float32), 0, 1)

    def noise(self, cells: float, stretch: float = 1.0, octaves: int = 3) -> Array:
        """Fractal noise (H, W) in about -1 to 1; `cells` over the width, drawn out sideways by `stretch`."""
        total = np.zeros((self.height, self.width), np.float32)
        for octave in range(octaves):
            across = max(2, round(cells * 2**octave / stretch))
            down = max(2, round(cells * 2**octave * self.height / self.width))
            grid = self.rng.standard_normal((down + 1, across + 1)).astype(np.float32)
            layer = Image.fromarray(grid).resize((self.width, self.height), Image.Resampling.BICUBIC)
            total += np.asarray(layer) * np.float32(0.6 ** (octave + 1))
        return total

    def ridge(self, level: float, roughness: float, cells: float, octaves: int = 4) -> Array:
        """A line of heights (W,) in rows from the top, around `level` (share of the height)."""
        positions = np.linspace(0, 1, self.width)
        line = np.zeros(self.width)
        for octave in range(octaves):
            num_knots = max(2, round(cells * 2**octave)) + 1
            knots = self.rng.uniform(-1, 1, num_knots)
            line += np.interp(positions, np.linspace(0, 1, num_knots), knots) * 0.5**octave
        return ((level + roughness * line) * self.height).astype(np.float32)

    def paint(self, opacity: Array, colour: Array, shade: Array | float = 1.0) -> None:
        """Lay a colour, times `shade` (H, W), over what is there. The light's tint is applied here."""
        rows = _rows_of(opacity)
        tinted = colour * np.array(self.light.tint, np.float32)
        shaded = tinted * (shade[rows, :, None] if isinstance(shade, np.ndarray) else np.float32(shade))
        self.pixels[rows] += opacity[rows, :, None] * (shaded - self.pixels[rows])

    def below(self, line: Array) -> Array:
        """Opacity (H, W) of everything under a line, with a soft edge."""
        opacity: Array = np.clip(self.rows - line[None, :] + 0.5, 0, 1)
        return opacity

    def haze(self, opacity: Array, distance: float) -> None:
        """Fade a layer towards the horizon's colour, as air does; `distance` 0 is near, 1 far."""
        rows = _rows_of(opacity)
        strength = opacity[rows, :, None] * np.float32(self.light.haze * distance)
        self.pixels[rows] += strength * (np.array(self.light.horizon, np.float32) - self.pixels[rows])

    def rectangle(self, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice]:
        """The rows and columns of a rectangle, cut to the picture."""
        return (
            slice(max(0, round(top)), max(0, round(bottom))),
            slice(max(0, round(left)), max(0, round(right))),
        )

    def fill(self, area: tuple[slice, slice], colour: Array) -> None:
        """Give a rectangle one colour, tinted by the light."""
        self.pixels[area] = colour * np.array(self.light.tint, np.float32)

    def finished(self) -> npt.NDArray[np.uint8]:
        """The picture as a camera takes it: exposure, white balance, contrast and grain differ."""
        rng = self.rng
        balance = rng.uniform(0.9, 1.1, 3).astype(np.float32) * np.float32(rng.uniform(0.82, 1.2))
        picture = np.clip(self.pixels * balance, 0, 1) ** np.float32(rng.uniform(0.75, 1.2))
        gray = picture.mean(axis=2, keepdims=True)
        picture = gray + (picture - gray) * np.float32(rng.uniform(0.5, 1.2))
        picture += rng.standard_normal(gray.shape, np.float32) * np.float32(rng.uniform(0.003, 0.015))
        finished: npt.NDArray[np.uint8] = np.clip(picture * 255, 0, 255).astype(np.uint8)
        return finished


def _rows_of(opacity: Array) -> slice:
    """The rows in which a layer can be seen."""
    rows = np.flatnonzero(opacity.any(axis=1))
    return slice(int(rows[0]), int(rows[-1]) + 1) if rows.size else slice(0, 0)
