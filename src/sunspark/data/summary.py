"""What is in a dataset, for people: counts by class, split, format and size."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from sunspark.data.dataset import Dataset, Quarantined, read_quarantine
from sunspark.data.leaks import Leak, find_leaks


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassCount:
    """How many images a class has, in all and in each split."""

    name: str
    images: int
    splits: dict[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSummary:
    """What is in a dataset, for people."""

    dataset_id: str
    images: int
    classes: int
    splits: dict[str, int]
    """Images per split; an image may be in several splits or in none."""
    class_counts: tuple[ClassCount, ...]
    """In the order of the labels."""
    formats: dict[str, int]
    """Formats the images had at the source, most frequent first."""
    sizes: dict[str, int]
    """Stored images by width x height in pixels, the ten most frequent first."""
    stored_bytes: int
    blocks: int
    listed: int
    quarantined: int
    leaks: tuple[Leak, ...]
    """Pairs of splits that share images."""
    quarantine: tuple[Quarantined, ...]
    """All of them, with their reasons."""


def summarize(dataset: Dataset) -> DatasetSummary:
    """Count a dataset by class, split, format and size; reads no pixels."""
    rows_of = {split: dataset.rows(split) for split in dataset.split_names}
    per_class = np.bincount(dataset.labels, minlength=len(dataset.classes))
    per_split = {
        split: np.bincount(dataset.labels[rows], minlength=len(dataset.classes)) for split, rows in rows_of.items()
    }
    index = dataset.index
    sizes = Counter(zip(index.column("width").to_pylist(), index.column("height").to_pylist(), strict=True))
    return DatasetSummary(
        dataset_id=dataset.id,
        images=len(dataset),
        classes=len(dataset.classes),
        splits={split: len(rows) for split, rows in rows_of.items()},
        class_counts=tuple(
            ClassCount(
                name=name,
                images=int(per_class[label]),
                splits={split: int(counts[label]) for split, counts in per_split.items()},
            )
            for label, name in enumerate(dataset.classes)
        ),
        formats=dict(Counter(index.column("source_format").to_pylist()).most_common()),
        sizes={f"{width}x{height}": count for (width, height), count in sizes.most_common(10)},
        stored_bytes=sum(index.column("image_bytes").to_pylist()),
        blocks=dataset.num_blocks,
        listed=dataset.manifest["listed"],
        quarantined=dataset.manifest["quarantined"],
        leaks=find_leaks(index, dataset.split_names),
        quarantine=tuple(read_quarantine(dataset)),
    )
