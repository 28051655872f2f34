"""LoRA fine-tuning on labelled news."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerBase, Trainer, TrainingArguments

from newsfactor.decoding import Template
from newsfactor.errors import AnswerFormatError, TableError, UnreadableFileError
from newsfactor.prompting import INSTRUCTION, parse_answer, shield
from newsfactor.tagging import BUNDLED, RECORD, load_model
from newsfactor.taxonomy import Taxonomy

# The recipe of the article that this library began with: LLaMA-Factory's settings for InternLM-7B.
ARTICLE_RECIPE: dict[str, Any] = {
    "num_train_epochs": 5,
    "learning_rate": 5e-5,
    "lr_scheduler_type": "cosine",
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
}


def fine_tune(
    labels: str | Path | Sequence[dict[str, str]], output_dir: str | Path, *, base: str | Path | None = None,
    rank: int = 8, taxonomy: Taxonomy | None = None, trained_through: str | None = None, seed: int = 0,
    trust_remote_code: bool = False, **settings: Any,
) -> Path:  # fmt: skip
    """Tune a LoRA adapter on labelled news; the loss is on the answer alone.

    Parameters
    ----------
    labels : path or list of dict
        Records of the article's form: ``instruction`` (ignored: the library's own is used), ``input`` (the
        news text) and ``output`` (the answer line); a path is a JSON array of them.
    output_dir : path
        Folder for the adapter: PEFT weights in safetensors and a record that :meth:`Tagger.load` reads.
    base : str or path, optional
        A Hugging Face causal LM; the bundled base if not given.
    rank : int
        Rank of the adapter on every linear layer; its alpha is twice as much.
    taxonomy : Taxonomy, optional
        The label sets; the default ones if not given.
    trained_through : str, optional
        Last day of the texts, kept in the record. Without it nothing can be called out of sample.
    seed : int
        Seeds order and initialisation; the same seed gives the same weights on a CPU.
    trust_remote_code : bool
        Run code that comes with the checkpoint.
    **settings
        Handed on to transformers' ``TrainingArguments`` over the article's recipe.

    Returns
    -------
    Path
        ``output_dir``.

    Raises
    ------
    TableError
        If a record lacks a field or its answer is not of the form; every bad record is named.

    Examples
    --------
    >>> fine_tune("labels.json", "my-lora", base="Qwen/Qwen3-4B")  # doctest: +SKIP
    """
    taxonomy = taxonomy or Taxonomy()
    records = _read_records(labels, taxonomy)
    folder = Path(output_dir)
    named = "newsfactor bundled base" if base is None else Path(base).name if Path(base).is_dir() else str(base)
    base = str(base or BUNDLED / "base")
    random.seed(seed)
    torch.manual_seed(seed)
    model, tokenizer = load_model(base, dtype=torch.float32, trust_remote_code=trust_remote_code)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    tuned = get_peft_model(model, config)
    template = Template(tokenizer)
    examples = [encode_example(template, record["input"], record["output"]) for record in records]
    arguments = TrainingArguments(
        output_dir=str(folder), seed=seed, save_strategy="no", report_to=[], logging_steps=50,
        **{**ARTICLE_RECIPE, **settings},
    )  # fmt: skip
    trainer = Trainer(
        model=tuned, args=arguments, train_dataset=examples,  # type: ignore[arg-type]
        data_collator=_collator(tokenizer),
    )  # fmt: skip
    loss = trainer.train().training_loss
    # The adapter names its base as the user did; the bundled base lies wherever the package does.
    tuned.peft_config["default"].base_model_name_or_path = named
    tuned.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty template of a model card
    _write_record(folder, records, taxonomy, trained_through, trainer.args, loss)
    return folder


def encode_example(template: Template, text: str, answer: str) -> dict[str, list[int]]:
    """Tokens of prompt and answer, tokenised as one string, with the loss on the answer and its end alone."""
    before = template.head + shield(text, template.added) + template.tail
    coded = template.tokenizer(
        before + answer + template.end, add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    tokens = list(coded["input_ids"])
    starts = [start for start, _ in coded["offset_mapping"]]
    targets = [token if start >= len(before) else -100 for token, start in zip(tokens, starts, strict=True)]
    return {"input_ids": tokens, "attention_mask": [1] * len(tokens), "labels": targets}


def _collator(tokenizer: PreTrainedTokenizerBase) -> DataCollatorForSeq2Seq:
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100)


def _read_records(labels: str | Path | Sequence[dict[str, str]], taxonomy: Taxonomy) -> list[dict[str, str]]:
    if isinstance(labels, (str, Path)):
        try:
            records = json.loads(Path(labels).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UnreadableFileError(
                "labels", str(labels), "must be a JSON array of records", remedy=str(error)
            ) from error
    else:
        records = list(labels)
    if not isinstance(records, list) or not records:
        raise TableError("labels", type(records).__name__, "must hold at least one record")
    bad = [problem for k, record in enumerate(records) if (problem := _find_problem(k, record, taxonomy))]
    if bad:
        shown = "; ".join(bad[:10]) + (f"; and {len(bad) - 10} more" if len(bad) > 10 else "")
        raise TableError(
            "labels", f"{len(bad)} bad of {len(records)}", "must all be of the article's form", remedy=shown
        )
    return records


def _find_problem(position: int, record: Any, taxonomy: Taxonomy) -> str:
    if not isinstance(record, dict) or not all(isinstance(record.get(name), str) for name in ("input", "output")):
        return f"record {position}: needs the texts input and output"
    try:
        answer = parse_answer(record["output"], taxonomy)
    except AnswerFormatError as error:
        return f"record {position}: {error}"
    missing = [name for name in answer.stocks if name not in record["input"]]
    return f"record {position}: stock {missing[0]!r} does not stand in the text" if missing else ""


def _write_record(
    folder: Path, records: list[dict[str, str]], taxonomy: Taxonomy, trained_through: str | None,
    arguments: TrainingArguments, loss: float,
) -> None:  # fmt: skip
    content = json.dumps(records, ensure_ascii=False, sort_keys=True).encode()
    used = arguments.to_sanitized_dict()
    kept = ("learning_rate", "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps", "seed")
    record = {
        "taxonomy": {"events": taxonomy.events, "markets": taxonomy.markets, "industries": taxonomy.industries},
        "prompt_sha1": hashlib.sha1(INSTRUCTION.encode()).hexdigest(),
        "records": len(records),
        "records_sha1": hashlib.sha1(content).hexdigest(),
        "settings": {name: used[name] for name in kept},
        "trained_through": trained_through,
        "mean_loss": round(loss, 4),
    }
    (folder / RECORD).write_text(json.dumps(record, ensure_ascii=False, indent=1), encoding="utf-8")
