"""Forward returns against hand-worked tables and a slow loop over the calendar."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from markets import random_market

from newsfactor.errors import CalendarError, InvalidValueError, LookAheadError, TableError
from newsfactor.returns import forward_returns, industry_returns
from newsfactor.sessions import default_sessions, known_at

# Mon 6 to Fri 10 July 2026. A goes ex on Wednesday (2 for 1: reference 11.5 / 2 = 5.75); B misses Wednesday;
# C opens at its upper limit on Monday and at its lower one on Tuesday; D is plain.
DAYS = pd.DatetimeIndex(["2026-07-06", "2026-07-07", "2026-07-08", "2026-07-09", "2026-07-10"])
BARS = {  # open, close, pre_close
    "A": [(10, 10.5, 10), (11, 11.5, 10.5), (6, 6.3, 5.75), (6.2, 6.6, 6.3), (6.6, 6.6, 6.6)],
    "B": [(20, 21, 20), (21, 22, 21), None, (23, 24, 22), (24, 24, 24)],
    "C": [(11, 11, 10), (9.9, 10, 11), (10, 10, 10), (10.2, 10.4, 10), (10.4, 10.4, 10.4)],
    "D": [(5, 5.1, 5), (5.2, 5.3, 5.1), (5.4, 5.5, 5.3), (5.6, 5.7, 5.5), (5.8, 5.9, 5.7)],
}
LIMITS = {("C", 0): (11.0, 9.0), ("C", 1): (12.1, 9.9)}


def by_hand():
    prices, universe = [], []
    for code, bars in BARS.items():
        for day, bar in enumerate(bars):
            up, down = LIMITS.get((code, day), (np.nan, np.nan))
            universe.append((DAYS[day], code, "银行", 1e9, False, False, up, down, pd.Timestamp("2010-01-04")))
            if bar:
                prices.append((DAYS[day], code, bar[0], bar[0], bar[0], bar[1], bar[2], 1e8, 1e9))
    names = ["date", "code", "industry", "circ_mv", "is_st", "is_suspended", "limit_up", "limit_down", "list_date"]
    table = pd.DataFrame(universe, columns=names)
    columns = ["date", "code", "open", "high", "low", "close", "pre_close", "amount", "circ_mv"]
    return pd.DataFrame(prices, columns=columns).astype({"close": float}), table


def cells(day: int = 0, codes=("A", "B", "C", "D"), cutoff: str = "09:15") -> pd.DataFrame:
    panel = pd.DataFrame({"date": DAYS[day], "code": list(codes), "observed": 1.0, "n_news": 1})
    return panel.assign(known_at=known_at(panel["date"], cutoff))


def test_open_to_open_compounds_over_the_ex_date_and_never_skips_a_session():
    prices, universe = by_hand()
    got = forward_returns(prices, cells(), universe=universe, horizons=(1, 2, 3)).set_index("code")
    assert got.loc["A", "return_1"] == pytest.approx(11 / 10 - 1, abs=1e-12)
    # Raw 10 -> 6 would be -40%; the reference price of 5.75 makes it 11.5 / 10 * 6 / 5.75.
    assert got.loc["A", "return_2"] == pytest.approx(1.15 * 6 / 5.75 - 1, abs=1e-12)
    assert got.loc["A", "return_3"] == pytest.approx(1.15 * 6.3 / 5.75 * 6.2 / 6.3 - 1, abs=1e-12)
    assert got.loc["B", "return_1"] == pytest.approx(0.05, abs=1e-12)
    assert np.isnan(got.loc["B", ["return_2", "return_3"]].astype(float)).all()
    assert list(got.loc["B", ["reason_1", "reason_2", "reason_3"]]) == ["", "missing_session", "missing_session"]
    assert got.loc["D", "return_3"] == pytest.approx(5.6 / 5 - 1, abs=1e-12)


def test_close_to_close_compounds_reference_prices():
    prices, _ = by_hand()
    got = forward_returns(prices, cells(), entry="next_close", horizons=(1, 2)).set_index("code")
    assert got.loc["A", "return_1"] == pytest.approx(11.5 / 10.5 - 1, abs=1e-12)
    assert got.loc["A", "return_2"] == pytest.approx(11.5 / 10.5 * 6.3 / 5.75 - 1, abs=1e-12)


def test_a_price_limit_at_the_entry_auction_bars_it():
    prices, universe = by_hand()
    first = forward_returns(prices, cells(), universe=universe, horizons=(1,)).set_index("code")
    assert first.loc["C", ["tradable", "reason", "reason_1"]].tolist() == [False, "limit_up", "limit_up"]
    assert first.loc["C", "naive_1"] == pytest.approx(9.9 / 11 - 1, abs=1e-12)
    assert first.loc["C", ["can_buy", "can_sell"]].tolist() == [False, True]
    second = forward_returns(prices, cells(1), universe=universe, horizons=(1,)).set_index("code")
    assert second.loc["C", "reason"] == "limit_down"
    assert second.loc["C", ["can_buy", "can_sell", "tradable"]].tolist() == [True, False, False]
    assert second.loc["D", "tradable"]
    at_close = forward_returns(prices, cells(1), universe=universe, horizons=(1,), entry="next_close").set_index("code")
    assert at_close.loc["C", "tradable"]  # 10.0 lies between the limits
    below = universe.assign(limit_up=universe["limit_up"] + 0.01)  # one tick from the limit
    assert forward_returns(prices, cells(), universe=below, horizons=(1,)).set_index("code").loc["C", "tradable"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("row", "no_price"),
        ("nan", "no_price"),
        ("halt", "suspended"),
        ("idle", "suspended"),
        ("out", "not_in_universe"),
    ],
)
def test_every_bar_to_an_entry_has_its_reason(change, reason):
    prices, universe = by_hand()
    price, listed = ((table["code"] == "D") & (table["date"] == DAYS[0]) for table in (prices, universe))
    if change == "row":
        prices = prices[~price]
    elif change == "nan":
        prices.loc[price, "open"] = np.nan
    elif change == "idle":
        prices.loc[price, "amount"] = 0
    elif change == "halt":
        universe.loc[listed, "is_suspended"] = True
    else:
        universe = universe[~listed]
    got = forward_returns(prices, cells(codes="D"), universe=universe, horizons=(1,)).iloc[0]
    assert (got["tradable"], got["reason"], got["reason_1"]) == (False, reason, reason)
    assert np.isnan(got["return_1"]) == (change != "out")


def test_a_suspended_session_is_held_through_and_a_session_without_a_row_is_not():
    prices, universe = by_hand()
    universe.loc[(universe["code"] == "D") & (universe["date"] == DAYS[1]), "is_suspended"] = True
    prices.loc[(prices["code"] == "D") & (prices["date"] == DAYS[2]), "pre_close"] = 5.1
    prices.loc[(prices["code"] == "A") & (prices["date"] == DAYS[1]), "amount"] = 0
    prices.loc[(prices["code"] == "A") & (prices["date"] == DAYS[2]), "pre_close"] = 10.5 / 2
    got = forward_returns(prices, cells(codes="ABD"), universe=universe, horizons=(2,)).set_index("code")
    # A, ex on the day it comes back: 10 to the close of 10.5, then 6 on the reference price of 5.25.
    assert got.loc["A", "return_2"] == pytest.approx(1.05 * 6 / 5.25 - 1, abs=1e-12)
    assert got.loc["D", "return_2"] == pytest.approx(5.1 / 5 * 5.4 / 5.1 - 1, abs=1e-12)
    assert got.loc["D", "naive_2"] == got.loc["D", "return_2"]
    assert got.loc["B", "reason_2"] == "missing_session"
    assert got.loc["B", ["return_2", "naive_2"]].isna().all()


@pytest.mark.parametrize(
    ("cutoff", "entry", "day", "earned"),
    [
        ("09:15", "next_open", 0, 5.2 / 5),
        ("09:15", "next_close", 0, 5.3 / 5.1),
        ("14:50", "next_open", 1, 5.4 / 5.2),
        ("14:50", "next_close", 0, 5.3 / 5.1),
        ("15:00", "next_open", 1, 5.4 / 5.2),
        ("15:00", "next_close", 1, 5.5 / 5.3),
    ],
)
def test_the_entry_follows_the_cutoff_and_the_exit_is_a_session_later(cutoff, entry, day, earned):
    prices, _ = by_hand()
    got = forward_returns(prices, cells(codes="D", cutoff=cutoff), entry=entry, horizons=(1,)).iloc[0]
    assert got["entry_date"] == DAYS[day]
    assert got["return_1"] == pytest.approx(earned - 1, abs=1e-12)


def test_no_exit_on_the_entry_day_and_no_entry_before_the_news():
    prices, _ = by_hand()
    for horizons in ((0,), (-1,), (), (1, 1), (1.5,)):
        with pytest.raises(InvalidValueError, match="T\\+1"):
            forward_returns(prices, cells(), horizons=horizons)
    with pytest.raises(LookAheadError, match="same_open"):
        forward_returns(prices, cells(), entry="same_open")


def test_the_end_of_the_data_is_its_own_reason():
    prices, _ = by_hand()
    got = forward_returns(prices, cells(3, "D"), horizons=(1, 2)).iloc[0]
    assert (got["reason_1"], got["reason_2"], got["tradable"]) == ("", "beyond_data", True)
    late = forward_returns(prices, cells(4, "D", "15:00"), horizons=(1,)).iloc[0]
    assert (late["reason"], late["tradable"]) == ("beyond_data", False)
    last = pd.DatetimeIndex(DAYS)
    edge = forward_returns(prices, cells(4, "D", "15:00"), horizons=(1,), sessions=last).iloc[0]
    assert edge["entry_date"] is pd.NaT


def test_weekends_are_no_sessions_and_holidays_count_as_the_calendar_says():
    prices, _ = by_hand()
    sunday = prices.iloc[[0]].assign(date=pd.Timestamp("2026-07-12"))
    with pytest.raises(CalendarError, match="2026-07-12"):
        forward_returns(pd.concat([prices, sunday]), cells())
    without = DAYS.delete(2)  # Wednesday closed by the user's own calendar
    open_days = prices[prices["date"] != DAYS[2]]
    got = forward_returns(open_days, cells(codes="B"), horizons=(2,), sessions=without).iloc[0]
    assert got["return_2"] == pytest.approx(22 / 20 * 23 / 22 - 1, abs=1e-12)


def test_a_panel_has_one_known_cutoff():
    prices, _ = by_hand()
    mixed = pd.concat([cells(0), cells(1, cutoff="15:00")], ignore_index=True)
    with pytest.raises(InvalidValueError, match="one cutoff"):
        forward_returns(prices, mixed)
    odd = cells().assign(known_at=lambda t: t["known_at"] + pd.Timedelta(minutes=1))
    with pytest.raises(InvalidValueError, match="09:16"):
        forward_returns(prices, odd)
    with pytest.raises(TableError, match="known_at"):
        forward_returns(prices, cells().drop(columns="known_at"))
    foreign = cells().assign(known_at=lambda t: t["known_at"].dt.tz_convert("UTC"))
    pd.testing.assert_frame_equal(forward_returns(prices, foreign), forward_returns(prices, cells()))


def test_adjusted_prices_need_no_reference_price():
    prices, _ = by_hand()
    one = prices[prices["code"] == "D"].assign(pre_close=np.nan)
    for entry, earned in (("next_open", 5.6 / 5), ("next_close", 5.7 / 5.1)):
        got = forward_returns(one, cells(codes="D"), horizons=(3,), entry=entry, adjusted=True).iloc[0]
        assert got["return_3"] == pytest.approx(earned - 1, abs=1e-12)


def slow_return(bars, days, start, horizon, entry):
    """The definition, one session at a time; None where a needed bar is missing."""
    growth = 1.0
    for t in range(start, start + horizon + 1):
        if t >= len(days) or days[t] not in bars:
            return None
        open_, close, previous = bars[days[t]]
        if entry == "next_close":
            growth *= close / previous if t > start else 1.0
        else:
            growth *= (open_ / previous if t > start else 1.0) * (close / open_ if t < start + horizon else 1.0)
    return growth - 1


@pytest.mark.parametrize("entry", ["next_open", "next_close"])
def test_agrees_with_a_slow_loop_over_the_calendar(entry):
    panel, prices, _ = random_market(30, 8, cutoff="14:50")
    draw = np.random.default_rng(3)
    prices = prices.assign(pre_close=prices["pre_close"] * draw.choice([1, 0.5], len(prices), p=[0.9, 0.1]))
    prices = prices[draw.random(len(prices)) > 0.05].sample(frac=1, random_state=0)
    panel = panel.sample(frac=0.7, random_state=1)
    before = panel.copy(), prices.copy()
    got = forward_returns(prices, panel, entry=entry, horizons=(1, 3, 7))
    assert got.index.equals(panel.index)
    days = default_sessions()[default_sessions().get_indexer([prices["date"].min()])[0] :][:30]
    seen = 0
    for position, row in enumerate(panel.itertuples()):
        own = prices[prices["code"] == row.code]
        bars = {t.date: (t.open, t.close, t.pre_close) for t in own.itertuples()}
        start = days.get_loc(row.date) + (1 if entry == "next_open" else 0)
        for horizon in (1, 3, 7):
            want = slow_return(bars, days, start, horizon, entry)
            value = got[f"return_{horizon}"].iloc[position]
            assert np.isnan(value) if want is None else value == pytest.approx(want, abs=1e-12)
            assert np.isnan(value) == (got[f"reason_{horizon}"].iloc[position] != "")
            seen += want is not None
    assert seen > 200
    pd.testing.assert_frame_equal(panel, before[0])
    pd.testing.assert_frame_equal(prices, before[1])


def test_empty_tables():
    prices, universe = by_hand()
    empty = forward_returns(prices, cells().iloc[:0], universe=universe)
    assert len(empty) == 0
    assert "return_20" in empty
    unpriced = forward_returns(prices.iloc[:0], cells())
    assert (unpriced["reason"] == "beyond_data").all()


def industry_cell(name: str = "银行") -> pd.DataFrame:
    cell = pd.DataFrame({"date": DAYS[:1], "industry": name, "observed": 1.0, "n_news": 1})
    return cell.assign(known_at=known_at(cell["date"]))


def test_an_industry_earns_the_weighted_mean_of_those_that_could_be_entered():
    prices, universe = by_hand()
    universe["circ_mv"] = universe["code"].map({"A": 1e9, "B": 2e9, "C": 9e9, "D": 3e9})
    got = industry_returns(prices, universe, industry_cell(), horizons=(1, 2)).iloc[0]
    # C opened at its limit; over two sessions B has a gap.
    assert got["return_1"] == pytest.approx((1 * 0.1 + 2 * 0.05 + 3 * 0.04) / 6, abs=1e-12)
    assert got["return_2"] == pytest.approx((1 * (1.15 * 6 / 5.75 - 1) + 3 * (5.4 / 5 - 1)) / 4, abs=1e-12)
    assert got["tradable"]
    without_a = universe.assign(circ_mv=universe["circ_mv"].mask(universe["code"] == "A"))
    partly = industry_returns(prices, without_a, industry_cell(), horizons=(1,))
    assert partly["return_1"].iloc[0] == pytest.approx((2 * 0.05 + 3 * 0.04) / 5, abs=1e-12)
    equal = industry_returns(prices, universe.assign(circ_mv=np.nan), industry_cell(), horizons=(1,))
    assert equal["return_1"].iloc[0] == pytest.approx((0.1 + 0.05 + 0.04) / 3, abs=1e-12)


def test_industry_members_are_those_of_the_cell_date():
    prices, universe = by_hand()
    moved = universe.assign(industry=np.where((universe["code"] == "A") & (universe["date"] > DAYS[0]), "煤炭", "银行"))
    pd.testing.assert_frame_equal(
        industry_returns(prices, moved, industry_cell()), industry_returns(prices, universe, industry_cell())
    )
    none = industry_returns(prices, moved, industry_cell("煤炭"), horizons=(1,)).iloc[0]
    assert (none["reason"], none["reason_1"], none["tradable"]) == ("no_members", "no_members", False)
    only_c = universe[universe["code"] == "C"]
    assert industry_returns(prices, only_c, industry_cell(), horizons=(1,))["reason_1"].iloc[0] == "limit_up"
