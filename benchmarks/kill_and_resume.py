"""SIGKILL `newsfactor run` in the middle of tagging, run it again, compare with an uninterrupted run in float32.

python benchmarks/kill_and_resume.py [--stocks 60] [--days 60] [--kills 3]
"""

from __future__ import annotations

import argparse
import inspect
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from machine import describe_machine

import newsfactor as nf

FIELDS = ("event", "market", "industry", "sentiment")
INPUTS = ("news", "securities", "prices", "coverage")
BATCH = inspect.signature(nf.Tagger.tag).parameters["batch_size"].default


def start(inputs: Path, out: Path, journal: Path) -> subprocess.Popen[bytes]:
    """The command in a process of its own."""
    tables = [f"--{name}={inputs / name}.parquet" for name in INPUTS]
    line = [
        sys.executable,
        "-m",
        "newsfactor.cli",
        "run",
        *tables,
        f"--out={out}",
        f"--cache={journal}",
        "--dtype=float32",
    ]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def journalled(journal: Path) -> int:
    """Answers kept so far."""
    if not (journal / "tags.sqlite").exists():
        return 0
    with sqlite3.connect(journal / "tags.sqlite", timeout=30) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'answers'").fetchone():
            return 0
        return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])


def interrupt(inputs: Path, out: Path, journal: Path, share: float, total: int) -> int:
    """Kill a run once it has kept a share of the answers; returns how many it had kept."""
    process = start(inputs, out, journal)
    while journalled(journal) < share * total and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return journalled(journal)


def compare(one: pd.DataFrame, two: pd.DataFrame) -> dict[str, float]:
    """Labels that differ, those of them that are ties (top two within 1e-5), and the largest score difference."""
    differ = np.zeros(len(one), dtype=bool)
    for field in FIELDS:
        differ |= (one[field] != two[field]).to_numpy() & one[field].notna().to_numpy()
    top = np.sort(one.filter(regex="^p_[mp0]").to_numpy(), axis=1)[:, -2:]
    tie = top[:, 1] - top[:, 0] < 1e-5
    return {"rows": len(one), "labels differ": int(differ.sum()), "of these ties": int((differ & tie).sum()),
            "names differ": int((one["stocks"].map(list) != two["stocks"].map(list)).sum()),
            "largest score difference": float((one["score"] - two["score"]).abs().max())}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stocks", type=int, default=60)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--kills", type=int, default=3)
    options = parser.parse_args()
    market = nf.synthetic_market(options.stocks, options.days, 0.1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in INPUTS:
            nf.write_table(getattr(market, name), root / f"{name}.parquet")
        assert start(root, root / "whole", root / "journal").wait() == 0
        total = journalled(root / "journal")
        expected = pd.read_parquet(root / "whole" / "tags.parquet")
        for k in range(options.kills):
            out, journal = root / f"out{k}", root / f"journal{k}"
            kept = interrupt(root, out, journal, (k + 1) / (options.kills + 1), total)
            assert start(root, out, journal).wait() == 0
            found = pd.read_parquet(out / "tags.parquet")
            panels = [nf.PanelStore(path / "factors" / "stock").read() for path in (root / "whole", out)]
            same = panels[0].equals(panels[1])
            rows.append({"kept at the kill": kept, "of": total, "left for the second run": total - kept,
                         "tagged twice, at most": BATCH, **compare(expected, found), "panels equal": same})  # fmt: skip
    print(describe_machine())
    print(pd.DataFrame(rows).to_markdown(index=False))


if __name__ == "__main__":
    main()
