"""akshare adapters for securities, prices, news and sessions; their answers are checked before they are used.

Each ``fetch_*`` asks the network and hands the raw frame to a pure ``convert_*``. A canary in each conversion
checks the columns and that the values are plausible, so that a source that changed its form is an error that says
how, not a wrong table.
"""

from __future__ import annotations

import datetime
import hashlib
import inspect
import json
import queue
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import akshare
import numpy as np
import pandas as pd
from akshare.exceptions import APIError, NetworkError, RateLimitError

from newsfactor.codes import board_of, normalize_code
from newsfactor.errors import InvalidValueError, SourceError, TableError, UnreadableFileError
from newsfactor.schema import DATE_TYPE, NEWS, PRICES, TIME_TYPE, TIMEZONE, check
from newsfactor.sessions import FIRST_SESSION
from newsfactor.tables import cache_folder, read_news, read_prices, read_table, write_table

NEWS_FUNCTIONS = {
    "cls": "stock_info_global_cls",
    "eastmoney": "stock_info_global_em",
    "ths": "stock_info_global_ths",
}
# The first two digits of a Shenwan 2021 code are its level 1. Source: the 2021 standard of Shenwan Hongyuan Research.
SHENWAN = {
    "11": "农林牧渔", "22": "基础化工", "23": "钢铁", "24": "有色金属", "27": "电子", "28": "汽车", "33": "家用电器",
    "34": "食品饮料", "35": "纺织服饰", "36": "轻工制造", "37": "医药生物", "41": "公用事业", "42": "交通运输",
    "43": "房地产", "45": "商贸零售", "46": "社会服务", "48": "银行", "49": "非银金融", "51": "综合", "61": "建筑材料",
    "62": "建筑装饰", "63": "电力设备", "64": "机械设备", "65": "国防军工", "71": "计算机", "72": "传媒", "73": "通信",
    "74": "煤炭", "75": "石油石化", "76": "环保", "77": "美容护理",
}  # fmt: skip
_ATTEMPTS = 3
_NETWORK_ERRORS = (OSError, NetworkError, RateLimitError, APIError)
_UNREACHABLE = "check the connection and proxy, wait if the source limits requests, or raise timeout="
_CHANGED = "the source changed its form: upgrade akshare"
_NEWS_COLUMNS = {
    "cls": ("标题", "内容", "发布日期", "发布时间"),
    "eastmoney": ("标题", "摘要", "发布时间", "链接"),
    "ths": ("标题", "内容", "发布时间", "链接"),
}
# Per list: akshare's function, its argument, its code, name and listing-date columns, and the fewest
# shares that the whole list has held since 2025; fewer is an answer cut short.
_LISTS: dict[str, tuple[str, dict[str, str], tuple[str, str, str], int]] = {
    "SH": ("stock_info_sh_name_code", {"symbol": "主板A股"}, ("证券代码", "证券简称", "上市日期"), 1500),
    "STAR": ("stock_info_sh_name_code", {"symbol": "科创板"}, ("证券代码", "证券简称", "上市日期"), 500),
    "SZ": ("stock_info_sz_name_code", {"symbol": "A股列表"}, ("A股代码", "A股简称", "A股上市日期"), 2500),
    "BJ": ("stock_info_bj_name_code", {}, ("证券代码", "证券简称", "上市日期"), 200),
}
_BARS = ("日期", "股票代码", "开盘", "收盘", "最高", "最低", "成交额", "涨跌额", "换手率")


def fetch_securities(*, cache: str | Path | None = None, timeout: float = 60.0) -> pd.DataFrame:
    """All A-shares listed today with their Shenwan level-1 industry, for ``read_securities``.

    Names and industries are today's: for news of the past, give ``read_securities`` observed names too.

    Parameters
    ----------
    cache : path, optional
        Folder of cached answers, kept for a day; else the environment's ``NEWSFACTOR_CACHE``, else
        ``~/.cache/newsfactor``.
    timeout : float
        Seconds for each of the five requests, retries included.

    Returns
    -------
    DataFrame
        ``code`` (``600519.SH``), ``name``, ``list_date``, ``sw_l1`` (NaN where Shenwan has not placed the share).

    Raises
    ------
    SourceError
        If a list cannot be fetched or changed its form.
    """

    def produce() -> pd.DataFrame:
        lists = [
            convert_securities(_fetch(function, timeout=timeout, **arguments), exchange=exchange)
            for exchange, (function, arguments, _, _) in _LISTS.items()
        ]
        industries = convert_industries(_fetch("stock_industry_clf_hist_sw", timeout=timeout))
        return pd.concat(lists, ignore_index=True).merge(industries, on="code", how="left")

    return _cached("fetch_securities", {}, produce, cache)


def convert_securities(raw: pd.DataFrame, *, exchange: str) -> pd.DataFrame:
    """One exchange's list of shares from akshare's ``stock_info_*_name_code``.

    Parameters
    ----------
    raw : DataFrame
        The answer; for ``SZ`` in the columns A股代码, A股简称, A股上市日期, else 证券代码, 证券简称, 上市日期.
    exchange : {"SH", "STAR", "SZ", "BJ"}
        Whose list it is.

    Returns
    -------
    DataFrame
        ``code``, ``name`` (full-width forms made narrow, blanks removed), ``list_date`` (NaT if missing).

    Raises
    ------
    SourceError
        If a column vanished, a code is not of that exchange or twice, or the list is far too short.
    """
    function, _, columns, fewest = _LISTS[exchange]
    _expect_columns(raw, columns, function)
    code, name, listed = (raw[column] for column in columns)
    traded = code.astype(str).str.fullmatch(r"\d{6}")
    table = pd.DataFrame({
        "code": _normalize(code[traded], function),
        "name": name[traded].map(lambda text: "".join(unicodedata.normalize("NFKC", str(text)).split())).astype("str"),
        "list_date": pd.to_datetime(listed[traded], errors="coerce").astype(DATE_TYPE),
    }).reset_index(drop=True)  # fmt: skip
    wrong = ~table["code"].str.endswith(exchange if exchange != "STAR" else "SH") | table["code"].duplicated()
    if wrong.any():
        raise _changed(function, table.loc[wrong, "code"].iloc[0], f"must list each share of {exchange} once")
    if len(table) < fewest:
        raise _changed(function, len(table), f"must list at least {fewest} shares of {exchange}")
    if table["list_date"].isna().mean() > 0.05:
        raise _changed(function, listed.iloc[0], f"must hold dates in {columns[2]!r}")
    return table


def convert_industries(raw: pd.DataFrame) -> pd.DataFrame:
    """Each share's present Shenwan level-1 industry from akshare's ``stock_industry_clf_hist_sw``.

    Parameters
    ----------
    raw : DataFrame
        ``symbol`` (six digits), ``start_date``, ``industry_code`` (six digits): one row per change.

    Returns
    -------
    DataFrame
        ``code``, ``sw_l1``: that of the last start; codes and industries that are no longer in use are left out.

    Raises
    ------
    SourceError
        If a column vanished or fewer than half of the shares have an industry of the 2021 standard.
    """
    function = "stock_industry_clf_hist_sw"
    _expect_columns(raw, ("symbol", "start_date", "industry_code"), function)
    dated = raw.assign(start_date=pd.to_datetime(raw["start_date"], errors="coerce"))
    last = dated.sort_values("start_date", kind="stable").drop_duplicates("symbol", keep="last")
    industry = last["industry_code"].astype(str).str[:2].map(SHENWAN)
    if industry.notna().mean() < 0.5:
        raise _changed(function, last["industry_code"].iloc[0], "must hold Shenwan 2021 codes in 'industry_code'")
    codes = last["symbol"].map(_code_or_none)
    table = pd.DataFrame({"code": codes, "sw_l1": industry}).dropna().astype("str")
    return table.sort_values("code", ignore_index=True)


def fetch_prices(
    codes: Iterable[str],
    start: str | pd.Timestamp,
    end: str | pd.Timestamp,
    *,
    cache: str | Path | None = None,
    timeout: float = 60.0,
) -> pd.DataFrame:
    """Daily prices of A-shares from Eastmoney, with reference prices by Sina's adjustment factors.

    Two requests per share (akshare's ``stock_zh_a_hist`` and ``stock_zh_a_daily``); an interrupted call goes on
    where it stopped, from the cache. Today's bar is taken only after 15:30 Shanghai time: before, it is not final.

    Parameters
    ----------
    codes : iterable of str
        In any form that :func:`newsfactor.codes.normalize_code` knows; A-shares only.
    start, end : str or Timestamp
        First and last date, both included.
    cache, timeout
        As for :func:`fetch_securities`.

    Returns
    -------
    DataFrame
        PRICES, by code and date. Days without trading have no row, and a share that did not trade at all has none;
        see :func:`convert_prices` for ``pre_close`` and ``circ_mv``.

    Raises
    ------
    InvalidValueError
        If a code is no A-share or the dates are none or out of order.
    SourceError
        If a request fails, an answer changed its form, or no share has any price.
    """
    first, last = _check_period(start, end)
    wanted = list(dict.fromkeys(normalize_code(code) for code in codes))
    for code in wanted:
        if board_of(code) == "hongkong" or code[:3] in ("200", "201", "900"):
            raise InvalidValueError("codes", code, "must be A-shares")
    parts = [_fetch_share(code, first, last, cache, timeout) for code in wanted]
    found = [part for part in parts if len(part)]
    if not found:
        period = f"{first:%Y-%m-%d} to {last:%Y-%m-%d}"
        raise SourceError("fetch_prices", wanted, "must have traded", period, "check the codes and the dates")
    return check(pd.concat(found, ignore_index=True), PRICES, parameter="prices")


def convert_prices(raw: pd.DataFrame, factors: pd.DataFrame) -> pd.DataFrame:
    """One share's unadjusted bars of ``stock_zh_a_hist`` and Sina's factors as PRICES.

    The 涨跌额 of these bars is counted from the last close even on ex-dates (000066, 2022-07-20: −0.06 where
    the exchange has −0.01), so 收盘 − 涨跌额 is the last close and not the reference price. It becomes that by
    the ratio of the adjustment factors of the two days, rounded to the cent as exchanges do.

    Parameters
    ----------
    raw : DataFrame
        Columns 日期, 股票代码, 开盘, 收盘, 最高, 最低, 成交额 (yuan), 涨跌额, 换手率 (percent).
    factors : DataFrame
        ``stock_zh_a_daily(adjust="hfq-factor")``: ``date`` from which ``hfq_factor`` holds.

    Returns
    -------
    DataFrame
        PRICES, by date. ``circ_mv`` is 成交额 / 换手率, good to a few percent (换手率 has two decimals) and NaN
        below a turnover of 0.1 percent. ``raw`` without rows gives an empty table.

    Raises
    ------
    SourceError
        If a column vanished, the factors are none, a price is implausible, or a close is outside its day's range.
    """
    function = "stock_zh_a_hist"
    if not len(raw):
        return pd.DataFrame({name: pd.Series(dtype=_DTYPES[kind]) for name, kind in PRICES.columns.items()})
    _expect_columns(raw, _BARS, function)
    _expect_columns(factors, ("date", "hfq_factor"), "stock_zh_a_daily")
    bars = raw[list(_BARS)].sort_values("日期", ignore_index=True)
    for column in ("收盘", "成交额", "涨跌额", "换手率"):
        if not pd.api.types.is_numeric_dtype(bars[column].dtype) or bars[column].isna().all():
            raise _changed(function, bars[column].iloc[0], f"must return numbers in {column!r}")
    adjusted = _reference_prices(bars, factors)
    turnover = bars["换手率"].where(bars["换手率"] >= 0.1)
    bars = bars.assign(pre_close=adjusted, circ_mv=bars["成交额"] / (turnover / 100)).drop(columns=["涨跌额", "换手率"])
    try:
        prices = read_prices(bars)
    except TableError as error:
        raise _changed(function, error.value, f"must return plausible prices ({error})") from error
    outside = (prices["close"] > prices["high"]) | (prices["close"] < prices["low"])
    if outside.any():
        row = prices[outside].iloc[0]
        raise _changed(
            function, float(row["close"]), f"must close within the day's range, {row['code']} {row['date']:%Y-%m-%d}"
        )
    return prices


def fetch_news(*, sources: Sequence[str] = ("cls", "eastmoney", "ths"), timeout: float = 60.0) -> pd.DataFrame:
    """The latest items of the news wires; call it every few minutes and keep what it returns.

    The wires hand out only their last 20 (财联社, 同花顺) to 200 (东方财富) items, and not the past. The news is not
    cached. ``available_at`` is the time of this call: what an item said before is unknown. Of an item that
    several calls return unchanged, keep the first: ``pd.concat(calls).drop_duplicates("news_id")``.

    Parameters
    ----------
    sources : sequence of {"cls", "eastmoney", "ths"}
        财联社, 东方财富, 同花顺.
    timeout : float
        Seconds for each source, retries included.

    Returns
    -------
    DataFrame
        NEWS, source by source; ``url`` where the source gives one.

    Raises
    ------
    InvalidValueError
        If a source is unknown or none is named.
    SourceError
        If a source cannot be fetched or changed its form.
    """
    if isinstance(sources, str) or not sources or set(sources) - set(NEWS_FUNCTIONS):
        raise InvalidValueError("sources", sources, f"must be a list of some of {', '.join(NEWS_FUNCTIONS)}")
    tables = []
    for source in dict.fromkeys(sources):
        raw = _fetch(NEWS_FUNCTIONS[source], timeout=timeout)
        tables.append(convert_news(raw, source=source, received_at=pd.Timestamp.now(TIMEZONE)))
    return check(pd.concat(tables, ignore_index=True), NEWS, parameter="news")


def convert_news(raw: pd.DataFrame, *, source: str, received_at: pd.Timestamp) -> pd.DataFrame:
    """One wire's answer as NEWS.

    Parameters
    ----------
    raw : DataFrame
        The answer of akshare's function for this source, see ``NEWS_FUNCTIONS``. akshare writes the times of
        同花顺 in this machine's timezone, the others in Shanghai time.
    source : {"cls", "eastmoney", "ths"}
        Which wire.
    received_at : Timestamp
        When the answer came, timezone-aware; ``available_at`` of every item.

    Returns
    -------
    DataFrame
        NEWS. Repeated rows are dropped.

    Raises
    ------
    SourceError
        If a column vanished, there are no rows, a time cannot be read, or an item is dated over ten minutes
        after ``received_at`` (a wrong timezone or clock).
    """
    function = NEWS_FUNCTIONS[source]
    _expect_columns(raw, _NEWS_COLUMNS[source], function)
    table = raw[list(_NEWS_COLUMNS[source])].drop_duplicates().rename(columns={"链接": "url"})
    if not len(table):
        raise _changed(function, 0, "must return at least one item")
    try:
        if source == "ths":
            table["发布时间"] = _from_machine_time(table["发布时间"])
        news = read_news(table.assign(source=source, time_precision="second"), timezone=TIMEZONE)
    except (TableError, ValueError) as error:
        value = error.value if isinstance(error, TableError) else table["发布时间"].iloc[0]
        raise _changed(function, value, f"must return readable items ({error})") from error
    received = received_at.tz_convert(TIMEZONE).as_unit("us")
    newest = news["published_at"].max()
    if newest > received + pd.Timedelta(minutes=10):
        requirement, remedy = f"must not return news from after {received}", "check this machine's clock and timezone"
        raise SourceError(f"akshare.{function}", str(newest), requirement, remedy=remedy)
    ahead = news["published_at"] > received
    news["available_at"] = news["published_at"].where(ahead, received).astype(TIME_TYPE)
    return news


def fetch_sessions(*, cache: str | Path | None = None, timeout: float = 60.0) -> pd.DatetimeIndex:
    """The trading days of the Shanghai exchange from Sina, for every ``sessions=``.

    Parameters
    ----------
    cache, timeout
        As for :func:`fetch_securities`.

    Returns
    -------
    DatetimeIndex
        From 1990-12-19 to the end of the last year that the exchange has announced.

    Raises
    ------
    SourceError
        If the list cannot be fetched or changed its form.
    """

    def produce() -> pd.DataFrame:
        return convert_sessions(_fetch("tool_trade_date_hist_sina", timeout=timeout)).to_frame(index=False, name="date")

    return pd.DatetimeIndex(_cached("fetch_sessions", {}, produce, cache)["date"], name=None).as_unit("us")


def convert_sessions(raw: pd.DataFrame) -> pd.DatetimeIndex:
    """akshare's ``tool_trade_date_hist_sina`` (``trade_date``) as sorted sessions.

    Raises
    ------
    SourceError
        If the column vanished, the first day is not 1990-12-19, or a day is no date, at a weekend, or more than
        21 days after the one before (the longest pause was 20 days, in 1999).
    """
    function = "tool_trade_date_hist_sina"
    _expect_columns(raw, ("trade_date",), function)
    days = pd.DatetimeIndex(pd.to_datetime(raw["trade_date"], errors="coerce").astype(DATE_TYPE)).unique().sort_values()
    if days.hasnans or not len(days) or days[0] != FIRST_SESSION:
        raise _changed(function, str(days[0]) if len(days) else None, "must list dates from 1990-12-19 on")
    gaps = np.append(np.diff(days.to_numpy()) > np.timedelta64(21, "D"), False)
    odd = gaps | (days.day_of_week > 4)
    if odd.any():
        raise _changed(function, str(days[odd][0])[:10], "must list working days without gaps of over 21 days")
    return days.rename(None)


_DTYPES = {"date": DATE_TYPE, "text": "str", "number": "float64"}


def _check_period(start: str | pd.Timestamp, end: str | pd.Timestamp) -> tuple[pd.Timestamp, pd.Timestamp]:
    """First and last day; the last is cut to the last day whose bar is final."""
    days = []
    for name, value in (("start", start), ("end", end)):
        try:
            day = pd.Timestamp(value)
        except (ValueError, TypeError) as error:
            raise InvalidValueError(name, value, "must be a date such as 2026-07-14") from error
        if pd.isna(day) or day.tz is not None:
            raise InvalidValueError(name, value, "must be a date without a timezone")
        days.append(day.normalize())
    if days[0] > days[1]:
        raise InvalidValueError("start", str(start), f"must not be after end ({days[1]:%Y-%m-%d})")
    now = pd.Timestamp.now(TIMEZONE).tz_localize(None)
    final = now.normalize() if now.time() >= pd.Timestamp("15:30").time() else now.normalize() - pd.Timedelta(days=1)
    if days[0] > final:
        raise InvalidValueError(
            "start", str(start), f"must not be after the last day with final prices ({final:%Y-%m-%d})"
        )
    return days[0], min(days[1], final)


def _fetch_share(
    code: str, first: pd.Timestamp, last: pd.Timestamp, cache: str | Path | None, timeout: float
) -> pd.DataFrame:
    period = {"start_date": f"{first:%Y%m%d}", "end_date": f"{last:%Y%m%d}"}

    def produce() -> pd.DataFrame:
        bars = _fetch("stock_zh_a_hist", timeout=timeout, symbol=code[:6], period="daily", adjust="", **period)
        if not len(bars):
            return convert_prices(bars, bars)
        symbol = f"{code[-2:].lower()}{code[:6]}"
        factors = _fetch("stock_zh_a_daily", timeout=timeout, symbol=symbol, adjust="hfq-factor")
        return convert_prices(bars, factors)

    return _cached("fetch_prices", {"code": code, **period}, produce, cache)


def _reference_prices(bars: pd.DataFrame, factors: pd.DataFrame) -> pd.Series:
    function = "stock_zh_a_daily"
    table = factors.assign(date=pd.to_datetime(factors["date"], errors="coerce").astype(DATE_TYPE))
    table = table.assign(factor=pd.to_numeric(table["hfq_factor"], errors="coerce")).sort_values("date")
    if not len(table) or table[["date", "factor"]].isna().any(axis=None) or (table["factor"] <= 0).any():
        raise _changed(function, factors["hfq_factor"].tolist(), "must return dated positive factors")
    days = pd.to_datetime(bars["日期"], errors="coerce").astype(DATE_TYPE)
    # The day before the first bar stands for the bar before it, which was not fetched.
    previous = days.shift().fillna(days - pd.Timedelta(days=1))
    dates, levels = table["date"].to_numpy(), np.append(1.0, table["factor"].to_numpy())
    now, before = (levels[np.searchsorted(dates, when.to_numpy(), side="right")] for when in (days, previous))
    last_close = (bars["收盘"] - bars["涨跌额"]).round(4)
    # Half cents go up, as at the exchanges; round() alone takes them to even.
    reference: pd.Series = np.floor(last_close * before / now * 100 + 0.5 + 1e-6) / 100
    return reference


def _from_machine_time(texts: pd.Series) -> pd.Series:
    """akshare's ``datetime.fromtimestamp`` undone: local texts as aware times."""
    return texts.map(lambda text: datetime.datetime.strptime(text, "%Y-%m-%d %H:%M:%S").astimezone().isoformat())


def _normalize(codes: pd.Series, function: str) -> pd.Series:
    try:
        return codes.map(normalize_code).astype("str")
    except InvalidValueError as error:
        raise _changed(function, error.value, "must return share codes") from error


def _code_or_none(code: str) -> str | None:
    try:
        return normalize_code(code)
    except InvalidValueError:
        return None


def _expect_columns(raw: pd.DataFrame, columns: Sequence[str], function: str) -> None:
    for column in columns:
        if not isinstance(raw, pd.DataFrame) or column not in raw.columns:
            found = [str(name) for name in getattr(raw, "columns", [])]
            raise _changed(function, found, f"must return the column {column!r}")


def _changed(function: str, value: object, requirement: str) -> SourceError:
    return SourceError(f"akshare.{function}", value, requirement, remedy=_CHANGED)


def _fetch(function: str, *, timeout: float, **arguments: Any) -> pd.DataFrame:
    """Call one akshare function, again after a pause where the network failed, within ``timeout`` seconds."""
    call = getattr(akshare, function, None)
    if call is None:
        raise _changed(function, akshare.__version__, "must exist in this version of akshare")
    # akshare remembers some answers for as long as the process lives.
    call = inspect.unwrap(call)
    deadline = time.monotonic() + timeout
    for attempt in range(_ATTEMPTS):
        try:
            return _call_within(lambda: call(**arguments), deadline - time.monotonic())
        except _NETWORK_ERRORS as error:
            pause = 2.0**attempt
            if attempt == _ATTEMPTS - 1 or time.monotonic() + pause >= deadline:
                value, place = f"{type(error).__name__}: {error}", f"attempt {attempt + 1}"
                raise SourceError(f"akshare.{function}", value, "must answer", place, _UNREACHABLE) from error
            time.sleep(pause)
        except Exception as error:
            raise _changed(function, f"{type(error).__name__}: {error}", "must be readable for akshare") from error
    raise AssertionError("unreachable")


def _call_within(call: Callable[[], pd.DataFrame], seconds: float) -> pd.DataFrame:
    # akshare sets no timeout on most requests and retries 财联社 for 17 minutes: the call is left behind in its
    # thread when its time is up.
    answers: queue.SimpleQueue[tuple[pd.DataFrame | None, Exception | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put((call(), None))
        except Exception as error:
            answers.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        answer, error = answers.get(timeout=max(seconds, 0.001))
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:.1f} s") from None
    if error is not None:
        raise error
    assert answer is not None
    return answer


def _cached(
    function: str, arguments: Mapping[str, str], produce: Callable[[], pd.DataFrame], cache: str | Path | None
) -> pd.DataFrame:
    """Today's answer from the cache, else produced and kept; the answers of earlier days are removed."""
    folder = Path(cache).expanduser() if cache else cache_folder()
    key = hashlib.sha1(json.dumps(dict(arguments), sort_keys=True).encode(), usedforsecurity=False).hexdigest()[:16]
    stem, today = f"{function}-{key}", f"{pd.Timestamp.now(TIMEZONE):%Y-%m-%d}"
    path = folder / f"{stem}-{today}.parquet"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        requirement, remedy = f"must be a folder ({error.strerror})", "name another with cache= or NEWSFACTOR_CACHE"
        raise InvalidValueError("cache", str(folder), requirement, remedy=remedy) from error
    try:
        return read_table(path, parameter="cache")
    except UnreadableFileError:
        frame = produce()
    write_table(frame, path)
    for old in folder.glob(f"{stem}-*.parquet"):
        if old != path:
            old.unlink(missing_ok=True)
    return frame
