"""Label files in and out: the article's JSON, LLaMA-Factory's datasets, csv, Excel, Parquet, frames."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd

from newsfactor.errors import AnswerFormatError, InvalidValueError, TableError
from newsfactor.label_files import INFO, MESSAGES, Layout, Source, open_source, save_book, write_cells, write_dataset
from newsfactor.prompting import FIELDS, INSTRUCTION, NO_STOCKS, Answer, news_text, parse_answer, strip_control
from newsfactor.schema import TIME_TYPE, TIMEZONE
from newsfactor.tables import write_table
from newsfactor.taxonomy import Taxonomy

log = logging.getLogger("newsfactor")

FIELD_COLUMNS = ("event", "market", "industry", "sentiment", "stocks")
OPTIONAL_COLUMNS = ("news_id", "published_at", "story_id")
ALIASES = {
    **dict(zip(FIELDS, FIELD_COLUMNS, strict=True)),
    "文本": "text", "标题": "title", "内容": "content", "正文": "content", "编号": "news_id",
}  # fmt: skip
_SHOWN = 10

_LOOSE_LINE = re.compile(r"\s*[,，]\s*".join(rf"{name}\s*[:：]\s*(.*?)" for name in FIELDS))
_FORM = ",".join(f"{name}:…" for name in FIELDS)
# Not part of any text: halves of a character, and two code points that XML does not allow.
_NO_TEXT = re.compile("[\ud800-\udfff\ufffe\uffff]")


def read_labels(
    labels: pd.DataFrame | str | Path | Sequence[Mapping[str, Any]], *, dataset: str | None = None,
    taxonomy: Taxonomy | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Read labelled news from a file, records or a frame, and check every record.

    A record is of the article's form (``instruction``, which is ignored, ``input``, ``output``), a conversation,
    or has one column per field: ``text`` (or ``title`` and ``content``), ``event``, ``market``, ``industry``,
    ``sentiment``, ``stocks`` (a list, or names joined by ``、``; ``无`` for none); 文本, 事件, 市场, 行业, 情感 and
    关联 are understood. Full-width punctuation and stray spaces in an answer are mended; all else is refused.

    Parameters
    ----------
    labels : path, sequence of dict or DataFrame
        ``.json`` (an array), ``.jsonl``, ``.csv``, ``.xlsx`` (its first sheet), ``.parquet``, LLaMA-Factory's
        ``dataset_info.json`` or its folder, LABELS or TAGS. Rows of TAGS with status ``empty`` or ``failed``
        are left out, and their number is logged.
    dataset : str, optional
        The entry of ``dataset_info.json``; needed if there are several.
    taxonomy : Taxonomy, optional
        The label sets; the default ones if not given.

    Returns
    -------
    DataFrame
        LABELS: ``text``, the four labels, ``stocks`` (lists) and, where given, ``news_id``, ``published_at``,
        ``story_id``; in the order of the source, repeated records too. ``attrs["mended"]`` and
        ``attrs["left_out"]`` count.

    Raises
    ------
    TableError
        If there is no record or any is bad: a missing or wrong field, an unknown label, a stock that does not
        stand in the text, a text with two answers. The sentence shows the first ten; ``problems`` of the
        exception lists (number, reason) of all. Records count from 0, lines and rows of csv and Excel from 1.
    UnreadableFileError
        If a file is broken, lies outside the folder of its ``dataset_info.json`` or has another SHA-1.

    Examples
    --------
    >>> line = "事件:合同订单，市场:中国市场，行业:机械设备，情感:一般正面，关联:海川重工"
    >>> labels = read_labels([{"input": "海川重工中标。", "output": line}])
    >>> labels.loc[0, "stocks"], labels.attrs["mended"]
    (['海川重工'], 1)
    """
    source = open_source(labels, dataset)
    kept = [(k, record) for k, record in source.records if not _is_untagged(record)]
    if not kept:
        raise TableError("labels", len(source.records), "must hold at least one record", source.place)
    problems: list[tuple[int, str]] = []
    rows: list[dict[str, Any]] = []
    first: dict[str, tuple[int, Answer]] = {}
    mended = 0
    for number, record in kept:
        try:
            text, line = _split_record(record, source.layout)
            answer, extras = mend_answer(line, text, taxonomy), _read_extras(record)
        except AnswerFormatError as error:
            problems.append((number, str(error)))
            continue
        earlier, other = first.setdefault(text, (number, answer))
        if other != answer:
            problems.append((number, f"the text of {source.unit} {earlier} has another answer there: {other}"))
        mended += str(answer) != line
        rows.append({"text": text, **vars(answer), "stocks": list(answer.stocks), **extras})
    if problems:
        raise _list_problems(problems, source, len(kept))
    left_out = len(source.records) - len(kept)
    if mended:
        log.warning("labels: %d of %d answers had full-width marks or spaces and were mended", mended, len(rows))
    if left_out:
        log.warning("labels: %d of %d rows have no tags and were left out", left_out, len(source.records))
    frame = _assemble(rows)
    frame.attrs.update(mended=mended, left_out=left_out)
    return frame


def write_labels(
    labels: pd.DataFrame | str | Path | Sequence[Mapping[str, Any]], path: str | Path, *, dataset: str | None = None,
    layout: str = "alpaca", taxonomy: Taxonomy | None = None,
) -> Path:  # fmt: skip
    """Write labelled news so that :func:`read_labels` and LLaMA-Factory read it as it is.

    Beside a JSON file its entry in ``dataset_info.json`` is written or renewed, with its SHA-1; other entries
    stay. Every file is written whole or not at all.

    Parameters
    ----------
    labels : path, sequence of dict or DataFrame
        As for :func:`read_labels`, which checks it first.
    path : path
        Ends in ``.json``, ``.jsonl``, ``.csv``, ``.xlsx`` (cells are text, never formulas) or ``.parquet``, in a
        folder that exists.
    dataset : str, optional
        Name of the entry in ``dataset_info.json``; if not given that which the file has, else its name without suffix.
    layout : {"alpaca", "sharegpt"}
        LLaMA-Factory's form of the records of a JSON file.
    taxonomy : Taxonomy, optional
        The label sets; the default ones if not given.

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    InvalidValueError
        If the suffix or the layout is another, the folder is missing, or a text is too long for an Excel cell.
    TableError, UnreadableFileError
        As for :func:`read_labels`; also if ``dataset_info.json`` is broken.
    """
    path = Path(path).expanduser()
    suffix = path.suffix.lower()
    if layout not in ("alpaca", "sharegpt"):
        raise InvalidValueError("layout", layout, "must be alpaca or sharegpt")
    if suffix not in (".json", ".jsonl", ".csv", ".xlsx", ".parquet") or path.name == INFO:
        requirement = f"must end in .json, .jsonl, .csv, .xlsx or .parquet and not be {INFO}"
        raise InvalidValueError("path", str(path), requirement)
    if not path.parent.is_dir():
        raise InvalidValueError("path", str(path), "must lie in an existing folder")
    frame = read_labels(labels, taxonomy=taxonomy)
    if suffix in (".json", ".jsonl"):
        write_dataset(_to_records(frame, layout), path, dataset=dataset, layout=layout)
    elif suffix == ".xlsx":
        book = openpyxl.Workbook()
        write_cells(book.active, flatten(frame))
        save_book(book, path)
    else:
        write_table(flatten(frame) if suffix == ".csv" else frame, path)
    return path


def mend_answer(line: str, text: str, taxonomy: Taxonomy | None = None) -> Answer:
    """Read an answer line written by a person, and check its stocks against the text.

    Full-width commas and colons, a closing ``。`` and spaces around the parts are mended; stocks may be joined by
    ``，`` or ``；``. ``str()`` of the result is the mended line.

    Raises
    ------
    AnswerFormatError
        If a field is missing or unknown, a separator is another, a stock is repeated or not in the text.

    Examples
    --------
    >>> str(mend_answer("事件：其他，市场：其他市场，行业：无，情感：无明显倾向，关联：无。", "天气预报"))
    '事件:其他,市场:其他市场,行业:无,情感:无明显倾向,关联:无'
    """
    match = _LOOSE_LINE.fullmatch(strip_control(line).strip().rstrip("。").rstrip())
    if match is None:
        missing = [name for name in FIELDS if name not in line]
        if missing:
            raise AnswerFormatError("output", line, f"must name {'、'.join(missing)}")
        raise AnswerFormatError("output", line, f"must read {_FORM} (wrong separator)")
    *values, names = (value.strip() for value in match.groups())
    for name, value in zip(FIELDS, [*values, names], strict=True):
        if not value:
            raise AnswerFormatError(name, value, "must not be empty", remedy=f"write {NO_STOCKS} for none" if name == FIELDS[-1] else "")  # fmt: skip
    stocks = [name.strip() for name in re.split("[、，；]", names)]
    pairs = zip(FIELDS, [*values, "、".join(stocks)], strict=True)
    answer = parse_answer(",".join(f"{name}:{value}" for name, value in pairs), taxonomy)
    for name in answer.stocks:
        if re.search("[,;]", name) or (name not in text and re.search(r"[/|\s]", name)):
            raise AnswerFormatError("stocks", names, "must be joined by 、 (wrong separator)")
        if name not in text:
            raise AnswerFormatError("stocks", name, "must stand in the text")
        if answer.stocks.count(name) > 1:
            raise AnswerFormatError("stocks", name, "must be named once")
    return answer


def clean_text(text: str) -> str:
    """Without control characters, unpaired surrogates and space around."""
    return _NO_TEXT.sub("", strip_control(text)).strip()


def flatten(labels: pd.DataFrame) -> pd.DataFrame:
    """LABELS as text alone: stocks joined by ``、`` (``无`` for none), times in ISO form, missing as ``""``."""
    table = labels[[*(name for name in OPTIONAL_COLUMNS if name in labels.columns), "text", *FIELD_COLUMNS]].copy()
    table["stocks"] = ["、".join(names) or NO_STOCKS for names in labels["stocks"]]
    if "published_at" in table.columns:
        table["published_at"] = [_iso(time) for time in labels["published_at"]]
    return table.fillna("").astype("str")


def _is_untagged(record: Any) -> bool:
    return isinstance(record, Mapping) and record.get("status") in ("empty", "failed")


def _split_record(record: Any, layout: Layout) -> tuple[str, str]:
    """The text of one record and its answer as it was written."""
    if not isinstance(record, Mapping):
        raise AnswerFormatError("record", type(record).__name__, "must be an object with input and output")
    if layout.messages in record or not layout.columns:
        text, line = _split_messages(record.get(layout.messages), layout.tags)
    else:
        named = _rename(record)
        by_field = layout.columns.get("response") not in record and not set(FIELD_COLUMNS).isdisjoint(named)
        text, line = _split_fields(named) if by_field else _split_alpaca(record, layout.columns)
    text = clean_text(text)
    if not text:
        raise AnswerFormatError("input", text, "must not be empty")
    if not line.strip():
        raise AnswerFormatError("output", line, "must not be empty")
    return text, line


def _rename(record: Mapping[Any, Any]) -> dict[str, Any]:
    named = {str(key).strip(): value for key, value in record.items()}
    return {ALIASES[key]: value for key, value in named.items() if key in ALIASES} | named


def _split_alpaca(record: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[str, str]:
    prompt, query, line = (
        record.get(columns[name]) if name in columns else None for name in ("prompt", "query", "response")
    )
    if not isinstance(line, str):
        raise AnswerFormatError("output", line, "must be a text")
    if isinstance(query, str) and query.strip():
        return query, line
    # Without a query the prompt holds both: the instruction above the text.
    if not isinstance(prompt, str) or not prompt.strip():
        raise AnswerFormatError("input", query, "must be a text")
    return _drop_instruction(prompt), line


def _split_messages(messages: Any, tags: Mapping[str, str]) -> tuple[str, str]:
    turns = [] if messages is None or isinstance(messages, str) else list(messages)
    roles = [turn.get(tags["role_tag"]) if isinstance(turn, dict) else None for turn in turns]
    if roles and roles[0] == tags.get("system_tag", "system"):
        turns, roles = turns[1:], roles[1:]
    if roles != [tags["user_tag"], tags["assistant_tag"]]:
        raise AnswerFormatError("messages", roles, f"must be one turn of {tags['user_tag']} and one of {tags['assistant_tag']}")  # fmt: skip
    text, line = (turn.get(tags["content_tag"]) for turn in turns)
    if not isinstance(text, str) or not isinstance(line, str):
        raise AnswerFormatError("messages", [text, line], "must be texts")
    return _drop_instruction(text), line


def _drop_instruction(prompt: str) -> str:
    """The text of a prompt: without a first, or else last, line that asks for all five fields."""
    lines = prompt.strip().split("\n")
    asks = [all(name in line for name in FIELDS) for line in lines]
    return "\n".join(lines[1:] if asks[0] else lines[:-1] if asks[-1] else lines)


def _split_fields(named: Mapping[str, Any]) -> tuple[str, str]:
    text = named.get("text", named.get("input"))
    if text is None and ("title" in named or "content" in named):
        title, content = (named.get(name) for name in ("title", "content"))
        text = news_text(title if isinstance(title, str) else "", content if isinstance(content, str) else "")
    if not isinstance(text, str):
        raise AnswerFormatError("text", text, "must be a text")
    values = {name: named.get(name) for name in FIELD_COLUMNS}
    values["stocks"] = _join_stocks(values["stocks"])
    for name, value in values.items():
        if not isinstance(value, str) or not value.strip():
            raise AnswerFormatError(name, value, "must be a label" if name != "stocks" else f"must be names joined by 、 or {NO_STOCKS}")  # fmt: skip
    return text, ",".join(f"{name}:{value}" for name, value in zip(FIELDS, values.values(), strict=True))


def _join_stocks(value: Any) -> Any:
    """A list, also as the json text that a csv has of it, as names joined by 、; anything else as it is."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if isinstance(value, (list, tuple, np.ndarray)):
        return "、".join(map(str, value)) or NO_STOCKS
    return value


def _read_extras(record: Mapping[Any, Any]) -> dict[str, Any]:
    named = _rename(record)
    extras: dict[str, Any] = {}
    for name in OPTIONAL_COLUMNS:
        if name in named:
            value = named[name]
            missing = pd.api.types.is_scalar(value) and (pd.isna(value) or value == "")
            extras[name] = None if missing else _read_time(value) if name == "published_at" else clean_text(str(value))
    return extras


def _read_time(value: Any) -> pd.Timestamp:
    try:
        time = pd.Timestamp(value)
        if time.tzinfo is not None:
            return time.tz_convert(TIMEZONE)
    except (ValueError, TypeError, OverflowError):
        pass
    raise AnswerFormatError("published_at", str(value), "must be a time with its offset", remedy="as in 2026-07-06T09:30:00+08:00, or leave it out")  # fmt: skip


def _list_problems(problems: list[tuple[int, str]], source: Source, total: int) -> TableError:
    shown = "; ".join(f"{source.unit} {number}: {reason}" for number, reason in problems[:_SHOWN])
    more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    bad = f"{len(problems)} bad of {total}"
    error = TableError("labels", bad, "must all be of the article's form", source.place, shown + more)
    error.problems = problems
    return error


def _assemble(rows: list[dict[str, Any]]) -> pd.DataFrame:
    present = [name for name in OPTIONAL_COLUMNS if any(name in row for row in rows)]
    frame = pd.DataFrame(rows, columns=[*present, "text", *FIELD_COLUMNS])
    for name in frame.columns:
        if name == "published_at":
            frame[name] = pd.to_datetime(frame[name], utc=True).astype(TIME_TYPE)
        elif name != "stocks":
            frame[name] = frame[name].astype("str")
    return frame


def _iso(time: Any) -> str:
    return "" if pd.isna(time) else str(time.isoformat())


def _to_records(frame: pd.DataFrame, layout: str) -> list[dict[str, Any]]:
    table = flatten(frame)
    extras = [name for name in OPTIONAL_COLUMNS if name in table.columns]
    records = []
    for row, stocks in zip(table.to_dict("records"), frame["stocks"], strict=True):
        answer = str(Answer(row["event"], row["market"], row["industry"], row["sentiment"], tuple(stocks)))
        if layout == "alpaca":
            record: dict[str, Any] = {"instruction": INSTRUCTION, "input": row["text"], "output": answer}
        else:
            turns = (("human", f"{INSTRUCTION}\n{row['text']}"), ("gpt", answer))
            record = {MESSAGES: [{"from": role, "value": value} for role, value in turns]}
        records.append(record | {name: row[name] or None for name in extras})
    return records
