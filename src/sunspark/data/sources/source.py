"""What kind of source a URI is, and its listing.

Cost: one recursive listing of a folder, in parallel by its folders on object stores; of a tar its headers, of a tar.gz
one decompression, of Parquet footers and labels. Some 200 bytes of memory an image, and 470 at most while a folder is
listed (paths of 32 letters).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Literal

from sunspark import storage
from sunspark.data.sources.archive import Archive, Kept, scan_archive
from sunspark.data.sources.folder import find_in_folder
from sunspark.data.sources.labels import label_images
from sunspark.data.sources.listing import Found, ListedImage, Listing, is_hidden, is_image_name
from sunspark.data.sources.lists import CLASS_LIST, is_list_name
from sunspark.data.sources.near_names import warn_of_near_names
from sunspark.data.sources.parquet import find_in_parquet, opened_parquet
from sunspark.data.sources.scan import Scan, Watched, unwatched
from sunspark.data.sources.shards import refuse_missing_shards
from sunspark.data.sources.splits import split_images, told_by_folders
from sunspark.data.sources.table import TABLE_SUFFIXES, find_in_table, is_table
from sunspark.data.sources.tar import find_in_tar, is_list_to_read
from sunspark.data.sources.webdataset import find_in_shards, is_webdataset, label_parser, read_class_names
from sunspark.errors import SourceError, first_five, plural
from sunspark.limits import usable_cores

SourceFormat = Literal["auto", "folder", "tar", "parquet", "webdataset", "table"]

_TAR_SUFFIXES: Final = (".tar", ".tar.gz", ".tgz")
_ZIP_SUFFIX: Final = ".zip"
_TOLD_SUFFIXES: Final = (_ZIP_SUFFIX, ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
"""Of archives that are not read: it is told what to do with them."""
_PARQUET_SUFFIX: Final = ".parquet"
_SHARDS_AT_ONCE: Final = 8


def list_source(
    source: str,
    *,
    source_format: SourceFormat = "auto",
    labels: str | None = None,
    split_lists: Sequence[str] = (),
    test_fraction: float | None = None,
    seed: int = 0,
    watched: Watched = unwatched,
) -> Listing:
    """List the images of `source` with their labels and splits.

    `labels` is a file of class names, one a line. `split_lists` holds `NAME=FILE` entries. `test_fraction` (0.2 when
    None) counts only where neither the source nor lists give splits, or `train` alone, and is refused elsewhere.
    `watched` is around the passes over archives.
    Raises SourceError for a source that cannot be used as it is: no images, a class without images, a list that names
    files that do not exist.
    """
    found = _find(source, source_format, watched)
    if labels is None and CLASS_LIST not in found.lists:
        found = told_by_folders(found)
    classes, numbers = label_images(source, found, labels)
    label_of = {image.path: label for image, label in zip(found.images, numbers, strict=True)}
    if len(label_of) < len(found.images):
        num_images = len(found.images) - len(label_of)
        many = plural(num_images, f"image of {source} has", f"images of {source} have")
        raise SourceError(f"{many} the path of another; rename them")
    split_names, splits_of, share = split_images(source, found, label_of, split_lists, test_fraction, seed)
    warn_of_near_names(source, "class", "classes", classes, Counter(numbers).__getitem__)
    warn_of_near_names(
        source, "split", "splits", split_names, lambda split: sum(bits >> split & 1 for bits in splits_of.values())
    )
    images = (
        ListedImage(
            path=image.path,
            label=label_of[image.path],
            splits=splits_of.get(image.path, 0),
            size_bytes=image.size_bytes,
            container=image.container,
            position=image.position,
        )
        for image in sorted(found.images, key=lambda image: image.path)
    )
    return Listing(
        source=source,
        classes=classes,
        split_names=split_names,
        images=tuple(images),
        test_fraction=share,
        left_out=found.left_out,
    )


def _find(source: str, source_format: SourceFormat, watched: Watched) -> Found:
    entry = storage.entry_at(source)
    if entry is None:
        raise SourceError(f"{source} does not exist; give the folder that holds the images, an archive or a table")
    if entry.is_directory:
        return _find_in_directory(source, source_format, watched)
    if not entry.is_file:
        raise SourceError(f"{source} is no file (a pipe, socket or device); give a folder, an archive or a table")
    return _find_in_file(source, entry, source_format, watched)


def _find_in_file(source: str, entry: storage.FileEntry, source_format: SourceFormat, watched: Watched) -> Found:
    if source_format == "auto":
        source_format = _format_of_file(source, entry.name.lower())
    if source_format == "table":
        return find_in_table(source)
    if source_format == "parquet":
        return find_in_parquet(source, [entry])
    if source_format == "folder":
        raise SourceError(f"{source} is a file; give a folder, or another --source-format")
    scan = Scan(size_bytes=entry.size_bytes)
    with watched([scan]):
        archive = scan_archive(source, scan, _wants, threads_each(1, usable_cores()))
    if source_format == "webdataset" or (source_format == "auto" and is_webdataset(archive)):
        return find_in_shards(source, {entry.name: archive}, read_class_names(storage.parent(source)))
    return find_in_tar(source, archive)


def _format_of_file(source: str, name: str) -> SourceFormat:
    """By its name; `auto` where an archive must be looked into."""
    if name.endswith((*_TAR_SUFFIXES, *_TOLD_SUFFIXES)):
        return "auto"
    if name.endswith(_PARQUET_SUFFIX):
        with opened_parquet(source) as parquet:
            schema = parquet.schema_arrow
        return "table" if is_table(schema) else "parquet"
    if name.endswith(TABLE_SUFFIXES):
        return "table"
    raise SourceError(
        f"{source} is a file of no known kind; give a folder, a {', '.join(_TAR_SUFFIXES)}, a {_PARQUET_SUFFIX} or a "
        f"table ({', '.join(TABLE_SUFFIXES)}), or say what it is (--source-format)"
    )


def _find_in_directory(source: str, source_format: SourceFormat, watched: Watched) -> Found:
    entries = storage.list_tree(source)
    files = [entry for entry in entries if entry.is_file and not is_hidden(entry.name)]
    tars = [entry for entry in files if entry.name.lower().endswith(_TAR_SUFFIXES)]
    parquets = [entry for entry in files if entry.name.lower().endswith(_PARQUET_SUFFIX)]
    if source_format == "auto":
        source_format = _format_of_directory(source, files, tars, parquets)
    if source_format == "parquet":
        _refuse_none(source, parquets, _PARQUET_SUFFIX)
        refuse_missing_shards(source, (entry.name for entry in parquets))
        return find_in_parquet(source, parquets)
    if source_format == "webdataset":
        _refuse_none(source, tars, ".tar")
        refuse_missing_shards(source, (entry.name for entry in tars))
        return _find_in_tars(source, tars, watched)
    if source_format == "folder":
        _refuse_other_sources(source, files)
        return find_in_folder(source, entries)
    raise SourceError(f"{source} is a folder, and --source-format {source_format} is for a file; name the file")


def _format_of_directory(
    source: str,
    files: Sequence[storage.FileEntry],
    tars: Sequence[storage.FileEntry],
    parquets: Sequence[storage.FileEntry],
) -> SourceFormat:
    """Images come first; archives are looked into where there are none."""
    if any(is_image_name(entry.name) for entry in files) or not (tars or parquets):
        return "folder"
    if tars and parquets:
        raise SourceError(
            f"{source} holds archives and Parquet files, but no images ({tars[0].name}, {parquets[0].name}); say which "
            "are meant (--source-format webdataset or parquet)"
        )
    return "webdataset" if tars else "parquet"


def _find_in_tars(source: str, tars: Sequence[storage.FileEntry], watched: Watched) -> Found:
    scans = [Scan(size_bytes=entry.size_bytes) for entry in tars]
    with watched(scans), ThreadPoolExecutor(_SHARDS_AT_ONCE, thread_name_prefix="shards") as pool:
        num_threads = threads_each(len(tars), usable_cores())
        archives = pool.map(lambda entry, scan: scan_archive(entry.uri, scan, _wants, num_threads), tars, scans)
        shards: Mapping[str, Archive] = dict(zip((entry.name for entry in tars), archives, strict=True))
    if len(tars) == 1 and not is_webdataset(shards[tars[0].name]):
        return find_in_tar(tars[0].uri, shards[tars[0].name])
    return find_in_shards(source, shards, read_class_names(source))


def threads_each(num_archives: int, num_cores: int) -> int:
    """The threads of each of those archives that are decompressed at the same time: no more than cores, together."""
    return max(1, num_cores // min(_SHARDS_AT_ONCE, num_archives))


def _wants(path: str, size_bytes: int) -> Callable[[bytes], Kept] | None:
    """A list is kept as it is, of a file beside an image its label."""
    return bytes if is_list_to_read(path, size_bytes) else label_parser(path, size_bytes)


def _refuse_none(source: str, entries: Sequence[storage.FileEntry], suffix: str) -> None:
    if not entries:
        raise SourceError(f"{source} holds no files that end in {suffix}; check the path, or the --source-format")


def _refuse_other_sources(source: str, files: Sequence[storage.FileEntry]) -> None:
    """SourceError where a folder holds no image, but files that are sources themselves."""
    names = [entry.name for entry in files if not is_list_name(entry.name.rpartition("/")[2])]
    if any(map(is_image_name, names)):
        return
    if zips := [name for name in names if name.lower().endswith(_ZIP_SUFFIX)]:
        raise SourceError(
            f"{source} holds no images, but zip archives ({first_five(zips)}); unpack them, or make tars of them"
        )
    if meant := [name for name in names if name.lower().endswith((*_TAR_SUFFIXES, *TABLE_SUFFIXES))]:
        raise SourceError(
            f"{source} holds no images, but {first_five(meant)}; if that is the source, give the file itself: "
            f"{storage.join(source, meant[0])}"
        )
