"""Lists of paths: SUN397's class list and its partitions, and lists of a split that the user names.

Source: the files of the release of Xiao et al., CVPR 2010: `ClassName.txt` and the lists in `Partitions.zip`.
"""

from __future__ import annotations

import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sunspark import storage
from sunspark.data.dataset import refuse_split_name
from sunspark.errors import ConfigError, SourceError

CLASS_LIST = "ClassName.txt"
PARTITIONS_ZIP = "Partitions.zip"
MOST_LIST_BYTES = 64 * 2**20
"""Of a list in an archive: larger ones are none."""

_PARTITION_LIST = re.compile(r"((?:Training|Testing)_\d+)\.txt")


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitList:
    """A list of the images of a split."""

    place: str
    """Where it comes from, for people."""
    body: bytes


def is_list_name(name: str) -> bool:
    """Whether a file of this name tells classes or splits: one of SUN397's lists, or the archive that holds them."""
    return name in (CLASS_LIST, PARTITIONS_ZIP) or _PARTITION_LIST.fullmatch(name) is not None


def read_lists(folder: str) -> dict[str, bytes]:
    """The lists that lie in a folder, or in a Partitions.zip there: name -> content."""
    found = {
        entry.name: storage.read_bytes(entry.uri)
        for entry in storage.list_directory(folder)
        if entry.is_file and is_list_name(entry.name)
    }
    return unzipped(found, folder)


def unzipped(lists: Mapping[str, bytes], place: str) -> dict[str, bytes]:
    """The same lists with those out of Partitions.zip; what lies loose comes first."""
    loose = {name: body for name, body in lists.items() if name != PARTITIONS_ZIP}
    if PARTITIONS_ZIP not in lists:
        return loose
    try:
        with zipfile.ZipFile(io.BytesIO(lists[PARTITIONS_ZIP])) as archive:
            inside = {name.rpartition("/")[2]: name for name in archive.namelist() if not name.startswith("__MACOSX")}
            names = [inside[name] for name in sorted(inside) if is_list_name(name)]
            if large := [name for name in names if archive.getinfo(name).file_size > MOST_LIST_BYTES]:
                raise zipfile.BadZipFile(f"{large[0]} unpacks to more than {MOST_LIST_BYTES} bytes")
            zipped = {name.rpartition("/")[2]: archive.read(name) for name in names}
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, RuntimeError) as error:
        raise SourceError(
            f"the {PARTITIONS_ZIP} of {place} cannot be read ({error}); get it again, or take it away"
        ) from error
    return zipped | loose


def partition_lists(lists: Mapping[str, bytes]) -> dict[str, SplitList]:
    """SUN397's official partitions: Training_01, Testing_01, ... -> list, training before testing."""
    found = {
        match[1]: SplitList(place=name, body=body)
        for name, body in lists.items()
        if (match := _PARTITION_LIST.fullmatch(name))
    }
    return dict(sorted(found.items(), key=lambda item: (item[0].split("_")[1], item[0].startswith("Testing"))))


def named_lists(split_lists: Sequence[str], taken: Mapping[str, object]) -> dict[str, SplitList]:
    """The lists given as NAME=FILE; `taken` are the names of splits that there are already."""
    named: dict[str, SplitList] = {}
    for entry in split_lists:
        name, mark, uri = entry.partition("=")
        if not (name and mark and uri):
            raise ConfigError(f"a split list is given as NAME=FILE, got {entry!r}; for instance train=lists/train.txt")
        refuse_split_name(name)
        if name in named or name in taken:
            raise ConfigError(f"there are two lists for the split {name!r}; give {uri} another name")
        named[name] = SplitList(place=uri, body=read_list(uri, "split list"))
    return named


def read_list(uri: str, what: str) -> bytes:
    """The content of a list that somebody has named; SourceError when it is no file."""
    entry = storage.entry_at(uri)
    if entry is None:
        raise SourceError(f"the {what} {uri} does not exist; check its path")
    if not entry.is_file:
        raise SourceError(f"the {what} {uri} is no file (a folder, a pipe or a device); give a text file")
    return storage.read_bytes(uri)


def parse_class_list(body: bytes, name: str = CLASS_LIST) -> dict[str, str]:
    """A class list: directory (`d/desert/sand`) -> class name (`desert/sand`), in order of label."""
    classes: dict[str, str] = {}
    names: set[str] = set()
    for directory in parse_path_list(body, name):
        first, _, rest = directory.partition("/")
        class_name = rest if len(first) == 1 and rest else directory
        if directory in classes or class_name in names:
            raise SourceError(f"{name} names the class {class_name!r} twice; remove one of the lines")
        classes[directory] = class_name
        names.add(class_name)
    if not classes:
        raise SourceError(f"{name} names no class; it needs one line per class, such as /a/abbey")
    return classes


def parse_path_list(body: bytes, name: str = "the list") -> list[str]:
    """The lines of a list as relative paths: UTF-8 or Latin-1, any line ends, leading `/` or `./` removed.

    Raises SourceError, with `name`, for what is no such text: it has zero bytes, as UTF-16 has.
    """
    return [path for _, path in numbered_paths(body, name)]


def numbered_paths(body: bytes, name: str) -> list[tuple[int, str]]:
    """The same, each with its line in the file, from 1 on."""
    if (place := body.find(b"\0")) >= 0:
        line = body.count(b"\n", 0, place) + 1
        raise SourceError(f"{name} has a zero byte in line {line}: it is no text, or UTF-16; store it as UTF-8")
    lines = numbered_lines(body)
    return [(number, line.removeprefix("./").strip("/")) for number, line in lines if line.strip("/")]


def numbered_lines(body: bytes) -> Iterator[tuple[int, str]]:
    """The lines of a text as they are written, but for white space around them."""
    text = io.StringIO(text_of(body.removeprefix(b"\xef\xbb\xbf")), newline="")
    return ((number, line.strip()) for number, line in enumerate(text, 1))


def text_of(body: bytes) -> str:
    """UTF-8, or Latin-1 where it is not that, as old lists are."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return body.decode("latin-1")
