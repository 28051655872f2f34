"""What labels buy, and what size buys: models of three sizes that never saw a label, tuned on 100 to all of them.

    nice python benchmarks/learning_curve.py DATA WORK [--steps 1000] [--sizes 192x4,256x6,320x8] [--plot FILE]

The bundled base has read the labelled items, so that no honest curve can start from it. Here every size is pretrained
anew on the same tokens of the recipe's second stage, without labels and without guesses of a model that was fitted on
them; then a LoRA adapter of rank 32 is tuned on random labelled items, the same ones for all, beside TF-IDF + logistic
regression. The middle size is tuned on each number of labels, the others on all. Everything is judged on labels/dev, one
item a story, text alone. WORK keeps what is done; a killed run goes on from there.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
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
from newsfactor.training import fine_tune
from newsfactor.weights import BUNDLED, RECORD

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
from build_bundled_model import Rows, fall_by_cosine, make_model, pack_pieces, pretrain
from transformers import AutoTokenizer
from weak_labels import make_documents

FIELDS = ("event", "market", "industry", "sentiment")
FIGURES = {
    "event": ("event", "accuracy"), "market": ("market", "accuracy"), "industry": ("industry", "accuracy"),
    "level": ("sentiment", "accuracy"), "polarity": ("sentiment", "polarity_accuracy"), "kappa": ("sentiment", "kappa"),
    "Spearman": ("sentiment", "spearman"),
}  # fmt: skip
EPOCHS = {100: 20, 360: 8, 1000: 4}  # and one over all labels
BATCH = 16
BASELINE = "TF-IDF"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=1000, help="of pretraining, 4,096 tokens each")
    parser.add_argument("--sizes", default="192x4,256x6,320x8", help="width x layers; the second makes the curve")
    parser.add_argument("--labels", default="100,360,1000", help="numbers of labels below all")
    parser.add_argument("--until", default="2026-07-26", help="first day that enters no step")
    parser.add_argument("--plot", type=Path, help="write the curve there, as PNG")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    print(describe_machine(), flush=True)
    options.work.mkdir(parents=True, exist_ok=True)
    judge = Judge(options)
    sizes = options.sizes.split(",")
    numbers = [*map(int, options.labels.split(",")), len(judge.train)]
    rows = [judge.measure_baseline(number) for number in numbers]
    for size in (sizes[1], sizes[0], *sizes[2:]):
        rows += [judge.measure_model(size, number) for number in (numbers if size == sizes[1] else numbers[-1:])]
    table = pd.DataFrame(rows)
    print_table(table)
    if options.plot:
        plot_curve(table, middle=sizes[1]).savefig(options.plot, dpi=150)


class Judge:
    """The labels, the development split, and what was measured so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.train = pd.read_parquet(options.data / "labels" / "train.parquet").drop(columns="news_id")
        self.order = np.random.default_rng(options.seed).permutation(len(self.train))
        self.dev = once_a_story(pd.read_parquet(options.data / "labels" / "dev.parquet"))
        self.news = make_news(self.dev)
        self.gold = self.dev[["news_id", "text", *FIELDS]].assign(stocks=self.dev["stocks"].map(split_names))
        self.tokenizer = AutoTokenizer.from_pretrained(BUNDLED / "base", use_safetensors=True)

    def choose(self, number: int) -> pd.DataFrame:
        return self.train.iloc[np.sort(self.order[:number])]

    def score(self, tags: pd.DataFrame) -> dict[str, float]:
        card = nf.score_tags(self.gold, tags, repeats=0)
        return {name: card.value(*figure) for name, figure in FIGURES.items()}

    def measure_baseline(self, number: int) -> dict[str, object]:
        known = NameIndex(read_known_securities(self.options.data))
        days = self.news["available_at"].dt.tz_localize(None).dt.normalize()
        tags, _ = run_baseline(self.choose(number), self.dev, known, days, 100.0)
        return {"system": BASELINE, "labels": number, **self.score(tags)}

    def measure_model(self, size: str, number: int) -> dict[str, object]:
        adapter = self.options.work / f"{size}-{number}"
        kept = self.options.work / f"{size}-{number}.json"
        if not kept.exists():
            base = self.pretrain(size)
            fine_tune(
                self.choose(number), adapter, base=base, held_out=0, rank=32, seed=self.options.seed, progress=False,
                num_train_epochs=EPOCHS.get(number, 1), learning_rate=1e-3, per_device_train_batch_size=BATCH,
                gradient_accumulation_steps=1, warmup_steps=20, bf16=True, use_cpu=True,
                train_sampling_strategy="group_by_length",
            )  # fmt: skip
            tagger = Tagger.load(base, adapter=adapter)
            began = time.perf_counter()
            tags = tagger.tag(self.news, cache=False, progress=False)
            speed = len(self.news) / (time.perf_counter() - began)
            count = sum(parameter.numel() for parameter in tagger.decoder.model.parameters())
            bytes_ = sum(file.stat().st_size for folder in (base, adapter) for file in folder.rglob("*.*"))
            row = {
                "system": size, "labels": number, **self.score(tags), "items per second": round(speed, 1),
                "M parameters": round(count / 1e6, 2), "MiB of base and adapter": round(bytes_ / 2**20, 1),
            }  # fmt: skip
            kept.write_text(json.dumps(row), encoding="utf-8")
            logging.info("%s", row)
        return json.loads(kept.read_text(encoding="utf-8"))

    def pretrain(self, size: str) -> Path:
        """A base of that size on the tokens that all sizes read."""
        folder = self.options.work / f"{size}-base"
        if (folder / RECORD).exists():
            return folder
        width, layers = map(int, size.split("x"))
        model = make_model(len(self.tokenizer), argparse.Namespace(width=width, layers=layers, seed=self.options.seed))
        checkpoint = self.options.work / f"{size}.pt"
        pretrain(model, self.pack(), checkpoint, rate=2e-3, batch=BATCH, decay=fall_by_cosine, share=0.35)
        model.to(torch.bfloat16).save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        (folder / RECORD).write_text(json.dumps({"trained_through": self.options.until}), encoding="utf-8")
        return folder

    def pack(self) -> Rows:
        kept = self.options.work / "rows.npz"
        if not kept.exists():
            until = pd.Timestamp(self.options.until, tz="Asia/Shanghai")
            documents = make_documents(self.options.data, until, self.options.seed, labels=None)
            rows = pack_pieces(self.tokenizer, documents, self.options.steps * BATCH)
            np.savez(kept, **rows._asdict())
            logging.info("%d documents, %d rows of tokens", len(documents), len(rows.ids))
        return Rows(**np.load(kept))


def plot_curve(table: pd.DataFrame, *, middle: str) -> Figure:
    """Accuracy by the number of labels, one panel for each of four figures."""
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    for axes, name in zip(figure.subplots(1, 4), ("event", "industry", "level", "kappa"), strict=True):
        for system, label, colour in (
            (BASELINE, "TF-IDF + logistic regression", "#8a8f98"),
            (middle, "model", "#1f5f8b"),
        ):
            rows = table[table["system"] == system]
            axes.plot(rows["labels"], rows[name], marker="o", color=colour, label=label)
        axes.set_xscale("log")
        axes.set_xticks(rows["labels"], rows["labels"].astype(str), fontsize=7)
        axes.minorticks_off()
        axes.set_title({"level": "sentiment level", "kappa": "sentiment, weighted kappa"}.get(name, name), fontsize=9)
        axes.set_xlabel("labels")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize=7)
    return figure


if __name__ == "__main__":
    main()
