"""The images of a run that are left out, because decoding them kills the process that does it: RUN/excused.json."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from sunspark import run_directory, storage


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Excuses:
    """Where a run keeps them, and the splits that must not consist of them."""

    run: str | None
    """None: they are of another dataset than the run's, and forgotten in the end."""
    path_of: Callable[[int], str]
    """The path of a row's image, as the dataset tells it."""
    needed: Mapping[str, tuple[str, npt.NDArray[np.int64]]]
    """The splits that are worked on: by the option that chooses another, their name and rows, int64 (M,)."""

    def read(self) -> dict[int, str]:
        """Row of the dataset -> reason, as it was last written."""
        return {} if self.run is None else run_directory.read_excused(self.run)

    def write(self, reasons: Mapping[int, str]) -> None:
        """Keep them all."""
        if self.run is None:
            return
        rows = [{"row": row, "path": self.path_of(row), "reason": reason} for row, reason in sorted(reasons.items())]
        storage.write_json_atomic(run_directory.excused_file(self.run), {"excused": rows})

    def cause_to_stop(self, excused: Collection[int]) -> str:
        """Why nothing can be done, when these rows are the whole of a split; else nothing."""
        for option, (split, rows) in self.needed.items():
            if len(rows) <= len(excused) and np.isin(rows, list(excused)).all():
                return (
                    f"every image of the split {split!r} ({len(rows)}) kills the process that decodes it; "
                    "take these images out of the source and ingest into another folder, or choose another split "
                    f"with {option}"
                )
        return ""
