"""Daily rank correlations, buckets, and a test of their mean that allows for autocorrelation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from statsmodels.regression.linear_model import OLS

from newsfactor.errors import InvalidValueError

MIN_NAMES = 20
# A two-sided 5% test finds a mean of this many standard errors in 80% of samples: z(0.975) + z(0.80).
DETECTABLE_ERRORS = 1.960 + 0.842


class MeanTest(NamedTuple):
    """The mean of a series with its autocorrelation-robust standard error; ``n`` observations, ``lags`` used."""

    mean: float
    standard_error: float
    t: float
    p: float
    n: int
    lags: int


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


def newey_west_t(series: pd.Series | np.ndarray, *, lags: int | None = None, horizon: int = 1) -> MeanTest:
    """Test whether the mean of an autocorrelated series is zero.

    The standard error is that of statsmodels' OLS on a constant with a HAC covariance (Bartlett kernel,
    small-sample correction), p is two-sided from Student's t with n - 1 degrees of freedom. Newey & West
    (1987); the automatic lag is the usual rule after Newey & West (1994).

    Parameters
    ----------
    series : Series or array
        In time order; missing values are dropped and their neighbours count as adjacent.
    lags : int, optional
        ``max(horizon - 1, floor(4 * (n / 100) ** (2 / 9)))`` if not given; at most n - 1.
    horizon : int
        Sessions over which neighbouring observations overlap: returns of h sessions share h - 1 of them.

    Returns
    -------
    MeanTest
        All figures NaN for an empty series; only the mean for a single or an unvarying one.
    """
    values = np.asarray(series, dtype=float)
    values = values[~np.isnan(values)]
    n = len(values)
    used = max(horizon - 1, int(4 * (n / 100) ** (2 / 9))) if lags is None else lags
    used = max(min(used, n - 1), 0)
    if n < 2 or np.ptp(values) == 0:
        return MeanTest(float(values.mean()) if n else np.nan, np.nan, np.nan, np.nan, n, used)
    fit = OLS(values, np.ones(n)).fit(cov_type="HAC", cov_kwds={"maxlags": used, "use_correction": True}, use_t=True)
    return MeanTest(float(fit.params[0]), float(fit.bse[0]), float(fit.tvalues[0]), float(fit.pvalues[0]), n, used)


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
