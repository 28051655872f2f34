"""What the factors of a panel are measured on: grids over one unbroken stretch of sessions, a column a name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from newsfactor.cross_sections import assign_buckets, demean_in_groups, rank_rows
from newsfactor.exposures import measure_exposures
from newsfactor.measures import Classes, Market, Sample
from newsfactor.returns import NOTES, Outcomes, diagnostic_returns, measure_industries, measure_outcomes
from newsfactor.sessions import session_numbers

SIZES = ("small", "middle", "large")
CONTROLS = ("return_1", "return_5", "return_20", "turnover", "log_circ_mv")


@dataclass(frozen=True)
class Cells:
    """A panel as grids: where it has rows, where their windows were observed, and each factor (NaN: none).

    ``moved`` rows were dated on a closed day and stand on the next session; ``superseded`` ones gave way there to
    a row of a later date.
    """

    days: pd.DatetimeIndex
    names: pd.Index
    held: np.ndarray
    observed: np.ndarray
    factors: dict[str, np.ndarray]
    rows: int
    moved: int
    superseded: int

    @property
    def told(self) -> np.ndarray:
        """The sessions on which the panel has any row."""
        return np.asarray(self.held.any(axis=1))


@dataclass(frozen=True)
class Setting:
    """The sample, and by horizon the number of the reason (in ``REASONS``) why a cell has no outcome."""

    sample: Sample
    reasons: dict[int, np.ndarray]
    notes: dict[int, dict[str, int]]
    controls: dict[str, int]  # the sessions on which each is known at all


def draw_cells(panel: pd.DataFrame, key: str, factors: Sequence[str], calendar: pd.DatetimeIndex) -> Cells:
    """Lay a panel out; rows of closed days go to the next session, since that is when they could be used."""
    day, found = pd.factorize(panel["date"], sort=True)
    dates = pd.DatetimeIndex(found).as_unit("us")
    session = np.minimum(calendar.searchsorted(dates), len(calendar) - 1)
    session_numbers(calendar[session].where(dates <= calendar[-1], dates), sessions=calendar, parameter="panel['date']")
    moved = (calendar.to_numpy()[session] != dates.to_numpy())[day]
    column, names = pd.factorize(panel[key], sort=True)
    place, first = session[day], int(session.min())
    cell = (place - first) * len(names) + column
    shape = (int(place.max()) - first + 1, len(names))
    # Rows of their own session are laid last, and among the others the later date.
    order = np.lexsort((day, ~moved)) if moved.any() else slice(None)

    def lay(values: np.ndarray, empty: float | bool) -> np.ndarray:
        grid = np.full(shape, empty, dtype=values.dtype)
        grid.reshape(-1)[cell[order]] = values[order]
        return grid

    held = lay(np.ones(len(panel), dtype=bool), False)
    values = {name: panel[name].to_numpy(dtype=float, na_value=np.nan) for name in factors}
    grids = {name: lay(np.where(np.isfinite(column), column, np.nan), np.nan) for name, column in values.items()}
    observed = lay(panel["observed"].to_numpy() > 0, False)
    days = calendar[first : first + shape[0]]
    return Cells(
        days,
        pd.Index(names, dtype="str"),
        held,
        observed,
        grids,
        len(panel),
        int(moved.sum()),
        len(panel) - int(held.sum()),
    )


def draw_stocks(
    cells: Cells, prices: pd.DataFrame, universe: pd.DataFrame, *, horizons: Sequence[int], entry: str,
    judging: Mapping[str, Any], **options: Any,
) -> Setting:  # fmt: skip
    """Outcomes of each stock, with what was known of it: industry, size and past returns; ``judging`` goes to the sample."""
    where = (cells.days, cells.names)
    with ThreadPoolExecutor() as pool:
        told = pool.submit(
            measure_outcomes, prices, *where, horizons=horizons, entry=entry, universe=universe, **options
        )
        same_day = diagnostic_returns(
            prices, *where, universe=universe, sessions=options["sessions"], adjusted=options["adjusted"]
        )
        known = measure_exposures(prices, universe, *where, **options)
        outcomes = told.result()
    size = assign_buckets(rank_rows(known.log_circ_mv), len(SIZES))
    classes = {"industry": Classes(known.industry, tuple(known.industries)), "size": Classes(size, SIZES)}
    controls = [getattr(known, name) for name in CONTROLS]
    tradable = outcomes.can_buy & outcomes.can_sell
    markets = _tell_markets(outcomes)
    if judging["neutralize"] == "industry_returns":
        covered = np.any([np.isfinite(values) for values in cells.factors.values()], axis=0)
        markets = {horizon: _neutralise(market, classes["industry"], covered) for horizon, market in markets.items()}
    sample = Sample(markets, classes, tradable, known.log_circ_mv, controls, same_day, **judging)
    return _set(sample, outcomes, cells)


def draw_industries(
    cells: Cells, prices: pd.DataFrame, universe: pd.DataFrame, *, horizons: Sequence[int], entry: str,
    judging: Mapping[str, Any], **options: Any,
) -> Setting:  # fmt: skip
    """Capitalisation-weighted outcomes of each industry, of which nothing else is known."""
    outcomes = measure_industries(prices, universe, cells.days, cells.names, horizons=horizons, entry=entry, **options)
    tradable = outcomes.can_buy & outcomes.can_sell
    unknown = np.full(cells.held.shape, np.nan)
    return _set(Sample(_tell_markets(outcomes), {}, tradable, unknown, [], {}, **judging), outcomes, cells)


def _tell_markets(outcomes: Outcomes) -> dict[int, Market]:
    return {
        horizon: Market(earned, outcomes.naive[horizon], outcomes.can_buy, outcomes.can_sell)
        for horizon, earned in outcomes.returns.items()
    }


def _neutralise(market: Market, industry: Classes, covered: np.ndarray) -> Market:
    """Returns less the mean of those that could be had of their industry's names that have a factor."""

    def less(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
        return demean_in_groups(values, industry.number, len(industry.labels), counted=counted)

    return replace(
        market, returns=less(market.returns, covered & np.isfinite(market.earned)), naive=less(market.naive, covered)
    )


def _set(sample: Sample, outcomes: Outcomes, cells: Cells) -> Setting:
    notes = {horizon: _count_notes(outcomes.notes[horizon], cells.held) for horizon in sample.markets}
    known = {
        name: int(np.isfinite(control[cells.told]).any(axis=1).sum())
        for name, control in zip(CONTROLS[: len(sample.controls)], sample.controls, strict=True)
    }
    return Setting(sample, dict(outcomes.reasons), notes, known)


def _count_notes(notes: np.ndarray, held: np.ndarray) -> dict[str, int]:
    counts = np.bincount(notes[held], minlength=len(NOTES))
    return {name: int(count) for name, count in zip(NOTES, counts, strict=True) if name and count}


def fingerprint(frame: pd.DataFrame) -> str:
    """Twelve digits that change with any name, value or row of a table."""
    digest = hashlib.sha1(usedforsecurity=False)
    for name in frame.columns:
        digest.update(str(name).encode())
        values = frame[name]
        if not isinstance(values.dtype, np.dtype) or values.dtype == object:
            numbers, texts = pd.factorize(values)
            digest.update("\n".join(map(str, texts)).encode())
            values = pd.Series(numbers)
        digest.update(np.ascontiguousarray(values.to_numpy()).view(np.uint8).data)
    return digest.hexdigest()[:12]


def split_sessions(
    days: pd.DatetimeIndex, through: pd.Timestamp | None, calendar: pd.DatetimeIndex
) -> Mapping[str, np.ndarray]:
    """Which sessions make up each sample: all, and in and out of what the tagger was trained on.

    In are those whose window may hold news of ``through`` or before: whose predecessor is not after it.
    """
    samples = {"all": np.ones(len(days), dtype=bool)}
    if through is None:
        return samples
    place = session_numbers(days, sessions=calendar)
    before = calendar.to_numpy()[np.maximum(place - 1, 0)]
    inside = (before <= np.datetime64(through)) | (place == 0)
    return samples | {"in": inside, "out": ~inside} if inside.any() else samples
