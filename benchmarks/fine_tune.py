"""Fine-tuning the bundled base on the sample labels, beside TF-IDF; then merged, reloaded and compared.

    python benchmarks/fine_tune.py [--train data/labels_train.json] [--test data/labels_test.json] [--keep FOLDER]

Three models on the same test part: TF-IDF + logistic regression fitted on the training part; the bundled base with a
LoRA by the article's recipe; and with a recipe for small models (rank 32, learning rate 1e-3, batch 16, 8 epochs). The
bundled adapter, which saw neither part, stands beside them. Each adapter is then merged in float32 and in bfloat16,
written, reloaded, and must give the same labels as base and adapter.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
from bundled_model import fit_field, make_vectorizer, print_table
from machine import describe_machine

import newsfactor as nf
from newsfactor.comparison import compare_tags
from newsfactor.labels import read_labels
from newsfactor.schema import LEVELS, TIMEZONE
from newsfactor.scoring import CLOSED, Scorecard, score_tags
from newsfactor.tagging import Tagger
from newsfactor.training import ARTICLE_RECIPE

SMALL_RECIPE = {
    "rank": 32, "num_train_epochs": 8, "learning_rate": 1e-3, "per_device_train_batch_size": 16,
    "gradient_accumulation_steps": 1,
}  # fmt: skip
FIGURES = (
    ("event", "accuracy"), ("event", "macro_f1"), ("market", "accuracy"), ("industry", "accuracy"), ("sentiment", "accuracy"),
    ("sentiment", "polarity_accuracy"), ("sentiment", "sign_flips"), ("sentiment", "kappa"), ("sentiment", "spearman"), ("stocks", "f1"),
    ("answer", "exact_match"), ("answer", "invalid_rate"),
)  # fmt: skip
ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--train", type=Path, default=ROOT / "data" / "labels_train.json")
    parser.add_argument("--test", type=Path, default=ROOT / "data" / "labels_test.json")
    parser.add_argument("--keep", type=Path, help="keep adapters and loss plots there")
    options = parser.parse_args()
    print(describe_machine(), flush=True)
    train, gold = read_labels(options.train), read_labels(options.test)
    gold["news_id"] = gold.index.map(str)
    news = make_news(gold)
    folder = options.keep or Path(tempfile.mkdtemp())
    recipes: dict[str, dict[str, Any]] = {"article's recipe": ARTICLE_RECIPE, "small-model recipe": SMALL_RECIPE}
    cards = {"TF-IDF + logistic regression": score_tags(gold, run_baseline(train, gold))}
    print(f"\n{len(train)} records to train on, {len(gold)} to test on", flush=True)
    rows, same = [], []
    for name, recipe in recipes.items():
        target = folder / name.replace(" ", "-").replace("'", "")
        began = time.perf_counter()
        nf.fine_tune(options.train, target, held_out=options.test, progress=False, **recipe)
        took = time.perf_counter() - began
        record = json.loads((target / "newsfactor.json").read_text(encoding="utf-8"))
        rows += [{"recipe": name, "seconds": took, "last loss": record["losses"][-1]} | {"epoch": e["epoch"], "held-out mean": e["eval_mean"]} for e in record["epochs"]]  # fmt: skip
        cards[name] = Scorecard.from_dict(json.loads((target / "scorecard.json").read_text(encoding="utf-8")))
        same += compare_merged(target, news, name)
    cards["bundled adapter"] = score_tags(gold, Tagger.load().tag(news, cache=False, progress=False))
    print("\nEpochs (mean of event, market and industry accuracy, sentiment kappa and stocks F1)\n")
    print_table(pd.DataFrame(rows))
    print("\nOn the test part\n")
    print_table(pd.DataFrame([{"field": f, "figure": m} | {name: describe(card, f, m) for name, card in cards.items()} for f, m in FIGURES]))  # fmt: skip
    print("\nBase and adapter against the merged and reloaded checkpoint\n")
    print_table(pd.DataFrame(same))
    if options.keep is None:
        shutil.rmtree(folder)


def make_news(gold: pd.DataFrame) -> pd.DataFrame:
    """NEWS whose text is the labelled one."""
    table = pd.DataFrame(
        {"news_id": gold["news_id"], "published_at": "2026-07-01", "title": "", "content": gold["text"]}
    )
    return nf.read_news(table, timezone=TIMEZONE)


def run_baseline(train: pd.DataFrame, gold: pd.DataFrame) -> pd.DataFrame:
    """Tags of the baseline; its stocks are the names of the training labels that stand in the text."""
    vectorizer = make_vectorizer()
    features, wanted = vectorizer.fit_transform(train["text"]), vectorizer.transform(gold["text"])
    tags = gold[["news_id", "text"]].copy()
    for field in CLOSED:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = fit_field(features, train[field], 100.0)
        tags[field] = model.predict(wanted)
        if field == "sentiment":
            tags["score"] = model.predict_proba(wanted) @ [float(LEVELS[label]) for label in model.classes_]
    known = sorted({name for names in train["stocks"] for name in names})
    tags["stocks"] = [[name for name in known if name in text] for text in gold["text"]]
    return tags.assign(status="ok")


def describe(card: Scorecard, field: str, metric: str) -> str:
    row = card.figures[(card.figures["field"] == field) & (card.figures["metric"] == metric)].iloc[0]
    return "" if pd.isna(row["value"]) else f"{row['value']:.3f} ({row['low']:.3f}–{row['high']:.3f})"


def compare_merged(adapter: Path, news: pd.DataFrame, name: str) -> list[dict[str, Any]]:
    rows = []
    for dtype in ("float32", "bfloat16"):
        with tempfile.TemporaryDirectory() as folder:
            merged = nf.merge_adapter(None, adapter, Path(folder) / "merged", dtype=dtype)
            base = Path(nf.__file__).parent / "models" / "base"
            pair = [
                tagger.tag(news, cache=False, progress=False)
                for tagger in (Tagger.load(base, adapter=adapter, dtype=dtype), Tagger.load(merged, dtype=dtype))
            ]
        found = compare_tags(*pair)
        gap = (pair[0]["score"] - pair[1]["score"]).abs().max()
        rows.append({"adapter": name, "dtype": dtype, "equal labels": found.agreement, "largest gap of the score": gap})
    return rows


if __name__ == "__main__":
    main()
