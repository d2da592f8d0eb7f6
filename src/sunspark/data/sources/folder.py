"""A folder of images, of any depth: what lies in which folder is told by paths alone."""

from __future__ import annotations

from collections.abc import Sequence

from sunspark import storage
from sunspark.data.sources.left_out import leave_out_hidden, leave_out_no_files, leave_out_others
from sunspark.data.sources.listing import IMAGE_SUFFIXES, Container, Found, FoundImage, is_hidden, is_image_name
from sunspark.data.sources.lists import is_list_name, read_lists
from sunspark.errors import SourceError


def find_in_folder(source: str, entries: Sequence[storage.FileEntry]) -> Found:
    """The images below the folder `source`, of which `entries` is the whole tree."""
    visible = [entry for entry in entries if not is_hidden(entry.name)]
    special = [entry.name for entry in visible if not (entry.is_file or entry.is_directory)]
    no_files = leave_out_no_files(special, "no files (pipes, sockets, devices)")
    files = [entry for entry in visible if entry.is_file]
    images = [entry for entry in files if is_image_name(entry.name)]
    hidden = leave_out_hidden(entry.name for entry in entries if entry.is_file)
    if not images:
        raise SourceError(
            f"{source} holds no images ({sum(not entry.is_directory for entry in entries)} other files); it needs one "
            f"folder per class with files that end in {', '.join(IMAGE_SUFFIXES)}"
        )
    others = leave_out_others([entry.name for entry in files])
    container = Container(kind="folder", uri=source)
    return Found(
        images=[
            FoundImage(path=entry.name, size_bytes=entry.size_bytes, container=container)
            for entry in sorted(images, key=lambda entry: entry.name)
        ],
        folders=tuple(entry.name for entry in visible if entry.is_directory and "/" not in entry.name),
        lists=read_lists(source) if any(is_list_name(entry.name) for entry in files) else {},
        left_out=others | hidden | no_files,
    )
