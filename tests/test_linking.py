"""Links on news by hand: who is meant, as of the news, and what stays open."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables_by_hand import make_news, make_tags

from newsfactor.errors import InvalidValueError, TableError
from newsfactor.linking import explain_link, link
from newsfactor.schema import NEWS
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
        (None if pd.isna(name) else name, None if pd.isna(code) else code, status)
        for name, code, status in rows[["name", "code", "link_status"]].itertuples(index=False)
    ]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


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
    assert tagged.loc["海川重工", "relevance"] > links.loc["海川重工", "relevance"]


def test_event_novelty_grows_with_the_time_since_the_last_of_its_sign(securities):
    news = make_news([(f"n{k}", time, "", "海川重工公告。") for k, time in enumerate(
        ["2026-07-10 10:00", "2026-07-11 10:00", "2026-07-13 10:00", "2026-07-13 10:00:01"])])  # fmt: skip
    tags = make_tags(news, sentiment=["一般正面", "轻微正面", "极度正面", "一般负面"])
    assert link(tags, securities)["event_novelty"].tolist() == [1.0, 0.5, 0.75, 1.0]


def test_plain_news_links_too(securities):
    links = link(make_news([("n1", "2026-07-10 10:00", "海川重工中标", "海川重工中标。")]), securities)
    assert links["code"].tolist() == ["600001.SH"] and links["sentiment"].isna().all() and links["is_subject"].all()
    assert links["stock_industry"].tolist() == ["机械设备"]


def test_an_ambiguous_name_shares_its_chance(securities):
    tags = make_tags(make_news([("n1", "2026-07-10 10:00", "", "方岳氏公告，签订合同。")]))
    links = link(tags, securities)
    told = explain_link(tags, securities, news_id="n1", code="600004.SH")
    assert links["mentioned"].tolist() == pytest.approx([sigmoid(told["mentioned"].sum()) / 2] * 2)
    assert not links["is_subject"].any() and set(links["n_codes"]) == {2}


def test_a_code_elsewhere_in_the_text_tells_namesakes_apart(securities):
    assert one(securities, content="方岳氏公告。公司(600004)今日复牌。") == [("方岳氏", "600004.SH", "exact")]


def test_a_code_right_behind_a_name_says_whom_it_means(securities):
    assert one(securities, content="东岳证券(06066.HK)跌超3%。") == [("东岳证券", "06066.HK", "code")]


def test_digits_in_brackets_are_a_code_only_if_they_are_known(securities):
    assert one(securities, content="公司（603999）拟回购。") == [(None, None, "none")]
    assert one(securities, content="公司（600001）拟回购。") == [("600001.SH", "600001.SH", "code")]
    assert one(securities, content="公司（00005.HK）与（BABA.US）合作。") == [("00005.HK", "00005.HK", "code")]


def test_the_h_share_is_meant_where_the_text_says_so(securities):
    assert one(securities, content="海川重工H股涨超5%。") == [("海川重工", "00005.HK", "exact")]
    assert one(securities, content="海川重工H股涨超5%，海川重工A股涨停。") == [
        ("海川重工", "00005.HK", "exact"),
        ("海川重工", "600001.SH", "exact"),
    ]
    for code, text in (("00005.HK", "港股午后走强，海川重工涨超5%。"), ("600001.SH", "海川重工公告，以1亿港元收购。")):
        news = make_news([("n1", "2026-07-10 10:00", "", text)])
        assert codes(link(news, securities), "n1") == [("海川重工", code, "exact")]


def test_the_second_counter_of_a_share_is_meant_only_by_its_code():
    known = read_securities(pd.DataFrame({"code": ["00700.HK", "80700.HK"], "name": ["海川控股", "海川控股-R"]}))
    assert one(known, content="海川控股涨超5%。", market="香港市场") == [("海川控股", "00700.HK", "exact")]
    assert one(known, content="海川控股（80700.HK）涨超5%。") == [("海川控股", "80700.HK", "code")]


def test_what_was_observed_on_the_day_goes_before_what_was_not():
    names = pd.DataFrame(
        {"code": ["600001.SH", "600002.SH"], "name": ["海川重工"] * 2,
         "first_seen": ["2018-01-02"] * 2, "last_seen": ["2026-07-31", "2018-03-01"]}
    )  # fmt: skip
    known = read_securities(pd.DataFrame({"code": names["code"], "name": names["name"]}), names)
    links = link(make_news([("n1", "2026-07-10 10:00", "", "海川重工公告。")]), known)
    assert links[["code", "name_evidence"]].values.tolist() == [["600001.SH", "observed"]]


def test_two_writings_of_one_company_are_one_link():
    known = read_securities(pd.DataFrame({"code": ["600004.SH"], "name": ["*ST远岫地产"]}))
    links = link(make_news([("n1", "2026-07-10 10:00", "", "远岫地产：*ST远岫地产复牌。")]), known)
    assert links[["name", "code", "link_status"]].values.tolist() == [["远岫地产", "600004.SH", "alias"]]


@pytest.mark.parametrize(
    ("strong", "weak", "figure"),
    [
        ("海川重工(600001.SH)公告，拟回购股份。", "海川重工概念股走强。", "mentioned"),
        ("海川重工涨停。", "行业人士认为，此次价格上调的影响有限，海川重工集团下属企业暂未回应。", "mentioned"),
        ("东岳证券公告，净利润增长。", "东岳证券研报指出，白酒需求回暖。", "relevance"),
    ],
)
def test_context_moves_the_figures(securities, strong, weak, figure):
    news = make_news([("strong", "2026-07-10 10:00", "", strong), ("weak", "2026-07-10 10:00", "", weak)])
    links = link(news, securities).set_index("news_id")
    assert links.loc["strong", figure] > links.loc["weak", figure] + 0.2


def test_the_ninth_mover_of_a_list_is_less_relevant():
    names = [f"海川{letter}份" for letter in "甲乙丙丁戊己庚辛壬癸"]
    known = read_securities(pd.DataFrame({"code": [f"60000{k}.SH" for k in range(10)], "name": names}))
    links = link(make_news([("n1", "2026-07-10 10:00", "", "、".join(names) + "涨停。")]), known)
    assert links["name"].tolist() == names and (links["n_codes"] == 10).all()
    assert links["relevance"].iloc[7] > links["relevance"].iloc[8] + 0.2


def test_the_explanation_adds_up(securities):
    tags = make_tags(
        make_news([("n1", "2026-07-10 10:00", "", "东岳证券研报指出，海川重工订单饱满，维持买入评级。"), ("n2", "2026-07-10 10:00", "", "无")]),
        stocks=[["海川重工"], []], stock_scores=[[0.8], []],
    )  # fmt: skip
    links = link(tags, securities).set_index("code")
    for frame in (tags, tags[list(NEWS.columns)]):
        links = link(frame, securities).set_index("code")
        for code in ("600001.SH", "600006.SH"):
            told = explain_link(frame, securities, news_id="n1", code=code[:6])
            for figure in ("mentioned", "relevance"):
                assert sigmoid(told[figure].sum()) == pytest.approx(links.loc[code, figure])
    assert "tagged" not in set(told.loc[told["value"] != 0, "feature"])


def test_an_explanation_names_what_is_not_there(securities):
    news = make_news([("n1", "2026-07-10 10:00", "", "海川重工公告。")])
    with pytest.raises(InvalidValueError, match=r"`code`.*600001\.SH"):
        explain_link(news, securities, news_id="n1", code="300003.SZ")
    with pytest.raises(InvalidValueError, match="'n2'"):
        explain_link(news, securities, news_id="n2", code="600001.SH")


def test_an_unknown_name_has_the_taggers_score(securities):
    tags = make_tags(
        make_news([("n1", "2026-07-10 10:00", "", "无名科技公告。")]), stocks=[["无名科技"]], stock_scores=[[0.9]]
    )
    row = link(tags, securities).iloc[0]
    assert (row["mentioned"], row["relevance"], row["is_subject"]) == (0.9, 0.9, False)


PIECES = ("海川重工", "方岳氏", "方岳氏炭材", "青禾生物", "禾苗股份", "东岳证券", "无名科技", "(600004)", "（00005.HK）",
          "公告，", "研报指出，", "概念", "、", "H股", "涨停。", "等多股跟涨；", "\n", "港股", "签约")  # fmt: skip
ITEMS = st.lists(
    st.tuples(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), st.integers(0, 40), st.booleans()), max_size=6
)


def make_items(items: list[tuple[str, int, bool]]) -> pd.DataFrame:
    """TAGS in the order of time; where the flag says so the first name of the text is tagged."""
    start = pd.Timestamp("2026-06-20 10:00")
    ordered = sorted(items, key=lambda item: item[1])
    news = make_news(
        [(f"n{k}", str(start + pd.Timedelta(days=day)), "", text) for k, (text, day, _) in enumerate(ordered)]
    )
    stocks = [[name for name in PIECES[:7] if flag and name in text][:1] for text, _, flag in ordered]
    return make_tags(news, stocks=stocks, stock_scores=[[0.7] * len(names) for names in stocks])


@settings(max_examples=60, deadline=None)
@given(ITEMS, st.randoms(use_true_random=False))
def test_order_of_rows_and_of_securities_changes_nothing(items, random):
    known = read_securities(CURRENT, NAMES)
    tags = make_items(items)
    rows, facts = list(range(len(tags))), list(range(len(known)))
    random.shuffle(rows)
    random.shuffle(facts)
    key = ["news_id", "name", "code"]
    left, right = link(tags, known), link(tags.iloc[rows], known.iloc[facts])
    pd.testing.assert_frame_equal(
        right.sort_values(key, ignore_index=True), left.sort_values(key, ignore_index=True), check_exact=True
    )


@settings(max_examples=60, deadline=None)
@given(ITEMS, st.integers(0, 6))
def test_late_news_changes_no_earlier_link(items, count):
    known = read_securities(CURRENT, NAMES)
    tags = make_items(items)
    early, links = link(tags.iloc[:count], known), link(tags, known)
    pd.testing.assert_frame_equal(early, links.iloc[: len(early)], check_exact=True)


@settings(max_examples=60, deadline=None)
@given(ITEMS)
def test_a_name_valid_only_later_never_links_earlier(items):
    tags = make_items(items)
    later = pd.DataFrame({"code": ["600009.SH"] * 2, "name": ["海川重工公告", "签约"], "list_date": ["2030-01-02"] * 2})
    added = read_securities(later.iloc[:1].assign(name="方岳氏公告"))
    more = read_securities(pd.concat([CURRENT, later.drop_duplicates("code")]), NAMES)
    links = link(tags, pd.concat([read_securities(CURRENT, NAMES), added], ignore_index=True))
    pd.testing.assert_frame_equal(links, link(tags, read_securities(CURRENT, NAMES)), check_exact=True)
    pd.testing.assert_frame_equal(link(tags, more), links, check_exact=True)


def test_a_frame_of_another_kind_is_refused(securities):
    with pytest.raises(TableError, match="'news_id'"):
        link(pd.DataFrame({"id": ["x"]}), securities)


def test_empty_in_empty_out(securities):
    tags = make_tags(make_news([("n1", "2026-07-10 10:00", "", "海川重工公告。")])).iloc[:0]
    assert link(tags, securities).empty
