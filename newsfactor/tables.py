"""Read and write tables: csv, json, jsonl and Parquet files, or frames; Chinese and English column names."""

from __future__ import annotations

import datetime
import difflib
import hashlib
import io
import json
import os
import re
import warnings
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow

from newsfactor.codes import normalize_code
from newsfactor.errors import InvalidValueError, NotAShareError, TableError, UnreadableFileError
from newsfactor.files import replacing
from newsfactor.prompting import strip_control
from newsfactor.schema import DATE_TYPE, NEWS, PRICES, TIME_TYPE, TIMEZONE, Table, check, place
from newsfactor.sessions import FIRST_SESSION

LAST_TIME = pd.Timestamp("2100-01-01")
NEWS_ALIASES: dict[str, tuple[str, ...]] = {
    "news_id": ("id", "newsid", "编号", "新闻编号", "新闻id"),
    "published_at": (
        "publish_time", "published_time", "pub_time", "publish_date", "pub_date", "datetime", "time", "date",
        "发布时间", "发布日期", "新闻时间", "时间", "日期",
    ),
    "available_at": ("received_at", "updated_at", "update_time", "modified_at", "接收时间", "入库时间", "更新时间"),
    "time_precision": ("时间精度",),
    "title": ("headline", "标题", "新闻标题"),
    "content": ("text", "body", "内容", "正文", "新闻内容"),
    "source": ("media", "来源", "文章来源", "新闻来源", "媒体"),
}  # fmt: skip
# A summary stands in for the content only where there is none.
SUMMARY_ALIASES: dict[str, tuple[str, ...]] = {"content": ("summary", "digest", "摘要")}
PRICE_ALIASES: dict[str, tuple[str, ...]] = {
    "date": ("trade_date", "datetime", "日期", "交易日期"),
    "code": ("symbol", "ts_code", "ticker", "代码", "股票代码", "证券代码"),
    "open": ("开盘", "开盘价", "今开"),
    "high": ("最高", "最高价"),
    "low": ("最低", "最低价"),
    "close": ("收盘", "收盘价"),
    "pre_close": ("preclose", "prev_close", "昨收", "昨收价", "前收盘", "前收盘价"),
    "amount": ("成交额", "成交金额"),
    "circ_mv": ("float_mv", "流通市值"),
    "pct_chg": ("pct_change",),
}
_DATES = ("发布日期", "日期", "date", "publish_date", "pub_date")
_CLOCKS = ("发布时间", "时间", "time", "publish_time", "pub_time")
_RANGE = "must lie within 1990-12-19 and 2099-12-31"
_NO_NUMBER = ("", "-", "--", "nan", "none", "null", "<na>")

_CLOCK = re.compile(r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?")
_ZONE = r"\s*(Z|UTC|[+-]\d{2}:?\d{2})?"
_TIMES = (
    re.compile(
        r"(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})日?"
        rf"(?:(?:T|\s+|(?<=日))(\d{{1,2}}):(\d{{2}})(?::(\d{{2}})(?:[.,](\d{{1,9}}))?)?{_ZONE})?"
    ),
    re.compile(
        rf"(\d{{4}})(\d{{2}})(\d{{2}})(?:[T\s]?(\d{{2}}):?(\d{{2}})(?::?(\d{{2}})(?:[.,](\d{{1,9}}))?)?{_ZONE})?"
    ),
)
_VERSIONS = "these rows differ: versions of one news are not supported, keep one or give each its own id"
_NEVER = (None, None, "second")
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_table(source: pd.DataFrame | str | Path, *, parameter: str = "source") -> pd.DataFrame:
    """Read a table file by its suffix, or copy a frame.

    Text formats keep text: every csv column is text (``000001`` stays ``000001``, an empty field is missing)
    and json values keep their json type. Text is UTF-8, with or without a byte order mark, else GB18030.

    Parameters
    ----------
    source : DataFrame or path
        ``.csv``, ``.json`` (an array of records), ``.jsonl`` (a record a line) or ``.parquet``. Named index
        levels of a frame become columns.
    parameter : str
        What errors call the source.

    Returns
    -------
    DataFrame
        With a RangeIndex. A file without rows gives an empty frame.

    Raises
    ------
    UnreadableFileError
        If the path is missing, a folder, of an unknown suffix, empty, truncated or not of its format.

    Examples
    --------
    >>> read_table("prices.txt")
    Traceback (most recent call last):
    newsfactor.errors.UnreadableFileError: `source` must end in .csv, .json, .jsonl or .parquet, got 'prices.txt'
    """
    if isinstance(source, pd.DataFrame):
        levels = [name for name in source.index.names if name is not None and name not in source.columns]
        return source.copy().reset_index(level=levels).reset_index(drop=True)
    if not isinstance(source, (str, os.PathLike)):
        raise TableError(parameter, type(source).__name__, "must be a DataFrame or the path of a file")
    path = Path(source).expanduser()
    read = _READERS.get(path.suffix.lower())
    if path.is_dir():
        raise UnreadableFileError(
            parameter,
            str(path),
            "must be a file, not a folder",
            remedy="read its files one by one and concatenate them",
        )
    if read is None:
        raise UnreadableFileError(parameter, str(path), "must end in .csv, .json, .jsonl or .parquet")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableFileError(parameter, str(path), f"must be a readable file ({error.strerror})") from error
    if not data:
        raise UnreadableFileError(parameter, str(path), "must not be empty (0 bytes)")
    return read(data, str(path), parameter).reset_index(drop=True)


def read_news(
    source: pd.DataFrame | str | Path, *, timezone: str | None = None, columns: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Read a NEWS table from a file or a frame.

    Only a time and a title or a content are required. English and Chinese column names are understood
    (``NEWS_ALIASES``); a date and a separate time of day (akshare's 发布日期 and 发布时间) are joined. Rows keep
    their order, further columns are kept, and rows without text stay: they are tagged ``empty`` later.

    Parameters
    ----------
    source : DataFrame or path
        As for :func:`read_table`.
    timezone : str, optional
        IANA name in which times without an offset were written, such as ``Asia/Shanghai``. Times with an
        offset do not need it and ignore it.
    columns : mapping, optional
        Your column name to ours, where the aliases do not find it.

    Returns
    -------
    DataFrame
        NEWS. ``news_id``, where missing, is derived from source, time, title and content, so that it is the
        same on every reading; ``source`` is ``unknown`` and ``available_at`` is ``published_at`` where missing.
        ``time_precision``, where missing, is ``day`` for a date or if every time is midnight, ``minute`` for text
        without seconds, else ``second``. A day given in another timezone is the Shanghai day in which it ends.
        Missing texts are ``""``; control characters are removed.

    Raises
    ------
    TableError
        If a column is missing or found twice; there are no rows; a time is missing, impossible, naive without
        ``timezone``, before 1990-12-19 or after 2099, or ``available_at`` is before ``published_at``; or an id
        occurs twice (versions of one news are not supported).
    UnreadableFileError
        As for :func:`read_table`.

    Examples
    --------
    >>> raw = pd.DataFrame({"标题": ["海川重工中标"], "发布时间": ["2026-07-14 09:30"]})
    >>> read_news(raw, timezone="Asia/Shanghai").loc[0, ["published_at", "time_precision"]].map(str).tolist()
    ['2026-07-14 09:30:00+08:00', 'minute']
    """
    zone = _check_timezone(timezone)
    frame = _filled(read_table(source, parameter="news"), "news")
    mapped = set((columns or {}).values())
    if "published_at" not in mapped | set(frame.columns):
        frame = _join_clock(frame, set(columns or {}))
    frame = _rename(frame, NEWS, NEWS_ALIASES, columns, "news")
    frame = _rename(frame, NEWS, SUMMARY_ALIASES, None, "news")
    _require_columns(frame, ("published_at",), "news", NEWS)
    if "title" not in frame.columns:
        _require_columns(frame, ("content",), "news", NEWS)
    news = pd.DataFrame({name: _to_text(frame, name) for name in ("title", "content", "source")}, index=frame.index)
    news["source"] = news["source"].where(news["source"] != "", "unknown")
    news = news.join(_read_news_times(frame, zone))
    news["news_id"] = _complete_ids(frame, news)
    _refuse_repeated_news(news)
    extras = [name for name in frame.columns if name not in NEWS.columns]
    return check(news[list(NEWS.columns)].join(frame[extras]), NEWS, parameter="news")


def read_prices(source: pd.DataFrame | str | Path, *, columns: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Read a PRICES table from a file or a frame.

    English and Chinese column names are understood (``PRICE_ALIASES``), codes in all forms that
    :func:`newsfactor.codes.normalize_code` knows. Rows keep their order and further columns are kept.

    Parameters
    ----------
    source : DataFrame or path
        As for :func:`read_table`. Prices in yuan, ``amount`` and ``circ_mv`` in yuan.
    columns : mapping, optional
        Your column name to ours, where the aliases do not find it.

    Returns
    -------
    DataFrame
        PRICES in float64, shares alone: rows of indices, funds and bonds are left out with a warning that counts
        them. Missing ``high``, ``low``, ``amount`` and ``circ_mv`` columns are NaN. A NaN price is
        kept: the share did not trade. Where there is no ``pre_close`` it is ``close / (1 + pct_chg / 100)``, with
        ``pct_chg`` in percent; 涨跌幅 is not taken for it unasked, because sources such as akshare's
        ``stock_zh_a_hist`` count it from the last close even on ex-dates.

    Raises
    ------
    TableError
        If a column is missing or found twice; there are no rows; a date is impossible or has a time of day; a
        code is none; a price is not positive or no number, or high is below low; or a (date, code) occurs twice.
    UnreadableFileError
        As for :func:`read_table`.

    Examples
    --------
    >>> raw = pd.DataFrame({"日期": ["20260714"], "代码": ["600519"], "开盘": [9.9], "收盘": [11], "昨收": [10]})
    >>> read_prices(raw)[["code", "pre_close"]].values.tolist()
    [['600519.SH', 10.0]]
    """
    frame = _filled(read_table(source, parameter="prices"), "prices")
    frame = _rename(frame, PRICES, PRICE_ALIASES, columns, "prices")
    _require_columns(frame, ("date", "code", "open", "close"), "prices", PRICES)
    frame, codes = _keep_shares(frame)
    prices = pd.DataFrame({"date": _to_dates(frame), "code": codes})
    for name in ("open", "high", "low", "close", "pre_close", "amount", "circ_mv"):
        given = _to_numbers(frame, name) if name in frame.columns else pd.Series(np.nan, frame.index, dtype="float64")
        prices[name] = given
    if "pre_close" not in frame.columns:
        prices["pre_close"] = _derive_pre_close(frame, prices["close"])
    for name in ("open", "high", "low", "close", "pre_close"):
        _refuse(
            prices,
            name,
            prices[name] <= 0,
            "must be positive",
            "prices",
            "set the prices of days without trading to NaN",
        )
    for name in ("amount", "circ_mv"):
        _refuse(prices, name, prices[name] < 0, "must not be negative", "prices")
    _refuse(prices, "high", prices["high"] < prices["low"], "must not be below the low", "prices")
    repeated = prices.duplicated(["date", "code"])
    if repeated.any():
        _refuse_repeated_price(prices, int(repeated.to_numpy().argmax()))
    extras = [name for name in frame.columns if name not in PRICES.columns]
    return check(prices.join(frame[extras]), PRICES, parameter="prices")


def write_table(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table as Parquet (zstd) or csv, whole or not at all.

    The file is written beside its place, flushed to disk and moved there, so that a reader or a crash never
    meets half a file. The index is dropped. In csv, lists are json text and NaN is an empty field.

    Parameters
    ----------
    frame : DataFrame
        Any table; empty ones too.
    path : path
        Ends in ``.parquet`` or ``.csv``, in a folder that exists. An existing file is replaced.

    Raises
    ------
    InvalidValueError
        If the suffix is another, the folder is missing, or the file cannot be written.

    Examples
    --------
    >>> write_table(pd.DataFrame({"code": ["600519.SH"]}), "nowhere/codes.csv")
    Traceback (most recent call last):
    newsfactor.errors.InvalidValueError: `path` must lie in an existing folder, got 'nowhere/codes.csv'
    """
    path = Path(path).expanduser()
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise InvalidValueError("path", str(path), "must end in .parquet or .csv")
    if not path.parent.is_dir():
        raise InvalidValueError("path", str(path), "must lie in an existing folder")
    with replacing(path) as stream:
        write(frame, stream)


def _read_csv(data: bytes, path: str, parameter: str) -> pd.DataFrame:
    text = _decode(data, path, parameter)
    try:
        frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, na_values=[""])
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise UnreadableFileError(parameter, path, f"must be comma-separated ({_first_line(error)})") from error
    # pandas takes surplus leading fields for an index instead of complaining.
    if not isinstance(frame.index, pd.RangeIndex):
        raise UnreadableFileError(
            parameter, path, "must have as many fields as its header", "every row", "quote fields that hold commas"
        )
    return frame


def _read_json(data: bytes, path: str, parameter: str) -> pd.DataFrame:
    try:
        records = json.loads(_decode(data, path, parameter))
    except ValueError as error:
        raise UnreadableFileError(parameter, path, f"must be valid json ({_first_line(error)})") from error
    if not isinstance(records, list):
        raise UnreadableFileError(parameter, path, f"must be a json array of records, not {type(records).__name__}")
    return _from_records(list(enumerate(records)), "record", path, parameter)


def _read_jsonl(data: bytes, path: str, parameter: str) -> pd.DataFrame:
    records = []
    for number, line in enumerate(_decode(data, path, parameter).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            records.append((number, json.loads(line)))
        except ValueError as error:
            raise UnreadableFileError(
                parameter, path, f"must hold a json record a line ({_first_line(error)})", f"line {number}"
            ) from error
    return _from_records(records, "line", path, parameter)


def _from_records(records: Iterable[tuple[int, object]], unit: str, path: str, parameter: str) -> pd.DataFrame:
    rows: list[dict[str, object]] = []
    for number, record in records:
        if not isinstance(record, dict):
            raise UnreadableFileError(parameter, path, "must hold records (json objects) only", f"{unit} {number}")
        rows.append(
            {key: _SURROGATE.sub("", value) if isinstance(value, str) else value for key, value in record.items()}
        )
    return pd.DataFrame(rows)


def _read_parquet(data: bytes, path: str, parameter: str) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(io.BytesIO(data))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UnreadableFileError(parameter, path, f"must be a whole Parquet file ({_first_line(error)})") from error
    return read_table(frame, parameter=parameter)


def _decode(data: bytes, path: str, parameter: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        broken = error
    # GB18030 accepts almost any bytes: a damaged UTF-8 file, whose characters are nearly all sound, must not
    # pass as one. In a true GB file hardly any character is sound UTF-8.
    lenient = data.decode("utf-8", errors="replace")
    damaged, foreign = lenient.count("\ufffd"), sum(not character.isascii() for character in lenient)
    try:
        if damaged * 2 > foreign:
            return data.decode("gb18030")
    except UnicodeDecodeError:
        pass
    remedy = "the file is damaged or in another encoding"
    raise UnreadableFileError(parameter, path, "must be UTF-8 or GB18030 text", f"byte {broken.start}", remedy)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def _write_csv(frame: pd.DataFrame, stream: io.BufferedWriter) -> None:
    texts = {name: frame[name].map(_list_text) for name in frame.columns if frame[name].dtype == object}
    frame.assign(**texts).to_csv(stream, index=False, encoding="utf-8")


def _list_text(value: object) -> object:
    if isinstance(value, (list, tuple, np.ndarray)):
        return json.dumps(list(value), ensure_ascii=False, default=str)
    return value


def _write_parquet(frame: pd.DataFrame, stream: io.BufferedWriter) -> None:
    frame.to_parquet(stream, index=False, compression="zstd")


_READERS: dict[str, Callable[[bytes, str, str], pd.DataFrame]] = {
    ".csv": _read_csv, ".json": _read_json, ".jsonl": _read_jsonl, ".parquet": _read_parquet,
}  # fmt: skip
_WRITERS: dict[str, Callable[[pd.DataFrame, io.BufferedWriter], None]] = {
    ".csv": _write_csv, ".parquet": _write_parquet,
}  # fmt: skip


def _filled(frame: pd.DataFrame, parameter: str) -> pd.DataFrame:
    if not len(frame):
        raise TableError(parameter, [str(name) for name in frame.columns], "must hold at least one row")
    if not frame.columns.is_unique:
        name = frame.columns[frame.columns.duplicated()][0]
        raise TableError(parameter, name, "must name each column once", remedy="rename one of the two")
    return frame


def _rename(
    frame: pd.DataFrame,
    table: Table,
    aliases: Mapping[str, tuple[str, ...]],
    columns: Mapping[str, str] | None,
    parameter: str,
) -> pd.DataFrame:
    mapping = _check_mapping(frame, table, aliases, columns)
    rest = [name for name in frame.columns if name not in mapping]
    taken = set(mapping.values())
    for ours, others in aliases.items():
        if ours in rest and ours not in taken:
            continue
        found = [name for name in rest if str(name).strip().lower() in (ours, *others)]
        if ours in taken:
            found = [name for name in found if name == ours]
        if len(found) + (ours in taken) > 1:
            remedy = f"name the right one with columns={{{found[0]!r}: {ours!r}}} and rename or drop the other"
            raise TableError(parameter, found, f"must hold one column for {ours!r}", remedy=remedy)
        mapping.update(dict.fromkeys(found, ours))
    return frame.rename(columns=mapping)


def _check_mapping(
    frame: pd.DataFrame, table: Table, aliases: Mapping[str, tuple[str, ...]], columns: Mapping[str, str] | None
) -> dict[str, str]:
    known = {*table.columns, *aliases}
    seen: set[str] = set()
    for theirs, ours in (columns or {}).items():
        if theirs not in frame.columns:
            near = difflib.get_close_matches(str(theirs), map(str, frame.columns), n=1)
            remedy = f"did you mean {near[0]!r}" if near else f"there are {[str(name) for name in frame.columns]}"
            raise TableError("columns", theirs, "must name columns that exist", remedy=remedy)
        if ours not in known or ours in seen:
            requirement = "must name each of our columns once" if ours in seen else f"must map to {table.name} columns"
            raise TableError("columns", ours, requirement, f"{theirs!r}", f"they are {', '.join(sorted(known))}")
        seen.add(ours)
    return dict(columns or {})


def _require_columns(frame: pd.DataFrame, names: Iterable[str], parameter: str, table: Table) -> None:
    for name in names:
        if name not in frame.columns:
            found = [str(column) for column in frame.columns]
            wanted = "'title' or 'content'" if name == "content" else repr(name)
            remedy = f"name it with columns={{'your name': {name!r}}}"
            raise TableError(parameter, found, f"needs the column {wanted} ({table.name})", remedy=remedy)


def _refuse(
    frame: pd.DataFrame, column: str, bad: pd.Series | np.ndarray, requirement: str, parameter: str, remedy: str = ""
) -> None:
    """Stop at the first bad cell: its value, its key and its row."""
    flags = np.asarray(bad, dtype=bool)
    if flags.any():
        position = int(flags.argmax())
        value = frame[column].iloc[position]
        value = None if pd.api.types.is_scalar(value) and pd.isna(value) else value
        value = value.item() if isinstance(value, np.generic) else value
        value = str(value) if isinstance(value, (pd.Timestamp, datetime.date)) else value
        key = [name for name in ("news_id", "date", "code") if name in frame.columns and name != column]
        raise TableError(f"{parameter}[{column!r}]", value, requirement, place(frame, position, key), remedy)


def _missing(values: pd.Series) -> pd.Series:
    blank = values.isna()
    if not pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_datetime64_any_dtype(values.dtype):
        blank |= values.map(lambda value: isinstance(value, str) and not value.strip(), na_action="ignore").eq(True)
    return blank.astype(bool)


def _to_text(frame: pd.DataFrame, column: str) -> pd.Series:
    if column not in frame.columns:
        return pd.Series("", frame.index, dtype="str")
    values = frame[column].astype(object)
    blank = _missing(values)
    nested = values.map(lambda value: isinstance(value, (list, tuple, dict, set, bytes, np.ndarray)))
    _refuse(frame, column, nested, "must be text", "news")
    texts = [_SURROGATE.sub("", strip_control(str(value))) for value in values.where(~blank, "")]
    return pd.Series([text if text.strip() else "" for text in texts], frame.index, dtype="str")


def _check_timezone(timezone: str | None) -> str | None:
    if timezone is None:
        return None
    try:
        zoneinfo.ZoneInfo(timezone)
    except (ValueError, TypeError, OSError, zoneinfo.ZoneInfoNotFoundError) as error:
        raise InvalidValueError("timezone", timezone, "must be an IANA name such as Asia/Shanghai") from error
    return timezone


def _join_clock(frame: pd.DataFrame, mapped: set[str]) -> pd.DataFrame:
    """Join a date column and a time-of-day column into ``published_at``; a date without a time stays a date."""
    names = {str(name).strip().lower(): name for name in frame.columns if name not in mapped}
    dates, clocks = [names[n] for n in _DATES if n in names], [names[n] for n in _CLOCKS if n in names]
    if len(dates) != 1 or len(clocks) != 1:
        return frame
    day, clock = frame[dates[0]], frame[clocks[0]]
    clock_text = clock.map(str).where(~_missing(clock), "").str.strip()
    if not clock_text.map(lambda text: not text or _CLOCK.fullmatch(text) is not None).all():
        return frame
    day_text = day.dt.strftime("%Y-%m-%d") if pd.api.types.is_datetime64_any_dtype(day.dtype) else day.map(str)
    joined = (day_text.astype("str").str.strip() + " " + clock_text).str.strip()
    return frame.drop(columns=[dates[0], clocks[0]]).assign(published_at=joined.where(~_missing(day), None))


def _read_news_times(frame: pd.DataFrame, timezone: str | None) -> pd.DataFrame:
    """The columns ``published_at``, ``available_at`` and ``time_precision``."""
    _refuse(frame, "published_at", _missing(frame["published_at"]), "must not be missing", "news")
    published, inferred = _to_times(frame, "published_at", timezone)
    precision = inferred
    if "time_precision" in frame.columns:
        given = frame["time_precision"].astype("str")
        precision = given.where(~_missing(given), inferred)
    available = published
    if "available_at" in frame.columns:
        given_times, given_precision = _to_times(frame, "available_at", timezone)
        # A date alone says only that the item was there when that day was over.
        late = (given_precision == "day") & (precision != "day")
        available = given_times.where(~late, given_times + pd.Timedelta(days=1)).fillna(published)
        remedy = "leave it out if it is unknown"
        _refuse(frame, "available_at", available < published, "must not be before published_at", "news", remedy)
    times = {"published_at": published, "available_at": available, "time_precision": precision.astype("str")}
    return pd.DataFrame(times, index=frame.index)


def _to_times(frame: pd.DataFrame, column: str, timezone: str | None) -> tuple[pd.Series, pd.Series]:
    """Times in Asia/Shanghai with the precision that each shows; missing stays missing."""
    values, known = frame[column], ~_missing(frame[column])
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        wall, utc = values.dt.tz_localize(None), values.dt.tz_convert("UTC")
        shown = pd.Series("second", frame.index)
    else:
        wall, offset, shown = _read_walls(frame, column, known)
        naive = known & offset.isna()
        remedy = "name it with timezone='Asia/Shanghai' if that is meant"
        _refuse(frame, column, naive & (timezone is None), "must have a timezone", "news", remedy)
        utc = (wall - offset).dt.tz_localize("UTC")
        if naive.any():
            local = wall.dt.tz_localize(timezone, ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC")
            once = f"must occur exactly once in {timezone} (clocks change)"
            _refuse(frame, column, naive & local.isna(), once, "news", "give it with its offset")
            utc = utc.where(~naive, local)
    outside = known & ((wall < FIRST_SESSION) | (wall >= LAST_TIME))
    _refuse(frame, column, outside, _RANGE, "news")
    times = utc.dt.tz_convert(TIMEZONE).astype(TIME_TYPE)
    # Only published_at shows its precision so: available_at may lie at the midnight that ended a day.
    midnights = [(clock == clock.dt.normalize())[known].all() for clock in (wall, times)]
    if column == "published_at" and any(midnights):
        shown = pd.Series("day", frame.index)
    # A day of another timezone ends within a Shanghai day; nothing is known before that one is over.
    ends = (times + pd.Timedelta(days=1) - pd.Timedelta(microseconds=1)).dt.normalize()
    return times.where(shown != "day", ends), shown


def _read_walls(frame: pd.DataFrame, column: str, known: pd.Series) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Wall-clock time, offset from UTC (NaT where none is written) and precision of each cell."""
    values = frame[column]
    if pd.api.types.is_datetime64_dtype(values.dtype):
        unknown = pd.Series(pd.NaT, frame.index, dtype="timedelta64[us]")
        return values.astype(DATE_TYPE), unknown, pd.Series("second", frame.index)
    read = [_read_time(str(value)) if there else _NEVER for value, there in zip(values, known, strict=True)]
    impossible = np.array([one is None for one in read])
    remedy = "epoch seconds need pandas.to_datetime(..., unit='s', utc=True) first"
    _refuse(frame, column, impossible, "must be a date or a time such as 2026-07-14 09:30:00", "news", remedy)
    walls, offsets, shown = zip(*[one or _NEVER for one in read], strict=True)
    return (
        pd.Series(np.array(walls, dtype=DATE_TYPE), frame.index),
        pd.Series(np.array(offsets, dtype="timedelta64[us]"), frame.index),
        pd.Series(shown, frame.index, dtype="str"),
    )


def _read_time(text: str) -> tuple[datetime.datetime | None, datetime.timedelta | None, str] | None:
    """Wall-clock time, offset and precision of one text, or None if it is no time."""
    text = text.strip()
    match = _TIMES[0].fullmatch(text) or _TIMES[1].fullmatch(text)
    if match is None:
        return None
    *parts, fraction, zone = match.groups()
    try:
        numbers = [int(part or 0) for part in parts]
        wall = datetime.datetime(*numbers, microsecond=int((fraction or "0")[:6].ljust(6, "0")))  # type: ignore[misc,arg-type]
        offset = _read_offset(zone)
    except ValueError:
        return None
    return wall, offset, "day" if parts[3] is None else "minute" if parts[5] is None else "second"


def _read_offset(zone: str | None) -> datetime.timedelta | None:
    if zone is None:
        return None
    if zone in ("Z", "UTC"):
        return datetime.timedelta(0)
    hours, minutes = int(zone[1:3]), int(zone[-2:])
    if hours > 14 or minutes > 59:
        raise ValueError(zone)
    return datetime.timedelta(hours=hours, minutes=minutes) * (-1 if zone[0] == "-" else 1)


def _complete_ids(frame: pd.DataFrame, news: pd.DataFrame) -> pd.Series:
    """The given ids as text; missing ones derived from source, time, title and content."""
    given = frame["news_id"] if "news_id" in frame.columns else pd.Series(None, frame.index, dtype=object)
    if pd.api.types.is_float_dtype(given.dtype) and (given.dropna() % 1 == 0).all():
        given = given.astype("Int64")
    blank = _missing(given)
    ids = given.astype(object).map(lambda value: str(value).strip(), na_action="ignore")
    if blank.any():
        rows = news.loc[blank, ["source", "published_at", "title", "content"]]
        derived = [_derive_id(*row) for row in rows.itertuples(index=False, name=None)]
        ids = ids.where(~blank, pd.Series(derived, rows.index, dtype=object))
    return ids.astype("str")


def _derive_id(source: str, published_at: pd.Timestamp, title: str, content: str) -> str:
    fields = (source, published_at.isoformat(), title, content)
    return hashlib.sha1("\x1f".join(fields).encode(), usedforsecurity=False).hexdigest()


def _refuse_repeated_news(news: pd.DataFrame) -> None:
    repeated = news.duplicated("news_id")
    if not repeated.any():
        return
    second = int(repeated.to_numpy().argmax())
    value = news["news_id"].iloc[second]
    first = int((news["news_id"] == value).to_numpy().argmax())
    columns = ["published_at", "title", "content", "source"]
    same = news[columns].iloc[first].equals(news[columns].iloc[second])
    remedy = "drop_duplicates() removes repeated rows" if same else _VERSIONS
    raise TableError("news['news_id']", value, "must name each news once", f"rows {first} and {second}", remedy)


def _to_dates(frame: pd.DataFrame) -> pd.Series:
    """Naive midnights; parsed once per distinct value."""
    values = frame["date"].astype(object) if isinstance(frame["date"].dtype, pd.CategoricalDtype) else frame["date"]
    _refuse(frame, "date", _missing(values), "must not be missing", "prices")
    dates: pd.Series
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        dates = values.dt.tz_convert(TIMEZONE).dt.tz_localize(None).astype(DATE_TYPE)
    elif pd.api.types.is_datetime64_dtype(values.dtype):
        dates = values.astype(DATE_TYPE)
    else:
        read = {value: (_read_time(str(value)) or _NEVER)[0] for value in values.unique()}
        dates = values.map(read).astype(DATE_TYPE)
    _refuse(frame, "date", dates.isna(), "must be a date such as 2026-07-14", "prices")
    _refuse(frame, "date", dates != dates.dt.normalize(), "must be a date without a time of day", "prices")
    _refuse(frame, "date", (dates < FIRST_SESSION) | (dates >= LAST_TIME), _RANGE, "prices")
    return dates


def _keep_shares(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """The rows of shares and their normalised codes; rows of indices, funds and bonds are left out with a warning."""
    _refuse(frame, "code", _missing(frame["code"].astype(object)), "must not be missing", "prices")
    codes: dict[object, str] = {}
    refused: dict[object, InvalidValueError] = {}
    others: list[object] = []
    for value in frame["code"].unique():
        try:
            codes[value] = normalize_code(value)
        except NotAShareError:
            others.append(value)
        except InvalidValueError as error:
            refused[value] = error
    if refused:
        _refuse_codes(frame, refused)
    kept = ~frame["code"].isin(others)
    if others:
        count, named = int((~kept).sum()), ", ".join(map(str, others[:3]))
        warnings.warn(
            f"prices: {len(others)} codes are no shares and their {count} rows are left out ({named}, …)", stacklevel=3
        )
    shares = frame[kept].reset_index(drop=True)
    return shares, shares["code"].astype(object).map(codes).astype("str")


def _refuse_codes(frame: pd.DataFrame, refused: Mapping[object, InvalidValueError]) -> None:
    value, error = next(iter(refused.items()))
    bad = frame["code"].isin(list(refused))
    requirement = str(error).removeprefix(f"`{error.parameter}` ").split(", got ")[0]
    shown = value.item() if isinstance(value, np.generic) else value
    remedy = error.remedy or f"keep shares only: {len(refused)} such codes in {int(bad.sum())} rows"
    position = int(bad.to_numpy().argmax())
    raise TableError("prices['code']", shown, requirement, place(frame, position, ["date"]), remedy) from error


def _to_numbers(frame: pd.DataFrame, column: str) -> pd.Series:
    values = frame[column]
    if pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype):
        numbers = pd.Series(values.to_numpy(dtype="float64", na_value=np.nan), frame.index)
    else:
        blank = values.isna() | values.map(lambda value: str(value).strip().lower() in _NO_NUMBER).astype(bool)
        numbers = pd.to_numeric(values.astype(object).where(~blank, np.nan), errors="coerce").astype("float64")
        truth = values.map(lambda value: isinstance(value, (bool, np.bool_))).astype(bool)
        _refuse(frame, column, numbers.isna() & ~blank | truth, "must be a number", "prices")
    _refuse(frame, column, np.isinf(numbers), "must be finite", "prices")
    return numbers


def _derive_pre_close(frame: pd.DataFrame, close: pd.Series) -> pd.Series:
    if "pct_chg" not in frame.columns:
        found = [str(name) for name in frame.columns]
        remedy = (
            "columns={'涨跌幅': 'pct_chg'} names it if ex-dates are in it (in akshare's stock_zh_a_hist they are not)"
        )
        raise TableError("prices", found, "needs the column 'pre_close' or 'pct_chg' (PRICES)", remedy=remedy)
    change = _to_numbers(frame, "pct_chg")
    _refuse(frame, "pct_chg", change <= -100, "must be above -100 percent", "prices")
    return close / (1 + change / 100)


def _refuse_repeated_price(prices: pd.DataFrame, second: int) -> None:
    date, code = prices["date"].iloc[second], prices["code"].iloc[second]
    first = int(((prices["date"] == date) & (prices["code"] == code)).to_numpy().argmax())
    rows, remedy = f"rows {first} and {second}", "drop_duplicates(['date', 'code']) keeps the first"
    raise TableError("prices", (f"{date:%Y-%m-%d}", code), "must hold each (date, code) once", rows, remedy)


def cache_folder() -> Path:
    """Where answers and downloads are kept: ``NEWSFACTOR_CACHE``, else ``~/.cache/newsfactor``."""
    return Path(os.environ.get("NEWSFACTOR_CACHE") or Path.home() / ".cache" / "newsfactor").expanduser()
