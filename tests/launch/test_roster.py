"""Laws of the roster under any interleaving. It knows no clock: the tests play the time."""

from typing import Any

import pytest

from sunspark.launch.roster import CLAIM_SECONDS, LOST_SECONDS, REPLACE_SECONDS, Ending, Roster
from sunspark.parallel.membership import replica_id_of, worker_and_incarnation_of

START_TIMEOUT = 30.0
NO_PROGRESS_SECONDS = 60.0


class Play:
    """A roster, a clock, and what supervisors and processes do."""

    def __init__(
        self,
        num_workers: int = 2,
        start_timeout: float = START_TIMEOUT,
        last_incarnation: int = 0,
        num_expected: int | None = None,
    ) -> None:
        self.now = 1000.0
        self.roster = Roster(num_workers, start_timeout, self.now, last_incarnation, num_expected)
        self.moves = 0
        self.workers_in_step = 0

    def pass_time(self, seconds: float) -> None:
        """The driver looks at the roster meanwhile."""
        end = self.now + seconds
        while self.now + 1 < end:
            self.now += 1
            self.roster.check(self.now)
        self.now = end

    def start(self, worker: int, supervisor: str = "") -> str:
        """A supervisor claims the place and starts a process: its replica id."""
        supervisor = supervisor or f"supervisor {worker}"
        assert self.roster.claim(worker, supervisor, self.now) == "granted"
        return self.restart(worker, supervisor)

    def restart(self, worker: int, supervisor: str = "") -> str:
        incarnation = self.roster.next_incarnation(worker, supervisor or f"supervisor {worker}", self.now)
        return replica_id_of(worker, incarnation)

    def beat(self, replica_id: str, step: int = 0, waits: bool = False, slowest: float = 0.0, moves: int = -1) -> Any:
        self.moves += 1
        return self.roster.beat(
            {
                "replica_id": replica_id,
                "phase": "data",
                "moves": self.moves if moves < 0 else moves,
                "has_own_deadline": waits,
                "step": step,
                "slowest_step_seconds": slowest,
                "most_workers": self.workers_in_step,
                "report": {"loss": 1.0 / (1 + step)},
            },
            self.now,
        )

    def renew(self, worker: int, supervisor: str = "") -> str:
        return self.roster.renew(worker, supervisor or f"supervisor {worker}", self.now)

    def end(self, replica_id: str, code: int = -9, cause: str = "worker process ended by SIGKILL") -> None:
        worker, incarnation = worker_and_incarnation_of(replica_id)
        self.roster.process_ended(worker, f"supervisor {worker}", incarnation, code, cause)

    def run_for(self, seconds: float, *replica_ids: str, supervisors: tuple[int, ...] = ()) -> list[str]:
        """These processes beat and these supervisors renew, every half second; what the supervisors were told."""
        words = []
        for _ in range(round(seconds * 2)):
            self.pass_time(0.5)
            for replica_id in replica_ids:
                self.beat(replica_id)
            words += [self.renew(worker) for worker in supervisors]
            self.roster.check(self.now)
        return words

    def events(self) -> list[tuple[int, str]]:
        return [(note.worker, note.event) for note in self.roster.notes]


@pytest.fixture
def play() -> Play:
    return Play()


def test_the_most_workers_of_a_step_are_remembered_when_some_are_gone(play: Play) -> None:
    one = play.start(0)
    for count in (1, 2, 1):
        play.workers_in_step = count
        play.beat(one)
    assert play.roster.most_workers == 2


# --- places ---------------------------------------------------------------------------------------------------------


def test_a_second_supervisor_of_a_living_worker_leaves(play: Play) -> None:
    play.start(0)
    assert play.roster.claim(0, "another", play.now) == "duplicate"
    assert (0, "duplicate") in play.events()
    assert play.roster.next_incarnation(0, "another", play.now) == 0
    assert play.renew(0, "another") == "leave"
    assert play.renew(0) == "go on"
    assert play.roster.claim(1, "another", play.now) == "granted", "the other place is free"


def test_a_place_is_free_once_its_supervisor_is_silent_and_no_sooner(play: Play) -> None:
    play.start(0)
    play.pass_time(CLAIM_SECONDS - 0.5)
    assert play.roster.claim(0, "another", play.now) == "duplicate"
    assert play.renew(0) == "go on"
    play.pass_time(CLAIM_SECONDS - 0.5)
    assert play.roster.claim(0, "another", play.now) == "duplicate"
    play.pass_time(1)
    assert play.roster.claim(0, "another", play.now) == "granted"
    assert play.renew(0) == "leave"
    assert play.roster.claim(0, "supervisor 0", play.now) == "duplicate", "it lost its place for good"


def test_a_place_given_back_is_free_at_once(play: Play) -> None:
    replica_id = play.start(0)
    play.beat(replica_id)
    play.roster.release(0, "a stranger")
    assert play.roster.claim(0, "another", play.now) == "duplicate"
    play.roster.release(0, "supervisor 0")
    assert replica_id in play.roster.lost(play.now)
    assert play.start(0, "another") == replica_id_of(0, 2)


def test_a_superseded_process_is_unwanted_whatever_it_says(play: Play) -> None:
    old = play.start(0)
    play.beat(old, step=3)
    play.pass_time(CLAIM_SECONDS + 1)
    assert play.roster.join(old, "", play.now) == ""
    new = play.start(0, "another")
    assert play.roster.join(old, "", play.now) == "unwanted"
    assert play.beat(old, step=99)["farewell"] == "unwanted"
    assert play.roster.step == 3
    assert play.roster.alive(play.now) == [], "its beat does not count for the new one"
    assert (play.roster.join(new, "", play.now), play.beat(new)["farewell"]) == ("", "")
    assert play.roster.alive(play.now) == [0]
    play.roster.process_ended(0, "supervisor 0", 1, -9, "late news of the old one")
    assert play.roster.alive(play.now) == [0]


def test_every_process_has_a_number_of_its_own(play: Play) -> None:
    ids = [play.start(0), play.restart(0), play.restart(0), play.start(1)]
    assert ids == [replica_id_of(0, 1), replica_id_of(0, 2), replica_id_of(0, 3), replica_id_of(1, 1)]


def test_incarnations_go_on_above_those_of_the_starts_before() -> None:
    play = Play(last_incarnation=4)
    first = play.start(0)
    assert first == replica_id_of(0, 5)
    assert play.beat(first)["lost"] == []
    assert (play.beat(first)["farewell"], play.roster.alive(play.now)) == ("", [0])
    assert play.restart(0) == replica_id_of(0, 6)
    assert play.beat(first) == {
        "farewell": "unwanted",
        "may_go": False,
        "lost": [first],
        "abandoned": [],
        "waiting": [],
        "excused": [],
    }
    assert play.events() == [(0, "started"), (0, "joined"), (0, "restarted")]


# --- who is lost ----------------------------------------------------------------------------------------------------


def test_a_silent_process_is_lost_until_it_is_heard_again(play: Play) -> None:
    one, other = play.start(0), play.start(1)
    play.beat(one)
    play.beat(other)
    play.run_for(LOST_SECONDS, other)
    assert play.roster.lost(play.now) == []
    play.run_for(0.5, other)
    assert play.roster.lost(play.now) == [one]
    assert play.beat(other)["lost"] == [one]
    assert play.roster.alive(play.now) == [1]
    assert play.beat(one) == {"farewell": "", "may_go": True, "lost": [], "abandoned": [], "waiting": [], "excused": []}
    assert play.roster.alive(play.now) == [0, 1]


def test_a_process_that_ended_is_lost_at_once(play: Play) -> None:
    one, other = play.start(0), play.start(1)
    play.beat(one)
    play.beat(other)
    play.end(one)
    assert play.beat(other)["lost"] == [one]
    new = play.restart(0)
    assert play.beat(other)["lost"] == [one], "the old one stays lost, the new one is not"
    play.beat(new)
    assert play.roster.alive(play.now) == [0, 1]


def test_a_process_that_is_starting_is_neither_lost_nor_alive(play: Play) -> None:
    play.start(0)
    assert play.run_for(20, supervisors=(0,)) == ["go on"] * 40
    assert play.roster.lost(play.now) == []
    assert play.roster.alive(play.now) == []


def test_a_silent_process_is_replaced_in_time_and_no_sooner(play: Play) -> None:
    replica_id = play.start(0)
    play.beat(replica_id)
    assert set(play.run_for(REPLACE_SECONDS, supervisors=(0,))) == {"go on"}
    play.pass_time(0.5)
    assert play.renew(0) == "replace"
    assert play.renew(0) == "replace", "its end may take a while"
    assert play.events().count((0, "lost")) == 1
    play.end(replica_id)
    new = play.restart(0)
    assert play.renew(0) == "go on"
    assert play.beat(replica_id)["farewell"] == "unwanted", "continued, it finds itself unwanted"
    assert play.beat(new)["farewell"] == ""


def test_a_process_that_hangs_at_its_start_is_replaced_too() -> None:
    play = Play(start_timeout=1000)
    play.start(0)
    assert "replace" in play.run_for(150, supervisors=(0,))


def test_a_process_that_reads_a_large_state_is_waited_for_and_not_for_ever(play: Play) -> None:
    """All of them read it, slowly, so that nobody else is there either; by then they have said that they came."""
    one, other = play.start(0), play.start(1)
    for replica_id in (one, other):
        assert play.roster.join(replica_id, "somewhere", play.now) == ""
    assert set(play.run_for(900, supervisors=(0, 1))) == {"go on"}
    assert play.roster.ending is None
    assert play.roster.alive(play.now) == []
    play.beat(one)
    assert play.roster.alive(play.now) == [0]
    assert set(play.run_for(REPLACE_SECONDS + 1, one, supervisors=(1,))) == {"go on", "replace"}
    assert play.renew(0) == "go on"


def test_a_run_whose_processes_are_lost_while_they_read_their_state_ends(play: Play) -> None:
    play.roster.join(play.start(0), "somewhere", play.now)
    play.run_for(CLAIM_SECONDS + START_TIMEOUT + 1)
    assert play.roster.ending is not None


# --- progress -------------------------------------------------------------------------------------------------------


def hang(play: Play, waits: bool = False, slowest: float = 0.0, seconds: float = 0.0) -> str:
    """Worker 0 goes on beating, but nothing moves; worker 1 works. What the supervisor of 0 is told in the end."""
    one, other = play.start(0), play.start(1)
    play.beat(other)
    play.beat(one, moves=5)
    for _ in range(round(seconds)):
        play.pass_time(1)
        play.beat(other)
        play.beat(one, waits=waits, slowest=slowest, moves=5)
    return play.renew(0)


def test_without_progress_a_worker_is_replaced(play: Play) -> None:
    assert hang(play, slowest=1, seconds=NO_PROGRESS_SECONDS) == "go on"
    assert hang(Play(), slowest=1, seconds=NO_PROGRESS_SECONDS + 1) == "replace"


def test_the_first_step_is_given_more_time(play: Play) -> None:
    assert hang(play, seconds=10 * NO_PROGRESS_SECONDS) == "go on"
    assert hang(Play(), seconds=10 * NO_PROGRESS_SECONDS + 1) == "replace"


def test_a_worker_that_has_own_deadline_is_not_replaced(play: Play) -> None:
    assert hang(play, waits=True, seconds=20 * NO_PROGRESS_SECONDS) == "go on"


def test_slow_steps_are_given_ten_times_their_time(play: Play) -> None:
    assert hang(play, slowest=30, seconds=300) == "go on"
    assert hang(Play(), slowest=30, seconds=301) == "replace"


def test_a_worker_that_waited_for_the_gate_is_not_blamed_for_it() -> None:
    play = Play(start_timeout=3 * NO_PROGRESS_SECONDS)
    one = play.start(0)
    for _ in range(round(3 * NO_PROGRESS_SECONDS) + 1):
        play.pass_time(1)
        play.beat(one, moves=0)
    assert play.roster.may_go
    assert play.renew(0) == "go on", "the gate has just opened; it has not had the time to move"


# --- the gate -------------------------------------------------------------------------------------------------------


def test_the_gate_opens_when_all_have_joined(play: Play) -> None:
    one, other = play.start(0), play.start(1)
    assert not play.beat(one)["may_go"]
    assert play.roster.missing() == [1]
    assert not play.beat(one)["may_go"]
    assert play.beat(other)["may_go"]
    assert play.beat(one)["may_go"]
    assert play.events().count((0, "joined")) == 1


def test_the_gate_opens_after_the_timeout_for_those_who_are_there(play: Play) -> None:
    one = play.start(0)
    play.run_for(START_TIMEOUT - 1, one)
    assert not play.beat(one)["may_go"]
    play.run_for(1.5, one)
    assert play.beat(one)["may_go"]
    assert any("workers 1" in note.detail for note in play.roster.notes)


def test_the_gate_stays_shut_while_nobody_is_there_and_open_when_all_have_gone(play: Play) -> None:
    play.pass_time(START_TIMEOUT)
    play.roster.check(play.now)
    assert not play.roster.may_go
    one, other = play.start(0), play.start(1)
    play.beat(one)
    play.beat(other)
    play.end(one)
    play.end(other)
    play.roster.check(play.now)
    assert play.roster.may_go


# --- the end --------------------------------------------------------------------------------------------------------


def test_the_gate_opens_for_those_who_have_slots_and_the_others_join_later() -> None:
    play = Play(num_workers=3, num_expected=2)
    first, second = play.start(0), play.start(1)
    assert not play.beat(first)["may_go"]
    assert play.beat(second)["may_go"]
    late = play.start(2)
    assert play.beat(late)["may_go"]
    assert play.roster.alive(play.now) == [0, 1, 2]


def test_a_place_is_deserted_while_nobody_has_held_it_for_a_while(play: Play) -> None:
    assert play.roster.is_deserted(0, play.now)
    play.start(0)
    play.roster.finish()
    play.run_for(20, supervisors=(0,))
    assert not play.roster.is_deserted(0, play.now)
    play.pass_time(CLAIM_SECONDS + 0.1)
    assert play.roster.is_deserted(0, play.now)


def test_a_run_to_which_nobody_comes_ends(play: Play) -> None:
    play.pass_time(START_TIMEOUT - 1)
    play.roster.check(play.now)
    assert play.roster.ending is None
    play.pass_time(2)
    play.roster.check(play.now)
    assert play.roster.ending is not None
    assert not play.roster.ending.is_finished
    assert "none of the workers (0, 1) was there for 30 s" in play.roster.ending.cause
    assert play.roster.claim(0, "late", play.now) == "ended"


def test_a_run_to_which_nobody_comes_says_why_spark_could_not_start_them(play: Play) -> None:
    play.roster.lost_task = "Cannot run program (10.0.0.3 executor 0)"
    play.pass_time(START_TIMEOUT + 1)
    play.roster.check(play.now)
    assert play.roster.ending is not None
    assert "; Spark lost a task: Cannot run program (10.0.0.3 executor 0); look for" in play.roster.ending.cause


def test_a_run_that_all_have_left_ends_after_the_timeout(play: Play) -> None:
    one, other = play.start(0), play.start(1)
    play.run_for(100, one, other)
    assert play.roster.ending is None
    play.run_for(START_TIMEOUT + LOST_SECONDS)
    assert play.roster.ending is None
    play.run_for(1)
    assert play.roster.ending is not None


@pytest.mark.parametrize(
    ("code", "most"), [(-9, 20), (-11, 20), (1, 3)], ids=["killed", "segmentation fault", "an exception"]
)
def test_a_crash_loop_ends_the_run_with_its_cause(play: Play, code: int, most: int) -> None:
    replica_id = play.start(0)
    for number in range(1, most + 1):
        assert play.roster.ending is None
        play.end(replica_id, code, f"cause {number}\nlast line")
        replica_id = play.restart(0)
    assert play.roster.ending == Ending(
        is_finished=False, cause=f"worker 0 (it had not joined): cause {most}\nlast line"
    )
    assert play.roster.claim(0, "supervisor 0", play.now) == "ended"
    assert (0, "lost") in play.events()


@pytest.mark.parametrize("code", [-9, 1])
def test_processes_that_die_while_steps_are_done_never_end_a_run(play: Play, code: int) -> None:
    one, other = play.start(0), play.start(1)
    for step in range(1, 50):
        play.end(one, code)
        one = play.restart(0)
        play.beat(other, step=step)
    assert play.roster.ending is None


def test_the_users_mistake_ends_the_run_at_once(play: Play) -> None:
    play.end(play.start(0), 2, "there is no argument 'x'")
    assert play.roster.ending == Ending(is_finished=False, cause="there is no argument 'x'", is_users_mistake=True)
    assert play.beat(replica_id_of(0, 1))["farewell"] == "stop"


def test_what_is_said_after_the_end_changes_nothing(play: Play) -> None:
    one, other = play.start(0), play.start(1)
    play.beat(one)
    play.beat(other)
    play.roster.finish()
    play.end(one, 2, "too late")
    play.roster.stop(Ending(is_finished=False, cause="too late"))
    play.pass_time(100)
    play.roster.check(play.now)
    assert play.roster.ending == Ending(is_finished=True)
    assert [play.beat(other)["farewell"], play.roster.join(other, "", play.now)] == ["ended", "ended"]
    assert play.roster.next_incarnation(0, "supervisor 0", play.now) == 0
    assert play.renew(0) == "go on", "its process hears of the end itself"


def test_the_first_cause_is_the_one_that_is_told(play: Play) -> None:
    play.roster.stop(Ending(is_finished=False, cause="first"))
    play.roster.stop(Ending(is_finished=False, cause="second"))
    assert play.roster.ending is not None
    assert play.roster.ending.cause == "first"


# --- what is told on --------------------------------------------------------------------------------------------------


def test_a_redone_step_is_counted_once_however_many_report_it(play: Play) -> None:
    for replica_id in (replica_id_of(0, 1), replica_id_of(1, 1)):
        play.roster.note(replica_id, "redone", 7, "a it was cut")
        play.roster.note(replica_id, "recovered", 8, "")
    play.roster.note(replica_id_of(0, 1), "redone", 7, "b it was cut")
    assert (play.roster.steps_redone, play.roster.recoveries) == (2, 2)


def test_an_abandoned_group_is_told_to_all_and_forgotten_in_the_end(play: Play) -> None:
    one = play.start(0)
    play.roster.abandon("1-abc", play.now)
    assert play.beat(one)["abandoned"] == ["1-abc"]
    play.run_for(130, one)
    assert play.beat(one)["abandoned"] == []


def test_the_furthest_step_and_its_figures_are_shown(play: Play) -> None:
    one, other = play.start(0), play.start(1)
    play.beat(one, step=5)
    play.beat(other, step=4)
    assert (play.roster.step, play.roster.report) == (5, {"loss": 1 / 6})


# --- a driver that was away, and workers that fail once each ----------------------------------------------------------


def test_a_driver_that_was_stopped_does_not_blame_the_workers_for_it(play: Play) -> None:
    processes = [play.start(0), play.start(1)]
    play.run_for(2, *processes)
    play.now += 10 * START_TIMEOUT
    play.roster.check(play.now)
    assert play.roster.ending is None
    play.run_for(START_TIMEOUT - 1)
    assert play.roster.ending is None
    play.run_for(3 + LOST_SECONDS)
    assert play.roster.ending is not None, "now it has looked, and nobody came"


@pytest.mark.parametrize("looks_first", [True, False])
@pytest.mark.parametrize("away_seconds", [LOST_SECONDS + 0.5, 10 * NO_PROGRESS_SECONDS])
def test_a_driver_that_was_stopped_condemns_no_process_and_gives_no_place_away(
    play: Play, away_seconds: float, looks_first: bool
) -> None:
    processes = [play.start(0), play.start(1)]
    play.run_for(2, *processes, supervisors=(0, 1))
    play.now += away_seconds
    if looks_first:
        play.roster.check(play.now)
    assert [play.renew(worker) for worker in (0, 1)] == ["go on", "go on"]
    assert play.roster.lost(play.now) == []
    assert play.roster.claim(0, "another", play.now) == "duplicate"
    assert play.beat(processes[0])["lost"] == []
    play.pass_time(REPLACE_SECONDS + 0.5)
    assert play.renew(0) == "replace", "silence after it came back counts as ever"


def test_a_driver_that_was_stopped_does_not_take_its_absence_for_life(play: Play) -> None:
    one = play.start(0)
    play.beat(one)
    play.now += 100
    play.beat(one)
    play.pass_time(LOST_SECONDS + 0.5)
    assert play.roster.lost(play.now) == [one], "it was heard when the driver came back, and not since"


def test_a_run_is_not_given_up_while_a_death_is_examined(play: Play) -> None:
    one = play.start(0)
    play.beat(one)
    play.end(one, -11, "worker process ended by SIGSEGV")
    assert set(play.run_for(3 * START_TIMEOUT, supervisors=(0,))) == {"go on"}
    assert play.roster.ending is None
    assert play.events().count((0, "lost")) == 1
    play.run_for(START_TIMEOUT + CLAIM_SECONDS + 1)
    assert play.roster.ending is not None, "its supervisor is gone as well"


def test_workers_that_each_fail_once_do_not_end_a_run() -> None:
    play = Play(num_workers=5)
    for worker in range(5):
        play.end(play.start(worker), code=1, cause="worker process ended with exit code 1")
    assert play.roster.ending is None


def test_one_worker_that_fails_three_times_without_a_step_ends_it() -> None:
    play = Play(num_workers=5)
    for _ in range(2):
        play.end(play.start(0), code=1, cause="again")
    play.beat(play.start(1), step=5)
    for _ in range(2):
        play.end(play.restart(0), code=1, cause="again")
    assert play.roster.ending is None, "a step was done in between"
    play.end(play.restart(0), code=1, cause="once more")
    assert play.roster.ending is not None
    assert play.roster.ending.cause == "worker 0 (it had not joined): once more"
