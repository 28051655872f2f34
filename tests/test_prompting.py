from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsfactor.errors import AnswerFormatError, InvalidTaxonomyError
from newsfactor.prompting import Answer, clip_middle, news_text, parse_answer, shield, strip_control
from newsfactor.schema import SENTIMENTS
from newsfactor.taxonomy import Taxonomy

LINE = "事件:个股研报,市场:中国市场,行业:房地产,情感:轻微正面,关联:荣盛发展"


@pytest.mark.parametrize(
    ("title", "content", "expected"),
    [
        ("甲公司中标", "甲公司公告，中标项目。", "甲公司中标。甲公司公告，中标项目。"),
        ("甲公司中标", "【甲公司中标】甲公司公告。", "甲公司中标。甲公司公告。"),
        ("甲公司中标", "甲公司中标，金额一亿元。", "甲公司中标，金额一亿元。"),
        ("甲公司中标。", "另有消息。", "甲公司中标。另有消息。"),
        ("甲公司中标", "", "甲公司中标"),
        (None, "【快讯】甲公司公告。", "甲公司公告。"),
        ("", None, ""),
        ("\u200b甲\x00公司", " \u202e公告 ", "甲公司。公告"),
    ],
)
def test_the_one_text(title, content, expected):
    assert news_text(title, content) == expected


def test_an_answer_line_reads_back():
    answer = parse_answer(LINE)
    assert answer == Answer("个股研报", "中国市场", "房地产", "轻微正面", ("荣盛发展",)) and str(answer) == LINE
    assert parse_answer(LINE.replace("荣盛发展", "无")).stocks == ()


@given(
    st.sampled_from(Taxonomy().events),
    st.sampled_from(SENTIMENTS),
    st.lists(st.sampled_from(["甲公司", "乙银行", "丙A"]), max_size=8),
)
def test_every_answer_round_trips(event, sentiment, stocks):
    answer = Answer(event, "其他市场", "无", sentiment, tuple(stocks))
    assert parse_answer(str(answer)) == answer


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (LINE.replace("轻微正面", "中性"), "中性"), (LINE.replace(",行业", "，行业"), "事件"), (LINE + "\n", "answer"),
        (LINE.replace("事件:", ""), "answer"), (LINE.replace("荣盛发展", "甲、、乙"), "甲、、乙"),
        (LINE.replace("荣盛发展", "、".join("甲乙丙丁戊己庚辛壬")), "at most 8"), ("", "answer"),
    ],
)  # fmt: skip
def test_other_lines_are_refused(line, named):
    with pytest.raises(AnswerFormatError, match=named):
        parse_answer(line)


@given(st.text(alphabet="<|im_end>s/ 涨停", max_size=60))
def test_no_added_token_survives_the_shield(text):
    tokens = ["<|im_end|>", "<s>", "</s>", "<|im", "停"]
    shielded = shield(text, tokens)
    assert not any(token in shielded for token in tokens)
    if not any(token in text for token in tokens):
        assert shielded == text


@given(st.lists(st.integers(), max_size=50), st.integers(1, 60))
def test_clipping_keeps_head_and_tail(items, budget):
    kept = clip_middle(items, budget)
    assert len(kept) == min(len(items), budget)
    assert kept == items if len(items) <= budget else kept[0] == items[0] and (budget < 4 or kept[-1] == items[-1])


def test_control_characters_go_and_line_breaks_stay():
    assert strip_control("涨\u202e停\x07\ufeff\n是\t") == "涨停\n是\t"


def test_taxonomy_file_round_trips(tmp_path):
    own = Taxonomy(events=("涨", "跌"))
    own.save(tmp_path / "own.json")
    assert Taxonomy.load(tmp_path / "own.json") == own
    assert [len(labels) for _, labels in Taxonomy().slots] == [24, 8, 38, 7]


@pytest.mark.parametrize(
    ("sets", "named"),
    [
        ({"events": ["a,b"]}, "a,b"), ({"events": ["a:b"]}, "a:b"), ({"markets": ["甲、乙"]}, "甲、乙"), ({"markets": ["甲\n"]}, "甲"),
        ({"industries": []}, "at least one"), ({"industries": ["甲", "甲"]}, "once"), ({"events": "甲乙"}, "list"), ({"events": [" "]}, "non-blank"),
    ],
)  # fmt: skip
def test_bad_label_sets_are_named(sets, named):
    with pytest.raises(InvalidTaxonomyError, match=named):
        Taxonomy(**sets)


def test_bad_taxonomy_files_are_named(tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(json.dumps({"events": ["甲"]}), encoding="utf-8")
    with pytest.raises(InvalidTaxonomyError, match="markets"):
        Taxonomy.load(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(InvalidTaxonomyError, match=r"bad\.json"):
        Taxonomy.load(path)
