"""The front door: `sunspark COMMAND ...`.

Imports a command's code when that command runs, so `sunspark --help` needs neither torch nor Spark. It owns
what all commands share: exit codes (0 done, 2 the user's mistake, 1 anything else, 130 interrupted), one
message per error on standard error, and with `--json` a standard output with the result and nothing else, which
stays empty where there is no result.
"""

import atexit
import contextlib
import importlib
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn, TextIO, cast, final

from sunspark import __version__
from sunspark.commands.text import Outcome, fitted
from sunspark.config import as_json, suggestion
from sunspark.errors import ConfigError, SunsparkError

COMMANDS: Final[Mapping[str, str]] = {
    "doctor": "would training work here, and on the cluster?",
    "sample": "draw sample scenes",
    "ingest": "turn images into a dataset, with Spark or without",
    "inspect": "count what is in a dataset",
    "forecast": "say what training would take and cost, before it is paid for",
    "train": "train on a dataset, or go on with a run that stopped",
    "watch": "follow a run that was started elsewhere",
    "evaluate": "measure the accuracy of a run's model",
    "predict": "say what a run's model sees in images",
    "verify": "was every sample of every epoch applied exactly once?",
    "compare": "run ways of training side by side and compare them",
    "tune": "search for a good configuration",
    "report": "write the report of a run, a sweep or a search, one HTML file",
    "where": "print the path of the program to hand to spark-submit",
}
"""The commands and what they do, in the order of a run; the code of each is `sunspark.commands.<name>`."""

_INTERRUPTED: Final = 130
_STDOUT, _STDERR = 1, 2


def console() -> NoReturn:
    """Run the command of this process and end it with the command's exit code.

    The process ends without the destructors of C++: torchft and Arrow leave threads behind, and those of one now and
    then meet what the destructors of the other have taken away, which ends in an abort. What Python wants done at
    exit is done before.
    """
    code = 1
    os.environ["OMP_PROC_BIND"] = "false"  # else torch binds this process to one core, and with it all that it starts
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's word is taken as Ctrl-C is
    try:
        code = main()
        atexit._run_exitfuncs()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except BrokenPipeError:
                pass  # who read it has gone
            except OSError:
                code = code or 1
        os._exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code for the process, which it leaves alive."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    _configure_logging(debug)
    try:
        return _dispatch(words)
    except SystemExit as stop:  # tyro, after printing help
        return cast(int, stop.code or 0)
    except KeyboardInterrupt as interrupt:
        return _complain(str(interrupt) or "interrupted", _INTERRUPTED, debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)  # who read the output has gone; say nothing at exit
        return 1
    except SunsparkError as error:
        return _complain(str(error), error.exit_code, debug)
    except Exception as error:
        what = f"unexpected {type(error).__name__}: {error}"
        return _complain(what if debug else f"{what}; --debug shows where", 1, debug)


def _dispatch(words: list[str]) -> int:
    name, rest = _split(words)
    if name is None:
        return _front_matter(rest)
    result_stream = _keep_stdout_for_the_result() if "--json" in rest else None
    command = importlib.import_module(f"sunspark.commands.{name}")
    outcome: Outcome = command.run(rest)
    if result_stream is None:
        print(outcome.text)
    else:
        with result_stream:
            json.dump(as_json(outcome.result), result_stream, allow_nan=False)
            result_stream.write("\n")
    return outcome.exit_code


def _split(words: list[str]) -> tuple[str | None, list[str]]:
    """The command and what is left; options before the command count as if they stood behind it."""
    for position, word in enumerate(words):
        if not word.startswith("-"):
            if word not in COMMANDS:
                _no_such_command(word)
            return word, words[:position] + words[position + 1 :]
    return None, words


def _front_matter(words: list[str]) -> int:
    if "--version" in words:
        print(f"sunspark {__version__}")
    elif "--help" in words or "-h" in words:
        print(_help())
    else:
        raise ConfigError(f"a command is missing; there are {', '.join(COMMANDS)}, and --help")
    return 0


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "usage: sunspark COMMAND [OPTIONS]",
            "",
            "Train image classifiers on Apache Spark: nothing lost, nothing collected, nothing guessed.",
            "",
            "commands, in the order of a run:",
            *lines,
            "",
            "'sunspark COMMAND --help' explains the options of a command. Every command takes",
            "  --json     print the result as one JSON object, and everything else on standard error",
            "  --debug    show the traceback of an error, and what is logged for developers",
            "",
            "'sunspark --version' prints the version.",
            "Exit codes: 0 done, 2 a mistake in what was asked, 1 anything else, 130 interrupted.",
        ]
    )


def _no_such_command(word: str) -> NoReturn:
    raise ConfigError(f"there is no command {word!r}; {suggestion(word, list(COMMANDS))}")


def _keep_stdout_for_the_result() -> TextIO:
    """Standard output as a stream of its own; from now on file descriptor 1 is standard error.

    It stays that way until the process ends: Java, Spark's Python workers and other children inherit the
    descriptor, and what any of them prints, even at exit, must not stand beside the result.
    """
    sys.stdout.flush()
    kept = os.dup(_STDOUT)
    os.dup2(_STDERR, _STDOUT)
    return open(kept, "w", encoding="utf-8")


def _configure_logging(debug: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_FittedFormatter("sunspark: %(levelname)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    if debug:
        logging.getLogger("sunspark").setLevel(logging.DEBUG)


@final
class _FittedFormatter(logging.Formatter):
    """Lines that end where the terminal ends, between words."""

    def format(self, record: logging.LogRecord) -> str:
        return fitted(super().format(record), sys.stderr)


def _complain(message: str, exit_code: int, debug: bool) -> int:
    with contextlib.suppress(BrokenPipeError):
        if debug:
            traceback.print_exc()
        else:
            print(fitted(f"sunspark: {message}", sys.stderr), file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    console()
