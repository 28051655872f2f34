"""Names and industries valid in time; candidates found in a text; the universe of each day."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from newsfactor.codes import limit_bounds, normalize_code
from newsfactor.errors import NotAShareError, TableError
from newsfactor.names import DAY_MARK, NameIndex, fold_width, strip_marks
from newsfactor.schema import DATE_TYPE, PRICES, SECURITIES, TIMEZONE, UNIVERSE, check, place
from newsfactor.sessions import default_sessions

# The Shenwan classes of 2021 hold from here on; before it they are carried back.
_SW2021 = pd.Timestamp("2021-07-30")
# On this day the Beijing exchange gave every share a code that begins with 92 in place of 43, 83 or 87.
_BEIJING_SWITCH = pd.Timestamp("2025-10-09")
_FACT_COLUMNS = list(SECURITIES.columns)


def read_securities(
    current: pd.DataFrame | str | Path,
    names: pd.DataFrame | str | Path | None = None,
    industries: pd.DataFrame | str | Path | None = None,
) -> pd.DataFrame:
    """Build the SECURITIES table: what each code was called and which industry it had, in time.

    Parameters
    ----------
    current : DataFrame or path
        A SECURITIES table, then only checked, or one row per code: ``code`` or ``ts_code``, ``name``; optional
        ``list_date`` and ``sw_l1``. Without ``names`` these names hold since the listing, and links say so
        (``name_evidence="current"``).
    names : DataFrame or path, optional
        Observed names: ``code``, ``name``, ``first_seen``, ``last_seen``. A name holds from the day after
        the last sighting of the code's previous name to the first sighting of its next; the earliest from the listing
        (else the first class, else, where other codes have these, the first sighting). Names on ex-dates and first
        days (XD, XR, DR, N, C) are left out. Old Beijing codes end where their successors begin.
    industries : DataFrame or path, optional
        Shenwan history: ``code``, ``start_date``, ``end_date``, ``sw_l1``; half-open in time. Before 2021-07-30
        the classes are carried back and marked ``inferred``; before a code's first row, and without this table,
        the current ``sw_l1`` is used and marked ``current``. A code whose rows have no class from that day on
        had left the market: its names end there.

    Returns
    -------
    DataFrame
        SECURITIES, see :mod:`newsfactor.schema`. An unknown bound is NaT: it holds on that side always.

    Raises
    ------
    TableError, InvalidValueError
        If a column is missing or a code or a date is not one; they name it. Codes of indices, funds and
        bonds are left out with a warning that counts them.
    """
    from newsfactor.tables import read_table

    raw = read_table(current, parameter="current")
    if set(SECURITIES.columns) <= set(raw.columns):
        return _finish(raw[_FACT_COLUMNS])
    listed = _prepare(raw, "current", ("name",))
    facts = [_listing_facts(listed)]
    shorts = _current_names(listed)
    if names is not None:
        seen = _prepare(read_table(names, parameter="names"), "names", ("name", "first_seen", "last_seen"))
        observed = _observed_names(seen)
        shorts = pd.concat([observed, shorts[~shorts["code"].isin(observed["code"])]])
    history = None
    if industries is not None:
        history = _prepare(
            read_table(industries, parameter="industries"), "industries", ("start_date", "end_date", "sw_l1")
        )
        facts.append(_industry_facts(history))
        shorts = _end_unclassed(shorts, history)
    shorts = _hold_back_to_listing(shorts, listed, history)
    if "sw_l1" in listed.columns:
        facts.append(_current_industries(listed, facts))
    shorts, successors = _renumber_beijing(shorts)
    known = pd.concat([part.reindex(columns=_FACT_COLUMNS) for part in (*facts, shorts) if len(part)])
    classes = known[(known["kind"] == "sw1") & known["code"].isin(successors)]
    return _finish(pd.concat([known, classes.assign(code=classes["code"].map(successors))]))


def _finish(table: pd.DataFrame) -> pd.DataFrame:
    """Types, order and uniqueness of the SECURITIES table."""
    table = table.copy()
    for column in ("code", "kind", "value", "evidence"):
        table[column] = table[column].astype("str")
    for column in ("valid_from", "valid_to", "seen_from", "seen_to"):
        table[column] = pd.to_datetime(table[column]).astype(DATE_TYPE)
    table = table[table["value"].notna() & (table["value"] != "")]
    table = table.sort_values(["code", "kind", "valid_from", "value", "valid_to", "evidence", "seen_from", "seen_to"])
    table = table.drop_duplicates(list(SECURITIES.key))
    return check(table.reset_index(drop=True), SECURITIES, parameter="securities")


def _prepare(frame: pd.DataFrame, parameter: str, columns: Sequence[str]) -> pd.DataFrame:
    """Codes normalised, dates parsed, missing columns named."""
    code = "ts_code" if "ts_code" in frame.columns else "code"
    for column in (code, *columns):
        if column not in frame.columns:
            raise TableError(parameter, [str(name) for name in frame.columns], f"needs the column {column!r}")
    table = _keep_shares(frame, code, parameter)
    for column in ("list_date", "first_seen", "last_seen", "start_date", "end_date"):
        if column in table.columns:
            table[column] = _parse_dates(table, column, parameter)
    return table


def _keep_shares(frame: pd.DataFrame, column: str, parameter: str) -> pd.DataFrame:
    """The rows of shares, with normalised codes; indices, funds and bonds are left out with a warning."""
    found, others = {}, []
    for code in frame[column].unique():
        try:
            found[code] = normalize_code(code)
        except NotAShareError:
            others.append(code)
    if others:
        named = ", ".join(map(str, others[:3]))
        warnings.warn(f"{parameter}: {len(others)} codes are no shares and are left out ({named}, …)", stacklevel=4)
    kept = frame[frame[column].isin(list(found))]
    return kept.assign(code=kept[column].map(found).astype("str"))


def _parse_dates(frame: pd.DataFrame, column: str, parameter: str) -> pd.Series:
    text = frame[column].astype("string").str.slice(0, 10).where(frame[column].notna())
    open_ended = text.str.startswith("9999", na=False)
    dates = pd.to_datetime(text.where(~open_ended), errors="coerce", format="mixed").astype(DATE_TYPE)
    bad = dates.isna() & text.notna() & (text.str.strip() != "") & ~open_ended
    if bad.any():
        position = int(bad.to_numpy().argmax())
        raise TableError(
            f"{parameter}[{column!r}]", text.iloc[position], "must be a date", place(frame, position, ["code"])
        )
    return dates


def _listing_facts(listed: pd.DataFrame) -> pd.DataFrame:
    if "list_date" not in listed.columns:
        return pd.DataFrame(columns=_FACT_COLUMNS)
    known = listed[listed["list_date"].notna()]
    day = known["list_date"].dt.strftime("%Y-%m-%d")
    return known.assign(kind="listed", value=day, valid_from=known["list_date"], evidence="current")


def _observed_names(seen: pd.DataFrame) -> pd.DataFrame:
    """One row per observed name, each valid between the sightings of its neighbours; sightings may overlap."""
    plain = seen[~seen["name"].str.match(DAY_MARK)].sort_values(["code", "first_seen", "last_seen"])
    starts, ends = [], []
    for _, group in plain.groupby("code", sort=False):
        first, last = group["first_seen"].to_numpy(), group["last_seen"].to_numpy()
        # Where sightings overlap, the first one of the name before is still a day on which this one was not borne.
        others = np.concatenate([first, last])
        starts += [max(others[others < day], default=np.datetime64("NaT")) + np.timedelta64(1, "D") for day in first]
        ends += [min(first[first > day], default=np.datetime64("NaT")) for day in last]
    return plain.assign(
        kind="short", value=plain["name"], evidence="observed",
        valid_from=np.array(starts, dtype=DATE_TYPE), valid_to=np.array(ends, dtype=DATE_TYPE),
        seen_from=plain["first_seen"], seen_to=plain["last_seen"],
    )  # fmt: skip


def _current_names(listed: pd.DataFrame) -> pd.DataFrame:
    """The names of a current list, undated."""
    plain = listed[listed["name"].notna() & ~listed["name"].str.match(DAY_MARK).fillna(True).astype(bool)]
    nothing = pd.Series(pd.NaT, index=plain.index, dtype=DATE_TYPE)
    return plain.assign(
        kind="short", value=plain["name"], evidence="current",
        valid_from=nothing, valid_to=nothing, seen_from=nothing, seen_to=nothing,
    )  # fmt: skip


def _hold_back_to_listing(shorts: pd.DataFrame, listed: pd.DataFrame, history: pd.DataFrame | None) -> pd.DataFrame:
    """A code's earliest name begins with its listing, or with the first sighting if that came before.

    Its first class tells the listing where no list date does; a code that has neither, where others have, begins
    with its first sighting.
    """
    dated = [listed.set_index("code")["list_date"]] if "list_date" in listed.columns else []
    if history is not None:
        dated.append(history.set_index("code")["start_date"])
    if not dated:
        return shorts
    firsts = [dates.dropna().groupby(level=0).min() for dates in dated]
    known = firsts[0].combine_first(firsts[-1])
    seen = shorts.groupby("code")["seen_from"].transform("min")
    began = pd.to_datetime(shorts["code"].map(known)).fillna(seen)
    began = began.where(~(seen < began), seen)
    return shorts.assign(valid_from=shorts["valid_from"].fillna(began).astype(DATE_TYPE))


def _end_unclassed(shorts: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """A code that the history knows, but that has no class of 2021, had left the market by then."""
    classed = history.loc[history["sw_l1"].notna() & ~(history["end_date"] <= _SW2021), "code"]
    gone = shorts["code"].isin(set(history["code"]) - set(classed))
    ends = _no_later(shorts["valid_to"], _SW2021)
    return shorts.assign(valid_to=shorts["valid_to"].mask(gone, ends))


def _renumber_beijing(shorts: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """An old Beijing code ends where the new one of the same name begins; the new codes with their old ones.

    The switch is put where the sightings of both codes allow it.
    """
    own = shorts[shorts["code"].str.endswith("BJ")]
    own = own.assign(base=own["value"].map(fold_width).map(strip_marks), new=own["code"].str.startswith("92"))
    pairs = own[~own["new"]].merge(own[own["new"]], on="base", suffixes=("", "_new"))
    pairs = pairs.sort_values(["code", "code_new"]).drop_duplicates("code").drop_duplicates("code_new")
    if pairs.empty:
        return shorts, {}
    seen = own.groupby("code").agg(first=("seen_from", "min"), last=("seen_to", "max"))
    first = _no_later(pd.to_datetime(pairs["code_new"].map(seen["first"])), _BEIJING_SWITCH)
    day = (pd.to_datetime(pairs["code"].map(seen["last"])) + pd.Timedelta(days=1)).fillna(first)
    day = day.where(day > first, first).astype(DATE_TYPE)
    ends = shorts["code"].map(dict(zip(pairs["code"], day, strict=True))).astype(DATE_TYPE)
    starts = shorts["code"].map(dict(zip(pairs["code_new"], day, strict=True))).astype(DATE_TYPE)
    settled = shorts.assign(
        valid_to=shorts["valid_to"].where(ends.isna() | (shorts["valid_to"] <= ends), ends),
        valid_from=shorts["valid_from"].where(starts.isna() | (shorts["valid_from"] >= starts), starts),
    )
    return settled, dict(zip(pairs["code_new"], pairs["code"], strict=True))


def _industry_facts(history: pd.DataFrame) -> pd.DataFrame:
    """One row per class; what a class of 2021 says of the years before is ``inferred``."""
    known = history[history["sw_l1"].notna() & history["start_date"].notna()]
    facts = known.assign(
        kind="sw1", value=known["sw_l1"], evidence="observed",
        valid_from=known["start_date"], valid_to=known["end_date"],
    )  # fmt: skip
    before = facts[facts["valid_from"] < _SW2021].assign(evidence="inferred")
    before["valid_to"] = _no_later(before["valid_to"], _SW2021)
    after = facts[~(facts["valid_to"] <= _SW2021)]
    after = after.assign(valid_from=after["valid_from"].where(after["valid_from"] > _SW2021, _SW2021))
    return pd.concat([before, after])


def _no_later(dates: pd.Series, day: pd.Timestamp) -> pd.Series:
    """The dates, or the day where one is later or missing."""
    return dates.where(dates <= day, day)


def _current_industries(listed: pd.DataFrame, facts: list[pd.DataFrame]) -> pd.DataFrame:
    """The current class up to the code's first dated one: backcast, and marked so."""
    current = listed.assign(kind="sw1", value=listed["sw_l1"], evidence="current", valid_from=None)
    dated = [part[part["kind"] == "sw1"] for part in facts if "kind" in part]
    first = pd.concat(dated).groupby("code")["valid_from"].min() if dated else pd.Series(dtype=DATE_TYPE)
    current["valid_to"] = pd.to_datetime(current["code"].map(first.to_dict())).astype(DATE_TYPE)
    return current


def facts_at(securities: pd.DataFrame, kind: str, keys: pd.DataFrame) -> pd.DataFrame:
    """The value and evidence of one kind of fact for each (code, date) of ``keys``, as of the date.

    ``keys`` has ``code`` and ``date``; the result is aligned with it. Where nothing is known both are null.
    Where two facts overlap, the one that began later counts.
    """
    facts = securities.loc[securities["kind"] == kind, ["code", "value", "evidence", "valid_from", "valid_to"]]
    facts = facts.assign(valid_from=facts["valid_from"].fillna(pd.Timestamp("1900-01-01")).astype(DATE_TYPE))
    wanted = pd.DataFrame({"code": keys["code"].to_numpy(), "date": keys["date"].to_numpy().astype(DATE_TYPE)})
    wanted = wanted.reset_index(names="position").sort_values("date")
    wanted["code"], facts["code"] = wanted["code"].astype("str"), facts["code"].astype("str")
    facts = facts.sort_values("valid_from")
    found = pd.merge_asof(wanted, facts, left_on="date", right_on="valid_from", by="code")
    over = found["valid_to"].notna() & (found["date"] >= found["valid_to"])
    found.loc[over, ["value", "evidence"]] = None
    found = found.set_index("position").sort_index()
    return found[["value", "evidence"]].set_index(keys.index)


def find_candidates(securities: pd.DataFrame, texts: Sequence[str], times: pd.Series) -> list[dict[str, str]]:
    """For each text the names in it that were in use at its time, in order of appearance, each with its industry.

    The industry is the Shenwan level-1 class as of the day, ``港股`` for a Hong Kong share, empty where unknown. A name
    of several codes has the mainland one's.
    """
    index = NameIndex(securities)
    days = times.dt.tz_convert(TIMEZONE).dt.normalize().dt.tz_localize(None).tolist()
    found: list[tuple[int, str, str, pd.Timestamp]] = []
    for k, (hits, day) in enumerate(zip(index.find_all(texts, days), days, strict=True)):
        for name in dict.fromkeys(name for _, name in hits):
            codes = [span.code for span in index.resolve(name, day)]
            found.append((k, name, min(codes, key=lambda code: (code.endswith("HK"), code)), day))
    keys = pd.DataFrame(found, columns=["row", "name", "code", "date"])
    industry = facts_at(securities, "sw1", keys)["value"].astype("str") if found else pd.Series(dtype="str")
    industry = industry.fillna("").mask(keys["code"].str.endswith("HK"), "港股")
    candidates: list[dict[str, str]] = [{} for _ in texts]
    for row, name, value in zip(keys["row"], keys["name"], industry, strict=True):
        candidates[row][name] = value
    return candidates


def universe(securities: pd.DataFrame, prices: pd.DataFrame) -> pd.DataFrame:
    """Who could be traded on each day, with industry and capitalisation as of the day.

    Parameters
    ----------
    securities : DataFrame
        SECURITIES.
    prices : DataFrame
        PRICES; a ``name`` column, where there is one, tells ST by that day's name.

    Returns
    -------
    DataFrame
        UNIVERSE, one row for each (date, code) of the prices. ``circ_mv`` is the previous row's of the
        code, so that it was known before the day; NaN on its first. ``limit_up`` and ``limit_down`` are
        prices rounded to 0.01 by `newsfactor.codes.LIMITS` and, in the first sessions after listing, by
        ``FIRST_SESSIONS``; NaN without ``pre_close`` and where there is no limit.
        A row with no ``close``, or with ``amount`` zero, is suspended. Empty prices give an empty table.
    """
    check(prices, PRICES, parameter="prices")
    check(securities, SECURITIES, parameter="securities")
    table = prices[["date", "code"]].sort_values(["code", "date"])
    rows = prices.loc[table.index]
    name = rows["name"] if "name" in rows.columns else facts_at(securities, "short", table)["value"]
    table["industry"] = facts_at(securities, "sw1", table)["value"]
    table["circ_mv"] = rows.groupby("code", sort=False)["circ_mv"].shift(1)
    table["is_st"] = name.astype("string").str.contains("ST", regex=False).fillna(False).astype(bool)
    table["is_suspended"] = rows["close"].isna() | (rows["amount"] == 0)
    listed = securities[securities["kind"] == "listed"].drop_duplicates("code").set_index("code")["valid_from"]
    table["list_date"] = table["code"].map(listed).astype(DATE_TYPE)
    ages = _session_count(table["date"]) - _session_count(table["list_date"])
    up, down = limit_bounds(table["date"], table["code"], table["is_st"], list_dates=table["list_date"], ages=ages)
    table["limit_up"] = _round_price(rows["pre_close"] * (1 + up))
    table["limit_down"] = _round_price(rows["pre_close"] * (1 - down))
    table = table.sort_values(["date", "code"]).reset_index(drop=True)
    return check(table[list(UNIVERSE.columns)], UNIVERSE, parameter="universe")


def _session_count(dates: pd.Series) -> np.ndarray:
    """How many sessions lie before each date; any number where it is missing."""
    number, found = pd.factorize(dates)
    return np.append(default_sessions().searchsorted(pd.DatetimeIndex(found).as_unit("us")), 0)[number]


def _round_price(prices: pd.Series) -> np.ndarray:
    # Exchanges round half up; the small constant undoes binary representation (10.45 * 1.1).
    return np.floor(prices.astype(float) * 100 + 0.5 + 1e-6) / 100
