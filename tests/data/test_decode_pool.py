"""Laws of the chunks in which threads take the samples of a request; the rest of the pool is seen in the loader."""

import pytest

from sunspark.data.decode_pool import chunks_of


@pytest.mark.parametrize(
    ("blocks", "chunks"),
    [
        ([], []),
        ([7], [[0]]),
        ([7, 7, 7, 7, 7], [[0, 1, 2, 3], [4]]),
        ([1, 2, 1, 2], [[0, 2], [1, 3]]),
        ([1, 1, 1, 1, 1, 2, 2, 2, 2, 2], [[0, 1, 2, 3], [5, 6, 7, 8], [4], [9]]),
    ],
)
def test_a_chunk_is_of_one_block_and_blocks_take_turns(blocks: list[int], chunks: list[list[int]]) -> None:
    assert chunks_of(blocks) == chunks


def test_every_sample_is_in_one_chunk() -> None:
    blocks = [number * number % 11 for number in range(100)]
    chunks = chunks_of(blocks)
    assert sorted(index for chunk in chunks for index in chunk) == list(range(100))
    assert all(len({blocks[index] for index in chunk}) == 1 for chunk in chunks)
