"""The block bootstrap against loops with the same draws, and on noise; placebos by their defining properties."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from newsfactor.errors import InvalidValueError
from newsfactor.resampling import block_bootstrap, placebo_p


def overlapping(n: int, horizon: int, tries: int, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(n + horizon, tries)).cumsum(axis=0)
    return noise[horizon:] - noise[:-horizon]


def interval_by_hand(values: list[float], block: int, draws: int, seed: int) -> tuple[float, float]:
    """Every resample written out; its spread and that of the series are those of block means."""
    n, blocks = len(values), len(values) // block
    ring = [np.mean([values[(start + k) % n] for k in range(block)]) for start in range(n)]
    ratios = []
    for starts in np.random.default_rng(seed).integers(0, n, (draws, blocks)):
        sample = [ring[start] for start in starts]
        ratios.append(abs(np.mean(sample) - np.mean(values)) / (np.std(sample) / blocks**0.5))
    half = sorted(ratios)[int(np.ceil(0.95 * (draws - 1)))] * np.std(ring) * (block / n) ** 0.5
    return np.mean(values) - half, np.mean(values) + half


def block_by_hand(values: np.ndarray) -> int:
    """Politis & White (2004), section 3.2, with the constant 4/3 of the correction for the circular bootstrap."""
    n, centred = len(values), values - values.mean()

    def covariance(lag: int) -> float:
        return sum(centred[t] * centred[t + lag] for t in range(n - lag)) / n

    small = 2 * np.sqrt(np.log10(n) / n)
    last = next(m for m in range(n) if all(abs(covariance(m + k) / covariance(0)) < small for k in range(1, 6)))
    width = 2 * max(last, 1)
    flat_top = {k: 1 if k <= width / 2 else 2 * (1 - k / width) for k in range(1, width)}
    slope = 2 * sum(weight * k * covariance(k) for k, weight in flat_top.items())
    level = covariance(0) + 2 * sum(weight * covariance(k) for k, weight in flat_top.items())
    best = (2 * slope**2 / (4 / 3 * level**2)) ** (1 / 3) * n ** (1 / 3)
    return int(np.ceil(min(best, 3 * n**0.5, n / 3)))


def test_the_interval_is_that_of_a_loop_with_the_same_draws():
    values = overlapping(61, 5, 1, seed=0)[:, 0]
    got = block_bootstrap(values, horizon=5, draws=300, seed=4).iloc[0]
    assert (got["low"], got["high"]) == pytest.approx(interval_by_hand(values.tolist(), int(got["block"]), 300, 4))
    assert not block_bootstrap(values, horizon=5, draws=300, seed=5).iloc[0].equals(got)


def test_the_block_is_that_of_politis_and_white():
    values = overlapping(250, 5, 6, seed=1)
    got = block_bootstrap(values, draws=1)["block"].tolist()
    assert got == [block_by_hand(column) for column in values.T]
    assert len(set(got)) > 2


def test_the_block_is_two_horizons_at_least_and_half_the_series_at_most():
    noise = np.random.default_rng(2).normal(size=(60, 4))
    got = block_bootstrap(noise, horizon=[1, 10, 20, 30], draws=100)
    assert got["block"].iloc[0] < 10
    assert got["block"].tolist()[1:] == [20, 30, 30]


def test_the_interval_covers_a_mean_in_overlapping_noise():
    values = overlapping(125, 5, 800, seed=3) + 0.7
    got = block_bootstrap(values, horizon=5, draws=400)
    covered = ((got["low"] < 0.7) & (got["high"] > 0.7)).mean()
    # 800 tries measure 95% within 1.5 points.
    assert 0.925 < covered < 0.975


def test_a_column_is_drawn_as_if_alone_and_gaps_are_closed():
    values = pd.DataFrame(overlapping(90, 3, 3, seed=4), columns=["a", "b", "c"])
    values.iloc[10:30, 1] = np.nan
    got = block_bootstrap(values, horizon=[1, 3, 3], draws=200)
    assert got.index.tolist() == ["a", "b", "c"]
    alone = block_bootstrap(values["b"].dropna(), horizon=3, draws=200)
    assert got.loc["b"].tolist() == pytest.approx(alone.iloc[0].tolist())


def test_where_nothing_can_be_drawn_there_is_no_interval():
    values = np.full((50, 3), np.nan)
    values[:, 1], values[:30, 2] = 0.2, np.arange(30)
    got = block_bootstrap(values, horizon=[1, 1, 20], draws=10)
    assert got[["low", "high"]].isna().all(axis=None)
    assert got["block"].tolist() == [0, 0, 0]
    with pytest.raises(InvalidValueError, match="draws"):
        block_bootstrap(values, draws=0)


def test_the_observed_figure_counts_as_one_of_the_placebos():
    null = np.array([[0.1, -3.0, np.nan, 1.0], [-0.2, 0.5, np.nan, 1.0], [np.nan, 2.0, np.nan, 1.0]])
    # None of two; two of three; nothing to compare with; nothing observed.
    got = placebo_p([0.3, -2.0, 1.0, np.nan], null)
    assert got.tolist() == pytest.approx([1 / 3, 3 / 4, np.nan, np.nan], nan_ok=True)
    # 0.1 + 0.2 is not 0.3 to the last digit, and is as large.
    assert placebo_p(0.1 + 0.2, [0.3]).item() == 1
