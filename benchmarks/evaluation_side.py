"""What this library needs for the same dense market as alphalens_side.py: one JSON line of seconds and of peak memory.

    python benchmarks/evaluation_side.py --stocks 5000 --days 1250 --horizons 1,5,10,20 --industries 31 --factors 1

The statistics alone start from grids of factor and returns, as alphalens' start from its clean frame; `clean` is what makes
them. `full_report` is all together: evaluate from PANEL, PRICES and UNIVERSE, the text and the page.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from dense_market import make_market

import newsfactor as nf
from newsfactor.cross_sections import correlate_in_groups, correlate_ranks, demean_in_groups, rank_in_groups, rank_rows
from newsfactor.parallel import map_beside
from newsfactor.samples import draw_cells, draw_stocks
from newsfactor.sessions import default_sessions

BLOCK = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stocks", type=int, default=5000)
    parser.add_argument("--days", type=int, default=1250)
    parser.add_argument("--horizons", default="1,5,10,20", help="in sessions, separated by commas")
    parser.add_argument("--industries", type=int, default=31)
    parser.add_argument("--factors", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report-only", action="store_true")
    options = parser.parse_args()
    horizons = [int(horizon) for horizon in options.horizons.split(",")]
    seconds: dict[str, float] = {}
    cpu_seconds: dict[str, float] = {}

    def timed(stage: str, work: Callable[[], Any]) -> Any:
        began, worked = time.perf_counter(), time.process_time()
        result = work()
        seconds[stage] = round(time.perf_counter() - began, 2)
        cpu_seconds[stage] = round(time.process_time() - worked, 2)
        print(f"{stage}: {seconds[stage]} s, {cpu_seconds[stage]} s of the processors", file=sys.stderr, flush=True)
        return result

    market = timed("inputs", lambda: make_market(options.stocks, options.days, options.industries, options.seed, factors=options.factors))  # fmt: skip
    means: dict[str, float] = {}
    if not options.report_only:
        factor, returns, number, count = timed("clean", lambda: make_grids(*market, horizons))
        ic = timed("ic", lambda: daily_rank_ic(factor, returns))
        timed("ic_group_adjust", lambda: daily_neutral_ic(factor, returns, number, count))
        timed("ic_by_group", lambda: daily_group_ic(factor, returns, number, count))
        # alphalens judges the sessions that have a return at every horizon.
        means = {f"{horizon}D": round(float(np.nanmean(value[: -max(horizons)])), 6) for horizon, value in ic.items()}
        del factor, returns
    with tempfile.TemporaryDirectory() as folder:
        timed("full_report", lambda: write_report(*market, horizons, Path(folder) / "report.html"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({
        **vars(options), "rows": len(market.panel), "newsfactor": nf.__version__, "seconds": seconds,
        "cpu_seconds": cpu_seconds, "peak_gib": round(peak, 2), "mean_rank_ic": means,
    }))  # fmt: skip


def make_grids(
    prices: pd.DataFrame, universe: pd.DataFrame, panel: pd.DataFrame, horizons: list[int]
) -> tuple[np.ndarray, dict[int, np.ndarray], np.ndarray, int]:
    """The first factor, its tradable returns by horizon, and each cell's industry by number."""
    calendar = default_sessions()
    cells = draw_cells(panel, "code", ["factor_0"], calendar)
    setting = draw_stocks(
        cells, prices, universe, horizons=horizons, entry="diagnostic_close", judging={"quantiles": 5, "neutralize": None}, cutoff="09:15",
        sessions=calendar, adjusted=False,
    )  # fmt: skip
    industry = setting.sample.classes["industry"]
    returns = {horizon: market.earned for horizon, market in setting.sample.markets.items()}
    return cells.factors["factor_0"], returns, industry.number, len(industry.labels)


def by_blocks(work: Callable[[slice], np.ndarray], sessions: int) -> np.ndarray:
    return np.concatenate(map_beside(work, [slice(k, k + BLOCK) for k in range(0, sessions, BLOCK)]))


def daily_rank_ic(factor: np.ndarray, returns: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    def correlate(earned: np.ndarray) -> np.ndarray:
        def work(rows: slice) -> np.ndarray:
            both = np.isfinite(factor[rows]) & np.isfinite(earned[rows])
            pair = (np.where(both, part[rows], np.nan) for part in (factor, earned))
            return correlate_ranks(*(rank_rows(values).ranks for values in pair))

        return by_blocks(work, len(factor))

    return {horizon: correlate(earned) for horizon, earned in returns.items()}


def daily_neutral_ic(factor: np.ndarray, returns: dict[int, np.ndarray], number: np.ndarray, count: int) -> Any:
    return daily_rank_ic(factor, {h: demean_in_groups(earned, number, count) for h, earned in returns.items()})


def daily_group_ic(factor: np.ndarray, returns: dict[int, np.ndarray], number: np.ndarray, count: int) -> Any:
    def correlate(earned: np.ndarray) -> np.ndarray:
        def work(rows: slice) -> np.ndarray:
            both = np.isfinite(factor[rows]) & np.isfinite(earned[rows])
            pair = (rank_rows(np.where(both, part[rows], np.nan)) for part in (factor, earned))
            within = (rank_in_groups(ranked, number[rows], count) for ranked in pair)
            return correlate_in_groups(*within, number[rows], count)[0]

        return by_blocks(work, len(factor))

    return {horizon: correlate(earned) for horizon, earned in returns.items()}


def write_report(
    prices: pd.DataFrame, universe: pd.DataFrame, panel: pd.DataFrame, horizons: list[int], path: Path
) -> None:
    result = nf.evaluate(panel, prices, universe, horizons=horizons)
    str(result)
    result.to_html(path)


if __name__ == "__main__":
    main()
