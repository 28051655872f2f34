"""LoRA and QLoRA fine-tuning on labelled news, and merging an adapter into its base."""

from __future__ import annotations

import hashlib
import inspect
import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from peft import LoraConfig, PeftModel, get_peft_model
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import (
    DataCollatorForSeq2Seq,
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_utils import get_last_checkpoint

from newsfactor.decoding import MAX_TOKENS, SlotDecoder, Template
from newsfactor.errors import InvalidValueError, TableError
from newsfactor.labels import read_labels
from newsfactor.prompting import Answer, hint_line
from newsfactor.scoring import Scorecard, score_tags
from newsfactor.securities import find_candidates
from newsfactor.taxonomy import Taxonomy
from newsfactor.templates import choose_template
from newsfactor.weights import BUNDLED, DTYPES, RECORD, apply_adapter, describe_base, hash_form, load_model

# The recipe of the article that this library began with: LLaMA-Factory's settings for InternLM-7B.
ARTICLE_RECIPE: dict[str, Any] = {
    "num_train_epochs": 5,
    "learning_rate": 5e-5,
    "lr_scheduler_type": "cosine",
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
}
SCORECARD = "scorecard.json"
_UNFINISHED = "unfinished.json"
_UNTOLD = -100  # a label that the loss leaves out
# What each epoch is judged by: one figure per field, all between 0 (kappa: −1) and 1; their mean picks the best epoch.
_JUDGED = (("event", "accuracy"), ("market", "accuracy"), ("industry", "accuracy"), ("sentiment", "kappa"), ("stocks", "f1"))  # fmt: skip


def fine_tune(
    labels: Any, output_dir: str | Path, *, base: str | Path | None = None, held_out: float | Any = 0.1, rank: int = 8,
    quantization: str | None = None, patience: int | None = None, template: str | None = None,
    securities: pd.DataFrame | None = None, taxonomy: Taxonomy | None = None, trained_through: str | None = None,
    seed: int = 0, trust_remote_code: bool = False, progress: bool = True, **settings: Any,
) -> Path:  # fmt: skip
    """Tune a LoRA adapter on labelled news; the loss is on the answer alone.

    The defaults are the article's recipe (``ARTICLE_RECIPE``): cosine schedule, learning rate 5e-5, 5 epochs, batch
    2 × accumulation 2; on a GPU bf16, or fp16 where it has none, with activation checkpointing. A run that was
    killed goes on from its last finished epoch when it is called again with the same arguments, and ends in the
    weights that it would have had.

    Parameters
    ----------
    labels : path, list of dict or DataFrame
        Labelled news in any form that :func:`newsfactor.labels.read_labels` takes.
    output_dir : path
        Folder for the adapter (PEFT, safetensors), the record that :meth:`Tagger.load` reads, ``scorecard.json``
        and ``loss.png``. It must not hold a finished adapter.
    base : str or path, optional
        A Hugging Face causal LM; the bundled base if not given.
    held_out : float, or labels
        The share of the labels, or other labels, that is not trained on and judged after each epoch; 0 for none.
        A share is the latest part where all labels have ``published_at``, else drawn at random; one text, or
        one ``story_id``, is never on both sides.
    rank : int
        Rank of the adapter on every linear layer; its alpha is twice as much.
    quantization : {"4bit"}, optional
        QLoRA: the base in 4-bit NF4 (needs the extra ``qlora``).
    patience : int, optional
        Stop after so many epochs without a better mean figure on the held-out part, and keep the best epoch. Without
        it the last epoch is kept.
    template : str, optional
        A template of LLaMA-Factory by name, instead of the tokenizer's own.
    securities : DataFrame, optional
        SECURITIES: each record with a ``published_at`` is then learnt twice, alone and with a line that tells the listed
        names in it and their industries, as ``Tagger.tag(news, securities=...)`` will tell them.
    taxonomy : Taxonomy, optional
        The label sets; the default ones if not given.
    trained_through : str, optional
        Last day of the texts; the latest ``published_at`` if the labels have it. Without it nothing can be called out
        of sample.
    seed : int
        Seeds order and initialisation; the same seed gives the same weights on a CPU.
    trust_remote_code : bool
        Run code that comes with the checkpoint.
    progress : bool
        Show a progress bar.
    **settings
        Handed on to transformers' ``TrainingArguments`` over the recipe.

    Returns
    -------
    Path
        ``output_dir``.

    Raises
    ------
    TableError
        If a record lacks a field or its answer is not of the form; every bad record is named.
    InvalidValueError
        If the folder holds a finished adapter or another unfinished run, or an argument cannot be used.

    Examples
    --------
    >>> fine_tune("labels.json", "my-lora", base="Qwen/Qwen3-4B")  # doctest: +SKIP
    """
    taxonomy, folder = taxonomy or Taxonomy(), Path(output_dir)
    train, judged = split_labels(read_labels(labels, taxonomy=taxonomy), held_out, taxonomy, seed)
    if patience is not None and judged.empty:
        raise InvalidValueError("patience", patience, "needs a held-out part", remedy="give `held_out`")
    on_gpu = torch.cuda.is_available() and not settings.get("use_cpu")
    random.seed(seed)
    torch.manual_seed(seed)
    model, tokenizer = load_model(
        str(base or BUNDLED / "base"), dtype=_training_dtype(on_gpu), device="cuda" if on_gpu else "cpu",
        quantization=quantization, trust_remote_code=trust_remote_code,
    )  # fmt: skip
    form = choose_template(tokenizer, template)
    origin = describe_base(base)
    record: dict[str, Any] = {
        "base": origin,
        "template": template,
        "prompt_sha1": hash_form(form),
        "taxonomy": {"events": taxonomy.events, "markets": taxonomy.markets, "industries": taxonomy.industries},
        "hints": securities is not None,
        "records": len(train),
        "records_sha1": _hash_labels(train),
        "held_out": len(judged),
        "held_out_sha1": _hash_labels(judged),
        "trained_through": trained_through or _last_day(train),
        "settings": {"rank": rank, "quantization": quantization, "patience": patience, "seed": seed}
        | {name: str(value) if isinstance(value, Path) else value for name, value in {**ARTICLE_RECIPE, **settings}.items()},
    }  # fmt: skip
    checkpoint = _begin(folder, record)
    # peft's prepare_model_for_kbit_training would lift embedding and head to float32: 4.4 GB of Qwen2.5-7B's.
    tuned = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"))  # fmt: skip
    tuned.peft_config["default"].base_model_name_or_path = origin["name"]
    examples = [encode_example(form, *pair) for pair in (*_pairs(train), *_hinted(train, securities))]
    trainer = _Tuner(
        tuned, form, examples, judged, taxonomy, patience=patience, progress=progress,
        settings={"output_dir": str(folder), "seed": seed, **_device_settings(on_gpu), **ARTICLE_RECIPE, **settings},
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=checkpoint)
    tuned.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty template of a model card
    card = None if judged.empty else trainer.score(repeats=1000)
    _finish(folder, record, trainer, card)
    return folder


def split_labels(
    labels: pd.DataFrame, held_out: Any, taxonomy: Taxonomy, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """LABELS to train on and LABELS to judge; a story is never on both sides."""
    if not isinstance(held_out, (int, float)):
        judged = read_labels(held_out, taxonomy=taxonomy)
        both = labels["text"].isin(judged["text"])
        if both.any():
            raise TableError("held_out", labels.loc[both, "text"].iloc[0][:40], f"must not hold texts of the labels ({both.sum()} do)")  # fmt: skip
        return labels, judged.drop_duplicates("text", ignore_index=True)
    if not 0 <= held_out < 1:
        raise InvalidValueError("held_out", held_out, "must be a share in 0..1, or labels")
    story = labels["story_id"] if "story_id" in labels.columns else labels["text"]
    group = pd.factorize(story.fillna(labels["text"]))[0]
    if "published_at" in labels.columns and labels["published_at"].notna().all():
        order = labels["published_at"].groupby(group).max().sort_values(ascending=False, kind="stable").index.to_numpy()
    else:
        order = np.random.default_rng(seed).permutation(group.max() + 1)
    size = np.bincount(group)[order].cumsum()
    chosen = np.isin(group, order[size <= round(held_out * len(labels))])
    return labels[~chosen].reset_index(drop=True), labels[chosen].drop_duplicates("text", ignore_index=True)


def encode_example(template: Template, text: str, answer: str, hint: str = "") -> dict[str, list[int]]:
    """Tokens of prompt and answer as the template joins them, with the loss on the answer and its end alone."""
    tokens, start = template.join(template.fill(text, MAX_TOKENS, hint).shown, answer)
    return {
        "input_ids": tokens,
        "attention_mask": [1] * len(tokens),
        "labels": [_UNTOLD] * start + tokens[start:],
    }


def merge_adapter(
    base: str | Path | None, adapter: str | Path, output_dir: str | Path, *, dtype: str | None = None,
    trust_remote_code: bool = False,
) -> Path:  # fmt: skip
    """Write base and adapter as one plain checkpoint, which servers load and :meth:`Tagger.load` reads back.

    Parameters
    ----------
    base : str, path or None
        The base that the adapter was tuned on; None for the bundled one.
    adapter : path
        The adapter's folder.
    output_dir : path
        A folder that does not exist or is empty.
    dtype : {"float32", "bfloat16", "float16"}, optional
        Type of the written weights, the base's own if not given. The sum is rounded once, as in ``Tagger.load``: a
        merged checkpoint answers as base and adapter do in the same type.
    trust_remote_code : bool
        Run code that comes with the checkpoint.

    Returns
    -------
    Path
        ``output_dir``, with safetensors, the tokenizer and the adapter's record.

    Raises
    ------
    TaggerError
        If the adapter does not fit the base.
    InvalidValueError
        If the folder holds something, or the type is unknown.

    Examples
    --------
    >>> merge_adapter("Qwen/Qwen3-4B", "my-lora", "my-model")  # doctest: +SKIP
    """
    folder = Path(output_dir)
    if folder.exists() and any(folder.iterdir()):
        raise InvalidValueError("output_dir", str(folder), "must be empty", remedy="name another folder")
    if dtype is not None and dtype not in DTYPES:
        raise InvalidValueError("dtype", dtype, f"must be one of {', '.join(DTYPES)}")
    model, tokenizer = load_model(
        str(base or BUNDLED / "base"), dtype="auto" if dtype is None else DTYPES[dtype], trust_remote_code=trust_remote_code
    )  # fmt: skip
    merged, record = apply_adapter(model, str(adapter), base=base)
    merged.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    record["merged_from"] = record.pop("base", describe_base(base))
    (folder / RECORD).write_text(json.dumps(record, ensure_ascii=False, indent=1), encoding="utf-8")
    return folder


class _Tuner(Trainer):
    """transformers' Trainer that judges an epoch by the task's own figures."""

    def __init__(
        self, model: PeftModel, form: Template, examples: list[Any], judged: pd.DataFrame, taxonomy: Taxonomy, *,
        patience: int | None, progress: bool, settings: dict[str, Any],
    ) -> None:  # fmt: skip
        strategy = "no" if judged.empty else "epoch"
        chosen: dict[str, Any] = {} if patience is None else {"load_best_model_at_end": True, "metric_for_best_model": "mean", "greater_is_better": True}  # fmt: skip
        arguments = TrainingArguments(**{
            "report_to": [], "save_strategy": "epoch", "save_total_limit": 1, "eval_strategy": strategy, "logging_steps": 0.02,
            "disable_tqdm": True, **chosen, **settings,
        })  # fmt: skip
        super().__init__(
            model=model, args=arguments, train_dataset=examples, eval_dataset=None if judged.empty else examples[:1],  # type: ignore[arg-type]
            data_collator=_collator(form.tokenizer),
        )  # fmt: skip
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        self.add_callback(_Bar(progress))
        if patience is not None:
            self.add_callback(EarlyStoppingCallback(patience))
        self._tuned, self._form, self._judged, self._taxonomy = model, form, judged, taxonomy
        # The base with the adapter's layers in it: it can be asked for the last position alone.
        self._plain: PreTrainedModel = model.get_base_model()  # type: ignore[assignment]
        self._some_logits = "logits_to_keep" in inspect.signature(self._plain.forward).parameters

    def compute_loss(self, model: Any, inputs: dict[str, Any], *rest: Any, **options: Any) -> Any:
        """The same loss, but the vocabulary's matrix, the largest of all, is applied only where an answer is told."""
        if self._some_logits:
            following = inputs["labels"].roll(-1, dims=1)
            following[:, -1] = _UNTOLD
            places = (following != _UNTOLD).any(0).nonzero().squeeze(1)
            inputs = {**inputs, "logits_to_keep": places, "shift_labels": following[:, places]}
        return super().compute_loss(model, inputs, *rest, **options)

    def score(self, repeats: int) -> Scorecard:
        """The held-out part against the model as it is now."""
        self._tuned.eval()
        decoder = SlotDecoder(self._plain, self._form.tokenizer, self._taxonomy, template=self._form)
        texts = self._judged["text"].tolist()
        answers: list[Any] = [None] * len(texts)
        order = np.argsort([len(text) for text in texts], kind="stable")
        for rows in np.array_split(order, -(-len(order) // 32)):
            prompts = [self._form.fill(texts[k], MAX_TOKENS) for k in rows]
            for k, answer in zip(rows, decoder.decode(prompts, [None] * len(rows)), strict=True):
                answers[k] = {"text": texts[k], "status": "ok", **answer.to_row()}
        return score_tags(self._judged, pd.DataFrame(answers), repeats=repeats)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Called by Trainer after each epoch."""
        card = self.score(repeats=0)
        figures = {f"eval_{field}_{metric}": card.value(field, metric) for field, metric in _JUDGED}
        figures["eval_mean"] = float(np.nanmean(list(figures.values())))
        self.log(figures)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, figures)
        return figures

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # Trainer's own would add a pickle of the arguments, and ask the hub about the vocabulary.
        folder = output_dir or self.args.output_dir
        self._tuned.save_pretrained(str(folder), state_dict=state_dict, save_embedding_layers=False)


class _Bar(TrainerCallback):
    """A progress bar with the latest loss."""

    def __init__(self, shown: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, disable=not shown)
        self._task = self._bar.add_task("training", total=None)

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._bar.update(self._task, total=state.max_steps, completed=state.global_step)
        self._bar.start()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._bar.update(self._task, completed=state.global_step)

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self._bar.update(self._task, description=f"training, loss {float(logs['loss']):.3f}")

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._bar.stop()


def _training_dtype(on_gpu: bool) -> torch.dtype:
    if not on_gpu:
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _device_settings(on_gpu: bool) -> dict[str, Any]:
    if not on_gpu:
        return {"use_cpu": True}
    half = {"bf16": True} if torch.cuda.is_bf16_supported() else {"fp16": True}
    return {**half, "activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": False}}


def _pairs(labels: pd.DataFrame) -> list[tuple[str, str]]:
    columns = ("text", "event", "market", "industry", "sentiment", "stocks")
    rows = labels[list(columns)].itertuples(index=False)
    return [
        (text, str(Answer(event, market, industry, sentiment, tuple(stocks))))
        for text, event, market, industry, sentiment, stocks in rows
    ]


def _hinted(labels: pd.DataFrame, securities: pd.DataFrame | None) -> list[tuple[str, str, str]]:
    """Text, answer and hint of the records whose time is known."""
    if securities is None or "published_at" not in labels.columns:
        return []
    timed = labels[labels["published_at"].notna()]
    candidates = find_candidates(securities, timed["text"].tolist(), timed["published_at"])
    return [(text, line, hint_line(names)) for (text, line), names in zip(_pairs(timed), candidates, strict=True)]


def _hash_labels(labels: pd.DataFrame) -> str:
    return hashlib.sha1(json.dumps(_pairs(labels), ensure_ascii=False).encode()).hexdigest()


def _last_day(labels: pd.DataFrame) -> str | None:
    if "published_at" not in labels.columns or labels["published_at"].isna().any():
        return None
    return str(labels["published_at"].max().date())


def _collator(tokenizer: PreTrainedTokenizerBase) -> DataCollatorForSeq2Seq:
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=_UNTOLD)


def _begin(folder: Path, record: dict[str, Any]) -> str | None:
    """The checkpoint to go on from, if the folder holds an unfinished run of the very same record."""
    wanted = json.loads(json.dumps(record, ensure_ascii=False, default=str))
    if (folder / RECORD).exists():
        raise InvalidValueError("output_dir", str(folder), "must not hold a finished adapter", remedy="name another folder or delete this one")  # fmt: skip
    mark = folder / _UNFINISHED
    if mark.exists():
        found = json.loads(mark.read_text(encoding="utf-8"))
        other = [name for name in wanted if found.get(name) != wanted[name]]
        if other:
            raise InvalidValueError("output_dir", str(folder), f"holds an unfinished run with other {', '.join(other)}", remedy="name another folder or delete this one")  # fmt: skip
        checkpoint: str | None = get_last_checkpoint(str(folder))
        return checkpoint
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(json.dumps(wanted, ensure_ascii=False, indent=1), encoding="utf-8")
    return None


def _finish(folder: Path, record: dict[str, Any], trainer: _Tuner, card: Scorecard | None) -> None:
    history = trainer.state.log_history
    draw_loss(history).savefig(folder / "loss.png", dpi=120)
    if card is not None:
        (folder / SCORECARD).write_text(json.dumps(card.to_dict(), ensure_ascii=False, indent=1), encoding="utf-8")
    epochs = [{k: round(v, 4) for k, v in row.items() if k.startswith("eval_") or k == "epoch"} for row in history if "eval_mean" in row]  # fmt: skip
    losses = [round(float(row["loss"]), 4) for row in history if "loss" in row]
    record = {**record, "losses": losses[:1] + losses[-1:], "epochs": epochs}
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    # The record is what makes the adapter a finished one, so it comes last.
    (folder / RECORD).write_text(json.dumps(record, ensure_ascii=False, indent=1, default=str), encoding="utf-8")
    (folder / _UNFINISHED).unlink()


def draw_loss(history: Sequence[dict[str, Any]]) -> Figure:
    """Loss by step and the held-out figures by epoch, of a Trainer's log."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    steps = [(row["step"], row["loss"]) for row in history if "loss" in row]
    left.plot(*zip(*steps, strict=True), color="tab:blue", lw=1.2) if steps else None
    left.set(xlabel="step", ylabel="loss on the answer", ylim=(0, None))
    judged = [row for row in history if "eval_mean" in row]
    for field, metric in _JUDGED if judged else ():
        right.plot([row["epoch"] for row in judged], [row[f"eval_{field}_{metric}"] for row in judged], marker="o", ms=3, lw=1.2, label=f"{field} {metric}")  # fmt: skip
    if judged:
        right.set(xlabel="epoch", ylabel="held-out part")
        right.xaxis.set_major_locator(MaxNLocator(integer=True))
        right.legend(fontsize=7)
    else:
        right.set_axis_off()
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    return figure
