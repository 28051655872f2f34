"""When each source was observed, and what share of each session's window that covers."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd

from newsfactor.errors import CalendarError
from newsfactor.schema import COVERAGE, TIMEZONE, check
from newsfactor.sessions import effective_at, known_at, session_numbers

LONGEST_SILENCE = pd.Timedelta(hours=24)


class CoverageWarning(UserWarning):
    """Coverage was inferred from the news themselves."""


def infer_coverage(news: pd.DataFrame) -> pd.DataFrame:
    """COVERAGE as the news suggest it: a source is unobserved from 24 hours after its last news to its next.

    It knows no more than could be known at the time: a source counts from its own first news on, and silence is
    taken for absence only when it has lasted for 24 hours. So an hour's outage is not seen; give coverage if you
    know it. Warns, since silence and absence look alike.

    Parameters
    ----------
    news : DataFrame
        NEWS, TAGS or LINKS.

    Returns
    -------
    DataFrame
        COVERAGE, one row per source and unbroken stretch. Empty in, empty out.
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
        spans.append(pd.DataFrame({"source": source, "start": bounds["min"], "end": bounds["max"] + LONGEST_SILENCE}))
    if not spans:
        empty = pd.Series([], dtype=pd.DatetimeTZDtype("us", TIMEZONE))
        return pd.DataFrame({"source": pd.Series([], dtype="str"), "start": empty, "end": empty})
    return pd.concat(spans, ignore_index=True)


def observe(
    links: pd.DataFrame, dates: pd.Series, *, cutoff: str, coverage: pd.DataFrame | None, lookback: int,
    sessions: pd.DatetimeIndex,
) -> pd.DataFrame:  # fmt: skip
    """For each distinct date the least observed share of its last 1, 2, … ``lookback`` windows (columns)."""
    if coverage is None:
        coverage = infer_coverage(links)
    check(coverage, COVERAGE, parameter="coverage")
    wanted = pd.DatetimeIndex(sorted(dates.unique()))
    if wanted.empty:
        return pd.DataFrame(index=wanted, columns=range(1, lookback + 1), dtype=float)
    slot = session_numbers(wanted, sessions=sessions)
    first = int(slot[0]) - lookback
    if first < 0:
        raise CalendarError(
            "sessions", str(sessions[0].date()), f"must begin {lookback} sessions before the first news"
        )
    closes = known_at(sessions[first : int(slot[-1]) + 1], cutoff)
    shares = covered_share(closes[:-1], closes[1:], coverage)
    back = np.column_stack([shares[slot - first - 1 - age] for age in range(lookback)])
    return pd.DataFrame(np.minimum.accumulate(back, axis=1), index=wanted, columns=range(1, lookback + 1))


def covered_share(starts: pd.DatetimeIndex, ends: pd.DatetimeIndex, coverage: pd.DataFrame) -> np.ndarray:
    """Covered share of each window [start, end), averaged over the sources that had begun before its end.

    A source counts from its first start on: one that is added later leaves the past as it was.
    """
    begin, close = (times.tz_convert("UTC").tz_localize(None).as_unit("us").asi8 for times in (starts, ends))
    covered, expected = np.zeros(len(begin)), np.zeros(len(begin))
    for _, spans in coverage.groupby("source"):
        merged = merge_spans(spans)
        overlaps = [np.clip(np.minimum(close, end) - np.maximum(begin, start), 0, None) for start, end in merged]
        covered += np.sum(overlaps, axis=0) / (close - begin)
        expected += merged[0][0] < close
    return np.clip(np.divide(covered, expected, out=np.zeros(len(begin)), where=expected > 0), 0, 1)


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
