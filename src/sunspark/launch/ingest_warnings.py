"""What is odd about a dataset that was made as it was asked for: copies, splits and classes that came out empty."""

import logging
from collections.abc import Sequence

import numpy as np

from sunspark.command_line import command
from sunspark.data.dataset import Dataset
from sunspark.data.leak_table import dropped_leaks
from sunspark.data.leaks import LabelConflicts, Leak, training_splits
from sunspark.data.sources import Listing
from sunspark.errors import clipped, first_five, plural, printable

logger = logging.getLogger(__name__)


def warn_of_copies(dataset: Dataset, leaks: Sequence[Leak], conflicts: LabelConflicts) -> None:
    """A word on each split that holds what it is tested on, and on images that are under two classes."""
    remedy = f"`{command('inspect', dataset.uri, '--leaks')}` names all"
    for leak in leaks:
        logger.warning(
            "%s & %s share images, as exact copies, %d of the first: what is measured on the second is too good; "
            "--drop-leaks takes them out of the first, %s",
            leak.train, leak.test, leak.images, remedy,
        )  # fmt: skip
    if conflicts.images:
        pairs = [f"{printable(path)} = {printable(copy)}" for path, copy in conflicts.examples]
        logger.warning(
            "%d images have exact copies under another class (%s): a network cannot learn both; "
            "take the wrong ones out, %s",
            conflicts.images, ", ".join(pairs), remedy,
        )  # fmt: skip


def warn_of_dropped_conflicts(dataset: Dataset) -> None:
    """A word on images that --drop-leaks took out of training, and whose copies are tested on as another class."""
    dropped = dropped_leaks(dataset) if dataset.manifest.get("leaks_dropped") else ()
    conflicting = sorted({(one.path, one.copy) for one in dropped if one.class_name != one.copy_class})
    if conflicting:
        logger.warning(
            "of the images that --drop-leaks took out of training, %d have their copies under another class (%s): what "
            "is tested on may be what is wrong; look at them, `%s` names all",
            len({path for path, _ in conflicting}),
            first_five(f"{printable(path)} = {printable(copy)}" for path, copy in conflicting),
            command("inspect", dataset.uri, "--leaks"),
        )  # fmt: skip


def warn_of_what_is_empty(listing: Listing, dataset: Dataset) -> None:
    """A word on each split without images, and on each training split without images of some class."""
    for number, split in enumerate(dataset.split_names):
        if not len(dataset.rows(split)):
            logger.warning("the split %s is empty: %s", split, _why_empty(listing, dataset, number))
    there = np.unique(dataset.labels)
    listed = np.unique([image.label for image in listing.images])
    if len(lost := np.setdiff1d(listed, there)):
        logger.warning(
            "%s came out empty, since none of their images could be decoded: %s; "
            "`%s` names them",
            plural(len(lost), "class", "classes"), first_five(clipped(dataset.classes[label]) for label in lost),
            command("inspect", dataset.uri, "--quarantine"),
        )  # fmt: skip
    for split in training_splits(dataset.split_names):
        lacking = np.setdiff1d(there, dataset.labels[dataset.rows(split)])
        if 0 < len(lacking) < len(there):
            names = first_five(clipped(dataset.classes[label]) for label in lacking)
            logger.warning(
                "the split %s has no image of %s: %s; a network that is trained on it does not know them",
                split, plural(len(lacking), "class", "classes"), names,
            )  # fmt: skip


def _why_empty(listing: Listing, dataset: Dataset, split: int) -> str:
    num_listed = sum(image.splits >> split & 1 for image in listing.images)
    if not num_listed:
        return "no class has two images, of which one could be set aside; add images, or give lists (--split-list)"
    listed = f"none of its {num_listed} images"
    if dataset.manifest.get("leaks_dropped"):
        return f"{listed} is left: those that could be decoded are test images too"
    return f"{listed} could be decoded; `{command('inspect', dataset.uri, '--quarantine')}` names them"
