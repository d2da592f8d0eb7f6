"""An archive of the size of SUN397.tar.gz, 108,754 images in 397 class folders, ingested on Spark as it is.

Drawn scenes, enlarged to 1024 x 768, JPEG of quality 90, no two files alike; one gzip stream, as published. Free space
for the archive is needed (`--folder` keeps it) and for a dataset a tenth as large. Memory as in `benchmarks.ingest`,
where there are 5,000 images.

Fails when an image is not accepted, when driver (Python and Java) or a worker hold more than `benchmarks.ingest`
allows, or when something is left beside the dataset.

    python -m benchmarks.full_archive [--images 108754] [--folder FOLDER]
"""

import argparse
import subprocess
import sys
import tarfile
import tempfile
import time
from io import BytesIO
from pathlib import Path
from typing import Final

from benchmarks.ingest import INGEST, MOST_DRIVER, MOST_WORKER, enlarged, measure
from sunspark.data.scenes import draw_scenes

_NUM_CLASSES: Final = 397
_NUM_SCENES: Final = 240


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=108_754)
    parser.add_argument("--folder", type=Path, help="keep the archive there; what is there is taken")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        archive = (arguments.folder or Path(temporary)) / "SUN397.tar.gz"
        if not archive.exists():
            make_archive(archive, arguments.images, Path(temporary) / "scenes")
        began = time.monotonic()
        dataset = Path(temporary) / "dataset"
        found = measure(INGEST, archive, dataset)
        seconds = time.monotonic() - began
        size_bytes = sum(path.stat().st_size for path in dataset.rglob("*") if path.is_file())
        beside = [path.name for path in dataset.iterdir() if path.name.startswith("staging-")]
    print(
        f"{found['accepted']} images of {archive.stat().st_size if archive.exists() else 0} bytes in {seconds:.0f} s, "
        f"{found['rate']:.0f} images/s; dataset of {size_bytes / 1e9:.2f} GB; driver {found['driver'] / 1e6:.0f} MB, "
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
    """One tar through gzip's fastest level: JPEG does not compress."""
    draw_scenes(str(folder), num_classes=6, images_per_class=_NUM_SCENES // 6)
    scenes = [enlarged(path) for path in sorted(folder.rglob("*.jpg"))]
    part = archive.with_suffix(".part")
    with (
        part.open("wb") as file,
        subprocess.Popen(["gzip", "-1"], stdin=subprocess.PIPE, stdout=file) as gzip,
        tarfile.open(fileobj=gzip.stdin, mode="w|") as tar,
    ):
        for number in range(count):
            label = number * _NUM_CLASSES // count
            body = scenes[number % len(scenes)] + number.to_bytes(8, "big")
            entry = tarfile.TarInfo(f"SUN397/{chr(97 + label % 26)}/class_{label:03d}/sun_{number:08d}.jpg")
            entry.size = len(body)
            tar.addfile(entry, BytesIO(body))
    part.rename(archive)


if __name__ == "__main__":
    main()
