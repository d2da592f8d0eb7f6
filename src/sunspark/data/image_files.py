"""Image files wherever they are: found folder by folder, read one at a time.

Cost of finding: one listing per folder, about 400 bytes of memory per entry of the largest one; nothing is kept
of a folder that is done.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sunspark import storage
from sunspark.data.image_format import DecodeError
from sunspark.data.sources import IMAGE_SUFFIXES, is_hidden, is_image_name
from sunspark.errors import ConfigError, SourceError, StorageError, SunsparkError, WorkerError, first_line_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFile:
    """An image that was found, not opened yet."""

    path: str
    """As it was named, or below the folder that was."""
    uri: str
    """The same from every working directory."""
    size_bytes: int
    modified_ns: int
    """As in FileEntry."""


def find_images(places: Sequence[str]) -> Iterator[ImageFile]:
    """The images at `places`, in their order: a file whatever its name, a folder with all images below it by name.

    Raises SourceError before the first one when there is nothing at one of the places, or no image.
    """
    if not places:
        raise ConfigError("no image is named; give image files, folders of images, or URIs of either")
    entries = [_entry_at(place) for place in places]
    return _all_images(places, entries)


def read_image(uri: str) -> bytes:
    """The bytes of an image.

    Raises DecodeError (stage read) for what trying again cannot cure, StorageError for trouble that may pass.
    """
    try:
        return storage.read_bytes(uri)
    except StorageError as error:
        reason = _lasting_reason(error.__cause__)
        if reason:
            raise DecodeError("read", reason) from error
        raise


@contextlib.contextmanager
def failures_named(path: str) -> Iterator[None]:
    """For the decoding of the image at `path`: what nobody expected becomes WorkerError that names it."""
    try:
        yield
    except SunsparkError:
        raise
    except Exception as error:
        raise WorkerError(
            f"{path} cannot be decoded: unexpected {type(error).__name__}: {first_line_of(error)}; take it out"
        ) from error


def _lasting_reason(cause: BaseException | None) -> str:
    """Why reading fails and always will; empty for what may pass."""
    if isinstance(cause, FileNotFoundError):
        return "there is no such file, or a link that leads nowhere"
    if isinstance(cause, PermissionError):
        return "it may not be read; check its owner and mode"
    if isinstance(cause, OSError) and cause.errno == errno.ELOOP:
        return "it is a link that leads in a circle"
    return ""


def _entry_at(place: str) -> storage.FileEntry:
    entry = storage.entry_at(storage.absolute(place))
    if entry is None:
        raise SourceError(f"there is nothing at {place}; check the path")
    if entry.is_directory:
        if next(_images_below(place, entry.uri), None) is None:
            raise SourceError(f"{place} holds no images: no file in it ends in {', '.join(IMAGE_SUFFIXES)}")
    elif not entry.is_file:
        raise SourceError(f"{place} is no file (a pipe, socket or device); give an image or a folder")
    return entry


def _all_images(places: Sequence[str], entries: Sequence[storage.FileEntry]) -> Iterator[ImageFile]:
    for place, entry in zip(places, entries, strict=True):
        if entry.is_directory:
            yield from _images_below(place, entry.uri)
        else:
            yield _image_file(place, entry)


def _images_below(path: str, uri: str) -> Iterator[ImageFile]:
    """The images in a folder and below: in a loop, since folders may be deeper than Python recurses."""
    seen: set[Path] = set()
    entered: list[tuple[Path | None, Iterator[tuple[str, storage.FileEntry]]]] = []

    def enter(path: str, uri: str, above: Path | None) -> None:
        real = _real_folder(uri, above)
        if real in seen:
            logger.warning("%s leads to a folder that is listed already (%s); it is not followed", path, real)
            return
        if real is not None:
            seen.add(real)
        entries = storage.list_directory(uri)
        entered.append((real, ((storage.join(path, one.name), one) for one in entries if not is_hidden(one.name))))

    enter(path, uri, None)
    while entered:
        real, entries = entered[-1]
        path, entry = next(entries, ("", None))
        if entry is None:
            entered.pop()
        elif entry.is_directory:
            enter(path, entry.uri, real)
        elif entry.is_file and is_image_name(entry.name):
            yield _image_file(path, entry)


def _real_folder(uri: str, above: Path | None) -> Path | None:
    """The local folder that a URI leads to, in the folder `above` if it is no link; None elsewhere."""
    local = storage.as_local_path(uri)
    if local is None:
        return None
    return local.resolve() if above is None or local.is_symlink() else above / local.name


def _image_file(path: str, entry: storage.FileEntry) -> ImageFile:
    return ImageFile(path=path, uri=entry.uri, size_bytes=entry.size_bytes, modified_ns=entry.modified_ns)
