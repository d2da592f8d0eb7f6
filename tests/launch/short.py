"""A training that takes seconds, and a way to interrupt it."""

import os
import signal
import threading
from collections.abc import Callable

from sunspark.data.loader import LoaderConfig
from sunspark.launch.config import LaunchConfig, TrainConfig
from sunspark.models.registry import ModelConfig
from sunspark.training.config import TrainingConfig
from tests.distributed.harness import wait_until


def short_config(**launch: object) -> TrainConfig:
    """One epoch of a few steps on one local worker."""
    return TrainConfig(
        model=ModelConfig(model_args={"n_filters": 2, "wide_units": 16}),
        data=LoaderConfig(image_size=16),
        training=TrainingConfig(epochs=1, global_batch_size=64),
        launch=LaunchConfig(**({"launcher": "local", "workers": 1} | launch)),  # type: ignore[arg-type]
    )


def interrupt_when(condition: Callable[[], bool]) -> None:
    """Press Ctrl-C in this process once `condition` is true."""

    def wait_and_press() -> None:
        wait_until(condition, 120, "the moment of the interruption")
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait_and_press, daemon=True).start()
