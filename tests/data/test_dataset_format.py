"""The page about the format says enough: a reader that stands on it, and knows nothing of sunspark, reads a dataset."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sunspark.data.codec import encode_jpeg
from sunspark.data.dataset import DATA_SCHEMA, QUARANTINE_SCHEMA, Dataset, Quarantined
from sunspark.data.manifest import INDEX_NAME, MANIFEST_NAME
from sunspark.data.writer import Recipe, StoredSample, finish_dataset, order_key, write_block
from tests.documents import ROOT

PAGE = (ROOT / "docs" / "reference" / "dataset-format.md").read_text()
BLOCK_SIZE = 4
LISTED = [f"{number % 3}/schöne Aussicht {number}.jpg" for number in range(14)]
BROKEN = {LISTED[2], LISTED[7]}

Reader = Callable[[Path], Iterator[dict[str, Any]]]


@pytest.fixture
def reader() -> Reader:
    """The code of the page."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert not re.search(r"(?:import|from) sunspark", code)
    names: dict[str, Any] = {}
    exec(compile(code, "dataset-format.md", "exec"), names)
    reader: Reader = names["read_dataset"]
    return reader


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Twelve of fourteen images, in blocks by their place in the list of all."""
    uri = str(tmp_path / "dataset")
    ordered = sorted(LISTED, key=lambda path: order_key(5, path))
    blocks = [
        write_block(uri, number, [stored(path) for path in ordered[start : start + BLOCK_SIZE] if path not in BROKEN])
        for number, start in enumerate(range(0, len(ordered), BLOCK_SIZE))
    ]
    recipe = Recipe(
        classes=("Küste", "beach", "city"),
        split_names=("train", "test"),
        configuration={"seed": 5, "block_size": BLOCK_SIZE, "quality": 0.5, "limit": None},
        num_listed=len(LISTED),
    )
    return finish_dataset(
        uri, recipe, blocks, [Quarantined(path=path, stage="decode", reason="it is noise") for path in BROKEN]
    )


def stored(path: str) -> StoredSample:
    number = LISTED.index(path)
    jpeg = encode_jpeg(np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    return StoredSample(
        path=path,
        label=number % 3,
        splits=number % 4,
        image=jpeg,
        width=30,
        height=20,
        source_format="PNG",
        source_width=60,
        source_height=40,
        source_bytes=9000,
    )


def test_the_reader_of_the_page_reads_what_was_written(reader: Reader, dataset: Dataset) -> None:
    taken = sorted((path for path in LISTED if path not in BROKEN), key=lambda path: order_key(5, path))
    expected = []
    for path in taken:
        sample = stored(path)
        expected.append(
            {
                "id": int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "little"),
                "class": ("Küste", "beach", "city")[sample.label],
                "splits": [name for bit, name in ((1, "train"), (2, "test")) if sample.splits & bit],
                "image": sample.image,
            }
        )
    assert list(reader(Path(dataset.uri))) == expected


def test_blocks_are_what_the_page_says(dataset: Dataset) -> None:
    """From the list of files alone, as the section about rows and blocks has it."""
    digest_of = {path: hashlib.blake2b(b"5\0" + path.encode(), digest_size=16).digest() for path in LISTED}
    ordered = sorted(LISTED, key=lambda path: (digest_of[path], path))
    blocks = [[path for path in ordered[start : start + 4] if path not in BROKEN] for start in range(0, 14, 4)]
    rows = [[dataset.path_of(row) for row in dataset.block_rows(block)] for block in range(dataset.num_blocks)]
    assert rows == [block for block in blocks if block]


@pytest.mark.parametrize("change", ["index", "byte of an image", "class"])
def test_the_reader_of_the_page_notices_what_changed(change: str, reader: Reader, dataset: Dataset) -> None:
    folder = Path(dataset.uri)
    if change == "class":
        manifest = json.loads((folder / MANIFEST_NAME).read_text())
        (folder / MANIFEST_NAME).write_text(json.dumps(manifest | {"classes": ["Küste", "beach", "town"]}))
    elif change == "byte of an image":
        path = folder / dataset.manifest["blocks"][0]["name"]
        body = bytearray(path.read_bytes())
        body[body.index(dataset.read_block(0).images[0]) + 300] ^= 1
        path.write_bytes(body)
    else:
        body = bytearray((folder / INDEX_NAME).read_bytes())
        body[len(body) // 2] ^= 1
        (folder / INDEX_NAME).write_bytes(body)
    with pytest.raises((AssertionError, OSError)):
        list(reader(folder))


def test_the_page_names_every_column_and_every_key(dataset: Dataset) -> None:
    types = {"fixed_size_binary[16]": "fixed binary (16)"}
    for field in DATA_SCHEMA:
        assert f"| `{field.name}` | {types.get(str(field.type), field.type)} |" in PAGE
    keys = re.findall(r"^\| `(\w+)` \| (?:string|integer|strings|object|objects) \|", PAGE, re.MULTILINE)
    assert {key for key in keys if key in dataset.manifest} == set(dataset.manifest)
    assert QUARANTINE_SCHEMA.names == ["path", "stage", "reason"]
