"""Links to daily panels, with the share of each window that was observed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from newsfactor.coverage import CoverageWarning as CoverageWarning
from newsfactor.coverage import observe
from newsfactor.errors import InvalidValueError
from newsfactor.factors import (
    DEFAULT,
    Factor,
    columns_of,
    is_spread,
    keeps_price_reports,
    lookback_of,
    needs_complete,
)
from newsfactor.schema import DATE_TYPE, LEVELS, LINKS, PROBABILITIES, UNIVERSE, check
from newsfactor.sessions import (
    assign_sessions,
    assign_windows,
    check_cutoff,
    check_sessions,
    effective_at,
    known_at,
    session_numbers,
)
from newsfactor.taxonomy import SHENWAN_LEVEL1

BY = ("stock", "industry", "industry_tagged", "industry_from_stocks", "industry_both")
# Cells of names times sessions that are worked on at once: some dozen arrays of 8 bytes each.
GRID = 4_000_000


def panel(
    links: pd.DataFrame,
    universe: pd.DataFrame,
    *,
    by: str = "stock",
    factors: Mapping[str, Factor] | None = None,
    cutoff: str = "09:15",
    multi: str = "subject",
    coverage: pd.DataFrame | None = None,
    sessions: pd.DatetimeIndex | None = None,
) -> pd.DataFrame:
    """Daily factors from linked news.

    There is a row for each session and name of the universe with news inside the longest lookback.

    Parameters
    ----------
    links : DataFrame
        LINKS.
    universe : DataFrame
        UNIVERSE: only its (date, code) get a row, by industry only its dates.
    by : {"stock", "industry_tagged", "industry_from_stocks", "industry_both"}
        What a row is about. By ``industry_tagged`` (or ``industry``) a news item counts once, for the Shenwan
        industry that the tagger gave it, and ``relevance`` is ``p_industry``. By ``industry_from_stocks`` a factor is
        the mean over the industry's stocks that have a value, weighted by the universe's ``circ_mv``, of the previous
        close (where none of them has one, all weigh the same), and ``n_news`` their sum. By ``industry_both`` a story
        counts once, at its first telling, for each of its tagged industry and its subject's.
    factors : mapping of str to function, optional
        Name to factor, see :mod:`newsfactor.factors`; its ``DEFAULT`` if not given, and ``SHIPPED`` has all.
    cutoff : {"09:15", "14:50", "15:00"}
        Time of day at which a session's cell closes: its window is [previous session, this session).
    multi : {"subject", "share"}
        Whether news about several companies counts for its main subject (``is_subject``), or for each of its
        ``n_codes`` codes with a share of 1/n. By the tagged industry it changes nothing.
    coverage : DataFrame, optional
        COVERAGE: when each source was observed. If not given it is inferred with a warning, see
        :func:`infer_coverage`.
    sessions : DatetimeIndex, optional
        The trading days, if not those of exchange_calendars' XSHG.

    Returns
    -------
    DataFrame
        PANEL sorted by date and key: ``known_at`` (the decision time), ``observed`` (0..1, the mean over
        sources of the covered share of the cell's window), ``n_news`` (0 where only earlier news lie in a
        lookback) and one float column per factor. No news is NaN, never zero; factors that count or sum over
        a window are also NaN where it was not observed in full. ``attrs["rows"]`` says what became of each
        link. Empty in, empty out.

    Raises
    ------
    InvalidValueError, TableError, CalendarError
        For an unknown option, a table that does not fit, or news outside the calendar.
    """
    check(links, LINKS, parameter="links")
    check(universe, UNIVERSE, parameter="universe")
    check_cutoff(cutoff)
    if by not in BY:
        raise InvalidValueError("by", by, f"must be one of {', '.join(map(repr, BY))}")
    if multi not in ("subject", "share"):
        raise InvalidValueError("multi", multi, "must be 'subject' or 'share'")
    factors = dict(DEFAULT if factors is None else factors)
    days = check_sessions(sessions)
    links = links.reset_index(drop=True)
    key = "code" if by in ("stock", "industry_from_stocks") else "industry"
    chosen, counts = _CHOOSERS[by](links, multi)
    rows, again = _arrange(links, chosen, cutoff, days, identity="story_id" if by == "industry_both" else "news_id")
    allowed = _allowed_cells(universe, rows, days, key)
    counts = counts | ({"same news again": again} if again else {})
    inside = int(allowed.at(rows).sum())
    counts |= {"outside the universe": len(rows.slot) - inside, "used": inside}
    table = _compute(links, rows, factors, allowed, days).rename(columns={"key": key})
    if by == "industry_from_stocks":
        table, key = _weigh_by_value(table, universe, list(factors)), "industry"
    longest = max([lookback_of(factor) for factor in factors.values()], default=1)
    covered = observe(links, table["date"], cutoff=cutoff, coverage=coverage, lookback=longest, sessions=days)
    table = _mask_unobserved(table, covered, factors)
    table["known_at"] = known_at(table["date"], cutoff)
    table = table[["date", key, "known_at", "observed", "n_news", *factors]]
    table.attrs = {
        "rows": counts, "cutoff": cutoff, "taggers": sorted(links["tagger"].dropna().unique().tolist()),
        "trained_through": _latest(links["trained_through"]),
    }  # fmt: skip
    return table


def _latest(dates: pd.Series) -> str | None:
    last = dates.max()
    return None if pd.isna(last) else str(last.date())


# Which links count, and for what.


@dataclass(frozen=True)
class Chosen:
    """The links that count: position in the table, what for, how much, and whether for the tagged industry."""

    position: np.ndarray
    key: pd.Series
    share: np.ndarray
    tagged: np.ndarray


def _choose_stocks(links: pd.DataFrame, multi: str) -> tuple[Chosen, dict[str, int]]:
    status, subject = links["link_status"], links["is_subject"].to_numpy()
    reasons = {
        "not tagged": _is_untagged(links),
        "about no stock": (status == "none").to_numpy(),
        "name unknown": (status == "unknown").to_numpy(),
        "name ambiguous": (status == "ambiguous").to_numpy(),
    }
    if multi == "subject":
        reasons["not the main subject"] = ~subject
    kept, counts = _strike(reasons, len(links))
    share = 1 / np.maximum(links["n_codes"].to_numpy()[kept], 1) if multi == "share" else np.ones(len(kept))
    return Chosen(kept, links["code"].iloc[kept], share, np.zeros(len(kept), dtype=bool)), counts


def _choose_tagged(links: pd.DataFrame, multi: str) -> tuple[Chosen, dict[str, int]]:
    reasons = {"not tagged": _is_untagged(links), "no Shenwan industry": ~links["industry"].isin(SHENWAN_LEVEL1).to_numpy()}  # fmt: skip
    kept, counts = _strike(reasons, len(links))
    return Chosen(kept, links["industry"].iloc[kept], np.ones(len(kept)), np.ones(len(kept), dtype=bool)), counts


def _choose_both(links: pd.DataFrame, multi: str) -> tuple[Chosen, dict[str, int]]:
    """Each link may count twice: for the tagged industry and for the company's as of the news."""
    tagged, counts = _choose_tagged(links, multi)
    stocks, others = _choose_stocks(links, multi)
    industry = links["stock_industry"].iloc[stocks.position]
    known = industry.isin(SHENWAN_LEVEL1).to_numpy()
    chosen = Chosen(
        np.concatenate([tagged.position, stocks.position[known]]),
        pd.concat([tagged.key, industry[known]]),
        np.concatenate([tagged.share, stocks.share[known]]),
        np.concatenate([tagged.tagged, stocks.tagged[known]]),
    )
    for reason, count in {**others, "no Shenwan industry": int((~known).sum())}.items():
        counts[reason] = counts.get(reason, 0) + count
    return chosen, {reason: count for reason, count in counts.items() if count}


_CHOOSERS: dict[str, Callable[[pd.DataFrame, str], tuple[Chosen, dict[str, int]]]] = {
    "stock": _choose_stocks, "industry": _choose_tagged, "industry_tagged": _choose_tagged,
    "industry_from_stocks": _choose_stocks, "industry_both": _choose_both,
}  # fmt: skip


def _is_untagged(links: pd.DataFrame) -> np.ndarray:
    return (~links["status"].isin(("ok", "truncated")) | links["score"].isna()).to_numpy()


def _strike(reasons: Mapping[str, np.ndarray], size: int) -> tuple[np.ndarray, dict[str, int]]:
    """The positions for which no reason holds, and how many fall to each; the first that holds counts."""
    left, counts = np.ones(size, dtype=bool), {"in": size}
    for name, mask in reasons.items():
        struck = int((left & mask).sum())
        counts |= {name: struck} if struck else {}
        left &= ~mask
    return np.flatnonzero(left), counts


# From links to numbered cells.


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
    """Which cells may have a row: ``grid`` (names x sessions from ``first`` on)."""

    grid: np.ndarray
    first: int

    def at(self, rows: Rows) -> np.ndarray:
        """Whether each row's own cell may be."""
        own: np.ndarray = self.grid[rows.key, rows.slot - self.first]
        return own


def _arrange(
    links: pd.DataFrame, chosen: Chosen, cutoff: str, days: pd.DatetimeIndex, *, identity: str
) -> tuple[Rows, int]:
    """Rows in an order that the order of the links does not change, each identity once for a name; how many were not.

    Sums depend on their order. Time settles it but for ties, and only these are compared by name.
    """
    times = links[["available_at", "time_precision"]].iloc[chosen.position]
    when = pd.DatetimeIndex(effective_at(times["available_at"], times["time_precision"])).as_unit("us").asi8
    slot = session_numbers(assign_sessions(*(times[c] for c in times), cutoff=cutoff, sessions=days), sessions=days)
    key, names = pd.factorize(chosen.key, sort=True)
    order = np.argsort(when, kind="stable")
    equal = np.concatenate([[False], when[order][1:] == when[order][:-1], [False]])
    tied = np.flatnonzero(equal[1:] | equal[:-1])
    labels = links[["news_id", "name", "code"]].iloc[chosen.position[order[tied]]].reset_index(drop=True)
    labels = labels.assign(when=when[order[tied]], key=key[order[tied]], second=~chosen.tagged[order[tied]])
    ranked = labels.sort_values(["when", "news_id", "key", "second", "name", "code"])
    order[tied] = order[tied][ranked.index]
    if identity == "news_id":  # rows of one news item have one time, so repetitions are among the ties
        repeated = np.zeros(len(order), dtype=bool)
        repeated[tied] = ranked.duplicated(["news_id", "key"]).to_numpy()
    else:
        story = links[identity if identity in links.columns else "news_id"].iloc[chosen.position[order]]
        repeated = pd.DataFrame({"story": story.to_numpy(), "key": key[order]}).duplicated().to_numpy()
    order = order[~repeated]
    rows = Rows(
        chosen.position[order], slot[order], key[order], chosen.share[order], chosen.tagged[order], pd.Index(names)
    )
    return rows, int(repeated.sum())


def _allowed_cells(universe: pd.DataFrame, rows: Rows, days: pd.DatetimeIndex, key: str) -> Cells:
    """The cells of the universe; by industry all of its dates."""
    slot = days.get_indexer(pd.DatetimeIndex(universe["date"]).as_unit("us"))
    first = int(min(rows.slot.min(initial=len(days)), slot[slot >= 0].min(initial=len(days))))
    grid = np.zeros((len(rows.names), len(days) - first), dtype=bool)
    if key == "industry":
        grid[:, slot[slot >= 0] - first] = True
        return Cells(grid, first)
    name = rows.names.get_indexer(pd.Index(universe["code"]))
    inside = (slot >= 0) & (name >= 0)
    grid[name[inside], slot[inside] - first] = True
    return Cells(grid, first)


def _compute(
    links: pd.DataFrame, rows: Rows, factors: Mapping[str, Factor], allowed: Cells, days: pd.DatetimeIndex
) -> pd.DataFrame:
    """``date``, ``key``, ``n_news`` and the factors, some sessions at a time, so that memory is bounded."""
    longest = max([lookback_of(factor) for factor in factors.values()], default=1)
    first, last = (int(rows.slot[0]), min(int(rows.slot[-1]) + longest, len(days))) if len(rows.slot) else (0, 0)
    step = max(longest, GRID // max(len(rows.names), 1))
    parts = [
        _compute_sessions(links, rows, factors, allowed, range(start, min(start + step, last)), longest)
        for start in range(first, last, step)
    ]
    table = pd.concat(parts, ignore_index=True) if parts else _compute_nothing(factors)
    table["date"] = days.to_numpy()[table.pop("slot").to_numpy(dtype=np.int64)].astype(DATE_TYPE)
    table["key"] = rows.names.astype("str").take(table["key"].to_numpy(dtype=np.int64))
    return table


def _compute_nothing(factors: Mapping[str, Factor]) -> pd.DataFrame:
    whole = {name: np.zeros(0, dtype=np.int64) for name in ("slot", "key", "n_news")}
    return pd.DataFrame({**whole, **{name: np.zeros(0) for name in factors}})


def _compute_sessions(
    links: pd.DataFrame, rows: Rows, factors: Mapping[str, Factor], allowed: Cells, slots: range, longest: int
) -> pd.DataFrame:
    """The cells of some sessions. A cell's number is its name's, times the sessions, plus its session's.

    The sessions begin with the lookback of the first, and end with as many more, so that what looks ahead of
    the last is not taken for the next name.
    """
    base = slots.start - longest + 1
    width = len(slots) + 2 * (longest - 1)
    inside = slice(*np.searchsorted(rows.slot, [base, slots.stop]))
    number = rows.key[inside] * width + rows.slot[inside] - base
    news = np.bincount(number, minlength=len(rows.names) * width).reshape(-1, width)
    before = np.cumsum(np.pad(news, ((0, 0), (longest, 0))), axis=1)
    recent = (before[:, longest:] - before[:, :-longest])[:, longest - 1 :][:, : len(slots)]
    low = slots.start - allowed.first
    slot, key = np.nonzero(((recent > 0) & allowed.grid[:, low : low + len(slots)]).T)
    wanted = key * width + slot + longest - 1
    table = {"slot": slot + slots.start, "key": key, "n_news": news.ravel()[wanted]}
    frame = _describe(links, rows, inside, _columns_read(factors))
    cell = pd.Series(number, index=frame.index)
    quiet = ~links["reports_price"].to_numpy()[rows.position[inside]]
    views = {True: (frame, cell), False: (frame[quiet], cell[quiet])}
    for name, factor in factors.items():
        table[name] = _evaluate(factor, name, *views[keeps_price_reports(factor)]).reindex(wanted).to_numpy(dtype=float)
    return pd.DataFrame(table)


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


# From cells to the table.


def _weigh_by_value(table: pd.DataFrame, universe: pd.DataFrame, factors: list[str]) -> pd.DataFrame:
    """The mean of each industry's stocks, weighted by the capitalisation that the universe knows on the day."""
    stocks = table.merge(universe[["date", "code", "industry", "circ_mv"]], on=["date", "code"])
    stocks = stocks[stocks["industry"].isin(SHENWAN_LEVEL1)]
    cell = [stocks["date"], stocks["industry"]]
    means = {"n_news": stocks["n_news"].groupby(cell).sum()}
    value = stocks["circ_mv"].where(stocks["circ_mv"] > 0)
    for name in factors:
        weight = value.where(stocks[name].notna())
        unknown = weight.groupby(cell).transform("count") == 0
        weight = weight.mask(unknown & stocks[name].notna(), 1.0)
        below = weight.groupby(cell).sum(min_count=1)
        means[name] = (weight * stocks[name]).groupby(cell).sum(min_count=1) / below
    return pd.DataFrame(means).reset_index()


def _mask_unobserved(table: pd.DataFrame, covered: pd.DataFrame, factors: Mapping[str, Factor]) -> pd.DataFrame:
    """Counts and sums over a window that was not observed in full are NaN."""
    table = table.assign(observed=table["date"].map(covered[1]).astype(float))
    for name, factor in factors.items():
        if needs_complete(factor):
            complete = table["date"].map(covered[lookback_of(factor)]) >= 1 - 1e-9
            table[name] = table[name].where(complete)
    return table
