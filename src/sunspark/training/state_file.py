"""A training state as bytes: one safetensors file, the same as a checkpoint, a candidate, and what peers hand over.

Tensors: `model.*` the network, `average.*` the average of its weights where one is kept, `optimizer.<parameter>.*`,
`ledger`. The header tells step, lineage, optimizer and evaluations, and can be read without the tensors.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import safetensors
import safetensors.torch
from torch import Tensor

from sunspark.errors import RunError
from sunspark.parallel.ledger import Ledger
from sunspark.training.validation import Evaluation

_FORMAT: Final = "sunspark-state-2"
_KEY: Final = "sunspark"


@dataclass(frozen=True, kw_only=True, slots=True)
class StateContents:
    """What the bytes of a state hold; whether its parts agree is for the reader to judge."""

    metadata: dict[str, Any]
    """The header: step, lineage, optimizer and its counters."""
    evaluations: tuple[Evaluation, ...]
    ledger: Ledger
    tensors: dict[str, Tensor]

    @property
    def judged_weights(self) -> dict[str, Tensor]:
        """The weights that are evaluated and kept, by their names in the network: the average where there is one."""
        return part_of(self.tensors, "average.") or part_of(self.tensors, "model.")


def write(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> bytes:
    """The bytes of a state; equal states have equal bytes."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    # One entry, because safetensors writes several in any order, and peers must have the same bytes.
    return safetensors.torch.save(contiguous, {_KEY: json.dumps({"format": _FORMAT, **metadata})})


def read(body: bytes, source: str) -> StateContents:
    """The contents of a state's bytes. Raises RunError, naming `source`, when they are no state or not whole."""
    metadata = metadata_of(body, source)
    tensors = _tensors_of(body, source)
    return StateContents(
        metadata=metadata,
        evaluations=_evaluations_of(metadata, source),
        ledger=Ledger.from_array(tensors["ledger"].numpy()),
        tensors=tensors,
    )


def metadata_of(body: bytes, source: str) -> dict[str, Any]:
    """The header of a state's bytes. Raises RunError, naming `source`, when they are no state."""
    try:
        size = int.from_bytes(body[:8], "little")
        metadata: dict[str, Any] = json.loads(json.loads(body[8 : 8 + size])["__metadata__"][_KEY])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{source} is not a checkpoint of sunspark, or not whole") from error
    if metadata.get("format") != _FORMAT:
        raise RunError(f"{source} has the format {metadata.get('format')!r}, this version reads {_FORMAT!r}")
    if missing := {"step", "lineage", "optimizer"} - metadata.keys():
        raise RunError(f"{source} is not a checkpoint of sunspark: it does not say its {', '.join(sorted(missing))}")
    return metadata


def _tensors_of(body: bytes, source: str) -> dict[str, Tensor]:
    try:
        tensors = safetensors.torch.load(body)
    except (safetensors.SafetensorError, ValueError) as error:
        raise RunError(f"{source} is not whole: {error}") from error
    if "ledger" not in tensors:
        raise RunError(f"{source} is not a checkpoint of sunspark: it holds no ledger")
    return tensors


def _evaluations_of(metadata: dict[str, Any], source: str) -> tuple[Evaluation, ...]:
    try:
        return tuple(Evaluation(**evaluation) for evaluation in metadata.get("evaluations", ()))
    except TypeError as error:
        raise RunError(f"{source} tells of evaluations that this version does not know: {error}") from error


def part_of(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def lineage_of(ledger: Ledger, evaluations: Sequence[Evaluation]) -> str:
    """Names the one history that led to a state: the steps applied, and what was found of them on the way."""
    if not evaluations:
        return ledger.lineage
    text = json.dumps([ledger.lineage, *map(asdict, evaluations)])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
