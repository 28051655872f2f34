"""Links on news by hand: who is meant, as of the news, and what stays open."""

from __future__ import annotations

import pandas as pd
import pytest
from tables_by_hand import make_news, make_tags

from newsfactor.errors import TableError
from newsfactor.linking import link
from newsfactor.securities import read_securities

CURRENT = pd.DataFrame(
    {
        "code": ["600001.SH", "600002.SH", "300003.SZ", "600004.SH", "00005.HK", "600006.SH", "000007.SZ"],
        "name": ["海川重工", "方岳氏炭材", "青禾生物", "方岳氏", "海川重工", "东岳证券", "方岳氏"],
        "sw_l1": ["机械设备", "电力设备", "医药生物", "房地产", None, "非银金融", "商贸零售"],
    }
)
NAMES = pd.DataFrame(
    {"code": ["300003.SZ", "300003.SZ"], "name": ["禾苗股份", "青禾生物"],
     "first_seen": ["2018-01-02", "2026-07-08"], "last_seen": ["2026-07-07", "2026-07-31"]}
)  # fmt: skip


@pytest.fixture(scope="module")
def securities() -> pd.DataFrame:
    return read_securities(CURRENT, NAMES)


def codes(links: pd.DataFrame, news_id: str) -> list:
    rows = links[links["news_id"] == news_id]
    return [
        (name, None if pd.isna(code) else code, status)
        for name, code, status in rows[["name", "code", "link_status"]].itertuples(index=False)
    ]


def one(securities, title="", content="", market="中国市场", time="2026-07-10 10:00", **columns) -> list:
    tags = make_tags(make_news([("n1", time, title, content)]), market=market, **columns)
    return codes(link(tags, securities), "n1")


def test_a_double_listing_is_told_apart_by_market_and_by_code(securities):
    assert one(securities, content="海川重工公告，签订合同。") == [("海川重工", "600001.SH", "exact")]
    assert one(securities, content="海川重工公告，签订合同。", market="香港市场") == [("海川重工", "00005.HK", "exact")]
    assert one(securities, content="海川重工（00005.HK）公告，签订合同。") == [("海川重工", "00005.HK", "code")]
    assert one(securities, content="海川重工(600001)公告。", market="香港市场") == [("海川重工", "600001.SH", "code")]


def test_namesakes_stay_ambiguous_with_all_candidates(securities):
    assert one(securities, content="方岳氏公告，签订合同。") == [
        ("方岳氏", "000007.SZ", "ambiguous"),
        ("方岳氏", "600004.SH", "ambiguous"),
    ]
    assert one(securities, content="方岳氏(600004.SH)公告。") == [("方岳氏", "600004.SH", "code")]


def test_nested_names_are_the_longest(securities):
    assert one(securities, content="方岳氏炭材公告，签订合同。") == [("方岳氏炭材", "600002.SH", "exact")]


def test_a_name_means_its_bearer_of_the_day(securities):
    text = "禾苗股份拟更名为青禾生物。"
    assert one(securities, content=text, time="2026-07-06 10:00") == [("禾苗股份", "300003.SZ", "exact")]
    assert one(securities, content=text, time="2026-07-20 10:00") == [("青禾生物", "300003.SZ", "exact")]


def test_news_about_no_stock_and_unknown_names_keep_a_row(securities):
    news = make_news(
        [("macro", "2026-07-10 10:00", "", "央行开展逆回购操作。"), ("odd", "2026-07-10 10:01", "", "无名科技公告。")]
    )
    tags = make_tags(news, stocks=[[], ["无名科技"]], stock_scores=[[], [0.9]])
    links = link(tags, securities)
    assert codes(links, "odd") == [("无名科技", None, "unknown")]
    row = links[links["news_id"] == "macro"].iloc[0]
    assert pd.isna(row["name"]) and pd.isna(row["code"]) and row["link_status"] == "none" and row["n_codes"] == 0


def test_a_bare_code_links_and_an_index_does_not(securities):
    assert one(securities, content="公司(688123.SH)与指数(399001.SZ)、基金(510300)。") == [
        ("688123.SH", "688123.SH", "code")
    ]


def test_the_subject_outweighs_a_source(securities):
    tags = make_tags(make_news([("n1", "2026-07-10 10:00", "", "东岳证券研报指出，海川重工订单饱满，维持买入评级。")]))
    links = link(tags, securities).set_index("name")
    assert links.loc["海川重工", "mentioned"] > links.loc["东岳证券", "mentioned"]
    tagged = link(tags.assign(stocks=[["海川重工"]], stock_scores=[[0.8]]), securities).set_index("name")
    assert tagged.loc["海川重工", "is_subject"] and not tagged.loc["东岳证券", "is_subject"]
    assert tagged.loc["海川重工", "relevance"] == 0.8


def test_event_novelty_grows_with_the_time_since_the_last_of_its_sign(securities):
    news = make_news([(f"n{k}", time, "", "海川重工公告。") for k, time in enumerate(
        ["2026-07-10 10:00", "2026-07-11 10:00", "2026-07-13 10:00", "2026-07-13 10:00:01"])])  # fmt: skip
    tags = make_tags(news, sentiment=["一般正面", "轻微正面", "极度正面", "一般负面"])
    assert link(tags, securities)["event_novelty"].tolist() == [1.0, 0.5, 0.75, 1.0]


def test_plain_news_links_too(securities):
    links = link(make_news([("n1", "2026-07-10 10:00", "海川重工中标", "海川重工中标。")]), securities)
    assert links["code"].tolist() == ["600001.SH"] and links["sentiment"].isna().all() and links["is_subject"].all()
    assert links["stock_industry"].tolist() == ["机械设备"]


def test_order_of_rows_and_of_securities_changes_nothing(securities):
    texts = ["海川重工公告。", "方岳氏公告。", "青禾生物与方岳氏炭材签约。", "央行公告。"]
    news = make_news([(f"n{k}", f"2026-07-1{k} 10:00", "", text) for k, text in enumerate(texts)])
    tags = make_tags(news)
    expected = link(tags, securities)
    shuffled = link(tags.sample(frac=1, random_state=3), securities.sample(frac=1, random_state=5))
    key = ["news_id", "name", "code"]
    pd.testing.assert_frame_equal(
        shuffled.sort_values(key, ignore_index=True), expected.sort_values(key, ignore_index=True)
    )


def test_late_news_changes_no_earlier_link(securities):
    tags = make_tags(make_news([(f"n{k}", f"2026-07-1{k} 10:00", "", "海川重工公告。") for k in range(4)]))
    pd.testing.assert_frame_equal(link(tags.iloc[:3], securities), link(tags, securities).iloc[:3])


def test_a_frame_of_another_kind_is_refused(securities):
    with pytest.raises(TableError, match="'news_id'"):
        link(pd.DataFrame({"id": ["x"]}), securities)


def test_empty_in_empty_out(securities):
    tags = make_tags(make_news([("n1", "2026-07-10 10:00", "", "海川重工公告。")])).iloc[:0]
    assert link(tags, securities).empty
