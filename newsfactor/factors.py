"""The factors: plain functions, each with formula, lookback and range.

A factor takes the links of a panel and, aligned with them, the number of the cell to which each belongs; it
returns one value per cell::

    nf.panel(links, universe, factors={"best_score": lambda links, cell: links["score"].groupby(cell).max()})

The links are LINKS with ``level`` (the label as −3..3), ``confidence`` (the probability of the likeliest level),
``share`` (how much of the news the cell gets: 1, or 1/n with ``multi="share"``), ``window`` (see
:func:`newsfactor.sessions.assign_windows`) and ``session``. News that reports a price move is left out, since the
echo of a move is no news of it; the version of a factor that :func:`keep_price_reports` makes has it too.

A function with a lookback of *n* sessions sees each link in *n* cells, with the column ``age`` counting the sessions
since its own. One with ``spread=False`` sees each link once, and adds up the past by itself with
:func:`trailing_sum`: the cell of the same name one session later has the next number. That is much faster.

In the formulas *s* is the score (the expected level) of a news item, *l* its level, *w* its ``share``; sums run over
the news of the cell, and *n* = Σ w.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TypeVar

import numpy as np
import pandas as pd

Factor = Callable[[pd.DataFrame, pd.Series], pd.Series]
_F = TypeVar("_F", bound=Factor)

HALF_LIFE = 3.0
DECAY = 0.5 ** (np.arange(10) / HALF_LIFE)
SHRINKAGE = 2.0
MONTH = 20
_BLOCK = 1 << 13  # cells summed at a time, so that they stay in the cache
_BEFORE = np.r_[0.0, np.ones(MONTH)]
_LAST = np.ones(MONTH)
_LAST_BUT_ONE = np.r_[np.zeros(MONTH), np.ones(MONTH)]

EVENT_GROUPS = {
    "earnings": ("个股财报",),
    "holdings": ("股权变动",),
    "mergers": ("并购重组",),
    "financing": ("融资发行",),
    "payouts": ("分红激励",),
    "contracts": ("合同订单",),
    "products": ("产品研发",),
    "regulation": ("监管诉讼",),
    "risk": ("风险事件",),
    "personnel": ("人事变动",),
    "research": ("个股研报", "机构观点"),
    "policy": ("政策法规发布", "货币政策"),
    "industry_news": ("行业动态",),
}


def window(
    *, lookback: int = 1, complete: bool = False, spread: bool = True, columns: Sequence[str] | None = None
) -> Callable[[_F], _F]:
    """Declare what a factor needs.

    Parameters
    ----------
    lookback : int
        Sessions that it looks back on, its own included.
    complete : bool
        NaN wherever one of these was not observed in full: for counts and sums.
    spread : bool
        Whether it sees each link in every cell that looks back on it, or once.
    columns : sequence of str, optional
        The columns that it reads, which saves copying the others; all if not given.
    """

    def mark(factor: _F) -> _F:
        declared = {"lookback": lookback, "complete": complete, "spread": spread, "columns": columns}
        for name, value in declared.items():
            setattr(factor, name, value)
        return factor

    return mark


def lookback_of(factor: Factor) -> int:
    """Sessions that a factor looks back on, its own included; 1 unless declared."""
    return int(getattr(factor, "lookback", 1))


def needs_complete(factor: Factor) -> bool:
    """Whether a factor is NaN where its window was not observed in full."""
    return bool(getattr(factor, "complete", False))


def is_spread(factor: Factor) -> bool:
    """Whether a factor sees each link in every cell that looks back on it."""
    return lookback_of(factor) > 1 and bool(getattr(factor, "spread", True))


def keeps_price_reports(factor: Factor) -> bool:
    """Whether a factor sees the news that report a price move."""
    return bool(getattr(factor, "price_reports", False))


def columns_of(factor: Factor) -> tuple[str, ...] | None:
    """The columns that a factor declares to read, None for all."""
    columns = getattr(factor, "columns", None)
    return None if columns is None else tuple(columns)


def only(factor: Factor, column: str, values: Sequence[str]) -> Factor:
    """The version of a factor that sees only the news whose ``column`` is one of ``values``.

    Examples
    --------
    >>> earnings_count = only(news_count, "event", ("个股财报",))
    """

    @wraps(factor)
    def version(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
        chosen = links[column].isin(values)
        return factor(links[chosen], cell[chosen])

    read = columns_of(factor)
    version.columns = None if read is None else (*read, column)  # type: ignore[attr-defined]
    version.__doc__ = f"Of the news whose {column} is {' or '.join(values)}: {factor.__doc__}"
    return version


def keep_price_reports(factor: Factor) -> Factor:
    """The version of a factor that also sees the news that report a price move."""

    @wraps(factor)
    def version(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
        return factor(links, cell)

    version.price_reports = True  # type: ignore[attr-defined]
    version.__doc__ = f"With the news that report a price move: {factor.__doc__}"
    return version


def total(values: pd.Series, cell: pd.Series) -> pd.Series:
    """The sum of the values in each cell, missing ones left out; 0 where there is none."""
    return pd.Series(np.bincount(cell.to_numpy(dtype=np.int64), weights=_fill(values.to_numpy(dtype=float))))


def _fill(values: np.ndarray) -> np.ndarray:
    """Zeros in the place of missing values."""
    missing = np.isnan(values)
    return np.where(missing, 0.0, values) if missing.any() else values


def mean(values: pd.Series, cell: pd.Series, weight: pd.Series) -> pd.Series:
    """The weighted mean of the values in each cell, Σ w·v / Σ w over those that are there; NaN where Σ w is 0."""
    below = total(weight.where(values.notna()), cell)
    return total(weight * values, cell) / below.where(below > 0)


def trailing_sum(daily: pd.Series, weights: Sequence[float] | np.ndarray) -> pd.Series:
    """For each cell Σ over ages a of weights[a] · the same name's value a sessions before.

    Parameters
    ----------
    daily : Series
        A value per cell, indexed by the cells' numbers; missing ones count 0.
    weights : sequence of float
        By age, own session first; no more than the factor's lookback.

    Returns
    -------
    Series
        By the numbers of all cells up to the last that looks back on one of them.

    Examples
    --------
    >>> trailing_sum(pd.Series([1.0, 0.0, 4.0]), [1, 0.5]).tolist()
    [1.0, 0.5, 4.0, 2.0]
    """
    numbers, margin = daily.index, len(weights) - 1
    size = int(numbers.max()) + 1 if len(numbers) else 0
    values = np.zeros(size + 2 * margin)  # nothing before the first cell, and nothing after the last
    own = slice(margin, margin + size) if isinstance(numbers, pd.RangeIndex) and len(numbers) == size else margin + numbers.to_numpy(dtype=np.int64)  # fmt: skip
    values[own] = _fill(daily.to_numpy(dtype=float))
    sums = np.zeros(size + margin)
    for low in range(0, len(sums), _BLOCK):
        part = sums[low : low + _BLOCK]
        for age, weight in enumerate(weights):
            if weight:
                past = values[low + margin - age :][: len(part)]
                part += past if weight == 1 else weight * past
    return pd.Series(sums)


@window(columns=("level", "share"))
def mean_level(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
    """Mean sentiment level of the cell's news, Σ w·l / n, −3..3."""
    return mean(links["level"], cell, links["share"])


@window(columns=("score", "share"))
def mean_score(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
    """Mean expected level of the cell's news, Σ w·s / n, −3..3."""
    return mean(links["score"], cell, links["share"])


@window(columns=("score", "level", "share"))
def directional_score(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
    """Mean expected level of the cell's news that take a side, Σ w·s / Σ w where l ≠ 0, −3..3.

    Procedural, neutral items count in ``n_news``, not here (RavenPack and MarketPsych average so).
    """
    return mean(links["score"].where(links["level"] != 0), cell, links["share"])


@window(columns=("score", "share", "relevance"))
def relevance_score(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
    """Mean expected level weighted by relevance r, Σ w·r·s / Σ w·r, −3..3."""
    return mean(links["score"], cell, links["share"] * links["relevance"])


@window(columns=("score", "share", "novelty", "event_novelty"))
def novelty_score(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
    """Mean expected level weighted by v = novelty · event_novelty, Σ w·v·s / Σ w·v, −3..3."""
    return mean(links["score"], cell, links["share"] * links["novelty"] * links["event_novelty"])


@window(columns=("score", "share", "confidence"))
def confidence_score(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
    """Mean expected level weighted by the likeliest level's probability p, Σ w·p·s / Σ w·p, −3..3."""
    return mean(links["score"], cell, links["share"] * links["confidence"])


@window(columns=("score", "share", "relevance", "novelty"))
def weighted_score(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
    """Mean expected level weighted by v = relevance · novelty, Σ w·v·s / Σ w·v, −3..3."""
    return mean(links["score"], cell, links["share"] * links["relevance"] * links["novelty"])


@window(columns=("score", "share"))
def shrunk_score(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
    """Mean expected level drawn to 0 where news is scarce, (Σ w·s / n) · n/(n + 2), −3..3.

    The credibility weight n/(n + k) is Bühlmann's (1967, Experience rating and credibility).
    """
    count = total(links["share"], cell)
    return mean_score(links, cell) * count / (count + SHRINKAGE)


@window(columns=("score",))
def minimum_score(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
    """The lowest expected level among the cell's news, −3..3."""
    lowest = np.full(int(cell.max()) + 1 if len(cell) else 0, np.inf)
    np.minimum.at(lowest, cell.to_numpy(dtype=np.int64), links["score"].fillna(np.inf).to_numpy())
    return pd.Series(lowest).replace(np.inf, np.nan)


@window(complete=True, columns=("share",))
def news_count(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
    """Number of the cell's news, n, above 0."""
    return total(links["share"], cell).where(lambda count: count > 0)


@window(lookback=MONTH + 1, complete=True, spread=False, columns=("share",))
def abnormal_attention(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
    """The cell's count against the mean m of the name's 20 sessions before, ln((1 + n) / (1 + m)), unbounded.

    Sessions without news count 0. After Da, Engelberg and Gao (2011, In search of attention, JF 66), who
    take the log of search volume less that of its past.
    """
    now = total(links["share"], cell)
    before = trailing_sum(now, _BEFORE) / MONTH
    now = now.reindex(before.index, fill_value=0.0)
    excess: pd.Series = np.log1p(now) - np.log1p(before)
    return excess.where(now + before > 0)


@window(columns=("level", "share"))
def positive_share(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
    """Share of the cell's news with a positive level, Σ w·[l > 0] / n, 0..1."""
    return mean((links["level"] > 0).astype(float), cell, links["share"])


@window(columns=("level", "share"))
def negative_share(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
    """Share of the cell's news with a negative level, Σ w·[l < 0] / n, 0..1."""
    return mean((links["level"] < 0).astype(float), cell, links["share"])


@window(columns=("score", "share"))
def disagreement(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
    """Standard deviation of the cell's expected levels, √(Σ w·(s − Σ w·s/n)² / n), 0..3; NaN for a single news item.

    After Diether, Malloy and Scherbina (2002, JF 57), who take the deviation of analysts' forecasts.
    """
    middle = mean_score(links, cell).to_numpy()[cell.to_numpy(dtype=np.int64)]
    variance = mean((links["score"] - middle) ** 2, cell, links["share"])
    return variance.pow(0.5).where(total(links["score"].notna(), cell) > 1)


@window(lookback=MONTH + 1, complete=True, spread=False, columns=("score", "share"))
def score_surprise(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
    """The cell's mean expected level less that of all the name's news of the 20 sessions before, −6..6.

    After Tetlock, Saar-Tsechansky and Macskassy (2008, JF 63), who standardise tone by its own past.
    """
    return mean_score(links, cell) - _trailing_mean(links, cell, _BEFORE)


@window(lookback=2 * MONTH, complete=True, spread=False, columns=("score", "share"))
def score_change(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
    """Mean expected level of the name's news of 20 sessions less that of the 20 before them, −6..6."""
    return _trailing_mean(links, cell, _LAST) - _trailing_mean(links, cell, _LAST_BUT_ONE)


@window(lookback=len(DECAY), complete=True, spread=False, columns=("score", "share"))
def decayed_score(links: pd.DataFrame, cell: pd.Series) -> pd.Series:
    """Sum of expected levels over ten sessions, Σ w·s · 2^(−age/3), unbounded."""
    sums = trailing_sum(total(links["share"] * links["score"], cell), DECAY)
    return sums.where(trailing_sum(total(links["share"], cell), np.ones(len(DECAY))) > 0)


def _trailing_mean(links: pd.DataFrame, cell: pd.Series, ages: np.ndarray) -> pd.Series:
    """Mean expected level of a name's news over the sessions whose age has a 1."""
    count = trailing_sum(total(links["share"], cell), ages)
    return trailing_sum(total(links["share"] * links["score"], cell), ages) / count.where(count > 0)


overnight_score = only(mean_score, "window", ("after_close", "pre_open"))
intraday_score = only(mean_score, "window", ("intraday",))

DEFAULT: dict[str, Factor] = {
    function.__name__: function for function in (mean_score, mean_level, weighted_score, news_count, decayed_score)
}

_PLAIN: dict[str, Factor] = {
    **DEFAULT,
    **{
        function.__name__: function
        for function in (
            directional_score, relevance_score, novelty_score, confidence_score, shrunk_score, minimum_score,
            abnormal_attention, positive_share, negative_share, disagreement, score_surprise, score_change,
        )
    },
    "overnight_score": overnight_score,
    "intraday_score": intraday_score,
    **{f"{name}_score": only(mean_score, "event", events) for name, events in EVENT_GROUPS.items()},
}  # fmt: skip

# Every factor of the library by name, and its version with the news that report a price move.
SHIPPED: dict[str, Factor] = {
    **_PLAIN,
    **{f"{name}_all": keep_price_reports(factor) for name, factor in _PLAIN.items()},
}
