"""Executors that never come: Spark waits for them for ever, and says so in its log alone."""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import Final

from py4j.protocol import Py4JError
from pyspark import SparkContext

from sunspark.errors import SetupError
from sunspark.launch.session import EXECUTORS_SECONDS, is_local, num_executors

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.5
_GIVE_UP_SECONDS: Final = 600.0
"""A cluster that is busy may give its first executor late."""


@contextlib.contextmanager
def executors_awaited(context: SparkContext, group: str) -> Iterator[None]:
    """Cancel the jobs of `group`, which run in the block, when Spark has had no executor for ten minutes.

    Warns after half a minute. Raises SetupError in place of what the cancelled jobs raise.
    """
    if is_local(str(context.master)):
        yield
        return
    is_over, is_given_up = threading.Event(), threading.Event()

    def look() -> None:
        last_seen, has_warned = time.monotonic(), False
        while not is_over.wait(_LOOK_SECONDS):
            with contextlib.suppress(Py4JError, ConnectionError):  # Spark's process is gone; the jobs will tell
                if num_executors(context):
                    last_seen = time.monotonic()
                without_seconds = time.monotonic() - last_seen
                if without_seconds > EXECUTORS_SECONDS and not has_warned:
                    has_warned = True
                    logger.warning("Spark (%s) has no executor; waiting for one", context.master)
                if without_seconds > _GIVE_UP_SECONDS:
                    is_given_up.set()
                    context.cancelJobGroup(group)  # at every look: another job may begin meanwhile

    watcher = threading.Thread(target=look, daemon=True, name="executors")
    watcher.start()
    try:
        yield
    except Exception as error:
        if not is_given_up.is_set():
            raise
        raise SetupError(
            f"Spark ({context.master}) has had no executor for {_GIVE_UP_SECONDS:.0f} s; start one, free one, "
            "or ask for less: spark.executor.cores, spark.executor.memory"
        ) from error
    finally:
        is_over.set()
        watcher.join()
