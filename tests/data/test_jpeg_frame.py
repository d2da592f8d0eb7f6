"""What a JPEG's header says of its kind: the kinds that no decoder here takes are called by their names."""

import pytest

from sunspark.data.jpeg_frame import odd_kind
from tests.data.odd_images import quadrants, saved

PLAIN = saved(quadrants(), "JPEG")
FRAME = PLAIN.index(b"\xff\xc0")


def of_kind(marker: int, bits: int = 8) -> bytes:
    return PLAIN[:FRAME] + bytes((0xFF, marker)) + PLAIN[FRAME + 2 : FRAME + 4] + bytes((bits,)) + PLAIN[FRAME + 5 :]


@pytest.mark.parametrize(
    ("marker", "bits", "said"),
    [
        (0xC0, 8, ""),
        (0xC2, 8, ""),
        (0xC9, 8, ""),
        (0xC1, 12, "it has 12 bits a channel, 8 are decoded here; convert it"),
        (0xC2, 12, "it has 12 bits a channel, 8 are decoded here; convert it"),
        (0xC3, 16, "it is lossless JPEG, which is not decoded here; convert it"),
        (0xCB, 8, "it is lossless JPEG, which is not decoded here; convert it"),
        (0xC5, 8, "it is hierarchical JPEG, which is not decoded here; convert it"),
        (0xCE, 12, "it is hierarchical JPEG, which is not decoded here; convert it"),
    ],
)
def test_kinds_have_names(marker: int, bits: int, said: str) -> None:
    assert odd_kind(of_kind(marker, bits)) == said


def test_padding_and_markers_without_a_segment_are_passed_over() -> None:
    body = of_kind(0xC1, 12)
    assert odd_kind(body[:2] + b"\xff\xff\xff\x01\xff\xd0" + body[2:]).startswith("it has 12 bits")


NO_FRAME = [b"", b"\xff\xd8", PLAIN[: FRAME + 4], b"\xff\xd8no marker", b"\xff\xd8" + b"\xff" * 99]


def test_a_header_without_end_is_not_followed_to_its_end() -> None:
    assert odd_kind(PLAIN[:2] + b"\xff" * 2**20 + of_kind(0xC3)[2:]) == ""


@pytest.mark.parametrize("body", NO_FRAME)
def test_where_there_is_no_frame_nothing_is_said(body: bytes) -> None:
    assert odd_kind(body) == ""
