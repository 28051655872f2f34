"""Evaluation on markets whose truth is known: planted, shifted, shuffled and hand-made."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from markets import random_market
from scipy import stats

from newsfactor.errors import NewsfactorError, TableError
from newsfactor.evaluation import evaluate
from newsfactor.returns import forward_returns
from newsfactor.sessions import known_at, shift_sessions


def headline(result, factor: str = "tone", horizon: int = 1, sample: str = "all") -> pd.Series:
    rows = result.summary.query("factor == @factor and horizon == @horizon and sample == @sample")
    assert len(rows) == 1
    return rows.iloc[0]


def test_figures_agree_with_a_slow_loop():
    panel, prices, universe = random_market(planted=0.002)
    result = evaluate(panel, prices, universe, horizons=(1, 5))
    returns = forward_returns(prices, panel, horizons=(5,))["return_5"]
    daily, excess = [], []
    for _, rows in panel.assign(r=returns).dropna().groupby("date"):
        daily.append(stats.spearmanr(rows["noise"], rows["r"])[0])
        bucket = ((rows["noise"].rank() - 0.5) / len(rows) * 5).astype(int)
        excess.append([rows["r"][bucket == k].mean() - rows["r"].mean() for k in range(5)])
    row = headline(result, "noise", 5)
    assert row["mean_rank_ic"] == pytest.approx(np.mean(daily), abs=1e-12)
    assert row["icir"] == pytest.approx(np.mean(daily) / np.std(daily, ddof=1))
    assert row["positive"] == np.mean(np.array(daily) > 0)
    assert (row["n_days"], row["n_cells"]) == (35, 35 * 30)
    assert row["detectable"] == pytest.approx(2.8 * row["standard_error"], rel=0.001)
    buckets = result.quantile_returns.query("factor == 'noise' and horizon == 5")
    assert buckets["mean_excess"].tolist() == pytest.approx(np.mean(excess, axis=0).tolist(), abs=1e-12)
    assert buckets["n_cells"].tolist() == [35 * 6] * 5


def test_a_planted_ic_is_found_and_a_shift_by_a_session_loses_it():
    panel, prices, universe = random_market(100, 40, planted=0.003)
    found = headline(evaluate(panel, prices, universe, horizons=(1,)))
    assert found["mean_rank_ic"] > 0.25
    # The move is from open to close of the panel's own date: a session later it is over.
    moved = panel.assign(date=shift_sessions(panel["date"], 1))
    moved["known_at"] = known_at(moved["date"])
    late = headline(evaluate(moved, prices, universe, horizons=(1,)))
    assert abs(late["mean_rank_ic"]) < late["detectable"]
    closed = panel.assign(known_at=known_at(panel["date"], "15:00"))
    after = headline(evaluate(closed, prices, universe, horizons=(1,)))
    assert abs(after["mean_rank_ic"]) < after["detectable"]


def messy_market():
    """A market in which every reason for a loss occurs."""
    panel, prices, universe = random_market(30, 26, seed=5)
    draw = np.random.default_rng(6)
    hit = lambda share: draw.random(len(panel)) < share  # noqa: E731
    unseen = hit(0.03)
    panel.loc[unseen, ["observed", "tone"]] = [0.0, np.nan]
    panel.loc[hit(0.02), "tone"] = np.nan
    days = panel["date"].unique()
    panel.loc[panel["date"] == days[3], "tone"] = 2.0
    universe.loc[hit(0.01), "is_suspended"] = True
    universe.loc[hit(0.01), "limit_up"] = 0.01
    universe.loc[hit(0.01), "limit_down"] = 1e6
    prices, universe = prices[~hit(0.01)], universe[~hit(0.01)]
    return panel[(panel["date"] != days[5]) | (panel.groupby("date").cumcount() < 12)], prices, universe


def test_every_row_is_counted_once():
    panel, prices, universe = messy_market()
    result = evaluate(panel, prices, universe, horizons=(1, 5))
    sums = result.coverage.groupby(["factor", "horizon"])["rows"].sum()
    assert len(sums) == 4
    assert (sums == len(panel)).all()
    assert (result.coverage["rows_in"] == len(panel)).all()
    reasons = set(result.coverage.query("factor == 'tone'")["reason"])
    assert reasons == {
        "used", "not_observed", "factor_missing", "not_in_universe", "suspended", "no_price", "limit_up", "limit_down",
        "missing_session", "beyond_data", "day_too_small", "day_constant",
    }  # fmt: skip
    used = result.coverage.query("reason == 'used'").set_index(["factor", "horizon"])["rows"]
    cells = result.summary.set_index(["factor", "horizon"])["n_cells"]
    pd.testing.assert_series_equal(used, cells, check_names=False)
    in_buckets = result.quantile_returns.groupby(["factor", "horizon"])["n_cells"].sum()
    pd.testing.assert_series_equal(in_buckets.sort_index(), cells.sort_index(), check_names=False)


def test_a_row_that_could_not_be_entered_changes_nothing():
    panel, prices, universe = random_market(planted=0.002)
    barred = (universe["code"] == "600000.SH") & (universe["date"] <= universe["date"].unique()[9])
    universe.loc[barred, "limit_up"] = 0.01
    one = evaluate(panel, prices, universe, horizons=(1,))
    wild = panel.assign(tone=panel["tone"].mask(barred, 1e9))
    pd.testing.assert_frame_equal(one.summary, evaluate(wild, prices, universe, horizons=(1,)).summary)


def test_row_order_does_not_matter_and_arguments_are_not_changed():
    panel, prices, universe = messy_market()
    before = [frame.copy() for frame in (panel, prices, universe)]
    one = evaluate(panel, prices, universe, horizons=(1, 5))
    for frame, kept in zip((panel, prices, universe), before, strict=True):
        pd.testing.assert_frame_equal(frame, kept)
    mixed = [frame.sample(frac=1, random_state=1) for frame in (panel, prices, universe)]
    two = evaluate(*mixed, horizons=(1, 5))
    for field in ("summary", "ic", "quantile_returns", "coverage"):
        pd.testing.assert_frame_equal(getattr(one, field), getattr(two, field))
    assert one.settings["panel_sha1"] != two.settings["panel_sha1"]
    assert one.settings["panel_sha1"] == evaluate(panel, prices, universe, horizons=(1,)).settings["panel_sha1"]


def test_industries_need_twenty_too():
    panel, prices, universe = random_market(20, 30)
    days = panel["date"].drop_duplicates()
    for count, reason in ((3, "day_too_small"), (25, "used")):
        universe["industry"] = [f"行业{name % count}" for _ in range(20) for name in range(30)]
        cells = universe[["date", "industry"]].drop_duplicates().reset_index(drop=True)
        cells = cells.assign(known_at=known_at(cells["date"]), observed=1.0, n_news=1, tone=np.arange(len(cells)) % 7.0)
        result = evaluate(cells, prices, universe, horizons=(1,))
        rows = result.coverage.set_index("reason")["rows"]
        assert rows[reason] == (len(days) - 1) * count
        assert rows.sum() == len(cells)
        assert result.settings["by"] == "industry"


def test_results_split_where_the_training_of_the_tagger_ends():
    panel, prices, universe = random_market(60, 25)
    days = panel["date"].unique()
    panel.attrs = {"trained_through": str(days[20].date()), "taggers": ["fp1"]}
    result = evaluate(panel, prices, universe, horizons=(1,))
    daily = result.ic.query("factor == 'tone'").set_index("date")["rank_ic"]
    # The cell of session 21 holds news of session 20's afternoon.
    assert headline(result, sample="in")["mean_rank_ic"] == pytest.approx(daily[days[:22]].mean(), abs=1e-12)
    assert headline(result, sample="out")["mean_rank_ic"] == pytest.approx(daily[days[22:]].mean(), abs=1e-12)
    assert result.settings["in_sample_sessions"] == 22
    assert "22 of 60 sessions" in str(result)
    panel.attrs = {"trained_through": "2020-01-01"}
    later = evaluate(panel, prices, universe, horizons=(1,))
    assert set(later.summary["sample"]) == {"all"}
    assert "In sample" not in str(later)
    panel.attrs = {"trained_through": str(days[-1].date())}
    everything = evaluate(panel, prices, universe, horizons=(1,))
    assert headline(everything, sample="out")["n_days"] == 0
    assert "above" not in str(everything)


def test_the_text_states_the_detectable_first_and_never_praises_noise():
    panel, prices, universe = random_market()
    result = evaluate(panel, prices, universe, factors=["noise"])
    lines = str(result).splitlines()
    assert lines[1].startswith("Smallest mean RankIC that this sample could detect")
    assert f"{headline(result, 'noise')['detectable']:.4f} at 1" in " ".join(str(result).split())
    assert "Warning: 40 sessions to judge by, fewer than 120" in str(result)
    assert "signal" not in str(result).lower()
    small = result.summary["mean_rank_ic"].abs() < result.summary["detectable"]
    assert str(result).count("below") == small.sum()
    assert len(lines) <= 50
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.summary = None


def test_no_return_at_all_prints_and_is_counted(tmp_path):
    panel, prices, universe = random_market(10)
    last = panel[panel["date"] == panel["date"].max()]
    result = evaluate(last, prices, universe, horizons=(1,))
    assert result.summary["mean_rank_ic"].isna().all()
    assert "unknown at 1" in " ".join(str(result).split())
    assert result.to_html(tmp_path / "empty.html").stat().st_size > 10_000


def test_wrong_use_is_an_error_that_names_the_place():
    panel, prices, universe = random_market(10)
    with pytest.raises(TableError, match="mood"):
        evaluate(panel, prices, universe, factors=["mood"])
    with pytest.raises(TableError, match="known_at"):
        evaluate(panel.drop(columns="known_at"), prices, universe)
    with pytest.raises(TableError, match="factor"):
        evaluate(panel.drop(columns=["tone", "noise"]), prices, universe)
    with pytest.raises(NewsfactorError, match="rows"):
        evaluate(panel.iloc[:0], prices, universe)
    with pytest.raises(NewsfactorError, match="quantiles"):
        evaluate(panel, prices, universe, quantiles=1)
