"""alphalens takes our frame and gives our figures."""

from __future__ import annotations

import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from markets import random_market

from newsfactor.bridges import to_alphalens
from newsfactor.errors import TableError
from newsfactor.evaluation import evaluate
from newsfactor.returns import forward_returns

alphalens = pytest.importorskip("alphalens", reason="the agreement with alphalens needs alphalens-reloaded")


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("entry", ["next_open", "next_close"])
def test_information_coefficients_agree(seed, entry):
    panel, prices, universe = random_market(40, 30, seed=seed, planted=0.002)
    data = to_alphalens(panel, prices, factor="tone", entry=entry, universe=universe)
    theirs = alphalens.performance.factor_information_coefficient(data)
    ours = evaluate(panel, prices, universe, factors=["tone"], horizons=(1, 5, 10), entry=entry).ic
    ours = ours.pivot(index="date", columns="horizon", values="rank_ic").loc[theirs.index]
    assert theirs.shape == (30, 3)
    np.testing.assert_allclose(theirs.to_numpy(), ours.to_numpy(), atol=1e-10, rtol=0)


def test_mean_returns_by_quantile_agree():
    panel, prices, universe = random_market(40, 30, planted=0.002)
    data = to_alphalens(panel, prices, factor="noise", horizons=(1,), universe=universe)
    theirs, _ = alphalens.performance.mean_return_by_quantile(data, by_date=True, demeaned=True)
    ours = evaluate(panel, prices, universe, factors=["noise"], horizons=(1,)).quantile_returns
    np.testing.assert_allclose(theirs["1D"].groupby("factor_quantile").mean(), ours["mean_excess"], atol=1e-12)


def test_the_frame_has_alphalens_form():
    panel, prices, universe = random_market(20, 25)
    panel.loc[:2, "tone"] = np.nan
    universe.loc[3, "limit_up"] = 0.01
    data = to_alphalens(panel.sample(frac=1, random_state=0), prices, factor="tone", horizons=(1, 5), universe=universe)
    assert list(data.columns) == ["1D", "5D", "factor", "group", "factor_quantile"]
    assert data.index.names == ["date", "asset"]
    assert data.index.is_monotonic_increasing
    assert len(data) == 15 * 25 - 4
    assert data["group"].dtype == "category"
    assert data.notna().all(axis=None)
    one = forward_returns(prices, panel, horizons=(5,)).set_index(["date", "code"])["return_5"]
    assert (data["5D"] == one.loc[data.index]).all()
    assert "group" not in to_alphalens(panel, prices, factor="tone")
    with pytest.raises(TableError, match="mood"):
        to_alphalens(panel, prices, factor="mood")


def test_a_panels_only_factor_need_not_be_named():
    panel, prices, _ = random_market(20, 25)
    only = to_alphalens(panel.drop(columns="noise"), prices)
    pd.testing.assert_frame_equal(only, to_alphalens(panel, prices, factor="tone"))
    with pytest.raises(TableError, match=r"several.*'tone', 'noise'"):
        to_alphalens(panel, prices)
    with pytest.raises(TableError, match="numeric column"):
        to_alphalens(panel.drop(columns=["tone", "noise"]), prices)


def test_a_row_without_an_industry_is_dropped_unless_none_is_known():
    panel, prices, universe = random_market(20, 25)
    universe["industry"] = universe["industry"].mask(universe["code"] == "600003.SH")
    data = to_alphalens(panel, prices, factor="tone", universe=universe)
    assert sorted(set(panel["code"]) - set(data.index.get_level_values("asset"))) == ["600003.SH"]
    assert data["group"].notna().all()
    unknown = to_alphalens(panel, prices, factor="tone", universe=universe.assign(industry=None))
    pd.testing.assert_frame_equal(unknown, to_alphalens(panel, prices, factor="tone"))


def test_the_tear_sheet_and_every_measure_take_the_frame(monkeypatch):
    panel, prices, universe = random_market(45, 20, planted=0.002)
    data = to_alphalens(panel, prices, factor="noise", horizons=(1, 5), universe=universe)
    performance, before = alphalens.performance, data.copy()
    monkeypatch.setattr(plt, "show", lambda: None)
    with plt.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # alphalens' own on recent pandas and on the missing frequency
        plt.switch_backend("Agg")
        alphalens.tears.create_full_tear_sheet(data, by_group=True, group_neutral=True)
        positions = performance.factor_positions(data, "1D")
    plt.close("all")
    monthly = performance.mean_information_coefficient(data, by_group=True, by_time="ME")
    assert monthly.shape == (2 * 3, 2) and monthly.notna().all(axis=None)
    assert performance.factor_alpha_beta(data).notna().all(axis=None)
    # One currency unit a day, half long and half short.
    weights = performance.factor_weights(data).groupby("date").agg(["sum", lambda w: w.abs().sum()])
    np.testing.assert_allclose(weights, [[0, 1]] * 40, atol=1e-12)
    assert performance.factor_rank_autocorrelation(data).notna().sum() == 39
    assert len(positions) >= 40
    wide = prices.pivot(index="date", columns="code", values="close").pct_change()
    around = performance.average_cumulative_return_by_quantile(data, wide, periods_before=2, periods_after=3)
    assert around.shape == (5 * 2, 6)
    pd.testing.assert_frame_equal(data, before)
