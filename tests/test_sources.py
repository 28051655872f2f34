"""The akshare adapters on hand-written answers of the real column form, and on a connection that is refused.

There is no network here: what a live source returns is not tested, only that a changed form is noticed.
"""

from __future__ import annotations

import datetime
import functools
import os
import time

import numpy as np
import pandas as pd
import pytest

from newsfactor.errors import InvalidValueError, SourceError
from newsfactor.schema import NEWS, PRICES, check
from newsfactor.securities import read_securities
from newsfactor.sessions import check_sessions, default_sessions
from newsfactor.tables import write_table

sources = pytest.importorskip("newsfactor.sources")

RECEIVED = pd.Timestamp("2026-07-14 10:00", tz="Asia/Shanghai")


@pytest.fixture
def refused(monkeypatch):
    """Every request goes to a local port on which nothing listens."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def timezone(monkeypatch):
    def move(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield move
    monkeypatch.undo()
    time.tzset()


def bars(**changes) -> pd.DataFrame:
    """000066 around its ex-date 2022-07-20, in the columns of stock_zh_a_hist (waditu/tushare issue 1805)."""
    columns = {
        "日期": [datetime.date(2022, 7, 19), datetime.date(2022, 7, 20)], "股票代码": ["000066", "000066"],
        "开盘": [9.48, 9.89], "收盘": [9.94, 9.88], "最高": [9.94, 9.95], "最低": [9.44, 9.76],
        "成交量": [345848, 230508], "成交额": [338989950.93, 227294143.17], "振幅": [5.28, 1.91],
        "涨跌幅": [4.96, -0.6], "涨跌额": [0.47, -0.06], "换手率": [1.18, 0.78],
    }  # fmt: skip
    columns.update(changes)
    return pd.DataFrame({name: values for name, values in columns.items() if values is not None})


def factors(*levels: tuple[str, str]) -> pd.DataFrame:
    table = pd.DataFrame(levels, columns=["date", "hfq_factor"])
    return table.assign(date=pd.to_datetime(table["date"]))


# The ratio of the ex-date is 9.94 over the exchange's reference price 9.89.
EX_DATE = factors(("2022-07-20", "2.0101112234580384"), ("1997-06-26", "2.0"), ("1900-01-01", "1.0"))


class TestPrices:
    def test_reference_price_on_an_ex_date(self):
        raw = bars()
        before = raw.copy()
        prices = sources.convert_prices(raw, EX_DATE)
        check(prices, PRICES)
        assert prices["code"].tolist() == ["000066.SZ", "000066.SZ"]
        assert prices["pre_close"].tolist() == [9.47, 9.89]
        assert prices[["open", "high", "low", "close"]].iloc[1].tolist() == [9.89, 9.95, 9.76, 9.88]
        pd.testing.assert_frame_equal(raw, before)

    def test_ex_date_on_the_first_bar_and_during_a_suspension(self):
        first = sources.convert_prices(bars().iloc[1:], EX_DATE)
        assert first["pre_close"].tolist() == [9.89]
        suspended = bars(日期=[datetime.date(2022, 7, 19), datetime.date(2022, 8, 1)])
        assert sources.convert_prices(suspended, EX_DATE)["pre_close"].tolist() == [9.47, 9.89]

    def test_no_event_means_the_last_close(self):
        prices = sources.convert_prices(bars(), factors(("1900-01-01", "1.0")))
        assert prices["pre_close"].tolist() == [9.47, 9.94]

    def test_half_cents_go_up(self):
        # A tenth of a share per share: 9.735 / 1.1 = 8.85; and 9.25 at 10 for 10 is 4.625, so 4.63.
        raw = bars(收盘=[9.25, 4.70], 开盘=[9.25, 4.70], 最高=[9.25, 4.70], 最低=[9.25, 4.70], 涨跌额=[0.0, -4.55])
        assert sources.convert_prices(raw, factors(("2022-07-20", "2"), ("1900-01-01", "1")))["pre_close"][1] == 4.63

    def test_circulating_value(self):
        # 3.390e8 yuan are 1.18 percent of it: 2.873e10; a turnover of 0.05 percent says too little.
        prices = sources.convert_prices(bars(换手率=[1.18, 0.05]), EX_DATE)
        assert prices["circ_mv"][0] == pytest.approx(2.8728e10, rel=1e-3)
        assert np.isnan(prices["circ_mv"][1])

    def test_no_bars_give_an_empty_table(self):
        empty = sources.convert_prices(pd.DataFrame(), pd.DataFrame())
        assert not len(check(empty, PRICES))

    @pytest.mark.parametrize(
        "column", ["日期", "股票代码", "开盘", "收盘", "最高", "最低", "成交额", "涨跌额", "换手率"]
    )
    def test_canary_names_the_column_that_vanished(self, column):
        with pytest.raises(
            SourceError,
            match=rf"`akshare.stock_zh_a_hist` must return the column '{column}', got \[.*; the source changed",
        ):
            sources.convert_prices(bars(**{column: None}), EX_DATE)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"开盘": [9.48, -1.0]}, r"plausible prices \(.*open.* must be positive, got -1.0 at .*2022-07-20"),
            ({"最低": [9.44, 9.99]}, r"plausible prices \(.*must not be below the low, got 9.95 at date 2022-07-20"),
            ({"收盘": [9.94, 11.0]}, "must close within the day's range, 000066.SZ 2022-07-20, got 11.0"),
            ({"涨跌额": ["0.47", "-0.06"]}, "must return numbers in '涨跌额', got '0.47'"),
            ({"换手率": [np.nan, np.nan]}, "must return numbers in '换手率', got"),
            ({"股票代码": ["指数", "指数"]}, r"plausible prices \(.*must be a share code.*got '指数'"),
        ],
    )  # fmt: skip
    def test_canary_on_values(self, changes, message):
        with pytest.raises(SourceError, match=message):
            sources.convert_prices(bars(**changes), EX_DATE)

    @pytest.mark.parametrize("wrong", [factors(), factors(("2022-07-20", "0")), factors(("2022-07-20", "x"))])
    def test_canary_on_factors(self, wrong):
        with pytest.raises(SourceError, match=r"`akshare.stock_zh_a_daily` must return dated positive factors, got \["):
            sources.convert_prices(bars(), wrong)
        with pytest.raises(SourceError, match=r"`akshare.stock_zh_a_daily` must return the column 'hfq_factor'"):
            sources.convert_prices(bars(), EX_DATE.drop(columns="hfq_factor"))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((["00700.HK"], "2026-01-05", "2026-01-09"), "`codes` must be A-shares, got '00700.HK'"),
            ((["900901"], "2026-01-05", "2026-01-09"), "`codes` must be A-shares, got '900901.SH'"),
            ((["茅台"], "2026-01-05", "2026-01-09"), "must be a share code such as .*, got '茅台'"),
            ((["600519"], "2026-01-32", "2026-01-09"), "`start` must be a date such as 2026-07-14, got '2026-01-32'"),
            ((["600519"], "2026-01-05", None), "`end` must be a date"),
            ((["600519"], "2026-01-09", "2026-01-05"), r"`start` must not be after end \(2026-01-05\), got"),
            ((["600519"], "2099-01-09", "2099-01-10"), r"`start` must not be after the last day with final"),
        ],
    )  # fmt: skip
    def test_refuses_arguments(self, tmp_path, arguments, message):
        with pytest.raises(InvalidValueError, match=message):
            sources.fetch_prices(*arguments, cache=tmp_path)
        assert not os.listdir(tmp_path)


class TestNews:
    CLS = pd.DataFrame({
        "标题": ["海川重工中标", ""], "内容": ["【海川重工中标】财联社7月14日电", "北辰电子涨停"],
        "发布日期": [datetime.date(2026, 7, 14)] * 2, "发布时间": [datetime.time(9, 30, 5), datetime.time(9, 31)],
    })  # fmt: skip
    EASTMONEY = pd.DataFrame({
        "标题": ["海川重工中标"], "摘要": ["今日公告"], "发布时间": ["2026-07-14 09:30:05"], "链接": ["https://finance.eastmoney.com/a/1.html"],
    })  # fmt: skip

    def test_cls(self):
        raw = self.CLS.copy()
        news = sources.convert_news(raw, source="cls", received_at=RECEIVED)
        check(news, NEWS)
        assert news["published_at"].map(str).tolist() == ["2026-07-14 09:30:05+08:00", "2026-07-14 09:31:00+08:00"]
        assert news["title"].tolist() == ["海川重工中标", ""]
        assert news["source"].tolist() == ["cls", "cls"]
        assert news["time_precision"].tolist() == ["second", "second"]
        assert (news["available_at"] == RECEIVED).all()
        pd.testing.assert_frame_equal(raw, self.CLS)

    def test_eastmoney(self):
        news = sources.convert_news(self.EASTMONEY, source="eastmoney", received_at=RECEIVED.tz_convert("UTC"))
        check(news, NEWS)
        assert news.loc[0, ["content", "url"]].tolist() == ["今日公告", "https://finance.eastmoney.com/a/1.html"]
        assert str(news.loc[0, "published_at"]) == "2026-07-14 09:30:05+08:00"
        assert str(news.loc[0, "available_at"]) == "2026-07-14 10:00:00+08:00"

    @pytest.mark.parametrize("name", ["UTC", "America/New_York", "Asia/Shanghai"])
    def test_ths_times_are_of_this_machine(self, timezone, name):
        timezone(name)
        second = 1783992605  # 2026-07-14 01:30:05 UTC
        text = datetime.datetime.fromtimestamp(second).strftime("%Y-%m-%d %H:%M:%S")  # as akshare does
        raw = pd.DataFrame({"标题": ["甲"], "内容": ["乙"], "发布时间": [text], "链接": ["x"]})
        news = sources.convert_news(raw, source="ths", received_at=RECEIVED)
        assert str(news.loc[0, "published_at"]) == "2026-07-14 09:30:05+08:00"
        assert news.loc[0, "published_at"].timestamp() == second

    def test_ids_do_not_depend_on_the_call(self):
        first = sources.convert_news(self.CLS, source="cls", received_at=RECEIVED)
        later = sources.convert_news(self.CLS, source="cls", received_at=RECEIVED + pd.Timedelta(hours=1))
        assert first["news_id"].tolist() == later["news_id"].tolist()
        kept = pd.concat([first, later]).drop_duplicates("news_id")
        assert len(kept) == 2
        assert (kept["available_at"] == RECEIVED).all()

    def test_repeated_rows_are_dropped(self):
        twice = pd.concat([self.CLS, self.CLS])
        assert len(sources.convert_news(twice, source="cls", received_at=RECEIVED)) == 2

    def test_a_clock_slightly_behind_is_no_error(self):
        news = sources.convert_news(self.CLS, source="cls", received_at=pd.Timestamp("2026-07-14 09:30:30+08:00"))
        assert news["available_at"].dt.strftime("%H:%M:%S").tolist() == ["09:30:30", "09:31:00"]

    @pytest.mark.parametrize(
        ("source", "column"), [("cls", "发布日期"), ("cls", "标题"), ("eastmoney", "摘要"), ("eastmoney", "发布时间")]
    )
    def test_canary_names_the_column_that_vanished(self, source, column):
        raw = (self.CLS if source == "cls" else self.EASTMONEY).drop(columns=column)
        function = sources.NEWS_FUNCTIONS[source]
        with pytest.raises(SourceError, match=rf"`akshare.{function}` must return the column '{column}', got \["):
            sources.convert_news(raw, source=source, received_at=RECEIVED)

    def test_canary_on_values(self):
        with pytest.raises(SourceError, match=r"global_cls` must return at least one item, got 0"):
            sources.convert_news(self.CLS.iloc[:0], source="cls", received_at=RECEIVED)
        early = RECEIVED - pd.Timedelta(hours=8)
        with pytest.raises(
            SourceError, match=r"from after 2026-07-14 02:00:00.*, got '2026-07-14 09:31:00.*'; check this"
        ):
            sources.convert_news(self.CLS, source="cls", received_at=early)
        wrong = self.EASTMONEY.assign(发布时间="刚刚")
        with pytest.raises(SourceError, match=r"global_em` must return readable items \(.*got '刚刚'"):
            sources.convert_news(wrong, source="eastmoney", received_at=RECEIVED)
        ths = pd.DataFrame({"标题": ["甲"], "内容": ["乙"], "发布时间": ["1783992605"], "链接": ["x"]})
        with pytest.raises(SourceError, match=r"global_ths` must return readable items \(.*, got '1783992605'"):
            sources.convert_news(ths, source="ths", received_at=RECEIVED)

    @pytest.mark.parametrize("wrong", [("sina",), (), "cls"])
    def test_refuses_sources(self, wrong):
        with pytest.raises(InvalidValueError, match="`sources` must be a list of some of cls, eastmoney, ths, got "):
            sources.fetch_news(sources=wrong)


def listing(exchange: str, **changes) -> pd.DataFrame:
    """A list of plausible length: the first rows by hand, the others filled up."""
    start, size = {"SH": (600001, 1600), "STAR": (688001, 550), "SZ": (1, 2600), "BJ": (920001, 260)}[exchange]
    prefix = "A股" if exchange == "SZ" else "证券"
    columns = {
        f"{prefix}代码": [f"{start + number:06d}" for number in range(size)],
        f"{prefix}简称": ["浦发银行", "万  科Ａ", "＊ST海川", *[f"股票{number}" for number in range(size - 3)]],
        "A股上市日期" if exchange == "SZ" else "上市日期": ["1999-11-10", None, *["2001-01-02"] * (size - 2)],
    }
    columns.update(changes)
    return pd.DataFrame({name: values for name, values in columns.items() if values is not None})


class TestSecurities:
    @pytest.mark.parametrize(
        ("exchange", "code"), [("SH", "600001.SH"), ("STAR", "688001.SH"), ("SZ", "000001.SZ"), ("BJ", "920001.BJ")]
    )
    def test_lists(self, exchange, code):
        table = sources.convert_securities(listing(exchange), exchange=exchange)
        assert table.loc[0, "code"] == code
        assert table["name"].tolist()[:3] == ["浦发银行", "万科A", "*ST海川"]
        assert str(table.loc[0, "list_date"]) == "1999-11-10 00:00:00"
        assert pd.isna(table.loc[1, "list_date"])

    def test_rows_without_an_a_share_are_left_out(self):
        raw = listing("SZ")
        raw.loc[5, "A股代码"] = ""
        assert len(sources.convert_securities(raw, exchange="SZ")) == len(raw) - 1

    def test_industries(self):
        raw = pd.DataFrame({
            "symbol": ["000001", "000001", "600519", "900901", "000003", "300750"],
            "start_date": ["2021-07-30", "1991-04-03", "2014-02-21", "2021-07-30", "2021-07-30", "2021-07-30"],
            "industry_code": ["480301", "440101", "340501", "710101", "990101", "630701"], "update_time": None,
        })  # fmt: skip
        table = sources.convert_industries(raw)
        assert dict(zip(table["code"], table["sw_l1"], strict=True)) == {
            "000001.SZ": "银行", "600519.SH": "食品饮料", "900901.SH": "计算机", "300750.SZ": "电力设备",
        }  # fmt: skip
        assert len(set(sources.SHENWAN.values())) == 31
        with pytest.raises(SourceError, match="must hold Shenwan 2021 codes in 'industry_code', got '990101'"):
            sources.convert_industries(raw.assign(industry_code="990101"))
        with pytest.raises(SourceError, match="hist_sw` must return the column 'industry_code'"):
            sources.convert_industries(raw.drop(columns="industry_code"))

    def test_read_securities_takes_the_result(self):
        shares = sources.convert_securities(listing("SH"), exchange="SH").assign(sw_l1="银行")
        securities = read_securities(shares)
        names = securities[(securities["code"] == "600001.SH") & (securities["kind"] == "short")]
        assert names["value"].tolist() == ["浦发银行"]

    def test_canaries(self):
        with pytest.raises(
            SourceError, match=r"stock_info_sz_name_code` must return the column 'A股简称', got \['A股代码'"
        ):
            sources.convert_securities(listing("SZ", A股简称=None), exchange="SZ")
        with pytest.raises(SourceError, match="sh_name_code` must list at least 1500 shares of SH, got 20"):
            sources.convert_securities(listing("SH").iloc[:20], exchange="SH")
        with pytest.raises(SourceError, match=r"must list each share of SZ once, got '600001.SH'"):
            sources.convert_securities(
                listing("SH").add_prefix("A股").rename(columns={"A股证券代码": "A股代码", "A股证券简称": "A股简称"}),
                exchange="SZ",
            )
        with pytest.raises(SourceError, match=r"must list each share of SH once, got '600001.SH'"):
            sources.convert_securities(pd.concat([listing("SH"), listing("SH").iloc[:1]]), exchange="SH")
        with pytest.raises(SourceError, match="must hold dates in '上市日期', got '未知'"):
            sources.convert_securities(listing("BJ").assign(上市日期="未知"), exchange="BJ")


class TestSessions:
    RAW = pd.DataFrame({"trade_date": default_sessions().date})

    def test_sessions_fit_the_library(self):
        days = sources.convert_sessions(self.RAW.sample(frac=1, random_state=0))
        assert days.equals(default_sessions())
        assert check_sessions(days).equals(default_sessions())

    @pytest.mark.parametrize(
        ("raw", "message"),
        [
            (pd.DataFrame({"day": []}), r"must return the column 'trade_date', got \['day'\]"),
            (RAW.iloc[:0], "must list dates from 1990-12-19 on, got None"),
            (RAW.iloc[1:], "must list dates from 1990-12-19 on, got '1990-12-20"),
            (RAW.drop(index=range(4000, 4020)), "must list working days without gaps of over 21 days, got '2007-"),
            (pd.concat([RAW, pd.DataFrame({"trade_date": [datetime.date(2026, 7, 11)]})]), "got '2026-07-11'"),
            (pd.DataFrame({"trade_date": ["x"]}), "must list dates from 1990-12-19 on"),
        ],
    )  # fmt: skip
    def test_canaries(self, raw, message):
        with pytest.raises(SourceError, match=message):
            sources.convert_sessions(raw)


class TestCache:
    def test_second_answer_comes_from_the_file(self, tmp_path):
        calls = []

        def produce() -> pd.DataFrame:
            calls.append(1)
            return pd.DataFrame({"date": default_sessions()[:3]})

        first = sources._cached("f", {"a": "1"}, produce, tmp_path / "deep")
        second = sources._cached("f", {"a": "1"}, produce, tmp_path / "deep")
        pd.testing.assert_frame_equal(first, second)
        assert len(calls) == 1
        sources._cached("f", {"a": "2"}, produce, tmp_path / "deep")
        assert len(calls) == 2
        assert len(os.listdir(tmp_path / "deep")) == 2

    def test_old_days_and_damaged_files_are_replaced(self, tmp_path):
        sources._cached("f", {}, lambda: pd.DataFrame({"a": [1]}), tmp_path)
        (name,) = os.listdir(tmp_path)
        old = name.replace(name[-18:-8], "2020-01-02")
        (tmp_path / name).rename(tmp_path / old)
        assert sources._cached("f", {}, lambda: pd.DataFrame({"a": [2]}), tmp_path)["a"].tolist() == [2]
        assert os.listdir(tmp_path) == [name]
        (tmp_path / name).write_bytes(b"PAR1 half a file")
        assert sources._cached("f", {}, lambda: pd.DataFrame({"a": [3]}), tmp_path)["a"].tolist() == [3]
        assert sources._cached("f", {}, lambda: pd.DataFrame({"a": [4]}), tmp_path)["a"].tolist() == [3]

    def test_fetch_functions_read_todays_file(self, tmp_path, monkeypatch, refused):
        monkeypatch.setenv("NEWSFACTOR_CACHE", str(tmp_path))
        sources._cached("fetch_sessions", {}, lambda: pd.DataFrame({"date": default_sessions()}), None)
        assert sources.fetch_sessions().equals(default_sessions())
        period = {"start_date": "20220719", "end_date": "20220720"}
        prices = sources.convert_prices(bars(), EX_DATE)
        sources._cached("fetch_prices", {"code": "000066.SZ", **period}, lambda: prices, None)
        fetched = sources.fetch_prices(["sz000066", "000066"], "2022-07-19", pd.Timestamp("2022-07-20 15:00"))
        pd.testing.assert_frame_equal(fetched, prices)

    def test_a_share_that_never_traded_is_an_error_only_alone(self, tmp_path):
        period = {"start_date": "20220719", "end_date": "20220720"}
        empty = sources.convert_prices(pd.DataFrame(), pd.DataFrame())
        sources._cached("fetch_prices", {"code": "600519.SH", **period}, lambda: empty, tmp_path)
        with pytest.raises(
            SourceError,
            match=r"`fetch_prices` must have traded, got \['600519.SH'\] at 2022-07-19 to 2022-07-20; check",
        ):
            sources.fetch_prices(["600519"], "2022-07-19", "2022-07-20", cache=tmp_path)
        prices = sources.convert_prices(bars(), EX_DATE)
        sources._cached("fetch_prices", {"code": "000066.SZ", **period}, lambda: prices, tmp_path)
        both = sources.fetch_prices(["600519", "000066"], "2022-07-19", "2022-07-20", cache=tmp_path)
        pd.testing.assert_frame_equal(both, prices)

    def test_refuses_a_file_as_folder(self, tmp_path):
        write_table(pd.DataFrame({"a": [1]}), tmp_path / "a.csv")
        with pytest.raises(
            InvalidValueError, match=r"`cache` must be a folder \(File exists\), got '.*a\.csv'; name another with"
        ):
            sources.fetch_sessions(cache=tmp_path / "a.csv")


class TestNetwork:
    def test_refused_connection_names_the_function(self, tmp_path, refused):
        for call, function in (
            (lambda: sources.fetch_news(sources=["eastmoney"], timeout=0.9), "stock_info_global_em"),
            (
                lambda: sources.fetch_prices(["600519"], "2026-01-05", "2026-01-06", cache=tmp_path, timeout=0.9),
                "stock_zh_a_hist",
            ),
            (lambda: sources.fetch_securities(cache=tmp_path, timeout=0.9), "stock_info_sh_name_code"),
            (lambda: sources.fetch_sessions(cache=tmp_path, timeout=0.9), "tool_trade_date_hist_sina"),
        ):
            with pytest.raises(
                SourceError,
                match=rf"`akshare.{function}` must answer, got 'ProxyError: .* at attempt 1; check the connection",
            ):
                call()
        assert not os.listdir(tmp_path)

    def test_akshares_own_endless_retries_are_cut(self, refused):
        began = time.monotonic()
        with pytest.raises(
            SourceError, match=r"stock_info_global_cls` must answer, got 'TimeoutError: no answer within 0\.[34] s'"
        ):
            sources.fetch_news(sources=["cls"], timeout=0.4)
        assert time.monotonic() - began < 5

    def test_three_attempts_within_the_time(self, monkeypatch):
        import akshare

        calls = []

        def flaky() -> pd.DataFrame:
            calls.append(time.monotonic())
            if len(calls) < 2:
                raise ConnectionResetError("reset by peer")
            return pd.DataFrame({"a": [1]})

        monkeypatch.setattr(akshare, "flaky", flaky, raising=False)
        assert len(sources._fetch("flaky", timeout=5.0)) == 1
        assert len(calls) == 2
        assert calls[1] - calls[0] >= 0.9

    def test_akshares_own_memory_is_bypassed(self, monkeypatch):
        import akshare

        days = iter([1, 2])
        remembered = functools.lru_cache(lambda: pd.DataFrame({"a": [next(days)]}))
        monkeypatch.setattr(akshare, "remembered", remembered, raising=False)
        assert [sources._fetch("remembered", timeout=1.0)["a"][0] for _ in range(2)] == [1, 2]

    def test_unreadable_answer_and_vanished_function(self, monkeypatch):
        import akshare

        def changed() -> pd.DataFrame:
            raise KeyError("klines")

        monkeypatch.setattr(akshare, "changed", changed, raising=False)
        with pytest.raises(
            SourceError,
            match=r"`akshare.changed` must be readable for akshare, got \"KeyError: 'klines'\"; the source changed",
        ):
            sources._fetch("changed", timeout=1.0)
        with pytest.raises(SourceError, match=r"`akshare.gone` must exist in this version of akshare, got '1"):
            sources._fetch("gone", timeout=1.0)

    def test_every_function_exists_in_akshare(self):
        import akshare

        names = [*sources.NEWS_FUNCTIONS.values(), *(entry[0] for entry in sources._LISTS.values())]
        names += ["stock_zh_a_hist", "stock_zh_a_daily", "stock_industry_clf_hist_sw", "tool_trade_date_hist_sina"]
        assert [name for name in names if not callable(getattr(akshare, name, None))] == []
