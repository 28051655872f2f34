"""Stories that several desks tell: precision and recall of `nf.clean` on 200 pairs marked by hand.

    python benchmarks/near_duplicates.py DATA [--draw] [--days N]

DATA holds wire/; only figures are printed. The pairs are of different sources and no more than three days apart, drawn at
random within strata of the cosine of their TF-IDF weighted character bigrams (all pairs from 0.2 up: an index that knows
nothing of MinHash), 100 before 2026-07-01, on which the bounds of `newsfactor/rewrites.py` were chosen, and 100 after.
Marked "same" is a pair that reports one event, announcement or statement, however worded; two moves of one price, two
days of one routine notice and a round-up that holds the other are not. near_duplicates.csv holds the marks under hashes of
the ids, and the weight of each: how many pairs it stands for. Weighted figures estimate all pairs from 0.2 up; one "same"
of the lowest stratum stands for 5,800 pairs. Intervals are of 95%: Wilson's for plain figures, percentiles of a bootstrap
within strata for weighted ones (which cannot show an error that no drawn pair shows).
`--draw` draws the pairs anew (scikit-learn, minutes) and says how many are the marked ones.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
from bundled_model import print_table
from machine import describe_machine
from scipy import sparse
from scipy.stats import binomtest

import newsfactor as nf
from newsfactor.prompting import news_text
from newsfactor.schema import TIMEZONE

MARKS = Path(__file__).with_suffix(".csv")
SPLIT = pd.Timestamp("2026-07-01", tz=TIMEZONE)
WINDOW = pd.Timedelta(days=3)
EDGES = [0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.01]
DRAWN = [15, 20, 20, 15, 15, 15]
DATELINE = re.compile(r"财联社\d{1,2}月\d{1,2}日(?:电|讯)[,，]?")
HEADLINE = re.compile(r"^【[^】]*】")
PUNCTUATION = re.compile(r"[^\w%.]+")
REPEATS = 2000


def main() -> None:
    options = parse_arguments()
    print(describe_machine(), flush=True)
    wire = pd.read_parquet(options.data / "wire" / "news_2026-05-14_2026-07-31.parquet")
    news = nf.read_news(wire[["news_id", "source", "published_at", "title", "content"]])
    if options.draw:
        print_draw(news)
    stories, seconds = {}, {}
    for name, group in {"equal title or text": group_equal, "nf.clean": nf.clean}.items():
        began, used = time.perf_counter(), time.process_time()
        stories[name] = group(news)
        seconds[name] = (time.perf_counter() - began, time.process_time() - used)
    marks = read_marks(news)
    print(f"\n{len(marks)} pairs, {int(marks['same'].sum())} the same story\n")
    print_table(pd.DataFrame([row for name, table in stories.items() for row in judge(name, table, marks)]))
    print()
    print_table(pd.DataFrame([describe(name, table, *seconds[name]) for name, table in stories.items()]))
    print_days(news, stories["nf.clean"], options.days)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with wire/")
    parser.add_argument("--draw", action="store_true", help="draw the pairs anew and compare")
    parser.add_argument("--days", type=int, default=10, help="last days to clean one by one")
    return parser.parse_args()


def hash_id(news_id: str) -> str:
    return hashlib.sha1(news_id.encode()).hexdigest()[:10]


def read_marks(news: pd.DataFrame) -> pd.DataFrame:
    """The marks with the positions of both items."""
    marks = pd.read_csv(MARKS, dtype={"first": str, "second": str, "cosine": str})
    position = {hash_id(news_id): k for k, news_id in enumerate(news["news_id"])}
    for side in ("first", "second"):
        marks[side] = marks[side].map(position).astype(int)
    return marks.assign(same=marks["same"] == "y")


def group_equal(news: pd.DataFrame) -> pd.DataFrame:
    """The rule before: an equal title or text within three days of the last of its story."""
    dateline = re.compile(r"^[\u4e00-\u9fff]{2,6}\d{1,2}月\d{1,2}日(?:电|讯|消息)[,，]?")
    ordered = news.sort_values(["available_at", "news_id"])
    latest: dict[str, tuple[pd.Timestamp, str]] = {}
    stories = []
    for news_id, when, *parts in ordered[["news_id", "available_at", "title", "content"]].fillna("").to_numpy():
        parts[1] = dateline.sub("", news_text("", parts[1]))
        keys = [key for key in (PUNCTUATION.sub("", part) for part in parts) if len(key) >= 8]
        known = [latest[key] for key in keys if key in latest and when - latest[key][0] <= WINDOW]
        story = min(known)[1] if known else news_id
        stories.append(story)
        latest.update({key: (when, story) for key in keys})
    return news.assign(story_id=pd.Series(stories, index=ordered.index))


def judge(name: str, table: pd.DataFrame, marks: pd.DataFrame) -> list[dict[str, object]]:
    """Precision and recall of each half, plain and weighted."""
    story = table["story_id"].to_numpy()
    marks = marks.assign(found=story[marks["first"]] == story[marks["second"]])
    rows = []
    for half, part in marks.groupby("half", sort=False):
        for kind, rates in (("pairs", plain_rates(part)), ("weighted", weighted_rates(part))):
            rows.append(
                {"rule": name, f"{SPLIT:%m-%d}": half, "figures": kind, "precision": rates[0], "recall": rates[1]}
            )
    return rows


def plain_rates(part: pd.DataFrame) -> list[str]:
    hits = int((part["same"] & part["found"]).sum())
    rates = []
    for count in (int(part["found"].sum()), int(part["same"].sum())):
        low, high = binomtest(hits, count).proportion_ci(method="wilson")
        rates.append(f"{hits} of {count}: {hits / count:.2f} [{low:.2f}, {high:.2f}]")
    return rates


def weighted_rates(part: pd.DataFrame) -> list[str]:
    same, found = part["same"].to_numpy(), part["found"].to_numpy()
    parts = np.stack([same & found, found, same]) * part["weight"].to_numpy()
    draw = np.random.default_rng(0)
    strata = [np.flatnonzero(part["cosine"] == name) for name in part["cosine"].unique()]
    samples = [np.concatenate([draw.choice(rows, len(rows)) for rows in strata]) for _ in range(REPEATS)]
    drawn = np.array([parts[:, rows].sum(axis=1) for rows in samples]).T
    point = parts.sum(axis=1)
    bounds = [np.percentile(drawn[0] / drawn[k], [2.5, 97.5]) for k in (1, 2)]
    return [f"{point[0] / point[k]:.2f} [{low:.2f}, {high:.2f}]" for k, (low, high) in zip((1, 2), bounds, strict=True)]


def describe(name: str, table: pd.DataFrame, wall: float, used: float) -> dict[str, object]:
    grouped = table.groupby("story_id")["source"]
    several = table["story_id"].map(grouped.nunique()) > 1
    return {
        "rule": name, "items": f"{len(table):,}", "stories": f"{grouped.ngroups:,}",
        "items in stories of several sources": f"{several.mean():.3f}", "largest story": int(grouped.size().max()),
        "seconds": f"{wall:.1f}", "of one core": f"{used:.1f}",
    }  # fmt: skip


def print_days(news: pd.DataFrame, whole: pd.DataFrame, days: int) -> None:
    """Each of the last days cleaned with the three days before it, against the one batch."""
    end = news["available_at"].max().normalize() + pd.Timedelta(days=1)
    differ = rows = 0
    seconds = []
    for start in pd.date_range(end - pd.Timedelta(days=days), periods=days):
        given = news[(news["available_at"] >= start - WINDOW) & (news["available_at"] < start + pd.Timedelta(days=1))]
        began = time.perf_counter()
        cleaned = nf.clean(given)
        seconds.append(time.perf_counter() - began)
        today = cleaned[cleaned["available_at"] >= start]
        expected = whole.loc[today.index]
        differ += int((today[["story_id", "novelty"]] != expected[["story_id", "novelty"]]).any(axis=1).sum())
        rows += len(today)
    print(f"\nThe last {days} days one by one: {differ} of {rows:,} rows differ; {np.median(seconds):.2f} s a day")


def print_draw(news: pd.DataFrame) -> None:
    """Draw the pairs anew and say how many are the marked ones."""
    pairs = find_pairs(news)
    drawn = []
    for half in ("before", "after"):
        for low, high, count in zip(EDGES[:-1], EDGES[1:], DRAWN, strict=True):
            part = pairs[(pairs["half"] == half) & (pairs["cosine"] >= low) & (pairs["cosine"] < high)]
            drawn.append(part.sample(count, random_state=7))
    table = pd.concat(drawn)
    ours = set(zip(table["first"].map(hash_id), table["second"].map(hash_id), strict=True))
    marks = pd.read_csv(MARKS, dtype=str)
    marked = set(zip(marks["first"], marks["second"], strict=True))
    print(
        f"\n{len(pairs):,} pairs from 0.2 up; {len(ours & marked)} of {len(ours)} drawn are the marked ones", flush=True
    )


def find_pairs(news: pd.DataFrame) -> pd.DataFrame:
    """All pairs of different sources within three days with a cosine of 0.2 or more."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    ordered = news.sort_values(["published_at", "news_id"]).reset_index(drop=True)
    texts = [plain_text(title, content) for title, content in zip(ordered["title"], ordered["content"], strict=True)]
    vectors = TfidfVectorizer(analyzer="char", ngram_range=(2, 2), min_df=2, sublinear_tf=True, dtype=np.float32)
    weights: sparse.csr_matrix = vectors.fit_transform(texts)
    when = (
        ordered["published_at"]
        .dt.tz_convert("UTC")
        .dt.tz_localize(None)
        .to_numpy()
        .astype("datetime64[s]")
        .astype(np.int64)
    )
    day = ordered["published_at"].dt.tz_convert(TIMEZONE).dt.strftime("%Y-%m-%d").to_numpy()
    source, limit = ordered["source"].to_numpy(), int(WINDOW.total_seconds())
    found = []
    for start, stop in zip(*day_bounds(day), strict=True):
        early = np.searchsorted(when, when[start] - limit)
        cosines = (weights[start:stop] @ weights[early:stop].T).tocoo()
        high = cosines.data >= EDGES[0]
        later, earlier, cosine = cosines.row[high] + start, cosines.col[high] + early, cosines.data[high]
        keep = (earlier < later) & (source[later] != source[earlier]) & (when[later] - when[earlier] <= limit)
        found.append(pd.DataFrame({"a": earlier[keep], "b": later[keep], "cosine": cosine[keep].astype(float)}))
    pairs = pd.concat(found, ignore_index=True)
    border = f"{SPLIT:%Y-%m-%d}"
    half = np.where(day[pairs["b"]] < border, "before", np.where(day[pairs["a"]] >= border, "after", "across"))
    ids = ordered["news_id"].to_numpy()
    return pairs.assign(half=half, first=ids[pairs["a"]], second=ids[pairs["b"]])


def plain_text(title: str, content: str) -> str:
    headline = HEADLINE.match(content)
    title = title or (headline.group()[1:-1] if headline else "")
    body = DATELINE.sub("", HEADLINE.sub("", content))
    return PUNCTUATION.sub("", body if body.startswith(title) else title + body)


def day_bounds(day: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and one past the last position of each day of a sorted array."""
    days = np.unique(day)
    return np.searchsorted(day, days), np.searchsorted(day, days, side="right")


if __name__ == "__main__":
    main()
