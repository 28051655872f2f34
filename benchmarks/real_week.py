"""A real week through the main job: rows, speed, statuses, invalid answers and peak memory.

    python benchmarks/real_week.py DATA [--base FOLDER] [--adapter FOLDER] [--start DAY] [--end DAY]

Calls ``newsfactor.pipeline.run``, which the command ``newsfactor run`` calls, on the wire's news of
2026-07-06 to 2026-07-12 with an empty journal, into a temporary folder that is deleted at the end. Rows of
the price file that ``read_prices`` refuses are counted and left out first. DATA holds wire/, prices/ and
master/; only figures and codes' ranges are printed.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
import warnings
from pathlib import Path

import pandas as pd
from bundled_model import count_invalid, print_table
from machine import describe_machine

import newsfactor as nf
from newsfactor.errors import TableError
from newsfactor.pipeline import Run, run
from newsfactor.tagging import Tagger


def main() -> None:
    options = parse_arguments()
    began = time.perf_counter()
    print(describe_machine(), flush=True)
    prices = keep_readable(pd.read_parquet(options.data / "prices" / "daily_2026-01_2026-07.parquet"))
    with tempfile.TemporaryDirectory() as folder:
        tagger = Tagger.load(options.base, adapter=options.adapter, dtype=options.dtype)
        before = peak_memory()
        result, notes = run_week(prices, tagger, Path(folder), options)
        after = peak_memory()
        print(f"\nNews of {options.start} to {options.end}, stages:\n")
        print_table(result.table())
        print(f"\nPeak memory {after:.2f} GiB, {before:.2f} GiB before the run (libraries, model and prices).")
        for note in notes:
            print(f"note: {note}")
        print_counts(result, tagger)
        print_evaluations(result)
    print(f"\ntook {time.perf_counter() - began:.0f} s")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with wire/, prices/ and master/")
    parser.add_argument("--base", help="base model; the bundled one if not given")
    parser.add_argument("--adapter", help="LoRA adapter; the bundled one with the bundled base")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="the processor's own if not given")
    parser.add_argument("--start", default="2026-07-06")
    parser.add_argument("--end", default="2026-07-12")
    return parser.parse_args()


def keep_readable(prices: pd.DataFrame) -> pd.DataFrame:
    """The rows that ``read_prices`` takes: a refusal is reported and its rows are left out, until there is none."""
    refused, total = [], len(prices)
    while True:
        try:
            nf.read_prices(prices)
            break
        except TableError as error:
            bad = find_refused(prices, error)
            if not bad.any():
                raise
            rows = prices[bad]
            codes = sorted({f"{code[:2]}….{code[-2:]}" for code in rows["code"]})
            refused.append({"refusal": str(error), "rows": len(rows), "codes": rows["code"].nunique(), "ranges": ", ".join(codes)})
            prices = prices[~bad]
    print(f"\nPrices: {total} rows, {total - len(prices)} refused by read_prices\n")
    if refused:
        print_table(pd.DataFrame(refused))
    return prices


def find_refused(prices: pd.DataFrame, error: TableError) -> pd.Series:
    """The rows with the fault that the error names."""
    column = error.parameter.removeprefix("prices['").removesuffix("']")
    if column == "code":
        return ~prices["code"].isin(filter(is_share, prices["code"].unique()))
    if column == "high":
        return prices["high"] < prices["low"]
    if column in ("open", "high", "low", "close", "pre_close", "amount", "circ_mv"):
        return prices[column].isin([float("inf")]) | (prices[column] <= 0) & (prices[column].notna())
    return prices.duplicated(["date", "code"])


def is_share(code: str) -> bool:
    try:
        return bool(nf.normalize_code(code))
    except nf.errors.InvalidValueError:
        return False


def run_week(
    prices: pd.DataFrame, tagger: Tagger, folder: Path, options: argparse.Namespace
) -> tuple[Run, list[str]]:
    """The run and the warnings that it gave."""
    data, master = options.data, options.data / "master"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = run(
            data / "wire" / "news_2026-05-14_2026-07-31.parquet", master / "securities.parquet", prices, folder / "out",
            start=options.start, end=options.end, names=master / "names_observed.parquet",
            industries=master / "sw_industry_history.parquet", tagger=tagger, cache=folder / "cache", progress=False,
        )  # fmt: skip
    own = [str(warning.message) for warning in caught if "newsfactor" in warning.filename or "__main__" in warning.filename]
    return result, list(dict.fromkeys(own))


def peak_memory() -> float:
    """GiB of resident memory at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def print_counts(result: Run, tagger: Tagger) -> None:
    """Statuses of tags and links, and the answer lines that the strict parser refuses."""
    tags, links = (pd.read_parquet(result.out / f"{name}.parquet") for name in ("tags", "links"))
    counts = {"tags": tags["status"], "links": links["link_status"], "subjects": links.loc[links["is_subject"], "name_evidence"]}
    rows = [{"of": of, "status": str(name), "rows": count} for of, values in counts.items() for name, count in values.value_counts(dropna=False).items()]  # fmt: skip
    print()
    print_table(pd.DataFrame(rows))
    print(f"\nInvalid answers: {count_invalid(tags, tagger)} of {int(tags['status'].isin(('ok', 'truncated')).sum())}")


def print_evaluations(result: Run) -> None:
    for name, evaluation in (("stock", result.by_stock), ("industry", result.by_industry)):
        text = "none" if evaluation is None else f"\n\n{evaluation}"
        print(f"\nEvaluation by {name} (five sessions at most: a count of what was used, no figure to act on): {text}")


if __name__ == "__main__":
    main()
