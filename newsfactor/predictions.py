"""Answers of models that answer freely, such as LLaMA-Factory's predictions, read into gold and tags."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from newsfactor.errors import TableError, UnreadableFileError
from newsfactor.prompting import NO_STOCKS
from newsfactor.scoring import CLOSED, FIELDS, INVALID
from newsfactor.taxonomy import Taxonomy

# What a freely answering model calls a field; the longer names are the instruction's.
_KEYS = {
    "event": "(?:金融)?事件",
    "market": "(?:对应)?市场",
    "industry": "(?:关联|对应)?行业",
    "sentiment": "情感(?:极性)?",
    "stocks": "关联(?:个股|股票)?|个股",
}
_KEY = re.compile("[\"']?(?:" + "|".join(f"(?P<{field}>{name})" for field, name in _KEYS.items()) + ")[\"']?\\s*:\\s*")
_MENDED = str.maketrans("：，；｛｝［］“”‘’　", ":,;{}[]\"\"'' ")
_NOTHING = (NO_STOCKS, "null", "None")


def read_predictions(path: str | Path, *, taxonomy: Taxonomy | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read LLaMA-Factory's ``generated_predictions.jsonl`` into gold and tags for `score_tags`.

    Each line has ``prompt``, ``predict`` and ``label``. Answers may be free: full-width punctuation, text around the
    answer, code fences, ``<think>`` blocks, other orders of the fields, the instruction's longer names of them and
    JSON are understood. The first line that holds all five fields counts, else of each field its first readable
    value; a label must be one of the taxonomy's to the letter.

    Parameters
    ----------
    path : path
        UTF-8, one JSON object a line; blank lines are skipped.
    taxonomy : Taxonomy, optional
        The label sets; the default ones if not given.

    Returns
    -------
    gold, tags : DataFrame
        ``news_id`` (such as ``line 3``), ``text`` (the prompt) and the five fields; tags also ``status``: ``ok``, or
        ``invalid`` if a closed field cannot be read. What cannot be read is null, and `score_tags` counts it as wrong.

    Raises
    ------
    UnreadableFileError
        If the file cannot be read, or lines are no JSON objects with the three texts; it names them.
    TableError
        If there are no lines, or labels cannot be read; it names the lines.

    Examples
    --------
    >>> gold, tags = read_predictions("generated_predictions.jsonl")  # doctest: +SKIP
    """
    taxonomy = taxonomy or Taxonomy()
    records = _read_lines(path)
    keys = pd.DataFrame({
        "news_id": [f"line {number}" for number in records], "text": [record["prompt"] for record in records.values()]
    })  # fmt: skip
    gold = pd.DataFrame([read_answer(record["label"], taxonomy) for record in records.values()], columns=list(FIELDS))
    tags = pd.DataFrame([read_answer(record["predict"], taxonomy) for record in records.values()], columns=list(FIELDS))
    unreadable = keys.loc[gold.isna().any(axis=1), "news_id"].tolist()
    if unreadable or not records:
        raise TableError("label", _enumerate(unreadable), "must be an answer of five fields on every line", str(path))
    status = np.where(tags[list(CLOSED)].isna().any(axis=1), INVALID, "ok")
    return keys.join(gold), keys.join(tags).assign(status=status)


def read_answer(text: str, taxonomy: Taxonomy | None = None) -> dict[str, Any]:
    """Read the five fields out of a free answer; see `read_predictions`.

    Returns
    -------
    dict
        The four labels and ``stocks`` (list of names); None for what cannot be read.

    Examples
    --------
    >>> read_answer("好的。情感：轻微正面；事件：个股研报")["sentiment"]
    '轻微正面'
    """
    slots = dict((taxonomy or Taxonomy()).slots)
    # A template may open the thought in the prompt, so that only its end is seen; one never closed has no answer.
    text = text.rpartition("</think>")[2].partition("<think>")[0]
    text = re.sub(r"```\w*", "\n", text.replace("**", "")).translate(_MENDED)
    found: dict[str, Any] = {}
    for part in (*text.split("\n"), text):
        found = _find_fields(part, slots)
        if None not in found.values():
            break
    return found


def _find_fields(text: str, slots: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(FIELDS)
    keys = list(_KEY.finditer(text))
    ends = [key.start() for key in keys[1:]] + [len(text)]
    for key, end in zip(keys, ends, strict=False):
        field, value = str(key.lastgroup), text[key.end() : end]
        if found[field] is None and field == "stocks":
            found[field] = _split_names(value)
        elif found[field] is None:
            label = re.split(r"[,;|。\n]", value.strip())[0].strip(" \t\r\"'{}[]")
            found[field] = label if label in slots[field] else None
    return found


def _split_names(value: str) -> list[str] | None:
    """The names of a list in any of its forms; None where nothing stands."""
    listed = re.match(r"\[([^\]]*)\]", value)
    value = listed[1] if listed else re.split(r"[。\n]", value.strip())[0]
    names = [name.strip(" \t\r\n\"'{}") for name in re.split(r"[、,;|\n]", value)]
    if not listed and not any(names):
        return None
    return list(dict.fromkeys(name for name in names if name and name not in _NOTHING))


def _read_lines(path: str | Path) -> dict[int, dict[str, str]]:
    """The records of a predictions file by line number."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFileError("path", str(path), "must be a readable UTF-8 file", remedy=str(error)) from error
    records: dict[int, dict[str, str]] = {}
    broken = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line) if line.strip() else None
        except ValueError:
            record = {}
        if isinstance(record, dict) and all(isinstance(record.get(k), str) for k in ("prompt", "predict", "label")):
            records[number] = record
        elif line.strip():
            broken.append(f"line {number}")
    if broken:
        requirement = "must hold a JSON object with the texts prompt, predict and label on every line"
        raise UnreadableFileError("path", str(path), requirement, _enumerate(broken))
    return records


def _enumerate(places: Sequence[str]) -> str:
    return ", ".join(places[:10]) + (f" and {len(places) - 10} more" if len(places) > 10 else "")
