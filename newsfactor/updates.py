"""What a store holds at one time, and how an update changes it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from newsfactor import __version__
from newsfactor.archive import Archive, Entry, Manifest
from newsfactor.coverage import infer_coverage
from newsfactor.errors import InvalidValueError, StoreError
from newsfactor.factors import Factor, lookback_of, needs_complete
from newsfactor.merging import (
    NEVER,
    changed_keys,
    changed_spans,
    conform,
    extend_spans,
    has_key,
    make_empty,
    refuse_relabelled,
    types_of,
)
from newsfactor.panels import BY, panel
from newsfactor.schema import COVERAGE, LINKS, UNIVERSE
from newsfactor.sessions import assign_sessions, check_cutoff, check_sessions, known_at, session_numbers

TABLES = ("links", "universe", "coverage", "sessions", "panel")
# Sessions computed at a time, so that a first update of many years does not spread all of them at once.
SPAN = 250
NONE = np.array([], dtype=np.int64)
_VERSION = ["news_id", "available_at"]
_ANEW = "build a new store in another folder"


@dataclass(frozen=True)
class Settings:
    """What makes two stores of the same links differ."""

    by: str
    cutoff: str
    multi: str
    factors: Mapping[str, Factor]

    def __post_init__(self) -> None:
        check_cutoff(self.cutoff)
        for name, value, allowed in (("by", self.by, BY), ("multi", self.multi, ("subject", "share"))):
            if value not in allowed:
                raise InvalidValueError(name, value, f"must be one of {', '.join(map(repr, allowed))}")

    @property
    def key(self) -> str:
        return "code" if self.by == "stock" else "industry"

    @property
    def reach(self) -> int:
        """Sessions whose cells one session can touch, itself included."""
        return max([lookback_of(factor) for factor in self.factors.values()], default=1)

    @property
    def whole(self) -> bool:
        """Whether a cell depends on all the past: a story counts once, however long ago it was first told."""
        return self.by == "industry_both"

    def describe(self) -> dict[str, Any]:
        """As a manifest holds them: a function is known by name, lookback and whether it needs all of it."""
        declared = {name: [lookback_of(f), needs_complete(f)] for name, f in self.factors.items()}
        return {"by": self.by, "cutoff": self.cutoff, "multi": self.multi, "factors": declared}


class State:
    """The tables of one manifest, read by session; ``add`` and ``compute`` lead to the next manifest."""

    def __init__(
        self, archive: Archive, manifest: Manifest | None, settings: Settings, sessions: pd.DatetimeIndex | None = None
    ) -> None:
        self._archive, self._settings = archive, settings
        self._kept = manifest or {}
        self._entries: dict[str, dict[str, Entry]] = {
            name: {entry["month"]: entry for entry in self._kept.get(name, [])} for name in TABLES
        }
        self._schema: dict[str, dict[str, str]] = dict(self._kept.get("schema", {}))
        self._counts: dict[str, dict[str, int]] = dict(self._kept.get("counts", {}))
        self._attrs: dict[str, Any] = dict(self._kept.get("attrs", {}))
        self._inferred: bool = self._kept.get("coverage_inferred", True)
        self.days = self._choose_sessions(sessions)
        self._closes = known_at(self.days, settings.cutoff)
        self._due = NONE
        calendar = self._kept.get("calendar", {})
        # First and last day of the universe.
        self._bounds = [pd.Timestamp(calendar[name]) for name in ("first", "last") if calendar]

    def by_stock(self) -> State:
        """The same tables for a panel of the stocks of which this one has the means."""
        manifest = {**self._kept, "settings": {}}
        return State(self._archive, manifest, replace(self._settings, by="stock"))

    def slot(self, date: pd.Timestamp) -> int:
        """The number of a session."""
        return int(session_numbers(pd.DatetimeIndex([date]), sessions=self.days)[0])

    def links(self, low: int, high: int) -> pd.DataFrame:
        """LINKS of the sessions from one number to another; a later version of a news item has an id of its own."""
        low = 0 if self._settings.whole else low
        start = self.days[max(low - 1, 0)] - pd.Timedelta(days=2 if low else 40)
        table = self.read("links", f"{start:%Y-%m}", f"{self.days[high]:%Y-%m}")
        slots = self._slots_of(table)
        table = table[(slots >= low) & (slots <= high)].reset_index(drop=True)
        later = table["available_at"] > table.groupby("news_id")["available_at"].transform("min")
        stamped = table["news_id"] + table["available_at"].dt.strftime("@%Y-%m-%d %H:%M:%S.%f")
        table["news_id"] = table["news_id"].mask(later, stamped)
        return table

    def universe(self, low: int, high: int) -> pd.DataFrame:
        """UNIVERSE of the sessions from one number to another."""
        first, last = self.days[low], self.days[high]
        table = self.read("universe", f"{first:%Y-%m}", f"{last:%Y-%m}")
        return table[table["date"].between(first, last)].reset_index(drop=True)

    def coverage(self) -> pd.DataFrame:
        """COVERAGE, as given or as inferred so far."""
        return self.read("coverage")

    def read(self, name: str, first: str = "", last: str = "9") -> pd.DataFrame:
        """A kept table, or its months from one to another."""
        chosen = [entry for month, entry in sorted(self._entries[name].items()) if first <= month <= last]
        parts = [self._archive.read(entry) for entry in chosen]
        return pd.concat(parts, ignore_index=True) if parts else make_empty(self._schema[name])

    def make_panel(self, links: pd.DataFrame, universe: pd.DataFrame, factors: Mapping[str, Factor]) -> pd.DataFrame:
        """PANEL of some of the links by the store's settings."""
        return panel(
            links, universe, by=self._settings.by, factors=factors, cutoff=self._settings.cutoff,
            multi=self._settings.multi, coverage=self.coverage(), sessions=self.days,
        )  # fmt: skip

    def add(self, links: pd.DataFrame, universe: pd.DataFrame, coverage: pd.DataFrame | None) -> None:
        """Take in new rows, and note the sessions that they touch."""
        self._refuse_other_taggers(links)
        links = conform(links, LINKS, self._schema.get("links", {}), parameter="links")
        universe = conform(universe[list(UNIVERSE.columns)], UNIVERSE, self._schema.get("universe", {}), parameter="universe")  # fmt: skip
        self._schema |= {"links": types_of(links), "universe": types_of(universe)}
        touched = [self._add_links(links), self._add_universe(universe)]
        counted = self.days[np.concatenate(touched)].strftime("%Y-%m")
        spans = self._add_coverage(links, coverage)
        self._due = self._find_due(np.concatenate([*touched, self._slots_within(spans)]))
        self._refuse_other_calendar()
        self._attrs |= {"taggers": self._merge_taggers(links), "trained_through": self._latest(links)}
        self._count(sorted(set(counted)))

    def compute(self) -> None:
        """Compute the cells of the touched sessions, and put them in the place of the kept ones."""
        if "panel" not in self._schema:
            empty = self.make_panel(make_empty(self._schema["links"]), make_empty(self._schema["universe"]), self._settings.factors)  # fmt: skip
            self._schema["panel"], self._attrs = types_of(empty), _name(empty.attrs) | self._attrs
        for run in _runs(self._due, self._settings.reach):
            low = max(int(run[0]) - self._settings.reach, 0)
            links, universe = self.links(low, int(run[-1])), self.universe(low, int(run[-1]))
            table = self.make_panel(links, universe, self._settings.factors)
            self._refuse_drift(table[table["date"].between(self.days[max(int(run[0]) - 1, 0)], self.days[run[-1]])])
            self._put_cells(table, self.days[run])

    def manifest(self) -> Manifest:
        """The state as a manifest."""
        rows: dict[str, int] = {}
        for counts in self._counts.values():
            for name, count in counts.items():
                rows[name] = rows.get(name, 0) + count
        tables = {name: [self._entries[name][month] for month in sorted(self._entries[name])] for name in TABLES}
        return {
            "settings": self._settings.describe(), "schema": self._schema, "calendar": self._hash_sessions(*self._bounds) if self._bounds else {},
            "coverage_inferred": self._inferred, "attrs": {**self._attrs, "rows": rows}, "counts": self._counts, **tables,
        }  # fmt: skip

    def _choose_sessions(self, given: pd.DatetimeIndex | None) -> pd.DatetimeIndex:
        if given is not None:
            days = check_sessions(given)
            self._put("sessions", "", pd.DataFrame({"date": days}), pd.DataFrame())
        elif self._entries["sessions"]:
            days = pd.DatetimeIndex(self.read("sessions")["date"])
        else:
            days = check_sessions(None)
        return days

    def _slots_of(self, links: pd.DataFrame) -> np.ndarray:
        cutoff = self._settings.cutoff
        dates = assign_sessions(links["available_at"], links["time_precision"], cutoff=cutoff, sessions=self.days)
        return session_numbers(dates, sessions=self.days)

    def _add_links(self, new: pd.DataFrame) -> np.ndarray:
        """Merge links month by month; the sessions of those that are new or not what they were."""
        self._slots_of(new)  # stops at a time that is missing or outside the calendar
        touched = [NONE]
        for month, part in new.groupby(new["available_at"].dt.strftime("%Y-%m")):
            old = self.read("links", str(month), str(month))
            changed = changed_keys(old, part, _VERSION)
            if changed.empty:
                continue
            gone, brought = has_key(old, _VERSION, changed), part[has_key(part, _VERSION, changed)]
            refuse_relabelled(old[gone], brought)
            touched += [self._slots_of(old[gone]), self._slots_of(brought)]
            merged = pd.concat([old[~gone], brought], ignore_index=True)
            self._put("links", str(month), merged.sort_values([*_VERSION, "name", "code"], ignore_index=True), old)
        return np.concatenate(touched)

    def _add_universe(self, new: pd.DataFrame) -> np.ndarray:
        """Merge days of the universe; the sessions of those that are new or not what they were."""
        touched = [NONE]
        for month, part in new.groupby(new["date"].dt.strftime("%Y-%m")):
            old = self.read("universe", str(month), str(month))
            changed = changed_keys(old, part, ["date"])
            if changed.empty:
                continue
            self._bounds = _widen(self._bounds, changed)
            touched.append(session_numbers(pd.DatetimeIndex(changed), sessions=self.days, parameter="universe['date']"))  # fmt: skip
            gone, brought = has_key(old, ["date"], changed), part[has_key(part, ["date"], changed)]
            merged = pd.concat([old[~gone], brought], ignore_index=True)
            self._put("universe", str(month), merged.sort_values(["date", "code"], ignore_index=True), old)
        return np.concatenate(touched)

    def _slots_within(self, spans: np.ndarray) -> np.ndarray:
        """The sessions whose windows overlap one of the spans of time."""
        closes = self._closes.asi8
        firsts, lasts = np.searchsorted(closes, spans[:, 0], "right"), np.searchsorted(closes, spans[:, 1], "left")
        return np.concatenate([NONE, *(np.arange(first, last + 1) for first, last in zip(firsts, lasts, strict=True))])

    def _find_due(self, touched: np.ndarray) -> np.ndarray:
        """The sessions of the universe whose lookback holds a touched one."""
        if not self._bounds:
            return NONE
        low, high = self.slot(self._bounds[0]), self.slot(self._bounds[1])
        if self._settings.whole and len(touched):
            return np.arange(low, high + 1)
        due = np.unique(np.unique(touched)[:, None] + np.arange(self._settings.reach))
        return due[(due >= low) & (due <= high)]

    def _add_coverage(self, links: pd.DataFrame, given: pd.DataFrame | None) -> np.ndarray:
        """Merge coverage; the spans of time where it is not what it was."""
        first = "coverage" not in self._schema
        if first:
            self._schema["coverage"] = {name: str(kind) for name, kind in zip(COVERAGE.columns, ("str", links["available_at"].dtype, links["available_at"].dtype), strict=True)}  # fmt: skip
        old = self.coverage()
        if given is not None:
            kept = make_empty(self._schema["coverage"]) if self._inferred else old
            self._inferred = False
            spans = conform(given[list(COVERAGE.columns)], COVERAGE, self._schema["coverage"], parameter="coverage")
            new = pd.concat([kept, spans], ignore_index=True).drop_duplicates(["source", "start"], keep="last")
        elif self._inferred:
            new = extend_spans(old, infer_coverage(links).astype(self._schema["coverage"]))
        else:
            return NEVER
        new = new.sort_values(["source", "start"], ignore_index=True)
        self._put("coverage", "", new, old)
        return changed_spans(old, new)

    def _put(self, name: str, month: str, table: pd.DataFrame, old: pd.DataFrame) -> None:
        """Keep one month of a table; one that is what it was keeps its file."""
        if table.empty:
            self._entries[name].pop(month, None)
        elif not table.equals(old):
            self._entries[name][month] = {"month": month, **self._archive.write(table)}

    def _put_cells(self, table: pd.DataFrame, dates: pd.DatetimeIndex) -> None:
        for month in sorted(set(dates.strftime("%Y-%m"))):
            old = self.read("panel", month, month)
            new = table[table["date"].isin(dates) & (table["date"].dt.strftime("%Y-%m") == month)]
            parts = [part for part in (old[~old["date"].isin(dates)], new) if len(part)]
            merged = pd.concat(parts, ignore_index=True) if parts else old.iloc[:0]
            self._put("panel", month, merged.sort_values(["date", self._settings.key], ignore_index=True), old)

    def _count(self, months: list[str]) -> None:
        """What became of the links of each month of sessions."""
        labels = np.asarray(self.days.strftime("%Y-%m"))
        if self._settings.whole and months:
            labels, months = np.where(labels <= months[-1], "", labels), [""]
        for month in months:
            inside = np.flatnonzero(labels == month)
            low, high = int(inside[0]), int(inside[-1])
            table = self.make_panel(self.links(low, high), self.universe(low, high), {})
            self._counts[month] = table.attrs["rows"]
            self._attrs = _name(table.attrs) | self._attrs

    def _merge_taggers(self, links: pd.DataFrame) -> list[str]:
        return sorted({*self._attrs.get("taggers", []), *links["tagger"].dropna()})

    def _latest(self, links: pd.DataFrame) -> str | None:
        last = links["trained_through"].max()
        found = [self._attrs.get("trained_through"), None if pd.isna(last) else str(last.date())]
        return max([date for date in found if date is not None], default=None)

    def _hash_sessions(self, first: pd.Timestamp, last: pd.Timestamp) -> dict[str, str]:
        between = self.days[(self.days >= first) & (self.days <= last)].strftime("%Y-%m-%d")
        digest = hashlib.sha256(" ".join(between).encode()).hexdigest()
        return {"first": f"{first:%Y-%m-%d}", "last": f"{last:%Y-%m-%d}", "sha256": digest}

    def _refuse_other_taggers(self, links: pd.DataFrame) -> None:
        known = self._attrs.get("taggers", [])
        odd = sorted(set(links["tagger"].dropna()) - set(known))
        if known and odd:
            raise StoreError("links['tagger']", odd[0], f"must be that of the kept links, {', '.join(known)}", remedy=f"a factor of two taggers has a break in it: {_ANEW}")  # fmt: skip

    def _refuse_other_calendar(self) -> None:
        kept = self._kept.get("calendar", {})
        if kept and self._hash_sessions(pd.Timestamp(kept["first"]), pd.Timestamp(kept["last"])) != kept:
            raise StoreError("sessions", len(self.days), f"must be the kept ones from {kept['first']} to {kept['last']}", remedy=f"the trading days there were others: {_ANEW}")  # fmt: skip

    def _refuse_drift(self, table: pd.DataFrame) -> None:
        """Stop if a cell whose inputs are all the same has another value than was published."""
        table = table[~table["date"].isin(self.days[self._due])]
        if table.empty or not self._kept:
            return
        key = ["date", self._settings.key]
        old = self.read("panel", f"{table['date'].min():%Y-%m}", f"{table['date'].max():%Y-%m}")
        both = old[old["date"].isin(table["date"])].merge(table, on=key, how="outer", suffixes=("", "_now"))
        for name in self._settings.factors:
            was, now = both[name], both[f"{name}_now"]
            bad = both[~np.isclose(was, now, rtol=1e-6, atol=1e-9, equal_nan=True)]
            if len(bad):
                row = bad.iloc[0]
                raise StoreError(
                    "factors", name, f"must give what it gave, {row[name]} and not {row[f'{name}_now']}",
                    f"{row['date']:%Y-%m-%d} {row[key[1]]}",
                    f"it has changed since newsfactor {self._kept['library']} (now {__version__}), or looks back further than it declares: {_ANEW}",
                )  # fmt: skip


def _widen(bounds: list[pd.Timestamp], dates: pd.Index) -> list[pd.Timestamp]:
    return [min([dates.min(), *bounds[:1]]), max([dates.max(), *bounds[1:]])]


def _name(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in attrs.items()}


def _runs(due: np.ndarray, reach: int) -> list[np.ndarray]:
    """Sorted numbers in runs to be computed together: near to each other, and not too many."""
    runs = np.split(due, np.flatnonzero(np.diff(due) > reach) + 1)
    return [part for run in runs if len(run) for part in np.array_split(run, -(-len(run) // SPAN))]
