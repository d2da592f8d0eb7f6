"""Laws of the time line: whatever a run can record has its mark."""

from typing import get_args

from sunspark.bench.time_line import EVENT_STYLES, MARK_WORDS, REJOINED
from sunspark.records import EventName


def test_every_event_has_a_mark_and_its_words() -> None:
    assert set(EVENT_STYLES) == set(get_args(EventName))
    assert set(EVENT_STYLES.values()) | {REJOINED} == set(MARK_WORDS)
