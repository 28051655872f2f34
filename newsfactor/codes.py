"""Code formats, boards, exchanges and price limits."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from newsfactor.errors import InvalidValueError, NotAShareError

EXCHANGES = ("SH", "SZ", "BJ", "HK")
_SUFFIX = {
    "SH": "SH",
    "SS": "SH",
    "XSHG": "SH",
    "SZ": "SZ",
    "XSHE": "SZ",
    "BJ": "BJ",
    "XBSE": "BJ",
    "HK": "HK",
    "XHKG": "HK",
}
_PREFIX = {"SH": "SH", "SZ": "SZ", "BJ": "BJ", "HK": "HK", "1": "SH", "0": "SZ", "116": "HK"}
_LONG = {"SH": "XSHG", "SZ": "XSHE", "BJ": "XBSE", "HK": "XHKG"}
_NUMBER = {"SH": "1", "SZ": "0", "BJ": "0", "HK": "116"}
# How others write a code: {0} its digits, {1} the exchange, {2} in lower case, {3} its ISO name, {4} its number.
STYLES = {
    "suffix": "{0}.{1}",
    "prefix": "{1}{0}",
    "lower": "{2}{0}",
    "dotted": "{2}.{0}",
    "iso": "{0}.{3}",
    "equity": "{0}_{1}_EQ",
    "number": "{4}.{0}",
    "plain": "{0}",
}
_BOARDS = ("main", "chinext", "star", "beijing", "hongkong")
# Board, ST or not, since when, the daily limit. Source: the trading rules of the three exchanges.
LIMITS = (
    ("main", False, "1990-12-19", 0.10), ("main", True, "1990-12-19", 0.05), ("main", True, "2026-07-06", 0.10),
    ("chinext", False, "2009-10-30", 0.10), ("chinext", True, "2009-10-30", 0.05),
    ("chinext", False, "2020-08-24", 0.20), ("chinext", True, "2020-08-24", 0.20),
    ("star", False, "2019-07-22", 0.20), ("star", True, "2019-07-22", 0.20),
    ("beijing", False, "2020-07-27", 0.30), ("beijing", True, "2020-07-27", 0.30),
)  # fmt: skip
# Board, listed since when, for how many sessions, how far it may rise and fall then (NaN: any distance).
FIRST_SESSIONS = (
    ("main", "1990-12-19", 1, np.nan, np.nan), ("main", "2014-01-01", 1, 0.44, 0.36),
    ("main", "2023-04-10", 5, np.nan, np.nan),
    ("chinext", "2009-10-30", 1, np.nan, np.nan), ("chinext", "2014-01-01", 1, 0.44, 0.36),
    ("chinext", "2020-08-24", 5, np.nan, np.nan),
    ("star", "2019-07-22", 5, np.nan, np.nan), ("beijing", "2020-07-27", 1, np.nan, np.nan),
)  # fmt: skip
_BARE = {
    "60": "SH",
    "68": "SH",
    "90": "SH",
    "00": "SZ",
    "30": "SZ",
    "20": "SZ",
    "43": "BJ",
    "83": "BJ",
    "87": "BJ",
    "88": "BJ",
    "92": "BJ",
}
# Share code ranges; with an exchange given, anything else is an index, a fund or a bond.
_SHARES = {
    "SH": re.compile(r"(60[0135]|68[89]|900)\d{3}"),
    "SZ": re.compile(r"(00[0-3]|30[0-2]|20[01])\d{3}"),
    "BJ": re.compile(r"(43|83|87|88|92)\d{4}"),
    "HK": re.compile(r"\d{5}"),
}
_AFTER = re.compile(r"(\d{5,6})[._](SH|SS|XSHG|SZ|XSHE|BJ|XBSE|HK|XHKG)(?:_EQ)?", re.IGNORECASE)
_BEFORE = re.compile(r"(?:(SH|SZ|BJ|HK)[._]?|(0|1|116)\.)(\d{5,6})", re.IGNORECASE)


def normalize_code(code: str) -> str:
    """One share code in the form ``600519.SH``.

    Understands ``600519.SH``, ``SH600519``, ``sh.600519``, ``600519.XSHG``, ``600519_SH_EQ``,
    ``1.600519`` (Eastmoney; 0 is Shenzhen and Beijing, 116 Hong Kong), ``00700.HK``, ``HK00700`` and plain ``600519`` by its range.

    Raises
    ------
    InvalidValueError
        If the code is of none of these forms.
    NotAShareError
        If it is an index's, a fund's or a bond's.

    Examples
    --------
    >>> normalize_code("sh.600519"), normalize_code("300750")
    ('600519.SH', '300750.SZ')
    """
    text = code.strip() if isinstance(code, str) else code
    if not isinstance(text, str):
        raise InvalidValueError("code", code, "must be text", remedy="read codes as text: numbers lose leading zeros")
    if match := _AFTER.fullmatch(text):
        digits, exchange = match[1], _SUFFIX[match[2].upper()]
    elif match := _BEFORE.fullmatch(text):
        digits, exchange = match[3], _PREFIX[(match[1] or match[2]).upper()]
    elif re.fullmatch(r"\d{6}", text) and text[:2] in _BARE:
        digits, exchange = text, _BARE[text[:2]]
    else:
        raise InvalidValueError("code", code, "must be a share code such as 600519.SH, SH600519 or 00700.HK")
    # Tables that know only two exchanges write Beijing's codes as 920000.SH, and 0 is the number of two of them.
    if len(digits) == 6 and (digits[:2] == "92" or (text[:2] == "0." and _BARE.get(digits[:2]) == "BJ")):
        exchange = "BJ"
    if not _SHARES[exchange].fullmatch(digits):
        raise NotAShareError("code", code, f"must be a share of {exchange}, not an index, a fund or a bond")
    return f"{digits}.{exchange}"


def format_code(code: str, *, style: str) -> str:
    """A share code as others write it; :func:`normalize_code` reads every style back.

    Parameters
    ----------
    code : str
        In any form that :func:`normalize_code` knows.
    style : str
        ``suffix`` (600519.SH), ``prefix`` (SH600519), ``lower`` (sh600519), ``dotted`` (sh.600519), ``iso``
        (600519.XSHG), ``equity`` (600519_SH_EQ), ``number`` (1.600519) or ``plain`` (600519; a Hong Kong code is
        not read back from it).

    Raises
    ------
    InvalidValueError, NotAShareError
        As :func:`normalize_code`, or if there is no such style.

    Examples
    --------
    >>> format_code("600519.SH", style="iso"), format_code("00700.HK", style="number")
    ('600519.XSHG', '116.00700')
    """
    if style not in STYLES:
        raise InvalidValueError("style", style, f"must be one of {', '.join(STYLES)}")
    digits, exchange = normalize_code(code).split(".")
    return STYLES[style].format(digits, exchange, exchange.lower(), _LONG[exchange], _NUMBER[exchange])


def exchange_of(code: str) -> str:
    """``SH``, ``SZ``, ``BJ`` or ``HK`` of a normalised code."""
    return code[-2:]


def board_of(code: str) -> str:
    """``main``, ``chinext``, ``star``, ``beijing`` or ``hongkong`` of a normalised code."""
    if code.endswith("HK"):
        return "hongkong"
    if code.endswith("BJ"):
        return "beijing"
    return {"30": "chinext", "68": "star"}.get(code[:2], "main")


def limit_rates(dates: pd.Series, codes: Sequence[str] | pd.Series, is_st: pd.Series) -> np.ndarray:
    """The daily price limit as a fraction, from `LIMITS`: by board, ST status and date; NaN where there is none."""
    days, special, boards = dates.to_numpy(), is_st.to_numpy(dtype=bool), _boards(codes)
    rates = np.full(len(days), np.nan)
    for board, st, since, rate in LIMITS:
        here = (boards == _BOARDS.index(board)) & (special == st)
        rates[here & (days >= np.datetime64(since))] = rate
    return rates


def limit_bounds(
    dates: pd.Series, codes: Sequence[str] | pd.Series, is_st: pd.Series, *, list_dates: pd.Series, ages: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How far a price may rise and fall as a fraction, also in the first sessions after listing.

    Parameters
    ----------
    dates, codes, is_st
        As in `limit_rates`.
    list_dates : Series of datetime64
        NaT where unknown: the daily limits then hold.
    ages : array of number
        Sessions since the listing, 0 on its day.

    Returns
    -------
    (array of float, array of float)
        By `LIMITS`, and by `FIRST_SESSIONS` for the young; NaN where there is no limit.

    Examples
    --------
    >>> days, listed = (pd.Series(pd.to_datetime([day])) for day in ("2022-03-02", "2022-03-02"))
    >>> up, down = limit_bounds(days, ["600001.SH"], pd.Series([False]), list_dates=listed, ages=np.array([0]))
    >>> float(up[0]), float(down[0])
    (0.44, 0.36)
    """
    up = limit_rates(dates, codes, is_st)
    down = up.copy()
    listed, boards = list_dates.to_numpy(), _boards(codes)
    young = (ages >= 0) & (ages < max(sessions for _, _, sessions, *_ in FIRST_SESSIONS)) & ~np.isnat(listed)
    rows = np.flatnonzero(young)
    listed, boards, ages = listed[rows], boards[rows], ages[rows]
    rises, falls, lasting = (np.full(len(rows), np.nan) for _ in range(3))
    for board, since, sessions, rise, fall in FIRST_SESSIONS:
        here = (boards == _BOARDS.index(board)) & (listed >= np.datetime64(since))
        rises[here], falls[here], lasting[here] = rise, fall, sessions
    fresh = ages < lasting
    up[rows[fresh]], down[rows[fresh]] = rises[fresh], falls[fresh]
    return up, down


def _boards(codes: Sequence[str] | pd.Series) -> np.ndarray:
    """The number of each code's board; each distinct code is looked at once."""
    number, found = pd.factorize(pd.Index(codes))
    return np.array([_BOARDS.index(board_of(code)) for code in found], dtype=np.int8)[number]
