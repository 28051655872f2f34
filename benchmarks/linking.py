"""Linking against editors' codes and against the labels, and its time.

    python benchmarks/linking.py DATA [--base FOLDER] [--adapter FOLDER] [--tags TABLE ...] [--no-model] [--no-speed]

DATA holds wire/, master/ and labels/dev.parquet; only figures are printed. What is fitted was fitted on news before
2026-07-26 (scripts/fit_linking.py), as were the thresholds; everything here is judged on news from that day on. Intervals
are 95% percentile intervals of a bootstrap over news items. `--tags` takes tables of news that were tagged before; without
them the tagger reads every item in which a name is found.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ahocorasick
import numpy as np
import pandas as pd
from bundled_model import print_table, read_known_securities, split_names
from flashtext import KeywordProcessor
from machine import describe_machine

from newsfactor.linking import COEFFICIENTS, link
from newsfactor.names import NameIndex
from newsfactor.prompting import news_text
from newsfactor.schema import TIMEZONE
from newsfactor.securities import facts_at
from newsfactor.tables import read_news
from newsfactor.tagging import Tagger

UNTIL = pd.Timestamp("2026-07-26", tz=TIMEZONE)
SOURCES = {"cls": "财联社", "ths": "同花顺"}
DICTIONARY, RULES, PLAIN, TAGGED = "dictionary", "dictionary with rules", "nf.link, plain news", "nf.link, tagged news"
# Rules that one writes by hand: no theme, no part of another name, no broker's report without a code.
THEME = re.compile(r"概念|产业|行业|板块|指数|ETF|集团|股份|论坛|大学|批发|价格|市场")
REPORT = re.compile(r"研报|研究|首席|分析师|策略|认为|指出|表示|称|[：:]")
BRACKET = re.compile(r"[(（]\w*\d{5,6}[\w.]*[)）]")
# A rule for ordinary words, on news before the day above: often named, seldom coded, no bank and no broker.
OFTEN, SELDOM = 10, 0.25
SIZES = (1_000, 6_000, 60_000)
Pairs = dict[str, set[str]]


def main() -> None:
    options = parse_arguments()
    print(describe_machine(), flush=True)
    securities = read_known_securities(options.data)
    wire = read_wire(options.data)
    model = json.loads(COEFFICIENTS.read_text("utf-8"))
    cuts = {name: model[name]["thresholds"] for name in ("mentioned", "relevance")}
    print(f"\nthresholds, chosen on earlier news: {json.dumps(cuts)}")
    ordinary = find_ordinary(wire[(wire["source"] == "cls") & (wire["published_at"] < UNTIL)], securities)
    for source, called in SOURCES.items():
        news = wire[(wire["source"] == source) & (wire["published_at"] >= UNTIL)].reset_index(drop=True)
        tags = make_tags(news.drop(columns="codes"), securities, options)
        systems = link_by_all(news, tags, securities, cuts["mentioned"])
        print(f"\n{called}, mainland shares, {len(news)} news, {sum(map(len, pair_codes(news).values()))} codes:\n")
        judge_codes(news, systems, options.draws)
        judge_words(news, systems, ordinary, options.draws)
    # These words are rare after that day; the codes of this wire were not fitted.
    early = wire[(wire["source"] == "ths") & (wire["published_at"] < UNTIL)].reset_index(drop=True)
    print(f"\n同花顺 before that day, {len(early)} news:")
    judge_words(early, link_by_all(early, None, securities, cuts["mentioned"]), ordinary, options.draws)
    judge_labels(options.data, securities, cuts["relevance"], options)
    if not options.no_speed:
        measure_speed(wire.drop(columns="codes"), securities)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with wire/, master/ and labels/")
    parser.add_argument("--base", help="base model; the bundled one if not given")
    parser.add_argument("--adapter", help="LoRA adapter; the bundled one with the bundled base")
    parser.add_argument("--tags", type=Path, nargs="*", help="tables of news that were tagged before")
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap draws")
    parser.add_argument("--no-model", action="store_true", help="plain news alone")
    parser.add_argument("--no-speed", action="store_true")
    return parser.parse_args()


def read_wire(data: Path) -> pd.DataFrame:
    """NEWS of the wires with the editors' ``codes``."""
    wire = pd.read_parquet(data / "wire" / "news_2026-05-14_2026-07-31.parquet")
    return read_news(wire.drop(columns=["subjects", "level"]))


def make_tags(news: pd.DataFrame, securities: pd.DataFrame, options: argparse.Namespace) -> pd.DataFrame | None:
    """TAGS of those of the news in which a name is found; None without a model."""
    if options.no_model:
        return None
    if options.tags:
        known = pd.concat([pd.read_parquet(path) for path in options.tags]).drop_duplicates("news_id")
        return known[known["news_id"].isin(news["news_id"])].reset_index(drop=True)
    hits = NameIndex(securities).find_all(texts_of(news), days_of(news))
    tagger = Tagger.load(options.base, adapter=options.adapter)
    return tagger.tag(news[[bool(found) for found in hits]], securities=securities, cache=False, progress=False)


def texts_of(news: pd.DataFrame) -> list[str]:
    return [news_text(*pair) for pair in zip(news["title"].fillna(""), news["content"].fillna(""), strict=True)]


def days_of(news: pd.DataFrame) -> list[pd.Timestamp]:
    return list(news["available_at"].dt.tz_localize(None).dt.normalize())


def pair_codes(news: pd.DataFrame) -> Pairs:
    """The editors' mainland codes by news."""
    pairs = zip(news["news_id"], news["codes"], strict=True)
    return {key: {code for code in codes if not code.endswith("HK")} for key, codes in pairs}


def gather(rows: pd.DataFrame, column: str) -> Pairs:
    """The different values of a column by news."""
    found: Pairs = {}
    for key, value in zip(rows["news_id"], rows[column], strict=True):
        found.setdefault(key, set()).add(value)
    return found


def find_by_dictionary(news: pd.DataFrame, securities: pd.DataFrame) -> pd.DataFrame:
    """``news_id, name, code, by_rule``: every name found with its mainland code, and whether the rules keep it."""
    index = NameIndex(securities)
    texts, days = texts_of(news), days_of(news)
    rows = []
    for key, text, day, hits in zip(news["news_id"], texts, days, index.find_all(texts, days), strict=True):
        for place, name in hits:
            codes = [span.code for span in index.resolve(name, day) if not span.code.endswith("HK")]
            if codes:
                rows.append((key, name, codes[0], text[place + len(name) :][:12], day))
    found = pd.DataFrame(rows, columns=["news_id", "name", "code", "after", "date"])
    found["financial"] = facts_at(securities, "sw1", found)["value"].isin(["非银金融", "银行"])
    doubtful = found["after"].str.match(THEME) | (found["financial"] & found["after"].str.match(REPORT))
    return found.assign(by_rule=found["after"].str.match(BRACKET) | ~doubtful)


def find_ordinary(news: pd.DataFrame, securities: pd.DataFrame) -> set[str]:
    """Names that are mostly something else, by the rule above."""
    found = find_by_dictionary(news, securities).drop_duplicates(["news_id", "code"])
    codes = pair_codes(news)
    found["coded"] = [code in codes[key] for key, code in zip(found["news_id"], found["code"], strict=True)]
    share = found.groupby("name").agg(count=("coded", "size"), coded=("coded", "mean"), financial=("financial", "max"))
    return set(share.index[(share["count"] >= OFTEN) & (share["coded"] < SELDOM) & ~share["financial"]])


def link_by_all(
    news: pd.DataFrame, tags: pd.DataFrame | None, securities: pd.DataFrame, cuts: Mapping[str, float]
) -> dict[str, pd.DataFrame]:
    """By system ``news_id, name, code`` of mainland shares, and whether each is ``chosen``."""
    news = news.drop(columns="codes")
    words = find_by_dictionary(news, securities).assign(chosen=True)
    plain = link(news, securities)
    plain["chosen"] = plain["mentioned"] >= cuts["plain"]
    systems = {DICTIONARY: words, RULES: words[words["by_rule"]], PLAIN: plain}
    if tags is not None:
        tagged = link(tags, securities)
        tagged["chosen"] = tagged["mentioned"] >= cuts["tagged"]
        systems[TAGGED] = pd.concat([tagged, plain[~plain["news_id"].isin(tags["news_id"])]])
    return {name: links[links["code"].notna() & (links["code"].str[-2:] != "HK")] for name, links in systems.items()}


def judge_codes(news: pd.DataFrame, systems: dict[str, pd.DataFrame], draws: int) -> None:
    """Figures of one wire: all news, and those with at most two codes."""
    gold = pair_codes(news)
    few = {key: gold[key] for key, codes in zip(news["news_id"], news["codes"], strict=True) if len(codes) <= 2}
    rows = []
    for name, links in systems.items():
        chosen = gather(links[links["chosen"]], "code")
        figures = measure(gold, chosen, draws)
        figures["F1, at most two codes"] = measure(few, chosen, draws)["micro-F1"]
        figures["recall at any value"] = measure(gold, gather(links, "code"), draws)["recall"]
        rows.append({"system": name, **figures})
    print_table(pd.DataFrame(rows))


def judge_words(news: pd.DataFrame, systems: dict[str, pd.DataFrame], ordinary: set[str], draws: int) -> None:
    """Precision and recall on the names that are mostly ordinary words."""
    named = {key: links[links["name"].isin(ordinary)] for key, links in systems.items()}
    anywhere = gather(named[DICTIONARY], "code")
    gold = {key: codes & anywhere.get(key, set()) for key, codes in pair_codes(news).items()}
    rows = []
    for name, links in named.items():
        found = gather(links[links["chosen"]], "code")
        figures = measure(gold, found, draws)
        count = sum(map(len, found.values()))
        rows.append({"system": name, "links": count, "precision": figures["precision"], "recall": figures["recall"]})
    total = sum(map(len, gold.values()))
    print(
        f"\nThe {len(ordinary)} names that are mostly ordinary words (rule on earlier news), {total} of them coded:\n"
    )
    print_table(pd.DataFrame(rows))


def measure(gold: Pairs, found: Pairs, draws: int) -> dict[str, str]:
    """Precision, recall, micro-F1, and macro-F1 over the news that have a code or a link, with intervals by news."""
    rows = [
        (len(codes & found.get(key, set())), len(found.get(key, set())), len(codes))
        for key, codes in sorted(gold.items())
    ]
    counts = np.array(rows, dtype=float)
    rng = np.random.default_rng(0)
    values = np.array([score(counts[rng.integers(len(counts), size=len(counts))]) for _ in range(draws)])
    low, high = np.nanpercentile(values, [2.5, 97.5], axis=0)
    names = ("precision", "recall", "micro-F1", "macro-F1 per item")
    return {
        name: f"{value:.3f} ({a:.3f}–{b:.3f})"
        for name, value, a, b in zip(names, score(counts), low, high, strict=True)
    }


def score(counts: np.ndarray) -> tuple[float, float, float, float]:
    """The four figures of (right, found, wanted) by news; NaN where nothing is found or wanted."""
    right, found, wanted = counts.sum(axis=0)
    active = counts[counts[:, 1] + counts[:, 2] > 0]
    each = 2 * active[:, 0] / (active[:, 1] + active[:, 2])
    both = found + wanted
    return (
        right / found if found else np.nan,
        right / wanted if wanted else np.nan,
        2 * right / both if both else np.nan,
        float(each.mean()) if len(each) else np.nan,
    )


def judge_labels(data: Path, securities: pd.DataFrame, cuts: Mapping[str, float], options: argparse.Namespace) -> None:
    """``relevance`` against the names of labels/dev: those that a security bore on the day, and all of them."""
    dev = pd.read_parquet(data / "labels" / "dev.parquet")
    dev = dev[dev["published_at"] >= UNTIL].reset_index(drop=True)
    news = read_news(dev[["news_id", "published_at"]].assign(title="", content=dev["text"], source="wire"))
    index, texts, days = NameIndex(securities), texts_of(news), days_of(news)
    labels = {key: set(split_names(names)) for key, names in zip(dev["news_id"], dev["stocks"], strict=True)}
    borne = {key: {name for name in labels[key] if index.resolve(name, day)} for key, day in zip(labels, days, strict=True)}  # fmt: skip
    hits = zip(news["news_id"], index.find_all(texts, days), strict=True)
    systems = {DICTIONARY: {key: {name for _, name in found} for key, found in hits}}
    systems[PLAIN] = pick_names(link(news, securities), cuts["plain"])
    tags = make_tags(news, securities, options)
    if tags is not None:
        systems["stocks of the tagger"] = {k: set(v) for k, v in zip(tags["news_id"], tags["stocks"], strict=True)}
        systems[TAGGED] = pick_names(link(tags, securities), cuts["tagged"])
    rows = []
    for name, found in systems.items():
        known = {key: {n for n in found.get(key, set()) if index.resolve(n, day)} for key, day in zip(labels, days, strict=True)}  # fmt: skip
        everything = measure(labels, found, options.draws)["micro-F1"]
        rows.append({"system": name, **measure(borne, known, options.draws), "micro-F1, all names": everything})
    total, known_total = (sum(map(len, names.values())) for names in (labels, borne))
    print(f"\nrelevance, {len(dev)} items of labels/dev, {known_total} names of securities, {total} in all:\n")
    print_table(pd.DataFrame(rows))


def pick_names(links: pd.DataFrame, cut: float) -> Pairs:
    return gather(links[(links["relevance"] >= cut) & links["name"].notna()], "name")


def measure_speed(news: pd.DataFrame, securities: pd.DataFrame) -> None:
    """News per second: of the candidate stage beside two other libraries, and of link, by number of names and of news."""
    texts, days = texts_of(news), days_of(news)
    stage: list[dict[str, Any]] = []
    for size in SIZES:
        table = resize(securities, size)
        index = NameIndex(table)
        index.find_all(texts[:2000], days[:2000])
        row = {"names": size, "NameIndex, as of the day": rate(partial(index.find_all, texts, days), len(texts))}
        row |= {name: rate(run, len(texts)) for name, run in make_rivals(index.names, texts).items()}
        stage.append(row | {"nf.link": rate(partial(link, news, table), len(news))})
    print(f"\nBy names, news per second of {len(texts)} news, one process; nf.link builds its index anew each time:\n")
    print_table(pd.DataFrame(stage))
    whole = [
        {"news": count, "nf.link, news per second": rate(partial(link, news.iloc[:count], securities), count)}
        for count in (10_000, 20_000, 40_000, len(news))
    ]
    print("\nThe whole of nf.link by news:\n")
    print_table(pd.DataFrame(whole))


def resize(securities: pd.DataFrame, size: int) -> pd.DataFrame:
    """SECURITIES with so many names: some of the table's, or all of them and others made of random characters."""
    shorts = securities[securities["kind"] == "short"]
    if size <= len(shorts):
        return shorts.iloc[:: max(len(shorts) // size, 1)].head(size)
    letters = sorted({letter for name in shorts["value"] for letter in name if "\u4e00" <= letter <= "\u9fff"})
    draw = random.Random(0)
    made = ["".join(draw.choices(letters, k=4)) for _ in range(size - len(shorts))]
    others = pd.concat([shorts.iloc[:1]] * len(made), ignore_index=True).assign(value=made)
    return pd.concat([shorts, others]).drop_duplicates(["code", "kind", "value", "valid_from"])


def rate(run: Callable[[], object], count: int) -> int:
    """News per second of wall time, the better of two runs."""
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return round(count / min(seconds))


def make_rivals(names: list[str], texts: list[str]) -> dict[str, Callable[[], object]]:
    """The same names found by pyahocorasick (longest matches) and flashtext, without dates."""
    automaton = ahocorasick.Automaton()
    for name in names:
        automaton.add_word(name, name)
    automaton.make_automaton()
    processor = KeywordProcessor(case_sensitive=True)
    processor.non_word_boundaries = set()
    processor.add_keywords_from_list(names)
    return {
        "pyahocorasick": lambda: [list(automaton.iter_long(text)) for text in texts],
        "flashtext": lambda: [processor.extract_keywords(text) for text in texts],
    }


if __name__ == "__main__":
    main()
