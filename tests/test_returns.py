"""Forward returns against hand-worked tables and a slow loop over the calendar."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from markets import random_market

from newsfactor.errors import CalendarError, InvalidValueError, LookAheadError, TableError
from newsfactor.returns import (
    REASONS,
    diagnostic_returns,
    forward_returns,
    industry_returns,
    measure_industries,
    measure_outcomes,
)  # fmt: skip
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
    with pytest.raises(CalendarError, match=r"prices\['date'\].*2026-07-12"):
        forward_returns(pd.concat([prices, sunday]), cells())
    with pytest.raises(CalendarError, match=r"panel\['date'\].*2026-07-12"):
        forward_returns(prices, cells().assign(date=pd.Timestamp("2026-07-12")))
    with pytest.raises(TableError, match="must not be missing"):
        forward_returns(prices.assign(date=prices["date"].mask(prices.index == 3)), cells())
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


# One stock from Mon 6 July 2026 on: reference price, open and close by session, worked by hand for each rule. With it
# in the table is a plain stock that trades on every session, so that the data go on when the one ends.
CALENDAR = default_sessions()[default_sessions() >= "2026-07-06"][:40]


def one_stock(bars, *, code: str = "600001.SH", days: int = 40, list_date: str = "2010-01-04", **limits):
    """PRICES and UNIVERSE; a bar is (pre_close, open, close), None no row, ``"halt"`` a row without trade."""
    prices, universe, close = [], [], bars[0][2]
    for number in range(days):
        other = (CALENDAR[number], "000002.SZ", 8.0, 8.0, 8.0, 8.0, 8.0, 1e8, 1e9)
        prices.append(other)
        bar = bars[number] if number < len(bars) else None
        if bar is None:
            continue
        halted = bar == "halt"
        reference, open_, close = (close,) * 3 if halted else bar
        prices.append((CALENDAR[number], code, open_, open_, close, close, reference, 0.0 if halted else 1e8, 1e9))
        up, down = limits.get(f"limit_{number}", (np.nan, np.nan))
        universe.append((CALENDAR[number], code, "银行", 1e9, False, halted, up, down, pd.Timestamp(list_date)))
    names = ["date", "code", "open", "high", "low", "close", "pre_close", "amount", "circ_mv"]
    columns = ["date", "code", "industry", "circ_mv", "is_st", "is_suspended", "limit_up", "limit_down", "list_date"]
    return pd.DataFrame(prices, columns=names), pd.DataFrame(universe, columns=columns).astype(
        {"list_date": "datetime64[us]"}
    )


def outcome(tables, *, entry: str = "next_open", horizon: int = 1, cell: int = 0, **options) -> pd.Series:
    """The row of the one stock's cell."""
    prices, universe = tables
    panel = pd.DataFrame({"date": CALENDAR[cell : cell + 1], "code": "600001.SH", "observed": 1.0, "n_news": 1})
    panel = panel.assign(known_at=known_at(panel["date"]))
    options = {"universe": universe, **options}
    got = forward_returns(prices, panel, horizons=(horizon,), entry=entry, **options).iloc[0]
    return got.rename({f"reason_{horizon}": "why"}).rename(lambda name: name.removesuffix(f"_{horizon}"))


PLAIN = [(10, 10, 11), (11, 12, 12), (12, 12, 15), (15, 15, 15)]


def test_an_exit_at_the_lower_limit_is_carried_to_the_first_open_above_it():
    # Down 10% at the open of sessions 1 and 2, one tick above the limit at that of session 3: 10 to 8.2.
    bars = [(10, 10, 10), (10, 9, 9), (9, 8.1, 8.1), (8.1, 7.30, 8.2), (8.2, 8.2, 8.2)]
    tables = one_stock(bars, limit_1=(11, 9.0), limit_2=(9.9, 8.1), limit_3=(8.91, 7.29))
    got = outcome(tables)
    assert got["return"] == pytest.approx(7.30 / 10 - 1, abs=1e-12)
    assert (got["naive"], got["why"], got["note"]) == (pytest.approx(-0.1, abs=1e-12), "", "carried")
    # Without limits, or a session later than them, it leaves as planned.
    assert outcome(tables, universe=None)["note"] == ""
    late = outcome(tables, horizon=4)
    assert (late["return"], late["note"]) == (pytest.approx(8.2 / 10 - 1, abs=1e-12), "")


def test_the_limit_that_counts_at_the_closing_auction_is_that_of_the_close():
    # Opens at the limit and leaves it by the close; the day after the reverse.
    bars = [(10, 10, 10), (10, 9, 9.5), (9.5, 9, 8.55), (8.55, 8.6, 8.7)]
    tables = one_stock(bars, limit_1=(11, 9.0), limit_2=(10.45, 8.55))
    assert outcome(tables, entry="next_close")["return"] == pytest.approx(-0.05, abs=1e-12)
    carried = outcome(tables, entry="next_close", horizon=2)
    assert (carried["return"], carried["note"]) == (pytest.approx(-0.13, abs=1e-12), "carried")
    assert outcome(tables, horizon=1)["return"] == pytest.approx(-0.10, abs=1e-12)  # carried to the open of session 2


def test_an_exit_on_a_suspended_session_is_carried_and_the_first_price_after_it_catches_up():
    # Held at 11 through three sessions; 1 for 1 bonus meanwhile, so 11 is 5.5 on coming back, at 5.
    bars = [(10, 10, 11), "halt", "halt", "halt", (5.5, 5, 6)]
    got = outcome(one_stock(bars))
    assert (got["return"], got["note"]) == (pytest.approx(1.1 * 5 / 5.5 - 1, abs=1e-12), "carried")
    assert np.isnan(got["naive"])
    at_close = outcome(one_stock(bars), entry="next_close", horizon=2)
    assert (at_close["return"], at_close["note"]) == (pytest.approx(6 / 5.5 - 1, abs=1e-12), "carried")


def test_parts_of_a_carried_return_multiply_to_it():
    bars = [(10, 10, 11), "halt", (11, 9.9, 9.0), (9.0, 9.9, 9.9)]
    got = outcome(one_stock(bars, limit_2=(12.1, 9.9)))
    # Session 10 to 11, night 11 to 9.9, no exit at the limit, session 9.9 to 9, night 9 to 9.9.
    assert got["overnight"] == pytest.approx(0.9 * 1.1 - 1, abs=1e-12)
    assert got["intraday"] == pytest.approx(1.1 * 9 / 9.9 - 1, abs=1e-12)
    assert got["return"] == pytest.approx(9.9 / 10 - 1, abs=1e-12)
    close = outcome(one_stock(bars), entry="next_close", horizon=3)
    assert close["overnight"] == pytest.approx(0.9 * 1.1 - 1, abs=1e-12)
    assert close["intraday"] == pytest.approx(9 / 9.9 - 1, abs=1e-12)


def test_a_delisted_code_counts_its_last_close():
    gone = one_stock([(10, 10, 9), (9, 8, 6)])
    for horizon in (2, 20):
        got = outcome(gone, horizon=horizon)
        assert (got["return"], got["note"], got["why"]) == (pytest.approx(-0.4, abs=1e-12), "delisted", "")
        assert np.isnan(got["naive"])
    assert got["overnight"] == pytest.approx(8 / 9 - 1, abs=1e-12)
    assert got["intraday"] == pytest.approx(0.9 * 6 / 8 - 1, abs=1e-12)
    assert outcome(gone)["note"] == ""  # out at the open of its last session
    # Suspended to the end, or at the limit for good: there is nothing to be had but the last close.
    assert outcome(one_stock([(10, 10, 9), "halt", "halt"]))["return"] == pytest.approx(-0.1, abs=1e-12)
    stuck = outcome(one_stock([(10, 10, 9), (9, 8.1, 8.1)], limit_1=(9.9, 8.1)))
    assert (stuck["return"], stuck["note"]) == (pytest.approx(-0.19, abs=1e-12), "delisted")
    # Nothing can be bought any more.
    assert outcome(gone, cell=2, universe=None)["reason"] == "no_price"


def test_a_code_whose_rows_ended_less_than_20_sessions_ago_may_be_late():
    bars = [(10, 10, 9), (9, 8, 6)]
    late, gone = (outcome(one_stock(bars, days=days), horizon=2) for days in (21, 22))
    assert (late["why"], gone["note"]) == ("beyond_data", "delisted")
    assert np.isnan(late["return"]) and gone["return"] == pytest.approx(-0.4, abs=1e-12)
    # The exit session itself must be in the data, else only the delisted would have a return on the last dates.
    assert outcome(one_stock(bars, days=22), horizon=22)["why"] == "beyond_data"


def test_a_suspension_that_lasts_to_the_end_of_the_data_is_not_known():
    got = outcome(one_stock([(10, 10, 9), *["halt"] * 5], days=6))
    assert (got["why"], np.isnan(got["return"])) == ("beyond_data", True)


def test_a_session_without_a_row_is_not_known_even_on_the_way_to_a_later_exit():
    bars = [(10, 10, 11), "halt", None, (11, 12, 12)]
    got = outcome(one_stock(bars))
    assert (got["why"], np.isnan(got["return"])) == ("missing_session", True)
    assert outcome(one_stock([(10, 10, 11), None, (11, 12, 12)]))["why"] == "missing_session"


@pytest.mark.parametrize(("cell", "reason"), [(0, "newly_listed"), (1, "")])
def test_sixty_sessions_after_listing_an_entry_is_free(cell, reason):
    before = default_sessions()[default_sessions().get_loc(CALENDAR[0]) - 59]
    got = outcome(one_stock(PLAIN, list_date=f"{before:%Y-%m-%d}"), cell=cell)
    assert (got["reason"], got["can_buy"], got["can_sell"]) == (reason, not reason, not reason)
    assert got["naive"] == pytest.approx([0.2, 0.0][cell], abs=1e-12)


def test_an_unknown_listing_bars_nothing():
    prices, universe = one_stock(PLAIN)
    universe["list_date"] = pd.Series(pd.NaT, index=universe.index, dtype="datetime64[us]")
    assert outcome((prices, universe))["tradable"]
    # A calendar that begins after the listing cannot count from it.
    prices, universe = one_stock(PLAIN, list_date="2026-07-03")
    assert outcome((prices, universe))["reason"] == "newly_listed"
    assert outcome((prices, universe), sessions=CALENDAR)["tradable"]


def test_a_long_is_barred_at_the_upper_limit_and_a_short_at_the_lower_one():
    up = outcome(one_stock(PLAIN, limit_0=(10, 9)))
    down = outcome(one_stock(PLAIN, limit_0=(11, 10)))
    assert up[["can_buy", "can_sell", "reason"]].tolist() == [False, True, "limit_up"]
    assert down[["can_buy", "can_sell", "reason"]].tolist() == [True, False, "limit_down"]
    # A short's exit at the upper limit is not carried: 10 to 12.
    held = outcome(one_stock(PLAIN, limit_1=(12, 10)))
    assert (held["return"], held["note"]) == (pytest.approx(0.2, abs=1e-12), "")


def test_diagnostic_figures_know_no_filter():
    tables = one_stock(PLAIN, list_date="2026-07-03", limit_0=(11, 9), limit_1=(13.2, 12))
    day, code = CALENDAR[:2], pd.Index(["600001.SH"])
    for cutoff in ("09:15", "15:00"):
        options = {"cutoff": cutoff, "universe": tables[1], "horizons": (1, 2, 38), "entry": "diagnostic_close"}
        got = measure_outcomes(tables[0], day, code, **options)
        np.testing.assert_allclose(got.returns[1][:, 0], [12 / 11 - 1, 15 / 12 - 1], atol=1e-12)
        np.testing.assert_allclose(got.returns[2][:, 0], [15 / 11 - 1, 15 / 12 - 1], atol=1e-12)
        assert got.can_buy.all() and got.can_sell.all() and (got.entry_dates == day).all()
        assert np.isnan(got.returns[38]).all()  # a delisting counts nothing here
        assert [REASONS[k] for k in got.reasons[38][:, 0]] == ["missing_session"] * 2
    moved = diagnostic_returns(tables[0], day, code)
    np.testing.assert_allclose(moved["gap"][:, 0], [0, 12 / 11 - 1], atol=1e-12)
    np.testing.assert_allclose(moved["same_day"][:, 0], [0.1, 0], atol=1e-12)
    adjusted = diagnostic_returns(tables[0].assign(pre_close=np.nan), day[1:], code, adjusted=True)
    np.testing.assert_allclose(adjusted["gap"], [[12 / 11 - 1]], atol=1e-12)
    with pytest.raises(LookAheadError, match="diagnostic_open"):
        measure_outcomes(tables[0], day, code, cutoff="09:15", entry="diagnostic_open")


def rough_market(seed: int):
    """A random market with everything that a rule is about: limits, suspensions, holes, ends, young codes."""
    panel, prices, universe = random_market(70, 12, seed=seed, cutoff="14:50")
    draw = np.random.default_rng(seed)
    prices["amount"] *= draw.random(len(prices)) > 0.06
    prices["pre_close"] *= draw.choice([1, 0.5], len(prices), p=[0.95, 0.05])
    universe["is_suspended"] = draw.random(len(universe)) < 0.03
    universe["limit_up"], universe["limit_down"] = prices["pre_close"] * 1.02, prices["pre_close"] * 0.99
    days, codes = prices["date"].unique(), prices["code"].unique()
    universe.loc[universe["code"] == codes[0], "list_date"] = days[5] - pd.Timedelta(days=80)
    ends = prices["code"].map(
        {code: days[last] for code, last in zip(codes[1:], (30, 60, 49, 50, 20, 40), strict=False)}
    )
    hole = draw.random(len(prices)) < 0.02
    return panel, prices[~(hole | (prices["date"] > ends))], universe[draw.random(len(universe)) > 0.02]


def slow_outcome(bars, last, start, horizon, entry):
    """(return, naive, why not, note) of holding one stock, one session at a time, by the rules as they are written.

    ``bars`` has by session number (open, close, reference, suspended, limit_down).
    """
    side, final = 0 if entry == "next_open" else 1, max(bars, default=-1)
    if start + horizon > last:
        return None, None, "beyond_data", ""
    if start not in bars or bars[start][3]:
        return None, None, "missing_session", ""
    growth = bars[start][1] / bars[start][0] if side == 0 else 1.0
    naive = None
    hole = False
    for t in range(start + 1, final + 1):
        if t not in bars:
            hole, growth = True, np.nan
            continue
        open_, close, reference, suspended, low = bars[t]
        price = (open_, close)[side]
        if t >= start + horizon and not suspended:
            sold = growth * price / reference - 1
            naive = sold if t == start + horizon else naive
            if not price < low + 0.005:
                return (
                    (None, naive, "missing_session", "")
                    if hole
                    else (sold, naive, "", "carried" * (t > start + horizon))
                )
        growth *= 1 if suspended else close / reference
    if last - final >= 20:
        return (None, naive, "missing_session", "") if hole else (growth - 1, naive, "", "delisted")
    return None, naive, "beyond_data", ""


@pytest.mark.parametrize("entry", ["next_open", "next_close"])
def test_all_rules_together_agree_with_a_slow_loop(entry):
    panel, prices, universe = rough_market(5)
    panel = panel.sample(frac=0.6, random_state=2)
    shuffled = prices.sample(frac=1, random_state=0).astype({"code": "category"})
    got = forward_returns(
        shuffled, panel, universe=universe.sample(frac=1, random_state=1), entry=entry, horizons=(1, 4)
    )
    days = default_sessions()
    last = days.get_loc(prices["date"].max())
    known = {(t.date, t.code): t for t in universe.itertuples()}
    kinds: dict[str, int] = {}
    for code, rows in got.groupby("code"):
        bars = {}
        for t in prices[prices["code"] == code].itertuples():
            row = known.get((t.date, code))
            halted = t.amount == 0 or (row is not None and row.is_suspended)
            bars[days.get_loc(t.date)] = t.open, t.close, t.pre_close, halted, row.limit_down if row else np.nan
        for date, row in known.items():
            if date[1] == code and row.is_suspended:
                bars.setdefault(days.get_loc(date[0]), (np.nan, np.nan, np.nan, True, np.nan))
        for row in rows.itertuples():
            start = days.get_loc(row.date) + (entry == "next_open")
            for horizon in (1, 4):
                earned, naive, why, note = slow_outcome(bars, last, start, horizon, entry)
                naive = None if naive is not None and np.isnan(naive) else naive
                values = [getattr(row, f"{name}_{horizon}") for name in ("return", "naive", "reason", "note")]
                assert values[0] == pytest.approx(np.nan if earned is None else earned, abs=1e-11, nan_ok=True)
                assert values[1] == pytest.approx(np.nan if naive is None else naive, abs=1e-11, nan_ok=True)
                assert values[2] == row.reason if row.reason else values[2] == why
                assert values[3] == note
                kinds[why or note or "plain"] = kinds.get(why or note or "plain", 0) + 1
                parts = (1 + getattr(row, f"overnight_{horizon}")) * (1 + getattr(row, f"intraday_{horizon}")) - 1
                assert parts == pytest.approx(values[0], abs=1e-11, nan_ok=True)
    assert min(kinds.values()) > 10 and len(kinds) == 5
    assert {"newly_listed", "limit_up", "limit_down", "suspended", "not_in_universe"} <= set(got["reason"])


def test_grids_have_the_dates_and_codes_asked_for():
    panel, prices, universe = rough_market(6)
    dates, codes = pd.DatetimeIndex(panel["date"]), pd.Index(["600003.SH", "999999.SH", "600000.SH"])
    got = measure_outcomes(prices, dates[::-1], codes, cutoff="14:50", horizons=(4,), universe=universe)
    assert got.dates.is_monotonic_increasing and got.codes.equals(codes) and not got.overnight
    assert (got.reason[:-1, 1] == REASONS.index("not_in_universe")).all()
    part = measure_outcomes(prices, dates.unique()[[9, 3]], codes, cutoff="14:50", horizons=(4,), universe=universe)
    np.testing.assert_allclose(part.returns[4], got.returns[4][[3, 9]], rtol=1e-10)
    for name in ("reason", "can_buy", "can_sell"):
        np.testing.assert_array_equal(getattr(part, name), getattr(got, name)[[3, 9]])
    nothing = measure_outcomes(prices, dates[:0], codes[:0], cutoff="14:50", universe=universe)
    assert nothing.returns[5].shape == (0, 0)
    with pytest.raises(TableError, match=r"each \(date, code\) once"):
        measure_outcomes(pd.concat([prices, prices.iloc[3:4]]), dates, codes, cutoff="14:50")


def test_industries_weigh_the_grids_of_their_members():
    panel, prices, universe = rough_market(7)
    dates = pd.DatetimeIndex(panel["date"].unique())
    names = pd.Index(["行业2", "行业0", "行业9"])
    got = measure_industries(prices, universe, dates, names, cutoff="14:50", horizons=(4,))
    stocks = forward_returns(prices, panel, universe=universe, horizons=(4,)).merge(
        universe[["date", "code", "industry", "circ_mv"]], on=["date", "code"]
    )
    seen = 0
    for (day, name), cell in stocks.groupby(["date", "industry"]):
        if name not in names:
            continue
        at = got.dates.get_loc(day), names.get_loc(name)
        used, naive = cell[cell["reason_4"] == ""], cell[cell["naive_4"].notna()]
        for grid, part, column in ((got.returns, used, "return_4"), (got.naive, naive, "naive_4")):
            want = np.average(part[column], weights=part["circ_mv"]) if len(part) else np.nan
            assert grid[4][at] == pytest.approx(want, abs=1e-12, nan_ok=True)
        heaviest = cell.sort_values("circ_mv")["reason_4"].iloc[-1]
        assert REASONS[got.reasons[4][at]] == ("" if len(used) else heaviest)
        seen += len(used) > 0
    assert seen > 80
    assert (got.reason[:, 2] == REASONS.index("no_members")).all()
