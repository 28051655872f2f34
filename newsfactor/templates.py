"""The named templates of LLaMA-Factory, so that an adapter trained there is prompted as it was trained.

A template is pieces that are tokenised one by one and laid end to end; prompt and answer are never tokenised
together. The six plain names are the forms since version 0.9.2. Before it the forms differed:

- 0.8 to 0.9.1: ``default`` had no end tokens, and the answers of ``intern`` and ``intern2`` ended in the
  tokenizer's own end token, without a system text: ``default-0.9.1``, ``intern-0.9.1``, ``intern2-0.9.1``.
  ``qwen`` differed by its system text alone: pass ``system="You are a helpful assistant."``.
- 2023, when InternLM-7B was tuned: ``intern`` closed the user's turn with ``<eoh>`` and ``default`` began with a
  system text: ``intern-2023``, ``default-2023``.
- ``llama3`` in 0.7 had ``system="You are a helpful assistant."``; ``glm4`` has not changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from transformers import PreTrainedTokenizerBase

from newsfactor.decoding import Template
from newsfactor.errors import InvalidValueError, TaggerError
from newsfactor.prompting import shield, user_turn

TEXT = "{}"
# The tokenizer's own first and last token; a tokenizer without a first token has none in the prompt either.
BEGIN, END = "{begin}", "{end}"

_INTERN_SYSTEM = (
    "You are an AI assistant whose name is InternLM (书生·浦语).\n"
    "- InternLM (书生·浦语) is a conversational language model that is developed by Shanghai AI Laboratory "
    "(上海人工智能实验室). It is designed to be helpful, honest, and harmless.\n"
    "- InternLM (书生·浦语) can understand and communicate fluently in the language chosen by the user such as "
    "English and 中文."
)
_CHAT_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@dataclass(frozen=True)
class Format:
    """The pieces of one named template; ``{}`` is the place of the system text, the user's turn or the answer."""

    user: tuple[str, ...]
    answer: tuple[str, ...]
    system: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()
    default_system: str = ""


_CHATML = Format(
    user=("<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",),
    answer=("{}<|im_end|>\n",),
    system=("<|im_start|>system\n{}<|im_end|>\n",),
)
_INTERN = Format(
    prefix=(BEGIN,),
    system=("<|System|>:{}\n",),
    user=("<|User|>:{}\n<|Bot|>:",),
    answer=("{}<eoa>\n",),
    default_system=_INTERN_SYSTEM,
)
_INTERN2 = replace(_CHATML, prefix=(BEGIN,), default_system=_INTERN_SYSTEM)

FORMATS = {
    "default": Format(
        user=("Human: {}", END, "\nAssistant:"), answer=("{}", END, "\n"), system=("System: {}", END, "\n")
    ),
    "glm4": Format(
        prefix=("[gMASK]<sop>",),
        system=("<|system|>\n{}",),
        user=("<|user|>\n{}<|assistant|>",),
        answer=("\n{}", END),
    ),
    "intern": _INTERN,
    "intern2": _INTERN2,
    "llama3": Format(
        prefix=(BEGIN,),
        system=("<|start_header_id|>system<|end_header_id|>\n\n{}<|eot_id|>",),
        user=(
            "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        answer=("{}<|eot_id|>",),
    ),
    "qwen": replace(
        _CHATML, default_system="You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    ),
    "default-0.9.1": Format(user=("Human: {}\nAssistant:",), answer=("{}", END), system=("{}\n",)),
    "intern-0.9.1": replace(_INTERN, answer=("{}", END), default_system=""),
    "intern2-0.9.1": replace(_INTERN2, answer=("{}", END), default_system=""),
    "default-2023": Format(
        prefix=(BEGIN,), system=("{}", "\n"), user=("Human: {}\nAssistant:",), answer=("{}", END),
        default_system=_CHAT_SYSTEM,
    ),
    "intern-2023": Format(
        prefix=(BEGIN,), system=("{}", "\n"), user=("<|User|>:{}", "<eoh>", "\n<|Bot|>:"), answer=("{}", END)
    ),
}  # fmt: skip


class NamedTemplate(Template):
    """A named template for one tokenizer.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        A fast tokenizer that holds the control tokens that the template sets alone or behind the answer.
    name : str
        A key of ``FORMATS``.
    system : str, optional
        The system text; the template's own if not given, none if empty.

    Raises
    ------
    InvalidValueError
        If there is no template of that name; the sentence lists the names.
    TaggerError
        If the tokenizer lacks a control token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, name: str, *, system: str | None = None) -> None:
        if name not in FORMATS:
            raise InvalidValueError("template", name, f"must be one of {', '.join(sorted(FORMATS))}")
        chosen = FORMATS[name]
        system = chosen.default_system if system is None else system
        own = {BEGIN: tokenizer.bos_token or "", END: tokenizer.eos_token or "<|endoftext|>"}
        told = [piece.replace(TEXT, system) for piece in _resolve(chosen.system, own)] if system else []
        self._before = [*_resolve(chosen.prefix, own), *told]
        self._user, self._answer = _resolve(chosen.user, own), _resolve(chosen.answer, own)
        self.signature = f"{name}: {self._before} {self._user} {self._answer}"
        super().__init__(tokenizer)
        self._check(name)

    def _check(self, name: str) -> None:
        alone = [piece for piece in [*self._user, *self._answer] if re.fullmatch(r"<\S+>", piece)]
        lacking = [piece for piece in alone if piece not in self.added]
        if self.encode(self.end)[0] not in self.added.values():
            lacking.append(self.end.strip())
        if lacking:
            raise TaggerError("tokenizer", lacking[0], f"must hold the control tokens of the template {name!r}")

    def _pieces(self, text: str) -> list[str]:
        return [*self._before, *(piece.replace(TEXT, user_turn(text)) for piece in self._user)]

    def _render(self, text: str) -> str:
        return "".join(self._pieces(text))

    def _render_end(self) -> str:
        return "".join(self._answer).split(TEXT)[1]

    def _encode_all(self, pieces: Iterable[str]) -> list[int]:
        coded = ([self.added[piece]] if piece in self.added else self.encode(piece) for piece in pieces)
        return [token for tokens in coded for token in tokens]

    def encode_prompt(self, text: str) -> list[int]:
        """Tokens of the prompt, piece by piece."""
        return self._encode_all(self._pieces(text))

    def encode_answer(self, line: str) -> list[tuple[int, int]]:
        """(token, first character) of an answer line; fixed text before it in its piece starts below zero."""
        before = self._answer[0].index(TEXT)
        coded = self.tokenizer(
            self._answer[0].replace(TEXT, line), add_special_tokens=False, return_offsets_mapping=True
        )
        starts = [start - before for start, _ in coded["offset_mapping"]]
        pairs = zip(coded["input_ids"], starts, strict=True)
        return [(token, start) for token, start in pairs if start < len(line)]

    def join(self, text: str, answer: str) -> tuple[list[int], int]:
        """Tokens of prompt, answer and end as training sees them, and how many of them are the prompt's."""
        prompt = self.encode_prompt(shield(text, self.added))
        return prompt + self._encode_all(piece.replace(TEXT, answer) for piece in self._answer), len(prompt)


def _resolve(pieces: Iterable[str], own: dict[str, str]) -> list[str]:
    return [piece for piece in (own.get(piece, piece) for piece in pieces) if piece]


def choose_template(
    tokenizer: PreTrainedTokenizerBase, name: str | None = None, *, system: str | None = None
) -> Template:
    """The named template, or the tokenizer's own form where no name is given.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        A fast tokenizer.
    name : str, optional
        A key of ``FORMATS``.
    system : str, optional
        The system text of a named template; its own if not given, none if empty.

    Raises
    ------
    InvalidValueError
        If there is no template of that name, or a system text without a name.
    """
    if name is not None:
        return NamedTemplate(tokenizer, name, system=system)
    if system is not None:
        raise InvalidValueError("system", system, "must come with `template`")
    return Template(tokenizer)
