"""Links to daily panels, with the share of each window that was observed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd

from newsfactor.errors import CalendarError, InvalidValueError
from newsfactor.factors import DEFAULT, Factor, lookback_of, needs_complete
from newsfactor.schema import (
    COVERAGE,
    DATE_TYPE,
    LEVELS,
    LINKS,
    PANEL_BY_INDUSTRY,
    PANEL_BY_STOCK,
    TIMEZONE,
    UNIVERSE,
    check,
)
from newsfactor.sessions import assign_sessions, check_cutoff, check_sessions, effective_at, known_at, shift_sessions

LONGEST_SILENCE = pd.Timedelta(hours=24)


class CoverageWarning(UserWarning):
    """Coverage was inferred from the news themselves."""


def panel(
    links: pd.DataFrame,
    universe: pd.DataFrame,
    *,
    by: str = "stock",
    factors: Mapping[str, Factor] | None = None,
    cutoff: str = "09:15",
    coverage: pd.DataFrame | None = None,
    sessions: pd.DatetimeIndex | None = None,
) -> pd.DataFrame:
    """Daily factors from linked news.

    By stock a news item counts for its main subject (``is_subject``); by industry it counts once, for its
    tagged Shenwan industry.

    Parameters
    ----------
    links : DataFrame
        LINKS.
    universe : DataFrame
        UNIVERSE: only its (date, code) get a row, by industry only its dates.
    by : {"stock", "industry"}
        What a row is about.
    factors : mapping of str to function, optional
        Name to factor, see :mod:`newsfactor.factors`; its defaults if not given.
    cutoff : {"09:15", "14:50", "15:00"}
        Time of day at which a session's cell closes: its window is [previous session, this session).
    coverage : DataFrame, optional
        COVERAGE: when each source was observed. If not given, a source counts as unobserved wherever it is
        silent for over 24 hours between the first and the last news of the table, with a warning.
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
    if by not in ("stock", "industry"):
        raise InvalidValueError("by", by, "must be 'stock' or 'industry'")
    factors = dict(DEFAULT if factors is None else factors)
    days = check_sessions(sessions)
    key = "code" if by == "stock" else "industry"
    used, counts = _select(links, by)
    used = _prepare(used, cutoff, days)
    longest = max([lookback_of(factor) for factor in factors.values()], default=1)
    allowed = _allowed_cells(universe, key)
    spread = _spread(used, longest, days)
    cells, spread = _number_cells(spread, key, allowed)
    own = spread.loc[spread["age"] == 0, "row"]
    counts["outside the universe"] = int(len(used) - own.nunique())
    counts["used"] = int(own.nunique())
    table = _compute(cells, spread, factors)
    covered = observe(links, table["date"], cutoff=cutoff, coverage=coverage, lookback=longest, sessions=days)
    table = _mask_unobserved(table, covered, factors)
    table.insert(0, "known_at", known_at(table["date"], cutoff))
    columns = ["date", key, "known_at", "observed", "n_news", *factors]
    table = table[columns].sort_values(["date", key]).reset_index(drop=True)
    table.attrs = {
        "rows": counts, "cutoff": cutoff, "taggers": sorted(links["tagger"].dropna().unique().tolist()),
        "trained_through": _latest(links["trained_through"]),
    }  # fmt: skip
    return check(table, PANEL_BY_STOCK if by == "stock" else PANEL_BY_INDUSTRY, parameter="panel")


def _latest(dates: pd.Series) -> str | None:
    last = dates.max()
    return None if pd.isna(last) else str(last.date())


def _select(links: pd.DataFrame, by: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """The links that count, and how many fall to each reason; each link has the first reason that holds."""
    reasons = pd.Series("", index=links.index, dtype="str")

    def strike(name: str, mask: pd.Series) -> None:
        reasons[(reasons == "") & mask] = name

    strike("not tagged", ~links["status"].isin(("ok", "truncated")) | links["score"].isna())
    if by == "stock":
        strike("about no stock", links["link_status"] == "none")
        strike("name unknown", links["link_status"] == "unknown")
        strike("name ambiguous", links["link_status"] == "ambiguous")
        strike("not the main subject", ~links["is_subject"])
    else:
        strike("same news again", links["news_id"].duplicated())
        strike("no Shenwan industry", ~links["industry"].isin(_shenwan()))
    counts = {"in": len(links), **reasons[reasons != ""].value_counts(sort=False).to_dict()}
    return links[reasons == ""], {str(name): int(count) for name, count in counts.items()}


def _shenwan() -> tuple[str, ...]:
    from newsfactor.taxonomy import SHENWAN_LEVEL1

    return SHENWAN_LEVEL1


def _prepare(links: pd.DataFrame, cutoff: str, days: pd.DatetimeIndex) -> pd.DataFrame:
    """Session, level, and novelty of each link; what reports a price move has neither level nor score."""
    table = links.reset_index(drop=True)
    table["session"] = assign_sessions(table["available_at"], table["time_precision"], cutoff=cutoff, sessions=days)
    silent = table["reports_price"]
    table["level"] = table["sentiment"].map(LEVELS).astype(float).where(~silent)
    table["score"] = table["score"].where(~silent)
    if "novelty" not in table.columns:
        table["novelty"] = 1.0
    return table.assign(row=np.arange(len(table)))


def _allowed_cells(universe: pd.DataFrame, key: str) -> pd.DataFrame:
    if key == "code":
        return universe[["date", "code"]]
    return universe[["date"]].drop_duplicates()


def _spread(links: pd.DataFrame, lookback: int, days: pd.DatetimeIndex) -> pd.DataFrame:
    """Each link once for every session whose lookback holds it, with its age there."""
    parts = []
    for age in range(lookback):
        moved = shift_sessions(links["session"], age, sessions=days)
        parts.append(links.assign(date=moved.to_numpy().astype(DATE_TYPE), age=age))
    spread = pd.concat(parts, ignore_index=True)
    return spread[spread["date"].notna()]


def _number_cells(spread: pd.DataFrame, key: str, allowed: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The distinct cells that may exist, and the links in them with their cell's number."""
    kept = spread.merge(allowed, on=[column for column in allowed.columns])
    kept["cell"] = kept.groupby(["date", key], sort=True).ngroup()
    cells = kept.drop_duplicates("cell").set_index("cell")[["date", key]].sort_index()
    return cells, kept


def _compute(cells: pd.DataFrame, spread: pd.DataFrame, factors: Mapping[str, Factor]) -> pd.DataFrame:
    table = cells.copy()
    fresh = spread[spread["age"] == 0]
    table["n_news"] = fresh["news_id"].groupby(fresh["cell"]).nunique().reindex(cells.index, fill_value=0)
    for name, factor in factors.items():
        seen = spread[spread["age"] < lookback_of(factor)]
        values = factor(seen, seen["cell"])
        if not isinstance(values, pd.Series):
            raise InvalidValueError(
                "factors", type(values).__name__, f"must return a Series, one value per cell, in {name!r}"
            )
        table[name] = values.reindex(cells.index).astype(float)
    return table.reset_index(drop=True)


def _mask_unobserved(table: pd.DataFrame, covered: pd.DataFrame, factors: Mapping[str, Factor]) -> pd.DataFrame:
    """Counts and sums over a window that was not observed in full are NaN."""
    table = table.assign(observed=table["date"].map(covered[1]).astype(float))
    for name, factor in factors.items():
        if needs_complete(factor):
            complete = table["date"].map(covered[lookback_of(factor)]) >= 1 - 1e-9
            table[name] = table[name].where(complete)
    return table


def observe(
    links: pd.DataFrame, dates: pd.Series, *, cutoff: str, coverage: pd.DataFrame | None, lookback: int,
    sessions: pd.DatetimeIndex,
) -> pd.DataFrame:  # fmt: skip
    """For each distinct date the least observed share of its last 1, 2, … ``lookback`` windows (columns)."""
    if coverage is None:
        coverage = infer_coverage(links)
    check(coverage, COVERAGE, parameter="coverage")
    wanted = pd.DatetimeIndex(sorted(dates.unique()))
    shares = pd.DataFrame(index=wanted, columns=range(1, lookback + 1), dtype=float)
    least = np.ones(len(wanted))
    for back in range(lookback):
        ends = shift_sessions(wanted, -back, sessions=sessions)
        starts = shift_sessions(wanted, -back - 1, sessions=sessions)
        if starts.isna().any():
            raise CalendarError(
                "sessions", str(sessions[0].date()), f"must begin {lookback} sessions before the first news"
            )
        least = np.minimum(least, _covered_share(known_at(starts, cutoff), known_at(ends, cutoff), coverage))
        shares[back + 1] = least
    return shares


def _covered_share(starts: pd.DatetimeIndex, ends: pd.DatetimeIndex, coverage: pd.DataFrame) -> np.ndarray:
    """Covered share of each window [start, end), averaged over the sources."""
    begin, close = (times.tz_convert("UTC").tz_localize(None).as_unit("us").asi8 for times in (starts, ends))
    shares = []
    for _, spans in coverage.groupby("source"):
        total = np.zeros(len(begin))
        for start, end in merge_spans(spans):
            overlap = np.minimum(close, end) - np.maximum(begin, start)
            total += np.clip(overlap, 0, None)
        shares.append(total / (close - begin))
    return np.clip(np.mean(shares, axis=0), 0, 1) if shares else np.zeros(len(begin))


def merge_spans(spans: pd.DataFrame) -> list[tuple[int, int]]:
    """One source's spans as microseconds, overlapping ones joined."""
    edges = [pd.DatetimeIndex(spans[name]).tz_convert("UTC").as_unit("us").asi8 for name in ("start", "end")]
    merged: list[tuple[int, int]] = []
    for start, end in sorted(zip(*edges, strict=True)):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def infer_coverage(news: pd.DataFrame) -> pd.DataFrame:
    """COVERAGE as the news suggest it: a source is unobserved where it is silent for over 24 hours.

    Every source is expected from the table's first news to its last; a source that begins later was
    unobserved before. Warns, since silence and absence look alike.
    """
    warnings.warn(
        "coverage is inferred from gaps of over 24 hours; give coverage= if you know it", CoverageWarning, stacklevel=4
    )
    when = effective_at(news["available_at"], news["time_precision"])
    spans = []
    for source, times in when.groupby(news["source"]):
        ordered = times.drop_duplicates().sort_values()
        part = (ordered.diff() > LONGEST_SILENCE).cumsum()
        bounds = ordered.groupby(part).agg(["min", "max"])
        spans.append(pd.DataFrame({"source": source, "start": bounds["min"], "end": bounds["max"]}))
    if not spans:
        empty = pd.Series([], dtype=pd.DatetimeTZDtype("us", TIMEZONE))
        return pd.DataFrame({"source": pd.Series([], dtype="str"), "start": empty, "end": empty})
    return pd.concat(spans, ignore_index=True)
