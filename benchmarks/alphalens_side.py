"""What alphalens needs for a dense market: one JSON line of seconds, of the processor's seconds and of peak memory.

    python benchmarks/alphalens_side.py --stocks 5000 --days 1250 --horizons 1,5,10,20 --industries 31 --seed 0

Stages are timed apart. `cpu_seconds` are what is left of a timing on a busy machine. Peaks are of the whole process
up to the end of the stage, `inputs` (the market and alphalens' form of it) included.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib

matplotlib.use("Agg")

import alphalens
import matplotlib.pyplot as plt
import pandas as pd
from dense_market import make_market

STAGES = ("clean", "ic", "ic_group_adjust", "ic_by_group", "full_tear_sheet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stocks", type=int, default=5000)
    parser.add_argument("--days", type=int, default=1250)
    parser.add_argument("--horizons", default="1,5,10,20", help="in sessions, separated by commas")
    parser.add_argument("--industries", type=int, default=31)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    horizons = [int(horizon) for horizon in options.horizons.split(",")]
    warnings.simplefilter("ignore")
    seconds: dict[str, float] = {}
    cpu_seconds: dict[str, float] = {}
    peak_gib: dict[str, float] = {}

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        began, worked = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            result = work()
        seconds[stage] = round(time.perf_counter() - began, 2)
        cpu_seconds[stage] = round(time.process_time() - worked, 2)
        peak_gib[stage] = round(peak_memory() / 2**30, 2)
        print(
            f"{stage}: {seconds[stage]} s, {cpu_seconds[stage]} s of the processor, {peak_gib[stage]} GiB",
            file=sys.stderr,
            flush=True,
        )
        return result

    performance = alphalens.performance
    factor, close, group = timed("inputs", lambda: make_inputs(options.stocks, options.days, options.industries, options.seed))  # fmt: skip
    data = timed(
        "clean",
        lambda: alphalens.utils.get_clean_factor_and_forward_returns(
            factor, close, groupby=group, periods=horizons, max_loss=1
        ),
    )
    rows = len(data)
    ic = timed("ic", lambda: performance.factor_information_coefficient(data))
    timed("ic_group_adjust", lambda: performance.factor_information_coefficient(data, group_adjust=True))
    timed("ic_by_group", lambda: performance.factor_information_coefficient(data, by_group=True))
    timed("full_tear_sheet", lambda: draw_tear_sheet(data))
    total = {
        name: round(sum(spent[stage] for stage in STAGES), 2)
        for name, spent in (("seconds", seconds), ("cpu_seconds", cpu_seconds))
    }
    print(json.dumps({
        **vars(options), "rows": rows, "alphalens": alphalens.__version__, "pandas": pd.__version__, "seconds": seconds,
        "cpu_seconds": cpu_seconds, "total": total, "peak_gib": peak_gib, "mean_rank_ic": ic.mean().round(6).to_dict(),
    }))  # fmt: skip


def make_inputs(stocks: int, days: int, industries: int, seed: int) -> tuple[pd.Series, pd.DataFrame, pd.Series]:
    """alphalens' arguments: factor and group by (date, asset), closing prices with a column for each stock."""
    market = make_market(stocks, days, industries, seed)
    index = pd.MultiIndex.from_frame(market.panel[["date", "code"]].astype({"code": str}), names=["date", "asset"])
    factor = pd.Series(market.panel["factor_0"].to_numpy(), index=index)
    group = pd.Series(market.universe["industry"].array, index=index)
    close = market.prices["close"].to_numpy().reshape(days, stocks)
    return factor, pd.DataFrame(close, index.levels[0], market.prices["code"].iloc[:stocks].astype(str)), group


def draw_tear_sheet(data: pd.DataFrame) -> None:
    alphalens.tears.create_full_tear_sheet(data)
    plt.close("all")


def peak_memory() -> int:
    """The process' peak resident memory in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
