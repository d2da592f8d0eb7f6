"""Laws of ingest on Spark from every kind of source: the dataset is the one that processes of this machine make."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sunspark.data.dataset import Dataset
from sunspark.data.ingest import IngestConfig
from sunspark.launch.ingest import ingest as ingest_with
from sunspark.launch.processes import process_engine
from sunspark.spark.ingest import ingest
from tests.data.source_kinds import KINDS, images, make, write_hugging_face, write_tar
from tests.distributed.harness import have_open
from tests.spark.test_ingest import DEADLINE_SECONDS, kill_one_while_it_works, num_failed_tasks

pytestmark = [pytest.mark.spark, pytest.mark.timeout(300)]


def test_every_kind_gives_the_dataset_of_the_local_launcher_for_any_partition_count(
    tmp_path: Path, two_core_session: SparkSession
) -> None:
    bodies = images()
    ids = set()
    for partitions, kind in enumerate(KINDS, 1):
        made = make(kind, tmp_path / kind, bodies)
        config = IngestConfig(
            short_side=32, block_size=5, partitions=partitions, labels=made.labels, split_list=made.split_list
        )
        ids.add(ingest(made.source, str(tmp_path / f"{kind} dataset"), config, two_core_session).dataset_id)
        dataset = Dataset.open(str(tmp_path / f"{kind} dataset"))
        assert sum(len(dataset.read_block(block).images) for block in range(dataset.num_blocks)) == 24
    made = make("folder", tmp_path / "again", bodies)
    local = IngestConfig(launcher="local", short_side=32, block_size=5, split_list=made.split_list)
    ids.add(ingest_with(made.source, str(tmp_path / "local"), local, partial(process_engine, 2)).dataset_id)
    assert len(ids) == 1


@pytest.mark.parametrize("kind", ["tar.gz", "parquet"])
def test_a_task_killed_while_it_stages_changes_nothing(
    kind: str, tmp_path: Path, two_core_session: SparkSession
) -> None:
    drawn = list(images(6, height=800).values())
    bodies = {f"a/abbey/{number:03d}.jpg": drawn[number % 6] for number in range(200)}
    if kind == "parquet":
        source = tmp_path / "data"
        write_hugging_face(source, "train", bodies)
    else:
        source = tmp_path / "many.tar.gz"
        write_tar(source, {path.removeprefix("a/"): body for path, body in bodies.items()})
    config = IngestConfig(block_size=40)
    local = IngestConfig(launcher="local", block_size=40)
    undisturbed = ingest_with(str(source), str(tmp_path / "one"), local, process_engine)
    failed_before = num_failed_tasks(two_core_session)
    dataset = tmp_path / "two"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ingest, str(source), str(dataset), config, two_core_session)
        kill_one_while_it_works(dataset, lambda: at_staging(dataset), running, "staging-*/.piece-*", 1)
        result = running.result(timeout=DEADLINE_SECONDS)
    assert num_failed_tasks(two_core_session) > failed_before
    assert result.dataset_id == undisturbed.dataset_id
    assert (result.listed, result.accepted, result.quarantined) == (200, 200, 0)
    assert not list(dataset.glob("staging*"))


def at_staging(dataset: Path) -> list[int]:
    return [process for folder in dataset.glob("staging-*") for process in have_open(folder)]
