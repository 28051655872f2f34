"""Every figure against a table worked by hand or a slow loop; free answers read, two runs compared."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from newsfactor import scoring
from newsfactor.comparison import compare_tags
from newsfactor.errors import InvalidValueError, TableError, UnreadableFileError
from newsfactor.predictions import read_answer, read_predictions
from newsfactor.prompting import Answer
from newsfactor.schema import LEVELS, PROBABILITIES, SENTIMENTS
from newsfactor.scoring import Scorecard, score_tags
from newsfactor.tables import read_table, write_table
from newsfactor.taxonomy import Taxonomy

LINE = "事件:合同订单,市场:中国市场,行业:机械设备,情感:一般正面,关联:海川重工、南岭银行"


def items(levels, **columns) -> pd.DataFrame:
    """One item for each level; None is an answer that failed."""
    n = len(levels)
    base = {"news_id": [f"n{k}" for k in range(n)], "text": [f"海川重工消息{k}" for k in range(n)], "event": "合同订单",
            "market": "中国市场", "industry": "机械设备", "stocks": [[] for _ in range(n)]}  # fmt: skip
    frame = pd.DataFrame({**base, "sentiment": [None if k is None else SENTIMENTS[int(k) + 3] for k in levels]})
    if None in levels:
        frame["status"] = np.where(frame["sentiment"].isna(), "failed", "ok")
    return frame.assign(**columns)


def with_probabilities(frame: pd.DataFrame, rows) -> pd.DataFrame:
    return frame.join(pd.DataFrame(rows, columns=list(PROBABILITIES), dtype=float))


def random_pair(n: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    draw = np.random.default_rng(seed)
    level = draw.integers(-3, 4, n)
    near = np.clip(level + draw.integers(-2, 3, n), -3, 3)
    gold = items(
        level, event=draw.choice(["合同订单", "人事变动", "其他"], n), story_id=draw.choice(list("abcdefghi"), n)
    )
    tags = items(
        [None if draw.random() < 0.15 else k for k in near], event=draw.choice(["合同订单", "人事变动", "其他"], n)
    )
    tags = with_probabilities(tags, draw.dirichlet(np.ones(7), n)).assign(p_event=draw.uniform(0.4, 1, n))
    tags["score"] = (near + draw.normal(size=n)).round(1)
    return gold, tags


# --- figures by hand -------------------------------------------------------------------------------------------------

GOLD, GIVEN = [-3, -1, 0, 2, 3, 3], [-3, 1, 0, 1, 2, None]


@pytest.mark.parametrize(
    ("metric", "expected", "n"),
    [
        ("accuracy", 2 / 6, 6),
        # Of the labels in gold −3 and 0 have F1 = 1; −1, 2 and 3 were never hit.
        ("macro_f1", 2 / 5, 6),
        ("polarity_accuracy", 4 / 6, 6),
        ("sign_flips", 1 / 5, 5),
        ("extremes_recall", 1 / 3, 3),
        ("within_one_level", 4 / 6, 6),
        # Seen: (4 + 1 + 1) / 36 + 1. By chance: squared distances of all pairs 66 + 22 + 15 + 31 + 54 + 54 = 242,
        # and 1 for each gold beside the invalid answer: (242 / 36 + 6) / 6.
        ("kappa", 1 - (6 / 36 + 1) / ((242 / 36 + 6) / 6), 6),
        # Ranks of the five answers 1, 3.5, 2, 3.5, 5 beside 1, 2, 3, 4, 5.
        ("spearman", 8 / math.sqrt(9.5 * 10), 5),
    ],
)
def test_sentiment_figures_by_hand(metric, expected, n):
    figures = score_tags(items(GOLD), items(GIVEN), repeats=0).figures.set_index(["field", "metric"])
    assert figures.loc[("sentiment", metric), "value"] == pytest.approx(expected, abs=1e-12)
    assert figures.loc[("sentiment", metric), "n"] == n


def test_the_soft_score_is_ranked_where_there_is_one():
    tags = items([0, 0, 0]).assign(score=[0.1, 0.3, 0.2])
    assert score_tags(items([-1, 0, 1]), tags, repeats=0).value("sentiment", "spearman") == pytest.approx(0.5)


def test_ranked_probability_by_hand():
    # Cumulative 0, 0, 0, .5, 1, 1 against 0, 0, 0, 0, 1, 1: .25 / 6. All on +3 with gold −3: 1. Invalid: 1.
    rows = [[0, 0, 0, 0.5, 0.5, 0, 0], [0, 0, 0, 0, 0, 0, 1], [np.nan] * 7]
    card = score_tags(items([1, -3, 0]), with_probabilities(items([1, 3, None]), rows), repeats=0)
    mean = (0.25 / 6 + 1 + 1) / 3
    assert card.value("sentiment", "rps") == pytest.approx(mean)
    # Gold's frequencies give at or below −3, −2, −1: 1/3; at or below 0: 2/3; then all: F (1 - F) = 2/9 four times.
    assert card.value("sentiment", "rps_skill") == pytest.approx(1 - mean / (4 * (2 / 9) / 6))


def test_calibration_by_hand():
    # Ten answers stated at .6 of which one is right, ten at .9 all right: two bins of ten.
    right = [True] + [False] * 9 + [True] * 10
    tags = items([0] * 20).assign(event=np.where(right, "合同订单", "其他"), p_event=[0.6] * 10 + [0.9] * 10)
    expected = ((0.6 - 0.1) ** 2 - 0.1 * 0.9 / 9 + (0.9 - 1) ** 2) / 2
    card = score_tags(items([0] * 20), tags, repeats=0)
    assert card.value("event", "calibration_error") == pytest.approx(math.sqrt(expected))
    shuffled = tags.sample(frac=1, random_state=3)
    assert score_tags(items([0] * 20), shuffled, repeats=0).figures.equals(card.figures)
    # With five of ten right at .6 the gap is smaller than its own noise.
    flat = tags.assign(
        event=np.where([True] * 5 + [False] * 5 + [True] * 10, "合同订单", "其他"), p_event=[0.6] * 10 + [1.0] * 10
    )
    assert score_tags(items([0] * 20), flat, repeats=0).value("event", "calibration_error") == 0
    few = score_tags(items([0] * 19), tags.head(19), repeats=0)
    assert math.isnan(few.value("event", "calibration_error"))


def test_the_probability_of_the_chosen_level_is_judged():
    rows = np.zeros((20, 7))
    rows[:, 4], rows[:, 3] = 0.7, 0.3
    card = score_tags(items([1] * 20), with_probabilities(items([1] * 20), rows), repeats=0)
    assert card.value("sentiment", "calibration_error") == pytest.approx(0.3)


def test_stock_figures_by_hand():
    gold = items([0] * 4).assign(stocks=[["甲", "乙"], [], ["丙"], []])
    tags = items([0, 0, 0, None]).assign(stocks=[["乙", "甲"], ["丁"], ["丙", "丁"], []])
    card = score_tags(gold, tags, repeats=0)
    # Named 5 of which 3 are right; 3 wanted; the sets are equal once: order is ignored, an invalid answer is wrong.
    got = [card.value("stocks", metric) for metric in ("precision", "recall", "f1", "accuracy")]
    assert got == pytest.approx([3 / 5, 1, 2 * 3 / 8, 1 / 4])
    assert card.value("answer", "exact_match") == 1 / 4 and card.value("answer", "invalid_rate") == 1 / 4


def test_confusion_and_labels_by_hand():
    gold = items([0] * 5).assign(event=["合同订单", "合同订单", "其他", "其他", "自定"])
    tags = items([0, 0, 0, 0, None]).assign(event=["合同订单", "其他", "其他", "人事变动", "自定"])
    card = score_tags(gold, tags, repeats=0)
    table = card.confusion["event"]
    assert list(table.index) == ["合同订单", "人事变动", "其他", "自定"] and list(table.columns) == [
        *table.index,
        "invalid",
    ]
    assert table.to_numpy().tolist() == [[1, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 1]]
    labels = card.by_label[card.by_label["field"] == "event"].set_index("label")
    assert labels.loc["合同订单", ["precision", "recall", "f1", "support"]].tolist() == pytest.approx(
        [1, 0.5, 2 / 3, 2]
    )
    assert labels.loc["其他", ["precision", "recall", "f1", "support"]].tolist() == pytest.approx([0.5, 0.5, 0.5, 2])
    assert labels.loc["人事变动", ["precision", "f1", "support"]].tolist() == [0, 0, 0]
    assert math.isnan(labels.loc["人事变动", "recall"]) and math.isnan(labels.loc["自定", "precision"])
    assert card.value("event", "macro_f1") == pytest.approx((2 / 3 + 0.5 + 0) / 3)
    assert list(card.confusion["sentiment"].columns) == [*SENTIMENTS, "invalid"]


# --- slow loops ------------------------------------------------------------------------------------------------------


def slow_kappa(gold, given) -> float:
    def distance(i, j):
        return 1 if j is None else ((i - j) / 6) ** 2

    seen = sum(distance(i, j) for i, j in zip(gold, given, strict=True))
    chance = sum(distance(i, j) for i in gold for j in given) / len(gold)
    return 1 - seen / chance if chance else math.nan


def slow_macro_f1(gold, given) -> float:
    scores = []
    for label in set(gold):
        both = sum(i == j == label for i, j in zip(gold, given, strict=True))
        scores.append(2 * both / (gold.count(label) + given.count(label)))
    return sum(scores) / len(scores)


def slow_rps(p, level) -> float:
    total = 0.0
    for k in range(-3, 3):
        forecast = sum(value for value, at in zip(p, range(-3, 4), strict=True) if at <= k)
        total += (forecast - (level <= k)) ** 2
    return total / 6


def slow_figures(gold, tags, rows) -> dict[tuple[str, str], float]:
    level = [LEVELS[gold["sentiment"][k]] for k in rows]
    given = [LEVELS.get(tags["sentiment"][k]) for k in rows]
    answered = [k for k in rows if tags["status"][k] == "ok"]
    invalid = len(rows) - len(answered)
    rps = [slow_rps(tags.loc[k, list(PROBABILITIES)], LEVELS[gold["sentiment"][k]]) for k in answered]
    events = [tags["event"][k] if tags["status"][k] == "ok" else None for k in rows]
    return {
        ("sentiment", "kappa"): slow_kappa(level, given),
        ("sentiment", "macro_f1"): slow_macro_f1(level, given),
        ("event", "macro_f1"): slow_macro_f1([gold["event"][k] for k in rows], events),
        ("sentiment", "spearman"): stats.spearmanr(
            [tags["score"][k] for k in answered], [LEVELS[gold["sentiment"][k]] for k in answered]
        ).statistic,
        ("sentiment", "rps"): (sum(rps) + invalid) / len(rows),
        ("answer", "invalid_rate"): invalid / len(rows),
    }


@pytest.mark.parametrize("seed", [0, 1])
def test_figures_and_intervals_agree_with_a_slow_loop(seed, monkeypatch):
    gold, tags = random_pair(40, seed)
    card = score_tags(gold, tags, repeats=30, seed=seed)
    figures = card.figures.set_index(["field", "metric"])
    stories = list(dict.fromkeys(gold["story_id"]))
    draw = np.random.default_rng(seed)
    resamples = []
    for _ in range(30):
        chosen = draw.integers(len(stories), size=len(stories))
        rows = [k for story in chosen for k in gold.index[gold["story_id"] == stories[story]]]
        resamples.append(slow_figures(gold, tags, rows))
    for name, value in slow_figures(gold, tags, list(gold.index)).items():
        expected = np.quantile([resample[name] for resample in resamples], [0.025, 0.975])
        assert figures.loc[name, "value"] == pytest.approx(value), name
        assert figures.loc[name, ["low", "high"]].tolist() == pytest.approx(expected.tolist()), name
    monkeypatch.setattr(scoring, "_BLOCK", 300)
    again = score_tags(gold, tags, repeats=30, seed=seed).figures
    pd.testing.assert_frame_equal(again, card.figures, rtol=1e-12)
    assert not score_tags(gold, tags, repeats=30, seed=seed + 1).figures["low"].equals(card.figures["low"])


def test_calibration_agrees_with_a_slow_loop():
    draw = np.random.default_rng(5)
    stated, right = draw.uniform(0.3, 1, 130), draw.random(130) < 0.5
    tags = items([0] * 130).assign(event=np.where(right, "合同订单", "其他"), p_event=stated)
    total = 0.0
    for rows in np.array_split(np.argsort(stated), 10):
        share = right[rows].mean()
        total += len(rows) / 130 * ((stated[rows].mean() - share) ** 2 - share * (1 - share) / (len(rows) - 1))
    card = score_tags(items([0] * 130), tags, repeats=100)
    assert card.value("event", "calibration_error") == pytest.approx(math.sqrt(total))


def test_the_calibration_interval_holds_the_truth():
    # Stated .1 above what is true: of 25 samples about 24 intervals should hold .1.
    draw, held = np.random.default_rng(6), 0
    for k in range(25):
        stated = draw.uniform(0.55, 0.95, 300)
        event = np.where(draw.random(300) < stated - 0.1, "合同订单", "其他")
        figures = score_tags(
            items([0] * 300), items([0] * 300, event=event, p_event=stated), repeats=100, seed=k
        ).figures
        low, high = figures.set_index(["field", "metric"]).loc[("event", "calibration_error"), ["low", "high"]]
        held += low <= 0.1 <= high
    assert held >= 21


def test_whole_stories_are_resampled():
    level = [0, 1] * 50
    tags = items([0] * 100)
    alone = score_tags(items(level), tags).figures.iloc[[0]]
    told_twice = pd.Series([f"s{k // 10 * 2 + k % 2}" for k in range(100)])
    both = [
        score_tags(items(level), tags.assign(story_id=told_twice)),
        score_tags(items(level, story_id=told_twice), tags),
    ]
    widths = [card.figures.set_index(["field", "metric"]).loc[("sentiment", "accuracy")] for card in both]
    single = score_tags(items(level), tags).figures.set_index(["field", "metric"]).loc[("sentiment", "accuracy")]
    assert widths[0].equals(widths[1]) and both[0].counts["stories"] == 20
    # Stories of five alike items: the spread grows by about the root of five.
    ratio = (widths[0]["high"] - widths[0]["low"]) / (single["high"] - single["low"])
    assert ratio == pytest.approx(math.sqrt(5), rel=0.25)
    assert alone[["low", "high"]].to_numpy().tolist() == [[1, 1]]
    part = score_tags(items(level, story_id=told_twice.where(told_twice.index < 50)), tags, repeats=0)
    assert part.counts["stories"] == 10 + 50


# --- what is no answer -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tags: tags.assign(status=["empty", "ok"]), lambda tags: tags.assign(status=["failed", "ok"]),
        lambda tags: tags.assign(status=["invalid", "ok"]), lambda tags: tags.iloc[1:],
        lambda tags: tags.assign(market=[None, "中国市场"]), lambda tags: tags.assign(sentiment=["中性", "无明显倾向"]),
    ],
)  # fmt: skip
def test_no_answer_is_wrong_in_every_field_and_never_neutral(spoil):
    card = score_tags(items([0, 0]), spoil(items([0, 0])), repeats=0)
    for field in ("event", "market", "industry", "sentiment", "stocks"):
        assert card.value(field, "accuracy") == 0.5, field
    assert card.value("answer", "exact_match") == 0.5 and card.value("answer", "invalid_rate") == 0.5
    assert card.confusion["sentiment"].loc["无明显倾向", ["无明显倾向", "invalid"]].tolist() == [1, 1]
    assert card.counts["invalid"] == 1


def test_one_class_and_all_wrong():
    same = score_tags(items([0] * 5), items([0] * 5))
    assert same.value("sentiment", "accuracy") == same.value("sentiment", "macro_f1") == 1
    for metric in ("kappa", "spearman", "sign_flips", "extremes_recall", "rps", "rps_skill", "calibration_error"):
        assert math.isnan(same.value("sentiment", metric)), metric
    assert "rps" not in str(same) and "calibration" not in str(same) and "kappa" not in str(same)
    assert math.isnan(same.value("stocks", "recall"))
    opposite = score_tags(items([-3, 3]), items([3, -3]), repeats=0)
    assert opposite.value("sentiment", "sign_flips") == 1 and opposite.value("sentiment", "accuracy") == 0
    assert opposite.value("sentiment", "kappa") == pytest.approx(-1) == opposite.value("sentiment", "spearman")
    silent = score_tags(items([-3, 3]), items([None, None]), repeats=10)
    assert silent.value("sentiment", "kappa") == 0 and silent.value("answer", "invalid_rate") == 1
    assert math.isnan(silent.value("sentiment", "spearman")) and silent.value("sentiment", "sign_flips") == 0


def test_a_single_story_has_no_interval():
    for gold in (items([2]), items([2, 1], story_id="s")):
        figures = score_tags(gold, gold).figures
        assert figures[["low", "high"]].isna().all(axis=None) and figures["value"].iloc[0] == 1
    assert score_tags(items([2, 1]), items([2, 1]), repeats=0).figures["low"].isna().all()


# --- matching --------------------------------------------------------------------------------------------------------


def test_ids_match_before_texts_and_texts_where_ids_lack():
    gold = items([1, 2])
    swapped = items([2, 1]).assign(news_id=["n1", "n0"])
    assert score_tags(gold, swapped, repeats=0).value("sentiment", "accuracy") == 1
    assert score_tags(gold.drop(columns="news_id"), swapped, repeats=0).value("sentiment", "accuracy") == 0
    assert score_tags(gold.assign(news_id=["n0", None]), swapped, repeats=0).value("sentiment", "accuracy") == 0
    numbered = gold.assign(news_id=[7, 8])
    assert score_tags(numbered, swapped.assign(news_id=["8", "7"]), repeats=0).value("sentiment", "accuracy") == 1


def test_title_and_content_are_the_text():
    gold = items([1]).assign(text="海川重工中标。海川重工公告中标。").drop(columns="news_id")
    tags = items([1]).drop(columns="text").assign(title="海川重工中标", content="【海川重工中标】海川重工公告中标。")
    assert score_tags(gold, tags, repeats=0).value("answer", "exact_match") == 1


def test_tags_without_gold_are_counted_and_may_repeat():
    gold = items([1, 2]).drop(columns="news_id")
    tags = pd.concat([items([1]), items([0, 0]).assign(text="别的消息")], ignore_index=True)
    card = score_tags(gold, tags, repeats=0)
    assert card.counts == {"items": 2, "stories": 2, "missing": 1, "invalid": 1, "ignored": 2}
    assert "2 tags without gold ignored" in str(card)


@pytest.mark.parametrize(
    ("gold", "tags", "named"),
    [
        (items([1, 1]).assign(news_id="n0"), items([1]), r"gold\['news_id'\].*once, got 'n0' at row 1"),
        (items([1]), pd.concat([items([1])] * 2), r"tags\['news_id'\].*once"),
        (items([1]), items([1]).assign(news_id="x"), "drop news_id"),
        (items([1]).drop(columns="news_id"), items([1]).assign(text="x"), "texts must be the same"),
        (items([1]), items([]), "share items"),
        (items([]), items([1]), "at least one item"),
        (items([1]), items([1]).drop(columns="stocks"), "'stocks'"),
        (items([1, None]), items([1, 1]), "row 1"),
        (items([1]).assign(sentiment="利好"), items([1]), "seven"),
        (items([1]).assign(stocks=None), items([1]), "row 0"),
        (items([1]), [LINE], "DataFrame"),
    ],
)
def test_what_cannot_be_matched_is_named(gold, tags, named):
    with pytest.raises(TableError, match=named):
        score_tags(gold, tags)


def test_repeats_must_be_a_whole_number():
    for wrong in (-1, 1.5):
        with pytest.raises(InvalidValueError, match="repeats"):
            score_tags(items([1]), items([1]), repeats=wrong)


def test_arguments_stay_as_they_were():
    gold, tags = random_pair(30, 2)
    before = gold.copy(deep=True), tags.copy(deep=True)
    score_tags(gold, tags, repeats=5)
    compare_tags(gold, tags)
    pd.testing.assert_frame_equal(gold, before[0])
    pd.testing.assert_frame_equal(tags, before[1])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_give_the_same_scorecard(suffix, tmp_path):
    gold, tags = random_pair(30, 3)
    tags["stocks"] = gold["stocks"] = pd.Series([["海川重工"], [], ["南岭银行", "海川重工"]] * 10)
    write_table(tags, tmp_path / f"tags.{suffix}")
    read = read_table(tmp_path / f"tags.{suffix}")
    pd.testing.assert_frame_equal(score_tags(gold, read, repeats=5).figures, score_tags(gold, tags, repeats=5).figures)


# --- the scorecard ---------------------------------------------------------------------------------------------------


def test_a_scorecard_passes_through_json():
    gold, tags = random_pair(40, 4)
    for card in (score_tags(gold, tags, repeats=20), score_tags(items([2]), items([2]))):
        text = json.dumps(card.to_dict(), ensure_ascii=False, allow_nan=False)
        back = Scorecard.from_dict(json.loads(text))
        pd.testing.assert_frame_equal(back.figures, card.figures)
        pd.testing.assert_frame_equal(back.by_label, card.by_label)
        assert back.counts == card.counts and str(back) == str(card)
        for field, table in card.confusion.items():
            pd.testing.assert_frame_equal(back.confusion[field], table)


def test_the_face_is_one_aligned_table():
    gold, tags = random_pair(40, 4)
    lines = str(score_tags(gold, tags, repeats=20)).split("\n")
    assert lines[0].startswith("Scorecard on 40 items of 9 stories") and len(lines) < 45
    assert len({len(line) for line in lines[1:-10]}) == 1
    assert any("kappa" in line and " to " in line for line in lines)


def test_unknown_figures_are_named():
    card = score_tags(items([2]), items([2]))
    with pytest.raises(InvalidValueError, match=r"`metric`.*kappa"):
        card.value("sentiment", "f2")
    with pytest.raises(InvalidValueError, match=r"`field`.*stocks"):
        card.value("mood", "f2")


# --- free answers ----------------------------------------------------------------------------------------------------

FULL = {
    "event": "合同订单",
    "market": "中国市场",
    "industry": "机械设备",
    "sentiment": "一般正面",
    "stocks": ["海川重工", "南岭银行"],
}


@pytest.mark.parametrize(
    "text",
    [
        LINE,
        LINE.replace(",", "，").replace(":", "："),
        f"好的,分析如下:\n\n{LINE}。\n以上仅供参考,情感:极度负面的可能不大。",
        f"<think>事件:其他,情感:极度负面</think>\n{LINE}",
        f"市场:其他市场……</think>{LINE}",
        f"```text\n{LINE}\n```",
        f"格式为 事件:…,市场:…,行业:…,情感:…,关联:…\n{LINE}",
        f"情感:极度负面这一判断不妥。\n{LINE}\n{LINE.replace('一般正面', '极度负面')}",
        "**情感**：一般正面\n**事件**：合同订单\n**关联**：海川重工、南岭银行\n**行业**：机械设备\n**市场**：中国市场",
        "金融事件：合同订单 对应市场：中国市场 关联行业：机械设备 情感极性：一般正面 关联个股：海川重工，南岭银行",
        '{"事件": "合同订单", "市场": "中国市场", "行业": "机械设备", "情感": "一般正面", "关联": ["海川重工", "南岭银行"]}',
        '```json\n{\n "事件": "合同订单",\n "市场": "中国市场",\n "行业": "机械设备",\n "情感": "一般正面",\n "关联": [\n  "海川重工",\n  "南岭银行"\n ]\n}\n```',
        "{'关联': '海川重工、南岭银行', '事件': '合同订单', '市场': '中国市场', '行业': '机械设备', '情感': '一般正面'}",
    ],
)  # fmt: skip
def test_free_answers_are_read(text):
    assert read_answer(text) == FULL


@pytest.mark.parametrize(
    ("text", "unread"),
    [
        ("", set(FULL)), ("我无法判断。", set(FULL)), (f"<think>{LINE}", set(FULL)),
        (LINE.replace("一般正面", "中性"), {"sentiment"}), (LINE.replace("一般正面", "一般正面偏强"), {"sentiment"}),
        (LINE.replace("机械设备", "机械"), {"industry"}), (LINE.split(",关联")[0], {"stocks"}), (LINE.split("海川")[0], {"stocks"}),
        ("一般正面", set(FULL)), ("情感:无", set(FULL)), ("情感:一般正面", set(FULL) - {"sentiment"}),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_none(text, unread):
    found = read_answer(text)
    assert {field for field, value in found.items() if value is None} == unread
    assert all(found[field] == FULL[field] for field in set(FULL) - unread)


@pytest.mark.parametrize("value", ["无", "无。", "[]", '["无"]', "null"])
def test_no_stocks_is_an_empty_list(value):
    assert read_answer(LINE.split("海川")[0] + value)["stocks"] == []


def test_starred_names_stay_as_written():
    assert read_answer("**关联:** *ST海川、南岭银行-U")["stocks"] == ["*ST海川", "南岭银行-U"]


@given(
    st.sampled_from(Taxonomy().events), st.sampled_from(Taxonomy().industries), st.sampled_from(SENTIMENTS),
    st.lists(st.sampled_from(["海川重工", "南岭银行", "*ST丙A", "丁-SW"]), max_size=4, unique=True),
)  # fmt: skip
def test_every_strict_answer_is_read(event, industry, sentiment, stocks):
    answer = Answer(event, "其他市场", industry, sentiment, tuple(stocks))
    assert read_answer(f"答:\n{answer}\n") == {**vars(answer), "stocks": stocks}


def test_a_taxonomy_of_ones_own():
    own = Taxonomy(events=("涨", "跌"))
    assert read_answer("事件:涨", own)["event"] == "涨" and read_answer("事件:合同订单", own)["event"] is None


def write_lines(path, answers, label=LINE):
    lines = [
        json.dumps({"prompt": "海川重工中标", "predict": answer, "label": label}, ensure_ascii=False)
        for answer in answers
    ]
    path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    return path


def test_predictions_are_scored(tmp_path):
    wrong, odd = LINE.replace("一般正面", "轻微正面"), LINE.replace("中国市场", "A股")
    gold, tags = read_predictions(write_lines(tmp_path / "generated_predictions.jsonl", [LINE, wrong, odd, ""]))
    assert gold["news_id"].tolist() == ["line 1", "line 2", "line 3", "line 4"] and gold["stocks"][0] == FULL["stocks"]
    assert tags["status"].tolist() == ["ok", "ok", "invalid", "invalid"]
    assert tags["event"].notna().tolist() == [True, True, True, False] and set(gold["text"]) == {"海川重工中标"}
    card = score_tags(gold, tags, repeats=0)
    assert card.value("sentiment", "accuracy") == 1 / 4 and card.value("answer", "invalid_rate") == 2 / 4
    assert card.value("event", "accuracy") == 2 / 4
    assert math.isnan(card.value("sentiment", "rps"))


def test_an_answer_without_stocks_is_wrong_in_that_field_alone(tmp_path):
    none = LINE.split("海川")[0] + "无"
    gold, tags = read_predictions(write_lines(tmp_path / "p.jsonl", [none, none.removesuffix(",关联:无")], none))
    card = score_tags(gold, tags, repeats=0)
    assert card.value("stocks", "accuracy") == 1 / 2 and card.value("event", "accuracy") == 1
    assert card.value("answer", "invalid_rate") == 0


def test_bad_prediction_files_are_named(tmp_path):
    path = write_lines(tmp_path / "p.jsonl", [LINE])
    path.write_text(
        path.read_text(encoding="utf-8") + '{"prompt": "海\n{"prompt": "a", "predict": null, "label": "b"}\n[1]\n',
        encoding="utf-8",
    )
    with pytest.raises(UnreadableFileError, match="line 3, line 4, line 5"):
        read_predictions(path)
    with pytest.raises(TableError, match="line 1, line 2"):
        read_predictions(write_lines(path, [LINE, LINE], label=LINE.replace("一般正面", "利好")))
    with pytest.raises(UnreadableFileError, match=r"nowhere\.jsonl"):
        read_predictions(tmp_path / "nowhere.jsonl")
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(TableError, match="label"):
        read_predictions(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UnreadableFileError, match="UTF-8"):
        read_predictions(path)


# --- two runs --------------------------------------------------------------------------------------------------------


def test_agreement_by_hand():
    first = items([0, 1, 2, 3]).assign(stocks=[["甲", "乙"], [], [], []])
    second = items([0, 1, 2, 2]).assign(stocks=[["乙", "甲"], ["丙"], [], []])
    result = compare_tags(first, second.sample(frac=1, random_state=1))
    assert result.agreement == 18 / 20 and not result.passes
    assert result.fields.set_index("field")["equal"].tolist() == [4, 4, 4, 3, 3]
    assert result.differences[["news_id", "field", "first", "second"]].to_numpy().tolist() == [
        ["n1", "stocks", "无", "丙"], ["n3", "sentiment", "极度正面", "一般正面"],
    ]  # fmt: skip
    assert result.largest.empty and "海川重工消息3" in str(result) and "too few" in str(result)
    same = compare_tags(first, first)
    assert same.agreement == 1 and same.passes and same.differences.empty and "Differences" not in str(same)


def test_the_bar_is_995_in_a_thousand():
    first = items([0] * 200)
    for wrong, passes in ((5, True), (6, False)):
        second = first.assign(event=["其他"] * wrong + ["合同订单"] * (200 - wrong))
        assert compare_tags(first, second).passes is passes


def test_ties_are_equal_and_counted():
    even = [[0, 0, 0, 0.5, 0.5, 0, 0], [0, 0, 0, 0.5, 0.5, 0, 0], [0, 0, 0, 0.6, 0.4, 0, 0]]
    odd = [[0, 0, 0, 0.5 - 1e-6, 0.5 + 1e-6, 0, 0], [0, 0, 0, 0.4, 0.6, 0, 0], [0, 0, 0, 0.4, 0.6, 0, 0]]
    first, second = with_probabilities(items([0, 0, 0]), even), with_probabilities(items([1, 1, 1]), odd)
    result = compare_tags(first, second)
    assert result.fields.set_index("field").loc["sentiment", ["equal", "ties"]].tolist() == [0, 1]
    assert result.agreement == 13 / 15 and result.differences["news_id"].tolist() == ["n1", "n2"]
    assert "1 ties counted" in str(result)
    assert compare_tags(first, second, tolerance=0.3).agreement == 1
    drift = result.largest.set_index("column")
    assert drift.loc["p_0", "largest"] == pytest.approx(0.2) and drift.loc["p_0", "mean"] == pytest.approx(
        0.3 / 3, abs=1e-5
    )


def test_a_tie_of_other_fields_has_at_most_one_half():
    first = items([0, 0, 0]).assign(p_event=[0.4, 0.9, 0.4])
    second = items([0, 0, 0]).assign(event="其他", p_event=[0.4, 0.9, 0.3])
    result = compare_tags(first, second)
    assert result.fields["ties"].tolist() == [1, 0, 0, 0, 0] and result.differences["news_id"].tolist() == ["n1", "n2"]
    # The chosen labels differ, so their probabilities are not of the same thing.
    assert result.largest.empty


def test_failures_agree_with_nothing_and_empty_texts_with_themselves():
    first = items([0, 1, None, None]).assign(status=["ok", "ok", "failed", "empty"])
    second = items([0, None, None, None]).assign(status=["ok", "failed", "failed", "empty"])
    result = compare_tags(first, second)
    assert result.agreement == 10 / 20 and set(result.differences["news_id"]) == {"n1", "n2"}
    assert result.differences["second"].isna().all()


def test_an_item_of_one_run_alone_differs():
    for one, two in ((items([0, 1]), items([0])), (items([0]), items([0, 1]))):
        result = compare_tags(one, two)
        assert result.agreement == 1 / 2 and set(result.differences["news_id"]) == {"n1"}
        assert set(result.differences["text"]) == {"海川重工消息1"}


@pytest.mark.parametrize(
    ("second", "named"),
    [
        (items([]), "share items"),
        (items([1, 1]).assign(news_id="n0"), "second.*once"),
        (items([1]).drop(columns="event"), "'event'"),
    ],
)
def test_runs_that_cannot_be_compared_are_named(second, named):
    with pytest.raises(TableError, match=named):
        compare_tags(items([1]), second)


def test_the_list_of_differences_is_cut_and_clean():
    first = items([0] * 30).drop(columns="news_id").assign(text=[f"甲\x1b[31m\n{k}" for k in range(30)])
    shown = str(compare_tags(first, first.assign(market="其他市场")))
    assert "... and 10 more" in shown and "\x1b" not in shown and "news_id" not in shown
