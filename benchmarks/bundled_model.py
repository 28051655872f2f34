"""The bundled model beside TF-IDF + logistic regression on the labelled items of a news wire.

    python benchmarks/bundled_model.py DATA [--base FOLDER] [--adapter FOLDER] [--c 100] [--draws 1000]

DATA holds labels/train.parquet, labels/dev.parquet, master/*.parquet and seed_records.json; nothing of it
is printed but the seed records of the article. The baseline (character 1-3-grams, one logistic regression
per field) is refitted on labels/train in the same run; both are judged on labels/dev. Intervals are 95%
percentile intervals of a bootstrap over stories (items of one story are drawn together).
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from machine import describe_machine
from scipy import sparse
from scipy.stats import rankdata
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

import newsfactor as nf
from newsfactor.errors import AnswerFormatError
from newsfactor.prompting import MAX_STOCKS, NO_STOCKS, Answer, parse_answer
from newsfactor.schema import LEVELS, TIMEZONE
from newsfactor.securities import NameIndex
from newsfactor.tagging import BUNDLED, Tagger

FIELDS = ("event", "market", "industry", "sentiment")
# Agreement of two independent runs of the labelling on the same items (the data's README).
CONSISTENCY = {"event accuracy": 0.97, "market accuracy": 0.99, "industry accuracy": 0.97, "sentiment accuracy": 0.94}
# Items without a time are announcements of 2018 to 2020; only the names' validity depends on it.
UNDATED = pd.Timestamp("2019-12-31", tz=TIMEZONE)
SYSTEMS = ("model", "model with securities", "TF-IDF + logistic regression")


@dataclass(frozen=True)
class Answers:
    """One system's answers to the same items: labels, soft score (expected level) and names."""

    labels: pd.DataFrame
    score: np.ndarray
    stocks: list[list[str]]


def main() -> None:
    arguments = parse_arguments()
    began = time.perf_counter()
    print(describe_machine(), flush=True)
    train, dev = (pd.read_parquet(arguments.data / "labels" / f"{name}.parquet") for name in ("train", "dev"))
    news = make_news(dev)
    securities = read_known_securities(arguments.data)
    gold = Answers(
        dev[list(FIELDS)], dev["sentiment"].map(LEVELS).to_numpy(float), [split_names(s) for s in dev["stocks"]]
    )
    systems, speeds, invalid = {}, {}, {}
    if not arguments.no_model:
        tagger = Tagger.load(arguments.base, adapter=arguments.adapter, dtype=arguments.dtype)
        for name, known in (("model", None), ("model with securities", securities)):
            tags, speeds[name] = tag_timed(tagger, news, known)
            systems[name], invalid[name] = answers_of(tags), count_invalid(tags, tagger)
    systems[SYSTEMS[2]], speeds[SYSTEMS[2]] = run_baseline(train, dev, news, securities, arguments.c)
    stories = pd.factorize(nf.clean(news)["story_id"])[0]
    print(
        f"\n{len(dev)} items of labels/dev in {stories.max() + 1} stories, {len(train)} items of labels/train for the baseline\n"
    )
    print_table(compare(gold, systems, stories, arguments.draws, arguments.seed))
    print_speeds(speeds, invalid)
    if not arguments.no_model:
        print_size(tagger, arguments)
        print_seed_records(arguments.data / "seed_records.json", tagger)
    print(f"\nTotal {time.perf_counter() - began:.0f} s.")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="folder with labels/, master/ and seed_records.json")
    parser.add_argument("--base", help="base model; the bundled one if not given")
    parser.add_argument("--adapter", help="LoRA adapter; the bundled one with the bundled base")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="the processor's own if not given")
    parser.add_argument(
        "--c", type=float, default=100.0, help="inverse regularisation; 100 from 3-fold on labels/train"
    )
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap draws")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-model", action="store_true", help="the baseline alone")
    return parser.parse_args()


def print_table(frame: pd.DataFrame) -> None:
    """A frame in markdown; missing cells are empty."""
    print(frame.astype(object).where(frame.notna(), "").to_markdown(index=False, floatfmt=".4g"), flush=True)


def read_known_securities(data: Path) -> pd.DataFrame:
    """SECURITIES of the data's current table, observed names and Shenwan history."""
    master = data / "master"
    names, industries = master / "names_observed.parquet", master / "sw_industry_history.parquet"
    return nf.read_securities(master / "securities.parquet", names, industries)


def make_news(dev: pd.DataFrame) -> pd.DataFrame:
    """NEWS of the labelled items: the text, already joined, as content without a title."""
    times = dev["published_at"].dt.tz_convert(TIMEZONE).fillna(UNDATED)
    table = dev[["news_id"]].assign(published_at=times, title="", content=dev["text"], source="wire")
    return nf.read_news(table)


def split_names(text: str) -> list[str]:
    return [] if text == NO_STOCKS else text.split("、")


def tag_timed(tagger: Tagger, news: pd.DataFrame, securities: pd.DataFrame | None) -> tuple[pd.DataFrame, float]:
    """Tags and items per second; nothing is found in a journal."""
    began = time.perf_counter()
    tags = tagger.tag(news, securities=securities, cache=False, progress=False)
    return tags, len(news) / (time.perf_counter() - began)


def answers_of(tags: pd.DataFrame) -> Answers:
    return Answers(tags[list(FIELDS)], tags["score"].to_numpy(float), [list(names) for names in tags["stocks"]])


def count_invalid(tags: pd.DataFrame, tagger: Tagger) -> int:
    """Answer lines, of items that were answered, that the strict parser refuses or reads otherwise."""
    bad = 0
    answered = tags[tags["status"].isin(("ok", "truncated"))]
    for *labels, stocks in answered[[*FIELDS, "stocks"]].itertuples(index=False):
        answer = Answer(*labels, tuple(stocks))
        try:
            bad += parse_answer(str(answer), tagger.taxonomy) != answer
        except AnswerFormatError:
            bad += 1
    return bad


def make_vectorizer() -> TfidfVectorizer:
    """Character 1-3-grams, sublinear; also overnight.py's. A gram of one text alone is left out."""
    return TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True, min_df=2)


def run_baseline(
    train: pd.DataFrame, dev: pd.DataFrame, news: pd.DataFrame, securities: pd.DataFrame, c: float
) -> tuple[Answers, float]:
    """The baseline's answers and its items per second (fitting not counted)."""
    vectorizer = make_vectorizer()
    features = vectorizer.fit_transform(train["text"])
    fitted = {name: fit_field(features, train[name], c) for name in FIELDS}
    index = NameIndex(securities)
    began = time.perf_counter()
    wanted = vectorizer.transform(dev["text"])
    labels = pd.DataFrame({name: classifier.predict(wanted) for name, classifier in fitted.items()}, index=dev.index)
    levels = [LEVELS[label] for label in fitted["sentiment"].classes_]
    score = fitted["sentiment"].predict_proba(wanted) @ np.array(levels, dtype=float)
    days = news["available_at"].dt.tz_localize(None).dt.normalize()
    stocks = [find_names(index, text, day) for text, day in zip(dev["text"], days, strict=True)]
    return Answers(labels, score, stocks), len(dev) / (time.perf_counter() - began)


def fit_field(features: sparse.csr_matrix, labels: pd.Series, c: float) -> OneVsRestClassifier:
    """One logistic regression per label; their normalised probabilities are the field's."""
    one = LogisticRegression(C=c, solver="liblinear", dual=True, max_iter=100, random_state=0)
    with warnings.catch_warnings():
        # 100 passes are as accurate as 300 in 3-fold on labels/train.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return OneVsRestClassifier(one).fit(features, labels)


def find_names(index: NameIndex, text: str, day: pd.Timestamp) -> list[str]:
    """The names of the dictionary in the text, in order of appearance."""
    return list(dict.fromkeys(name for _, name in index.find(text, day)))[:MAX_STOCKS]


def compare(gold: Answers, systems: dict[str, Answers], stories: np.ndarray, draws: int, seed: int) -> pd.DataFrame:
    """Every figure of every system with its interval; the same draws for all."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(stories == story) for story in range(stories.max() + 1)]
    picks = [rng.integers(len(members), size=len(members)) for _ in range(draws)]
    samples = [np.concatenate([members[k] for k in pick]) for pick in picks]
    everything = np.arange(len(stories))
    columns = {}
    for name, answers in systems.items():
        figures = make_figures(gold, answers)
        columns[name] = [describe(figure, everything, samples) for figure in figures.values()]
    table = pd.DataFrame({"figure": list(make_figures(gold, gold)), **columns})
    table["labels' own consistency"] = [CONSISTENCY.get(name, np.nan) for name in table["figure"]]
    return table


def describe(figure: Callable[[np.ndarray], float], everything: np.ndarray, samples: list[np.ndarray]) -> str:
    low, high = np.nanpercentile([figure(rows) for rows in samples], [2.5, 97.5])
    return f"{figure(everything):.3f} ({low:.3f}–{high:.3f})"


def make_figures(gold: Answers, found: Answers) -> dict[str, Callable[[np.ndarray], float]]:
    """Name to function of item positions."""
    hits = {name: (gold.labels[name].to_numpy() == found.labels[name].to_numpy()) for name in FIELDS}
    levels = np.array([found.labels["sentiment"].map(LEVELS), gold.labels["sentiment"].map(LEVELS)], dtype=float)
    right = np.sign(levels[0]) == np.sign(levels[1])
    flipped = levels[0] * levels[1] < 0
    names = count_names(gold.stocks, found.stocks)
    exact = np.all(list(hits.values()), axis=0) & np.array(
        [a == b for a, b in zip(gold.stocks, found.stocks, strict=True)]
    )
    events = pd.factorize(pd.concat([gold.labels["event"], found.labels["event"]]))[0].reshape(2, -1)
    figures: dict[str, Callable[[np.ndarray], float]] = {}
    for name in FIELDS:
        figures[f"{name} accuracy"] = lambda rows, hit=hits[name]: float(hit[rows].mean())
        if name == "event":
            figures["event macro-F1"] = lambda rows: macro_f1(events[0][rows], events[1][rows])
    return figures | {
        "polarity accuracy (sign of the level)": lambda rows: float(right[rows].mean()),
        "sentiment quadratic weighted kappa": lambda rows: weighted_kappa(levels[1][rows], levels[0][rows]),
        "Spearman of the soft score with the level": lambda rows: spearman(found.score[rows], levels[1][rows]),
        "sign flips where the label is not neutral": lambda rows: float(flipped[rows][levels[1][rows] != 0].mean()),
        "stocks micro precision": lambda rows: ratio(names[rows, 0], names[rows, 1]),
        "stocks micro recall": lambda rows: ratio(names[rows, 0], names[rows, 2]),
        "stocks micro F1": lambda rows: ratio(2 * names[rows, 0], names[rows, 1] + names[rows, 2]),
        "all five fields exact": lambda rows: float(exact[rows].mean()),
    }


def count_names(gold: Sequence[list[str]], found: Sequence[list[str]]) -> np.ndarray:
    """Per item: names in both, names found, names in the label."""
    return np.array([(len(set(a) & set(b)), len(set(b)), len(set(a))) for a, b in zip(gold, found, strict=True)])


def ratio(part: np.ndarray, whole: np.ndarray) -> float:
    return float(part.sum() / whole.sum()) if whole.sum() else float("nan")


def macro_f1(gold: np.ndarray, found: np.ndarray) -> float:
    """Mean F1 over the labels that occur in the gold items."""
    size = int(max(gold.max(), found.max())) + 1
    both = np.bincount(gold[gold == found], minlength=size)
    total = np.bincount(gold, minlength=size) + np.bincount(found, minlength=size)
    present = np.bincount(gold, minlength=size) > 0
    return float((2 * both[present] / total[present]).mean())


def weighted_kappa(gold: np.ndarray, found: np.ndarray) -> float:
    """Quadratic weighted kappa: one less the squared distance over that of independent margins."""
    chance = gold.var() + found.var() + (gold.mean() - found.mean()) ** 2
    return float(1 - ((gold - found) ** 2).mean() / chance)


def spearman(left: np.ndarray, right: np.ndarray) -> float:
    """Pearson's correlation of average ranks."""
    return float(np.corrcoef(rankdata(left), rankdata(right))[0, 1])


def print_speeds(speeds: dict[str, float], invalid: dict[str, int]) -> None:
    rows = [{"system": k, "items per second": v, "invalid answers": str(invalid.get(k, ""))} for k, v in speeds.items()]
    print()
    print_table(pd.DataFrame(rows))


def print_size(tagger: Tagger, arguments: argparse.Namespace) -> None:
    """Parameters of the model in use and the bytes of its folders."""
    folders = [BUNDLED] if arguments.base is None else [Path(f) for f in (arguments.base, arguments.adapter) if f]
    size = sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())
    count = sum(parameter.numel() for parameter in tagger.decoder.model.parameters())
    named = "models/" if arguments.base is None else "the given folders"
    print(
        f"\n{count / 1e6:.2f} M parameters (adapter merged), {size / 2**20:.1f} MiB on disk ({named}), {tagger.decoder.model.dtype}."
    )


def print_seed_records(path: Path, tagger: Tagger) -> None:
    """The article's records: its label, its model's answer and ours, field by field."""
    records = json.loads(path.read_text(encoding="utf-8"))
    table = pd.DataFrame({"published_at": "2023-05-05", "title": "", "content": [r["input"] for r in records]})
    tags = tagger.tag(
        nf.read_news(table.assign(news_id=table.index.map(str)), timezone=TIMEZONE), cache=False, progress=False
    )
    rows, agreed = [], {"the article's model": [], "ours": []}
    for k, (record, tag) in enumerate(zip(records, tags.itertuples(index=False), strict=True)):
        ours = Answer(tag.event, tag.market, tag.industry, tag.sentiment, tuple(tag.stocks))
        label, theirs = parse_answer(record["output"]), record.get("article_model_predict")
        sides = {"label": label, "the article's model": parse_answer(theirs) if theirs else None, "ours": ours}
        rows += [describe_fields(k + 1, record["split"], *sides.values(), field=field) for field in (*FIELDS, "stocks")]
        for side in agreed:
            agreed[side] += [getattr(sides[side], f) == getattr(label, f) for f in (*FIELDS, "stocks") if theirs]
    print("\nThe article's records (its model answered the five test records):\n")
    print_table(pd.DataFrame(rows))
    print(
        "\nFields of the test records as labelled: " + ", ".join(f"{k} {sum(v)} of {len(v)}" for k, v in agreed.items())
    )


def describe_fields(number: int, split: str, label: Answer, theirs: Answer | None, ours: Answer, *, field: str) -> dict:
    values = [None if answer is None else _show(getattr(answer, field)) for answer in (label, theirs, ours)]
    same = "yes" if values[0] == values[2] else "no"
    return {"record": f"{number} ({split})", "field": field, "label": values[0], "article's model": values[1],
            "bundled model": values[2], "as labelled": same}  # fmt: skip


def _show(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else "、".join(value) or NO_STOCKS


if __name__ == "__main__":
    main()
