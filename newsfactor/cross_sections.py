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
    small = np.int8 if count < 127 else np.int16  # sorted by digits: a pass a byte
    keyed = np.where(np.isnan(ranked.ranks) | (groups < 0), count, groups).astype(small)
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


def correlate_ranks(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson's correlation of each row's ranks, both of the same cells; NaN where either does not vary.

    Ranks from 1 to n have the mean (n + 1) / 2 whatever their ties, and sums of their products are exact.
    """
    n = np.isfinite(x).sum(axis=1)
    x, y = np.nan_to_num(x), np.nan_to_num(y)
    xy, xx, yy = (np.einsum("tn,tn->t", *pair) for pair in ((x, y), (x, x), (y, y)))
    return _correlate_sums(xy, xx, yy, n)


def correlate_in_groups(x: np.ndarray, y: np.ndarray, groups: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The same in each row's groups, of ranks within them, and the number of names (both rows × groups)."""
    cell = _cells(groups, np.isfinite(x) & np.isfinite(y), count)
    n = _add_up(None, cell, count)
    xy, xx, yy = (_add_up(product, cell, count) for product in (x * y, x * x, y * y))
    return _correlate_sums(xy, xx, yy, n), n


def _correlate_sums(xy: np.ndarray, xx: np.ndarray, yy: np.ndarray, n: np.ndarray) -> np.ndarray:
    square = n * ((n + 1) / 2) ** 2
    xy, xx, yy = xy - square, xx - square, yy - square
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((xx > 0) & (yy > 0), xy / np.sqrt(xx * yy), np.nan)


def demean_in_groups(
    values: np.ndarray, groups: np.ndarray, count: int, *, counted: np.ndarray | None = None
) -> np.ndarray:
    """Values less the mean of their row's group, of its counted cells (all if not given); NaN without a group or a mean."""
    known = np.isfinite(values)
    means, _ = average_in_groups(values if counted is None else np.where(counted, values, np.nan), groups, count)
    spread = np.concatenate([means, np.full((len(means), 1), np.nan)], axis=1)
    centred: np.ndarray = values - spread.ravel()[_cells(groups, known, count)]
    return centred


def average_in_groups(values: np.ndarray, groups: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean of each row's groups (NaN where empty), and the number of finite cells (both rows × groups)."""
    cell = _cells(groups, np.isfinite(values), count)
    n = _add_up(None, cell, count)
    with np.errstate(invalid="ignore"):
        return _add_up(values, cell, count) / n, n


def average_rows(values: np.ndarray) -> np.ndarray:
    """The mean of each row's finite values, NaN where there is none."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    mean: np.ndarray = np.where(known, values, 0.0).sum(axis=1) / np.where(count, count, np.nan)
    return mean


def _cells(groups: np.ndarray, kept: np.ndarray, count: int) -> np.ndarray:
    """The flat number of each cell's group, rows of count + 1: the last is for what is not kept or has no group."""
    inside = np.where(kept & (groups >= 0), groups, count)
    cells: np.ndarray = inside + np.arange(len(groups))[:, None] * (count + 1)
    return cells


def _add_up(values: np.ndarray | None, cell: np.ndarray, count: int) -> np.ndarray:
    """The sum, or the number of cells, in each row's groups."""
    weights = None if values is None else values.ravel()
    sums = np.bincount(cell.ravel(), weights=weights, minlength=len(cell) * (count + 1))
    return sums.reshape(-1, count + 1)[:, :count]


def residualise(values: np.ndarray, controls: Sequence[np.ndarray], groups: np.ndarray, count: int) -> np.ndarray:
    """The residual of each row's regression on controls and group dummies; NaN where any of them is missing.

    A control that a row has for no name at all is left out there. With everything demeaned in groups the dummies are gone
    (Frisch, Waugh and Lovell).
    """
    controls = [np.where(np.isfinite(control).any(axis=1)[:, None], control, 0.0) for control in controls]
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
