"""The first words on an executor: who is this, and can sunspark be imported here at all?

Travels to the executor as code, not by name (the caller sees to that), and stands on the standard library alone: it
must be able to say that sunspark is missing.
"""

import json
import os
import socket
import sys


def visit(errand: str) -> str:
    """Do the errand (JSON), if the means are here; tells as JSON who was visited and, if it failed, why."""
    order = json.loads(errand)
    name = order["executor"] or executor_name()
    about = {"executor": name, "host": socket.gethostname(), "executable": sys.executable, "error": ""}
    try:
        from sunspark.launch.doctor.probe import probe

        probe({**order, "executor": name})
    except Exception as error:
        about["error"] = f"{type(error).__name__}: {error}"
    return json.dumps(about)


def executor_name() -> str:
    """Spark's id of the executor that this process works for: the JVM above it was told.

    Host and process where /proc does not tell.
    """
    pid = os.getppid()
    for _ in range(4):
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                words = file.read().split("\0")
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            break
        if "--executor-id" in words[:-1]:
            return words[words.index("--executor-id") + 1]
        pid = parent
    return f"{socket.gethostname()}:{os.getppid()}"
