"""On close-to-close returns the statistics are those of alphalens, to 1e-10, on random panels with ties and gaps.

`alphalens_figures` is the reference: whatever claims to agree with alphalens is compared with its dictionary. Two rules
differ on purpose and are left out: alphalens cuts buckets with ``pd.qcut``, which fails on ties, so it gets this
library's; and it carries prices over a missing session, so the prices here have none.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from markets import random_market

from newsfactor.bridges import to_alphalens
from newsfactor.evaluation import evaluate
from newsfactor.statistics import assign_quantiles, rank_ic

alphalens = pytest.importorskip("alphalens", reason="the agreement with alphalens needs alphalens-reloaded")

HORIZONS, QUANTILES = (1, 3), 5
NAMES = [f"{horizon}D" for horizon in HORIZONS]
SEEDS = range(20)


def random_panel(seed):
    """A panel with one factor and its market: ties by the level, names that come and go, industries that change."""
    panel, prices, universe = random_market(16, 36, seed=seed, planted=0.002, levels=3 + seed % 9)
    draw = np.random.default_rng(seed + 1000)
    if seed % 2:  # few ties in place of many
        panel["tone"] = panel["noise"].round(1)
    panel["tone"] = panel["tone"].mask(draw.random(len(panel)) < 0.05)
    number = (np.arange(len(universe)) + (draw.random(len(universe)) < 0.02).cumsum()) % 4
    universe["industry"] = np.array(["传媒", "电子", "银行", "钢铁"])[number]
    keep = draw.random(len(panel)) > 0.1
    return panel[keep].drop(columns="noise").sample(frac=1, random_state=seed), prices, universe


def close_to_close(panel, prices, universe):
    """The frame that alphalens itself makes of closing prices, but for the buckets."""
    keyed = panel.rename(columns={"code": "asset"}).set_index(["date", "asset"]).sort_index()
    wide = prices.pivot(index="date", columns="code", values="close")
    frame = alphalens.utils.compute_forward_returns(keyed["tone"], wide, periods=HORIZONS)
    group = universe.set_axis(["asset" if name == "code" else name for name in universe], axis=1)
    frame = frame.assign(factor=keyed["tone"], group=group.set_index(["date", "asset"])["industry"].astype("category"))
    frame = frame.dropna()
    bucket = assign_quantiles(frame.reset_index(), factor="factor", quantiles=QUANTILES)
    return frame.assign(factor_quantile=bucket.to_numpy(dtype=int))


def alphalens_figures(frame):
    """alphalens' figures by name, each a frame or a series in alphalens' own form."""
    performance, figures = alphalens.performance, {}
    figures["rank_ic"] = performance.factor_information_coefficient(frame)
    figures["rank_ic_by_group"] = performance.factor_information_coefficient(frame, by_group=True)
    figures["rank_ic_group_neutral"] = performance.factor_information_coefficient(frame, group_adjust=True)
    options = {"return": {"demeaned": False}, "excess": {"demeaned": True}, "group_excess": {"group_adjust": True}}
    for name, option in options.items():
        daily, _ = performance.mean_return_by_quantile(frame, by_date=True, **option)
        figures[f"daily_{name}"] = daily
        figures[f"mean_{name}"], _ = performance.mean_return_by_quantile(frame, **option)
    for period in HORIZONS:
        parts = [performance.quantile_turnover(frame["factor_quantile"], q, period) for q in range(1, QUANTILES + 1)]
        figures[f"turnover_{period}"] = pd.concat(parts, axis=1)
        figures[f"rank_autocorrelation_{period}"] = performance.factor_rank_autocorrelation(frame, period)
    return figures


def own_figures(frame):
    """The same figures from the public functions of this library and plain pandas on the long frame."""
    rows, figures = frame.reset_index(), {}
    by_day, by_group = rows.groupby("date")[NAMES], rows.groupby(["date", "group"], observed=True)[NAMES]
    neutral = rows.assign(**(rows[NAMES] - by_group.transform("mean")))
    figures["rank_ic"] = daily_rank_ic(rows)
    figures["rank_ic_by_group"] = pd.concat(
        {name: daily_rank_ic(part) for name, part in rows.groupby("group", observed=True)}, names=["group"]
    ).swaplevel()
    figures["rank_ic_group_neutral"] = daily_rank_ic(neutral)
    earned = {
        "return": rows,
        "excess": rows.assign(**(rows[NAMES] - by_day.transform("mean"))),
        "group_excess": neutral,
    }
    rows["bucket"] = assign_quantiles(rows, factor="factor", quantiles=QUANTILES).astype(int)
    for name, values in earned.items():
        figures[f"daily_{name}"] = values.groupby([rows["bucket"], rows["date"]])[NAMES].mean()
        figures[f"mean_{name}"] = figures[f"daily_{name}"].groupby("bucket").mean()
    ranks = rows.assign(rank=rows.groupby("date")["factor"].rank()).pivot(index="date", columns="asset", values="rank")
    for period in HORIZONS:
        figures[f"turnover_{period}"] = slow_turnover(rows, period)
        figures[f"rank_autocorrelation_{period}"] = slow_autocorrelation(ranks, period)
    return figures


def daily_rank_ic(rows):
    return pd.DataFrame({name: rank_ic(rows, factor="factor", returns=name, min_names=2) for name in NAMES})


def slow_turnover(rows, period):
    """The share of a bucket's names that were not in it so many sessions before."""
    days, table = sorted(rows["date"].unique()), {}
    for bucket in range(1, QUANTILES + 1):
        held = [set(rows.loc[(rows["date"] == day) & (rows["bucket"] == bucket), "asset"]) for day in days]
        for k in range(period, len(days)):
            if held[k] and held[k - period]:
                table[days[k], bucket] = len(held[k] - held[k - period]) / len(held[k])
    return pd.Series(table).unstack().reindex(columns=range(1, QUANTILES + 1))


def slow_autocorrelation(ranks, period):
    """Pearson's correlation of a day's ranks with those so many sessions before, over the names of both days."""
    table = {}
    for k in range(period, len(ranks)):
        both = ranks.iloc[[k - period, k]].dropna(axis=1).to_numpy()
        table[ranks.index[k]] = np.corrcoef(both)[0, 1]
    return pd.Series(table)


def assert_agree(ours, theirs, *, least):
    """Equal to 1e-10 on every row of ours; what only alphalens has is missing there as well."""
    ours, theirs = (pd.DataFrame(values).astype(float).sort_index() for values in (ours, theirs))
    ours = ours.set_axis(theirs.columns, axis=1)
    assert ours.notna().to_numpy().sum() >= least
    assert set(ours.index) <= set(theirs.index)
    np.testing.assert_allclose(ours.reindex(theirs.index), theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_figure_is_that_of_alphalens(seed):
    frame = close_to_close(*random_panel(seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy's on a group whose factor does not vary
        theirs = alphalens_figures(frame)
    ours = own_figures(frame)
    assert list(ours) == list(theirs)
    days = frame.index.get_level_values("date").nunique()
    assert days == 13 and frame.groupby("date").size().min() >= 20
    for name in ours:
        # Heavily tied days leave buckets empty and groups without variation.
        least = {"rank_ic": 2 * days, "mean_return": 2 * 2}.get(name, days - 3 if name.startswith("rank") else 4)
        assert_agree(ours[name], theirs[name], least=least)


def test_ties_and_gaps_are_there():
    frames = [close_to_close(*random_panel(seed)) for seed in SEEDS]
    tied = [frame.groupby("date")["factor"].apply(lambda day: day.duplicated().mean()).mean() for frame in frames]
    assert min(tied) > 0.1 and max(tied) > 0.8
    sizes = pd.concat([frame.groupby("date").size() for frame in frames])
    assert sizes.mean() < 33 and sizes.nunique() > 5
    buckets = [frame.groupby("date")["factor_quantile"].nunique().min() for frame in frames]
    assert min(buckets) < QUANTILES


@pytest.mark.parametrize("seed", [0, 1])
def test_the_diagnostic_entry_gives_alphalens_own_frame(seed):
    panel, prices, universe = random_panel(seed)
    data = to_alphalens(panel, prices, horizons=HORIZONS, entry="diagnostic_close", universe=universe)
    pd.testing.assert_frame_equal(
        data, close_to_close(panel, prices, universe), check_freq=False, check_categorical=False, atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_an_evaluation_agrees_with_alphalens(seed):
    panel, prices, universe = random_panel(seed)
    frame = close_to_close(panel, prices, universe)
    keys = frame.index.rename(["date", "code"])
    rows = panel.set_index(["date", "code"]).loc[keys].reset_index()
    options = {"horizons": HORIZONS, "entry": "diagnostic_close", "quantiles": QUANTILES, "min_names": 5}
    result = evaluate(rows, prices, universe, **options)
    adjusted = evaluate(rows, prices, universe, neutralize="industry_returns", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = alphalens_figures(frame)
    wide = lambda table, figure: table.pivot(index="date", columns="horizon", values=figure)  # noqa: E731
    assert_agree(wide(result.ic, "rank_ic"), theirs["rank_ic"], least=2 * 13)
    assert_agree(wide(adjusted.ic, "rank_ic"), theirs["rank_ic_group_neutral"], least=2 * 13)
    sizes = frame.groupby(["date", "group"], observed=True).size()
    means = theirs["rank_ic_by_group"][sizes >= 5].groupby("group", observed=True).mean()
    ours = result.subsets[result.subsets["kind"] == "industry"].pivot(
        index="subset", columns="horizon", values="mean_rank_ic"
    )
    assert_agree(ours, means, least=2 * 4)
    if result.settings["buckets"]["tone"].startswith("by rank"):
        for figure, name in (("mean_return", "daily_return"), ("mean_excess", "daily_excess")):
            table = result.quantile_daily.pivot(index=["quantile", "date"], columns="horizon", values=figure).dropna()
            assert_agree(table, theirs[name], least=100)
        table = adjusted.quantile_daily.pivot(
            index=["quantile", "date"], columns="horizon", values="mean_return"
        ).dropna()
        assert_agree(table, theirs["daily_group_excess"], least=100)
        legs = result.portfolios[result.portfolios["leg"] == "long_only"].set_index("horizon")
        for horizon in HORIZONS:
            for bucket, column in ((1, "turnover_bottom"), (QUANTILES, "turnover_top")):
                expected = theirs[f"turnover_{horizon}"][bucket].mean()
                assert legs.loc[horizon, column] == pytest.approx(expected, abs=1e-10)
            assert legs.loc[horizon, "rank_autocorrelation"] == pytest.approx(
                theirs[f"rank_autocorrelation_{horizon}"].mean(), abs=1e-5
            )  # kept in single precision


def test_most_of_those_panels_have_buckets_by_rank():
    spans = [
        random_panel(seed)[0].groupby("date")["tone"].agg(lambda day: day.value_counts(normalize=True).max()).median()
        for seed in SEEDS
    ]
    assert sum(share < 0.19 for share in spans) >= 10
