"""A market with news whose true IC is known.

Levels and returns. Each (session d, stock) has news with probability 0.4, and then one true level L in
-3..3; g(L) is the level over its standard deviation, 0 without news. The log return from the opening
auction of d to that of the next session is

    R[d] = market[d] + idiosyncratic[d],   idiosyncratic[d] ~ sum over k of a[k] g(L[d-k]) + noise

with the lags k = -1 (the echo: the move of the news' own day, over before the cell can be traded), 0 (the
tradable one), 1, 2, 3. The weights a[k] are solved so that the expected daily Spearman correlation between
L[d] and R[d+k], among the names with news, is 0.4 at k = -1 and ic times 1, 0.5, 0.25, 0.1 at k = 0..3.

Prices. R[d] is split into the session's own move and the next night's. What rounding to 0.01 or a price
limit takes from the one is given to the other, so that the compounded return stays R[d]. Limit-opens are
planted at random, independently of everything else: the night before jumps by the whole limit. The jump
belongs to R[d-1] and is a part of the noise in which the weights are solved; what is untradable at d is
a random choice that knows nothing of R[d]. Suspensions are random too. Both leave the RankIC unbiased.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.stats import binom

from newsfactor.codes import limit_rates
from newsfactor.errors import InvalidValueError
from newsfactor.schema import DATE_TYPE, SENTIMENTS, TIME_TYPE, TIMEZONE
from newsfactor.sessions import default_sessions
from newsfactor.synthetic_texts import INDUSTRIES, NAME_FIRST, NAME_SECOND, Template, choose, fill, reword

LEVELS = np.arange(-3, 4)
LEVEL_SHARES = np.array([0.08, 0.14, 0.20, 0.16, 0.20, 0.14, 0.08])
LEVEL_DEVIATION = float(np.sqrt(LEVEL_SHARES @ LEVELS**2))
NEWS_SHARE = 0.4
LAGS = (-1, 0, 1, 2, 3)
ECHO, DECAY = 0.4, (1.0, 0.5, 0.25, 0.1)
MAX_IC = 0.5
# Gauss-Legendre on 0..7: the integrand falls like exp(-t^2).
_X, _W = np.polynomial.legendre.leggauss(120)
NODES, NODE_WEIGHTS = 3.5 * (_X + 1), 3.5 * _W
# The least number of names on a day that counts (as in `evaluate`).
MIN_NAMES = 20

MARKET_VOL, IDIOSYNCRATIC_VOL, NIGHT_SHARE, NIGHT_VOL = 0.008, 0.02, 0.3, 0.006
# A limit-open's jump is 5 (main board) to 10 idiosyncratic standard deviations: beyond all others anyway.
LIMIT_OPEN_SHARE, LIMIT_JUMP = 0.004, 6.0

SOURCES, SOURCE_SHARES = ("wire_a", "wire_b", "wire_c"), (0.5, 0.3, 0.2)
SILENT_SOURCE, SILENT_CELLS = "wire_c", 4
MINUTE_SOURCE = "wire_b"
SECOND_STORY, REPOST, EMPTY_TITLE, DAY_PRECISION, NO_STOCK = 0.06, 0.08, 0.02, 0.01, 0.015
# Numbers, exchange and share of the stocks: the two main boards, ChiNext, STAR.
BOARDS = (
    (np.r_[600000:602000, 603000:604000], "SH", 0.4), (np.arange(1, 3000), "SZ", 0.3),
    (np.arange(300001, 301700), "SZ", 0.2), (np.arange(688001, 689000), "SH", 0.1),
)  # fmt: skip
MAX_STOCKS = 5000
MINUTE, HOUR, DAY = 60, 3600, 86400
OPENING = 9 * HOUR + 15 * MINUTE
DRAWS = 8


@dataclass(frozen=True)
class SyntheticMarket:
    """The frames of `synthetic_market`.

    Attributes
    ----------
    news : NEWS
        Raw, sorted by ``available_at``; reposts included.
    securities : SECURITIES
        Kinds ``short``, ``sw1``, ``listed``.
    prices : PRICES
        And ``name``; no rows on suspended days.
    truth : DataFrame
        ``date, code, level``: the true level -3..3 of each cell (cutoff 09:15) that has news in ``news``.
    coverage : COVERAGE
        One row per source and unbroken stretch.
    labels : DataFrame
        ``news_id, event, market, industry, sentiment, stocks`` of each news, and ``repost_of``: the
        ``news_id`` that it repeats, null for an original or one whose original is not in ``news``.
    """

    news: pd.DataFrame
    securities: pd.DataFrame
    prices: pd.DataFrame
    truth: pd.DataFrame
    coverage: pd.DataFrame
    labels: pd.DataFrame


def synthetic_market(
    n_stocks: int = 100, n_days: int = 250, ic: float = 0.1, *, seed: int = 0, start: str = "2025-01-02"
) -> SyntheticMarket:
    """Invent companies, their news and their prices, with a known RankIC of the true levels.

    ``truth`` evaluated at its own sessions (cutoff 09:15, entry ``next_open``, horizon 1) has the mean
    daily RankIC ``ic`` in expectation; moved one session earlier 0.4, later 0.5 ``ic``. On 100 stocks and
    250 days its standard error is 0.01. Of one source a few days are missing: its news are not in ``news``,
    cells that had no other are not in ``truth``, and ``coverage`` shows the gap; the prices moved all the
    same. 1.5% of the news are about no stock.

    Parameters
    ----------
    n_stocks : int
        2 to 5000; from 60 on most days have the 20 names with news that `evaluate` asks for.
    n_days : int
        Sessions, at least 20.
    ic : float
        -0.5 to 0.5.
    seed : int
        The same arguments give the same market.
    start : str
        The first session on or after this date is the first of the market.

    Returns
    -------
    SyntheticMarket

    Raises
    ------
    InvalidValueError
        If an argument is out of range or the calendar ends before ``n_days`` sessions.

    Examples
    --------
    >>> market = synthetic_market(30, 40)
    >>> market.truth.columns.tolist(), market.prices["code"].nunique()
    (['date', 'code', 'level'], 30)
    """
    days = _check_arguments(n_stocks, n_days, ic, start)
    rng = np.random.default_rng(seed)
    stocks = _companies(rng, n_stocks)
    levels, has_news = _draw_levels(rng, n_days + len(LAGS) - 1, n_stocks)
    moves = _draw_moves(rng, levels, n_days, planted_weights(ic, n_stocks))
    prices = _price_table(rng, stocks, days[1:], moves)
    # The first three rows only feed the lags, the last one only the echo.
    inside = slice(LAGS[-1], LAGS[-1] + n_days)
    items = _draw_items(rng, levels[inside], has_news[inside], days)
    items = pd.concat([items, _stockless_items(rng, len(items), days)], ignore_index=True)
    news, labels, kept = _write_news(rng, items, stocks, days)
    securities = _securities_table(rng, stocks, days)
    return SyntheticMarket(news, securities, prices, _truth_table(kept, stocks, days), _coverage_table(days), labels)


def _check_arguments(n_stocks: int, n_days: int, ic: float, start: str) -> pd.DatetimeIndex:
    """The sessions of the market, and the one before them in front."""
    for name, value, low, high in (("n_stocks", n_stocks, 2, MAX_STOCKS), ("n_days", n_days, 20, 10**6)):
        if not isinstance(value, int | np.integer) or not low <= value <= high:
            raise InvalidValueError(name, value, f"must be a whole number from {low} to {high}")
    if not abs(ic) <= MAX_IC:
        raise InvalidValueError("ic", ic, f"must lie between -{MAX_IC} and {MAX_IC}")
    sessions = default_sessions()
    first = int(sessions.searchsorted(pd.Timestamp(start)))
    if first < 1 or first + n_days > len(sessions):
        span = f"{sessions[1]:%Y-%m-%d} to {sessions[-1]:%Y-%m-%d}"
        raise InvalidValueError(
            "n_days", n_days, f"must fit into the trading calendar ({span}) from {start} on", remedy="start elsewhere"
        )
    return sessions[first - 1 : first + n_days]


# Planting the IC.


@lru_cache(maxsize=64)
def planted_weights(ic: float, n_stocks: int) -> tuple[float, ...]:
    """The weights a[k] for k = -1..3, in units of the noise, that give the stated expected RankIC.

    Each weight is the root of its own equation given the others (Gauss-Seidel, a few sweeps).
    """
    targets = (ECHO, *(ic * share for share in DECAY))
    weights = np.zeros(len(LAGS))
    shares = _gap_shares(n_stocks)
    for _ in range(50):
        before = weights.copy()
        for k, target in enumerate(targets):
            rest = _noise_spectrum(np.delete(weights, k))
            weights[k] = brentq(_miss, -6, 6, args=(rest, shares, target), xtol=1e-12)
        if np.abs(weights - before).max() < 1e-9:
            break
    return tuple(float(weight) for weight in weights)


def _miss(weight: float, rest: np.ndarray, shares: np.ndarray, target: float) -> float:
    return _expected_rank_ic(weight, rest, shares) - target


def _expected_rank_ic(weight: float, rest: np.ndarray, shares: np.ndarray) -> float:
    """The expected daily Spearman correlation of L with R = weight g(L) + the rest.

    It is the sum over the gaps 1..6 between two names' levels of ``shares`` times E sign(R1 - R2), which is
    2/pi * integral over t > 0 of sin(t weight gap) phi(t)^2 / t, phi being the characteristic function of
    the rest (Gil-Pelaez 1951): exact for the mixture of other lags and of names with and without news.
    """
    gaps = weight * np.arange(1, len(LEVELS)) / LEVEL_DEVIATION
    signs = 2 / np.pi * np.sin(np.outer(gaps, NODES)) @ (rest / NODES * NODE_WEIGHTS)
    return float(shares @ signs)


def _noise_spectrum(others: np.ndarray) -> np.ndarray:
    """phi(t)^2 at the nodes: unit normal noise, the jumps of limit-opens, and the other lags' levels."""
    spectrum = np.exp(-(NODES**2)) * (1 - LIMIT_OPEN_SHARE + LIMIT_OPEN_SHARE * np.cos(LIMIT_JUMP * NODES)) ** 2
    for other in others:
        waves = np.cos(np.outer(LEVELS / LEVEL_DEVIATION, other * NODES))
        spectrum *= (1 - NEWS_SHARE + NEWS_SHARE * LEVEL_SHARES @ waves) ** 2
    return np.asarray(spectrum)


def _gap_shares(n_stocks: int) -> np.ndarray:
    """The weight of E sign(R1 - R2) in the expected Spearman coefficient, for level gaps 1..6.

    The covariance of mid-ranks is a sum of E[sign(L1-L2) sign(R1-R2)] over pairs of names and of
    E[sign(L1-L2) sign(R1-R3)] over triples (Kendall & Gibbons, Rank Correlation Methods).
    """
    pairs, triples = _rank_factors(n_stocks)
    sign = np.sign(LEVELS[:, None] - LEVELS[None, :])
    weight = LEVEL_SHARES[:, None] * LEVEL_SHARES * (pairs * sign + triples * (sign @ LEVEL_SHARES)[:, None])
    return np.array([np.trace(weight, -gap) - np.trace(weight, gap) for gap in range(1, len(LEVELS))])


def _rank_factors(n_stocks: int) -> tuple[float, float]:
    """What pairs and triples of names contribute to Spearman's coefficient, averaged over the names a day.

    The expected ties of the seven levels are in the denominator. Days with too few names do not count,
    unless nearly all are such.
    """
    n = np.arange(3, max(n_stocks, 3) + 1)
    share = binom.pmf(n, n_stocks, NEWS_SHARE)
    enough = n >= MIN_NAMES
    share = np.where(enough, share, 0) if share[enough].sum() > 0.01 else share
    share = share / share.sum() if share.sum() else np.full(len(n), 1 / len(n))
    two, three, cube = n * (n - 1.0), n * (n - 1.0) * (n - 2.0), n**3.0 - n
    tied = three * (LEVEL_SHARES**3).sum() + 3 * two * (LEVEL_SHARES**2).sum()
    scale = np.sqrt((cube - tied) * cube) / 12
    return float(share @ (two / 4 / scale)), float(share @ (three / 4 / scale))


def _draw_levels(rng: np.random.Generator, n_rows: int, n_stocks: int) -> tuple[np.ndarray, np.ndarray]:
    """True levels (rows x stocks), 0 where there is no news, and where there is."""
    has_news = rng.random((n_rows, n_stocks)) < NEWS_SHARE
    return np.where(has_news, rng.choice(LEVELS, (n_rows, n_stocks), p=LEVEL_SHARES), 0), has_news


def _draw_moves(rng: np.random.Generator, levels: np.ndarray, n_days: int, weights: tuple[float, ...]) -> np.ndarray:
    """R (days x stocks): the log return from each session's opening auction to the next one's."""
    g = levels / LEVEL_DEVIATION
    own = rng.standard_normal((n_days, levels.shape[1]))
    for lag, weight in zip(LAGS, weights, strict=True):
        first = LAGS[-1] - lag
        own += weight * g[first : first + n_days]
    own *= IDIOSYNCRATIC_VOL / np.sqrt(1 + NEWS_SHARE * np.square(weights).sum())
    return own + rng.normal(0.0002, MARKET_VOL, (n_days, 1))


# Prices, in whole fen.


def _price_table(
    rng: np.random.Generator, stocks: pd.DataFrame, days: pd.DatetimeIndex, moves: np.ndarray
) -> pd.DataFrame:
    suspended = _draw_suspensions(rng, moves.shape)
    percent = _limit_percents(stocks, days)
    jump = _draw_cells(rng, ~suspended, max(2, round(LIMIT_OPEN_SHARE * moves.size)))
    payout = np.abs(_draw_cells(rng, ~suspended & (jump == 0), max(2, moves.size // 400)))
    split = np.where(payout == 1, rng.choice([1.0, 1.3, 1.5], moves.shape, p=[0.7, 0.15, 0.15]), 1.0)
    yielded = np.where((payout == 1) & (split == 1), rng.uniform(0.01, 0.05, moves.shape), 0.0)
    grids = _walk(rng, moves, suspended, percent, jump, split, yielded)
    traded = ~suspended
    row, column = np.nonzero(traded)
    table = pd.DataFrame({"date": days[row].astype(DATE_TYPE), "code": stocks["code"].to_numpy()[column]})
    for name in ("open", "high", "low", "close", "pre_close"):
        table[name] = grids[name][traded] / 100
    shares = np.exp(rng.normal(20, 1, moves.shape[1])) * np.cumprod(grids["split"], axis=0)
    table["circ_mv"] = np.round(table["close"] * shares[traded])
    table["amount"] = np.round(table["circ_mv"] * np.exp(rng.normal(-4.3, 0.5, len(table))))
    table["name"] = stocks["name"].to_numpy()[column]
    return table[["date", "code", "open", "high", "low", "close", "pre_close", "amount", "circ_mv", "name"]]


def _limit_percents(stocks: pd.DataFrame, days: pd.DatetimeIndex) -> np.ndarray:
    dates = pd.Series(np.repeat(days, len(stocks)))
    rates = limit_rates(dates, list(stocks["code"]) * len(days), pd.Series(False, index=dates.index))
    return np.asarray(np.rint(rates * 100), dtype=int).reshape(len(days), len(stocks))


def _draw_suspensions(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Where (days x stocks) a stock has no price: 3 to 8 sessions in a row."""
    suspended = np.zeros(shape, dtype=bool)
    for _ in range(max(1, shape[0] * shape[1] // 4000)):
        first, length, stock = rng.integers(3, shape[0] - 10), rng.integers(3, 9), rng.integers(shape[1])
        suspended[first : first + length, stock] = True
    return suspended


def _draw_cells(rng: np.random.Generator, allowed: np.ndarray, count: int) -> np.ndarray:
    """``count`` random cells among the allowed ones after the first session: half of them +1, half -1."""
    allowed = allowed.copy()
    allowed[0] = False
    chosen = rng.choice(np.flatnonzero(allowed), count, replace=False)
    cells = np.zeros(allowed.size, dtype=int)
    cells[chosen] = np.where(np.arange(count) % 2, -1, 1)
    return cells.reshape(allowed.shape)


def _walk(
    rng: np.random.Generator, moves: np.ndarray, suspended: np.ndarray, percent: np.ndarray,
    jump: np.ndarray, split: np.ndarray, yielded: np.ndarray,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Prices (days x stocks) in fen, session by session; carried through suspensions."""
    grids = {name: np.zeros(moves.shape) for name in ("open", "high", "low", "close", "pre_close", "split")}
    close = np.rint(rng.uniform(1000, 10000, moves.shape[1]))
    night = rng.normal(0, NIGHT_VOL, moves.shape[1])
    nights = NIGHT_SHARE * moves + rng.normal(0, NIGHT_VOL, moves.shape)
    spread = np.exp(np.abs(rng.normal(0, 0.004, (2, *moves.shape))))
    for d, move in enumerate(moves):
        # A split keeps the 0.01 tick small in long histories: rounding must not matter.
        factor = split[d] * np.select([close > 20000, close < 400], [2.0, 0.5], 1.0)
        factor = np.where(suspended[d], 1.0, factor)
        reference = np.where(suspended[d], close, np.rint(close * (1 - yielded[d]) / factor))
        top, bottom = (reference * (100 + percent[d]) + 50) // 100, (reference * (100 - percent[d]) + 50) // 100
        opened = np.clip(np.rint(reference * np.exp(night)), bottom, top)
        opened = np.select([jump[d] > 0, jump[d] < 0], [top, bottom], opened)
        closed = np.clip(np.rint(opened * np.exp(move - nights[d])), bottom, top)
        grids["high"][d] = np.minimum(np.rint(np.maximum(opened, closed) * spread[0, d]), top)
        grids["low"][d] = np.maximum(np.rint(np.minimum(opened, closed) / spread[1, d]), bottom)
        for name, values in (("open", opened), ("close", closed), ("pre_close", reference), ("split", factor)):
            grids[name][d] = values
        close = np.where(suspended[d], close, closed)
        # What rounding and the limits took from the session's move, the night makes up for.
        night = move - np.log(closed / opened)
    return grids


# Companies.


def _companies(rng: np.random.Generator, n_stocks: int) -> pd.DataFrame:
    """``code, name, industry, exchange``; industries as even as possible, codes in no order of them."""
    prefixes = [first + second for first in NAME_FIRST for second in NAME_SECOND]
    prefixes = [prefixes[k] for k in rng.permutation(len(prefixes))]
    industries = [list(INDUSTRIES)[k] for k in rng.permutation(len(INDUSTRIES))]
    # 720 beginnings and 31 industries have no common factor: no pair of them comes twice.
    rows = []
    for k, code in enumerate(_codes(rng, n_stocks)):
        industry = industries[k % len(industries)]
        ending = str(rng.choice(INDUSTRIES[industry][0]))
        exchange = "上交所" if code.endswith("SH") else "深交所"
        rows.append((code, prefixes[k % len(prefixes)] + ending, industry, exchange))
    return pd.DataFrame(rows, columns=["code", "name", "industry", "exchange"]).sort_values("code", ignore_index=True)


def _codes(rng: np.random.Generator, n_stocks: int) -> list[str]:
    counts = [int(n_stocks * share) for *_, share in BOARDS]
    counts[0] += n_stocks - sum(counts)
    codes = []
    for (numbers, suffix, _), count in zip(BOARDS, counts, strict=True):
        codes += [f"{number:06d}.{suffix}" for number in rng.choice(numbers, count, replace=False)]
    return [codes[k] for k in rng.permutation(n_stocks)]


def _securities_table(rng: np.random.Generator, stocks: pd.DataFrame, days: pd.DatetimeIndex) -> pd.DataFrame:
    age = pd.to_timedelta(rng.integers(400, 8000, len(stocks)), unit="D")
    listed = pd.Series(days[0] - age, dtype=DATE_TYPE)
    values = {"short": stocks["name"], "sw1": stocks["industry"], "listed": listed.dt.strftime("%Y-%m-%d")}
    facts = [
        pd.DataFrame({"code": stocks["code"], "kind": kind, "value": value, "valid_from": listed})
        for kind, value in values.items()
    ]
    never = pd.Series(pd.NaT, index=range(3 * len(stocks)), dtype=DATE_TYPE)
    table = pd.concat(facts, ignore_index=True).assign(valid_to=never, evidence="observed")
    return table.assign(seen_from=days[0], seen_to=days[-1]).sort_values(["code", "kind"], ignore_index=True)


# News: when, by whom, repeated by whom. Times are seconds since 1970 on the clock of Shanghai.


def _seconds(days: pd.DatetimeIndex) -> np.ndarray:
    return days.as_unit("s").asi8


def _draw_items(
    rng: np.random.Generator, levels: np.ndarray, has_news: np.ndarray, days: pd.DatetimeIndex
) -> pd.DataFrame:
    """One row per story or repost: ``day, stock, level, story, second, repost`` and who published it when."""
    day, stock = np.nonzero(has_news)
    twice = rng.random(len(day)) < SECOND_STORY
    cell = np.repeat(np.arange(len(day)), 1 + twice)
    second = np.diff(cell, prepend=-1) == 0
    stories = pd.DataFrame({"day": day, "stock": stock, "level": levels[day, stock]}).iloc[cell].assign(second=second)
    stories = stories.reset_index(drop=True)
    stories = _publish(rng, stories.assign(story=np.arange(len(cell)), repost=False), days)
    again = stories[rng.random(len(stories)) < REPOST].copy()
    again["available"] += rng.integers(MINUTE, 40 * MINUTE, len(again))
    again["source"] = (again["source"] + rng.integers(1, len(SOURCES), len(again))) % len(SOURCES)
    again = _round_minutes(again.assign(published=again["available"]))
    again = again[again["available"] < _seconds(days)[again["day"] + 1] + OPENING].assign(repost=True)
    alone = ~stories["story"].isin(again["story"])
    return pd.concat([_blur(rng, stories, alone, days), again], ignore_index=True)


def _publish(rng: np.random.Generator, stories: pd.DataFrame, days: pd.DatetimeIndex) -> pd.DataFrame:
    """When each became available within its cell's window, when it was published, and by which source."""
    available = _draw_times(rng, stories["day"].to_numpy(), days)
    source = rng.choice(len(SOURCES), len(stories), p=SOURCE_SHARES)
    # Some were received or edited later: even from across the cutoff, which is the cell's all the same.
    delay = np.where(rng.random(len(stories)) < 0.3, rng.integers(5, 20 * MINUTE, len(stories)), 0)
    return _round_minutes(stories.assign(available=available, published=available - delay, source=source))


def _round_minutes(items: pd.DataFrame) -> pd.DataFrame:
    """One source gives its times to the minute only."""
    coarse = items["source"] == SOURCES.index(MINUTE_SOURCE)
    items = items.assign(precision=np.where(coarse, "minute", "second"))
    return items.assign(**{name: items[name] - items[name] % MINUTE * coarse for name in ("available", "published")})


def _draw_times(rng: np.random.Generator, day: np.ndarray, days: pd.DatetimeIndex) -> np.ndarray:
    """A second in the half-open window from 09:15 of the session before to 09:15 of the cell's own."""
    before, own = _seconds(days)[day], _seconds(days)[day + 1]
    u, within = rng.random(len(day)), rng.random(len(day))
    trading = 9.5 * HOUR + within * 4 * HOUR + np.where(within < 0.5, 0, 1.5 * HOUR)
    kinds = [u < 0.25, u < 0.29, u < 0.72, u < 0.80]
    noon, evening, night = ((hour + within * length) * HOUR for hour, length in ((11.5, 1.5), (15, 7), (22, 9)))
    choices = [before + trading, before + noon, before + evening, before + night]
    times = np.select(kinds, choices, own + (6.5 + within * 2.75) * HOUR)
    idle = (own - before) // DAY - 1
    weekend = before + (1 + np.floor(rng.random(len(day)) * idle)) * DAY + (8 + within * 14) * HOUR
    return np.asarray(np.where((idle > 0) & (rng.random(len(day)) < 0.35), weekend, times), dtype=int)


def _blur(rng: np.random.Generator, stories: pd.DataFrame, alone: pd.Series, days: pd.DatetimeIndex) -> pd.DataFrame:
    """Make a few of the stories without reposts known to the day only: the day before their cell's session."""
    blurred = alone & (rng.random(len(stories)) < DAY_PRECISION)
    eve = _seconds(days)[stories["day"] + 1] - DAY
    stories = stories.assign(precision=stories["precision"].mask(blurred, "day"))
    return stories.assign(**{name: stories[name].mask(blurred, eve) for name in ("available", "published")})


def _stockless_items(rng: np.random.Generator, n_items: int, days: pd.DatetimeIndex) -> pd.DataFrame:
    count = max(2, round(NO_STOCK * n_items))
    items = pd.DataFrame({"day": rng.integers(0, len(days) - 1, count), "stock": -1, "level": 0, "second": False})
    return _publish(rng, items.assign(story=n_items + np.arange(count), repost=False), days)


def _silence(days: pd.DatetimeIndex) -> tuple[int, int]:
    """Since when and until when the silent source was not heard, in seconds."""
    first = int(0.6 * (len(days) - 1))
    return int(_seconds(days)[first]) + OPENING, int(_seconds(days)[first + SILENT_CELLS]) + OPENING


# Tables.


def _write_news(
    rng: np.random.Generator, items: pd.DataFrame, stocks: pd.DataFrame, days: pd.DatetimeIndex
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """NEWS, its labels, and the items that were not lost with the silent source."""
    items = _write_texts(rng, items, stocks)
    since, until = _silence(days)
    known = items["available"] + np.where(items["precision"] == "day", DAY, 0)
    lost = (items["source"] == SOURCES.index(SILENT_SOURCE)) & (known >= since) & (known < until)
    kept = items[~lost].sort_values(["available", "story", "repost"], ignore_index=True)
    kept["news_id"] = [f"s{number:06d}" for number in range(len(kept))]
    original = kept[~kept["repost"]].set_index("story")["news_id"]
    news = pd.DataFrame({
        "news_id": kept["news_id"],
        "published_at": _times(kept["published"]), "available_at": _times(kept["available"]),
        "time_precision": kept["precision"], "title": kept["title"], "content": kept["content"],
        "source": np.array(SOURCES, dtype=object)[kept["source"]],
    })  # fmt: skip
    labels = kept[["news_id", "event", "market", "industry", "sentiment", "stocks"]].copy()
    labels["repost_of"] = kept["story"].map(original).astype(object).where(kept["repost"], None)
    return news, labels, kept


def _write_texts(rng: np.random.Generator, items: pd.DataFrame, stocks: pd.DataFrame) -> pd.DataFrame:
    """The items with ``title, content`` and their labels; the reposts follow their originals."""
    draws, bare = rng.random((len(items), DRAWS)), rng.random(len(items)) < EMPTY_TITLE
    companies = list(stocks.itertuples(index=False))
    texts: dict[int, tuple[Template, str, str]] = {}
    event, rows = "", []
    item: Any
    for k, item in enumerate(items.itertuples(index=False)):
        company: Any = companies[item.stock] if item.stock >= 0 else None
        if item.repost:
            template, title, content = texts[item.story]
            title, content = reword(title, content, draws[k])
        else:
            industry = company.industry if company else None
            template = choose(item.level, industry, draws[k, 0], other_than=event if item.second else None)
            title, content = fill(template, pd.Timestamp(item.published, unit="s"), company, draws[k, 1:])
            texts[item.story] = template, title, content
        event = template.event
        labels = event, template.market, template.industry or company.industry, SENTIMENTS[template.level + 3]
        rows.append(("" if bare[k] else title, content, *labels, [company.name] if company else []))
    columns = ["title", "content", "event", "market", "industry", "sentiment", "stocks"]
    return items.join(pd.DataFrame(rows, columns=columns, index=items.index))


def _times(seconds: pd.Series) -> pd.Series:
    return pd.to_datetime(seconds, unit="s").dt.tz_localize(TIMEZONE).astype(TIME_TYPE)


def _truth_table(kept: pd.DataFrame, stocks: pd.DataFrame, days: pd.DatetimeIndex) -> pd.DataFrame:
    cells = kept[kept["stock"] >= 0].drop_duplicates(["day", "stock"])
    date, code = days[1:][cells["day"]].astype(DATE_TYPE), stocks["code"].to_numpy()[cells["stock"]]
    table = pd.DataFrame({"date": date, "code": code, "level": cells["level"].to_numpy()})
    return table.sort_values(["date", "code"], ignore_index=True)


def _coverage_table(days: pd.DatetimeIndex) -> pd.DataFrame:
    first, last = int(_seconds(days)[0]), int(_seconds(days)[-1]) + OPENING
    since, until = _silence(days)
    rows = [(source, first, last) for source in SOURCES if source != SILENT_SOURCE]
    rows += [(SILENT_SOURCE, first, since), (SILENT_SOURCE, until, last)]
    table = pd.DataFrame(rows, columns=["source", "start", "end"])
    return table.assign(start=_times(table["start"]), end=_times(table["end"]))
