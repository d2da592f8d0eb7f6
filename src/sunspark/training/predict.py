"""Prediction: images from anywhere, seen as evaluation sees them, to their most probable classes.

An image takes the way that it would take through ingest and evaluation: decoded, turned, brought to the stored
form (short side, JPEG quality) of the dataset that the model was trained on, centre cut out. So predictions for images
of that dataset agree with `evaluate`. A batch is a fixed part of the list of images, whoever computes it, because
arithmetic may round differently in batches of another size.

Cost: the pixels of two batches at the network's size and, for each thread, one decoded image.

Shapes: B batch, H W pixels, K classes.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, cast, final

import numpy as np
import torch

from sunspark.data.augment import AugmentConfig, evaluation_pixels
from sunspark.data.codec import to_stored_image
from sunspark.data.decode_pool import Batch
from sunspark.data.image_files import ImageFile, failures_named, read_image
from sunspark.data.image_format import DecodeError
from sunspark.data.pixels import Pixels
from sunspark.data.prediction_table import ClassProbability, Prediction
from sunspark.training.export import load_model
from sunspark.training.forward import logits_of

BATCH_SIZE: Final = 64
"""Images per forward pass, and per task of Spark: as in evaluation."""

_RANKED_BY_EVALUATION: Final = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictSpec:
    """What there is to know for predicting, as it travels to a task."""

    run: str
    model_digest: str
    """Which weights are in `run`: hexadecimal, for whoever keeps a model between tasks."""
    image_size: int
    short_side: int
    jpeg_quality: int
    augment: AugmentConfig
    top: int
    """Classes per image."""


@final
class Predictor:
    """A model in memory and threads that prepare its images. Close it in the end."""

    def __init__(self, spec: PredictSpec, num_threads: int) -> None:
        """Raises RunError when the run holds no finished model."""
        self._spec = spec
        self._model, description = load_model(spec.run)
        self._dtype = str(description["dtype"])
        self._classes = cast(Sequence[str], description["classes"])
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="sunspark-predict")

    def predict(self, batches: Iterable[Sequence[ImageFile]]) -> Iterator[list[Prediction]]:
        """What is in the images of each batch; while one is computed, the next is read and decoded.

        Raises StorageError when storage does not answer as it should.
        """
        upcoming: deque[tuple[Sequence[ImageFile], list[Future[Pixels | DecodeError]]]] = deque()
        for batch in batches:
            upcoming.append((batch, [self._pool.submit(self._look_at, image) for image in batch]))
            if len(upcoming) == 2:
                yield self._finish(*upcoming.popleft())
        while upcoming:
            yield self._finish(*upcoming.popleft())

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _look_at(self, image: ImageFile) -> Pixels | DecodeError:
        """The image as evaluation sees it, or what is wrong with it."""
        spec = self._spec
        try:
            data = read_image(image.uri)
            with failures_named(image.path):
                stored = to_stored_image(data, short_side=spec.short_side, jpeg_quality=spec.jpeg_quality)
                return evaluation_pixels(stored.jpeg, spec.image_size, spec.augment)
        except DecodeError as error:
            return error

    def _finish(
        self, batch: Sequence[ImageFile], awaited: Sequence["Future[Pixels | DecodeError]"]
    ) -> list[Prediction]:
        looked_at = [future.result() for future in awaited]
        ranked = iter(self._rank([one for one in looked_at if not isinstance(one, DecodeError)]))
        return [
            Prediction(path=image.path, error=one.reason)
            if isinstance(one, DecodeError)
            else Prediction(path=image.path, top=next(ranked))
            for image, one in zip(batch, looked_at, strict=True)
        ]

    def _rank(self, pixels: Sequence[Pixels]) -> list[tuple[ClassProbability, ...]]:
        """The most probable classes of each image of a batch."""
        if not pixels:
            return []
        nobody = np.zeros(len(pixels), np.int64)
        batch = Batch(sample_ids=nobody.astype(np.uint64), labels=nobody, pixels=np.stack(pixels))
        with torch.inference_mode():
            logits_BK = logits_of(self._model, batch, self._dtype)
            probabilities_BK = torch.softmax(logits_BK.double(), dim=1)
            # At least as many as evaluation ranks: among equal logits, the order depends on how many are asked for.
            num_ranked = min(max(self._spec.top, _RANKED_BY_EVALUATION), len(self._classes))
            labels_BK = logits_BK.topk(num_ranked, dim=1).indices[:, : self._spec.top]
        chosen_BK = probabilities_BK.gather(1, labels_BK)
        return [
            tuple(
                ClassProbability(name=self._classes[label], probability=probability)
                for label, probability in zip(labels, probabilities, strict=True)
            )
            for labels, probabilities in zip(labels_BK.tolist(), chosen_BK.tolist(), strict=True)
        ]
