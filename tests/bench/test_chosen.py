"""What a forecast weighed stands beside what happened."""

import pytest

from tests.bench.made_run import MadeRun
from tests.bench.page import page_of

pytestmark = pytest.mark.timeout(60)


def row(strategy: str, workers: int, seconds: float | None, reason: str = "") -> dict[str, object]:
    return {
        "strategy": strategy,
        "sync_every": 16 if strategy == "diloco" else 1,
        "compression": "none",
        "workers": workers,
        "seconds_per_epoch": seconds and seconds / 12,
        "seconds": seconds,
        "reason": reason,
    }


def test_what_was_weighed_is_shown_the_soonest_first(made: MadeRun) -> None:
    made.write()
    rows = [row("serial", 1, 240.0), row("diloco", 2, None, "too few images"), row("all_reduce", 2, 120.0)]
    made.put("forecast.json", {"rows": rows, "recommended": rows[2], "why": "all_reduce: it is the fastest."})
    text = page_of(made.run).text.replace("\u00a0", " ")
    assert "By a forecast, after a pilot: all_reduce: it is the fastest." in text
    weighed = text.partition("How its strategy was chosen")[2].partition("How it learned")[0]
    shown = [
        "all_reduce 2 10 s 2 min 0 s chosen",
        "serial 1 20 s 4 min 0 s",
        "diloco, every 16 steps 2 - - too few images",
    ]
    places = [weighed.index(one) for one in [*shown, "what happened 2"]]
    assert places == sorted(places)


@pytest.mark.parametrize(("factor", "said"), [(1.25, "25 % too long"), (0.5, "50 % too short")])
def test_a_forecast_is_too_long_or_too_short(made: MadeRun, factor: float, said: str) -> None:
    made.write()
    made.put("forecast.json", {"rows": [], "recommended": row("all_reduce", 2, 12e6)})
    tile = page_of(made.run).text.replace("\u00a0", " ").partition("an epoch; it took ")[2]
    took = float(tile.split(" s:")[0])
    made.put("forecast.json", {"rows": [], "recommended": row("all_reduce", 2, 12 * factor * took)})
    text = page_of(made.run).text.replace("\u00a0", " ")
    assert f"an epoch; it took {tile.split(':')[0]}: forecast {said}" in text


def test_a_run_whose_strategy_was_given_has_no_such_table(made: MadeRun) -> None:
    made.write()
    assert "How its strategy was chosen" not in page_of(made.run).text
