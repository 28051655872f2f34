"""Fine-tuning tiny checkpoints: the loss is on the answer alone, it falls, and the tagger reads the result back."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from tables_by_hand import make_news
from tiny import byte_level_tokenizer, save_checkpoint, sentencepiece_tokenizer

from newsfactor.decoding import Template
from newsfactor.errors import TableError, UnreadableFileError
from newsfactor.prompting import Answer
from newsfactor.tagging import Tagger
from newsfactor.training import encode_example, fine_tune

RECORDS = [
    {"instruction": "", "input": f"海川重工公告，中标{k}亿元项目。", "output": str(Answer("合同订单", "中国市场", "机械设备", "一般正面", ("海川重工",)))}
    for k in range(6)
] + [
    {"instruction": "", "input": f"远岫地产公告，亏损{k}亿元。", "output": str(Answer("个股财报", "中国市场", "房地产", "极度负面", ("远岫地产",)))}
    for k in range(6)
]  # fmt: skip
SETTINGS = {"num_train_epochs": 12, "learning_rate": 2e-2, "per_device_train_batch_size": 4, "use_cpu": True}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("base"), "qwen2", byte_level_tokenizer())


def test_a_tuned_adapter_is_read_back_and_has_learnt(base, tmp_path):
    folder = fine_tune(RECORDS, tmp_path / "lora", base=base, trained_through="2026-07-01", **SETTINGS)
    assert {path.suffix for path in folder.iterdir() if path.is_file()} == {".json", ".safetensors"}
    assert str(tmp_path) not in (folder / "adapter_config.json").read_text() + (folder / "newsfactor.json").read_text()
    tagger = Tagger.load(base, adapter=folder, dtype="float32")
    assert str(tagger.trained_through.date()) == "2026-07-01"
    news = make_news(
        [
            ("a", "2026-07-06 08:00", "", "海川重工公告，中标9亿元项目。"),
            ("b", "2026-07-06 09:00", "", "远岫地产公告，亏损9亿元。"),
        ]
    )
    tags = tagger.tag(news, cache=False, progress=False)
    assert tags["event"].tolist() == ["合同订单", "个股财报"] and tags["sentiment"].tolist() == ["一般正面", "极度负面"]
    assert tags.loc[0, "score"] > 1 > -1 > tags.loc[1, "score"]


def test_the_seed_gives_the_weights(base, tmp_path):
    short = {**SETTINGS, "num_train_epochs": 1}
    first, second, other = (
        load_file(fine_tune(RECORDS, tmp_path / name, base=base, seed=seed, **short) / "adapter_model.safetensors")
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


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
