"""Normalise text, group reposts into stories, score novelty: it marks and never drops."""

from __future__ import annotations

import hashlib
import re

import pandas as pd

from newsfactor.errors import InvalidValueError
from newsfactor.prompting import news_text, strip_control
from newsfactor.schema import NEWS, check
from newsfactor.sessions import effective_at

# What a desk puts before a story that it shares with others: its name and the day.
_DATELINE = re.compile(r"^[\u4e00-\u9fff]{2,6}\d{1,2}月\d{1,2}日(?:电|讯|消息)[,，]?")
_MARKS = re.compile(r"[^\w%.]+")
_SHORTEST = 8


def clean(news: pd.DataFrame, *, window: int = 3) -> pd.DataFrame:
    """Strip control characters, and mark which items tell the same story and how new each is.

    Two items are one story if their titles or their texts are equal but for punctuation and dateline, and
    the later came within ``window`` days of the one before. Only earlier items lower a later one's novelty.

    Parameters
    ----------
    news : DataFrame
        NEWS.
    window : int
        Days after which an equal text starts a new story.

    Returns
    -------
    DataFrame
        NEWS with ``story_id`` (the ``news_id`` of the story's first item) and ``novelty``: 1 for the
        first, 1/2 for the second, 1/k for the k-th. Same rows, order and index; empty in, empty out.

    Examples
    --------
    >>> clean(news)["novelty"].tolist()  # doctest: +SKIP
    [1.0, 0.5, 1.0]
    """
    check(news, NEWS, parameter="news")
    if window <= 0:
        raise InvalidValueError("window", window, "must be a positive number of days")
    table = news.copy()
    for column in ("title", "content"):
        table[column] = table[column].fillna("").map(strip_control).astype("str")
    stories, counts = _group_stories(table, pd.Timedelta(days=window))
    table["story_id"] = pd.Series(stories, index=table.index, dtype="str")
    table["novelty"] = pd.Series([1.0 / count for count in counts], index=table.index, dtype=float)
    return table


def _group_stories(table: pd.DataFrame, window: pd.Timedelta) -> tuple[list[str], list[int]]:
    """Story and place in it of each row, walking forward in time."""
    when = effective_at(table["available_at"], table["time_precision"])
    order = pd.DataFrame({"when": when.to_numpy(), "id": table["news_id"].to_numpy()}).sort_values(["when", "id"]).index
    titles, contents, ids = (table[column].tolist() for column in ("title", "content", "news_id"))
    times = when.tolist()
    latest: dict[str, tuple[pd.Timestamp, str]] = {}
    members: dict[str, int] = {}
    stories, counts = [""] * len(table), [0] * len(table)
    for row in order:
        keys = _story_keys(titles[row], contents[row])
        known = [latest[key] for key in keys if key in latest and times[row] - latest[key][0] <= window]
        story = min(known)[1] if known else ids[row]
        members[story] = members.get(story, 0) + 1
        stories[row], counts[row] = story, members[story]
        latest.update({key: (times[row], story) for key in keys})
    return stories, counts


def _story_keys(title: str, content: str) -> list[str]:
    """Hashes of what two tellings of one story share: the text and, where it is long enough, the title."""
    body = _DATELINE.sub("", news_text("", content))
    parts = [_MARKS.sub("", part) for part in (title, body)]
    return [hashlib.sha1(part.encode()).hexdigest() for part in parts if len(part) >= _SHORTEST]
