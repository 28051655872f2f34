"""From links to numbered cells, and from cells to factors, some sessions at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from newsfactor.errors import InvalidValueError
from newsfactor.factors import Factor, columns_of, is_spread, keeps_price_reports, lookback_of
from newsfactor.parallel import map_beside
from newsfactor.schema import DATE_TYPE, LEVELS, PROBABILITIES
from newsfactor.sessions import assign_windows, effective_at, first_cells

# Cells of names times sessions that are worked on at once: some dozen arrays of 8 bytes each. Much larger ones cost
# more, since the system hands out memory for each anew.
GRID = 1_000_000
_UNIVERSE = 1_000_000  # rows of it that are looked up at once
NONE = np.array([], dtype=np.int64)


@dataclass(frozen=True)
class Chosen:
    """The links that count: position in the table, what for, how much, and whether for the tagged industry."""

    position: np.ndarray
    key: pd.Series
    share: np.ndarray
    tagged: np.ndarray


@dataclass(frozen=True)
class Rows:
    """The links that count, in the order of time, and what each counts for.

    ``slot`` numbers the session of each on the calendar and never falls; ``key`` numbers its name in ``names``,
    which are sorted.
    """

    position: np.ndarray
    slot: np.ndarray
    key: np.ndarray
    share: np.ndarray
    tagged: np.ndarray
    names: pd.Index


@dataclass(frozen=True)
class Cells:
    """Which cells may have a row: ``grid`` (sessions from ``first`` on x names)."""

    grid: np.ndarray
    first: int

    def at(self, rows: Rows) -> np.ndarray:
        """Whether each row's own cell may be."""
        own: np.ndarray = self.grid[rows.slot - self.first, rows.key]
        return own


def arrange(
    links: pd.DataFrame, chosen: Chosen, cutoff: str, days: pd.DatetimeIndex, *, identity: str
) -> tuple[Rows, int]:
    """Rows in an order that the order of the links does not change, each identity once for a name; how many were not.

    Sums depend on their order. Time settles it but for ties of one name, and only these are compared.
    """
    times = effective_at(links["available_at"], links["time_precision"]).iloc[chosen.position]
    slot = first_cells(times, cutoff, days)
    when = pd.DatetimeIndex(times).as_unit("us").asi8
    key, names = pd.factorize(chosen.key, sort=True)
    key, slot = key.astype(np.int32), slot.astype(np.int32)
    order = np.argsort(when, kind="stable")
    when = when[order]
    equal = np.concatenate([[False], when[1:] == when[:-1], [False]])
    tied = np.flatnonzero(equal[1:] | equal[:-1])
    moments = pd.DataFrame({"when": when[tied], "key": key[order[tied]]})
    tied = tied[moments.duplicated(keep=False).to_numpy()]
    labels = links[["news_id", "name", "code"]].iloc[chosen.position[order[tied]]].reset_index(drop=True)
    labels = labels.assign(when=when[tied], key=key[order[tied]], second=~chosen.tagged[order[tied]])
    ranked = labels.sort_values(["when", "news_id", "key", "second", "name", "code"])
    order[tied] = order[tied][ranked.index]
    if identity == "news_id":  # rows of one news item have one time, so repetitions are among the ties
        repeated = np.zeros(len(order), dtype=bool)
        repeated[tied] = ranked.duplicated(["news_id", "key"]).to_numpy()
    else:
        story = links[identity if identity in links.columns else "news_id"].iloc[chosen.position[order]]
        repeated = pd.DataFrame({"story": story.to_numpy(), "key": key[order]}).duplicated().to_numpy()
    if repeated.any():
        order = order[~repeated]
    rows = Rows(
        chosen.position[order],
        slot[order],
        key[order],
        chosen.share[order],
        chosen.tagged[order],
        pd.Index(names).astype("str"),
    )
    return rows, int(repeated.sum())


def allowed_cells(universe: pd.DataFrame, rows: Rows, days: pd.DatetimeIndex, key: str) -> Cells:
    """The cells of the universe; by industry all of its dates."""
    dates = pd.DatetimeIndex(universe["date"].unique()).as_unit("us")
    found = days.get_indexer(dates)
    first = int(min(rows.slot.min(initial=len(days)), found[found >= 0].min(initial=len(days))))
    grid = np.zeros((len(days) - first, len(rows.names)), dtype=bool)
    if key == "industry":
        grid[found[found >= 0] - first] = True
        return Cells(grid, first)
    for low in range(0, len(universe), _UNIVERSE):
        part = universe[["date", "code"]].iloc[low : low + _UNIVERSE]
        number, seen = pd.factorize(part["date"])
        slot, name = days.get_indexer(pd.DatetimeIndex(seen).as_unit("us"))[number], _number(part["code"], rows.names)
        inside = (slot >= 0) & (name >= 0)
        grid[slot[inside] - first, name[inside]] = True
    return Cells(grid, first)


def _number(values: pd.Series, names: pd.Index) -> np.ndarray:
    """The position of each value among the names, −1 if it is none of them."""
    kind, found = pd.factorize(values)
    numbers: np.ndarray = names.get_indexer(pd.Index(found).astype("str"))[kind]
    return numbers


def compute(
    links: pd.DataFrame, rows: Rows, factors: Mapping[str, Factor], allowed: Cells, days: pd.DatetimeIndex
) -> pd.DataFrame:
    """``date``, ``key``, ``n_news`` and the factors, some sessions at a time, so that memory is bounded."""
    longest = max([lookback_of(factor) for factor in factors.values()], default=1)
    first, last = (int(rows.slot[0]), min(int(rows.slot[-1]) + longest, len(days))) if len(rows.slot) else (0, 0)
    copies = max([lookback_of(factor) for factor in factors.values() if is_spread(factor)], default=1)
    step = max(longest, GRID // (max(len(rows.names), 1) * copies))
    parts = map_beside(
        lambda start: _compute_sessions(links, rows, factors, allowed, range(start, min(start + step, last)), longest),
        range(first, last, step),
    )
    parts = parts or [{**dict.fromkeys(("slot", "key", "n_news"), NONE), **dict.fromkeys(factors, NONE.astype(float))}]
    table = {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}
    date, key = days.to_numpy()[table.pop("slot")].astype(DATE_TYPE), rows.names.take(table.pop("key"))
    return pd.DataFrame({"date": date, "key": key, **table}, copy=False)


def _compute_sessions(
    links: pd.DataFrame, rows: Rows, factors: Mapping[str, Factor], allowed: Cells, slots: range, longest: int
) -> dict[str, np.ndarray]:
    """The cells of some sessions. A cell's number is its name's, times the sessions, plus its session's.

    The sessions begin with the lookback of the first, and end with as many more, so that what looks ahead of
    the last is not taken for the next name.
    """
    base = slots.start - longest + 1
    width = len(slots) + 2 * (longest - 1)
    inside = slice(*np.searchsorted(rows.slot, [base, slots.stop]))
    number = rows.key[inside].astype(np.int64) * width + rows.slot[inside] - base
    news = np.bincount(number, minlength=len(rows.names) * width).reshape(-1, width)
    before = np.cumsum(np.pad(news, ((0, 0), (longest, 0))), axis=1)
    recent = (before[:, longest:] - before[:, :-longest])[:, longest - 1 :][:, : len(slots)]
    low = slots.start - allowed.first
    slot, key = np.nonzero((recent.T > 0) & allowed.grid[low : low + len(slots)])
    wanted = key * width + slot + longest - 1
    table = {"slot": (slot + slots.start).astype(np.int32), "key": key.astype(np.int32), "n_news": news.ravel()[wanted]}
    frame = _describe(links, rows, inside, _columns_read(factors))
    cell = pd.Series(number, index=frame.index)
    quiet = ~links["reports_price"].to_numpy()[rows.position[inside]]
    views = {True: (frame, cell), False: (frame[quiet], cell[quiet])}
    for name, factor in factors.items():
        table[name] = _pick(_evaluate(factor, name, *views[keeps_price_reports(factor)]), wanted)
    return table


def _pick(values: pd.Series, wanted: np.ndarray) -> np.ndarray:
    """The values of the wanted cells, NaN where there is none."""
    if not isinstance(values.index, pd.RangeIndex) or (values.index.start, values.index.step) != (0, 1):
        return values.reindex(wanted).to_numpy(dtype=float)
    padded = np.append(values.to_numpy(dtype=float), np.nan)
    found: np.ndarray = padded[np.minimum(wanted, len(values))]
    return found


def _evaluate(factor: Factor, name: str, links: pd.DataFrame, cell: pd.Series) -> pd.Series:
    if is_spread(factor):
        links, cell = _spread(links, cell, lookback_of(factor))
    elif columns_of(factor) is None:
        links = links.assign(age=0)
    values = factor(links, cell)
    if not isinstance(values, pd.Series):
        raise InvalidValueError(
            "factors", type(values).__name__, f"must return a Series, one value per cell, in {name!r}"
        )
    return values


def _spread(links: pd.DataFrame, cell: pd.Series, lookback: int) -> tuple[pd.DataFrame, pd.Series]:
    """Each link once for every session whose lookback holds it, with its age there."""
    age = np.repeat(np.arange(lookback), len(links))
    many = links.iloc[np.tile(np.arange(len(links)), lookback)].reset_index(drop=True)
    return many.assign(age=age), pd.Series(np.tile(cell.to_numpy(), lookback) + age)


def _columns_read(factors: Mapping[str, Factor]) -> set[str] | None:
    read: set[str] = set()
    for factor in factors.values():
        columns = columns_of(factor)
        if columns is None:
            return None
        read.update(columns)
    return read


def _describe(links: pd.DataFrame, rows: Rows, inside: slice, read: set[str] | None) -> pd.DataFrame:
    """The links as factors see them: those columns that are read, with what is derived from others."""
    position, tagged = rows.position[inside], rows.tagged[inside]
    derived: dict[str, Any] = {
        "level": lambda part: _levels(part["sentiment"]),
        "confidence": lambda part: part[list(PROBABILITIES)].max(axis=1),
        "window": lambda part: assign_windows(part["available_at"], part["time_precision"]),
        "session": lambda part: rows.slot[inside],
        "share": lambda part: rows.share[inside],
        "novelty": lambda part: part.get("novelty", 1.0),
        "relevance": lambda part: part["p_industry"].where(tagged, part["relevance"]),
        "event_novelty": lambda part: part["event_novelty"].mask(tagged, 1.0),
    }
    sources = {
        "level": ["sentiment"], "confidence": list(PROBABILITIES), "window": ["available_at", "time_precision"],
        "session": [], "share": [], "relevance": ["relevance", "p_industry"],
    }  # fmt: skip
    wanted = set(links.columns) | set(derived) if read is None else read
    needed = {column for name in wanted for column in sources.get(name, [name])}
    part = links[[column for column in links.columns if column in needed]].iloc[position].reset_index(drop=True)
    return part.assign(**{name: make for name, make in derived.items() if name in wanted})


def _levels(sentiment: pd.Series) -> np.ndarray:
    """−3..3 of each label; seven look-ups, and not one for each news item."""
    number, labels = pd.factorize(sentiment)
    levels: np.ndarray = np.array([*(LEVELS[label] for label in labels), np.nan])[number]
    return levels
