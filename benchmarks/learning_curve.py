"""What labels buy: a model of the bundled size that never saw a label, then taught 100 to all of them.

    nice python benchmarks/learning_curve.py DATA WORK [--steps 2400] [--plot FILE]

The bundled base has read the labelled items, so that no honest curve can start from it. Here one is pretrained anew on
the news of the recipe's second stage, without labels and without guesses of a model that was fitted on them; then it reads
random labelled items of labels/train as the recipe does, as documents, beside TF-IDF + logistic regression on the same
ones. Everything is judged on labels/dev, one item a story, text alone. WORK keeps what is done; a killed run goes on
from there.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from bundled_model import make_news, once_a_story, print_table, read_known_securities, run_baseline, split_names
from machine import describe_machine
from matplotlib.figure import Figure

import newsfactor as nf
from newsfactor.securities import NameIndex
from newsfactor.tagging import Tagger
from newsfactor.weights import BUNDLED, RECORD

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
from build_bundled_model import Rows, fall_by_cosine, make_model, pack_pieces, pretrain
from transformers import AutoTokenizer, LlamaForCausalLM
from weak_labels import gold_documents, make_documents, read_labels, shuffle

FIELDS = ("event", "market", "industry", "sentiment")
FIGURES = {
    "event": ("event", "accuracy"), "market": ("market", "accuracy"), "industry": ("industry", "accuracy"),
    "level": ("sentiment", "accuracy"), "polarity": ("sentiment", "polarity_accuracy"), "kappa": ("sentiment", "kappa"),
    "Spearman": ("sentiment", "spearman"),
}  # fmt: skip
EPOCHS = {100: 40, 360: 20, 1000: 8}  # and two over all labels
BATCH = 16
BASELINE, MODEL = "TF-IDF", "model"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=2400, help="of pretraining, 5,120 tokens each")
    parser.add_argument("--labels", default="100,360,1000", help="numbers of labels below all")
    parser.add_argument("--until", default="2026-07-26", help="first day that enters no step")
    parser.add_argument("--plot", type=Path, help="write the curve there, as PNG")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    print(describe_machine(), flush=True)
    options.work.mkdir(parents=True, exist_ok=True)
    judge = Judge(options)
    numbers = [*map(int, options.labels.split(",")), len(judge.labels)]
    table = pd.DataFrame([measure(n) for measure in (judge.measure_baseline, judge.measure_model) for n in numbers])
    print_table(table)
    if options.plot:
        plot_curve(table).savefig(options.plot, dpi=150)


class Judge:
    """The labels, the development split, and what was measured so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        train = read_labels(options.data)
        self.labels = train.iloc[np.random.default_rng(options.seed).permutation(len(train))]
        self.dev = once_a_story(pd.read_parquet(options.data / "labels" / "dev.parquet"))
        self.news = make_news(self.dev)
        self.gold = self.dev[["news_id", "text", *FIELDS]].assign(stocks=self.dev["stocks"].map(split_names))
        self.securities = read_known_securities(options.data)
        self.tokenizer = AutoTokenizer.from_pretrained(BUNDLED / "base", use_safetensors=True)

    def choose(self, number: int) -> pd.DataFrame:
        return self.labels.iloc[:number]

    def score(self, tags: pd.DataFrame) -> dict[str, float]:
        card = nf.score_tags(self.gold, tags, repeats=0)
        return {name: card.value(*figure) for name, figure in FIGURES.items()}

    def measure_baseline(self, number: int) -> dict[str, object]:
        known = NameIndex(self.securities)
        days = self.news["available_at"].dt.tz_localize(None).dt.normalize()
        tags, _ = run_baseline(self.choose(number), self.dev, known, days, 100.0)
        return {"system": BASELINE, "labels": number, **self.score(tags)}

    def measure_model(self, number: int) -> dict[str, object]:
        folder = self.options.work / f"labels-{number}"
        if not (folder / RECORD).exists():
            model = LlamaForCausalLM.from_pretrained(self.pretrain(), use_safetensors=True, dtype=torch.float32)
            rng = np.random.default_rng(self.options.seed)
            documents = gold_documents(self.choose(number), self.securities)[::2]
            rows = pack_pieces(
                self.tokenizer, [d for _ in range(EPOCHS.get(number, 2)) for d in shuffle(documents, rng)], 10**9
            )
            checkpoint = self.options.work / f"labels-{number}.pt"
            pretrain(model, rows, checkpoint, rate=1e-3, batch=BATCH, decay=fall_by_cosine, share=0.35)
            self.save(model, folder)
        tags = Tagger.load(folder).tag(self.news, cache=False, progress=False)
        return {"system": MODEL, "labels": number, **self.score(tags)}

    def pretrain(self) -> Path:
        """The base without labels."""
        folder = self.options.work / "base"
        if (folder / RECORD).exists():
            return folder
        model = make_model(len(self.tokenizer), argparse.Namespace(width=256, layers=6, seed=self.options.seed))
        checkpoint = self.options.work / "base.pt"
        pretrain(model, self.pack(), checkpoint, rate=2e-3, batch=BATCH, decay=fall_by_cosine, share=0.35)
        self.save(model, folder)
        return folder

    def save(self, model: LlamaForCausalLM, folder: Path) -> None:
        model.to(torch.bfloat16).save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        (folder / RECORD).write_text(json.dumps({"trained_through": self.options.until}), encoding="utf-8")

    def pack(self) -> Rows:
        kept = self.options.work / "rows.npz"
        if not kept.exists():
            until = pd.Timestamp(self.options.until, tz="Asia/Shanghai")
            documents = make_documents(self.options.data, until, self.options.seed, labels=None)
            rows = pack_pieces(self.tokenizer, documents, self.options.steps * BATCH)
            np.savez(kept, **rows._asdict())
            logging.info("%d documents, %d rows of tokens", len(documents), len(rows.ids))
        return Rows(**np.load(kept))


def plot_curve(table: pd.DataFrame) -> Figure:
    """Accuracy by the number of labels, one panel for each of four figures."""
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    for axes, name in zip(figure.subplots(1, 4), ("event", "industry", "level", "kappa"), strict=True):
        for system, label, colour in (
            (BASELINE, "TF-IDF + logistic regression", "#8a8f98"),
            (MODEL, "model of the bundled size", "#1f5f8b"),
        ):
            rows = table[table["system"] == system]
            axes.plot(rows["labels"], rows[name], marker="o", color=colour, label=label)
        axes.set_xscale("log")
        numbers = sorted(set(table["labels"]))
        axes.set_xticks(numbers, [f"{number:,}" for number in numbers], fontsize=6)
        axes.minorticks_off()
        axes.set_title({"level": "sentiment level", "kappa": "sentiment, weighted kappa"}.get(name, name), fontsize=9)
        axes.set_xlabel("labels")
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=8
    )
    return figure


if __name__ == "__main__":
    main()
