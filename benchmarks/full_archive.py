"""An archive of the size of SUN397.tar.gz, 108,754 images in 397 class folders and 36 GB, ingested on Spark as it is.

Drawn scenes, enlarged to 1024 x 768, with so much grain that they take 330 kB as JPEG of quality 90; no two files
alike; one gzip stream, whose pieces end at full flushes, as those of other tools do not. It needs 40 GB of free space
(`--folder` keeps the archive). Memory as in `benchmarks.ingest`.

Fails when an image is not accepted, when driver (Python and Java) or a worker hold more than `benchmarks.ingest`
allows, or when something is left beside the dataset.

    python -m benchmarks.full_archive [--images 108754] [--folder FOLDER]
"""

import argparse
import struct
import sys
import tarfile
import tempfile
import time
import zlib
from io import BytesIO
from pathlib import Path
from typing import IO, Final

import numpy as np
from PIL import Image

from benchmarks.ingest import INGEST, MOST_DRIVER, MOST_WORKER, measure
from sunspark.data.dataset import Dataset
from sunspark.data.manifest import MANIFEST_NAME
from sunspark.data.scenes import draw_scenes
from sunspark.data.sources.lists import CLASS_LIST

_NUM_CLASSES: Final = 397
_NUM_SCENES: Final = 240
_GRAIN: Final = 12.0  # standard deviation, of 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=108_754)
    parser.add_argument("--folder", type=Path, help="keep the archive there; what is there is taken")
    arguments = parser.parse_args()
    if arguments.folder:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        archive = (arguments.folder or Path(temporary)) / f"{arguments.images}.tar.gz"
        if not archive.exists():
            make_archive(archive, arguments.images, Path(temporary) / "scenes")
        began = time.monotonic()
        dataset = Path(temporary) / "dataset"
        found = measure(INGEST, archive, dataset)
        seconds = time.monotonic() - began
        there = {str(path.relative_to(dataset)): path.stat().st_size for path in dataset.rglob("*") if path.is_file()}
        archive_bytes = archive.stat().st_size
        manifest = Dataset.open(str(dataset)).manifest
    named = {MANIFEST_NAME, ".ingest.lock", *manifest["files"], *(block["name"] for block in manifest["blocks"])}
    beside = sorted(there.keys() - named)
    print(
        f"{found['accepted']} images in {archive_bytes / 1e9:.1f} GB taken in {seconds:.0f} s, {found['rate']:.0f} "
        f"images/s; dataset of {sum(there.values()) / 1e9:.2f} GB; driver {found['driver'] / 1e6:.0f} MB, "
        f"largest worker {found['worker'] / 1e6:.0f} MB"
    )
    wrong = {
        f"{arguments.images - found['accepted']} images are missing": found["accepted"] != arguments.images,
        f"the driver held more than {MOST_DRIVER / 1e6:.0f} MB": found["driver"] > MOST_DRIVER,
        f"a worker held more than {MOST_WORKER / 1e6:.0f} MB": found["worker"] > MOST_WORKER,
        f"left beside the dataset: {beside}": bool(beside),
    }
    sys.exit("; ".join(what for what, is_so in wrong.items() if is_so) or None)


def make_archive(archive: Path, count: int, folder: Path) -> None:
    """One gzip stream of one tar; each scene is compressed once, and its piece put into the stream wherever it is."""
    draw_scenes(str(folder), num_classes=6, images_per_class=_NUM_SCENES // 6)
    scenes = [grainy(path) for path in sorted(folder.rglob("*.jpg"))]
    compressed = [deflated(scene) for scene in scenes]
    names = [f"{'abcdefghijklmnopqrstuvwxyz'[label % 26]}/class_{label:03d}" for label in range(_NUM_CLASSES)]
    part = archive.with_suffix(".part")
    with part.open("wb") as file:
        stream = GzipStream(file)
        class_names = "".join(f"/{name}\n" for name in names).encode()
        stream.write(header(f"SUN397/{CLASS_LIST}", len(class_names)))
        stream.write(class_names + bytes(-len(class_names) % tarfile.BLOCKSIZE))
        for number in range(count):
            scene, of_number = number % len(scenes), number.to_bytes(8, "big")
            size_bytes = len(scenes[scene]) + len(of_number)
            stream.write(header(f"SUN397/{names[number * _NUM_CLASSES // count]}/sun_{number:08d}.jpg", size_bytes))
            stream.write(scenes[scene], compressed[scene])
            stream.write(of_number + bytes(-size_bytes % tarfile.BLOCKSIZE))
        stream.write(bytes(2 * tarfile.BLOCKSIZE))
        stream.end()
    part.rename(archive)


def grainy(path: Path) -> bytes:
    body = BytesIO()
    with Image.open(path) as image:
        levels = np.asarray(image.convert("RGB").resize((1024, 768), Image.Resampling.BICUBIC), np.float64)
    grain = np.random.default_rng(0).normal(0, _GRAIN, (768, 1024, 1))
    Image.fromarray(np.clip(levels + grain, 0, 255).astype(np.uint8)).save(body, "JPEG", quality=90)
    return body.getvalue()


class GzipStream:
    """One gzip member, piece by piece."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._crc, self._size_bytes = file, 0, 0
        file.write(b"\x1f\x8b\x08" + bytes(6) + b"\xff")

    def write(self, piece: bytes, compressed: bytes | None = None) -> None:
        """A piece; it may have been `deflated` before."""
        self._file.write(compressed or deflated(piece))
        self._crc = zlib.crc32(piece, self._crc)
        self._size_bytes += len(piece)

    def end(self) -> None:
        self._file.write(b"\x03\x00" + struct.pack("<II", self._crc, self._size_bytes % 2**32))


def header(name: str, size_bytes: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = size_bytes
    return entry.tobuf()


def deflated(piece: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(piece) + compressor.flush(zlib.Z_FULL_FLUSH)


if __name__ == "__main__":
    main()
