"""Rounds of local steps, then one exchange (`local_sgd`, `diloco`).

Every replica takes the steps of a round by itself, from the common start, each on its own slice of the step's samples.
Then the mean of where they have come to, weighted by the samples that each used, is what the outer optimizer steps
towards: all the way (local SGD: Stich, arXiv 1805.09767), or along its own momentum (DiLoCo: Douillard et al., arXiv
2311.08105, algorithm 1).

Communicates once a round: parameters, batch statistics and, if averaged or kept, the inner optimizer's moments; needs
every worker. When a worker dies, its replicas of the round are done again by who is free; the others keep theirs. In
a round that takes a minute or more, results are stored (`stored_results.py`): only those it had not finished are done
again.
State between rounds: the outer optimizer's momentum, and the moments. Memory: a second network with its optimizer,
a sum of results, and its copy for exchanges.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, final

import torch
from torch import nn

from sunspark.data.loader import Loader
from sunspark.data.rounds import Rounds, SyncEvery
from sunspark.errors import SunsparkError
from sunspark.optim import OptimConfig, learning_rate_at
from sunspark.parallel.membership import Agreement
from sunspark.parallel.round import Held, duties_of
from sunspark.training import optimizer_state
from sunspark.training.compute import Computation
from sunspark.training.state import TrainingState
from sunspark.training.strategies.local_steps import LocalSteps
from sunspark.training.strategies.stored_results import Round, StoredResults
from sunspark.training.strategies.strategy import Applied, Clock, DivergedError, Share

LONG_ROUND_SECONDS: Final = 60.0
"""A round that takes so long has its results stored."""

_NOTHING = Held()


@dataclass(slots=True)
class _ReplicaRun:
    """A replica on its way through the round."""

    replica: int
    next_step: int
    share: Share
    began: float


@final
class LocalSgd:
    """What this worker has done of the round at hand, and how a round is applied.

    The results of the replicas that it has finished are summed where gradients would be: there
    they make the pseudo-gradient of the round.
    """

    is_local = True

    def __init__(
        self,
        state: TrainingState,
        inner: Computation,
        loader: Loader,
        optim: OptimConfig,
        sync_every: SyncEvery,
        outer_learning_rate: float,
        results: StoredResults,
    ) -> None:
        """`inner` computes on a network of its own, of which replicas take turns."""
        self._state = state
        self._plan = inner.plan
        self._inner = inner
        self._optim = optim
        self._local_steps = LocalSteps(computation=inner, loader=loader, optim=optim)
        self._rounds = Rounds(plan=inner.plan, sync_every=sync_every)
        self._outer_learning_rate = outer_learning_rate
        self._no_moments = optimizer_state.counters_of(inner.state.model, inner.state.optimizer)
        self._results = results
        self._round = ""
        self._round_began, self._last_round_seconds = 0.0, 0.0
        self._turns = 1
        """Replicas that a worker has to do in the round, one after the other."""
        self._share = Share.empty(range(0))
        self._finished: tuple[int, ...] = ()
        self._running: _ReplicaRun | None = None
        self._owners: dict[int, str] = {}
        """Replica -> the worker process that had to do it."""

    def held(self) -> Held:
        if self._round != self._round_at_hand:
            return _NOTHING
        if self._running is None:
            return Held(finished=self._finished)
        steps = self._running.next_step - self._share.steps.start
        return Held(finished=self._finished, replica=self._running.replica, steps=steps)

    def compute(self, agreement: Agreement, rank: int, clock: Clock) -> Share | None:
        is_new = not self._round
        # Who has just recovered holds nothing, as the others see it, even if it is back where it was before.
        if self._round != self._round_at_hand or not agreement.is_current(agreement.members[rank]):
            self._begin_round()
        self._turns = -(-self._plan.num_replicas // agreement.world_size)
        helds = [member.position.held if agreement.is_current(member) else _NOTHING for member in agreement.members]
        duties = duties_of(helds, self._plan.num_replicas)
        duty = duties[rank]
        if not duty.keeps_finished:
            self._forget_finished()
        if not duty.goes_on:
            self._running = None
        # Nobody can have finished anything of a round that all begin together, unless all of those who did are dead.
        may_be_stored = duty.replicas and (is_new or any(held != _NOTHING for held in helds))
        stored = self._look(clock) if may_be_stored else frozenset()
        gone = self._owners.keys() - {r for r, owner in self._owners.items() if owner in agreement.replica_ids}
        if redone := (gone & set(duty.replicas)) - stored:
            clock.note_redone(sorted(redone))
        self._owners |= {
            replica: owner for owner, one in zip(agreement.replica_ids, duties, strict=True) for replica in one.replicas
        }
        for replica in duty.replicas:
            is_done = replica in stored and self._running is None and self._take_up(replica, clock)
            if not is_done and not self._run(replica, clock, has_others=len(duty.replicas) > 1):
                return None
        return self._share.copy()

    def apply(self, total: Share, quorum_id: int) -> list[Applied]:
        samples = sum(total.samples)
        applied = [self._figures_of(total, index) for index in range(len(total.steps))]
        self._state.scale_gradients(self._num_samples / max(1, samples))  # some may be excused
        norm_of_whole = self._state.gradient_norm()
        if not math.isfinite(norm_of_whole):
            applied[-1] = replace(applied[-1], gradient_norm=norm_of_whole)
        for step, figures in zip(total.steps, applied, strict=True):
            if not (math.isfinite(figures.loss) and math.isfinite(figures.gradient_norm)):
                raise DivergedError(step, figures)
        self._last_round_seconds = time.monotonic() - self._round_began
        self._state.apply(self._outer_learning_rate, quorum_id, total.evidences)
        for parameter in self._state.trained():
            parameter.grad = None
        return applied

    def _figures_of(self, total: Share, index: int) -> Applied:
        return total.figures_of(index, learning_rate_at(self._optim, total.steps[index], self._plan.num_steps))

    @property
    def _round_at_hand(self) -> str:
        return f"{self._state.step} {self._state.lineage}"

    def _begin_round(self) -> None:
        self._results.delete_used()  # the others have come here too: the round before counts
        self._round, self._round_began = self._round_at_hand, time.monotonic()
        self._owners = {}
        self._running = None
        self._forget_finished()

    def _forget_finished(self) -> None:
        self._share, self._finished = Share.empty(self._steps), ()
        self._state.statistics.begin_step()
        if self._state.moments:
            self._state.moments.begin_round()
        for parameter in self._state.trained():
            parameter.grad = None

    @property
    def _steps(self) -> range:
        """The round that begins where the state stands."""
        return self._rounds.steps_of(self._rounds.round_of(self._state.step))

    @property
    def _num_samples(self) -> int:
        """Of the round: results are weighted by their share of it, so that sums are means, however long a round is."""
        return sum(self._plan.num_samples_of(step) for step in self._share.steps)

    def _run(self, replica: int, clock: Clock, *, has_others: bool) -> bool:
        """Take the replica to the end of the round; False when called away on the way, after one step at least."""
        if self._running is None:
            self._running = self._start(replica)
        run, end = self._running, self._share.steps.stop
        for step in range(run.next_step, end):
            clock.at(step)
            mine = range(replica, replica + 1)
            following = ((other, mine) for other in range(step + 1, end)) if has_others else None
            self._local_steps.take(step, replica, run.share, clock.phase, following)
            run.next_step = step + 1
            if step + 1 < end and clock.is_called():
                return False
        if self._is_long(run):
            self._store(run, clock)
        self._add_pseudo_gradient(run)
        self._running = None
        return True

    def _is_long(self, run: _ReplicaRun) -> bool:
        """Whether the round takes long, by this replica of it, or by the round before, which the slowest has ended."""
        seconds = (time.monotonic() - run.began) * self._turns
        return max(seconds, self._last_round_seconds) >= LONG_ROUND_SECONDS

    def _store(self, run: _ReplicaRun, clock: Clock) -> None:
        inner, replica, with_moments = self._inner.state, run.replica, self._state.moments is not None
        with clock.phase("store"):
            try:
                self._results.write(self._at, replica, inner, run.share, with_moments=with_moments)
            except Exception as error:  # whatever it was, training goes on
                clock.note_unsaved(f"the result of replica {replica}: {error}")

    def _look(self, clock: Clock) -> frozenset[int]:
        """The replicas whose results lie on storage."""
        with clock.phase("store"):
            try:
                return self._results.replicas_of(self._at)
            except SunsparkError as error:
                clock.note_unsaved(f"no results of replicas can be taken up: {error}")
                return frozenset()

    def _take_up(self, replica: int, clock: Clock) -> bool:
        """Take the result of the replica from storage, as if it were computed here; False when it is of no use."""
        run = self._start(replica)
        with clock.phase("store"):
            try:
                self._results.load(self._at, replica, self._inner.state, run.share, self._no_moments)
            except SunsparkError as error:
                clock.note_unsaved(f"replica {replica} is done again: {error}")
                return False
        self._add_pseudo_gradient(run)
        return True

    @property
    def _at(self) -> Round:
        """By the steps alone: evaluations of the state where the round begins do not change what becomes of it."""
        return Round(step=self._state.step, lineage=self._state.ledger.lineage)

    def _start(self, replica: int) -> _ReplicaRun:
        inner = self._inner.state
        inner.start_from(self._state.weights())
        if self._state.moments:
            self._state.moments.load_into(inner.model, inner.optimizer, replica)
        else:
            optimizer_state.load(inner.model, inner.optimizer, {}, self._no_moments)
        return _ReplicaRun(
            replica=replica,
            next_step=self._share.steps.start,
            share=Share.empty(self._share.steps),
            began=time.monotonic(),
        )

    @torch.no_grad()
    def _add_pseudo_gradient(self, run: _ReplicaRun) -> None:
        inner, samples = self._inner.state, sum(run.share.samples)
        share = samples / self._num_samples
        for outer_parameter, parameter in self._parameters():
            moved = torch.sub(outer_parameter, parameter).mul_(share)
            outer_parameter.grad = moved if outer_parameter.grad is None else outer_parameter.grad.add_(moved)
        self._state.statistics.stage(share, inner.statistics)
        if self._state.moments:
            self._state.moments.stage(inner.model, inner.optimizer, run.replica, samples)
        self._share += run.share
        self._finished = (*self._finished, run.replica)

    def _parameters(self) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
        """Those that are trained: of the state, and of the network that replicas use."""
        for outer, inner in zip(self._state.model.parameters(), self._inner.state.model.parameters(), strict=True):
            if outer.requires_grad:
                yield outer, inner
