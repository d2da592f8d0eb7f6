"""The driver's part of a training with a parameter server: what it serves, and what it hears of workers."""

from collections.abc import Mapping
from typing import final

import safetensors.torch

from sunspark import storage
from sunspark.data.dataset import Dataset
from sunspark.launch.coordinator import Coordinator
from sunspark.launch.roster import Ending
from sunspark.parallel.faults import FaultInjector
from sunspark.records import DRIVER, EventName, RecordWriter
from sunspark.run_directory import initial_weights_file
from sunspark.training import checkpoint
from sunspark.training.config import WorkConfig, plan_of
from sunspark.training.evaluation_notes import record_of, sentence_of
from sunspark.training.parameter_server import ParameterServer
from sunspark.training.publisher import Publisher
from sunspark.training.state import TrainingState
from sunspark.training.strategies.build import build_network, build_server_state
from sunspark.training.validation import Evaluation


@final
class ServerInDriver:
    """A parameter server behind the coordinator's port; the driver looks after it as it looks at the coordinator."""

    def __init__(self, run: str, opened: Dataset, work: WorkConfig, resume: str | None, records: RecordWriter) -> None:
        """`resume`: the checkpoint to go on from. Raises RunError when it is none of this run."""
        self._run, self._opened, self._work, self._records = run, opened, work, records
        self._plan = plan_of(opened, work)
        self._coordinator: Coordinator | None = None
        state = build_server_state(build_network(opened, work), work)
        _bring_up(state, run, work, resume)
        publisher = Publisher(run, work, opened, self._note_of_run, FaultInjector((), DRIVER, 0))
        publisher.published_step = state.step
        evaluated = len(opened.rows(work.validation.split)) if work.validation.eval_every else 0
        self.server = ParameterServer(
            state, self._plan, work, publisher, self, num_classes=len(opened.classes), num_evaluated=evaluated
        )

    def look(self, coordinator: Coordinator) -> None:
        """Do what is due; raises what storage does not take at the end."""
        self._coordinator = coordinator
        if coordinator.roster.ending is None:
            self.server.look()

    def save(self) -> None:
        """Write what a run that ends before its time has applied."""
        self.server.save()

    # --- the `Driver` of the parameter server ---

    def is_gone(self, replica_id: str) -> bool:
        return self._coordinator is not None and self._coordinator.is_gone(replica_id)

    def note(self, replica_id: str, event: EventName, step: int, detail: str) -> None:
        if self._coordinator is not None:
            self._coordinator.note(replica_id, event, step, detail)

    def note_update(self, step: int, num_workers: int, report: Mapping[str, float]) -> None:
        if self._coordinator is not None:
            self._coordinator.note_update(step, num_workers, report)

    def note_evaluation(self, evaluation: Evaluation) -> None:
        split = self._work.validation.split
        rows = len(self._opened.rows(split))
        self._records.write(record_of(evaluation, self._plan, split=split, num_rows=rows, worker=DRIVER, incarnation=0))
        self._note_of_run("evaluated", evaluation.step, sentence_of(evaluation, split))

    def finish(self) -> None:
        if self._coordinator is not None:
            self._coordinator.finish()

    def give_up(self, cause: str) -> None:
        if self._coordinator is not None:
            self._coordinator.stop(Ending(is_finished=False, cause=cause))

    def _note_of_run(self, event: EventName, step: int, detail: str) -> None:
        if self._coordinator is not None:
            self._coordinator.note_of_run(event, step, detail)


def _bring_up(state: TrainingState, run: str, work: WorkConfig, resume: str | None) -> None:
    if work.model.has_initial_weights:
        state.start_from(safetensors.torch.load(storage.read_bytes(initial_weights_file(run))))
    if resume:
        state.load(checkpoint.read_bytes(resume), resume)
