"""What a factor did each day: correlations, buckets and legs, as arrays of sessions by names.

Every figure here is of one session, so that blocks of sessions are worked on side by side. What compares sessions takes
the ranks and buckets that are left behind (`Traits`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from newsfactor.cross_sections import (
    Ranked,
    assign_buckets,
    assign_buckets_around,
    average_in_groups,
    average_rows,
    correlate_in_groups,
    correlate_ranks,
    correlate_rows,
    demean_in_groups,
    rank_in_groups,
    rank_rows,
    residualise,
)
from newsfactor.parallel import map_beside
from newsfactor.statistics import MIN_NAMES

MIN_CLASS = 5  # names of one industry or size that a day needs
NEUTRALIZE = (None, "industry", "industry_size", "industry_returns")
_ENOUGH = 100_000  # values tell which is common
_BLOCK = 250_000  # cells worked on at once: a dozen arrays of 8 bytes each

Key = tuple[str, int]  # factor and horizon


@dataclass(frozen=True)
class Classes:
    """A class of each cell, numbered from 0 (−1: none), and what the classes are called."""

    number: np.ndarray
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Market:
    """What each cell earned over one horizon, sessions × names, NaN where it is not known, and which sides could enter."""

    returns: np.ndarray
    naive: np.ndarray  # by prices that could not be traded at, too
    can_buy: np.ndarray
    can_sell: np.ndarray

    @property
    def earned(self) -> np.ndarray:
        """What could be had on either side."""
        return np.where(self.can_buy & self.can_sell, self.returns, np.nan)


@dataclass(frozen=True)
class Sample:
    """What every factor is measured against; ``log_circ_mv`` and ``controls`` are what was known of each name."""

    markets: Mapping[int, Market]
    classes: Mapping[str, Classes]
    tradable: np.ndarray  # could be entered on either side
    log_circ_mv: np.ndarray
    controls: Sequence[np.ndarray]
    same_day: Mapping[str, np.ndarray]  # the gap before and the session itself, for diagnosis
    quantiles: int
    min_names: int = MIN_NAMES
    neutralize: str | None = None


@dataclass(frozen=True)
class Factor:
    """A factor's values, sessions × names, NaN where it has none, and the value that its buckets lie around, if any."""

    values: np.ndarray
    mode: float | None = None


@dataclass(frozen=True)
class Daily:
    """One factor at one horizon: a figure per session, per session and bucket, or per session and class."""

    ic: np.ndarray
    rank_ic: np.ndarray
    naive_rank_ic: np.ndarray
    incremental_rank_ic: np.ndarray
    n_names: np.ndarray
    bucket_return: np.ndarray
    bucket_names: np.ndarray
    mean_return: np.ndarray
    long_excess: np.ndarray
    short_excess: np.ndarray
    by: dict[str, np.ndarray]
    by_names: dict[str, np.ndarray]


@dataclass(frozen=True)
class Traits:
    """One factor's ranks as standard scores of their day (NaN without a value), its buckets (−1), and diagnostics."""

    scores: np.ndarray
    buckets: np.ndarray
    same_day: dict[str, np.ndarray]


@dataclass(frozen=True)
class Measures:
    """The daily figures of each factor and horizon, each factor's traits, and the scores of what was earned."""

    daily: dict[Key, Daily]
    traits: dict[str, Traits]
    outcomes: dict[int, np.ndarray]


def find_mode(values: np.ndarray, quantiles: int) -> float | None:
    """The factor's most common value, if on the median day more names share it than one bucket should hold."""
    finite = values[np.isfinite(values)]
    if not len(finite) or quantiles < 3:
        return None
    levels, counts = np.unique(finite[:: len(finite) // _ENOUGH + 1], return_counts=True)
    mode = levels[counts.argmax()]
    held = np.isfinite(values).any(axis=1)
    shares = (values[held] == mode).sum(axis=1) / np.isfinite(values[held]).sum(axis=1)
    return float(mode) if np.median(shares) > 1 / quantiles else None


def measure(sample: Sample, factors: Mapping[str, Factor]) -> Measures:
    """Measure every factor at every horizon, blocks of sessions side by side."""
    sessions, names = next(iter(factors.values())).values.shape
    step = max(_BLOCK // max(names, 1), 1)
    blocks = [slice(start, start + step) for start in range(0, max(sessions, 1), step)]
    whole: Measures = _join(
        map_beside(lambda rows: _measure_block(_cut(sample, rows), _cut(dict(factors), rows)), blocks)
    )
    return whole


def _cut(value: Any, rows: slice) -> Any:
    """The same structure with some rows of every array in it."""
    if isinstance(value, np.ndarray):
        return value[rows]
    if isinstance(value, dict):
        return {key: _cut(part, rows) for key, part in value.items()}
    if isinstance(value, list):
        return [_cut(part, rows) for part in value]
    if isinstance(value, Sample | Market | Classes | Factor):
        return type(value)(*(_cut(getattr(value, field.name), rows) for field in fields(value)))
    return value


def _join(parts: list[Any]) -> Any:
    """The inverse: structures one below the other."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    if isinstance(parts[0], dict):
        return {key: _join([part[key] for part in parts]) for key in parts[0]}
    return type(parts[0])(*(_join([getattr(part, field.name) for part in parts]) for field in fields(parts[0])))


class _Ranks:
    """Ranks of values on a mask, within the day and within classes; on other masks only rows that differ are new."""

    def __init__(self, values: np.ndarray, mask: np.ndarray, parent: _Ranks | None = None) -> None:
        self.values, self.mask, self.parent = values, mask, parent
        self.rows = np.arange(len(mask)) if parent is None else np.flatnonzero((mask != parent.mask).any(axis=1))
        self.fresh = rank_rows(np.where(mask, values, np.nan)[self.rows])
        self.ranks: np.ndarray = self._spread(self.fresh.ranks, None if parent is None else parent.ranks)
        self._classed: dict[str, np.ndarray] = {}

    def on(self, mask: np.ndarray) -> _Ranks:
        return _Ranks(self.values, mask, self)

    def within(self, kind: str, classes: Classes) -> np.ndarray:
        if kind not in self._classed:
            fresh = rank_in_groups(self.fresh, classes.number[self.rows], len(classes.labels))
            above = None if self.parent is None else self.parent.within(kind, classes)
            self._classed[kind] = self._spread(fresh, above)
        return self._classed[kind]

    def _spread(self, fresh: np.ndarray, above: np.ndarray | None) -> np.ndarray:
        if above is None or not len(self.rows):
            return fresh if above is None else above
        whole = above.copy()
        whole[self.rows] = fresh
        return whole


def _measure_block(sample: Sample, factors: Mapping[str, Factor]) -> Measures:
    anywhere = np.any([np.isfinite(factor.values) for factor in factors.values()], axis=0)
    returns = {
        horizon: _Ranks(earned := market.earned, anywhere & np.isfinite(earned))
        for horizon, market in sample.markets.items()
    }
    windows = {name: _Ranks(value, np.isfinite(value)) for name, value in sample.same_day.items()}
    daily, traits = {}, {}
    for name, factor in factors.items():
        values = _neutralise(factor.values, sample)
        own = _Ranks(values, np.isfinite(values))
        rest = _Ranks(*_incremental(values, sample))
        buckets = _bucket(values, factor, own.fresh, sample)
        traits[name] = Traits(_score(own.fresh), buckets, _correlate_same_day(own, windows, sample.min_names))
        for horizon, market in sample.markets.items():
            daily[name, horizon] = _measure_one(sample, market, own, rest, returns[horizon], buckets)
    outcomes = {horizon: _score(_rank_all(ranks)) for horizon, ranks in returns.items()}
    return Measures(daily, traits, outcomes)


def _rank_all(ranks: _Ranks) -> Ranked:
    """Ranks of every known value, also of names without a factor."""
    known = np.isfinite(ranks.values)
    return ranks.fresh if (known == ranks.mask).all() else rank_rows(ranks.values)


def _correlate_same_day(own: _Ranks, windows: Mapping[str, _Ranks], least: int) -> dict[str, np.ndarray]:
    result = {}
    for name, window in windows.items():
        both = own.mask & window.mask
        value = correlate_ranks(own.on(both).ranks, window.on(both).ranks)
        result[name] = np.where(both.sum(axis=1) >= least, value, np.nan)
    return result


def _neutralise(values: np.ndarray, sample: Sample) -> np.ndarray:
    if sample.neutralize == "industry":
        industry = sample.classes["industry"]
        return demean_in_groups(values, industry.number, len(industry.labels))
    if sample.neutralize == "industry_size":
        industry = sample.classes["industry"]
        return residualise(values, [sample.log_circ_mv], industry.number, len(industry.labels))
    return values


def _incremental(values: np.ndarray, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """What the controls do not explain of the factor, and where it is known."""
    if not sample.controls:
        return np.full(values.shape, np.nan), np.zeros(values.shape, dtype=bool)
    industry = sample.classes["industry"]
    rest = residualise(
        np.where(sample.tradable, values, np.nan), sample.controls, industry.number, len(industry.labels)
    )
    return rest, np.isfinite(rest)


def _bucket(values: np.ndarray, factor: Factor, ranked: Ranked, sample: Sample) -> np.ndarray:
    if factor.mode is None:
        return assign_buckets(ranked, sample.quantiles)
    return assign_buckets_around(values, factor.mode, sample.quantiles)


def _score(ranked: Ranked) -> np.ndarray:
    centred = ranked.ranks - (ranked.count[:, None] + 1) / 2
    deviation = np.sqrt(np.nansum(centred**2, axis=1) / np.maximum(ranked.count, 1))
    return (centred / np.where(deviation > 0, deviation, 1.0)[:, None]).astype(np.float32)


def _measure_one(
    sample: Sample, market: Market, own: _Ranks, rest: _Ranks, returns: _Ranks, buckets: np.ndarray
) -> Daily:
    mask = own.mask & np.isfinite(returns.values)
    factor, outcome = own.on(mask), returns.on(mask)
    n = mask.sum(axis=1)
    enough = n >= sample.min_names
    rank_ic = np.where(enough, correlate_ranks(factor.ranks, outcome.ranks), np.nan)
    both = mask & rest.mask
    incremental = correlate_ranks(rest.on(both).ranks, returns.on(both).ranks)
    judged = np.isfinite(rank_ic)[:, None]
    covered = np.where(mask & judged, returns.values, np.nan)
    means, held = average_in_groups(covered, buckets, sample.quantiles)
    average, top = average_rows(covered), buckets == sample.quantiles - 1
    by = {
        kind: correlate_in_groups(
            factor.within(kind, classes), outcome.within(kind, classes), classes.number, len(classes.labels)
        )
        for kind, classes in sample.classes.items()
    }
    return Daily(
        ic=np.where(enough, correlate_rows(np.where(mask, own.values, np.nan), returns.values), np.nan),
        rank_ic=rank_ic,
        naive_rank_ic=_correlate_naive(own.values, market.naive, returns.values, mask, rank_ic, sample.min_names),
        incremental_rank_ic=np.where(both.sum(axis=1) >= sample.min_names, incremental, np.nan),
        n_names=n, bucket_return=means, bucket_names=held, mean_return=average,
        long_excess=average_rows(np.where(top & market.can_buy, market.returns, np.nan)) - average,
        short_excess=average_rows(np.where((buckets == 0) & market.can_sell, market.returns, np.nan)) - average,
        by={kind: np.where(names >= MIN_CLASS, value, np.nan) for kind, (value, names) in by.items()},
        by_names={kind: names for kind, (_, names) in by.items()},
    )  # fmt: skip


def _correlate_naive(
    values: np.ndarray, naive: np.ndarray, earned: np.ndarray, mask: np.ndarray, rank_ic: np.ndarray, least: int
) -> np.ndarray:
    """The RankIC with every known return; where it differs from the tradable one in no name, that one."""
    known = np.isfinite(values) & np.isfinite(naive)
    rows = ((known != mask) | (mask & (naive != earned))).any(axis=1)
    result = rank_ic.copy()
    kept = known[rows]
    x, y = (rank_rows(np.where(kept, part[rows], np.nan)).ranks for part in (values, naive))
    result[rows] = np.where(kept.sum(axis=1) >= least, correlate_ranks(x, y), np.nan)
    return result
