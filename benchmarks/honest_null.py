"""The tests of a mean RankIC on panels whose truth is known: how often they reject it, how often they cover it.

python benchmarks/honest_null.py [--panels 2000] [--horizon 5] [--design normal ...]

Each panel has 250 names and 500 sessions; a name's factor is an AR(0.95), its returns are independent of it. Shorter samples are
a panel's first sessions. The same panels with ``strength × factor`` added to the next session's return have a mean RankIC of
0.03 with the overlapping returns: the strength is solved for, and the truth measured, as the difference that
the plant makes on other panels. Designs: ``normal`` returns; ``market``, with a common return to which names are exposed
unequally; ``heavy``, Student's t with 4 degrees of freedom; ``gaps``, normal with a day in five missing.
An oracle's interval has the true standard deviation of the mean over the panels.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import pandas as pd
from machine import describe_machine
from scipy import stats
from scipy.signal import lfilter

from newsfactor.resampling import block_bootstrap
from newsfactor.statistics import assess_means

NAMES, SESSIONS, PERSISTENCE, PLANTED = 250, 500, 0.95, 0.03
SAMPLES = (60, 125, 250, 500)
DESIGNS = ("normal", "market", "heavy", "gaps")


def simulate(draw: np.random.Generator, design: str, horizon: int, strength: float) -> np.ndarray:
    """The daily RankIC of one panel, without and with the plant: 2 × sessions."""
    shape = (SESSIONS + horizon, NAMES)
    factor = draw.standard_normal(shape, dtype=np.float32)
    factor[1:] *= np.float32(np.sqrt(1 - PERSISTENCE**2))
    factor = lfilter(np.float32([1]), np.float32([1, -PERSISTENCE]), factor, axis=0)
    if design == "heavy":
        returns = draw.standard_t(4, shape) / np.sqrt(2)
    else:
        returns = draw.standard_normal(shape, dtype=np.float32)
    if design == "market":
        exposure = 1 + 0.5 * draw.standard_normal((1, NAMES), dtype=np.float32)
        returns = returns + exposure * draw.standard_normal((len(returns), 1), dtype=np.float32)
    planted = returns.copy()
    planted[1:] += strength * factor[:-1]
    ranks, figures = rank(factor[:SESSIONS]), []
    for earned in (returns, planted):
        total = np.cumsum(earned, axis=0, dtype=float)
        # From the session after the factor's to the horizon.
        figures.append((ranks * rank(total[horizon:] - total[:-horizon])).mean(axis=1) * 12 / (NAMES**2 - 1))
    daily = np.array(figures)
    if design == "gaps":
        daily[:, draw.random(SESSIONS) < 0.2] = np.nan
    return daily


def rank(values: np.ndarray) -> np.ndarray:
    """Centred ranks along the rows; the values are continuous."""
    ranks = np.empty(values.shape)
    np.put_along_axis(
        ranks, values.argsort(axis=1), np.arange(NAMES) - (NAMES - 1) / 2 + np.zeros(values.shape), axis=1
    )
    return ranks


def plant(draw: np.random.Generator, design: str, horizon: int, panels: int) -> tuple[float, float]:
    """The strength that plants the figure, and the mean RankIC that it truly plants."""

    def effect(strength: float) -> float:
        # Without the plant the expectation is exactly zero: the difference has almost none of the noise.
        daily = np.array([simulate(draw, design, horizon, strength) for _ in range(panels)])
        return float(np.nanmean(daily[:, 1] - daily[:, 0]))

    first = 0.015
    strength = first * PLANTED / effect(first)
    return strength, effect(strength)


def newey_west(values: np.ndarray, horizon: int) -> np.ndarray:
    """The standard error of each column's mean: Bartlett's kernel with the usual lag, at least the overlap."""
    errors = []
    for column in values.T:
        centred = column[~np.isnan(column)]
        n, centred = len(centred), centred - centred.mean()
        lags = max(horizon - 1, int(4 * (n / 100) ** (2 / 9)))
        products = np.array([centred[lag:] @ centred[: n - lag] for lag in range(lags + 1)])
        products[1:] *= 2 * (1 - np.arange(1, lags + 1) / (lags + 1))
        errors.append(np.sqrt(products.sum() / n / (n - 1)))
    return np.array(errors)


def intervals(values: np.ndarray, horizon: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The 95% interval of each column's mean, by method."""
    mean, n = np.nanmean(values, axis=0), (~np.isnan(values)).sum(axis=0)
    plain = stats.t.isf(0.025, n - 1) * np.nanstd(values, axis=0, ddof=1) / np.sqrt(n)
    lagged = stats.norm.isf(0.025) * newey_west(values, horizon)
    cosine, bootstrap = assess_means(values, horizon=horizon), block_bootstrap(values, horizon=horizon)
    return {
        "plain t": (mean - plain, mean + plain), "Newey-West, normal": (mean - lagged, mean + lagged),
        "cosine t (headline)": (cosine["low"].to_numpy(), cosine["high"].to_numpy()),
        "block bootstrap": (bootstrap["low"].to_numpy(), bootstrap["high"].to_numpy()),
    }  # fmt: skip


def measure(design: str, *, panels: int, horizon: int) -> pd.DataFrame:
    """Rejection of a true zero, coverage of the planted mean and width over the oracle's, by method and sample."""
    draw = np.random.default_rng([DESIGNS.index(design), horizon])
    strength, truth = plant(draw, design, horizon, max(panels // 4, 1))
    daily = np.array([simulate(draw, design, horizon, strength) for _ in range(panels)])
    rows = []
    for n in SAMPLES:
        null, planted = daily[:, 0, :n].T, daily[:, 1, :n].T
        oracle = 2 * stats.norm.isf(0.025) * np.nanmean(planted, axis=0).std()
        without, found = intervals(null, horizon), intervals(planted, horizon)
        for method, (low, high) in without.items():
            below, above = found[method]
            rows.append({
                "design": design, "truth": truth, "sessions": n, "method": method,
                "rejects zero": ((low > 0) | (high < 0)).mean(),
                "covers the plant": ((below <= truth) & (truth <= above)).mean(),
                "width / oracle": np.median(above - below) / oracle,
                "finds the plant": (below > 0).mean(),
            })  # fmt: skip
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--panels", type=int, default=2000)
    parser.add_argument("--horizon", type=int, default=5)
    parser.add_argument("--design", nargs="+", choices=DESIGNS, default=DESIGNS)
    options = parser.parse_args()
    began = time.perf_counter()
    with ProcessPoolExecutor(2) as pool:
        tables = pool.map(partial(measure, panels=options.panels, horizon=options.horizon), options.design)
        table = pd.concat(tables, ignore_index=True)
    print(describe_machine())
    error = 1.96 * np.sqrt(0.05 * 0.95 / options.panels)
    print(f"{options.panels} panels, horizon {options.horizon}: a rate of 5% is measured within ±{error:.2%}")
    rates = ["rejects zero", "covers the plant", "finds the plant"]
    table[rates] = table[rates].map("{:.1%}".format)
    print(table.round({"truth": 4, "width / oracle": 2}).to_markdown(index=False))
    print(f"took {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
