"""Laws of what is shown while archives are passed over: how far it is, and nothing of what is over at once."""

import contextlib
import io
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sunspark.data.sources import Scan, list_source
from sunspark.launch.scan_display import ScanDisplay, scans_shown
from sunspark.storage.filesystem import forget_clients
from tests.data.source_kinds import images, make, write_shard, write_tar
from tests.distributed.harness import wait_until
from tests.failing_s3 import KEY, S3Server, serve

SHARE = re.compile(r"(\d+) % of the archive read, (\d+) images found, (.*)")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true"}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    forget_clients()
    (tmp_path / "bucket").mkdir()
    with serve(tmp_path / "bucket") as server:
        yield server
    forget_clients()


def write_large(archive: Path, num_images: int = 60) -> None:
    """24 MB: images, each with bytes behind it that do not compress."""
    rng = random.Random(0)
    drawn = list(images(6).values())
    write_tar(archive, {f"SUN/{n % 2}/{n}.jpg": drawn[n % 6] + rng.randbytes(400_000) for n in range(num_images)})


@pytest.mark.parametrize(
    ("kind", "launcher"),
    [("tar", "local"), ("tar.gz", "local"), pytest.param("tar.gz", "spark", marks=pytest.mark.spark)],
)
def test_while_half_of_an_archive_is_read_half_of_it_is_told(
    kind: str, launcher: str, server: S3Server, tmp_path: Path
) -> None:
    """The store falls silent in the middle, until the line is there."""
    write_large(server.folder / f"SUN.{kind}")
    uri = server.uri(f"SUN.{kind}")
    list_source(uri)
    server.requests_before_silence = sum(server.answers.values()) // 2
    command = [
        sys.executable, "-m", "sunspark.cli", "ingest", uri, str(tmp_path / "d"), "--launcher", launcher,
        "--short-side", "32", *(["--master", "local[2]"] if launcher == "spark" else []),
    ]  # fmt: skip
    told = tmp_path / "told"
    with told.open("wb") as stderr, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr) as process:
        try:
            wait_until(lambda: not server.may_answer.is_set(), 60, "the silence")
            wait_until(lambda: SHARE.search(told.read_text()) is not None, 60, "the line")
            server.may_answer.set()
            assert process.wait(100) == 0, told.read_text()
        finally:
            process.kill()
    first, *_, last = SHARE.findall(told.read_text())
    assert 0 < int(first[0]) < 100
    assert int(first[1]) <= 60 * int(first[0]) / 100 + 2  # what is decompressed is behind what is read
    assert last == ("100", "60", "done")


def test_what_is_over_at_once_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = make("tar.gz", tmp_path / "made", images()).source
    assert list_source(source, watched=scans_shown).images
    assert capsys.readouterr().err == ""


def test_several_archives_are_counted_together(tmp_path: Path) -> None:
    bodies = images()
    for shard in range(3):
        write_shard(tmp_path / "shards" / f"{shard}.{'tgz' if shard else 'tar'}", dict(list(bodies.items())[shard::3]))
    stream = io.StringIO()

    @contextlib.contextmanager
    def shown_at_the_end(scans: object) -> Iterator[None]:
        yield
        with contextlib.closing(ScanDisplay(scans, stream)) as display:  # type: ignore[arg-type]
            display.update()

    assert len(list_source(str(tmp_path / "shards"), watched=shown_at_the_end).images) == len(bodies)
    assert stream.getvalue() == f"100 % of 3 archives read, {len(bodies)} images found, done\n"


def test_the_time_that_is_left_is_that_of_the_pace() -> None:
    now, stream, scan = [1000.0], io.StringIO(), Scan(size_bytes=40_000)
    with contextlib.closing(ScanDisplay([scan], stream, clock=lambda: now[0])) as display:
        for _ in range(3):
            display.update()
            now[0] += 5
            scan.read_bytes += 10_000
            scan.num_images += 1000
    assert stream.getvalue().splitlines() == [
        "0 % of the archive read, 0 images found, time left unknown",
        "25 % of the archive read, 1,000 images found, 0:15 left",
        "50 % of the archive read, 2,000 images found, 0:10 left",
        "75 % of the archive read, 3,000 images found, 0:05 left",
    ]
