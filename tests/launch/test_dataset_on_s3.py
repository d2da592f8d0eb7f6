"""A training whose dataset lies behind S3: exactly once, whatever the store answers."""

from dataclasses import replace
from pathlib import Path

import pytest

from sunspark.launch.train import train
from sunspark.storage.filesystem import forget_clients
from sunspark.training.verify import verify
from tests.failing_s3 import KEY, serve
from tests.launch.short import short_config

pytestmark = pytest.mark.timeout(240)


def test_a_store_that_fails_now_and_then_fails_no_run(
    law_dataset: str, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    folder, short = Path(law_dataset), short_config()
    config = replace(short, data=replace(short.data, cache_directory=str(tmp_path / "cache")))
    with serve(folder.parent) as server:
        server.failing_share = 0.3
        forget_clients()
        assert train(server.uri(folder.name), str(run_folder), config).finished
        assert sum(server.answers[kind] for kind in ("503", "cut", "reset")) > 0
        result = verify(str(run_folder), pixels=True)
    assert result.exactly_once, result.problems
