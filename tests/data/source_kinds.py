"""The same images in every kind of source: same paths, labels and splits, so one dataset whatever it is made from."""

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sunspark.data.codec import encode_jpeg
from sunspark.data.containers import read_images, read_in_order
from sunspark.data.image_format import DecodeError
from sunspark.data.sources import ListedImage, Listing

KINDS: Final = (
    "folder", "tar", "tar.gz", "parquet", "webdataset", "webdataset mixed", "csv", "jsonl", "parquet table",
)  # fmt: skip
CLASSES: Final = ("church/indoor", "church/outdoor", "abbey")
"""In an order that is not that of the names; leaf names may repeat in other sets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """A source, and what ingest must be told besides."""

    source: str
    split_list: tuple[str, ...] = ()
    labels: str | None = None


def images(count: int = 24, height: int = 40) -> dict[str, bytes]:
    """path -> JPEG, in SUN397's folders."""
    rng = np.random.default_rng(7)
    made = {}
    for number in range(count):
        name = CLASSES[number % len(CLASSES)]
        coarse = rng.integers(0, 256, (height // 8, height // 8 + 2, 3), dtype=np.uint8)
        made[f"{name[0]}/{name}/sun_{number:03d}.jpg"] = encode_jpeg(coarse.repeat(8, 0).repeat(8, 1))
    return made


BODIES: Final = images()


def bytes_of(listing: Listing) -> dict[str, bytes | DecodeError]:
    """path -> what is read, by the way that ingest takes."""
    if not listing.is_read_in_order:
        return {image.path: data for image, data in read_images(listing.images)}

    def place(image: ListedImage) -> str:
        return image.container.uri

    read: dict[str, bytes | DecodeError] = {}
    for _, group in groupby(sorted(listing.images, key=lambda image: (place(image), image.position)), key=place):
        part = list(group)
        read |= {image.path: data for image, data in read_in_order(part, part[0].container.seek_index)}
    return read


def class_of(path: str) -> str:
    return path.partition("/")[2].rpartition("/")[0]


def split_of(path: str) -> str:
    return "test" if int(path[-7:-4]) % 4 == 0 else "train"


def make(kind: str, folder: Path, bodies: Mapping[str, bytes]) -> Made:
    """Write the images as this kind of source into `folder`, which is made."""
    folder.mkdir(parents=True)
    lists = {
        split: "".join(f"/{path}\n" for path in bodies if split_of(path) == split).encode()
        for split in ("train", "test")
    }
    class_list = "".join(f"/{name[0]}/{name}\n" for name in CLASSES).encode()
    for split, body in lists.items():
        (folder / f"{split}.list").write_bytes(body)
    (folder / "classes").write_bytes(class_list)
    by_lists = tuple(f"{split}={folder}/{split}.list" for split in lists)
    if kind == "folder":
        write_tree(folder / "SUN", bodies)
        (folder / "SUN" / "ClassName.txt").write_bytes(class_list)
        return Made(source=str(folder / "SUN"), split_list=by_lists)
    if kind in ("tar", "tar.gz"):
        archive = folder / f"SUN.{kind}"
        write_tar(archive, {f"SUN/{path}": body for path, body in bodies.items()})
        with zipfile.ZipFile(folder / "Partitions.zip", "w") as partitions:
            partitions.writestr("Partitions/ClassName.txt", class_list)
        return Made(source=str(archive), split_list=by_lists)
    if kind == "parquet":
        for split in ("train", "test"):
            part = {path: body for path, body in bodies.items() if split_of(path) == split}
            write_hugging_face(folder / "data" / "data", split, part)
        return Made(source=str(folder / "data"))
    if kind in ("webdataset", "webdataset mixed"):
        suffixes = ("tar", "tar") if kind == "webdataset" else ("tar", "tgz")
        for split in ("train", "test"):
            part = [(path, body) for path, body in bodies.items() if split_of(path) == split]
            for shard, suffix in enumerate(suffixes):
                write_shard(folder / "shards" / split / f"{shard}.{suffix}", dict(part[shard::2]))
        (folder / "shards" / "classnames.txt").write_text("\n".join(CLASSES))
        return Made(source=str(folder / "shards"))
    write_tree(folder / "set", bodies)
    rows = [{"path": path, "label": class_of(path), "split": split_of(path)} for path in bodies]
    return Made(source=write_table(kind, folder / "set", rows), labels=f"{folder}/classes")


def write_tree(folder: Path, bodies: Mapping[str, bytes]) -> None:
    for path, body in bodies.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(body)


def write_tar(archive: Path, bodies: Mapping[str, bytes]) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz" if archive.name.endswith("gz") else "w") as tar:
        for path, body in bodies.items():
            info = tarfile.TarInfo(path)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))


def write_shard(archive: Path, bodies: Mapping[str, bytes]) -> None:
    members: dict[str, bytes] = {}
    for path, body in bodies.items():
        members[path] = body
        members[path.removesuffix(".jpg") + ".cls"] = str(CLASSES.index(class_of(path))).encode()
    write_tar(archive, members)


def write_hugging_face(folder: Path, split: str, bodies: Mapping[str, bytes], num_shards: int = 2) -> None:
    """As the `datasets` library writes: a struct, an integer with names in the metadata, small row groups."""
    folder.mkdir(parents=True, exist_ok=True)
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(CLASSES)}}
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("label", pa.int64()),
        ],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    rows = [
        {"image": {"bytes": body, "path": path}, "label": CLASSES.index(class_of(path))}
        for path, body in bodies.items()
    ]
    for shard in range(num_shards):
        table = pa.Table.from_pylist(rows[shard::num_shards], schema=schema)
        name = f"{split}-{shard:05d}-of-{num_shards:05d}.parquet"
        pq.write_table(table, folder / name, row_group_size=4, compression="snappy")


def write_table(kind: str, folder: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    if kind == "csv":
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        (folder / "table.csv").write_text("\n".join(lines) + "\n")
        return str(folder / "table.csv")
    if kind == "jsonl":
        (folder / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(folder / "table.jsonl")
    pq.write_table(pa.Table.from_pylist(rows), folder / "table.parquet")
    return str(folder / "table.parquet")


def latin(*texts: str) -> pa.Array:
    """Texts as a careless program writes them."""
    return pa.array([text.encode("latin-1") for text in texts], pa.binary()).view(pa.string())
