"""The nursery: a process that has loaded torch and forks workers, `python -m sunspark.training.nursery DESCRIPTOR
[MODULE...]`.

Loading torch takes seconds of processor time, forking takes milliseconds: so a worker that died is back at once, and
several workers of one machine share what they have loaded. The nursery itself runs nothing but imports and has one
thread, which makes forking it safe.

Its parent talks to it over a UNIX socket, whose number is the argument, in packets of JSON. A request carries the
two file descriptors that become the worker's standard input and standard error; the answer is {"started": pid}; when
a worker ends, the nursery says {"ended": pid, "code": exit code, negative for a signal}. It ends with its parent.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback

import torch

from sunspark.training.worker import main as run_worker

MAX_PACKET_BYTES = 4096


def main() -> None:
    """Serve until the parent is gone."""
    parent = socket.socket(fileno=int(sys.argv[1]))
    for module in sys.argv[2:]:
        importlib.import_module(module)
    wake_reader, wake_writer = os.pipe()
    os.set_blocking(wake_writer, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_writer)
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])  # the first optimizer loads torch's compiler
    gc.collect()
    gc.freeze()
    sources: list[socket.socket | int] = [parent, wake_reader]
    while True:
        ready, _, _ = select.select(sources, [], [])
        if wake_reader in ready:
            os.read(wake_reader, MAX_PACKET_BYTES)
        if parent in ready:
            request, descriptors, _, _ = socket.recv_fds(parent, MAX_PACKET_BYTES, 2)
            if not request:
                os._exit(0)  # what the interpreter has to say when it ends is nobody's business
            pid = os.fork()
            if pid == 0:
                parent.close()
                _become_worker(*descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            parent.send(json.dumps({"started": pid}).encode())
        _report_ended(parent)


def _become_worker(stdin: int, stderr: int) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # A session of its own: what ends Spark's Python processes must leave it the time to save its state.
    os.setsid()
    os.dup2(stdin, 0)
    os.dup2(stderr, 2)
    os.close(stdin)
    os.close(stderr)
    try:
        run_worker()  # ends the process itself
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)  # whatever comes back must not go on as a nursery


def _report_ended(parent: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = ended
            parent.send(json.dumps({"ended": pid, "code": os.waitstatus_to_exitcode(status)}).encode())


if __name__ == "__main__":
    main()
