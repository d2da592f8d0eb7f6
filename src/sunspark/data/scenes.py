"""Sample scenes: landscapes drawn from sky, sea, hills, dunes, trees and buildings.

Made for trying things out where there are no photographs. A class is a way to compose a picture; hour,
weather and season are drawn apart from it and shared by all classes, so that colours alone do not tell a
coast from a city. Each composition lays `scene_parts` on a `scene_canvas`.
Cost: about 15 ms of one core per image (benchmarks/stages.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from sunspark import storage
from sunspark.config import refuse_other_seeds
from sunspark.data.codec import encode_jpeg
from sunspark.data.scene_canvas import DUSK, NIGHT, Canvas
from sunspark.data.scene_parts import headland, hills, mountain_range, sail, sky, smooth, tower, tree, water
from sunspark.errors import ConfigError, SourceError


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleResult:
    """What was drawn."""

    directory: str
    classes: int
    images: int


def draw_scenes(directory: str, *, num_classes: int = 6, images_per_class: int = 100, seed: int = 0) -> SampleResult:
    """Draw sample scenes into a folder of class folders; the same arguments give the same bytes.

    Raises ConfigError for more classes than can be drawn and for a negative seed, SourceError when the directory holds
    other files.
    """
    if not 2 <= num_classes <= len(_SCENES):
        raise ConfigError(
            f"num_classes must be 2 to {len(_SCENES)}, got {num_classes}; the scenes are {', '.join(_SCENES)}"
        )
    if images_per_class < 1:
        raise ConfigError(f"images_per_class must be at least 1, got {images_per_class}; use 100 if in doubt")
    refuse_other_seeds(seed)
    names = tuple(_SCENES)[:num_classes]
    _refuse_other_files(directory, names, images_per_class)
    numbers = [(name, number) for name in names for number in range(images_per_class)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(lambda scene: _draw_into(directory, scene[0], scene[1], seed), numbers):
            pass
    return SampleResult(directory=directory, classes=num_classes, images=num_classes * images_per_class)


def draw_scene(name: str, number: int, seed: int = 0) -> bytes:
    """The JPEG of one scene: picture `number` of the class `name`."""
    canvas = Canvas(np.random.default_rng([seed, list(_SCENES).index(name), number]))
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


# The scenes. Each composes the parts in its own way, with colours that the others have too.


def _coast(canvas: Canvas) -> None:
    """Sea to the horizon, a beach that runs out to one side, foam between them."""
    horizon = canvas.uniform(0.3, 0.5)
    sky(canvas, horizon)
    if canvas.rng.random() < 0.5:
        headland(canvas, horizon)
    sea = np.array(
        ((0.15, 0.42, 0.62), (0.14, 0.48, 0.48), (0.32, 0.40, 0.46))[int(canvas.rng.integers(3))], np.float32
    )
    water(canvas, horizon * canvas.height, sea)
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
        sail(canvas, horizon)


def _desert(canvas: Canvas) -> None:
    """Dunes: smooth ridges, one side lit and one in shadow, ripples in the sand."""
    horizon = canvas.uniform(0.25, 0.45)
    sky(canvas, horizon)
    sand = canvas.ground("sand", "sand", "clay", "autumn", "snow", "rock")
    side = canvas.rng.choice((-1.0, 1.0))
    num_dunes = int(canvas.rng.integers(3, 6))
    for number in range(num_dunes):
        near = number / (num_dunes - 1)
        level = horizon + (0.95 - horizon) * near**1.3 * 0.75
        crest = smooth(canvas.ridge(level, 0.03 + 0.07 * near, canvas.uniform(1, 3), octaves=2), 0.10 * canvas.width)
        opacity = canvas.below(crest)
        depth = np.clip((canvas.rows - crest[None, :]) / (0.35 * canvas.height), 0, 1)
        spine = (canvas.columns / canvas.width - canvas.uniform(0.2, 0.8)) * side - 0.6 * depth
        spine = spine + 0.08 * np.sin(depth * canvas.uniform(4, 8))
        lit = 1 / (1 + np.exp(-np.clip(spine * canvas.uniform(14, 40), -30, 30)))
        ripples = 0.04 * near * np.sin((canvas.rows + 6 * canvas.noise(3, octaves=1)) * 1.3) * (depth > 0.05)
        canvas.paint(opacity, sand, (0.45 + 0.65 * lit + 0.12 * depth + ripples).astype(np.float32))
        canvas.haze(opacity, 0.7 * (1 - near))


def _forest(canvas: Canvas) -> None:
    """Trees to all sides: rows of trunks or of conifers, nearer ones larger and darker."""
    sky(canvas, 0.6)
    floor = canvas.uniform(0.5, 0.7)
    hills(canvas, floor - 0.1, 0.9, "dark", "grass", "slate")
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
            tree(
                canvas,
                column + canvas.uniform(-0.3, 0.3) * step,
                foot + canvas.uniform(-0.03, 0.03) * canvas.height,
                height * canvas.uniform(0.75, 1.25),
                leaves * np.float32(canvas.uniform(0.7, 1.1)),
                conifer=conifer,
            )
        canvas.haze(np.ones((canvas.height, canvas.width), np.float32), 0.35 * (1 - near))


def _mountain(canvas: Canvas) -> None:
    """Jagged ranges one behind the other, faces lit from one side, snow on the peaks."""
    sky(canvas, 0.7)
    side = canvas.rng.choice((-1.0, 1.0))
    rock = canvas.ground("rock", "slate", "clay", "dark", "sand")
    num_ranges = int(canvas.rng.integers(2, 4))
    for number in range(num_ranges):
        near = number / num_ranges
        level = 0.42 + 0.28 * near + canvas.uniform(-0.03, 0.03)
        line = canvas.ridge(level, 0.21 - 0.06 * near, canvas.uniform(2, 3.5), octaves=6)
        mountain_range(canvas, line, rock, side, snow=canvas.uniform(0.10, 0.24) if number < 2 else 0.0)
        canvas.haze(canvas.below(line), 0.8 * (1 - near))
    if canvas.rng.random() < 0.8:
        hills(canvas, canvas.uniform(0.82, 0.9), 0.1, "grass", "dark", "autumn", "snow", "sand")


def _city(canvas: Canvas) -> None:
    """A skyline: rows of towers one behind the other, with windows that are lit at night, and a street."""
    street = canvas.uniform(0.8, 0.93)
    sky(canvas, street)
    dark = canvas.light in (DUSK, NIGHT)
    for near in (0.0, 0.5, 1.0):
        tops = canvas.uniform(0.28, 0.42) + 0.14 * near
        column = -canvas.uniform(0, 0.1) * canvas.width
        while column < canvas.width:
            width = canvas.uniform(0.05, 0.10) * (1 + near) * canvas.width
            top = (tops + canvas.uniform(-0.16, 0.24)) * canvas.height
            if canvas.rng.random() < 0.9:
                tower(canvas, column, top, column + width, street * canvas.height, near, dark=dark)
            column += width * canvas.uniform(0.9, 1.25)
        air = np.clip((canvas.rows / canvas.height - tops + 0.1) * 6, 0, 1) + 0 * canvas.columns
        canvas.haze(air.astype(np.float32), 0.45 * (1 - near))
    pavement = canvas.below(np.full(canvas.width, street * canvas.height, np.float32))
    canvas.paint(pavement, canvas.ground("rock", "slate", "snow", "clay"), 0.7 + 0.06 * canvas.noise(30))


def _field(canvas: Canvas) -> None:
    """Flat land: furrows that run to one point on a low horizon, a hedge, a few trees."""
    horizon = canvas.uniform(0.36, 0.52)
    sky(canvas, horizon)
    if canvas.rng.random() < 0.6:
        hills(canvas, horizon - 0.02, 0.8, "dark", "grass", "slate", "sand")
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
        tree(canvas, canvas.uniform(0, 1) * canvas.width, row + 0.15 * height, height, leaves, conifer=False)


_SCENES: dict[str, Callable[[Canvas], None]] = {
    "coast": _coast,
    "desert": _desert,
    "forest": _forest,
    "mountain": _mountain,
    "city": _city,
    "field": _field,
}
