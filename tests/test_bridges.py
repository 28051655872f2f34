"""alphalens on our frame gives our figures."""

from __future__ import annotations

import alphalens
import numpy as np
import pytest
from markets import random_market

from newsfactor.bridges import to_alphalens
from newsfactor.errors import TableError
from newsfactor.evaluation import evaluate
from newsfactor.returns import forward_returns


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
    assert list(data.columns) == ["1D", "5D", "factor", "factor_quantile", "group"]
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
