"""The files that labels lie in: JSON, LLaMA-Factory's datasets, csv, Excel, Parquet, as numbered records."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
from openpyxl.utils.exceptions import InvalidFileException

from newsfactor.errors import InvalidValueError, TableError, UnreadableFileError
from newsfactor.files import replacing
from newsfactor.tables import read_table

INFO = "dataset_info.json"
ALPACA = {"prompt": "instruction", "query": "input", "response": "output"}
MESSAGES = "conversations"
SHAREGPT = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"}
CELL_LIMIT = 32_767  # characters that Excel keeps in a cell

_REMOTE = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")


@dataclass(frozen=True)
class Layout:
    """Where a record keeps its text and its answer, as LLaMA-Factory's ``columns`` and ``tags`` say it.

    ``columns`` is empty where a record is a conversation.
    """

    columns: Mapping[str, str] = field(default_factory=lambda: ALPACA)
    tags: Mapping[str, str] = field(default_factory=lambda: SHAREGPT)
    messages: str = MESSAGES


ARTICLE = Layout()


@dataclass(frozen=True)
class Source:
    """Numbered records, what a number counts, where they lie and how they are laid out."""

    records: list[tuple[int, Any]]
    unit: str = "record"
    place: str = ""
    layout: Layout = ARTICLE


def open_source(labels: Any, dataset: str | None) -> Source:
    """The records of a frame, a list or a file.

    Records and frame rows count from 0, lines and rows of csv and Excel as an editor counts them.

    Raises
    ------
    UnreadableFileError, InvalidValueError, TableError
        As for :func:`newsfactor.labels.read_labels`.
    """
    if isinstance(labels, (str, os.PathLike)):
        path = Path(labels).expanduser()
        if dataset is not None or path.is_dir() or path.name == INFO:
            return _open_dataset(path / INFO if path.is_dir() else path, dataset)
        return _open_file(path, ARTICLE)
    if isinstance(labels, pd.DataFrame):
        return Source(list(enumerate(read_table(labels).to_dict("records"))), "row")
    if not isinstance(labels, Sequence):
        raise TableError("labels", type(labels).__name__, "must be a path, a frame or a list of records")
    return Source(list(enumerate(labels)))


def write_dataset(records: Sequence[Mapping[str, Any]], path: Path, *, dataset: str | None, layout: str) -> None:
    """Write records as ``.json`` or ``.jsonl`` and their entry into ``dataset_info.json`` beside it.

    Entries that name the file already are renewed, for their SHA-1 would be wrong. Without such an entry and
    without ``dataset`` the file's name becomes that of a new one.

    Raises
    ------
    UnreadableFileError
        If there is a ``dataset_info.json`` that cannot be read; nothing is written then.
    """
    info = path.with_name(INFO)
    entries = _read_info(info) if info.exists() else {}
    named = [name for name, old in entries.items() if isinstance(old, dict) and old.get("file_name") == path.name]
    if dataset is not None or not named:
        named.append(dataset or path.stem)
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    text = "[\n" + ",\n".join(lines) + "\n]\n" if path.suffix.lower() == ".json" else "\n".join(lines) + "\n"
    data = text.encode()
    entry: dict[str, Any] = {"file_name": path.name, "file_sha1": hashlib.sha1(data).hexdigest()}
    if layout == "alpaca":
        entry["columns"] = ALPACA
    else:
        entry |= {"formatting": "sharegpt", "columns": {"messages": MESSAGES}, "tags": SHAREGPT}
    _replace_file(path, data)
    # LLaMA-Factory opens this file in the machine's own encoding: only ASCII reads the same everywhere.
    _replace_file(info, json.dumps(entries | dict.fromkeys(named, entry), indent=2).encode("ascii"))


def write_cells(sheet: Any, table: pd.DataFrame) -> None:
    """Fill an Excel sheet with a header and rows of text; no text becomes a formula or a number.

    Raises
    ------
    InvalidValueError
        If a text is longer than an Excel cell holds.
    """
    rows: list[tuple[str, ...]] = [tuple(table.columns), *table.itertuples(index=False, name=None)]
    for number, row in enumerate(rows, start=1):
        for column, text in enumerate(row, start=1):
            if len(text) > CELL_LIMIT:
                raise InvalidValueError("labels", text[:20], f"must hold at most {CELL_LIMIT} characters in a cell", f"row {number}", "write .csv or .json")  # fmt: skip
            if text:
                cell = sheet.cell(number, column, text)
                # openpyxl takes a leading = for a formula; the text format keeps Excel from doing so on an edit.
                cell.data_type, cell.number_format = "s", "@"


def save_book(book: openpyxl.Workbook, path: Path) -> None:
    """Write an Excel file whole or not at all."""
    stream = io.BytesIO()
    book.save(stream)
    _replace_file(path, stream.getvalue())


def _open_file(path: Path, layout: Layout) -> Source:
    place, suffix = str(path), path.suffix.lower()
    if suffix == ".json":
        records = _read_json(path)
        if not isinstance(records, list):
            raise UnreadableFileError("labels", place, f"must be a JSON array of records, not {type(records).__name__}")
        return Source(list(enumerate(records)), "record", place, layout)
    if suffix == ".jsonl":
        return Source(_read_lines(path), "line", place, layout)
    if suffix == ".xlsx":
        return Source(_read_sheet(path), "row", place, layout)
    if suffix not in (".csv", ".parquet"):
        raise UnreadableFileError("labels", place, "must end in .json, .jsonl, .csv, .xlsx or .parquet")
    rows = read_table(path, parameter="labels").to_dict("records")
    return Source(list(enumerate(rows, start=2 if suffix == ".csv" else 0)), "row", place, layout)


def _open_dataset(path: Path, dataset: str | None) -> Source:
    """The file that an entry of ``dataset_info.json`` names, if it is local and has the entry's SHA-1."""
    entries = _read_info(path)
    if dataset is None and len(entries) == 1:
        dataset = next(iter(entries))
    if dataset not in entries:
        raise InvalidValueError("dataset", dataset, f"must be one of {', '.join(entries)}", str(path))
    entry, place = entries[dataset], f"{dataset} in {path}"
    if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str) or set(_REMOTE) & set(entry):
        raise UnreadableFileError(
            "dataset", entry, "must be a local file", place, "download it and name it as file_name"
        )
    if entry.get("ranking"):
        raise UnreadableFileError("ranking", True, "must be false: preferences are no labels", place)
    file, folder = (path.parent / entry["file_name"]).resolve(), path.parent.resolve()
    if not file.is_relative_to(folder):
        raise UnreadableFileError("file_name", entry["file_name"], f"must lie in the folder of {INFO}", place)
    expected, found = entry.get("file_sha1"), hashlib.sha1(_read_bytes(file)).hexdigest()
    if expected is not None and str(expected).lower() != found:
        raise UnreadableFileError("file_sha1", found, f"must be {expected}", place, "the file was changed or damaged")
    return _open_file(file, _read_layout(entry, place))


def _read_layout(entry: Mapping[str, Any], place: str) -> Layout:
    """LLaMA-Factory takes a column that ``columns`` does not name for absent, not for the default."""
    formatting, columns, tags = entry.get("formatting", "alpaca"), entry.get("columns"), entry.get("tags") or {}
    if formatting not in ("alpaca", "sharegpt"):
        raise UnreadableFileError("formatting", formatting, "must be alpaca or sharegpt", place)
    for name, mapping in (("columns", columns or {}), ("tags", tags)):
        if not isinstance(mapping, dict) or not all(isinstance(value, str) for value in mapping.values()):
            raise UnreadableFileError(name, mapping, "must be an object of names", place)
    if formatting == "alpaca":
        return Layout(ALPACA if columns is None else columns)
    return Layout({}, {**SHAREGPT, **tags}, (columns or {}).get("messages", MESSAGES))


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableFileError("labels", str(path), f"must be a readable file ({error.strerror})") from error


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_read_bytes(path).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UnreadableFileError("labels", str(path), "must be JSON in UTF-8", remedy=str(error)) from error


def _read_info(path: Path) -> dict[str, Any]:
    entries = _read_json(path)
    if not isinstance(entries, dict):
        raise UnreadableFileError("labels", str(path), "must be a JSON object of datasets")
    return entries


def _read_lines(path: Path) -> list[tuple[int, Any]]:
    records: list[tuple[int, Any]] = []
    try:
        for number, line in enumerate(_read_bytes(path).decode("utf-8-sig").split("\n"), start=1):
            if line.strip():
                records.append((number, json.loads(line)))
    except (ValueError, RecursionError) as error:
        after = f"after line {records[-1][0]}" if records else "at its start"
        raise UnreadableFileError(
            "labels", str(path), "must hold a JSON record a line", after, remedy=str(error)
        ) from error
    return records


def _read_sheet(path: Path) -> list[tuple[int, Any]]:
    """Rows of the first sheet by their number in Excel; blank ones are none."""
    try:
        book = openpyxl.load_workbook(io.BytesIO(_read_bytes(path)), read_only=True, data_only=True)
        header, *rows = list(book.worksheets[0].iter_rows(values_only=True)) or [()]
    except (InvalidFileException, zipfile.BadZipFile, KeyError, IndexError, ValueError, OSError) as error:
        raise UnreadableFileError("labels", str(path), "must be an Excel file", remedy=str(error)) from error
    names = [str(name).strip() if name is not None else "" for name in header]
    repeated = {name for name in names if name and names.count(name) > 1}
    if repeated:
        raise UnreadableFileError("labels", str(path), f"must name the column {min(repeated)!r} once")
    return [
        (number, {name: cell for name, cell in zip(names, row, strict=False) if name})
        for number, row in enumerate(rows, start=2)
        if any(cell is not None and str(cell).strip() for cell in row)
    ]


def _replace_file(path: Path, data: bytes) -> None:
    with replacing(path) as stream:
        stream.write(data)
