"""Laws of the confusion matrix: every image is in it once, and it can be read however many classes there are."""

import base64
import csv
import io
import re
from collections import Counter
from typing import Any

import pytest

from sunspark.bench.confusion import Confusion, Matrix, confusion
from sunspark.bench.download import Download
from tests.bench.made_run import MadeRun, alike
from tests.bench.page import page_of

pytestmark = pytest.mark.timeout(60)


def evaluation(names: list[str], counts: dict[tuple[int, int], int]) -> dict[str, Any]:
    return {
        "per_class": [{"name": name, "samples": 0, "correct": 0} for name in names],
        "confusion": [[*pair, count] for pair, count in counts.items()],
    }


def of(names: list[str], counts: dict[tuple[int, int], int]) -> Confusion:
    made = confusion(evaluation(names, counts))
    assert made is not None
    return made


def rows_of(download: Download) -> list[dict[str, str]]:
    body = base64.b64decode(download.uri.partition("base64,")[2]).decode()
    return list(csv.DictReader(io.StringIO(body)))


def area(matrix: Matrix, style: str) -> int:
    """Cells that are drawn in a strength of blue or vermilion."""
    paths = [path for name, path in matrix.layers if name.startswith(style)]
    return sum(int(width) for path in paths for width in re.findall(r"h(\d+)v1", path))


def test_the_file_holds_every_image_by_name() -> None:
    counts = {(0, 0): 5, (0, 2): 1, (1, 1): 4, (2, 0): 3}
    rows = rows_of(of(["bay", "cliff", "dune"], counts).download)
    names = ["bay", "cliff", "dune"]
    assert Counter({(row["class"], row["taken_for"]): int(row["images"]) for row in rows}) == Counter(
        {(names[label], names[predicted]): count for (label, predicted), count in counts.items()}
    )


def test_right_is_blue_wrong_is_vermilion_and_stronger_is_more() -> None:
    made = of(["bay", "cliff"], {(0, 0): 9, (0, 1): 1, (1, 0): 6, (1, 1): 4}).whole
    assert [style for style, _ in made.layers] == ["wrong-3", "wrong-5", "right-2", "right-5"]
    assert {(cell.hint, cell.text) for cell in made.cells} == {
        ("bay taken for bay: 9 of 10, 90.0\u00a0%", "9"),
        ("bay taken for cliff: 1 of 10, 10.0\u00a0%", "1"),
        ("cliff taken for bay: 6 of 10, 60.0\u00a0%", "6"),
        ("cliff taken for cliff: 4 of 10, 40.0\u00a0%", "4"),
    }


def test_classes_that_are_taken_for_each_other_stand_together() -> None:
    counts = {(label, label): 6 for label in range(12)} | {(label, (label + 6) % 12): 4 for label in range(12)}
    names = [f"class {label}" for label in range(12)]
    order = [names.index(name) for name in of(names, counts).whole.names]
    assert all(abs(order.index(label) - order.index(label + 6)) == 1 for label in range(6))


def test_a_class_that_the_split_does_not_have_and_nothing_was_taken_for_is_left_out() -> None:
    assert of(["bay", "cliff", "dune"], {(0, 0): 5, (0, 2): 1}).whole.names == ("bay", "dune")


def test_hundreds_of_classes_are_drawn_whole_and_their_worst_groups_again(made: MadeRun) -> None:
    made.classes = tuple(f"building_{number:03d}" for number in range(397))
    made.write()
    made.evaluate()
    page = page_of(made.run)
    boxes = [value for _, name, value in page.attributes if name == "viewbox"]
    assert sum(value.count(" 397") == 2 for value in boxes) == 1
    large = confusion(_stored(made))
    assert large is not None
    assert area(large.whole, "right") + area(large.whole, "wrong") == len(rows_of(large.download))
    assert len(large.whole.rows) == 397
    assert len(large.groups) == 4
    for group in large.groups:
        assert 2 <= group.size <= 12
        labels = {int(name.removeprefix("building_")) for name in group.names}
        assert any(labels <= set(alike(label, 397)) or set(alike(label, 397)) <= labels for label in labels)
        assert all(name in page.text for name in group.names)
    assert sorted(large.order) == sorted(made.classes)


def test_the_most_frequent_mistakes_are_named_most_frequent_first() -> None:
    made = of(["bay", "cliff", "dune"], {(0, 0): 5, (0, 2): 2, (1, 1): 4, (2, 0): 3})
    assert [(bar.name, bar.text, bar.share) for bar in made.pairs] == [
        ("dune → bay", "3 of 3", 1.0),
        ("bay → dune", "2 of 7", 2 / 7),
    ]


def test_an_evaluation_without_a_mistake_has_a_matrix() -> None:
    made = of(["bay", "cliff"], {(0, 0): 5, (1, 1): 3})
    assert made.pairs == ()
    assert made.whole.caption.startswith("0 of 8 images were taken for another class.")


def test_an_evaluation_that_saw_no_image_has_no_matrix() -> None:
    assert confusion(evaluation(["bay"], {})) is None


def _stored(made: MadeRun) -> dict[str, Any]:
    from sunspark.bench.run_files import read_run

    return read_run(str(made.run)).evaluations[0]
