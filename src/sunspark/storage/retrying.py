"""Another try where a store may only have had a bad moment: 503, a connection that was reset, an answer cut short.

Every try but the first has a new client, which reads the credentials anew: those that have expired meanwhile, in the
environment or in a profile's file, are replaced by those that are there now.
A store that does not answer, or answers that it cannot now, is waited for about a minute, whoever asks, and two and a
half where it falls silent within its answers; what else fails is tried six times, in 3 s and its own time.
Cost: nothing where all goes well.
"""

import itertools
import logging
import random
import re
import time
from collections.abc import Callable
from typing import Final, TypeVar

import pyarrow as pa

from sunspark.errors import SilentStoreError, first_line_of, plural
from sunspark.storage.filesystem import forget_clients
from sunspark.storage.uri import as_local_path, store_and_path

logger = logging.getLogger(__name__)
T = TypeVar("T")

_TRIES: Final = 6
"""Where the store answers, and it is no for another reason than its own state."""
_PATIENCE_SECONDS: Final = 35.0
"""From the first failure on; no try to a store that is silent begins later, and one takes 20 s (`filesystem`), or 50
where each answer begins and does not end."""
_LEAST_TRIES: Final = 3
"""Also where each takes long, as to write gigabytes does."""
_GIVEN_UP_SECONDS: Final = 60.0
"""So long after a store was waited for in vain, one silent try is enough: not everybody waits anew."""
_FIRST_PAUSE_SECONDS: Final = 0.1
"""The longest that the first pause may be; each of the following may be twice as long, up to the longest."""
_LONGEST_PAUSE_SECONDS: Final = 5.0
_SILENCE: Final = re.compile(
    "NETWORK_CONNECTION|HTTP status 5..|INTERNAL_FAILURE|REQUEST_TIMEOUT|SERVICE_UNAVAILABLE|SLOW_DOWN|THROTTLING"
    "|UNAVAILABLE|DEADLINE_EXCEEDED"
)
"""How Arrow, with the words of S3's and of Google's client, says that a store does not answer, or cannot now."""
_PASSING: Final = (OSError, pa.ArrowException)
_FINAL: Final = (FileNotFoundError, PermissionError, FileExistsError, NotADirectoryError, IsADirectoryError)
_given_up_until: Final = dict[str, float]()
"""By store, in monotonic seconds."""
_jitter = random.Random()  # many workers fail together, and must not come back together


def retried(uri: str, action: Callable[[], T]) -> T:
    """What `action` returns, which asks the store of `uri`; local files are asked once.

    Raises SilentStoreError where the store was waited for in vain, else what the last try raises. `action` must resolve
    `uri` itself, to have the new client.
    """
    if as_local_path(uri) is not None:
        return action()
    authority, _, options = store_and_path(uri)
    store, started, first_failure, num_refusals = authority + options, time.monotonic(), 0.0, 0
    was_given_up = started < _given_up_until.get(store, 0.0)
    for number in itertools.count(1):
        try:
            answer = action()
            _given_up_until.pop(store, None)
            return answer
        except _FINAL:
            raise
        except _PASSING as error:
            reason, now = first_line_of(error), time.monotonic()
            first_failure = first_failure or now
            if not _SILENCE.search(reason):
                num_refusals += 1
                if num_refusals >= _TRIES:
                    raise
            elif was_given_up or (number >= _LEAST_TRIES and now - first_failure > _PATIENCE_SECONDS):
                _given_up_until[store] = now + _GIVEN_UP_SECONDS
                raise SilentStoreError(
                    f"{uri}: the store does not answer, asked {plural(number, 'time')} in {now - started:.0f} s "
                    f"({reason}); check that it runs, its endpoint or region, and that this machine reaches it "
                    "(network, proxy, firewall)"
                ) from error
            longest_seconds = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** (number - 1))
            pause_seconds = _jitter.uniform(0, longest_seconds)
            logger.warning("trying again in %.2f s, %s: %s", pause_seconds, uri, reason)
        time.sleep(pause_seconds)
        forget_clients()
    raise AssertionError("unreachable")
