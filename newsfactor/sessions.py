"""The trading calendar, and from ``available_at`` to the session that first knows it.

A cell of session *d* with cutoff *c* covers the half-open window from *c* on the previous session to
*c* on *d*: news available at the very second of the cutoff belongs to the next cell. Weekends, holidays
and the lunch break are part of the window in which they lie.

A time of day is ``intraday`` from the opening auction of a session (09:15) to its close (15:00), the lunch break
included; ``after_close`` from there to the midnight before the next session, weekends and holidays included; and
``pre_open`` from that midnight to the opening auction. Overnight is what is not intraday. All are half-open.
"""

from __future__ import annotations

import warnings
from functools import lru_cache

import exchange_calendars
import numpy as np
import pandas as pd

from newsfactor.errors import CalendarError, InvalidValueError, LookAheadError
from newsfactor.schema import DATE_TYPE, TIMEZONE

CUTOFFS = ("09:15", "14:50", "15:00")
# The latest time of day at which an order still takes part in the auction.
DEADLINES = {"next_open": "09:15", "next_close": "14:55"}
WINDOWS = ("pre_open", "intraday", "after_close")
_OPEN, _CLOSE = pd.Timedelta(hours=9, minutes=15), pd.Timedelta(hours=15)
FIRST_SESSION = pd.Timestamp("1990-12-19")


@lru_cache(maxsize=1)
def default_sessions() -> pd.DatetimeIndex:
    """All sessions of the Shanghai exchange that exchange_calendars (XSHG) has on record."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own deprecations are not the user's to mend
        calendar = exchange_calendars.get_calendar("XSHG", start=FIRST_SESSION)
    return pd.DatetimeIndex(calendar.sessions).as_unit("us")


def check_sessions(sessions: pd.DatetimeIndex | None) -> pd.DatetimeIndex:
    """The user's own sessions, sorted and checked, or the default calendar."""
    if sessions is None:
        return default_sessions()
    days = pd.DatetimeIndex(sessions)
    if days.tz is not None or (days != days.normalize()).any() or days.has_duplicates or not len(days):
        raise CalendarError("sessions", days[:3].tolist(), "must be distinct dates without time and timezone")
    return days.as_unit("us").sort_values()


def check_cutoff(cutoff: str) -> str:
    """``cutoff`` if it is one of the three times of day at which a cell may close."""
    if cutoff not in CUTOFFS:
        raise InvalidValueError("cutoff", cutoff, f"must be one of {', '.join(CUTOFFS)}")
    return cutoff


def known_at(dates: pd.Series | pd.DatetimeIndex, cutoff: str = "09:15") -> pd.DatetimeIndex:
    """The decision time of each session's cell: the date plus the cutoff, in Asia/Shanghai."""
    days = pd.DatetimeIndex(dates).as_unit("us")
    return (days + pd.Timedelta(f"{check_cutoff(cutoff)}:00")).tz_localize(TIMEZONE)


def effective_at(available_at: pd.Series, time_precision: pd.Series) -> pd.Series:
    """When an item surely could be read: a day-precision item only at the end of its day."""
    local: pd.Series = available_at.dt.tz_convert(TIMEZONE)
    whole = time_precision == "day"
    if not whole.any():  # dates with a timezone are slow to make
        return local
    local = local.copy()
    local[whole] = local[whole].dt.normalize() + pd.Timedelta(days=1)
    return local


def assign_sessions(
    available_at: pd.Series,
    time_precision: pd.Series,
    *,
    cutoff: str = "09:15",
    sessions: pd.DatetimeIndex | None = None,
) -> pd.Series:
    """The session whose cell first knows each item.

    Parameters
    ----------
    available_at : Series of timezone-aware times
        Any timezone; compared in Asia/Shanghai.
    time_precision : Series of str
        ``second``, ``minute`` or ``day``; a day-precision item counts from the following session.
    cutoff : {"09:15", "14:50", "15:00"}
        The time of day at which a session's cell closes; the window is half-open, [previous, this).
    sessions : DatetimeIndex, optional
        The trading days, if not those of exchange_calendars' XSHG.

    Returns
    -------
    Series of datetime64
        Aligned with the input; empty in, empty out.

    Raises
    ------
    CalendarError
        If an item lies before the first or after the last session of the calendar.

    Examples
    --------
    >>> times = pd.Series(pd.to_datetime(["2026-07-03 16:00:00+08:00", "2026-07-06 09:14:59+08:00"]))
    >>> assign_sessions(times, pd.Series(["second", "second"])).dt.strftime("%m-%d").tolist()
    ['07-06', '07-06']
    """
    days = check_sessions(sessions)
    slot = first_cells(effective_at(available_at, time_precision), cutoff, days)
    return pd.Series(days.to_numpy()[slot], index=available_at.index, dtype=DATE_TYPE)


def first_cells(when: pd.Series, cutoff: str, days: pd.DatetimeIndex) -> np.ndarray:
    """The number, among the days, of the session whose cell first knows each effective time."""
    closes = known_at(days, cutoff)
    if when.isna().any():
        position = int(when.isna().to_numpy().argmax())
        raise CalendarError("available_at", None, "must not be missing", f"row {position}")
    times = pd.DatetimeIndex(when).as_unit("us").asi8
    slot = np.searchsorted(closes.asi8, times, side="right")
    beyond = (slot >= len(days)) | (times < (closes[0] - pd.Timedelta(days=30)).value // 1000)
    if beyond.any():
        raise _outside("available_at", when.iloc[int(np.argmax(beyond))], days)
    return slot


def assign_windows(
    available_at: pd.Series, time_precision: pd.Series, *, sessions: pd.DatetimeIndex | None = None
) -> pd.Series:
    """Whether each item came ``pre_open``, ``intraday`` or ``after_close``.

    The bounds are in this module's first lines. A day-precision item counts at the end of its day.

    Returns
    -------
    Series of categories
        Aligned with the input; empty in, empty out.

    Examples
    --------
    >>> times = pd.Series(pd.to_datetime(["2026-07-03 15:00+08:00", "2026-07-06 12:00+08:00"]))
    >>> assign_windows(times, pd.Series(["second", "second"])).tolist()
    ['after_close', 'intraday']
    """
    days = check_sessions(sessions)
    bounds = [(days + begin).tz_localize(TIMEZONE) for begin in (pd.Timedelta(0), _OPEN, _CLOSE)]
    edges = np.column_stack([bound.as_unit("us").asi8 for bound in bounds]).ravel()
    when = pd.DatetimeIndex(effective_at(available_at, time_precision)).as_unit("us").asi8
    # Bounds follow each other in the order of WINDOWS, over and over; before the first it is after a close.
    number = (np.searchsorted(edges, when, side="right") - 1) % len(WINDOWS)
    kinds = pd.Categorical.from_codes(number.astype(np.int8), categories=pd.Index(WINDOWS))
    return pd.Series(kinds, index=available_at.index)


def shift_sessions(
    dates: pd.Series | pd.DatetimeIndex, steps: int, *, sessions: pd.DatetimeIndex | None = None
) -> pd.DatetimeIndex:
    """Each session moved by a number of sessions on the calendar; NaT past its ends."""
    days = check_sessions(sessions)
    slot = session_numbers(dates, sessions=days) + steps
    inside = (slot >= 0) & (slot < len(days))
    moved = days.to_numpy()[np.where(inside, slot, 0)]
    return pd.DatetimeIndex(np.where(inside, moved, np.datetime64("NaT"))).as_unit("us")


def session_numbers(
    dates: pd.Series | pd.DatetimeIndex, *, sessions: pd.DatetimeIndex | None = None, parameter: str = "date"
) -> np.ndarray:
    """The position of each date among the sessions; a date that is no session is an error."""
    days = check_sessions(sessions)
    wanted = pd.DatetimeIndex(dates).as_unit("us")
    slot = days.get_indexer(wanted)
    if (slot < 0).any():
        value = wanted[int(np.argmax(slot < 0))]
        if days[0] <= value <= days[-1]:
            raise CalendarError(
                parameter, _day(value), "must be a trading session",
                remedy="the calendar has no session on that day; give the trading days with sessions= (nf.sources.fetch_sessions() lists them)",
            )  # fmt: skip
        raise _outside(parameter, value, days)
    return slot


def check_price_dates(dates: pd.Series, *, sessions: pd.DatetimeIndex | None = None) -> None:
    """Stop if prices exist on a day that the calendar holds to be closed or does not reach."""
    session_numbers(pd.DatetimeIndex(dates.unique()), sessions=sessions, parameter="prices['date']")


def entry_offset(cutoff: str, entry: str) -> int:
    """Sessions between a cell and the first auction that can still be entered after its cutoff.

    Raises
    ------
    LookAheadError
        If ``entry`` names no auction: nothing before the cutoff can be entered.
    """
    check_cutoff(cutoff)
    if entry not in DEADLINES:
        raise LookAheadError("entry", entry, f"must be one of {', '.join(DEADLINES)}", remedy="a price fixed before the news was known cannot be traded")  # fmt: skip
    return 0 if DEADLINES[entry] >= cutoff else 1


def _outside(parameter: str, value: object, days: pd.DatetimeIndex) -> CalendarError:
    return CalendarError(
        parameter, _day(value), f"must lie within the trading calendar, {_day(days[0])} to {_day(days[-1])}",
        remedy="upgrade exchange_calendars or give the trading days with sessions= (nf.sources.fetch_sessions() lists them)",
    )  # fmt: skip


def _day(value: object) -> str:
    return str(value)[:19].removesuffix(" 00:00:00")
