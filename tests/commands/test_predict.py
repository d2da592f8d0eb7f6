"""`sunspark predict` as it is typed: JSON as promised, text for people, mistakes with exit code 2."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sunspark.commands.predict import run
from sunspark.data.codec import encode_jpeg
from sunspark.errors import ConfigError

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "good.jpg").write_bytes(encode_jpeg(np.zeros((40, 40, 3), np.uint8)))
    (tmp_path / "in" / "empty.jpg").touch()
    return tmp_path / "in"


def sunspark(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sunspark.cli", "predict", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_json_has_the_classes_or_the_error_of_every_image(finished: str, folder: Path) -> None:
    done = sunspark(finished, str(folder), "--top", "2", "--json")
    assert done.returncode == 0, done.stderr
    good, empty = json.loads(done.stdout)["predictions"]
    assert list(good) == ["path", "top"]
    assert good["path"] == str(folder / "deep" / "good.jpg")
    assert [list(one) for one in good["top"]] == [["class", "probability"]] * 2
    assert empty == {"path": str(folder / "empty.jpg"), "error": "the file is empty"}


def test_nothing_at_a_path_is_the_users_mistake(finished: str, folder: Path) -> None:
    done = sunspark(finished, str(folder / "nowhere.jpg"), "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"sunspark: there is nothing at {folder}/nowhere.jpg; check the path\n"


def test_people_read_a_line_for_each_class(finished: str, folder: Path) -> None:
    lines = run([finished, str(folder), "--top", "2"]).text.splitlines()
    assert lines[0] == str(folder / "deep" / "good.jpg")
    assert lines[1].endswith(tuple(f" %  class{label}" for label in range(6)))
    assert lines[3:] == [str(folder / "empty.jpg"), "  cannot be seen: the file is empty"]


def test_a_table_is_summed_up(finished: str, folder: Path, tmp_path: Path) -> None:
    text = run([finished, str(folder), "--out", str(tmp_path / "t.csv"), "--launcher", "local"]).text
    assert "predicted  1\nfailed     1" in text


@pytest.mark.parametrize("option", [["--launcher", "local"], ["--master", "local[2]"]])
def test_an_option_without_effect_is_refused(finished: str, folder: Path, option: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"has no effect without --out; name a table"):
        run([finished, str(folder), *option])


def test_no_image_is_told(finished: str) -> None:
    with pytest.raises(ConfigError, match="no image is named; give image files, folders"):
        run([finished])
