"""Convert InternLM, InternLM2 and Baichuan-7B into Llama checkpoints, without running their code.

The three are Llamas in other clothes: InternLM has biases in the attention, InternLM2 keeps queries, keys and values
in one matrix grouped by key-value head, Baichuan stacks them. Layouts are those of the publishers' modelling files.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from newsfactor.errors import InvalidValueError, MissingExtraError, TaggerError, UnreadableFileError

KINDS = ("internlm", "internlm2", "baichuan")
SHARD_BYTES = 2 * 2**30
BAICHUAN2_VOCABULARY = 125696

_SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "max_position_embeddings",
)  # fmt: skip
_NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")
_TOKEN_NUMBERS = ("bos_token_id", "eos_token_id", "pad_token_id")
_TOKENIZER_SETTINGS = ("add_eos_token", "chat_template", "clean_up_tokenization_spaces", "model_max_length", "padding_side")  # fmt: skip
_TENSOR = re.compile(r"(?P<where>model\.(?:layers\.\d+\.)?|)(?P<part>.+)\.(?P<kind>weight|bias)")
_PARTS = {
    "tok_embeddings": "embed_tokens", "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm", "attention.wo": "self_attn.o_proj", "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w3": "mlp.up_proj", "feed_forward.w2": "mlp.down_proj",
}  # fmt: skip
_FUSED = ("attention.wqkv", "self_attn.W_pack")
_BPE, _CONTROL, _USER_DEFINED = 2, 3, 4  # sentencepiece's types of a model and of its pieces


def convert_checkpoint(source: str | Path, output_dir: str | Path) -> Path:
    """Write an InternLM, InternLM2 or Baichuan-7B checkpoint as a Llama checkpoint.

    No code of the source is run or copied, and pickled files are read as tensors alone. Weights keep their type and
    are held two gigabytes at a time. A conversion that fails leaves nothing behind.

    Parameters
    ----------
    source : path
        A local checkpoint folder: ``config.json``, weights in safetensors or ``pytorch_model*.bin``, and
        ``tokenizer.json`` or a sentencepiece ``tokenizer.model``.
    output_dir : path
        A folder that does not exist or is empty.

    Returns
    -------
    Path
        ``output_dir``, which :meth:`Tagger.load` and :func:`fine_tune` take as a base.

    Raises
    ------
    UnreadableFileError
        If a file is missing, broken, or a pickle that holds more than tensors.
    TaggerError
        If the checkpoint is of another kind, or a tensor is missing, left over or of a wrong shape.
    MissingExtraError
        If there is only a ``tokenizer.model`` and sentencepiece is not installed.

    Examples
    --------
    >>> convert_checkpoint("internlm2-7b", "internlm2-7b-llama")  # doctest: +SKIP
    """
    folder, target = Path(source), Path(output_dir)
    if not folder.is_dir():
        raise UnreadableFileError(
            "source", str(source), "must be a local checkpoint folder", remedy="download it first"
        )
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidValueError("output_dir", str(output_dir), "must be a new or an empty folder")
    original = _read_json(folder / "config.json")
    config = _make_config(original, folder / "config.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as spare:
        made = Path(spare) / "checkpoint"
        made.mkdir()
        _write_tokenizer(folder, made, config.vocab_size)
        _write_shards(_convert_tensors(folder, original, config), made)
        config.save_pretrained(made)
        _write_stops(folder, made)
        made.replace(target)
    return target


def _read_json(path: Path, *, optional: bool = False) -> dict[str, Any]:
    if optional and not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnreadableFileError("source", str(path), "must be a JSON file", remedy=str(error)) from error
    if not isinstance(content, dict):
        raise UnreadableFileError("source", str(path), "must hold a JSON object")
    return content


def _make_config(original: dict[str, Any], path: Path) -> LlamaConfig:
    kind = original.get("model_type")
    if kind not in KINDS:
        raise TaggerError("model_type", kind, f"must be one of {', '.join(KINDS)}", str(path), "transformers loads Llama, Qwen, InternLM3 and GLM-4 as they are")  # fmt: skip
    if kind == "baichuan" and ("max_position_embeddings" not in original or original.get("hidden_size") == 5120):
        raise TaggerError("hidden_size", original.get("hidden_size"), "must be that of a 7B model", str(path), "Baichuan-13B has ALiBi instead of rotary positions, which a Llama cannot express")  # fmt: skip
    if "quantization_config" in original:
        raise TaggerError("quantization_config", original["quantization_config"], "must not be set", str(path), "convert the unquantised checkpoint")  # fmt: skip
    for name in _SIZES:
        if type(original.get(name)) is not int or original[name] < 1:
            raise TaggerError(name, original.get(name), "must be a positive whole number", str(path))
    heads, groups = original["num_attention_heads"], original.get("num_key_value_heads") or original["num_attention_heads"]  # fmt: skip
    if type(groups) is not int or heads % groups:
        raise TaggerError("num_key_value_heads", groups, f"must divide the {heads} attention heads", str(path))
    optional = ("hidden_act", "initializer_range", "rms_norm_eps", "tie_word_embeddings", *_TOKEN_NUMBERS)
    rope = _make_rope(original, path)
    try:
        return LlamaConfig(
            **{name: original[name] for name in (*_SIZES, *optional) if name in original},
            num_key_value_heads=groups,
            # Only the classes of the first two know `bias`, and for them it is set unless the file says otherwise.
            attention_bias=bool(kind != "baichuan" and original.get("bias", True)),
            rope_parameters=rope,
            dtype=original.get("dtype") or original.get("torch_dtype"),
            architectures=["LlamaForCausalLM"],
        )
    except (StrictDataclassError, ValueError, TypeError) as error:
        raise TaggerError("source", str(path), "must describe a Llama", remedy=str(error).split("\n")[0]) from error


def _make_rope(original: dict[str, Any], path: Path) -> dict[str, Any]:
    """InternLM describes its rotary embedding in ``rotary``, InternLM2 as Llama once did, Baichuan not at all."""
    scaling = original.get("rotary") or original.get("rope_scaling") or {}
    theta = scaling.get("base", original.get("rope_theta", 10000.0))
    form = scaling.get("rope_type") or scaling.get("type") or "default"
    if form in ("origin", "default"):
        return {"rope_type": "default", "rope_theta": float(theta)}
    factor = scaling.get("factor", scaling.get("scaling_factor", 1.0))
    if form not in ("dynamic", "linear") or not isinstance(factor, (int, float)) or factor < 1:
        raise TaggerError("rope_scaling", scaling, "must be of type dynamic or linear with a factor of at least 1", str(path))  # fmt: skip
    return {"rope_type": form, "rope_theta": float(theta), "factor": float(factor)}


def _write_stops(folder: Path, target: Path) -> None:
    """Of the source's settings for generation, the tokens at which it begins and ends."""
    settings = _read_json(folder / "generation_config.json", optional=True)
    numbers = {name: settings[name] for name in _TOKEN_NUMBERS if name in settings}
    if numbers:
        GenerationConfig(**numbers).save_pretrained(target)


def _convert_tensors(
    folder: Path, original: dict[str, Any], config: LlamaConfig
) -> Iterator[tuple[str, torch.Tensor]]:  # fmt: skip
    """Every tensor of the Llama once, in the order of the files."""
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in LlamaForCausalLM(config).state_dict().items()}
    if config.tie_word_embeddings:
        expected.pop("lm_head.weight")
    normed = original["model_type"] == "baichuan" and ("z_loss_weight" in original or config.vocab_size == BAICHUAN2_VOCABULARY)  # fmt: skip
    missing = dict(expected)
    for name, part, place in _rename_tensors(folder, config):
        if name not in missing:
            again = "must not be left over" if name not in expected else f"must not give {name} a second time"
            raise TaggerError("source", name, again, place)
        if part.shape != missing.pop(name) or not part.is_floating_point():
            wanted = f"must be floating-point numbers of shape {tuple(expected[name])} for {name}"
            raise TaggerError("source", f"{part.dtype} {tuple(part.shape)}", wanted, place)
        yield name, _normalise(part) if normed and name == "lm_head.weight" else part
    if missing:
        raise TaggerError("source", next(iter(missing)), f"must have every tensor, {len(missing)} missing", str(folder))


def _rename_tensors(folder: Path, config: LlamaConfig) -> Iterator[tuple[str, torch.Tensor, str]]:
    """The tensors under a Llama's names, fused ones split, each with its place."""
    for path in _find_weights(folder):
        for name, tensor in _read_tensors(path):
            place = f"{name} in {path}"
            found = _TENSOR.fullmatch(name)
            where, part, kind = found.group("where", "part", "kind") if found else ("", name, "")
            if part.endswith("rotary_emb.inv_freq"):
                _check_frequencies(tensor, config, place)
            elif part in _FUSED:
                pieces = _split(tensor, config, grouped=part == _FUSED[0], place=place)
                yield from (
                    (f"{where}self_attn.{letter}_proj.{kind}", piece, place)
                    for letter, piece in zip("qkv", pieces, strict=True)
                )
            elif name == "output.weight" or name == "lm_head.weight":
                if not config.tie_word_embeddings:
                    yield "lm_head.weight", tensor, place
            else:
                yield f"{where}{_PARTS.get(part, part)}.{kind}" if found else name, tensor, place


def _find_weights(folder: Path) -> list[Path]:
    for name in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{name}.index.json"
        if index.is_file():
            listed = _read_json(index).get("weight_map")
            names = sorted({str(file) for file in listed.values()}) if isinstance(listed, dict) else []
            outside = [file for file in names if Path(file).name != file or Path(file).suffix != Path(name).suffix]
            if outside or not names:
                raise UnreadableFileError("weight_map", outside, f"must list {Path(name).suffix} files of its own folder", str(index))  # fmt: skip
            return [folder / file for file in names]
        if (folder / name).is_file():
            return [folder / name]
    raise UnreadableFileError("source", str(folder), "must hold model*.safetensors or pytorch_model*.bin")


def _read_tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """One tensor after another; a torch file is mapped, and whatever in it is no tensor is refused."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118
                    yield name, opened.get_tensor(name)
            return
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, SafetensorError) as error:
        raise UnreadableFileError("source", str(path), "must be readable weights", remedy=str(error)) from error
    except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        # torch's own message advises to unpickle what it refused.
        raise UnreadableFileError("source", str(path), "must be a torch zip file that holds tensors alone", remedy="look for the checkpoint in safetensors") from error  # fmt: skip
    if not isinstance(content, dict):
        raise UnreadableFileError("source", str(path), "must hold tensors by name")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise UnreadableFileError("source", name, "must be the name of a tensor", str(path))
        yield name, tensor


def _split(tensor: torch.Tensor, config: LlamaConfig, *, grouped: bool, place: str) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values: one block of rows each, or so many blocks as there are key-value heads."""
    heads, groups, width = config.num_attention_heads, config.num_key_value_heads or 0, config.head_dim or 0
    rows = (heads + 2 * groups) * width
    if not tensor.ndim or tensor.shape[0] != rows:
        raise TaggerError("source", tuple(tensor.shape), f"must have {rows} rows", place)
    if not grouped:
        return tuple(tensor.split([heads * width, groups * width, groups * width]))
    blocks = tensor.reshape(groups, heads // groups + 2, width, *tensor.shape[1:])
    return tuple(piece.reshape(-1, *tensor.shape[1:]) for piece in (blocks[:, :-2], blocks[:, -2], blocks[:, -1]))


def _normalise(head: torch.Tensor) -> torch.Tensor:
    """Baichuan2 divides each row of its output matrix by its length before use; here it is done once."""
    return torch.nn.functional.normalize(head.float(), dim=1).to(head.dtype)


def _check_frequencies(tensor: torch.Tensor, config: LlamaConfig, place: str) -> None:
    """Old checkpoints store what follows from the configuration; where it does not, the configuration is wrong."""
    width, theta = config.head_dim or 0, dict(config.rope_parameters or {})["rope_theta"]
    expected = theta ** -(torch.arange(0, width, 2) / width)
    if tensor.shape != expected.shape or not torch.allclose(tensor.float(), expected, rtol=1e-2, atol=1e-6):
        raise TaggerError("source", tensor.flatten()[:4].tolist(), f"must be the rotary frequencies of base {theta:g}", place)  # fmt: skip


def _write_shards(tensors: Iterable[tuple[str, torch.Tensor]], target: Path) -> None:
    places: dict[str, str] = {}
    total = 0
    for number, batch in enumerate(_batches(tensors), start=1):
        file = f"model-{number:05d}.safetensors"
        save_file(batch, target / file, metadata={"format": "pt"})
        places |= dict.fromkeys(batch, file)
        total += sum(tensor.nbytes for tensor in batch.values())
        batch.clear()
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (target / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")


def _batches(tensors: Iterable[tuple[str, torch.Tensor]]) -> Iterator[dict[str, torch.Tensor]]:
    batch: dict[str, torch.Tensor] = {}
    size = 0
    for name, tensor in tensors:
        if batch and size + tensor.nbytes > SHARD_BYTES:
            yield batch
            batch, size = {}, 0
        # A copy, for the parts of a split matrix share its memory, which safetensors refuses.
        batch[name] = tensor.clone(memory_format=torch.contiguous_format)
        size += tensor.nbytes
    yield batch


def _write_tokenizer(folder: Path, target: Path, rows: int) -> None:
    settings = _read_json(folder / "tokenizer_config.json", optional=True)
    settings = _read_json(folder / "special_tokens_map.json", optional=True) | settings
    added = _read_added(folder, settings)
    ready = (folder / "tokenizer.json").is_file()
    raw, named = (_read_fast(folder / "tokenizer.json"), {}) if ready else _read_sentencepiece(folder / "tokenizer.model", added)  # fmt: skip
    for number, token in added.items():
        if raw.token_to_id(token.content) != number:
            raise TaggerError("source", token.content, f"must be token {number} but is {raw.token_to_id(token.content)}", str(folder))  # fmt: skip
    if raw.get_vocab_size() > rows:
        raise TaggerError("source", raw.get_vocab_size(), f"must have at most the {rows} tokens of the embedding", str(folder))  # fmt: skip
    named |= {name: _content(settings[name]) for name in _NAMED_TOKENS if settings.get(name)}
    kept = {name: settings[name] for name in _TOKENIZER_SETTINGS if name in settings}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, add_bos_token=settings.get("add_bos_token", True),
        extra_special_tokens=[_content(token) for token in settings.get("additional_special_tokens") or []],
        **named, **kept,
    )  # fmt: skip
    if (folder / "chat_template.jinja").is_file():
        tokenizer.chat_template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    tokenizer.save_pretrained(target)


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _read_added(folder: Path, settings: dict[str, Any]) -> dict[int, AddedToken]:
    """Added tokens by number, from ``tokenizer_config.json`` or the older ``added_tokens.json``.

    They stand in a text as they are written: a normaliser would put the leading space before them.
    """
    older = _read_json(folder / "added_tokens.json", optional=True)
    listed = settings.get("added_tokens_decoder") or {number: {"content": token} for token, number in older.items()}
    try:
        return {
            int(number): AddedToken(
                token["content"], single_word=token.get("single_word", False), lstrip=token.get("lstrip", False),
                rstrip=token.get("rstrip", False), normalized=False, special=token.get("special", True),
            )
            for number, token in sorted(listed.items(), key=lambda item: int(item[0]))
        }  # fmt: skip
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableFileError("source", str(folder), "must list its added tokens by number", remedy=repr(error)) from error  # fmt: skip


def _read_fast(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise UnreadableFileError("source", str(path), "must be a tokenizer", remedy=str(error)) from error


def _read_sentencepiece(path: Path, added: Mapping[int, AddedToken]) -> tuple[Tokenizer, dict[str, str]]:
    """The tokenizer of a sentencepiece BPE model and its named tokens; placeholders get the names of ``added``."""
    proto = _parse_sentencepiece(path)
    spec = proto.trainer_spec
    pieces = [added[number].content if number in added else p.piece for number, p in enumerate(proto.pieces)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    if spec.model_type != _BPE or len(vocabulary) < len(pieces):
        raise TaggerError("source", str(path), "must be a sentencepiece model of the type BPE with each piece once")
    raw = Tokenizer(
        models.BPE(
            vocabulary, _rank_merges(vocabulary, proto), unk_token=pieces[spec.unk_id], fuse_unk=True,
            byte_fallback=spec.byte_fallback,
        )
    )  # fmt: skip
    raw.normalizer, raw.decoder = _follow_spec(proto.normalizer_spec)
    own = {
        number: AddedToken(piece.piece, normalized=False, special=piece.type == _CONTROL)
        for number, piece in enumerate(proto.pieces)
        if piece.type == _CONTROL or _is_symbol(piece)
    }
    raw.add_tokens([token for _, token in sorted((own | dict(added)).items(), key=lambda item: item[0])])
    numbers = {"unk_token": spec.unk_id, "bos_token": spec.bos_id, "eos_token": spec.eos_id}
    return raw, {name: pieces[number] for name, number in numbers.items() if number >= 0}


def _parse_sentencepiece(path: Path) -> Any:
    if not path.is_file():
        raise UnreadableFileError("source", str(path.parent), "must hold tokenizer.json or tokenizer.model")
    try:
        from google.protobuf.message import DecodeError
        from sentencepiece import sentencepiece_model_pb2
    except ImportError as error:
        raise MissingExtraError("sentencepiece with protobuf", "convert") from error
    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    try:
        proto.ParseFromString(path.read_bytes())
    except (OSError, DecodeError) as error:
        raise UnreadableFileError("source", str(path), "must be a sentencepiece model", remedy=str(error)) from error
    return proto


def _is_symbol(piece: Any) -> bool:
    """Whether a piece is cut out of the text before any merge; one character needs no cutting, nor do runs of spaces."""
    return bool(piece.type == _USER_DEFINED and len(piece.piece) > 1 and "▁" not in piece.piece)


def _rank_merges(vocabulary: Mapping[str, int], proto: Any) -> list[tuple[str, str]]:
    """Every pair of pieces that makes a piece, those of the best score first, as sentencepiece joins them."""
    scores = {text: p.score for text, p in zip(vocabulary, proto.pieces, strict=True) if not _is_symbol(p)}
    ranked = []
    for text, score in scores.items():
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in scores and right in scores:
                ranked.append((-score, vocabulary[left], vocabulary[right], left, right))
    return [(left, right) for *_, left, right in sorted(ranked)]


def _follow_spec(spec: Any) -> tuple[Any, Any]:
    """Normaliser and decoder of a sentencepiece model: its character map, its spaces, its leading space."""
    steps: list[Any] = [normalizers.Precompiled(spec.precompiled_charsmap)] if spec.precompiled_charsmap else []
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    steps += [normalizers.Prepend("▁")] if spec.add_dummy_prefix else []
    steps += [normalizers.Replace(" ", "▁")]
    undo = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    undo += [decoders.Strip(" ", left=1)] if spec.add_dummy_prefix else []
    return normalizers.Sequence(steps), decoders.Sequence(undo)
