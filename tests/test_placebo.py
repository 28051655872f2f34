"""The placebos of the transform are those of shifting the panel itself, one shift after another."""

from __future__ import annotations

import numpy as np
import pytest

from newsfactor.placebo import draw_orders, exchange_names, shift_dates, transform

DAYS, NAMES = 17, 12


@pytest.fixture
def arrays():
    draw = np.random.default_rng(3)
    weights, outcomes = draw.normal(size=(2, DAYS, NAMES))
    weights[draw.random(weights.shape) < 0.5] = 0.0
    weights[4], outcomes[6] = 0.0, np.nan
    return weights, outcomes


def slow_figure(weights, outcomes, days):
    return np.nansum(weights * outcomes) / days


def summarise(observed, figures):
    p = (1 + sum(abs(figure) >= abs(observed) for figure in figures)) / (1 + len(figures))
    return observed, p, *np.quantile(figures, [0.025, 0.975]), len(figures)


def test_names_are_exchanged_for_the_whole_sample(arrays):
    weights, outcomes = arrays
    orders = draw_orders(NAMES)
    found = exchange_names(transform(weights, orders), transform(outcomes, orders))
    figures = []
    for order in orders:
        for shift in range(1, NAMES):
            moved = np.empty_like(weights)
            moved[:, order] = np.roll(weights[:, order], shift, axis=1)
            figures.append(slow_figure(moved, outcomes, DAYS - 2))
    assert found.draws == len(figures) >= 1000
    assert found == pytest.approx(summarise(slow_figure(weights, outcomes, DAYS - 2), figures), abs=1e-5)


def test_dates_are_shifted_on_a_ring(arrays):
    weights, outcomes = arrays
    orders = draw_orders(NAMES)
    found = shift_dates(transform(weights, orders), transform(outcomes, orders), least=3)
    figures = [slow_figure(np.roll(weights, shift, axis=0), outcomes, DAYS - 2) for shift in range(3, DAYS - 3 + 1)]
    assert found == pytest.approx(summarise(slow_figure(weights, outcomes, DAYS - 2), figures), abs=1e-5)


def test_a_sample_too_short_for_a_shift_has_no_p(arrays):
    weights, outcomes = (part[:4] for part in arrays)
    orders = draw_orders(NAMES)
    found = shift_dates(transform(weights, orders), transform(outcomes, orders), least=3)
    assert found.draws == 0
    assert np.isnan(found.p)


def test_orders_are_seeded():
    assert np.array_equal(draw_orders(30, seed=5), draw_orders(30, seed=5))
    assert not np.array_equal(draw_orders(30, seed=5), draw_orders(30, seed=6))
    assert all(sorted(order) == list(range(30)) for order in draw_orders(30))
