"""Two ways to run one model, label by label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from newsfactor.prompting import NO_STOCKS
from newsfactor.scoring import (
    CLOSED,
    FIELDS,
    NUMBERS,
    align_text,
    choose_key,
    look_up,
    no_overlap,
    probability_of,
    read_answers,
    refuse_repeats,
    to_levels,
)

AT_LEAST = 0.995
_SHOWN = 20


@dataclass(frozen=True)
class Comparison:
    """The result of `compare_tags`; printing it says whether the two agree and lists where they differ.

    Attributes
    ----------
    agreement : float
        Share of equal labels over all items and the five fields, ties counted as equal.
    fields : DataFrame
        ``field, n, equal, ties, agreement``; ``equal`` does not hold the ties.
    differences : DataFrame
        ``news_id, text, field, first, second``: one row for each label that differs, null where there is no answer.
    largest : DataFrame
        ``column, largest, mean, n``: absolute differences of the score and the probabilities; those of a
        chosen label where both chose the same. Empty without probabilities.
    """

    agreement: float
    fields: pd.DataFrame
    differences: pd.DataFrame
    largest: pd.DataFrame

    @property
    def passes(self) -> bool:
        """Whether at least 99.5% of the labels agree."""
        return self.agreement >= AT_LEAST

    def __str__(self) -> str:
        verdict = "enough" if self.passes else "too few"
        shown = self.differences.assign(text=self.differences["text"].str.slice(0, 24)).head(_SHOWN)
        parts = [
            f"{self.agreement:.2%} of {self.fields['n'].sum():,} labels agree: {verdict}, {AT_LEAST:.1%} are wanted;"
            f" {self.fields['ties'].sum():,} ties counted as equal",
            align_text(self.fields.assign(agreement=self.fields["agreement"].map("{:.2%}".format))),
        ]
        if len(self.largest):
            rounded = {name: self.largest[name].map("{:.2g}".format) for name in ("largest", "mean")}
            parts += ["\nAbsolute differences", align_text(self.largest.assign(**rounded))]
        if len(shown):
            unknown = [name for name in ("news_id", "text") if shown[name].isna().all()]
            parts += ["\nDifferences", align_text(shown.drop(columns=unknown).fillna("–"))]
        more = len(self.differences) - len(shown)
        return "\n".join(parts + ([f"... and {more:,} more"] if more else []))


def compare_tags(first: pd.DataFrame, second: pd.DataFrame, *, tolerance: float = 1e-5) -> Comparison:
    """Compare the labels of two runs of one model on the same items.

    Rows are matched as in `score_tags`. Stocks are equal if the sets of names are. An item that only one frame
    has, and one that either failed to answer, differs in every field; an empty text agrees with itself.

    Parameters
    ----------
    first, second : DataFrame
        TAGS, or frames of labels.
    tolerance : float
        Two labels are a tie, and equal, if each run gives both the same probability within this. Of event, market and
        industry a run tells only the chosen label's: these tie if they are the same within it, and at most one half.

    Returns
    -------
    Comparison
        ``passes`` is whether at least 99.5% agree.

    Raises
    ------
    TableError
        If a column is missing, a key is repeated, or the frames share no item.

    Examples
    --------
    >>> line = pd.DataFrame({"text": ["海川重工中标"], "event": ["合同订单"], "market": ["中国市场"],
    ...                      "industry": ["机械设备"], "sentiment": ["一般正面"], "stocks": [["海川重工"]]})
    >>> compare_tags(line, line.assign(market="其他市场")).agreement
    0.8
    """
    one, two = read_answers(first, "first"), read_answers(second, "second")
    key = choose_key(one, two)
    for answers, parameter in ((one, "first"), (two, "second")):
        refuse_repeats(answers, key, parameter)
    if not one[key].isin(two[key]).any():
        raise no_overlap("first", one, key)
    keys = pd.concat([one[key], two.loc[~two[key].isin(one[key]), key]], ignore_index=True)
    one, two = (look_up(answers, key, keys) for answers in (one, two))
    equal = pd.DataFrame({field: _equal(one, two, field) for field in FIELDS})
    ties = pd.DataFrame({field: ~equal[field] & _tied(one, two, field, tolerance) for field in FIELDS})
    fields = pd.DataFrame({"n": len(keys), "equal": equal.sum(), "ties": ties.sum()}, index=list(FIELDS))
    fields["agreement"] = (fields["equal"] + fields["ties"]) / fields["n"]
    agreement = float((fields["equal"] + fields["ties"]).sum() / fields["n"].sum())
    differences = _list_differences(one, two, ~(equal | ties))
    return Comparison(agreement, fields.reset_index(names="field"), differences, _measure_drift(one, two))


def _equal(one: pd.DataFrame, two: pd.DataFrame, field: str) -> pd.Series:
    return (one[field] == two[field]) | ((one["status"] == "empty") & (two["status"] == "empty"))


def _tied(one: pd.DataFrame, two: pd.DataFrame, field: str, tolerance: float) -> pd.Series:
    """Whether two labels that differ are as likely as each other in both runs; what is not known is no tie."""
    if field == "stocks":
        return pd.Series(False, index=one.index)
    if field != "sentiment":
        p, q = one[f"p_{field}"], two[f"p_{field}"]
        # Two labels that are as likely as each other cannot both have more than half.
        return ((p - q).abs() <= tolerance) & (np.maximum(p, q) <= 0.5 + tolerance)
    levels = [to_levels(run) for run in (one, two)]
    gaps = [np.subtract(*(probability_of(run, level) for level in levels)) for run in (one, two)]
    return pd.Series((np.abs(gaps) <= tolerance).all(axis=0), index=one.index)


def _list_differences(one: pd.DataFrame, two: pd.DataFrame, differs: pd.DataFrame) -> pd.DataFrame:
    parts = [
        pd.DataFrame({
            "row": np.flatnonzero(differs[field]), "news_id": one["news_id"].fillna(two["news_id"])[differs[field]],
            "text": one["text"].fillna(two["text"])[differs[field]], "field": field,
            "first": one.loc[differs[field], field].map(_show), "second": two.loc[differs[field], field].map(_show),
        })
        for field in FIELDS
    ]  # fmt: skip
    table = pd.concat(parts).sort_values("row", kind="stable", ignore_index=True).drop(columns="row")
    return table.astype({"first": "str", "second": "str"})


def _show(value: Any) -> Any:
    return ("、".join(sorted(value)) or NO_STOCKS) if isinstance(value, frozenset) else value


def _measure_drift(one: pd.DataFrame, two: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for name in NUMBERS:
        change = (one[name] - two[name]).abs()
        field = name.removeprefix("p_")
        change = change[one[field] == two[field]] if field in CLOSED else change
        rows.append({"column": name, "largest": change.max(), "mean": change.mean(), "n": int(change.count())})
    known = [row for row in rows if row["n"]]
    return pd.DataFrame(known, columns=["column", "largest", "mean", "n"])
