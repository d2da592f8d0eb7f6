"""Sample scenes: landscapes drawn from sky, sea, hills, dunes, trees and buildings.

Made for trying things out where there are no photographs. A class is a way to compose a picture; hour,
weather and season are drawn apart from it and shared by all classes, so that colours alone do not tell a
coast from a city.

Layers are painted back to front, each one an opacity and a colour per pixel, at the size of the image; the
only primitives are fractal noise, lines of heights, and rectangles. Cost: about 15 ms of one core per
image. Shapes: H W pixels; a colour is three numbers from 0 to 1.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt
from PIL import Image

from sunspark import storage
from sunspark.data.codec import encode_jpeg
from sunspark.errors import ConfigError, SourceError

Array = npt.NDArray[np.float32]

_LONG_SIDES = (160, 260)
_ASPECTS = (4 / 3, 3 / 2, 4 / 3, 16 / 10, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleResult:
    """What was drawn."""

    directory: str
    classes: int
    images: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Light:
    """Hour and weather: the colours of the sky, what they do to everything below it, and how far one sees."""

    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    tint: tuple[float, float, float]
    sun: tuple[float, float, float] | None
    haze: float
    clouds: float


_DAY = _Light(
    zenith=(0.22, 0.48, 0.86),
    horizon=(0.76, 0.88, 0.96),
    tint=(1.05, 1.03, 0.98),
    sun=(1.0, 1.0, 0.9),
    haze=0.35,
    clouds=0.9,
)
_DAWN = _Light(
    zenith=(0.45, 0.48, 0.70),
    horizon=(0.99, 0.78, 0.66),
    tint=(1.05, 0.85, 0.78),
    sun=(1.0, 0.93, 0.75),
    haze=0.5,
    clouds=0.7,
)
_DUSK = _Light(
    zenith=(0.28, 0.22, 0.44),
    horizon=(1.0, 0.54, 0.24),
    tint=(0.92, 0.60, 0.48),
    sun=(1.0, 0.75, 0.35),
    haze=0.4,
    clouds=0.7,
)
_NIGHT = _Light(
    zenith=(0.06, 0.10, 0.24),
    horizon=(0.26, 0.35, 0.54),
    tint=(0.46, 0.54, 0.72),
    sun=(0.85, 0.88, 0.95),
    haze=0.35,
    clouds=0.4,
)
_OVERCAST = _Light(
    zenith=(0.62, 0.66, 0.72),
    horizon=(0.82, 0.84, 0.86),
    tint=(0.82, 0.85, 0.89),
    sun=None,
    haze=0.6,
    clouds=0.9,
)
_STORM = _Light(
    zenith=(0.38, 0.43, 0.50),
    horizon=(0.66, 0.69, 0.69),
    tint=(0.70, 0.74, 0.75),
    sun=None,
    haze=0.5,
    clouds=1.0,
)
_LIGHTS = (_DAY, _DAY, _DAWN, _DUSK, _NIGHT, _OVERCAST, _STORM)
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
class _Canvas:
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

    def pick(self, *choices: Array) -> Array:
        """One of some colours."""
        return choices[int(self.rng.integers(len(choices)))]

    def uniform(self, low: float, high: float) -> float:
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


def draw_scenes(directory: str, *, num_classes: int = 6, images_per_class: int = 100, seed: int = 0) -> SampleResult:
    """Draw sample scenes into a folder of class folders; the same arguments give the same bytes.

    Raises ConfigError for more classes than can be drawn, SourceError when the directory holds other
    files.
    """
    if not 2 <= num_classes <= len(_SCENES):
        raise ConfigError(
            f"num_classes must be 2 to {len(_SCENES)}, got {num_classes}; the scenes are {', '.join(_SCENES)}"
        )
    if images_per_class < 1:
        raise ConfigError(f"images_per_class must be at least 1, got {images_per_class}; use 100 if in doubt")
    names = tuple(_SCENES)[:num_classes]
    _refuse_other_files(directory, names, images_per_class)
    numbers = [(name, number) for name in names for number in range(images_per_class)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(lambda scene: _draw_into(directory, scene[0], scene[1], seed), numbers):
            pass
    return SampleResult(directory=directory, classes=num_classes, images=num_classes * images_per_class)


def draw_scene(name: str, number: int, seed: int = 0) -> bytes:
    """The JPEG of one scene: picture `number` of the class `name`."""
    canvas = _Canvas(np.random.default_rng([seed, list(_SCENES).index(name), number]))
    _SCENES[name](canvas)
    return encode_jpeg(canvas.finished(), int(canvas.rng.integers(80, 95)))


def _draw_into(directory: str, name: str, number: int, seed: int) -> None:
    storage.write_bytes(storage.join(directory, name, _file_name(number)), draw_scene(name, number, seed))


def _file_name(number: int) -> str:
    return f"scene_{number:05d}.jpg"


def _refuse_other_files(directory: str, names: tuple[str, ...], images_per_class: int) -> None:
    """Files that this call would not write would end up as images of the set."""
    ours = {f"{name}/{_file_name(number)}" for name in names for number in range(images_per_class)}
    entries = storage.list_tree(directory)
    others = [entry.name for entry in entries if not entry.is_directory and entry.name not in ours]
    if others:
        raise SourceError(f"{directory} holds other files ({', '.join(others[:5])}); choose an empty directory")


# The parts of a landscape, from the back to the front.


def _sky(canvas: _Canvas, horizon: float) -> None:
    """Gradient, sun or moon, clouds; `horizon` is a share of the height."""
    light = canvas.light
    share = np.clip(canvas.rows / (horizon * canvas.height), 0, 1)[:, :, None] ** np.float32(canvas.uniform(0.6, 1.4))
    zenith, low = np.array(light.zenith, np.float32), np.array(light.horizon, np.float32)
    canvas.pixels[:] = zenith + share * (low - zenith)
    if light.sun is not None and canvas.rng.random() < 0.6:
        _sun(canvas, horizon)
    if canvas.rng.random() < 0.85:
        cloud = np.clip(canvas.noise(canvas.uniform(2, 5), stretch=2.5, octaves=4) - canvas.uniform(-0.3, 0.5), 0, 1)
        opacity = cloud * np.float32(light.clouds)
        white = 0.55 * low + 0.45 * np.array(light.tint, np.float32)
        canvas.pixels += opacity[:, :, None] * (white - canvas.pixels)


def _sun(canvas: _Canvas, horizon: float) -> None:
    column, row = canvas.uniform(0.1, 0.9) * canvas.width, canvas.uniform(0.1, 0.9) * horizon * canvas.height
    radius = canvas.uniform(0.02, 0.05) * canvas.width
    distance = np.hypot(canvas.columns - column, canvas.rows - row)
    glow = np.exp(-distance / (5 * radius)) * 0.5 + np.clip(radius - distance + 0.5, 0, 1)
    colour = np.array(canvas.light.sun, np.float32)
    canvas.pixels += np.clip(glow, 0, 1)[:, :, None] * (colour - canvas.pixels)


def _hills(canvas: _Canvas, level: float, distance: float, *grounds: str) -> None:
    """Soft hills with a grain of fields or woods."""
    line = canvas.ridge(level, canvas.uniform(0.02, 0.06), canvas.uniform(1.5, 4), octaves=3)
    opacity = canvas.below(line)
    canvas.paint(opacity, canvas.ground(*grounds), 0.75 + 0.15 * canvas.noise(14))
    canvas.haze(opacity, distance)


def _tree(canvas: _Canvas, column: float, foot: float, height: float, colour: Array, *, conifer: bool) -> None:
    """One tree, `height` rows tall: a trunk, and a crown that is a cone or a cloud of leaves."""
    half = height * (0.22 if conifer else 0.38)
    top, left = int(max(0, foot - height)), int(max(0, column - half))
    area = (slice(top, int(max(0, foot))), slice(left, int(max(0, column + half))))
    rows, columns = canvas.rows[area[0]], canvas.columns[:, area[1]]
    if rows.size == 0 or columns.size == 0:
        return
    up = (foot - rows) / height
    across = (columns - column) / half
    grain = _leaves(canvas, columns.shape[1], rows.shape[0])
    if conifer:
        teeth = 0.15 * np.abs(((up * 7) % 1) - 0.5)
        crown = np.clip(((1 - up) * 0.9 + teeth - np.abs(across)) * half, 0, 1) * (up > 0.12)
    else:
        round_ = 1 - np.hypot(across, (up - 0.64) / 0.36)
        crown = np.clip((round_ + 0.22 * grain) * half, 0, 1)
    trunk = np.clip((0.10 - np.abs(across)) * half + 0.5, 0, 1) * (up < 0.5)
    tint = np.array(canvas.light.tint, np.float32)
    spot = canvas.pixels[area]
    spot += trunk[:, :, None] * (np.array((0.30, 0.22, 0.15), np.float32) * tint - spot)
    shade = 0.75 + 0.22 * across + 0.22 * grain + 0.2 * up
    spot += crown[:, :, None] * (colour * tint * shade[:, :, None] - spot)


def _leaves(canvas: _Canvas, width: int, height: int) -> Array:
    """Clumps and single leaves: noise (height, width), about -1 to 1."""
    total = np.zeros((height, width), np.float32)
    for across, strength in ((6, 0.6), (14, 0.4)):
        grid = canvas.rng.standard_normal((max(2, round(across * height / width)), across)).astype(np.float32)
        total += np.float32(strength) * np.asarray(
            Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
        )
    return total


def _water(canvas: _Canvas, top: float, colour: Array) -> Array:
    """Water from a row down to the bottom of the picture, waves shorter towards the horizon; its opacity."""
    depth = np.clip((canvas.rows - top) / (canvas.height - top), 0, 1)
    opacity = np.broadcast_to(np.clip(canvas.rows - top + 0.5, 0, 1), (canvas.height, canvas.width)).astype(np.float32)
    phase = canvas.noise(4, stretch=2, octaves=2) * 2.5
    waves = np.sin(26 * np.log(depth * 12 + 0.4) + phase) * canvas.noise(7, stretch=4, octaves=2)
    sky = np.array(canvas.light.horizon, np.float32)
    mixed = 0.65 * colour + 0.35 * sky
    canvas.paint(opacity, mixed, 0.95 - 0.25 * depth + 0.34 * waves)
    return opacity


# The scenes. Each composes the parts in its own way, with colours that the others have too.


def _coast(canvas: _Canvas) -> None:
    """Sea to the horizon, a beach that runs out to one side, foam between them."""
    horizon = canvas.uniform(0.3, 0.5)
    _sky(canvas, horizon)
    if canvas.rng.random() < 0.5:
        _headland(canvas, horizon)
    sea = np.array(
        ((0.15, 0.42, 0.62), (0.14, 0.48, 0.48), (0.32, 0.40, 0.46))[int(canvas.rng.integers(3))], np.float32
    )
    _water(canvas, horizon * canvas.height, sea)
    side = canvas.rng.choice((-1.0, 1.0))
    slope = canvas.uniform(0.15, 0.5) * side
    shore = canvas.uniform(0.72, 0.86) + slope * (canvas.columns[0] / canvas.width - 0.5)
    shore = np.maximum(shore, horizon + 0.06) * canvas.height + canvas.ridge(0, 0.02, 4, octaves=3)
    beach = canvas.below(shore.astype(np.float32))
    canvas.paint(
        beach,
        canvas.ground("sand", "sand", "rock", "snow", "slate"),
        0.95 + 0.05 * canvas.noise(40, octaves=2),
    )
    for offset in canvas.rng.uniform(-0.10, 0.02, 3):
        line = shore + (offset + 0.012 * canvas.noise(6)[0]) * canvas.height
        foam = np.exp(-(((canvas.rows - line[None, :]) / (0.010 * canvas.height)) ** 2)).astype(np.float32)
        canvas.paint(foam * np.float32(0.8), np.array((0.95, 0.97, 0.98), np.float32))
    if canvas.rng.random() < 0.35:
        _sail(canvas, horizon)


def _headland(canvas: _Canvas, horizon: float) -> None:
    reach = canvas.uniform(0.2, 0.5)
    across = canvas.columns[0] / canvas.width
    across = across if canvas.rng.random() < 0.5 else 1 - across
    height = np.clip(1 - across / reach, 0, 1) ** 0.6 * canvas.uniform(0.06, 0.16)
    line = canvas.ridge(horizon, 0.01, 8) - (height * canvas.height).astype(np.float32)
    opacity = canvas.below(line) * (height > 0)[None, :].astype(np.float32)
    canvas.paint(opacity, canvas.ground("rock", "dark", "grass", "clay"), 0.8 + 0.2 * canvas.noise(20))
    canvas.haze(opacity, 0.6)


def _sail(canvas: _Canvas, horizon: float) -> None:
    size = canvas.uniform(0.05, 0.1) * canvas.height
    column, foot = canvas.uniform(0.15, 0.85) * canvas.width, (horizon + 0.05) * canvas.height
    up = np.clip((foot - canvas.rows) / size, 0, 1)
    inside = (canvas.columns >= column) & (canvas.columns - column < 0.6 * size * (1 - up))
    opacity = (inside & (up > 0) & (up < 1)).astype(np.float32)
    canvas.paint(opacity, np.array((0.95, 0.94, 0.9), np.float32))


def _desert(canvas: _Canvas) -> None:
    """Dunes: smooth ridges, one side lit and one in shadow, ripples in the sand."""
    horizon = canvas.uniform(0.25, 0.45)
    _sky(canvas, horizon)
    sand = canvas.ground("sand", "sand", "clay", "autumn", "snow", "rock")
    side = canvas.rng.choice((-1.0, 1.0))
    num_dunes = int(canvas.rng.integers(3, 6))
    for number in range(num_dunes):
        near = number / (num_dunes - 1)
        level = horizon + (0.95 - horizon) * near**1.3 * 0.75
        crest = _smooth(canvas.ridge(level, 0.03 + 0.07 * near, canvas.uniform(1, 3), octaves=2), 0.10 * canvas.width)
        opacity = canvas.below(crest)
        depth = np.clip((canvas.rows - crest[None, :]) / (0.35 * canvas.height), 0, 1)
        spine = (canvas.columns / canvas.width - canvas.uniform(0.2, 0.8)) * side - 0.6 * depth
        spine = spine + 0.08 * np.sin(depth * canvas.uniform(4, 8))
        lit = 1 / (1 + np.exp(-np.clip(spine * canvas.uniform(14, 40), -30, 30)))
        ripples = 0.04 * near * np.sin((canvas.rows + 6 * canvas.noise(3, octaves=1)) * 1.3) * (depth > 0.05)
        canvas.paint(opacity, sand, (0.45 + 0.65 * lit + 0.12 * depth + ripples).astype(np.float32))
        canvas.haze(opacity, 0.7 * (1 - near))


def _smooth(line: Array, width: float) -> Array:
    """A line of heights without its corners."""
    size = max(3, int(width))
    window = np.hanning(size + 2)[1:-1]
    padded = np.pad(line, size, mode="edge")
    smooth = np.convolve(padded, window / window.sum(), mode="same")
    return smooth[size:-size].astype(np.float32)


def _forest(canvas: _Canvas) -> None:
    """Trees to all sides: rows of trunks or of conifers, nearer ones larger and darker."""
    _sky(canvas, 0.6)
    floor = canvas.uniform(0.5, 0.7)
    _hills(canvas, floor - 0.1, 0.9, "dark", "grass", "slate")
    ground = canvas.ground("grass", "autumn", "snow", "dark", "clay")
    opacity = canvas.below(canvas.ridge(floor, 0.02, 4))
    canvas.paint(opacity, ground, 0.8 + 0.15 * canvas.noise(40))
    leaves = canvas.ground("dark", "dark", "grass", "autumn", "snow")
    conifer = bool(canvas.rng.random() < 0.5)
    for near in (0.0, 0.35, 0.7, 1.0):
        height = (0.42 + 0.55 * near) * canvas.height
        step = height * (0.30 if conifer else 0.5)
        foot = (floor + 0.02 + (0.97 - floor) * near**1.5) * canvas.height
        keep = 1.0 if near < 0.6 else 0.6
        for column in np.arange(canvas.uniform(-0.5, 0.5) * step, canvas.width + step, step):
            if canvas.rng.random() > keep:
                continue
            _tree(
                canvas,
                column + canvas.uniform(-0.3, 0.3) * step,
                foot + canvas.uniform(-0.03, 0.03) * canvas.height,
                height * canvas.uniform(0.75, 1.25),
                leaves * np.float32(canvas.uniform(0.7, 1.1)),
                conifer=conifer,
            )
        canvas.haze(np.ones((canvas.height, canvas.width), np.float32), 0.35 * (1 - near))


def _mountain(canvas: _Canvas) -> None:
    """Jagged ranges one behind the other, faces lit from one side, snow on the peaks."""
    _sky(canvas, 0.7)
    side = canvas.rng.choice((-1.0, 1.0))
    rock = canvas.ground("rock", "slate", "clay", "dark", "sand")
    num_ranges = int(canvas.rng.integers(2, 4))
    for number in range(num_ranges):
        near = number / num_ranges
        level = 0.42 + 0.28 * near + canvas.uniform(-0.03, 0.03)
        line = canvas.ridge(level, 0.21 - 0.06 * near, canvas.uniform(2, 3.5), octaves=6)
        _range(canvas, line, rock, side, snow=canvas.uniform(0.10, 0.24) if number < 2 else 0.0)
        canvas.haze(canvas.below(line), 0.8 * (1 - near))
    if canvas.rng.random() < 0.8:
        _hills(canvas, canvas.uniform(0.82, 0.9), 0.1, "grass", "dark", "autumn", "snow", "sand")


def _range(canvas: _Canvas, line: Array, rock: Array, side: float, snow: float) -> None:
    """One range: a face takes the light of the slope above it, carried down askew."""
    under = np.clip(canvas.rows - line[None, :], 0, None)
    slope = np.gradient(_smooth(line, 0.05 * canvas.width)) * side
    shift = (under * 0.7 * side + 4 * canvas.noise(9)).astype(np.int64)
    face = slope[np.clip(np.arange(canvas.width)[None, :] + shift, 0, canvas.width - 1)]
    shade = 0.72 + 0.38 * np.tanh(face * 1.6) + 0.10 * canvas.noise(30)
    opacity = canvas.below(line)
    canvas.paint(opacity, rock, shade.astype(np.float32))
    if snow:
        edge = (snow + 0.05 * canvas.noise(16)) * canvas.height
        height = np.clip((0.55 * canvas.height - line) / (0.25 * canvas.height), 0.15, 1)[None, :]
        cap = opacity * np.clip((edge * height - under) / 3, 0, 1)
        canvas.paint(
            cap.astype(np.float32),
            np.array((0.95, 0.96, 1.0), np.float32),
            (0.25 + 0.75 * shade).astype(np.float32),
        )


def _city(canvas: _Canvas) -> None:
    """A skyline: rows of towers one behind the other, with windows that are lit at night, and a street."""
    street = canvas.uniform(0.8, 0.93)
    _sky(canvas, street)
    dark = canvas.light in (_DUSK, _NIGHT)
    for near in (0.0, 0.5, 1.0):
        tops = canvas.uniform(0.28, 0.42) + 0.14 * near
        column = -canvas.uniform(0, 0.1) * canvas.width
        while column < canvas.width:
            width = canvas.uniform(0.05, 0.10) * (1 + near) * canvas.width
            top = (tops + canvas.uniform(-0.16, 0.24)) * canvas.height
            if canvas.rng.random() < 0.9:
                _tower(canvas, column, top, column + width, street * canvas.height, near, dark=dark)
            column += width * canvas.uniform(0.9, 1.25)
        air = np.clip((canvas.rows / canvas.height - tops + 0.1) * 6, 0, 1) + 0 * canvas.columns
        canvas.haze(air.astype(np.float32), 0.45 * (1 - near))
    pavement = canvas.below(np.full(canvas.width, street * canvas.height, np.float32))
    canvas.paint(pavement, canvas.ground("rock", "slate", "snow", "clay"), 0.7 + 0.06 * canvas.noise(30))


def _tower(canvas: _Canvas, left: float, top: float, right: float, bottom: float, near: float, *, dark: bool) -> None:
    """One building: a wall, a shaded edge, a grid of windows."""
    wall = canvas.ground("rock", "slate", "clay", "sand", "snow")
    canvas.fill(canvas.rectangle(left, top, right, bottom), wall * np.float32(0.85))
    canvas.fill(canvas.rectangle(left + 0.8 * (right - left), top, right, bottom), wall * np.float32(0.6))
    if canvas.rng.random() < 0.25:
        middle = (left + right) / 2
        canvas.fill(canvas.rectangle(middle, top - 0.06 * canvas.height, middle + 1.5, top), wall * np.float32(0.5))
    pitch = (0.020 + 0.016 * near) * canvas.width
    glass = wall * np.float32(0.35) if canvas.rng.random() < 0.6 else np.clip(wall * np.float32(1.35), 0, 1)
    glow = np.array((1.0, 0.85, 0.5), np.float32)
    for row in np.arange(top + 0.6 * pitch, bottom - pitch, pitch * 1.25):
        for column in np.arange(left + 0.4 * pitch, right - 0.6 * pitch, pitch):
            area = canvas.rectangle(column, row, column + 0.55 * pitch, row + 0.65 * pitch)
            if dark and canvas.rng.random() < 0.4:
                canvas.pixels[area] = glow * np.float32(canvas.uniform(0.6, 1.0))
            else:
                canvas.fill(area, glass)


def _field(canvas: _Canvas) -> None:
    """Flat land: furrows that run to one point on a low horizon, a hedge, a few trees."""
    horizon = canvas.uniform(0.36, 0.52)
    _sky(canvas, horizon)
    if canvas.rng.random() < 0.6:
        _hills(canvas, horizon - 0.02, 0.8, "dark", "grass", "slate", "sand")
    crop = canvas.ground("grass", "sand", "autumn", "clay", "snow", "dark")
    row = horizon * canvas.height
    opacity = np.broadcast_to(np.clip(canvas.rows - row + 0.5, 0, 1), (canvas.height, canvas.width)).astype(np.float32)
    depth = np.clip((canvas.rows - row) / (canvas.height - row), 0.01, 1)
    vanishing = canvas.uniform(0.1, 0.9) * canvas.width
    bearing = (canvas.columns - vanishing) / canvas.width / depth
    furrow = np.tanh(2.0 * np.sin(bearing * canvas.uniform(13, 24) + 0.4 * canvas.noise(8, octaves=2)))
    fade = np.clip(depth * 5, 0, 1)
    canvas.paint(opacity, crop, (0.76 + 0.30 * furrow * fade + 0.08 * canvas.noise(40, octaves=2)).astype(np.float32))
    canvas.haze(opacity * (1 - depth) ** 3, 0.7)
    hedge = canvas.ridge(horizon - 0.012, 0.014, 14, octaves=3)
    band = canvas.below(hedge) * np.clip(row + 0.012 * canvas.height - canvas.rows, 0, 1)
    canvas.paint(band.astype(np.float32), canvas.ground("dark", "grass", "autumn"), 0.7)
    leaves = canvas.ground("dark", "grass", "autumn")
    for _ in range(int(canvas.rng.integers(0, 4))):
        height = canvas.uniform(0.08, 0.2) * canvas.height
        _tree(canvas, canvas.uniform(0, 1) * canvas.width, row + 0.15 * height, height, leaves, conifer=False)


_SCENES: dict[str, Callable[[_Canvas], None]] = {
    "coast": _coast,
    "desert": _desert,
    "forest": _forest,
    "mountain": _mountain,
    "city": _city,
    "field": _field,
}
