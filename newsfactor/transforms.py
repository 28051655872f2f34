"""Panels to panels: winsorise, standardise, rank and neutralise each day's cells among themselves; fill on request.

Every one is cross-sectional: a value depends on no other day's rows. Missing and infinite values stay out of every
statistic; missing ones stay missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from newsfactor.errors import InvalidValueError, TableError
from newsfactor.factors import SHIPPED, Factor, lookback_of
from newsfactor.schema import PANEL_BY_INDUSTRY, PANEL_BY_STOCK, UNIVERSE, Table, check, list_factors
from newsfactor.sessions import check_sessions, session_numbers

_TOO_SMALL = 1e-12


def winsorise(panel: pd.DataFrame, *, factors: Sequence[str] | None = None, share: float = 0.01) -> pd.DataFrame:
    """Draw each day's extremes in to its quantiles ``share`` and 1 − ``share``.

    Parameters
    ----------
    panel : DataFrame
        PANEL.
    factors : sequence of str, optional
        Columns to transform; every float column but ``observed`` if not given.
    share : float
        0 to 0.5: the share of the day's cells at either end.

    Returns
    -------
    DataFrame
        A PANEL with the same rows.

    Examples
    --------
    >>> winsorise(panel, share=0.05)  # doctest: +SKIP
    """
    if not 0 <= share < 0.5:
        raise InvalidValueError("share", share, "must lie in 0..0.5")
    table, names = _prepare(panel, factors)
    for name in names:
        days = table[name].groupby(table["date"])
        low, high = (_spread_back(days.quantile(edge), table) for edge in (share, 1 - share))
        table[name] = table[name].clip(low, high)
    return table


def zscore(panel: pd.DataFrame, *, factors: Sequence[str] | None = None) -> pd.DataFrame:
    """Each value less its day's mean, over its day's standard deviation (of the population).

    NaN where a day's values are all alike. Parameters and return as for :func:`winsorise`.
    """
    table, names = _prepare(panel, factors)
    for name in names:
        centred = table[name] - _spread_back(table[name].groupby(table["date"]).mean(), table)
        deviation = _spread_back(centred.pow(2).groupby(table["date"]).mean().pow(0.5), table)
        table[name] = centred / deviation.where(deviation > _TOO_SMALL)
    return table


def rank(panel: pd.DataFrame, *, factors: Sequence[str] | None = None) -> pd.DataFrame:
    """Each value's place among its day's, (rank − ½) / n in 0..1, equals sharing their mean rank.

    Parameters and return as for :func:`winsorise`.
    """
    table, names = _prepare(panel, factors)
    for name in names:
        days = table[name].groupby(table["date"])
        table[name] = (days.rank() - 0.5) / _spread_back(days.count(), table)
    return table


def neutralise(panel: pd.DataFrame, universe: pd.DataFrame, *, factors: Sequence[str] | None = None) -> pd.DataFrame:
    """The residual of each day's regression on industry dummies and log capitalisation.

    Both are the universe's of the day, and so of the previous close. A cell without industry or ``circ_mv``
    there is NaN; so is the only cell of its industry, of which nothing is left. Only for panels by stock.

    Parameters
    ----------
    panel : DataFrame
        PANEL by stock.
    universe : DataFrame
        UNIVERSE.
    factors : sequence of str, optional
        As for :func:`winsorise`.

    Returns
    -------
    DataFrame
        A PANEL with the same rows.
    """
    check(panel, PANEL_BY_STOCK, parameter="panel")
    check(universe, UNIVERSE, parameter="universe")
    table, names = _prepare(panel, factors)
    known = table[["date", "code"]].merge(universe[["date", "code", "industry", "circ_mv"]], how="left")
    size = np.log(known["circ_mv"].where(known["circ_mv"] > 0))
    for name in names:
        values = table[name].reset_index(drop=True)
        table[name] = _residuals(values, size, known["date"], known["industry"]).to_numpy()
    return table


def _residuals(values: pd.Series, size: pd.Series, date: pd.Series, industry: pd.Series) -> pd.Series:
    """Within groups of day and industry the dummies are the means (Frisch, Waugh and Lovell): one slope a day is left."""
    usable = values.notna() & size.notna() & industry.notna()
    groups = [date[usable], industry[usable]]
    y, x = (part[usable] - part[usable].groupby(groups).transform("mean") for part in (values, size))
    above, below = ((x * part).groupby(date[usable]).transform("sum") for part in (y, x))
    slope = (above / below.where(below > _TOO_SMALL)).fillna(0.0)
    alone = y.groupby(groups).transform("count") == 1
    return (y - slope * x).mask(alone).reindex(values.index)


def fill(
    panel: pd.DataFrame, universe: pd.DataFrame, *, value: float = 0.0, factors: Mapping[str, Factor] | None = None,
    sessions: pd.DatetimeIndex | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Give names without news a value, on the days on which it is known that there was none.

    Every (date, key) of the universe on the panel's dates has a row then, with ``n_news`` 0. A missing value is filled
    only where each session of the factor's lookback is in the panel with ``observed`` 1: what was not observed, or
    lies before the panel, stays NaN.

    Parameters
    ----------
    panel : DataFrame
        PANEL.
    universe : DataFrame
        UNIVERSE; a panel by industry takes its industries of the day.
    value : float
        What stands for no news.
    factors : mapping of str to function, optional
        The columns to fill, by the functions that made them: their lookbacks count. The library's own if not given.
    sessions : DatetimeIndex, optional
        As for :func:`newsfactor.panel`.

    Returns
    -------
    DataFrame
        PANEL sorted by date and key.

    Raises
    ------
    TableError
        If the panel has a factor whose function is not given.
    """
    table, names = _prepare(panel, None if factors is None else list(factors))
    known = SHIPPED if factors is None else factors
    unknown = [name for name in names if name not in known]
    if unknown:
        raise TableError("panel", unknown[0], "must be a factor of the library", remedy="give the functions with factors=")  # fmt: skip
    key = _key_of(panel)
    days = table[["date", "known_at", "observed"]].drop_duplicates("date")
    cells = universe.loc[universe[key].notna(), ["date", key]].drop_duplicates().merge(days, on="date")
    table = cells.merge(table.drop(columns=["known_at", "observed"]), on=["date", key], how="left")
    table["n_news"] = table["n_news"].fillna(0).astype("int64")
    runs = _observed_runs(days, check_sessions(sessions))
    for name in names:
        surely_none = table["date"].map(runs) >= lookback_of(known[name])
        table[name] = table[name].mask(table[name].isna() & surely_none, value)
    table = table[list(panel.columns)].sort_values(["date", key], ignore_index=True)
    table.attrs = dict(panel.attrs)
    return table


def _observed_runs(days: pd.DataFrame, calendar: pd.DatetimeIndex) -> pd.Series:
    """For each date of the panel, how many sessions up to it were observed in full without a break."""
    ordered = days.sort_values("date")
    slot = session_numbers(ordered["date"], sessions=calendar)
    whole = ordered["observed"].to_numpy() >= 1 - 1e-9
    runs, run, before = [], 0, -1
    for number, full in zip(slot.tolist(), whole.tolist(), strict=True):
        run = (run if number == before + 1 else 0) + 1 if full else 0
        before = number
        runs.append(run)
    return pd.Series(runs, index=pd.DatetimeIndex(ordered["date"]), dtype="int64")


def _prepare(panel: pd.DataFrame, factors: Sequence[str] | None) -> tuple[pd.DataFrame, list[str]]:
    """A copy of the panel without infinite values, and the columns that are meant."""
    form = _form_of(panel)
    check(panel, form, parameter="panel")
    floats = list_factors(panel, form)
    names = floats if factors is None else list(factors)
    missing = [name for name in names if name not in floats]
    if missing:
        raise TableError("panel", list(panel.columns), f"needs the float column {missing[0]!r}", remedy=f"it has {floats}")  # fmt: skip
    table = panel.copy()
    table[names] = table[names].replace([np.inf, -np.inf], np.nan)
    return table, names


def _form_of(panel: pd.DataFrame) -> Table:
    return PANEL_BY_STOCK if "code" in panel.columns else PANEL_BY_INDUSTRY


def _key_of(panel: pd.DataFrame) -> str:
    return _form_of(panel).key[-1]


def _spread_back(daily: pd.Series, table: pd.DataFrame) -> pd.Series:
    """A value per date, aligned with the rows."""
    spread: pd.Series = table["date"].map(daily)
    return spread
