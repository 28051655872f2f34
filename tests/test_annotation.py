"""Labelling rounds: what is chosen, the sheet, its way back, and agreement by hand-worked figures."""

from __future__ import annotations

import math

import numpy as np
import openpyxl
import pandas as pd
import pytest
from openpyxl.utils import get_column_letter
from tables_by_hand import make_news, make_tags

from newsfactor.annotation import agreement, export_sheet, import_sheet
from newsfactor.errors import InvalidValueError, TableError
from newsfactor.labels import read_labels, write_labels
from newsfactor.schema import LEVELS, PROBABILITIES, SENTIMENTS, TIMEZONE
from newsfactor.taxonomy import Taxonomy

FIELDS = ["event", "market", "industry", "sentiment"]


def random_text(k, length=30):
    """A text that shares next to nothing with those of other numbers."""
    return "".join(map(chr, np.random.default_rng(k).integers(0x4E00, 0x9000, length)))


def make_pool(n=50, **columns):
    news = make_news([(f"n{k:02d}", f"2026-07-06 08:{k:02d}", "", random_text(k)) for k in range(n)])
    return make_tags(news, **columns)


def kinds(chosen):
    return chosen["reason"].str.split(":").str[0].value_counts().to_dict()


def test_the_parts_of_the_mix(tmp_path):
    chosen = export_sheet(make_pool(), tmp_path / "round.xlsx", size=10, mix=(0.3, 0.5, 0.2))
    assert kinds(chosen) == {"random": 3, "uncertain": 5, "rare": 2}
    assert chosen["news_id"].is_unique
    assert kinds(export_sheet(make_pool(), tmp_path / "round.xlsx", size=5, mix=(0, 0.5, 0.5))) == {
        "uncertain": 2,
        "rare": 3,
    }


def test_the_seed_alone_decides(tmp_path):
    pool = make_pool()
    first = export_sheet(pool, tmp_path / "a.xlsx", size=8, seed=1)
    same = export_sheet(pool.sample(frac=1, random_state=3), tmp_path / "b.xlsx", size=8, seed=1)
    other = export_sheet(pool, tmp_path / "c.xlsx", size=8, seed=2)
    pd.testing.assert_frame_equal(first, same)
    assert set(first["news_id"]) != set(other["news_id"])


def test_the_random_part_favours_nothing(tmp_path):
    """Each of 12 items is drawn in about half of 24 rounds of 6: within four standard deviations (2.4)."""
    pool = make_pool(12, p_event=list(np.linspace(0.1, 0.9, 12)))
    drawn = pd.concat(
        [export_sheet(pool, tmp_path / "a.xlsx", size=6, mix=(1, 0, 0), seed=k)["news_id"] for k in range(24)]
    )
    counts = drawn.value_counts()
    assert len(counts) == 12 and counts.between(12 - 10, 12 + 10).all()


def test_the_uncertain_part_has_the_smallest_probabilities(tmp_path):
    pool = make_pool(p_event=[0.9] * 50)
    pool.loc[3, "p_industry"], pool.loc[7, "p_event"], pool.loc[20, "p_market"] = 0.2, 0.4, 0.3
    pool.loc[30, list(PROBABILITIES)] = [0.1, 0.1, 0.15, 0.35, 0.1, 0.1, 0.1]
    chosen = export_sheet(pool, tmp_path / "round.xlsx", size=4, mix=(0, 1, 0)).set_index("news_id")["reason"]
    assert chosen.to_dict() == {
        "n03": "uncertain: industry 0.20", "n20": "uncertain: market 0.30", "n30": "uncertain: sentiment 0.35", "n07": "uncertain: event 0.40",
    }  # fmt: skip


def test_without_probabilities_the_sheet_is_filled_at_random(tmp_path):
    pool = make_pool(**dict.fromkeys(("p_event", "p_market", "p_industry"), math.nan))
    pool[list(PROBABILITIES)] = math.nan
    assert kinds(export_sheet(pool, tmp_path / "round.xlsx", size=10)) == {"random": 4, "rare": 2, "filling up": 4}


def test_rare_classes_give_more_than_their_share(tmp_path):
    """Size times turn: 2, 4 for the class of two; 8, 16, 24 for that of eight; 40 for the class of forty."""
    pool = make_pool(event=["公司动态"] * 40 + ["风险事件"] * 8 + ["人事变动"] * 2)
    chosen = export_sheet(pool, tmp_path / "round.xlsx", size=5, mix=(0, 0, 1))
    assert chosen["event"].value_counts().to_dict() == {"风险事件": 3, "人事变动": 2}
    assert set(chosen["reason"]) == {"rare: 风险事件, 8 of 50", "rare: 人事变动, 2 of 50"}
    extreme = make_pool(sentiment=["无明显倾向"] * 48 + ["轻微正面", "极度负面"])
    assert export_sheet(extreme, tmp_path / "round.xlsx", size=1, mix=(0, 0, 1))["reason"].tolist() == [
        "rare: 极度负面, 1 of 50"
    ]


def test_only_usable_news_is_chosen_and_each_story_once(tmp_path, caplog):
    status = ["empty", "failed", "truncated", *["ok"] * 7]
    pool = make_pool(10, status=status)
    pool["story_id"] = [f"n{k:02d}" for k in (0, 1, 2, 3, 3, 5, 6, 7, 8, 9)]
    pool.loc[5, "content"] = "长" * 32_768
    pool.loc[7, "content"] = pool.loc[6, "content"][:-3] + "，改了字"
    done = pd.DataFrame(
        {
            "news_id": ["n08", None],
            "text": ["旧文", random_text(9)],
            **dict.fromkeys(FIELDS, ["无"] * 2),
            "stocks": [[], []],
        }
    )
    done = done.assign(event="其他", market="其他市场", sentiment="无明显倾向")
    chosen = export_sheet(pool, tmp_path / "round.xlsx", labelled=done)
    # n04 tells n03's story, n05 fits no cell, of n06 and n07 one is left, n08 and n09 are labelled.
    assert set(chosen["news_id"]) - {"n06", "n07"} == {"n02", "n03"} and len(chosen) == 3
    assert "3 of 100" in caplog.text


def test_a_near_duplicate_of_labelled_news_is_left_out(tmp_path):
    pool = make_pool(2)
    done = [
        {"input": "晨川快讯，" + random_text(0), "output": "事件:其他,市场:其他市场,行业:无,情感:无明显倾向,关联:无"}
    ]
    assert export_sheet(pool, tmp_path / "round.xlsx", labelled=done)["news_id"].tolist() == ["n01"]
    with pytest.raises(TableError, match="not labelled yet"):
        export_sheet(pool.head(1), tmp_path / "round.xlsx", labelled=done)


@pytest.mark.parametrize("shared", [3, 4])
def test_near_duplicates_share_over_half_of_their_grams(tmp_path, shared):
    """Texts of ``shared + 3`` and 9 characters have ``shared`` and 6 sets: 3 of 6 is half, 4 of 6 is more."""
    text = "甲乙丙丁戊己庚辛壬"
    news = make_news([("a", "2026-07-06 08:00", "", text), ("b", "2026-07-06 09:00", "", text[: shared + 3])])
    assert len(export_sheet(make_tags(news), tmp_path / "round.xlsx")) == (2 if shared == 3 else 1)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"size": 0}, "size"), ({"mix": (0.5, 0.5)}, "mix"), ({"mix": (0.5, 0.6, 0)}, "mix"), ({"mix": (1.5, -0.5, 0)}, "mix")],
)  # fmt: skip
def test_bad_options_are_named(tmp_path, options, named):
    with pytest.raises(InvalidValueError, match=named):
        export_sheet(make_pool(2), tmp_path / "round.xlsx", **options)


def test_bad_paths_and_tables_are_named(tmp_path):
    for path in (tmp_path / "round.csv", tmp_path / "none" / "round.xlsx"):
        with pytest.raises(InvalidValueError, match="path"):
            export_sheet(make_pool(2), path)
    with pytest.raises(TableError, match="p_event"):
        export_sheet(make_pool(2).drop(columns="p_event"), tmp_path / "round.xlsx")


@pytest.fixture
def sheet(tmp_path):
    """Three items: a company's news, one that looks like a formula, and one about nothing."""
    news = make_news(
        [
            ("001", "2026-07-06 08:00", "", "海川重工公告，与青禾生物签订合同。"), ("=b", "2026-07-06 08:10", "", "=1+1，另有消息\x07"),
            ("c", "2026-07-06 08:20", "今日天气", "各地多云转晴。"),
        ]
    )  # fmt: skip
    path = tmp_path / "round.xlsx"
    export_sheet(make_tags(news, stocks=[["海川重工", "青禾生物"], [], []]), path)
    return path


def edit(path, changes):
    """Write cells by (news_id, column)."""
    book = openpyxl.load_workbook(path)
    page = book["labels"]
    header = [cell.value for cell in page[1]]
    rows = {page.cell(k, 1).value: k for k in range(2, page.max_row + 1)}
    for (news_id, column), value in changes.items():
        page.cell(rows[news_id], header.index(column) + 1).value = value
    book.save(path)
    return rows


def test_the_sheet_has_text_dropdowns_and_a_frozen_header(sheet):
    book = openpyxl.load_workbook(sheet)
    page, lists = book["labels"], book["lists"]
    header = [cell.value for cell in page[1]]
    assert header == ["news_id", "published_at", "text", *FIELDS, "stocks", "reason"]
    assert page.freeze_panes == "A2" and {cell.data_type for row in page.iter_rows() for cell in row} == {"s"}
    rows = {row[0]: row for row in page.iter_rows(min_row=2, values_only=True)}
    assert rows["001"][1:8] == ("2026-07-06T08:00:00+08:00", "海川重工公告，与青禾生物签订合同。", "公司动态", "中国市场", "电子", "无明显倾向", "海川重工、青禾生物")  # fmt: skip
    assert rows["=b"][2] == "=1+1，另有消息" and rows["c"][2] == "今日天气。各地多云转晴。" and rows["c"][7] == "无"
    assert page["C2"].alignment.wrap_text and page.column_dimensions["C"].width > 50
    validations = {str(choice.sqref): choice for choice in page.data_validations.dataValidation}
    for field, labels in Taxonomy().slots:
        letter = get_column_letter(header.index(field) + 1)
        choice = validations[f"{letter}2:{letter}4"]
        assert choice.type == "list" and choice.showErrorMessage
        name, cells = choice.formula1.split("!")
        assert [cell.value for (cell,) in book[name][cells.replace("$", "")]] == list(labels)
    assert [cell.value for cell in lists[1]] == FIELDS


def test_an_unchanged_sheet_gives_the_models_answers_back(sheet):
    labels = import_sheet(sheet)
    assert sorted(labels["news_id"]) == ["001", "=b", "c"]
    row = labels.set_index("news_id").loc["001"]
    assert row["stocks"] == ["海川重工", "青禾生物"] and row["published_at"] == pd.Timestamp(
        "2026-07-06 08:00", tz=TIMEZONE
    )
    assert labels.attrs["added"] == 3 and labels.attrs["changed"] == 0


def test_all_bad_rows_of_a_sheet_are_named(sheet):
    rows = edit(sheet, {("001", "stocks"): "远岫地产", ("c", "event"): "天气", ("=b", "stocks"): "无。"})
    with pytest.raises(TableError, match=rf"2 bad of 3 *.*row {min(rows['001'], rows['c'])}: ") as caught:
        import_sheet(sheet)
    assert sorted(number for number, _ in caught.value.problems) == sorted([rows["001"], rows["c"]])


def test_a_sheet_is_merged_with_earlier_labels(sheet, tmp_path):
    edit(sheet, {("001", "sentiment"): "一般正面", ("c", "industry"): " 无"})
    earlier = import_sheet(sheet).query("news_id != '=b'").sort_values("news_id").assign(story_id="s")
    earlier["sentiment"] = "无明显倾向"
    # The same items under a text alone and under an id alone, one of them twice; one that the sheet does not have.
    earlier.loc[earlier["news_id"] == "c", "news_id"] = None
    earlier.loc[earlier["news_id"] == "001", "text"] = "海川重工公告，与青禾生物签订"
    other = earlier.tail(1).assign(news_id="d", text="旧文", stocks=[[]], story_id="t")
    into = write_labels(pd.concat([other, earlier, earlier.tail(1)]), tmp_path / "labels.json")
    merged = import_sheet(sheet, into=into)
    assert merged["text"].tolist()[0] == "旧文" and len(merged) == 5 and merged["news_id"].tolist()[4] == "=b"
    found = merged.set_index("news_id")
    assert found.loc["001", ["text", "sentiment"]].tolist() == ["海川重工公告，与青禾生物签订合同。", "一般正面"]
    assert (found.loc[["c"], "industry"] == "无").all() and (found.loc[["001", "c"], "story_id"] == "s").all()
    assert pd.isna(found.loc["=b", "story_id"])
    assert {name: merged.attrs[name] for name in ("added", "changed", "unchanged", "mended")} == {"added": 1, "changed": 1, "unchanged": 1, "mended": 1}  # fmt: skip
    pd.testing.assert_frame_equal(read_labels(write_labels(merged, into)), merged)
    again = import_sheet(sheet, into=into)
    pd.testing.assert_frame_equal(again, merged)
    assert again.attrs["added"] == again.attrs["changed"] == 0 and again.attrs["unchanged"] == 3


def test_the_first_round_has_no_earlier_labels(sheet, tmp_path):
    labels = import_sheet(sheet, into=tmp_path / "none.json")
    assert labels.attrs["added"] == 3 and not (tmp_path / "none.json").exists()


def make_labels(rows):
    """LABELS from (news_id, text, market, sentiment, stocks)."""
    return pd.DataFrame(
        {"news_id": a, "text": text, "event": "其他", "market": market, "industry": "无", "sentiment": sentiment, "stocks": stocks}
        for a, text, market, sentiment, stocks in rows
    )  # fmt: skip


FIRST = make_labels(
    [
        ("a", "甲与乙", "中国市场", "极度正面", ["甲", "乙"]), ("b", "甲乙丙", "中国市场", "轻微正面", ["甲"]), (None, "甲丁丙", "中国市场", "无明显倾向", ["甲"]),
        ("d", "甲四", "香港市场", "一般负面", []), ("e", "甲五", "香港市场", "无明显倾向", []), ("x", "独", "香港市场", "无明显倾向", []),
    ]
)  # fmt: skip
SECOND = make_labels(
    [
        ("y", "孤", "中国市场", "无明显倾向", []), ("z", "独二", "中国市场", "无明显倾向", []), ("e", "甲五改", "香港市场", "轻微负面", []),
        ("a", "甲与乙", "中国市场", "极度正面", ["乙", "甲"]), ("b", "甲乙丙", "中国市场", "一般正面", []), ("c", "甲丁丙", "香港市场", "无明显倾向", ["甲", "丙"]),
        ("d", "甲四", "香港市场", "极度负面", []),
    ]
)  # fmt: skip


def test_agreement_by_hand():
    result = agreement(FIRST, SECOND)
    assert (result.matched, result.only_first, result.only_second) == (5, 1, 2)
    fields = result.fields.set_index("field")
    assert fields["n"].tolist() == [5] * 5
    # Markets: 3 and 2 against 2 and 3, four of five equal; by chance 0.6 × 0.4 + 0.4 × 0.6 = 0.48.
    assert fields.loc["market", "agreement"] == pytest.approx(0.8)
    assert fields.loc["market", "kappa"] == pytest.approx((0.8 - 0.48) / 0.52)
    # Both give one event throughout: chance alone explains it, so kappa is not defined.
    assert fields.loc["event", "agreement"] == 1 and math.isnan(fields.loc["event", "kappa"])
    # Stocks: equal in three of five; 3 names in common of 4 and 4.
    assert fields.loc["stocks", "agreement"] == pytest.approx(3 / 5) and fields.loc["stocks", "f1"] == pytest.approx(
        6 / 8
    )
    # Sentiment: levels 3, 1, 0, −2, 0 against 3, 2, 0, −3, −1.
    one, two = [3, 1, 0, -2, 0], [3, 2, 0, -3, -1]
    expected = sum((a - b) ** 2 for a in one for b in two) / 25
    assert fields.loc["sentiment", "weighted_kappa"] == pytest.approx(1 - (3 / 5) / expected)
    # Equal twice; by chance 1/25 for 3 and 2/5 × 1/5 for 0.
    assert fields.loc["sentiment", "kappa"] == pytest.approx((0.4 - 0.12) / 0.88)
    assert fields.loc["market", ["weighted_kappa", "f1"]].isna().all()


def test_weighted_kappa_is_that_of_the_full_table():
    """The textbook form: observed and expected 7 × 7 tables with weights (i − j)²."""
    rng = np.random.default_rng(0)
    one = rng.integers(0, 7, 200)
    two = np.clip(one + rng.integers(-1, 2, 200), 0, 6)
    frames = [
        make_labels([(f"{k}", f"文{k}", "中国市场", SENTIMENTS[v], []) for k, v in enumerate(values)])
        for values in (one, two)
    ]
    observed = np.zeros((7, 7))
    for a, b in zip(one, two, strict=True):
        observed[a, b] += 1 / 200
    expected = np.outer(observed.sum(axis=1), observed.sum(axis=0))
    weights = np.array([[(i - j) ** 2 for j in range(7)] for i in range(7)])
    row = agreement(*frames).fields.set_index("field").loc["sentiment"]
    assert row["weighted_kappa"] == pytest.approx(1 - (weights * observed).sum() / (weights * expected).sum())
    assert row["kappa"] == pytest.approx((np.trace(observed) - np.trace(expected)) / (1 - np.trace(expected)))


def test_disagreements_are_listed_and_printed():
    result = agreement(FIRST, SECOND)
    rows = set(result.disagreements.itertuples(index=False, name=None))
    assert rows == {
        ("甲乙丙", "sentiment", "轻微正面", "一般正面"), ("甲乙丙", "stocks", "甲", "无"), ("甲丁丙", "market", "中国市场", "香港市场"),
        ("甲丁丙", "stocks", "甲", "甲、丙"), ("甲四", "sentiment", "一般负面", "极度负面"), ("甲五", "sentiment", "无明显倾向", "轻微负面"),
    }  # fmt: skip
    text = str(result)
    assert text.startswith("5 items labelled by both, 1 by the first alone, 2 by the second alone")
    assert "6 disagreements" in text and "1 × market: 中国市场 | 香港市场" in text and "0.615" in text


def test_equal_labels_have_nothing_to_list():
    result = agreement(FIRST, FIRST)
    assert len(result.disagreements) == 0 and str(result).endswith("0 disagreements")
    assert result.fields["agreement"].tolist() == [1.0] * 5 and (result.only_first, result.only_second) == (0, 0)
    assert set(LEVELS) >= set(FIRST["sentiment"])


def test_annotators_without_a_common_item_cannot_be_compared():
    with pytest.raises(TableError, match="at least one item"):
        agreement(FIRST.head(1), SECOND.head(1))
