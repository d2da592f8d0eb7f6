"""The state of a training: weights, optimizer, step and ledger, changed by whole steps only.

One lock guards it. A step is applied under the lock; checkpoints, candidates and recovering peers take a snapshot
under it, so that nobody ever sees half a step. As bytes it is one safetensors file, the same for all three.
"""

import json
import threading
from typing import Any, final

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from sunspark.errors import RunError
from sunspark.parallel.ledger import Evidence, Ledger, LedgerLine
from sunspark.parallel.recovery import Snapshot

_FORMAT = "sunspark-state-1"
_KEY = "sunspark"


@final
class TrainingState:
    """What a worker would have to lose."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model = model
        self.optimizer = optimizer
        self.ledger = Ledger()
        self.lock = threading.RLock()
        self.is_whole = True
        """False once applying a step, or loading a state, has failed half-way."""

    @property
    def step(self) -> int:
        """The next step; all before it are applied."""
        return len(self.ledger)

    def apply(self, learning_rate: float, quorum_id: int, evidence: Evidence) -> None:
        """Take the optimizer's step with the gradients that are there, and write it into the ledger."""
        with self.lock:
            self.is_whole = False
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate
            self.optimizer.step()
            self.ledger.append(LedgerLine(step=self.step, quorum_id=quorum_id, evidence=evidence))
            self.is_whole = True

    def snapshot(self) -> Snapshot:
        """The whole state as the bytes of a safetensors file."""
        with self.lock:
            tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
            tensors |= self._optimizer_tensors()
            tensors["ledger"] = torch.from_numpy(self.ledger.to_array())
            metadata = {
                "format": _FORMAT,
                "step": str(self.step),
                "lineage": self.ledger.lineage,
                "optimizer": type(self.optimizer).__name__,
            }
            # One entry, because safetensors writes several in any order, and peers must have the same bytes.
            body = safetensors.torch.save({k: t.contiguous() for k, t in tensors.items()}, {_KEY: json.dumps(metadata)})
            return Snapshot(step=self.step, lineage=self.ledger.lineage, body=body)

    def load(self, body: bytes, source: str) -> None:
        """Become the state in `body`.

        Raises RunError, naming `source`, when it is no state, or one of another network or optimizer; this state is
        then unchanged.
        """
        metadata = metadata_of(body, source)
        tensors = _tensors_of(body, source)
        ledger = Ledger.from_array(tensors.pop("ledger").numpy())
        if (ledger.lineage, str(len(ledger))) != (metadata["lineage"], metadata["step"]):
            raise RunError(f"{source} contradicts itself: its ledger does not lead to its step {metadata['step']}")
        weights = _weights_in(tensors)
        self._check(weights, metadata["optimizer"], source)
        with self.lock:
            self.is_whole = False
            self.model.load_state_dict(weights)
            self._load_optimizer(tensors)
            self.ledger = ledger
            self.is_whole = True

    def _check(self, weights: dict[str, Tensor], optimizer: str, source: str) -> None:
        mine = {name: tensor.shape for name, tensor in self.model.state_dict().items()}
        its = {name: tensor.shape for name, tensor in weights.items()}
        if mine != its:
            name = min(name for name in mine.keys() | its.keys() if mine.get(name) != its.get(name))
            raise RunError(
                f"{source} holds another network: {name} is {_shape(its.get(name))} there, "
                f"{_shape(mine.get(name))} here"
            )
        if optimizer != type(self.optimizer).__name__:
            raise RunError(f"{source} was trained with the optimizer {optimizer}, not {type(self.optimizer).__name__}")

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        return {
            f"optimizer.{name}.{key}": value
            for name, parameter in self.model.named_parameters()
            for key, value in self.optimizer.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }

    def _load_optimizer(self, tensors: dict[str, Tensor]) -> None:
        self.optimizer.state.clear()
        for name, parameter in self.model.named_parameters():
            prefix = f"optimizer.{name}."
            entries: dict[str, Any] = {
                key.removeprefix(prefix): _like_parameter(value, parameter)
                for key, value in tensors.items()
                if key.startswith(prefix) and "." not in key.removeprefix(prefix)
            }
            if entries:
                self.optimizer.state[parameter] = entries


def metadata_of(body: bytes, source: str) -> dict[str, str]:
    """The metadata of a state's bytes: format, step, lineage, optimizer. Raises RunError when they are no state."""
    try:
        size = int.from_bytes(body[:8], "little")
        metadata: dict[str, str] = json.loads(json.loads(body[8 : 8 + size])["__metadata__"][_KEY])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{source} is not a checkpoint of sunspark, or not whole") from error
    if metadata.get("format") != _FORMAT:
        raise RunError(f"{source} has the format {metadata.get('format')!r}, this version reads {_FORMAT!r}")
    if missing := {"step", "lineage", "optimizer"} - metadata.keys():
        raise RunError(f"{source} is not a checkpoint of sunspark: it does not say its {', '.join(sorted(missing))}")
    return metadata


def ledger_of(body: bytes, source: str) -> Ledger:
    """The ledger in a state's bytes."""
    metadata_of(body, source)
    return Ledger.from_array(_tensors_of(body, source)["ledger"].numpy())


def weights_of(body: bytes) -> dict[str, Tensor]:
    """The weights in a state's bytes, by their names in the network."""
    return _weights_in(_tensors_of(body, "the state"))


def _weights_in(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}


def _tensors_of(body: bytes, source: str) -> dict[str, Tensor]:
    try:
        tensors = safetensors.torch.load(body)
    except (safetensors.SafetensorError, ValueError) as error:
        raise RunError(f"{source} is not whole: {error}") from error
    if "ledger" not in tensors:
        raise RunError(f"{source} is not a checkpoint of sunspark: it holds no ledger")
    return tensors


def _shape(shape: torch.Size | None) -> str:
    return "absent" if shape is None else str(tuple(shape))


def _like_parameter(value: Tensor, parameter: nn.Parameter) -> Tensor:
    """A moment has the parameter's memory layout (channels_last), as a fused step wants it; a counter is a scalar."""
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, requires_grad=False).copy_(value)
