"""What is in a dataset, for people: counts by class, split, format and size."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sunspark.data.dataset import Dataset, Quarantined, read_quarantine
from sunspark.data.leaks import LabelConflicts, Leak, contents_of, find_label_conflicts, find_leaks, unpaired_splits
from sunspark.errors import printable


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassCount:
    """How many images a class has, in all and in each split."""

    name: str
    images: int
    splits: dict[str, int]
    quarantined: int
    """Images that could not be taken, as far as the folders that they lie in tell their class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSummary:
    """What is in a dataset, for people."""

    dataset: str
    dataset_id: str
    images: int
    listed: int
    quarantined: int
    """images + quarantined = listed"""
    classes: int
    splits: dict[str, int]
    """Images per split; an image may be in several splits or in none."""
    in_no_split: int
    """Images that nothing is trained on or judged by."""
    class_counts: tuple[ClassCount, ...]
    """In the order of the labels."""
    formats: dict[str, int]
    """Formats the images had at the source, most frequent first."""
    sizes: dict[str, int]
    """Stored images by width x height in pixels, the ten most frequent of them."""
    num_sizes: int
    """All there are."""
    stored_bytes: int
    blocks: int
    copies_in_split: dict[str, int]
    """Images with an exact copy in the same split, but for one of each: there, they count more than once."""
    leaks: tuple[Leak, ...]
    """Pairs of splits that share images."""
    leaks_dropped: int
    """Images that --drop-leaks took out of training splits."""
    unpaired_splits: tuple[str, ...]
    """In these no leaks were looked for."""
    label_conflicts: LabelConflicts
    """Images that have an exact copy under another class."""
    quarantine: tuple[Quarantined, ...]
    """All of them, with their reasons."""
    left_out: dict[str, int] | None
    """What lay in the source and was left out unopened, by suffix or other kind; None in datasets of older versions."""


def summarize(dataset: Dataset) -> DatasetSummary:
    """Count a dataset by class, split, format and size; reads no pixels."""
    rows_of = {split: dataset.rows(split) for split in dataset.split_names}
    per_class = np.bincount(dataset.labels, minlength=len(dataset.classes))
    per_split = {
        split: np.bincount(dataset.labels[rows], minlength=len(dataset.classes)) for split, rows in rows_of.items()
    }
    index = dataset.read_index()
    contents = contents_of(index)
    sizes = Counter(zip(index.column("width").to_pylist(), index.column("height").to_pylist(), strict=True))
    quarantine = read_quarantine(dataset)
    bad_of_label = _quarantined_by_label(dataset, quarantine)
    return DatasetSummary(
        dataset=dataset.uri,
        dataset_id=dataset.id,
        images=len(dataset),
        listed=dataset.manifest["listed"],
        quarantined=dataset.manifest["quarantined"],
        classes=len(dataset.classes),
        splits={split: len(rows) for split, rows in rows_of.items()},
        in_no_split=len(np.setdiff1d(np.arange(len(dataset)), np.concatenate([*rows_of.values(), [-1]]))),
        class_counts=tuple(
            ClassCount(
                name=name,
                images=int(per_class[label]),
                splits={split: int(counts[label]) for split, counts in per_split.items()},
                quarantined=bad_of_label[label],
            )
            for label, name in enumerate(dataset.classes)
        ),
        formats=dict(Counter(index.column("source_format").to_pylist()).most_common()),
        sizes={f"{width}x{height}": count for (width, height), count in sizes.most_common(10)},
        num_sizes=len(sizes),
        stored_bytes=sum(index.column("image_bytes").to_pylist()),
        blocks=dataset.num_blocks,
        copies_in_split={split: number for split, rows in rows_of.items() if (number := _num_copies(contents[rows]))},
        leaks=find_leaks(index, contents, dataset.split_names),
        leaks_dropped=dataset.manifest.get("leaks_dropped", 0),
        unpaired_splits=unpaired_splits(dataset.split_names),
        label_conflicts=find_label_conflicts(index, contents),
        quarantine=tuple(quarantine),
        left_out=dataset.manifest.get("left_out"),
    )


def left_out_in_words(left_out: Mapping[str, int] | None) -> str:
    """What is said of what was left out unopened."""
    if left_out is None:
        return "not told: the dataset was made by a version that did not keep it"
    return ", ".join(f"{printable(kind)}: {number:,}" for kind, number in left_out.items()) or "none"


def _num_copies(contents: npt.NDArray[np.int32]) -> int:
    return len(contents) - len(np.unique(contents))


def _quarantined_by_label(dataset: Dataset, quarantine: Sequence[Quarantined]) -> Counter[int]:
    """A bad file is of the class of the folder it lies in: by its name, or by its images, if they are all of one."""
    label_named = {name: label for label, name in enumerate(dataset.classes)}
    folders = [_folder_of(entry.path) for entry in quarantine]
    labels_in = {folder: {label_named[folder]} if folder in label_named else set[int]() for folder in folders}
    if not labels_in:
        return Counter()
    for path, label in zip(dataset.paths.to_pylist(), dataset.labels.tolist(), strict=True):
        if (folder := _folder_of(path)) in labels_in:
            labels_in[folder].add(label)
    return Counter(label for folder in folders if len(labels_in[folder]) == 1 for label in labels_in[folder])


def _folder_of(path: str) -> str:
    return path.rpartition("/")[0]
