"""The parts of a landscape: each paints one thing on the canvas, over what is there.

In the order of a picture, from the back to the front. Shapes: H W pixels; a colour is three numbers from 0 to 1.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from sunspark.data.scene_canvas import Array, Canvas


def sky(canvas: Canvas, horizon: float) -> None:
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


def _sun(canvas: Canvas, horizon: float) -> None:
    column, row = canvas.uniform(0.1, 0.9) * canvas.width, canvas.uniform(0.1, 0.9) * horizon * canvas.height
    radius = canvas.uniform(0.02, 0.05) * canvas.width
    distance = np.hypot(canvas.columns - column, canvas.rows - row)
    glow = np.exp(-distance / (5 * radius)) * 0.5 + np.clip(radius - distance + 0.5, 0, 1)
    colour = np.array(canvas.light.sun, np.float32)
    canvas.pixels += np.clip(glow, 0, 1)[:, :, None] * (colour - canvas.pixels)


def hills(canvas: Canvas, level: float, distance: float, *grounds: str) -> None:
    """Soft hills with a grain of fields or woods."""
    line = canvas.ridge(level, canvas.uniform(0.02, 0.06), canvas.uniform(1.5, 4), octaves=3)
    opacity = canvas.below(line)
    canvas.paint(opacity, canvas.ground(*grounds), 0.75 + 0.15 * canvas.noise(14))
    canvas.haze(opacity, distance)


def tree(canvas: Canvas, column: float, foot: float, height: float, colour: Array, *, conifer: bool) -> None:
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


def _leaves(canvas: Canvas, width: int, height: int) -> Array:
    """Clumps and single leaves: noise (height, width), about -1 to 1."""
    total = np.zeros((height, width), np.float32)
    for across, strength in ((6, 0.6), (14, 0.4)):
        grid = canvas.rng.standard_normal((max(2, round(across * height / width)), across)).astype(np.float32)
        total += np.float32(strength) * np.asarray(
            Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
        )
    return total


def water(canvas: Canvas, top: float, colour: Array) -> Array:
    """Water from a row down to the bottom of the picture, waves shorter towards the horizon; its opacity."""
    depth = np.clip((canvas.rows - top) / (canvas.height - top), 0, 1)
    opacity = np.broadcast_to(np.clip(canvas.rows - top + 0.5, 0, 1), (canvas.height, canvas.width)).astype(np.float32)
    phase = canvas.noise(4, stretch=2, octaves=2) * 2.5
    waves = np.sin(26 * np.log(depth * 12 + 0.4) + phase) * canvas.noise(7, stretch=4, octaves=2)
    reflected = np.array(canvas.light.horizon, np.float32)
    mixed = 0.65 * colour + 0.35 * reflected
    canvas.paint(opacity, mixed, 0.95 - 0.25 * depth + 0.34 * waves)
    return opacity


def headland(canvas: Canvas, horizon: float) -> None:
    """Land that runs out into the sea from one side."""
    reach = canvas.uniform(0.2, 0.5)
    across = canvas.columns[0] / canvas.width
    across = across if canvas.rng.random() < 0.5 else 1 - across
    height = np.clip(1 - across / reach, 0, 1) ** 0.6 * canvas.uniform(0.06, 0.16)
    line = canvas.ridge(horizon, 0.01, 8) - (height * canvas.height).astype(np.float32)
    opacity = canvas.below(line) * (height > 0)[None, :].astype(np.float32)
    canvas.paint(opacity, canvas.ground("rock", "dark", "grass", "clay"), 0.8 + 0.2 * canvas.noise(20))
    canvas.haze(opacity, 0.6)


def sail(canvas: Canvas, horizon: float) -> None:
    """One white sail, a triangle that stands just below the horizon."""
    size = canvas.uniform(0.05, 0.1) * canvas.height
    column, foot = canvas.uniform(0.15, 0.85) * canvas.width, (horizon + 0.05) * canvas.height
    up = np.clip((foot - canvas.rows) / size, 0, 1)
    inside = (canvas.columns >= column) & (canvas.columns - column < 0.6 * size * (1 - up))
    opacity = (inside & (up > 0) & (up < 1)).astype(np.float32)
    canvas.paint(opacity, np.array((0.95, 0.94, 0.9), np.float32))


def smooth(line: Array, width: float) -> Array:
    """A line of heights without its corners."""
    size = max(3, int(width))
    window = np.hanning(size + 2)[1:-1]
    padded = np.pad(line, size, mode="edge")
    smoothed = np.convolve(padded, window / window.sum(), mode="same")
    return smoothed[size:-size].astype(np.float32)


def mountain_range(canvas: Canvas, line: Array, rock: Array, side: float, snow: float) -> None:
    """One range: a face takes the light of the slope above it, carried down askew."""
    under = np.clip(canvas.rows - line[None, :], 0, None)
    slope = np.gradient(smooth(line, 0.05 * canvas.width)) * side
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


def tower(canvas: Canvas, left: float, top: float, right: float, bottom: float, near: float, *, dark: bool) -> None:
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
