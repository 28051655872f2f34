"""Names valid in time, found in texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import ahocorasick_rs
import numpy as np
import pandas as pd

from newsfactor.schema import EVIDENCES, SECURITIES, check

# Ex-date and first-day marks take characters of the name away (XD中信建), so such a name identifies nothing.
DAY_MARK = re.compile(r"^(XD|XR|DR|[NC](?=[\u4e00-\u9fff]))")
_STATUS_MARK = re.compile(r"^(\*ST|S\*ST|SST|ST|S(?=[\u4e00-\u9fff]))")
_SUFFIX_MARK = re.compile(r"(-[A-Z]{1,2}|退|\(退市\))$")
# Two letters that remain of a mainland name are mostly a word: 发展 of ST发展, 工智 in 人工智能.
_SHORTEST_NAME = 3
_WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
_NARROW = {wide: code for code, wide in _WIDE.items()}
_CHUNK = 1000


def strip_marks(name: str) -> str:
    """The name without status marks: ``*ST``, ``ST``, ``S``, ``-U``, ``-W``, ``退``.

    Examples
    --------
    >>> strip_marks("*ST海川"), strip_marks("海川芯片-U")
    ('海川', '海川芯片')
    """
    return _SUFFIX_MARK.sub("", _STATUS_MARK.sub("", name))


def fold_width(name: str) -> str:
    """The name with full-width letters and digits made narrow.

    Examples
    --------
    >>> fold_width("海川Ａ")
    '海川A'
    """
    return name.translate(_NARROW)


def write_forms(name: str, shortest: int = _SHORTEST_NAME) -> set[str]:
    """The ways in which texts write a name: with and without its marks, with narrow and wide letters.

    Examples
    --------
    >>> sorted(write_forms("*ST海川重工"))
    ['*ST海川重工', 'ST海川重工', '海川重工', '＊ＳＴ海川重工', 'ＳＴ海川重工']
    """
    name = fold_width(name)
    plain = strip_marks(name)
    forms = {name, plain}
    if "ST" in name.removesuffix(plain):
        forms |= {f"ST{plain}", f"*ST{plain}"}
    return {way for form in forms if len(form) >= shortest for way in (form, form.translate(_WIDE))}


@dataclass(frozen=True)
class Name:
    """One span during which a string meant a code."""

    code: str
    valid_from: pd.Timestamp | None
    valid_to: pd.Timestamp | None
    evidence: str
    seen_from: pd.Timestamp | None
    seen_to: pd.Timestamp | None
    is_short: bool  # the short name itself, not another form of it

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
        columns = ("kind", "value", "code", "valid_from", "valid_to", "evidence", "seen_from", "seen_to")
        # Missing marks become None in whole columns: asking each of 60,000 names would take most of the time.
        table = named[list(columns)].astype(object).where(named[list(columns)].notna(), None)
        for kind, value, code, start, end, evidence, first, last in table.itertuples(index=False):
            for form in write_forms(value, 2 if code.endswith("HK") else _SHORTEST_NAME):
                is_short = kind == "short" and form == value
                span = Name(code, start, end, evidence or "current", first, last, is_short)
                self.spans.setdefault(form, []).append(span)
        self.names = sorted(self.spans)
        self.codes = set(securities["code"])
        self._longest = ahocorasick_rs.BytesAhoCorasick(
            [name.encode() for name in self.names], matchkind=ahocorasick_rs.MatchKind.LeftmostLongest
        )
        self._resolved: dict[tuple[str, pd.Timestamp], list[Name]] = {}

    @cached_property
    def _overlapping(self) -> ahocorasick_rs.AhoCorasick:
        return ahocorasick_rs.AhoCorasick(self.names)

    def resolve(self, name: str, day: pd.Timestamp) -> list[Name]:
        """The spans that hold for a name on a day, the best known of each code, in the order of the codes."""
        found = self._resolved.get((name, day))
        if found is None:
            valid = [span for span in self.spans.get(name, ()) if span.holds_on(day)]
            valid.sort(key=lambda span: (EVIDENCES.index(span.evidence_on(day)), not span.is_short), reverse=True)
            holding = {span.code: span for span in valid}
            found = self._resolved[name, day] = [holding[code] for code in sorted(holding)]
        return found

    def find(self, text: str, day: pd.Timestamp) -> list[tuple[int, str]]:
        """(position, name) of each name in the text, left to right, not overlapping."""
        return self.find_all([text], [day])[0]

    def find_all(self, texts: Sequence[str], days: Sequence[pd.Timestamp]) -> list[list[tuple[int, str]]]:
        """For each text, as of its day, (position, name) of each name in it, left to right, not overlapping."""
        found: list[list[tuple[int, str]]] = [[] for _ in texts]
        stale: set[int] = set()
        for first in range(0, len(texts), _CHUNK):
            # One search over many texts saves the cost of a call for each; no name holds the separator.
            parts = [text.encode("utf-8", "replace") for text in texts[first : first + _CHUNK]]
            starts = np.cumsum([0, *(len(part) + 1 for part in parts)])
            matches = self._longest.find_matches_as_indexes(b"\0".join(parts))
            owners = np.searchsorted(starts, [match[1] for match in matches], side="right") - 1
            for (number, start, _), owner, begin in zip(matches, owners.tolist(), starts[owners].tolist(), strict=True):
                name = self.names[number]
                if not self.resolve(name, days[first + owner]):
                    stale.add(first + owner)
                found[first + owner].append((len(parts[owner][: start - begin].decode()), name))
        for row in stale:
            found[row] = self._find_valid(texts[row], days[row])
        return found

    def _find_valid(self, text: str, day: pd.Timestamp) -> list[tuple[int, str]]:
        """The same by every match: where a name not in use on the day may hide one that was."""
        whole = text.encode("utf-8", "replace").decode()  # a lone surrogate becomes a question mark
        hits = self._overlapping.find_matches_as_indexes(whole, overlapping=True)
        valid = [(start, -(end - start), self.names[k]) for k, start, end in hits if self.resolve(self.names[k], day)]
        found, reached = [], 0
        for start, length, name in sorted(valid):
            if start >= reached:
                found.append((start, name))
                reached = start - length
        return found
