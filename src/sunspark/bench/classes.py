"""What an evaluation says about the classes of one split: how well each is recognised, what for others are taken."""

from dataclasses import dataclass
from typing import Any

from sunspark.bench import bars
from sunspark.bench.bars import Bar
from sunspark.bench.confusion import Confusion, confusion
from sunspark.bench.download import Download, csv_download
from sunspark.bench.gallery import Gallery, gallery
from sunspark.bench.words import count, plural

_FEW_CLASSES = 60
_ENDS_SHOWN = 15


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassSection:
    """One split: accuracy per class, confusions, images."""

    split: str
    summary: str
    best: tuple[Bar, ...]
    worst: tuple[Bar, ...]
    """Empty when there are few classes: then `best` holds all."""
    spread: tuple[Bar, ...]
    everything: tuple[Bar, ...]
    download: Download
    confusion: Confusion | None
    gallery: Gallery | None


def class_section(evaluation: dict[str, Any]) -> ClassSection:
    """From what `evaluate` has stored."""
    rows = [(str(row["name"]), int(row["samples"]), int(row["correct"])) for row in evaluation.get("per_class", [])]
    classes = bars.class_bars(rows)
    rated = [bar for bar in classes if bar.text != "-"]
    many = len(rated) > _FEW_CLASSES
    perfect = sum(bar.share == 1 for bar in rated)
    summary = f"{count(evaluation['samples'])} images of {plural(len(rated), 'class', 'classes')}"
    names, samples, correct = zip(*rows, strict=True) if rows else ((), (), ())
    return ClassSection(
        split=str(evaluation["split"]),
        summary=summary + (f"; {count(perfect)} without a mistake" if perfect else ""),
        best=tuple(rated[:_ENDS_SHOWN]) if many else classes,
        worst=tuple(rated[-_ENDS_SHOWN:]) if many else (),
        spread=bars.class_spread(classes) if many else (),
        everything=classes if many else (),
        download=csv_download("classes.csv", {"class": names, "images": samples, "right": correct}),
        confusion=confusion(evaluation),
        gallery=gallery(evaluation),
    )
