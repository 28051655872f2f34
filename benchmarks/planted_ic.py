"""The planted IC over many synthetic markets: true levels, shuffled levels, dates a session off.

python benchmarks/planted_ic.py [--seeds 50] [--model]

With ``--model`` the first seed is also tagged by the bundled model, as the demo does.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import pandas as pd
from machine import describe_machine

import newsfactor as nf
from newsfactor.pipeline import compare_levels, demo, true_panel
from newsfactor.sessions import known_at, shift_sessions

PLANTED = 0.10


def measure(seed: int) -> list[dict[str, object]]:
    """Mean next-session RankIC of one market at three shifts of its dates, and of shuffled levels."""
    market = nf.synthetic_market(100, 250, PLANTED, seed=seed)
    tradable = nf.universe(market.securities, market.prices)
    truth = true_panel(market, tradable)
    rows = []
    for shift in (-1, 0, 1):
        moved = truth.assign(date=shift_sessions(truth["date"], shift).to_numpy())
        summary = nf.evaluate(
            moved.assign(known_at=known_at(moved["date"])), market.prices, tradable, horizons=(1,)
        ).summary
        rows.append({"seed": seed, "levels": f"true, shifted {shift:+d}" if shift else "true", **summary.iloc[0]})
    shuffled = compare_levels(market, None, seed=seed).set_index("levels").loc["shuffled levels"]
    return [*rows, {"seed": seed, "levels": "shuffled", **shuffled}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--model", action="store_true")
    options = parser.parse_args()
    began = time.perf_counter()
    rows = pd.DataFrame([row for seed in range(options.seeds) for row in measure(seed)])
    error = rows["standard_error"]
    rows["near planted"] = (rows["mean_rank_ic"] - PLANTED).abs() <= 2 * error
    rows["near zero"] = rows["mean_rank_ic"].abs() <= 2 * error
    figures = {"mean RankIC": ("mean_rank_ic", "mean"), "median s.e.": ("standard_error", "median"),
               "within 2 s.e. of 0.10": ("near planted", "sum"), "within 2 s.e. of 0": ("near zero", "sum"), "markets": ("seed", "size")}  # fmt: skip
    print(describe_machine())
    print(rows.groupby("levels").agg(**figures).round(4).to_markdown())
    if options.model:
        with tempfile.TemporaryDirectory() as folder:
            result = demo(folder, progress=False, cache=False)
        print(result.figures.round(4).to_markdown(index=False))
        print(result.accuracy.round(4).to_markdown(index=False))
    print(f"took {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
