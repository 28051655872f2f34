"""Time: answers worked out by hand from a calendar of July 2026 (the 4th and 5th are a weekend)."""

from __future__ import annotations

import pandas as pd
import pytest

from newsfactor import sessions
from newsfactor.errors import CalendarError, InvalidValueError, LookAheadError

NATIONAL_DAY = [f"2026-10-0{day}" for day in range(1, 8)]


def assign(times: list[str], precision: str = "second", **options) -> list[str]:
    stamps = pd.Series(pd.to_datetime(times))
    found = sessions.assign_sessions(stamps, pd.Series([precision] * len(times)), **options)
    return found.dt.strftime("%m-%d").tolist()


@pytest.mark.parametrize(
    ("time", "cutoff", "session"),
    [
        ("2026-07-06 09:14:59+08:00", "09:15", "07-06"),
        ("2026-07-06 09:15:00+08:00", "09:15", "07-07"),  # half-open: the cutoff's own second is too late
        ("2026-07-06 12:00:00+08:00", "09:15", "07-07"),  # the lunch break is part of the window
        ("2026-07-06 12:00:00+08:00", "14:50", "07-06"),
        ("2026-07-06 14:50:00+08:00", "14:50", "07-07"),
        ("2026-07-06 14:59:59+08:00", "15:00", "07-06"),
        ("2026-07-03 15:00:00+08:00", "15:00", "07-06"),  # Friday's close to Monday
        ("2026-07-04 10:00:00+08:00", "09:15", "07-06"),
        ("2026-09-30 20:00:00+08:00", "09:15", "10-08"),  # across the National Day holiday
        ("2026-07-06 01:14:59+00:00", "09:15", "07-06"),  # any timezone in
        ("2026-07-05 21:14:59-04:00", "09:15", "07-06"),
    ],
)
def test_the_cell_that_first_knows_an_item(time, cutoff, session):
    assert assign([time], cutoff=cutoff) == [session]


@pytest.mark.parametrize("cutoff", sessions.CUTOFFS)
def test_a_day_precision_item_counts_from_the_following_session(cutoff):
    assert assign(["2026-07-06 00:00+08:00"], "day", cutoff=cutoff) == ["07-07"]
    assert assign(["2026-07-03 00:00+08:00"], "day", cutoff=cutoff) == ["07-06"]
    assert assign(["2026-07-04 00:00+08:00"], "day", cutoff=cutoff) == ["07-06"]


@pytest.mark.parametrize(
    ("time", "window"),
    [
        ("2026-07-06 00:00:00+08:00", "pre_open"),
        ("2026-07-06 09:14:59+08:00", "pre_open"),
        ("2026-07-06 09:15:00+08:00", "intraday"),
        ("2026-07-06 12:15:00+08:00", "intraday"),  # the lunch break is a part of the day
        ("2026-07-06 06:59:59+00:00", "intraday"),
        ("2026-07-06 15:00:00+08:00", "after_close"),
        ("2026-07-03 23:59:59+08:00", "after_close"),
        ("2026-07-04 10:30:00+08:00", "after_close"),  # a Saturday
        ("2026-10-05 10:30:00+08:00", "after_close"),  # the National Day holiday
        ("2026-07-06 21:15:00-04:00", "intraday"),
    ],
)
def test_the_part_of_the_day(time, window):
    stamps = pd.Series(pd.to_datetime([time]))
    assert sessions.assign_windows(stamps, pd.Series(["second"])).tolist() == [window]
    assert sessions.assign_windows(stamps.iloc[:0], pd.Series([], dtype="str")).tolist() == []


def test_a_day_precision_item_has_the_part_in_which_its_day_ends():
    stamps = pd.Series(pd.to_datetime(["2026-07-06 00:00+08:00", "2026-07-03 00:00+08:00"]))
    assert sessions.assign_windows(stamps, pd.Series(["day", "day"])).tolist() == ["pre_open", "after_close"]


def test_known_at_is_the_cutoff_of_the_session():
    known = sessions.known_at(pd.DatetimeIndex(["2026-07-06"]), "14:50")
    assert known[0] == pd.Timestamp("2026-07-06 06:50", tz="UTC")


def test_an_item_is_never_known_before_it_is_available():
    times = pd.Series(pd.date_range("2026-06-28", "2026-07-12", freq="37min", tz="Asia/Shanghai"))
    for cutoff in sessions.CUTOFFS:
        cells = sessions.assign_sessions(times, pd.Series(["second"] * len(times)), cutoff=cutoff)
        closes = sessions.known_at(cells, cutoff)
        opens = sessions.known_at(sessions.shift_sessions(cells, -1), cutoff)
        assert (closes > pd.DatetimeIndex(times)).all() and (opens <= pd.DatetimeIndex(times)).all()


@pytest.mark.parametrize(
    ("cutoff", "entry", "offset"),
    [("09:15", "next_open", 0), ("09:15", "next_close", 0), ("14:50", "next_open", 1), ("14:50", "next_close", 0),
     ("15:00", "next_open", 1), ("15:00", "next_close", 1)],
)  # fmt: skip
def test_entry_is_the_first_auction_whose_deadline_is_not_before_the_cutoff(cutoff, entry, offset):
    assert sessions.entry_offset(cutoff, entry) == offset


def test_entry_before_the_cutoff_is_refused():
    with pytest.raises(LookAheadError, match="same_open"):
        sessions.entry_offset("09:15", "same_open")


def test_the_holiday_is_no_session():
    for day in NATIONAL_DAY:
        with pytest.raises(CalendarError, match=day):
            sessions.session_numbers(pd.DatetimeIndex([day]))


def test_dates_past_the_horizon_stop_with_a_remedy():
    with pytest.raises(CalendarError, match=r"2031-05-05.*sessions="):
        assign(["2031-05-05 10:00+08:00"])
    own = pd.bdate_range("2031-05-01", "2031-05-30")
    assert assign(["2031-05-05 10:00+08:00"], sessions=own) == ["05-06"]


def test_prices_on_a_closed_day_contradict_the_calendar():
    with pytest.raises(CalendarError, match="2026-07-05"):
        sessions.check_price_dates(pd.Series(pd.to_datetime(["2026-07-03", "2026-07-05"])))


def test_bad_options_are_named():
    with pytest.raises(InvalidValueError, match="10:30"):
        assign(["2026-07-06 10:00+08:00"], cutoff="10:30")
    with pytest.raises(CalendarError, match="sessions"):
        assign(["2026-07-06 10:00+08:00"], sessions=pd.DatetimeIndex(["2026-07-06 10:00"]))
