"""What was known of each stock when a cell closed: past returns, turnover, capitalisation, industry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from newsfactor.grids import Compounded, check_request, compound, find_start, place_rows, read_market, spread_industries
from newsfactor.schema import PRICES, UNIVERSE
from newsfactor.sessions import check_cutoff, check_sessions, session_numbers

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
    asked, names, _ = check_request(prices, dates, codes, sessions=days)
    own = session_numbers(asked, sessions=days)
    number = own - (0 if check_cutoff(cutoff) == "15:00" else 1)
    first = find_start(prices, days, int(number.min(initial=len(days))) - LOOKBACK, adjusted=adjusted)
    window, span = (days[first : int(last.max(initial=0)) + 1] for last in (number, own))
    known, places = place_rows(universe, UNIVERSE, span, names), place_rows(prices, PRICES, window, names)
    halted = known.mark(universe["is_suspended"])[: len(window)]
    market = read_market(prices, places, halted=halted, adjusted=adjusted)

    rows, value = number - first, known.spread(universe["circ_mv"])[own - first]
    worth = compound(market.close / market.reference, market.suspended)
    day, week, month = (_compound_trailing(worth, rows, length) for length in LENGTHS)
    turnover = places.spread(prices["amount"])
    turnover /= places.spread(prices["circ_mv"])
    turnover[market.suspended] = 0
    industry, industries = spread_industries(universe, known)
    return Exposures(
        asked, names, day, week, month, _average_trailing(turnover, rows, LOOKBACK),
        np.log(np.where(value > 0, value, np.nan)), industry[own - first], industries,
    )  # fmt: skip


def _compound_trailing(worth: Compounded, rows: np.ndarray, length: int) -> np.ndarray:
    """The return over the ``length`` rows that end at each of ``rows``; rows before the first are not known."""
    earned = _read(worth.value, rows, 1)
    earned /= _read(worth.value, rows - length, 1)
    earned -= 1
    missing = _read(worth.unknown, rows, 0) - _read(worth.unknown, rows - length, 0)
    missing += np.maximum(length - 1 - rows, 0).astype(np.int16)[:, None]
    earned[2 * missing > length] = np.nan
    return earned


def _average_trailing(values: np.ndarray, rows: np.ndarray, length: int) -> np.ndarray:
    """The mean of the finite values of the ``length`` rows that end at each of ``rows``."""
    known = np.isfinite(values)
    sums = np.cumsum(np.where(known, values, 0.0), axis=0)
    counts = np.cumsum(known, axis=0, dtype=np.int16)
    count = _read(counts, rows, 0) - _read(counts, rows - length, 0)
    total: np.ndarray = _read(sums, rows, 0) - _read(sums, rows - length, 0)
    total /= np.maximum(count, 1)
    total[2 * count < length] = np.nan
    return total


def _read(running: np.ndarray, rows: np.ndarray, base: int) -> np.ndarray:
    """The running figure at the rows; the base before the first."""
    grid: np.ndarray = running[np.maximum(rows, 0)]
    grid[rows < 0] = base
    return grid
