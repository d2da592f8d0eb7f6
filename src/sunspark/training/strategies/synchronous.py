"""Synchronous data parallelism: every step is one exchange (`serial`, `all_reduce`).

Source: Goyal et al., arXiv 1706.02677, section 2.3. Communicates at every step: the gradients, which leave while the
last backward pass of the step still runs; needs every worker.
When a worker dies the step fails on whoever still waited for it, and is done again by those who are left.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, final

from sunspark.data.loader import Loader
from sunspark.data.order import StepPlan, replicas_of
from sunspark.optim import OptimConfig, learning_rate_at
from sunspark.parallel.membership import Agreement
from sunspark.parallel.round import Held
from sunspark.training.compute import Computation
from sunspark.training.state import TrainingState
from sunspark.training.strategies.strategy import Applied, Clock, DivergedError, Share


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Synchronous:
    """Gradients of the step's mean loss are summed; the optimizer takes one step along the sum."""

    state: TrainingState
    plan: StepPlan
    loader: Loader
    optim: OptimConfig
    computation: Computation

    is_local: ClassVar[bool] = False

    def held(self) -> Held:
        return Held()

    def compute(self, agreement: Agreement, rank: int, clock: Clock) -> Share:
        step = agreement.step
        clock.at(step)
        replicas = replicas_of(rank, agreement.world_size, self.plan.num_replicas)
        with clock.phase("data"):
            batches = self.loader.take(step, replicas)
        share = Share.empty(range(step, step + 1))
        num_samples = self.plan.num_samples_of(step)
        found = self.computation.run(step, replicas, batches, num_samples, clock.phase, clock.before_last_backward)
        share.add(step, *found)
        return share

    def apply(self, total: Share, quorum_id: int) -> list[Applied]:
        step, (samples,) = total.steps.start, total.samples
        if 0 < samples < self.plan.num_samples_of(step):  # some are excused
            self.state.scale_gradients(self.plan.num_samples_of(step) / samples)
        applied = Applied(
            loss=float(total.losses) / max(1, samples),
            learning_rate=learning_rate_at(self.optim, step, self.plan.num_steps),
            gradient_norm=self.state.gradient_norm(),
        )
        if not (math.isfinite(applied.loss) and math.isfinite(applied.gradient_norm)):
            raise DivergedError(step, applied)
        self.state.apply(applied.learning_rate, quorum_id, total.evidences, applied.gradient_norm)
        return [applied]
