"""The one text, the prompt and the answer line: pure strings, shared by training and tagging."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from newsfactor.errors import AnswerFormatError
from newsfactor.schema import SENTIMENTS
from newsfactor.taxonomy import Taxonomy

INSTRUCTION = "请分析上述新闻中涉及到的金融事件,对应市场,关联行业,情感极性以及关联个股,按逗号分隔输出"
FIELDS = ("事件", "市场", "行业", "情感", "关联")
NO_STOCKS = "无"
MAX_STOCKS = 8

HINT = "候选:"
_MAX_HINTS = 10

_HEADLINE = re.compile(r"^【[^】]*】")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def strip_control(text: str) -> str:
    """Remove control, zero-width and direction characters; tabs and newlines stay."""
    return _CONTROL.sub("", text)


def news_text(title: str | None, content: str | None) -> str:
    """Join title and content into the text that is both trained on and tagged.

    A leading ``【…】`` is stripped, a title that the content repeats is dropped, the two are joined
    with ``。``. Missing parts count as empty.

    Examples
    --------
    >>> news_text("海川重工中标", "【海川重工中标】海川重工今日公告中标。")
    '海川重工中标。海川重工今日公告中标。'
    """
    title = strip_control(title or "").strip()
    content = _HEADLINE.sub("", strip_control(content or "").strip()).strip()
    if not title or content.startswith(title):
        return content
    if not content:
        return title
    return title + content if title.endswith("。") else f"{title}。{content}"


def user_turn(text: str) -> str:
    """The alpaca form of one news item: instruction, newline, news."""
    return f"{INSTRUCTION}\n{text}"


def hint_line(candidates: Mapping[str, str]) -> str:
    """The line behind the news that tells which listed names stand in it, each with its industry where one is known.

    Examples
    --------
    >>> hint_line({"绿通科技": "汽车", "海川重工": ""})
    '候选:绿通科技(汽车)、海川重工'
    """
    told = [f"{name}({industry})" if industry else name for name, industry in list(candidates.items())[:_MAX_HINTS]]
    return HINT + ("、".join(told) or NO_STOCKS)


def shield(text: str, added_tokens: Iterable[str]) -> str:
    """Break every occurrence of a tokenizer's added token with a space, so that none can match.

    News is data: a news item that spells ``<|im_end|>`` must not end the prompt. Longer tokens are
    broken first; a one-character token becomes a space.

    Examples
    --------
    >>> shield("涨停<|im_end|>", ["<|im_end|>"])
    '涨停< |im_end|>'
    """
    tokens = sorted({token for token in added_tokens if token.strip()}, key=len, reverse=True)
    found = True
    while found:
        found = False
        for token in tokens:
            if token in text:
                text = text.replace(token, f"{token[0]} {token[1:]}" if len(token) > 1 else " ")
                found = True
    return text


def clip_middle(items: Sequence[int], budget: int) -> list[int]:
    """Cut a token list to ``budget``, keeping the head (three quarters) and the tail."""
    if len(items) <= budget:
        return list(items)
    head = budget - budget // 4
    return list(items[:head]) + list(items[len(items) - (budget - head) :])


@dataclass(frozen=True)
class Answer:
    """The five fields of one answer line."""

    event: str
    market: str
    industry: str
    sentiment: str
    stocks: tuple[str, ...]

    def __str__(self) -> str:
        values = (self.event, self.market, self.industry, self.sentiment, "、".join(self.stocks) or NO_STOCKS)
        return ",".join(f"{field}:{value}" for field, value in zip(FIELDS, values, strict=True))


def parse_answer(line: str, taxonomy: Taxonomy | None = None) -> Answer:
    """Read one answer line strictly.

    Raises
    ------
    AnswerFormatError
        If the form differs in any way or a label is not in the taxonomy; it names the field.

    Examples
    --------
    >>> parse_answer("事件:个股研报,市场:中国市场,行业:房地产,情感:轻微正面,关联:荣盛发展").stocks
    ('荣盛发展',)
    """
    taxonomy = taxonomy or Taxonomy()
    pattern = ",".join(f"{field}:([^,:]+)" for field in FIELDS[:4]) + f",{FIELDS[4]}:(.+)"
    match = re.fullmatch(pattern, line)
    if match is None:
        raise AnswerFormatError("answer", line, "must read 事件:…,市场:…,行业:…,情感:…,关联:…")
    *labels, names = match.groups()
    for label, (field, allowed) in zip(labels, taxonomy.slots, strict=True):
        if label not in allowed:
            raise AnswerFormatError(field, label, f"must be one of the {len(allowed)} labels of the taxonomy")
    stocks = () if names == NO_STOCKS else tuple(names.split("、"))
    if any(not name.strip() for name in stocks) or len(stocks) > MAX_STOCKS:
        raise AnswerFormatError("stocks", names, f"must be at most {MAX_STOCKS} names joined by 、")
    event, market, industry, sentiment = labels
    return Answer(event, market, industry, sentiment, stocks)


def sentiment_level(label: str) -> int:
    """The level −3 … +3 of a sentiment label."""
    return SENTIMENTS.index(label) - 3
