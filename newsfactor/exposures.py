"""What was known of each stock when a cell closed: past returns, turnover, capitalisation, industry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from newsfactor.grids import find_start, place_rows, read_market, spread_industries
from newsfactor.schema import PRICES, UNIVERSE, check
from newsfactor.sessions import check_cutoff, check_price_dates, check_sessions, session_numbers

LENGTHS = (1, 5, 20)
LOOKBACK = max(LENGTHS)


@dataclass(frozen=True)
class Exposures:
    """What was known at the cutoff, as grids of ``dates`` (T) x ``codes`` (N).

    Attributes
    ----------
    return_1, return_5, return_20 : array of float
        Simple, close to close over so many sessions, to the last close before the cutoff.
    turnover : array of float
        The mean of ``amount / circ_mv`` over the last 20 of those sessions.
    log_circ_mv : array of float
        Natural logarithm of the universe's ``circ_mv`` on the date, which is that of the close before.
    industry : array of int16
        Into ``industries`` by the universe on the date, -1 where unknown.
    """

    dates: pd.DatetimeIndex
    codes: pd.Index
    return_1: np.ndarray
    return_5: np.ndarray
    return_20: np.ndarray
    turnover: np.ndarray
    log_circ_mv: np.ndarray
    industry: np.ndarray
    industries: pd.Index


def measure_exposures(
    prices: pd.DataFrame,
    universe: pd.DataFrame,
    dates: pd.Series | pd.DatetimeIndex,
    codes: pd.Series | pd.Index,
    *,
    cutoff: str,
    sessions: pd.DatetimeIndex | None = None,
    adjusted: bool = False,
) -> Exposures:
    """What could be known of every code at the cutoff of every date.

    The last close that counts is the previous session's, for a cutoff of 15:00 the date's own. A suspended
    session's return and turnover are 0. A session without a price is left out, its step lost.

    Parameters
    ----------
    prices, universe : PRICES, UNIVERSE
        ``amount`` and ``circ_mv`` in the same unit. Rows after a date never change its exposures.
    dates, codes : sequences
        The panel's; repeated ones count once.
    cutoff, sessions, adjusted
        As in `measure_outcomes`.

    Returns
    -------
    Exposures
        NaN where fewer than half of the window's sessions are known, and where ``circ_mv`` is not positive.

    Raises
    ------
    TableError, InvalidValueError
        If a table or the cutoff is not valid.
    CalendarError
        If a date of the prices or one asked for is not a session.
    """
    days = check_sessions(sessions)
    check(prices.iloc[:1], PRICES)
    check_price_dates(prices["date"], sessions=days)
    asked, names = pd.DatetimeIndex(dates).as_unit("us").unique().sort_values(), pd.Index(codes).unique()
    own = session_numbers(asked, sessions=days, parameter="dates")
    number = own - (0 if check_cutoff(cutoff) == "15:00" else 1)
    first = find_start(prices, days, int(number.min(initial=0)) - LOOKBACK, adjusted=adjusted)
    window, span = (days[first : int(last.max(initial=0)) + 1] for last in (number, own))
    known, places = place_rows(universe, UNIVERSE, span, names), place_rows(prices, PRICES, window, names)
    halted = known.mark(universe["is_suspended"])[: len(window)]
    market = read_market(prices, places, halted=halted, adjusted=adjusted)

    steps = _accumulate(np.where(market.suspended, 0.0, np.log(market.close / market.reference)))
    day, week, month = (np.expm1(_sum_trailing(steps, number - first, length)[0]) for length in LENGTHS)
    turnover = places.spread(prices["amount"]) / places.spread(prices["circ_mv"])
    turned = _accumulate(np.where(market.suspended, 0.0, turnover))
    total, count = _sum_trailing(turned, number - first, LOOKBACK)
    value = known.spread(universe["circ_mv"])[own - first]
    industry, industries = spread_industries(universe, known)
    return Exposures(
        asked, names, day, week, month, total / np.maximum(count, 1), np.log(np.where(value > 0, value, np.nan)),
        industry[own - first], industries,
    )  # fmt: skip


def _accumulate(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Running sums and counts of the finite values, after a row of zeros."""
    known = np.isfinite(values)
    shape = len(values) + 1, values.shape[1]
    sums, counts = np.zeros(shape), np.zeros(shape, dtype=np.int16)
    np.cumsum(np.where(known, values, 0.0), axis=0, out=sums[1:])
    np.cumsum(known, axis=0, out=counts[1:])
    return sums, counts


def _sum_trailing(
    running: tuple[np.ndarray, np.ndarray], rows: np.ndarray, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sum and count over the ``length`` rows that end at each of ``rows``; NaN if fewer than half are known."""
    end, begin = rows + 1, np.maximum(rows + 1 - length, 0)
    total, count = (grid[end] - grid[begin] for grid in running)
    total[2 * count < length] = np.nan
    return total, count
