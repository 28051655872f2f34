"""The factors: plain functions, each with formula, lookback and range.

A factor takes the links of a panel and, aligned with them, the number of the cell to which each belongs; it
returns one value per cell::

    nf.panel(links, universe, factors={"best_score": lambda links, cell: links["score"].groupby(cell).max()})

A function with a lookback of *n* sessions sees each link in *n* cells, with the column ``age`` counting the
sessions since its own. Links that report a price move keep their row but have no ``level`` and no ``score``:
the echo of a move is no news of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pandas as pd

Factor = Callable[[pd.DataFrame, pd.Series], pd.Series]
_F = TypeVar("_F", bound=Factor)

HALF_LIFE = 3.0


def window(*, lookback: int = 1, complete: bool = False) -> Callable[[_F], _F]:
    """Declare a factor's lookback in sessions, and whether it needs every one of them observed in full."""

    def mark(factor: _F) -> _F:
        factor.lookback, factor.complete = lookback, complete  # type: ignore[attr-defined]
        return factor

    return mark


def lookback_of(factor: Factor) -> int:
    """Sessions that a factor looks back on, its own included; 1 unless declared."""
    return int(getattr(factor, "lookback", 1))


def needs_complete(factor: Factor) -> bool:
    """Whether a factor is NaN where its window was not observed in full."""
    return bool(getattr(factor, "complete", False))


def mean_level(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
    """Mean sentiment level of the cell's news, −3..3."""
    return links["level"].groupby(cell).mean()


def mean_score(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
    """Mean expected level of the cell's news, Σ score / n, −3..3."""
    return links["score"].groupby(cell).mean()


def weighted_score(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
    """Mean expected level weighted by w = relevance · novelty, Σ w·score / Σ w, −3..3."""
    weight = (links["relevance"] * links["novelty"]).where(links["score"].notna())
    total = (weight * links["score"]).groupby(cell).sum(min_count=1)
    return total / weight.groupby(cell).sum(min_count=1).where(lambda w: w > 0)


@window(complete=True)
def news_count(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
    """Number of the cell's news, 1 or more; those that report a price move count too."""
    return links["news_id"].groupby(cell).nunique().astype(float)


@window(lookback=10, complete=True)
def decayed_score(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
    """Sum of expected levels over ten sessions, Σ score · 2^(−age/3), unbounded."""
    return (links["score"] * 0.5 ** (links["age"] / HALF_LIFE)).groupby(cell).sum(min_count=1)


DEFAULT: dict[str, Factor] = {
    function.__name__: function for function in (mean_score, mean_level, weighted_score, news_count, decayed_score)
}
