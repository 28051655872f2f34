"""Labelling in rounds: choose what to label, hand it out as an Excel sheet, take it back, compare two annotators."""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
from openpyxl.styles import Alignment, Font
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.datavalidation import DataValidation

from newsfactor.errors import InvalidValueError, TableError
from newsfactor.label_files import CELL_LIMIT, save_book, write_cells
from newsfactor.labels import FIELD_COLUMNS, OPTIONAL_COLUMNS, clean_text, flatten, read_labels
from newsfactor.prompting import NO_STOCKS, news_text
from newsfactor.schema import LEVELS, PROBABILITIES, TAGS, check
from newsfactor.taxonomy import Taxonomy

log = logging.getLogger("newsfactor")

# Among 1500 news, pairs above it were one item, pairs from 0.4 to 0.5 alike notices of two companies or products.
NEAR_DUPLICATE = 0.5
_EXTREMES = ("极度负面", "极度正面")
_WIDTHS = {"news_id": 14, "published_at": 26, "text": 80, "stocks": 24, "reason": 30}
_SHOWN = 10


@dataclass(frozen=True)
class Agreement:
    """How far two annotators agree; printing it gives one screen of text.

    Attributes
    ----------
    fields : DataFrame
        ``field``; ``n`` items; ``agreement``, the share of equal answers (of ``stocks``: the same set of names);
        ``kappa`` (Cohen's) of the four labels; ``weighted_kappa`` (quadratic, over the seven levels) of the
        sentiment; ``f1`` (micro, over all names) of the stocks. NaN where a figure is not defined: a kappa if both
        give one and the same label throughout, F1 if neither names any stock.
    disagreements : DataFrame
        ``text``, ``field``, ``first``, ``second``: one row for each field of an item that differs.
    matched, only_first, only_second : int
        Items that both labelled, and that one did.
    """

    fields: pd.DataFrame
    disagreements: pd.DataFrame
    matched: int
    only_first: int
    only_second: int

    def __str__(self) -> str:
        title = f"{self.matched} items labelled by both, {self.only_first} by the first alone, {self.only_second} by the second alone"
        table = self.fields.to_string(index=False, float_format="{:.3f}".format, na_rep="-")
        pairs = self.disagreements[["field", "first", "second"]].itertuples(index=False, name=None)
        common = [f"  {n} × {field}: {one} | {two}" for (field, one, two), n in Counter(pairs).most_common(_SHOWN)]
        heading = f"{len(self.disagreements)} disagreements" + ("; the most common:" if common else "")
        return "\n".join([title, "", table, "", heading, *common])


def export_sheet(
    tags: pd.DataFrame, path: str | Path, *, size: int = 100, mix: Sequence[float] = (0.4, 0.4, 0.2), labelled: Any = None,
    seed: int = 0, taxonomy: Taxonomy | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Choose news to label and write them to an Excel file with the model's answers filled in.

    The random part is drawn first and alone speaks for all news. The uncertain part has the smallest of the
    probabilities of the four chosen labels. The rare part takes from each event, industry and extreme sentiment
    a number inverse to its frequency. One item is taken of a story, and of near-duplicates (Jaccard over 0.5 of
    their sets of four characters in a row). The labels have dropdowns.

    Parameters
    ----------
    tags : DataFrame
        TAGS, any order. Rows with status ``empty`` or ``failed`` are never chosen.
    path : path
        Ends in ``.xlsx``, in a folder that exists. An existing file is replaced.
    size : int
        Items to choose; fewer if there are not as many.
    mix : (float, float, float)
        Shares of random, uncertain and rare items; they sum to 1.
    labelled : as for :func:`newsfactor.labels.read_labels`, optional
        What is labelled already: these news, their stories and near-duplicates are left out.
    seed : int
        Seeds the choice; the order of ``tags`` does not matter.
    taxonomy : Taxonomy, optional
        The label sets of the dropdowns; the default ones if not given.

    Returns
    -------
    DataFrame
        The rows of the sheet, shuffled: ``news_id``, ``published_at``, the LABELS columns, ``reason``.

    Raises
    ------
    TableError
        If ``tags`` is not valid or nothing can be chosen.
    InvalidValueError
        If ``path``, ``size`` or ``mix`` cannot be used.

    Examples
    --------
    >>> chosen = export_sheet(tags, "round-1.xlsx", size=200)  # doctest: +SKIP
    """
    path = Path(path).expanduser()
    _check_options(path, size, mix)
    done = pd.DataFrame({"text": []}) if labelled is None else read_labels(labelled, taxonomy=taxonomy)
    pool = _make_pool(check(tags, TAGS, parameter="tags"), done, seed)
    reasons = _choose(pool, size, mix, done["text"])
    if not reasons:
        raise TableError("tags", len(tags), "must hold tagged news that is not labelled yet")
    if len(reasons) < size:
        log.warning("label: %d of %d wanted items found that are no near-duplicates", len(reasons), size)
    order = sorted(reasons)
    columns = ["news_id", "published_at", "text", *FIELD_COLUMNS]
    chosen = pool.loc[order, columns].assign(reason=[reasons[k] for k in order]).reset_index(drop=True)
    _write_sheet(chosen, path, taxonomy or Taxonomy())
    return chosen


def import_sheet(
    path: str | Path, *, into: str | Path | pd.DataFrame | None = None, taxonomy: Taxonomy | None = None
) -> pd.DataFrame:
    """Read a labelled sheet, check it, and merge it with earlier labels; nothing is written.

    An item is the same if its ``news_id`` is, or else its text; the sheet's answer takes the earlier one's place.

    Parameters
    ----------
    path : path
        The Excel file; rows may have been deleted or added.
    into : path or DataFrame, optional
        Earlier labels as for :func:`newsfactor.labels.read_labels`; a path that does not exist yet holds none.
    taxonomy : Taxonomy, optional
        The label sets; the default ones if not given.

    Returns
    -------
    DataFrame
        LABELS: the earlier ones in their order, then the new ones. ``attrs`` counts ``added``, ``changed`` (items
        of which the answer changed), ``unchanged`` and ``mended``.

    Raises
    ------
    TableError
        If rows are bad: all of them with their row number in Excel.
    UnreadableFileError
        If a file cannot be read.

    Examples
    --------
    >>> labels = import_sheet("round-1.xlsx", into="labels.json")  # doctest: +SKIP
    """
    sheet = read_labels(path, taxonomy=taxonomy)
    if into is None or (isinstance(into, (str, Path)) and not Path(into).expanduser().exists()):
        sheet.attrs.update(added=len(sheet), changed=0, unchanged=0)
        return sheet
    earlier = read_labels(into, taxonomy=taxonomy)
    found = _look_up(earlier, sheet)
    new = sorted(set(range(len(sheet))) - set(found))
    # Positions in the two tables stacked: the sheet's row where it has the item, else the earlier one.
    order = [k if match is None else len(earlier) + match for k, match in enumerate(found)]
    stacked = pd.concat([earlier, sheet], ignore_index=True)
    merged = stacked.iloc[order + [len(earlier) + k for k in new]].reset_index(drop=True)
    for name in set(OPTIONAL_COLUMNS) & set(earlier.columns):
        merged[name] = merged[name].fillna(earlier[name])
    before, after = _answers(earlier), _answers(sheet)
    changed = {match for k, match in enumerate(found) if match is not None and before[k] != after[match]}
    table = read_labels(merged, taxonomy=taxonomy)
    same = len(sheet) - len(new) - len(changed)
    table.attrs.update(added=len(new), changed=len(changed), unchanged=same, mended=sheet.attrs["mended"])
    return table


def agreement(first: Any, second: Any, *, taxonomy: Taxonomy | None = None) -> Agreement:
    """Compare two annotators' labels of the same news.

    Items are matched on ``news_id``, or else on the text; repeated ones count once.

    Parameters
    ----------
    first, second : as for :func:`newsfactor.labels.read_labels`
        The two annotators' labels.
    taxonomy : Taxonomy, optional
        The label sets; the default ones if not given.

    Returns
    -------
    Agreement
        Figures by field, every disagreement, and how many items were matched.

    Raises
    ------
    TableError
        If labels are bad or no item is in both.
    """
    one, two = (read_labels(labels, taxonomy=taxonomy).drop_duplicates("text", ignore_index=True) for labels in (first, second))  # fmt: skip
    found = _look_up(one, two)
    pairs = [(k, match) for k, match in enumerate(found) if match is not None]
    if not pairs:
        raise TableError("second", len(two), "must share at least one item with first")
    left, right = one.iloc[[k for k, _ in pairs]], two.iloc[[k for _, k in pairs]]
    rows = [_compare(name, left[name].tolist(), right[name].tolist()) for name in FIELD_COLUMNS]
    return Agreement(
        fields=pd.DataFrame(rows, columns=["field", "n", "agreement", "kappa", "weighted_kappa", "f1"]),
        disagreements=_list_differences(left, right),
        matched=len(pairs),
        only_first=len(one) - len(pairs),
        only_second=len(two) - len({k for _, k in pairs}),
    )


def _check_options(path: Path, size: int, mix: Sequence[float]) -> None:
    if path.suffix.lower() != ".xlsx" or not path.parent.is_dir():
        raise InvalidValueError("path", str(path), "must end in .xlsx and lie in an existing folder")
    if size < 1:
        raise InvalidValueError("size", size, "must be at least 1")
    if len(mix) != 3 or min(mix) < 0 or not math.isclose(sum(mix), 1):
        raise InvalidValueError("mix", mix, "must be three shares that sum to 1: random, uncertain, rare")


def _make_pool(tags: pd.DataFrame, done: pd.DataFrame, seed: int) -> pd.DataFrame:
    """What may be chosen, one item per story, shuffled."""
    rows = tags[tags["status"].isin(("ok", "truncated"))].sort_values(["published_at", "news_id"])
    pairs = zip(rows["title"], rows["content"], strict=True)
    rows = rows.assign(text=[clean_text(news_text(title, content)) for title, content in pairs])
    known = rows["text"].isin(done["text"])
    if "news_id" in done.columns:
        known |= rows["news_id"].isin(done["news_id"])
    story = rows["story_id"].fillna(rows["news_id"]) if "story_id" in rows.columns else rows["news_id"]
    usable = rows["text"].str.len().between(1, CELL_LIMIT) & ~story.isin(story[known])
    pool = rows[usable & ~story[usable].duplicated().reindex(rows.index, fill_value=True)]
    return pool.iloc[np.random.default_rng(seed).permutation(len(pool))].reset_index(drop=True)


def _choose(pool: pd.DataFrame, size: int, mix: Sequence[float], done: Iterable[str]) -> dict[int, str]:
    """Position in the pool and reason of each chosen item."""
    counts = np.diff(np.rint(np.cumsum([0.0, *mix]) * size)).astype(int)
    rankings = (_rank_random(pool, "random"), _rank_uncertain(pool), _rank_rare(pool), _rank_random(pool, "filling up"))
    texts: list[str] = pool["text"].tolist()
    known, seen = [_grams(text) for text in done], set[int]()
    chosen: dict[int, str] = {}
    for ranking, count in zip(rankings, [*counts, size], strict=True):
        wanted = min(len(chosen) + count, size)
        for position, reason in ranking:
            if len(chosen) >= wanted:
                break
            if position not in seen:
                seen.add(position)
                grams = _grams(texts[position])
                if not any(_are_alike(grams, other) for other in known):
                    chosen[position] = reason
                    known.append(grams)
    return chosen


def _rank_random(pool: pd.DataFrame, reason: str) -> Iterator[tuple[int, str]]:
    return ((position, reason) for position in range(len(pool)))


def _rank_uncertain(pool: pd.DataFrame) -> Iterator[tuple[int, str]]:
    """By the least sure of the four labels; items without any probability are none."""
    level = pool[list(PROBABILITIES)].max(axis=1)
    sure = np.column_stack([pool["p_event"], pool["p_market"], pool["p_industry"], level]).astype(float)
    sure = np.where(np.isnan(sure), np.inf, sure)
    least, weakest = sure.min(axis=1), sure.argmin(axis=1)
    for position in np.argsort(least, kind="stable").tolist():
        if np.isfinite(least[position]):
            yield position, f"uncertain: {FIELD_COLUMNS[weakest[position]]} {least[position]:.2f}"


def _rank_rare(pool: pd.DataFrame) -> Iterator[tuple[int, str]]:
    """By frequency times turn, so that a class gives a number of items inverse to its frequency."""
    sizes, keys = [], []
    for name in ("event", "industry", "sentiment"):
        group = pool.groupby(name)[name]
        size = group.transform("size").to_numpy(dtype=float)
        counted = np.ones(len(pool), bool) if name != "sentiment" else pool[name].isin(_EXTREMES).to_numpy()
        sizes.append(size)
        keys.append(np.where(counted, size * (group.cumcount().to_numpy() + 1), np.inf))
    rarest = np.argmin(keys, axis=0)
    for position in np.argsort(np.min(keys, axis=0), kind="stable").tolist():
        name = ("event", "industry", "sentiment")[rarest[position]]
        yield position, f"rare: {pool[name].iat[position]}, {sizes[rarest[position]][position]:.0f} of {len(pool)}"


def _grams(text: str) -> frozenset[str]:
    letters = re.sub(r"\W+", "", text)
    return frozenset(letters[k : k + 4] for k in range(max(1, len(letters) - 3)))


def _are_alike(one: frozenset[str], two: frozenset[str]) -> bool:
    if min(len(one), len(two)) <= NEAR_DUPLICATE * max(len(one), len(two)):
        return False
    shared = len(one & two)
    return shared > NEAR_DUPLICATE * (len(one) + len(two) - shared)


def _write_sheet(chosen: pd.DataFrame, path: Path, taxonomy: Taxonomy) -> None:
    book = openpyxl.Workbook()
    sheet: Any = book.active
    sheet.title = "labels"
    table = flatten(chosen).assign(reason=chosen["reason"])
    write_cells(sheet, table)
    lists = pd.DataFrame({field: pd.Series(labels, dtype="str") for field, labels in taxonomy.slots}).fillna("")
    write_cells(book.create_sheet("lists"), lists)
    for number, (field, labels) in enumerate(taxonomy.slots, start=1):
        source, target = get_column_letter(number), get_column_letter(table.columns.get_loc(field) + 1)  # type: ignore[operator]
        choice = DataValidation(
            type="list", formula1=f"lists!${source}$2:${source}${len(labels) + 1}", allow_blank=False,
            showErrorMessage=True, errorTitle=field, error="one of the list",
        )  # fmt: skip
        choice.add(f"{target}2:{target}{len(table) + 1}")
        sheet.add_data_validation(choice)
    sheet.freeze_panes = "A2"
    for number, name in enumerate(table.columns, start=1):
        sheet.column_dimensions[get_column_letter(number)].width = _WIDTHS.get(name, 16)
        sheet.cell(1, number).font = Font(bold=True)
    for row in sheet.iter_rows(min_row=2):
        for cell in row:
            cell.alignment = Alignment(wrap_text=True, vertical="top")
    save_book(book, path)


def _look_up(labels: pd.DataFrame, others: pd.DataFrame) -> list[int | None]:
    """For each row the position of its item in the other table."""
    ids: dict[str | None, int] = {name: k for k, name in enumerate(_ids(others)) if name is not None}
    texts: dict[str, int] = {text: k for k, text in enumerate(others["text"])}
    pairs = zip(_ids(labels), labels["text"], strict=True)
    return [ids[name] if name in ids else texts.get(text) for name, text in pairs]


def _ids(labels: pd.DataFrame) -> list[str | None]:
    if "news_id" not in labels.columns:
        return [None] * len(labels)
    return [None if pd.isna(name) else name for name in labels["news_id"]]


def _answers(labels: pd.DataFrame) -> list[tuple[Any, ...]]:
    return [(*four, tuple(names)) for *four, names in labels[list(FIELD_COLUMNS)].itertuples(index=False, name=None)]


def _compare(field: str, one: list[Any], two: list[Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"field": field, "n": len(one)}
    if field == "stocks":
        sets = [(set(a), set(b)) for a, b in zip(one, two, strict=True)]
        named = sum(len(a) + len(b) for a, b in sets)
        f1 = 2 * sum(len(a & b) for a, b in sets) / named if named else math.nan
        return row | {"agreement": float(np.mean([a == b for a, b in sets])), "f1": f1}
    equal = float(np.mean([a == b for a, b in zip(one, two, strict=True)]))
    shares = [pd.Series(labels).value_counts(normalize=True) for labels in (one, two)]
    chance = float(shares[0].mul(shares[1], fill_value=0.0).sum())
    row |= {"agreement": equal, "kappa": _beyond_chance(1 - equal, 1 - chance)}
    if field == "sentiment":
        a, b = (np.array([LEVELS[label] for label in labels], dtype=float) for labels in (one, two))
        expected = np.mean(a**2) + np.mean(b**2) - 2 * np.mean(a) * np.mean(b)
        row["weighted_kappa"] = _beyond_chance(float(np.mean((a - b) ** 2)), float(expected))
    return row


def _beyond_chance(observed: float, expected: float) -> float:
    """One less the ratio of observed to expected disagreement; NaN where none is expected."""
    return 1 - observed / expected if expected > 1e-12 else math.nan


def _list_differences(left: pd.DataFrame, right: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for text, one, two in zip(left["text"], _answers(left), _answers(right), strict=True):
        for field, a, b in zip(FIELD_COLUMNS, one, two, strict=True):
            if (set(a) != set(b)) if field == "stocks" else (a != b):
                shown = [("、".join(value) or NO_STOCKS) if field == "stocks" else value for value in (a, b)]
                rows.append((text, field, *shown))
    return pd.DataFrame(rows, columns=["text", "field", "first", "second"], dtype="str")
