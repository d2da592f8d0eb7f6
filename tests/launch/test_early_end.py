"""Laws of the early end: an ingest ends early only where it would fail at its end, and leaves the table alone."""

import re
from functools import partial
from pathlib import Path

import pytest

from sunspark.data.ingest import IngestConfig
from sunspark.data.quarantine import quarantine_table
from sunspark.errors import SourceError
from sunspark.launch.ingest import ingest
from sunspark.launch.processes import process_engine
from tests.data.source_kinds import images, write_tar, write_tree

PAGE = b"<html>404</html>"
EARLY = re.compile(
    r"(\d+) of (\d+) images \(.* %\) cannot be taken, more than the .* allows; ended early, since .*:\n  "
)


def bodies(num_good: int, num_bad: int, first: str) -> dict[str, bytes]:
    """Images of two classes, of which the good or the bad ones come `first`."""
    drawn = list(images(6).values())
    names = {"good": "ab", "bad": "ba"}[first]
    good = {f"{n % 2}/{names[0]}{n:05d}.jpg": drawn[n % 6] for n in range(num_good)}
    return good | {f"{n % 2}/{names[1]}{n:05d}.jpg": PAGE for n in range(num_bad)}


def written(kind: str, folder: Path, of: dict[str, bytes]) -> str:
    source = folder / ("images" if kind == "folder" else f"images.{kind}")
    if kind == "folder":
        write_tree(source, of)
    else:
        write_tar(source, of)
    return str(source)


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and path.name != ".ingest.lock"]


def config_of(max_bad_fraction: float) -> IngestConfig:
    return IngestConfig(launcher="local", short_side=16, block_size=8, max_bad_fraction=max_bad_fraction)


@pytest.mark.parametrize("kind", ["folder", "tar", "tar.gz"])
def test_an_ingest_of_pages_ends_when_it_can_only_fail(kind: str, tmp_path: Path) -> None:
    source = written(kind, tmp_path, bodies(100, 3000, first="good"))
    with pytest.raises(SourceError) as caught:
        ingest(source, str(tmp_path / "d"), config_of(0.02), partial(process_engine, 2))
    told = EARLY.match(str(caught.value))
    assert told is not None, str(caught.value)
    assert told[2] == "3100"
    assert 62 < int(told[1]) < 1000
    assert f"  {told[1]} x sniff: " in str(caught.value)
    assert "names those that were found so far" in str(caught.value)
    assert files_in(tmp_path / "d") == ["quarantine.parquet"]
    assert [path.name for path in (tmp_path / "d").glob("staging*")] == []
    assert quarantine_table(str(tmp_path / "d")).quarantined == int(told[1])


@pytest.mark.parametrize("first", ["good", "bad"])
@pytest.mark.parametrize("kind", ["folder", "tar.gz"])
def test_as_many_bad_images_as_may_be_end_nothing_and_one_more_does(kind: str, first: str, tmp_path: Path) -> None:
    """Of 500, 20 may be bad; the last of them may be found at the end."""
    source = written(kind, tmp_path, bodies(480, 20, first))
    result = ingest(source, str(tmp_path / "d"), config_of(0.04), partial(process_engine, 2))
    assert (result.accepted, result.quarantined) == (480, 20)
    unlimited = ingest(source, str(tmp_path / "all"), config_of(1), partial(process_engine, 2))
    assert unlimited.dataset_id == result.dataset_id
    with pytest.raises(SourceError, match=r"^20 of 500 images \(4 %\) cannot be taken, more than the 3\.8 %"):
        ingest(source, str(tmp_path / "none"), config_of(0.038), partial(process_engine, 2))
    assert files_in(tmp_path / "none") == ["quarantine.parquet"]


def test_what_was_ended_early_can_be_done_again(tmp_path: Path) -> None:
    source = written("folder", tmp_path, bodies(40, 200, first="bad"))
    with pytest.raises(SourceError, match="ended early"):
        ingest(source, str(tmp_path / "d"), config_of(0.1), partial(process_engine, 2))
    assert ingest(source, str(tmp_path / "d"), config_of(0.9), partial(process_engine, 2)).quarantined == 200
    assert quarantine_table(str(tmp_path / "d")).quarantined == 200
