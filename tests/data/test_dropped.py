"""What `--drop-leaks` took out is found again in the blocks: exactly what leaked when it was listed."""

import json
from pathlib import Path

import numpy as np
import pytest

from sunspark.data.codec import encode_jpeg
from sunspark.data.dataset import Dataset
from sunspark.data.ingest import IngestConfig
from sunspark.data.leak_table import leak_table
from sunspark.errors import DatasetError
from sunspark.launch.ingest import ingest
from sunspark.storage.filesystem import forget_clients
from tests.data.engine import here
from tests.failing_s3 import KEY, serve

SPLITS = ("Training_01", "Testing_01", "Training_02", "Testing_02", "odd")


@pytest.fixture
def both(tmp_path: Path) -> tuple[Dataset, Dataset]:
    """Forty files of ten pictures, each in some of five splits, and a bad file; without dropping and with."""
    rng = np.random.default_rng(0)
    lines: dict[str, list[str]] = {split: [] for split in SPLITS}
    (tmp_path / "photos" / "a").mkdir(parents=True)
    for number in range(40):
        pixels = np.full((16, 24, 3), 20 * (number % 10), np.uint8)
        (tmp_path / "photos" / "a" / f"{number:02d}.jpg").write_bytes(encode_jpeg(pixels))
        for split in rng.choice(SPLITS, rng.integers(3), replace=False):
            lines[split].append(f"a/{number:02d}.jpg")
    (tmp_path / "photos" / "a" / "bad.jpg").write_bytes(b"")
    for split, paths in lines.items():
        (tmp_path / f"{split}.txt").write_text("\n".join(paths))
    lists = tuple(f"{split}={tmp_path}/{split}.txt" for split in SPLITS)
    made = []
    for name, drop_leaks in (("kept", False), ("dropped", True)):
        config = IngestConfig(short_side=16, block_size=7, split_list=lists, max_bad_fraction=1, drop_leaks=drop_leaks)
        made.append(Dataset.open(ingest(str(tmp_path / "photos"), str(tmp_path / name), config, here).dataset))
    return made[0], made[1]


def test_what_leaked_when_it_was_listed_was_dropped(both: tuple[Dataset, Dataset]) -> None:
    kept, dropped = map(leak_table, both)
    assert len({one.train for one in kept.leaks}) == 2
    assert len(kept.leaks) > 5
    assert (kept.dropped, kept.leaks_dropped) == ((), 0)
    assert dropped.dropped == kept.leaks
    assert dropped.leaks == ()
    assert dropped.leaks_dropped == len({one.path for one in kept.leaks})


def test_blocks_that_tell_another_number_than_the_manifest_are_damage(both: tuple[Dataset, Dataset]) -> None:
    path = Path(both[1].uri) / "manifest.json"
    manifest = json.loads(path.read_text())
    num_dropped = manifest["leaks_dropped"]
    path.write_text(json.dumps(manifest | {"leaks_dropped": num_dropped + 1}))
    told = rf"says that {num_dropped + 1} leaks were dropped, but the splits of {num_dropped} images differ between"
    with pytest.raises(DatasetError, match=told):
        leak_table(Dataset.open(both[1].uri))


def test_a_block_that_was_damaged_since_is_named(both: tuple[Dataset, Dataset]) -> None:
    dataset = both[1]
    name = dataset.manifest["blocks"][2]["name"]
    path = Path(dataset.uri) / name
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(DatasetError, match=rf"is not whole: {name}: "):
        leak_table(Dataset.open(dataset.uri))


def test_it_is_told_of_a_dataset_in_a_store_that_fails_now_and_then(
    both: tuple[Dataset, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    folder = Path(both[1].uri)
    with serve(folder.parent) as server:
        server.failing_share = 0.2
        forget_clients()
        dropped = leak_table(Dataset.open(server.uri(folder.name))).dropped
        assert sum(server.answers[kind] for kind in ("503", "cut", "reset")) > 0
    assert dropped == leak_table(both[0]).leaks
