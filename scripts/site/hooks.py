"""What mkdocs does not do by itself: pages drawn from the code, the README as the first page, folders in nav."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import reference  # mkdocs lets a hook import what lies beside it
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).resolve().parents[2]
REFERENCE: Final = {
    "reference/commands.md": reference.commands_page,
    "reference/configuration.md": reference.configuration_page,
    "reference/files.md": reference.files_page,
    "reference/python.md": reference.python_page,
}
FROM_ROOT: Final = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "LICENSE": "LICENSE.txt",
}
"""Files beside `docs/` that are part of the site, and their places there."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put pages in the place of the folders that nav names."""
    named = set(_pages_in(config.nav))
    config.nav = _with_folders(config.nav or [], Path(config.docs_dir), named)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is not in `docs/`."""
    pages = {place: draw() for place, draw in REFERENCE.items()}
    pages |= {place: _moved((ROOT / name).read_text()) for name, place in FROM_ROOT.items()}
    pages["decisions/index.md"] = _decisions(Path(config.docs_dir))
    for place, text in pages.items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links that lead out of `docs/` lead to where the site has the same."""
    if not page.file.generated_by:
        for name, place in FROM_ROOT.items():
            markdown = re.sub(rf"(\]\((?:\.\./)*)\.\./{re.escape(name)}", rf"\g<1>{place}", markdown)
    return re.sub(r"\]\(((?:\.\./)*decisions)/?\)", r"](\1/index.md)", markdown)


def _moved(text: str) -> str:
    """A page from beside `docs/`, its links as they are from within."""
    text = (
        text.replace("](docs/decisions)", "](decisions/index.md)").replace("](docs/", "](").replace("](../docs/", "](")
    )
    for name, place in FROM_ROOT.items():
        text = text.replace(f"]({name}", f"]({place}")
    return text


def _decisions(docs: Path) -> str:
    """The list of decisions, by number."""
    pages = sorted((docs / "decisions").glob("*.md"))
    titles = [page.read_text().partition("\n")[0].removeprefix("# ") for page in pages]
    lines = [f"* [{title}]({page.name})" for page, title in zip(pages, titles, strict=True)]
    return "\n".join(["# Decisions", "", "Why sunspark is as it is, one page a choice.", "", *lines, ""])


def _pages_in(nav: Any) -> Iterator[str]:
    """Every path in a nav."""
    if isinstance(nav, str):
        yield nav
    for item in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from _pages_in(item)


def _with_folders(items: list[Any], docs: Path, named: set[str]) -> list[Any]:
    found: list[Any] = []
    for item in items:
        if isinstance(item, str) and item.endswith("/"):
            found += _rest_of(item, docs, named)
        elif isinstance(item, dict):
            found.append({title: _below(value, docs, named) for title, value in item.items()})
        else:
            found.append(item)
    return found


def _below(value: Any, docs: Path, named: set[str]) -> Any:
    if isinstance(value, str) and value.endswith("/"):
        return [f"{value}index.md", *_rest_of(value, docs, named)]
    return _with_folders(value, docs, named) if isinstance(value, list) else value


def _rest_of(folder: str, docs: Path, named: set[str]) -> list[str]:
    """The pages of a folder that nav does not name."""
    pages = [page.relative_to(docs).as_posix() for page in sorted((docs / folder).glob("*.md"))]
    return [page for page in pages if page not in named]
