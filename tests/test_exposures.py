"""What was known at the cutoff, against slow loops over one stock and one session at a time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from markets import random_market

from newsfactor.errors import CalendarError, InvalidValueError, TableError
from newsfactor.exposures import measure_exposures
from newsfactor.sessions import default_sessions


def holed_market(seed: int = 0):
    """A random market with holes, suspensions of both kinds, an ex-date and missing capitalisations."""
    _, prices, universe = random_market(60, 6, seed=seed)
    draw = np.random.default_rng(seed + 10)
    prices["amount"] = draw.uniform(1e7, 1e8, len(prices)) * (draw.random(len(prices)) > 0.1)
    prices["circ_mv"] = np.where(draw.random(len(prices)) < 0.1, np.nan, draw.uniform(1e9, 1e10, len(prices)))
    prices["pre_close"] *= draw.choice([1.0, 0.5], len(prices), p=[0.97, 0.03])
    universe["is_suspended"] = draw.random(len(universe)) < 0.05
    universe["circ_mv"] = universe["circ_mv"].mask(draw.random(len(universe)) < 0.1)
    universe["industry"] = universe["industry"].mask(draw.random(len(universe)) < 0.1)
    hole = draw.random(len(prices)) < 0.1
    # One code has a long hole, after which its windows fill only by and by.
    long = (prices["code"] == "600001.SH") & prices["date"].between(
        prices["date"].unique()[15], prices["date"].unique()[32]
    )
    return prices[~(hole | long)], universe[draw.random(len(universe)) > 0.02]


def facts_of(prices, universe, code):
    """By session the (step, turnover) of one stock; None where it is not known."""
    facts = {}
    for bar in prices[prices["code"] == code].itertuples():
        turnover = bar.amount / bar.circ_mv
        step = bar.close / bar.pre_close, None if np.isnan(turnover) else turnover
        facts[bar.date] = (1.0, 0.0) if bar.amount == 0 else step
    halts = universe[(universe["code"] == code) & universe["is_suspended"]]
    return facts | dict.fromkeys(halts["date"], (1.0, 0.0))


def slow_window(facts, days, length):
    known = [facts[day] for day in days[-length:] if facts.get(day) is not None]
    return known if 2 * len(known) >= length else None


@pytest.mark.parametrize("cutoff", ["09:15", "14:50", "15:00"])
def test_exposures_agree_with_a_slow_loop(cutoff):
    prices, universe = holed_market()
    asked = pd.DatetimeIndex(prices["date"].unique()).sort_values()[::3]
    codes = pd.Index(["600003.SH", "600001.SH", "600000.SH", "999999.SH"])
    got = measure_exposures(prices, universe, asked, codes, cutoff=cutoff)
    assert got.dates.equals(asked) and got.codes.equals(codes)
    assert list(got.industries) == sorted(universe["industry"].dropna().unique())
    calendar = default_sessions()
    seen, thin = 0, 0
    for n, code in enumerate(codes):
        facts = facts_of(prices, universe, code)
        steps, turnovers = ({day: fact[k] for day, fact in facts.items()} for k in (0, 1))
        for t, day in enumerate(asked):
            end = calendar.get_loc(day) + (cutoff == "15:00")
            past = list(calendar[end - 20 : end])
            for length, grid in ((1, got.return_1), (5, got.return_5), (20, got.return_20)):
                known = slow_window(steps, past, length)
                want = np.nan if known is None else np.prod(known) - 1
                assert grid[t, n] == pytest.approx(want, abs=1e-12, nan_ok=True)
                seen, thin = seen + (known is not None), thin + (known is None)
            known = slow_window(turnovers, past, 20)
            want = np.nan if known is None else np.mean(known)
            assert got.turnover[t, n] == pytest.approx(want, abs=1e-12, nan_ok=True)
            row = universe[(universe["code"] == code) & (universe["date"] == day)]
            value = row["circ_mv"].iloc[0] if len(row) else np.nan
            assert got.log_circ_mv[t, n] == pytest.approx(np.log(value), nan_ok=True)
            name = row["industry"].iloc[0] if len(row) else None
            number = got.industry[t, n]
            assert pd.isna(name) if number < 0 else got.industries[number] == name
    assert seen > 100 and thin > 60


def grids(exposures) -> dict[str, np.ndarray]:
    values = {field.name: getattr(exposures, field.name) for field in dataclasses.fields(exposures)}
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


@pytest.mark.parametrize("adjusted", [False, True])
@pytest.mark.parametrize("cutoff", ["09:15", "15:00"])
def test_what_comes_after_the_cutoff_changes_nothing(cutoff, adjusted):
    prices, universe = holed_market(1)
    day, codes = prices["date"].unique()[40], pd.Index(universe["code"].unique())
    before = measure_exposures(prices, universe, pd.DatetimeIndex([day]), codes, cutoff=cutoff, adjusted=adjusted)
    later, coming = prices["date"] >= day, universe["date"] > day
    if cutoff == "15:00":
        later = prices["date"] > day
    moved = prices.assign(
        **{name: prices[name].mask(later, 3.0) for name in ("close", "pre_close", "amount", "circ_mv")}
    )
    other = universe.assign(
        circ_mv=universe["circ_mv"].mask(coming, 1.0), is_suspended=universe["is_suspended"] | coming
    )
    after = measure_exposures(moved, other, pd.DatetimeIndex([day]), codes, cutoff=cutoff, adjusted=adjusted)
    # Nor does it matter which other dates are asked for.
    dates = pd.DatetimeIndex(prices["date"].unique())
    many = measure_exposures(prices, universe, dates, codes, cutoff=cutoff, adjusted=adjusted)
    row = many.dates.get_loc(day)
    for name, grid in grids(before).items():
        np.testing.assert_array_equal(grid, grids(after)[name], err_msg=name)
        np.testing.assert_allclose(grid[0], grids(many)[name][row], rtol=1e-12, atol=1e-13, err_msg=name)
    assert np.isfinite(before.return_20).sum() >= 4


def test_adjusted_prices_pass_a_suspension_to_the_last_close():
    _, prices, universe = random_market(30, 1)
    prices = prices.assign(close=np.arange(10.0, 40.0), pre_close=np.nan, open=1.0)
    prices.loc[5:24, "amount"] = 0
    days, code = pd.DatetimeIndex(prices["date"]), pd.Index(prices["code"].unique())
    got = measure_exposures(prices, universe, days[24:27], code, cutoff="15:00", adjusted=True)
    np.testing.assert_allclose(got.return_1[:, 0], [0, 35 / 14 - 1, 36 / 35 - 1], atol=1e-12)
    np.testing.assert_allclose(got.return_20[:, 0], [0, 35 / 14 - 1, 36 / 14 - 1], atol=1e-12)


def test_rows_in_any_order_categories_and_empty_requests():
    prices, universe = holed_market(2)
    days, codes = pd.DatetimeIndex(prices["date"].unique()[25:30]), pd.Index(universe["code"].unique())
    plain = grids(measure_exposures(prices, universe, days, codes, cutoff="09:15"))
    mixed = prices.sample(frac=1, random_state=0).astype({"code": "category"}), universe.sample(frac=1, random_state=1)
    for name, grid in grids(measure_exposures(*mixed, days[::-1], codes, cutoff="09:15")).items():
        np.testing.assert_allclose(grid, plain[name], rtol=1e-12)
    nothing = measure_exposures(prices, universe, days[:0], codes, cutoff="09:15")
    assert nothing.return_20.shape == (0, len(codes))
    unpriced = measure_exposures(prices.iloc[:0], universe, days, codes[:0], cutoff="09:15")
    assert unpriced.turnover.shape == (5, 0)
    # On the first session of a calendar nothing is known before it.
    own = prices[prices["date"].isin(days)]
    first = measure_exposures(own, universe, days, codes, cutoff="09:15", sessions=days)
    assert np.isnan([first.return_1[0], first.return_20[0], first.turnover[0]]).all()
    assert np.isfinite(first.return_1[1]).any()


def test_bad_requests_are_named():
    prices, universe = holed_market(3)
    days, codes = pd.DatetimeIndex(prices["date"].unique()), pd.Index(universe["code"].unique())
    with pytest.raises(InvalidValueError, match="12:00"):
        measure_exposures(prices, universe, days, codes, cutoff="12:00")
    with pytest.raises(CalendarError, match="2025-03-09"):
        measure_exposures(prices, universe, pd.DatetimeIndex(["2025-03-09"]), codes, cutoff="09:15")
    with pytest.raises(TableError, match=r"each \(date, code\) once"):
        measure_exposures(pd.concat([prices, prices.iloc[:1]]), universe, days, codes, cutoff="09:15")
    with pytest.raises(TableError, match="must not be missing"):
        measure_exposures(
            prices,
            universe.assign(code=universe["code"].mask(universe["date"] == days[3])),
            days,
            codes,
            cutoff="09:15",
        )
    with pytest.raises(TableError, match="'circ_mv'"):
        measure_exposures(prices.drop(columns="circ_mv"), universe, days, codes, cutoff="09:15")
