"""Small tables with fictional companies, written by hand, for tests that need every column."""

from __future__ import annotations

import pandas as pd

from newsfactor.schema import LEVELS, PROBABILITIES, SENTIMENTS, TIMEZONE


def make_news(rows: list[tuple[str, str, str, str]], source: str = "wire_a") -> pd.DataFrame:
    """NEWS from (news_id, time in Shanghai, title, content)."""
    times = pd.to_datetime([row[1] for row in rows], format="ISO8601").tz_localize(TIMEZONE).as_unit("us")
    return pd.DataFrame(
        {
            "news_id": [row[0] for row in rows], "published_at": times, "available_at": times,
            "time_precision": "second", "title": [row[2] for row in rows], "content": [row[3] for row in rows],
            "source": source,
        }
    ).astype({"time_precision": "str", "source": "str"})  # fmt: skip


def make_tags(news: pd.DataFrame, **columns: list) -> pd.DataFrame:
    """TAGS over NEWS: neutral and about nothing but for the given columns."""
    table = news.copy()
    defaults = {
        "event": "公司动态", "market": "中国市场", "industry": "电子", "sentiment": "无明显倾向", "p_event": 0.9,
        "p_market": 0.9, "p_industry": 0.9, "reports_price": False, "status": "ok", "tagger": "by hand",
    }  # fmt: skip
    for name, value in {**defaults, **columns}.items():
        table[name] = value
    for name in ("stocks", "stock_scores"):
        if name not in columns:
            table[name] = [[] for _ in range(len(table))]
    table["score"] = columns.get("score", table["sentiment"].map(LEVELS).astype(float))
    for level, name in zip(SENTIMENTS, PROBABILITIES, strict=True):
        table[name] = (table["sentiment"] == level).astype(float)
    table["trained_through"] = pd.Series(pd.NaT, index=table.index, dtype="datetime64[us]")
    return table


def make_links(rows: list[tuple[str, str, str | None, float]], source: str = "wire_a") -> pd.DataFrame:
    """LINKS from (news_id, time in Shanghai, code, level)."""
    level_names = {level: name for name, level in LEVELS.items()}
    news = make_news([(news_id, time, "", "甲") for news_id, time, _, _ in rows], source)
    tags = make_tags(
        news, sentiment=[level_names[round(level)] for *_, level in rows], score=[float(row[3]) for row in rows]
    )
    links = tags.drop(columns=["content", "stocks", "stock_scores"])
    code = pd.Series([row[2] for row in rows], dtype="str")
    return links.assign(
        name=code, code=code, mentioned=1.0, relevance=1.0, is_subject=code.notna(), n_codes=1, event_novelty=1.0,
        stock_industry="电子", name_evidence="observed", link_status=code.map(lambda c: "none" if pd.isna(c) else "exact"),
    )  # fmt: skip


def make_universe(dates: list[str], codes: list[str]) -> pd.DataFrame:
    """UNIVERSE: every code on every date, unlimited and alike."""
    days = pd.to_datetime(dates).as_unit("us")
    table = pd.MultiIndex.from_product([days, codes], names=["date", "code"]).to_frame(index=False)
    table["code"] = table["code"].astype("str")
    return table.assign(
        industry="电子", circ_mv=1e9, is_st=False, is_suspended=False, limit_up=float("nan"), limit_down=float("nan"),
        list_date=pd.Timestamp("2010-01-04").as_unit("us"),
    )  # fmt: skip


def make_coverage(start: str, end: str, source: str = "wire_a") -> pd.DataFrame:
    """COVERAGE of one source over one span."""
    span = [pd.Timestamp(time, tz=TIMEZONE).as_unit("us") for time in (start, end)]
    return pd.DataFrame({"source": [source], "start": span[:1], "end": span[1:]})
