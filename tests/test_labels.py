"""Label files: every form reads the same, every bad record is named, LLaMA-Factory's own rules read what is written."""

from __future__ import annotations

import hashlib
import json
import logging

import openpyxl
import pandas as pd
import pytest
from tables_by_hand import make_news, make_tags

from newsfactor.errors import InvalidValueError, TableError, UnreadableFileError
from newsfactor.labels import mend_answer, read_labels, write_labels
from newsfactor.prompting import INSTRUCTION
from newsfactor.schema import TIMEZONE
from newsfactor.taxonomy import Taxonomy

TEXTS = ["海川重工公告，与青禾生物签订3亿元合同。", "今日各地多云转晴。"]
LINES = [
    "事件:合同订单,市场:中国市场,行业:机械设备,情感:一般正面,关联:海川重工、青禾生物",
    "事件:其他,市场:其他市场,行业:无,情感:无明显倾向,关联:无",
]
RECORDS = [{"instruction": "", "input": text, "output": line} for text, line in zip(TEXTS, LINES, strict=True)]
EXPECTED = pd.DataFrame(
    {
        "text": TEXTS, "event": ["合同订单", "其他"], "market": ["中国市场", "其他市场"], "industry": ["机械设备", "无"],
        "sentiment": ["一般正面", "无明显倾向"], "stocks": [["海川重工", "青禾生物"], []],
    }
).astype({name: "str" for name in ("text", "event", "market", "industry", "sentiment")})  # fmt: skip
CHINESE = dict(zip(EXPECTED.columns, ["文本", "事件", "市场", "行业", "情感", "关联"], strict=True))


def save(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def save_sheet(path, rows):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


def as_text(frame):
    return frame.assign(stocks=["、".join(names) or "无" for names in frame["stocks"]])


def make_json(folder):
    return save(folder / "labels.json", RECORDS)


def make_jsonl(folder):
    path = folder / "labels.jsonl"
    path.write_text("\n\n".join(json.dumps(record) for record in RECORDS) + "\n", encoding="utf-8")
    return path


def make_csv(folder):
    as_text(EXPECTED).rename(columns=CHINESE).to_csv(folder / "labels.csv", index=False, encoding="utf-8-sig")
    return folder / "labels.csv"


def make_answers_csv(folder):
    pd.DataFrame(RECORDS).to_csv(folder / "answers.csv", index=False)
    return folder / "answers.csv"


def make_sheet(folder):
    table = as_text(EXPECTED).rename(columns=CHINESE)
    return save_sheet(folder / "labels.xlsx", [[f" {name} " for name in table.columns], *table.to_numpy().tolist()])


def make_parquet(folder):
    EXPECTED.to_parquet(folder / "labels.parquet")
    return folder / "labels.parquet"


@pytest.mark.parametrize(
    "make", [make_json, make_jsonl, make_csv, make_answers_csv, make_sheet, make_parquet, lambda _: RECORDS,
             lambda _: pd.DataFrame(RECORDS), lambda _: EXPECTED, lambda _: as_text(EXPECTED)],
)  # fmt: skip
def test_every_form_reads_the_same(make, tmp_path):
    labels = read_labels(make(tmp_path))
    pd.testing.assert_frame_equal(labels, EXPECTED)
    assert labels.attrs["mended"] == 0 and labels.attrs["left_out"] == 0


def test_title_and_content_are_joined_as_they_are_tagged():
    row = EXPECTED.iloc[[0]].drop(columns="text").assign(title="海川重工签约", content="【快讯】青禾生物为买方。")
    assert read_labels(row)["text"].tolist() == ["海川重工签约。青禾生物为买方。"]


ARTICLE = {"file_name": "labels.json"}
COLUMNS = {"file_name": "own.json", "columns": {"prompt": "question", "query": "news", "response": "answer"}}
ONE_PROMPT = {"file_name": "prompts.json", "columns": {"prompt": "question", "response": "answer"}}
SHAREGPT = {"file_name": "talk.json", "formatting": "sharegpt"}
OPENAI = {
    "file_name": "messages.jsonl", "formatting": "sharegpt", "columns": {"messages": "messages"},
    "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant", "system_tag": "system"},
}  # fmt: skip
ENTRIES = {"article": ARTICLE, "columns": COLUMNS, "prompt": ONE_PROMPT, "sharegpt": SHAREGPT, "openai": OPENAI}


@pytest.fixture
def datasets(tmp_path):
    """The same two labels in each of LLaMA-Factory's forms."""
    pairs = list(zip(TEXTS, LINES, strict=True))
    asked = "请给出事件，市场，行业，情感与关联个股"
    save(tmp_path / "labels.json", RECORDS)
    save(
        tmp_path / "own.json",
        [{"question": asked, "news": text, "answer": line, "input": "别的"} for text, line in pairs],
    )
    save(
        tmp_path / "prompts.json",
        [{"question": f"{text}\n{asked}", "answer": line, "input": "别的"} for text, line in pairs],
    )
    talks = [[("human", f"{INSTRUCTION}\n{text}"), ("gpt", line)] for text, line in pairs]
    save(
        tmp_path / "talk.json",
        [{"conversations": [{"from": role, "value": value} for role, value in talk]} for talk in talks],
    )
    turns = [[("system", "你是分析师"), ("user", f"{asked}\n{text}"), ("assistant", line)] for text, line in pairs]
    lines = [json.dumps({"messages": [{"role": role, "content": value} for role, value in talk]}) for talk in turns]
    (tmp_path / "messages.jsonl").write_text("\n".join(lines), encoding="utf-8")
    save(tmp_path / "dataset_info.json", ENTRIES)
    return tmp_path


@pytest.mark.parametrize("name", list(ENTRIES))
def test_each_layout_of_a_dataset_is_read(datasets, name):
    pd.testing.assert_frame_equal(read_labels(datasets, dataset=name), EXPECTED)
    pd.testing.assert_frame_equal(read_labels(datasets / "dataset_info.json", dataset=name), EXPECTED)


def test_one_of_several_datasets_must_be_named(datasets):
    with pytest.raises(InvalidValueError, match="article, columns, prompt, sharegpt, openai"):
        read_labels(datasets)
    with pytest.raises(InvalidValueError, match="'other'"):
        read_labels(datasets, dataset="other")
    save(datasets / "dataset_info.json", {"article": ARTICLE})
    assert len(read_labels(datasets)) == 2


def test_the_sha1_of_a_dataset_is_checked(datasets):
    found = hashlib.sha1((datasets / "labels.json").read_bytes()).hexdigest()
    save(datasets / "dataset_info.json", {"article": {**ARTICLE, "file_sha1": found.upper()}})
    assert len(read_labels(datasets)) == 2
    (datasets / "labels.json").write_text(json.dumps(RECORDS[:1]), encoding="utf-8")
    with pytest.raises(UnreadableFileError, match=f"file_sha1.*{found.upper()}"):
        read_labels(datasets)


def test_a_dataset_stays_in_its_folder(datasets):
    inner = datasets / "inner"
    inner.mkdir()
    (inner / "link.json").symlink_to(datasets / "labels.json")
    for name in ("../labels.json", str(datasets / "labels.json"), "link.json"):
        save(inner / "dataset_info.json", {"article": {"file_name": name}})
        with pytest.raises(UnreadableFileError, match="folder of dataset_info"):
            read_labels(inner)


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"hf_hub_url": "some/name"}, "local file"), ({"file_name": "labels.json", "script_url": "x"}, "local file"),
        ({**ARTICLE, "ranking": True}, "ranking"), ({"file_name": "none.json"}, "none.json"), (["x"], "local file"),
        ({**ARTICLE, "formatting": "other"}, "alpaca or sharegpt"), ({**ARTICLE, "columns": {"prompt": 1}}, "columns"),
    ],
)  # fmt: skip
def test_other_datasets_are_refused(datasets, entry, named):
    save(datasets / "dataset_info.json", {"one": entry})
    with pytest.raises(UnreadableFileError, match=named):
        read_labels(datasets)


@pytest.mark.parametrize(
    "line",
    [
        LINES[0].replace(",", "，"), LINES[0].replace(":", "："), LINES[0] + "。", f" \u3000{LINES[0]}\n", LINES[0].replace(",", " , "),
        LINES[0].replace(":", ": "), LINES[0].replace("、", "，"), LINES[0].replace("、", "；"), LINES[0].replace("、", " 、 "), "\ufeff" + LINES[0],
    ],
)  # fmt: skip
def test_full_width_marks_and_spaces_are_mended_and_counted(line, caplog):
    labels = read_labels([{"input": TEXTS[0], "output": line}, RECORDS[1]])
    pd.testing.assert_frame_equal(labels, EXPECTED)
    assert labels.attrs["mended"] == 1
    assert [record.name for record in caplog.records] == ["newsfactor"] and "1 of 2" in caplog.text


def test_cells_are_mended_too():
    table = as_text(EXPECTED).assign(market=["中国市场\u3000", "其他市场"], stocks=["海川重工，青禾生物", "无。"])
    labels = read_labels(table)
    pd.testing.assert_frame_equal(labels, EXPECTED)
    assert labels.attrs["mended"] == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (LINES[0].replace("一般正面", "中性"), "sentiment.*'中性'"), (LINES[0].replace("合同订单", "合同"), "event.*'合同'"),
        (LINES[0].replace(",行业:机械设备", ""), "must name 行业"), (LINES[0].replace("机械设备", ""), "行业.*empty"),
        (LINES[0].replace("海川重工", "远岫地产"), "'远岫地产'"), (LINES[0].replace(",", ";"), "wrong separator"),
        (LINES[0].replace(",", "、"), "wrong separator"), (LINES[0].replace("工、", "工,"), "wrong separator"),
        (LINES[0].replace("工、", "工/"), "wrong separator"), (LINES[0].replace("工、", "工 "), "wrong separator"),
        (LINES[0].replace("工、", "工;"), "wrong separator"), (LINES[0].replace("青禾生物", "海川重工"), "once"),
        (LINES[0].replace("海川重工、青禾生物", ""), "write 无"), (LINES[0].replace(",", "\n"), "wrong separator"),
        ("", "empty"), (" ", "empty"), (None, "text"), (3, "text"), (float("nan"), "text"),
    ],
)  # fmt: skip
def test_a_bad_answer_says_why(line, reason):
    with pytest.raises(TableError, match=rf"1 bad of 2.*record 1: .*{reason}"):
        read_labels([RECORDS[1], {"input": TEXTS[0], "output": line}])


def test_names_keep_the_marks_that_they_have_in_the_text():
    line = LINES[1].replace("关联:无", "关联:*ST 海川、A/B科技")
    assert mend_answer(line, "*ST 海川与A/B科技签约").stocks == ("*ST 海川", "A/B科技")


def test_a_label_may_hold_full_width_marks():
    own = Taxonomy(events=("涨，跌", "平"))
    line = LINES[1].replace("其他,", "涨，跌,", 1)
    labels = read_labels([{"input": "甲", "output": line}], taxonomy=own)
    assert labels["event"].tolist() == ["涨，跌"] and labels.attrs["mended"] == 0


def test_all_bad_records_are_listed():
    bad = [{"input": f"第{k}条", "output": LINES[0]} for k in range(11)]
    with pytest.raises(TableError, match=r"12 bad of 14.*record 1: .*record 10: .*and 2 more") as caught:
        read_labels([RECORDS[0], "text", *bad, RECORDS[1]])
    numbers, reasons = zip(*caught.value.problems, strict=True)
    assert numbers == tuple(range(1, 13))
    assert "object" in reasons[0] and all("海川重工" in reason for reason in reasons[1:])


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"output": LINES[1]}, "input"), ({"input": " \u200b", "output": LINES[1]}, "empty"), ({"input": 5, "output": LINES[1]}, "input"),
        ({"conversations": "x"}, "messages"), ({"conversations": [{"from": "human", "value": "甲"}]}, "one of gpt"),
        ({"conversations": [{"from": "human", "value": "甲"}, {"from": "gpt", "value": None}]}, "texts"),
        ({"conversations": [1, 2]}, "one of gpt"), ({"text": None, "event": "其他"}, "text"), ({"text": "甲", "event": 7}, "event"),
        ({"text": "甲", "event": "其他"}, "market"), ({**RECORDS[1], "published_at": "2026-07-06 09:30"}, "offset"),
        ({**RECORDS[1], "published_at": "soon"}, "offset"),
    ],
)  # fmt: skip
def test_a_bad_record_says_what_it_lacks(record, reason):
    with pytest.raises(TableError, match=rf"1 bad of 2.*record 1: .*{reason}"):
        read_labels([RECORDS[0], record])


def test_rows_of_a_sheet_are_named_as_excel_shows_them(tmp_path):
    good = as_text(EXPECTED).to_numpy().tolist()
    rows = [list(EXPECTED.columns), good[0], [None] * 6, [*good[1][:5], None], [*good[1][:4], 3, "无"], ["", None, " "]]
    with pytest.raises(TableError, match=r"2 bad of 3.*row 4: `stocks`.*无.*row 5: `sentiment`.*3") as caught:
        read_labels(save_sheet(tmp_path / "labels.xlsx", rows))
    assert [number for number, _ in caught.value.problems] == [4, 5]
    table = as_text(EXPECTED).assign(event=["合同", "其他"])
    table.to_csv(tmp_path / "labels.csv", index=False)
    for source, number in ((tmp_path / "labels.csv", 2), (table, 0)):
        with pytest.raises(TableError, match=f"row {number}: .*'合同'"):
            read_labels(source)


def test_one_text_has_one_answer():
    assert len(read_labels(RECORDS + RECORDS[:1])) == 3
    other = {**RECORDS[0], "output": LINES[0].replace("一般正面", "极度正面")}
    with pytest.raises(TableError, match=r"1 bad of 3.*record 2: the text of record 0 .*一般正面"):
        read_labels([*RECORDS, other])


def test_untagged_rows_are_left_out_and_counted(caplog):
    news = make_news([(name, "2026-07-06 08:00", "", f"青禾生物第{name}号公告。") for name in "abcd"])
    status = ["ok", "failed", "truncated", "empty"]
    event = ["公司动态", None, "产品研发", None]
    labels = read_labels(make_tags(news, status=status, event=event, stocks=[["青禾生物"], [], ["青禾生物"], []]))
    assert labels["news_id"].tolist() == ["a", "c"] and labels["event"].tolist() == ["公司动态", "产品研发"]
    assert labels["published_at"].tolist() == [pd.Timestamp("2026-07-06 08:00", tz=TIMEZONE)] * 2
    assert labels.attrs["left_out"] == 2 and "2 of 4 rows" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "error", "named"),
    [
        ("labels.json", "[{", UnreadableFileError, r"labels\.json"), ("labels.json", "{}", UnreadableFileError, "array"),
        ("labels.json", "[]", TableError, "at least one"), ("labels.json", "[" * 100_000, UnreadableFileError, r"labels\.json"),
        ("labels.jsonl", json.dumps(RECORDS[0]) + "\n{", UnreadableFileError, "after line 1"), ("labels.jsonl", "", TableError, "at least one"),
        ("labels.xlsx", "not a sheet", UnreadableFileError, "Excel"), ("labels.txt", "x", UnreadableFileError, "must end in"),
        ("dataset_info.json", "[]", UnreadableFileError, "object of datasets"),
    ],
)  # fmt: skip
def test_broken_files_are_named(tmp_path, name, content, error, named):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(error, match=named):
        read_labels(tmp_path / name)


@pytest.mark.parametrize("source", ["nowhere.json", "nowhere.csv"])
def test_a_missing_file_is_named(tmp_path, source):
    with pytest.raises(UnreadableFileError, match="nowhere"):
        read_labels(tmp_path / source)


def test_nothing_is_no_source():
    for source in ([], EXPECTED.head(0)):
        with pytest.raises(TableError, match="at least one"):
            read_labels(source)
    with pytest.raises(TableError, match="NoneType"):
        read_labels(None)


# Texts that a spreadsheet would take for a formula, an error or a number, and one with a line break and quotes.
AWKWARD = pd.DataFrame(
    {
        "news_id": ["007", "=2", None], "published_at": pd.to_datetime(["2026-07-06 09:30:00.125", None, "2026-01-01 00:00:00"], format="ISO8601").tz_localize(TIMEZONE).as_unit("us"),
        "story_id": ["1e5", "NA", "b"], "text": ["=HYPERLINK(\"x\",\"海川重工\")", "#N/A", "第一行\n第二行，\"引号\" <b>&amp;"],
        "event": ["合同订单", "其他", "其他"], "market": ["中国市场"] * 3, "industry": ["无"] * 3, "sentiment": ["轻微负面"] * 3,
        "stocks": [["海川重工"], [], []],
    }
).astype({name: "str" for name in ("news_id", "story_id", "text", "event", "market", "industry", "sentiment")})  # fmt: skip


@pytest.mark.parametrize("layout", ["alpaca", "sharegpt"])
@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".xlsx", ".parquet"])
def test_written_labels_read_back_exactly(tmp_path, suffix, layout):
    path = write_labels(AWKWARD, tmp_path / f"awkward{suffix}", layout=layout)
    for labels in (read_labels(path), read_labels(read_labels(path))):
        pd.testing.assert_frame_equal(labels, AWKWARD)
        assert labels.attrs["mended"] == 0
    expected = {path.name, "dataset_info.json"} if suffix.startswith(".json") else {path.name}
    assert {file.name for file in tmp_path.iterdir()} == expected
    if "dataset_info.json" in expected:
        pd.testing.assert_frame_equal(read_labels(tmp_path, dataset="awkward"), AWKWARD)


def test_cells_are_text_and_never_formulas(tmp_path):
    sheet = openpyxl.load_workbook(write_labels(AWKWARD, tmp_path / "awkward.xlsx")).active
    cells = [cell for row in sheet.iter_rows() for cell in row if cell.value is not None]
    assert {(cell.data_type, cell.number_format) for cell in cells} == {("s", "@")}
    assert sheet["D2"].value == AWKWARD["text"][0]


def load_as_llama_factory(folder, name):
    """(prompt, response) pairs by LLaMA-Factory's documented rules for its two layouts, in plain json."""
    entry = json.loads((folder / "dataset_info.json").read_bytes().decode("ascii"))[name]
    data = (folder / entry["file_name"]).read_bytes()
    assert hashlib.sha1(data).hexdigest() == entry["file_sha1"]
    jsonl = entry["file_name"].endswith(".jsonl")
    records = [json.loads(line) for line in data.splitlines()] if jsonl else json.loads(data)
    columns = entry["columns"]
    if entry.get("formatting", "alpaca") == "alpaca":
        return [
            (record[columns["prompt"]] + "\n" + record[columns["query"]], record[columns["response"]])
            for record in records
        ]
    tags, pairs = entry["tags"], []
    for record in records:
        user, assistant = record[columns["messages"]]
        assert (user[tags["role_tag"]], assistant[tags["role_tag"]]) == (tags["user_tag"], tags["assistant_tag"])
        pairs.append((user[tags["content_tag"]], assistant[tags["content_tag"]]))
    return pairs


@pytest.mark.parametrize("layout", ["alpaca", "sharegpt"])
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_llama_factory_reads_what_is_written(tmp_path, suffix, layout):
    write_labels(EXPECTED, tmp_path / f"labels{suffix}", dataset="新闻", layout=layout)
    pairs = [(f"{INSTRUCTION}\n{text}", line) for text, line in zip(TEXTS, LINES, strict=True)]
    assert load_as_llama_factory(tmp_path, "新闻") == pairs


def test_other_datasets_are_kept(tmp_path):
    write_labels(RECORDS, tmp_path / "first.json")
    write_labels(RECORDS[:1], tmp_path / "second.json", dataset="two", layout="sharegpt")
    write_labels(RECORDS[1:], tmp_path / "first.json")
    info = json.loads((tmp_path / "dataset_info.json").read_text())
    assert list(info) == ["first", "two"]
    assert [len(load_as_llama_factory(tmp_path, name)) for name in info] == [1, 1]


def test_no_entry_of_a_rewritten_file_is_left_with_an_old_sha1(tmp_path):
    write_labels(RECORDS, tmp_path / "labels.json", dataset="own")
    write_labels(RECORDS[:1], tmp_path / "labels.json")
    assert list(json.loads((tmp_path / "dataset_info.json").read_text())) == ["own"]
    assert len(read_labels(tmp_path)) == 1
    write_labels(RECORDS[1:], tmp_path / "labels.json", dataset="second")
    assert [len(read_labels(tmp_path, dataset=name)) for name in ("own", "second")] == [1, 1]


def test_a_broken_dataset_info_is_left_alone(tmp_path):
    (tmp_path / "dataset_info.json").write_text("{", encoding="utf-8")
    with pytest.raises(UnreadableFileError, match="dataset_info"):
        write_labels(RECORDS, tmp_path / "labels.json")
    assert [path.name for path in tmp_path.iterdir()] == ["dataset_info.json"]


def test_what_cannot_be_written_is_named(tmp_path):
    for name, named in (("labels.txt", "must end in"), ("dataset_info.json", "not be"), ("none/labels.csv", "folder")):
        with pytest.raises(InvalidValueError, match=named):
            write_labels(RECORDS, tmp_path / name)
    with pytest.raises(InvalidValueError, match="layout"):
        write_labels(RECORDS, tmp_path / "labels.json", layout="other")
    with pytest.raises(InvalidValueError, match=r"32767.*row 2"):
        write_labels([{"input": "长" * 32_768, "output": LINES[1]}], tmp_path / "labels.xlsx")
    with pytest.raises(TableError, match="1 bad of 1"):
        write_labels([{"input": "甲", "output": ""}], tmp_path / "labels.json")
    assert list(tmp_path.iterdir()) == []


def test_control_characters_and_half_characters_go(tmp_path):
    record = {
        "input": "\u202e海川\x00重工\ud800中标\uffff\n",
        "output": LINES[0].replace("、青禾生物", ""),
        "news_id": "a\x07",
    }
    labels = read_labels(write_labels([record], tmp_path / "labels.xlsx"))
    assert labels.loc[0, ["news_id", "text"]].tolist() == ["a", "海川重工中标"]


def test_reading_clean_labels_says_nothing(caplog):
    with caplog.at_level(logging.INFO, logger="newsfactor"):
        read_labels(RECORDS)
    assert caplog.records == []
