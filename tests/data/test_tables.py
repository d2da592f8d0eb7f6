"""Tables of paths and labels: columns, spellings, rows that repeat, and what is wrong with them in words."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sunspark.data.sources import Listing, list_source, parquet, table
from sunspark.errors import SourceError, StorageError
from tests.data.source_kinds import bytes_of, latin, write_table, write_tree


def test_mistakes_in_tables_are_told(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.jpg": b"x", "b.jpg": b"x"})

    def listed(*rows: dict[str, str]) -> Listing:
        return list_source(write_table("csv", tmp_path, list(rows)), test_fraction=None)

    for rows, match in (
        ([{"path": "gone.jpg", "label": "x"}], r"1 file that .*table\.csv names does not exist \(gone\.jpg\)"),
        ([{"path": "a.jpg", "label": ""}], "line 2 of .* lacks its label;"),
        (
            [{"path": "a.jpg", "label": "x"}, {"path": "./a.jpg", "label": "y"}],
            r"line 3 of .* gives a\.jpg another label, y, than a line before it, x",
        ),
        ([{"file": "a.jpg", "label": "x"}], r"has no column path \(columns: file, label\)"),
    ):
        with pytest.raises(SourceError, match=match):
            listed(*rows)
    for row, in_json, in_parquet in (
        (
            {"path": ["a.jpg"], "label": "x"},
            r"line 1 of .* has the path \['a\.jpg'\]",
            r"the column 'path' .* is list<",
        ),
        (
            {"path": "a.jpg", "label": "x", "split": {"of": "train"}},
            "line 1 .* has the split {",
            "'split' .* is struct<",
        ),
        (
            {"path": "a.jpg", "label": 1.5},
            "line 1 .* has the label 1.5; it needs",
            "label column .* is double; it needs",
        ),
    ):
        for kind, match in (("jsonl", in_json), ("parquet table", in_parquet)):
            with pytest.raises(SourceError, match=match):
                list_source(write_table(kind, tmp_path, [row]))
    (tmp_path / "table.csv").write_text("path,label\n")
    with pytest.raises(SourceError, match="has no rows"):
        list_source(str(tmp_path / "table.csv"))


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("t.csv", "path,label\na.jpg,x\ncafé.jpg,x\n".encode("latin-1"), r"line 3 of .* is not UTF-8 \("),
        ("t.csv", "path,label,größe\na.jpg,x,1\n".encode("latin-1"), r"line 1 of .* is not UTF-8 \("),
        (
            "t.csv",
            "path,label\na.jpg,x\n".encode("utf-16"),
            r"line 1 of .* is not UTF-8 but UTF-16; store the table as",
        ),
        (
            "t.csv",
            b"path,label\na.jpg,x\nb.jpg\n",
            r"line 3 of .*t\.csv has 1 column, and its header 2: b\.jpg; mend it",
        ),
        (
            "t.csv",
            b"path,label\na,b.jpg,x\n",
            r"line 2 of .* has 3 columns, .*: a,b\.jpg,x; .* holds ',' stands in quotes",
        ),
        ("t.csv", b'path,label\na.jpg,"x\n', r"line 2 of .* cannot be read \(.*\); mend its quotes"),
        ("t.csv", b"path,label,label\na.jpg,x,y\n", "has 2 columns named 'label'; rename all but one"),
        ("t.csv", b"path,Label ,label\na.jpg,x,y\n", "has 2 columns named 'label'; rename all but one"),
        ("t.csv", b"", r"t\.csv is empty"),
        (
            "t.csv",
            b"a.jpg,x\nb.jpg,y\n",
            r"t\.csv has no header: its first line names an image, a\.jpg; write .*path,label",
        ),
        ("t.csv", b"path|label\na.jpg|x\n", r"t\.csv parts its columns by '\|'; write commas, semicolons or tabs"),
        ("t.csv", b"Label Path\nx a.jpg\n", r"t\.csv parts its columns by ' '; write commas"),
        (
            "t.csv",
            b"sep=;\npath;label\na.jpg;x\n",
            r"t\.csv begins with sep=.*, a note to Excel .*; take that line out",
        ),
        ("t.csv", b"file|label\na.jpg|x\n", r"t\.csv has no column path and none label \(columns: file\|label\)"),
        (
            "t.csv",
            b"path,label\nsub\\a.jpg,x\n",
            r"does not exist \(sub\\a\.jpg\); these are paths of Windows: write / for \\$",
        ),
        (
            "t.csv",
            b"path,label\nC:/images/a.jpg,x\n",
            r"does not exist \(C:/images/a\.jpg\); these are paths of Windows: leave the drive out, .* begin with /$",
        ),
        (
            "t.csv",
            b"path,label\nC:\\images\\a.jpg,x\n",
            r"exist \(C:\\images\\a\.jpg\); these are paths of Windows: write / for \\, and leave the drive out, ",
        ),
        ("t.csv", b"path,label\nfile:///c:/a.jpg,x\n", r"these are paths of Windows: leave the drive out"),
        ("t.csv", b"path,label\nCD:/a.jpg,x\n", r"paths are relative to the table's folder, absolute, or URIs$"),
        (
            "t.csv",
            b"label,path\nx, a.jpg\n",
            r"does not exist \( a\.jpg\); some have white space around them: take it out",
        ),
        (
            "t.csv",
            b"path,label\na.jpg,x\n\0.jpg,x\n",
            r"line 3 of .*t\.csv has a zero byte in its path \('\\x00\.jpg'\)",
        ),
        ("t.csv", b"path,label\nfile:///a%00/b.jpg,x\n", r"line 2 of .* has a zero byte in its path"),
        ("t.csv", b"path,label\ngone/a.jpg," + b"9" * 5000, r"1 file that .* names does not exist \(gone/a\.jpg\)"),
        ("t.csv", b'path,label\r\n\r\na.jpg,"x\ny"\r\n,\r\nb.jpg,\r\n', r"line 6 of .* lacks its label;"),
        ("t.jsonl", '{"path": "a.jpg", "label": "café"}'.encode("latin-1"), r"line 1 of .*t\.jsonl is not UTF-8"),
        (
            "t.jsonl",
            '{"path": "a.jpg", "label": "x"}'.encode("utf-16"),
            r"line 1 of .*t\.jsonl is not UTF-8 but UTF-16",
        ),
        ("t.jsonl", b'{"path": "a\\u0000/b.jpg", "label": "x"}', r"line 1 of .* has a zero byte in its path"),
        ("t.jsonl", b'{"path": "a\\ud800.jpg", "label": "x"}', r"line 1 of .* has half a character in its path"),
        (
            "t.jsonl",
            b'{"path": "a.jpg", "label": "x"}\n\n{"path": "b.jpg", "label": null}',
            r"line 3 of .* lacks its label",
        ),
        ("t.jsonl", b'{"path": "", "label": null}', r"line 1 of .* lacks its path and its label;"),
        ("t.jsonl", b'{"path": "", "label": 0}', r"line 1 of .* lacks its path;"),
        ("t.jsonl", b'{"path": "a.jpg", "label": true}', r"line 1 of .*t\.jsonl has the label True; it needs a name"),
        (
            "t.jsonl",
            b'{"path": "a.jpg", "label": 1, "label": 2}',
            r"line 1 of .*t\.jsonl has 2 columns named 'label'; rename",
        ),
        ("t.jsonl", b'{"path": "a.jpg", "label": 1, "Label": 2}', r"line 1 of .*t\.jsonl has 2 columns named 'label'"),
        (
            "t.jsonl",
            b'{"path": "a.jpg", "label": 1}\n{"path": ',
            r"line 2 of .* is no JSON \(Expecting value at letter 10\)",
        ),
        ("t.jsonl", b"[" * 100_000, r"line 1 of .*t\.jsonl is no JSON \("),
        ("t.json", b'[{"path": "a.jpg", "label": 1}]', r"line 1 of .*t\.json is no JSON object .* one object a line"),
        ("t.jsonl", b'{"file": "a.jpg", "label": 1}', r"t\.jsonl has no column path \(columns: file, label\)"),
        (
            "t.jsonl",
            b'{"path": "a.jpg", "label": "x"}\n{"path": "b.jpg", "label": 3}',
            r"t\.jsonl names some labels \(x, line 1\) and numbers others \(3, line 2\); put the numbers in quotes",
        ),
    ],
)
def test_odd_tables_are_told(name: str, body: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / name).write_bytes(body)
    with pytest.raises(SourceError, match=message) as caught:
        list_source(str(tmp_path / name))
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            [("path", latin("é.jpg")), ("label", pa.array([1]))],
            "row 1 of .* has text in the column 'path' .* not UTF-8",
        ),
        (
            [("path", pa.array(["a.jpg"])), ("label", latin("é"))],
            "row 1 of .* has text in the column 'label' .* not UTF-8",
        ),
        ([("path", pa.array(["a\0.jpg"])), ("label", pa.array([1]))], "row 1 of .* has a zero byte in its path"),
        ([("path", pa.array(["a.jpg"]))] + [("label", pa.array([1]))] * 2, "has 2 columns named 'label'"),
    ],
)
def test_odd_tables_of_parquet_are_told(columns: list[tuple[str, pa.Array]], message: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    names, arrays = zip(*columns, strict=True)
    pq.write_table(pa.Table.from_arrays(list(arrays), list(names)), tmp_path / "table.parquet")
    with pytest.raises(SourceError, match=message):
        list_source(str(tmp_path / "table.parquet"))


def test_a_table_that_was_damaged_is_no_unexpected_error(tmp_path: Path) -> None:
    table = pa.table({"path": [f"{row}.jpg" for row in range(1000)], "label": [1] * 1000})
    pq.write_table(table, tmp_path / "table.parquet")
    body = bytearray((tmp_path / "table.parquet").read_bytes())
    body[4:400] = bytes(396)
    (tmp_path / "table.parquet").write_bytes(body)
    with pytest.raises((SourceError, StorageError), match=r"table\.parquet"):
        list_source(str(tmp_path / "table.parquet"))


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("t.csv", b"path;label;split\na.jpg;x, y;train\nb.jpg;z;test\n"),
        ("t.tsv", b"path\tlabel\tsplit\na.jpg\tx, y\ttrain\nb.jpg\tz\ttest\n"),
        ("t.csv", b'"path";"label";"split"\r\n"a.jpg";"x, y";"train"\r\n"b.jpg";"z";"test"\r\n;;\r\n'),
        ("t.CSV", b'\n PATH, Label ,other,SPLIT\na.jpg,"x, y",1, train \n\nb.jpg, z ,2,test\n'),
        ("t.csv", b'\xef\xbb\xbfpath,label,split\na.jpg,"x, y",train\nb.jpg,z,test'),
        ("t.csv", b'path,label,split\ra.jpg,"x, y",train\rb.jpg,z,test\r'),
        ("t.jsonl", b'\xef\xbb\xbf{"Path": "a.jpg", "label ": "x, y", "split": "train "}\n\n'
                    b'{"split": "test", "Path": "b.jpg", "label ": " z"}'),
    ],
)  # fmt: skip
def test_tables_are_taken_as_spreadsheets_write_them(name: str, body: bytes, tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.jpg": b"x", "b.jpg": b"y", name: body})
    listing = list_source(str(tmp_path / name))
    assert (listing.classes, listing.split_names) == (("x, y", "z"), ("train", "test"))
    assert [(image.path, image.label, image.splits) for image in listing.images] == [("a.jpg", 0, 1), ("b.jpg", 1, 2)]


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("t.csv", f'path,label,about\na.jpg,x,"{"long " * 100_000}"\n'.encode()),
        ("t.jsonl", b'{"path": "a.jpg", "label": "x", "about": {"of": 1, "of": 2}, "about": {"path": 1, "path": 2}}'),
    ],
)
def test_other_columns_are_left_alone(name: str, body: bytes, tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.jpg": b"x", name: body})
    assert [image.path for image in list_source(str(tmp_path / name)).images] == ["a.jpg"]


@pytest.mark.parametrize(
    ("num_letters", "cause"),
    [(500_000, "unexpected end of data"), (17_000_000, r"field larger than field limit \(16777216\)")],
)
def test_a_quote_without_an_end_is_told_at_its_line(num_letters: int, cause: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('path,label\na.jpg,x\nb.jpg,"y\n' + "c.jpg,z\n" * (num_letters // 8))
    with pytest.raises(SourceError, match=rf"line 3 of .*t\.csv cannot be read \({cause}\); mend its quotes"):
        list_source(str(tmp_path / "t.csv"))


def test_of_a_folder_of_tables_the_way_to_give_one_is_told_in_capitals_too(tmp_path: Path) -> None:
    write_table("parquet table", tmp_path, [{"Path": "a.jpg", "LABEL": "x"}])
    with pytest.raises(SourceError, match=r"no column of images .* a table of paths and labels is given itself, not"):
        list_source(str(tmp_path))


def test_columns_of_parquet_may_be_in_capitals_too(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.jpg": b"x", "b.jpg": b"y"})
    rows = [{"Path": "a.jpg", "LABEL": "x ", "Split": "train"}, {"Path": "b.jpg", "LABEL": "x", "Split": " train"}]
    listing = list_source(write_table("parquet table", tmp_path, rows))
    assert (listing.classes, listing.split_names) == (("x",), ("train",))


def test_a_column_that_gives_each_image_a_split_of_its_own_is_refused(tmp_path: Path) -> None:
    write_tree(tmp_path, {f"{number}.jpg": b"x" for number in range(65)})
    lines = [f"{number}.jpg,x,s{number:02d}" for number in range(65)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,split", *lines]))
    with pytest.raises(
        SourceError, match=r"t\.csv has 65 splits \(s00, s01, .* and 60 more\), but .* holds 64 at most"
    ):
        list_source(str(tmp_path / "t.csv"))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["beach", "0", "0"], r"names some labels \(beach, {0}\) and numbers others \(0, {1}\); name all, or number"),
        (["1", "1.5", "0"], r"names some labels \(1\.5, {1}\) and numbers others \(1, {0}\)"),
        (["0", "00", "1"], r"spells one number in two ways, 0 \({0}\) and 00 \({1}\)"),
        (["0", "07", "7.0"], r"spells one number in two ways, 07 \({1}\) and 7\.0 \({2}\); spell it in one, without"),
        (["0", "nan", "1"], r"^{1} of .* has the label nan; labels that are numbers are 0 or more: complete it"),
        (["0.0", "1.0", "-1.0"], r"^{2} of .* has the label -1\.0; labels that are numbers"),
    ],
)
@pytest.mark.parametrize(("kind", "unit", "first"), [("csv", "line", 2), ("parquet table", "row", 1)])
def test_labels_of_a_table_are_all_names_or_all_numbers_of_classes(
    labels: list[str], message: str, kind: str, unit: str, first: int, tmp_path: Path
) -> None:
    write_tree(tmp_path, {f"{number}.jpg": b"x" for number in range(3)})
    table = write_table(kind, tmp_path, [{"path": f"{n}.jpg", "label": label} for n, label in enumerate(labels)])
    with pytest.raises(SourceError, match=message.format(*(f"{unit} {first + n}" for n in range(3)))):
        list_source(table)


@pytest.mark.parametrize(
    ("kind", "labels", "classes"),
    [
        ("csv", ["0", "1", "10"], ("0", "1", "10")),
        ("csv", ["0.0", "1.00", "1"], ("0", "1")),
        ("csv", ["08", "09", "10"], ("08", "09", "10")),
        ("csv", ["0.5", "1.5", "x"], ("0.5", "1.5", "x")),
        ("jsonl", [1, "0.0", "007"], ("0", "1", "7")),
        ("jsonl", ["beach", "0", "0"], ("0", "beach")),
    ],
)
def test_numbers_of_classes_are_numbers_however_they_are_written(
    kind: str, labels: list[str | int], classes: tuple[str, ...], tmp_path: Path
) -> None:
    write_tree(tmp_path, {f"{number}.jpg": b"x" for number in range(3)})
    table = write_table(kind, tmp_path, [{"path": f"{n}.jpg", "label": label} for n, label in enumerate(labels)])
    assert list_source(table).classes == classes


def test_no_class_has_a_negative_number(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.jpg": b"x", "b.jpg": b"x"})
    rows = [{"path": "a.jpg", "label": 0}, {"path": "b.jpg", "label": -1}]
    for kind, place in (("jsonl", "line 2"), ("parquet table", "row 2")):
        with pytest.raises(SourceError, match=f"^{place} of .* has the label -1; labels that are numbers are 0 or"):
            list_source(write_table(kind, tmp_path, rows))


def test_a_row_that_repeats_puts_its_image_into_both_splits(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.jpg": b"x", "sub/b.jpg": b"y"})
    rows = [
        {"path": "a.jpg", "label": "10", "split": "train"}, {"path": "a.jpg", "label": "10", "split": "all"},
        {"path": str(tmp_path / "sub" / "b.jpg"), "label": "9", "split": ""},
    ]  # fmt: skip
    listing = list_source(write_table("csv", tmp_path, rows))
    assert listing.split_names == ("train", "all")
    assert listing.classes == ("9", "10")
    assert {image.path: image.splits for image in listing.images} == {"a.jpg": 3, f"{tmp_path}/sub/b.jpg": 0}
    assert bytes_of(listing) == {"a.jpg": b"x", f"{tmp_path}/sub/b.jpg": b"y"}


def test_rows_that_repeat_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_tree(tmp_path, {"a.jpg": b"x", "b.jpg": b"y"})
    rows = ["a.jpg,x,train", "b.jpg,y,test", "a.jpg,x,all", "./a.jpg,x,train", "b.jpg,y,"]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,split", *rows]))
    listing = list_source(str(tmp_path / "t.csv"))
    assert {image.path: image.splits for image in listing.images} == {"a.jpg": 5, "b.jpg": 2}
    told = r"2 rows of .*t\.csv repeat an image and its split, for instance line 5; an image counts once"
    assert len(re.findall(told, caplog.text)) == 1


def spellings(folder: Path) -> list[str]:
    """Of `a b.jpg` in the folder."""
    relative = ["a b.jpg", "./a b.jpg", ".//a b.jpg", "sub/../a b.jpg", "sub//.././a b.jpg"]
    return [*relative, f"{folder}/a b.jpg", f"{folder}//sub/../a b.jpg", f"file://{folder}/a%20b.jpg"]


def test_a_row_repeats_however_it_spells_its_path(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a b.jpg": b"x", "sub/c.jpg": b"y"})
    rows = [
        {"path": path, "label": "x", "split": f"of{number}"}
        for number, path in enumerate(spellings(tmp_path.resolve()))
    ]
    listing = list_source(write_table("csv", tmp_path, rows))
    assert [(image.path, image.splits) for image in listing.images] == [("a b.jpg", 2 ** len(rows) - 1)]
    assert bytes_of(listing) == {"a b.jpg": b"x"}


@pytest.mark.parametrize("number", range(1, 8))
def test_a_file_has_one_label_however_rows_spell_its_path(number: int, tmp_path: Path) -> None:
    write_tree(tmp_path, {"a b.jpg": b"x", "sub/c.jpg": b"y"})
    spelled = spellings(tmp_path.resolve())[number]
    rows = [{"path": "a b.jpg", "label": "y"}, {"path": spelled, "label": "x"}]
    told = r"line 3 of .* another label, x, than a line before it( gives a b\.jpg)?, y; take one out"
    with pytest.raises(SourceError, match=told):
        list_source(write_table("csv", tmp_path, rows))


def test_a_list_may_name_what_a_table_names_by_its_absolute_path(tmp_path: Path) -> None:
    write_tree(tmp_path, {"a.jpg": b"x", "sub/b.jpg": b"y"})
    absolute = str(tmp_path / "sub" / "b.jpg")
    rows = [{"path": "a.jpg", "label": "dog"}, {"path": absolute, "label": "cat"}]
    table = write_table("csv", tmp_path, rows)
    few = tmp_path / "few.txt"
    few.write_text(f"/a.jpg\n{absolute}\n")
    listing = list_source(table, split_lists=(f"few={few}",))
    assert {image.path: image.splits for image in listing.images} == {"a.jpg": 1, absolute: 1}
    few.write_text(f"a.jpg\n{absolute}.gone\n")
    with pytest.raises(SourceError, match=r"1 of the 2 files in the split list .* is no image of .*b\.jpg\.gone"):
        list_source(table, split_lists=(f"few={few}",))


def test_the_guide_names_every_column_and_suffix_that_is_taken() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "ingest.md").read_text()
    for name in (*parquet._IMAGE_NAMES, *parquet._LABEL_NAMES, *table.TABLE_SUFFIXES):
        assert f"`{name}`" in guide, name
