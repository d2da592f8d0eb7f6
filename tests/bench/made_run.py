"""A run as training leaves it, for the tests of what reads runs."""

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sunspark.bench.history import PHASES
from sunspark.records import (
    DRIVER,
    EvaluationRecord,
    EventRecord,
    Record,
    RecordWriter,
    StepRecord,
    driver_file,
    worker_file,
)

CONFIG = {
    "format": "sunspark-run-1",
    "dataset": "demo/dataset",
    "dataset_id": "3f9a1c0e5d77b2a4",
    "work": {
        "model": {"model": "scene_vgg", "args": {"n_filters": 16, "dropout": [0.4, 0.2]}},
        "data": {"image_size": 64, "cache_directory": None},
        "optim": {
            "optimizer": "adam",
            "learning_rate": 1e-3,
            "schedule": "one_cycle",
            "warmup_fraction": 0.3,
        },
        "training": {
            "split": "train",
            "epochs": 12,
            "global_batch_size": 64,
            "seed": 0,
        },
    },
    "launch": {
        "launcher": "spark",
        "master": "local[2]",
        "workers": 2,
        "replicas": None,
        "cores_per_worker": 1,
    },
}
DEMO_CLASSES = ("beach", "city street", "desert dunes", "forest", "mountain lake", "harbour at night")


def alike(label: int, num_classes: int) -> list[int]:
    """The classes that are easily taken for each other: they lie far apart in the order of the labels."""
    num_groups = max(1, num_classes // 7)
    return list(range(label % num_groups, num_classes, num_groups))


def confusion_of(samples: list[int], correct: list[int], generator: np.random.Generator) -> list[list[int]]:
    """(label, predicted, samples): of ten mistakes eight stay among classes that are alike."""
    counts: Counter[tuple[int, int]] = Counter()
    everyone = list(range(len(samples)))
    for label, (number, right) in enumerate(zip(samples, correct, strict=True)):
        counts[label, label] += right
        for _ in range(number - right):
            near = generator.random() < 0.8
            others = [one for one in (alike(label, len(samples)) if near else everyone) if one != label]
            counts[label, int(generator.choice(others))] += 1
    return [[*pair, count] for pair, count in sorted(counts.items()) if count]


def example(row: int, label: int, predicted: int) -> dict[str, Any]:
    path = f"scenes/{row:05d}.jpg"
    return {"path": path, "row": row, "label": label, "predicted": predicted, "probability": 0.9 - row / 100}


@dataclass(kw_only=True)
class MadeRun:
    """A run as training leaves it, made from arithmetic: a loss that falls, steps that take time, kills."""

    run: Path
    num_workers: int = 2
    num_steps: int = 480
    steps_per_epoch: int = 40
    batch: int = 64
    classes: tuple[str, ...] = DEMO_CLASSES
    kills: dict[int, int] = field(default_factory=dict)
    """Step -> the worker that is killed in it."""
    pause_at: int | None = None
    """The step at which everybody stops for an hour."""
    finished: bool = True
    seed: int = 0

    def write(self) -> None:
        generator = np.random.default_rng(self.seed)
        now, incarnation = 1_760_000_000.0, [0] * self.num_workers
        records: dict[tuple[int, int], list[Record]] = {}

        def event(worker: int, step: int, name: Any, detail: str = "") -> None:
            number_of_start = 0 if worker == DRIVER else incarnation[worker]
            records.setdefault((worker, number_of_start), []).append(
                EventRecord(
                    worker=worker,
                    incarnation=number_of_start,
                    time_unix_seconds=now,
                    step=step,
                    event=name,
                    detail=detail,
                )
            )

        event(DRIVER, 0, "started")
        for worker in range(self.num_workers):
            now += 0.4
            event(worker, 0, "joined")
        for step in range(self.num_steps):
            if step == self.pause_at:
                now += 3600
                event(DRIVER, step, "resumed", f"from the checkpoint of step {step}")
            if step in self.kills:
                victim = self.kills[step]
                event(victim, step, "lost", "the process ended with signal 9 (SIGKILL)")
                now += 1.1
                event(victim, step, "redone", "the quorum changed")
                incarnation[victim] += 1
                now += 0.8
                event(victim, step, "joined")
                event(victim, step, "recovered", "74 MB in 0.31 s from worker 0")
            seconds = generator.normal([0.19, 0.10, 0.02, 0.008, 0.04, 0.004], 0.0015).clip(1e-4)
            seconds[3] += 0.5 * (generator.random() < 0.01)
            now += float(seconds.sum()) + 0.002
            loss = math.log(len(self.classes)) * math.exp(-4 * step / self.num_steps)
            loss = loss * float(generator.normal(1, 0.08)) + 0.03
            for worker in range(self.num_workers):
                records.setdefault((worker, incarnation[worker]), []).append(
                    StepRecord(
                        worker=worker,
                        incarnation=incarnation[worker],
                        time_unix_seconds=now + 0.001 * worker,
                        step=step,
                        epoch=step // self.steps_per_epoch,
                        loss=loss,
                        learning_rate=1e-3 * math.sin(math.pi * (step + 1) / (self.num_steps + 1)),
                        gradient_norm=2.0 * loss,
                        samples=self.batch // self.num_workers,
                        **{f"{phase}_seconds": float(value) for phase, value in zip(PHASES, seconds, strict=True)},
                        peak_memory_bytes=812_000_000 + 3_000_000 * worker + 50_000 * step,
                        world_size=self.num_workers,
                        rank=worker,
                    )
                )
            if (step + 1) % self.steps_per_epoch == 0:
                share = 1 - 0.9 * math.exp(-3 * step / self.num_steps)
                records.setdefault((0, incarnation[0]), []).append(
                    EvaluationRecord(
                        worker=0,
                        incarnation=incarnation[0],
                        time_unix_seconds=now,
                        step=step + 1,
                        epoch=(step + 1) // self.steps_per_epoch,
                        split="test",
                        samples=120,
                        top1=share,
                        top5=min(1.0, share + 0.2),
                        mean_per_class=share,
                        loss=loss,
                    )
                )
            if step and step % (2 * self.steps_per_epoch) == 0:
                event(0, step, "checkpoint", f"step-{step:09d}.safetensors")
                now += 0.25
        if self.finished:
            event(DRIVER, self.num_steps, "finished")
        self._save(records, now)

    def _save(self, records: dict[tuple[int, int], list[Record]], now: float) -> None:
        for (worker, incarnation), written in records.items():
            uri = driver_file(str(self.run)) if worker == DRIVER else worker_file(str(self.run), worker, incarnation)
            with RecordWriter(uri) as writer:
                for record in written:
                    writer.write(record)
        self.put("config.json", CONFIG)
        if self.finished:
            self.put(
                "result.json",
                {
                    "run": str(self.run),
                    "steps": self.num_steps,
                    "epochs": self.num_steps // self.steps_per_epoch,
                    "samples": self.num_steps * self.batch,
                    "seconds": now - 1_760_000_000.0,
                    "images_per_second": self.num_steps * self.batch / (now - 1_760_000_000.0),
                    "workers": self.num_workers,
                    "steps_redone": len(self.kills),
                    "recoveries": len(self.kills),
                    "dataset_id": "3f9a1c0e5d77b2a4",
                    "finished": True,
                },
            )

    def evaluate(self, split: str = "test") -> None:
        """Write an evaluation whose classes spread from hard to easy; most mistakes stay among `alike` classes."""
        generator = np.random.default_rng(self.seed + 1)
        samples = [20 + int(extra) for extra in generator.integers(0, 12, len(self.classes))]
        right = generator.beta(5, 2, len(self.classes)) if len(self.classes) > 20 else np.linspace(0.8, 1, 6)
        correct = [round(number * part) for number, part in zip(samples, right, strict=True)]
        self.put(
            f"evaluation-{split}.json",
            {
                "split": split,
                "dataset": "demo/dataset",
                "dataset_id": "3f9a1c0e5d77b2a4",
                "samples": sum(samples),
                "top1": sum(correct) / sum(samples),
                "top5": min(1.0, sum(correct) / sum(samples) + 0.07),
                "mean_per_class": float(np.mean(np.divide(correct, samples))),
                "loss": 0.31,
                "per_class": [
                    {"name": name, "samples": number, "correct": good}
                    for name, number, good in zip(self.classes, samples, correct, strict=True)
                ],
                "confusion": confusion_of(samples, correct, generator),
                "mistakes": [example(row, 1, 0) for row in range(3)],
                "right": [example(row, 2, 2) for row in range(3, 5)],
            },
        )

    def verify(self, exactly_once: bool = True) -> None:
        epochs = [
            {
                "epoch": epoch,
                "samples": 2560,
                "missing": 0 if exactly_once else epoch,
                "repeated": 0,
                "excused": 0,
            }
            for epoch in range(self.num_steps // self.steps_per_epoch)
        ]
        self.put("verify.json", {"exactly_once": exactly_once, "epochs": epochs})

    def put(self, name: str, body: Any) -> None:
        self.run.mkdir(parents=True, exist_ok=True)
        (self.run / name).write_text(json.dumps(body))
