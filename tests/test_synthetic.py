"""The synthetic market keeps its promises: the planted IC, its window, and everything that is planted beside it."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from newsfactor.codes import board_of, normalize_code
from newsfactor.errors import InvalidValueError
from newsfactor.schema import COVERAGE, LEVELS, NEWS, PRICES, SECURITIES, TIMEZONE, check
from newsfactor.sessions import assign_sessions, effective_at
from newsfactor.synthetic import SyntheticMarket, synthetic_market
from newsfactor.synthetic_texts import COMPANY, INDUSTRIES, MEDICAL, company_templates
from newsfactor.taxonomy import SHENWAN_LEVEL1, Taxonomy

TICK = Decimal("0.01")


@pytest.fixture(scope="module")
def market() -> SyntheticMarket:
    return synthetic_market()


@cache
def price_limits(code: str, pre_close: float) -> tuple[float, float]:
    """Limits in decimal arithmetic, rounded half up, as the exchanges do."""
    rate = Decimal("0.2") if code.startswith(("300", "301", "688")) else Decimal("0.1")
    reference = Decimal(f"{pre_close:.2f}")
    down, up = ((reference * (1 + sign * rate)).quantize(TICK, ROUND_HALF_UP) for sign in (-1, 1))
    return float(down), float(up)


def daily_rank_ic(market: SyntheticMarket, shift: int = 0) -> np.ndarray:
    """RankIC a day, slowly: each cell's level against the compounded return from its own opening auction.

    ``shift`` moves the levels by sessions; days with fewer than 20 tradable names with news are left out.
    """
    days = sorted(market.prices["date"].unique())
    rows = {(row.date, row.code): row for row in market.prices.itertuples(index=False)}
    cells: dict[pd.Timestamp, list[tuple[float, float]]] = {day: [] for day in days}
    position = {day: k for k, day in enumerate(days)}
    for date, code, level in market.truth.itertuples(index=False):
        k = position[date] + shift
        if not 0 <= k < len(days) - 1:
            continue
        now, later = rows.get((days[k], code)), rows.get((days[k + 1], code))
        if now is None or later is None or now.open in price_limits(code, now.pre_close):
            continue
        cells[days[k]].append((level, now.close / now.open * later.open / later.pre_close - 1))
    return np.array([spearmanr(*zip(*pairs, strict=True)).statistic for pairs in cells.values() if len(pairs) >= 20])


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def test_planted_ic_is_found(market):
    mean, error = mean_and_error(daily_rank_ic(market))
    assert abs(mean - 0.1) < 2 * error
    assert error < 0.012


@pytest.mark.parametrize(("shift", "expected"), [(-1, 0.4), (1, 0.05)])
def test_one_session_off_is_another_number(market, shift, expected):
    mean, error = mean_and_error(daily_rank_ic(market, shift))
    assert abs(mean - expected) < 3 * error
    assert abs(mean - 0.1) > 3 * error


def test_nothing_is_left_after_four_sessions(market):
    mean, error = mean_and_error(daily_rank_ic(market, 4))
    assert abs(mean) < 3 * error


def test_planted_ic_over_twenty_seeds():
    found = [mean_and_error(daily_rank_ic(synthetic_market(60, 30, 0.15, seed=seed))) for seed in range(20)]
    within = sum(abs(mean - 0.15) < 2 * error for mean, error in found)
    assert within >= 18
    means = np.array([mean for mean, _ in found])
    assert abs(means.mean() - 0.15) < 3 * means.std(ddof=1) / np.sqrt(len(means))


def test_negative_and_zero_ic():
    for ic in (-0.3, 0.0):
        mean, error = mean_and_error(daily_rank_ic(synthetic_market(60, 60, ic, seed=3)))
        assert abs(mean - ic) < 3 * error


def test_tables_are_valid(market):
    for frame, table in (
        (market.news, NEWS), (market.securities, SECURITIES), (market.prices, PRICES), (market.coverage, COVERAGE),
    ):  # fmt: skip
        check(frame, table)
    assert set(market.securities["kind"]) == {"short", "sw1", "listed"}
    assert not market.truth.duplicated(["date", "code"]).any()
    assert market.truth["level"].isin(range(-3, 4)).all()
    assert market.labels["news_id"].tolist() == market.news["news_id"].tolist()
    assert market.news["available_at"].is_monotonic_increasing
    assert set(market.news["time_precision"]) == {"second", "minute", "day"}


def test_truth_is_what_the_news_say_in_the_window_of_0915(market):
    news = market.news.merge(market.labels, on="news_id")
    news["date"] = assign_sessions(news["available_at"], news["time_precision"], cutoff="09:15")
    news["level"] = news["sentiment"].map(LEVELS)
    names = market.securities[market.securities["kind"] == "short"].set_index("value")["code"]
    news = news[news["stocks"].str.len() == 1]
    news["code"] = news["stocks"].str[0].map(names)
    per_cell = news.groupby(["date", "code"])["level"].agg(["first", "nunique"]).reset_index()
    assert (per_cell["nunique"] == 1).all()
    told = per_cell.rename(columns={"first": "level"})[["date", "code", "level"]]
    pd.testing.assert_frame_equal(told, market.truth, check_dtype=False)


def test_sixty_percent_of_the_cells_are_empty(market):
    cells = market.prices["code"].nunique() * market.prices["date"].nunique()
    assert len(market.truth) / cells == pytest.approx(0.4, abs=0.015)
    shares = market.truth["level"].value_counts(normalize=True).sort_index()
    assert shares[[1, -1]].min() > shares[[2, -2]].max() > shares[[2, -2]].min() > shares[[3, -3]].max()
    assert shares[0] > 0.1


def test_news_come_mostly_outside_of_trading_hours(market):
    clock = market.news["published_at"].dt.hour * 60 + market.news["published_at"].dt.minute
    weekday = market.news["published_at"].dt.day_of_week < 5
    trading = weekday & (clock.between(9 * 60 + 30, 11 * 60 + 29) | clock.between(13 * 60, 14 * 60 + 59))
    assert trading.mean() == pytest.approx(0.23, abs=0.04)
    assert (~weekday).mean() > 0.05


def test_reposts_are_of_another_source_in_the_same_cell(market):
    news = market.news.merge(market.labels, on="news_id")
    news["date"] = assign_sessions(news["available_at"], news["time_precision"], cutoff="09:15")
    pairs = news.merge(news, left_on="repost_of", right_on="news_id", suffixes=("", "_first"))
    assert len(pairs) > 0.04 * len(news)
    assert (pairs["source"] != pairs["source_first"]).all()
    assert (pairs["date"] == pairs["date_first"]).all()
    assert (pairs["available_at"] >= pairs["available_at_first"]).all()
    same = (pairs["content"] == pairs["content_first"]).mean()
    assert 0.2 < same < 0.8


def test_second_stories_are_of_another_event(market):
    news = market.news.merge(market.labels, on="news_id")
    news["date"] = assign_sessions(news["available_at"], news["time_precision"], cutoff="09:15")
    originals = news[news["repost_of"].isna() & (news["stocks"].str.len() == 1)]
    stories = originals.groupby(["date", originals["stocks"].str[0]])["event"].agg(["size", "nunique"])
    double = stories[stories["size"] == 2]
    assert len(double) > 0.05 * len(stories)
    # A lost original leaves its repost behind without a `repost_of`, beside the other story or alone.
    assert (double["nunique"] == 2).all()


def test_texts_name_their_company_and_labels_are_in_the_taxonomy(market):
    news = market.news.merge(market.labels, on="news_id")
    for text, title, stocks in zip(news["content"], news["title"], news["stocks"], strict=True):
        assert all(stock in text for stock in stocks)
        assert "{" not in title + text
    for field, allowed in Taxonomy().slots:
        assert set(news[field]) <= set(allowed)
    industry = market.securities[market.securities["kind"] == "sw1"].set_index("code")["value"]
    names = market.securities[market.securities["kind"] == "short"].set_index("value")["code"]
    single = news[news["stocks"].str.len() == 1]
    assert (single["stocks"].str[0].map(names).map(industry) == single["industry"]).all()
    assert 0.005 < (news["stocks"].str.len() == 0).mean() < 0.03
    assert 0 < (news["title"] == "").mean() < 0.05
    assert "个股行情" not in set(news["event"])


def test_no_name_is_part_of_another_and_codes_are_shares():
    shorts = synthetic_market(800, 20).securities.query("kind == 'short'")
    names = shorts["value"].tolist()
    assert shorts["code"].map(normalize_code).equals(shorts["code"])
    assert set(shorts["code"].map(board_of)) == {"main", "chinext", "star"}
    assert len(set(names)) == 800
    assert set(map(len, names)) == {3, 4}
    assert not any(short in name for short in names if len(short) == 3 for name in names if name != short)


def test_industries_and_templates():
    assert set(INDUSTRIES) == set(SHENWAN_LEVEL1)
    market = synthetic_market(62, 20)
    assert set(market.securities.query("kind == 'sw1'")["value"]) == set(SHENWAN_LEVEL1)
    texts = [text for part in (COMPANY, MEDICAL) for texts in part.values() for text in texts]
    assert len(set(texts)) == len(texts) >= 80
    for industry in SHENWAN_LEVEL1:
        for level in range(-3, 4):
            assert len({template.event for template in company_templates(level, industry)}) >= 2


def test_the_same_seed_gives_the_same_market():
    first, again, other = (synthetic_market(25, 30, seed=seed) for seed in (5, 5, 6))
    for name in ("news", "securities", "prices", "truth", "coverage", "labels"):
        pd.testing.assert_frame_equal(getattr(first, name), getattr(again, name))
    assert not first.news["content"].equals(other.news["content"])


def test_one_source_is_silent_for_some_days_and_coverage_says_so(market):
    gaps = market.coverage.sort_values("start").groupby("source")
    silent = [source for source, rows in gaps if len(rows) == 2]
    assert len(silent) == 1
    since, until = (gaps.get_group(silent[0])[column] for column in ("end", "start"))
    since, until = since.iloc[0], until.iloc[1]
    known = effective_at(market.news["available_at"], market.news["time_precision"])
    inside = (known >= since) & (known < until)
    assert pd.Timedelta(days=3) < until - since < pd.Timedelta(days=14)
    assert inside.any()
    assert silent[0] not in set(market.news.loc[inside, "source"])
    start, end = gaps["start"].min(), gaps["end"].max()
    source = market.news["source"]
    assert ((known >= source.map(start)) & (known < source.map(end))).all()
    assert market.coverage["start"].dt.tz.key == TIMEZONE


def test_prices_are_within_their_limits_and_some_open_at_them(market):
    opened: dict[str, int] = {"up": 0, "down": 0}
    for row in market.prices.itertuples(index=False):
        down, up = price_limits(row.code, row.pre_close)
        assert down <= row.low <= min(row.open, row.close) <= max(row.open, row.close) <= row.high <= up
        opened["up"] += row.open == up
        opened["down"] += row.open == down
    assert min(opened.values()) >= 20
    assert sum(opened.values()) < 0.01 * len(market.prices)
    assert np.allclose(market.prices["open"] * 100, np.rint(market.prices["open"] * 100))
    assert (market.prices[["amount", "circ_mv"]] > 0).all(axis=None)


def test_daily_returns_are_realistic(market):
    returns = market.prices["close"] / market.prices["pre_close"] - 1
    assert returns.std() == pytest.approx(0.02, abs=0.004)
    assert market.prices.groupby("date")["open"].count().std() > 0


def test_a_naive_return_is_wrong_on_ex_dates(market):
    prices = market.prices.sort_values(["code", "date"])
    previous = prices.groupby("code")["close"].shift()
    naive = prices["close"] / previous - 1
    true = prices["close"] / prices["pre_close"] - 1
    wrong = previous.notna() & ((naive - true).abs() > 1e-9)
    assert 10 < wrong.sum() < 0.02 * len(prices)
    assert (naive - true).abs().max() > 0.1
    assert prices.loc[~wrong & previous.notna(), "pre_close"].equals(previous[~wrong & previous.notna()])


def test_some_stocks_are_suspended_for_several_days(market):
    present = market.prices.pivot(index="date", columns="code", values="open").notna()
    gone = present.columns[~present.all()]
    assert len(gone) >= 2
    for code in gone:
        absent = ~present[code]
        runs = absent.groupby((absent != absent.shift()).cumsum()).sum()
        assert (runs[runs > 0] >= 3).all()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((1, 40), "n_stocks"), ((30, 5), "n_days"), ((30, 10**5), "n_days"),
        ((30, 40, 0.9), "ic"), ((30, 40, float("nan")), "ic"),
    ],
)  # fmt: skip
def test_arguments_out_of_range_are_named(arguments, named):
    with pytest.raises(InvalidValueError, match=f"`{named}`"):
        synthetic_market(*arguments)
