"""A market in which every stock has a price and a factor on every session, made without a loop.

Both sides of a comparison with another library take it from here, so that they see the same numbers. Factors are
continuous (no ties), no session is missing, no price limit is reached and there are no ex-dates: nothing in which
the libraries' rules differ.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from newsfactor.sessions import default_sessions, known_at
from newsfactor.taxonomy import SHENWAN_LEVEL1

LAST_SESSION = "2025-12-31"
# Ranges of A-share codes, each of a thousand.
RANGES = [f"{prefix}{{:03d}}.SH" for prefix in (600, 601, 603, 605, 688, 689)]
RANGES += [f"{prefix}{{:03d}}.SZ" for prefix in ("000", "001", "002", "003", "300", "301", "302")]


class Market(NamedTuple):
    """PRICES, UNIVERSE and a PANEL by stock with the columns ``factor_0``, ``factor_1`` ..."""

    prices: pd.DataFrame
    universe: pd.DataFrame
    panel: pd.DataFrame


def make_market(
    stocks: int = 5000, days: int = 1250, industries: int = 31, seed: int = 0, *, factors: int = 1
) -> Market:
    """The tables of a dense market, days x stocks rows each, sorted by date and code.

    Each factor is standard normal; one standard deviation moves the following session's opening by 3 basis points, of
    a daily deviation of about 180. Codes and industries are categories.
    """
    draw, shape = np.random.default_rng(seed), (days, stocks)
    loadings = draw.standard_normal((factors, days, stocks))
    gap, move = draw.normal(0, 0.01, shape), np.clip(draw.normal(0, 0.015, shape), -0.05, 0.045)
    gap[1:] += 0.0003 * loadings[:, :-1].sum(axis=0)
    gap = np.clip(gap, -0.04, 0.04)
    start = np.log(draw.uniform(50, 150, stocks))
    closes = start + np.cumsum(gap + move, axis=0)
    before = np.vstack([start, closes[:-1]])
    open_, close, pre_close = np.exp(before + gap), np.exp(closes), np.exp(before)
    shares = draw.lognormal(20, 1, stocks)
    keys = _keys(stocks, days)
    prices = keys.assign(
        open=open_.ravel(), high=np.maximum(open_, close).ravel(), low=np.minimum(open_, close).ravel(),
        close=close.ravel(), pre_close=pre_close.ravel(), amount=1e8, circ_mv=(close * shares).ravel(),
    )  # fmt: skip
    universe = keys.assign(
        industry=_repeat(np.arange(stocks) % industries, _industries(industries), days),
        circ_mv=(pre_close * shares).ravel(), is_st=False, is_suspended=False,
        limit_up=(pre_close * 1.1).ravel(), limit_down=(pre_close * 0.9).ravel(),
        list_date=pd.Series(pd.Timestamp("2010-01-04"), index=keys.index).astype("datetime64[us]"),
    )  # fmt: skip
    decided = known_at(pd.DatetimeIndex(keys["date"].iloc[::stocks]))
    panel = keys.assign(known_at=decided.repeat(stocks), observed=1.0, n_news=1)
    for number in range(factors):
        panel[f"factor_{number}"] = loadings[number].ravel()
    return Market(prices, universe, panel)


def _keys(stocks: int, days: int) -> pd.DataFrame:
    sessions = default_sessions()
    sessions = sessions[sessions <= LAST_SESSION][-days:]
    codes = [RANGES[k // 1000].format(k % 1000) for k in range(stocks)]
    return pd.DataFrame({"date": sessions.repeat(stocks), "code": _repeat(np.arange(stocks), codes, days)})


def _repeat(numbers: np.ndarray, names: list[str], days: int) -> pd.Categorical:
    return pd.Categorical.from_codes(np.tile(numbers.astype(np.int16), days), categories=pd.Index(names))


def _industries(count: int) -> list[str]:
    return [*SHENWAN_LEVEL1, *(f"行业{k}" for k in range(len(SHENWAN_LEVEL1), count))][:count]
