"""The tables, the seven-level scale, and ``check(frame, TABLE)``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
import pandas as pd

from newsfactor.errors import TableError
from newsfactor.keys import find_repeated
from newsfactor.parallel import map_beside

TIMEZONE = "Asia/Shanghai"
TIME_TYPE: Final = pd.DatetimeTZDtype("us", TIMEZONE)
DATE_TYPE: Final = "datetime64[us]"

SENTIMENTS = ("极度负面", "一般负面", "轻微负面", "无明显倾向", "轻微正面", "一般正面", "极度正面")
LEVELS = dict(zip(SENTIMENTS, range(-3, 4), strict=True))
PROBABILITIES = ("p_m3", "p_m2", "p_m1", "p_0", "p_p1", "p_p2", "p_p3")
PRECISIONS = ("second", "minute", "day")
STATUSES = ("ok", "truncated", "empty", "failed")
LINK_STATUSES = ("exact", "alias", "code", "ambiguous", "unknown", "none")
EVIDENCES = ("observed", "inferred", "current")


@dataclass(frozen=True)
class Table:
    """A table's name, key and columns.

    ``columns`` maps a column to its kind: ``text``, ``list``, ``time`` (timezone-aware), ``date``
    (midnight, naive: a session or a validity date), ``number``, ``unit`` (a number in 0..1) or ``flag``.
    ``choices`` lists the allowed values of a text column. Columns beyond these are kept as they are.
    """

    name: str
    key: tuple[str, ...]
    columns: Mapping[str, str]
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)


_NEWS = {
    "news_id": "text", "published_at": "time", "available_at": "time", "time_precision": "text",
    "title": "text", "content": "text", "source": "text",
}  # fmt: skip
_STORY = {"story_id": "text", "novelty": "unit"}
_LABELS = {
    "event": "text", "market": "text", "industry": "text", "sentiment": "text", "stocks": "list",
    "stock_scores": "list", "score": "number", **dict.fromkeys(PROBABILITIES, "unit"),
    "p_event": "unit", "p_market": "unit", "p_industry": "unit", "reports_price": "flag",
    "status": "text", "tagger": "text", "trained_through": "date",
}  # fmt: skip
_CHOICES = {"time_precision": PRECISIONS}
_TAG_CHOICES = {**_CHOICES, "sentiment": SENTIMENTS, "status": STATUSES}

NEWS = Table("NEWS", ("news_id",), _NEWS, _CHOICES)
TAGS = Table("TAGS", ("news_id",), {**_NEWS, **_LABELS}, _TAG_CHOICES)
SECURITIES = Table(
    "SECURITIES",
    ("code", "kind", "value", "valid_from"),
    {
        "code": "text", "kind": "text", "value": "text", "valid_from": "date", "valid_to": "date",
        "evidence": "text", "seen_from": "date", "seen_to": "date",
    },
    {"kind": ("short", "former", "full", "alias", "english", "sw1", "sw2", "sw3", "listed"), "evidence": EVIDENCES},
)  # fmt: skip
LINKS = Table(
    "LINKS",
    ("news_id", "name", "code"),
    {
        **{name: kind for name, kind in {**_NEWS, **_LABELS}.items() if kind != "list" and name != "content"},
        "name": "text", "code": "text", "mentioned": "unit", "relevance": "unit", "is_subject": "flag",
        "n_codes": "number", "event_novelty": "unit", "stock_industry": "text", "name_evidence": "text",
        "link_status": "text",
    },
    {**_TAG_CHOICES, "link_status": LINK_STATUSES, "name_evidence": EVIDENCES},
)  # fmt: skip
UNIVERSE = Table(
    "UNIVERSE",
    ("date", "code"),
    {
        "date": "date", "code": "text", "industry": "text", "circ_mv": "number", "is_st": "flag",
        "is_suspended": "flag", "limit_up": "number", "limit_down": "number", "list_date": "date",
    },
)  # fmt: skip
COVERAGE = Table("COVERAGE", ("source", "start"), {"source": "text", "start": "time", "end": "time"})
PANEL_BY_STOCK = Table("PANEL", ("date", "code"), {"date": "date", "code": "text", "known_at": "time", "observed": "unit", "n_news": "number"})  # fmt: skip
PANEL_BY_INDUSTRY = Table("PANEL", ("date", "industry"), {"date": "date", "industry": "text", "known_at": "time", "observed": "unit", "n_news": "number"})  # fmt: skip
PRICES = Table(
    "PRICES",
    ("date", "code"),
    {"date": "date", "code": "text", **dict.fromkeys(("open", "high", "low", "close", "pre_close", "amount", "circ_mv"), "number")},
)  # fmt: skip


def check(frame: pd.DataFrame, table: Table, *, parameter: str | None = None) -> pd.DataFrame:
    """Return ``frame`` unchanged if it is a valid ``table``.

    Parameters
    ----------
    frame : DataFrame
        Any row order and index. Empty frames with the right columns are valid.
    table : Table
        One of the tables of this module.
    parameter : str, optional
        What the error calls the frame; the table's name in lower case if not given.

    Returns
    -------
    DataFrame
        The argument itself.

    Raises
    ------
    TableError
        If a column is missing (the nearest existing name is suggested) or of the wrong type, the key
        is null where it must not be or repeated, or a value lies outside its range. It names the first
        offending value and its place.

    Examples
    --------
    >>> check(pd.DataFrame({"source": []}), COVERAGE)
    Traceback (most recent call last):
    newsfactor.errors.TableError: `coverage` needs the column 'start' (COVERAGE), got ['source']
    """
    parameter = parameter or table.name.lower()
    if not isinstance(frame, pd.DataFrame):
        raise TableError(parameter, type(frame).__name__, f"must be a DataFrame of the form {table.name}")
    for column in table.columns:
        if column not in frame.columns:
            near = difflib.get_close_matches(column, map(str, frame.columns), n=1)
            remedy = f"rename {near[0]!r} if it is meant" if near else ""
            found = [str(name) for name in frame.columns]
            raise TableError(parameter, found, f"needs the column {column!r} ({table.name})", remedy=remedy)
    # Work on whole columns, which threads can share; the first problem in the order of the columns is raised.
    checks = [
        partial(_check_column, frame, column, kind, table.choices.get(column), parameter)
        for column, kind in table.columns.items()
    ]
    map_beside(lambda run: run(), [*checks, partial(_check_key, frame, table, parameter)])
    return frame


def list_factors(panel: pd.DataFrame, table: Table) -> list[str]:
    """The columns of floats that are not part of the table itself."""
    kinds = panel.dtypes.items()
    return [str(name) for name, kind in kinds if name not in table.columns and pd.api.types.is_float_dtype(kind)]


def choose_factors(panel: pd.DataFrame, table: Table, factors: Sequence[str] | None) -> list[str]:
    """The factors named, or all of the panel; each must be a numeric column of it."""
    floats = list_factors(panel, table)
    names = floats if factors is None else [factors] if isinstance(factors, str) else list(factors)
    unknown = [name for name in names if name not in panel.columns or not pd.api.types.is_numeric_dtype(panel[name])]
    if unknown or not names:
        raise TableError("factors", unknown, "must be a numeric column of the panel", remedy=f"it has {floats}")
    return names


def place(frame: pd.DataFrame, position: int, key: Sequence[str]) -> str:
    """Name one row for an error: its key and its position."""
    row = frame.iloc[position]
    named = ", ".join(f"{column} {row[column]!s}" for column in key if column in frame.columns)
    return f"{named} (row {position})" if named else f"row {position}"


def _check_column(frame: pd.DataFrame, column: str, kind: str, choices: Sequence[str] | None, parameter: str) -> None:
    values, name = frame[column], f"{parameter}[{column!r}]"
    if kind == "time" and not isinstance(values.dtype, pd.DatetimeTZDtype):
        if len(values):
            raise TableError(
                name, str(values.dtype), "must be timezone-aware", remedy="localise it to a named timezone"
            )
        return
    if kind == "date":
        if not pd.api.types.is_datetime64_dtype(values.dtype):
            if len(values):
                raise TableError(name, str(values.dtype), "must be naive datetime64 dates")
            return
        times = values.to_numpy()
        whole = times.astype("datetime64[D]") == times
        if not whole.all():
            _first_bad(frame, ~whole & values.notna(), column, name, "must be a date without a time of day")
    if kind in ("number", "unit") and len(values):
        if not pd.api.types.is_numeric_dtype(values.dtype) or pd.api.types.is_bool_dtype(values.dtype):
            raise TableError(name, str(values.dtype), "must be numeric")
        if kind == "unit" and not _is_within(values, 0, 1 + 1e-9):
            _first_bad(frame, (values < 0) | (values > 1 + 1e-9), column, name, "must lie in 0..1")
    if kind == "flag" and len(values) and not pd.api.types.is_bool_dtype(values.dtype):
        raise TableError(name, str(values.dtype), "must be boolean")
    if choices is not None:
        other = ~values.isin([*choices, np.nan])
        if other.any():
            _first_bad(frame, other & values.notna(), column, name, f"must be one of {', '.join(choices)}")


def _is_within(values: pd.Series, low: float, high: float) -> bool:
    """Whether no number lies outside; False also where this cannot be told at once."""
    if not isinstance(values.dtype, np.dtype):
        return False
    numbers = values.to_numpy()
    return bool(np.fmin.reduce(numbers, initial=low) >= low and np.fmax.reduce(numbers, initial=high) <= high)


def _first_bad(frame: pd.DataFrame, bad: pd.Series, column: str, name: str, requirement: str) -> None:
    if bad.any():
        position = int(bad.to_numpy().argmax())
        key = [c for c in ("news_id", "date", "code", "source") if c in frame.columns]
        raise TableError(name, frame[column].iloc[position], requirement, place(frame, position, key))


def _check_key(frame: pd.DataFrame, table: Table, parameter: str) -> None:
    key = list(table.key)
    # A link may have neither name nor code, and a fact may have held since ever: nulls are values there.
    if table.name not in ("LINKS", "SECURITIES"):
        for column in key:
            _first_bad(frame, frame[column].isna(), column, f"{parameter}[{column!r}]", "must not be missing")
    repeated = find_repeated(frame, key)
    if len(repeated):
        position = int(repeated[0])
        value = tuple(frame[column].iloc[position] for column in key)
        shown = value[0] if len(value) == 1 else value
        raise TableError(parameter, shown, f"must hold each ({', '.join(key)}) once", f"row {position}")
