"""Laws of resampling: Pillow's definition, the same bits on every processor, boxes that end anywhere."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest
from cykooz_resizer import CpuExtensions
from cykooz_resizer.rust_lib import RustResizer
from PIL import Image

from sunspark.data import resize as module
from sunspark.data.four_bytes import four_bytes
from sunspark.data.keyed_random import KeyedRandom
from sunspark.data.resize import Box, resize, shrink

SHAPES = [(1, 1), (1, 300), (300, 1), (7, 5), (256, 341), (700, 450)]
SHRUNK = [((384, 512), (256, 341)), ((800, 300), (683, 256)), ((5, 900), (4, 720)), ((257, 256), (256, 255))]


def noise(height: int, width: int) -> npt.NDArray[np.uint8]:
    return KeyedRandom(0, height, width).noise(height * width * 3).reshape(height, width, 3)


def box_of(pixels: npt.NDArray[np.uint8], box: Box, size: int) -> npt.NDArray[np.uint8]:
    """A copy of what `resize` makes of pixels of three bytes."""
    four = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    return resize(four_bytes(four), box, size)[:, :, :3].copy()


def boxes(height: int, width: int) -> list[Box]:
    return [
        Box(0, 0, height, width),
        Box(height / 3, width / 7, height / 2, width / 3),
        Box(height // 2, width // 2, -(-height // 2), -(-width // 2)),
    ]


@pytest.mark.parametrize("size", [1, 32, 224])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_level_is_further_than_one_from_pillows(shape: tuple[int, int], size: int) -> None:
    pixels = noise(*shape)
    for box in boxes(*shape):
        region = (box.left, box.top, box.left + box.width, box.top + box.height)
        expected = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR, region))
        assert np.abs(box_of(pixels, box, size).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("shape", "size"), SHRUNK)
def test_shrinking_is_pillows_bicubic_of_rows_and_then_of_columns(
    shape: tuple[int, int], size: tuple[int, int]
) -> None:
    pixels, (height, width) = noise(*shape), size
    rows = Image.fromarray(pixels).resize((width, shape[0]), Image.Resampling.BICUBIC)
    expected = np.asarray(rows.resize((width, height), Image.Resampling.BICUBIC))
    shrunk = shrink(pixels, height, width)
    assert shrunk.shape == (height, width, 3)
    assert np.abs(shrunk.astype(int) - expected).max() <= 2


@pytest.mark.parametrize(("shape", "size"), SHRUNK)
def test_the_strips_of_an_image_make_the_whole(
    shape: tuple[int, int], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = shrink(noise(*shape), *size)
    monkeypatch.setattr(module, "_STRIP_PIXELS", 1000)
    assert np.array_equal(shrink(noise(*shape), *size), whole)


def test_every_processor_computes_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = set()
    fastest = RustResizer().get_cpu_extensions()
    for extensions in {CpuExtensions.none.value, fastest}:
        resizer = RustResizer()
        resizer.set_cpu_extensions(extensions)
        monkeypatch.setattr(module._OF_THREAD, "resizer", resizer)
        made = [box_of(noise(*shape), box, 96).tobytes() for shape in SHAPES for box in boxes(*shape)]
        made += [shrink(noise(*shape), *size).tobytes() for shape, size in SHRUNK]
        digests.add(hashlib.sha256(b"".join(made)).hexdigest())
    assert digests == {"14c4f914a447e6ee6e9c13da24c7f12cd37ca3e69b7e5ad9a8459099dfc9fa17"}


def test_the_whole_image_at_its_own_size_is_the_image() -> None:
    pixels = noise(64, 64)
    assert np.array_equal(box_of(pixels, Box(0, 0, 64, 64), 64), pixels)


def test_a_box_may_end_a_rounding_error_outside() -> None:
    """What a third and two thirds of an image come to."""
    for side in range(1, 400):
        for share in (0.1, 1 / 3, 0.7):
            start = side * share
            assert box_of(noise(side, 2), Box(start, 0, side - start + 1e-13 * side, 2), 2).shape == (2, 2, 3)


@pytest.mark.parametrize("box", [Box(-1, 0, 5, 5), Box(0, -0.5, 5, 5), Box(20, 0, 5, 5), Box(0, 11, 5, 5)])
def test_a_box_that_begins_outside_is_refused(box: Box) -> None:
    with pytest.raises((AssertionError, RuntimeError), match=r"outside the image|crop box"):
        box_of(noise(10, 10), box, 4)


def test_a_threads_result_is_not_written_over_by_another_thread() -> None:
    cases = [(noise(*shape), box) for shape in SHAPES for box in boxes(*shape)] * 20
    alone = [box_of(pixels, box, 64).tobytes() for pixels, box in cases]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda case: box_of(case[0], case[1], 64).tobytes(), cases)) == alone
