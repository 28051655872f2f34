"""qlib's files hold our panel, and qlib reads them."""

from __future__ import annotations

import struct

import numpy as np
import pandas as pd
import pytest
from markets import random_market

from newsfactor.bridges import to_qlib
from newsfactor.errors import CalendarError, InvalidValueError, NotAShareError, TableError

HAND = pd.DataFrame({
    # The long holiday of May 2025 lies between the sessions of April 30 and May 6.
    "date": pd.to_datetime(["2025-04-29", "2025-04-30", "2025-05-07", "2025-05-06", "2025-05-06"]).astype("datetime64[us]"),
    "code": ["600519.SH", "600519.SH", "600519.SH", "000001.SZ", "920002.BJ"],
    "observed": 1.0, "n_news": [2, 0, 1, 16777217, 1],
    "mean_score": [0.1, np.nan, -2.5, np.inf, 1e300], "Novelty_2": [1.0, 0.5, 0.25, 0.125, -0.0],
})  # fmt: skip
HAND["known_at"] = HAND["date"].dt.tz_localize("Asia/Shanghai") + pd.Timedelta("9h15min")


def unpack(path):
    """The little-endian floats of a file."""
    content = path.read_bytes()
    return struct.unpack(f"<{len(content) // 4}f", content)


def test_qlib_files_hold_the_panel_worked_by_hand(tmp_path):
    before = HAND.copy()
    folder = to_qlib(
        HAND.sample(frac=1, random_state=1), tmp_path / "new" / "qlib", factors=["mean_score", "Novelty_2", "n_news"]
    )
    pd.testing.assert_frame_equal(HAND, before)
    assert folder == tmp_path / "new" / "qlib" and list(folder.parent.iterdir()) == [folder]
    assert (folder / "calendars/day.txt").read_bytes() == b"2025-04-29\n2025-04-30\n2025-05-06\n2025-05-07\n"
    assert (folder / "instruments/all.txt").read_text() == (
        "SZ000001\t2025-05-06\t2025-05-06\nSH600519\t2025-04-29\t2025-05-07\nBJ920002\t2025-05-06\t2025-05-06\n"
    )
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.bin"))
    fields = ("mean_score", "n_news", "novelty_2")
    assert files == [f"features/{c}/{f}.day.bin" for c in ("bj920002", "sh600519", "sz000001") for f in fields]
    stock = folder / "features/sh600519"
    # 0.1 is not a float32; its nearest is 13421773 / 2**27.
    np.testing.assert_array_equal(unpack(stock / "mean_score.day.bin"), [0, 13421773 / 2**27, np.nan, np.nan, -2.5])
    np.testing.assert_array_equal(unpack(stock / "novelty_2.day.bin"), [0, 1, 0.5, np.nan, 0.25])
    assert (folder / "features/sz000001/n_news.day.bin").read_bytes() == struct.pack("<2f", 2, 2**24)
    for code in ("sz000001", "bj920002"):  # infinite, and too large for a float32
        np.testing.assert_array_equal(unpack(folder / f"features/{code}/mean_score.day.bin"), [2, np.nan])


def test_qlib_takes_the_factors_of_a_panel_and_the_users_calendar(tmp_path):
    days = pd.DatetimeIndex(["2025-04-29", "2025-04-30", "2025-05-03", "2025-05-06", "2025-05-07"])
    folder = to_qlib(HAND, tmp_path, sessions=days)
    assert {path.name for path in folder.rglob("*.bin")} == {"mean_score.day.bin", "novelty_2.day.bin"}
    assert len((folder / "calendars/day.txt").read_text().split()) == 5
    assert len(unpack(folder / "features/sh600519/mean_score.day.bin")) == 6
    assert unpack(folder / "features/bj920002/novelty_2.day.bin")[0] == 3


@pytest.mark.parametrize(
    ("panel", "options", "error", "message"),
    [
        (HAND.rename(columns={"code": "industry"}), {}, TableError, "by stock"),
        (HAND.iloc[:0], {}, TableError, "must have rows"),
        (HAND, {"factors": ["mood"]}, TableError, "mood"),
        (HAND.rename(columns={"mean_score": "../up"}), {}, InvalidValueError, r"'\.\./up'"),
        (HAND.rename(columns={"mean_score": "情绪"}), {}, InvalidValueError, "情绪"),
        (HAND.rename(columns={"mean_score": "novelty_2"}), {}, InvalidValueError, "more than case"),
        (HAND.replace("000001.SZ", "SZ000001"), {}, TableError, "SZ000001"),
        (HAND.replace("000001.SZ", "../../x"), {}, InvalidValueError, "x"),
        (HAND.replace("000001.SZ", "399001.SZ"), {}, NotAShareError, "399001"),
        (HAND.replace(pd.Timestamp("2025-05-06"), pd.Timestamp("2025-05-01")), {}, CalendarError, "2025-05-01"),
    ],
)  # fmt: skip
def test_qlib_refuses_what_it_could_not_hold_and_leaves_no_trace(tmp_path, panel, options, error, message):
    with pytest.raises(error, match=message):
        to_qlib(panel, tmp_path / "qlib", **options)
    assert list(tmp_path.iterdir()) == []


def test_qlib_never_writes_over_what_is_there(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "kept.txt").write_text("kept")
    (tmp_path / "file").write_text("kept")
    for name in ("full", "file"):
        with pytest.raises(InvalidValueError, match="new or empty"):
            to_qlib(HAND, tmp_path / name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full", "kept.txt"]
    with pytest.raises(InvalidValueError, match="must be writable"):
        to_qlib(HAND, tmp_path / "file" / "below")


def test_qlib_itself_reads_the_folder(tmp_path):
    qlib = pytest.importorskip("qlib", reason="reading the folder with qlib needs pyqlib, which no extra installs")
    from qlib.data import D

    panel, _, _ = random_market(30, 25)
    panel = panel.drop(index=panel.index[100:350:7])
    qlib.init(provider_uri=str(to_qlib(panel, tmp_path / "qlib")), region="cn", kernels=1)
    read = D.features(D.instruments("all"), ["$tone", "$noise"], freq="day").dropna(how="all")
    asset = panel["code"].str[-2:] + panel["code"].str[:6]
    ours = panel.set_index([asset.rename("instrument"), panel["date"].rename("datetime")])[
        ["tone", "noise"]
    ].sort_index()
    np.testing.assert_array_equal(read.to_numpy(), ours.to_numpy(dtype=np.float32))
    assert list(read.index) == list(ours.index)
