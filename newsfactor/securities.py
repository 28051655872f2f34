"""Names and industries valid in time; names found in a text; the universe of each day."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ahocorasick_rs
import numpy as np
import pandas as pd

from newsfactor.codes import limit_rates, normalize_code
from newsfactor.errors import NotAShareError, TableError
from newsfactor.schema import DATE_TYPE, PRICES, SECURITIES, TIMEZONE, UNIVERSE, check, place

# Ex-date and first-day marks take characters of the name away (XD中信建), so such a name identifies nothing.
_DAY_MARK = re.compile(r"^(XD|XR|DR|[NC](?=[\u4e00-\u9fff]))")
_STATUS_MARK = re.compile(r"^(\*ST|S\*ST|SST|ST|S(?=[\u4e00-\u9fff]))")
_SUFFIX_MARK = re.compile(r"(-[A-Z]{1,2}|退|\(退市\))$")
# Two letters that remain of a mainland name are mostly a word: 发展 of ST发展, 工智 in 人工智能.
_SHORTEST_NAME = 3
_FACT_COLUMNS = list(SECURITIES.columns)


def strip_marks(name: str) -> str:
    """The name without status marks: ``*ST``, ``ST``, ``S``, ``-U``, ``-W``, ``退``.

    Examples
    --------
    >>> strip_marks("*ST海川"), strip_marks("海川芯片-U")
    ('海川', '海川芯片')
    """
    return _SUFFIX_MARK.sub("", _STATUS_MARK.sub("", name))


def read_securities(
    current: pd.DataFrame | str | Path,
    names: pd.DataFrame | str | Path | None = None,
    industries: pd.DataFrame | str | Path | None = None,
) -> pd.DataFrame:
    """Build the SECURITIES table: what each code was called and which industry it had, in time.

    Parameters
    ----------
    current : DataFrame or path
        A SECURITIES table, then only checked, or one row per code: ``code`` or ``ts_code``, ``name``; optional ``list_date`` and ``sw_l1``. Without
        ``names`` these names hold always, and links say so (``name_evidence="current"``).
    names : DataFrame or path, optional
        Observed names: ``code``, ``name``, ``first_seen``, ``last_seen``. A name holds from the last
        sighting of the code's previous name (else since ever) to the first sighting of its next.
    industries : DataFrame or path, optional
        Shenwan history: ``code``, ``start_date``, ``end_date``, ``sw_l1``; half-open in time. Before a
        code's first row, and without this table, the current ``sw_l1`` is used and marked ``current``.

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
    current_names = listed.assign(kind="short", value=listed["name"], evidence="current")
    if names is not None:
        seen = _prepare(read_table(names, parameter="names"), "names", ("name", "first_seen", "last_seen"))
        observed = _observed_names(seen)
        facts.append(observed)
        current_names = current_names[~current_names["code"].isin(observed["code"])]
    facts.append(current_names[~current_names["value"].str.match(_DAY_MARK)])
    if industries is not None:
        history = _prepare(
            read_table(industries, parameter="industries"), "industries", ("start_date", "end_date", "sw_l1")
        )
        facts.append(_industry_facts(history))
    if "sw_l1" in listed.columns:
        facts.append(_current_industries(listed, facts))
    return _finish(pd.concat([part.reindex(columns=_FACT_COLUMNS) for part in facts if len(part)]))


def _finish(table: pd.DataFrame) -> pd.DataFrame:
    """Types, order and uniqueness of the SECURITIES table."""
    table = table.copy()
    for column in ("code", "kind", "value", "evidence"):
        table[column] = table[column].astype("str")
    for column in ("valid_from", "valid_to", "seen_from", "seen_to"):
        table[column] = pd.to_datetime(table[column]).astype(DATE_TYPE)
    table = table[table["value"].notna() & (table["value"] != "")]
    table = table.drop_duplicates(list(SECURITIES.key)).sort_values(["code", "kind", "valid_from", "value"])
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
    plain = seen[~seen["name"].str.match(_DAY_MARK)].sort_values(["code", "first_seen", "last_seen"])
    starts, ends = [], []
    for _, group in plain.groupby("code", sort=False):
        first, last = group["first_seen"].to_numpy(), group["last_seen"].to_numpy()
        starts += [max(last[last < day], default=np.datetime64("NaT")) for day in first]
        ends += [min(first[first > day], default=np.datetime64("NaT")) for day in last]
    return plain.assign(
        kind="short", value=plain["name"], evidence="observed",
        valid_from=np.array(starts, dtype=DATE_TYPE), valid_to=np.array(ends, dtype=DATE_TYPE),
        seen_from=plain["first_seen"], seen_to=plain["last_seen"],
    )  # fmt: skip


def _industry_facts(history: pd.DataFrame) -> pd.DataFrame:
    known = history[history["sw_l1"].notna()]
    return known.assign(
        kind="sw1",
        value=known["sw_l1"],
        evidence="observed",
        valid_from=known["start_date"],
        valid_to=known["end_date"],
    )


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


@dataclass(frozen=True)
class Name:
    """One span during which a string meant a code."""

    code: str
    valid_from: pd.Timestamp | None
    valid_to: pd.Timestamp | None
    evidence: str
    seen_from: pd.Timestamp | None
    seen_to: pd.Timestamp | None

    def holds_on(self, day: pd.Timestamp) -> bool:
        """Whether the name was, or may have been, in use on the day."""
        after = self.valid_from is None or day >= self.valid_from
        return after and (self.valid_to is None or day < self.valid_to)

    def evidence_on(self, day: pd.Timestamp) -> str:
        """``observed`` between its sightings, ``inferred`` beside them, ``current`` if it is undated."""
        if self.evidence != "observed" or self.seen_from is None or self.seen_to is None:
            return self.evidence
        return "observed" if self.seen_from <= day <= self.seen_to else "inferred"


class NameIndex:
    """The names of a SECURITIES table, found in texts as of a day.

    Matching is leftmost-longest among the names valid on the day, so that a name that came into use
    later can neither match nor hide a shorter one.
    """

    def __init__(self, securities: pd.DataFrame) -> None:
        check(securities, SECURITIES, parameter="securities")
        self.spans: dict[str, list[Name]] = {}
        named = securities[securities["kind"].isin(("short", "former", "alias"))]
        columns = ("value", "code", "valid_from", "valid_to", "evidence", "seen_from", "seen_to")
        for value, code, *bounds in named[list(columns)].itertuples(index=False):
            start, end, evidence, first, last = (None if pd.isna(item) else item for item in bounds)
            for form in {value, strip_marks(value)}:
                if len(form) >= (2 if code.endswith("HK") else _SHORTEST_NAME):
                    self.spans.setdefault(form, []).append(Name(code, start, end, evidence or "current", first, last))
        self.names = sorted(self.spans)
        self._automaton = ahocorasick_rs.AhoCorasick(self.names)

    def resolve(self, name: str, day: pd.Timestamp) -> list[Name]:
        """The spans that hold for a name on a day, one per code, in the order of the codes."""
        holding = {span.code: span for span in self.spans.get(name, ()) if span.holds_on(day)}
        return [holding[code] for code in sorted(holding)]

    def find(self, text: str, day: pd.Timestamp) -> list[tuple[int, str]]:
        """(position, name) of each name in the text, left to right, not overlapping."""
        hits = self._automaton.find_matches_as_indexes(text, overlapping=True)
        valid = [(start, -(end - start), self.names[k]) for k, start, end in hits if self.resolve(self.names[k], day)]
        found, reached = [], 0
        for start, length, name in sorted(valid):
            if start >= reached:
                found.append((start, name))
                reached = start - length
        return found


def find_candidates(securities: pd.DataFrame, texts: Sequence[str], times: pd.Series) -> list[dict[str, str]]:
    """For each text the names in it that were in use at its time, in order of appearance, each with its industry.

    The industry is the Shenwan level-1 class as of the day, ``港股`` for a Hong Kong share, empty where unknown. A name
    of several codes has the mainland one's.
    """
    index = NameIndex(securities)
    days = times.dt.tz_convert(TIMEZONE).dt.normalize().dt.tz_localize(None)
    found: list[tuple[int, str, str, pd.Timestamp]] = []
    for k, (text, day) in enumerate(zip(texts, days, strict=True)):
        for name in dict.fromkeys(name for _, name in index.find(text, day)):
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
        prices rounded to 0.01, NaN without ``pre_close`` and in the first five sessions after listing.
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
    rate = limit_rates(table["date"], table["code"].tolist(), table["is_st"])
    # The rank among the code's own rows stands for sessions since listing where its listing is in the prices.
    young = (table["date"] - table["list_date"]).dt.days < 15
    young &= table.groupby("code", sort=False).cumcount() < 5
    rate = np.where(young, np.nan, rate)
    table["limit_up"] = _round_price(rows["pre_close"] * (1 + rate))
    table["limit_down"] = _round_price(rows["pre_close"] * (1 - rate))
    table = table.sort_values(["date", "code"]).reset_index(drop=True)
    return check(table[list(UNIVERSE.columns)], UNIVERSE, parameter="universe")


def _round_price(prices: pd.Series) -> np.ndarray:
    # Exchanges round half up; the small constant undoes binary representation (10.45 * 1.1).
    return np.floor(prices.astype(float) * 100 + 0.5 + 1e-6) / 100
