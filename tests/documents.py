"""The documents of the project as tests read them: pages, blocks of code, command lines.

How a block of a page in `docs/` is taken, by the line that opens it:

    ```sh                        run, after the blocks before it, in the page's folder
    ```python                    the same
    ```toml title="small.toml"   written to that file, before what follows is run
    ```sh title="on a cluster"   cannot be run here: the title says where; its command lines are parsed all the same
    ```text, ```json, ...        shown, no more
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("**/*.md")])


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of code."""

    language: str
    title: str
    text: str

    @property
    def is_run(self) -> bool:
        return self.language in ("sh", "python") and not self.title

    @property
    def is_file(self) -> bool:
        return self.language == "toml" and bool(self.title)


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = re.findall(r'^```(\w+)(?: title="([^"]*)")?\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)
    return [Block(*one) for one in found]


def command_lines(text: str) -> list[str]:
    """Every command of sunspark in a page: in a block, between backticks, or handed to spark-submit."""
    text = re.sub(r"\\\n\s+", "", text)  # a line that goes on
    fenced = "\n".join(block.text for block in blocks(text) if block.language == "sh")
    indented = "\n".join(re.findall(r"^ {4,}(?:\$ )?((?:sunspark|spark-submit|make) .*)$", text, re.MULTILINE))
    lines = f"{fenced}\n{indented}".splitlines()
    direct = [found[1] for line in lines if (found := re.match(r"\s*(?:timeout \d+ )?(sunspark [^|>]*)", line))]
    submitted = [
        f"sunspark {found[1]}"
        for line in lines
        if (found := re.search(r'(?:where\)"|sunspark_submit\.py) (.*)$', line))
    ]
    spans = re.findall(r"`(sunspark [^`]*)`", text)
    return list(dict.fromkeys([*direct, *submitted, *spans]))
