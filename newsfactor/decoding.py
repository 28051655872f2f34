"""Slot decoding: the answer's fixed text is forced, each slot is scored over its label set.

The line ``事件:…,市场:…,行业:…,情感:…,关联:…`` has four closed slots and an open one. In a closed slot
q(label) is the softmax over the slot's labels of the label's summed token log-probabilities, earlier slots
fixed at their label: the likeliest, or of sentiment, which is a scale, the level nearest the mean of q. The open slot
holds names that stand in the text. No other line can come out.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import Cache, DynamicLayer

from newsfactor.errors import TaggerError
from newsfactor.prompting import FIELDS, HINT, MAX_STOCKS, NO_STOCKS, clip_middle, shield, user_turn
from newsfactor.schema import LEVELS, PROBABILITIES
from newsfactor.taxonomy import Taxonomy

VERSION = "3"
MAX_TOKENS = 384  # of one news text, in training and tagging alike
SEPARATOR = "、".encode()
_MARK = "\ue000"
_LONGEST_NAME = 10
_CHARACTER = 3  # bytes of a Han character
_ROOM = 48  # tokens of an answer line, for most tokenizers
_WORD_RUN = re.compile(r"[\u3400-\u9fffA-Za-z0-9*·&-]{2,}")


@dataclass(frozen=True)
class Prompt:
    """One rendered prompt: its string (hashed by the journal), the news and hint in it, its tokens, the shielded news."""

    rendered: str
    shown: str
    tokens: tuple[int, ...]
    text: str
    truncated: bool


@dataclass
class Decoded:
    """The answer to one prompt: each slot's label and distribution, the names with their scores."""

    labels: dict[str, str] = field(default_factory=dict)
    probabilities: dict[str, list[float]] = field(default_factory=dict)
    stocks: list[str] = field(default_factory=list)
    stock_scores: list[float] = field(default_factory=list)

    def to_row(self) -> dict[str, Any]:
        """The columns of TAGS that the answer gives."""
        levels = self.probabilities["sentiment"]
        return {
            **self.labels,
            "stocks": self.stocks,
            "stock_scores": self.stock_scores,
            "score": mean_level(levels),
            **dict(zip(PROBABILITIES, levels, strict=True)),
            **{f"p_{name}": max(self.probabilities[name]) for name in ("event", "market", "industry")},
        }


def mean_level(q: Sequence[float]) -> float:
    """The mean of a distribution over the seven levels, −3..3."""
    return sum(p * level for p, level in zip(q, LEVELS.values(), strict=True))


def choose_label(field: str, q: Sequence[float]) -> int:
    """The place of the answered label in ``q``: the likeliest one, which is right most often.

    Of sentiment it is the level nearest the mean, the likelier of two as near: that has the least expected squared
    error (Berger, Statistical Decision Theory and Bayesian Analysis, 1985, section 4.4), and a toss-up between good and
    bad news is then no sign flip.
    """
    if field != "sentiment":
        return max(range(len(q)), key=q.__getitem__)
    mean, levels = mean_level(q), list(LEVELS.values())
    return min(range(len(q)), key=lambda k: (abs(levels[k] - mean), -q[k]))


class Template:
    """What stands around the news in the prompt, for one tokenizer: its own chat template, else a plain form.

    Prompt and answer are tokenised as one string, in training and tagging alike; a subclass may cut otherwise.
    """

    signature = ""  # tells templates apart that render the same string

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.is_fast:
            raise TaggerError("tokenizer", type(tokenizer).__name__, "must be a fast tokenizer")
        self.tokenizer = tokenizer
        self.added = dict(tokenizer.get_added_vocab())
        self.head, self.tail = self._render(_MARK).split(_MARK)
        self.end = self._render_end()
        self._own_added = len(self._added_in(self.encode_prompt("")))

    def _render(self, text: str) -> str:
        if self.tokenizer.chat_template is None:
            return f"{self.tokenizer.bos_token or ''}{user_turn(text)}\n\n"
        turn = [{"role": "user", "content": user_turn(text)}]
        # Qwen3 and its kin open a thinking block unless told not to; Llama 3.1 and its kin write today's date, and a
        # prompt must be the same on every day.
        return str(
            self.tokenizer.apply_chat_template(
                turn, tokenize=False, add_generation_prompt=True, enable_thinking=False, date_string="26 Jul 2024"
            )
        )

    def _render_end(self) -> str:
        """The text that closes the answer."""
        if self.tokenizer.chat_template is not None:
            turns = [{"role": "user", "content": "."}, {"role": "assistant", "content": _MARK}]
            closed = str(self.tokenizer.apply_chat_template(turns, tokenize=False)).split(_MARK)[-1].strip()
            if closed:
                return closed
        return str(self.tokenizer.eos_token or "\n")

    def encode(self, text: str) -> list[int]:
        """Token numbers of a text whose template tokens count as such."""
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def encode_prompt(self, text: str) -> list[int]:
        """Tokens of the whole prompt around a text."""
        return self.encode(self.head + text + self.tail)

    def encode_answer(self, line: str) -> list[tuple[int, int]]:
        """(token, first character) of an answer line as it is tokenised behind the prompt's tail."""
        anchor, text = self.tail, self.tail + line + self.end
        coded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        pairs = list(zip(coded["input_ids"], coded["offset_mapping"], strict=True))
        crossing = [text[a:b] for _, (a, b) in pairs if a < len(anchor) < b]
        if crossing:
            raise TaggerError("tokenizer", crossing[0], "must not merge the prompt's end with the answer")
        return [(token, a - len(anchor)) for token, (a, _) in pairs if len(anchor) <= a < len(anchor) + len(line)]

    def join(self, text: str, answer: str) -> tuple[list[int], int]:
        """Tokens of prompt, answer and end as training sees them, and how many of them are the prompt's."""
        before = self.head + shield(text, self.added) + self.tail
        coded = self.tokenizer(
            before + answer + self.end, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        starts = [start for start, _ in coded["offset_mapping"]]
        return list(coded["input_ids"]), sum(start < len(before) for start in starts)

    def fill(self, text: str, budget: int, hint: str = "") -> Prompt:
        """The prompt for one news text, which is cut to ``budget`` tokens in its middle; the hint is a line behind it."""
        # News that spells the hint's mark must not pass for one.
        text = shield(text.replace(HINT, f"{HINT[:-1]} {HINT[-1]}"), self.added)
        news = self.encode(text)
        truncated = len(news) > budget
        if truncated:
            text = shield(str(self.tokenizer.decode(clip_middle(news, budget))).replace("\ufffd", ""), self.added)
        behind = f"\n{shield(hint, self.added)}" if hint else ""
        tokens = self.encode_prompt(text + behind)
        if len(self._added_in(tokens)) != self._own_added:
            # A tokenizer that normalises may see an added token that the text does not spell: keep words only.
            text = " ".join(re.findall(r"\w+", text))
            tokens = self.encode_prompt(text + behind)
        shown = text + behind
        return Prompt(self.head + shown + self.tail, shown, tuple(tokens), text, truncated)

    def _added_in(self, tokens: Sequence[int]) -> list[int]:
        numbers = set(self.added.values())
        return [token for token in tokens if token in numbers]


@dataclass(frozen=True)
class Slot:
    """A closed slot: each label's tokens, and the fixed tokens from it to the next slot."""

    field: str
    labels: tuple[str, ...]
    paths: tuple[tuple[int, ...], ...]
    after: tuple[tuple[int, ...], ...]


class Plan:
    """The answer line cut into forced and free tokens, at the borders that training sees.

    A pre-tokeniser may merge ``:`` with what follows; such a token belongs to the label. The line is always
    tokenised whole, as the template does in training, never label by label.
    """

    def __init__(self, template: Template, taxonomy: Taxonomy) -> None:
        self.template = template
        sets = taxonomy.slots
        self._first = [labels[0] for _, labels in sets]
        merging = any(text.startswith(b":") and len(text) > 1 for text in read_vocabulary(template.tokenizer).values())
        # The open slot's first token may hold the colon, so the forced text stops before it.
        self.open_lead = b":" if merging else b""
        leads = [self._lead(k, labels) for k, (_, labels) in enumerate(sets)] + [-len(self.open_lead)]
        begin = self._start(self._first, 0) + leads[0]
        self.lead = tuple(token for token, a in self._tokenize(self._first) if a < begin)
        self.slots = tuple(self._slot(k, name, labels, leads) for k, (name, labels) in enumerate(sets))

    def _slot(self, k: int, name: str, labels: Sequence[str], leads: list[int]) -> Slot:
        paths, after = [], []
        for label in labels:
            values = self._with(k, label)
            paths.append(self._between(values, k, leads[k], k, len(label)))
            after.append(self._between(values, k, len(label), k + 1, leads[k + 1]))
        if len(set(paths)) < len(paths):
            raise TaggerError("tokenizer", name, "must tell the slot's labels apart")
        return Slot(name, tuple(labels), tuple(paths), tuple(after))

    def _with(self, k: int, label: str) -> list[str]:
        return [*self._first[:k], label, *self._first[k + 1 :]]

    def _lead(self, k: int, labels: Sequence[str]) -> int:
        """How many characters before its value the slot's first token starts, at most (zero or less)."""
        found = []
        for label in labels:
            start = self._start(self._with(k, label), k)
            found.append(max(a for _, a in self._tokenize(self._with(k, label)) if a <= start) - start)
        return min(found)

    def _between(self, values: list[str], k: int, offset: int, other: int, other_offset: int) -> tuple[int, ...]:
        """Tokens that start from ``offset`` behind slot k's value start to before another such place."""
        begin, end = self._start(values, k) + offset, self._start(values, other) + other_offset
        return tuple(token for token, a in self._tokenize(values) if begin <= a < end)

    def _start(self, values: list[str], k: int) -> int:
        earlier = sum(len(f"{name}:{value},") for name, value in zip(FIELDS[:k], values, strict=False))
        return earlier + len(FIELDS[k]) + 1

    def _tokenize(self, values: list[str]) -> list[tuple[int, int]]:
        """(token, first character) of the whole line as the template cuts it."""
        line = ",".join(f"{name}:{value}" for name, value in zip(FIELDS, [*values, NO_STOCKS], strict=True))
        return self.template.encode_answer(line)


def read_vocabulary(tokenizer: PreTrainedTokenizerBase) -> dict[int, bytes]:
    """Token number to the bytes it stands for, without added tokens: byte-level and byte-fallback forms."""
    decoder = json.dumps(json.loads(tokenizer.backend_tokenizer.to_str()).get("decoder") or {})
    byte_level = '"ByteLevel"' in decoder
    alphabet = _byte_alphabet() if byte_level else {}
    added = set(tokenizer.get_added_vocab().values())
    found: dict[int, bytes] = {}
    for token, number in tokenizer.get_vocab().items():
        if number in added:
            continue
        if byte_level:
            found[number] = bytes(alphabet[letter] for letter in token if letter in alphabet)
        elif re.fullmatch(r"<0x[0-9A-F]{2}>", token):
            found[number] = bytes([int(token[3:5], 16)])
        else:
            found[number] = token.replace("▁", " ").encode()
    return found


def _byte_alphabet() -> dict[str, int]:
    """The printable character that byte-level BPE writes for each byte (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + k): byte for k, byte in enumerate(others)}


class Spelling:
    """Which tokens spell the beginning of given bytes."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.text = read_vocabulary(tokenizer)
        self._number = {text: number for number, text in sorted(self.text.items(), reverse=True) if text}
        # How long tokens are that begin with a certain character: few lengths of many need a look.
        lengths: dict[bytes, set[int]] = {}
        for text in self._number:
            lengths.setdefault(text[:_CHARACTER], set()).add(len(text))
        self._lengths = {head: sorted(found) for head, found in lengths.items()}
        self.separators = {n: t[len(SEPARATOR) :] for t, n in self._number.items() if t.startswith(SEPARATOR)}

    def prefixes(self, rest: bytes) -> list[int]:
        """Tokens that spell a non-empty prefix of ``rest``."""
        found = [self._number[rest[:k]] for k in range(1, min(len(rest) + 1, _CHARACTER)) if rest[:k] in self._number]
        for k in self._lengths.get(rest[:_CHARACTER], ()):
            if _CHARACTER <= k <= len(rest) and (token := self._number.get(rest[:k])) is not None:
                found.append(token)
        return found


@dataclass(frozen=True, slots=True)
class Span:
    """What may be read from one place of the text on: bytes, and after how many of them a name may end."""

    place: int
    text: bytes
    stops: frozenset[int]


def find_spans(text: str, candidates: Sequence[str] | None) -> list[Span]:
    """Spans in order of appearance: of each candidate, or from every place in a run of word characters."""
    if candidates is not None:
        placed = {(text.find(name), name.encode()) for name in candidates if name and SEPARATOR.decode() not in name}
        return [Span(place, name, frozenset([len(name)])) for place, name in sorted(placed) if place >= 0]
    spans = []
    for run in _WORD_RUN.finditer(text):
        whole = run[0].encode()
        # Where each character begins: a byte that continues none.
        starts = [k for k, byte in enumerate(whole) if byte & 0xC0 != 0x80] + [len(whole)]
        for k, start in enumerate(starts[:-2]):
            ends = starts[k + 2 : k + _LONGEST_NAME + 1]
            spans.append(Span(run.start() + k, whole[start : ends[-1]], frozenset([end - start for end in ends])))
    return spans


_NOTHING = Span(-1, NO_STOCKS.encode(), frozenset([len(NO_STOCKS.encode())]))


class OpenSlot:
    """The open slot of one row: ``无``, or names that stand in the text, in order of appearance."""

    def __init__(self, spans: Sequence[Span], spelling: Spelling, end: int, lead: bytes) -> None:
        self._spans, self._spelling, self._end = spans, spelling, end
        self.stocks: list[str] = []
        self.scores: list[float] = []
        self.finished = False
        self._open(lead, [*spans, _NOTHING])

    def _open(self, lead: bytes, spans: Sequence[Span]) -> None:
        self._live, self._lead, self._partial, self._score = list(spans), lead, b"", 1.0

    def _later(self) -> list[Span]:
        """Spans that may follow the name that is complete now; none after ``无`` or the eighth."""
        ended = self._ended()
        if ended is None or len(self.stocks) + 1 >= MAX_STOCKS:
            return []
        behind = ended.place + len(self._name().decode(errors="ignore"))
        taken = {name.encode() for name in self.stocks}
        return [span for span in self._spans if span.place >= behind and span.text not in taken]

    def _name(self) -> bytes:
        return self._partial[len(self._lead) :]

    def _ended(self) -> Span | None:
        """The first span of which the partial text is a whole name."""
        length = len(self._name())
        return next((s for s in self._live if length in s.stops and s is not _NOTHING), None)

    def options(self) -> list[int]:
        """Tokens that may come next."""
        done = len(self._partial)
        rests = {rest for span in self._live if (rest := (self._lead + span.text)[done:])}
        allowed = {token for rest in rests for token in self._spelling.prefixes(rest)}
        if any(len(self._name()) in span.stops for span in self._live):
            allowed.add(self._end)
            starts = {span.text for span in self._later()}
            for token, rest in self._spelling.separators.items():
                if any(text.startswith(rest) for text in starts):
                    allowed.add(token)
        # A tokenizer without the name's next character: the name is given up.
        return sorted(allowed) or [self._end]

    def advance(self, token: int, probability: float) -> list[int]:
        """Take an allowed token, and every further one that is then the only choice; returns the further ones."""
        self._take(token, probability)
        forced: list[int] = []
        while not self.finished and len(only := self.options()) == 1:
            self._take(only[0], 1.0)
            forced.append(only[0])
        return forced

    def _take(self, token: int, probability: float) -> None:
        if token == self._end:
            self._close()
            self.finished = True
            return
        if token in self._spelling.separators and self._ended() is not None:
            later = self._later()
            self._close()
            self._open(SEPARATOR, later)
        self._partial += self._spelling.text[token]
        self._live = [span for span in self._live if (self._lead + span.text).startswith(self._partial)]
        self._score *= probability

    def _close(self) -> None:
        ended = self._ended()
        name = self._name().decode(errors="ignore")
        if ended is not None and name not in self.stocks:
            self.stocks.append(name)
            self.scores.append(self._score)


class SlotDecoder:
    """Answers batches of prompts with a causal language model."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, taxonomy: Taxonomy, *,
        template: Template | None = None,
    ) -> None:  # fmt: skip
        self.model = model
        self.template = template or Template(tokenizer)
        self.plan = Plan(self.template, taxonomy)
        self.spelling = Spelling(tokenizer)
        self.end = self.template.encode(self.template.end)[0]
        self._last_only = "logits_to_keep" in inspect.signature(model.forward).parameters

    @torch.inference_mode()
    def decode(self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str] | None]) -> list[Decoded]:
        """One answer per prompt; ``candidates`` limit the names of a row, None leaves it all spans of its text."""
        answers = [Decoded() for _ in prompts]
        shared = self._shared(prompts)
        rows = _Rows(self.model, shared, len(prompts), self._last_only)
        chunks = [[*prompt.tokens[len(shared) :], *self.plan.lead] for prompt in prompts]
        for slot in self.plan.slots:
            logits = rows.feed(chunks)
            scores = rows.score(slot.paths, logits)
            chunks = []
            for answer, q in zip(answers, torch.softmax(scores, -1).tolist(), strict=True):
                best = choose_label(slot.field, q)
                answer.labels[slot.field] = slot.labels[best]
                answer.probabilities[slot.field] = q
                chunks.append([*slot.paths[best], *slot.after[best]])
        self._fill_open(rows, chunks, prompts, candidates, answers)
        return answers

    def _shared(self, prompts: Sequence[Prompt]) -> tuple[int, ...]:
        """The tokens that all prompts begin with, which are computed once: the instruction, where it comes first."""
        shortest = min(len(prompt.tokens) for prompt in prompts)
        first = prompts[0].tokens[: shortest - 1]
        same = takewhile(lambda k: all(prompt.tokens[k] == first[k] for prompt in prompts), range(len(first)))
        return first[: sum(1 for _ in same)]

    def _fill_open(
        self, rows: _Rows, chunks: list[list[int]], prompts: Sequence[Prompt],
        candidates: Sequence[Sequence[str] | None], answers: list[Decoded],
    ) -> None:  # fmt: skip
        slots = [
            OpenSlot(find_spans(prompt.text, names), self.spelling, self.end, self.plan.open_lead)
            for prompt, names in zip(prompts, candidates, strict=True)
        ]
        active = list(range(len(slots)))
        while active:
            logits = rows.feed(chunks)
            waiting = [slots[k] for k in active]
            options = [[self.end] if slot.finished else slot.options() for slot in waiting]
            chosen = _choose(logits, options)
            chunks = [
                [] if slot.finished else [token, *slot.advance(token, q)]
                for slot, (token, q) in zip(waiting, chosen, strict=True)
            ]
            kept = [row for row, k in enumerate(active) if not slots[k].finished]
            # Going on without some rows copies the cache of the others, which pays from a half on.
            if len(kept) <= len(active) / 2:
                rows.keep(kept)
                active, chunks = [active[row] for row in kept], [chunks[row] for row in kept]
        for answer, slot in zip(answers, slots, strict=True):
            answer.stocks, answer.stock_scores = slot.stocks, slot.scores


def _choose(logits: torch.Tensor, options: list[list[int]]) -> list[tuple[int, float]]:
    """For each row the likeliest of its options, and its probability among them."""
    width = max(map(len, options))
    padded = torch.tensor([[*row, *row[:1] * (width - len(row))] for row in options], device=logits.device)
    extra = torch.arange(width)[None] >= torch.tensor([len(row) for row in options])[:, None]
    q = torch.softmax(logits.gather(1, padded).masked_fill(extra.to(logits.device), float("-inf")), -1)
    best = q.max(-1)
    places = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [(row[place], value) for row, (place, value) in zip(options, places, strict=True)]


class _RoomyLayer(DynamicLayer):
    """A layer of the cache that grows in place: the stock one copies all of it at every step."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys = self._append("_key_room", self.keys, key_states)
        self.values = self._append("_value_room", self.values, value_states)
        return self.keys, self.values

    def _append(self, name: str, held: torch.Tensor | None, new: torch.Tensor) -> torch.Tensor:
        before = held.shape[-2] if held is not None and held.numel() else 0
        length = before + new.shape[-2]
        room: torch.Tensor | None = getattr(self, name, None)
        # Selecting or repeating rows gives the held states a place of their own.
        if room is None or held is None or held.data_ptr() != room.data_ptr() or length > room.shape[-2]:
            room = new.new_empty((*new.shape[:-2], length + _ROOM, new.shape[-1]))
            if held is not None and before:
                room[..., :before, :] = held
            setattr(self, name, room)
        room[..., before:length, :] = new
        return room[..., :length, :]


class _Rows:
    """A batch in progress: the cache, which of its places are real, and each row's next position."""

    def __init__(self, model: PreTrainedModel, shared: Sequence[int], size: int, last_only: bool) -> None:
        self.model, self._options = model, {"logits_to_keep": 1} if last_only else {}
        self.device = model.device
        self.cache = Cache(layer_class_to_replicate=_RoomyLayer)
        if shared:
            prefix = torch.tensor([list(shared)], device=self.device)
            model(input_ids=prefix, past_key_values=self.cache, use_cache=True, **self._options)
            self.cache.batch_repeat_interleave(size)
        self.mask = torch.ones((size, len(shared)), dtype=torch.long, device=self.device)
        self.position = torch.full((size,), len(shared), dtype=torch.long, device=self.device)

    def feed(self, chunks: Sequence[Sequence[int]]) -> torch.Tensor:
        """Feed each row its tokens, padded on the left; returns the logits after the last (rows × vocabulary)."""
        width = max(map(len, chunks))
        size = torch.tensor([len(chunk) for chunk in chunks], device=self.device)
        tokens = torch.tensor([[0] * (width - len(c)) + list(c) for c in chunks], device=self.device)
        place = torch.arange(width, device=self.device)[None] - (width - size)[:, None]
        self.mask = torch.cat([self.mask, (place >= 0).long()], dim=1)
        output = self.model(
            input_ids=tokens, attention_mask=self.mask, position_ids=(self.position[:, None] + place).clamp(min=0),
            past_key_values=self.cache, use_cache=True, **self._options,
        )  # fmt: skip
        self.position += size
        last: torch.Tensor = output.logits[:, -1].float()
        return last

    def score(self, paths: Sequence[tuple[int, ...]], logits: torch.Tensor) -> torch.Tensor:
        """Summed log-probability of each path (rows × paths); shared prefixes are computed once, as a tree."""
        nodes = sorted({path[:k] for path in paths for k in range(1, len(path))}, key=lambda node: (len(node), node))
        after: dict[tuple[int, ...], torch.Tensor] = {(): torch.log_softmax(logits, -1)}
        if nodes:
            after |= dict(zip(nodes, self._feed_tree(nodes).unbind(1), strict=True))
        steps = [[after[path[:k]][:, path[k]] for k in range(len(path))] for path in paths]
        return torch.stack([torch.stack(parts).sum(0) for parts in steps], dim=1)

    def _feed_tree(self, nodes: Sequence[tuple[int, ...]]) -> torch.Tensor:
        """Log-probabilities after each node (rows × nodes × vocabulary); the cache is left as it was."""
        size = len(self.mask)
        within = torch.tensor([[other == node[: len(other)] for other in nodes] for node in nodes], device=self.device)
        seen = torch.cat([self.mask.bool()[:, None].expand(-1, len(nodes), -1), within.expand(size, -1, -1)], dim=2)
        blocked = torch.zeros(seen.shape, dtype=self.model.dtype, device=self.device)
        blocked.masked_fill_(~seen, torch.finfo(self.model.dtype).min)
        depth = torch.tensor([len(node) - 1 for node in nodes], device=self.device)
        output = self.model(
            input_ids=torch.tensor([[node[-1] for node in nodes]], device=self.device).expand(size, -1),
            attention_mask=blocked[:, None], position_ids=self.position[:, None] + depth,
            past_key_values=self.cache, use_cache=True,
        )  # fmt: skip
        self.cache.crop(-len(nodes))
        return torch.log_softmax(output.logits.float(), -1)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the rows alone."""
        chosen = torch.tensor(rows, dtype=torch.long, device=self.device)
        self.cache.batch_select_indices(chosen)
        self.mask, self.position = self.mask[chosen], self.position[chosen]
