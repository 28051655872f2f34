"""Who can enter and who can leave: suspensions, price limits, young and delisted codes.

An entry is barred if the code is not in the universe, suspended, without a price or listed less than 60 sessions,
for a long also at the upper price limit and for a short at the lower one, both at the auction itself.
A holding passes a suspended session unchanged and catches up on the first one after it; a session without any row
is a hole in the data, and what would pass it is not known. An exit that cannot be sold, suspended or at the lower
limit at the exit auction, is carried to the first such auction that can. (That of a short at the upper limit is
not carried.) A code whose rows end at least 20 sessions before the last of the whole table was delisted, and a
holding then counts at its last close; one whose rows ended later may just be late, and its outcome is not known.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from newsfactor.grids import Compounded, Market, place_rows
from newsfactor.schema import DATE_TYPE, UNIVERSE

# In order of precedence: a row has the first reason that applies.
REASONS = (
    "beyond_data", "no_members", "not_in_universe", "suspended", "no_price", "newly_listed", "limit_up",
    "limit_down", "missing_session", "",
)  # fmt: skip
NONE = REASONS.index("")
NOTES = ("", "carried", "delisted")
HALF_TICK = 0.005
SEASONED = 60
DELISTED_AFTER = 20
LOST = -1


@dataclass(frozen=True)
class Rules:
    """What the universe says of each session of the window: its members, their limits, and when each was listed."""

    member: np.ndarray
    limit_up: np.ndarray
    limit_down: np.ndarray
    listed: np.ndarray


@dataclass(frozen=True)
class Exits:
    """Where on the window no long can leave (``row``, ``column``), and the row ``to`` which the holding is carried.

    ``note`` (window x codes) is into `NOTES`, or `LOST` where the data end before the exit.
    """

    row: np.ndarray
    column: np.ndarray
    to: np.ndarray
    note: np.ndarray

    def carry(self, enter: Compounded, at_close: np.ndarray) -> Compounded:
        """What a holding is worth when it leaves: at the exit it is carried to, a delisted one at its last close."""
        value, unknown = enter.value.copy(), enter.unknown.copy()
        place, note = (self.row, self.column), self.note[self.row, self.column]
        sold = np.where(note == NOTES.index("delisted"), at_close[self.to, self.column], value[self.to, self.column])
        unknown[place] = enter.unknown[self.to, self.column]
        value[place] = np.where(note == LOST, np.nan, sold)
        return Compounded(value, unknown)


def read_rules(
    universe: pd.DataFrame, window: pd.DatetimeIndex, codes: pd.Index, days: pd.DatetimeIndex
) -> tuple[Rules, np.ndarray]:
    """The rules on the sessions of the window, which are some of ``days``, and where a suspension is known."""
    places = place_rows(universe, UNIVERSE, window, codes)
    never = np.iinfo(np.int64).max
    dates = universe["list_date"].to_numpy(dtype=DATE_TYPE)[places.inside]
    earliest = np.full(len(codes), never)
    np.minimum.at(earliest, places.cell % max(len(codes), 1), np.where(np.isnat(dates), never, dates.view(np.int64)))
    listed = np.searchsorted(days.asi8, earliest).astype(float)
    listed[(earliest == never) | (earliest < days.asi8[0])] = -np.inf
    up, down = places.spread(universe["limit_up"]), places.spread(universe["limit_down"])
    return Rules(places.mark(), up, down, listed), places.mark(universe["is_suspended"])


def judge_entries(
    market: Market, price: np.ndarray, rules: Rules | None, rows: slice | np.ndarray, numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Whether a long and a short could be entered on the rows, sessions of those numbers; and the first reason why not.

    Returns
    -------
    (array of bool, array of bool, array of int8)
        For longs, for shorts, and into `REASONS`: the bars to either.
    """
    price = price[rows]
    bars = {"suspended": market.suspended[rows], "no_price": np.isnan(price)}
    up = down = np.zeros(price.shape, dtype=bool)
    if rules is not None:
        bars = {"not_in_universe": ~rules.member[rows]} | bars
        bars["newly_listed"] = numbers[:, None] - rules.listed < SEASONED
        up, down = price > rules.limit_up[rows] - HALF_TICK, price < rules.limit_down[rows] + HALF_TICK
    reason = np.full(price.shape, NONE, dtype=np.int8)
    # The first in order of precedence is written last.
    for name, bar in reversed(list({**bars, "limit_up": up, "limit_down": down}.items())):
        reason[bar] = REASONS.index(name)
    barred = np.logical_or.reduce(list(bars.values()))
    return ~(barred | up), ~(barred | down), reason


def find_exits(market: Market, price: np.ndarray, rules: Rules | None) -> Exits:
    """Carry what cannot be sold to the first price that can, or to the last close of a code that was delisted."""
    sellable = ~np.isnan(price)
    if rules is not None:
        sellable &= ~(price < rules.limit_down + HALF_TICK)
    count = len(price)
    final = np.where(market.present.any(axis=0), count - 1 - np.argmax(market.present[::-1], axis=0), -1)
    delisted = (final >= 0) & (final < count - DELISTED_AFTER)
    ahead = np.where(sellable, np.arange(count, dtype=np.int32)[:, None], count)
    ahead = np.minimum.accumulate(ahead[::-1], axis=0)[::-1]
    row, column = np.nonzero(~sellable)
    to = ahead[row, column]
    ended = to == count
    to = np.where(ended, final[column], to)
    note = np.zeros(price.shape, dtype=np.int8)
    note[row, column] = np.select([~ended, delisted[column]], [NOTES.index("carried"), NOTES.index("delisted")], LOST)
    return Exits(row, column, to, note)


def keep_exits(price: np.ndarray) -> Exits:
    """Leave everything where it is."""
    nowhere = np.zeros(0, dtype=np.int64)
    return Exits(nowhere, nowhere, nowhere, np.zeros(price.shape, dtype=np.int8))
