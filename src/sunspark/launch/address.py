"""Which addresses of this machine the driver may listen on."""

import contextlib
import socket

from sunspark.errors import ConfigError


def refuse_every_address(host: str | None) -> None:
    """ConfigError when `host` stands for all addresses of this machine: sunspark listens on one."""
    plain = host
    with contextlib.suppress(OSError):
        plain = socket.inet_ntoa(socket.inet_aton(host or "127.0.0.1"))  # "0" means 0.0.0.0 too
    if plain in ("0.0.0.0", "::"):
        raise ConfigError(
            f"--host {host} is every address of this machine, on which anyone could reach the run; "
            "give the one address that workers reach"
        )
