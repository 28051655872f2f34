"""Kept rows and new rows: whether they fit together, and what a new table changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pandas as pd

from newsfactor.errors import StoreError
from newsfactor.schema import DATE_TYPE, TIME_TYPE, Table

_TYPES = {"text": "str", "time": str(TIME_TYPE), "date": DATE_TYPE, "flag": "bool"}
_LABELS = ["event", "market", "industry", "sentiment"]
_ANEW = "build a new store in another folder"
LAST = np.iinfo(np.int64).max
NEVER = np.empty((0, 2), dtype=np.int64)


def conform(table: pd.DataFrame, form: Table, schema: Mapping[str, str], *, parameter: str) -> pd.DataFrame:
    """The table in the columns and types of the kept one, or in those that will be kept if there is none."""
    if not schema:
        types: dict[str, Any] = {name: _type_of(table[name], kind) for name, kind in form.columns.items()}
        return table.reset_index(drop=True).astype(types)
    if set(table.columns) != set(schema):
        odd = sorted(map(str, set(table.columns) ^ set(schema)))
        raise StoreError(parameter, odd, "must have the columns of the kept ones, these differ", remedy=_ANEW)
    for name, kind in schema.items():
        try:
            table[name].astype(cast(Any, kind))
        except (TypeError, ValueError) as error:
            raise StoreError(f"{parameter}[{name!r}]", str(table[name].dtype), f"must be of the type that is kept, {kind}", remedy=f"{_ANEW} ({error})") from error  # fmt: skip
    return table.reset_index(drop=True)[list(schema)].astype(cast(Any, dict(schema)))


def _type_of(values: pd.Series, kind: str) -> str:
    if kind in _TYPES:
        return _TYPES[kind]
    # A whole number of today may be missing tomorrow.
    return str(values.dtype) if pd.api.types.is_float_dtype(values.dtype) else "float64"


def types_of(table: pd.DataFrame) -> dict[str, str]:
    """Names and types of the columns, as :func:`make_empty` takes them."""
    return {str(name): str(kind) for name, kind in table.dtypes.items()}


def make_empty(schema: Mapping[str, str]) -> pd.DataFrame:
    """A table without rows."""
    return pd.DataFrame({name: pd.Series([], dtype=kind) for name, kind in schema.items()})  # type: ignore[call-overload]


def changed_keys(old: pd.DataFrame, new: pd.DataFrame, key: list[str]) -> pd.Index:
    """The keys of ``new`` whose rows, in any order, are not those of ``old``."""
    after, before = _hash_groups(new, key), _hash_groups(old, key)
    return after.index[(after != before.reindex(after.index, fill_value=0)).to_numpy()]


def has_key(table: pd.DataFrame, key: list[str], keys: pd.Index) -> np.ndarray:
    """Which rows have one of the keys."""
    return np.asarray(_index(table, key).isin(keys))


def _hash_groups(table: pd.DataFrame, key: list[str]) -> pd.Series:
    objects = [name for name, kind in table.dtypes.items() if kind == np.dtype(object)]
    plain = table.assign(**{str(name): table[name].map(repr) for name in objects})
    rows = pd.Series(pd.util.hash_pandas_object(plain, index=False).to_numpy(), index=_index(table, key))
    return rows.groupby(level=list(range(len(key)))).sum()


def _index(table: pd.DataFrame, key: list[str]) -> pd.Index:
    return pd.Index(table[key[0]]) if len(key) == 1 else pd.MultiIndex.from_frame(table[key])


def refuse_relabelled(old: pd.DataFrame, new: pd.DataFrame) -> None:
    """Stop if a news item comes again with other labels; one whose tagging had failed may."""
    version = ["news_id", "available_at"]
    labels = [table[[*version, *_LABELS, "status"]].drop_duplicates(version) for table in (old, new)]
    both = labels[0].merge(labels[1], on=version, suffixes=("", "_new"))
    for name in _LABELS:
        same = (both[name] == both[f"{name}_new"]) | (both[name].isna() & both[f"{name}_new"].isna())
        bad = both[~same & (both["status"] != "failed")]
        if len(bad):
            first = bad.iloc[0]
            raise StoreError(
                f"links[{name!r}]", first[f"{name}_new"], f"must be the kept {first[name]!r}",
                f"news_id {first['news_id']!r}, and {len(bad) - 1} more",
                f"labels that were published stay; leave these news out, give an edited text its own available_at, or {_ANEW}",
            )  # fmt: skip


def changed_spans(old: pd.DataFrame, new: pd.DataFrame) -> np.ndarray:
    """Spans of time, in microseconds, where coverage is not what it was; a source changes all from its start on."""
    found = [NEVER]
    for source in sorted({*old["source"], *new["source"]}):
        before, after = (_edges(table[table["source"] == source]) for table in (old, new))
        edges = np.unique(np.concatenate([before.ravel(), after.ravel()]))
        differs = _covers(before, edges[:-1]) != _covers(after, edges[:-1])
        found.append(np.column_stack([edges[:-1], edges[1:]])[differs])
        starts = [part[:, 0].min(initial=LAST) for part in (before, after)]
        if starts[0] != starts[1]:
            found.append(np.array([[min(starts), LAST]]))
    return np.concatenate(found)


def extend_spans(kept: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """Spans inferred in turn, as if at once: those of a source that meet are one."""
    table = pd.concat([kept, new], ignore_index=True).sort_values(["source", "start", "end"], ignore_index=True)
    reached = table.groupby("source")["end"].cummax().groupby(table["source"]).shift()
    part = (~(table["start"] <= reached)).cumsum()
    spans = table.groupby(part).agg(source=("source", "first"), start=("start", "min"), end=("end", "max"))
    return spans.reset_index(drop=True)[["source", "start", "end"]]


def _edges(spans: pd.DataFrame) -> np.ndarray:
    edges = [pd.DatetimeIndex(spans[name]).as_unit("us").asi8 for name in ("start", "end")]
    return np.column_stack(edges)


def _covers(spans: np.ndarray, moments: np.ndarray) -> np.ndarray:
    start, end = np.sort(spans, axis=0).T
    return np.searchsorted(start, moments, side="right") > np.searchsorted(end, moments, side="right")
