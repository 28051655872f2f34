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


def limit_rates(dates: pd.Series, codes: Sequence[str], is_st: pd.Series) -> np.ndarray:
    """The daily price limit as a fraction: by board, ST status and date; NaN where there is none.

    Main board 10 %, ST there 5 % until 2026-07-05 and 10 % from 2026-07-06; ChiNext 10 % (ST 5 %) until
    2020-08-23 and 20 % after; STAR 20 %; Beijing 30 %; Hong Kong none. Source: the exchanges' trading rules.
    """
    boards = pd.Series(list(codes)).map({code: board_of(code) for code in set(codes)}).to_numpy()
    days, special = dates.to_numpy(), is_st.to_numpy()
    old = special & (days < np.datetime64("2026-07-06"))
    main = np.where(old, 0.05, 0.10)
    chinext = np.where(days < np.datetime64("2020-08-24"), main, 0.20)
    return np.select(
        [boards == "main", boards == "chinext", boards == "star", boards == "beijing"],
        [main, chinext, 0.20, 0.30],
        default=np.nan,
    )
