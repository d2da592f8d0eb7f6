"""Ingest, the driver's part: list the source, have an engine do the blocks, finish the dataset."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sunspark import storage
from sunspark.data.dataset import Dataset, read_quarantine
from sunspark.data.dataset_folder import (
    LOCK_NAME,
    delete_leavings,
    is_finished,
    refuse_foreign_files,
    reuse,
    staging_folder,
    tidy,
)
from sunspark.data.early_end import EndedEarly, Hopeless, Result
from sunspark.data.ingest import (
    BlockResult,
    IngestConfig,
    clear_away,
    finish,
    ingest_block,
    plan_blocks,
    recipe_of,
    refuse_and_leave_table,
)
from sunspark.data.leaks import contents_of, find_label_conflicts, find_leaks, pairs_of, unpaired_splits
from sunspark.data.quarantine import are_too_many, refusal_of_early_end, refuse_too_many
from sunspark.data.sources import Listing, list_source
from sunspark.data.staging import assemble_block, plan_assembly, plan_pieces, stage_piece
from sunspark.data.writer import Recipe, refuse_equal_ids
from sunspark.errors import ConfigError, DatasetError, first_five, plural
from sunspark.launch.count_display import CountDisplay
from sunspark.launch.ingest_warnings import warn_of_copies, warn_of_dropped_conflicts, warn_of_what_is_empty
from sunspark.launch.scan_display import scans_shown

PlanT = TypeVar("PlanT", bound="Plan")
ResultT = TypeVar("ResultT", bound=Result)


class HasPath(Protocol):
    """What stands for an image in a plan."""

    @property
    def path(self) -> str: ...


class Plan(Protocol):
    """Work on some images."""

    @property
    def images(self) -> Sequence[HasPath]: ...


class Engine(Protocol):
    """Has work done for each plan somewhere, results in the order of the plans, and shows how far it is.

    Raises EndedEarly, with plans that are not done, as soon as it learns of a hopeless number of bad images.
    """

    def __call__(
        self, work: Callable[[PlanT], ResultT], plans: Sequence[PlanT], display: CountDisplay, hopeless: Hopeless
    ) -> list[ResultT]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestResult:
    """What an ingest did."""

    dataset: str
    listed: int
    accepted: int
    quarantined: int
    """accepted + quarantined = listed"""
    classes: int
    splits: dict[str, int]
    leaks: dict[str, int]
    """By pair of splits: images of a training split that are in its test split too, as exact copies."""
    unpaired_splits: tuple[str, ...]
    """In these no leaks were looked for."""
    leaks_dropped: int
    """Images that --drop-leaks took out of training splits."""
    label_conflicts: int
    """Images that have an exact copy under another class."""
    dataset_id: str
    seconds: float
    images_per_second: float
    """The mean, the engine's start included; 0 when the dataset was there already."""
    reused: bool
    """Whether the dataset was there already, made from the same images in the same way."""


def ingest(
    source: str, dataset: str, config: IngestConfig, opened_engine: Callable[[], AbstractContextManager[Engine]]
) -> IngestResult:
    """Make the dataset `dataset` from the images in `source`; the engine is opened when there is work for it.

    A finished dataset of the same images and configuration is left as it is and reported as reused; of
    anything else, DatasetError. What an unfinished ingest left there is replaced; while another ingest works there,
    DatasetError; in an object store, where that cannot be seen, both come to the same dataset. Raises SourceError for
    sources that cannot be used as they are, ConfigError for options that contradict each other.
    """
    started = time.monotonic()
    source, dataset = _located(source, config), _located(dataset, config)
    _refuse_idle_endpoint(source, dataset, config)
    _refuse_nesting(source, dataset)
    listing = list_source(
        source,
        source_format=config.source_format,
        labels=None if config.labels is None else _located(config.labels, config),
        split_lists=[_located_list(entry, config) for entry in config.split_list],
        test_fraction=config.test_fraction,
        seed=config.seed,
        watched=scans_shown,
    )
    refuse_equal_ids([image.path for image in listing.images])
    if config.drop_leaks and not pairs_of(listing.split_names):
        raise ConfigError(
            f"--drop-leaks has no effect: of the splits {first_five(listing.split_names)} no two are one to train on "
            "and its test; leave it out"
        )
    recipe = recipe_of(listing, config)
    if is_finished(dataset):
        return _reused(dataset, recipe, listing, config, started)
    refuse_foreign_files(dataset)
    refusal = DatasetError(f"another `sunspark ingest` works on {dataset}; wait for it, or choose another directory")
    with storage.only_holder(dataset, LOCK_NAME, refusal):
        if is_finished(dataset):
            return _reused(dataset, recipe, listing, config, started)
        images = plural(len(listing.images), "image")
        try:
            with contextlib.closing(CountDisplay("images", len(listing.images))) as display:
                display.event(f"{images} of {plural(len(listing.classes), 'class', 'classes')} listed in {source}")
                with opened_engine() as engine:
                    results = _blocks(listing, dataset, config, engine, display)
        except EndedEarly as end:
            clear_away(dataset, end.so_far)
            bad = list(end.so_far.bad.values())
            raise refusal_of_early_end(dataset, bad, recipe.num_listed, config.max_bad_fraction) from None
        made, reused = finish(dataset, recipe, results, config.max_bad_fraction)
        return _result(listing, made, started, reused=reused)


def _reused(dataset: str, recipe: Recipe, listing: Listing, config: IngestConfig, started: float) -> IngestResult:
    """The dataset that is there, under the rules for one that is made."""
    there = reuse(dataset, recipe)
    quarantine = read_quarantine(there)
    refuse_too_many(dataset, quarantine, recipe.num_listed, config.max_bad_fraction)
    images, bad = plural(recipe.num_listed, "image"), f", {len(quarantine):,} of them bad" if quarantine else ""
    CountDisplay("images", recipe.num_listed).event(
        f"{dataset} is there already, made from the same {images}{bad}, in the same way: it stays as it is"
    )
    tidy(there)
    return _result(listing, there, started, reused=True)


def _blocks(
    listing: Listing, dataset: str, config: IngestConfig, engine: Engine, display: CountDisplay
) -> list[BlockResult]:
    """Have all blocks written; by way of staging where images are best read in the order of their archive."""
    delete_leavings(dataset)
    hopeless = functools.partial(are_too_many, len(listing.images), config.max_bad_fraction)
    if not listing.is_read_in_order:
        return engine(ingest_block, plan_blocks(listing, dataset, config), display, hopeless)
    with staging_folder(dataset) as staging:
        staged = engine(stage_piece, plan_pieces(listing, staging, config), display, hopeless)
        bad = [entry for piece in staged for entry in piece.quarantine]
        refuse_and_leave_table(dataset, bad, len(listing.images), config.max_bad_fraction)
        display.event("all images are decoded; they are put in order")
        with contextlib.closing(CountDisplay("images", len(listing.images))) as second:
            return engine(assemble_block, plan_assembly(listing, dataset, config, staged), second, hopeless)


def _located(uri: str, config: IngestConfig) -> str:
    uri = storage.absolute(uri)
    return uri if config.endpoint_url is None else storage.with_endpoint(uri, config.endpoint_url)


def _located_list(entry: str, config: IngestConfig) -> str:
    name, mark, uri = entry.partition("=")
    return f"{name}{mark}{_located(uri, config)}" if uri else entry


def _refuse_idle_endpoint(source: str, dataset: str, config: IngestConfig) -> None:
    lists = [uri for entry in config.split_list if (uri := entry.partition("=")[2])]
    given = [source, dataset, *lists, *([config.labels] if config.labels else [])]
    if config.endpoint_url is not None and not any(storage.scheme_of(uri) == "s3" for uri in given):
        raise ConfigError(f"--endpoint-url {config.endpoint_url} has no effect: none of {given} is an s3:// URI")


def _refuse_nesting(source: str, dataset: str) -> None:
    """By their names, and by the places that links in these lead to."""
    real_source, real_dataset = storage.without_links(source), storage.without_links(dataset)
    by_links = ""
    if not storage.lie_in_each_other(dataset, source):
        if not storage.lie_in_each_other(real_dataset, real_source):
            return
        by_links = f" (links lead to {real_dataset} and {real_source})"
    raise ConfigError(
        f"the dataset {dataset} and the source {source} lie in each other{by_links}; "
        "give the dataset a directory of its own"
    )


def _result(listing: Listing, dataset: Dataset, started: float, *, reused: bool) -> IngestResult:
    """What was done, and a word on what is odd about it."""
    index = dataset.read_index()
    contents = contents_of(index)
    leaks, conflicts = find_leaks(index, contents, dataset.split_names), find_label_conflicts(index, contents)
    warn_of_copies(dataset, leaks, conflicts)
    warn_of_dropped_conflicts(dataset)
    warn_of_what_is_empty(listing, dataset)
    seconds = time.monotonic() - started
    listed = int(dataset.manifest["listed"])
    return IngestResult(
        dataset=dataset.uri,
        listed=listed,
        accepted=len(dataset),
        quarantined=int(dataset.manifest["quarantined"]),
        classes=len(dataset.classes),
        splits={split: len(dataset.rows(split)) for split in dataset.split_names},
        leaks={f"{leak.train} & {leak.test}": leak.images for leak in leaks},
        unpaired_splits=unpaired_splits(dataset.split_names),
        leaks_dropped=int(dataset.manifest.get("leaks_dropped", 0)),
        label_conflicts=conflicts.images,
        dataset_id=dataset.id,
        seconds=seconds,
        images_per_second=0.0 if reused else listed / seconds,
        reused=reused,
    )
