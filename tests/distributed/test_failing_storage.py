"""A whole run from a store that fails and whose keys expire: the weights are those of a run from a local disk."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sunspark.storage.filesystem import forget_clients
from tests.distributed.harness import step_reached, train_and_watch, wait_until
from tests.distributed.laws import Optimizer, assert_nothing_was_lost, law_config
from tests.failing_s3 import KEY, serve

EXPIRES_AT_STEP = 60
ONE_BLOCK_BYTES = 150_000

pytestmark = pytest.mark.timeout(300)


def test_failing_requests_and_keys_that_expire_change_nothing(
    law_dataset: str,
    undisturbed: Callable[[Optimizer], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cache holds one block of four, so that the store is asked all along."""
    profile, run, is_renewed = tmp_path / "credentials", tmp_path / "run", threading.Event()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profile))

    def renew(key: str) -> None:
        profile.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n")

    def expire() -> None:
        wait_until(lambda: step_reached(run) >= EXPIRES_AT_STEP, 120, "the run to be under way")
        server.keys = {"another-key"}
        wait_until(lambda: server.answers["expired"] > 0, 60, "a request with the old key")
        renew("another-key")
        is_renewed.set()

    plain = law_config("sgd", workers=2)
    data = replace(plain.data, cache_directory=str(tmp_path / "cache"), cache_bytes=ONE_BLOCK_BYTES)
    renew(KEY)
    forget_clients()
    with serve(Path(law_dataset).parent) as server:
        server.failing_share = 0.05
        train_and_watch(server.uri("dataset"), run, replace(plain, data=data), until=is_renewed.is_set, on_start=expire)
        assert is_renewed.is_set()
        assert min(server.answers[kind] for kind in ("503", "cut", "reset")) >= 1
        assert_nothing_was_lost(str(run), undisturbed("sgd"))
    forget_clients()
