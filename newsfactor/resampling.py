"""What a mean or a figure would be on resampled data: the block bootstrap, and how often placebos are as large."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from newsfactor.statistics import SIZE, as_columns, as_horizons, check_whole, count_cosines


def block_bootstrap(
    table: pd.DataFrame | ArrayLike, *, horizon: int | Sequence[int] = 1, draws: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """A 95% interval of each column's mean by a studentised circular block bootstrap.

    Whole blocks are drawn from the series closed to a ring; each draw's deviation from the mean is divided by
    the spread of its own blocks, and the interval is symmetric: mean ± 95% quantile × standard error. Without the
    division the interval covers a true mean in 81% instead of 98% of samples of 60 sessions (horizon 5).
    The block is that of Politis & White (2004), corrected by Patton, Politis & White (2009), at least two
    horizons and at most half the series. The interval of a column does not depend on the others.

    Parameters
    ----------
    table, horizon
        As for `assess_means`.
    draws : int
        Resamples for each column.
    seed : int
        Of the draws.

    Returns
    -------
    DataFrame
        One row for each column: ``low``, ``high`` and ``block`` (sessions); NaN and 0 where `assess_means` has
        no test.

    Raises
    ------
    InvalidValueError
        As `assess_means`; if ``draws`` is not a whole number of at least 1.

    References
    ----------
    Götze & Künsch (1996), "Second-order correctness of the blockwise bootstrap", Annals of Statistics 24(5).

    Examples
    --------
    >>> daily = np.random.default_rng(0).normal(0.02, 0.1, 250)
    >>> block_bootstrap(daily).round(3).values.tolist()
    [[0.006, 0.033, 2.0]]
    """
    values, names = as_columns(table)
    check_whole("draws", draws, least=1)
    rows: list[tuple[float, float, int]] = []
    for column, h in zip(values.T, as_horizons(horizon, len(names)), strict=True):
        present = column[np.isfinite(column)]
        if not count_cosines(len(present), h) or np.ptp(present) == 0:
            rows.append((np.nan, np.nan, 0))
            continue
        block = _block_length(present, h)
        rows.append((*_studentised_interval(present, block, draws, seed), block))
    return pd.DataFrame(rows, index=names, columns=["low", "high", "block"])


def placebo_p(observed: ArrayLike, null: ArrayLike) -> NDArray[np.float64]:
    """The share of placebos that are as large in size as what was observed, which counts as one of them.

    Parameters
    ----------
    observed : float or array
        A figure, or one for each of K.
    null : array, draws or draws × K
        The same figure of each placebo; the missing do not count.

    Returns
    -------
    array of float
        ``(1 + count(|null| >= |observed|)) / (1 + draws)``, of the shape of ``observed``: never 0; NaN where the
        observed figure or all its placebos are missing.

    Examples
    --------
    >>> placebo_p(2.0, [0.5, -2.5, 1.0, np.nan]).item()
    0.5
    """
    size, placebos = np.abs(np.asarray(observed, dtype=float)), np.abs(np.asarray(null, dtype=float))
    draws = np.isfinite(placebos).sum(axis=0)
    # The same sum in another order differs in its last digits and is still as large.
    larger = (placebos >= size * (1 - 1e-9)).sum(axis=0)
    return np.where(np.isfinite(size) & (draws > 0), (1 + larger) / (1 + draws), np.nan)


def _block_length(values: NDArray[np.float64], horizon: int) -> int:
    """Politis & White's length for the circular bootstrap, between two horizons and half the series."""
    n, centred = len(values), values - values.mean()
    run = max(5, int(np.log10(n)))
    lags = min(int(np.ceil(np.sqrt(n))) + run, n - 1)
    covariance = np.correlate(centred, centred, "full")[n - 1 : n + lags] / n
    small = np.abs(covariance[1:] / covariance[0]) < 2 * np.sqrt(np.log10(n) / n)
    quiet = [lag for lag in range(lags - run + 1) if small[lag : lag + run].all()]
    last = quiet[0] if quiet else int(np.flatnonzero(~small).max(initial=0)) + 1
    width = min(2 * max(last, 1), lags)
    lag = np.arange(1, lags + 1)
    weighted = np.clip(2 * (1 - lag / width), 0, 1) * covariance[1:]
    ratio = 2 * (lag * weighted).sum() / (covariance[0] + 2 * weighted.sum())
    best = min((1.5 * ratio**2 * n) ** (1 / 3), 3 * np.sqrt(n), n / 3)
    return min(max(int(np.ceil(best)), 2 * horizon), n // 2)


def _studentised_interval(values: NDArray[np.float64], block: int, draws: int, seed: int) -> tuple[float, float]:
    n, mean, blocks = len(values), values.mean(), len(values) // block
    total = np.cumsum(np.concatenate([[0], values - mean, values[: block - 1] - mean]))
    means = (total[block:] - total[:-block]) / block
    drawn = means[np.random.default_rng(seed).integers(0, n, (draws, blocks))]
    spread = drawn.std(axis=1) / np.sqrt(blocks)
    # One block drawn over and over has no spread: it counts as beyond every bound.
    ratio = np.divide(np.abs(drawn.mean(axis=1)), spread, out=np.full(draws, np.inf), where=spread > 0)
    half = np.quantile(ratio, 1 - SIZE, method="higher") * means.std() * np.sqrt(block / n)
    return float(mean - half), float(mean + half)
