"""Damaged images by the thousand: each is taken or named, none ends or hangs the process, none takes too much."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.fuzz import BUDGET_BYTES


def fuzzed(folder: Path, num_images: int, seed: int, seconds: float) -> dict[str, int]:
    """What became of that many mutated images, in a process of its own."""
    words = [sys.executable, "-m", "tests.data.fuzz", str(folder), str(num_images), str(seed)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-4000:]}"
    result: dict[str, int] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize(
    ("num_images", "seed"),
    [
        pytest.param(1_000, 1, marks=pytest.mark.timeout(300)),
        pytest.param(10_000, 2, marks=[pytest.mark.laws, pytest.mark.timeout(1200)]),
    ],
)
def test_mutated_images_are_taken_or_named(num_images: int, seed: int, tmp_path: Path) -> None:
    result = fuzzed(tmp_path, num_images, seed, 1100)
    assert result["listed"] == num_images == result["accepted"] + result["quarantined"]
    assert min(result["accepted"], result["quarantined"]) > num_images / 20
    assert result["grown_bytes"] < BUDGET_BYTES


def test_the_same_seed_damages_alike(tmp_path: Path) -> None:
    first, second = (fuzzed(tmp_path / name, 150, 3, 100) for name in ("a", "b"))
    assert first["dataset_id"] == second["dataset_id"]
