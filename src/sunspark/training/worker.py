"""The worker process, the same under every launcher; the nursery forks it, and `main` is all it does.

It reads its spec from the first line of standard input and lives as long as that stays open. When it closes (the
parent is gone), on SIGTERM, or when the driver falls silent, the worker leaves: it drops the step that it has not
applied and saves what it has as a candidate. Twenty seconds after it began to leave, it ends whatever happens.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, final

import numpy as np
import safetensors.torch
import torch
from torch import nn

from sunspark import storage
from sunspark.config import from_dict
from sunspark.data.dataset import Dataset
from sunspark.data.in_hand import InHand
from sunspark.data.loader import EvaluationLoader, Loader
from sunspark.data.order import StepPlan
from sunspark.errors import DeadlineError, RunError, StorageError, SunsparkError, WorkerError
from sunspark.parallel.faults import FaultInjector
from sunspark.parallel.group import Group
from sunspark.parallel.membership import Membership, replica_id_of
from sunspark.parallel.recovery import RecoverySource
from sunspark.parallel.rpc import RpcClient, RpcServer, address_towards
from sunspark.records import RecordWriter, worker_file
from sunspark.run_directory import initial_weights_file
from sunspark.training import checkpoint
from sunspark.training.async_trainer import AsyncCourse, AsyncTrainer
from sunspark.training.config import WorkConfig, plan_of
from sunspark.training.device import open_device
from sunspark.training.driver_link import DriverLink
from sunspark.training.evaluate import evaluate_leases
from sunspark.training.flat_weights import FlatWeights
from sunspark.training.loss import Loss
from sunspark.training.observers import Observers
from sunspark.training.publisher import Publisher
from sunspark.training.pulse import Farewell, Heart, Progress, Pulse
from sunspark.training.server_link import ServerLink
from sunspark.training.spec import EXIT_DONE, EXIT_FAILED, EXIT_LEFT, EXIT_UNWANTED, EXIT_USERS_MISTAKE, WorkerSpec
from sunspark.training.state import TrainingState
from sunspark.training.strategies.build import build_local_steps, build_network, build_strategy
from sunspark.training.trainer import Course, Peers, Trainer
from sunspark.training.validator import Validator
from sunspark.training.wire import Wire

logger = logging.getLogger(__name__)

_SAVE_SECONDS: Final = 20.0
_START_SECONDS: Final = 900.0
_MOST_READS: Final = 10
"""A checkpoint is named when a process joins, and deleted when two newer ones are there."""


def main() -> None:
    """Read the spec, do the task, exit with one of the codes of `spec`."""
    spec = WorkerSpec.from_json(sys.stdin.readline())
    name = replica_id_of(spec.worker, spec.incarnation)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=f"{name} %(levelname)s %(message)s")
    torch.set_num_threads(spec.cores)
    try:
        device = open_device(spec)
        if spec.task == "train":
            TrainingWorker(spec, device).run()
        else:
            _end_with_parent()
            evaluate_leases(spec, device)
        code = EXIT_DONE
    except SunsparkError as error:
        logger.error("%s: %s", type(error).__name__, error, exc_info=error.exit_code != EXIT_USERS_MISTAKE)
        code = error.exit_code
    except Exception as error:
        logger.error("unexpected %s: %s", type(error).__name__, error, exc_info=True)
        code = EXIT_FAILED
    logging.shutdown()
    os._exit(code)  # not sys.exit: threads of gloo and gRPC may still wait


@final
class TrainingWorker:
    """One worker process of a training run: builds the parts, starts them in order, and takes them down."""

    def __init__(self, spec: WorkerSpec, device: torch.device) -> None:
        self._spec = spec
        self._device = device
        self._work = from_dict(WorkConfig, spec.work)
        self._replica_id = replica_id_of(spec.worker, spec.incarnation)
        self._coordinator = RpcClient(spec.coordinator, spec.token)
        self._host = address_towards(spec.coordinator)
        self._progress = Progress()
        self._leaving = threading.Lock()
        self._group = Group(
            self._coordinator,
            self._replica_id,
            self._host,
            device=device,
            may_share_memory=spec.gradient_path == "auto",
        )
        self._records = RecordWriter(worker_file(spec.run, spec.worker, spec.incarnation))
        self._pulse = Pulse(
            self._coordinator, self._replica_id, self._progress, self._leave, self._cut_when_lost, self._excuse
        )
        self._driver = DriverLink(self._coordinator, self._replica_id, self._pulse)
        self._faults = FaultInjector(spec.faults, spec.worker, spec.incarnation, self._driver.note_strike)
        self._in_hand = InHand(Path(spec.in_hand))
        self._excused: frozenset[int] = frozenset()
        self._heart: Heart | None = None
        self._loader: Loader | None = None
        self._state: TrainingState | None = None
        self._publisher: Publisher | None = None

    def run(self) -> None:
        threading.Thread(target=self._watch_parent, daemon=True, name="watch-parent").start()
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=self._leave, args=("stop",)).start())
        dataset = Dataset.open(self._spec.dataset)
        if self._work.strategy.has_server:
            self._train_with_server(dataset)
        else:
            self._train_with_peers(dataset)
        self._records.close()

    def _train_with_peers(self, dataset: Dataset) -> None:
        course = self._build_course(dataset)
        publisher = Publisher(self._spec.run, self._work, dataset, self._driver.note, self._faults)
        publisher.published_step = course.state.step
        peers = self._open_lines(course.state)
        self._state, self._publisher = course.state, publisher
        self._heart = Heart(peers.membership)
        self._heart.start()
        self._start_pulse()
        self._run(Trainer(course, peers, self._driver, publisher, self._observers).run)

    def _train_with_server(self, dataset: Dataset) -> None:
        work, plan = self._work, plan_of(dataset, self._work)
        state, local_steps = build_local_steps(
            self._build_model(dataset), work, plan, self._open_loader(dataset, plan), self._loss(dataset, plan)
        )
        self._start_from_initial_weights(state)  # of what is not trained, nothing travels
        self._join()
        weights = FlatWeights(state)
        server = ServerLink(
            self._coordinator,
            self._replica_id,
            weights,
            Wire(weights, work.strategy.compression),
            may_share_memory=self._spec.gradient_path == "auto",
        )
        rows = dataset.rows(plan.split)
        course = AsyncCourse(
            local_steps=local_steps,
            validator=self._build_validator(dataset, plan),
            paths_of=lambda *part: [dataset.path_of(int(row)) for row in rows[plan.rows_of_slice(*part)]],
        )
        self._start_pulse()
        self._run(AsyncTrainer(course, server, self._driver, self._observers, self._replica_id).run)

    def _start_pulse(self) -> None:
        self._pulse.start()
        if not self._pulse.may_go.wait(_START_SECONDS):
            raise DeadlineError(f"the driver did not say go within {_START_SECONDS:.0f} s")

    def _run(self, train: Callable[[], None]) -> None:
        try:
            train()
        except Exception:
            logger.exception("the training of this worker failed")
            self._leave("failed")

    @property
    def _observers(self) -> Observers:
        return Observers(progress=self._progress, write=self._records.write, faults=self._faults)

    def _open_lines(self, state: TrainingState) -> Peers:
        """Serve this worker's state, and say where: whoever is not announced is a stranger."""
        source = RecoverySource(state.snapshot)
        server = RpcServer(self._host, 0, self._spec.token, source.handlers, source.chunk_readers)
        self._coordinator.call("announce", replica_id=self._replica_id, address=server.uri)
        membership = Membership(self._spec.lighthouse, self._replica_id, server.uri)
        return Peers(membership=membership, group=self._group, source=source, token=self._spec.token)

    def _join(self) -> str | None:
        """Say that this process is there; the state to start from, if there is one. Leaves when it is not wanted."""
        welcome = self._coordinator.call(
            "join", timeout_seconds=_START_SECONDS, replica_id=self._replica_id, host=self._host, pid=os.getpid()
        )
        if welcome["farewell"]:
            self._leave(welcome["farewell"])
        resume: str | None = welcome["resume"]
        return resume

    def _build_course(self, dataset: Dataset) -> Course:
        work, plan = self._work, plan_of(dataset, self._work)
        rows = dataset.rows(plan.split)
        loader, loss = self._open_loader(dataset, plan), self._loss(dataset, plan)
        state, strategy = build_strategy(self._build_model(dataset), work, plan, loader, loss, self._spec.run)
        self._bring_up(state)
        return Course(
            state=state,
            plan=plan,
            strategy=strategy,
            compression=work.strategy.compression,
            validator=self._build_validator(dataset, plan),
            paths_of=lambda step: [dataset.path_of(int(row)) for row in rows[plan.rows_of(step)]],
        )

    def _open_loader(self, dataset: Dataset, plan: StepPlan) -> Loader:
        self._loader = Loader(dataset, plan, self._work.data, self._spec.cores, self._in_hand)
        return self._loader

    def _loss(self, dataset: Dataset, plan: StepPlan) -> Loss:
        labels = dataset.labels[dataset.rows(plan.split)]
        return Loss(self._work.loss, np.bincount(labels, minlength=len(dataset.classes)).tolist())

    def _build_validator(self, dataset: Dataset, plan: StepPlan) -> Validator:
        config, evaluates = self._work.validation, bool(self._work.validation.eval_every)
        return Validator(
            config=config,
            plan=plan,
            rows=dataset.rows(config.split) if evaluates else np.zeros(0, np.int64),
            num_classes=len(dataset.classes),
            loader=EvaluationLoader(dataset, self._work.data, self._spec.cores, self._in_hand) if evaluates else None,
            dtype=self._work.training.dtype,
            excused=lambda: self._excused,
        )

    def _build_model(self, dataset: Dataset) -> nn.Module:
        return build_network(dataset, self._work).to(self._device)

    def _bring_up(self, state: TrainingState) -> None:
        """Bring the state to where the run stands, as far as storage tells."""
        self._start_from_initial_weights(state)
        for _ in range(_MOST_READS):
            if (resume := self._join()) is None:
                return
            try:
                state.load(checkpoint.read_bytes(resume), resume)
                return
            except StorageError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
                logger.info("%s gave way to a newer checkpoint while it was read", resume)
            except RunError as error:
                raise RunError(f"{error}. If it is damaged, delete it to go on from the checkpoint before") from error
        raise WorkerError(
            f"{_MOST_READS} checkpoints in a row were deleted before they were read; raise --checkpoint-every"
        )

    def _start_from_initial_weights(self, state: TrainingState) -> None:
        if self._work.model.has_initial_weights:
            state.start_from(safetensors.torch.load(storage.read_bytes(initial_weights_file(self._spec.run))))

    def _cut_when_lost(self, lost: frozenset[str], abandoned: frozenset[str]) -> None:
        if self._group.key in abandoned or lost & frozenset(self._group.members):
            self._group.cut()

    def _excuse(self, rows: frozenset[int]) -> None:
        self._excused = rows
        if self._loader is not None:
            self._loader.excuse(rows)

    def _watch_parent(self) -> None:
        while os.read(0, 4096):  # not through sys.stdin, whose lock would abort the end of the interpreter
            pass
        self._leave("orphaned")

    def _leave(self, farewell: Farewell) -> None:
        """End the process; never returns. Whatever happens, it is gone in time."""
        if not self._leaving.acquire(blocking=False):
            time.sleep(_SAVE_SECONDS + 20)
        logger.info("leaving: %s", farewell)
        code = {"ended": EXIT_DONE, "unwanted": EXIT_UNWANTED, "failed": EXIT_FAILED}.get(farewell, EXIT_LEFT)
        _exit_after(_SAVE_SECONDS, code)
        if self._heart is not None:
            self._heart.stop()
        self._pulse.stop()
        self._group.cut()
        try:
            if code in (EXIT_LEFT, EXIT_FAILED) and self._state is not None and self._publisher is not None:
                self._publisher.save_candidate(self._state, self._replica_id)
            self._records.close()
        except SunsparkError as error:
            logger.error("%s", error)
        logging.shutdown()
        os._exit(code)


def _exit_after(seconds: float, code: int) -> None:
    def end() -> None:
        time.sleep(seconds)
        os._exit(code)

    threading.Thread(target=end, daemon=True, name="exit-after").start()


def _end_with_parent() -> None:
    def watch() -> None:
        while os.read(0, 4096):
            pass
        os._exit(EXIT_LEFT)

    threading.Thread(target=watch, daemon=True, name="watch-parent").start()
