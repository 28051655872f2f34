"""The commands around labels and adapters, end to end on a tiny checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from tiny import byte_level_tokenizer, save_checkpoint
from typer.testing import CliRunner

import newsfactor as nf
from newsfactor.cli import app
from newsfactor.labels import read_labels

DATA = Path(__file__).resolve().parent.parent / "data"


def call(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Forty sample labels, a tiny base, an adapter tuned on them, and the merged checkpoint."""
    folder = tmp_path_factory.mktemp("cli")
    records = json.loads((DATA / "labels_train.json").read_text(encoding="utf-8"))[:40]
    records[0]["input"] = f"【快讯】{records[0]['input']}"
    (folder / "labels.json").write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    save_checkpoint(folder / "base", "qwen2", byte_level_tokenizer())
    options = ("--base", folder / "base", "--epochs", 1, "--rate", 1e-2, "--batch", 8)
    output = call("train", folder / "labels.json", folder / "lora", *options)
    assert "Scorecard on 4 items" in output
    call("merge", folder / "lora", folder / "merged", "--base", folder / "base", "--dtype", "float32")
    return folder


def test_two_ways_to_run_a_model_are_compared(folder):
    adapter = f"{folder / 'base'},adapter={folder / 'lora'},dtype=float32"
    same = call("compare", adapter, f"{folder / 'merged'},dtype=float32", "--on", folder / "labels.json")
    assert "100.00% of 200 labels agree" in same
    other = call("compare", adapter, f"{folder / 'base'},dtype=float32", "--on", folder / "labels.json", code=1)
    assert "too few" in other and "Differences" in other
    wrong = call("compare", f"{folder / 'base'},colour=red", "bundled", "--on", folder / "labels.json", code=2)
    assert "'colour'" in wrong


def test_a_model_and_free_answers_are_scored(folder, tmp_path):
    output = call("score", folder / "labels.json", "--model", folder / "merged", "--out", tmp_path / "card.json")
    assert "40 items of 40 stories: 0 without a valid answer" in output
    figures = json.loads((tmp_path / "card.json").read_text(encoding="utf-8"))["figures"]
    assert {row["field"] for row in figures} >= {"event", "market", "industry", "sentiment", "stocks"}
    records = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    lines = [{"prompt": r["input"], "label": r["output"], "predict": r["output"] if k % 2 else "不清楚"} for k, r in enumerate(records)]  # fmt: skip
    predictions = tmp_path / "generated_predictions.jsonl"
    predictions.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    assert "40 items of 40 stories: 20 without a valid answer" in call("score", predictions)


def test_labelling_goes_round(folder, tmp_path):
    labels = read_labels(folder / "labels.json")
    news = pd.DataFrame({"news_id": labels.index.map(str), "published_at": "2026-07-01", "title": "", "content": labels["text"]})  # fmt: skip
    tagger = nf.Tagger.load(folder / "merged", dtype="float32")
    tags = tagger.tag(nf.read_news(news, timezone="Asia/Shanghai"), cache=False, progress=False)
    nf.write_table(tags, tmp_path / "tags.parquet")
    assert "random" in call("label", "export", tmp_path / "tags.parquet", tmp_path / "round.xlsx", "--size", 10)
    assert "labels in all" in call("label", "import", tmp_path / "round.xlsx", tmp_path / "own.json")
    assert len(read_labels(tmp_path / "own.json")) == 10
    assert "10" in call("label", "agreement", tmp_path / "round.xlsx", tmp_path / "own.json")


def test_errors_are_one_line(folder, tmp_path):
    assert "error: " in call("convert", folder / "base", tmp_path / "out", code=2)
    assert "finished adapter" in call("train", folder / "labels.json", folder / "lora", code=2)
