"""A loader of somebody else's, on the JPEGs of a folder: random resized crop 224, mirrored by chance, uint8 batches.

Every loader gets the same bytes, and leaves decoding and cropping to torchvision, as its own examples do. Prints images
per second over some batches in the middle of an epoch, when all its processes are at work.

    python loader_peers.py PEER FOLDER --workers 2 --batches 100
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import torch
from torchvision.io import decode_jpeg, read_file
from torchvision.transforms import v2

BATCH: Final = 64
WARM_UP_BATCHES: Final = 16

TRANSFORM: Final = v2.Compose([v2.RandomResizedCrop(224, antialias=True), v2.RandomHorizontalFlip()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=sorted(PEERS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batches", type=int, default=100)
    arguments = parser.parse_args()
    loader = PEERS[arguments.peer](arguments.folder, arguments.workers)
    print(images_per_second(loader, arguments.batches))


def images_per_second(loader: Iterable[Any], num_batches: int) -> float:
    """Of the batches that follow the first ones; the epoch goes on after them, so that no process runs dry."""
    batches = iter(loader)
    images, _ = list(itertools.islice(batches, WARM_UP_BATCHES))[-1]
    assert (images.shape, images.dtype) == ((BATCH, 3, 224, 224), torch.uint8)
    started = time.perf_counter()
    count = sum(len(images) for images, _ in itertools.islice(batches, num_batches))
    rate = count / (time.perf_counter() - started)
    assert count == num_batches * BATCH, "the epoch is too short"
    return rate


class Files(torch.utils.data.Dataset[Any]):
    """The JPEGs as files, decoded by torchvision's `decode_jpeg` or by Pillow."""

    def __init__(self, folder: Path, uses_pillow: bool) -> None:
        self._paths = [str(path) for path in sorted((folder / "jpegs").iterdir())]
        self._load = _with_pillow if uses_pillow else _with_torchvision

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._load(self._paths[index]), index % 10


def _with_torchvision(path: str) -> torch.Tensor:
    return TRANSFORM(decode_jpeg(read_file(path)))


def _with_pillow(path: str) -> torch.Tensor:
    from PIL import Image

    with Image.open(path) as image:
        return v2.functional.pil_to_tensor(TRANSFORM(image.convert("RGB")))


def torch_loader(folder: Path, workers: int, uses_pillow: bool) -> Iterable[Any]:
    return torch.utils.data.DataLoader(Files(folder, uses_pillow), batch_size=BATCH, shuffle=True, num_workers=workers)


def litdata_loader(folder: Path, workers: int) -> Iterable[Any]:
    import litdata

    chunks = folder / "litdata"
    if not chunks.exists():
        litdata.optimize(
            fn=_sample, inputs=sorted((folder / "jpegs").iterdir()), output_dir=str(chunks), chunk_bytes="16MB"
        )
    dataset = litdata.StreamingDataset(str(chunks), shuffle=True, transform=_with_pixels)
    return litdata.StreamingDataLoader(dataset, batch_size=BATCH, num_workers=workers)


def _sample(path: Path) -> dict[str, Any]:
    return {"image": path.read_bytes(), "label": int(path.stem) % 10}


def streaming_loader(folder: Path, workers: int) -> Iterable[Any]:
    import streaming

    class Scenes(streaming.StreamingDataset):
        def __getitem__(self, index: Any) -> tuple[torch.Tensor, int]:
            return _with_pixels(super().__getitem__(index))

    shards = folder / "streaming"
    if not shards.exists():
        with streaming.MDSWriter(out=str(shards), columns={"image": "bytes", "label": "int"}) as writer:
            for path in sorted((folder / "jpegs").iterdir()):
                writer.write(_sample(path))
    dataset = Scenes(local=str(shards), shuffle=True, batch_size=BATCH)
    return torch.utils.data.DataLoader(dataset, batch_size=BATCH, num_workers=workers)


def _with_pixels(stored: dict[str, Any]) -> tuple[torch.Tensor, int]:
    return TRANSFORM(decode_jpeg(torch.frombuffer(bytearray(stored["image"]), dtype=torch.uint8))), stored["label"]


PEERS: Final[dict[str, Callable[[Path, int], Iterable[Any]]]] = {
    "torchvision": lambda folder, workers: torch_loader(folder, workers, uses_pillow=False),
    "torchvision_pillow": lambda folder, workers: torch_loader(folder, workers, uses_pillow=True),
    "litdata": litdata_loader,
    "streaming": streaming_loader,
}

if __name__ == "__main__":
    main()
