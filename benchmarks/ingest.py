"""Images per second of ingest on Spark, both cores, beside one core's bare work and Spark's own image source.

Drawn scenes, enlarged to 1024 x 768, JPEG of quality 90, no two files alike. The arms run in alternation, each in a
process of its own:

* `bare`: one core decodes at a half (simplejpeg), resamples to a short side of 256 (Pillow) and encodes, no more;
* `bare, our resampler`: the same with the resampler of ingest; `freed memory kept`: and the setting of glibc that its
  tasks have, to see what they lose;
* `folder`, `tar.gz`: `sunspark ingest` on `local[2]`, in a session whose Python workers have started;
* `image source`: `spark.read.format("image")` in such a session, and the same resampling and encoding in its tasks.

Memory is the largest resident size of each process, looked at twice a second: the driver's is its Python and its Java
process together. `half` is `folder` with every second image.

Fails when the folder comes to less than 0.8 of twice the rate of `bare` or of `bare, our resampler`, or to less than
three times Spark's image source, a tar.gz to less than 0.7 of the folder, a driver to 1 GB or a worker to 600 MB, or
either grows by a tenth with twice the images.

    python -m benchmarks.ingest [--images 5000] [--repeats 3] [--folder FOLDER]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from PIL import Image

from sunspark.data.scenes import draw_scenes

_NUM_SCENES: Final = 240
_BARE_IMAGES: Final = 600
_RUN_SECONDS: Final = 1800.0
_LOOK_SECONDS: Final = 0.5
_LEAST_OF_CORES, _LEAST_OF_IMAGE_SOURCE, _LEAST_OF_FOLDER = 0.8, 3.0, 0.7
MOST_DRIVER, MOST_WORKER, _MOST_GROWTH = 10**9, 600 * 10**6, 1.1

_STORED: Final = """
import io, json, sys, time
from pathlib import Path
import numpy as np, simplejpeg
from PIL import Image

def stored(pixels):
    height, width = pixels.shape[:2]
    scale = 256 / min(height, width)
    size = round(width * scale), round(height * scale)
    small = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
    return simplejpeg.encode_jpeg(small, quality=92, colorsubsampling="420", fastdct=False)
"""
_OURS: Final = """
from sunspark.data.codec import resize_short_side

def stored(pixels):
    return simplejpeg.encode_jpeg(resize_short_side(pixels, 256), quality=92, colorsubsampling="420", fastdct=False)
"""
_KEEP: Final = """
from sunspark.data.allocator import keep_freed_memory
keep_freed_memory()
"""
_LOOP: Final = """
bodies = [path.read_bytes() for path in sorted(Path(sys.argv[1]).rglob("*.jpg"))[: int(sys.argv[2])]]
started = time.perf_counter()
for body in bodies:
    stored(simplejpeg.decode_jpeg(body, min_height=384, min_width=512))
print(json.dumps({"rate": len(bodies) / (time.perf_counter() - started)}))
"""
_SPARK: Final = """
from pyspark.sql import SparkSession
spark = SparkSession.builder.master("local[2]").config("spark.driver.memory", "512m").getOrCreate()
spark.sparkContext.parallelize(range(2), 2).map(lambda x: x).collect()
"""
INGEST: Final = (
    _SPARK
    + """
import json, sys
from sunspark.data.ingest import IngestConfig
from sunspark.spark.ingest import ingest
result = ingest(sys.argv[1], sys.argv[2], IngestConfig(), spark)
print(json.dumps({"rate": result.images_per_second, "accepted": result.accepted}))
"""
)
_IMAGE_SOURCE: Final = (
    _STORED
    + _SPARK
    + """
def sizes(rows):
    for row in rows:
        image = row.image
        pixels = np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, image.nChannels)
        yield len(stored(np.ascontiguousarray(pixels[..., ::-1])))

started = time.perf_counter()
images = spark.read.format("image").option("recursiveFileLookup", True).load(sys.argv[1])
count = images.rdd.mapPartitions(sizes).count()
print(json.dumps({"rate": count / (time.perf_counter() - started), "accepted": count}))
"""
)


class Watch(threading.Thread):
    """Peak resident bytes of a process and of all below it, by what they are."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._top = pid
        self._ended = threading.Event()
        self._peaks: dict[int, tuple[str, int]] = {}

    def run(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            for pid in self._family():
                try:
                    command = os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" "))
                    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                except OSError:
                    continue
                peak = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)
                self._peaks[pid] = (command, peak)

    def stop(self) -> dict[str, int]:
        """`driver`: Python and Java; `java`: that alone; `worker`: the largest of Spark's Python workers."""
        self._ended.set()
        self.join()
        workers = [peak for command, peak in self._peaks.values() if "pyspark.daemon" in command]
        others = [peak for command, peak in self._peaks.values() if "pyspark.daemon" not in command]
        java = [peak for command, peak in self._peaks.values() if command.split(" ", 1)[0].endswith("java")]
        return {"driver": sum(others), "java": sum(java), "worker": max(workers, default=0)}

    def _family(self) -> list[int]:
        found = [self._top]
        for pid in found:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    found += map(int, children.read_text().split())
                except OSError:
                    continue
        return found


def measure(program: str, *words: object) -> dict[str, Any]:
    """Run a program in a process of its own; what it prints at its end, and its memory."""
    command = [sys.executable, "-c", program, *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        watch = Watch(process.pid)
        watch.start()
        try:
            out, _ = process.communicate(timeout=_RUN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        memory = watch.stop()
    if process.returncode:
        sys.exit(f"{words} ended with {process.returncode}")
    if program is INGEST and not (memory["java"] and memory["worker"]):
        sys.exit(f"no memory was measured of Java, or of a worker: {memory}")
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found | memory


def make_images(folder: Path, count: int) -> Path:
    """`count` files in class folders, what is there is taken."""
    images = folder / "images"
    if not images.exists():
        draw_scenes(str(folder / "scenes"), num_classes=6, images_per_class=_NUM_SCENES // 6)
        scenes = sorted((folder / "scenes").rglob("*.jpg"))
        part = folder / "images.part"
        large = [enlarged(path) for path in scenes]
        for number in range(count):
            scene = scenes[number % len(scenes)]
            path = part / scene.parent.name / f"{number:06d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(large[number % len(scenes)] + number.to_bytes(8, "big"))
        part.rename(images)
    return images


def enlarged(path: Path) -> bytes:
    """As a camera would have it."""
    body = BytesIO()
    with Image.open(path) as image:
        image.resize((1024, 768), Image.Resampling.BICUBIC).save(body, "JPEG", quality=90)
    return body.getvalue()


def make_half(images: Path) -> Path:
    """A folder of links to every second image."""
    half = images.parent / "half"
    for path in sorted(images.rglob("*.jpg"))[::2]:
        link = half / path.relative_to(images)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            os.link(path, link)
    return half


def make_archive(images: Path) -> Path:
    """The images as a tar.gz."""
    archive = images.parent / "images.tar.gz"
    if not archive.exists():
        with tarfile.open(f"{archive}.part", "w:gz", compresslevel=1) as tar:
            tar.add(images, arcname=".")
        Path(f"{archive}.part").rename(archive)
    return archive


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep images there; what is there is taken")
    arguments = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        images = make_images(folder, arguments.images)
        archive, half = make_archive(images), make_half(images)
        found: dict[str, list[dict[str, Any]]] = {}
        for repeat in range(arguments.repeats):
            dataset = Path(temporary) / f"dataset{repeat}"
            arms: dict[str, tuple[str, *tuple[object, ...]]] = {
                "bare": (_STORED + _LOOP, images, _BARE_IMAGES),
                "bare, our resampler": (_STORED + _OURS + _LOOP, images, _BARE_IMAGES),
                "freed memory kept": (_STORED + _OURS + _KEEP + _LOOP, images, _BARE_IMAGES),
                "folder": (INGEST, images, f"{dataset}-folder"),
                "tar.gz": (INGEST, archive, f"{dataset}-archive"),
                "half": (INGEST, half, f"{dataset}-half"),
                "image source": (_IMAGE_SOURCE, images),
            }
            for name, arm in arms.items():
                began = time.monotonic()
                found.setdefault(name, []).append(measure(*arm))
                print(f"{name}: {found[name][-1]} in {time.monotonic() - began:.0f} s", flush=True)
    sys.exit(verdict(found))


def verdict(found: dict[str, list[dict[str, Any]]]) -> str | None:
    """Print the table; what was missed, None when all bounds were kept."""
    print("\n| | images/s, median (least to most) | driver, MB | largest worker, MB |\n|---|---|---|---|")
    for name, runs in found.items():
        rates = [run["rate"] for run in runs]
        driver, worker = (max(run[who] for run in runs) / 1e6 for who in ("driver", "worker"))
        spread = f"{statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f})"
        print(f"| {name} | {spread} | {driver:.0f} | {worker:.0f} |")
    ratios = {
        "folder / two bare cores": ("folder", "bare", 2.0, _LEAST_OF_CORES),
        "folder / two bare cores, our resampler": ("folder", "bare, our resampler", 2.0, _LEAST_OF_CORES),
        "folder / two bare cores, freed memory kept": ("folder", "freed memory kept", 2.0, 0.0),
        "folder / image source": ("folder", "image source", 1.0, _LEAST_OF_IMAGE_SOURCE),
        "tar.gz / folder": ("tar.gz", "folder", 1.0, _LEAST_OF_FOLDER),
    }
    missed = []
    for name, (ours, theirs, cores, least) in ratios.items():
        pairs = [a["rate"] / (cores * b["rate"]) for a, b in zip(found[ours], found[theirs], strict=True)]
        print(f"{name}: {statistics.median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f}), bound {least}")
        missed += [name] if statistics.median(pairs) < least else []
    for who, most in (("driver", MOST_DRIVER), ("worker", MOST_WORKER)):
        peaks = {arm: [run[who] for run in found[arm]] for arm in ("folder", "tar.gz", "half")}
        whole, half = (statistics.median(peaks[arm]) for arm in ("folder", "half"))
        print(f"memory of a {who}: {whole / 1e6:.0f} MB, with half the images {half / 1e6:.0f} MB (medians)")
        is_too_large = max(max(peak) for peak in peaks.values()) >= most
        missed += [f"memory of a {who}"] if is_too_large or whole > _MOST_GROWTH * half else []
    return f"missed: {', '.join(missed)}" if missed else None


if __name__ == "__main__":
    main()
