"""Ranks, correlations, residuals and buckets of many days at once are those of a loop over days."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from newsfactor.cross_sections import (
    assign_buckets,
    assign_buckets_around,
    average_in_groups,
    correlate_in_groups,
    correlate_ranks,
    correlate_rows,
    demean_in_groups,
    rank_in_groups,
    rank_rows,
    residualise,
)

DAYS, NAMES, GROUPS = 9, 60, 4


@pytest.fixture(params=range(4))
def day_values(request):
    """Tied and untied values with gaps, a day without any and one without variation; groups with gaps."""
    draw = np.random.default_rng(request.param)
    x, y = draw.integers(0, 5, (DAYS, NAMES)).astype(float), draw.normal(size=(DAYS, NAMES))
    for values in (x, y):
        values[draw.random(values.shape) < 0.2] = np.nan
    x[3], x[4], y[5] = np.nan, 2.0, 0.1
    return x, y, draw.integers(-1, GROUPS, (DAYS, NAMES))


def test_ranks_are_scipys(day_values):
    for values in day_values[:2]:
        ranked = rank_rows(values)
        np.testing.assert_array_equal(ranked.ranks, stats.rankdata(values, axis=1, nan_policy="omit"))
        np.testing.assert_array_equal(ranked.count, np.isfinite(values).sum(axis=1))


def test_ranks_within_groups(day_values):
    x, _, groups = day_values
    found = rank_in_groups(rank_rows(x), groups, GROUPS)
    expected = np.full(x.shape, np.nan)
    for day in range(DAYS):
        for group in range(GROUPS):
            inside = (groups[day] == group) & np.isfinite(x[day])
            expected[day, inside] = stats.rankdata(x[day, inside])
    np.testing.assert_array_equal(found, expected)


def test_correlations_of_rows_and_of_groups(day_values):
    x, y, groups = day_values
    both = np.isfinite(x) & np.isfinite(y)
    ranked = [rank_rows(np.where(both, part, np.nan)) for part in (x, y)]
    found, count = correlate_in_groups(*(rank_in_groups(part, groups, GROUPS) for part in ranked), groups, GROUPS)
    linear, rank = correlate_rows(x, y), correlate_ranks(ranked[0].ranks, ranked[1].ranks)
    assert np.isnan(linear[[3, 4, 5]]).all()
    assert np.isfinite(linear).sum() == DAYS - 3
    for day in range(DAYS):
        if day not in (3, 4, 5):
            assert linear[day] == pytest.approx(np.corrcoef(x[day, both[day]], y[day, both[day]])[0, 1], abs=1e-12)
            assert rank[day] == pytest.approx(stats.spearmanr(x[day, both[day]], y[day, both[day]])[0], abs=1e-12)
        for group in range(GROUPS):
            inside = both[day] & (groups[day] == group)
            assert count[day, group] == inside.sum()
            if day not in (3, 4, 5) and len(set(x[day, inside])) > 1:
                expected = stats.spearmanr(x[day, inside], y[day, inside])[0]
                assert found[day, group] == pytest.approx(expected, abs=1e-12)
            else:
                assert np.isnan(found[day, group])


def test_residuals_are_those_of_a_regression_with_dummies(day_values):
    x, y, groups = day_values
    draw = np.random.default_rng(9)
    controls = [draw.normal(size=x.shape), 1e6 * draw.normal(size=x.shape)]
    controls[0][0, :5] = np.nan
    nowhere = np.where(np.arange(DAYS)[:, None] == 1, np.nan, 0.0) * np.ones(NAMES)  # a day without one control
    controls += [2 * controls[0], nowhere]  # say nothing new
    found = residualise(y, controls, groups, GROUPS)
    for day in range(DAYS):
        kept = np.isfinite(y[day]) & (groups[day] >= 0) & np.isfinite(controls[0][day])
        assert np.isnan(found[day, ~kept]).all()
        dummies = np.eye(GROUPS)[groups[day, kept]]
        design = np.column_stack([dummies, *(control[day, kept] for control in controls[:2])])
        fit = design @ np.linalg.lstsq(design, y[day, kept], rcond=None)[0]
        if day == 5:  # nothing is left of a constant, and rounding has no ranks
            assert np.isnan(found[day]).all()
        else:
            np.testing.assert_allclose(found[day, kept], y[day, kept] - fit, atol=1e-8)


def test_means_of_groups(day_values):
    _, y, groups = day_values
    means, count = average_in_groups(y, groups, GROUPS)
    left = demean_in_groups(y, groups, GROUPS)
    for day in range(DAYS):
        for group in range(GROUPS):
            inside = (groups[day] == group) & np.isfinite(y[day])
            assert count[day, group] == inside.sum()
            np.testing.assert_allclose(means[day, group], y[day, inside].mean())
            np.testing.assert_allclose(left[day, inside], y[day, inside] - y[day, inside].mean(), atol=1e-12)
    assert np.isnan(left[groups < 0]).all()


def test_buckets_by_hand():
    values = np.array([[1.0, 2, 3, 4, 5, np.nan], [7, 7, 7, 1, 9, 9]])
    assert assign_buckets(rank_rows(values), 5).tolist() == [[0, 1, 2, 3, 4, -1], [2, 2, 2, 0, 4, 4]]


def test_a_common_value_has_the_middle_bucket_to_itself():
    values = np.array([[0.0, 0, 0, 0, 0, -1, 2, 3, 4, 5, np.nan]])
    assert assign_buckets_around(values, 0.0, 5).tolist() == [[2, 2, 2, 2, 2, 1, 3, 3, 4, 4, -1]]
    assert assign_buckets_around(values, 0.0, 4).tolist() == [[2, 2, 2, 2, 2, 1, 3, 3, 3, 3, -1]]
