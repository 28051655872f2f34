"""Tiny checkpoints with random weights, in the forms that real ones have."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from newsfactor.prompting import INSTRUCTION
from newsfactor.taxonomy import Taxonomy

TEXTS = [
    "海川重工公告，拟以自有资金回购公司股份，回购资金总额1亿元至2亿元。",
    "青禾生物：上半年净利润同比增长120%。青禾生物(600901.SH)发布业绩预告。",
    "央行开展7天期逆回购操作，利率持平。",
    "无锋科技与方岳氏、方岳氏炭材签订战略合作协议 ABC-123。",
]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_GPT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+"


def _lines() -> list[str]:
    taxonomy = Taxonomy()
    made = [
        f"事件:{event},市场:{taxonomy.markets[k % 8]},行业:{industry},情感:{dict(taxonomy.slots)['sentiment'][k % 7]},关联:海川重工、青禾生物"
        for k, (event, industry) in enumerate(zip(taxonomy.events * 2, taxonomy.industries, strict=False))
    ]
    return [*TEXTS, INSTRUCTION, *made * 3]


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """As Qwen has it: byte-level BPE whose pre-tokeniser glues a punctuation mark to the word behind it."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_GPT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        _lines(), trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw)
    tokenizer.add_special_tokens(
        {"eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>", "<|endoftext|>"]}
    )
    tokenizer.add_tokens([AddedToken("<think>", special=False)])
    tokenizer.chat_template = CHATML
    return tokenizer


def sentencepiece_tokenizer() -> PreTrainedTokenizerFast:
    """As Llama 2 has it: metaspace, byte fallback, no pre-tokeniser, no chat template."""
    draft = Tokenizer(models.BPE())
    draft.train_from_iterator(_lines(), trainers.BpeTrainer(vocab_size=600, max_token_length=4, show_progress=False))
    learned = json.loads(draft.to_str())["model"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += sorted(learned["vocab"], key=learned["vocab"].get)
    vocabulary = {token: number for number, token in enumerate(tokens)}
    merges = [tuple(merge) for merge in learned["merges"]]
    raw = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    raw.normalizer = normalizers.Replace(" ", "▁")
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def save_checkpoint(
    folder: Path, kind: str, tokenizer: PreTrainedTokenizerFast, *, width: int = 32, seed: int = 0
) -> Path:
    """A random checkpoint of a stock architecture, sharpened so that its choices are no ties."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        kind, vocab_size=len(tokenizer), hidden_size=width, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048, initializer_range=0.3,
        pad_token_id=None,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
