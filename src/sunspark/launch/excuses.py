"""The images of a run that are left out, because decoding them kills the process that does it: RUN/excused.json."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

from sunspark import run_directory, storage


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Excuses:
    """Where a run keeps them."""

    run: str | None
    """None: they are of another dataset than the run's, and forgotten in the end."""
    path_of: Callable[[int], str]
    """The path of a row's image, as the dataset tells it."""

    def read(self) -> dict[int, str]:
        """Row of the dataset -> reason, as it was last written."""
        return {} if self.run is None else run_directory.read_excused(self.run)

    def write(self, reasons: Mapping[int, str]) -> None:
        """Keep them all."""
        if self.run is None:
            return
        rows = [{"row": row, "path": self.path_of(row), "reason": reason} for row, reason in sorted(reasons.items())]
        storage.write_json_atomic(run_directory.excused_file(self.run), {"excused": rows})
