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
from newsfactor.summaries import stamp_duty
from newsfactor.transforms import neutralise


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
    assert row["low"] < row["mean_rank_ic"] < row["high"]
    assert row["detectable"] > 2.8 * row["standard_error"]  # t has fatter tails than the normal
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
    two = evaluate(panel.assign(tone=panel["tone"].mask(barred, 1e9)), prices, universe, horizons=(1,))
    naive = one.summary["naive_rank_ic"] != two.summary["naive_rank_ic"]
    assert naive.tolist() == [True, False]
    drop = {"columns": "naive_rank_ic"}
    pd.testing.assert_frame_equal(one.summary.drop(**drop), two.summary.drop(**drop))


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
    assert result.settings["evidence_sessions"] == 60 - 22
    assert "only the 38 sessions after it" in " ".join(str(result).split())
    panel.attrs = {"trained_through": "2020-01-01"}
    later = evaluate(panel, prices, universe, horizons=(1,))
    assert set(later.summary["sample"]) == {"all"}
    assert "trained on news" not in str(later)
    panel.attrs = {"trained_through": str(days[-1].date())}
    everything = evaluate(panel, prices, universe, horizons=(1,))
    assert headline(everything, sample="out")["n_days"] == 0
    assert everything.settings["evidence"] == "in"
    assert "no figure here is evidence" in " ".join(str(everything).split())
    assert "detectable 0" not in " ".join(str(everything).split())  # no sentence judges a factor


def test_the_text_states_the_detectable_first_and_never_praises_noise():
    panel, prices, universe = random_market()
    result = evaluate(panel, prices, universe, factors=["noise"])
    lines = str(result).splitlines()
    assert lines[1].startswith("Smallest mean RankIC that this sample could detect")
    assert f"{headline(result, 'noise')['detectable']:.4f} at 1" in " ".join(str(result).split())
    assert "Warning: 40 sessions to judge by, fewer than 120" in str(result)
    row = headline(result, "noise")
    words = " ".join(str(result).split())
    assert ("not told from zero" in words.split("tests:")[1]) == (abs(row["mean_rank_ic"]) < row["detectable"])
    assert "it stays after" not in words
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


def hand_market():
    """Four stocks, three sessions: opens rise by the returns below, and nothing moves within a session."""
    days = pd.DatetimeIndex(["2026-03-02", "2026-03-03", "2026-03-04"])
    codes = ["600001.SH", "600002.SH", "600003.SH", "600004.SH"]
    opens = np.array([[10.0, 10, 10, 10], [11, 10.5, 10, 9.5], [11, 10.5, 10.1, 9.5]])
    before = np.vstack([opens[:1], opens[:-1]])
    keys = pd.MultiIndex.from_product([days, codes], names=["date", "code"]).to_frame(index=False)
    prices = keys.assign(**{name: opens.ravel() for name in ("open", "high", "low", "close")}, pre_close=before.ravel(), amount=1e8, circ_mv=1e10)  # fmt: skip
    universe = keys.assign(
        industry="电子", circ_mv=1e10, is_st=False, is_suspended=False, limit_up=99.0, limit_down=1.0,
        list_date=pd.Series(pd.Timestamp("2010-01-04"), index=keys.index).astype("datetime64[us]"),
    )  # fmt: skip
    panel = keys.assign(
        known_at=known_at(keys["date"]), observed=1.0, n_news=1, tone=[4.0, 3, 2, 1, 4, 3, 1, 2, 1, 2, 3, 4]
    )
    return panel, prices, universe


def test_quantiles_and_the_long_only_figure_by_hand():
    panel, prices, universe = hand_market()
    result = evaluate(panel, prices, universe, horizons=(1,), quantiles=2, min_names=4, cost=0.001)
    # First session: 10 %, 5 %, 0 %, −5 %; second: 0, 0, 1 %, 0, with the third stock in the lower half. Third: no data.
    daily = result.quantile_daily.set_index(["date", "quantile"])
    assert daily["mean_return"].tolist()[:4] == pytest.approx([-0.025, 0.075, 0.005, 0.0])
    assert daily["mean_excess"].tolist()[:4] == pytest.approx([-0.05, 0.05, 0.0025, -0.0025])
    assert daily["n_names"].tolist() == [2, 2, 2, 2, 0, 0]
    assert result.ic["rank_ic"].tolist()[:2] == pytest.approx([1.0, stats.spearmanr([4, 3, 1, 2], [0, 0, 1, 0])[0]])
    legs = result.portfolios.set_index("leg")
    assert legs.loc["long_only", "gross"] == pytest.approx((0.05 - 0.0025) / 2)
    assert legs.loc["long_short", "gross"] == pytest.approx((0.1 - 0.005) / 2)
    # The upper half is bought in full on the first session, stays on the second and turns over on the third, which has no
    # return. A round trip costs 0.1 % twice and 0.05 % duty.
    assert legs.loc["long_only", "cost"] == pytest.approx(0.0025 * (1 + 0) / 2)
    assert legs.loc["long_short", "net"] == pytest.approx((0.1 - 0.005) / 2 - 2 * 0.0025 * (1 + 0) / 2)
    assert legs.loc["long_only", "turnover_top"] == pytest.approx((0 + 1) / 2)


def test_a_leg_takes_what_its_side_could_trade():
    panel, prices, universe = hand_market()
    universe.loc[0, "limit_up"] = 10.0  # the first stock's first open: no long, but a short
    result = evaluate(panel, prices, universe, horizons=(1,), quantiles=2, min_names=3)
    legs = result.portfolios.set_index("leg")
    first = 0.05 - (0.05 + 0 - 0.05) / 3  # the second stock alone, over the three that either side could trade
    assert legs.loc["long_only", "gross"] == pytest.approx((first - 0.0025) / 2)
    reasons = result.coverage.set_index("reason")["rows"]
    assert reasons.to_dict() == {"used": 7, "limit_up": 1, "beyond_data": 4}


def test_a_sparse_factor_is_judged_with_nothing_dropped_uncounted():
    """Zero for most names, which alphalens refuses: bin edges must be unique."""
    panel, prices, universe = random_market(40, 50, planted=0.002)
    zero = panel["noise"] < 0.2
    panel["sparse"] = panel["tone"].where(~zero, 0.0)
    result = evaluate(panel, prices, universe, factors=["sparse"], horizons=(1,))
    assert result.settings["buckets"]["sparse"].startswith("0 in the middle")
    rows = result.coverage.set_index("reason")["rows"]
    assert rows.to_dict() == {"used": 39 * 50, "beyond_data": 50}
    sizes = result.quantile_returns.set_index("quantile")["n_cells"]
    assert sizes.sum() == 39 * 50
    zeros = (panel["sparse"] == 0) & (panel["date"] < panel["date"].max())
    assert sizes[3] == zeros.sum()
    assert sizes[[1, 2]].sum() == 0  # nothing lies below zero
    assert abs(sizes[4] - sizes[5]) < 0.2 * sizes[5]


def test_rows_of_closed_days_move_to_the_next_session():
    panel, prices, universe = random_market(20, 30)
    days = panel["date"].unique()
    friday, monday = days[4], days[5]
    assert monday - friday == pd.Timedelta(days=3)
    saturday = panel[panel["date"] == monday].assign(date=friday + pd.Timedelta(days=1))
    saturday["known_at"] = known_at(saturday["date"])
    rest = panel[panel["date"] != monday]
    moved = evaluate(pd.concat([rest, saturday]), prices, universe, horizons=(1,))
    assert moved.settings["moved_rows"] == 30
    assert moved.settings["superseded_rows"] == 0
    pd.testing.assert_frame_equal(moved.summary, evaluate(panel, prices, universe, horizons=(1,)).summary)
    both = evaluate(pd.concat([panel, saturday.assign(tone=0.0)]), prices, universe, horizons=(1,))
    pd.testing.assert_frame_equal(both.summary, moved.summary)
    assert both.coverage.query("reason == 'superseded'")["rows"].tolist() == [30, 30]
    assert (both.coverage.groupby("factor")["rows"].sum() == len(panel) + 30).all()
    assert "30 rows were dated on closed days" in " ".join(str(both).split())


def test_figures_are_refused_where_most_rows_are_lost():
    panel, prices, universe = random_market(20, 60)
    universe["is_suspended"] = np.arange(len(universe)) % 3 > 0
    result = evaluate(panel, prices, universe, horizons=(1,), max_loss=0.5)
    assert result.settings["refused"] == [("noise", 1), ("tone", 1)]
    assert result.summary["mean_rank_ic"].isna().all()
    assert result.portfolios["net"].isna().all()
    assert "Refused" in str(result)
    kept = evaluate(panel, prices, universe, horizons=(1,), max_loss=0.9)
    assert kept.settings["refused"] == []
    assert kept.summary["mean_rank_ic"].notna().all()


def test_the_incremental_figure_is_that_of_residuals():
    panel, prices, universe = random_market(60, 40, planted=0.002)
    before = prices.set_index(["date", "code"])["close"].unstack()
    panel["reversal"] = (
        -before.pct_change().shift(1).stack().reindex(pd.MultiIndex.from_frame(panel[["date", "code"]])).to_numpy()
    )
    result = evaluate(panel, prices, universe, factors=["reversal", "tone"], horizons=(1,))
    rows = result.summary.set_index("factor")
    # What the controls hold leaves no residual, while the planted factor keeps nearly all.
    assert np.isnan(rows.loc["reversal", "incremental_rank_ic"])
    assert rows.loc["tone", "incremental_rank_ic"] == pytest.approx(rows.loc["tone", "mean_rank_ic"], rel=0.25)


@pytest.mark.parametrize("neutralize", ["industry", "industry_size"])
def test_a_neutralised_factor_is_judged_as_its_residual(neutralize):
    panel, prices, universe = random_market(25, 40, planted=0.002)
    if neutralize == "industry":
        universe["circ_mv"] = 1e10  # then size says nothing, and only the industry's mean is taken away
    residual = neutralise(panel, universe, factors=["tone"])
    expected = evaluate(residual, prices, universe, factors=["tone"], horizons=(1,))
    found = evaluate(panel, prices, universe, factors=["tone"], horizons=(1,), neutralize=neutralize)
    np.testing.assert_allclose(found.ic["ic"], expected.ic["ic"], atol=1e-9)


def test_decay_placebo_and_diagnostics_of_a_planted_factor():
    panel, prices, universe = random_market(100, 40, planted=0.003)
    result = evaluate(panel, prices, universe, factors=["tone", "noise"], horizons=(1,))
    decay = result.decay.set_index(["factor", "lag"])["mean_rank_ic"]
    assert decay["tone", 0] == pytest.approx(headline(result)["mean_rank_ic"], abs=1e-6)
    assert abs(decay["tone", 1]) < 0.1 < decay["tone", 0]
    p = result.placebo.query("figure == 'rank_ic'").set_index(["factor", "placebo"])
    assert (p.loc["tone", "p"] < 0.05).all()
    assert p.loc[("tone", "names"), "observed"] == pytest.approx(headline(result)["mean_rank_ic"], abs=1e-6)
    assert (p.loc["noise", "p"] > 0.05).all()
    assert set(result.placebo["figure"]) == {"rank_ic", "long_only", "long_short"}
    # The move is from open to close of the cell's own date: the same day sees it, the gap does not.
    windows = result.diagnostics.set_index(["factor", "window"])["mean_rank_ic"]
    assert windows["tone", "same_day"] > 0.2 > abs(windows["tone", "gap"])
    assert "NOT TRADABLE" in str(result)


def test_stamp_duty_is_dated():
    days = pd.DatetimeIndex(["2020-01-02", "2023-08-25", "2023-08-28", "2026-03-02"])
    assert stamp_duty(days).tolist() == [0.001, 0.001, 0.0005, 0.0005]


def test_returns_less_their_industry_are_those_of_every_figure():
    panel, prices, universe = random_market(40, 60, planted=0.002)
    result = evaluate(panel, prices, universe, factors=["noise"], horizons=(1,), neutralize="industry_returns")
    returns = forward_returns(prices, panel, horizons=(1,))["return_1"]
    rows = panel.assign(r=returns, industry=universe["industry"]).dropna()
    rows["r"] -= rows.groupby(["date", "industry"])["r"].transform("mean")
    bucket = ((rows.groupby("date")["noise"].rank() - 0.5) / 60 * 5).astype(int)
    excess = rows["r"][bucket == 4].groupby(rows["date"]).mean() - rows["r"][bucket == 0].groupby(rows["date"]).mean()
    legs = result.portfolios.set_index("leg")["gross"]
    assert legs["long_short"] == pytest.approx(excess.mean(), abs=1e-12)
    assert legs["long_only"] == pytest.approx(rows["r"][bucket == 4].groupby(rows["date"]).mean().mean(), abs=1e-12)
    row = headline(result, "noise")
    assert row["naive_rank_ic"] == pytest.approx(row["mean_rank_ic"], abs=1e-12)  # nothing is barred here
    placebo = result.placebo.query("figure == 'long_short' and placebo == 'names'")["observed"].item()
    assert placebo == pytest.approx(excess.mean(), abs=1e-7)


def test_months_are_those_of_the_evidence():
    panel, prices, universe = random_market(60, 25)
    panel.attrs = {"trained_through": str(panel["date"].unique()[30].date())}
    result = evaluate(panel, prices, universe, factors=["tone"], horizons=(1,))
    months = result.subsets.query("kind == 'month'")
    assert months["n_days"].sum() == headline(result, sample="out")["n_days"]


def test_adjusted_prices_have_their_own_gap():
    panel, prices, universe = random_market(20, 30)
    halved = prices.assign(pre_close=prices["pre_close"] / 2)  # of no use once prices are adjusted
    found = evaluate(panel, halved, universe, horizons=(1,), adjusted=True).diagnostics
    expected = evaluate(panel, prices, universe, horizons=(1,)).diagnostics
    gap, own = (table[table["window"] == "gap"]["n_days"] for table in (found, expected))
    assert gap.tolist() == [days - 1 for days in own]  # the first session has no close before it
