"""Reading and writing tables: real files on disk, hand-written answers, every refusal with value and place."""

from __future__ import annotations

import datetime
import hashlib
import json
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from newsfactor.errors import InvalidValueError, TableError, UnreadableFileError
from newsfactor.schema import NEWS, PRICES, TIME_TYPE, check
from newsfactor.tables import read_news, read_prices, read_table, write_table

SHANGHAI = "Asia/Shanghai"


def news_frame(**changes) -> pd.DataFrame:
    columns = {
        "news_id": ["a", "b"],
        "published_at": ["2026-07-14 09:30:05+08:00", "2026-07-14T10:00:00+08:00"],
        "title": ["海川重工中标", ""],
        "content": ["", "北辰电子涨停"],
        "source": ["cls", "ths"],
    }
    columns.update(changes)
    return pd.DataFrame({name: values for name, values in columns.items() if values is not None})


def price_frame(**changes) -> pd.DataFrame:
    columns = {
        "date": ["2026-07-13", "2026-07-14"],
        "code": ["600519", "000001.SZ"],
        "open": [10.0, 20.0],
        "high": [11.0, 22.0],
        "low": [9.0, 19.0],
        "close": [10.5, 21.0],
        "pre_close": [10.0, 20.5],
    }
    columns.update(changes)
    return pd.DataFrame({name: values for name, values in columns.items() if values is not None})


class TestReadTable:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
    def test_csv_keeps_text_in_each_encoding(self, tmp_path, encoding):
        path = tmp_path / "a.csv"
        path.write_bytes("代码,名称,收盘\n000001,平安银行,\n600519,NA,1.50\n".encode(encoding))
        frame = read_table(path, parameter="x")
        assert list(frame.columns) == ["代码", "名称", "收盘"]
        assert frame["代码"].tolist() == ["000001", "600519"]
        assert frame["名称"].tolist() == ["平安银行", "NA"]
        assert pd.isna(frame["收盘"][0])
        assert frame["收盘"][1] == "1.50"

    def test_json_and_jsonl_and_parquet_agree(self, tmp_path):
        records = [{"title": "海川重工", "n": 1}, {"title": "北辰电子", "n": 2}]
        (tmp_path / "a.json").write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
        lines = "\r\n".join(json.dumps(record) for record in records) + "\n\n"
        (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
        pd.DataFrame(records).to_parquet(tmp_path / "a.parquet")
        expected = pd.DataFrame(records)
        for suffix in ("json", "jsonl", "parquet"):
            pd.testing.assert_frame_equal(read_table(str(tmp_path / f"a.{suffix}")), expected, obj=suffix)

    def test_frame_is_copied_and_named_index_becomes_columns(self):
        source = pd.DataFrame({"close": [1.0]}, index=pd.MultiIndex.from_tuples([("d", "c")], names=["date", "code"]))
        before = source.copy()
        read = read_table(source, parameter="x")
        assert list(read.columns) == ["date", "code", "close"]
        read.loc[0, "close"] = 9.0
        pd.testing.assert_frame_equal(source, before)

    def test_half_surrogates_in_json_are_dropped(self, tmp_path):
        (tmp_path / "a.json").write_text('[{"title": "涨\\ud83d停"}]', encoding="utf-8")
        assert read_table(tmp_path / "a.json")["title"].tolist() == ["涨停"]

    def test_refuses_paths(self, tmp_path):
        with pytest.raises(UnreadableFileError, match=r"`news` must be a readable file \(No such file.*gone\.csv"):
            read_table(tmp_path / "gone.csv", parameter="news")
        (tmp_path / "folder.csv").mkdir()
        with pytest.raises(UnreadableFileError, match=r"must be a file, not a folder, got '.*folder\.csv'; read its"):
            read_table(tmp_path / "folder.csv")
        with pytest.raises(
            UnreadableFileError, match=r"must end in \.csv, \.json, \.jsonl or \.parquet, got '.*a\.xls'"
        ):
            read_table(tmp_path / "a.xls")
        with pytest.raises(TableError, match=r"`prices` must be a DataFrame or the path of a file, got 'list'"):
            read_table([1], parameter="prices")

    @pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "parquet"])
    def test_refuses_empty_file(self, tmp_path, suffix):
        path = tmp_path / f"a.{suffix}"
        path.touch()
        with pytest.raises(UnreadableFileError, match=rf"must not be empty \(0 bytes\), got '.*a\.{suffix}'"):
            read_table(path)

    @pytest.mark.parametrize("keep", [0.02, 0.5, 0.99])
    def test_refuses_truncated_parquet(self, tmp_path, keep):
        path = tmp_path / "a.parquet"
        pd.DataFrame({"a": range(1000)}).to_parquet(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])
        with pytest.raises(UnreadableFileError, match=r"must be a whole Parquet file \(.+\), got '.*a\.parquet'"):
            read_table(path)

    def test_refuses_corrupt_parquet_pages(self, tmp_path):
        path = tmp_path / "a.parquet"
        pd.DataFrame({"a": [f"文本{n}" for n in range(5000)]}).to_parquet(path, compression="zstd")
        data = bytearray(path.read_bytes())
        data[40:400] = bytes(360)
        path.write_bytes(bytes(data))
        with pytest.raises(UnreadableFileError, match="must be a whole Parquet file"):
            read_table(path)

    @pytest.mark.parametrize(
        ("name", "text", "message"),
        [
            ("a.json", '[{"a": 1},', r"must be valid json \(.*line 1 column"),
            ("a.json", '{"a": [1]}', "must be a json array of records, not dict"),
            ("a.json", '[{"a": 1}, 7]', r"must hold records \(json objects\) only, got '.*a\.json' at record 1"),
            ("a.jsonl", '{"a": 1}\n\n{"a": ', r"must hold a json record a line .* at line 3"),
            ("a.jsonl", '{"a": 1}\n[2]\n', r"must hold records .* at line 2"),
            ("a.csv", "a,b\n1,2\n1,2,3\n", r"must be comma-separated \(.*Expected 2 fields in line 3, saw 3"),
            ("a.csv", 'a,b\n1,"2\n', r"must be comma-separated \(.*EOF inside string"),
            ("a.csv", "a,b\n1,2,3\n4,5,6\n", "must have as many fields as its header.* at every row; quote fields"),
            ("a.csv", "\n\n", "must be comma-separated"),
        ],
    )
    def test_refuses_text_that_does_not_parse(self, tmp_path, name, text, message):
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(UnreadableFileError, match=message):
            read_table(tmp_path / name)

    def test_damaged_utf8_is_not_taken_for_gb18030(self, tmp_path):
        data = "标题,内容\n海川重工中标,今日公告称中标大单\n".encode()
        (tmp_path / "a.csv").write_bytes(data[:-2])
        with pytest.raises(
            UnreadableFileError, match=r"must be UTF-8 or GB18030 text, got '.*' at byte \d+; the file is"
        ):
            read_table(tmp_path / "a.csv")
        (tmp_path / "b.csv").write_bytes(b"\xff\xfea\x00,\x00")
        with pytest.raises(UnreadableFileError, match="at byte 0"):
            read_table(tmp_path / "b.csv")

    @settings(max_examples=50, deadline=None)
    @given(text=st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5), min_size=1, max_size=20))
    def test_gb18030_text_survives(self, tmp_path_factory, text):
        path = tmp_path_factory.mktemp("gb") / "a.csv"
        path.write_bytes(f"标题\n{text}\n".encode("gb18030"))
        read = read_table(path)
        # A few short GB texts are sound UTF-8 as well; then there is no telling.
        try:
            expected = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            expected = f"标题\n{text}\n"
        assert [read.columns[0], *read.iloc[:, 0]] == expected.splitlines()


class TestReadNews:
    def test_own_columns(self):
        source = news_frame(level=["A", "B"])
        before = source.copy()
        news = read_news(source)
        assert list(news.columns) == [*NEWS.columns, "level"]
        assert news["published_at"].dtype == news["available_at"].dtype == TIME_TYPE
        assert news["published_at"].map(str).tolist() == ["2026-07-14 09:30:05+08:00", "2026-07-14 10:00:00+08:00"]
        assert (news["available_at"] == news["published_at"]).all()
        assert news["time_precision"].tolist() == ["second", "second"]
        assert news["title"].tolist() == ["海川重工中标", ""]
        assert isinstance(news.index, pd.RangeIndex)
        assert all(isinstance(news[name].dtype, pd.StringDtype) for name in ("news_id", "title", "content", "source"))
        pd.testing.assert_frame_equal(source, before)

    def test_chinese_columns_of_stock_news_em(self):
        raw = pd.DataFrame({
            "关键词": ["600519"], "新闻标题": ["标题一"], "新闻内容": ["内容一"],
            "发布时间": ["2026-07-14 09:30:00"], "文章来源": ["证券时报"], "新闻链接": ["http://x/1"],
        })  # fmt: skip
        news = read_news(raw, timezone=SHANGHAI)
        assert news.loc[0, ["title", "content", "source", "关键词"]].tolist() == [
            "标题一",
            "内容一",
            "证券时报",
            "600519",
        ]
        identity = "\x1f".join(["证券时报", "2026-07-14T09:30:00+08:00", "标题一", "内容一"])
        assert news.loc[0, "news_id"] == hashlib.sha1(identity.encode()).hexdigest()

    def test_date_and_clock_columns_are_joined(self):
        raw = pd.DataFrame({
            "标题": ["甲", "乙", "丙"],
            "发布日期": [datetime.date(2026, 7, 14)] * 3,
            "发布时间": [datetime.time(9, 30, 5), datetime.time(15, 0), None],
        })  # fmt: skip
        news = read_news(raw, timezone=SHANGHAI)
        assert news["published_at"].dt.strftime("%d %H:%M:%S").tolist() == ["14 09:30:05", "14 15:00:00", "14 00:00:00"]
        assert news["time_precision"].tolist() == ["second", "second", "day"]
        assert not {"发布日期", "发布时间"} & set(news.columns)
        typed = raw.assign(发布日期=pd.to_datetime(raw["发布日期"]))
        pd.testing.assert_frame_equal(read_news(typed, timezone=SHANGHAI), news)
        missing = raw.assign(发布日期=[None, *raw["发布日期"][1:]])
        with pytest.raises(TableError, match=r"news\['published_at'\]` must not be missing, got None at row 0"):
            read_news(missing, timezone=SHANGHAI)

    def test_date_beside_full_time_is_ambiguous(self):
        raw = pd.DataFrame({"标题": ["甲"], "日期": ["2026-07-14"], "时间": ["2026-07-14 09:30:00"]})
        with pytest.raises(
            TableError, match=r"must hold one column for 'published_at', got \['日期', '时间'\]; name the"
        ):
            read_news(raw, timezone=SHANGHAI)
        news = read_news(raw, timezone=SHANGHAI, columns={"时间": "published_at"})
        assert news.loc[0, "time_precision"] == "second"
        assert news.loc[0, "日期"] == "2026-07-14"

    @pytest.mark.parametrize(
        ("text", "expected", "precision"),
        [
            ("2026-07-14 09:30:05", "2026-07-14T09:30:05", "second"),
            ("2026/7/4 9:30", "2026-07-04T09:30:00", "minute"),
            ("2026.07.14", "2026-07-14T00:00:00", "day"),
            ("2026年7月14日", "2026-07-14T00:00:00", "day"),
            ("2026年7月14日09:30", "2026-07-14T09:30:00", "minute"),
            ("20260714", "2026-07-14T00:00:00", "day"),
            ("20260714093005", "2026-07-14T09:30:05", "second"),
            ("2026-07-14T09:30:05.123456", "2026-07-14T09:30:05.123456", "second"),
            (20260714, "2026-07-14T00:00:00", "day"),
            ("2026-07-14T01:30:05Z", "2026-07-14T09:30:05", "second"),
            ("2026-07-13 21:30:05-0400", "2026-07-14T09:30:05", "second"),
            (datetime.datetime(2026, 7, 14, 9, 30, 5), "2026-07-14T09:30:05", "second"),
            (datetime.date(2026, 7, 14), "2026-07-14T00:00:00", "day"),
            (pd.Timestamp("2026-07-14 01:30:05", tz="UTC"), "2026-07-14T09:30:05", "second"),
        ],
    )
    def test_time_forms(self, text, expected, precision):
        source = pd.DataFrame({"title": ["甲", "乙"], "time": pd.Series([text, "2026-07-01 12:00:01"], dtype=object)})
        news = read_news(source, timezone=SHANGHAI)
        assert news.loc[0, "published_at"] == pd.Timestamp(expected, tz=SHANGHAI)
        assert news.loc[0, "time_precision"] == precision

    @settings(max_examples=40, deadline=None)
    @given(
        when=st.datetimes(datetime.datetime(1990, 12, 20), datetime.datetime(2099, 12, 30)),
        hours=st.integers(-11, 12),
    )
    def test_offsets_mean_the_same_instant(self, when, hours):
        aware = when.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=hours)))
        source = pd.DataFrame({"title": ["甲", "乙"], "time": [aware.isoformat(), "2026-07-01 12:00:01Z"]})
        assert read_news(source).loc[0, "published_at"].timestamp() == pytest.approx(aware.timestamp(), abs=1e-5)

    def test_typed_columns(self):
        times = pd.Series(pd.to_datetime(["2026-07-14 01:30:05", "2026-07-14 02:00:00"]))
        aware = read_news(news_frame(published_at=times.dt.tz_localize("UTC").dt.as_unit("ns")))
        assert aware["published_at"].dt.strftime("%H:%M:%S").tolist() == ["09:30:05", "10:00:00"]
        naive = read_news(news_frame(published_at=times), timezone="UTC")
        assert (naive["published_at"] == aware["published_at"]).all()
        with pytest.raises(
            TableError, match=r"must have a timezone, got '2026-07-14 01:30:05' at news_id a \(row 0\); name"
        ):
            read_news(news_frame(published_at=times))

    def test_all_midnights_are_days(self):
        midnights = pd.Series(pd.to_datetime(["2026-07-13", "2026-07-14"]))
        naive = read_news(news_frame(published_at=midnights), timezone=SHANGHAI)
        stored_in_utc = read_news(news_frame(published_at=midnights.dt.tz_localize(SHANGHAI).dt.tz_convert("UTC")))
        for news in (naive, stored_in_utc):
            assert news["time_precision"].tolist() == ["day", "day"]
            assert news["published_at"].dt.strftime("%m-%d %H:%M").tolist() == ["07-13 00:00", "07-14 00:00"]
        one_at_midnight = ["2026-07-14 00:00:00+08:00", "2026-07-14 10:00:00+08:00"]
        assert read_news(news_frame(published_at=one_at_midnight))["time_precision"].tolist() == ["second", "second"]

    def test_a_foreign_day_is_the_shanghai_day_in_which_it_ends(self):
        # 14 July in New York ends at noon of the 15th in Shanghai; in Tokyo at 23:00 of the 14th.
        days = ["2026-07-14", "2026-07-15"]
        new_york = read_news(news_frame(published_at=days), timezone="America/New_York")
        assert new_york["published_at"].dt.strftime("%m-%d %H").tolist() == ["07-15 00", "07-16 00"]
        tokyo = read_news(news_frame(published_at=days), timezone="Asia/Tokyo")
        assert tokyo["published_at"].dt.strftime("%m-%d %H").tolist() == ["07-14 00", "07-15 00"]

    def test_given_precision_wins_and_gaps_are_inferred(self):
        news = read_news(news_frame(time_precision=["day", None]))
        assert news["time_precision"].tolist() == ["day", "second"]
        with pytest.raises(
            TableError, match=r"time_precision'\]` must be one of second, minute, day, got 'hour' at news_id b"
        ):
            read_news(news_frame(time_precision=["day", "hour"]))

    def test_available_at(self):
        news = read_news(news_frame(available_at=["2026-07-14 09:31:00+08:00", None]))
        assert news["available_at"].dt.strftime("%H:%M:%S").tolist() == ["09:31:00", "10:00:00"]
        with pytest.raises(
            TableError,
            match=r"must not be before published_at, got '2026-07-14 09:59:59\+08:00' at news_id b \(row 1\)",
        ):
            read_news(news_frame(available_at=[None, "2026-07-14 09:59:59+08:00"]))

    def test_available_on_a_date_means_when_that_date_is_over(self):
        news = read_news(news_frame(available_at=["2026-07-14", "2026-07-15"]), timezone=SHANGHAI)
        assert news["available_at"].dt.strftime("%m-%d %H").tolist() == ["07-15 00", "07-16 00"]
        days = read_news(
            news_frame(published_at=["2026-07-14"] * 2, available_at=["2026-07-14"] * 2), timezone=SHANGHAI
        )
        assert (days["available_at"] == days["published_at"]).all()

    def test_available_at_midnight_is_a_time(self):
        news = read_news(news_frame(available_at=["2026-07-14", "2026-07-14"]), timezone=SHANGHAI)
        assert news["available_at"].dt.strftime("%m-%d %H:%M").tolist() == ["07-15 00:00", "07-15 00:00"]
        pd.testing.assert_frame_equal(read_news(news), news)

    def test_text_of_control_characters_and_blanks_is_empty(self):
        assert read_news(news_frame(title=[" \x1b", "\u200b\n"]))["title"].tolist() == ["", ""]

    def test_texts(self):
        content = ["a\x00b\u200bc\ufeff\tx\n", float("nan")]
        news = read_news(news_frame(title=pd.Series([None, 12], dtype=object), content=content, source=[None, " "]))
        assert news["title"].tolist() == ["", "12"]
        assert news["content"].tolist() == ["abc\tx\n", ""]
        assert news["source"].tolist() == ["unknown", "unknown"]
        with pytest.raises(TableError, match=r"news\['title'\]` must be text, got \['甲'\] at news_id b \(row 1\)"):
            read_news(news_frame(title=["甲", ["甲"]]))

    def test_title_alone_and_content_alone(self):
        assert read_news(news_frame(content=None))["content"].tolist() == ["", ""]
        assert read_news(news_frame(title=None))["title"].tolist() == ["", ""]
        summary = read_news(news_frame(content=None, 摘要=["甲", "乙"]))
        assert summary["content"].tolist() == ["甲", "乙"]
        beside = read_news(news_frame(摘要=["甲", "乙"]))
        assert beside["content"].tolist() == ["", "北辰电子涨停"]
        assert beside["摘要"].tolist() == ["甲", "乙"]

    def test_ids(self):
        derived = read_news(news_frame(news_id=None, url=["http://x"] * 2))
        again = read_news(news_frame(news_id=None).iloc[::-1])
        assert derived["news_id"].tolist() == again["news_id"].tolist()[::-1]
        assert derived["news_id"].nunique() == 2
        assert derived["news_id"].str.fullmatch("[0-9a-f]{40}").all()
        partly = read_news(news_frame(news_id=["x", None]))
        assert partly["news_id"].tolist() == ["x", derived["news_id"][1]]
        assert read_news(news_frame(news_id=[7, 12]))["news_id"].tolist() == ["7", "12"]
        assert read_news(news_frame(news_id=[7.0, np.nan]))["news_id"][0] == "7"

    def test_refuses_repeated_ids(self):
        same = pd.concat([news_frame(), news_frame()])
        with pytest.raises(TableError, match=r"must name each news once, got 'a' at rows 0 and 2; drop_duplicates\(\)"):
            read_news(same)
        without_id = same.drop(columns="news_id")
        with pytest.raises(TableError, match=r"must name each news once, got '[0-9a-f]{40}' at rows 0 and 2; drop_dup"):
            read_news(without_id)
        changed = news_frame(news_id=["a", "a"])
        with pytest.raises(
            TableError, match=r"got 'a' at rows 0 and 1; these rows differ: versions of one news are not"
        ):
            read_news(changed)

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("2026-02-30", r"must be a date or a time such as .*, got '2026-02-30' at news_id b \(row 1\)"),
            ("2026-07-14 24:00:00", "got '2026-07-14 24:00:00' at news_id b"),
            ("2026-07-14 09:61", "got '2026-07-14 09:61' at news_id b"),
            ("2026-07-14 09:30:00+25:00", r"got '2026-07-14 09:30:00\+25:00' at news_id b"),
            ("7/14/2026", "got '7/14/2026' at news_id b"),
            ("09:30:00", "got '09:30:00' at news_id b"),
            ("昨天", "got '昨天' at news_id b"),
            (1784000000, r"got 1784000000 at news_id b \(row 1\); epoch seconds need pandas.to_datetime"),
            (None, r"must not be missing, got None at news_id b \(row 1\)"),
            (" ", r"must not be missing, got ' ' at news_id b"),
            ("1990-12-18", r"must lie within 1990-12-19 and 2099-12-31, got '1990-12-18' at news_id b"),
            ("2100-01-01 00:00:00", "must lie within .*, got '2100-01-01 00:00:00' at news_id b"),
        ],
    )
    def test_refuses_times(self, value, message):
        source = news_frame(published_at=pd.Series(["2026-07-14 09:30:00", value], dtype=object))
        with pytest.raises(TableError, match=r"`news\['published_at'\]` .*" + message):
            read_news(source, timezone=SHANGHAI)

    def test_refuses_missing_typed_time(self):
        times = pd.Series([pd.NaT, pd.Timestamp("2026-07-14 09:30")])
        with pytest.raises(TableError, match=r"must not be missing, got None at news_id a \(row 0\)"):
            read_news(news_frame(published_at=times), timezone=SHANGHAI)

    def test_refuses_naive_and_unknown_timezone(self):
        naive = news_frame(published_at=["2026-07-14 09:30:05+08:00", "2026-07-14 10:00"])
        with pytest.raises(
            TableError,
            match=r"must have a timezone, got '2026-07-14 10:00' at news_id b \(row 1\); name it with timezone=",
        ):
            read_news(naive)
        for wrong in ("Asia/Peking", "", "America", 8):
            with pytest.raises(
                InvalidValueError, match=rf"`timezone` must be an IANA name such as Asia/Shanghai, got {wrong!r}"
            ):
                read_news(news_frame(), timezone=wrong)

    @pytest.mark.parametrize("time", ["2026-03-08 02:30:00", "2026-11-01 01:30:00"])
    def test_refuses_clock_changes(self, time):
        source = news_frame(published_at=["2026-07-14 09:30:00", time])
        with pytest.raises(
            TableError, match=rf"must occur exactly once in America/New_York .*, got '{time}' at news_id b"
        ):
            read_news(source, timezone="America/New_York")

    def test_refuses_columns(self):
        with pytest.raises(
            TableError,
            match=r"needs the column 'published_at' \(NEWS\), got \['news_id', 'title'.*; name it with columns=",
        ):
            read_news(news_frame(published_at=None))
        with pytest.raises(TableError, match=r"needs the column 'title' or 'content' \(NEWS\), got \['news_id'"):
            read_news(news_frame(title=None, content=None))
        with pytest.raises(TableError, match=r"must hold one column for 'title', got \['标题', 'Headline'\]"):
            read_news(news_frame(title=None, 标题=["x", "y"], Headline=["x", "y"]))
        twice = news_frame()
        twice.columns = ["news_id", "published_at", "title", "title", "source"]
        with pytest.raises(TableError, match="`news` must name each column once, got 'title'"):
            read_news(twice)

    def test_column_mapping(self):
        source = news_frame(title=None, Überschrift=["x", "y"])
        assert read_news(source, columns={"Überschrift": "title"})["title"].tolist() == ["x", "y"]
        with pytest.raises(
            TableError, match="`columns` must name columns that exist, got 'Uberschrift'; did you mean 'Überschrift'"
        ):
            read_news(source, columns={"Uberschrift": "title"})
        with pytest.raises(
            TableError, match="`columns` must map to NEWS columns, got 'titel' at 'Überschrift'; they are available_at"
        ):
            read_news(source, columns={"Überschrift": "titel"})
        with pytest.raises(TableError, match=r"must hold one column for 'content', got \['content'\]"):
            read_news(source, columns={"Überschrift": "content"})
        with pytest.raises(TableError, match="must name each of our columns once, got 'title' at 'source'"):
            read_news(source, columns={"Überschrift": "title", "source": "title"})

    def test_refuses_no_rows(self, tmp_path):
        (tmp_path / "a.csv").write_text("title,time\n", encoding="utf-8")
        with pytest.raises(TableError, match=r"`news` must hold at least one row, got \['title', 'time'\]"):
            read_news(tmp_path / "a.csv")
        (tmp_path / "a.json").write_text("[]", encoding="utf-8")
        with pytest.raises(TableError, match="`prices` must hold at least one row"):
            read_prices(tmp_path / "a.json")

    @settings(max_examples=25, deadline=None)
    @given(
        rows=st.lists(
            st.tuples(
                st.text(max_size=8), st.text(max_size=8),
                st.datetimes(datetime.datetime(1991, 12, 20), datetime.datetime(2099, 12, 30)),
                st.integers(0, 10**6), st.sampled_from(["second", "minute", "day", None]),
            ), min_size=1, max_size=5, unique_by=lambda row: (row[0], row[2]),
        )
    )  # fmt: skip
    def test_reading_twice_changes_nothing(self, tmp_path_factory, rows):
        source = pd.DataFrame(rows, columns=["title", "content", "published_at", "delay", "time_precision"])
        source["news_id"] = [f"n{number}" for number in range(len(source))]
        source["available_at"] = source["published_at"] + pd.to_timedelta(source["delay"], unit="s")
        news = read_news(source, timezone=SHANGHAI)
        pd.testing.assert_frame_equal(read_news(news), news)
        path = tmp_path_factory.mktemp("news") / "news.parquet"
        write_table(news, path)
        pd.testing.assert_frame_equal(read_news(path), news)

    def test_csv_round_trip(self, tmp_path):
        news = read_news(news_frame(available_at=["2026-07-14", None]), timezone=SHANGHAI)
        write_table(news, tmp_path / "news.csv")
        pd.testing.assert_frame_equal(read_news(tmp_path / "news.csv"), news)


class TestReadPrices:
    def test_own_columns(self):
        source = price_frame(name=["贵州茅台", "平安银行"])
        before = source.copy()
        prices = read_prices(source)
        assert list(prices.columns) == [*PRICES.columns, "name"]
        assert prices["code"].tolist() == ["600519.SH", "000001.SZ"]
        assert prices["date"].dtype == "datetime64[us]"
        assert str(prices["date"][0]) == "2026-07-13 00:00:00"
        assert prices[["amount", "circ_mv"]].isna().all(axis=None)
        assert (prices[["open", "high", "low", "close", "pre_close", "amount", "circ_mv"]].dtypes == "float64").all()
        pd.testing.assert_frame_equal(source, before)

    def test_chinese_csv(self, tmp_path):
        header = "日期,股票代码,开盘,最高,最低,收盘,昨收,成交额,流通市值\n"
        (tmp_path / "a.csv").write_bytes((header + "2026/7/14,000001,10,11,9,10.5,10,123.5,-\n").encode("gb18030"))
        row = read_prices(tmp_path / "a.csv").iloc[0]
        assert row["code"] == "000001.SZ"
        assert row["date"] == pd.Timestamp("2026-07-14")
        assert row[["open", "high", "low", "close", "pre_close", "amount"]].tolist() == [10, 11, 9, 10.5, 10, 123.5]
        assert np.isnan(row["circ_mv"])

    @pytest.mark.parametrize(
        "dates",
        [
            pd.to_datetime(["2026-07-13", "2026-07-14"]),
            pd.to_datetime(["2026-07-13", "2026-07-14"]).tz_localize(SHANGHAI),
            [datetime.date(2026, 7, 13), datetime.date(2026, 7, 14)],
            [20260713, 20260714],
            ["2026年7月13日", "2026年7月14日"],
            pd.Categorical(["2026-07-13", "2026-07-14"]),
            pd.Categorical([datetime.date(2026, 7, 13), datetime.date(2026, 7, 14)]),
        ],
    )
    def test_date_forms(self, dates):
        assert read_prices(price_frame(date=dates))["date"].dt.strftime("%m-%d").tolist() == ["07-13", "07-14"]

    def test_pre_close_from_percent(self):
        prices = read_prices(price_frame(pre_close=None, close=[11.0, 21.0], pct_chg=[10.0, np.nan]))
        assert prices["pre_close"][0] == pytest.approx(10.0)
        assert np.isnan(prices["pre_close"][1])
        named = read_prices(
            price_frame(pre_close=None, close=[11.0, 19.0], 涨跌幅=["10", "-5"]), columns={"涨跌幅": "pct_chg"}
        )
        assert named["pre_close"].tolist() == pytest.approx([10.0, 20.0])
        with pytest.raises(TableError, match=r"needs the column 'pre_close' or 'pct_chg' .*涨跌幅.*; columns="):
            read_prices(price_frame(pre_close=None, 涨跌幅=[10.0, 1.0]))
        with pytest.raises(
            TableError, match=r"pct_chg'\]` must be above -100 percent, got -100.0 at date 2026-07-14, code 000001.SZ"
        ):
            read_prices(price_frame(pre_close=None, pct_chg=[1.0, -100.0]))

    def test_float32_and_nan_and_nullable(self):
        single = price_frame().astype({name: "float32" for name in ("open", "high", "low", "close", "pre_close")})
        assert read_prices(single)["open"].tolist() == [10.0, 20.0]
        suspended = read_prices(
            price_frame(open=[np.nan, 20.0], high=[np.nan, 22.0], low=[np.nan, 19.0], close=[None, 21.0])
        )
        assert suspended["open"].isna().tolist() == suspended["close"].isna().tolist() == [True, False]
        nullable = read_prices(price_frame(amount=pd.array([1, None], dtype="Int64")))
        assert nullable["amount"][0] == 1.0
        assert np.isnan(nullable["amount"][1])

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"open": [10.0, 0.0]}, r"open'\]` must be positive, got 0.0 at .*code 000001.SZ \(row 1\); set"),
            ({"low": [-9.0, 19.0]}, r"prices\['low'\]` must be positive, got -9.0 at .* code 600519.SH \(row 0\)"),
            ({"pre_close": [0.0, 1.0]}, r"prices\['pre_close'\]` must be positive, got 0.0 at .* \(row 0\)"),
            ({"high": [11.0, 18.0]}, r"high'\]` must not be below the low, got 18.0 at .* code 000001.SZ \(row 1\)"),
            ({"amount": [1.0, -1.0]}, r"prices\['amount'\]` must not be negative, got -1.0 at .* \(row 1\)"),
            ({"close": [10.0, np.inf]}, r"close'\]` must be finite, got inf at date 2026-07-14, code 000001.SZ"),
            ({"close": ["10", "1,000"]}, r"prices\['close'\]` must be a number, got '1,000' at date 2026-07-14"),
            ({"close": [True, False]}, r"prices\['close'\]` must be a number, got True at date 2026-07-13"),
            ({"date": ["2026-02-30"] * 2}, r"date'\]` must be a date .*, got '2026-02-30' at code 600519 \(row 0"),
            ({"date": ["2026-07-14", None]}, r"date'\]` must not be missing, got None at code 000001.SZ \(row 1\)"),
            ({"date": ["2026-07-14 15:00"] * 2}, r"without a time of day, got '2026-07-14 15:00' at code 600519"),
            ({"date": ["1990-12-18"] * 2}, r"within 1990-12-19 and 2099-12-31, got '1990-12-18' at code 600519"),
            ({"code": ["600519", None]}, r"code'\]` must not be missing, got None at date 2026-07-14 \(row 1\)"),
            ({"code": ["600519", "茅台"]}, r"code'\]` must be a share code .*'茅台' at date 2026-07-14 \(row 1\)"),
            ({"code": [600519, 1]}, r"code'\]` must be text, got 600519 at date 2026-07-13 \(row 0\); read codes as"),
            ({"open": None}, r"`prices` needs the column 'open' \(PRICES\), got \['date', 'code'"),
            ({"code": None}, r"`prices` needs the column 'code' \(PRICES\)"),
        ],
    )  # fmt: skip
    def test_refuses(self, changes, message):
        with pytest.raises(TableError, match=message):
            read_prices(price_frame(**changes))

    def test_leaves_out_what_is_no_share_and_counts_it(self):
        with pytest.warns(UserWarning, match=r"1 codes are no shares and their 1 rows .*510300\.SH"):
            prices = read_prices(price_frame(code=["600519", "510300.SH"]))
        assert prices["code"].tolist() == ["600519.SH"]

    def test_refuses_repeated_keys_however_written(self):
        source = price_frame(date=["2026-07-14", "20260714"], code=["600519", "sh.600519"])
        with pytest.raises(
            TableError, match=r"must hold each \(date, code\) once, got \('2026-07-14', '600519.SH'\) at rows 0 and 1"
        ):
            read_prices(source)

    @settings(max_examples=25, deadline=None)
    @given(
        closes=st.lists(st.floats(0.01, 1e5), min_size=1, max_size=6),
        changes=st.lists(st.floats(-30, 30), min_size=6, max_size=6),
    )
    def test_pre_close_compounds_back_to_percent(self, closes, changes):
        size = len(closes)
        source = pd.DataFrame({
            "date": pd.date_range("2026-07-13", periods=size).strftime("%Y%m%d"), "code": "600519",
            "open": closes, "close": closes, "pct_chg": changes[:size],
        })  # fmt: skip
        prices = read_prices(source)
        assert ((prices["close"] / prices["pre_close"] - 1) * 100).tolist() == pytest.approx(changes[:size], abs=1e-9)
        pd.testing.assert_frame_equal(read_prices(prices), prices)


class TestWriteTable:
    def test_parquet_is_zstd_and_round_trips(self, tmp_path):
        import pyarrow.parquet as pq

        prices = read_prices(price_frame()).set_index(pd.Index([5, 9]))
        write_table(prices, tmp_path / "a.parquet")
        assert pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0).column(0).compression == "ZSTD"
        pd.testing.assert_frame_equal(read_table(tmp_path / "a.parquet"), prices.reset_index(drop=True))

    def test_csv_writes_lists_as_json(self, tmp_path):
        tags = pd.DataFrame({"news_id": ["a", "b"], "stocks": [["荣盛发展", "万科A"], []]})
        write_table(tags, str(tmp_path / "a.csv"))
        assert [json.loads(text) for text in read_table(tmp_path / "a.csv")["stocks"]] == [["荣盛发展", "万科A"], []]
        assert tags["stocks"][0] == ["荣盛发展", "万科A"]

    def test_empty_frame(self, tmp_path):
        empty = read_prices(price_frame()).iloc[:0]
        write_table(empty, tmp_path / "a.parquet")
        check(read_table(tmp_path / "a.parquet"), PRICES)

    def test_a_failed_write_leaves_the_old_file(self, tmp_path):
        path = tmp_path / "a.parquet"
        write_table(pd.DataFrame({"a": [1]}), path)
        with pytest.raises(Exception, match=r"Conversion failed for column a|Could not convert"):
            write_table(pd.DataFrame({"a": [object()]}), path)
        assert read_table(path)["a"].tolist() == [1]
        assert os.listdir(tmp_path) == ["a.parquet"]

    def test_an_open_reader_keeps_the_old_file(self, tmp_path):
        path = tmp_path / "a.csv"
        write_table(pd.DataFrame({"a": [1]}), path)
        with open(path, encoding="utf-8") as reader:
            write_table(pd.DataFrame({"a": [2]}), path)
            assert reader.read() == "a\n1\n"
        assert path.read_text(encoding="utf-8") == "a\n2\n"

    def test_file_mode_follows_the_umask(self, tmp_path):
        (tmp_path / "plain").touch()
        write_table(pd.DataFrame({"a": [1]}), tmp_path / "a.csv")
        assert (tmp_path / "a.csv").stat().st_mode == (tmp_path / "plain").stat().st_mode

    def test_refuses_paths(self, tmp_path):
        with pytest.raises(InvalidValueError, match=r"`path` must end in \.parquet or \.csv, got '.*a\.xlsx'"):
            write_table(pd.DataFrame(), tmp_path / "a.xlsx")
        with pytest.raises(InvalidValueError, match=r"`path` must lie in an existing folder, got '.*gone/a\.csv'"):
            write_table(pd.DataFrame(), tmp_path / "gone" / "a.csv")
        (tmp_path / "b.csv").mkdir()
        with pytest.raises(InvalidValueError, match=r"`path` must be writable \(Is a directory\), got '.*b\.csv'"):
            write_table(pd.DataFrame({"a": [1]}), tmp_path / "b.csv")
        assert os.listdir(tmp_path) == ["b.csv"]
