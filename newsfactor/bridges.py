"""Exports to other evaluation libraries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from newsfactor.errors import TableError
from newsfactor.returns import check_horizons, forward_returns
from newsfactor.statistics import assign_quantiles


def to_alphalens(
    panel: pd.DataFrame,
    prices: pd.DataFrame,
    *,
    factor: str,
    horizons: Sequence[int] = (1, 5, 10),
    quantiles: int = 5,
    entry: str = "next_open",
    universe: pd.DataFrame | None = None,
    sessions: pd.DatetimeIndex | None = None,
) -> pd.DataFrame:
    """The frame that `alphalens.performance` and `alphalens.tears` take, with the returns of `forward_returns`.

    alphalens itself would take any price on the panel's date and count rows; this frame keeps this
    library's entry rule and its calendar. alphalens need not be installed. Its ``factor_positions`` would
    count business days, because the index has no frequency; all its other functions count rows.

    Parameters
    ----------
    panel : PANEL by stock
    prices : PRICES
        In yuan, raw.
    factor : str
        A numeric column of the panel.
    horizons : sequence of int
        In sessions; ``1D`` and so on among the columns.
    quantiles : int
        Buckets a day; equal values share one (`newsfactor.statistics.assign_quantiles`).
    entry, universe, sessions
        As in `forward_returns`. With a universe its ``industry`` on the panel's date becomes ``group``.

    Returns
    -------
    DataFrame
        Index ``date, asset``, sorted; columns ``1D, 5D, ..., factor, factor_quantile`` and ``group``
        (categorical). As alphalens does, a row that lacks the factor or any of the returns is dropped,
        and so is one that could not be entered: `evaluate` judges each horizon by itself and keeps more.

    Raises
    ------
    TableError
        If the panel has no such numeric column.
    NewsfactorError
        As `forward_returns`.
    """
    if factor not in panel.columns or not pd.api.types.is_numeric_dtype(panel[factor].dtype):
        remedy = f"it has {list(panel.columns)}"
        raise TableError("factor", factor, "must be a numeric column of the panel", remedy=remedy)
    wanted = check_horizons(horizons)
    outcomes = forward_returns(prices, panel, horizons=wanted, entry=entry, universe=universe, sessions=sessions)
    rows = outcomes[["date", "code"]].rename(columns={"code": "asset"})
    for horizon in wanted:
        rows[f"{horizon}D"] = outcomes[f"return_{horizon}"]
    rows["factor"] = panel[factor].astype(float).where(np.isfinite(panel[factor].astype(float)))
    rows = rows[outcomes["tradable"]].dropna().reset_index(drop=True)
    rows["factor_quantile"] = assign_quantiles(rows, factor="factor", quantiles=quantiles).astype(int)
    if universe is not None:
        group = universe[["date", "code", "industry"]].set_axis(["date", "asset", "group"], axis=1)
        rows = rows.merge(group, on=["date", "asset"], how="left").astype({"group": "category"})
    return rows.set_index(["date", "asset"]).sort_index()
