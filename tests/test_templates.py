"""The named templates: token pieces written down from the formats' definition, and decoding in one of them."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import re
from dataclasses import dataclass

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tables_by_hand import make_news
from tiny import TEXTS, byte_level_tokenizer, save_checkpoint, sentencepiece_tokenizer
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from newsfactor.decoding import SlotDecoder, Template
from newsfactor.errors import InvalidValueError, TaggerError
from newsfactor.prompting import Answer
from newsfactor.tagging import Tagger
from newsfactor.taxonomy import Taxonomy
from newsfactor.templates import FORMATS, NamedTemplate, choose_template

NEWS = "海川重工公告，中标十亿元项目。"
TURN = f"请分析上述新闻中涉及到的金融事件,对应市场,关联行业,情感极性以及关联个股,按逗号分隔输出\n{NEWS}"
LINE = "事件:合同订单,市场:中国市场,行业:机械设备,情感:一般正面,关联:海川重工"
INTERN = (
    "You are an AI assistant whose name is InternLM (书生·浦语).\n- InternLM (书生·浦语) is a conversational language model "
    "that is developed by Shanghai AI Laboratory (上海人工智能实验室). It is designed to be helpful, honest, and harmless.\n"
    "- InternLM (书生·浦语) can understand and communicate fluently in the language chosen by the user such as English "
    "and 中文."
)
QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
CHAT = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
CONTROLS = (
    "<s> </s> <|im_start|> <|im_end|> <eoh> <eoa> [gMASK] <sop> <|system|> <|user|> <|assistant|> <|eot_id|> "
    "<|start_header_id|> <|end_header_id|>"
).split()

# (name, system): the pieces of the prompt, those of the answer.
EXPECTED: dict[tuple[str, str | None], tuple[list[str], list[str]]] = {
    ("default", None): (["Human: " + TURN, "</s>", "\nAssistant:"], [LINE, "</s>", "\n"]),
    ("default", "甲"): (
        ["System: 甲", "</s>", "\n", "Human: " + TURN, "</s>", "\nAssistant:"],
        [LINE, "</s>", "\n"],
    ),
    ("intern", None): (
        ["<s>", "<|System|>:" + INTERN + "\n", "<|User|>:" + TURN + "\n<|Bot|>:"],
        [LINE, "<eoa>", "\n"],
    ),
    ("intern", ""): (["<s>", "<|User|>:" + TURN + "\n<|Bot|>:"], [LINE, "<eoa>", "\n"]),
    ("intern2", None): (
        ["<s>", "<|im_start|>", "system\n" + INTERN, "<|im_end|>", "\n",
         "<|im_start|>", "user\n" + TURN, "<|im_end|>", "\n", "<|im_start|>", "assistant\n"],
        [LINE, "<|im_end|>", "\n"],
    ),
    ("qwen", None): (
        ["<|im_start|>", "system\n" + QWEN, "<|im_end|>", "\n",
         "<|im_start|>", "user\n" + TURN, "<|im_end|>", "\n", "<|im_start|>", "assistant\n"],
        [LINE, "<|im_end|>", "\n"],
    ),
    ("qwen", "You are a helpful assistant."): (
        ["<|im_start|>", "system\nYou are a helpful assistant.", "<|im_end|>", "\n",
         "<|im_start|>", "user\n" + TURN, "<|im_end|>", "\n", "<|im_start|>", "assistant\n"],
        [LINE, "<|im_end|>", "\n"],
    ),
    ("llama3", None): (
        ["<s>", "<|start_header_id|>", "user", "<|end_header_id|>", "\n\n" + TURN, "<|eot_id|>",
         "<|start_header_id|>", "assistant", "<|end_header_id|>", "\n\n"],
        [LINE, "<|eot_id|>"],
    ),
    ("llama3", "甲"): (
        ["<s>", "<|start_header_id|>", "system", "<|end_header_id|>", "\n\n甲", "<|eot_id|>",
         "<|start_header_id|>", "user", "<|end_header_id|>", "\n\n" + TURN, "<|eot_id|>",
         "<|start_header_id|>", "assistant", "<|end_header_id|>", "\n\n"],
        [LINE, "<|eot_id|>"],
    ),
    ("glm4", None): (
        ["[gMASK]", "<sop>", "<|user|>", "\n" + TURN, "<|assistant|>"],
        ["\n" + LINE, "</s>"],
    ),
    ("glm4", "甲"): (
        ["[gMASK]", "<sop>", "<|system|>", "\n甲", "<|user|>", "\n" + TURN, "<|assistant|>"],
        ["\n" + LINE, "</s>"],
    ),
    ("default-0.9.1", None): (["Human: " + TURN + "\nAssistant:"], [LINE, "</s>"]),
    ("default-0.9.1", "甲"): (["甲\n", "Human: " + TURN + "\nAssistant:"], [LINE, "</s>"]),
    ("intern-0.9.1", None): (["<s>", "<|User|>:" + TURN + "\n<|Bot|>:"], [LINE, "</s>"]),
    ("intern2-0.9.1", None): (
        ["<s>", "<|im_start|>", "user\n" + TURN, "<|im_end|>", "\n", "<|im_start|>", "assistant\n"],
        [LINE, "</s>"],
    ),
    ("default-2023", None): (["<s>", CHAT, "\n", "Human: " + TURN + "\nAssistant:"], [LINE, "</s>"]),
    ("intern-2023", None): (["<s>", "<|User|>:" + TURN, "<eoh>", "\n<|Bot|>:"], [LINE, "</s>"]),
}  # fmt: skip


def whole_piece_tokenizer(controls: list[str] = CONTROLS) -> PreTrainedTokenizerFast:
    """What stands between two control tokens is one token if an expected list holds it, else unknown."""
    pieces = {piece for lists in EXPECTED.values() for pieces in lists for piece in pieces} - set(CONTROLS)
    vocabulary = {piece: number for number, piece in enumerate(["<unk>", *sorted(pieces)])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")
    tokenizer.add_special_tokens({"additional_special_tokens": controls[2:]})
    return tokenizer


@pytest.mark.parametrize(("name", "system"), EXPECTED)
def test_pieces_are_as_the_format_defines_them(name, system):
    tokenizer = whole_piece_tokenizer()
    template = NamedTemplate(tokenizer, name, system=system)
    prompt, answer = EXPECTED[name, system]
    tokens, size = template.join(NEWS, LINE)
    assert tokenizer.convert_ids_to_tokens(tokens) == prompt + answer
    assert size == len(prompt)
    filled = template.fill(NEWS, 100)
    assert list(filled.tokens) == tokens[:size] and filled.rendered == "".join(prompt)
    (found,) = [(token, start) for token, start in template.encode_answer(LINE)]
    assert found == (tokens[size], -1 if name == "glm4" else 0)


def test_every_template_is_written_down():
    assert {name for name, _ in EXPECTED} == set(FORMATS)


def test_a_tokenizer_without_a_first_token_starts_with_the_turn():
    tokenizer = whole_piece_tokenizer()
    tokenizer.bos_token = None
    tokens, _ = NamedTemplate(tokenizer, "llama3").join(NEWS, LINE)
    assert tokenizer.convert_ids_to_tokens(tokens[:2]) == ["<|start_header_id|>", "user"]


@pytest.mark.parametrize(
    ("name", "lacking"),
    [("intern", "<eoa>"), ("qwen", "<|im_end|>"), ("llama3", "<|eot_id|>"), ("intern-2023", "<eoh>")],
)
def test_a_tokenizer_without_the_control_tokens_is_refused(name, lacking):
    tokenizer = whole_piece_tokenizer([token for token in CONTROLS if token != lacking])
    with pytest.raises(TaggerError, match=re.escape(lacking)):
        NamedTemplate(tokenizer, name)


def test_an_unknown_name_lists_the_names():
    with pytest.raises(
        InvalidValueError, match=r"must be one of default, .*glm4, intern, .*llama3, qwen, got 'vicuna'"
    ):
        choose_template(whole_piece_tokenizer(), "vicuna")
    with pytest.raises(InvalidValueError, match="`system` must come with `template`"):
        choose_template(whole_piece_tokenizer(), system="甲")


@pytest.mark.parametrize("name", ["default", "qwen", "glm4"])
def test_news_cannot_match_an_added_token(name):
    template = NamedTemplate(byte_level_tokenizer(), name)
    added = set(template.added.values())
    empty = [token for token in template.fill("", 400).tokens if token in added]
    for control in template.added:
        prompt = template.fill(f"海川{control}重工{control}{control}", 400)
        assert [token for token in prompt.tokens if token in added] == empty


@dataclass(frozen=True)
class Case:
    """A named template on a tiny checkpoint, with its pieces as text."""

    name: str
    kind: str
    prompt: tuple[str, ...]
    answer: tuple[str, ...]


CASES = [
    Case(
        "qwen", "qwen2",
        (f"<|im_start|>system\n{QWEN}<|im_end|>\n", "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"),
        ("{}<|im_end|>\n",),
    ),
    Case("glm4", "qwen2", ("[gMASK]<sop>", "<|user|>\n{}<|assistant|>"), ("\n{}", "<|im_end|>")),
    Case("default", "llama", ("Human: {}", "</s>", "\nAssistant:"), ("{}", "</s>", "\n")),
]  # fmt: skip
SMALL = Taxonomy(
    events=("个股行情", "个股研报", "个股财报", "其他"), markets=("中国市场", "香港市场"),
    industries=("银行", "非银金融", "无"),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_probabilities_equal_brute_force_on_separate_pieces(case, tmp_path):
    made = byte_level_tokenizer() if case.kind == "qwen2" else sentencepiece_tokenizer()
    folder = save_checkpoint(tmp_path, case.kind, made)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    decoder = SlotDecoder(model, tokenizer, SMALL, template=NamedTemplate(tokenizer, case.name))
    answer = decoder.decode([decoder.template.fill(text, 400) for text in TEXTS[:2]], [None, None])[1]

    def encode(pieces: tuple[str, ...], content: str) -> list[int]:
        coded = [tokenizer(piece.replace("{}", content), add_special_tokens=False)["input_ids"] for piece in pieces]
        return list(itertools.chain(*coded))

    turn = TURN.replace(NEWS, TEXTS[1])
    line = Answer(SMALL.events[0], SMALL.markets[0], SMALL.industries[0], "极度负面", ())
    for field, labels in SMALL.slots:
        rows = [
            encode(case.prompt, turn) + encode(case.answer, str(Answer(**{**vars(line), field: label})))
            for label in labels
        ]
        expected = torch.softmax(torch.stack([score_where_rows_differ(model, row, rows) for row in rows]), 0)
        assert torch.allclose(torch.tensor(answer.probabilities[field]), expected, atol=1e-4)
        line = Answer(**{**vars(line), field: answer.labels[field]})


def score_where_rows_differ(model, row: list[int], rows: list[list[int]]) -> torch.Tensor:
    """Summed log-probability of a row's tokens between what all rows begin and end with."""
    same = [len(list(itertools.takewhile(lambda c: len(set(c)) == 1, zip(*part, strict=False)))) for part in (rows, [r[::-1] for r in rows])]  # fmt: skip
    with torch.inference_mode():
        logp = torch.log_softmax(model(torch.tensor([row])).logits[0].float(), -1)
    return sum((logp[k - 1, row[k]] for k in range(same[0], len(row) - same[1])), torch.tensor(0.0))


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("base"), "qwen2", byte_level_tokenizer())


@pytest.fixture
def adapter(base, tmp_path):
    """A folder as LLaMA-Factory leaves it: PEFT weights, a copy of the tokenizer, logs, pickled arguments."""
    folder = tmp_path / "saves"
    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)
    byte_level_tokenizer().save_pretrained(folder)
    (folder / "trainer_log.jsonl").write_text("{}\n")
    (folder / "training_args.bin").write_bytes(pickle.dumps(Trap(str(tmp_path / "sprung"))))
    return folder


def test_an_adapter_of_llama_factory_tags_in_its_template(base, adapter, tmp_path, caplog):
    news = make_news([("a", "2026-07-06 08:00", "", NEWS)])
    plain = Tagger.load(base, adapter=adapter, dtype="float32")
    assert "no newsfactor.json" in caplog.text
    named = Tagger.load(base, adapter=adapter, dtype="float32", template="qwen")
    older = Tagger.load(base, adapter=adapter, dtype="float32", template="qwen", system="You are a helpful assistant.")
    assert len({plain.fingerprint, named.fingerprint, older.fingerprint}) == 3
    cache = tmp_path / "cache"
    scores = [tagger.tag(news, cache=cache, progress=False).loc[0, "score"] for tagger in (plain, named, older)]
    assert len(set(scores)) == 3
    assert named.taxonomy == Taxonomy()
    assert not (tmp_path / "sprung").exists()


def test_the_record_names_the_template_and_the_argument_overrides(base, adapter):
    (adapter / "newsfactor.json").write_text(json.dumps({"template": "qwen", "system": "甲"}), encoding="utf-8")
    recorded = Tagger.load(base, adapter=adapter, dtype="float32")
    given = Tagger.load(base, adapter=adapter, dtype="float32", template="qwen", system="甲")
    other = Tagger.load(base, adapter=adapter, dtype="float32", template="glm4")
    assert recorded.fingerprint == given.fingerprint
    assert "甲" in recorded.decoder.template.head and other.decoder.template.head.startswith("[gMASK]")
    (adapter / "newsfactor.json").write_text(json.dumps({"template": "vicuna"}), encoding="utf-8")
    with pytest.raises(InvalidValueError, match="`template` must be one of"):
        Tagger.load(base, adapter=adapter, dtype="float32")


def test_the_plain_template_joins_prompt_and_answer_as_one_string():
    tokenizer = byte_level_tokenizer()
    template = Template(tokenizer)
    tokens, size = template.join(NEWS, LINE)
    whole = tokenizer(template.head + NEWS + template.tail + LINE + template.end, add_special_tokens=False)["input_ids"]
    assert tokens == whole and tokenizer.decode(tokens[size:]) == LINE + template.end
