"""What a failed Spark job says: pages of stack traces, and one line in them that tells why."""

import re

from sunspark import errors
from sunspark.errors import SunsparkError, UserError, WorkerError


def task_that_died(text: str) -> int | None:
    """The number, in its job, of the task whose Python process has died; None where a failure has another cause."""
    task = re.search(r"Task (\d+) in stage \S+ failed", text)
    return int(task[1]) if task and "Python worker exited unexpectedly" in text else None


def cause_line(text: str) -> str:
    """The line of a Spark failure that says why: the Python exception of the task, if there is one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    of_ours = [line for line in lines if line.startswith("sunspark.") and ": " in line]
    return (of_ours or [line for line in lines if "Error: " in line] or lines or ["no reason was given"])[0]


def told_by_task(text: str, what: str) -> SunsparkError:
    """A mistake of the user's, as the task that met it has raised it; WorkerError, which says `what`, for all else."""
    line = cause_line(text)
    name, _, message = line.removeprefix("sunspark.errors.").partition(": ")
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, UserError):
        return kind(message)
    return WorkerError(f"{what}: {line}")
