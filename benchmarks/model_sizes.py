"""What depth buys: the bundled base with fewer and with more layers, each trained on the same labelled items.

    nice python benchmarks/model_sizes.py DATA WORK [--layers 4,6,8] [--steps 200]

A shallower model keeps the bundled base's first and last layers and an even choice of those between. A deeper one gets
layers that add nothing at first (their outputs' weights are zero), so that it begins where the bundled base stands. All
read the same rows of labelled items in the same order, without an adapter, and are judged on labels/dev, one item a
story, text alone. Speed is the median of three runs over these items, the models in turn. WORK keeps the checkpoints; a
killed run goes on from there.
"""

from __future__ import annotations

import argparse
import copy
import logging
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from bundled_model import FIGURES, make_news, once_a_story, print_table, split_names
from machine import describe_machine

import newsfactor as nf
from newsfactor.tagging import Tagger
from newsfactor.weights import BUNDLED, RECORD

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
from build_bundled_model import fall_by_cosine, pack_pieces, pretrain
from transformers import AutoTokenizer, LlamaForCausalLM
from weak_labels import FIELDS, gold_documents, read_annotations, read_known_securities, read_labels, shuffle

BATCH = 16
REPEATS = 3
SHOWN = ("event accuracy", "market accuracy", "industry accuracy", "sentiment accuracy", "sentiment polarity_accuracy",
         "sentiment kappa", "sentiment spearman", "answer exact_match")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--layers", default="4,6,8")
    parser.add_argument("--steps", type=int, default=200, help="5,120 tokens each")
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--until", default="2026-07-26", help="first day that enters no step")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    print(describe_machine(), flush=True)
    options.work.mkdir(parents=True, exist_ok=True)
    bases = {int(layers): train(int(layers), options) for layers in options.layers.split(",")}
    taggers = {layers: Tagger.load(base) for layers, base in bases.items()}
    dev = once_a_story(pd.read_parquet(options.data / "labels" / "dev.parquet"))
    news = make_news(dev)
    gold = dev[["news_id", "text", *FIELDS]].assign(stocks=dev["stocks"].map(split_names))
    took: dict[int, list[float]] = {layers: [] for layers in taggers}
    tags = {}
    for _ in range(REPEATS):
        for layers, tagger in taggers.items():
            began = time.perf_counter()
            tags[layers] = tagger.tag(news, cache=False, progress=False)
            took[layers].append(time.perf_counter() - began)
    rows = []
    for layers, tagger in taggers.items():
        card = nf.score_tags(gold, tags[layers], repeats=0)
        figures = {f"{field} {name}": card.value(field, name) for field, name in FIGURES}
        size = sum(file.stat().st_size for file in bases[layers].rglob("*") if file.is_file())
        rows.append({
            "layers": layers, "M parameters": round(tagger.decoder.model.num_parameters() / 1e6, 2),
            "MiB": round(size / 2**20, 1), "items per second": round(len(news) / np.median(took[layers]), 1),
            **{name: round(figures[name], 3) for name in SHOWN},
        })  # fmt: skip
    print_table(pd.DataFrame(rows).set_index("layers").T.rename_axis("").reset_index())


def train(layers: int, options: argparse.Namespace) -> Path:
    """A base with that many layers, trained on labelled items."""
    folder = options.work / f"{layers}"
    if (folder / RECORD).exists():
        return folder
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED / "base", use_safetensors=True)
    base = LlamaForCausalLM.from_pretrained(BUNDLED / "base", use_safetensors=True, dtype=torch.float32)
    model = change_depth(base, layers)
    until = pd.Timestamp(options.until, tz="Asia/Shanghai")
    labels = pd.concat([read_labels(options.data), read_annotations(options.data, until)], ignore_index=True)
    rng = np.random.default_rng(options.seed)
    documents = shuffle(gold_documents(labels, read_known_securities(options.data)), rng)
    rows = pack_pieces(tokenizer, documents, options.steps * BATCH)
    pretrain(
        model, rows, options.work / f"{layers}.pt", rate=options.rate, batch=BATCH, decay=fall_by_cosine, share=0.25
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shutil.copy(BUNDLED / "base" / RECORD, folder / RECORD)
    return folder


def change_depth(base: LlamaForCausalLM, layers: int) -> LlamaForCausalLM:
    """The model with layers left out, or with layers between that add nothing yet."""
    config = copy.deepcopy(base.config)
    config.num_hidden_layers = layers
    model = LlamaForCausalLM(config)
    state = {name: value for name, value in base.state_dict().items() if ".layers." not in name}
    held = base.config.num_hidden_layers
    if layers <= held:
        kept = dict(enumerate(np.rint(np.linspace(0, held - 1, layers)).astype(int)))
    else:
        kept = {int(place): k for k, place in enumerate(np.rint(np.linspace(0, layers - 1, held)))}
    for place in range(layers):
        for name, value in model.model.layers[place].state_dict().items():
            if place in kept:
                value = base.model.layers[kept[place]].state_dict()[name]
            elif name in ("self_attn.o_proj.weight", "mlp.down_proj.weight"):
                value = torch.zeros_like(value)
            state[f"model.layers.{place}.{name}"] = value
    model.load_state_dict(state)
    return model


if __name__ == "__main__":
    main()
