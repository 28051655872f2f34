"""The overnight check: the mean soft score of a company's news against its opening gap.

    python benchmarks/overnight.py DATA [--base FOLDER] [--adapter FOLDER] [--cache FOLDER] [--no-model]

A window runs from the close of one session (15:00) to 09:15 before the next open, half-open, by
``available_at``; the gap is ``open / pre_close - 1`` of the session that opens. One story counts once per
company and window. The figure is the mean over windows of the Spearman correlation over companies. Companies
are known either by the editors' codes or by ``nf.link`` (main subjects). The baseline, character 1-3-gram
TF-IDF + ridge on the sentiment level, is refitted in the same run on the labels that the model learned from
(labels/train and scripts/annotations.csv.gz); both systems read the same texts (cut at 320 characters as the labels
were) and are compared on the same companies and windows.

This is no test of a trading signal: the news of the window are in the opening price that it is compared with.
DATA holds wire/, prices/, labels/ and master/; only figures are printed.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from bundled_model import UNTIL, make_vectorizer, print_table, read_annotations, read_known_securities
from machine import describe_machine
from scipy.stats import rankdata
from sklearn.linear_model import Ridge

import newsfactor as nf
from newsfactor.prompting import news_text
from newsfactor.schema import LEVELS, TIMEZONE
from newsfactor.sessions import shift_sessions
from newsfactor.tagging import _PRICE_MOVE, Tagger

# Price collections wide enough for a cross-section; `top312` is not.
GROUPS = {"mainboard": "main board", "all": "full market"}
OBSERVER = "cls"
MIN_COMPANIES = 30
TEXT_LENGTH = 320
WAYS = ("editors' codes", "nf.link, main subjects")


def main() -> None:
    options = parse_arguments()
    began = time.perf_counter()
    print(describe_machine(), flush=True)
    wire = pd.read_parquet(options.data / "wire" / "news_2026-05-14_2026-07-31.parquet")
    gaps = read_gaps(options.data / "prices" / "daily_2026-01_2026-07.parquet")
    windows = make_windows(gaps, wire, options.limit_days)
    securities = read_known_securities(options.data)
    items = select_items(wire, windows)
    editors = explode_codes(items, gaps)
    items = items[items["news_id"].isin({*editors["news_id"], *find_linked(items, securities, gaps)})]
    train = pd.read_parquet(options.data / "labels" / "train.parquet")
    annotated = read_annotations(options.data, UNTIL)
    told = items["news_id"].isin(train["news_id"]) | items["text"].isin(annotated["text"])
    items["labelled"] = items["story_id"].isin(items.loc[told, "story_id"])
    items["TF-IDF"] = score_baseline(pd.concat([train, annotated]), items["text"], options.alpha)
    items, links = read_with_model(items, securities, options)
    mentions = pd.concat([editors.assign(way=WAYS[0]), choose_subjects(links, gaps).assign(way=WAYS[1])])
    mentions = mentions.merge(items.drop(columns=["date", "codes"]), on="news_id")
    systems = ["TF-IDF"] if options.no_model else ["model", "TF-IDF"]
    print(
        f"\n{int((windows['reason'] == '').sum())} observed windows, {len(items)} news in them that name a priced company\n"
    )
    daily, left_out = measure_windows(mentions, gaps, systems)
    print_table(summarise(daily, systems, options.draws, options.seed))
    print_left_out(windows, left_out)
    print(f"\ntook {time.perf_counter() - began:.0f} s")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with wire/, prices/, labels/ and master/")
    parser.add_argument("--base", help="base model; the bundled one if not given")
    parser.add_argument("--adapter", help="LoRA adapter; the bundled one with the bundled base")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="the processor's own if not given")
    parser.add_argument("--cache", help="folder of the tagging journal; the user's cache if not given")
    parser.add_argument(
        "--no-model", action="store_true", help="the baseline alone; links then come from the text alone"
    )
    parser.add_argument("--limit-days", type=int, help="only so many observed windows of each price collection")
    parser.add_argument("--alpha", type=float, default=0.3, help="ridge penalty; 0.3 from 3-fold on labels/train")
    parser.add_argument("--draws", type=int, default=10_000, help="bootstrap draws")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def read_gaps(path: Path) -> pd.DataFrame:
    """Opening gaps of the wide price collections: ``date, code, group, gap``."""
    prices = pd.read_parquet(path, columns=["date", "code", "open", "pre_close", "src"])
    gaps = prices.assign(gap=prices["open"].astype(float) / prices["pre_close"] - 1, group=prices["src"].map(GROUPS))
    return gaps.loc[gaps["group"].notna() & gaps["gap"].notna(), ["date", "code", "group", "gap"]]


def make_windows(gaps: pd.DataFrame, wire: pd.DataFrame, limit: int | None) -> pd.DataFrame:
    """One row per priced session: its window and, where it is left out, the reason."""
    windows = gaps[["group", "date"]].drop_duplicates().sort_values("date").reset_index(drop=True)
    before = pd.Series(shift_sessions(windows["date"], -1), windows.index)
    windows["start"] = (before + pd.Timedelta(hours=15)).dt.tz_localize(TIMEZONE)
    windows["end"] = (windows["date"] + pd.Timedelta(hours=9, minutes=15)).dt.tz_localize(TIMEZONE)
    own = wire.loc[wire["source"] == OBSERVER, "published_at"]
    observed = set(own.dt.tz_convert(TIMEZONE).dt.tz_localize(None).dt.normalize())
    touched = [pd.date_range(first, last) for first, last in zip(before, windows["date"], strict=True)]
    missing = [[f"{day:%m-%d}" for day in days if day not in observed] for days in touched]
    windows["reason"] = [f"{OBSERVER} unobserved on {', '.join(days)}" if days else "" for days in missing]
    if limit is not None:
        good = windows["reason"] == ""
        windows.loc[good & (good.groupby(windows["group"]).cumsum() > limit), "reason"] = "over --limit-days"
    return windows


def select_items(wire: pd.DataFrame, windows: pd.DataFrame) -> pd.DataFrame:
    """The news of the observed windows with their session ``date``, story and text."""
    news = nf.clean(nf.read_news(wire.drop(columns=["subjects", "level"])))
    good = windows[windows["reason"] == ""].sort_values("start")
    slot = good["start"].searchsorted(news["available_at"], side="right") - 1
    chosen = good.iloc[np.maximum(slot, 0)]
    inside = (slot >= 0) & (news["available_at"].to_numpy() < chosen["end"].to_numpy())
    items = news[inside].assign(date=chosen["date"].to_numpy()[inside])
    items["text"] = [news_text(*pair)[:TEXT_LENGTH] for pair in zip(items["title"], items["content"], strict=True)]
    return items[items["text"] != ""].reset_index(drop=True)


def explode_codes(items: pd.DataFrame, gaps: pd.DataFrame) -> pd.DataFrame:
    """``news_id, date, code`` of the editors' codes that are priced on the session."""
    table = items[["news_id", "date", "codes"]].explode("codes").rename(columns={"codes": "code"})
    return table.dropna().drop_duplicates().merge(gaps[["date", "code"]], on=["date", "code"])


def find_linked(items: pd.DataFrame, securities: pd.DataFrame, gaps: pd.DataFrame) -> pd.Series:
    """Ids of the news that name a priced company at all; no other can matter, so no other is tagged."""
    links = nf.link(items.drop(columns=["codes", "text"]), securities)
    return links.merge(gaps[["date", "code"]], on=["date", "code"])["news_id"]


def choose_subjects(links: pd.DataFrame, gaps: pd.DataFrame) -> pd.DataFrame:
    subjects = links.loc[links["is_subject"], ["news_id", "date", "code"]]
    return subjects.merge(gaps[["date", "code"]], on=["date", "code"])


def score_baseline(train: pd.DataFrame, texts: pd.Series, alpha: float) -> np.ndarray:
    """Ridge on the sentiment level of the labelled items."""
    vectorizer = make_vectorizer()
    features = vectorizer.fit_transform(train["text"])
    ridge = Ridge(alpha=alpha).fit(features, train["sentiment"].map(LEVELS))
    return ridge.predict(vectorizer.transform(texts))


def read_with_model(
    items: pd.DataFrame, securities: pd.DataFrame, options: argparse.Namespace
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The items with ``reports_price`` and the model's soft score, and their links."""
    news = items.drop(columns=["codes", "text", "labelled", "TF-IDF"])
    if options.no_model:
        moved = items["text"].str.contains(_PRICE_MOVE)
        return items.assign(reports_price=moved), nf.link(news, securities)
    tagger = Tagger.load(options.base, adapter=options.adapter, dtype=options.dtype)
    began = time.perf_counter()
    # The cut text goes in as a title, which is taken as it stands.
    cut = news.assign(title=items["text"], content="")
    tags = tagger.tag(cut, securities=securities, cache=options.cache or True, progress=False)
    seconds = time.perf_counter() - began
    statuses = ", ".join(f"{name} {count}" for name, count in tags["status"].value_counts().items())
    print(
        f"\ntagging {len(tags)} news ({statuses}) took {seconds:.0f} s; answers in the journal are not computed again",
        flush=True,
    )
    links = nf.link(tags.assign(title=news["title"], content=news["content"]), securities)
    return items.assign(reports_price=tags["reports_price"], model=tags["score"]), links


def measure_windows(
    mentions: pd.DataFrame, gaps: pd.DataFrame, systems: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The RankIC of each system in each window, and the windows with too few companies."""
    choices = {
        "all": mentions,
        "without `reports_price`": mentions[~mentions["reports_price"]],
        "without labelled stories": mentions[~mentions["labelled"]],
    }
    rows = []
    for news, chosen in choices.items():
        stories = chosen.groupby(["way", "date", "code", "story_id"])[systems].mean()
        cells = stories.groupby(["way", "date", "code"]).mean().reset_index().merge(gaps, on=["date", "code"])
        for (way, group, date), cell in cells.groupby(["way", "group", "date"]):
            ranked = {system: spearman(cell[system], cell["gap"]) for system in systems}
            rows.append({"way": way, "group": group, "news": news, "date": date, "companies": len(cell), **ranked})
    daily = pd.DataFrame(rows)
    few = daily["companies"] < MIN_COMPANIES
    return daily[~few], daily[few]


def spearman(left: pd.Series, right: pd.Series) -> float:
    """Pearson's correlation of average ranks; NaN if one side is constant."""
    if left.nunique() < 2 or right.nunique() < 2:
        return float("nan")
    return float(np.corrcoef(rankdata(left), rankdata(right))[0, 1])


def summarise(daily: pd.DataFrame, systems: list[str], draws: int, seed: int) -> pd.DataFrame:
    """One row per way of knowing the company, price collection and choice of news."""
    rows = []
    for (way, group, news), windows in daily.groupby(["way", "group", "news"]):
        row = {"companies by": way, "prices": group, "news": news, "windows": len(windows),
               "companies": round(windows["companies"].mean(), 1)}  # fmt: skip
        for system in systems:
            row |= {f"{system} RankIC": describe_mean(windows[system])}
        if len(systems) == 2:
            row["model − TF-IDF (95%)"] = describe_difference(windows["model"] - windows["TF-IDF"], draws, seed)
        rows.append(row)
    return pd.DataFrame(rows)


def describe_mean(values: pd.Series) -> str:
    error = values.std(ddof=1) / np.sqrt(values.count())
    return f"{values.mean():.3f} (t {values.mean() / error:.1f})"


def describe_difference(differences: pd.Series, draws: int, seed: int) -> str:
    """Mean of the daily differences with the percentile interval of a bootstrap over windows."""
    values = differences.dropna().to_numpy()
    picked = np.random.default_rng(seed).integers(len(values), size=(draws, len(values)))
    low, high = np.percentile(values[picked].mean(axis=1), [2.5, 97.5])
    return f"{values.mean():+.3f} ({low:+.3f} to {high:+.3f})"


def print_left_out(windows: pd.DataFrame, few: pd.DataFrame) -> None:
    """Every window that does not count, with the reason."""
    unseen = windows.loc[windows["reason"] != "", ["group", "date", "reason"]].assign(way="both", news="all")
    small = few.assign(reason=few["companies"].map(lambda count: f"{count} companies, fewer than {MIN_COMPANIES}"))
    table = pd.concat([unseen, small])[["group", "date", "way", "news", "reason"]].sort_values(["news", "way", "date"])
    table["date"] = table["date"].dt.strftime("%m-%d")
    grouped = table.groupby(["group", "way", "news", "reason"], sort=False)["date"].agg(", ".join).reset_index()
    print("\nWindows left out (by the session that opens; `top312` days are not used at all):\n")
    named = {"group": "prices", "way": "companies by", "date": "sessions"}
    print_table(grouped.rename(columns=named)[["prices", "sessions", "companies by", "news", "reason"]])


if __name__ == "__main__":
    main()
