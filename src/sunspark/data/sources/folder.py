"""A folder of images, of any depth: what lies in which folder is told by paths alone."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from sunspark import storage
from sunspark.data.sources.listing import IMAGE_SUFFIXES, Container, Found, FoundImage, is_hidden, is_image_name
from sunspark.data.sources.lists import is_list_name, read_lists
from sunspark.errors import SourceError, first_five, plural

logger = logging.getLogger(__name__)

_MOST_SUFFIXES: Final = 5


def find_in_folder(source: str, entries: Sequence[storage.FileEntry]) -> Found:
    """The images below the folder `source`, of which `entries` is the whole tree."""
    visible = [entry for entry in entries if not is_hidden(entry.name)]
    special = [entry.name for entry in visible if not (entry.is_file or entry.is_directory)]
    if special:
        logger.warning("left out, because no files (pipes, sockets, devices): %s", first_five(special))
    files = [entry for entry in visible if entry.is_file]
    images = [entry for entry in files if is_image_name(entry.name)]
    warn_of_hidden([entry.name for entry in entries if entry.is_file])
    if not images:
        raise SourceError(
            f"{source} holds no images ({sum(not entry.is_directory for entry in entries)} other files); it needs one "
            f"folder per class with files that end in {', '.join(IMAGE_SUFFIXES)}"
        )
    warn_of_others([entry.name for entry in files])
    container = Container(kind="folder", uri=source)
    return Found(
        images=[
            FoundImage(path=entry.name, size_bytes=entry.size_bytes, container=container)
            for entry in sorted(images, key=lambda entry: entry.name)
        ],
        folders=tuple(entry.name for entry in visible if entry.is_directory and "/" not in entry.name),
        lists=read_lists(source) if any(is_list_name(entry.name) for entry in files) else {},
    )


def warn_of_others(names: Sequence[str]) -> None:
    """Say which files among the images are left out."""
    others = [name for name in names if "/" in name and not is_image_name(name)]
    if others:
        logger.warning(
            "%s named like no image and left out (%s), for instance %s; images end in %s",
            plural(len(others), "file is", "files are"), _by_suffix(others), others[0], ", ".join(IMAGE_SUFFIXES),
        )  # fmt: skip


def warn_of_hidden(names: Iterable[str]) -> None:
    """Say which images are left out for their names."""
    if hidden := [name for name in names if is_hidden(name) and is_image_name(name)]:
        logger.warning(
            "%s hidden and left out (a name or folder that begins with a dot, or __MACOSX), for instance %s; rename "
            "those that are meant",
            plural(len(hidden), "image is", "images are"), hidden[0],
        )  # fmt: skip


def _by_suffix(names: Sequence[str]) -> str:
    """`.mp4 12, .db 1`, the commonest first."""
    counts = Counter(os.path.splitext(name)[1].lower() or "no suffix" for name in names)
    return ", ".join(f"{suffix} {count}" for suffix, count in counts.most_common(_MOST_SUFFIXES))
