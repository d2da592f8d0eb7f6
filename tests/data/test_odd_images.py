"""Convert, never drop: each odd file that we know of is taken as it looks, or named with its reason."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from sunspark.data.codec import to_stored_image
from sunspark.data.dataset import Dataset, Quarantined, read_quarantine
from sunspark.data.image_format import DecodeError
from sunspark.data.ingest import IngestConfig
from sunspark.launch.ingest import Engine, ingest
from tests.data.engine import one_after_the_other
from tests.data.odd_images import HEIGHT, WIDTH, of_odd_shape, quadrants, refused, saved, taken, transparent_palette

NOBODY = 65_534
ODD_NAMES = (
    "with a space.jpg",
    "new\nline.jpg",
    "tab\tand\x1besc.jpg",
    "caf\udce9.jpg",
    "caf\u00e9.jpg",
    "\U0001f305.jpg",
)
"""As the system has them: the fourth holds a byte that is no UTF-8."""


@contextmanager
def without_privileges() -> Iterator[None]:
    """As one who may not read everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def as_nobody() -> Iterator[Engine]:
    """An engine in this process, which may then not even read all of Python: so what it needs is imported before."""
    for body in taken().values():
        to_stored_image(body, short_side=8)
    with without_privileges():
        yield one_after_the_other


@pytest.fixture(scope="module")
def source() -> Iterator[Path]:
    """Everything odd, in two classes; where anybody may read, but for one file."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        source.chmod(0o755)
        odd, named = source / "odd", source / "named"
        for place in (odd, named):
            place.mkdir()
        bodies = {name: body for name, (body, _) in refused().items()}
        for name, body in {**taken(), **of_odd_shape(), **bodies, "see-through.png": transparent_palette()}.items():
            (odd / name).write_bytes(body)
        for name in ODD_NAMES:
            (named / name).write_bytes(saved(quadrants(), "JPEG", quality=95))
        (odd / "locked.jpg").write_bytes(saved(quadrants(), "JPEG"))
        (odd / "locked.jpg").chmod(0)
        (odd / "in a circle.jpg").symlink_to(odd / "in a circle.jpg")
        (odd / "nowhere.jpg").symlink_to(odd / "gone.jpg")
        (named / "folder in a circle").symlink_to(named)
        os.mkfifo(odd / "pipe.jpg")
        yield source


@pytest.fixture(scope="module")
def dataset(source: Path) -> Iterator[Dataset]:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        made = Path(folder, "dataset")
        made.mkdir()
        made.chmod(0o777)
        config = IngestConfig(short_side=HEIGHT, block_size=10, max_bad_fraction=1)
        ingest(str(source), str(made), config, as_nobody)
        yield Dataset.open(str(made))


@pytest.fixture(scope="module")
def images(dataset: Dataset) -> dict[str, np.ndarray]:
    """By path: the pixels of everything that was taken."""
    blocks = [dataset.read_block(number) for number in range(dataset.num_blocks)]
    jpegs = [image for block in blocks for image in block.images]
    return {dataset.path_of(row): simplejpeg.decode_jpeg(jpeg) for row, jpeg in enumerate(jpegs)}


@pytest.fixture(scope="module")
def quarantine(dataset: Dataset) -> dict[str, Quarantined]:
    return {entry.path: entry for entry in read_quarantine(dataset)}


def shows_quadrants(pixels: np.ndarray) -> bool:
    places = ([5, 5, -6, -6], [5, -6, 5, -6])
    wanted = np.asarray(quadrants())[places].astype(int)
    return pixels.shape == (HEIGHT, WIDTH, 3) and int(np.abs(pixels[places] - wanted).max()) <= 14


@pytest.mark.parametrize("name", taken())
def test_what_can_be_converted_is_taken_as_it_looks(name: str, images: dict[str, np.ndarray]) -> None:
    assert shows_quadrants(images[f"odd/{name}"])


def test_what_is_transparent_lies_on_white(images: dict[str, np.ndarray]) -> None:
    assert (images["odd/see-through.png"] == 255).all()


@pytest.mark.parametrize("name", of_odd_shape())
def test_very_small_and_very_long_images_are_taken(name: str, images: dict[str, np.ndarray]) -> None:
    width, height = map(int, name.partition(".")[0].split("x"))
    assert images[f"odd/{name}"].shape == (height, width, 3)


@pytest.mark.parametrize("name", refused())
def test_what_cannot_be_taken_is_named_with_its_reason(name: str, quarantine: dict[str, Quarantined]) -> None:
    assert refused()[name][1] in quarantine[f"odd/{name}"].reason


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("locked.jpg", "it may not be read; check its owner and mode"),
        ("in a circle.jpg", "it is a link that leads in a circle"),
        ("nowhere.jpg", "there is no such file, or a link that leads nowhere"),
    ],
)
def test_what_cannot_be_read_says_why(name: str, reason: str, quarantine: dict[str, Quarantined]) -> None:
    assert (quarantine[f"odd/{name}"].stage, quarantine[f"odd/{name}"].reason) == ("read", reason)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_whatever_a_file_is_called_it_is_taken(name: str, images: dict[str, np.ndarray]) -> None:
    """A byte that is no UTF-8 is written in letters."""
    stored = "named/" + name.replace("\udce9", r"\xe9")
    assert shows_quadrants(images[stored])


def test_what_was_listed_is_taken_or_named(dataset: Dataset, quarantine: dict[str, Quarantined], source: Path) -> None:
    listed = dataset.manifest["listed"]
    files = sum(len(names) for _, _, names in os.walk(source))
    assert listed == len(dataset) + len(quarantine) == files - 1  # the pipe
    assert not any(path.endswith("pipe.jpg") for path in quarantine)


def test_the_reason_is_the_same_every_time() -> None:
    """No address in memory, nothing that another run would say otherwise."""
    for body, part in refused().values():
        reasons = []
        for _ in range(2):
            with pytest.raises(DecodeError) as caught:
                to_stored_image(bytes(bytearray(body)), short_side=32)
            reasons.append(caught.value.reason)
        assert reasons[0] == reasons[1]
        assert part in reasons[0]
