"""What the pages show is run: the blocks of a page, in order, in a folder of its own.

A guide begins with a copy of the folder that the quickstart has left. `tests/documents.py` says how blocks are taken.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sunspark
from tests.documents import DOCS, blocks

pytestmark = [pytest.mark.spark, pytest.mark.laws, pytest.mark.timeout(300)]

BLOCK_SECONDS = 200


def run_page(page: Path, folder: Path) -> None:
    """Run the blocks of a page in `folder`; the first that fails is the assertion."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    ran = 0
    for block in blocks(page.read_text()):
        if block.is_file:
            (folder / block.title).write_text(block.text)
        if not block.is_run:
            continue
        program = ["bash", "-euo", "pipefail", "-c"] if block.language == "sh" else [sys.executable, "-c"]
        done = subprocess.run(
            [*program, block.text],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BLOCK_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{page.name}:\n{block.text}\n{done.stdout}\n{done.stderr}"
        ran += 1
    assert ran, f"{page.name} shows nothing that can be run"


@pytest.fixture(scope="module")
def after_quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the quickstart leaves."""
    folder = tmp_path_factory.mktemp("quickstart")
    run_page(DOCS / "quickstart.md", folder)
    return folder


@pytest.fixture
def folder(after_quickstart: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(after_quickstart, tmp_path / "copy"))


def test_the_quickstart_ends_with_a_report(after_quickstart: Path) -> None:
    assert "<html" in (after_quickstart / "report.html").read_text()


def test_a_run_that_stopped_goes_on(folder: Path) -> None:
    run_page(DOCS / "guides" / "resume.md", folder)


def test_predictions_are_written(folder: Path) -> None:
    run_page(DOCS / "guides" / "predict.md", folder)
    assert (folder / "predictions.csv").read_text().count("\n") == 121


def test_faults_on_purpose_lose_nothing(folder: Path) -> None:
    run_page(DOCS / "guides" / "faults.md", folder)


def test_a_folder_of_images_becomes_a_model(tmp_path: Path) -> None:
    run_page(DOCS / "guides" / "own-images.md", tmp_path)


def test_sun397_becomes_a_model(tmp_path: Path) -> None:
    make_sun397(tmp_path / "SUN397")
    run_page(DOCS / "guides" / "sun397.md", tmp_path)


def make_sun397(folder: Path) -> None:
    """A few drawn images in SUN397's layout, half of them in each list of the first partition."""
    sunspark.sample(str(folder.with_name("drawn")), num_classes=3, images_per_class=40)
    paths = []
    for drawn in sorted(folder.with_name("drawn").iterdir()):
        place = folder / drawn.name[0] / drawn.name
        shutil.copytree(drawn, place)
        paths += [f"/{image.relative_to(folder)}" for image in sorted(place.iterdir())]
    classes = dict.fromkeys(path.rpartition("/")[0] for path in paths)
    for name, lines in {"ClassName": classes, "Training_01": paths[::2], "Testing_01": paths[1::2]}.items():
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
