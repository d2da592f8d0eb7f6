"""sunspark trains image classifiers on Apache Spark: nothing lost, nothing collected, nothing guessed.

Each function is one command of the command line, typed. Importing sunspark is cheap: the code behind a
function, and with it torch or Spark, is imported when the function is called. The configuration classes live
beside the code that they configure and are found here by name too: `sunspark.TrainConfig`. So are the faults that a
test may inject into a training: `sunspark.kill_at`.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sunspark.bench.compare import CompareConfig as CompareConfig
    from sunspark.bench.compare import CompareResult
    from sunspark.bench.dataset_page import PageResult
    from sunspark.bench.forecasting.config import ForecastConfig as ForecastConfig
    from sunspark.bench.forecasting.forecast import ForecastResult
    from sunspark.bench.live import RunState
    from sunspark.bench.report import ReportResult
    from sunspark.bench.tune import TuneConfig as TuneConfig
    from sunspark.bench.tune import TuneResult
    from sunspark.data.augment import AugmentConfig as AugmentConfig
    from sunspark.data.contact_sheet import SheetConfig as SheetConfig
    from sunspark.data.contact_sheet import SheetResult
    from sunspark.data.ingest import IngestConfig as IngestConfig
    from sunspark.data.leak_table import LeakTable
    from sunspark.data.loader import LoaderConfig as LoaderConfig
    from sunspark.data.prediction_table import Prediction
    from sunspark.data.quarantine import QuarantineTable
    from sunspark.data.scenes import SampleResult
    from sunspark.data.summary import DatasetSummary
    from sunspark.launch.config import LaunchConfig as LaunchConfig
    from sunspark.launch.config import TrainConfig as TrainConfig
    from sunspark.launch.doctor.cluster import ClusterVisit
    from sunspark.launch.doctor.examine import DoctorConfig as DoctorConfig
    from sunspark.launch.doctor.examine import DoctorResult
    from sunspark.launch.evaluate import EvaluationResult
    from sunspark.launch.ingest import IngestResult
    from sunspark.launch.predict import PredictConfig as PredictConfig
    from sunspark.launch.predict import PredictTableResult
    from sunspark.launch.train import TrainResult
    from sunspark.models.registry import ModelConfig as ModelConfig
    from sunspark.optim import OptimConfig as OptimConfig
    from sunspark.parallel.faults import Fault as Fault
    from sunspark.parallel.faults import fail_at as fail_at
    from sunspark.parallel.faults import kill_at as kill_at
    from sunspark.parallel.faults import stall_at as stall_at
    from sunspark.training.config import TrainingConfig as TrainingConfig
    from sunspark.training.loss import LossConfig as LossConfig
    from sunspark.training.strategies.config import StrategyConfig as StrategyConfig
    from sunspark.training.validation import ValidationConfig as ValidationConfig
    from sunspark.training.verify import VerifyResult

__version__ = "0.1.0"

_HOMES: Final = {
    "AugmentConfig": "sunspark.data.augment",
    "CompareConfig": "sunspark.bench.compare",
    "DoctorConfig": "sunspark.launch.doctor.examine",
    "ForecastConfig": "sunspark.bench.forecasting.config",
    "IngestConfig": "sunspark.data.ingest",
    "LaunchConfig": "sunspark.launch.config",
    "LoaderConfig": "sunspark.data.loader",
    "LossConfig": "sunspark.training.loss",
    "ModelConfig": "sunspark.models.registry",
    "OptimConfig": "sunspark.optim",
    "PredictConfig": "sunspark.launch.predict",
    "SheetConfig": "sunspark.data.contact_sheet",
    "StrategyConfig": "sunspark.training.strategies.config",
    "TrainConfig": "sunspark.launch.config",
    "TrainingConfig": "sunspark.training.config",
    "TuneConfig": "sunspark.bench.tune",
    "ValidationConfig": "sunspark.training.validation",
}
_FAULTS: Final = ("Fault", "fail_at", "kill_at", "stall_at")


def doctor(config: DoctorConfig | None = None) -> DoctorResult:
    """Examine this machine and, with a master or where Spark is configured, every executor: would training work?"""
    from sunspark.launch.doctor.examine import DoctorConfig, examine

    def visit(asked: DoctorConfig) -> ClusterVisit:
        from sunspark.spark.doctor import visit_cluster  # when it is known to be here

        return visit_cluster(asked)

    return examine(config or DoctorConfig(), visit)


def sample(directory: str, num_classes: int = 6, images_per_class: int = 100, seed: int = 0) -> SampleResult:
    """Draw sample scenes into `directory`: one folder of JPEG files per class."""
    from sunspark.data.scenes import draw_scenes

    return draw_scenes(directory, num_classes=num_classes, images_per_class=images_per_class, seed=seed)


def ingest(source: str, dataset: str, config: IngestConfig | None = None) -> IngestResult:
    """Turn the images at `source` into a dataset at `dataset`, with Spark or without.

    Raises SourceError when the images or the split lists are wrong, SetupError when there is no Java.
    """
    from sunspark.data.ingest import IngestConfig

    config = config or IngestConfig()
    if config.launcher == "local":
        from sunspark.launch.ingest import ingest
        from sunspark.launch.processes import process_engine

        return ingest(source, dataset, config, process_engine)
    from sunspark.spark import ingest as spark_ingest

    return spark_ingest.ingest(source, dataset, config)


def inspect(dataset: str) -> DatasetSummary:
    """Count what is in a dataset. Raises DatasetError when it is not there or not whole."""
    from sunspark.data.dataset import Dataset
    from sunspark.data.summary import summarize

    return summarize(Dataset.open(dataset))


def inspect_quarantine(dataset: str) -> QuarantineTable:
    """The images that ingest could not take, with their reasons; also where they were so many that there is no dataset.

    Raises DatasetError when there is neither.
    """
    from sunspark.data.quarantine import quarantine_table

    return quarantine_table(dataset)


def inspect_leaks(dataset: str) -> LeakTable:
    """All images that are trained on and judged by, and all that have an exact copy under another class."""
    from sunspark.data.dataset import Dataset
    from sunspark.data.leak_table import leak_table

    return leak_table(Dataset.open(dataset))


def inspect_page(dataset: str, out: str) -> PageResult:
    """Write what is in a dataset, with some of its images, as one self-contained HTML file at `out`."""
    from sunspark.bench.dataset_page import write_dataset_page
    from sunspark.data.dataset import Dataset

    return write_dataset_page(Dataset.open(dataset), out)


def inspect_augmented(
    dataset: str, out: str, sheet: SheetConfig | None = None, augment: AugmentConfig | None = None
) -> SheetResult:
    """Draw some images of a dataset as training and evaluation see them, as a PNG file at `out`."""
    from sunspark.data.augment import AugmentConfig
    from sunspark.data.contact_sheet import SheetConfig, write_contact_sheet
    from sunspark.data.dataset import Dataset

    return write_contact_sheet(Dataset.open(dataset), out, sheet or SheetConfig(), augment or AugmentConfig())


def train(dataset: str, run: str, config: TrainConfig | None = None, *, faults: Sequence[Fault] = ()) -> TrainResult:
    """Train on `dataset` into the directory `run`, or go on where that run stopped.

    `faults` happen to its workers on purpose (`kill_at`, `fail_at`, `stall_at`), to test what the run survives. The
    strategy `auto` is chosen by a forecast, at the first start.
    Raises RunError when `run` was started with another dataset or with settings that may not change.
    """
    from sunspark.launch import train as launch_train
    from sunspark.launch.config import TrainConfig

    config = config or TrainConfig()
    if config.strategy.strategy == "auto":
        from sunspark.bench.forecasting.auto import with_strategy

        config = with_strategy(dataset, run, config)
    return launch_train.train(dataset, run, config, faults)


def evaluate(
    run: str, dataset: str | None = None, split: str = "test", config: LaunchConfig | None = None
) -> EvaluationResult:
    """Evaluate the model of `run` on every image of a split, once each.

    `dataset` None: the one that it was trained on; `config` None: launched as the training was.
    """
    from sunspark.launch import evaluate as launch_evaluate

    return launch_evaluate.evaluate(run, dataset, split, config)


def predict(run: str, images: str | Sequence[str], top: int = 5) -> list[Prediction]:
    """What the model of `run` sees in `images` (a file, a folder, a URI of either, or several), in this process.

    An image that cannot be decoded has its reason.
    """
    from sunspark.launch import predict as launch_predict

    return launch_predict.predict(run, _several(images), top)


def predict_table(
    run: str, images: str | Sequence[str], out: str, config: PredictConfig | None = None
) -> PredictTableResult:
    """Write what the model of `run` sees in any number of images to `out` (.parquet or .csv), with Spark or without.

    The same job again leaves its table as it is. Raises ConfigError when there is another at `out`.
    """
    from sunspark.launch import predict as launch_predict

    config = config or launch_predict.PredictConfig()
    engine: launch_predict.Engine = launch_predict.predict_here
    if config.launcher == "spark":
        from sunspark.spark.inference import predict_on_spark

        engine = functools.partial(predict_on_spark, config.master)
    return launch_predict.predict_table(run, _several(images), out, config, engine)


def _several(images: str | Sequence[str]) -> Sequence[str]:
    return [images] if isinstance(images, str) else images


def verify(run: str, dataset: str | None = None, pixels: bool = False) -> VerifyResult:
    """Recompute, from the order of samples alone, whether `run` applied every sample exactly once per epoch.

    `pixels` decodes the images of every step again, not those of 20 random steps only.
    """
    from sunspark.training import verify as training_verify

    return training_verify.verify(run, dataset, pixels)


def watch(run: str, once: bool = False) -> RunState:
    """Follow on standard error a run that was started elsewhere, until it has ended.

    With `once`, and where standard error is no terminal, say at once where it is.
    """
    from sunspark.bench import live

    return live.watch(run, once)


def report(run: str, out: str) -> ReportResult:
    """Write the report of `run`, or the folder of a sweep or a search, as one self-contained HTML file at `out`."""
    from sunspark.bench import report as bench_report

    return bench_report.report(run, out)


def compare(
    sweep: str, folder: str, config: CompareConfig | None = None, tell: Callable[[str], None] = lambda _: None
) -> CompareResult:
    """Run the settings of the file `sweep` into `folder`, but for what is measured there; `tell` hears of each run.

    Raises ConfigError when the sweep makes no sense.
    """
    from sunspark.bench import compare as bench_compare
    from sunspark.bench.sweep import load_sweep

    return bench_compare.compare(load_sweep(sweep), folder, config or bench_compare.CompareConfig(), tell)


def tune(
    dataset: str,
    space: str,
    folder: str,
    config: TuneConfig | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> TuneResult:
    """Search for a good configuration in the space of the file `space`; `folder` keeps the trials.

    A search that was interrupted goes on. `tell` hears of each trial. Takes Optuna (`sunspark[tune]`).
    """
    from sunspark.bench import tune as bench_tune
    from sunspark.bench.space import load_space

    return bench_tune.tune(dataset, load_space(space), folder, config or bench_tune.TuneConfig(), tell)


def forecast(
    dataset: str,
    config: TrainConfig | None = None,
    asked: ForecastConfig | None = None,
    *,
    runs: Sequence[str] = (),
    scratch: str = "",
    out: str = "",
    tell: Callable[[str], None] = lambda _: None,
) -> ForecastResult:
    """Say what training `dataset` would take, and cost, for every strategy and number of workers.

    By a pilot of a minute or two where `config` launches (in the folder `scratch`, on a cluster), or by finished
    `runs`, whose first one has the configuration if none is given. `out` is a file for the result; `tell` hears of
    each run of the pilot.
    """
    from sunspark.bench.forecasting import forecast as forecasting
    from sunspark.bench.forecasting.config import ForecastConfig

    return forecasting.forecast(
        dataset, config, asked or ForecastConfig(), runs=runs, scratch=scratch, out=out, tell=tell
    )


def __getattr__(name: str) -> Any:
    """The configuration classes and the faults, imported when they are asked for (PEP 562)."""
    if name in _FAULTS:
        return getattr(importlib.import_module("sunspark.parallel.faults"), name)
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sunspark' has no attribute {name!r}")
