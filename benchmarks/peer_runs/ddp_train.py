"""What every process of `ddp_run.py` does: scene_vgg on random pixels in memory, as most people write it, or tuned.

stock: float32, NCHW. tuned: channels_last and autocast to bf16. Rank 0 writes a line to MARKS, the time and the number
of images of all ranks, after every step; the file's first line is the number of parameters.
"""

import contextlib
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from sunspark.models.scene_vgg import build_scene_vgg

IMAGE_SIZE, NUM_CLASSES, GLOBAL_BATCH_SIZE = 128, 397, 32


def main() -> None:
    kind, marks, epochs, num_images = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group("gloo")
    layout = torch.channels_last if kind == "tuned" else torch.contiguous_format
    network = build_scene_vgg(NUM_CLASSES, IMAGE_SIZE, {"n_filters": 8}).to(memory_format=layout)
    model = DistributedDataParallel(network)
    optimizer, loss = torch.optim.Adam(model.parameters(), lr=1e-5), nn.CrossEntropyLoss()
    images = TensorDataset(
        torch.randn(num_images, 3, IMAGE_SIZE, IMAGE_SIZE), torch.randint(0, NUM_CLASSES, (num_images,))
    )
    sampler: DistributedSampler[object] = DistributedSampler(images)
    loader = DataLoader(images, batch_size=GLOBAL_BATCH_SIZE // dist.get_world_size(), sampler=sampler)
    with marks.open("a") if dist.get_rank() == 0 else contextlib.nullcontext() as file:
        if file:
            file.write(f"{sum(parameter.numel() for parameter in model.parameters())}\n")
        for epoch in range(epochs):
            sampler.set_epoch(epoch)
            for pixels, labels in loader:
                optimizer.zero_grad()
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind == "tuned"):
                    logits = model(pixels.to(memory_format=layout))
                    cost = loss(logits, labels)
                cost.backward()
                optimizer.step()
                if file:
                    file.write(f"{time.time()} {GLOBAL_BATCH_SIZE}\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
