"""A folder in a tar or tar.gz archive, such as SUN397.tar.gz as it was published.

If everything lies in one folder, as is the custom, that folder is the source: its images have the paths that they would
have unpacked. Lists may lie in the archive or beside it, loose or in SUN397's Partitions.zip.
"""

from __future__ import annotations

from sunspark import storage
from sunspark.data.sources.archive import Archive
from sunspark.data.sources.left_out import leave_out_hidden, leave_out_no_files, leave_out_others
from sunspark.data.sources.listing import IMAGE_SUFFIXES, Found, FoundImage, is_hidden, is_image_name
from sunspark.data.sources.lists import CLASS_LIST, MOST_LIST_BYTES, is_list_name, read_lists, unzipped
from sunspark.errors import SourceError


def is_list_to_read(path: str, size_bytes: int) -> bool:
    """Whether a member of an archive is a list, in the source's own folder."""
    return path.count("/") <= 1 and is_list_name(path.rpartition("/")[2]) and size_bytes <= MOST_LIST_BYTES


def find_in_tar(source: str, archive: Archive) -> Found:
    """The images of the archive at `source`."""
    no_files = leave_out_no_files(
        archive.left_out, "no files in it (links that lead nowhere, devices, paths that lead outside)"
    )
    visible = [path for path in archive.members if not is_hidden(path)]
    images = sorted(filter(is_image_name, visible))
    hidden = leave_out_hidden(archive.members)
    if not images:
        raise SourceError(
            f"{source} holds no images ({len(visible)} other files); it needs one folder per class with files that end "
            f"in {', '.join(IMAGE_SUFFIXES)}"
        )
    root = _root_of(images, archive)
    others = leave_out_others([path.removeprefix(root) for path in visible])
    inside = {path.removeprefix(root): kept for path, kept in archive.kept.items()}
    lists = {name: body for name, body in inside.items() if is_list_name(name) and isinstance(body, bytes)}
    beside = read_lists(storage.parent(source))
    return Found(
        images=[
            FoundImage(
                path=path.removeprefix(root),
                size_bytes=archive.members[path].size_bytes,
                container=archive.container,
                position=archive.members[path].offset,
            )
            for path in images
        ],
        lists=beside | unzipped(lists, source),
        left_out=others | hidden | no_files,
    )


def _root_of(images: list[str], archive: Archive) -> str:
    """The folder, with its `/`, in which everything lies that counts; empty when that is the archive itself."""
    if any(path == CLASS_LIST for path in archive.kept):
        return ""
    first = images[0].partition("/")[0] + "/"
    is_custom = all(path.startswith(first) and path.count("/") >= 2 for path in images)
    return first if is_custom else ""
