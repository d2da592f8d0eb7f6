"""The documentation against the code: commands parse, calls fit, links lead somewhere, numbers are the constants."""

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
from sunspark.command_line import flags
from tests.documents import DOCS, PAGES, ROOT, Block, blocks, command_lines

README = (ROOT / "README.md").read_text()
FAILURES = (DOCS / "concepts" / "failures.md").read_text()
OF_OTHERS = {"--archives", "--conf", "--deploy-mode", "--master", "--without"}
"""Options that pages name, of spark-submit and of scripts/pack_environment.py."""


class Parsed(Exception):
    """The command line was understood; nothing was done."""


def all_blocks() -> list[Block]:
    return [block for page in PAGES for block in blocks(page.read_text())]


def all_command_lines() -> list[str]:
    return list(dict.fromkeys(line for page in PAGES for line in command_lines(page.read_text())))


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


@pytest.mark.parametrize("line", all_command_lines())
def test_a_command_that_is_named_parses(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, name, *words = shlex.split(line, comments=True)
    assert name in COMMANDS
    if not words:
        return  # the name of a command, in a sentence

    def stop(*_: object, **__: object) -> None:
        raise Parsed

    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    for block in all_blocks():
        if block.is_file:
            (tmp_path / block.title).write_text(block.text)
    monkeypatch.chdir(tmp_path)
    for function in [function for function in vars(sunspark) if function.partition("_")[0] == name]:
        monkeypatch.setattr(sunspark, function, stop)
    command = importlib.import_module(f"sunspark.commands.{name}")
    with pytest.raises(SystemExit if "--help" in words else Parsed):
        command.run(words)


def test_every_command_is_in_the_readme() -> None:
    assert {line.split()[1] for line in command_lines(README)} == set(COMMANDS)


@pytest.mark.parametrize("block", [block.text for block in all_blocks() if block.language == "python"])
def test_python_that_is_shown_fits_the_functions(block: str) -> None:
    calls = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)]
    ours = [call for call in calls if ast.unparse(call.func).startswith("sunspark.")]
    assert ours or "import sunspark" not in block
    for call in ours:
        function = getattr(sunspark, ast.unparse(call.func).removeprefix("sunspark."))
        named = {keyword.arg: None for keyword in call.keywords if keyword.arg}
        inspect.signature(function).bind(*call.args, **named)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for file, heading in links(page):
        target = (page.parent / file).resolve() if file else page
        if target.parent == DOCS / "reference":
            continue  # drawn when the site is built, which looks at these links
        assert target.exists(), f"{page.name} links to {file}, which does not exist"
        assert not heading or heading in headings(target), f"{page.name} links to #{heading}, which {target.name} lacks"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"(?:^ {4}|`|^)make ([a-z-]+)(?=[\s`]|$)", page.read_text(), re.MULTILINE)
    assert set(named) <= targets


def test_the_picture_of_the_house_is_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    built = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    page = (ROOT / "docs" / "architecture.md").read_text()
    picture = page.partition("twin is the layers contract")[2].split("\n\n")[1]
    assert [line.strip() for line in picture.splitlines()] == built


def test_every_option_that_is_named_exists() -> None:
    known = {"--help", "--version", *OF_OTHERS}
    for name in COMMANDS:
        known.update(flags(importlib.import_module(f"sunspark.commands.{name}").Arguments))
    for page in sorted({*PAGES} - {ROOT / "CHANGELOG.md"}):
        spans = re.findall(r"`(--[a-z][a-z0-9-]*)", page.read_text())
        assert set(spans) <= known, page


def test_every_file_of_code_that_is_named_exists() -> None:
    for page in PAGES:
        for path in re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", page.read_text()):
            assert any((folder / path).is_file() for folder in (ROOT, ROOT / "src" / "sunspark")), (page, path)


def constants() -> list[tuple[str, str]]:
    return re.findall(r"^\|[^|]*\| ([\d.]+) \| `([\w.]+)` \|$", FAILURES, re.MULTILINE)


@pytest.mark.parametrize(("value", "name"), constants(), ids=lambda part: part)
def test_a_number_of_the_page_on_failures_is_the_constant(value: str, name: str) -> None:
    module, _, constant = name.rpartition(".")
    assert getattr(importlib.import_module(f"sunspark.{module}"), constant) == float(value)


def test_every_number_of_the_page_on_failures_has_its_constant() -> None:
    said = set(re.findall(r"([\d.]+) s\b", FAILURES)) - {"18", "120"}  # a measurement, the default of an option
    assert len(constants()) >= 19
    assert said <= {value for value, _ in constants()}
