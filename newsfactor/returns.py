"""Forward returns and tradability: the one place that reads the future.

Everything is laid out as calendar sessions by codes, so that a horizon counts sessions of the calendar
and a session without a price is a gap, never a row to skip. Returns are compounded from ratios within
one session (``close/open``) and to the exchange's reference price (``open/pre_close``, ``close/pre_close``),
so that an ex-date needs no adjustment factor.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from newsfactor.errors import InvalidValueError
from newsfactor.schema import DATE_TYPE, PANEL_BY_INDUSTRY, PANEL_BY_STOCK, PRICES, TIMEZONE, UNIVERSE, check
from newsfactor.sessions import CUTOFFS, check_price_dates, check_sessions, entry_offset, session_numbers

# In order of precedence: a row has the first reason that applies.
REASONS = (
    "beyond_data", "no_members", "not_in_universe", "suspended", "no_price", "limit_up", "limit_down",
    "missing_session", "",
)  # fmt: skip
NONE = REASONS.index("")
HALF_TICK = 0.005


def forward_returns(
    prices: pd.DataFrame,
    panel: pd.DataFrame,
    *,
    horizons: Sequence[int] = (1, 5, 10, 20),
    entry: str = "next_open",
    universe: pd.DataFrame | None = None,
    sessions: pd.DatetimeIndex | None = None,
    adjusted: bool = False,
) -> pd.DataFrame:
    """What each cell of a panel by stock earned, from the first auction that its news could reach.

    Open to open over h sessions from the entry session e is the product over t = e..e+h-1 of
    ``close[t]/open[t] * open[t+1]/pre_close[t+1]``; close to close is the product over t = e+1..e+h of
    ``close[t]/pre_close[t]``. A session is missing if its row or price is, if ``amount`` is 0 or if the
    universe says ``is_suspended``. Only the entry is tested for tradability: an exit at a price limit
    counts as done.

    Parameters
    ----------
    prices : PRICES
        In yuan, raw. The last date of the whole table is where the data end.
    panel : PANEL by stock
        All cells of one cutoff, which is read from ``known_at`` minus ``date``.
    horizons : sequence of int
        In calendar sessions, each at least 1: no exit on the entry day (T+1).
    entry : {"next_open", "next_close"}
        The first such auction whose order deadline is not before the cutoff.
    universe : UNIVERSE, optional
        As of the entry session. Without it only missing prices and an ``amount`` of 0 bar an entry.
    sessions : DatetimeIndex, optional
        The trading days, if not those of exchange_calendars' XSHG.
    adjusted : bool
        The prices are adjusted already: the previous session's close stands for ``pre_close``. Limits
        in the universe must then be on the same scale.

    Returns
    -------
    DataFrame
        With the panel's index and order: ``date``, ``code``, ``entry_date`` (NaT past the calendar),
        ``tradable`` and ``reason`` of the entry, and for each h ``return_h`` (simple, 0.01 = 1%) and
        ``reason_h``, the entry's reason or else why the return is NaN. Reasons are one of `REASONS`,
        ``""`` if there is none. At a price limit the return is given and ``tradable`` is False.
        Empty in, empty out.

    Raises
    ------
    TableError, InvalidValueError
        If a table or a horizon is not valid, or the panel's cells do not close at one known cutoff.
    CalendarError
        If a date of the panel or of the prices is not a session.
    LookAheadError
        If ``entry`` names no auction.
    """
    wanted = check_horizons(horizons)
    check(prices, PRICES)
    check(panel, PANEL_BY_STOCK)
    days = check_sessions(sessions)
    check_price_dates(prices["date"], sessions=days)
    start = _entry_numbers(panel, entry, days)
    last = int(session_numbers(pd.DatetimeIndex([prices["date"].max()]), sessions=days)[0]) if len(prices) else -1
    first = max(int(start.min(initial=last)), 0)
    window = days[first : max(min(last, int(start.max(initial=0)) + max(wanted)), first) + 1]
    codes = pd.Index(panel["code"].unique())
    grids = _grids(prices, universe, window, codes, adjusted)
    row, column = np.where(start <= last, start - first, 0), codes.get_indexer(pd.Index(panel["code"]))

    why = _entry_reasons(grids, entry.removeprefix("next_"), universe is not None)[row, column]
    why[start > last] = REASONS.index("beyond_data")
    result = _entry_columns(panel, "code", why, start, days)
    growth, gaps = _cumulate(_log_steps(grids, entry))
    priced = ~np.isnan(grids[entry.removeprefix("next_")])[row, column]
    for horizon in wanted:
        ends = start + horizon > last
        leave = np.where(ends, row, row + horizon)
        gap = gaps[leave, column] > gaps[row, column]
        late = np.select([ends, gap], [REASONS.index("beyond_data"), REASONS.index("missing_session")], NONE)
        simple = np.expm1(growth[leave, column] - growth[row, column])
        result[f"return_{horizon}"] = np.where(priced & (late == NONE), simple, np.nan)
        result[f"reason_{horizon}"] = _named(np.where(why == NONE, late, why))
    return result


def industry_returns(
    prices: pd.DataFrame,
    universe: pd.DataFrame,
    panel: pd.DataFrame,
    *,
    horizons: Sequence[int] = (1, 5, 10, 20),
    entry: str = "next_open",
    sessions: pd.DatetimeIndex | None = None,
    adjusted: bool = False,
) -> pd.DataFrame:
    """What each cell of a panel by industry earned: the weighted mean of its members' forward returns.

    Members and weights are those of the universe on the cell's date, so that both were known: ``industry``
    and ``circ_mv`` (of the previous close). If no member has a ``circ_mv`` that day all weigh the same;
    otherwise members without one are left out. Members that could not be entered, or whose return is
    NaN, are left out and the other weights scaled up: a member that is suspended later is so excluded
    with hindsight.

    Parameters
    ----------
    prices, universe : PRICES, UNIVERSE
    panel : PANEL by industry
    horizons, entry, sessions, adjusted
        As in `forward_returns`.

    Returns
    -------
    DataFrame
        As from `forward_returns`, with ``industry`` in place of ``code``. An industry without a single
        usable member has NaN and the reason of its heaviest member, ``no_members`` if it has none.

    Raises
    ------
    NewsfactorError
        As `forward_returns`.
    """
    check(panel, PANEL_BY_INDUSTRY)
    check(universe, UNIVERSE)
    days = check_sessions(sessions)
    start = _entry_numbers(panel, entry, days)
    members = _members(universe, panel)
    stocks = forward_returns(
        prices, members, horizons=horizons, entry=entry, universe=universe, sessions=days, adjusted=adjusted,
    )  # fmt: skip
    result = _entry_columns(panel, "industry", np.full(len(panel), NONE), start, days)
    result["reason"] = _reason_of_heaviest(stocks["reason"], members, panel)
    result["tradable"] = result["reason"] == ""
    for horizon in check_horizons(horizons):
        reason = stocks[f"reason_{horizon}"]
        weight = members["weight"].where(reason == "")
        terms = pd.DataFrame({"earned": weight * stocks[f"return_{horizon}"], "weight": weight})
        sums = terms.groupby(members["cell"]).sum(min_count=1).reindex(range(len(panel)))
        result[f"return_{horizon}"] = (sums["earned"] / sums["weight"]).to_numpy()
        result[f"reason_{horizon}"] = _reason_of_heaviest(reason, members, panel)
    return result


def check_horizons(horizons: Sequence[int]) -> tuple[int, ...]:
    """The horizons as integers; each must be a whole number of sessions, at least 1 (T+1), and be given once."""
    values = tuple(horizons)
    whole = all(isinstance(value, int | np.integer) and value >= 1 for value in values)
    if not values or not whole or len(set(values)) < len(values):
        raise InvalidValueError("horizons", values, "must be distinct whole numbers of sessions, each at least 1 (T+1)")
    return tuple(int(value) for value in values)


def panel_cutoff(panel: pd.DataFrame) -> str:
    """The one time of day at which all cells of a panel close: ``known_at`` minus ``date``, in Asia/Shanghai."""
    clock = panel["known_at"].dt.tz_convert(TIMEZONE).dt.tz_localize(None) - panel["date"]
    names = {pd.Timedelta(f"{cutoff}:00"): cutoff for cutoff in CUTOFFS}
    remedy = "a panel holds the cells of one cutoff; evaluate others apart"
    strange = ~clock.isin(list(names))
    if strange.any():
        position = int(strange.to_numpy().argmax())
        requirement = f"must be the date plus one of {', '.join(CUTOFFS)}"
        raise InvalidValueError("panel['known_at']", str(clock.iloc[position]), requirement, f"row {position}", remedy)
    found = [names[value] for value in clock.unique()]
    if len(found) != 1:
        raise InvalidValueError("panel['known_at']", found, "must have one cutoff", remedy=remedy)
    return found[0]


def _entry_numbers(panel: pd.DataFrame, entry: str, days: pd.DatetimeIndex) -> np.ndarray:
    offset = entry_offset(panel_cutoff(panel) if len(panel) else CUTOFFS[0], entry)
    return session_numbers(panel["date"], sessions=days, parameter="panel['date']") + offset


def _entry_columns(
    panel: pd.DataFrame, name: str, why: np.ndarray, start: np.ndarray, days: pd.DatetimeIndex
) -> pd.DataFrame:
    result = panel[["date", name]].copy()
    entered = days.to_numpy()[np.minimum(start, len(days) - 1)]
    result["entry_date"] = np.where(start < len(days), entered, np.datetime64("NaT")).astype(DATE_TYPE)
    result["tradable"] = why == NONE
    result["reason"] = _named(why)
    return result


def _named(numbers: np.ndarray) -> pd.Categorical[str]:
    # Categories, because five columns of strings over a market's history would cost gigabytes.
    return pd.Categorical.from_codes(numbers.astype(np.int8), categories=pd.Index(REASONS))


def _spread(
    frame: pd.DataFrame, names: Sequence[str], days: pd.DatetimeIndex, codes: pd.Index
) -> dict[str, np.ndarray]:
    """Columns of a long table as arrays (days x codes), NaN where there is no row."""
    row = days.get_indexer(pd.DatetimeIndex(frame["date"]).as_unit("us"))
    column = codes.get_indexer(pd.Index(frame["code"]))
    inside = (row >= 0) & (column >= 0)
    grids = {}
    for name in names:
        grids[name] = np.full((len(days), len(codes)), np.nan)
        grids[name][row[inside], column[inside]] = frame[name].to_numpy(dtype=float, na_value=np.nan)[inside]
    return grids


def _grids(
    prices: pd.DataFrame, universe: pd.DataFrame | None, days: pd.DatetimeIndex, codes: pd.Index, adjusted: bool
) -> dict[str, np.ndarray]:
    """Prices that were traded at (else NaN), ``suspended``, and the universe's limits."""
    grids = _spread(prices, ("open", "close", "pre_close", "amount"), days, codes)
    suspended = grids.pop("amount") == 0
    if universe is not None:
        check(universe, UNIVERSE)
        known = _spread(universe, ("is_suspended", "limit_up", "limit_down"), days, codes)
        suspended |= known["is_suspended"] == 1
        grids |= known
    for name in ("open", "close", "pre_close"):
        grids[name][suspended | ~(grids[name] > 0)] = np.nan
    if adjusted:
        grids["pre_close"] = np.vstack([np.full((1, len(codes)), np.nan), grids["close"][:-1]])
    return grids | {"suspended": suspended}


def _entry_reasons(grids: dict[str, np.ndarray], side: str, has_universe: bool) -> np.ndarray:
    """The number of the reason that bars an entry on each session, by code."""
    price = grids[side]
    bars = {"suspended": grids["suspended"], "no_price": np.isnan(price)}
    if has_universe:
        bars = {"not_in_universe": np.isnan(grids["is_suspended"])} | bars
        bars["limit_up"] = price > grids["limit_up"] - HALF_TICK
        bars["limit_down"] = price < grids["limit_down"] + HALF_TICK
    return np.select(list(bars.values()), [REASONS.index(name) for name in bars], NONE)


def _log_steps(grids: dict[str, np.ndarray], entry: str) -> np.ndarray:
    """The log return from the session before to each session, between prices of the entry's kind."""
    if entry == "next_close":
        close: np.ndarray = np.log(grids["close"] / grids["pre_close"])
        return close
    intraday: np.ndarray = np.log(grids["close"] / grids["open"])
    overnight: np.ndarray = np.log(grids["open"] / grids["pre_close"])
    overnight[1:] += intraday[:-1]
    return overnight


def _cumulate(steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Running sums of the steps, and running counts of those that are missing."""
    missing = np.isnan(steps)
    return np.cumsum(np.where(missing, 0.0, steps), axis=0), np.cumsum(missing, axis=0)


def _members(universe: pd.DataFrame, panel: pd.DataFrame) -> pd.DataFrame:
    """The stocks of each industry cell as a panel by stock, with ``cell`` (position) and ``weight``."""
    cells = panel[["date", "industry", "known_at"]].assign(cell=np.arange(len(panel)))
    members = universe[["date", "code", "industry", "circ_mv"]].merge(cells, on=["date", "industry"])
    value = members["circ_mv"].where(members["circ_mv"] > 0)
    unknown = value.groupby(members["cell"]).transform("count") == 0
    members = members.assign(weight=value.mask(unknown, 1.0), observed=1.0, n_news=0)
    return members[members["weight"].notna()].reset_index(drop=True)


def _reason_of_heaviest(reason: pd.Series, members: pd.DataFrame, panel: pd.DataFrame) -> pd.Categorical[str]:
    """No reason if any member is usable, else the heaviest member's; ``no_members`` if there is none."""
    ranked = pd.DataFrame({"cell": members["cell"], "lost": reason != "", "weight": -members["weight"]})
    ranked = ranked.assign(number=reason.cat.codes).sort_values(["lost", "weight"], kind="stable")
    number = ranked.groupby("cell")["number"].first().reindex(range(len(panel)), fill_value=REASONS.index("no_members"))
    return _named(number.to_numpy())
