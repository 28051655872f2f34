"""SIGKILL `PanelStore.update` at random moments while another process reads; compare with an uninterrupted run.

    python benchmarks/store_kills.py [--kills 200] [--updates 25] [--names 50] [--seed 0]

A synthetic history is handed to the store in so many updates. Each is killed at a moment drawn evenly from its
usual length and run again until it lives; when the last is done the history begins anew in another folder. The
reader reads all the time: each table must be one of the states that uninterrupted updates end in, and never an
earlier one than the last. After each kill the folder must read as the state before or after the update; after
each rerun its live files must be those of the uninterrupted run, byte by byte, and no kept file be damaged.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import signal
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import describe_machine

import newsfactor as nf
from newsfactor.errors import StoreError
from newsfactor.schema import LEVELS, PROBABILITIES
from newsfactor.sessions import default_sessions

Batch = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]


def make_batches(updates: int, names: int, seed: int) -> list[Batch]:
    """Links, days of the universe and coverage of each update: two sessions, a tenth of the news a week late."""
    rng = np.random.default_rng(seed)
    days = default_sessions()
    days = days[days >= "2026-03-02"][: 2 * updates]
    codes = [f"{600000 + name}.SH" for name in range(names)]
    n = len(days) * names // 2
    when = days.to_numpy()[rng.integers(0, len(days), n)] + pd.to_timedelta(rng.integers(0, 86_400, n), unit="s")
    times = pd.Series(pd.DatetimeIndex(when).tz_localize("Asia/Shanghai").as_unit("us"))
    links = make_links(times, rng.choice(codes, n), rng)
    arrives = when + pd.to_timedelta(np.where(rng.random(n) < 0.1, 7, 0), unit="D")
    slot = np.minimum(days.searchsorted(arrives) // 2, updates - 1)
    grid = pd.MultiIndex.from_product([days, codes], names=["date", "code"]).to_frame(index=False)
    universe = grid.assign(
        industry="电子", circ_mv=1e9, is_st=False, is_suspended=False, limit_up=np.nan, limit_down=np.nan,
        list_date=pd.Timestamp("2010-01-04").as_unit("us"),
    )  # fmt: skip
    start, end = times.min(), times.max() + pd.Timedelta(days=9)
    coverage = pd.DataFrame({"source": "wire", "start": [start - pd.Timedelta(days=90)], "end": [end]})
    return [(links[slot == k], universe[universe["date"].isin(days[2 * k : 2 * k + 2])], coverage) for k in range(updates)]  # fmt: skip


def make_links(times: pd.Series, codes: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """LINKS, one per time, with levels drawn at random."""
    labels = np.array(list(LEVELS))[rng.integers(0, 7, len(times))]
    unit = dict.fromkeys((*PROBABILITIES, "p_event", "p_market", "p_industry", "mentioned", "relevance", "event_novelty"), 1.0)  # fmt: skip
    text = {
        "time_precision": "second", "title": "公告", "source": "wire", "event": "公司动态", "market": "中国市场",
        "industry": "电子", "status": "ok", "tagger": "synthetic", "stock_industry": "电子", "name_evidence": "observed",
        "link_status": "exact",
    }  # fmt: skip
    return pd.DataFrame(
        {
            "news_id": [f"n{k}" for k in range(len(times))], "published_at": times, "available_at": times, **text,
            "sentiment": labels, "score": [float(LEVELS[label]) for label in labels], **unit, "reports_price": False,
            "trained_through": pd.Series(pd.NaT, index=times.index, dtype="datetime64[us]"), "name": codes, "code": codes,
            "is_subject": True, "n_codes": 1.0,
        }
    )  # fmt: skip


def update(folder: Path, batch: Batch) -> None:
    warnings.simplefilter("ignore")
    links, universe, coverage = batch
    nf.PanelStore(folder).update(links, universe, coverage=coverage)


def digest(table: pd.DataFrame) -> str:
    return hashlib.sha256(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes()).hexdigest()


def live(folder: Path) -> list[str]:
    return [path.name for path in nf.PanelStore(folder).files()]


def read_on(root: Path, known: dict[str, int], stop: Any, found: Any) -> None:
    """Read the folder named in ``root/now`` until told to stop; report the reads and what should not be."""
    reads, wrong, folder, last = 0, [], "", -1
    while not stop.is_set():
        now = (root / "now").read_text()
        folder, last = now, last if now == folder else -1
        try:
            store = nf.PanelStore(folder)
            if not store.history():
                continue
            state = known.get(digest(store.read()), -2)
            reads += 1
        except StoreError as error:
            wrong.append(str(error))
            continue
        if state < last:
            wrong.append("a partial state" if state == -2 else f"state {state} after state {last}")
        last = max(last, state)
    found.put((reads, wrong))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--updates", type=int, default=25)
    parser.add_argument("--names", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    batches = make_batches(options.updates, options.names, options.seed)
    context, rng = multiprocessing.get_context("fork"), np.random.default_rng(options.seed)
    print(describe_machine(), flush=True)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        states, files, lengths = [], [], []
        for batch in batches:
            began = time.perf_counter()
            update(root / "whole", batch)
            lengths.append(time.perf_counter() - began)
            states.append(digest(nf.PanelStore(root / "whole").read()))
            files.append(live(root / "whole"))
        assert len(set(states)) == len(states)
        (root / "now").write_text(str(root / "run0"))
        stop, found = context.Event(), context.SimpleQueue()
        reader = context.Process(target=read_on, args=(root, {state: k for k, state in enumerate(states)}, stop, found))
        reader.start()
        kills, spared, wrong, outcomes, runs = 0, 0, [], {"before": 0, "after": 0}, 0
        while kills < options.kills:
            folder = root / f"run{runs}"
            draft = root / "next"
            draft.write_text(str(folder))
            os.replace(draft, root / "now")
            for k, batch in enumerate(batches):
                process = context.Process(target=update, args=(folder, batch))
                process.start()
                process.join(rng.uniform(0, 1.5 * np.median(lengths)))
                if process.exitcode is None:
                    os.kill(process.pid, signal.SIGKILL)
                process.join()
                if process.exitcode == -signal.SIGKILL:
                    kills += 1
                    store = nf.PanelStore(folder)
                    state = digest(store.read()) if store.history() else None
                    if state not in (states[k], states[k - 1] if k else None):
                        wrong.append(f"kill {kills}: a state that no update ends in")
                    outcomes["after" if state == states[k] else "before"] += 1
                else:
                    spared += 1
                rerun = context.Process(target=update, args=(folder, batch))
                rerun.start()
                rerun.join()
                if rerun.exitcode or live(folder) != files[k]:
                    wrong.append(f"update {k} of run {runs} after {kills} kills: not as uninterrupted")
                if kills >= options.kills:
                    break
            wrong += nf.PanelStore(folder).verify()
            runs += 1
        stop.set()
        reads, seen = found.get()
        reader.join()
    print(pd.DataFrame([{
        "kills": kills, "left the state before": outcomes["before"], "left the state after": outcomes["after"],
        "ended before the kill": spared, "wrong states or reruns": len(wrong), "reads meanwhile": reads,
        "reads of anything else": len(seen), "median update s": round(float(np.median(lengths)), 3),
    }]).T.to_markdown(headers=["", ""]))  # fmt: skip
    for problem in (wrong + seen)[:10]:
        print(problem)
    raise SystemExit(1 if wrong or seen else 0)


if __name__ == "__main__":
    main()
