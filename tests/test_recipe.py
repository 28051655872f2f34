"""The bundled model's recipe: what it reads, and the loss at a label that is a distribution."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

import newsfactor as nf
from newsfactor.schema import TIMEZONE
from newsfactor.weights import BUNDLED

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
import build_bundled_model as recipe
import weak_labels as weak

TEXT = "海川重工与云岭科技签署供货协议。海川重工公告，合同金额3.2亿元，占去年营业收入的12%。"
UNTIL = pd.Timestamp("2026-07-26", tz=TIMEZONE)


def label(text: str = TEXT, stocks: str = "海川重工、云岭科技") -> pd.DataFrame:
    row = ("合同订单", "中国市场", "机械设备", "轻微正面", stocks)
    columns = ["event", "market", "industry", "sentiment", "stocks"]
    return pd.DataFrame([row], columns=columns).assign(text=text, published_at=pd.Timestamp("2026-06-01", tz=TIMEZONE))


@pytest.fixture(scope="module")
def securities() -> pd.DataFrame:
    current = pd.DataFrame({"ts_code": ["600001.SH"], "name": ["海川重工"], "sw_l1": ["机械设备"]})
    return nf.read_securities(current)


def make_data(folder: Path, published: str) -> Path:
    (folder / "wire").mkdir()
    days = pd.to_datetime(["2026-05-20 00:00", published]).tz_localize(TIMEZONE)
    wire = {"published_at": days, "title": "", "content": ["另一条更早的新闻。", TEXT]}
    pd.DataFrame(wire).to_parquet(folder / "wire" / "news_made.parquet")
    pd.DataFrame({"content": ["远山药业股东拟减持。"]}).to_parquet(folder / "wire" / "coded_news_2016_2020.parquet")
    return folder


def make_annotations(folder: Path, *texts: str) -> Path:
    table = label().drop(columns=["text", "published_at"]).assign(stocks="0+4 5+4")
    items = [weak.make_hash(weak.make_key(text)) for text in texts]
    pd.concat([table.assign(item=item) for item in items]).to_csv(folder / "told.csv", index=False)
    return folder / "told.csv"


def test_annotations_find_their_texts_and_names(tmp_path):
    data = make_data(tmp_path, "2026-06-01 10:00")
    read = weak.read_annotations(data, UNTIL, make_annotations(tmp_path, TEXT, "没有这条新闻"))
    assert read[["text", "stocks", "event"]].to_numpy().tolist() == [[TEXT, "海川重工、云岭科技", "合同订单"]]


def test_annotations_of_the_held_out_days_are_not_read(tmp_path):
    data = make_data(tmp_path, "2026-07-26 00:00")
    assert weak.read_annotations(data, UNTIL, make_annotations(tmp_path, TEXT)).empty


def test_labelled_documents_are_the_taggers_prompt_and_answer(securities):
    alone, hinted = ("".join(piece.text for piece in document) for document in weak.gold_documents(label(), securities))
    answer = "事件:合同订单,市场:中国市场,行业:机械设备,情感:轻微正面,关联:海川重工、云岭科技</s>"
    assert alone.startswith("<s>") and TEXT in alone and alone.endswith(f"\n{TEXT}<|answer|>{answer}")
    assert hinted.endswith(f"\n{TEXT}\n候选:海川重工(机械设备)<|answer|>{answer}")


def test_a_level_lends_to_its_neighbours_and_the_last_one_keeps_what_it_lends_outward():
    middle, last = weak.smooth(3, "sentiment"), weak.smooth(6, "sentiment")
    np.testing.assert_allclose(middle, [0, 0, 0.06, 0.88, 0.06, 0, 0])
    np.testing.assert_allclose(last, [0, 0, 0, 0, 0, 0.06, 0.94])
    np.testing.assert_allclose(weak.smooth(2, "market"), np.eye(8)[2])


def test_every_distribution_lies_at_its_labels_token(securities):
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED / "base", use_safetensors=True)
    documents = weak.gold_documents(pd.concat([label()] * 40), securities)
    rows = recipe.pack_pieces(tokenizer, documents, 10**6)
    places = np.argwhere(rows.soft >= 0)
    assert len(places) == 4 * len(documents)
    for row, column in places:
        number = rows.soft[row, column]
        best = rows.tokens[number, rows.shares[number].argmax()]
        assert rows.ids[row, column] == best and rows.weights[row, column] == weak.GOLD


def test_rows_hold_whole_documents_and_the_end_of_one_that_is_too_long():
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED / "base", use_safetensors=True)
    rng = np.random.default_rng(0)
    documents = [
        [
            weak.Piece("<s>" + TEXT[: rng.integers(1, 40)] * rng.integers(1, 6), weak.PLAIN),
            weak.Piece("</s>", weak.WEAK),
        ]
        for _ in range(300)
    ]
    documents.append([weak.Piece("<s>" + TEXT * 20, weak.PLAIN), weak.Piece("</s>", weak.WEAK)])
    rows = recipe.pack_pieces(tokenizer, documents, 10**6)
    held = []
    for ids, weights in zip(rows.ids, rows.weights, strict=True):
        starts = np.flatnonzero(ids == tokenizer.bos_token_id)
        for start, end in pairwise([*dict.fromkeys([0, *starts]), len(ids)]):
            held.append(tuple(ids[start:end][weights[start:end] > 0].tolist()))
    whole = tokenizer(["".join(p.text for p in d) for d in documents], add_special_tokens=False)["input_ids"]
    assert sorted(held) == sorted(tuple(ids[-recipe.LENGTH :]) for ids in whole)
    assert (rows.weights == 0).mean() < 0.1 and (rows.ids[rows.weights == 0] == tokenizer.pad_token_id).all()
    assert len(recipe.pack_pieces(tokenizer, documents, 7).ids) == 7


def test_documents_of_a_row_do_not_see_each_other():
    model = LlamaForCausalLM.from_pretrained(BUNDLED / "base", dtype=torch.float32, use_safetensors=True).eval()
    begin = model.config.bos_token_id
    first, second = torch.tensor([[begin, 900, 901, 902]]), torch.tensor([[begin, 903, 904]])
    row = torch.cat([first, second], dim=1)
    places = recipe.find_places(row, begin)
    assert places.tolist() == [[0, 1, 2, 3, 0, 1, 2]]
    with torch.inference_mode():
        together = model(input_ids=row, position_ids=places, use_cache=False).logits
        apart = [model(input_ids=ids, use_cache=False).logits for ids in (first, second)]
    torch.testing.assert_close(together, torch.cat(apart, dim=1), atol=1e-4, rtol=1e-4)


def test_the_loss_at_a_distribution_is_its_cross_entropy():
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0], [1.0, 0.0, 0.0, 0.0]])
    shares, tokens = np.array([[0.25, 0.75, 0.0]], np.float16), np.array([[1, 2, 0]])
    empty = np.zeros((0, 0))
    rows = recipe.Rows(empty, empty, empty, shares, tokens)
    losses = recipe.losses(logits, torch.tensor([2, 0]), torch.tensor([0, -1]), rows)
    total = np.log(np.exp([0, 1, 2, -1]).sum())
    expected = [0.25 * (total - 1) + 0.75 * (total - 2), np.log(np.e + 3) - 1]
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-5)
