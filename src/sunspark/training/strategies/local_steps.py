"""Steps that a replica takes by itself, on a network of its own: each on its own slice of the step's samples."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from sunspark.data.loader import Loader, Place
from sunspark.optim import OptimConfig, learning_rate_at
from sunspark.training.compute import Computation, random_seed_of
from sunspark.training.step_clock import EnterPhase
from sunspark.training.strategies.strategy import Share


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class LocalSteps:
    """Moves the computation's state along gradients that are summed with nobody's."""

    computation: Computation
    loader: Loader
    optim: OptimConfig

    def take(
        self, step: int, replica: int, share: Share, enter: EnterPhase, following: Iterable[Place] | None = None
    ) -> None:
        """Take `step` with the replica's samples of it, and count them in `share`; `following` as in `Loader.take`."""
        state, plan, replicas = self.computation.state, self.computation.plan, range(replica, replica + 1)
        with enter("data"):
            batches = self.loader.take(step, replicas, following)
        num_samples, norm = sum(map(len, batches)), 0.0
        evidence, loss_sum = self.computation.run(step, replicas, batches, num_samples, enter)
        if num_samples:
            norm = state.gradient_norm()
            with enter("optimizer"):
                learning_rate = learning_rate_at(self.optim, step, plan.num_steps)
                state.take_step(learning_rate, norm, seed=random_seed_of(plan.seed, step, replica, 0))
        share.add(step, evidence, loss_sum, norm)
