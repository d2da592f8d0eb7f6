"""A training state as bytes: one safetensors file, the same as a checkpoint, a candidate, and what peers hand over.

Tensors: `model.*` the network, `average.*` the average of its weights where one is kept, `optimizer.<parameter>.*`,
`moments` of replicas that take steps of their own, `ledger`, `open_steps` that are applied in part. The header tells
step, lineage, optimizer and evaluations, and can be read without the tensors.

What goes to storage is sealed with a digest of all of it, and checked when it comes back; recovery (between peers) has
a digest of its own.
"""

import contextlib
import hashlib
import json
import mmap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from sunspark.errors import RunError
from sunspark.parallel.ledger import Ledger
from sunspark.training.validation import Evaluation

_FORMAT: Final = "sunspark-state-3"
_KEY: Final = "sunspark"
_NO_DIGEST: Final = "0" * 32
"""Stands in the header of what is not sealed, and while the digest of header and tensors is computed."""
_DTYPES: Final = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.complex64: "C64", torch.bool: "BOOL",
}  # fmt: skip


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


def write(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> memoryview:
    """The bytes of a state, not sealed, to be written to; equal states have equal bytes.

    Each tensor is copied once, to its place. (safetensors' own `save` holds two copies of all meanwhile, and a third
    of what lies channels_last.)
    """
    about = {"format": _FORMAT, "digest": _NO_DIGEST, **metadata}
    header: dict[str, Any] = {"__metadata__": {_KEY: json.dumps(about)}}
    in_order = sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0]))  # so that each is aligned
    end = 0
    for name, tensor in in_order:
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    body = _mapped(8 + len(head) + end)
    body[: 8 + len(head)] = len(head).to_bytes(8, "little") + head
    for name, tensor in in_order:
        if tensor.numel():
            offset = 8 + len(head) + header[name]["data_offsets"][0]
            place = torch.frombuffer(body, dtype=tensor.dtype, count=tensor.numel(), offset=offset)
            place.view(tensor.shape).copy_(tensor)
    return body


def _mapped(size_bytes: int) -> memoryview:
    """Memory that the system has back when its last view goes.

    In the heap, which keeps what is freed (`launch/nursery.py`), a snapshot leaves a hole of several networks that the
    next step's buffers break up.
    """
    memory = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without large pages
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)


def seal(body: memoryview) -> None:
    """Write into the header of a state's bytes the digest of all of them."""
    digest = _digest(body, _NO_DIGEST)
    begin = bytes(body[: _header_end(body)]).index(_NO_DIGEST.encode())
    body[begin : begin + len(digest)] = digest.encode()


def check_seal(body: bytes | memoryview, source: str) -> None:
    """Raise RunError, naming `source`, when these bytes are no state, or not those that were sealed."""
    digest = str(metadata_of(body, source)["digest"])
    if digest != _digest(body, digest):
        raise RunError(
            f"{source} is damaged: its bytes are not those that were written; delete it to go on from another"
        )


def _digest(body: bytes | memoryview, digest: str) -> str:
    """Of all the bytes, as they are without the `digest` in their header."""
    end = _header_end(body)
    head = bytes(body[:end]).replace(digest.encode(), _NO_DIGEST.encode(), 1)
    hashed = hashlib.blake2b(head, digest_size=len(_NO_DIGEST) // 2)
    hashed.update(memoryview(body)[end:])
    return hashed.hexdigest()


def _header_end(body: bytes | memoryview) -> int:
    return 8 + int.from_bytes(body[:8], "little")


def read(body: bytes | memoryview, source: str) -> StateContents:
    """The contents of a state's bytes. Raises RunError, naming `source`, when they are no state."""
    metadata = metadata_of(body, source)
    tensors = tensors_of(body, source)
    if "ledger" not in tensors:
        raise RunError(f"{source} is not a checkpoint of sunspark: it holds no ledger")
    return StateContents(
        metadata=metadata,
        evaluations=_evaluations_of(metadata, source),
        ledger=Ledger.from_array(tensors["ledger"].numpy()),
        tensors=tensors,
    )


def metadata_of(body: bytes | memoryview, source: str) -> dict[str, Any]:
    """The header of a state's bytes. Raises RunError, naming `source`, when they are no state."""
    try:
        metadata: dict[str, Any] = json.loads(json.loads(bytes(body[8 : _header_end(body)]))["__metadata__"][_KEY])
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise RunError(f"{source} is not a checkpoint of sunspark, or not whole") from error
    if not isinstance(metadata, dict):
        raise RunError(f"{source} is not a checkpoint of sunspark: its header tells nothing")
    if metadata.get("format") != _FORMAT:
        raise RunError(f"{source} has the format {metadata.get('format')!r}, this version reads {_FORMAT!r}")
    if missing := {"digest", "step", "lineage", "optimizer"} - metadata.keys():
        raise RunError(f"{source} is not a checkpoint of sunspark: it does not say its {', '.join(sorted(missing))}")
    return metadata


def tensors_of(body: bytes | memoryview, source: str) -> dict[str, Tensor]:
    """The tensors of a state's bytes. Raises RunError, naming `source`, when they are not whole."""
    try:
        return safetensors.torch.load(bytes(body))
    except (safetensors.SafetensorError, ValueError) as error:
        raise RunError(f"{source} is not whole: {error}") from error


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
