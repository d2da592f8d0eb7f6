"""The documentation against the code: commands parse, calls fit, links lead somewhere, the house is as drawn."""

import ast
import importlib
import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import sunspark
from sunspark.cli import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


class Parsed(Exception):
    """The command line was understood; nothing was done."""


def command_lines(text: str) -> list[str]:
    """Every line of code, in a block or between backticks, that starts with `sunspark` (a prompt before it is fine)."""
    text = re.sub(r"\\\n\s+", "", text)  # a line that goes on
    blocks = re.findall(r"^ {4,}(?:\$ )?(sunspark .*)$", text, re.MULTILINE)
    spans = re.findall(r"`(sunspark [^`]*)`", text)
    return list(dict.fromkeys([*blocks, *spans]))


def code_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def links(page: Path) -> Iterator[tuple[str, str]]:
    """File and heading of every link that stays in the project."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            file, _, heading = target.partition("#")
            yield file, heading


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("line", command_lines(README))
def test_a_command_of_the_readme_parses(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, name, *words = shlex.split(line, comments=True)
    assert name in COMMANDS
    if not words:
        return  # the name of a command, in a sentence

    def stop(*_: object, **__: object) -> None:
        raise Parsed

    monkeypatch.chdir(ROOT)
    for function in [function for function in vars(sunspark) if function.partition("_")[0] == name]:
        monkeypatch.setattr(sunspark, function, stop)
    command = importlib.import_module(f"sunspark.commands.{name}")
    with pytest.raises(SystemExit if "--help" in words else Parsed):
        command.run(words)


def test_every_command_is_in_the_readme() -> None:
    assert {line.split()[1] for line in command_lines(README)} == set(COMMANDS)


@pytest.mark.parametrize("block", code_blocks(README))
def test_the_python_of_the_readme_fits_the_functions(block: str) -> None:
    calls = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)]
    ours = [call for call in calls if ast.unparse(call.func).startswith("sunspark.")]
    assert ours
    for call in ours:
        function = getattr(sunspark, ast.unparse(call.func).removeprefix("sunspark."))
        named = {keyword.arg: None for keyword in call.keywords if keyword.arg}
        inspect.signature(function).bind(*call.args, **named)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for file, heading in links(page):
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{page.name} links to {file}, which does not exist"
        assert not heading or heading in headings(target), f"{page.name} links to #{heading}, which {target.name} lacks"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:^ {4}|`)make ([a-z-]+)", page.read_text(), re.MULTILINE)
    assert set(named) <= targets


def test_the_picture_of_the_house_is_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    built = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    page = (ROOT / "docs" / "architecture.md").read_text()
    picture = page.partition("twin is the layers contract")[2].split("\n\n")[1]
    drawn = [line.replace("(does not exist yet)", "").strip() for line in picture.splitlines()]
    assert drawn == [re.sub(r"[()]", "", layer) for layer in built]


def test_no_figure_waits_to_be_filled_in() -> None:
    waiting = {name for page in PAGES for name in re.findall(r"FIGURE:\w+", page.read_text())}
    assert not waiting
