"""Laws of the time line: whatever a run can record has its mark."""

from typing import get_args

from sunspark.bench.time_line import EVENT_STYLES, MARK_WORDS, REJOINED, event_styles
from sunspark.records import DRIVER, EventName, EventRecord


def test_every_event_has_a_mark_and_its_words() -> None:
    assert set(EVENT_STYLES) == set(get_args(EventName))
    assert set(EVENT_STYLES.values()) | {REJOINED} == set(MARK_WORDS)


def event(name: EventName, worker: int) -> EventRecord:
    return EventRecord(worker=worker, incarnation=1, time_unix_seconds=1.76e9, step=0, event=name, detail="")


def test_who_joins_a_run_that_was_started_again_has_not_come_back_from_a_loss() -> None:
    happened: list[tuple[EventName, int]] = [
        ("joined", 0),
        ("joined", 1),
        ("lost", 1),
        ("joined", 1),
        ("stopped", DRIVER),
        ("resumed", DRIVER),
        ("joined", 0),
        ("joined", 1),
    ]
    styles = event_styles([event(*one) for one in happened])
    assert [style for style, (name, _) in zip(styles, happened, strict=True) if name == "joined"] == [
        "begin",
        "begin",
        REJOINED,
        "begin",
        "begin",
    ]
