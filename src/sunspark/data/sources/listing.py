"""What is known of a source without opening an image: its images, where they lie, their labels and splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".avif")
_NOT_DECODED = (".heic", ".heif")
"""They are listed all the same, so that the table of bad images names them."""

ContainerKind = Literal["folder", "tar", "tar.gz", "parquet"]
IN_ORDER_KINDS = frozenset({"tar.gz", "parquet"})
"""Of these, single images cost much more than all of them one after another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Container:
    """A file or folder that holds images; `data/containers.py` reads them out of it."""

    kind: ContainerKind
    uri: str
    size_bytes: int = 0
    """0 for a folder."""
    row_groups: tuple[int, ...] = ()
    """Of Parquet: the first row of each."""
    seek_index: bytes = field(default=b"", repr=False)
    """Of a tar.gz: places where decompression can begin, as gztool writes them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedImage:
    """One image of a source, not opened yet."""

    path: str
    """Relative to the source, parts separated by `/`; of a table: as it stands there. Names the sample for ever."""
    label: int
    splits: int
    """Bit i is set when the image is in split i of the listing."""
    size_bytes: int
    """0 where the source does not tell without being read."""
    container: Container
    position: int = 0
    """In the container: the offset of its bytes, in Parquet its row; nothing in a folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """Everything there is to know about a source without opening an image."""

    source: str
    classes: tuple[str, ...]
    split_names: tuple[str, ...]
    images: tuple[ListedImage, ...]
    """Sorted by path."""
    test_fraction: float | None
    """The share that was split off for the test, None where the source or lists give the splits."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """What lies in the source and was left out before it was opened: kind -> how many (`left_out.py`)."""

    @property
    def is_read_in_order(self) -> bool:
        """Whether some of it lies in containers of which single images are hard to get."""
        return not IN_ORDER_KINDS.isdisjoint({image.container.kind for image in self.images})

    @property
    def fingerprint(self) -> str:
        """A hash over names, sizes, labels and splits: equal for two listings of the same images.

        Times are left out, so that a copied folder is the same; other pixels in a file of the same size are not seen.
        Where images have no sizes, those of the files that hold them count.
        """
        digest = hashlib.sha256(repr((self.classes, self.split_names)).encode())
        for image in self.images:
            digest.update(f"\n{image.path}\0{image.size_bytes}\0{image.label}\0{image.splits}".encode())
        unsized = {image.container.uri: image.container.size_bytes for image in self.images if not image.size_bytes}
        for size_bytes in sorted(unsized.values()):
            digest.update(f"\n{size_bytes}".encode())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundImage:
    """One image as a format finds it: with what the format says about its label and splits."""

    path: str
    size_bytes: int
    container: Container
    position: int = 0
    label: str | int | None = None
    """A class's name, or its number; None where the path tells the class."""
    splits: tuple[str, ...] | None = None
    """None where the format says nothing about splits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a format finds in a source."""

    images: list[FoundImage]
    folders: tuple[str, ...] = ()
    """The folders directly in the source, also those without images."""
    class_names: tuple[str, ...] = ()
    """Of the labels that are numbers, in their order."""
    lists: Mapping[str, bytes] = field(default_factory=dict)
    """ClassName.txt, Training_NN.txt and Testing_NN.txt, where the source has them: name -> content."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """As in Listing."""


def is_image_name(path: str) -> bool:
    """Whether a file is named like an image."""
    return path.lower().endswith((*IMAGE_SUFFIXES, *_NOT_DECODED))


def is_hidden(path: str) -> bool:
    """Whether a relative path is none of ours: hidden, or what macOS leaves in archives."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))
