"""Laws of ingest from and to an object store: the dataset is that of local files, and the driver opens no image."""

import shlex
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from sunspark.commands.ingest import run
from sunspark.data.dataset import Dataset
from sunspark.data.ingest import IngestConfig
from sunspark.data.sources import list_source
from sunspark.errors import ConfigError, UserError
from sunspark.launch.ingest import ingest
from sunspark.launch.processes import process_engine
from sunspark.storage import list_tree, with_endpoint
from tests.data.source_kinds import images, make
from tests.s3 import CREDENTIALS, requests_of, s3_store, upload

BODIES = images()


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s3") / "log"


@pytest.fixture(scope="module")
def store(log: Path) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, s3_store(log) as url:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield url


def located(uri: str, folder: Path, prefix: str) -> str:
    return uri.replace(str(folder), f"s3://bucket/{prefix}")


@pytest.mark.parametrize("kind", ["folder", "tar", "tar.gz", "parquet", "webdataset", "csv"])
def test_every_kind_of_source_is_taken_from_a_store_and_datasets_go_there(
    kind: str, store: str, tmp_path: Path
) -> None:
    folder = tmp_path / "made"
    made = make(kind, folder, BODIES)
    upload(store, folder, kind)
    options = {"launcher": "local", "short_side": 32, "block_size": 5}
    local = IngestConfig(labels=made.labels, split_list=made.split_list, **options)  # type: ignore[arg-type]
    remote = IngestConfig(
        labels=made.labels and located(made.labels, folder, kind),
        split_list=tuple(located(entry, folder, kind) for entry in made.split_list),
        endpoint_url=store,
        **options,  # type: ignore[arg-type]
    )
    engine = partial(process_engine, 2)
    here = ingest(made.source, str(tmp_path / "d"), local, engine)
    there = ingest(located(made.source, folder, kind), f"s3://bucket/datasets/{kind}", remote, engine)
    assert there.dataset_id == here.dataset_id
    assert Dataset.open(there.dataset).id == here.dataset_id
    assert {entry.name.partition("/")[0] for entry in list_tree(there.dataset)} == {
        "data", "index.parquet", "manifest.json", "quarantine.parquet",
    }  # fmt: skip
    assert ingest(located(made.source, folder, kind), f"s3://bucket/datasets/{kind}", remote, engine).reused


def test_a_listing_goes_folder_by_folder_and_opens_no_image(store: str, log: Path, tmp_path: Path) -> None:
    made = make("folder", tmp_path / "made", BODIES)
    upload(store, tmp_path / "made", "listed")
    before = len(requests_of(log))
    listing = list_source(with_endpoint("s3://bucket/listed/SUN", store), test_fraction=0.5)
    asked = requests_of(log)[before:]
    assert listing.fingerprint == list_source(made.source, test_fraction=0.5).fingerprint
    assert not [request for request in asked if ".jpg" in request]
    lists = [request for request in asked if "list-type=2" in request]
    assert any("prefix=listed/SUN/a/" in request for request in lists)
    assert any("prefix=listed/SUN/c/" in request for request in lists)
    assert len(lists) < 12


def test_mistakes_with_endpoints_are_told(store: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"an endpoint is given as http://HOST:PORT .*got 'minio'"):
        with_endpoint("s3://bucket/a", "minio")
    with pytest.raises(ConfigError, match="names an endpoint itself"):
        with_endpoint("s3://bucket/a?endpoint_override=h:1", store)
    assert with_endpoint(str(tmp_path), store) == str(tmp_path)
    config = IngestConfig(launcher="local", endpoint_url=store)
    with pytest.raises(ConfigError, match="lie in each other"):
        ingest("s3://bucket/listed", "s3://bucket/listed/dataset", config, process_engine)
    with pytest.raises(UserError, match="does not exist"):
        ingest("s3://bucket/nothing", str(tmp_path / "d"), config, process_engine)


def test_the_last_words_are_a_command_that_a_shell_takes_with_the_whole_place(store: str, tmp_path: Path) -> None:
    made = make("tar", tmp_path / "made", BODIES)
    words = [made.source, "s3://bucket/told", "--launcher", "local", "--short-side", "32", "--endpoint-url", store]
    outcome = run(words)
    _, _, look = outcome.text.splitlines()[-1].partition("look at it: ")
    name, command, place = shlex.split(look)
    assert (name, command, place) == ("sunspark", "inspect", with_endpoint("s3://bucket/told", store))
    assert Dataset.open(place).id == outcome.result.dataset_id  # type: ignore[attr-defined]
