"""Names found in texts as of a day, against a slow loop."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from newsfactor.names import NameIndex, fold_width, strip_marks, write_forms
from newsfactor.securities import read_securities

DAYS = [pd.Timestamp(day) for day in ("2019-01-02", "2022-06-01", "2026-07-10")]
NAMES = pd.DataFrame(
    {
        "code": ["600001.SH", "600001.SH", "600002.SH", "600003.SH", "600003.SH", "600004.SH"],
        "name": ["海川重", "海川重工", "重工海", "海川重工海", "工海川", "川重工海川"],
        "first_seen": ["2018-01-02", "2021-01-04", "2018-01-02", "2018-01-02", "2024-01-02", "2020-01-02"],
        "last_seen": ["2020-12-31", "2026-07-31", "2026-07-31", "2023-12-29", "2026-07-31", "2026-07-31"],
    }
)
CURRENT = pd.DataFrame({"code": sorted(set(NAMES["code"])), "name": ["海川重工", "重工海", "工海川", "川重工海川"]})
INDEX = NameIndex(read_securities(CURRENT, NAMES))


def find_slowly(text: str, day: pd.Timestamp) -> list[tuple[int, str]]:
    """At each place the longest name in use, then on behind it."""
    valid = [name for name in INDEX.names if INDEX.resolve(name, day)]
    found, place = [], 0
    while place < len(text):
        here = max((name for name in valid if text.startswith(name, place)), key=len, default="")
        if here:
            found.append((place, here))
        place += len(here) or 1
    return found


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.text("海川重工，a\0\ud800", max_size=14), st.sampled_from(DAYS)), max_size=5))
def test_many_texts_at_once_give_what_a_loop_finds(items):
    texts, days = [text for text, _ in items], [day for _, day in items]
    assert INDEX.find_all(texts, days) == [find_slowly(text, day) for text, day in items]
    assert [INDEX.find(text, day) for text, day in items] == INDEX.find_all(texts, days)


def test_more_texts_than_one_search_takes():
    texts = ["无"] * 1700 + ["甲海川重工"]
    assert INDEX.find_all(texts, [DAYS[2]] * len(texts))[-1] == [(1, "海川重工")]


@pytest.mark.parametrize(
    ("name", "plain"),
    [("*ST远岫", "远岫"), ("SST远岫", "远岫"), ("S远岫", "远岫"), ("远岫退", "远岫"), ("远岫-SW", "远岫"), ("远岫-B", "远岫"),
     ("远岫A", "远岫A"), ("STAR远岫", "AR远岫")],
)  # fmt: skip
def test_status_marks_are_no_part_of_a_name(name, plain):
    assert strip_marks(name) == plain


def test_letters_of_both_widths_are_one_name():
    assert fold_width("海川Ａ１") == "海川A1"
    index = NameIndex(read_securities(pd.DataFrame({"code": ["000002.SZ"], "name": ["海川Ａ"]})))
    for text in ("海川A公告", "海川Ａ公告"):
        ((_, name),) = index.find(text, DAYS[0])
        assert [span.code for span in index.resolve(name, DAYS[0])] == ["000002.SZ"]


def test_a_marked_name_is_found_with_other_marks():
    assert {"ST远岫", "*ST远岫"} <= write_forms("*ST远岫") and "远岫" not in write_forms("*ST远岫")
    assert "远岫" in write_forms("远岫-W", shortest=2)
    index = NameIndex(read_securities(pd.DataFrame({"code": ["600004.SH"], "name": ["*ST远岫"]})))
    assert index.find("ST远岫公告", DAYS[0]) == [(0, "ST远岫")]
    assert not index.resolve("ST远岫", DAYS[0])[0].is_short and index.resolve("*ST远岫", DAYS[0])[0].is_short
