"""The configuration of a run comes back as it was written, and anything else is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from sunspark.errors import RunError
from sunspark.run_directory import config_file, evaluation_file, evaluation_files, read_config, write_config

CONFIG: dict[str, Any] = {
    "dataset": "d",
    "dataset_id": "abc",
    "blocks": None,
    "pixels_version": 2,
    "work": {"data": {}},
    "launch": {"workers": 2},
}


FORMAT = {"format": "sunspark-run-1"}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_config(str(tmp_path), **CONFIG)
    assert read_config(str(tmp_path)) == FORMAT | CONFIG


def test_the_first_runs_did_not_say_how_they_made_pixels_nor_in_which_blocks_their_samples_lay(tmp_path: Path) -> None:
    write_config(str(tmp_path), **CONFIG)
    path = Path(config_file(str(tmp_path)))
    path.write_text(
        json.dumps({key: value for key, value in CONFIG.items() if "_version" not in key and key != "blocks"} | FORMAT)
    )
    assert read_config(str(tmp_path)) == FORMAT | CONFIG | {"pixels_version": 1}


def test_a_folder_without_a_configuration_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run"):
        read_config(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "sunspark-run-9"}, "has the format 'sunspark-run-9', this version reads"),
        ({"dataset_id": None}, "holds no dataset_id"),
        ({"work": []}, "holds no work"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_config(str(tmp_path), **CONFIG)
    path = Path(config_file(str(tmp_path)))
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RunError, match=message):
        read_config(str(tmp_path))


@pytest.mark.parametrize(
    ("body", "message"), [("[]", "holds a list"), ("", "is empty"), ('{"format": ', "is damaged: Expecting value")]
)
def test_of_a_damaged_configuration_it_is_said_what_to_do(tmp_path: Path, body: str, message: str) -> None:
    Path(config_file(str(tmp_path))).write_text(body)
    with pytest.raises(
        RunError, match=rf"config\.json {message}.*; put back a copy of it, or train into another folder"
    ):
        read_config(str(tmp_path))


def test_evaluations_are_found_by_their_names(tmp_path: Path) -> None:
    names = [evaluation_file(str(tmp_path), split) for split in ("test", "train")]
    for name in [*names, config_file(str(tmp_path)), str(tmp_path / "evaluation-x.txt")]:
        Path(name).write_text("{}")
    assert evaluation_files(str(tmp_path)) == names
