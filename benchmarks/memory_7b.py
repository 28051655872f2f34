"""Peak GPU memory and speed of LoRA and QLoRA on a 7B model with random weights, at the article's batch.

    python benchmarks/memory_7b.py [--tokens 400] [--steps 8]

Builds the configuration of Qwen2.5-7B on the GPU (no weights are downloaded), tunes it as ``fine_tune`` does (rank 8
on every linear layer, activation checkpointing, batch 2 × accumulation 2) and prints peak memory and tokens per
second. Without a GPU it says so and exits with 1.
"""

from __future__ import annotations

import argparse
import sys
import time

import bitsandbytes as bnb
import pandas as pd
import torch
from bundled_model import print_table
from machine import describe_machine
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Qwen2Config

from newsfactor.training import ARTICLE_RECIPE

QWEN_7B = {
    "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 32768, "rope_theta": 1e6,
    "tie_word_embeddings": False,
}  # fmt: skip
TARGETS = {"LoRA bf16": 24.0, "QLoRA 4-bit": 12.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=400, help="tokens per record")
    parser.add_argument("--steps", type=int, default=8, help="optimizer steps that are timed")
    options = parser.parse_args()
    print(describe_machine(), flush=True)
    if not torch.cuda.is_available():
        print("no GPU at hand: nothing is measured")
        sys.exit(1)
    print(f"{torch.cuda.get_device_name()}, {torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB")
    print_table(pd.DataFrame([measure(name, options) for name in TARGETS]))


def build(config: Qwen2Config, name: str, device: str) -> torch.nn.Module:
    """The model with its adapter; for QLoRA every linear layer but the head is quantised in place."""
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    torch.set_default_dtype(torch.float32)
    if name.startswith("QLoRA"):
        quantize(model, device)
    model.activation_checkpointing_enable({"use_reentrant": False})
    return get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))


def quantize(model: torch.nn.Module, device: str) -> None:
    linears = [(name, part) for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)]
    for name, part in linears:
        if name == "lm_head":
            continue
        made = bnb.nn.Linear4bit(
            part.in_features, part.out_features, bias=part.bias is not None, compute_dtype=torch.bfloat16,
            compress_statistics=True, quant_type="nf4",
        )  # fmt: skip
        made.load_state_dict({key: tensor.cpu() for key, tensor in part.state_dict().items()})
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, made.to(device))
    model.is_loaded_in_4bit = True


def measure(name: str, options: argparse.Namespace) -> dict[str, object]:
    model = build(Qwen2Config(**QWEN_7B), name, "cuda")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    model.train()
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=ARTICLE_RECIPE["learning_rate"]
    )
    batch, parts = (ARTICLE_RECIPE[k] for k in ("per_device_train_batch_size", "gradient_accumulation_steps"))
    tokens = torch.randint(0, 150_000, (batch, options.tokens), device="cuda")
    times = []
    for _ in range(options.steps + 2):
        began = time.perf_counter()
        for _ in range(parts):
            with torch.autocast("cuda", torch.bfloat16):
                (model(input_ids=tokens, labels=tokens).loss / parts).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated() / 2**30
    step = sorted(times[2:])[options.steps // 2]
    return {"method": name, "peak GiB": peak, "target GiB": TARGETS[name], "reached": "yes" if peak < TARGETS[name] else "no",
            "tokens/s (median step)": batch * parts * options.tokens / step}  # fmt: skip


if __name__ == "__main__":
    main()
