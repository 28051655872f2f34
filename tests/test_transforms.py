"""Transforms against tables worked out by hand and numpy's least squares."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tables_by_hand import make_universe

from newsfactor import transforms
from newsfactor.errors import InvalidValueError, TableError
from newsfactor.factors import window
from newsfactor.sessions import known_at

DAYS = ["2026-07-06", "2026-07-07"]
CODES = [f"60000{k}.SH" for k in range(1, 6)]


def make_panel(days: list[str], values: list[list[float]], codes: list[str] = CODES, **columns) -> pd.DataFrame:
    rows = [(pd.Timestamp(day), code, value) for day, row in zip(days, values, strict=True) for code, value in zip(codes, row, strict=True)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["date", "code", "mean_score"]).astype(
        {"date": "datetime64[us]", "code": "str", "mean_score": float}
    )
    table = table.assign(known_at=known_at(table["date"]), observed=1.0, n_news=1, **columns)
    table.attrs = {"cutoff": "09:15"}
    return table


PANEL = make_panel(DAYS, [[1, 2, 3, 4, 10], [0, np.nan, 1, 1, 2]])


def values(table: pd.DataFrame) -> list[list[float]]:
    return [group["mean_score"].round(6).tolist() for _, group in table.groupby("date")]


def assert_rows(found: list[list[float]], expected: list[list[float]]) -> None:
    np.testing.assert_allclose(np.array(found), np.array(expected), atol=1e-6)


def test_winsorise_draws_in_to_the_days_quantiles():
    # Quartiles of 1 2 3 4 10 are 2 and 4; of 0 1 1 2 they are 0.75 and 1.25.
    assert_rows(values(transforms.winsorise(PANEL, share=0.25)), [[2, 2, 3, 4, 4], [0.75, np.nan, 1, 1, 1.25]])
    assert_rows(values(transforms.winsorise(PANEL, share=0)), values(PANEL))
    with pytest.raises(InvalidValueError, match="share"):
        transforms.winsorise(PANEL, share=0.5)


def test_zscore_has_mean_0_and_deviation_1():
    root = 10**0.5  # the variance of 1 2 3 4 10
    expected = [[-3 / root, -2 / root, -1 / root, 0, 6 / root], [-(2**0.5), np.nan, 0, 0, 2**0.5]]
    assert_rows(values(transforms.zscore(PANEL)), expected)
    assert transforms.zscore(make_panel(DAYS, [[1.1] * 5, [0.3] * 5]))["mean_score"].isna().all()


def test_rank_shares_ties():
    assert_rows(values(transforms.rank(PANEL)), [[0.1, 0.3, 0.5, 0.7, 0.9], [0.125, np.nan, 0.5, 0.5, 0.875]])


def test_infinite_values_are_missing():
    table = make_panel(DAYS[:1], [[1, np.inf, -np.inf, 3, np.nan]])
    for change in (transforms.winsorise, transforms.zscore, transforms.rank):
        assert change(table)["mean_score"].isna().tolist() == [False, True, True, False, True]


def test_neutralise_is_the_residual_of_least_squares():
    draw = np.random.default_rng(0)
    codes = [f"{600000 + k}.SH" for k in range(40)]
    universe = make_universe(DAYS, codes).assign(
        industry=draw.choice(["电子", "银行", "煤炭"], 80), circ_mv=draw.lognormal(22, 1, 80)
    )
    universe.loc[[3, 50], "circ_mv"] = np.nan
    universe.loc[7, "industry"] = None
    noise = draw.normal(size=(2, 40))
    noise[1, 5] = np.nan
    panel = make_panel(DAYS, noise.tolist(), codes)
    found = transforms.neutralise(panel.sample(frac=1, random_state=2), universe.sample(frac=1, random_state=3))
    found = found.sort_values(["date", "code"])["mean_score"].to_numpy()
    for day in (slice(0, 40), slice(40, 80)):
        known = universe[day]
        usable = (known["circ_mv"].notna() & known["industry"].notna()).to_numpy() & ~np.isnan(panel["mean_score"].to_numpy()[day])  # fmt: skip
        design = np.column_stack([known["industry"] == name for name in ("电子", "银行", "煤炭")] + [np.log(known["circ_mv"])])  # fmt: skip
        design, target = design[usable].astype(float), panel["mean_score"].to_numpy()[day][usable]
        residual = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
        np.testing.assert_allclose(found[day][usable], residual, atol=1e-9)
        assert np.isnan(found[day][~usable]).all()


def test_nothing_is_left_of_the_only_cell_of_its_industry():
    universe = make_universe(DAYS[:1], CODES).assign(industry=["电子"] * 4 + ["银行"])
    found = transforms.neutralise(make_panel(DAYS[:1], [[1, 2, 3, 6, 9]]), universe)
    assert_rows(values(found), [[-2, -1, 0, 3, np.nan]])  # one capitalisation for all: the slope is 0


def test_a_days_values_depend_on_no_other_day():
    first = PANEL[PANEL["date"] == "2026-07-06"]
    for change in (transforms.winsorise, transforms.zscore, transforms.rank):
        pd.testing.assert_frame_equal(change(PANEL).iloc[:5], change(first), check_exact=True)


def test_panels_keep_their_rows_attributes_and_arguments():
    shuffled = PANEL.sample(frac=1, random_state=1).set_axis([7] * len(PANEL))
    before, universe = shuffled.copy(), make_universe(DAYS, CODES)
    for change in (transforms.winsorise, transforms.zscore, transforms.rank):
        found = change(shuffled)
        pd.testing.assert_frame_equal(found.drop(columns="mean_score"), shuffled.drop(columns="mean_score"))
        assert found.attrs == PANEL.attrs
        ordered = found.sort_values(["date", "code"], ignore_index=True)
        pd.testing.assert_frame_equal(ordered, change(PANEL))
    ordered = transforms.neutralise(shuffled, universe).sort_values(["date", "code"], ignore_index=True)
    pd.testing.assert_frame_equal(ordered, transforms.neutralise(PANEL, universe))
    pd.testing.assert_frame_equal(transforms.fill(shuffled, universe), transforms.fill(PANEL, universe))
    pd.testing.assert_frame_equal(shuffled, before)


def test_fill_adds_the_names_without_news_where_all_was_observed():
    panel = make_panel(DAYS, [[1, 2], [np.nan, 4]], CODES[:2])
    panel.loc[panel["date"] == "2026-07-07", "observed"] = 0.9
    found = transforms.fill(panel, make_universe(["2026-07-03", *DAYS], CODES[:3]))
    assert_rows(values(found), [[1, 2, 0], [np.nan, 4, np.nan]])
    assert found["n_news"].tolist() == [1, 1, 0, 1, 1, 0] and found["known_at"].notna().all()
    assert found.columns.tolist() == panel.columns.tolist() and found.attrs == panel.attrs


def test_fill_asks_for_the_whole_lookback():
    """Of six sessions the second was not observed: a lookback of three is whole from the fifth on."""
    days = ["2026-07-02", "2026-07-03", "2026-07-06", "2026-07-07", "2026-07-08", "2026-07-09"]
    panel = make_panel(days, [[np.nan]] * 6, CODES[:1], three=np.nan)
    panel.loc[1, "observed"] = 0.5

    @window(lookback=3)
    def three(links, cell):
        return links["score"].groupby(cell).sum()

    factors = {"three": three, "mean_score": three}
    found = transforms.fill(panel, make_universe(days, CODES[:1]), value=-1.0, factors=factors)
    assert found["three"].notna().tolist() == [False, False, False, False, True, True]
    holed = panel[panel["date"] != "2026-07-08"]  # a session that is not in the panel was not observed either
    assert transforms.fill(holed, make_universe(days, CODES[:1]), factors=factors)["three"].isna().all()


def test_fill_needs_the_functions_of_unknown_factors():
    with pytest.raises(TableError, match="'mine'"):
        transforms.fill(PANEL.assign(mine=1.0), make_universe(DAYS, CODES))
    with pytest.raises(TableError, match="'none_such'"):
        transforms.rank(PANEL, factors=["none_such"])


def test_by_industry_and_empty():
    industries = PANEL.rename(columns={"code": "industry"})
    assert_rows(values(transforms.rank(industries)), values(transforms.rank(PANEL)))
    filled = transforms.fill(industries, make_universe(DAYS, CODES))
    assert set(filled["industry"]) == {"电子"}
    empty = PANEL.iloc[:0]
    for change in (transforms.winsorise, transforms.zscore, transforms.rank):
        assert change(empty).empty
    assert transforms.neutralise(empty, make_universe(DAYS, CODES)).empty
    assert transforms.fill(empty, make_universe(DAYS, CODES)).empty
