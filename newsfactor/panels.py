"""Links to daily panels, with the share of each window that was observed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from newsfactor.cells import Chosen, allowed_cells, arrange, compute
from newsfactor.coverage import CoverageWarning as CoverageWarning
from newsfactor.coverage import observe
from newsfactor.errors import InvalidValueError
from newsfactor.factors import DEFAULT, Factor, lookback_of, needs_complete
from newsfactor.schema import LINKS, UNIVERSE, check
from newsfactor.sessions import check_cutoff, check_sessions, known_at
from newsfactor.taxonomy import SHENWAN_LEVEL1

BY = ("stock", "industry", "industry_tagged", "industry_from_stocks", "industry_both")


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
    rows, again = arrange(links, chosen, cutoff, days, identity="story_id" if by == "industry_both" else "news_id")
    allowed = allowed_cells(universe, rows, days, key)
    counts = counts | ({"same news again": again} if again else {})
    inside = int(allowed.at(rows).sum())
    counts |= {"outside the universe": len(rows.slot) - inside, "used": inside}
    table = compute(links, rows, factors, allowed, days).rename(columns={"key": key})
    if by == "industry_from_stocks":
        table, key = _weigh_by_value(table, universe, list(factors)), "industry"
    longest = max([lookback_of(factor) for factor in factors.values()], default=1)
    number, dates = pd.factorize(table["date"])
    covered = observe(links, pd.Series(dates), cutoff=cutoff, coverage=coverage, lookback=longest, sessions=days)
    table = _mask_unobserved(table, covered.loc[dates], number, factors)
    table["known_at"] = known_at(pd.DatetimeIndex(dates), cutoff).take(number)
    table = table[["date", key, "known_at", "observed", "n_news", *factors]]
    table.attrs = {
        "rows": counts, "cutoff": cutoff, "taggers": sorted(pd.Index(links["tagger"].unique()).dropna()),
        "trained_through": _latest(links["trained_through"]),
    }  # fmt: skip
    return table


def _latest(dates: pd.Series) -> str | None:
    last = dates.max()
    return None if pd.isna(last) else str(last.date())


# Which links count, and for what.


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
    return Chosen(kept, links["code"].astype("category").iloc[kept], share, np.zeros(len(kept), dtype=bool)), counts


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


# From cells to the table.


def _weigh_by_value(table: pd.DataFrame, universe: pd.DataFrame, factors: list[str]) -> pd.DataFrame:
    """The mean of each industry's stocks, weighted by the capitalisation that the universe knows on the day."""
    stocks = table.merge(universe[["date", "code", "industry", "circ_mv"]], on=["date", "code"])
    stocks = stocks[stocks["industry"].isin(SHENWAN_LEVEL1)]
    groups = stocks.groupby(["date", "industry"])
    cell, means = groups.ngroup(), {"n_news": groups["n_news"].sum()}
    value = stocks["circ_mv"].where(stocks["circ_mv"] > 0)
    for name in factors:
        weight = value.where(stocks[name].notna())
        unknown = weight.groupby(cell).transform("count") == 0
        weight = weight.mask(unknown & stocks[name].notna(), 1.0)
        below = weight.groupby(cell).sum(min_count=1)
        means[name] = ((weight * stocks[name]).groupby(cell).sum(min_count=1) / below).set_axis(means["n_news"].index)
    return pd.DataFrame(means).reset_index()


def _mask_unobserved(
    table: pd.DataFrame, covered: pd.DataFrame, number: np.ndarray, factors: Mapping[str, Factor]
) -> pd.DataFrame:
    """Counts and sums over a window that was not observed in full are NaN; ``number`` is a row's among ``covered``."""
    table = table.assign(observed=covered[1].to_numpy(dtype=float)[number])
    for name, factor in factors.items():
        torn = covered[lookback_of(factor)].to_numpy() < 1 - 1e-9
        if needs_complete(factor) and torn.any():
            table[name] = table[name].mask(torn[number])
    return table
