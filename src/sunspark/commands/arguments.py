"""The options that commands share."""

from dataclasses import dataclass
from typing import Annotated

import tyro
from tyro.conf import FlagCreatePairsOff


@dataclass(frozen=True, kw_only=True, slots=True)
class CommonArguments:
    """Options of every command."""

    json: Annotated[bool, FlagCreatePairsOff] = False
    """Print the result as one JSON object on standard output, everything else on standard error."""
    debug: Annotated[bool, FlagCreatePairsOff] = False
    """Show the traceback of an error, and what is logged for developers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfigFileArguments(CommonArguments):
    """Options of a command that also reads its settings from a file."""

    config_file: Annotated[str | None, tyro.conf.arg(name="config", metavar="FILE.toml")] = None
    """Settings in TOML, by section; flags win over them."""
