from __future__ import annotations

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


def test_reposts_share_a_story_and_lose_novelty():
    table = clean(make_news(ROWS)).set_index("news_id")
    assert table["story_id"].to_dict() == {"a": "a", "b": "a", "c": "a", "d": "d", "e": "e"}
    assert table["novelty"].tolist() == [1.0, 1 / 2, 1 / 3, 1.0, 1.0]


def test_only_earlier_news_count():
    full = clean(make_news(ROWS)).set_index("news_id")
    for k in range(1, len(ROWS)):
        part = clean(make_news(ROWS[:k])).set_index("news_id")
        pd.testing.assert_frame_equal(part, full.iloc[:k])


def test_row_order_and_index_change_nothing():
    expected = clean(make_news(ROWS)).set_index("news_id")
    shuffled = clean(make_news(ROWS).sample(frac=1, random_state=2)).set_index("news_id").loc[expected.index]
    pd.testing.assert_frame_equal(shuffled, expected)


def test_nothing_is_dropped_and_control_characters_are():
    news = make_news(
        [("x", "2026-07-06 08:00:00", "", ""), ("y", "2026-07-06 08:00:00", "海\u202e川\x07", "重\u200b工")]
    )
    table = clean(news)
    assert len(table) == 2 and table["novelty"].tolist() == [1.0, 1.0]
    assert table.loc[1, ["title", "content"]].tolist() == ["海川", "重工"]
    assert news.loc[1, "title"] == "海\u202e川\x07"  # the argument is not changed


def test_the_window_must_be_positive():
    with pytest.raises(InvalidValueError, match="window"):
        clean(make_news(ROWS), window=0)
