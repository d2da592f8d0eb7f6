"""Whether anybody answers where an S3 store is said to be: Arrow takes 40 s to find out, and blames something else."""

import functools
import socket
from typing import Final
from urllib.parse import parse_qs, urlsplit

from sunspark.errors import ConfigError, StorageError, first_line_of

_CONNECT_SECONDS: Final = 5.0


@functools.cache
def refuse_silent_endpoint(options: str) -> None:
    """StorageError when nobody takes a connection at the `endpoint_override` among the options of a URI (`?a=b&c=d`).

    Not asked again where one was taken: a store that was there may be gone for a moment, and its requests are repeated.
    """
    given = parse_qs(options.removeprefix("?"), keep_blank_values=True)
    if "endpoint_override" not in given:
        return
    host, port = _address(given["endpoint_override"][0], given.get("scheme", ["https"])[0])
    try:
        socket.create_connection((host, port), _CONNECT_SECONDS).close()
    except OSError as error:
        raise StorageError(
            f"no store answers at {host}:{port} ({error.strerror or first_line_of(error)}); check the endpoint "
            "(--endpoint-url, or endpoint_override in the URI), and whether the store runs"
        ) from error


def _address(endpoint: str, scheme: str) -> tuple[str, int]:
    """Host and port, by default that of the scheme."""
    try:
        place = urlsplit(endpoint if "://" in endpoint else f"{scheme}://{endpoint}")
        host, port = place.hostname, place.port
    except ValueError:
        host, port = None, None
    if not host:
        raise ConfigError(f"an endpoint is given as HOST:PORT or HOST, got {endpoint!r}")
    return host, port or (80 if place.scheme == "http" else 443)
