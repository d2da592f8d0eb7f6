"""The documentation as a site: it is built strictly, loads nothing from elsewhere, and lacks no option."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sunspark.cli import COMMANDS
from sunspark.command_line import flags
from tests.documents import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_a_page_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text()
        loaded = re.findall(r"<(?:script|img|iframe|source|video|audio|link)\b[^>]*?(?:src|href)=\"?([^\s\">]+)", text)
        loaded += re.findall(r"@import|url\((?!data:)[^)]*//[^)]*\)", text)
        assert not [one for one in loaded if re.match(r"(?:[a-z]+:)?//|@import|url", one)], page


def test_a_style_loads_nothing_from_elsewhere(site: Path) -> None:
    for style in site.rglob("*.css"):
        assert not re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style.read_text()), style


def test_the_reference_has_every_option_of_every_command(site: Path) -> None:
    said = "".join((site / "reference" / f"{name}.html").read_text() for name in ("commands", "configuration"))
    shown = set(re.findall(r"<code>(--[a-z][a-z0-9-]*)</code>", said))
    needless = {
        "--no-json",
        "--no-debug",
        "--no-once",
        "--no-pixels",
        "--no-dry-run",
        "--no-quarantine",
        "--no-leaks",
    }  # of options that are off unless given
    for name in COMMANDS:
        assert f'id="sunspark-{name}"' in said
        taken = set(flags(importlib.import_module(f"sunspark.commands.{name}").Arguments))
        assert taken - needless <= shown, name
