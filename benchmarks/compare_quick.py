"""Whether `recipes/compare_quick.toml` keeps within six minutes on two cores, from the drawing of the images on.

python -m benchmarks.compare_quick
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

_RECIPE: Final = Path(__file__).parent.parent / "recipes" / "compare_quick.toml"
_MOST_SECONDS: Final = 360.0


def main() -> None:
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for words in (
            ["sample", "scenes"],
            ["ingest", "scenes", "dataset"],
            ["compare", str(_RECIPE), "compared"],
            ["report", "compared", "--out", "compared.html"],
        ):
            subprocess.run([sys.executable, "-m", "sunspark.cli", *words], cwd=folder, check=True)
    seconds = time.monotonic() - started
    print(f"{seconds:.0f} s")
    if seconds > _MOST_SECONDS:
        sys.exit(f"it took {seconds:.0f} s, more than {_MOST_SECONDS:.0f}")


if __name__ == "__main__":
    main()
