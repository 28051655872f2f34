"""Correlations against scipy day by day; tests of a mean against their formula, by hand and on noise."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from newsfactor.errors import InvalidValueError
from newsfactor.statistics import (
    assess_mean,
    assess_means,
    assign_quantiles,
    false_discovery,
    ic,
    rank_ic,
)


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


def overlapping(n: int, horizon: int, tries: int, seed: int) -> np.ndarray:
    """Moving sums of noise, a column for each try: the dependence that an overlap gives."""
    noise = np.random.default_rng(seed).normal(size=(n + horizon, tries)).cumsum(axis=0)
    return noise[horizon:] - noise[:-horizon]


def cosine_error_by_hand(values: list[float], cosines: int) -> float:
    n, squares = len(values), 0.0
    for j in range(1, cosines + 1):
        transform = 0.0
        for t in range(1, n + 1):
            transform += math.sqrt(2 / n) * values[t - 1] * math.cos(math.pi * j * (t - 0.5) / n)
        squares += transform**2
    return math.sqrt(squares / cosines / n)


@pytest.mark.parametrize(("n", "horizon", "cosines"), [
    (500, 5, 25), (250, 5, 16), (125, 5, 10), (60, 5, 6), (250, 20, 6), (60, 20, 1), (60, 1, 6), (40, 20, 1),
])  # fmt: skip
def test_the_cosine_error_is_the_formula(n, horizon, cosines):
    values = overlapping(n, 3, 1, seed=n)[:, 0] + 0.4
    got = assess_mean(values, horizon=horizon)
    assert (got.n, got.degrees) == (n, cosines)
    assert got.mean == pytest.approx(values.mean())
    assert got.standard_error == pytest.approx(cosine_error_by_hand(values.tolist(), cosines), rel=1e-10)
    assert got.t == pytest.approx(got.mean / got.standard_error)
    assert got.p == pytest.approx(2 * stats.t.sf(abs(got.t), cosines))
    assert got.high - got.mean == pytest.approx(stats.t.ppf(0.975, cosines) * got.standard_error)
    assert got.mean - got.low == pytest.approx(got.high - got.mean)


def test_four_values_by_hand():
    # One cosine, of squared weights cos(pi/8)^2 = (2 + sqrt 2)/4 at the ends: (4 cos(pi/8))^2 / 2 = 4 + 2 sqrt 2.
    got = assess_mean([3, 1, 1, -1])
    error = math.sqrt((4 + 2 * math.sqrt(2)) / 4)
    assert got[:6] == pytest.approx((1, error, 1 / error, 1 - 2 / math.pi * math.atan(1 / error), 4, 1))
    # Student's t with one degree of freedom is Cauchy's law.
    assert got.high == pytest.approx(1 + math.tan(0.475 * math.pi) * error)


def test_the_cosine_test_knows_neither_unit_nor_origin_nor_direction():
    values = overlapping(125, 5, 3, seed=7)
    plain, moved = assess_means(values, horizon=5), assess_means(values * -100 + 7000, horizon=5)
    np.testing.assert_allclose(moved["standard_error"], plain["standard_error"] * 100)
    np.testing.assert_allclose(moved["detectable"], plain["detectable"] * 100)
    np.testing.assert_allclose(moved["low"], 7000 - 100 * plain["high"])
    pd.testing.assert_frame_equal(assess_means(values[::-1], horizon=5), plain)


def test_each_column_is_tested_as_if_alone_and_gaps_are_closed():
    values = pd.DataFrame(overlapping(90, 5, 4, seed=8), columns=["a", "b", "c", "d"])
    values.loc[:19, "b"] = np.nan
    values.loc[values.index % 2 == 0, "c"] = [np.nan, np.inf, -np.inf] * 15
    before, horizons = values.copy(), [1, 5, 1, 10]
    got = assess_means(values, horizon=horizons)
    assert got.index.tolist() == ["a", "b", "c", "d"]
    for horizon, (name, column) in zip(horizons, values.items(), strict=True):
        alone = assess_mean(column[np.isfinite(column)], horizon=horizon)
        assert got.loc[name].tolist() == pytest.approx(list(alone), rel=1e-12)
    assert got["n"].tolist() == [90, 70, 45, 90]
    pd.testing.assert_frame_equal(values, before)
    assert assess_means(values.astype("Float64"), horizon=horizons).equals(got)


def test_where_nothing_can_be_tested_only_the_mean_is_told():
    short = np.full((60, 5), np.nan)
    short[:39, 1], short[:3, 2], short[:, 3] = np.arange(39), [1, 2, 6], 0.1
    short[0, 4] = 5
    got = assess_means(short, horizon=[1, 20, 1, 1, 1])
    assert got["mean"].tolist() == pytest.approx([np.nan, 19, 3, 0.1, 5], nan_ok=True)
    assert got["n"].tolist() == [0, 39, 3, 60, 1]
    assert got["degrees"].tolist() == [0, 0, 0, 6, 0]
    assert got[["standard_error", "t", "p", "detectable", "low", "high"]].isna().all(axis=None)
    assert len(assess_means(pd.DataFrame())) == 0


@pytest.mark.parametrize("horizon", [0, 2.0, [5, 5], [1, 1, 0]])
def test_horizons_are_whole_and_one_for_each_column(horizon):
    with pytest.raises(InvalidValueError, match="horizon"):
        assess_means(np.zeros((60, 3)), horizon=horizon)


@pytest.mark.parametrize(("n", "horizon"), [(60, 5), (125, 5), (60, 20)])
def test_overlapping_noise_is_rejected_as_often_as_it_should_be(n, horizon):
    values = overlapping(n, horizon, 4000, seed=9)
    plain = stats.ttest_1samp(values, 0).pvalue
    assert (plain < 0.05).mean() > 0.3
    # Three binomial errors of 4,000 tries are one point.
    assert 0.035 < (assess_means(values, horizon=horizon)["p"] < 0.05).mean() < 0.065


def test_gaps_do_not_mislead_the_cosine_test():
    values = overlapping(125, 5, 2000, seed=10)
    values[np.random.default_rng(11).random(values.shape) < 0.2] = np.nan
    values[40:60] = np.nan
    assert 0.03 < (assess_means(values, horizon=5)["p"] < 0.05).mean() < 0.07


def test_the_detectable_mean_is_that_of_the_noncentral_t():
    for n, degrees in ((250, 16), (500, 25)):
        got = assess_mean(np.random.default_rng(n).normal(size=n))
        shift, bound = got.detectable / got.standard_error, stats.t.isf(0.025, degrees)
        power = stats.nct.sf(bound, degrees, shift) + stats.nct.cdf(-bound, degrees, shift)
        assert power == pytest.approx(0.8, abs=1e-4)


def test_a_detectable_mean_is_found_in_four_samples_of_five():
    noise = np.random.default_rng(12).normal(size=(14, 20000))
    found = assess_means(noise)
    assert set(found["degrees"]) == {2}
    shift = (found["detectable"] / found["standard_error"]).iloc[0] / np.sqrt(14)
    assert (assess_means(noise + shift)["p"] < 0.05).mean() == pytest.approx(0.8, abs=0.01)


def test_false_discovery_by_hand():
    p = pd.Series([0.03, np.nan, 0.01, 0.5, 0.02], index=list("abcde"))
    # Ranked .01 .02 .03 .5 times 4/1 4/2 4/3 4/4, and never above a larger p's.
    assert false_discovery(p, method="bh").to_dict() == pytest.approx(
        {"a": 0.04, "b": np.nan, "c": 0.04, "d": 0.5, "e": 0.04}, nan_ok=True
    )
    # Under any dependence times 1 + 1/2 + 1/3 + 1/4 = 25/12.
    assert false_discovery(p)[["a", "c", "d", "e"]].tolist() == pytest.approx([1 / 12, 1 / 12, 1, 1 / 12])
    assert false_discovery([]).empty and false_discovery([np.nan]).isna().all()
    for wrong, options in (([0.1, 1.2], {}), ([0.1], {"method": "holm"})):
        with pytest.raises(InvalidValueError):
            false_discovery(wrong, **options)
