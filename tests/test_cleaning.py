from __future__ import annotations

import os
import time
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from tables_by_hand import make_news

from newsfactor.cleaning import clean
from newsfactor.errors import InvalidValueError

ROWS = [
    ("a", "2026-07-06 08:00:00", "海川重工签订十亿元合同", "海川重工公告，与客户签订十亿元设备合同。"),
    ("b", "2026-07-06 08:05:00", "海川重工签订十亿元合同", "晨报7月6日电，海川重工公告，签下大单。"),
    ("c", "2026-07-06 08:06:00", "", "某社7月6日讯，海川重工公告，与客户签订十亿元设备合同"),
    ("d", "2026-07-06 09:00:00", "青禾生物新药获批上市", "青禾生物公告，新药获批。"),
    ("e", "2026-07-12 08:00:00", "海川重工签订十亿元合同", "海川重工公告，与客户签订十亿元设备合同。"),
]

# One event as three desks tell it.
DESKS = (
    ("海川重工拿下8.6亿元海上风电大单", "海川重工晚间公告称，收到东屿海上风电场塔筒采购项目中标通知书，涉及金额8.60亿元。（某财讯）"),
    ("", "【海川重工：中标8.6亿元海上风电塔筒项目】晨报7月6日电，海川重工(600000.SH)公告，公司为东屿海上风电场塔筒采购的中标单位，中标金额8.6亿元，项目履行预计对未来业绩产生积极影响。"),
    ("海川重工中标8.6亿元海上风电塔筒采购", "7月6日，海川重工公告，公司中标东屿海上风电场塔筒采购项目，中标金额8.6亿元，交付期为2027年三季度，由旗下海工基地承担制造。"),
)  # fmt: skip

# Pairs minutes apart that are in one form and still are two events.
DIFFERENT = {
    "firm": (
        ("青禾生物：股东拟减持不超2%股份", "青禾生物公告，股东计划自公告披露之日起15个交易日后的3个月内，通过集中竞价方式减持不超过公司总股本的2%。"),
        ("远桥电子：股东拟减持不超2%股份", "远桥电子公告，股东计划自公告披露之日起15个交易日后的3个月内，通过集中竞价方式减持不超过公司总股本的2%。"),
    ),
    "firm with a name of two characters": (
        ("*ST青禾：收到股票终止上市决定", "*ST青禾公告，公司收到交易所股票终止上市的决定，公司股票将进入退市整理期，期限为15个交易日。"),
        ("*ST远桥：收到股票终止上市决定", "*ST远桥公告，公司收到交易所股票终止上市的决定，公司股票将进入退市整理期，期限为15个交易日。"),
    ),
    "firm of the same trade": (
        ("青禾油田：润滑油产能利用率稳步提升", "青禾油田在业绩说明会上表示，润滑油产能利用率较上季小幅提升，全年经营目标正常推进。"),
        ("远桥油田：润滑油产能利用率稳步提升", "远桥油田在业绩说明会上表示，润滑油产能利用率较上季小幅提升，全年经营目标正常推进。"),
    ),
    "figure": (
        ("海川重工：上半年净利润同比增长20%", "海川重工发布业绩预告，预计上半年净利润3.2亿元，同比增长20%。"),
        ("海川重工：上半年净利润同比增长30%", "海川重工发布业绩预告，预计上半年净利润3.5亿元，同比增长30%。"),
    ),
    "firm and figure": (
        ("海川重工：上半年净利润同比增长20%", "海川重工发布业绩预告，预计上半年净利润同比增长20%。"),
        ("青禾生物：上半年净利润同比增长30%", "青禾生物发布业绩预告，预计上半年净利润同比增长30%。"),
    ),
    "level of an index": (
        ("东屿综指跌幅扩大至2%", "东屿综指跌幅扩大至2%，现报3120.5点。"),
        ("东屿综指跌幅扩大至3%", "东屿综指跌幅扩大至3%，现报3088.1点。"),
    ),
}  # fmt: skip


def tell(*items: tuple[str, tuple[str, str]]) -> pd.DataFrame:
    """Items of (time, (title, content)), named by their place."""
    return make_news([(f"n{k:03d}", when, *words) for k, (when, words) in enumerate(items)])


def test_reposts_share_a_story_and_lose_novelty():
    table = clean(make_news(ROWS)).set_index("news_id")
    assert table["story_id"].to_dict() == {"a": "a", "b": "a", "c": "a", "d": "d", "e": "e"}
    assert table["novelty"].tolist() == [1.0, 1 / 2, 1 / 3, 1.0, 1.0]


def test_three_desks_tell_one_story():
    news = tell(*[(f"2026-07-06 18:0{k}", words) for k, words in enumerate(DESKS)])
    table = clean(news.assign(source=["wire_a", "wire_b", "wire_c"]))
    assert table["story_id"].tolist() == ["n000"] * 3 and table["novelty"].tolist() == [1.0, 1 / 2, 1 / 3]


@pytest.mark.parametrize("what", DIFFERENT)
def test_one_form_is_not_one_story(what):
    first, second = DIFFERENT[what]
    table = clean(tell(("2026-07-06 18:00", first), ("2026-07-06 18:01", second)))
    assert table["story_id"].tolist() == ["n000", "n001"] and table["novelty"].tolist() == [1.0, 1.0]


def test_hours_later_only_a_near_copy_of_some_length_is_the_same_story():
    near = ("海川重工：中标8.6亿元海上风电塔筒采购", DESKS[2][1].replace("承担制造", "制造"))
    line = ("东屿综指期货跌幅扩大至2%", "东屿综指期货跌幅扩大至2%。")
    moved = ("东屿综指期货跌超2%", "东屿综指期货跌超2%。")

    def joins(first, second, later):
        return clean(tell(("2026-07-06 18:00", first), (later, second)))["novelty"][1] == 0.5

    soon, late, too_late = "2026-07-06 18:59", "2026-07-08 12:00", "2026-07-10 18:00"
    assert [joins(DESKS[2], near, later) for later in (soon, late, too_late)] == [True, True, False]
    assert [joins(DESKS[0], DESKS[1], later) for later in (soon, late)] == [True, False]
    assert [joins(line, moved, later) for later in (soon, late)] == [True, False]
    assert [joins(line, line, later) for later in (soon, late, too_late)] == [True, True, False]


def test_another_day_of_a_routine_notice_is_another_story():
    notices = [
        ("远桥基金：二级市场交易价格溢价风险提示", f"远桥基金公告，旗下东屿指数基金二级市场交易价格明显高于份额净值，将于7月{day}日开市起停牌，当日复牌，提示投资者关注溢价风险。")
        for day in (7, 7, 8)
    ]  # fmt: skip
    times = ("2026-07-06 18:00", "2026-07-06 20:00", "2026-07-07 18:00")
    assert clean(tell(*zip(times, notices, strict=True)))["story_id"].tolist() == ["n000", "n000", "n002"]


def test_short_texts_never_match():
    short = [("", ""), ("", "停牌"), ("停牌", ""), ("快讯", "停牌公告"), ("", "海川重工停牌七")]
    table = clean(tell(*[("2026-07-06 18:00", words) for words in short * 2]))
    assert (table["novelty"] == 1).all() and table["story_id"].equals(table["news_id"])


def test_a_story_of_many_days_is_named_by_the_first_within_reach():
    times = ("2026-07-06 18:00", "2026-07-08 18:00", "2026-07-10 18:00", "2026-07-20 18:00")
    table = clean(tell(*[(when, DESKS[1]) for when in times]))
    assert table["story_id"].tolist() == ["n000", "n000", "n001", "n003"]
    assert table["novelty"].tolist() == [1.0, 1 / 2, 1 / 2, 1.0]


def test_matches_chain_within_the_reach():
    """The first and the third desk are too far apart for a rewrite; the second lies between."""
    times = ("2026-07-06 18:00", "2026-07-06 18:50", "2026-07-06 19:40")
    apart = clean(tell((times[0], DESKS[0]), (times[2], DESKS[2])))
    chained = clean(tell(*zip(times, DESKS, strict=True)))
    assert apart["novelty"].tolist() == [1.0, 1.0]
    assert chained["story_id"].tolist() == ["n000"] * 3 and chained["novelty"].tolist() == [1.0, 1 / 2, 1 / 3]


FIRMS = ("海川重工", "青禾生物", "远桥电子", "南屿航运")
FORMS = (
    ("{0}：中标{1}亿元项目", "{0}公告，公司中标东屿海上风电场塔筒采购项目，中标金额{1}亿元，合同履行预计对公司未来业绩产生积极影响。"),
    ("{0}拟回购不超过{1}亿元股份", "{0}公告，拟以集中竞价交易方式回购股份，资金总额不超过{1}亿元，用于员工持股计划。"),
    ("{0}跌超{1}%", "{0}盘中走低，跌幅扩大至{1}%。"),
    ("", "【{0}新产线投产】晨报电，{0}宣布新产线投产，年产能{1}万台，较原有产线提升一倍，主要供应海外客户。（晨报）"),
)  # fmt: skip


def make_stream(n: int, seed: int, days: int = 12) -> pd.DataFrame:
    """News of few firms and events, each told again and again with words left out, by three desks in any order."""
    draw = np.random.default_rng(seed)
    minutes = np.sort(draw.integers(0, days * 24 * 60, n))
    rows = []
    for k, minute in enumerate(minutes):
        if k and draw.random() < 0.4:  # soon after the one before
            minute = minutes[k] = min(minutes[k - 1] + draw.integers(0, 90), days * 24 * 60 - 1)
        firm, form = FIRMS[draw.integers(len(FIRMS))], FORMS[draw.integers(len(FORMS))]
        title, content = (part.format(firm, draw.integers(1, 4)) for part in form)
        pieces = content.split("，")
        kept = [piece for j, piece in enumerate(pieces) if j == 0 or draw.random() < 0.8]
        when = pd.Timestamp("2026-07-01") + pd.Timedelta(minutes=int(minute))
        rows.append((f"n{draw.integers(10**6):06d}{k}", str(when), title, "，".join(kept)))
    news = make_news(rows)
    dated = draw.random(n) < 0.1
    news.loc[dated, "time_precision"] = "day"
    news["source"] = draw.choice(["wire_a", "wire_b", "wire_c"], n)
    return news.sample(frac=1, random_state=seed)


def readable_from(news: pd.DataFrame) -> pd.Series:
    """When each item could be read: a day-precision item at the midnight after its day."""
    midnight = news["available_at"].dt.normalize() + pd.Timedelta(days=1)
    return midnight.where(news["time_precision"] == "day", news["available_at"])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("again", ["raw", "cleaned"])
def test_day_by_day_equals_one_batch(seed, again):
    news = make_stream(150, seed)
    whole = clean(news)
    assert 0.2 < (whole["novelty"] < 1).mean() < 0.9  # there is something to get wrong
    readable, kept = readable_from(news), []
    for day in pd.date_range("2026-07-01", "2026-07-13", tz="Asia/Shanghai"):
        past = news if again == "raw" or not kept else pd.concat([*kept, news[readable >= day]])
        known = readable.reindex(past.index)
        given = past[(known >= day - pd.Timedelta(days=3)) & (known < day + pd.Timedelta(days=1))]
        kept.append(clean(given).loc[lambda table, day=day: readable.reindex(table.index) >= day])
    pd.testing.assert_frame_equal(pd.concat(kept).reindex(whole.index), whole)


def test_stories_equal_a_slow_search_over_pairs():
    """Each pair cleaned alone says whether it matches; an item's story is what hangs together within its reach."""
    news = make_stream(28, seed=1, days=5).assign(readable=lambda table: readable_from(table))
    news = news.sort_values(["readable", "news_id"], ignore_index=True)
    when, ids, plain = news["readable"], news["news_id"], news.drop(columns="readable")
    matched = {
        (i, j) for i, j in combinations(range(len(news)), 2)
        if when[j] - when[i] <= pd.Timedelta(days=3) and clean(plain.iloc[[i, j]])["novelty"].min() < 1
    }  # fmt: skip
    table = clean(plain)
    for k in range(len(news)):
        near = [i for i in range(k + 1) if when[k] - when[i] <= pd.Timedelta(days=3)]
        story = {k}
        while more := {i for i in near for j in story if (min(i, j), max(i, j)) in matched} - story:
            story |= more
        assert (table["story_id"][k], table["novelty"][k]) == (ids[min(story)], 1 / len(story))


def test_only_earlier_news_count():
    full = clean(make_news(ROWS)).set_index("news_id")
    for k in range(1, len(ROWS)):
        part = clean(make_news(ROWS[:k])).set_index("news_id")
        pd.testing.assert_frame_equal(part, full.iloc[:k])


def test_row_order_and_index_change_nothing():
    expected = clean(make_news(ROWS)).set_index("news_id")
    shuffled = clean(make_news(ROWS).sample(frac=1, random_state=2)).set_index("news_id").loc[expected.index]
    pd.testing.assert_frame_equal(shuffled, expected)
    named = make_news(ROWS).set_axis(["x"] * len(ROWS))
    assert clean(named)["story_id"].tolist() == expected["story_id"].tolist()


def test_the_timezone_of_machine_and_table_changes_nothing(monkeypatch):
    news = make_stream(60, 3)
    expected = clean(news)
    for zone in ("America/New_York", "Pacific/Auckland"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        moved = news.assign(available_at=news["available_at"].dt.tz_convert(zone))
        pd.testing.assert_frame_equal(clean(news), expected)
        pd.testing.assert_series_equal(clean(moved)["story_id"], expected["story_id"])
    monkeypatch.delenv("TZ")
    time.tzset()
    assert "TZ" not in os.environ


def test_a_flood_of_one_text_is_grouped_at_once():
    news = tell(*[(f"2026-07-06 {k // 60:02d}:{k % 60:02d}", DESKS[k % 2]) for k in range(1400)])
    began = time.process_time()
    table = clean(news)
    assert time.process_time() - began < 5
    assert table["story_id"].nunique() == 1 and table["novelty"].tolist() == [1 / k for k in range(1, 1401)]


def test_nothing_is_dropped_and_control_characters_are():
    news = make_news(
        [("x", "2026-07-06 08:00:00", "", ""), ("y", "2026-07-06 08:00:00", "海\u202e川\x07", "重\u200b工")]
    )
    table = clean(news)
    assert len(table) == 2 and table["novelty"].tolist() == [1.0, 1.0]
    assert table.loc[1, ["title", "content"]].tolist() == ["海川", "重工"]
    assert news.loc[1, "title"] == "海\u202e川\x07"  # the argument is not changed
    assert clean(news.iloc[:0])[["story_id", "novelty"]].empty


def test_the_window_must_be_positive():
    with pytest.raises(InvalidValueError, match="window"):
        clean(make_news(ROWS), window=0)
