"""A trial in a task of Spark ends as it does on this machine."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sunspark.config import to_dict
from sunspark.errors import StorageError
from sunspark.launch.config import LaunchConfig
from sunspark.launch.trial import TrialTask
from sunspark.records import driver_file
from sunspark.spark.trials import trial_on_spark
from tests.launch.short import short_config

pytestmark = pytest.mark.spark


def test_a_full_disk_in_a_task_is_told_as_one_and_the_task_is_not_started_again(
    law_dataset: str, run_folder: Path, two_core_session: SparkSession
) -> None:
    task = TrialTask(dataset=law_dataset, run=str(run_folder), config=to_dict(short_config()))
    records = Path(driver_file(task.run))
    records.parent.mkdir(parents=True)
    records.symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"driver\.jsonl: .*No space left"):
        trial_on_spark(two_core_session, LaunchConfig())(task)
