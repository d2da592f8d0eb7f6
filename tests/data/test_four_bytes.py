"""Laws of memory that is used again: one for each thread, no larger than it may be, and the image lies in it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sunspark.data import four_bytes as module
from sunspark.data.four_bytes import ReusedMemory


def test_the_array_and_the_image_are_the_same_memory() -> None:
    pixels, for_resampler = ReusedMemory().image(3, 5)
    image = for_resampler.pil_image
    pixels[:] = np.arange(60, dtype=np.uint8).reshape(3, 5, 4)
    assert image.size == (5, 3)
    assert image.getpixel((4, 2)) == (56, 57, 58, 59)


def test_images_share_memory_and_those_of_a_size_are_one() -> None:
    memory = ReusedMemory()
    large = memory.image(40, 50)
    small = memory.image(7, 9)
    assert np.shares_memory(large.pixels, small.pixels)
    assert memory.image(40, 50) is large
    assert memory.image(50, 40).pixels.shape == (50, 40, 4)


def test_memory_that_grows_is_let_go_with_the_images_in_it() -> None:
    memory = ReusedMemory()
    small, large = memory.image(7, 9).pixels, memory.image(40, 50).pixels
    assert not np.shares_memory(small, large)
    assert np.shares_memory(memory.image(7, 9).pixels, large)


def test_a_large_image_is_not_kept() -> None:
    memory = ReusedMemory()
    large = memory.image(1024, 1025)
    assert large.pixels.shape == (1024, 1025, 4)
    assert memory.image(1024, 1025) is not large
    assert memory._memory.nbytes == 0


def test_no_more_sizes_are_kept_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_SIZES", 5)
    memory = ReusedMemory()
    for width in range(29, 0, -1):
        latest = memory.image(2, width)
        assert len(memory._images) <= 5
    assert memory.image(2, 1) is latest


def test_each_thread_has_memory_of_its_own() -> None:
    memory = ReusedMemory()
    mine = memory.image(8, 8).pixels
    with ThreadPoolExecutor(1) as pool:
        assert not np.shares_memory(pool.submit(lambda: memory.image(8, 8).pixels).result(), mine)
