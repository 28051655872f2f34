"""The bundled model beside TF-IDF + logistic regression on the labelled items of a news wire.

    python benchmarks/bundled_model.py DATA [--base FOLDER] [--adapter FOLDER] [--c 100] [--draws 1000]

DATA holds labels/, wire/, master/ and seed_records.json; nothing of it is printed but the seed records of the article.
The baseline (character 1-3-grams, one logistic regression per field) is refitted in the same run, on labels/train and on
all that the model learned from, scripts/annotations.csv.gz with it, and there once more with the model's rule for the
level of sentiment, which is otherwise the likeliest; all are judged on labels/dev, each story once. Intervals are 95%
percentile intervals of a bootstrap over stories. With securities given, stocks are judged against the labels that are
names of mainland or Hong Kong shares, of the model as of the dictionary; text alone against all. What is tuned (the
temperature, the thresholds of the extremes) is fitted on four fifths of the stories and judged on the fifth.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from machine import describe_machine
from scipy.optimize import minimize_scalar
from sklearn.metrics import cohen_kappa_score

import newsfactor as nf
from newsfactor.decoding import choose_label
from newsfactor.errors import AnswerFormatError
from newsfactor.prompting import MAX_STOCKS, NO_STOCKS, Answer, parse_answer
from newsfactor.schema import LEVELS, PROBABILITIES, SENTIMENTS, TIMEZONE
from newsfactor.scoring import Scorecard
from newsfactor.securities import NameIndex
from newsfactor.tagging import Tagger
from newsfactor.weights import BUNDLED

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
from weak_labels import UNDATED, fit_field, make_key, make_vectorizer, read_annotations, read_known_securities

FIELDS = ("event", "market", "industry", "sentiment")
# Agreement of two independent runs of the labelling on the same items (the data's README).
CONSISTENCY = {"event": 0.97, "market": 0.99, "industry": 0.97, "sentiment": 0.94, "stocks": 0.98}
# Items of labels/train that were annotated again, blindly, in the form of the annotations.
REPEATED = Path(__file__).parent / "annotations_repeated.csv.gz"
UNTIL = pd.Timestamp("2026-07-26", tz=TIMEZONE)  # the first day that entered no step of the training
BASELINE, FEWER = "TF-IDF + logistic regression", "TF-IDF, labels/train alone"
NEAREST = "TF-IDF, level nearest the mean"  # the model's rule for the level
ALONE, GIVEN = "model, text alone", "model, securities given"
LISTED = (BASELINE, FEWER, NEAREST, GIVEN)  # whose stocks are names of mainland or Hong Kong shares
FIGURES = (
    ("event", "accuracy"), ("event", "macro_f1"), ("market", "accuracy"), ("industry", "accuracy"),
    ("sentiment", "accuracy"), ("sentiment", "polarity_accuracy"), ("sentiment", "kappa"), ("sentiment", "spearman"),
    ("sentiment", "sign_flips"), ("sentiment", "within_one_level"), ("sentiment", "extremes_recall"), ("sentiment", "rps"),
    ("event", "calibration_error"), ("market", "calibration_error"), ("industry", "calibration_error"),
    ("sentiment", "calibration_error"), ("stocks", "precision"), ("stocks", "recall"), ("stocks", "f1"),
    ("answer", "exact_match"), ("answer", "invalid_rate"),
)  # fmt: skip
BY_SOURCE = (("event", "accuracy"), ("market", "accuracy"), ("industry", "accuracy"), ("sentiment", "accuracy"), ("sentiment", "kappa"), ("stocks", "f1"))  # fmt: skip


def main() -> None:
    arguments = parse_arguments()
    began = time.perf_counter()
    print(describe_machine(), flush=True)
    train, dev = (pd.read_parquet(arguments.data / "labels" / f"{name}.parquet") for name in ("train", "dev"))
    securities = read_known_securities(arguments.data)
    dev = once_a_story(dev)
    news = make_news(dev)
    gold = dev[["news_id", "text", *FIELDS]].assign(stocks=[split_names(cell) for cell in dev["stocks"]])
    known = NameIndex(securities)
    days = news["available_at"].dt.tz_localize(None).dt.normalize()
    listed = gold.assign(stocks=[[n for n in names if known.resolve(n, day)] for names, day in zip(gold["stocks"], days, strict=True)])  # fmt: skip
    learned = pd.concat([train, read_annotations(arguments.data, UNTIL)], ignore_index=True)
    print(
        f"\n{len(dev)} items of labels/dev, one a story; {len(train)} items of labels/train, {len(learned)} with the"
        " annotations\n",
        flush=True,
    )
    print_agreement(train, read_annotations(arguments.data, UNTIL, REPEATED))
    tags, speeds = {}, {}
    for name, labels in ((FEWER, train), (BASELINE, learned)):
        tags[name], speeds[name] = run_baseline(labels, dev, known, days, arguments.c)
    nearest = [SENTIMENTS[choose_label("sentiment", q)] for q in tags[BASELINE][list(PROBABILITIES)].to_numpy()]
    tags[NEAREST] = tags[BASELINE].assign(sentiment=nearest)
    if not arguments.no_model:
        tagger = Tagger.load(arguments.base, adapter=arguments.adapter, dtype=arguments.dtype)
        for name, given in ((ALONE, None), (GIVEN, securities)):
            tags[name], speeds[name] = tag_timed(tagger, news, given)
    cards = {
        name: nf.score_tags(listed if name in LISTED else gold, frame, repeats=arguments.draws)
        for name, frame in tags.items()
    }
    print_table(compare(cards))
    print_table(
        pd.DataFrame([tune_levels(name, gold, frame) for name, frame in tags.items()]), head="\nCross-fitted by story"
    )
    for name, frame in tags.items():
        print_by_source(name, listed if name in LISTED else gold, frame)
    print_table(pd.DataFrame({"system": speeds.keys(), "items per second": speeds.values()}), head="\nSpeed")
    if not arguments.no_model:
        print(f"\n{sum(count_invalid(tags[name], tagger) for name in (ALONE, GIVEN))} invalid answers.")
        print_size(tagger, arguments)
        print_seed_records(arguments.data / "seed_records.json", tagger)
    print(f"\nTotal {time.perf_counter() - began:.0f} s.")


def print_agreement(train: pd.DataFrame, repeated: pd.DataFrame) -> None:
    """How often the annotations of labelled items agree with their labels."""
    both = repeated.assign(key=repeated["text"].map(make_key)).merge(
        train.assign(key=train["text"].map(make_key)).drop_duplicates("key"), on="key", suffixes=("", "_label")
    )
    shares = {field: (both[field] == both[f"{field}_label"]).mean() for field in (*FIELDS, "stocks")}
    levels = [both[column].map(LEVELS) for column in ("sentiment_label", "sentiment")]
    shares["kappa of the level"] = cohen_kappa_score(*levels, weights="quadratic")
    print_table(pd.DataFrame([{"items": len(both)} | shares]), head="Annotations of labelled items, agreement")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="folder with labels/, wire/, master/ and seed_records.json")
    parser.add_argument("--base", help="base model; the bundled one if not given")
    parser.add_argument("--adapter", help="LoRA adapter; the bundled one with the bundled base")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="the processor's own if not given")
    parser.add_argument(
        "--c", type=float, default=100.0, help="inverse regularisation; 100 from 3-fold on labels/train"
    )
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap draws")
    parser.add_argument("--no-model", action="store_true", help="the baseline alone")
    return parser.parse_args()


def print_table(frame: pd.DataFrame, head: str = "") -> None:
    """A frame in markdown; missing cells are empty."""
    print(f"{head}\n" if head else "", end="\n" if head else "")
    print(frame.astype(object).where(frame.notna(), "").to_markdown(index=False, floatfmt=".4g"), flush=True)


def once_a_story(dev: pd.DataFrame) -> pd.DataFrame:
    story = nf.clean(make_news(dev))["story_id"].to_numpy()
    return dev[~pd.Series(story).duplicated().to_numpy()].reset_index(drop=True)


def make_news(dev: pd.DataFrame) -> pd.DataFrame:
    """NEWS of the labelled items: the text, already joined, as content without a title."""
    times = dev["published_at"].dt.tz_convert(TIMEZONE).fillna(UNDATED)
    source = dev["news_id"].str.split("-").str[0]
    return nf.read_news(dev[["news_id"]].assign(published_at=times, title="", content=dev["text"], source=source))


def split_names(text: str) -> list[str]:
    return [] if text == NO_STOCKS else text.split("、")


def tag_timed(tagger: Tagger, news: pd.DataFrame, securities: pd.DataFrame | None) -> tuple[pd.DataFrame, float]:
    """Tags and items per second; nothing is found in a journal."""
    began = time.perf_counter()
    tags = tagger.tag(news, securities=securities, cache=False, progress=False)
    return tags, len(news) / (time.perf_counter() - began)


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


def run_baseline(
    train: pd.DataFrame, dev: pd.DataFrame, index: NameIndex, days: pd.Series, c: float
) -> tuple[pd.DataFrame, float]:
    """The baseline's tags, with the dictionary's names, and its items per second (fitting not counted)."""
    vectorizer = make_vectorizer()
    features = vectorizer.fit_transform(train["text"])
    fitted = {name: fit_field(features, train[name], c) for name in FIELDS}
    began = time.perf_counter()
    wanted = vectorizer.transform(dev["text"])
    tags = dev[["news_id", "text"]].assign(status="ok")
    for name, model in fitted.items():
        share = model.predict_proba(wanted)
        tags[name] = model.classes_[share.argmax(axis=1)]
        if name == "sentiment":
            levels = share[:, [list(model.classes_).index(label) for label in SENTIMENTS]]
            tags[list(PROBABILITIES)] = levels
            tags["score"] = levels @ np.array(list(LEVELS.values()), dtype=float)
        else:
            tags[f"p_{name}"] = share.max(axis=1)
    tags["stocks"] = [find_names(index, text, day) for text, day in zip(dev["text"], days, strict=True)]
    return tags, len(dev) / (time.perf_counter() - began)


def find_names(index: NameIndex, text: str, day: pd.Timestamp) -> list[str]:
    """The names of the dictionary in the text, in order of appearance."""
    return list(dict.fromkeys(name for _, name in index.find(text, day)))[:MAX_STOCKS]


def compare(cards: dict[str, Scorecard]) -> pd.DataFrame:
    """Every figure of every system with its interval, side by side."""
    rows = []
    for field, metric in FIGURES:
        row = {"field": field, "figure": metric.replace("_", " ")}
        row |= {name: describe(card, field, metric) for name, card in cards.items()}
        same = {"accuracy"} if field != "stocks" else {"f1"}
        rows.append(row | {"labels' own consistency": CONSISTENCY[field] if metric in same else None})
    return pd.DataFrame(rows)


def describe(card: Scorecard, field: str, metric: str) -> str:
    row = card.figures[(card.figures["field"] == field) & (card.figures["metric"] == metric)].iloc[0]
    return "" if pd.isna(row["value"]) else f"{row['value']:.3f} ({row['low']:.3f}–{row['high']:.3f})"


def tune_levels(name: str, gold: pd.DataFrame, tags: pd.DataFrame, folds: int = 5) -> dict[str, object]:
    """Recall of the extremes at thresholds that name as many as the labels do, and the calibration with a temperature."""
    levels = tags[list(PROBABILITIES)].to_numpy(float)
    truth = gold["sentiment"].map(list(SENTIMENTS).index).to_numpy()
    fold = np.random.default_rng(0).permutation(len(gold)) % folds
    found, named, scaled = np.zeros(len(gold), bool), np.zeros(len(gold), bool), levels.copy()
    temperatures = []
    for k in range(folds):
        fit, judge = fold != k, fold == k
        for extreme in (0, 6):
            wanted = (truth[fit] == extreme).sum()
            threshold = np.sort(levels[fit, extreme])[-wanted]
            named[judge] |= levels[judge, extreme] >= threshold
            found[judge] |= (levels[judge, extreme] >= threshold) & (truth[judge] == extreme)
        temperature = minimize_scalar(lambda t, fit=fit: loss_at(levels[fit], truth[fit], t), bounds=(0.3, 5), method="bounded").x  # fmt: skip
        temperatures.append(temperature)
        scaled[judge] = soften(levels[judge], temperature)
    extreme = np.isin(truth, (0, 6))
    card = nf.score_tags(gold, tags.assign(**dict(zip(PROBABILITIES, scaled.T, strict=True))))
    return {
        "system": name, "recall of the extremes": found[extreme].mean(), "their precision": found.sum() / named.sum(),
        "temperature": float(np.mean(temperatures)), "sentiment calibration error": describe(card, "sentiment", "calibration_error"),
    }  # fmt: skip


def soften(levels: np.ndarray, temperature: float) -> np.ndarray:
    powered = np.clip(levels, 1e-12, 1) ** (1 / temperature)
    return powered / powered.sum(axis=1, keepdims=True)


def loss_at(levels: np.ndarray, truth: np.ndarray, temperature: float) -> float:
    return float(-np.log(soften(levels, temperature)[np.arange(len(truth)), truth]).mean())


def print_by_source(name: str, gold: pd.DataFrame, tags: pd.DataFrame) -> None:
    source = gold["news_id"].str.split("-").str[0]
    rows = []
    for chosen, part in gold.groupby(source):
        card = nf.score_tags(part, tags[tags["news_id"].isin(part["news_id"])], repeats=0)
        rows.append({"source": chosen, "items": len(part)} | {f"{f} {m}": card.value(f, m) for f, m in BY_SOURCE})
    print_table(pd.DataFrame(rows), head=f"\nBy source: {name}")


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
    print_table(pd.DataFrame(rows), head="\nThe article's records (its model answered the five test records)")
    print(
        "\nFields of the test records as labelled: " + ", ".join(f"{k} {sum(v)} of {len(v)}" for k, v in agreed.items())
    )


def describe_fields(number: int, split: str, label: Answer, theirs: Answer | None, ours: Answer, *, field: str) -> dict:
    values = [None if answer is None else _show(getattr(answer, field)) for answer in (label, theirs, ours)]
    same = "yes" if values[0] == values[2] else "no"
    return {"record": f"{number} ({split})", "field": field, "label": values[0], "article's model": values[1],
            "bundled model": values[2], "as labelled": same}  # fmt: skip


def _show(value: str | Sequence[str]) -> str:
    return value if isinstance(value, str) else "、".join(value) or NO_STOCKS


if __name__ == "__main__":
    main()
