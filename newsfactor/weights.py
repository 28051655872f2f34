"""Checkpoints and adapters: load them from safetensors alone, tell whether they fit, hash them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.hub import cached_file

from newsfactor.decoding import Template
from newsfactor.errors import InvalidValueError, MissingExtraError, TaggerError

BUNDLED = Path(__file__).parent / "models"
RECORD = "newsfactor.json"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(
    base: str, *, dtype: torch.dtype | str, device: str = "cpu", quantization: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:  # fmt: skip
    """A causal LM and its tokenizer, from safetensors alone; ``quantization="4bit"`` is bitsandbytes' NF4.

    Raises
    ------
    TaggerError
        If the checkpoint cannot be loaded; the sentence names it and the cause.
    """
    if quantization not in (None, "4bit"):
        raise InvalidValueError("quantization", quantization, "must be '4bit' or None")
    if quantization and importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", "qlora")
    compute = torch.bfloat16 if dtype == "auto" else dtype
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=compute
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=trust_remote_code)
        model = AutoModelForCausalLM.from_pretrained(
            base, dtype=dtype, use_safetensors=True, trust_remote_code=trust_remote_code, attn_implementation="sdpa",
            **({"quantization_config": config, "device_map": {"": device}} if quantization else {}),
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise TaggerError("base", base, "must be a causal LM in safetensors that transformers can load", remedy=str(error).split("\n")[0]) from error  # fmt: skip
    return model if quantization else model.to(device), tokenizer  # type: ignore[arg-type]


def apply_adapter(
    model: PreTrainedModel, adapter: str, *, base: str | Path | None, merge: bool = True
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model with a PEFT adapter merged into it, or beside it, and the adapter's record.

    The adapter stays in float32, so that the sum is rounded to the model's type once.

    Raises
    ------
    TaggerError
        If the weights are pickled, or the record or the shapes tell that the adapter is of another base.
    """
    folder = Path(adapter)
    if folder.is_dir() and not (folder / "adapter_model.safetensors").is_file():
        raise TaggerError(
            "adapter", adapter, "must hold adapter_model.safetensors", remedy="pickled weights are not loaded"
        )
    record = read_record(adapter)
    tuned_on, given = record.get("base"), describe_base(base)
    if tuned_on is not None and tuned_on["weights"] != given["weights"]:
        raise TaggerError("adapter", adapter, f"was tuned on {tuned_on['name']!r}, and the weights of the base {given['name']!r} are others", remedy="load it on its own base, or tune it again on this one")  # fmt: skip
    try:
        config = PeftConfig.from_pretrained(adapter)
        tuned = PeftModel.from_pretrained(model, adapter, config=config, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise TaggerError("adapter", adapter, "must be a PEFT adapter that fits the base", remedy=str(error).split("\n")[0][:300]) from error  # fmt: skip
    return (tuned.merge_and_unload() if merge else tuned.get_base_model()), record  # type: ignore[return-value]


def native_dtype(device: str) -> str:
    """The half type that the device computes in, else float32."""
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return "bfloat16" if torch.cpu._is_avx512_bf16_supported() else "float32"


def read_record(folder: str) -> dict[str, Any]:
    """What this library wrote beside the weights; empty where another did."""
    path = Path(folder) / RECORD
    if not path.is_file():
        return {}
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TaggerError(RECORD, str(path), "must be JSON", remedy=str(error)) from error
    return record


def describe_base(base: str | Path | None) -> dict[str, str]:
    """Name and hash of a base's weights; None is the bundled one, whose place is nobody's business."""
    folder = BUNDLED / "base" if base is None else Path(base)
    if not folder.is_dir():
        found = cached_file(
            str(base), "config.json", local_files_only=True, _raise_exceptions_for_missing_entries=False
        )
        return {"name": str(base), "weights": _hash_files(Path(found).parent.glob("*.safetensors")) if found else ""}
    name = "newsfactor bundled base" if base is None else folder.resolve().name
    return {"name": name, "weights": _hash_files(folder.glob("*.safetensors"))}


def hash_weights(folder: str) -> str:
    """SHA-1 of a folder's weights and configuration; a hub name stands for itself."""
    path = Path(folder)
    return _hash_files([*path.glob("*.safetensors"), *path.glob("*.json")]) if path.is_dir() else folder


def _hash_files(files: Iterable[Path]) -> str:
    """Files over 1 GiB are hashed by size and 64 evenly spaced MiB: a 7B model takes a second, not a minute."""
    total = hashlib.sha1()
    for file in sorted(files):
        size = file.stat().st_size
        total.update(f"{file.name} {size}".encode())
        with file.open("rb") as stream:
            for start in range(0, size, 1 << 20) if size < 1 << 30 else range(0, size, size // 64):
                stream.seek(start)
                total.update(stream.read(1 << 20))
    return total.hexdigest()


def hash_form(template: Template) -> str:
    """SHA-1 of everything that stands around the news in a prompt."""
    parts = (template.head, template.tail, template.end, template.signature)
    return hashlib.sha1("\x00".join(parts).encode()).hexdigest()
