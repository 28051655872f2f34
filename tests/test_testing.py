"""``assert_no_lookahead`` passes for the library's own chain and catches pipelines that leak on purpose."""

from __future__ import annotations

import hashlib
import tempfile

import numpy as np
import pandas as pd
import pytest
from tables_by_hand import make_coverage, make_tags

import newsfactor as nf
from newsfactor import transforms
from newsfactor.coverage import CoverageWarning
from newsfactor.errors import InvalidValueError, LookAheadError
from newsfactor.factors import DEFAULT, SHIPPED
from newsfactor.panels import BY, panel
from newsfactor.schema import PROBABILITIES, SENTIMENTS
from newsfactor.sessions import known_at
from newsfactor.taxonomy import EVENTS, SHENWAN_LEVEL1
from newsfactor.testing import assert_no_lookahead

COVERAGE = make_coverage("2024-06-01 00:00", "2025-12-31 00:00")
FEW = {"mean_score": DEFAULT["mean_score"], "novelty": SHIPPED["novelty_score"], "count": DEFAULT["news_count"]}


@pytest.fixture(scope="module")
def market():
    """Thirty sessions of a synthetic market of two industries, of which one company is delisted half-way."""
    made = nf.synthetic_market(12, 30, 0.1, seed=1)
    two = made.securities["code"].str[5].map(lambda digit: ("电子", "银行")[int(digit) % 2])
    securities = made.securities.assign(value=made.securities["value"].mask(made.securities["kind"] == "sw1", two))
    days = np.sort(made.prices["date"].unique())
    gone = (made.prices["code"] == made.prices["code"].iloc[0]) & (made.prices["date"] > days[20])
    prices = made.prices[~gone].reset_index(drop=True)
    return made.news, securities, prices, nf.universe(securities, prices)


def tag_by_words(news: pd.DataFrame) -> pd.DataFrame:
    """TAGS as a function of each text alone: the name that it begins with, the rest from its hash."""
    text = news["title"].fillna("") + news["content"].fillna("")
    draws = np.array([list(hashlib.sha256(line.encode()).digest()) for line in text], dtype=float).reshape(-1, 32)
    weights = draws[:, :7] + 1
    weights /= weights.sum(axis=1, keepdims=True)
    tags = make_tags(
        news.reset_index(drop=True),
        stocks=[[line[:4]] if line else [] for line in text], stock_scores=[[0.9] if line else [] for line in text],
        sentiment=[SENTIMENTS[k] for k in weights.argmax(axis=1)], score=(weights @ np.arange(-3, 4)).tolist(),
        event=[EVENTS[int(k) % len(EVENTS)] for k in draws[:, 8]],
        industry=[SHENWAN_LEVEL1[int(k) % 5] for k in draws[:, 9]], reports_price=(draws[:, 10] < 40).tolist(),
    )  # fmt: skip
    return tags.assign(**dict(zip(PROBABILITIES, weights.T, strict=True)))


def make_links(news, securities):
    return nf.link(tag_by_words(nf.clean(news)), securities)


def make_panel(news, securities, prices, universe, **options):
    options = {"factors": FEW, "coverage": COVERAGE} | options
    return panel(make_links(news, securities), universe, **options)


# The library's own chain.


@pytest.mark.parametrize("by", sorted(set(BY) - {"industry"}))
def test_every_shipped_factor_passes(market, by):
    """With coverage inferred from the news themselves, so that this too is seen to be known at the time."""

    def chain(news, securities, prices, universe):
        with pytest.warns(CoverageWarning):
            return panel(make_links(news, securities), universe, by=by, factors=SHIPPED)

    assert_no_lookahead(chain, *market, decisions=1)


@pytest.mark.parametrize("cutoff", ["09:15", "14:50", "15:00"])
def test_every_transform_and_the_store_pass(market, cutoff):
    def chain(news, securities, prices, universe):
        universe = nf.universe(securities, prices)
        with tempfile.TemporaryDirectory() as folder:
            store = nf.PanelStore(folder, factors=FEW, cutoff=cutoff)
            store.update(make_links(news, securities), universe, coverage=COVERAGE)
            table = store.read()
        table = table.assign(plain=table["mean_score"])
        table = transforms.fill(table, universe, factors=FEW | {"plain": FEW["mean_score"]})
        table = transforms.zscore(transforms.winsorise(table, factors=["mean_score", "novelty"], share=0.1))
        return transforms.rank(transforms.neutralise(table, universe, factors=["mean_score"]), factors=["novelty"])

    assert chain(*market)[["mean_score", "plain", "novelty"]].notna().sum().min() > 50
    assert_no_lookahead(chain, *market, decisions=1)


# Pipelines that leak on purpose.


def leak_full_sample_zscore(news, securities, prices, universe):
    table = make_panel(news, securities, prices, universe)
    score = table["mean_score"]
    return table.assign(mean_score=(score - score.mean()) / score.std())


def leak_full_sample_rank(news, securities, prices, universe):
    table = make_panel(news, securities, prices, universe)
    return table.assign(mean_score=table["mean_score"].rank(pct=True))


def leak_todays_names(news, securities, prices, universe):
    latest = securities.sort_values("valid_from", na_position="first").drop_duplicates(["code", "kind"], keep="last")
    return make_panel(news, latest.assign(valid_from=pd.NaT, valid_to=pd.NaT).astype(securities.dtypes), prices, universe)  # fmt: skip


def leak_todays_industries(news, securities, prices, universe):
    current = universe.sort_values("date").drop_duplicates("code", keep="last").set_index("code")["industry"]
    table = make_panel(news, securities, prices, universe)
    return transforms.neutralise(table, universe.assign(industry=universe["code"].map(current)))


def leak_same_day_capitalisation(news, securities, prices, universe):
    same_day = universe.drop(columns="circ_mv").merge(prices[["date", "code", "circ_mv"]], on=["date", "code"], how="left")  # fmt: skip
    table = make_panel(news, securities, prices, universe)
    return transforms.neutralise(table, same_day)


def leak_edited_text(news, securities, prices, universe):
    """The text as it stands now, at the time of its first version."""
    return make_panel(news.assign(available_at=news["published_at"]), securities, prices, universe)


def leak_midnight_of_dated_news(news, securities, prices, universe):
    return make_panel(news.assign(time_precision="second"), securities, prices, universe)


def leak_novelty_from_later_news(news, securities, prices, universe):
    links = make_links(news, securities)
    links["novelty"] = 1 / links.groupby("story_id")["news_id"].transform("size")
    return panel(links, universe, factors=FEW, coverage=COVERAGE)


def leak_survivors(news, securities, prices, universe):
    alive = universe.loc[universe["date"] == universe["date"].max(), "code"]
    return make_panel(news, securities, prices, universe[universe["code"].isin(alive)])


def leak_backward_fill(news, securities, prices, universe):
    table = make_panel(news, securities, prices, universe, factors=FEW | {"sum": DEFAULT["decayed_score"]})
    return table.assign(mean_score=table.groupby("code")["mean_score"].bfill())


def leak_centred_mean(news, securities, prices, universe):
    table = make_panel(news, securities, prices, universe)
    smooth = table.groupby("code")["mean_score"].rolling(3, center=True, min_periods=1).mean()
    return table.assign(mean_score=smooth.droplevel(0).reindex(table.index))


def leak_next_days_cell(news, securities, prices, universe):
    table = make_panel(news, securities, prices, universe)
    return table.assign(mean_score=table.groupby("code")["mean_score"].shift(-1))


def leak_the_days_own_news(news, securities, prices, universe):
    """Closes at 15:00 and says that it was known at 09:15."""
    table = make_panel(news, securities, prices, universe, cutoff="15:00")
    return table.assign(known_at=known_at(table["date"], "09:15"))


def leak_weight_by_later_returns(news, securities, prices, universe):
    table = make_panel(news, securities, prices, universe)
    moves = prices.assign(move=prices["close"] / prices["pre_close"])
    joined = table.merge(moves[["date", "code", "move"]], on=["date", "code"], how="left")
    return table.assign(mean_score=table["mean_score"] * joined["mean_score"].corr(joined["move"]))


def leak_listed_once_priced(news, securities, prices, universe):
    """Only companies that trade on the day after."""
    later = prices.sort_values("date").groupby("code")["date"].shift(-1).reindex(prices.index)
    traded = prices.loc[later.notna(), ["date", "code"]]
    return make_panel(news, securities, prices, universe.merge(traded, on=["date", "code"]))


LEAKS = [value for name, value in globals().items() if name.startswith("leak_")]


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.__name__)
def test_a_leaky_pipeline_is_caught(market, leak):
    with pytest.raises(LookAheadError, match="must not use what came after"):
        assert_no_lookahead(leak, *market)


def test_twelve_leaks_and_more():
    assert len(LEAKS) >= 12


def test_the_change_the_time_and_the_cell_are_named(market):
    def leak(news, securities, prices, universe):
        table = make_panel(news, securities, prices, universe)
        return table.assign(mean_score=table["mean_score"] + len(universe))

    with pytest.raises(LookAheadError, match=r"mean_score .* at 2025-.*\.S[HZ].* at a change .*remove from all"):
        assert_no_lookahead(leak, *market)


def test_pipelines_that_cannot_be_judged_are_refused(market):
    draw = np.random.default_rng(0)

    def noisy(news, securities, prices, universe):
        table = make_panel(news, securities, prices, universe)
        return table.assign(mean_score=draw.normal(size=len(table)))

    fixed = make_panel(*market)
    with pytest.raises(InvalidValueError, match="same result"):
        assert_no_lookahead(noisy, *market)
    with pytest.raises(InvalidValueError, match="depend on the news"):
        assert_no_lookahead(lambda *tables: fixed, *market)
    with pytest.raises(InvalidValueError, match="known_at"):
        assert_no_lookahead(lambda news, *others: news, *market)
    with pytest.raises(InvalidValueError, match="decisions"):
        assert_no_lookahead(make_panel, *market, decisions=10_000)


def test_tables_are_left_as_they_were(market):
    before = [table.copy() for table in market]

    def greedy(news, securities, prices, universe):
        table = make_panel(news, securities, prices, universe)
        for frame in (news, securities, prices, universe):
            frame.drop(frame.index, inplace=True)
        return table

    assert_no_lookahead(greedy, *market, decisions=1)
    for table, copy in zip(market, before, strict=True):
        pd.testing.assert_frame_equal(table, copy)
