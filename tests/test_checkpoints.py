"""Converted checkpoints against a direct computation of the original attention, and their tokenizers against sentencepiece."""

from __future__ import annotations

import io
import json
import os
import pickle
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from tables_by_hand import make_news
from tiny import CHATML, TEXTS
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from newsfactor import checkpoints
from newsfactor.checkpoints import convert_checkpoint
from newsfactor.errors import InvalidValueError, MissingExtraError, TaggerError, UnreadableFileError
from newsfactor.tagging import Tagger

HIDDEN, HEADS, WIDTH, INNER, VOCABULARY, LAYERS = 32, 4, 8, 48, 40, 2
SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS, "max_position_embeddings": 8, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "tie_word_embeddings": False, "torch_dtype": "float32",
}  # fmt: skip
DYNAMIC = {"type": "dynamic", "factor": 2.0}
INTERNLM = {**SIZES, "model_type": "internlm", "bias": True, "rotary": {"base": 10000, "type": "dynamic"}}
INTERNLM2 = {**SIZES, "model_type": "internlm2", "bias": False, "num_key_value_heads": 2, "rope_theta": 1000000, "rope_scaling": DYNAMIC}  # fmt: skip
BAICHUAN = {**SIZES, "model_type": "baichuan"}
BAICHUAN2 = {**BAICHUAN, "z_loss_weight": 0}


def make_weights(config):
    """Random weights under the original's names and in its layout."""
    generator = torch.Generator().manual_seed(7)
    groups = config.get("num_key_value_heads", HEADS)

    def draw(*shape):
        return torch.randn(*shape, generator=generator) * (0.2 if len(shape) > 1 else 0.1)

    def norm():
        return 1 + draw(HIDDEN)

    kind = config["model_type"]
    rows = (HEADS + 2 * groups) * WIDTH
    inner = {
        "internlm": {f"self_attn.{x}_proj": (HIDDEN, HIDDEN) for x in "qkvo"},
        "internlm2": {"attention.wqkv": (rows, HIDDEN), "attention.wo": (HIDDEN, HIDDEN)},
        "baichuan": {"self_attn.W_pack": (rows, HIDDEN), "self_attn.o_proj": (HIDDEN, HIDDEN)},
    }[kind]
    names = ("feed_forward.w1", "feed_forward.w3", "feed_forward.w2") if kind == "internlm2" else ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")  # fmt: skip
    feed = dict(zip(names, ((INNER, HIDDEN), (INNER, HIDDEN), (HIDDEN, INNER)), strict=True))
    before, after = ("attention_norm", "ffn_norm") if kind == "internlm2" else ("input_layernorm", "post_attention_layernorm")  # fmt: skip
    weights = {"model.tok_embeddings.weight" if kind == "internlm2" else "model.embed_tokens.weight": draw(VOCABULARY, HIDDEN)}  # fmt: skip
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        weights |= {f"{at}{name}.weight": draw(*shape) for name, shape in (inner | feed).items()}
        if config.get("bias"):
            weights |= {f"{at}{name}.bias": draw(shape[0]) for name, shape in inner.items()}
        weights |= {f"{at}{before}.weight": norm(), f"{at}{after}.weight": norm()}
    weights["model.norm.weight"] = norm()
    weights["output.weight" if kind == "internlm2" else "lm_head.weight"] = draw(VOCABULARY, HIDDEN)
    return weights


def write_source(folder, config, weights=None, *, form="safetensors", shards=1):
    """A checkpoint folder with a minimal tokenizer.json."""
    folder.mkdir(exist_ok=True)
    weights = make_weights(config) if weights is None else weights
    (folder / "config.json").write_text(json.dumps(config))
    Tokenizer(models.BPE({"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3}, [])).save(str(folder / "tokenizer.json"))
    stem, write = ("model", save_file) if form == "safetensors" else ("pytorch_model", torch.save)
    if shards == 1:
        write(weights, folder / f"{stem}.{form}")
        return folder
    places = {name: f"{stem}-{k % shards + 1:05d}-of-{shards:05d}.{form}" for k, name in enumerate(weights)}
    for file in set(places.values()):
        write({name: tensor for name, tensor in weights.items() if places[name] == file}, folder / file)
    (folder / f"{stem}.{form}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def linear(weights, name, x):
    return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0.0)


def split_heads(config, weights, at, x):
    """Queries by head, keys and values by group, read from the rows where each publisher put them."""
    groups = config.get("num_key_value_heads", HEADS)
    if config["model_type"] == "internlm":
        q, k, v = (linear(weights, f"{at}self_attn.{name}_proj", x).split(WIDTH, dim=1) for name in "qkv")
        return q, k, v
    if config["model_type"] == "baichuan":
        rows = linear(weights, f"{at}self_attn.W_pack", x).split(WIDTH, dim=1)
        return rows[:HEADS], rows[HEADS : 2 * HEADS], rows[2 * HEADS :]
    rows = linear(weights, f"{at}attention.wqkv", x).split(WIDTH, dim=1)
    each = HEADS // groups
    q, k, v = [], [], []
    for group in range(groups):
        first = group * (each + 2)
        q += rows[first : first + each]
        k.append(rows[first + each])
        v.append(rows[first + each + 1])
    return q, k, v


def rotate(x, theta, factor):
    """Each pair of a vector's halves is a complex number, turned by position times frequency."""
    frequency = theta ** -(torch.arange(0, WIDTH, 2, dtype=torch.float64) / WIDTH)
    angle = torch.outer(torch.arange(len(x), dtype=torch.float64) / factor, frequency)
    turned = torch.complex(x[:, : WIDTH // 2], x[:, WIDTH // 2 :]) * torch.exp(1j * angle)
    return torch.cat([turned.real, turned.imag], dim=1)


def find_rotation(config, length):
    """The base that dynamic scaling gives a text of this length, and the divisor of linear scaling."""
    scaling = config.get("rotary") or config.get("rope_scaling") or {"type": "origin"}
    theta = float(scaling.get("base", config.get("rope_theta", 10000)))
    limit, factor = config["max_position_embeddings"], scaling.get("factor", 1.0)
    if scaling["type"] == "dynamic" and length > limit:
        theta *= (factor * length / limit - (factor - 1)) ** (WIDTH / (WIDTH - 2))
    return theta, factor if scaling["type"] == "linear" else 1.0


def original_logits(config, weights, tokens):
    """The publisher's forward pass, head by head, in double precision."""
    weights = {name: tensor.double() for name, tensor in weights.items()}
    new = config["model_type"] == "internlm2"
    theta, factor = find_rotation(config, len(tokens))

    def norm(name, x):
        return weights[f"{name}.weight"] * x / (x.square().mean(dim=1, keepdim=True) + config["rms_norm_eps"]).sqrt()

    x = weights["model.tok_embeddings.weight" if new else "model.embed_tokens.weight"][tokens]
    future = torch.ones(len(tokens), len(tokens)).triu(1).bool()
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        q, k, v = split_heads(config, weights, at, norm(at + ("attention_norm" if new else "input_layernorm"), x))
        heads = []
        for head in range(HEADS):
            group = head // (HEADS // len(k))
            scores = rotate(q[head], theta, factor) @ rotate(k[group], theta, factor).T / WIDTH**0.5
            heads.append(scores.masked_fill(future, -torch.inf).softmax(dim=1) @ v[group])
        x = x + linear(weights, at + ("attention.wo" if new else "self_attn.o_proj"), torch.cat(heads, dim=1))
        y = norm(at + ("ffn_norm" if new else "post_attention_layernorm"), x)
        names = ("feed_forward.w1", "feed_forward.w3", "feed_forward.w2") if new else ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")  # fmt: skip
        gate, up = (linear(weights, at + name, y) for name in names[:2])
        x = x + linear(weights, at + names[2], gate * torch.sigmoid(gate) * up)
    head = weights["output.weight" if new else "lm_head.weight"]
    if "z_loss_weight" in config:
        head = head / head.square().sum(dim=1, keepdim=True).sqrt()
    return norm("model.norm", x) @ head.T


@pytest.mark.parametrize("length", [7, 13])  # the longer one passes max_position_embeddings
@pytest.mark.parametrize(
    ("config", "form", "shards"),
    [
        (INTERNLM, "bin", 2),
        ({**INTERNLM, "bias": False, "rotary": {"base": 5000, "type": "origin"}}, "safetensors", 1),
        ({name: value for name, value in INTERNLM.items() if name != "rotary"}, "bin", 1),
        (INTERNLM2, "safetensors", 3),
        ({**INTERNLM2, "bias": True, "rope_scaling": {"type": "linear", "factor": 2.0}}, "bin", 2),
        ({**INTERNLM2, "num_key_value_heads": 1, "rope_scaling": None}, "bin", 1),
        (BAICHUAN, "bin", 1),
        (BAICHUAN2, "safetensors", 2),
    ],
)
def test_the_llama_computes_what_the_original_does(config, form, shards, length, tmp_path):
    weights = make_weights(config)
    source = write_source(tmp_path / "source", config, weights, form=form, shards=shards)
    folder = convert_checkpoint(source, tmp_path / "llama")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    assert type(model) is LlamaForCausalLM
    tokens = torch.arange(1, 1 + length) * 7 % VOCABULARY
    with torch.no_grad():
        logits = model(tokens[None]).logits[0]
    expected = original_logits(config, weights, tokens)
    assert expected.std() > 0.1
    torch.testing.assert_close(logits.double(), expected, atol=1e-5, rtol=0)


def test_the_configuration_is_carried_over(tmp_path):
    source = write_source(tmp_path / "source", {**INTERNLM2, "pad_token_id": 2, "auto_map": {"AutoConfig": "x.Y"}})
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 5], "temperature": 0.8}))
    folder = convert_checkpoint(source, tmp_path / "llama")
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"] and config["model_type"] == "llama"
    assert "auto_map" not in config and config["num_key_value_heads"] == 2 and config["attention_bias"] is False
    assert config["rope_parameters"] == {"rope_type": "dynamic", "rope_theta": 1000000.0, "factor": 2.0}
    assert [config[f"{name}_token_id"] for name in ("bos", "eos", "pad")] == [1, 2, 2]
    assert config["rms_norm_eps"] == 1e-5 and config["tie_word_embeddings"] is False
    assert AutoModelForCausalLM.from_pretrained(folder).generation_config.eos_token_id == [2, 5]


def test_stored_numbers_and_their_type_are_kept(tmp_path):
    half = {name: tensor.half() for name, tensor in make_weights(BAICHUAN).items()}
    source = write_source(tmp_path / "source", {**BAICHUAN, "torch_dtype": "float16"}, half, form="bin")
    model = AutoModelForCausalLM.from_pretrained(convert_checkpoint(source, tmp_path / "llama"))
    values = model.model.layers[1].self_attn.v_proj.weight
    assert values.dtype == torch.float16
    assert torch.equal(values, half["model.layers.1.self_attn.W_pack.weight"][2 * HIDDEN :])


def test_large_weights_are_written_in_shards(tmp_path, monkeypatch):
    source = write_source(tmp_path / "source", INTERNLM2, form="bin")
    whole = convert_checkpoint(source, tmp_path / "whole")
    monkeypatch.setattr(checkpoints, "SHARD_BYTES", 12_000)
    parts = convert_checkpoint(source, tmp_path / "parts")
    files = sorted(parts.glob("*.safetensors"))
    assert len(files) > 3 and all(file.stat().st_size < 16_000 for file in files)
    together = {name: tensor for file in files for name, tensor in load_file(file).items()}
    index = json.loads((parts / "model.safetensors.index.json").read_text())
    assert sorted(index["weight_map"]) == sorted(together)
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in together.values())
    expected = load_file(whole / "model-00001.safetensors")
    assert all(torch.equal(together[name], tensor) for name, tensor in expected.items())
    assert AutoModelForCausalLM.from_pretrained(parts).dtype == torch.float32


def test_tied_embeddings_are_stored_once(tmp_path):
    weights = make_weights(INTERNLM)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    config = {**INTERNLM, "tie_word_embeddings": True}
    folder = convert_checkpoint(write_source(tmp_path / "source", config, weights), tmp_path / "llama")
    assert "lm_head.weight" not in load_file(folder / "model-00001.safetensors")
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(model.lm_head.weight, weights["model.embed_tokens.weight"])


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("how", ["in the zip", "plain pickle", "old torch form", "no tensor", "cut"])
def test_a_torch_file_is_never_unpickled(how, tmp_path):
    source = write_source(tmp_path / "source", INTERNLM, form="bin")
    file, marker = source / "pytorch_model.bin", tmp_path / "marker"
    weights = {**make_weights(INTERNLM), "model.more": Malicious(marker)}
    if how == "plain pickle":
        file.write_bytes(pickle.dumps(Malicious(marker)))
    elif how == "no tensor":
        torch.save({**make_weights(INTERNLM), "steps": 3}, file)
    elif how == "cut":
        file.write_bytes(file.read_bytes()[:5000])
    else:
        torch.save(weights, file, _use_new_zipfile_serialization=how == "in the zip")
    with pytest.raises(UnreadableFileError, match=r"pytorch_model\.bin") as caught:
        convert_checkpoint(source, tmp_path / "llama")
    assert not marker.exists() and "weights_only" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_code_of_the_source_is_neither_run_nor_copied(tmp_path):
    marker = tmp_path / "marker"
    maps = {"AutoConfig": "modeling_evil.C", "AutoModelForCausalLM": "modeling_evil.M", "AutoTokenizer": ["modeling_evil.T", None]}  # fmt: skip
    source = write_source(tmp_path / "source", {**INTERNLM2, "auto_map": maps})
    (source / "modeling_evil.py").write_text(f"import os\nos.mkdir({str(marker)!r})\n")
    (source / "tokenizer_config.json").write_text(json.dumps({"auto_map": maps, "tokenizer_class": "InternLM2Tokenizer"}))  # fmt: skip
    folder = convert_checkpoint(source, tmp_path / "llama")
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors"}
    assert all("evil" not in path.read_text() for path in folder.glob("*.json"))
    AutoModelForCausalLM.from_pretrained(folder)
    assert AutoTokenizer.from_pretrained(folder).is_fast and not marker.exists()


def change(weights, name, tensor):
    return {key: value for key, value in {**weights, name: tensor}.items() if value is not None}


@pytest.mark.parametrize(
    ("config", "name", "tensor", "message"),
    [
        (INTERNLM, "model.layers.1.self_attn.o_proj.bias", None, r"1 missing, got 'model\.layers\.1\.self_attn\.o_proj\.bias'"),
        (INTERNLM, "model.layers.0.mlp.gate_proj.bias", torch.zeros(INNER), r"must not be left over.*gate_proj\.bias in .*model\.safetensors"),
        (INTERNLM, "v_head.weight", torch.zeros(1, HIDDEN), "must not be left over, got 'v_head.weight'"),
        (INTERNLM, "qscales", torch.zeros(1), "must not be left over, got 'qscales'"),
        (INTERNLM, "model.norm.weight", torch.zeros(3), r"shape \(32,\) for model\.norm\.weight, got 'torch\.float32 \(3,\)'"),
        (INTERNLM, "model.norm.weight", torch.zeros(HIDDEN, dtype=torch.int8), r"floating-point.*torch\.int8"),
        (INTERNLM2, "model.layers.0.attention.wqkv.weight", torch.zeros(96, HIDDEN), r"must have 64 rows.*wqkv\.weight in .*model\.safetensors"),
        (INTERNLM2, "model.embed_tokens.weight", torch.zeros(VOCABULARY, HIDDEN), "must not give model.embed_tokens.weight a second time"),
        (BAICHUAN, "model.layers.0.self_attn.W_pack.weight", torch.zeros(96, 3), r"shape \(32, 32\) for model\.layers\.0\.self_attn\.q_proj"),
        (BAICHUAN, "model.layers.0.self_attn.rotary_emb.inv_freq", torch.ones(4), "rotary frequencies of base 10000"),
    ],
)  # fmt: skip
def test_every_tensor_is_used_once_and_none_is_missing(config, name, tensor, message, tmp_path):
    source = write_source(tmp_path / "source", config, change(make_weights(config), name, tensor))
    with pytest.raises(TaggerError, match=message):
        convert_checkpoint(source, tmp_path / "llama")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_stored_rotary_frequencies_need_not_be_kept(tmp_path):
    frequencies = torch.tensor([1.0, 0.1, 0.01, 0.001]).half()  # 10000 ** -(0, 1/4, 1/2, 3/4)
    weights = change(make_weights(BAICHUAN), "model.layers.0.self_attn.rotary_emb.inv_freq", frequencies)
    folder = convert_checkpoint(write_source(tmp_path / "source", BAICHUAN, weights, form="bin"), tmp_path / "llama")
    assert not any("inv_freq" in name for name in load_file(folder / "model-00001.safetensors"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**SIZES, "model_type": "chatglm"}, "`model_type` must be one of internlm, internlm2, baichuan, got 'chatglm'"),
        ({**BAICHUAN, "hidden_size": 5120}, "Baichuan-13B has ALiBi"),
        ({name: value for name, value in BAICHUAN.items() if name != "max_position_embeddings"}, "Baichuan-13B has ALiBi"),
        ({**INTERNLM2, "quantization_config": {"bits": 4}}, "convert the unquantised"),
        ({**INTERNLM2, "hidden_size": "32"}, "`hidden_size` must be a positive whole number, got '32'"),
        ({**INTERNLM2, "hidden_size": 30}, "must describe a Llama"),
        ({**INTERNLM2, "num_key_value_heads": 3}, "`num_key_value_heads` must divide the 4 attention heads, got 3"),
        ({**INTERNLM2, "rope_scaling": {"type": "yarn", "factor": 2.0}}, "`rope_scaling` must be of type dynamic or linear"),
        ({**INTERNLM2, "rope_scaling": {"type": "dynamic", "factor": "2"}}, "`rope_scaling` must be of type"),
    ],
)  # fmt: skip
def test_other_architectures_are_refused(config, message, tmp_path):
    source = write_source(tmp_path / "source", config, {"x": torch.zeros(1)})
    with pytest.raises(TaggerError, match=message):
        convert_checkpoint(source, tmp_path / "llama")


def test_unreadable_folders_are_refused(tmp_path):
    with pytest.raises(UnreadableFileError, match="must be a local checkpoint folder"):
        convert_checkpoint("internlm/internlm2-7b", tmp_path / "llama")
    source = write_source(tmp_path / "source", INTERNLM2)
    with pytest.raises(InvalidValueError, match="must be a new or an empty folder"):
        convert_checkpoint(source, source)
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UnreadableFileError, match=r"model\.safetensors' must be readable|must be readable weights"):
        convert_checkpoint(source, tmp_path / "llama")
    weights.unlink()
    with pytest.raises(UnreadableFileError, match="must hold model"):
        convert_checkpoint(source, tmp_path / "llama")
    (source / "model.safetensors.index.json").write_text('{"weight_map": {"x": "../model.safetensors"}}')
    with pytest.raises(UnreadableFileError, match="of its own folder, got"):
        convert_checkpoint(source, tmp_path / "llama")
    (source / "config.json").write_text("[]")
    with pytest.raises(UnreadableFileError, match=r"JSON object, got .*config\.json"):
        convert_checkpoint(source, tmp_path / "llama")


def train_sentencepiece(folder, **settings):
    """A small BPE model with placeholders such as InternLM2 keeps for its chat tokens."""
    spm = pytest.importorskip("sentencepiece")
    stream = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES), model_writer=stream, model_type="bpe", vocab_size=TOKENS, byte_fallback=True,
        character_coverage=1.0, minloglevel=2, **settings,
        user_defined_symbols=["[UNUSED_TOKEN_145]", "[UNUSED_TOKEN_146]", "<eoh>", "%", "▁▁", "▁▁▁", "▁▁▁▁"],
    )  # fmt: skip
    (folder / "tokenizer.json").unlink(missing_ok=True)
    (folder / "tokenizer.model").write_bytes(stream.getvalue())
    return spm.SentencePieceProcessor(model_proto=stream.getvalue())


TOKENS = 700
ENGLISH = (
    "the loan of the bank and the bond of the other bank are in another land, and then the lender lent it to a banker"
)
WORDS = "回购 公司 股份 回购公司股份 公告 业绩预告 净利润 利润 同比增长 增长 战略合作协议 合作 协议 逆回购操作 操作 央行 资金 自有资金".split()
PAIRS = [first + second for first in WORDS for second in WORDS]
SENTENCES = [*TEXTS, *PAIRS, ENGLISH, "a share 12.5%  of  it"]
PLAIN = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
STRINGS = [
    *TEXTS, *PAIRS[::7], ENGLISH[5:60], ENGLISH[2::3], "the bank", " the  bank ", "the    bank     loan", "海川 重工\n the",
    "🙂龘x", "12.5%", "ＡＢＣ１２３％", "a<eoh>", "营收同比增长,净利润12.5%的公司公告公告", "",
]  # fmt: skip


def write_large(folder, config, **settings):
    """A source with an embedding for the sentencepiece model, and that model."""
    grown = {
        name: tensor.repeat(TOKENS // VOCABULARY + 1, 1)[:TOKENS] if tensor.shape[0] == VOCABULARY else tensor
        for name, tensor in make_weights(config).items()
    }
    source = write_source(folder, {**config, "vocab_size": TOKENS}, grown)
    return source, train_sentencepiece(source, **settings)


@pytest.mark.parametrize(
    "settings",
    [PLAIN, {**PLAIN, "add_dummy_prefix": False}, {"normalization_rule_name": "nmt_nfkc"}],
    ids=["leading space", "none", "nfkc"],
)
def test_the_tokenizer_cuts_as_sentencepiece_does(settings, tmp_path):
    source, oracle = write_large(tmp_path / "source", INTERNLM, **settings)
    tokenizer = AutoTokenizer.from_pretrained(convert_checkpoint(source, tmp_path / "llama"))
    assert tokenizer.is_fast and len(tokenizer) == oracle.get_piece_size() == TOKENS
    for text in STRINGS:
        expected = oracle.encode(text)
        assert tokenizer.encode(text, add_special_tokens=False) == expected, text
        assert tokenizer.decode(expected) == oracle.decode(expected), text
    assert tokenizer("the").input_ids == [oracle.bos_id(), *oracle.encode("the")]
    named = [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id]
    assert named == [oracle.bos_id(), oracle.eos_id(), oracle.unk_id()]


def test_chat_tokens_and_template_are_kept(tmp_path):
    source, oracle = write_large(tmp_path / "source", INTERNLM2, **PLAIN)
    start, end = (oracle.piece_to_id(f"[UNUSED_TOKEN_{k}]") for k in (146, 145))
    token = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": True, "special": True}
    settings = {
        "added_tokens_decoder": {
            "1": {"content": "<s>", **token}, str(start): {"content": "<|im_start|>", **token},
            str(end): {"content": "<|im_end|>", **token},
        },
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "chat_template": CHATML, "add_bos_token": False,
        "pad_token": {"content": "</s>", **token}, "tokenizer_class": "InternLM2Tokenizer",
    }  # fmt: skip
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = AutoTokenizer.from_pretrained(convert_checkpoint(source, tmp_path / "llama"))
    turn = tokenizer.apply_chat_template([{"role": "user", "content": "回购"}], tokenize=False)
    assert turn == "<|im_start|>user\n回购<|im_end|>\n"
    expected = [start, *oracle.encode("user\n回购"), end, *oracle.encode("\n")]
    assert tokenizer.encode(turn) == expected
    assert tokenizer.decode(expected, skip_special_tokens=True) == "user\n回购 \n"
    assert tokenizer.pad_token_id == oracle.eos_id() and "[UNUSED_TOKEN_146]" not in tokenizer.get_vocab()
    assert {"<|im_start|>", "<|im_end|>"} <= set(tokenizer.all_special_tokens)


def test_older_files_of_added_tokens_are_read(tmp_path):
    source, oracle = write_large(tmp_path / "source", INTERNLM, **PLAIN)
    number = oracle.piece_to_id("[UNUSED_TOKEN_145]")
    (source / "added_tokens.json").write_text(json.dumps({"<eoa>": number}))
    (source / "special_tokens_map.json").write_text(json.dumps({"eos_token": "<eoa>"}))
    tokenizer = AutoTokenizer.from_pretrained(convert_checkpoint(source, tmp_path / "llama"))
    assert tokenizer.eos_token == "<eoa>" and tokenizer.eos_token_id == number
    (source / "added_tokens.json").write_text(json.dumps({"<eoa>": TOKENS + 80}))
    with pytest.raises(TaggerError, match=f"must be token {TOKENS + 80} but is {TOKENS}, got '<eoa>'"):
        convert_checkpoint(source, tmp_path / "other")
    (source / "added_tokens.json").write_text(json.dumps({"<eoa>": TOKENS}))
    with pytest.raises(TaggerError, match=f"at most the {TOKENS} tokens of the embedding, got {TOKENS + 1}"):
        convert_checkpoint(source, tmp_path / "other")


def test_a_tokenizer_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    source = write_source(tmp_path / "source", INTERNLM)
    (source / "tokenizer.json").write_text("{}")
    with pytest.raises(UnreadableFileError, match=r"must be a tokenizer, got .*tokenizer\.json"):
        convert_checkpoint(source, tmp_path / "llama")
    (source / "tokenizer.json").unlink()
    with pytest.raises(UnreadableFileError, match=r"must hold tokenizer\.json or tokenizer\.model"):
        convert_checkpoint(source, tmp_path / "llama")
    (source / "tokenizer.model").write_bytes(b"\xff\xff")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(MissingExtraError, match=r"newsfactor\[convert\]"):
        convert_checkpoint(source, tmp_path / "llama")
    monkeypatch.undo()
    pytest.importorskip("sentencepiece")
    with pytest.raises(UnreadableFileError, match="must be a sentencepiece model"):
        convert_checkpoint(source, tmp_path / "llama")


def test_a_converted_base_tags_news(tmp_path):
    source, _ = write_large(tmp_path / "source", INTERNLM, **PLAIN)
    tagger = Tagger.load(convert_checkpoint(source, tmp_path / "llama"), dtype="float32")
    tags = tagger.tag(make_news([("a", "2026-07-06 08:00", "", TEXTS[0])]), cache=False, progress=False)
    assert tags.loc[0, "status"] == "ok" and abs(tags.loc[0, "score"]) <= 3
