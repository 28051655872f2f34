"""Tags to codes as of the news, with relevance."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from newsfactor.codes import normalize_code
from newsfactor.errors import InvalidValueError
from newsfactor.prompting import news_text
from newsfactor.schema import DATE_TYPE, LINKS, NEWS, SECURITIES, TAGS, TIMEZONE, check
from newsfactor.securities import Name, NameIndex, facts_at

_CODE = re.compile(r"[(（]\s*((?:SH|SZ|BJ|HK)?\.?\d{5,6}(?:\.(?:SH|SZ|BJ|HK|SS))?)\s*[)）]", re.IGNORECASE)
_SOURCE = re.compile(r"^(?:研报|研究报告|分析师|表示|指出|认为|预计|称|：|:)")
_ROUND_UP = 4
_HONG_KONG = re.compile(r"港股|港元|H股|联交所|香港")


@dataclass(frozen=True)
class Mention:
    """One company in one news item."""

    name: str
    codes: tuple[str, ...]
    evidence: str | None
    status: str
    place: int
    mentioned: float
    relevance: float


def link(news: pd.DataFrame, securities: pd.DataFrame) -> pd.DataFrame:
    """Link each news item to the codes of the companies that it names, as of its time.

    Parameters
    ----------
    news : DataFrame
        TAGS, or plain NEWS: then relevance comes from place and number of the names alone.
    securities : DataFrame
        SECURITIES.

    Returns
    -------
    DataFrame
        LINKS, one row per (news, name, code), in the order of the news and of the names in it; a news item
        about no stock keeps a row with ``code`` null and ``link_status="none"``. A tagged name that no
        security bore at the time is ``"unknown"``; one that several bore, and that neither a code in the
        text nor the tagged market tells apart, is ``"ambiguous"`` with a row for each. ``event_novelty`` is
        1 for the first news of its sign about a (code, event) and 1 − 2^(−Δ/1 day) for one that follows
        another by Δ. Empty in, empty out.

    Examples
    --------
    >>> links = link(tags, securities)  # doctest: +SKIP
    """
    tagged = "sentiment" in news.columns
    check(news, TAGS if tagged else NEWS, parameter="tags" if tagged else "news")
    check(securities, SECURITIES, parameter="securities")
    table = news if tagged else _as_tags(news)
    table = table.reset_index(drop=True)
    index = NameIndex(securities)
    days = table["available_at"].dt.tz_convert(TIMEZONE).dt.normalize().dt.tz_localize(None)
    columns = ("title", "content", "market", "stocks", "stock_scores")
    rows = [
        {"position": position, **row}
        for position, (day, item) in enumerate(zip(days, table[list(columns)].itertuples(index=False), strict=True))
        for row in _link_rows(find_mentions(*item, index=index, day=day, tagged=tagged))
    ]
    return _assemble(table, rows, days, securities)


def _as_tags(news: pd.DataFrame) -> pd.DataFrame:
    """NEWS with the columns of TAGS, null: what has not been tagged is not known."""
    table = news.copy()
    for name, kind in TAGS.columns.items():
        if name in table.columns:
            continue
        if kind == "list":
            table[name] = [[] for _ in range(len(table))]
        elif kind in ("number", "unit"):
            table[name] = float("nan")
        elif kind == "flag":
            table[name] = False
        elif kind == "date":
            table[name] = pd.Series(pd.NaT, index=table.index, dtype=DATE_TYPE)
        else:
            table[name] = pd.Series([None] * len(table), index=table.index, dtype="str")
    table["status"] = pd.Series("ok", index=table.index, dtype="str")
    return table


def find_mentions(
    title: str, content: str, market: str | None, stocks: Sequence[str], scores: Sequence[float],
    *, index: NameIndex, day: pd.Timestamp, tagged: bool,
) -> list[Mention]:  # fmt: skip
    """The companies of one item, in order of appearance.

    ``mentioned`` is 1 where the text gives the code, 0.95 for a tagged name, 0.8 for one that was only
    found, 0.5 where it is followed as a source is ("…证券研报指出"). ``relevance`` is the tagger's score of a
    tagged name, and for others what place and number of names suggest, times 0.6 for the only company of the item
    and 0.25 else.
    """
    text = news_text(title, content)
    codes = _explicit_codes(text)
    found = {name: place for place, name in reversed(index.find(text, day))}
    places = found | {name: text.find(name) for name in stocks}
    ordered = sorted(places, key=lambda name: (places[name], name))
    certainty = dict(zip(stocks, scores, strict=True))
    # The tagger left the name out: a lone company at the opening may still be the subject, others are not.
    doubt = 0.6 if len(ordered) == 1 else 0.25
    mentions = []
    for rank, name in enumerate(ordered):
        place = places[name]
        spans = _choose(index.resolve(name, day), _code_after(codes, place, name), market, text)
        given = len(spans) == 1 and spans[0].code == _code_after(codes, place, name)
        source = bool(_SOURCE.match(text[place + len(name) :])) and name.endswith(("证券", "国际", "中金公司", "期货"))
        plain = _plain_relevance(place, rank, len(ordered), title, name) * (0.3 if source else 1.0)
        mentions.append(
            Mention(
                name=name,
                codes=tuple(span.code for span in spans),
                evidence=spans[0].evidence_on(day) if spans else None,
                status="unknown" if not spans else "ambiguous" if len(spans) > 1 else "code" if given else "exact",
                place=place,
                mentioned=1.0 if given else 0.95 if name in certainty else 0.5 if source else 0.8,
                relevance=certainty.get(name, plain * (doubt if tagged else 1.0)),
            )
        )
    linked = {code for mention in mentions for code in mention.codes}
    bare = [(place, code) for place, code in codes.items() if code not in linked]
    for place, code in bare:
        mentions.append(Mention(code, (code,), None, "code", place, 1.0, 0.5 if tagged else 0.7))
    return sorted(mentions, key=lambda mention: (mention.place, mention.name))


def _plain_relevance(place: int, rank: int, count: int, title: str, name: str) -> float:
    """What place and company alone say: the opening and the title weigh, a round-up does not."""
    value = 0.9 if place <= 2 else 0.7 if name in (title or "") else 0.5 if rank == 0 else 0.3
    return value if count < _ROUND_UP else value * 0.6


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


def _code_after(codes: dict[int, str], place: int, name: str) -> str | None:
    return codes.get(place + len(name))


def _choose(spans: list[Name], given: str | None, market: str | None, text: str) -> list[Name]:
    """Tell namesakes apart by the code in the text, then by the market; else all of them stay."""
    if given is not None and any(span.code == given for span in spans):
        return [span for span in spans if span.code == given]
    if len(spans) < 2:
        return spans
    hong_kong = market == "香港市场" if market is not None else bool(_HONG_KONG.search(text))
    fitting = [span for span in spans if span.code.endswith("HK") == hong_kong]
    return fitting or spans


def _link_rows(mentions: Sequence[Mention]) -> list[dict[str, Any]]:
    """Rows of one item: one per candidate code, or the row of news about no stock."""
    if not mentions:
        return [{"status": "none", "mentioned": 0.0, "relevance": 0.0, "is_subject": False, "n_codes": 0}]
    sure = [m for m in mentions if len(m.codes) == 1]
    top = max((m.relevance for m in sure), default=0.0)
    first = next((m for m in sure if m.relevance == top and top >= 0.5), None)
    count = len({code for mention in mentions for code in mention.codes})
    return [
        {
            "name": m.name, "code": code, "status": m.status, "mentioned": m.mentioned, "relevance": m.relevance,
            "is_subject": m is first, "n_codes": count, "evidence": m.evidence,
        }
        for m in mentions
        for code in (m.codes or (None,))
    ]  # fmt: skip


def _assemble(
    table: pd.DataFrame, rows: list[dict[str, Any]], days: pd.Series, securities: pd.DataFrame
) -> pd.DataFrame:
    found = pd.DataFrame(rows, columns=["position", "name", "code", "status", "mentioned", "relevance", "is_subject", "n_codes", "evidence"])  # fmt: skip
    found = found.drop_duplicates(["position", "name", "code"])
    position = found["position"].astype(int).to_numpy()
    dropped = ["content", "stocks", "stock_scores"]
    links = table.drop(columns=dropped).iloc[position].reset_index(drop=True)
    found = found.reset_index(drop=True)
    for column in ("name", "code"):
        links[column] = found[column].astype("str")
    for column in ("mentioned", "relevance"):
        links[column] = found[column].astype(float)
    links["is_subject"] = found["is_subject"].astype(bool)
    links["n_codes"] = found["n_codes"].astype("int64")
    links["name_evidence"] = found["evidence"].astype("str")
    links["link_status"] = found["status"].astype("str")
    keys = pd.DataFrame({"code": links["code"], "date": days.to_numpy()[position]})
    links["stock_industry"] = facts_at(securities, "sw1", keys)["value"].astype("str")
    links["event_novelty"] = _event_novelty(links)
    return check(links, LINKS, parameter="links")


def _event_novelty(links: pd.DataFrame) -> pd.Series:
    """1 − 2^(−Δ/1 day) since the last earlier news of the same sign about the same (code, event)."""
    sign = links["score"].round().clip(-1, 1)
    order = links.assign(sign=sign)[["available_at", "news_id", "code", "event", "sign"]].sort_values(
        ["available_at", "news_id"]
    )
    earlier = order.groupby(["code", "event", "sign"], dropna=True)["available_at"].shift(1)
    days = (order["available_at"] - earlier).dt.total_seconds() / 86_400
    return (1 - 0.5**days).fillna(1.0).reindex(links.index)
