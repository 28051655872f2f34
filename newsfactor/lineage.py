"""What each news contributes to a factor's value in one cell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from newsfactor.factors import Factor, lookback_of

# The columns that a factor may be linear in; all others are its weights.
VALUES = ("score", "level")
_DRAWS = 8
_STEP = 0.5
_BLOCK = 10**9


def contributions(factor: Factor, links: pd.DataFrame, cell: pd.Series, target: int) -> pd.Series | None:
    """Split a factor's value in one cell over the links behind it, where it is a sum over them.

    Nothing needs to be known about the factor: it is called on changed copies of the links. It is a sum if it
    is linear in ``score`` and ``level`` (as a mean, weighted or not), or if the links' values taken alone add
    up (as a count); both are checked on random multiples and subsets too, so that what is a sum by chance,
    as the minimum of two scores of which one is positive, does not pass.

    Parameters
    ----------
    factor : function
        As in :mod:`newsfactor.factors`.
    links, cell : DataFrame, Series
        As a factor gets them.
    target : int
        The cell's number.

    Returns
    -------
    Series of float or None
        Aligned with ``links``; it sums to the factor's value. None if the factor is no sum or has no value.

    Examples
    --------
    >>> from newsfactor.factors import mean_score
    >>> links = pd.DataFrame({"score": [2.0, -1.0], "share": 1.0})
    >>> contributions(mean_score, links, pd.Series([0, 0]), 0).tolist()
    [1.0, -0.5]
    """

    def value(changed: pd.DataFrame) -> float:
        return float(factor(changed, cell.loc[changed.index]).get(target, np.nan))

    links, cell = links.reset_index(drop=True), cell.reset_index(drop=True)
    whole = value(links)
    if np.isnan(whole):
        return None
    for split in (_by_slope, _taken_alone):
        parts = split(value, links, whole)
        if parts is not None:
            return pd.Series(parts)
    return None


def _by_slope(value: Callable[[pd.DataFrame], float], links: pd.DataFrame, whole: float) -> np.ndarray | None:
    """What is lost if one link's values go to zero and its weight stays: its values times the slope."""
    n = len(links)
    steps = 1 + _STEP * np.eye(n)
    parts = np.array([(value(_scale(links, step)) - whole) / _STEP for step in steps])
    rng = np.random.default_rng(0)
    draws = rng.uniform(0.5, 2, (_DRAWS, n)) * rng.choice((-1, 1), (_DRAWS, n))
    fits = _near(parts.sum(), whole) and all(_near(parts @ draw, value(_scale(links, draw))) for draw in draws)
    return parts if fits else None


def _taken_alone(value: Callable[[pd.DataFrame], float], links: pd.DataFrame, whole: float) -> np.ndarray | None:
    n = len(links)
    parts = np.nan_to_num([value(links.iloc[[k]]) for k in range(n)])
    subsets = [chosen for chosen in np.random.default_rng(0).random((_DRAWS, n)) < 0.5 if chosen.any()]
    sums = all(_near(parts[chosen].sum(), np.nan_to_num(value(links[chosen]))) for chosen in subsets)
    return parts if sums and _near(parts.sum(), whole) else None


def _scale(links: pd.DataFrame, multiples: np.ndarray) -> pd.DataFrame:
    return links.assign(**{name: links[name] * multiples for name in VALUES if name in links.columns})


def _near(one: float, other: float) -> bool:
    return bool(abs(one - other) <= 1e-9 * (1 + abs(other)))


@dataclass(frozen=True)
class Trace:
    """The links behind one cell as the factor gets them, with their cells, its number and its weight in a mean."""

    links: pd.DataFrame
    cells: pd.Series
    number: int
    weight: float = 1.0

    @classmethod
    def empty(cls, links: pd.DataFrame) -> Trace:
        """No links of the form of these."""
        return cls(links.iloc[:0].assign(level=0.0, age=0), pd.Series([], dtype=float), 0)

    @property
    def arguments(self) -> tuple[pd.DataFrame, pd.Series, int]:
        """What :func:`contributions` wants besides the factor."""
        return self.links, self.cells, self.number

    def value(self, factor: Factor) -> float:
        """The factor's value in the cell."""
        return float(factor(self.links, self.cells).get(self.number, np.nan))


def weigh(value: pd.Series) -> pd.Series:
    """Weights in proportion to positive values, those without one left out; all the same if none has one."""
    known = value[value > 0]
    known = known if len(known) else pd.Series(1.0, index=value.index)
    weights: pd.Series = known / known.sum()
    return weights


class Probe:
    """A factor that keeps what it is given, and whose values are the numbers of the cells.

    In place of a factor it shows which links a panel hands to it, and under which number a row's cell is.
    """

    def __init__(self, factor: Factor) -> None:
        self.__dict__.update(vars(factor) if hasattr(factor, "__dict__") else {})
        # No column is left out, and no cell: neither changes what the factor itself is given.
        self.columns, self.complete = None, False
        self._factor = factor
        self._seen: list[tuple[pd.DataFrame, pd.Series]] = []

    def __call__(self, links: pd.DataFrame, cell: pd.Series) -> pd.Series:
        values = self._factor(links, cell)
        self._seen.append((links, cell))
        return pd.Series(_BLOCK * (len(self._seen) - 1.0) + values.index, index=values.index)

    def find(self, number: float) -> tuple[pd.DataFrame, pd.Series, int]:
        """Links, their cells and the cell's number, of the value that a panel has."""
        block, target = divmod(int(number), _BLOCK)
        links, cell = self._seen[block]
        spread = getattr(self._factor, "spread", True)
        # What sees each link once adds up the past: the cell of the session before has the number before.
        reach = 1 if spread else lookback_of(self._factor)
        inside = ((cell > target - reach) & (cell <= target)).to_numpy()
        links, cell = links[inside].reset_index(drop=True), cell[inside].reset_index(drop=True)
        return (links if spread else links.assign(age=target - cell)), cell, target
