"""Tags to codes as of the news, with relevance."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from newsfactor.codes import normalize_code
from newsfactor.errors import InvalidValueError
from newsfactor.mentions import TEXT_FEATURES, Mention, find_mentions
from newsfactor.names import NameIndex, fold_width, strip_marks
from newsfactor.prompting import news_text
from newsfactor.schema import DATE_TYPE, LINKS, NEWS, SECURITIES, TAGS, TIMEZONE, check
from newsfactor.securities import facts_at
from newsfactor.sessions import effective_at

COEFFICIENTS = Path(__file__).with_name("linking.json")
FIGURES = ("mentioned", "relevance")
SUBJECT = 0.5
_FINANCIALS = ("非银金融", "银行")
_COMPANY_EVENTS = ("个股行情", "个股研报", "个股财报", "股权变动", "并购重组", "融资发行", "分红激励", "合同订单",
                   "产品研发", "监管诉讼", "风险事件", "人事变动", "公司动态")  # fmt: skip
# Contexts in which it matters more that a name is mostly an ordinary word.
ODDS_CONTEXTS = ("weak", "no_stock_words", "inside_word", "themed")
NAME_FEATURES = ("name_odds", *(f"name_odds_{context}" for context in ODDS_CONTEXTS), "financial", "financial_source")
TAG_FEATURES = ("tagged", "tagged_score", "tagged_first", "tagged_nothing", "company_event", "other_market")
FEATURES = ("intercept", *TEXT_FEATURES, *NAME_FEATURES, *TAG_FEATURES)


@dataclass(frozen=True)
class Found:
    """The companies of many items: one entry per mention, and its features, a row each."""

    positions: np.ndarray
    mentions: list[Mention]
    features: np.ndarray


def link(news: pd.DataFrame, securities: pd.DataFrame) -> pd.DataFrame:
    """Link each news item to the codes of the companies that it names, as of its time.

    Parameters
    ----------
    news : DataFrame
        TAGS, or plain NEWS: then both figures come from the text alone.
    securities : DataFrame
        SECURITIES.

    Returns
    -------
    DataFrame
        LINKS, one row per (news, code), in the order of the news and of the companies in it; a news item
        about no stock keeps a row with ``code`` null and ``link_status="none"``. ``name`` is the company as the
        text first writes it. A tagged name that no security bore at the time is ``"unknown"``; one that several
        bore, and that neither a code in the text nor the market nor the sightings tell apart, is ``"ambiguous"``
        with a row for each, which share ``mentioned``. ``mentioned`` is the chance that the news really names this
        company, fitted on editors' codes, and so lower in news that editors seldom code; ``relevance`` the chance
        that a reader would put it among those that the news is about. The subject is the company of the highest relevance, if that is 0.5 or more, the first
        of equals. ``event_novelty`` is 1 for the first news of its sign about a (code, event) and 1 − 2^(−Δ/1 day)
        for one that follows another by Δ. Empty in, empty out.

    Examples
    --------
    >>> links = link(tags, securities)  # doctest: +SKIP
    """
    table, tagged = _prepare(news, securities)
    days = _days_of(table)
    found = find_features(table, securities, tagged=tagged)
    figures = {name: predict(found.features, name, tagged=tagged) for name in FIGURES}
    # A tagged name that nobody bore is the tagger's word alone.
    unknown = np.array([mention.status == "unknown" for mention in found.mentions], dtype=bool)
    for name in FIGURES:
        figures[name] = np.where(unknown, _tagger_scores(table, found.positions, found.mentions), figures[name])
    return _assemble(table, _link_rows(len(table), found, figures), days, securities)


def explain_link(news: pd.DataFrame, securities: pd.DataFrame, *, news_id: str, code: str) -> pd.DataFrame:
    """Why a link has its ``mentioned`` and ``relevance``: each feature's value and what it adds to the log-odds.

    Parameters
    ----------
    news, securities : DataFrame
        As for :func:`link`.
    news_id : str
        The news item.
    code : str
        A code that it is linked to, in any form that :func:`newsfactor.codes.normalize_code` knows.

    Returns
    -------
    DataFrame
        ``feature``, ``value``, ``mentioned``, ``relevance``, the strongest first: contributions to the log-odds.
        A column's sum is the logit of the link's figure (of an ambiguous one before it is shared).

    Raises
    ------
    InvalidValueError
        If there is no such item or it is not linked to the code.

    Examples
    --------
    >>> explain_link(tags, securities, news_id="a17", code="600001.SH")  # doctest: +SKIP
    """
    table, tagged = _prepare(news[news["news_id"] == news_id], securities)
    if table.empty:
        raise InvalidValueError("news_id", news_id, "must be one of the news")
    code = normalize_code(code)
    found = find_features(table, securities, tagged=tagged)
    places = [k for k, mention in enumerate(found.mentions) if code in mention.codes]
    if not places:
        linked = ", ".join(sorted({code for mention in found.mentions for code in mention.codes})) or "none"
        raise InvalidValueError("code", code, f"must be a code that the item is linked to ({linked})")
    values = found.features[places[0]]
    told = pd.DataFrame({"feature": FEATURES, "value": values})
    for name in FIGURES:
        told[name] = values * coefficients(name, tagged=tagged)
    weight = told[list(FIGURES)].abs().sum(axis=1)
    return told[weight > 0].assign(weight=weight).sort_values("weight", ascending=False, kind="stable").drop(columns="weight").reset_index(drop=True)  # fmt: skip


def find_features(table: pd.DataFrame, securities: pd.DataFrame, *, tagged: bool) -> Found:
    """The companies of each item of TAGS (or of NEWS with its columns) and their features.

    Where ``tagged`` is false the features of the tags are 0.
    """
    index = NameIndex(securities)
    days = _days_of(table)
    stamps = days.tolist()
    titles = table["title"].fillna("").tolist()
    texts = [news_text(*pair) for pair in zip(titles, table["content"].fillna(""), strict=True)]
    markets = [None if pd.isna(market) else market for market in table["market"]]
    positions, mentions = [], []
    items = zip(texts, titles, markets, table["stocks"], index.find_all(texts, stamps), stamps, strict=True)
    for position, (text, title, market, stocks, hits, day) in enumerate(items):
        if not hits and not len(stocks) and "(" not in text and "（" not in text:
            continue
        for mention in find_mentions(text, title, market, stocks, hits=hits, index=index, day=day):
            positions.append(position)
            mentions.append(mention)
    where = np.array(positions, dtype=int)
    parts = [np.array([mention.features for mention in mentions]).reshape(len(mentions), len(TEXT_FEATURES))]
    parts += [_name_features(mentions, parts[0], days.iloc[where], securities)]
    parts += [_tag_features(mentions, where, table) if tagged else np.zeros((len(mentions), len(TAG_FEATURES)))]
    return Found(where, mentions, np.hstack([np.ones((len(mentions), 1)), *parts]))


def predict(features: np.ndarray, name: str, *, tagged: bool) -> np.ndarray:
    """The chance, 0..1, that the fitted logistic model ``name`` gives each row of features."""
    # Summed row by row: a matrix product may round a row otherwise when other rows stand beside it.
    values = (features * coefficients(name, tagged=tagged)).sum(axis=1)
    chances: np.ndarray = 1 / (1 + np.exp(-values))
    return chances


@cache
def _read_model() -> dict[str, Any]:
    model: dict[str, Any] = json.loads(COEFFICIENTS.read_text(encoding="utf-8"))
    return model


def coefficients(name: str, *, tagged: bool) -> np.ndarray:
    """The coefficients of ``FEATURES``; one that the file does not name is 0."""
    known = _read_model()[name]["tagged" if tagged else "plain"]
    return np.array([known.get(feature, 0.0) for feature in FEATURES])


def hash_name(name: str) -> str:
    """The short hash under which a name's odds are kept: names themselves are not."""
    return hashlib.blake2b(strip_marks(fold_width(name)).encode(), digest_size=4).hexdigest()


@lru_cache(maxsize=100_000)
def _odds_of(name: str) -> float:
    return float(_read_model()["name_odds"].get(hash_name(name), 0.0))


def _name_features(
    mentions: Sequence[Mention], text: np.ndarray, days: pd.Series, securities: pd.DataFrame
) -> np.ndarray:
    """``NAME_FEATURES``: how rarely the name means the company, and whether it is a bank's or a broker's."""
    odds = np.array([_odds_of(mention.name) for mention in mentions], dtype=float)
    first = pd.Series([mention.codes[0] if mention.codes else None for mention in mentions], dtype="str")
    keys = pd.DataFrame({"code": first, "date": days.to_numpy()})
    financial = facts_at(securities, "sw1", keys)["value"].isin(_FINANCIALS).to_numpy(dtype=float)
    column = {name: text[:, k] for k, name in enumerate(TEXT_FEATURES)}
    crossed = [odds * column[context] for context in ODDS_CONTEXTS]
    return np.column_stack([odds, *crossed, financial, financial * column["sourced"]])


def _tag_features(mentions: Sequence[Mention], where: np.ndarray, table: pd.DataFrame) -> np.ndarray:
    """``TAG_FEATURES``: what the tagger said of the name and of the item."""
    stocks, events, markets = (table[column].tolist() for column in ("stocks", "event", "market"))
    rows = []
    for position, mention, score in zip(where.tolist(), mentions, _tagger_scores(table, where, mentions), strict=True):
        names = list(stocks[position])
        listed = mention.name in names
        score = min(max(score, 0.02), 0.98)
        home = "香港市场" if mention.codes and mention.codes[0].endswith("HK") else "中国市场"
        rows.append((
            listed, math.log(score / (1 - score)) if listed else 0.0, listed and names[0] == mention.name,
            not names, events[position] in _COMPANY_EVENTS, markets[position] != home,
        ))  # fmt: skip
    return np.array(rows, dtype=float).reshape(len(mentions), len(TAG_FEATURES))


def _tagger_scores(table: pd.DataFrame, where: np.ndarray, mentions: Sequence[Mention]) -> list[float]:
    """The tagger's score of each tagged name, 0 of one that it did not tag."""
    stocks, scores = table["stocks"].tolist(), table["stock_scores"].tolist()
    known = [dict(zip(*pair, strict=True)) if len(pair[0]) else {} for pair in zip(stocks, scores, strict=True)]
    return [float(known[k].get(mention.name, 0.0)) for k, mention in zip(where.tolist(), mentions, strict=True)]


def _prepare(news: pd.DataFrame, securities: pd.DataFrame) -> tuple[pd.DataFrame, bool]:
    """The checked news in the form of TAGS, and whether they were tagged."""
    tagged = "sentiment" in news.columns
    check(news, TAGS if tagged else NEWS, parameter="tags" if tagged else "news")
    check(securities, SECURITIES, parameter="securities")
    return (news if tagged else _as_tags(news)).reset_index(drop=True), tagged


def _days_of(table: pd.DataFrame) -> pd.Series:
    days: pd.Series = table["available_at"].dt.tz_convert(TIMEZONE).dt.normalize().dt.tz_localize(None)
    return days


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


def _link_rows(count: int, found: Found, figures: dict[str, np.ndarray]) -> pd.DataFrame:
    """One row per item and candidate code, in order; an item without mentions keeps a row."""
    frame = pd.DataFrame({"position": found.positions, "mention": range(len(found.mentions))})
    frame["codes"] = pd.Series([mention.codes or (None,) for mention in found.mentions], dtype=object)
    for column in ("name", "status", "evidence"):
        frame[column] = pd.Series([getattr(mention, column) for mention in found.mentions], dtype="str")
    shares = np.array([max(len(mention.codes), 1) for mention in found.mentions], dtype=int)
    frame["mentioned"], frame["relevance"] = figures["mentioned"] / shares, figures["relevance"]
    best = frame["relevance"].where((shares == 1) & np.array([bool(m.codes) for m in found.mentions], dtype=bool), 0.0)
    # The first of equals: the mentions of an item stand in the order of the text.
    top = best.groupby(frame["position"]).transform("max")
    candidate = (best == top) & (top >= SUBJECT)
    frame["is_subject"] = candidate & (candidate.groupby(frame["position"]).cumsum() == 1)
    frame = frame.explode("codes").rename(columns={"codes": "code"})
    frame["n_codes"] = frame.groupby("position")["code"].transform("nunique")
    silent = pd.DataFrame({"position": np.setdiff1d(np.arange(count), found.positions), "status": "none"})
    silent = silent.assign(mentioned=0.0, relevance=0.0, is_subject=False, n_codes=0)
    return pd.concat([frame, silent]).sort_values(["position", "mention"], kind="stable").drop_duplicates(["position", "code", "name"])  # fmt: skip


def _assemble(table: pd.DataFrame, rows: pd.DataFrame, days: pd.Series, securities: pd.DataFrame) -> pd.DataFrame:
    position = rows["position"].astype(int).to_numpy()
    rows = rows.reset_index(drop=True)
    links = table.drop(columns=["content", "stocks", "stock_scores"]).iloc[position].reset_index(drop=True)
    for column in ("name", "code"):
        links[column] = rows[column].astype("str")
    for column in FIGURES:
        links[column] = rows[column].astype(float)
    links["is_subject"] = rows["is_subject"].astype(bool)
    links["n_codes"] = rows["n_codes"].astype("int64")
    links["name_evidence"] = rows["evidence"].astype("str")
    links["link_status"] = rows["status"].astype("str")
    keys = pd.DataFrame({"code": links["code"], "date": days.to_numpy()[position]})
    links["stock_industry"] = facts_at(securities, "sw1", keys)["value"].astype("str")
    links["event_novelty"] = _event_novelty(links)
    return check(links, LINKS, parameter="links")


def _event_novelty(links: pd.DataFrame) -> pd.Series:
    """1 − 2^(−Δ/1 day) since the last earlier news of the same sign about the same (code, event)."""
    sign = links["score"].round().clip(-1, 1)
    when = effective_at(links["available_at"], links["time_precision"])
    order = links.assign(sign=sign, when=when)[["when", "news_id", "code", "event", "sign"]]
    order = order.sort_values(["when", "news_id"])
    earlier = order.groupby(["code", "event", "sign"], dropna=True)["when"].shift(1)
    days = (order["when"] - earlier).dt.total_seconds() / 86_400
    return (1 - 0.5**days).fillna(1.0).reindex(links.index)
