"""Evaluation beside alphalens on one dense market, each in its own process; then how ours grows.

    python benchmarks/evaluation_speed.py [--stocks 5000] [--days 1250] [--repeats 1] [--no-alphalens]

Both take close-to-close returns of the same market for the statistics, and their mean RankIC must be the same. The full
report is alphalens' full tear sheet from its clean frame (without the cleaning), and here everything from the tables to the
written page, with tradable returns, tests, placebos, incremental figures, subsets and costs. The times are those of the
clock; the processors' seconds are what is left of a timing on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median

import pandas as pd
from machine import describe_machine

HERE = Path(__file__).resolve().parent
STAGES = {"clean": "returns and form", "ic": "RankIC", "ic_group_adjust": "RankIC, industry-neutral", "ic_by_group": "RankIC by industry"}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stocks", type=int, default=5000)
    parser.add_argument("--days", type=int, default=1250)
    parser.add_argument("--repeats", type=int, default=1, help="of each side; medians are shown")
    parser.add_argument("--no-alphalens", action="store_true", help="the growth alone")
    options = parser.parse_args()
    print(describe_machine(), flush=True)
    if not options.no_alphalens:
        compare(options)
    show_growth(options)


def compare(options: argparse.Namespace) -> None:
    size = ["--stocks", str(options.stocks), "--days", str(options.days)]
    runs = [(measure("alphalens_side.py", size), measure("evaluation_side.py", size)) for _ in range(options.repeats)]
    theirs, ours = zip(*runs, strict=True)
    rows = [row(title, theirs, ours, stage, stage) for stage, title in STAGES.items()]
    rows.append(row("full report", theirs, ours, "full_tear_sheet", "full_report"))
    print(f"\n{options.stocks} stocks × {options.days} days × 4 horizons, 31 industries\n")
    print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".4g"))
    same = all(abs(theirs[0]["mean_rank_ic"][h] - value) < 2e-6 for h, value in ours[0]["mean_rank_ic"].items())
    peaks = theirs[0]["peak_gib"]["full_tear_sheet"], ours[0]["peak_gib"]
    print(
        f"\nMean RankIC {'the same' if same else 'NOT the same'} at every horizon. Peak memory {peaks[0]} and {peaks[1]} GiB."
    )
    if not same:
        sys.exit(1)


def row(title: str, theirs: tuple, ours: tuple, left: str, right: str) -> dict[str, object]:
    seconds = [median(run["seconds"][stage] for run in side) for side, stage in ((theirs, left), (ours, right))]
    spent = [median(run["cpu_seconds"][stage] for run in side) for side, stage in ((theirs, left), (ours, right))]
    return {
        "": title, "alphalens, s": seconds[0], "newsfactor, s": seconds[1], "times as fast": seconds[0] / seconds[1],
        "alphalens, processors' s": spent[0], "newsfactor, processors' s": spent[1],
    }  # fmt: skip


def show_growth(options: argparse.Namespace) -> None:
    sizes = [
        (options.stocks, options.days // 4, 1), (options.stocks, options.days // 2, 1), (options.stocks // 4, options.days, 1),
        (options.stocks // 2, options.days, 1), (options.stocks, options.days, 1), (options.stocks, options.days, 10),
    ]  # fmt: skip
    rows = []
    for stocks, days, factors in sizes:
        arguments = ["--stocks", str(stocks), "--days", str(days), "--factors", str(factors), "--report-only"]
        run = measure("evaluation_side.py", arguments)
        rows.append({
            "stocks": stocks, "days": days, "factors": factors, "full report, s": run["seconds"]["full_report"],
            "processors' s": run["cpu_seconds"]["full_report"], "peak GiB": run["peak_gib"],
        })  # fmt: skip
    print("\nHow the full report grows\n")
    print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".4g"))


def measure(script: str, arguments: list[str]) -> dict:
    result = subprocess.run([sys.executable, HERE / script, *arguments], capture_output=True, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
