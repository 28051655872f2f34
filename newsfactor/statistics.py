"""Daily rank correlations and buckets; tests and intervals of their mean that overlap and autocorrelation do not mislead.

A daily figure of an h-session return shares h - 1 sessions with its neighbour: the plain t test then finds an effect in
more than every third sample that has none. The headline is the equal-weighted cosine test with its t interval;
`newsfactor.resampling.block_bootstrap` is a second opinion. Both take one series or a table with a column for
each, in time order.
A missing (or infinite) value is left out and its neighbours count as adjacent: they lie further apart than they count,
so that their overlap is at worst overstated, and a figure of few days is tested by their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats
from statsmodels.stats.multitest import multipletests

from newsfactor.errors import InvalidValueError

MIN_NAMES = 20
SIZE, POWER = 0.05, 0.80


class MeanTest(NamedTuple):
    """The mean of a series, tested against zero (`assess_mean`)."""

    mean: float
    standard_error: float
    t: float
    p: float
    n: int  # values that are present
    degrees: int  # of freedom: cosines used
    detectable: float  # the smallest |mean| that this sample would find with 80% power
    low: float  # of the 95% interval
    high: float


def ic(frame: pd.DataFrame, *, factor: str, returns: str, min_names: int = MIN_NAMES) -> pd.Series:
    """The daily cross-sectional Pearson correlation of a factor with a forward return.

    Parameters
    ----------
    frame : DataFrame
        With ``date`` and the two columns; any order.
    factor, returns : str
        Names of numeric columns. A row in which either is missing or infinite does not count.
    min_names : int
        Days with fewer counted rows are NaN.

    Returns
    -------
    Series of float, indexed by date
        One value for each date of the frame, sorted; NaN also where the factor or the return is the
        same for all names. Empty in, empty out.

    Examples
    --------
    >>> day = pd.DataFrame({"date": pd.Timestamp("2026-07-15"), "f": [1, 2, 3.0], "r": [2, 4, 6.0]})
    >>> ic(day, factor="f", returns="r", min_names=3).tolist()
    [1.0]
    """
    return _correlate(frame, factor, returns, min_names, ranked=False)


def rank_ic(frame: pd.DataFrame, *, factor: str, returns: str, min_names: int = MIN_NAMES) -> pd.Series:
    """The daily cross-sectional Spearman correlation of a factor with a forward return.

    Pearson's correlation of the ranks, ties having their average rank, among the rows of a day in which
    both are present. Parameters, result and the rule for NaN are those of `ic`.
    """
    return _correlate(frame, factor, returns, min_names, ranked=True)


def assign_quantiles(frame: pd.DataFrame, *, factor: str, quantiles: int = 5) -> pd.Series:
    """The bucket 1..quantiles of each row's factor among the rows of its day; equal values share one.

    The bucket is ``floor((average rank - 0.5) / n * quantiles) + 1``: heavily tied days leave buckets
    empty instead of separating equal values.

    Parameters
    ----------
    frame : DataFrame
        With ``date`` and the factor.
    factor : str
        Name of a numeric column; missing values have no bucket.
    quantiles : int
        At least 2.

    Returns
    -------
    Series of float
        Aligned with the frame; NaN where the factor is. Empty in, empty out.

    Raises
    ------
    InvalidValueError
        If ``quantiles`` is not a whole number of at least 2.
    """
    if not isinstance(quantiles, int | np.integer) or quantiles < 2:
        raise InvalidValueError("quantiles", quantiles, "must be a whole number of at least 2")
    grouped = frame.groupby("date")[factor]
    # Ranks are multiples of one half, so that the floor is exact at the borders.
    return (grouped.rank() - 0.5) * quantiles // grouped.transform("count") + 1


def assess_mean(series: ArrayLike, *, horizon: int = 1) -> MeanTest:
    """Test whether the mean of one autocorrelated series is zero: `assess_means` for a single column.

    Examples
    --------
    >>> test = assess_mean([0.04, 0.01, 0.03, 0.02, 0.05, 0.03, 0.01, 0.05])
    >>> round(test.mean, 3), test.degrees, round(test.low, 3), round(test.high, 3)
    (0.03, 1, -0.005, 0.065)
    """
    table = assess_means(np.asarray(series, dtype=float).ravel(), horizon=horizon)
    return MeanTest(*(table[figure].tolist()[0] for figure in MeanTest._fields))


def assess_means(table: pd.DataFrame | ArrayLike, *, horizon: int | Sequence[int] = 1) -> pd.DataFrame:
    """Test for each column of a table whether its mean is zero, allowing for autocorrelation.

    The long-run variance is the mean square of the series' first B cosine transforms, each of which is an
    almost independent draw of it, so that the ratio follows Student's t with B degrees of freedom: the
    equal-weighted cosine test. B is ``0.41 n^(2/3)`` rounded down (Lazarus, Lewis, Stock & Watson 2018), and at
    most ``n / (2 horizon)``: no cosine has a period of less than four horizons, where the overlap's spectrum is
    still nearly flat. 60 sessions at a horizon of 20 leave one degree of freedom: the interval is wide, but holds.

    Parameters
    ----------
    table : DataFrame, Series or array
        A column for each series, rows in time order; the missing are left out (see the module's first lines).
    horizon : int or one int for each column
        Sessions of the return behind each value: neighbours share ``horizon - 1`` of them.

    Returns
    -------
    DataFrame
        One row for each column, with the figures of `MeanTest`. ``detectable`` is the mean that the
        two-sided 5% test finds in 80% of samples (noncentral t), from the estimated standard error. Where no
        cosine is left (``n`` below 4 or twice the horizon) or the values do not vary, only ``mean`` and counts.

    Raises
    ------
    InvalidValueError
        If a horizon is not a whole number of at least 1, or there is not one for each column.

    References
    ----------
    Müller (2004), "A theory of robust long-run variance estimation"; Lazarus, Lewis, Stock & Watson (2018), "HAR inference:
    recommendations for practice", J. Business & Economic Statistics 36(4).

    Examples
    --------
    >>> daily = pd.DataFrame({"a": [1.0, 2.0] * 30, "b": [1.0, -1.0] * 30})
    >>> assess_means(daily, horizon=[1, 5])[["mean", "n", "degrees"]].values.tolist()
    [[1.5, 60.0, 6.0], [0.0, 60.0, 6.0]]
    """
    values, names = as_columns(table)
    counts = np.isfinite(values).sum(axis=0)
    pairs = zip(counts.tolist(), as_horizons(horizon, len(names)), strict=True)
    degrees = np.array([count_cosines(n, h) for n, h in pairs], dtype=int)
    figures = {name: np.full(len(names), np.nan) for name in MeanTest._fields}
    # All columns with the same number of values and of cosines share one product of matrices.
    for n, used in set(zip(counts.tolist(), degrees.tolist(), strict=True)) - {(0, 0)}:
        chosen = np.flatnonzero((counts == n) & (degrees == used))
        for name, column in _assess_alike(_pack(values[:, chosen], n), used).items():
            figures[name][chosen] = column
    return pd.DataFrame({**figures, "n": counts, "degrees": degrees}, index=names)


def false_discovery(p: pd.Series | ArrayLike, *, method: str = "by") -> pd.Series:
    """Adjust p values for their number: calling all up to q significant makes a share of at most q false on average.

    Parameters
    ----------
    p : Series or array of float
        In 0..1, of all tests that were looked at; the missing are kept and do not count as tests.
    method : {"by", "bh"}
        Benjamini & Yekutieli (2001) holds for whatever dependence; factors at several horizons and in subsets
        are dependent. Benjamini & Hochberg (1995) is for independent or positively dependent tests.

    Returns
    -------
    Series of float
        The adjusted p (q values), with the index of ``p``; empty in, empty out.

    Raises
    ------
    InvalidValueError
        If a value lies outside 0..1 or the method is unknown.

    Examples
    --------
    >>> false_discovery([0.01, 0.04, None, 0.03], method="bh").round(3).tolist()
    [0.03, 0.04, nan, 0.04]
    """
    values = pd.Series(p, dtype=float)
    if method not in ("by", "bh"):
        raise InvalidValueError("method", method, "must be 'by' or 'bh'")
    wrong = values[(values < 0) | (values > 1)]
    if len(wrong):
        raise InvalidValueError("p", wrong.iloc[0], "must lie in 0..1", str(wrong.index[0]))
    present = values.notna()
    result = pd.Series(np.nan, index=values.index)
    if present.any():
        result[present] = multipletests(values[present], method=f"fdr_{method}")[1]
    return result


def _correlate(frame: pd.DataFrame, factor: str, returns: str, min_names: int, *, ranked: bool) -> pd.Series:
    pair = pd.DataFrame({"date": frame["date"], "x": frame[factor], "y": frame[returns]})
    pair = pair[np.isfinite(pair[["x", "y"]].to_numpy(dtype=float, na_value=np.nan)).all(axis=1)]
    daily = pair.groupby("date")
    count, extremes = daily.size(), daily[["x", "y"]].agg(["min", "max"])
    constant = (extremes["x", "min"] == extremes["x", "max"]) | (extremes["y", "min"] == extremes["y", "max"])
    values: pd.DataFrame = pair[["x", "y"]].astype(float)
    values = values.groupby(pair["date"]).transform("rank") if ranked else values
    centred = values - values.groupby(pair["date"]).transform("mean")
    products = pd.DataFrame({"xy": centred["x"] * centred["y"], "xx": centred["x"] ** 2, "yy": centred["y"] ** 2})
    sums = products.groupby(pair["date"]).sum()
    result: pd.Series = sums["xy"] / np.sqrt(sums["xx"] * sums["yy"])
    result = result.mask(constant | (count < min_names))
    dates = pd.Index(frame["date"].unique(), name="date").sort_values()
    return result.reindex(dates).rename("rank_ic" if ranked else "ic")


def as_columns(table: pd.DataFrame | ArrayLike) -> tuple[NDArray[np.float64], pd.Index]:
    """The values of a table, Series or array as columns, and their names."""
    frame = table if isinstance(table, pd.DataFrame) else pd.DataFrame(np.asarray(table, dtype=float))
    return frame.to_numpy(dtype=float, na_value=np.nan), frame.columns


def as_horizons(horizon: int | Sequence[int], count: int) -> list[int]:
    """One checked horizon for each of the columns."""
    listed = list(horizon) if isinstance(horizon, Iterable) else [horizon] * count
    if len(listed) != count:
        raise InvalidValueError("horizon", horizon, f"must be one number, or one for each of the {count} columns")
    for value in listed:
        check_whole("horizon", value, least=1)
    return listed


def check_whole(name: str, value: object, *, least: int) -> None:
    """Raise unless the value is a whole number of at least ``least``."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise InvalidValueError(name, value, f"must be a whole number of at least {least}")


def count_cosines(n: int, horizon: int) -> int:
    """Degrees of freedom of the cosine test: `assess_means`."""
    return min(int(0.41 * n ** (2 / 3)), int(n) // (2 * horizon))


def _pack(values: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """The n values that are present in each column, in their order."""
    order = np.argsort(~np.isfinite(values), axis=0, kind="stable")[:n]
    return np.take_along_axis(values, order, axis=0)


def _assess_alike(values: NDArray[np.float64], degrees: int) -> dict[str, NDArray[np.float64]]:
    """The figures of columns without gaps, with the same number of cosines."""
    n, mean = len(values), values.mean(axis=0)
    if not degrees:
        return {"mean": mean}
    angles = np.pi * np.outer(np.arange(1, degrees + 1), (np.arange(n) + 0.5) / n)
    transforms = np.sqrt(2 / n) * np.cos(angles) @ (values - mean)
    error = np.sqrt((transforms**2).mean(axis=0) / n)
    error[np.ptp(values, axis=0) == 0] = np.nan
    t, half = mean / error, stats.t.isf(SIZE / 2, degrees) * error
    return {
        "mean": mean, "standard_error": error, "t": t, "p": 2 * stats.t.sf(np.abs(t), degrees),
        "detectable": _detectable_errors(degrees) * error, "low": mean - half, "high": mean + half,
    }  # fmt: skip


@lru_cache
def _detectable_errors(degrees: int) -> float:
    """The mean, in standard errors, that the two-sided test finds with the power wanted."""
    # scipy's noncentral t is NaN for a few degrees, so the normal is averaged over the error's distribution.
    quantiles = (np.arange(4000) + 0.5) / 4000
    bound = stats.t.isf(SIZE / 2, degrees) * np.sqrt(stats.chi2.ppf(quantiles, degrees) / degrees)

    def excess(shift: float) -> float:
        return float((stats.norm.sf(bound - shift) + stats.norm.sf(bound + shift)).mean()) - POWER

    return float(optimize.brentq(excess, 0, 100))
