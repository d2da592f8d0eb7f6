"""Pack this environment, with its Python, into an archive for Spark's `--archives`.

    python scripts/pack_environment.py OUT.tar.gz [--without PACKAGE ...]
    spark-submit --archives OUT.tar.gz#environment --conf spark.pyspark.python=./environment/bin/python ...

Unlike a virtual environment it holds the interpreter and the standard library, so hosts need no Python; they need the
same kind of system (processor, C library). Spark's jars are left out: hosts have them.
Most of the rest is for GPUs: `--without triton` is right where nobody compiles models, `--without nvidia` where hosts
have the same CUDA libraries themselves, and their linker finds them.
"""

import argparse
import io
import os
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path

import sunspark

LEFT_OUT = {"test", "idlelib", "ensurepip", "tkinter", "turtledemo", "site-packages", "dist-packages"}
"""Of the standard library."""
PACKAGES = Path(sysconfig.get_path("purelib"))
LIBRARY = f"lib/python{sys.version_info.major}.{sys.version_info.minor}"
LAUNCHER = """\
#!/bin/sh
# The interpreter looks for its library where it was built; here it lies beside it.
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
export LD_LIBRARY_PATH="$here/../lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec "$here/interpreter" "$@"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT.tar.gz", type=Path)
    parser.add_argument("--without", metavar="PACKAGE", nargs="+", default=[], help="folders of site-packages")
    arguments = parser.parse_args()
    out: Path = arguments.out
    if not out.name.endswith((".tar.gz", ".tgz")):
        parser.error(f"{out} must end in .tar.gz or .tgz; from a .tar, Spark unpacks programs that cannot be run")
    if unknown := [name for name in arguments.without if not (PACKAGES / name).is_dir()]:
        parser.error(f"there is no {' and no '.join(unknown)} in {PACKAGES} that could be left out")
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        pack(unfinished, set(arguments.without))
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
    print(f"{out}: {out.stat().st_size / 1e6:.0f} MB")


def pack(out: Path, without: set[str]) -> None:
    with tarfile.open(out, "w:gz", compresslevel=1) as archive:  # machine code: more takes long, gains little
        info = tarfile.TarInfo("bin/python")
        info.size, info.mode = len(LAUNCHER), 0o755
        archive.addfile(info, io.BytesIO(LAUNCHER.encode()))
        for source, name in parts(without):
            archive.add(source, name, filter=kept)


def parts(without: set[str]) -> Iterator[tuple[Path, str]]:
    """What goes in, and under which name."""
    yield Path(sys._base_executable).resolve(), "bin/interpreter"  # type: ignore[attr-defined]
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        library = str(sysconfig.get_config_var("INSTSONAME"))
        yield Path(str(sysconfig.get_config_var("LIBDIR"))) / library, f"lib/{library}"
    for entry in Path(sysconfig.get_path("stdlib")).iterdir():
        if entry.name not in LEFT_OUT and not entry.name.startswith("config-"):
            yield entry, f"{LIBRARY}/{entry.name}"
    for entry in PACKAGES.iterdir():
        if "editable" not in entry.name and entry.name not in {"sunspark", *without}:
            yield entry, f"{LIBRARY}/site-packages/{entry.name}"
    yield Path(sunspark.__file__).parent, f"{LIBRARY}/site-packages/sunspark"


def kept(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Everybody's, and without Spark's jars."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return None if entry.name.endswith("site-packages/pyspark/jars") else entry


if __name__ == "__main__":
    main()
