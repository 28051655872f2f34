"""Long tables as grids (sessions x codes), and prices as the value of a holding.

Everything that measures returns works on grids, so that a session of the calendar without a row is a gap,
never a row to skip. Values are compounded from ratios to the exchange's reference price
(``close/pre_close``), so that an ex-date needs no adjustment factor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from newsfactor.schema import PRICES, Table, check
from newsfactor.sessions import session_numbers


@dataclass(frozen=True)
class Placement:
    """Where the rows of a long table go in a grid of ``shape``: the ``inside`` ones, each to its flat ``cell``."""

    shape: tuple[int, int]
    inside: np.ndarray | slice
    cell: np.ndarray

    def spread(self, values: pd.Series) -> np.ndarray:
        """A column as a grid of floats, NaN where there is no row."""
        grid = np.full(self.shape, np.nan)
        grid.reshape(-1)[self.cell] = values.to_numpy(dtype=float, na_value=np.nan)[self.inside]
        return grid

    def mark(self, flags: pd.Series | None = None) -> np.ndarray:
        """Where there is a row, or one with the flag."""
        grid = np.zeros(self.shape, dtype=bool)
        grid.reshape(-1)[self.cell] = True if flags is None else flags.to_numpy(dtype=bool)[self.inside]
        return grid


@dataclass(frozen=True)
class Market:
    """What was traded, sessions x codes.

    Attributes
    ----------
    open, close, reference : array of float
        NaN unless positive and on a session that is not suspended. ``reference`` is the exchange's
        ``pre_close`` or, for adjusted prices, the last close before.
    suspended, present : array of bool
        ``amount`` is 0 or the universe says so; that, or any row of prices.
    """

    open: np.ndarray
    close: np.ndarray
    reference: np.ndarray
    suspended: np.ndarray
    present: np.ndarray


def check_request(
    prices: pd.DataFrame,
    dates: pd.Series | pd.DatetimeIndex,
    codes: pd.Series | pd.Index,
    *,
    sessions: pd.DatetimeIndex,
) -> tuple[pd.DatetimeIndex, pd.Index, int]:
    """The distinct dates, sorted, and codes asked for, and the number of the last session with prices (-1: none).

    Raises
    ------
    TableError, CalendarError
        If the prices are not of their form, or a date of theirs or one asked for is not a session.
    """
    check(prices.iloc[:1], PRICES)
    if prices["date"].isna().any():
        check(prices, PRICES)
    numbers = session_numbers(pd.DatetimeIndex(prices["date"].unique()), sessions=sessions, parameter="prices['date']")
    asked = pd.DatetimeIndex(dates).as_unit("us").unique().sort_values()
    session_numbers(asked, sessions=sessions, parameter="dates")
    return asked, pd.Index(codes).unique(), int(numbers.max(initial=-1))


def place_rows(frame: pd.DataFrame, table: Table, days: pd.DatetimeIndex, codes: pd.Index) -> Placement:
    """Check a table whose key is (date, code), and find the places of its rows among sessions and codes.

    The result is that of `check`, but the key is tested on the numbers of dates and codes: on texts it would
    take longer than all the rest.
    """
    check(frame.iloc[:1], table)
    day, dates = pd.factorize(frame["date"])
    code, names = pd.factorize(frame["code"])
    found = pd.DatetimeIndex(dates).as_unit("us")
    seen = np.zeros((len(dates), len(names)), dtype=bool)
    seen[day, code] = True
    missing = min(day.min(initial=0), code.min(initial=0)) < 0
    if missing or (found != found.normalize()).any() or np.count_nonzero(seen) < len(frame):
        check(frame, table)
    row = days.get_indexer(found)[day]
    column = codes.get_indexer(pd.Index(names))[code]
    inside = (row >= 0) & (column >= 0)
    chosen: np.ndarray | slice = slice(None) if inside.all() else inside
    return Placement((len(days), len(codes)), chosen, row[chosen] * len(codes) + column[chosen])


def read_market(
    prices: pd.DataFrame, places: Placement, *, halted: np.ndarray | None = None, adjusted: bool = False
) -> Market:
    """The grids of PRICES; ``halted`` tells the sessions on which the universe knows a suspension."""
    suspended = places.spread(prices["amount"]) == 0
    if halted is not None:
        suspended |= halted
    names = ("open", "close") if adjusted else ("open", "close", "pre_close")
    grids = []
    for name in names:
        grid = places.spread(prices[name])
        grid[suspended | ~(grid > 0)] = np.nan
        grids.append(grid)
    reference = _last_closes(grids[1], suspended) if adjusted else grids[2]
    return Market(grids[0], grids[1], reference, suspended, places.mark() | suspended)


class Compounded(NamedTuple):
    """A running product by code, and how many of its factors are not known so far."""

    value: np.ndarray
    unknown: np.ndarray


def compound(ratios: np.ndarray, suspended: np.ndarray) -> Compounded:
    """The running product of a ratio by code, and how many of its factors are not known so far.

    Parameters
    ----------
    ratios : array of float, sessions x codes
        ``close / reference`` makes of it the value at each close of what was held since the first row.
    suspended : array of bool
        Where the factor is 1 because nothing could move: the session after catches up.

    Returns
    -------
    Compounded
        A factor that is not known counts as 1 in the product. Where two counts are equal, all between are known.

    Examples
    --------
    >>> made = compound(np.array([[1.1], [np.nan], [2.0]]), np.zeros((3, 1), dtype=bool))
    >>> made.value.ravel().tolist(), made.unknown.ravel().tolist()
    ([1.1, 1.1, 2.2], [0, 1, 1])
    """
    unknown = ~(np.isfinite(ratios) | suspended)
    factors = np.where(np.isfinite(ratios), ratios, 1.0)
    return Compounded(np.cumprod(factors, axis=0, out=factors), np.cumsum(unknown, axis=0, dtype=np.int16))


def _last_closes(close: np.ndarray, suspended: np.ndarray) -> np.ndarray:
    """The close of the session before; over suspended sessions, but over no gap, that of the last one before."""
    last = np.full(close.shape, np.nan)
    for row in range(1, len(close)):
        last[row] = np.where(suspended[row - 1], last[row - 1], close[row - 1])
    return last


def spread_industries(universe: pd.DataFrame, places: Placement) -> tuple[np.ndarray, pd.Index]:
    """The industry of each cell as a number (int16, -1 unknown), and the industries' names, sorted."""
    number, names = pd.factorize(universe["industry"])
    order = np.argsort(np.asarray(names, dtype=object))
    ranks = np.full(len(names) + 1, -1, dtype=np.int16)
    ranks[order] = np.arange(len(names))
    grid = np.full(places.shape, -1, dtype=np.int16)
    grid.reshape(-1)[places.cell] = ranks[number][places.inside]
    return grid, pd.Index(np.asarray(names, dtype=object)[order], dtype="str")


def find_start(prices: pd.DataFrame, days: pd.DatetimeIndex, wanted: int, *, adjusted: bool) -> int:
    """The number of the session with which a window begins: the one wanted, or the first of adjusted prices.

    The last close before a session of adjusted prices may lie anywhere before it.
    """
    if adjusted and len(prices):
        wanted = min(wanted, int(days.searchsorted(prices["date"].min())))
    return max(wanted, 0)
