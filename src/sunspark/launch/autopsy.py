"""How a worker process ended, in words: the signal, the memory it had, the images in its hands, its last lines.

And whether an image has killed it: those that it was decoding are decoded again, each in a process of its own.
"""

import contextlib
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sunspark.data.in_hand import LastHold
from sunspark.data.poison import CRASHES, find_poison, name_of_signal
from sunspark.limits import memory_limit_bytes, oom_kill_counter, oom_kills
from sunspark.training.spec import WorkerSpec

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_NEARLY: Final = 0.9
_WORDS: Final[dict[int, str]] = {
    signal.SIGSEGV: "a segmentation fault",
    signal.SIGBUS: "an access to memory or a mapped file that is not there; a full disk may be the cause",
    signal.SIGILL: "an instruction that this processor does not know",
    signal.SIGABRT: "an abort from within",
    signal.SIGFPE: "an arithmetic fault",
    signal.SIGKILL: "killed from outside",
    signal.SIGTERM: "asked to end from outside",
    signal.SIGINT: "interrupted",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """What is known of a process's memory while it lives (bytes; 0: not known)."""

    used_bytes: int = 0
    limit_bytes: int = 0
    num_oom_kills: int = 0
    """Processes that the kernel's out-of-memory killer had ended where `oom_counter` counts."""
    oom_counter: Path = Path("/proc/vmstat")
    """Outlives the process."""

    @classmethod
    def of(cls, pid: int) -> "Memory":
        """A look at the process now; what cannot be read is not known."""
        used = 0
        with contextlib.suppress(OSError, ValueError, IndexError):
            used = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
        counter = oom_kill_counter(pid)
        return cls(
            used_bytes=used,
            limit_bytes=memory_limit_bytes(pid),
            num_oom_kills=oom_kills(counter) or 0,
            oom_counter=counter,
        )


def describe_end(code: int, before: Memory, lines: Sequence[str]) -> str:
    """How a process ended: one line of the exit code (negative: a signal) in words, then its last lines.

    `before` is the last look at it while it lived.
    """
    if code >= 0:
        return "\n".join([f"worker process ended with exit code {code}", *lines])
    words = _WORDS.get(-code, "")
    if -code == signal.SIGKILL and _ran_out_of_memory(before):
        limit = f" of a limit of {before.limit_bytes / 1e9:.2f} GB" if before.limit_bytes else ""
        words = (
            f"out of memory: it had {before.used_bytes / 1e9:.2f} GB{limit}; give it more "
            "(on Spark: spark.executor.memoryOverhead), or lower --micro-batch-size or --prefetch-bytes of the training"
        )
    return "\n".join([f"worker process ended by {name_of_signal(-code)}" + (f" ({words})" if words else ""), *lines])


def find_poison_of(spec: WorkerSpec, code: int, before: Memory, hold: LastHold) -> dict[int, str]:
    """The images that killed the process of `spec`, with how; none when it did not end by a crash of its own."""
    is_crash = code < 0 and (-code in CRASHES or (-code == signal.SIGKILL and _ran_out_of_memory(before)))
    if not (is_crash and hold.rows):
        return {}
    data: dict[str, Any] = spec.work["data"]
    return find_poison(
        hold.rows,
        dataset=spec.dataset,
        seed=spec.work["training"]["seed"],
        num_epochs=spec.work["training"]["epochs"],
        image_size=data["image_size"],
        augment=data["augment"],
        count_oom_kills=lambda: oom_kills(before.oom_counter) or 0,
    )


def _ran_out_of_memory(before: Memory) -> bool:
    is_near_the_limit = 0 < _NEARLY * before.limit_bytes <= before.used_bytes
    return is_near_the_limit or (oom_kills(before.oom_counter) or 0) > before.num_oom_kills
