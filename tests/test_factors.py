"""Every shipped factor against a slow loop written from its formula."""

from __future__ import annotations

import math
import os
import time

import numpy as np
import pandas as pd
import pytest
from tables_by_hand import make_coverage, make_links, make_universe

from newsfactor import cells, panels
from newsfactor.factors import (
    EVENT_GROUPS,
    SHIPPED,
    keeps_price_reports,
    lookback_of,
    mean_score,
    needs_complete,
    news_count,
    only,
    trailing_sum,
    window,
)
from newsfactor.panels import panel
from newsfactor.schema import LEVELS, PROBABILITIES, SENTIMENTS
from newsfactor.sessions import default_sessions
from newsfactor.taxonomy import EVENTS

CODES = ["600001.SH", "600002.SH", "300003.SZ"]
FULL = make_coverage("2026-01-01 00:00", "2026-08-31 00:00")
CALENDAR = [day for day in default_sessions() if pd.Timestamp("2026-03-02") <= day <= pd.Timestamp("2026-07-31")]
DAYS = [str(day.date()) for day in CALENDAR][20:90]
UNIVERSE = make_universe(DAYS, CODES)


def random_links(count: int = 500, seed: int = 3) -> pd.DataFrame:
    """Links with every column that a factor reads drawn at random; many at the same minute."""
    draw = np.random.default_rng(seed)
    minutes = draw.integers(0, 95 * 24 * 12, count) * 5
    times = pd.Timestamp("2026-04-03") + pd.to_timedelta(minutes, unit="min")
    links = make_links([(f"n{k:03}", str(times[k]), str(draw.choice(CODES)), 0) for k in range(count)])
    weights = draw.dirichlet(np.full(7, 0.4), count)
    for column, name in enumerate(PROBABILITIES):
        links[name] = weights[:, column]
    links["sentiment"] = pd.Series([SENTIMENTS[place] for place in weights.argmax(axis=1)], dtype="str")
    links["score"] = weights @ np.arange(-3, 4)
    for name in ("relevance", "novelty", "event_novelty"):
        links[name] = draw.choice([0.0, 0.25, 0.5, 1.0], count)
    links["event"] = pd.Series(draw.choice(EVENTS, count), dtype="str")
    links["reports_price"] = draw.random(count) < 0.3
    links["n_codes"] = draw.integers(1, 4, count)
    links["time_precision"] = pd.Series(draw.choice(["second", "minute", "day"], count, p=[0.6, 0.3, 0.1]), dtype="str")
    return links


LINKS = random_links()


class News:
    """One news item as the loops see it."""

    def __init__(self, link) -> None:
        self.time = link.available_at.tz_localize(None)
        if link.time_precision == "day":
            self.time = self.time.normalize() + pd.Timedelta(days=1)
        self.score, self.level, self.event = link.score, LEVELS[link.sentiment], link.event
        self.relevance, self.novelty, self.event_novelty = link.relevance, link.novelty, link.event_novelty
        self.confidence = max(getattr(link, name) for name in PROBABILITIES)
        self.reports_price = link.reports_price
        self.weight = 1.0

    def intraday(self) -> bool:
        clock = (self.time.hour, self.time.minute)
        return self.time.normalize() in CALENDAR and (9, 15) <= clock < (15, 0)


def weighted(news: list[News], value, weight=lambda item: 1.0) -> float:
    below = sum(item.weight * weight(item) for item in news)
    return sum(item.weight * weight(item) * value(item) for item in news) / below if below else math.nan


def score(item: News) -> float:
    return item.score


def count(news: list[News]) -> float:
    return sum(item.weight for item in news)


def spread(news: list[News]) -> float:
    middle = weighted(news, score)
    return math.sqrt(weighted(news, lambda item: (item.score - middle) ** 2)) if len(news) > 1 else math.nan


def together(cells: list[list[News]], first: int, last: int) -> list[News]:
    return [item for cell in cells[first:last] for item in cell]


def attention(cells: list[list[News]]) -> float:
    usual = sum(count(cell) for cell in cells[1:21]) / 20
    return math.log((1 + count(cells[0])) / (1 + usual)) if count(cells[0]) + usual else math.nan


def decayed(cells: list[list[News]]) -> float:
    parts = [item.weight * item.score * 2 ** (-age / 3) for age in range(10) for item in cells[age]]
    return sum(parts) if parts else math.nan


# Each takes the name's news of this session and of 39 before, latest first.
FORMULAS = {
    "mean_level": lambda c: weighted(c[0], lambda item: item.level),
    "mean_score": lambda c: weighted(c[0], score),
    "directional_score": lambda c: weighted([item for item in c[0] if item.level != 0], score),
    "relevance_score": lambda c: weighted(c[0], score, lambda item: item.relevance),
    "novelty_score": lambda c: weighted(c[0], score, lambda item: item.novelty * item.event_novelty),
    "confidence_score": lambda c: weighted(c[0], score, lambda item: item.confidence),
    "weighted_score": lambda c: weighted(c[0], score, lambda item: item.relevance * item.novelty),
    "shrunk_score": lambda c: weighted(c[0], score) * count(c[0]) / (count(c[0]) + 2),
    "minimum_score": lambda c: min([item.score for item in c[0]], default=math.nan),
    "news_count": lambda c: count(c[0]) or math.nan,
    "abnormal_attention": attention,
    "positive_share": lambda c: weighted(c[0], lambda item: item.level > 0),
    "negative_share": lambda c: weighted(c[0], lambda item: item.level < 0),
    "disagreement": lambda c: spread(c[0]),
    "score_surprise": lambda c: weighted(c[0], score) - weighted(together(c, 1, 21), score),
    "score_change": lambda c: weighted(together(c, 0, 20), score) - weighted(together(c, 20, 40), score),
    "decayed_score": decayed,
    "overnight_score": lambda c: weighted([item for item in c[0] if not item.intraday()], score),
    "intraday_score": lambda c: weighted([item for item in c[0] if item.intraday()], score),
    **{
        f"{group}_score": lambda c, events=events: weighted([item for item in c[0] if item.event in events], score)
        for group, events in EVENT_GROUPS.items()
    },
}  # fmt: skip


def slow_panel(links: pd.DataFrame, cutoff: str, *, multi: str = "subject") -> dict:
    """(date, code) to the factors' values, cell by cell."""
    closes = [day + pd.Timedelta(f"{cutoff}:00") for day in CALENDAR]
    cells: dict = {}
    for link in links.itertuples():
        item = News(link)
        item.weight = 1 / link.n_codes if multi == "share" else 1.0
        slot = next(k for k, close in enumerate(closes) if item.time < close)
        cells.setdefault((link.code, slot), []).append(item)
    table = {}
    for code in CODES:
        for slot, day in enumerate(CALENDAR):
            own = [cells.get((code, slot - age), []) for age in range(40)]
            if str(day.date()) not in DAYS or not any(own):
                continue
            plain = [[item for item in cell if not item.reports_price] for cell in own]
            row = {name: formula(plain) for name, formula in FORMULAS.items()}
            row |= {f"{name}_all": formula(own) for name, formula in FORMULAS.items()}
            table[(day, code)] = row | {"n_news": len(own[0])}
    return table


def assert_equals(found: pd.DataFrame, expected: dict) -> None:
    assert set(zip(found["date"], found["code"], strict=True)) == set(expected)
    for row in found.to_dict("records"):
        for name, value in expected[(row["date"], row["code"])].items():
            assert row[name] == pytest.approx(value, abs=1e-9, nan_ok=True), (row["date"], row["code"], name)


def test_every_shipped_factor_has_its_loop():
    assert set(SHIPPED) == {f"{name}{version}" for name in FORMULAS for version in ("", "_all")}
    assert all(factor.__doc__ for factor in SHIPPED.values())


@pytest.mark.parametrize("cutoff", ["09:15", "14:50", "15:00"])
def test_every_shipped_factor_equals_a_slow_loop(cutoff):
    found = panel(LINKS, UNIVERSE, factors=SHIPPED, cutoff=cutoff, coverage=FULL)
    assert found[list(SHIPPED)].notna().sum().min() > 3  # every factor has values to be compared
    assert_equals(found, slow_panel(LINKS, cutoff))


def test_shares_of_news_about_several_companies():
    found = panel(LINKS, UNIVERSE, factors=SHIPPED, multi="share", coverage=FULL)
    assert_equals(found, slow_panel(LINKS, "09:15", multi="share"))


def test_sessions_worked_on_a_few_at_a_time(monkeypatch):
    whole = panel(LINKS, UNIVERSE, factors=SHIPPED, coverage=FULL)
    monkeypatch.setattr(cells, "GRID", 1)
    pd.testing.assert_frame_equal(panel(LINKS, UNIVERSE, factors=SHIPPED, coverage=FULL), whole, check_exact=True)


def test_ranges():
    found = panel(LINKS, UNIVERSE, factors=SHIPPED, coverage=FULL)
    for name in SHIPPED:
        values = found[name].dropna()
        if "share" in name:
            assert values.between(0, 1).all()
        elif "surprise" in name or "change" in name:
            assert values.between(-6, 6).all()
        elif ("score" in name and "decayed" not in name) or "level" in name:
            assert values.between(-3, 3).all()


@pytest.mark.parametrize("by", panels.BY)
def test_order_index_and_time_zone_change_nothing(by, monkeypatch):
    """Rows in any order, one label for all, times in another zone, and a machine in another zone."""
    links = LINKS.assign(story_id=LINKS["news_id"])
    whole = panel(links, UNIVERSE, by=by, factors=SHIPPED, coverage=FULL)
    shuffled = links.sample(frac=1, random_state=4).set_axis([7] * len(links))
    shuffled["available_at"] = shuffled["available_at"].dt.tz_convert("America/New_York")
    universe = UNIVERSE.sample(frac=1, random_state=4).set_axis([7] * len(UNIVERSE))
    before = shuffled.copy(), universe.copy()
    for zone in ("UTC", "Asia/Shanghai", "America/New_York"):
        monkeypatch.setitem(os.environ, "TZ", zone)
        time.tzset()
        found = panel(shuffled, universe, by=by, factors=SHIPPED, coverage=FULL)
        pd.testing.assert_frame_equal(found, whole, check_exact=True)
    pd.testing.assert_frame_equal(shuffled, before[0])
    pd.testing.assert_frame_equal(universe, before[1])
    monkeypatch.undo()
    time.tzset()


def test_a_factor_of_other_factors_cells_has_declared_what_it_needs():
    assert lookback_of(SHIPPED["score_change_all"]) == 40 and needs_complete(SHIPPED["score_change_all"])
    assert keeps_price_reports(SHIPPED["news_count_all"]) and not keeps_price_reports(SHIPPED["news_count"])
    version = only(mean_score, "event", ("个股财报",))
    assert version.__name__ == "mean_score" and version.columns == ("score", "share", "event")
    assert only(lambda links, cell: links["score"].groupby(cell).max(), "event", ()).columns is None


def test_versions_of_a_users_own_factor():
    def best(links, cell):
        return links["score"].groupby(cell).max()

    factors = {
        "best": best, "best_at_night": only(best, "window", ("after_close", "pre_open")),
        "reports": only(news_count, "event", ("个股研报",)),
    }  # fmt: skip
    found = panel(LINKS, UNIVERSE, factors=factors, coverage=FULL)
    assert (found["best"] >= found["best_at_night"]).sum() == found["best_at_night"].notna().sum() > 10
    kept = LINKS[(LINKS["event"] == "个股研报") & ~LINKS["reports_price"]]
    assert found["reports"].sum() == len(kept)


def test_a_factor_that_is_spread_equals_one_that_is_not():
    @window(lookback=10)
    def spread_out(links, cell):
        return (links["score"] * 2.0 ** (-links["age"] / 3)).groupby(cell).sum(min_count=1)

    found = panel(LINKS, UNIVERSE, factors={"one": spread_out, "other": SHIPPED["decayed_score"]}, coverage=FULL)
    np.testing.assert_allclose(found["one"], found["other"], rtol=0, atol=1e-12)
    assert found["one"].notna().sum() > 50


def test_trailing_sums_stop_at_the_last_weight():
    found = trailing_sum(pd.Series({2: 1.0, 4: np.nan}), [0, 1, 0.5])
    assert found.to_dict() == {0: 0, 1: 0, 2: 0, 3: 1, 4: 0.5, 5: 0, 6: 0}
