"""Exports to other evaluation libraries."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from newsfactor.codes import format_code, normalize_code
from newsfactor.errors import InvalidValueError, TableError
from newsfactor.returns import check_horizons, forward_returns
from newsfactor.schema import PANEL_BY_STOCK, check, choose_factors
from newsfactor.sessions import check_sessions, session_numbers
from newsfactor.statistics import assign_quantiles


def to_alphalens(
    panel: pd.DataFrame,
    prices: pd.DataFrame,
    *,
    factor: str | None = None,
    horizons: Sequence[int] = (1, 5, 10),
    quantiles: int = 5,
    entry: str = "next_open",
    universe: pd.DataFrame | None = None,
    sessions: pd.DatetimeIndex | None = None,
) -> pd.DataFrame:
    """The frame that `alphalens.performance` and `alphalens.tears` take, with the returns of `forward_returns`.

    alphalens itself would take any price on the panel's date and count rows; this frame keeps this
    library's entry rule and its calendar. alphalens need not be installed. Its ``factor_positions`` would
    count business days, because the index has no frequency; all its other functions count rows.

    Parameters
    ----------
    panel : PANEL by stock
    prices : PRICES
        In yuan, raw.
    factor : str, optional
        A numeric column of the panel. It may be left out where the panel has only one factor.
    horizons : sequence of int
        In sessions; ``1D`` and so on among the columns.
    quantiles : int
        Buckets a day; equal values share one (`newsfactor.statistics.assign_quantiles`).
    entry, universe, sessions
        As in `forward_returns`, whose ``diagnostic_close`` gives alphalens' own returns, from the close of the
        panel's date. With a universe its ``industry`` on the panel's date becomes ``group``.

    Returns
    -------
    DataFrame
        Index ``date, asset``, sorted; columns ``1D, 5D, ..., factor, group, factor_quantile``. ``group`` is
        categorical, and left out if no universe knows any industry. As alphalens does, a row that lacks the
        factor, its group or any of the returns is dropped, and so is one that could not be entered: `evaluate`
        judges each horizon by itself and keeps more.

    Raises
    ------
    TableError
        If the panel has no such numeric column, or several factors and none is named.
    NewsfactorError
        As `forward_returns`.
    """
    check(panel, PANEL_BY_STOCK)
    names, wanted = choose_factors(panel, PANEL_BY_STOCK, factor), check_horizons(horizons)
    if len(names) > 1:
        raise TableError("factor", None, "must be named where a panel has several", remedy=f"it has {names}")
    outcomes = forward_returns(prices, panel, horizons=wanted, entry=entry, universe=universe, sessions=sessions)
    rows = outcomes[["date", "code"]].rename(columns={"code": "asset"})
    for horizon in wanted:
        rows[f"{horizon}D"] = outcomes[f"return_{horizon}"]
    value = panel[names[0]].to_numpy(dtype=float, na_value=np.nan)
    rows["factor"] = np.where(np.isfinite(value), value, np.nan)
    rows = rows[outcomes["tradable"].to_numpy()]
    if universe is not None and universe["industry"].notna().any():
        group = universe[["date", "code", "industry"]].set_axis(["date", "asset", "group"], axis=1)
        rows = rows.merge(group, on=["date", "asset"], how="left").astype({"group": "category"})
    rows = rows.dropna().reset_index(drop=True)
    rows["factor_quantile"] = assign_quantiles(rows, factor="factor", quantiles=quantiles).astype(int)
    return rows.set_index(["date", "asset"]).sort_index()


def to_qlib(
    panel: pd.DataFrame,
    folder: str | Path,
    *,
    factors: Sequence[str] | None = None,
    sessions: pd.DatetimeIndex | None = None,
) -> Path:
    """Write a panel as a data folder of qlib, which ``qlib.init(provider_uri=folder, region="cn")`` opens.

    ``D.features(D.instruments("all"), ["$mean_score"])`` then reads the factor. qlib knows dates only and no time
    of day: the cell of a session is known at the panel's cutoff, with ``"09:15"`` before that session opens, with
    ``"14:50"`` and ``"15:00"`` only at its end. An expression that trades the panel's date at an earlier price
    looks ahead, and nothing in qlib will say so. The files hold positions in this folder's own calendar: they
    cannot be copied beside data that were written with another.

    Parameters
    ----------
    panel : PANEL by stock
        With at least one row; codes in the form ``600519.SH``, which become ``SH600519``.
    folder : path
        A new or an empty folder; it appears whole or not at all.
    factors : sequence of str, optional
        Numeric columns, all columns of floats beyond the table's own if not given. Names of letters, digits and
        underscores; qlib keeps fields in lower case.
    sessions : DatetimeIndex, optional
        The trading days, if not those of exchange_calendars' XSHG.

    Returns
    -------
    Path
        The folder, with ``calendars/day.txt`` (every session from the panel's first date to its last),
        ``instruments/all.txt`` (each stock with its first and last date) and
        ``features/sh600519/mean_score.day.bin``. A session without a row is NaN, and so are infinite values.
        Values are float32: they keep seven digits, and integers are exact up to 2**24.

    Raises
    ------
    TableError
        If the panel is by industry, empty or not valid, has no such numeric column or a code of another form.
    InvalidValueError
        If a factor's name is no safe name of a file, two differ in case alone, a code is no share's, or the
        folder holds something or cannot be written.
    CalendarError
        If a date of the panel is not a session.

    Notes
    -----
    The format is that of qlib's ``scripts/dump_bin.py``: a file is little-endian float32, first the position of
    the stock's first date in the calendar, then a value for each session up to its last.
    """
    if "code" not in panel.columns and "industry" in panel.columns:
        raise TableError("panel", "industry", "must be by stock", remedy="qlib's instruments are securities")
    check(panel, PANEL_BY_STOCK)
    names = _field_names(choose_factors(panel, PANEL_BY_STOCK, factors))
    if not len(panel):
        raise TableError("panel", "no rows", "must have rows")
    days = check_sessions(sessions)
    slots = session_numbers(panel["date"], sessions=days, parameter="panel['date']")
    calendar = days[slots.min() : slots.max() + 1].strftime("%Y-%m-%d")
    numbers, codes = pd.factorize(panel["code"], sort=True)
    order = np.lexsort((slots, numbers))
    slots, ends = slots[order] - slots.min(), np.cumsum(np.bincount(numbers))[:-1]
    values = {name: _as_float32(panel[name])[order] for name in names}
    target = Path(folder).expanduser().absolute()
    with _new_folder(target) as draft:
        lines = []
        for code, rows in zip(map(_qlib_code, codes), np.split(np.arange(len(order)), ends), strict=True):
            _write_stock(draft / "features" / code.lower(), slots[rows], {name: values[name][rows] for name in names})
            lines.append(f"{code}\t{calendar[slots[rows[0]]]}\t{calendar[slots[rows[-1]]]}")
        _write_lines(draft / "calendars" / "day.txt", calendar)
        _write_lines(draft / "instruments" / "all.txt", lines)
    return target


def _field_names(names: Sequence[str]) -> Sequence[str]:
    """The factors' names, each a safe name of a file, also where case does not count."""
    seen: dict[str, str] = {}
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9_]+", name):
            raise InvalidValueError("factors", name, "must be letters, digits and underscores", remedy="rename it")
        if seen.setdefault(name.lower(), name) is not name:
            other = seen[name.lower()]
            raise InvalidValueError("factors", [other, name], "must differ by more than case", remedy="rename one")
    return names


def _qlib_code(code: str) -> str:
    """qlib's form of a code in the form of the tables; of another it would be a second name of one folder."""
    if code != normalize_code(code):
        raise TableError("panel['code']", code, "must be of the form 600519.SH", remedy="use normalize_code")
    return format_code(code, style="prefix")


def _as_float32(values: pd.Series) -> np.ndarray:
    with np.errstate(over="ignore"):
        single: np.ndarray = values.to_numpy(dtype=float, na_value=np.nan).astype("<f4")
    single[~np.isfinite(single)] = np.nan
    return single


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A draft beside ``folder`` that takes its place when the block ends, and leaves no trace if it fails."""
    draft = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InvalidValueError("folder", str(folder), "must be new or empty", remedy="name another or remove it")
        draft.mkdir(parents=True)
        yield draft
        os.replace(draft, folder)
    except OSError as error:
        raise InvalidValueError("folder", str(folder), f"must be writable ({error.strerror or error})") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write_stock(folder: Path, slots: np.ndarray, values: dict[str, np.ndarray]) -> None:
    """One file for each field: the first slot, then every slot up to the last."""
    folder.mkdir(parents=True)
    cells = np.full(slots[-1] - slots[0] + 2, np.nan, dtype="<f4")
    cells[0] = slots[0]
    for name, column in values.items():
        cells[slots - slots[0] + 1] = column
        cells.tofile(folder / f"{name.lower()}.day.bin")


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir()
    path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
