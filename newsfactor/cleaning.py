"""Normalise text, group tellings of one event into stories, score novelty: it marks and never drops."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from newsfactor.errors import InvalidValueError
from newsfactor.prompting import strip_control
from newsfactor.rewrites import SHORTEST, SOON, Wording, find_rewrites, read_wording
from newsfactor.schema import NEWS, check
from newsfactor.sessions import effective_at


def clean(news: pd.DataFrame, *, window: int = 3) -> pd.DataFrame:
    """Strip control characters, and mark which items tell the same story and how new each is.

    Two items match if their texts are equal but for punctuation and dateline, or if one rewrites the other:
    within an hour, at least half of the shorter text's character bigrams and of each title's stand in the other
    text, most figures agree and no name stands in another's place; after more than an hour at least 0.7 of them, in
    texts of 40 characters or more that name no different days. An equal title is enough within the hour, and lowers
    0.7 to 0.5 after it. Texts of under 8 characters match nothing. Candidates come from MinHash (datasketch), so a
    pair near the bounds may be missed. Figures in words (十亿) are not compared.

    An item's story is made of the items of the ``window`` days up to it, chained by matches: its ``story_id``
    and ``novelty`` depend on these and on nothing else, so later news changes no earlier item. To clean day by
    day, give with each day's news all items that could be read (``available_at``; a day-precision item at the
    end of its day) up to ``window`` days before the day's first, as raw or as cleaned before, and keep the rows
    of the day: they equal those of one call over everything. A story that goes on for longer than ``window``
    days is therefore named anew, by the first of its items that is still within reach.

    Parameters
    ----------
    news : DataFrame
        NEWS.
    window : int
        Days that a story reaches back.

    Returns
    -------
    DataFrame
        NEWS with ``story_id`` (the ``news_id`` of the first item of the story within reach, its own where there
        is none) and ``novelty``: 1 for the first, 1/2 for the second, 1/k for the k-th within reach: k desks that
        tell an event weigh 1 + 1/2 + … + 1/k, far less than k. Same rows, order and index; empty in, empty out.

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
    stories, counts = _group_stories(table, np.timedelta64(window, "D"))
    table["story_id"] = pd.Series(stories, index=table.index, dtype="str")
    table["novelty"] = pd.Series([1.0 / count for count in counts], index=table.index, dtype=float)
    return table


@dataclass
class _Told:
    """When a wording was told so far, and by which items (their place in the order of time)."""

    times: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)


def _group_stories(table: pd.DataFrame, window: np.timedelta64) -> tuple[list[str], list[int]]:
    """Story and place in it of each row, walking forward in time."""
    when = effective_at(table["available_at"], table["time_precision"]).dt.tz_convert("UTC").dt.tz_localize(None)
    times = when.to_numpy().astype("datetime64[us]")
    ids = table["news_id"].tolist()
    order = pd.DataFrame({"when": times, "id": ids}).sort_values(["when", "id"]).index.tolist()
    wordings, numbers = _distinct(table)
    spans = pd.Series(times).groupby(numbers).agg(["min", "max"])
    matches = find_rewrites(wordings, spans["min"].to_numpy(), spans["max"].to_numpy(), window)
    told = [_Told() for _ in wordings]
    reach, soon = (int(span / np.timedelta64(1, "us")) for span in (window, SOON))
    stamps = times.astype(np.int64).tolist()
    stories, counts = [""] * len(ids), [0] * len(ids)
    for place, row in enumerate(order):
        own = told[numbers[row]]
        own.times.append(stamps[row])
        own.places.append(place)
        first, counts[row] = _trace(numbers[row], matches, told, stamps[row] - reach, soon)
        stories[row] = ids[order[first]]
    return stories, counts


def _distinct(table: pd.DataFrame) -> tuple[list[Wording], np.ndarray]:
    """The distinct wordings and the number of each row's; one too short to match is a row's own."""
    found: dict[tuple[str, str, int], int] = {}
    wordings: list[Wording] = []
    numbers = np.empty(len(table), dtype=np.int64)
    for row, (title, content) in enumerate(zip(table["title"].tolist(), table["content"].tolist(), strict=True)):
        wording = read_wording(title, content)
        key = (wording.title, wording.body, -1 if len(wording.text) >= SHORTEST else row)
        numbers[row] = found.setdefault(key, len(wordings))
        if numbers[row] == len(wordings):
            wordings.append(wording)
    return wordings, numbers


def _trace(
    start: int, matches: list[list[tuple[int, bool]]], told: list[_Told], since: int, soon: int
) -> tuple[int, int]:
    """Place of the first item, and number of items, of the story that the item just told belongs to."""
    reached, todo = {start}, [start]
    for one in todo:
        for other, lasting in matches[one]:
            if other in reached or not told[other].times or told[other].times[-1] < since:
                continue
            if lasting or _within(told[one].times, told[other].times, since, soon):
                reached.add(other)
                todo.append(other)
    recent = [told[number].places[bisect_left(told[number].times, since) :] for number in reached]
    return min(places[0] for places in recent), sum(map(len, recent))


def _within(ours: list[int], theirs: list[int], since: int, soon: int) -> bool:
    """Whether two wordings were told no more than ``soon`` apart, both since the given time."""
    return any(
        bisect_left(theirs, max(time - soon, since)) < bisect_right(theirs, time + soon)
        for time in ours[bisect_left(ours, since) :]
    )
