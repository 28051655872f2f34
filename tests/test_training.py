"""Fine-tuning tiny checkpoints: the loss is on the answer alone, it falls, and the tagger reads the result back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import test_checkpoints
import torch
from safetensors.torch import load_file
from tables_by_hand import make_news
from tiny import byte_level_tokenizer, save_checkpoint, sentencepiece_tokenizer
from transformers import AutoModelForCausalLM, Trainer

from newsfactor import training
from newsfactor.checkpoints import convert_checkpoint
from newsfactor.comparison import compare_tags
from newsfactor.decoding import Template
from newsfactor.errors import InvalidValueError, TableError, TaggerError, UnreadableFileError
from newsfactor.prompting import Answer
from newsfactor.securities import read_securities
from newsfactor.tagging import Tagger
from newsfactor.taxonomy import Taxonomy
from newsfactor.training import encode_example, fine_tune, merge_adapter, split_labels

RECORDS = [
    {"instruction": "", "input": f"海川重工公告，中标{k}亿元项目。", "output": str(Answer("合同订单", "中国市场", "机械设备", "一般正面", ("海川重工",)))}
    for k in range(6)
] + [
    {"instruction": "", "input": f"远岫地产公告，亏损{k}亿元。", "output": str(Answer("个股财报", "中国市场", "房地产", "极度负面", ("远岫地产",)))}
    for k in range(6)
]  # fmt: skip
SETTINGS = {
    "held_out": 0, "progress": False, "num_train_epochs": 12, "learning_rate": 2e-2, "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1, "use_cpu": True,
}  # fmt: skip
NEWS = make_news(
    [
        ("a", "2026-07-06 08:00", "", "海川重工公告，中标9亿元项目。"),
        ("b", "2026-07-06 09:00", "", "远岫地产公告，亏损9亿元。"),
    ]
)


def tag(*args, **options) -> pd.DataFrame:
    return Tagger.load(*args, **options).tag(NEWS, cache=False, progress=False)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("base"), "qwen2", byte_level_tokenizer())


@pytest.fixture(scope="module")
def tuned(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned") / "lora"
    return fine_tune(RECORDS, folder, base=base, trained_through="2026-07-01", **SETTINGS)


def test_a_tuned_adapter_is_read_back_and_has_learnt(base, tuned):
    found = {path.name for path in tuned.iterdir()}
    assert found == {"adapter_config.json", "adapter_model.safetensors", "newsfactor.json", "loss.png"}
    assert str(base.parent) not in (tuned / "adapter_config.json").read_text() + (tuned / "newsfactor.json").read_text()
    tagger = Tagger.load(base, adapter=tuned, dtype="float32")
    assert str(tagger.trained_through.date()) == "2026-07-01"
    tags = tagger.tag(NEWS, cache=False, progress=False)
    assert tags["event"].tolist() == ["合同订单", "个股财报"] and tags["sentiment"].tolist() == ["一般正面", "极度负面"]
    assert tags.loc[0, "score"] > 1 > -1 > tags.loc[1, "score"]


def test_the_seed_gives_the_weights(base, tmp_path):
    short = {**SETTINGS, "num_train_epochs": 1}
    first, second, other = (
        weights_of(fine_tune(RECORDS, tmp_path / name, base=base, seed=seed, **short))
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_the_loss_at_the_answers_alone_is_the_stock_loss(base, tmp_path, monkeypatch):
    own, losses = training._Tuner.compute_loss, []

    def both(self, model, inputs, *rest, **options):
        losses.append([compute(self, model, {**inputs}, *rest, **options) for compute in (own, Trainer.compute_loss)])
        return losses[-1][0]

    monkeypatch.setattr(training._Tuner, "compute_loss", both)
    # Records of unequal length: each batch is padded.
    records = [{**record, "input": record["input"] * (k % 3 + 1)} for k, record in enumerate(RECORDS)]
    fine_tune(records, tmp_path / "lora", base=base, **{**SETTINGS, "num_train_epochs": 2})
    assert len(losses) == 6
    for one, other in losses:
        assert one.item() == pytest.approx(other.item(), rel=1e-5)


@pytest.mark.parametrize("make", [byte_level_tokenizer, sentencepiece_tokenizer])
def test_the_loss_is_on_the_answer_and_its_end_alone(make):
    tokenizer = make()
    template = Template(tokenizer)
    record = RECORDS[0]
    example = encode_example(template, record["input"], record["output"])
    answer = tokenizer.decode([token for token in example["labels"] if token != -100])
    assert answer == record["output"] + template.end
    assert tokenizer.decode(example["input_ids"]) == template.head + record["input"] + template.tail + answer


def test_every_bad_record_is_reported(tmp_path, base):
    bad = [
        RECORDS[0],
        {"input": "甲"},
        {"input": "甲", "output": RECORDS[0]["output"]},
        {"input": "甲", "output": "事件:无"},
    ]
    with pytest.raises(TableError, match=r"3 bad of 4.*record 1: .*record 2: .*海川重工.*record 3: "):
        fine_tune(bad, tmp_path, base=base)
    (tmp_path / "labels.json").write_text(json.dumps(RECORDS)[:-5], encoding="utf-8")
    with pytest.raises(UnreadableFileError, match=r"labels\.json"):
        fine_tune(tmp_path / "labels.json", tmp_path, base=base)
    with pytest.raises(TableError, match="at least one"):
        fine_tune([], tmp_path, base=base)


def convert_layout(folder: Path, config: dict, monkeypatch) -> Path:
    """A random checkpoint in a publisher's own layout, with a tokenizer that can write the answer, converted."""
    tokenizer = byte_level_tokenizer()
    monkeypatch.setattr(test_checkpoints, "VOCABULARY", len(tokenizer))
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 2048, "eos_token_id": tokenizer.eos_token_id}
    source = test_checkpoints.write_source(
        folder / "source", {**config, **sizes, "bos_token_id": None, "pad_token_id": None}
    )
    tokenizer.save_pretrained(source)
    return convert_checkpoint(source, folder / "base")


@pytest.mark.parametrize("kind", ["qwen3", "llama", "mistral", "glm4", "INTERNLM", "INTERNLM2", "BAICHUAN"])
def test_each_architecture_learns_and_is_read_back(kind, tmp_path, monkeypatch):
    if kind.isupper():
        base = convert_layout(tmp_path, getattr(test_checkpoints, kind), monkeypatch)
    else:
        base = save_checkpoint(tmp_path / "base", kind, byte_level_tokenizer())
    folder = fine_tune(RECORDS, tmp_path / "lora", base=base, **SETTINGS)
    plain, learnt = tag(base, dtype="float32"), tag(base, adapter=folder, dtype="float32")
    right = NEWS["news_id"].map({"a": "合同订单", "b": "个股财报"}).tolist()
    assert learnt["event"].tolist() == right != plain["event"].tolist()
    first, last = json.loads((folder / "newsfactor.json").read_text())["losses"]
    assert last < first / 4


def test_each_epoch_is_judged_and_the_best_one_kept(base, tmp_path):
    """With a learning rate that explodes later, patience ends the run early and returns to the best epoch."""
    judged = [
        {**RECORDS[0], "input": "海川重工公告，中标77亿元项目。"},
        {**RECORDS[6], "input": "远岫地产公告，亏损88亿元。"},
    ]
    options = {**SETTINGS, "num_train_epochs": 9, "lr_scheduler_type": "constant", "learning_rate": 2e-2}
    folder = fine_tune(RECORDS, tmp_path / "lora", base=base, **{**options, "held_out": judged, "patience": 2})
    record = json.loads((folder / "newsfactor.json").read_text())
    means = [epoch["eval_mean"] for epoch in record["epochs"]]
    best = means.index(max(means))
    assert len(means) == best + 3 < 9, means
    card = json.loads((folder / "scorecard.json").read_text())
    figures = {(row["field"], row["metric"]): row["value"] for row in card["figures"]}
    assert figures["event", "accuracy"] == pytest.approx(record["epochs"][best]["eval_event_accuracy"], abs=1e-4)
    news = NEWS.assign(content=[record["input"] for record in judged])
    tags = Tagger.load(base, adapter=folder, dtype="float32").tag(news, cache=False, progress=False)
    assert (tags["event"] == ["合同订单", "个股财报"]).mean() == figures["event", "accuracy"]
    assert (tags["sentiment"] == ["一般正面", "极度负面"]).mean() == figures["sentiment", "accuracy"]
    assert not list(folder.glob("checkpoint-*")) and not list(folder.rglob("*.bin")) and not list(folder.rglob("*.pt"))


def test_a_killed_run_goes_on_to_the_same_weights(base, tmp_path):
    options = {**SETTINGS, "num_train_epochs": 6}
    whole = weights_of(fine_tune(RECORDS, tmp_path / "whole", base=base, **options))
    (tmp_path / "labels.json").write_text(json.dumps(RECORDS), encoding="utf-8")
    script = (
        "import sys, time\nfrom transformers import TrainerCallback\nfrom newsfactor import training\n"
        "class Slow(TrainerCallback):\n"
        "    def on_epoch_begin(self, args, state, control, **_):\n"
        "        if state.epoch >= 3: time.sleep(600)\n"
        "begin = training._Tuner.train\n"
        "training._Tuner.train = lambda self, **k: (self.add_callback(Slow()), begin(self, **k))\n"
        f"training.fine_tune({str(tmp_path / 'labels.json')!r}, {str(tmp_path / 'cut')!r}, base={str(base)!r}, **{options!r})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        wait_for(tmp_path / "cut", "checkpoint-9/trainer_state.json", process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not list((tmp_path / "cut").rglob("*.bin"))
    with pytest.raises(InvalidValueError, match="unfinished run with other settings"):
        fine_tune(RECORDS, tmp_path / "cut", base=base, **{**options, "learning_rate": 1e-3})
    cut = weights_of(fine_tune(tmp_path / "labels.json", tmp_path / "cut", base=base, **options))
    assert all(torch.allclose(whole[name], cut[name], atol=1e-5) for name in whole)
    with pytest.raises(InvalidValueError, match="finished adapter"):
        fine_tune(RECORDS, tmp_path / "cut", base=base, **options)


def wait_for(folder: Path, name: str, process: subprocess.Popen) -> None:
    began = time.monotonic()
    while not (folder / name).exists():
        assert process.poll() is None, "the run ended before it was killed"
        assert time.monotonic() - began < 300, "no checkpoint was written"
        time.sleep(0.1)
    time.sleep(0.3)


def test_an_adapter_of_another_base_is_refused(base, tuned, tmp_path):
    other = save_checkpoint(tmp_path / "other", "qwen2", byte_level_tokenizer(), seed=1)
    with pytest.raises(TaggerError, match=r"was tuned on .* and the weights of the base 'other' are others"):
        Tagger.load(other, adapter=tuned)
    record = json.loads((tuned / "newsfactor.json").read_text())
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (copy / name).write_bytes((tuned / name).read_bytes())
    (copy / "newsfactor.json").write_text(json.dumps({**record, "prompt_sha1": "0" * 40}))
    with pytest.raises(TaggerError, match="another prompt"):
        Tagger.load(base, adapter=copy)


def test_a_merged_checkpoint_answers_as_base_and_adapter(base, tuned, tmp_path):
    merged = merge_adapter(base, tuned, tmp_path / "merged", dtype="float32")
    for dtype in ("float32", "bfloat16"):
        both = [tag(base, adapter=tuned, dtype=dtype), tag(merged, dtype=dtype)]
        assert compare_tags(*both).agreement == 1
        assert (both[0]["score"] - both[1]["score"]).abs().max() < 1e-5
    assert str(Tagger.load(merged).trained_through.date()) == "2026-07-01"
    with pytest.raises(InvalidValueError, match="must be empty"):
        merge_adapter(base, tuned, tmp_path / "merged")
    half = merge_adapter(base, tuned, tmp_path / "half", dtype="bfloat16")
    assert {str(p.dtype) for p in AutoModelForCausalLM.from_pretrained(half).parameters()} == {"torch.bfloat16"}


def test_four_bit_bases_are_tuned_and_read_back(tmp_path):
    pytest.importorskip("bitsandbytes")
    base = save_checkpoint(tmp_path / "base", "qwen2", byte_level_tokenizer(), width=64)
    folder = fine_tune(RECORDS, tmp_path / "lora", base=base, quantization="4bit", **SETTINGS)
    tags = tag(base, adapter=folder, dtype="float32", quantization="4bit")
    assert tags["event"].tolist() == ["合同订单", "个股财报"]
    with pytest.raises(InvalidValueError, match="'4bit'"):
        Tagger.load(base, quantization="8bit")


def test_a_named_template_is_recorded_and_used(base, tmp_path):
    folder = fine_tune(RECORDS, tmp_path / "lora", base=base, template="qwen", **SETTINGS)
    tagger = Tagger.load(base, adapter=folder, dtype="float32")
    assert "You are Qwen" in tagger.decoder.template.head
    assert tagger.tag(NEWS, cache=False, progress=False)["event"].tolist() == ["合同订单", "个股财报"]


def test_records_are_learnt_with_and_without_a_hint(base, tmp_path):
    securities = read_securities(
        pd.DataFrame(
            {"code": ["600001.SH", "600002.SH"], "name": ["海川重工", "远岫地产"], "sw_l1": ["机械设备", "房地产"]}
        )
    )
    records = [{**record, "published_at": "2026-07-01T08:00:00+08:00"} for record in RECORDS]
    folder = fine_tune(
        records, tmp_path / "lora", base=base, securities=securities, **{**SETTINGS, "num_train_epochs": 8}
    )
    tagger = Tagger.load(base, adapter=folder, dtype="float32")
    assert tagger.hints and json.loads((folder / "newsfactor.json").read_text())["hints"]
    told = tagger.tag(NEWS, securities=securities, cache=False, progress=False)
    alone = tagger.tag(NEWS, cache=False, progress=False)
    assert told["industry"].tolist() == alone["industry"].tolist() == ["机械设备", "房地产"]
    assert (told["p_industry"] - alone["p_industry"]).abs().max() > 1e-6
    assert told["stocks"].tolist() == [["海川重工"], ["远岫地产"]]


def test_a_share_is_held_out_by_story_and_by_time():
    frame = pd.DataFrame({"text": [f"第{k}条" for k in range(10)], "story_id": list("aabbccddee"), "event": "其他"})
    train, judged = split_labels(frame, 0.2, Taxonomy(), seed=3)
    assert len(judged) == 2 and judged["story_id"].nunique() == 1 and len(train) == 8
    assert not set(train["story_id"]) & set(judged["story_id"])
    timed = frame.assign(published_at=pd.date_range("2026-07-01", periods=10, tz="Asia/Shanghai")[::-1])
    assert split_labels(timed, 0.2, Taxonomy())[1]["story_id"].unique().tolist() == ["a"]
    assert split_labels(frame, 0.0, Taxonomy())[1].empty
    with pytest.raises(InvalidValueError, match=r"share in 0\.\.1"):
        split_labels(frame, 1.5, Taxonomy())
    with pytest.raises(InvalidValueError, match="held-out part"):
        fine_tune(RECORDS, "nowhere", held_out=0, patience=1)
