"""Laws of the early end on Spark: the job is cancelled when the ingest can only fail, and leaves the table alone."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sunspark.data.ingest import IngestConfig
from sunspark.data.quarantine import quarantine_table
from sunspark.errors import SourceError
from sunspark.spark.ingest import ingest
from tests.launch.test_early_end import EARLY, bodies, files_in, written

pytestmark = [pytest.mark.spark, pytest.mark.timeout(300)]


@pytest.mark.parametrize(("kind", "num_bad"), [("folder", 3000), ("tar.gz", 20_000)])
def test_an_ingest_of_pages_ends_when_it_can_only_fail(
    kind: str, num_bad: int, tmp_path: Path, two_core_session: SparkSession
) -> None:
    source = written(kind, tmp_path, bodies(100, num_bad, first="bad"))
    with pytest.raises(SourceError) as caught:
        ingest(source, str(tmp_path / "d"), IngestConfig(short_side=16, block_size=8), two_core_session)
    told = EARLY.match(str(caught.value))
    assert told is not None, str(caught.value)
    assert (num_bad + 100) // 100 < int(told[1]) < num_bad
    assert files_in(tmp_path / "d") == ["quarantine.parquet"]
    assert [path.name for path in (tmp_path / "d").glob("staging*")] == []
    assert quarantine_table(str(tmp_path / "d")).quarantined == int(told[1])


def test_as_many_bad_images_as_may_be_end_nothing(tmp_path: Path, two_core_session: SparkSession) -> None:
    source = written("folder", tmp_path, bodies(480, 20, first="bad"))
    config = IngestConfig(short_side=16, block_size=8, max_bad_fraction=0.04)
    assert ingest(source, str(tmp_path / "d"), config, two_core_session).quarantined == 20
    with pytest.raises(SourceError, match=r"^20 of 500 images \(4 %\) cannot be taken, more than the 3\.8 %"):
        ingest(
            source,
            str(tmp_path / "none"),
            IngestConfig(short_side=16, block_size=8, max_bad_fraction=0.038),
            two_core_session,
        )
    assert files_in(tmp_path / "none") == ["quarantine.parquet"]
