import pytest

from sunspark.launch.train import train
from tests.launch.short import short_config


@pytest.fixture(scope="package")
def finished(law_dataset: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    run = str(tmp_path_factory.mktemp("finished") / "run")
    train(law_dataset, run, short_config())
    return run
