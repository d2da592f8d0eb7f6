"""Which class an image is of: by a class list, by its folder, or as the source says.

* A class list (`ClassName.txt` of the source, or `--labels`) holds one class a line, and the line's number is the
  label. Where paths tell the class, a line is a folder (`/d/desert/sand`). The class is named by the whole path after
  SUN397's letter, since leaf names such as `indoor` repeat.
* Without one, each folder directly in the source is a class, named after it, in the order of the names.
* Where the source itself labels its images by names, the order is that of the names; by numbers, that of the names
  that come with them, or of the numbers. A class list orders the names anew; numbers without names are its lines.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from sunspark.data.sources.listing import Found, is_hidden
from sunspark.data.sources.lists import CLASS_LIST, parse_class_list, read_list
from sunspark.data.sources.near_names import in_other_capitals
from sunspark.errors import SourceError, clipped, first_five, plural

logger = logging.getLogger(__name__)

Labelled = tuple[tuple[str, ...], list[int]]
"""Classes in the order of their labels, and the label of each image."""


def label_images(source: str, found: Found, labels: str | None) -> Labelled:
    """The classes of a source and the label of each image that was found. `labels` is the URI of a class list."""
    listed: dict[str, str] = {}
    list_name = ""
    if labels is not None:
        list_name, listed = labels, parse_class_list(read_list(labels, "class list (--labels)"), labels)
    if not found.images:
        raise SourceError(f"{source} holds no images; check the path, or the --source-format")
    if found.images[0].label is not None:
        classes, numbers = _own_labels(source, found, listed, list_name)
    else:
        if not listed and CLASS_LIST in found.lists:
            list_name = f"{CLASS_LIST} of {source}"
            listed = parse_class_list(found.lists[CLASS_LIST], list_name)
        classes, numbers = _listed_labels(found, listed, list_name) if listed else _folder_labels(source, found)
        _refuse_empty_classes(source, classes, numbers)
    if len(classes) == 1:
        where = "" if listed else _folders_below(found)
        logger.warning("%s holds a single class, %s%s", source, clipped(classes[0]), where)
    return classes, numbers


def _folders_below(found: Found) -> str:
    """A hint, where folders in the single class might be the classes."""
    folders = sorted({image.path.split("/")[1] for image in found.images if image.path.count("/") >= 2})
    if found.images[0].label is not None or not folders:
        return ""
    return f", with the folders {first_five(folders)} in it: are those the classes? Give that folder"


def _folder_labels(source: str, found: Found) -> Labelled:
    paths = [image.path for image in found.images]
    loose = [path for path in paths if "/" not in path]
    if loose:
        raise SourceError(
            f"{source} holds {plural(len(loose), 'image')} outside of any class folder ({first_five(loose)}); "
            "move each into the folder of its class"
        )
    folders = {name for name in found.folders if not is_hidden(name)} | {path.split("/", 1)[0] for path in paths}
    classes = tuple(sorted(folders))
    if all(len(name) == 1 for name in classes) and all(path.count("/") >= 2 for path in paths):
        raise SourceError(
            f"{source} looks like SUN397 (folders {first_five(classes)}) but has no {CLASS_LIST}; "
            "put the release's ClassName.txt in it (or Partitions.zip beside an archive), or name it with --labels: "
            "it gives the classes and the order of their labels"
        )
    number_of = {name: number for number, name in enumerate(classes)}
    return classes, [number_of[path.split("/", 1)[0]] for path in paths]


def _listed_labels(found: Found, listed: dict[str, str], list_name: str) -> Labelled:
    """By the folder that the list names, which may be anywhere above the image."""
    number_of = {directory: number for number, directory in enumerate(listed)}
    numbers: list[int] = []
    strangers: list[str] = []
    for image in found.images:
        directory = image.path.rpartition("/")[0]
        while directory and directory not in number_of:
            directory = directory.rpartition("/")[0]
        if directory:
            numbers.append(number_of[directory])
        else:
            strangers.append(image.path)
    if strangers:
        above = dict.fromkeys(str(folder) for path in strangers for folder in PurePosixPath(path).parents)
        remedy = _capitals(above, listed, list_name) or "add the folders to it, or move what lies there away"
        raise SourceError(
            f"{plural(len(strangers), 'image lies', 'images lie')} in no class that {list_name} names "
            f"({first_five(strangers)}); {remedy}"
        )
    return tuple(listed.values()), numbers


def _capitals(strangers: Iterable[str], listed: Iterable[str], list_name: str) -> str:
    """What to do where strangers to a list are in it in other capitals; empty where none is."""
    pair = in_other_capitals(strangers, listed)
    return f"names differ in capitals alone: write {pair[0]} for {pair[1]} in {list_name}" if pair else ""


def _own_labels(source: str, found: Found, listed: dict[str, str], list_name: str) -> Labelled:
    values = {image.label for image in found.images}
    unlabelled = [image.path for image in found.images if image.label is None]
    if unlabelled:
        many = plural(len(unlabelled), f"image of {source} has", f"images of {source} have")
        raise SourceError(f"{many} no label ({first_five(unlabelled)}); add what is missing")
    if listed and found.class_names:
        found = _with_names(found)
        values = {image.label for image in found.images}
    names = tuple(listed.values()) or found.class_names
    if all(isinstance(value, int) for value in values):
        ordered = sorted(int(value) for value in values if value is not None)
        if not names:
            logger.warning("%s numbers its classes and does not name them; --labels does, one name a line", source)
            return tuple(map(str, ordered)), _numbers(found, {value: n for n, value in enumerate(ordered)})
        number_of: dict[str | int | None, int] = {number: number for number in range(len(names))}
    else:
        names = names or tuple(sorted(str(value) for value in values))
        number_of = {name: number for number, name in enumerate(names)}
        number_of |= {directory: number for number, directory in enumerate(listed)}
    strangers = sorted(str(value) for value in values if value not in number_of)
    if strangers:
        whose = list_name or f"the names that come with {source}"
        many = plural(len(strangers), f"label of {source} is", f"labels of {source} are")
        remedy = "give all classes, one a line, in the order of their labels (--labels)"
        if any(isinstance(value, int) and value < 0 for value in values):
            remedy = "a negative label names no class: take those images out"
        raise SourceError(
            f"{many} not among the {len(names)} classes of {whose} ({first_five(strangers)}); "
            f"{_capitals(strangers, listed.values(), list_name) or remedy}"
        )
    numbers = _numbers(found, number_of)
    _warn_of_empty_classes(source, names, numbers)
    return names, numbers


def _with_names(found: Found) -> Found:
    """Labels that are numbers as the names that come with the source; a list has an order of its own."""
    name_of = {number: name.strip("/") for number, name in enumerate(found.class_names)}
    images = [
        replace(image, label=name_of.get(image.label, image.label)) if isinstance(image.label, int) else image
        for image in found.images
    ]
    return replace(found, images=images)


def _numbers(found: Found, number_of: dict[int, int] | dict[str | int | None, int]) -> list[int]:
    return [number_of[image.label] for image in found.images]  # type: ignore[index]


def _empty_classes(classes: Sequence[str], numbers: Iterable[int]) -> list[str]:
    counts = Counter(numbers)
    return [name for label, name in enumerate(classes) if not counts[label]]


def _refuse_empty_classes(source: str, classes: Sequence[str], numbers: Iterable[int]) -> None:
    if empty := _empty_classes(classes, numbers):
        raise SourceError(
            f"{len(empty)} of the {len(classes)} classes of {source} have no images ({first_five(empty)}); "
            "add images, or remove the empty folders (with a class list: their lines)"
        )


def _warn_of_empty_classes(source: str, classes: Sequence[str], numbers: Iterable[int]) -> None:
    """Names that come with labels are often those of a larger set."""
    if empty := _empty_classes(classes, numbers):
        logger.warning(
            "%d of the %d classes of %s have no images: %s", len(empty), len(classes), source, first_five(empty)
        )
