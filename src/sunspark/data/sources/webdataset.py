"""WebDataset: tars whose members belong together by key, `KEY.jpg` with `KEY.cls`, `KEY.json` or `KEY.txt`.

A `.cls` holds a class's number or its name, a `.json` one of them under `label`, `cls` or `class`, a `.txt` a name.
`classnames.txt` beside the shards names the numbers, one a line. Shards tell their split by their name or folder.

Cost: of each file beside an image the label, not the file, until all shards have been looked through.

Source: the WebDataset format, https://github.com/webdataset/webdataset, and sets on the Hugging Face Hub.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from sunspark import storage
from sunspark.data.sources.archive import Archive
from sunspark.data.sources.left_out import leave_out_hidden
from sunspark.data.sources.listing import Found, FoundImage, is_hidden, is_image_name
from sunspark.data.sources.lists import read_list, text_of
from sunspark.data.sources.number_labels import as_numbers
from sunspark.data.sources.splits import split_of_file
from sunspark.errors import SourceError, first_five, plural

CLASS_NAMES: Final = "classnames.txt"
_LABEL_SUFFIXES: Final = (".cls", ".json", ".txt")
_MOST_LABEL_BYTES: Final = 64 * 2**10
_MOST_NAME_LETTERS: Final = 255
"""A longer text is a caption, no name of a class."""
_JSON_KEYS: Final = ("label", "cls", "class")

Label = str | int
"""A class's name or its number."""


def label_parser(path: str, size_bytes: int) -> Callable[[bytes], Label | None] | None:
    """What reads the label of an image out of this member of an archive; None where it holds none."""
    if size_bytes > _MOST_LABEL_BYTES or not path.endswith(_LABEL_SUFFIXES):
        return None
    return _from_json if path.endswith(".json") else _from_text


def is_webdataset(archive: Archive) -> bool:
    """Whether the first image of an archive has its label beside it."""
    first = next((path for path in archive.members if is_image_name(path) and not is_hidden(path)), None)
    return first is not None and any(_key_of(first) + suffix in archive.members for suffix in _LABEL_SUFFIXES)


def find_in_shards(source: str, shards: Mapping[str, Archive], class_names: bytes | None) -> Found:
    """The images of all shards, by their paths relative to the source."""
    counts = Counter(path for shard in shards.values() for path in shard.members if is_image_name(path))
    hidden = leave_out_hidden(counts.elements())
    is_unique = all(count == 1 for count in counts.values())
    images = []
    unlabelled = []
    for name, shard in sorted(shards.items()):
        split = split_of_file(name)
        for path, member in shard.members.items():
            if is_hidden(path) or not is_image_name(path):
                continue
            label = _label_of(path, shard)
            if label is None:
                unlabelled.append(f"{path} in {name}")
                continue
            images.append(
                FoundImage(
                    path=path if is_unique else f"{name.rsplit('.', 1)[0]}/{path}",
                    size_bytes=member.size_bytes,
                    container=shard.container,
                    position=member.offset,
                    label=label,
                    splits=None if split is None else (split,),
                )
            )
    if unlabelled:
        one, many = f"image of {source} has no label beside it", f"images of {source} have no label beside them"
        raise SourceError(
            f"{plural(len(unlabelled), one, many)} ({first_five(unlabelled)}); each KEY.jpg needs a KEY.cls, KEY.json "
            "or KEY.txt that names or numbers its class"
        )
    labels = as_numbers([image.label for image in images])
    images = [replace(image, label=label) for image, label in zip(images, labels, strict=True)]
    return Found(images=images, class_names=() if class_names is None else _names(class_names), left_out=hidden)


def _names(body: bytes) -> tuple[str, ...]:
    return tuple(line.strip() for line in text_of(body).splitlines() if line.strip())


def _key_of(path: str) -> str:
    """Up to the first dot of the file's name, as the format has it."""
    folder, mark, name = path.rpartition("/")
    return folder + mark + name.partition(".")[0]


def _label_of(path: str, shard: Archive) -> Label | None:
    key = _key_of(path)
    for suffix in _LABEL_SUFFIXES:
        kept = shard.kept.get(key + suffix)
        label = _from_text(kept) if isinstance(kept, bytes) else kept  # a list of SUN397's, by its name
        if label is not None:
            return label
    return None


def _from_text(body: bytes) -> Label | None:
    return _as_label(text_of(body).strip())


def _from_json(body: bytes) -> Label | None:
    try:
        about = json.loads(body)
    except (ValueError, RecursionError):
        return None
    found = [about[key] for key in _JSON_KEYS if key in about] if isinstance(about, dict) else [about]
    label = next((value for value in found if isinstance(value, str | int) and not isinstance(value, bool)), None)
    return None if label is None else _as_label(label)


def _as_label(value: Label) -> Label | None:
    """A name once in memory, however many images have it."""
    if isinstance(value, int):
        return value
    if not value or len(value) > _MOST_NAME_LETTERS:
        return None
    return sys.intern(value)


def read_class_names(source: str) -> bytes | None:
    """The names that lie beside the shards; None where there are none."""
    uri = storage.join(source, CLASS_NAMES)
    return read_list(uri, "list of names") if storage.exists(uri) else None
