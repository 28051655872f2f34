"""Correlations against scipy day by day; the Newey-West error against its formula written out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from newsfactor.errors import InvalidValueError
from newsfactor.statistics import DETECTABLE_ERRORS, assign_quantiles, ic, newey_west_t, rank_ic


def random_days(n_days: int = 30, n_names: int = 40, seed: int = 0) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    n = n_days * n_names
    frame = pd.DataFrame({
        "date": np.repeat(pd.bdate_range("2025-03-03", periods=n_days), n_names),
        "f": draw.integers(0, 6, n).astype(float), "r": draw.normal(size=n).round(1),
    })  # fmt: skip
    frame.loc[draw.random(n) < 0.1, "f"] = np.nan
    frame.loc[draw.random(n) < 0.1, "r"] = np.nan
    return frame.sample(frac=1, random_state=seed)


@pytest.mark.parametrize(("ours", "theirs"), [(rank_ic, stats.spearmanr), (ic, stats.pearsonr)])
def test_daily_correlations_agree_with_scipy(ours, theirs):
    frame = random_days()
    got = ours(frame, factor="f", returns="r")
    assert len(got) == 30
    for day, rows in frame.dropna().groupby("date"):
        assert got[day] == pytest.approx(theirs(rows["f"], rows["r"])[0], abs=1e-12)


def test_ranks_are_of_the_rows_where_both_are_present():
    # By hand: without the third name the order is perfect; ranked among all four it would not be.
    day = pd.DataFrame({"date": pd.Timestamp("2026-07-06"), "f": [1.0, 2, 3, 4], "r": [1.0, 2, np.nan, 3]})
    assert rank_ic(day, factor="f", returns="r", min_names=3).tolist() == pytest.approx([1.0], abs=1e-12)
    endless = day.assign(r=[1.0, 2, np.inf, 3])
    expected = stats.pearsonr([1, 2, 4], [1, 2, 3])[0]
    assert ic(endless, factor="f", returns="r", min_names=3).iloc[0] == pytest.approx(expected)


def test_small_and_constant_days_are_nan_and_kept():
    frame = random_days(4).dropna().sort_values("date", kind="stable")
    days = frame["date"].unique()
    few = frame[(frame["date"] != days[1]) | (frame.groupby("date").cumcount() < 19)].copy()
    few.loc[few["date"] == days[2], "f"] = 0.1
    few.loc[few["date"] == days[3], "r"] = np.nan
    for correlate in (ic, rank_ic):
        got = correlate(few, factor="f", returns="r")
        assert got.index.tolist() == list(days)
        assert got.isna().tolist() == [False, True, True, True]
        assert correlate(few, factor="f", returns="r", min_names=19).isna().tolist() == [False, False, True, True]
        assert correlate(few.iloc[:0], factor="f", returns="r").empty


def newey_west_by_hand(values: np.ndarray, lags: int) -> float:
    n, centred = len(values), values - values.mean()
    total = (centred**2).sum()
    for lag in range(1, lags + 1):
        total += 2 * (1 - lag / (lags + 1)) * (centred[lag:] * centred[:-lag]).sum()
    return float(np.sqrt(total / n**2 * n / (n - 1)))


def test_newey_west_is_the_formula():
    draw = np.random.default_rng(1)
    values = np.convolve(draw.normal(0.1, 1, 210), np.ones(5), "valid")
    for lags in (0, 4, 11):
        got = newey_west_t(values, lags=lags)
        assert got.standard_error == pytest.approx(newey_west_by_hand(values, lags), rel=1e-10)
        assert got.t == pytest.approx(values.mean() / got.standard_error)
        assert got.p == pytest.approx(2 * stats.t.sf(abs(got.t), len(values) - 1))


def test_the_lag_is_the_larger_of_overlap_and_rule():
    values = pd.Series(np.random.default_rng(2).normal(size=250))
    assert newey_west_t(values).lags == 4  # 4 * 2.5 ** (2 / 9) = 4.9
    assert newey_west_t(values, horizon=20).lags == 19
    assert newey_west_t(values.iloc[:8], horizon=20).lags == 7
    gaps = values.mask(values.index % 2 == 0)
    assert newey_west_t(gaps) == newey_west_t(gaps.dropna())


def test_series_without_a_spread_have_no_error():
    assert np.isnan(newey_west_t([])[:4]).all()
    for values in ([0.5], [0.5, 0.5, 0.5]):
        got = newey_west_t(values)
        assert got.mean == 0.5
        assert np.isnan([got.standard_error, got.t, got.p]).all()


def test_noise_is_rejected_about_as_often_as_it_should_be():
    draw = np.random.default_rng(3)
    p = np.array([newey_west_t(draw.normal(size=120)).p for _ in range(800)])
    # The HAC error is a little too small in short samples, hence the room above.
    assert 0.03 < (p < 0.05).mean() < 0.09


def test_what_is_called_detectable_is_found_in_four_samples_of_five():
    draw = np.random.default_rng(4)
    n = 400
    samples = draw.normal(DETECTABLE_ERRORS / np.sqrt(n), 1, (3000, n))
    t = samples.mean(axis=1) / samples.std(axis=1, ddof=1) * np.sqrt(n)
    assert (np.abs(t) > 1.96).mean() == pytest.approx(0.8, abs=0.025)


def test_equal_values_share_a_bucket():
    day = pd.DataFrame({"date": pd.Timestamp("2026-07-06"), "f": [0, 0, 0, 0, 0, 0, 1, 2, 3, np.nan]})
    got = assign_quantiles(day, factor="f", quantiles=3)
    # Average ranks 3.5, 7, 8, 9 of 9: percentiles 0.333..., 0.72, 0.83, 0.94.
    assert got.tolist()[:9] == [2] * 6 + [3, 3, 3]
    assert np.isnan(got.iloc[9])
    distinct = pd.DataFrame({"date": pd.Timestamp("2026-07-06"), "f": np.arange(20)[::-1]})
    assert assign_quantiles(distinct, factor="f").value_counts().to_dict() == dict.fromkeys(range(1, 6), 4)
    for wrong in (1, 2.5):
        with pytest.raises(InvalidValueError, match="quantiles"):
            assign_quantiles(day, factor="f", quantiles=wrong)
