"""Another try where a store may only have had a bad moment: 503, a connection that was reset, an answer cut short.

Every try but the first has a new client, which reads the credentials anew: those that have expired meanwhile, in the
environment or in a profile's file, are replaced by those that are there now.
Cost: nothing where all goes well; a request that fails for good does so after 3 s at most, not counting its own time.
"""

import logging
import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

import pyarrow as pa

from sunspark.errors import first_line_of
from sunspark.storage.filesystem import forget_clients
from sunspark.storage.uri import as_local_path

logger = logging.getLogger(__name__)
T = TypeVar("T")

_TRIES: Final = 6
_FIRST_PAUSE_SECONDS: Final = 0.1
"""The longest that the first pause may be; each of the following may be twice as long."""
_PASSING: Final = (OSError, pa.ArrowException)
_FINAL: Final = (FileNotFoundError, PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError)
_jitter = random.Random()  # many workers fail together, and must not come back together


def retried(uri: str, action: Callable[[], T]) -> T:
    """What `action` returns, which asks the store of `uri`; local files are asked once.

    Raises what the last try raises. `action` must resolve `uri` itself, to have the new client.
    """
    if as_local_path(uri) is not None:
        return action()
    for number in range(_TRIES - 1):
        try:
            return action()
        except _FINAL:
            raise
        except _PASSING as error:
            pause_seconds = _jitter.uniform(0, _FIRST_PAUSE_SECONDS * 2**number)
            logger.warning("trying again in %.2f s, %s: %s", pause_seconds, uri, first_line_of(error))
        time.sleep(pause_seconds)
        forget_clients()
    return action()
