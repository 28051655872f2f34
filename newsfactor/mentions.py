"""The companies that a news item names, and what the text says around each."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from newsfactor.codes import normalize_code
from newsfactor.errors import InvalidValueError
from newsfactor.names import Name, NameIndex
from newsfactor.prompting import MAX_STOCKS

_CODE = re.compile(r"[(（]\s*((SH|SZ|BJ|HK)?\.?\d{5,6}(\.(?:SH|SZ|BJ|HK|SS))?)\s*[)）]", re.IGNORECASE)
_HONG_KONG = re.compile(r"港股|港元|H股|联交所|香港|恒生")
# Words of the Hong Kong market, unless the text speaks of the mainland's too: there a company's own share is meant.
_TRADED_IN_HONG_KONG = re.compile(r"港股|港元|恒生|恒指")
_MAINLAND = re.compile(r"A股|沪|深成|深证|科创|创业板|北交所|涨停|上交所|深交所|公告|\.S[HZ]")
_H_SHARE = re.compile(r"[(（]?(?:H股|港股|\d{5}\.HK)", re.IGNORECASE)
# The counter in renminbi of a share that is also traded in Hong Kong dollars, under the same name.
_SECOND_COUNTER = re.compile(r"8\d{4}\.HK")
_SENTENCE = re.compile(r"[。；;\n]")
_STOCK_WORDS = re.compile(r"涨|跌|股|公告|净利|营收|解禁|资金|市值")
_DIGEST = re.compile(r"早报|晚报|午评|收评|盘前|复盘|要闻|一览|汇总|精选|龙虎榜|公告集锦|[①②]|(?:^|\D)2、")

# What follows a name, after a code in brackets. Order matters: the first that fits counts.
_AFTER = re.compile(
    r"(?:[(（][^()（）]{0,16}[)）])?(?:"
    r"(?P<colon>[：:])"
    r"|(?P<and_others>等)"
    r"|(?P<listed>[、和及与])"
    r"|(?P<moved>(?:A股|股价|盘中|早盘|午后|尾盘|今日|昨日|一度|双双|均|持续|快速|再度|继续|涨幅|现|再|此前)*"
    r"(?:\d+(?:天|连|日)|涨|跌|封|直线|触及|跟|领|拉升|走|冲高|高开|低开|逼近|反弹|跳水|上涨|下跌|创|遭|主力|资金|解禁|一字|大涨|大跌|纷纷|飙))"
    r"|(?P<announced>公告|发布|披露|公布|股东|董事|实控人|控股股东|总经理|董秘)"
    r"|(?P<acted>(?:近日|今日|日前|已|正)?(?:在互动|拟|将|签|中标|获|收到|完成|回购|预计|净|营收|上半年|第|回应|表示|称|[12]?\d月|20\d\d|与|就|因))"
    r"|(?P<sourced>研报|研究|首席|分析师|策略|宏观|认为|指出|固收|统计|团队|评级|维持|最新)"
    r"|(?P<organised>集团|股份|控股|证券|基金|资管|期货|投资|资本|财险|人寿|银行|保险|信托|科技|国际|旗下|子公司|有限|医药|区|大厦)"
    r"|(?P<themed>概念|产业|行业|板块|指数|ETF|批发|价格|市场|出口|进口|技术|电池|制造|企业|领域|赛道|应用|大会|论坛|公司|发电|等?\w{0,2}大学)"
    r"|(?P<closed>[，。；”’」）)]|$)"
    r")"
)  # fmt: skip
_STRONG = ("colon", "moved", "and_others")
_CLAUSE_END = re.compile(r"[。；]")
_OPENING = re.compile(r"(?:电|讯|消息)[，,]$")
_CONTEXTS = tuple(_AFTER.groupindex)
_BEFORE = ("sentence_start", "list_item", "clause_start", "inside_word")

TEXT_FEATURES = (
    "opening", "place", "mentions", "in_title", "code_given", "others_given", "several_names", "log_names", "log_sentence_names",
    "log_length", "digest", "no_stock_words", "short_name", "hong_kong", "hong_kong_words", "beside_company", "glued", *_BEFORE, *_CONTEXTS,
    "and_others_later", "weak", "inside_organised", "after_eighth",
)  # fmt: skip


class _Place(NamedTuple):
    """Where a name, or a code without one, stands, and the code that follows it."""

    start: int
    name: str
    code: str | None


class _Group(NamedTuple):
    """The places that mean the same code, or the same several."""

    codes: tuple[str, ...]
    spans: list[Name]
    places: list[_Place]


@dataclass(slots=True)
class Mention:
    """One company in one news item, or several that the text does not tell apart."""

    name: str
    codes: tuple[str, ...]
    evidence: str | None
    status: str
    place: int
    features: list[float]


def find_mentions(
    text: str, title: str, market: str | None, stocks: Sequence[str],
    *, hits: Sequence[tuple[int, str]], index: NameIndex, day: pd.Timestamp,
) -> list[Mention]:  # fmt: skip
    """The companies of one item, in order of appearance: names found, names tagged, codes given.

    Parameters
    ----------
    text, title : str
        The text as tagged, and its title.
    market : str, optional
        The tagged market; None for plain news, then words of the text decide.
    stocks : sequence of str
        The tagged names.
    hits : sequence of (position, name)
        What :class:`NameIndex` found in the text.
    index : NameIndex
    day : Timestamp
        The day of the news, without a time.
    """
    codes = _explicit_codes(text, index.codes) if "(" in text or "（" in text else {}
    absent = [
        (text.find(name) if name in text else len(text), name) for name in stocks if name not in {n for _, n in hits}
    ]
    groups: dict[tuple[str, ...], _Group] = {}
    for place, name in (*hits, *absent):
        given = codes.get(place + len(name))
        named = {given} if given else set(codes.values())
        spans = _choose(index.resolve(name, day), named, market, text, place + len(name), day)
        if given and all(span.code != given for span in spans):
            spans = []
        key = tuple(span.code for span in spans) or ((given,) if given else ())
        groups.setdefault(key or (name,), _Group(key, spans, [])).places.append(_Place(place, name, given))
    linked = {code for group in groups.values() for code in group.codes}
    for place, code in codes.items():
        if code not in linked:
            groups.setdefault((code,), _Group((code,), [], [])).places.append(_Place(place, code, code))
    item = _Item(text, title, [place for group in groups.values() for place in group.places], len(groups), bool(codes))
    mentions = sorted((_describe_group(group, item, day) for group in groups.values()), key=lambda m: (m.place, m.name))
    for rank, mention in enumerate(mentions):
        mention.features.append(float(rank >= MAX_STOCKS))
    return mentions


def _describe_group(group: _Group, item: _Item, day: pd.Timestamp) -> Mention:
    places = sorted(group.places, key=lambda place: place[:2])
    given = len(group.codes) == 1 and any(place.code == group.codes[0] for place in places)
    evidence = group.spans[0].evidence_on(day) if group.spans else None
    hong_kong = bool(group.codes) and group.codes[0].endswith("HK")
    features = item.describe(places, given, hong_kong)
    return Mention(places[0].name, group.codes, evidence, _status(group.spans, given), places[0].start, features)


def _status(spans: Sequence[Name], given: bool) -> str:
    if given:
        return "code"
    if not spans:
        return "unknown"
    if len(spans) > 1:
        return "ambiguous"
    return "exact" if spans[0].is_short else "alias"


def _explicit_codes(text: str, known: set[str]) -> dict[int, str]:
    """Share codes in brackets by the position of the bracket; what is no share is left out."""
    found = {}
    for match in _CODE.finditer(text):
        digits = match[1].upper()
        try:
            code = normalize_code(f"{digits}.HK" if len(digits) == 5 else digits)
        except InvalidValueError:
            continue
        # Digits alone may as well be an amount or a month.
        if match[2] or match[3] or code in known:
            found[match.start()] = code
    return found


def _choose(
    spans: list[Name], named: set[str], market: str | None, text: str, end: int, day: pd.Timestamp
) -> list[Name]:
    """Tell namesakes apart by the code in the text, the market, and what was observed; else all of them stay."""
    if len(spans) < 2:
        return spans
    told = [span for span in spans if span.code in named]
    if len(told) == 1:
        return told
    spans = [span for span in spans if not _SECOND_COUNTER.match(span.code)] or spans
    hong_kong = bool(_H_SHARE.match(text, end)) or (market == "香港市场" if market is not None else _is_hong_kong(text))
    fitting = [span for span in spans if span.code.endswith("HK") == hong_kong] or spans
    seen = [span for span in fitting if span.evidence_on(day) == "observed"]
    return seen if len(seen) == 1 else fitting


def _is_hong_kong(text: str) -> bool:
    return _TRADED_IN_HONG_KONG.search(text) is not None and _MAINLAND.search(text) is None


class _Item:
    """What one item says as a whole, and the features of each company in it."""

    def __init__(self, text: str, title: str, places: list[_Place], companies: int, coded: bool) -> None:
        self.text, self.title, self.coded, self.companies = text, title, coded, companies
        self.ends = [match.start() for match in _SENTENCE.finditer(text)] if companies > 1 else []
        self.sentences = [bisect_left(self.ends, place.start) for place in places]
        self.starts = {place.start for place in places}
        self.stops = {place.start + len(place.name) for place in places}
        # Beyond the lengths that most of the fitted news had, length says no more.
        self.length = math.log(min(max(len(text), 40), 400)) / 5
        self.digest = float(_DIGEST.search(text) is not None)
        self.hong_kong = float(_HONG_KONG.search(text) is not None)

    def describe(self, places: Sequence[_Place], given: bool, hong_kong: bool) -> list[float]:
        """The values of ``TEXT_FEATURES``, but the last: of the item, of the first place, of all places."""
        text, (place, name, _) = self.text, places[0]
        before, after = dict.fromkeys(_BEFORE, 0.0), dict.fromkeys(_CONTEXTS, 0.0)
        beside = glued = others = False
        silent = 0
        for start, written, _ in places:
            end = start + len(written)
            if start == len(text):  # a tagged name that the text does not spell so
                continue
            before[_look_back(text, start)] = 1.0
            if match := _AFTER.match(text, end):
                after[str(match.lastgroup)] = 1.0
            beside |= end + 1 in self.starts or start - 1 in self.stops
            glued |= end in self.starts or start in self.stops
            others |= "等" in _CLAUSE_END.split(text[end : end + 120], maxsplit=1)[0]
            silent += _STOCK_WORDS.search(text, max(0, start - 20), end + 20) is None
        weak = not (given or beside or any(after[context] for context in _STRONG))
        near = self.sentences.count(bisect_left(self.ends, place)) if self.companies > 1 else 1
        opening = place <= 2 or _OPENING.search(text, max(0, place - 4), place) is not None
        values = (
            opening, math.log1p(place) / 5, math.log(len(places)), bool(self.title) and name in self.title, given,
            self.coded and not given, self.companies > 1, math.log(self.companies), math.log(max(near, 1)), self.length,
            self.digest, silent == len(places), len(name) < 4, hong_kong, self.hong_kong, beside, glued, *before.values(), *after.values(),
            others, weak, before["inside_word"] * after["organised"],
        )  # fmt: skip
        return [float(value) for value in values]


def _look_back(text: str, start: int) -> str:
    """Which of ``_BEFORE`` the text before a name is."""
    last = text[start - 1] if start else ""
    if not last or last in "。；：:\n】|？！;" or _OPENING.search(text, max(0, start - 4), start):
        return "sentence_start"
    if last == "、":
        return "list_item"
    return "clause_start" if last in '，, “"(（' else "inside_word"
