"""A random market and panel for the tests of returns and evaluation: plain loops, prices from log steps."""

from __future__ import annotations

import numpy as np
import pandas as pd

from newsfactor.sessions import default_sessions, known_at


def random_market(
    n_days: int = 40, n_names: int = 30, *, seed: int = 0, planted: float = 0.0, cutoff: str = "09:15", levels: int = 7
):
    """Panel (factors ``tone`` with ties, ``noise``), prices and universe; ``planted`` moves open to close by tone."""
    draw = np.random.default_rng(seed)
    days = default_sessions()
    days = days[days >= "2025-03-03"][:n_days]
    codes = [f"{600000 + name}.SH" for name in range(n_names)]
    tone = draw.integers(0, levels, (n_days, n_names)).astype(float)
    rows, price = [], np.full(n_names, 20.0)
    for day in range(n_days):
        open_ = price * np.exp(draw.normal(0, 0.01, n_names))
        close = open_ * np.exp(draw.normal(0, 0.015, n_names) + planted * tone[day])
        for name in range(n_names):
            bar = open_[name], open_[name], close[name], close[name], price[name]
            rows.append((days[day], codes[name], *bar, 1e8, 1e10))
        price = close
    names = ["date", "code", "open", "low", "high", "close", "pre_close", "amount", "circ_mv"]
    prices = pd.DataFrame(rows, columns=names)
    panel = prices[["date", "code"]].assign(
        observed=1.0, n_news=1, tone=tone.ravel(), noise=draw.normal(size=tone.size)
    )
    panel["known_at"] = known_at(panel["date"], cutoff)
    universe = prices[["date", "code"]].assign(
        industry=[f"行业{name % 3}" for _ in range(n_days) for name in range(n_names)],
        circ_mv=draw.lognormal(23, 1, len(prices)), is_st=False, is_suspended=False,
        limit_up=prices["pre_close"] * 1.3, limit_down=prices["pre_close"] * 0.7,
        list_date=pd.Series(pd.Timestamp("2010-01-04"), index=prices.index).astype("datetime64[us]"),
    )  # fmt: skip
    return panel, prices, universe
