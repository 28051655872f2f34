"""How a factor's sessions hang together: turnover, rank autocorrelation and decay."""

from __future__ import annotations

import numpy as np

from newsfactor.measures import Traits


def measure_turnover(traits: Traits, *, bucket: int, lag: int, held: np.ndarray) -> np.ndarray:
    """The share of the bucket's names that were not in it ``lag`` sessions before.

    NaN where the bucket is empty or the earlier session is not one of the panel's (``held``).
    """
    inside = traits.buckets == bucket
    turnover = np.full(len(inside), np.nan)
    if 0 < lag < len(inside):
        count = inside[lag:].sum(axis=1)
        new = (inside[lag:] & ~inside[:-lag]).sum(axis=1)
        turnover[lag:] = np.where(held[:-lag] & (count > 0), new / np.maximum(count, 1), np.nan)
    return turnover


def measure_autocorrelation(traits: Traits, *, lag: int) -> np.ndarray:
    """The correlation of each session's ranks with those ``lag`` sessions before, over the names that have both."""
    result = np.full(len(traits.buckets), np.nan)
    if 0 < lag < len(result):
        result[lag:] = _correlate_scores(traits.scores[lag:], traits.scores[:-lag])[0]
    return result


def measure_decay(traits: Traits, outcome: np.ndarray, *, lag: int, min_names: int) -> np.ndarray:
    """The correlation of each session's ranks with the ranks of what was earned ``lag`` sessions later.

    ``outcome`` holds standard scores of ranks, NaN where nothing is known.
    """
    result = np.full(len(outcome), np.nan)
    if lag < len(result):
        upto = len(result) - lag
        value, names = _correlate_scores(traits.scores[:upto], outcome[lag:])
        result[:upto] = np.where(names >= min_names, value, np.nan)
    return result


def _correlate_scores(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pearson's correlation of each row, of values whose size is about one, and how many names have both."""
    both = np.isfinite(x) & np.isfinite(y)
    names = both.sum(axis=1)
    n = np.maximum(names, 1)
    x, y = np.where(both, x, 0.0), np.where(both, y, 0.0)
    mean_x, mean_y = x.sum(axis=1) / n, y.sum(axis=1) / n
    xy = np.einsum("tn,tn->t", x, y) / n - mean_x * mean_y
    xx = np.einsum("tn,tn->t", x, x) / n - mean_x**2
    yy = np.einsum("tn,tn->t", y, y) / n - mean_y**2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((xx > 1e-6) & (yy > 1e-6), xy / np.sqrt(xx * yy), np.nan), names
