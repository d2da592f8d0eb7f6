"""The page of a report as a browser sees it."""

from html.parser import HTMLParser
from pathlib import Path

from sunspark.bench.report import ReportResult, report


class Page(HTMLParser):
    """Collects what a browser would: visible text, references, tags that never closed."""

    _VOID = frozenset({"meta", "wbr", "img"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self._joined = False
        self.feed(html)
        self.close()

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._joined = tag == "wbr"  # a place where a line may break, not a space
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1:] == [tag], f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            if self._joined and self.words:
                data = self.words.pop() + data
            self.words.append(data)
        self._joined = False


def page_html(run: Path) -> str:
    out = run.parent / "report.html"
    result = report(str(run), str(out))
    assert result == ReportResult(run=str(run), path=str(out), size_bytes=out.stat().st_size)
    return out.read_text()


def page_of(run: Path) -> Page:
    page = Page(page_html(run))
    assert page.open == []
    return page
