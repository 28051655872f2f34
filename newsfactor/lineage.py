"""What each news contributes to a factor's value in one cell."""

from __future__ import annotations

import numpy as np
import pandas as pd

from newsfactor.factors import Factor

# The columns that a factor may be linear in; all others are its weights.
VALUES = ("score", "level")
_DRAWS = 8
_STEP = 0.5


def contributions(factor: Factor, links: pd.DataFrame) -> pd.Series | None:
    """Split a factor's value in one cell over the cell's links, where it is a sum over them.

    Nothing needs to be known about the factor: it is called on changed copies of the links. It is a sum if it
    is linear in ``score`` and ``level`` (as a mean, weighted or not), or if the links' values taken alone add
    up (as a count); both are checked on random multiples and subsets too, so that what is a sum by chance,
    as the minimum of two scores of which one is positive, does not pass.

    Parameters
    ----------
    factor : function
        As in :mod:`newsfactor.factors`.
    links : DataFrame
        The links of one cell, as a factor gets them.

    Returns
    -------
    Series of float or None
        Aligned with ``links``; it sums to the factor's value. None if the factor is no sum or has no value.

    Examples
    --------
    >>> from newsfactor.factors import mean_score
    >>> contributions(mean_score, pd.DataFrame({"score": [2.0, -1.0]})).tolist()
    [1.0, -0.5]
    """
    whole = _value(factor, links)
    if np.isnan(whole):
        return None
    for split in (_by_slope, _taken_alone):
        parts = split(factor, links, whole)
        if parts is not None:
            return pd.Series(parts, index=links.index)
    return None


def _by_slope(factor: Factor, links: pd.DataFrame, whole: float) -> np.ndarray | None:
    """Value times slope: what is left if one link's values go to zero and its weight stays."""
    n = len(links)
    parts = np.array(
        [(_value(factor, _scale(links, 1 + _STEP * (np.arange(n) == k))) - whole) / _STEP for k in range(n)]
    )
    rng = np.random.default_rng(0)
    draws = rng.uniform(0.5, 2, (_DRAWS, n)) * rng.choice((-1, 1), (_DRAWS, n))
    fits = _near(parts.sum(), whole) and all(_near(parts @ m, _value(factor, _scale(links, m))) for m in draws)
    return parts if fits else None


def _taken_alone(factor: Factor, links: pd.DataFrame, whole: float) -> np.ndarray | None:
    n = len(links)
    parts = np.nan_to_num([_value(factor, links.iloc[[k]]) for k in range(n)])
    subsets = np.random.default_rng(0).random((_DRAWS, n)) < 0.5
    fits = _near(parts.sum(), whole) and all(
        _near(parts[chosen].sum(), np.nan_to_num(_value(factor, links[chosen]))) for chosen in subsets if chosen.any()
    )
    return parts if fits else None


def _value(factor: Factor, links: pd.DataFrame) -> float:
    values = factor(links, pd.Series(0, index=links.index))
    return float(values.get(0, np.nan))


def _scale(links: pd.DataFrame, multiples: np.ndarray) -> pd.DataFrame:
    return links.assign(**{name: links[name] * multiples for name in VALUES if name in links.columns})


def _near(one: float, other: float) -> bool:
    return bool(abs(one - other) <= 1e-9 * (1 + abs(other)))
