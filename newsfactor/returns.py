"""Forward returns and tradability: the one place that reads the future.

Everything is laid out as calendar sessions by codes (`newsfactor.grids`), so that a horizon counts sessions of
the calendar and a session without a price is a gap, never a row to skip. The rules
of entries and exits are those of `newsfactor.tradability`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from newsfactor.errors import InvalidValueError
from newsfactor.grids import (
    Compounded,
    Market,
    check_request,
    compound,
    find_start,
    place_rows,
    read_market,
    spread_industries,
)
from newsfactor.schema import PANEL_BY_INDUSTRY, PANEL_BY_STOCK, PRICES, TIMEZONE, UNIVERSE, check
from newsfactor.sessions import CUTOFFS, check_sessions, entry_offset, session_numbers
from newsfactor.tradability import LOST, Exits, Rules, find_exits, judge_entries, keep_exits, read_rules
from newsfactor.tradability import NONE as NONE
from newsfactor.tradability import NOTES as NOTES
from newsfactor.tradability import REASONS as REASONS

DIAGNOSTIC_CLOSE = "diagnostic_close"


@dataclass(frozen=True)
class Outcomes:
    """What could be entered and what it earned, as grids of ``dates`` (T) x ``codes`` (N).

    Attributes
    ----------
    dates, codes : DatetimeIndex, Index
        The panel's sessions, sorted, and its codes (or industries).
    entry_dates : DatetimeIndex
        The session of the entry auction of each date; NaT past the calendar.
    can_buy, can_sell : array of bool
        Whether a long, a short could be entered.
    reason : array of int8
        Into `REASONS`: the first bar to either, so that ``""`` is where both could be entered.
    returns, naive : dict of int to array of float
        By horizon, simple (0.01 = 1%). ``returns`` carries exits and counts delistings, by the rules of
        `newsfactor.tradability`; it is given wherever there is an entry price, also where the entry is barred. ``naive`` leaves at
        the exit session's price, at a limit too, and is NaN where there is none.
    reasons : dict of int to array of int8
        By horizon into `REASONS`: the entry's reason, or else why ``returns`` is NaN.
    notes : dict of int to array of int8
        By horizon into `NOTES`: whether the exit was ``carried``, or the code ``delisted`` before it.
    overnight, intraday : dict of int to array of float
        By horizon what the nights and the sessions earned: (1 + overnight) (1 + intraday) = 1 + returns; NaN
        also if an open on the way is missing. Empty unless asked for.
    """

    dates: pd.DatetimeIndex
    codes: pd.Index
    entry_dates: pd.DatetimeIndex
    can_buy: np.ndarray
    can_sell: np.ndarray
    reason: np.ndarray
    returns: Mapping[int, np.ndarray]
    naive: Mapping[int, np.ndarray]
    reasons: Mapping[int, np.ndarray]
    notes: Mapping[int, np.ndarray]
    overnight: Mapping[int, np.ndarray] = field(default_factory=dict)
    intraday: Mapping[int, np.ndarray] = field(default_factory=dict)


def measure_outcomes(
    prices: pd.DataFrame,
    dates: pd.Series | pd.DatetimeIndex,
    codes: pd.Series | pd.Index,
    *,
    cutoff: str,
    horizons: Sequence[int] = (1, 5, 10, 20),
    entry: str = "next_open",
    universe: pd.DataFrame | None = None,
    sessions: pd.DatetimeIndex | None = None,
    adjusted: bool = False,
    parts: bool = False,
) -> Outcomes:
    """What every code earned from every date, from the first auction that a cell of that cutoff could reach.

    Open to open over h sessions from the entry session e is the product over t = e..e+h-1 of
    ``close[t]/open[t] * open[t+1]/pre_close[t+1]``; close to close is the product over t = e+1..e+h of
    ``close[t]/pre_close[t]``. What else may happen on the way is told in `newsfactor.tradability`.

    Parameters
    ----------
    prices : PRICES
        In yuan, raw, in any order; codes may be categories. The last date of the whole table is where the
        data end: an exit session after it is ``beyond_data``.
    dates, codes : sequences
        The panel's; repeated ones count once.
    cutoff : str
        When the cells close (`newsfactor.sessions.CUTOFFS`).
    horizons : sequence of int
        In calendar sessions, each at least 1: no exit on the entry day (T+1).
    entry : {"next_open", "next_close", "diagnostic_close"}
        The first such auction whose order deadline is not before the cutoff. ``diagnostic_close`` is the close
        of the cell's own date, whatever the cutoff: it cannot be traded, and nothing but a missing price bars it.
    universe : UNIVERSE, optional
        Without it only missing prices and an ``amount`` of 0 bar an entry, and exits know no limit. Limits are
        those of the auction's session. A ``list_date`` that is unknown or before the calendar bars nothing.
    sessions : DatetimeIndex, optional
        The trading days, if not those of exchange_calendars' XSHG.
    adjusted : bool
        The prices are adjusted already: the last close stands for ``pre_close``. Limits in the universe must
        then be on the same scale.
    parts : bool
        Also what nights and sessions earned, at twice the cost.

    Returns
    -------
    Outcomes
        Grids of the sorted dates and the codes as given; NaN by the reasons.

    Raises
    ------
    TableError, InvalidValueError
        If a table or a horizon is not valid.
    CalendarError
        If a date of the prices or one asked for is not a session.
    LookAheadError
        If ``entry`` names no auction.

    Examples
    --------
    >>> days = pd.DatetimeIndex(["2026-07-06", "2026-07-07"])
    >>> prices = pd.DataFrame({"date": days, "code": "600001.SH", "open": [10.0, 11.0], "close": [10.5, 11.0]})
    >>> prices = prices.assign(high=11.0, low=10.0, pre_close=[10.0, 10.5], amount=1e8, circ_mv=1e9)
    >>> found = measure_outcomes(prices, days[:1], pd.Index(["600001.SH"]), cutoff="09:15", horizons=(1,))
    >>> found.returns[1].round(3).tolist()
    [[0.1]]
    """
    wanted, days = check_horizons(horizons), check_sessions(sessions)
    asked, names, last = check_request(prices, dates, codes, sessions=days)
    free = entry == DIAGNOSTIC_CLOSE
    start = session_numbers(asked, sessions=days) + (0 if free else entry_offset(cutoff, entry))
    first = max(int(start.min(initial=last)), 0)
    window = days[first : max(last, first) + 1]
    rules, halted = (None, None) if universe is None else read_rules(universe, window, names, days)
    market = read_market(prices, place_rows(prices, PRICES, window, names), halted=halted, adjusted=adjusted)

    price = market.open if entry == "next_open" else market.close
    at_close = compound(market.close / market.reference, market.suspended)
    enter = Compounded(at_close.value * (price / market.close), at_close.unknown)
    exits = keep_exits(price) if free else find_exits(market, price, rules)
    leave = exits.carry(enter, at_close.value)
    span = _Span(start - first, last - first, len(names))
    can_buy, can_sell, reason = span.judge(market, price, None if free else rules, first)
    returns = {horizon: span.earned(enter, leave, horizon) for horizon in wanted}
    naive = {horizon: span.earned(enter, enter, horizon) for horizon in wanted}
    told = {horizon: span.explain(returns[horizon], reason, exits.note, horizon) for horizon in wanted}
    overnight, intraday = _split(market, exits, span, returns) if parts else ({}, {})
    return Outcomes(
        asked, names, _entry_dates(start, days), can_buy, can_sell, reason, returns, naive,
        {horizon: reasons for horizon, (reasons, _) in told.items()},
        {horizon: notes for horizon, (_, notes) in told.items()}, overnight, intraday,
    )  # fmt: skip


def diagnostic_returns(
    prices: pd.DataFrame,
    dates: pd.Series | pd.DatetimeIndex,
    codes: pd.Series | pd.Index,
    *,
    universe: pd.DataFrame | None = None,
    sessions: pd.DatetimeIndex | None = None,
    adjusted: bool = False,
) -> dict[str, np.ndarray]:
    """What happened on each date itself: for diagnosis only, since news of that day could not be traded on it.

    Parameters
    ----------
    prices, dates, codes, universe, sessions, adjusted
        As in `measure_outcomes`; of the universe only ``is_suspended`` is read.

    Returns
    -------
    dict of str to array of float
        Grids of the sorted dates x the codes: ``gap``, from the close before (as the exchange's reference price)
        to the open, and ``same_day``, from the open to the close; NaN without a price.

    Raises
    ------
    TableError, CalendarError
        As `measure_outcomes`.
    """
    days = check_sessions(sessions)
    asked, names, _ = check_request(prices, dates, codes, sessions=days)
    number = session_numbers(asked, sessions=days)
    first = find_start(prices, days, int(number.min(initial=len(days))), adjusted=adjusted)
    window = days[first : int(number.max(initial=0)) + 1]
    halted = None
    if universe is not None:
        halted = place_rows(universe, UNIVERSE, window, names).mark(universe["is_suspended"])
    market = read_market(prices, place_rows(prices, PRICES, window, names), halted=halted, adjusted=adjusted)
    rows = number - first
    return {"gap": (market.open / market.reference)[rows] - 1, "same_day": (market.close / market.open)[rows] - 1}


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

    The formulas are those of `measure_outcomes`, the rules those of `newsfactor.tradability`.

    Parameters
    ----------
    prices : PRICES
        In yuan, raw. The last date of the whole table is where the data end.
    panel : PANEL by stock
        All cells of one cutoff, which is read from ``known_at`` minus ``date``.
    horizons, entry, universe, sessions, adjusted
        As in `measure_outcomes`.

    Returns
    -------
    DataFrame
        With the panel's index and order: ``date``, ``code``, ``entry_date`` (NaT past the calendar), ``can_buy``
        and ``can_sell`` (a long, a short could be entered), ``tradable`` (both), ``reason`` (the first bar to
        either); and for each h ``return_h`` (simple, 0.01 = 1%), which carries exits that cannot be sold;
        ``naive_h``, which does not; ``overnight_h`` and ``intraday_h``, the parts of ``return_h``; ``reason_h``,
        the entry's reason or else why the return is NaN; ``note_h``: ``carried``, ``delisted`` or ``""``. Reasons
        are one of `REASONS`, ``""`` if there is none. Where an entry is barred but has a price the return is
        given all the same. Empty in, empty out.

    Raises
    ------
    TableError, InvalidValueError
        If a table or a horizon is not valid, or the panel's cells do not close at one known cutoff.
    CalendarError
        If a date of the panel or of the prices is not a session.
    LookAheadError
        If ``entry`` names no auction.
    """
    check(panel, PANEL_BY_STOCK)
    cutoff = _read_cutoff(panel, sessions)
    outcomes = measure_outcomes(
        prices, panel["date"], panel["code"], cutoff=cutoff,
        horizons=horizons, entry=entry, universe=universe, sessions=sessions, adjusted=adjusted, parts=True,
    )  # fmt: skip
    return _gather(outcomes, panel, "code")


def measure_industries(
    prices: pd.DataFrame,
    universe: pd.DataFrame,
    dates: pd.Series | pd.DatetimeIndex,
    industries: pd.Series | pd.Index,
    *,
    cutoff: str,
    horizons: Sequence[int] = (1, 5, 10, 20),
    entry: str = "next_open",
    sessions: pd.DatetimeIndex | None = None,
    adjusted: bool = False,
) -> Outcomes:
    """What every industry earned from every date: the weighted mean of its members' outcomes.

    Members and weights are those of the universe on the cell's date, so that both were known: ``industry``
    and ``circ_mv`` (of the previous close). If no member has a ``circ_mv`` that day all weigh the same;
    otherwise members without one are left out. Members that could not be entered, or whose return is
    NaN, are left out and the other weights scaled up: a member whose data end later is so excluded with hindsight.

    Parameters
    ----------
    prices, universe : PRICES, UNIVERSE
    dates, industries : sequences
        The panel's; repeated ones count once.
    cutoff, horizons, entry, sessions, adjusted
        As in `measure_outcomes`.

    Returns
    -------
    Outcomes
        Its ``codes`` are the industries. Those without a single usable member have NaN and the reason of their
        heaviest, ``no_members`` if they have none. ``naive`` is the mean of all members that have one. There are
        no notes and no parts.

    Raises
    ------
    NewsfactorError
        As `measure_outcomes`.
    """
    check(universe.iloc[:1], UNIVERSE)
    names, stocks = pd.Index(industries).unique(), pd.Index(universe["code"].unique())
    outcomes = measure_outcomes(
        prices, dates, stocks, cutoff=cutoff, horizons=horizons, entry=entry, universe=universe, sessions=sessions,
        adjusted=adjusted,
    )  # fmt: skip
    groups = _group_members(universe, outcomes.dates, stocks, names)
    reason = groups.explain(outcomes.reason)
    returns = {
        h: groups.mean(np.where(outcomes.reasons[h] == NONE, value, np.nan)) for h, value in outcomes.returns.items()
    }
    return Outcomes(
        outcomes.dates, names, outcomes.entry_dates, reason == NONE, reason == NONE, reason, returns,
        {h: groups.mean(value) for h, value in outcomes.naive.items()},
        {h: groups.explain(value) for h, value in outcomes.reasons.items()},
        {h: np.zeros(reason.shape, dtype=np.int8) for h in returns},
    )  # fmt: skip


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

    The rule is that of `measure_industries`.

    Parameters
    ----------
    prices, universe : PRICES, UNIVERSE
    panel : PANEL by industry
    horizons, entry, sessions, adjusted
        As in `forward_returns`.

    Returns
    -------
    DataFrame
        As from `forward_returns`, with ``industry`` in place of ``code`` and without the parts.

    Raises
    ------
    NewsfactorError
        As `forward_returns`.
    """
    check(panel, PANEL_BY_INDUSTRY)
    cutoff = _read_cutoff(panel, sessions)
    outcomes = measure_industries(
        prices, universe, panel["date"], panel["industry"], cutoff=cutoff,
        horizons=horizons, entry=entry, sessions=sessions, adjusted=adjusted,
    )  # fmt: skip
    return _gather(outcomes, panel, "industry")


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


@dataclass(frozen=True)
class _Span:
    """The rows of the window at which the dates are entered, ascending, and its last row with data."""

    start: np.ndarray
    last: int
    n_codes: int

    def rows(self, horizon: int) -> tuple[slice | np.ndarray, slice | np.ndarray]:
        """The rows of entry and of exit of those dates whose exit the data reach."""
        start = self.start[: int(np.searchsorted(self.start, self.last - horizon, side="right"))]
        if len(start) and start[-1] - start[0] == len(start) - 1:  # a slice is not copied
            low, high = int(start[0]), int(start[-1]) + 1
            return slice(low, high), slice(low + horizon, high + horizon)
        return start, start + horizon

    def spread(self, part: np.ndarray, fill: float) -> np.ndarray:
        """The part as the first dates of all of them."""
        grid = np.full((len(self.start), self.n_codes), fill, dtype=part.dtype)
        grid[: len(part)] = part
        return grid

    def judge(
        self, market: Market, price: np.ndarray, rules: Rules | None, first: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Whether each date's entry is free for longs and for shorts, and the reason if not; past the data it is not."""
        rows = self.rows(0)[0]
        buy, sell, reason = judge_entries(market, price, rules, rows, np.arange(first, first + len(price))[rows])
        return self.spread(buy, False), self.spread(sell, False), self.spread(reason, REASONS.index("beyond_data"))

    def earned(self, enter: Compounded, leave: Compounded, horizon: int) -> np.ndarray:
        """Simple returns of every date, NaN if a step on the way is not known."""
        entries, exits = self.rows(horizon)
        part = leave.value[exits] / enter.value[entries]
        part -= 1
        part[leave.unknown[exits] != enter.unknown[entries]] = np.nan
        return self.spread(part, np.nan)

    def explain(
        self, returns: np.ndarray, reason: np.ndarray, note: np.ndarray, horizon: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Why the returns are NaN or what was done for them: the reasons and the notes."""
        at_exit = self.spread(note[self.rows(horizon)[1]], LOST)
        lost = np.isnan(returns)
        late = np.full(reason.shape, NONE, dtype=np.int8)
        late[lost] = REASONS.index("missing_session")
        late[at_exit == LOST] = REASONS.index("beyond_data")
        at_exit[lost] = 0
        return np.where(reason == NONE, late, reason), at_exit


def _split(
    market: Market, exits: Exits, span: _Span, returns: Mapping[int, np.ndarray]
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """What the nights earned, and the rest."""
    night = compound(market.open / market.reference, market.suspended)
    later = exits.carry(night, night.value)
    overnight, intraday = {}, {}
    for horizon, earned in returns.items():
        overnight[horizon] = np.where(np.isnan(earned), np.nan, span.earned(night, later, horizon))
        intraday[horizon] = (1 + earned) / (1 + overnight[horizon]) - 1
    return overnight, intraday


def _read_cutoff(panel: pd.DataFrame, sessions: pd.DatetimeIndex | None) -> str:
    """The cutoff of a panel whose dates are sessions; an empty one has the first."""
    session_numbers(pd.DatetimeIndex(panel["date"].unique()), sessions=sessions, parameter="panel['date']")
    return panel_cutoff(panel) if len(panel) else CUTOFFS[0]


def _entry_dates(start: np.ndarray, days: pd.DatetimeIndex) -> pd.DatetimeIndex:
    entered = days.to_numpy()[np.minimum(start, len(days) - 1)]
    return pd.DatetimeIndex(np.where(start < len(days), entered, np.datetime64("NaT"))).as_unit("us")


def _gather(outcomes: Outcomes, panel: pd.DataFrame, name: str) -> pd.DataFrame:
    """The grids at the rows of a panel."""
    row = outcomes.dates.get_indexer(pd.DatetimeIndex(panel["date"]).as_unit("us"))
    at = row, outcomes.codes.get_indexer(pd.Index(panel[name]))
    result = panel[["date", name]].copy()
    result["entry_date"] = outcomes.entry_dates.to_numpy()[row]
    result["can_buy"], result["can_sell"] = outcomes.can_buy[at], outcomes.can_sell[at]
    result["tradable"] = result["can_buy"] & result["can_sell"]
    result["reason"] = _named(outcomes.reason[at], REASONS)
    for horizon in outcomes.returns:
        result[f"return_{horizon}"] = outcomes.returns[horizon][at]
        result[f"naive_{horizon}"] = outcomes.naive[horizon][at]
        if outcomes.overnight:
            result[f"overnight_{horizon}"] = outcomes.overnight[horizon][at]
            result[f"intraday_{horizon}"] = outcomes.intraday[horizon][at]
        result[f"reason_{horizon}"] = _named(outcomes.reasons[horizon][at], REASONS)
        result[f"note_{horizon}"] = _named(outcomes.notes[horizon][at], NOTES)
    return result


def _named(numbers: np.ndarray, names: Sequence[str]) -> pd.Categorical[str]:
    # Categories, because columns of strings over a market's history would cost gigabytes.
    return pd.Categorical.from_codes(numbers, categories=pd.Index(names))


@dataclass(frozen=True)
class _Groups:
    """The members of each cell of a panel by industry: flat ``cell`` of each flat ``stock``, with its weight."""

    shape: tuple[int, int]
    stock: np.ndarray
    cell: np.ndarray
    weight: np.ndarray

    def mean(self, values: np.ndarray) -> np.ndarray:
        """The weighted means of the members' values that are known."""
        value = values.reshape(-1)[self.stock]
        weight, value = np.where(np.isnan(value), 0.0, self.weight), np.nan_to_num(value)
        size = self.shape[0] * self.shape[1]
        total = np.bincount(self.cell, weight, minlength=size)
        earned = np.bincount(self.cell, weight * value, minlength=size)
        means: np.ndarray = np.divide(earned, total, out=np.full(size, np.nan), where=total > 0)
        return means.reshape(self.shape)

    def explain(self, reasons: np.ndarray) -> np.ndarray:
        """No reason if any member is usable, else the heaviest member's; ``no_members`` if there is none."""
        reason = reasons.reshape(-1)[self.stock]
        usable = np.zeros(self.shape[0] * self.shape[1], dtype=bool)
        usable[self.cell[reason == NONE]] = True
        result = np.where(usable, NONE, REASONS.index("no_members")).astype(np.int8)
        rest = np.flatnonzero(~usable[self.cell])
        # Written in ascending order of weight: the heaviest stays, of equal ones the first.
        rest = rest[::-1][np.argsort(self.weight[rest[::-1]], kind="stable")]
        result[self.cell[rest]] = reason[rest]
        return result.reshape(self.shape)


def _group_members(universe: pd.DataFrame, dates: pd.DatetimeIndex, stocks: pd.Index, industries: pd.Index) -> _Groups:
    places = place_rows(universe, UNIVERSE, dates, stocks)
    number, names = spread_industries(universe, places)
    own = np.append(industries.get_indexer(names), -1)[number]
    stock = np.flatnonzero(own >= 0)
    cell = (np.arange(len(dates))[:, None] * len(industries) + own).reshape(-1)[stock]
    value = places.spread(universe["circ_mv"]).reshape(-1)[stock]
    value = np.where(value > 0, value, np.nan)
    known = np.zeros(len(dates) * len(industries), dtype=bool)
    known[cell[~np.isnan(value)]] = True
    weight = np.where(known[cell], value, 1.0)
    kept = ~np.isnan(weight)
    return _Groups((len(dates), len(industries)), stock[kept], cell[kept], weight[kept])
