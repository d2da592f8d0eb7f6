"""Import rules as they run: what must work where torch or Spark cannot be imported, and what must be quick.

The rules as they are written, the layers and the walls, are checked by import-linter (make lint).
"""

import dataclasses
import subprocess
import sys
import typing

import pytest

import sunspark

WITHOUT_TORCH = [
    "sunspark.errors",
    "sunspark.config",
    "sunspark.command_line",
    "sunspark.storage",
    "sunspark.records",
    "sunspark.run_directory",
    "sunspark.data.cache",
    "sunspark.data.codec",
    "sunspark.data.image_files",
    "sunspark.data.ingest",
    "sunspark.data.prediction_table",
    "sunspark.data.dataset",
    "sunspark.data.loader",
    "sunspark.data.order",
    "sunspark.data.scenes",
    "sunspark.data.sources",
    "sunspark.launch.doctor.examine",
    "sunspark.launch.doctor.probe",
    "sunspark.launch.ingest",
    "sunspark.launch.java",
    "sunspark.launch.session",
    "sunspark.spark.doctor",
    "sunspark.spark.ingest",
    "sunspark.bench.dataset_page",
    "sunspark.bench.live",
    "sunspark.bench.report",
    "sunspark.commands.sample",
    "sunspark.commands.ingest",
    "sunspark.commands.inspect",
    "sunspark.commands.report",
    "sunspark.commands.watch",
    "sunspark.commands.doctor",
]
WITHOUT_SPARK = [
    "sunspark.training.worker",
    "sunspark.launch.local",
    "sunspark.launch.doctor.examine",
    "sunspark.launch.evaluate",
    "sunspark.launch.ingest",
    "sunspark.launch.predict",
    "sunspark.launch.train",
    "sunspark.bench.report",
    "sunspark.commands.train",
    "sunspark.commands.evaluate",
    "sunspark.commands.predict",
    "sunspark.commands.doctor",
]
REFUSE = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ImportError(f"{{name}} is not to be imported here")

sys.meta_path.insert(0, Refuse())
import importlib
for name in {modules}:
    importlib.import_module(name)
"""


def python(program: str) -> str:
    """What `program` prints, run in a Python of its own."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("absent", "modules"),
    [(["torch", "torchft"], WITHOUT_TORCH), (["pyspark", "py4j"], WITHOUT_SPARK)],
    ids=["without torch", "without Spark"],
)
def test_these_modules_can_be_imported(absent: list[str], modules: list[str]) -> None:
    python(REFUSE.format(absent=absent, modules=modules))


@pytest.mark.parametrize("words", ["--help", "--version"])
def test_the_front_door_opens_without_anything_heavy(words: str) -> None:
    loaded = python(f"""
import sys
from sunspark.cli import main
assert main([{words!r}]) == 0
print(*sys.modules, sep="\\n")
""").splitlines()
    heavy = {"torch", "pyspark", "pyarrow", "numpy", "tyro", "rich"}
    assert heavy.isdisjoint(name.partition(".")[0] for name in loaded)


def test_importing_sunspark_is_cheap_and_its_configs_come_on_demand() -> None:
    python("""
import sys
import sunspark
assert "numpy" not in sys.modules
assert sunspark.IngestConfig().short_side == 256
assert "sunspark.data.ingest" in sys.modules
""")


def test_the_type_of_every_section_is_exported() -> None:
    pending: list[type] = [sunspark.TrainConfig]
    while pending:
        cls = pending.pop()
        assert getattr(sunspark, cls.__name__) is cls
        pending += [hint for hint in typing.get_type_hints(cls).values() if dataclasses.is_dataclass(hint)]
