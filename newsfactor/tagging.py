"""``Tagger``: load a model, read news in batches, keep every finished batch."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.progress import Progress
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from newsfactor import decoding
from newsfactor.decoding import MAX_TOKENS, Decoded, Prompt, SlotDecoder, Template
from newsfactor.errors import InvalidValueError, TaggerError
from newsfactor.prompting import hint_line, news_text
from newsfactor.schema import DATE_TYPE, NEWS, TAGS, check
from newsfactor.securities import find_candidates
from newsfactor.tables import cache_folder
from newsfactor.taxonomy import Taxonomy
from newsfactor.templates import choose_template
from newsfactor.weights import (
    BUNDLED,
    DTYPES,
    RECORD,
    apply_adapter,
    hash_form,
    hash_weights,
    load_model,
    native_dtype,
    read_record,
)

log = logging.getLogger("newsfactor")

# A price move that is told, as in 涨超5%, 跌停, 收涨0.3%; limits on orders or prices of goods are not meant.
_PRICE_MOVE = re.compile(
    r"涨停|跌停|[涨跌](?:超|逾|近|幅|约)?[扩收]?[大窄]?[至为达]?\d+(?:\.\d+)?%|[高低]开\d|(?:收|盘中|开盘|尾盘|午后)[^。，]{0,6}[涨跌]|股价[^。，]{0,8}[涨跌]|创[^。，]{0,6}新[高低]"
)
_PRICE_EVENTS = ("个股行情", "大盘行情")
_SMALL = 200_000_000  # parameters; a larger model's steps fill the cores
_MOST_WORKERS = 4


class Tagger:
    """A causal language model that tags news; make one with :meth:`load`.

    Attributes
    ----------
    fingerprint : str
        Identifies weights, adapter, taxonomy, dtype, token budget, named template and decoder: answers of
        another fingerprint are never reused.
    trained_through : Timestamp or None
        The last day whose texts the model has seen, where its folder records it.
    hints : bool
        Whether the model was tuned with securities, so that it can be told the candidates.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, taxonomy: Taxonomy | None = None,
        fingerprint: str, trained_through: str | None = None, hints: bool = False, template: Template | None = None,
    ) -> None:  # fmt: skip
        self.taxonomy = taxonomy or Taxonomy()
        for weights in model.parameters():
            # Without it torch multiplies the last position as a batch and copies the vocabulary's weights for every
            # row (at::matmul folds only for weights that may need a gradient): 17 times slower in bf16 on a CPU.
            weights.requires_grad_(weights.is_floating_point())
        self.decoder = SlotDecoder(model.eval(), tokenizer, self.taxonomy, template=template)
        self.hints = hints
        self.trained_through = None if trained_through is None else pd.Timestamp(trained_through)
        parts = [fingerprint, *map(str, self.taxonomy.slots), str(model.dtype), str(MAX_TOKENS), decoding.VERSION]
        parts += filter(None, [self.decoder.template.signature])
        self.fingerprint = hashlib.sha1("\n".join(parts).encode()).hexdigest()[:16]

    @classmethod
    def load(
        cls, base: str | Path | None = None, *, adapter: str | Path | None = None, dtype: str | None = None,
        device: str | None = None, quantization: str | None = None, template: str | None = None,
        system: str | None = None, trust_remote_code: bool = False,
    ) -> Tagger:  # fmt: skip
        """Load a base model and, on top, a LoRA adapter.

        Parameters
        ----------
        base : str or path, optional
            A Hugging Face causal LM: a hub name or a folder. The bundled base if not given.
        adapter : str or path, optional
            A folder with a PEFT adapter. The bundled one if neither is given; none for a given base.
        dtype : {"float32", "bfloat16", "float16"}, optional
            If not given: bfloat16 where the processor computes in it, else float32 (CPU) or float16 (GPU).
        device : str, optional
            As torch names it; a GPU if there is one.
        quantization : {"4bit"}, optional
            The base in 4-bit NF4 with the adapter beside it, unmerged (needs the extra ``qlora``).
        template : str, optional
            The named template of LLaMA-Factory that the adapter was trained with, such as ``"intern2"``; see
            :mod:`newsfactor.templates`. If not given: as the folder records it, else the tokenizer's own form.
        system : str, optional
            The system text that it was trained with, where that is not the template's own; ``""`` for none.
        trust_remote_code : bool
            Run code that comes with the checkpoint. Only for checkpoints that you trust.

        Raises
        ------
        InvalidValueError
            If there is no template of that name.
        TaggerError
            If the folder is missing, holds no safetensors, or the adapter does not fit the base.
        """
        bundled = base is None
        base = str(base or BUNDLED / "base")
        adapter = str(adapter) if adapter is not None else str(BUNDLED / "adapter") if bundled else None
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        dtype = dtype or native_dtype(device)
        if dtype not in DTYPES:
            raise InvalidValueError("dtype", dtype, f"must be one of {', '.join(DTYPES)}")
        # A merged weight is rounded once: the sum is made in the type that the base is stored in, or float32.
        first = "auto" if adapter is not None and dtype != "float32" and not quantization else DTYPES[dtype]
        model, tokenizer = load_model(base, dtype=first, device=device, quantization=quantization, trust_remote_code=trust_remote_code)  # fmt: skip
        record = read_record(base)
        if adapter is not None:
            model, own = apply_adapter(model, adapter, base=None if bundled else base, merge=quantization is None)
            if not own and template is None:
                log.warning("%s has no %s: prompts take the tokenizer's own form; name `template` if it was trained in another", adapter, RECORD)  # fmt: skip
            record = {**record, **own}
        if template is None:
            template, system = record.get("template"), record.get("system") if system is None else system
        form = choose_template(tokenizer, template, system=system)
        if adapter is not None and record.get("prompt_sha1", hash_form(form)) != hash_form(form):
            raise TaggerError("adapter", adapter, "was tuned with another prompt", remedy="tune it again, or install the version of this library and the tokenizer that tuned it")  # fmt: skip
        taxonomy = Taxonomy(**record["taxonomy"]) if "taxonomy" in record else None
        weights = [
            *(hash_weights(folder) for folder in (base, adapter) if folder is not None),
            *filter(None, [quantization]),
        ]
        return cls(
            model if quantization else model.to(DTYPES[dtype]), tokenizer, taxonomy=taxonomy,  # type: ignore[arg-type]
            fingerprint="\n".join(weights),
            trained_through=record.get("trained_through"), hints=bool(record.get("hints")), template=form,
        )  # fmt: skip

    def tag(
        self, news: pd.DataFrame, *, securities: pd.DataFrame | None = None, batch_size: int = 64,
        cache: str | Path | bool = True, progress: bool = True,
    ) -> pd.DataFrame:  # fmt: skip
        """Tag each news item with the five fields.

        Parameters
        ----------
        news : DataFrame
            NEWS, any order and index.
        securities : DataFrame, optional
            SECURITIES: the stocks are then chosen among the names valid at the news time, and a model that was
            tuned with securities is told them and their industries. Without it they are chosen among all
            short spans of the text.
        batch_size : int
            Prompts per batch; each finished batch is kept.
        cache : path or bool
            Folder of the journal in which finished batches are kept and found again; True for the
            user's cache folder (``NEWSFACTOR_CACHE``, else ``~/.cache/newsfactor``), False for none.
        progress : bool
            Show a progress bar.

        Returns
        -------
        DataFrame
            TAGS, one row per row of ``news`` in its order. An empty text has ``status="empty"`` and a
            batch that failed ``"failed"``; their fields are null. A text over the token budget is cut
            in its middle and has ``"truncated"``. Empty in, empty out. ``sentiment`` is the level nearest
            ``score``, the mean of the seven probabilities, so that news between good and bad is no
            coin toss; the likeliest level is the largest of ``p_m3 … p_p3``. Other fields have their
            likeliest label.

        Examples
        --------
        >>> tags = Tagger.load().tag(news)  # doctest: +SKIP
        """
        check(news, NEWS, parameter="news")
        texts = [news_text(title, content) for title, content in zip(news["title"], news["content"], strict=True)]
        candidates: list[Any] = [None] * len(texts)
        if securities is not None:
            candidates = [*find_candidates(securities, texts, news["available_at"])]
        hints = [hint_line(names) if self.hints and names is not None else "" for names in candidates]
        prompts = [
            self.decoder.template.fill(text, MAX_TOKENS, hint) if text else None
            for text, hint in zip(texts, hints, strict=True)
        ]
        candidates = [names if names is None else list(names) for names in candidates]
        keys = [_hash_prompt(prompt, names) for prompt, names in zip(prompts, candidates, strict=True)]
        with _open_journal(cache, self.fingerprint) as journal:
            answers = self._answer(prompts, candidates, keys, journal, batch_size, progress)
        rows = [
            self._row(text, prompt, answers.get(key)) for text, prompt, key in zip(texts, prompts, keys, strict=True)
        ]
        return self._assemble(news, rows)

    def _answer(
        self, prompts: Sequence[Prompt | None], candidates: Sequence[list[str] | None], keys: Sequence[str],
        journal: Journal, batch_size: int, progress: bool,
    ) -> dict[str, Decoded]:  # fmt: skip
        """Answers by key: from the journal, else computed batch by batch, alike prompts once."""
        first = {key: k for k, key in reversed(list(enumerate(keys))) if prompts[k] is not None}
        # Batches are cut before the journal is asked, so that a resumed run computes the very same ones.
        order = sorted(first, key=lambda key: (len(prompts[first[key]].tokens), key))  # type: ignore[union-attr]
        batches = [order[k : k + batch_size] for k in range(0, len(order), batch_size)]
        answers = journal.read(order)
        with _Workers(self.decoder.model) as workers, Progress(disable=not progress) as bar:
            task = bar.add_task("tagging", total=len(order))
            for batch in reversed(batches):  # the longest first: memory runs out at once or never
                missing = [key for key in batch if key not in answers]
                if missing:
                    chosen = [first[key] for key in missing]
                    asked = [prompts[k] for k in chosen], [candidates[k] for k in chosen], missing
                    found = {key: answer for part in workers.map(self._decode, *asked) for key, answer in part.items()}
                    journal.write(found)
                    answers |= found
                bar.advance(task, len(batch))
        return answers

    def _decode(self, prompts: list[Any], candidates: list[Any], keys: list[str]) -> dict[str, Decoded]:
        """One batch; one that fails, for want of memory above all, is cut in half; a single text that fails has no answer."""
        try:
            return dict(zip(keys, self.decoder.decode(prompts, candidates), strict=True))
        except (RuntimeError, MemoryError) as error:
            if len(keys) == 1:
                log.warning("tagging failed for one text of %d tokens: %s", len(prompts[0].tokens), error)
                return {}
            log.warning("a batch of %d failed and is cut in half: %s", len(keys), error)
            half = len(keys) // 2
            parts = (slice(half), slice(half, None))
            return {
                k: v for part in parts for k, v in self._decode(prompts[part], candidates[part], keys[part]).items()
            }

    def _row(self, text: str, prompt: Prompt | None, answer: Decoded | None) -> dict[str, Any]:
        if prompt is None or answer is None:
            return {
                "status": "empty" if prompt is None else "failed",
                "stocks": [],
                "stock_scores": [],
                "reports_price": False,
            }
        return {
            **answer.to_row(),
            "reports_price": answer.labels["event"] in _PRICE_EVENTS or bool(_PRICE_MOVE.search(text)),
            "status": "truncated" if prompt.truncated else "ok",
        }

    def _assemble(self, news: pd.DataFrame, rows: list[dict[str, Any]]) -> pd.DataFrame:
        kinds = {name: kind for name, kind in TAGS.columns.items() if name not in NEWS.columns}
        fields = pd.DataFrame(
            rows, index=news.index, columns=[name for name in kinds if name not in ("tagger", "trained_through")]
        )
        for name, kind in kinds.items():
            if name in fields.columns and kind in ("number", "unit"):
                fields[name] = fields[name].astype(float)
            elif name in fields.columns and kind == "text":
                fields[name] = fields[name].astype("str")
        fields["reports_price"] = fields["reports_price"].astype(bool)
        fields["tagger"] = pd.Series(self.fingerprint, index=news.index, dtype="str")
        fields["trained_through"] = pd.Series(self.trained_through or pd.NaT, index=news.index, dtype=DATE_TYPE)
        kept = [column for column in news.columns if column not in kinds]
        return check(pd.concat([news[kept], fields], axis=1), TAGS, parameter="tags")


class _Workers:
    """Threads that take the parts of a batch side by side.

    The steps of a small model are too short to keep several cores busy within one call: two parts on a core each were
    1.4 times as fast as the whole on two.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.threads = torch.get_num_threads()
        small = model.device.type == "cpu" and model.num_parameters() < _SMALL
        # Quantised layers rearrange their weights in the first call, which two calls must not do at once.
        small = small and not getattr(model, "is_quantized", False)
        self.count = min(self.threads, _MOST_WORKERS) if small else 1

    def __enter__(self) -> _Workers:
        self._pool = ThreadPoolExecutor(self.count, "tagging", torch.set_num_threads, (self.threads // self.count,))
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self.threads)  # the setting of a worker is also that of every later thread

    def map(self, work: Callable[..., dict[str, Decoded]], *columns: list[Any]) -> Iterator[dict[str, Decoded]]:
        """``work`` on every n-th row of the columns, for each worker."""
        parts = [[column[k :: self.count] for column in columns] for k in range(min(self.count, len(columns[0])))]
        return self._pool.map(lambda part: work(*part), parts)


def _hash_prompt(prompt: Prompt | None, names: list[str] | None) -> str:
    if prompt is None:
        return ""
    listed = "\x01" if names is None else "\x02".join(names)
    return hashlib.sha1(f"{prompt.rendered}\x00{listed}".encode()).hexdigest()


class Journal:
    """Finished answers in SQLite, one transaction a batch; nothing is kept without a file."""

    def __init__(self, connection: sqlite3.Connection, fingerprint: str) -> None:
        self._connection, self._fingerprint = connection, fingerprint
        connection.execute(
            "CREATE TABLE IF NOT EXISTS answers (tagger TEXT, prompt TEXT, answer TEXT, PRIMARY KEY (tagger, prompt)) WITHOUT ROWID"
        )

    def read(self, keys: Sequence[str]) -> dict[str, Decoded]:
        """The known answers among the keys."""
        found: dict[str, Decoded] = {}
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            marks = ",".join("?" * len(part))
            query = f"SELECT prompt, answer FROM answers WHERE tagger = ? AND prompt IN ({marks})"
            for key, answer in self._connection.execute(query, (self._fingerprint, *part)):
                found[key] = Decoded(**json.loads(answer))
        return found

    def write(self, answers: dict[str, Decoded]) -> None:
        """Keep a batch, all of it or nothing."""
        rows = [(self._fingerprint, key, json.dumps(vars(a), ensure_ascii=False)) for key, a in answers.items()]
        with self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", rows)


@contextmanager
def _open_journal(cache: str | Path | bool, fingerprint: str) -> Iterator[Journal]:
    if cache is False:
        path = ":memory:"
    else:
        folder = cache_folder() if cache is True else Path(cache)
        folder.mkdir(parents=True, exist_ok=True)
        path = str(folder / "tags.sqlite")
    try:
        with closing(sqlite3.connect(path, timeout=60)) as connection:
            yield Journal(connection, fingerprint)
    except sqlite3.DatabaseError as error:
        raise TaggerError("cache", path, "must be a journal of this library", remedy=f"delete it or name another folder ({error})") from error  # fmt: skip
