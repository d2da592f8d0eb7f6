"""The leaks that `--drop-leaks` took out of training splits: the index has lost their marks, the blocks have not.

Cost: where there were any, of each block its footer and one column, some 10 KB; 16 blocks at a time.
Shapes: N samples, M pairs of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sunspark import storage
from sunspark.data.dataset import Dataset
from sunspark.data.leaks import contents_of, leaked_pairs
from sunspark.data.manifest import INDEX_NAME, MANIFEST_NAME, damaged
from sunspark.errors import DatasetError, StorageError, first_line_of

_BLOCKS_AT_ONCE: Final = 16


def dropped_pairs(dataset: Dataset) -> Iterator[tuple[str, str, npt.NDArray[np.int64]]]:
    """For each pair of splits that shared images when they were listed, what `leaked_pairs` says of them.

    Raises DatasetError where blocks and index do not differ by as many images as the manifest says.
    """
    num_dropped = dataset.manifest.get("leaks_dropped", 0)
    if not num_dropped:
        return
    index, listed = dataset.read_index(["path", "splits", "image_hash"]), _listed_splits(dataset)
    num_changed = np.count_nonzero(index.column("splits").to_numpy() != listed)
    if num_changed != num_dropped:
        raise DatasetError(
            damaged(
                dataset.uri,
                f"{MANIFEST_NAME} says that {num_dropped} leaks were dropped, but the splits of {num_changed} images "
                f"differ between its blocks and {INDEX_NAME}",
            )
        )
    place = index.schema.get_field_index("splits")
    as_listed = index.set_column(place, "splits", pa.array(listed))
    yield from leaked_pairs(as_listed, contents_of(index), dataset.split_names)


def _listed_splits(dataset: Dataset) -> npt.NDArray[np.uint64]:
    """The splits of all samples as they were listed: uint64 (N,)."""
    blocks = dataset.manifest["blocks"]
    with ThreadPoolExecutor(_BLOCKS_AT_ONCE, thread_name_prefix="splits") as pool:
        return np.concatenate(list(pool.map(lambda block: _splits_of(dataset.uri, block), blocks)))


def _splits_of(dataset: str, block: Mapping[str, Any]) -> npt.NDArray[np.uint64]:
    uri = storage.join(dataset, block["name"])
    try:
        with storage.storage_errors(uri), storage.open_random_access(uri) as file:
            parquet = pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True)
            splits: npt.NDArray[np.uint64] = parquet.read(["splits"], use_threads=False).column("splits").to_numpy()
    except StorageError as error:
        if isinstance(error.__cause__, pa.ArrowInvalid):
            raise DatasetError(damaged(dataset, f"{block['name']}: {first_line_of(error.__cause__)}")) from error
        raise
    if len(splits) != block["rows"]:
        raise DatasetError(damaged(dataset, f"{block['name']} holds {len(splits)} rows, not {block['rows']}"))
    return splits
