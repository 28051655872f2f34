"""Daily cross-sections as arrays, a row a session and a column a name: ranks, correlations, residuals, buckets.

NaN marks a cell without a value. Nothing here looks from one row to another, so that rows may be worked on in any parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ranked:
    """Ranks of each row's finite values from 1, equal ones sharing their mean rank, with the order that gave them."""

    ranks: np.ndarray
    order: np.ndarray
    count: np.ndarray

    def take(self, rows: np.ndarray) -> Ranked:
        return Ranked(self.ranks[rows], self.order[rows], self.count[rows])


def rank_rows(values: np.ndarray) -> Ranked:
    """Rank each row among its finite values; NaN stays NaN."""
    present = np.isfinite(values)
    order = np.argsort(np.where(present, values, np.nan), axis=1)
    ordered = np.take_along_axis(values, order, axis=1)
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, _mean_positions(ordered[:, 1:] != ordered[:, :-1]) + 1, axis=1)
    ranks[~present] = np.nan
    return Ranked(ranks, order, present.sum(axis=1))


def rank_in_groups(ranked: Ranked, groups: np.ndarray, count: int) -> np.ndarray:
    """Ranks within each row's groups (0..count−1; −1 is none and NaN), from the ranks within the row."""
    keyed = np.where(np.isnan(ranked.ranks) | (groups < 0), count, groups).astype(np.int16)
    by_rank = np.take_along_axis(keyed, ranked.order, axis=1)
    place = np.argsort(by_rank, axis=1, kind="stable")
    order = np.take_along_axis(ranked.order, place, axis=1)
    group = np.take_along_axis(by_rank, place, axis=1)
    value = np.take_along_axis(ranked.ranks, order, axis=1)
    starts = group[:, 1:] != group[:, :-1]
    within = _mean_positions(starts | (value[:, 1:] != value[:, :-1])) - _first_positions(starts)
    ranks = np.empty(ranked.ranks.shape)
    np.put_along_axis(ranks, order, within + 1, axis=1)
    ranks[keyed == count] = np.nan
    return ranks


def _first_positions(changes: np.ndarray) -> np.ndarray:
    """For each place of a row the first place of its run; ``changes`` says where a place differs from the one before."""
    place = np.arange(changes.shape[1] + 1, dtype=np.int32)
    first = np.zeros((len(changes), len(place)), dtype=np.int32)
    first[:, 1:] = np.where(changes, place[1:], 0)
    runs: np.ndarray = np.maximum.accumulate(first, axis=1)
    return runs


def _mean_positions(changes: np.ndarray) -> np.ndarray:
    """For each place of a row the mean place of its run of equals."""
    last = changes.shape[1]
    if changes.all():
        return np.broadcast_to(np.arange(last + 1, dtype=float), (len(changes), last + 1))
    mirrored = _first_positions(changes[:, ::-1])[:, ::-1]
    means: np.ndarray = (_first_positions(changes) + (last - mirrored)) / 2
    return means


def correlate_rows(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each row over the cells where both are finite; NaN where either does not vary."""
    both = np.isfinite(x) & np.isfinite(y)
    x, y = _centre(x, both), _centre(y, both)
    xy, xx, yy = (np.einsum("tn,tn->t", *pair) for pair in ((x, y), (x, x), (y, y)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((xx > 0) & (yy > 0), xy / np.sqrt(xx * yy), np.nan)


def _centre(values: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Values less their row's mean, 0 where they are not kept or where all that are kept are equal."""
    zeroed = np.where(kept, values, 0.0)
    centred: np.ndarray = zeroed - (zeroed.sum(axis=1) / np.maximum(kept.sum(axis=1), 1))[:, None]
    low = np.where(kept, values, np.inf).min(axis=1, initial=np.inf)
    high = np.where(kept, values, -np.inf).max(axis=1, initial=-np.inf)
    centred[~kept | (low == high)[:, None]] = 0.0
    return centred


def correlate_in_groups(x: np.ndarray, y: np.ndarray, groups: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Spearman's correlation in each row's groups from ranks within them, and the number of names (both rows × groups)."""
    cell = _flat_cells(groups, count)
    kept = np.isfinite(x) & np.isfinite(y) & (groups >= 0)
    cell, x, y = cell[kept], x[kept], y[kept]
    size = len(groups) * count
    n = np.bincount(cell, minlength=size)
    middle = (n + 1) / 2  # of ranks, whatever their ties
    x, y = x - middle[cell], y - middle[cell]
    xy, xx, yy = (np.bincount(cell, weights=part, minlength=size) for part in (x * y, x * x, y * y))
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.where((xx > 0) & (yy > 0), xy / np.sqrt(xx * yy), np.nan)
    return value.reshape(-1, count), n.reshape(-1, count)


def demean_in_groups(values: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Values less the mean of their row's group; NaN without a group."""
    kept = np.isfinite(values) & (groups >= 0)
    cell = _flat_cells(groups, count)[kept]
    size = len(groups) * count
    means = np.bincount(cell, weights=values[kept], minlength=size) / np.maximum(np.bincount(cell, minlength=size), 1)
    result = np.full(values.shape, np.nan)
    result[kept] = values[kept] - means[cell]
    return result


def residualise(values: np.ndarray, controls: Sequence[np.ndarray], groups: np.ndarray, count: int) -> np.ndarray:
    """The residual of each row's regression on controls and group dummies; NaN where any of them is missing.

    With everything demeaned in groups the dummies are gone (Frisch, Waugh and Lovell).
    """
    kept = np.isfinite(values) & (groups >= 0)
    for control in controls:
        kept &= np.isfinite(control)
    parts = [demean_in_groups(np.where(kept, part, np.nan), groups, count) for part in (values, *controls)]
    y, x = np.nan_to_num(parts[0]), np.stack([np.nan_to_num(part) for part in parts[1:]], axis=1)
    scale = np.sqrt(np.einsum("tkn,tkn->tk", x, x))
    x /= np.where(scale > 0, scale, 1.0)[:, :, None]
    slopes = np.linalg.pinv(x @ x.transpose(0, 2, 1), hermitian=True, rcond=1e-10) @ (x @ y[:, :, None])
    residual: np.ndarray = y - (slopes.transpose(0, 2, 1) @ x)[:, 0]
    # What a regression explains in full leaves only rounding, which would still have ranks.
    size = np.abs(np.where(kept, values, 0.0)).max(axis=1)
    level = np.abs(residual).max(axis=1) <= 1e-9 * size
    residual[~kept | level[:, None]] = np.nan
    return residual


def assign_buckets(ranked: Ranked, quantiles: int) -> np.ndarray:
    """The bucket 0..quantiles−1 of each cell by its rank, equal values sharing one; −1 without a value."""
    with np.errstate(invalid="ignore"):
        bucket = (ranked.ranks - 0.5) * quantiles // ranked.count[:, None]
    numbers: np.ndarray = np.nan_to_num(bucket, nan=-1).astype(np.int8)
    return numbers


def assign_buckets_around(values: np.ndarray, mode: float, quantiles: int) -> np.ndarray:
    """Buckets for a factor with one very common value: it has the middle one, what lies below and above is split by rank.

    At least three.
    """
    middle = quantiles // 2
    bucket: np.ndarray = np.where(values == mode, middle, -1).astype(np.int8)
    for chosen, first, count in ((values < mode, 0, middle), (values > mode, middle + 1, quantiles - 1 - middle)):
        part = assign_buckets(rank_rows(np.where(chosen, values, np.nan)), count)
        bucket[chosen] = part[chosen] + first
    return bucket


def average_in_groups(values: np.ndarray, groups: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean of each row's groups (NaN where empty), and the number of finite cells (both rows × groups)."""
    kept = np.isfinite(values) & (groups >= 0)
    cell = _flat_cells(groups, count)[kept]
    size = len(groups) * count
    n = np.bincount(cell, minlength=size)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(cell, weights=values[kept], minlength=size) / n
    return mean.reshape(-1, count), n.reshape(-1, count)


def _flat_cells(groups: np.ndarray, count: int) -> np.ndarray:
    cells: np.ndarray = np.arange(len(groups))[:, None] * count + groups
    return cells
