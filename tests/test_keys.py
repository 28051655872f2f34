"""Repeated keys against a plain loop over tuples."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from newsfactor import keys
from newsfactor.keys import find_repeated


def loop(frame: pd.DataFrame, key: list[str]) -> list[int]:
    """By a set of tuples; what is missing is the same as what is missing."""
    seen: set[tuple] = set()
    found = []
    for position, row in enumerate(frame[key].astype(object).to_numpy()):
        values = tuple(None if pd.isna(value) else value for value in row)
        if values in seen:
            found.append(position)
        seen.add(values)
    return found


def make_frame(n: int, seed: int) -> pd.DataFrame:
    """Ids of all lengths, some of which are the same but for the last byte; names that may be missing; days."""
    rng = np.random.default_rng(seed)
    ids = ["新闻" * (k % 9) + "x" * (k % 11) + str(k % 7) for k in rng.integers(0, n, n)]
    names = pd.Series(rng.choice(["", "甲公司", "甲公", "乙"], n), dtype="str").mask(pd.Series(rng.random(n) < 0.3))
    days = pd.Timestamp("2026-07-01") + pd.to_timedelta(rng.integers(0, 5, n), unit="D")
    return pd.DataFrame({"id": pd.Series(ids, dtype="str"), "name": names, "day": days.as_unit("us"), "number": rng.integers(0, 3, n)})  # fmt: skip


@pytest.mark.parametrize("key", [["id"], ["id", "name"], ["day", "id"], ["id", "name", "day"], ["id", "number"]])
def test_equals_a_loop(key, monkeypatch):
    monkeypatch.setattr(keys, "_BLOCK", 64)
    frame = make_frame(700, seed=1)
    frame = pd.concat([frame.iloc[:300], frame.iloc[250:]], ignore_index=True)  # arrow keeps these as two chunks
    expected = loop(frame, key)
    assert find_repeated(frame, key).tolist() == expected and expected
    assert find_repeated(frame[::-1], key).tolist() == loop(frame[::-1], key)
    labels = frame.assign(id=frame["id"].astype("category"), name=frame["name"].astype("category"))
    assert find_repeated(labels, key).tolist() == expected
    nullable = frame.assign(id=frame["id"].astype(pd.StringDtype()), name=frame["name"].astype(pd.StringDtype()))
    assert find_repeated(nullable, key).tolist() == expected
    once = frame.drop(index=expected)
    assert find_repeated(once, key).tolist() == [] == find_repeated(once.sort_values(key), key).tolist()


def test_one_repetition_among_many():
    frame = pd.DataFrame({"id": pd.Series([f"n{k}" for k in range(200_000)], dtype="str")})
    frame.loc[150_000, "id"] = "n7"
    assert find_repeated(frame, ["id"]).tolist() == [150_000]
    assert find_repeated(frame.iloc[:0], ["id"]).tolist() == []
