"""The companies that a news item names, and what the text says around each."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from newsfactor.codes import normalize_code
from newsfactor.errors import InvalidValueError
from newsfactor.names import Name, NameIndex

_CODE = re.compile(r"[(（]\s*((?:SH|SZ|BJ|HK)?\.?\d{5,6}(?:\.(?:SH|SZ|BJ|HK|SS))?)\s*[)）]", re.IGNORECASE)
_HONG_KONG = re.compile(r"港股|港元|H股|联交所|香港|恒生")
_H_SHARE = re.compile(r"[(（]?(?:H股|港股|\d{5}\.HK)", re.IGNORECASE)
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
    r"|(?P<organised>集团|股份|控股|证券|基金|资管|期货|投资|资本|财险|人寿|银行|保险|信托|科技|国际|旗下|子公司|有限)"
    r"|(?P<themed>概念|产业|行业|板块|指数|ETF|批发|价格|市场|出口|进口|技术|电池|制造|企业|领域|赛道|应用|大会|论坛|公司|发电|等?\w{0,2}大学)"
    r"|(?P<closed>[，。；”’」）)]|$)"
    r")"
)  # fmt: skip
_OPENING = re.compile(r"(?:电|讯|消息)[，,]$")
_CONTEXTS = tuple(_AFTER.groupindex)
_BEFORE = ("sentence_start", "list_item", "clause_start", "inside_word")

TEXT_FEATURES = (
    "opening", "place", "mentions", "in_title", "code_given", "others_given", "several_names", "log_names", "log_sentence_names",
    "log_length", "digest", "no_stock_words", "short_name", "hong_kong", *_BEFORE, *_CONTEXTS, "and_others_later",
)  # fmt: skip


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
    codes = _explicit_codes(text) if "(" in text or "（" in text else {}
    places: dict[str, list[int]] = {}
    for place, name in hits:
        places.setdefault(name, []).append(place)
    for name in stocks:
        if name not in places:
            places[name] = [text.find(name)]
    if not places and not codes:
        return []
    groups: dict[tuple[str, ...], list[tuple[int, str, str | None]]] = {}
    chosen: dict[tuple[str, ...], list[Name]] = {}
    for name, found in places.items():
        for place in found:
            given = codes.get(place + len(name))
            named = {given} if given else set(codes.values())
            spans = _choose(index.resolve(name, day), named, market, text, place + len(name), day)
            key = tuple(span.code for span in spans) or (name,)
            chosen[key] = spans
            groups.setdefault(key, []).append((place, name, given))
    linked = {span.code for spans in chosen.values() for span in spans}
    for place, code in codes.items():
        if code not in linked:
            groups.setdefault((code,), []).append((place, code, code))
    frame = _Frame(text, title, [place for found in groups.values() for place, *_ in found], len(groups), bool(codes))
    mentions = []
    for key, occurrences in groups.items():
        occurrences.sort()
        spans = chosen.get(key, [])
        given = any(code == key[0] for *_, code in occurrences) and len(key) == 1
        place, name, _ = occurrences[0]
        mentions.append(
            Mention(
                name, key if spans or given else (), spans[0].evidence_on(day) if spans else None,
                _status(spans, given), place, frame.describe(occurrences, given, key[0].endswith("HK")),
            )
        )  # fmt: skip
    return sorted(mentions, key=lambda mention: (mention.place, mention.name))


def _status(spans: Sequence[Name], given: bool) -> str:
    if given:
        return "code"
    if not spans:
        return "unknown"
    if len(spans) > 1:
        return "ambiguous"
    return "exact" if spans[0].is_short else "alias"


def _explicit_codes(text: str) -> dict[int, str]:
    """Share codes in brackets by the position of the bracket; what is no share is left out."""
    found = {}
    for match in _CODE.finditer(text):
        try:
            digits = match[1].upper()
            found[match.start()] = normalize_code(f"{digits}.HK" if len(digits) == 5 else digits)
        except InvalidValueError:
            continue
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
    hong_kong = bool(_H_SHARE.match(text, end)) or (
        market == "香港市场" if market is not None else bool(_HONG_KONG.search(text))
    )
    fitting = [span for span in spans if span.code.endswith("HK") == hong_kong] or spans
    seen = [span for span in fitting if span.evidence_on(day) == "observed"]
    return seen if len(seen) == 1 else fitting


class _Frame:
    """What one item says as a whole, and the features of each company in it."""

    def __init__(self, text: str, title: str, places: list[int], companies: int, coded: bool) -> None:
        self.text, self.title, self.coded = text, title, coded
        self.ends = [match.start() for match in _SENTENCE.finditer(text)] if companies > 1 else []
        self.sentences = [self._sentence(place) for place in places]
        self.companies = companies
        self.length = math.log(len(text) + 1) / 5
        self.digest = float(_DIGEST.search(text) is not None)

    def _sentence(self, place: int) -> int:
        return sum(end < place for end in self.ends)

    def describe(self, occurrences: Sequence[tuple[int, str, str | None]], given: bool, hong_kong: bool) -> list[float]:
        """The values of ``TEXT_FEATURES``: of the item, of the first place, and which contexts occur at any."""
        text = self.text
        place, name, _ = occurrences[0]
        before = dict.fromkeys(_BEFORE, 0.0)
        after = dict.fromkeys(_CONTEXTS, 0.0)
        others = bare = 0.0
        for start, written, _ in occurrences:
            end = start + len(written)
            if start < 0:
                continue
            before[_look_back(text, start)] = 1.0
            match = _AFTER.match(text, end)
            if match:
                after[str(match.lastgroup)] = 1.0
            stop = next((k for k in (text.find(mark, end, end + 120) for mark in "。；") if k >= 0), end + 120)
            others = max(others, float("等" in text[end:stop]))
            bare += not _STOCK_WORDS.search(text, max(0, start - 20), end + 20)
        near = self.sentences.count(self._sentence(place)) if self.companies > 1 else 1
        return [
            float(place <= 2 or bool(_OPENING.search(text, max(0, place - 4), place))), math.log1p(max(place, 0)) / 5,
            math.log(len(occurrences)), float(bool(self.title) and name in self.title), float(given),
            float(self.coded and not given), float(self.companies > 1), math.log(self.companies), math.log(near), self.length, self.digest,
            float(bare == len(occurrences)), float(len(name) < 4), float(hong_kong), *before.values(), *after.values(), others,
        ]  # fmt: skip


def _look_back(text: str, start: int) -> str:
    """Which of ``_BEFORE`` the text before a name is."""
    last = text[start - 1] if start else ""
    if not last or last in "。；：:\n】|？！;" or _OPENING.search(text, max(0, start - 4), start):
        return "sentence_start"
    if last == "、":
        return "list_item"
    return "clause_start" if last in "，, “\"(（" else "inside_word"
