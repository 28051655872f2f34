from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from newsfactor.codes import STYLES, board_of, format_code, limit_bounds, limit_rates, normalize_code
from newsfactor.errors import InvalidValueError

SHARES = st.one_of(
    st.integers(0, 999).map(lambda k: f"{600000 + k}.SH"), st.integers(0, 999).map(lambda k: f"{688000 + k}.SH"),
    st.integers(1, 999).map(lambda k: f"{k:06d}.SZ"), st.integers(0, 999).map(lambda k: f"{300000 + k}.SZ"),
    st.integers(0, 999).map(lambda k: f"{920000 + k}.BJ"),
)  # fmt: skip


@given(SHARES)
def test_every_form_gives_the_same_code(code):
    digits, exchange = code.split(".")
    long = {"SH": "XSHG", "SZ": "XSHE", "BJ": "XBSE"}[exchange]
    forms = [code, f"{exchange}{digits}", f"{exchange.lower()}{digits}", f"{exchange.lower()}.{digits}", digits,
             f"{digits}.{long}", f"{digits}_{exchange}_EQ", f" {code.lower()} "]  # fmt: skip
    assert {normalize_code(form) for form in forms} == {code}


@given(st.integers(1, 99_999).map(lambda k: f"{k:05d}"))
def test_hong_kong_forms_give_the_same_code(digits):
    forms = [f"{digits}.HK", f"HK{digits}", f"hk.{digits}", f"{digits}.XHKG", f"{digits}_HK_EQ"]
    assert {normalize_code(form) for form in forms} == {f"{digits}.HK"} == {normalize_code(f"{digits}.HK")}


BEIJING = st.integers(0, 999).map(lambda k: f"{831000 + k}.BJ")
HONG_KONG = st.integers(1, 99_999).map(lambda k: f"{k:05d}.HK")


@given(st.one_of(SHARES, BEIJING, HONG_KONG), st.sampled_from(sorted(STYLES)))
def test_every_style_is_read_back(code, style):
    if style == "plain" and code.endswith("HK"):
        assert format_code(code, style=style) == code[:5]
    else:
        assert normalize_code(format_code(code, style=style)) == code


def test_styles_by_hand():
    styles = [format_code("sh600519", style=style) for style in STYLES]
    assert styles == [
        "600519.SH",
        "SH600519",
        "sh600519",
        "sh.600519",
        "600519.XSHG",
        "600519_SH_EQ",
        "1.600519",
        "600519",
    ]
    with pytest.raises(InvalidValueError, match=r"suffix.*'wind'"):
        format_code("600519.SH", style="wind")


def test_other_forms():
    assert normalize_code("1.600519") == "600519.SH"
    assert normalize_code("0.000001") == "000001.SZ"
    assert normalize_code("920001.SH") == normalize_code("920001.SZ") == "920001.BJ"
    assert normalize_code("HK00700") == normalize_code("00700.HK") == "00700.HK"
    assert normalize_code("92000.HK") == "92000.HK"  # 92 is Beijing's with six digits alone


@pytest.mark.parametrize(
    "code", ["000001.SH", "510300.SH", "159915", "399001.SZ", "60051", "6005190", "ABC", "", "700.HK", "1.000001"]
)
def test_what_is_no_share_is_refused_by_name(code):
    with pytest.raises(InvalidValueError) as caught:
        normalize_code(code)
    assert repr(code) in str(caught.value)


def test_a_number_is_refused():
    with pytest.raises(InvalidValueError, match="leading zeros"):
        normalize_code(1)  # type: ignore[arg-type]


def test_boards_and_dated_limits():
    assert [board_of(c) for c in ("600000.SH", "300001.SZ", "688001.SH", "920001.BJ", "00700.HK")] == [
        "main", "chinext", "star", "beijing", "hongkong",
    ]  # fmt: skip
    dates = pd.Series(pd.to_datetime(["2026-07-03", "2026-07-06", "2020-08-21", "2020-08-24", "2026-07-03"]))
    codes = ["600000.SH", "600000.SH", "300001.SZ", "300001.SZ", "688001.SH"]
    special = pd.Series([True, True, False, False, True])
    assert limit_rates(dates, codes, special).tolist() == [0.05, 0.10, 0.10, 0.20, 0.20]


@pytest.mark.parametrize(
    ("code", "special", "day", "rate"),
    [
        ("600001.SH", False, "2026-07-06", 0.10), ("000001.SZ", True, "2026-07-03", 0.05),
        ("000001.SZ", True, "2026-07-06", 0.10), ("300001.SZ", False, "2020-08-21", 0.10),
        ("300001.SZ", True, "2020-08-24", 0.20), ("688001.SH", True, "2019-07-22", 0.20),
        ("920001.BJ", True, "2026-07-03", 0.30), ("831001.BJ", False, "2021-11-15", 0.30),
        ("00700.HK", False, "2026-07-06", np.nan),
    ],
)  # fmt: skip
def test_the_table_of_daily_limits(code, special, day, rate):
    found = limit_rates(pd.Series(pd.to_datetime([day])), [code], pd.Series([special]))
    np.testing.assert_equal(found, [rate])


@pytest.mark.parametrize(
    ("code", "listed", "age", "bounds"),
    [
        # The main board registers since 2023-04-10, ChiNext since 2020-08-24, STAR since ever.
        ("600001.SH", "2023-04-10", 4, (np.nan, np.nan)), ("600001.SH", "2023-04-10", 5, (0.1, 0.1)),
        ("600001.SH", "2023-04-07", 0, (0.44, 0.36)), ("600001.SH", "2023-04-07", 1, (0.1, 0.1)),
        ("600001.SH", "2013-12-31", 0, (np.nan, np.nan)), ("600001.SH", "2013-12-31", 1, (0.1, 0.1)),
        ("300001.SZ", "2020-08-21", 0, (0.44, 0.36)), ("300001.SZ", "2020-08-24", 4, (np.nan, np.nan)),
        ("300001.SZ", "2020-08-24", 5, (0.2, 0.2)),
        ("688001.SH", "2019-07-22", 4, (np.nan, np.nan)), ("688001.SH", "2019-07-22", 5, (0.2, 0.2)),
        ("831001.BJ", "2021-11-15", 0, (np.nan, np.nan)), ("831001.BJ", "2021-11-15", 1, (0.3, 0.3)),
        ("600001.SH", None, 0, (0.1, 0.1)),
    ],
)  # fmt: skip
def test_the_first_sessions_after_listing(code, listed, age, bounds):
    # A day late enough for the daily limits; the calendar is the caller's matter.
    days, special = pd.Series(pd.to_datetime(["2024-01-02"])), pd.Series([False])
    since = pd.Series(pd.to_datetime([listed])).astype("datetime64[us]")
    up, down = limit_bounds(days, [code], special, list_dates=since, ages=np.array([age]))
    np.testing.assert_equal((up[0], down[0]), bounds)
