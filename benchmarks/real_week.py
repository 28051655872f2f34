"""A real week through the main job: rows, speed, statuses, invalid answers and peak memory.

    python benchmarks/real_week.py DATA [--base FOLDER] [--adapter FOLDER] [--start DAY] [--end DAY]

Calls ``newsfactor.pipeline.run``, which the command ``newsfactor run`` calls, on the wire's news of
2026-07-06 to 2026-07-12 with an empty journal, into a temporary folder that is deleted at the end. Rows that
the readers leave out are named in the notes. DATA holds wire/, prices/ and master/.
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

from newsfactor.pipeline import Run, run
from newsfactor.tagging import Tagger


def main() -> None:
    options = parse_arguments()
    began = time.perf_counter()
    print(describe_machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        tagger = Tagger.load(options.base, adapter=options.adapter, dtype=options.dtype)
        before = peak_memory()
        result, notes = run_week(tagger, Path(folder), options)
        after = peak_memory()
        print(f"\nNews of {options.start} to {options.end}, stages:\n")
        print_table(result.table())
        print(f"\nPeak memory {after:.2f} GiB, {before:.2f} GiB before the run (libraries and model).")
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


def run_week(tagger: Tagger, folder: Path, options: argparse.Namespace) -> tuple[Run, list[str]]:
    """The run and the warnings that it gave."""
    data, master = options.data, options.data / "master"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        result = run(
            data / "wire" / "news_2026-05-14_2026-07-31.parquet", master / "securities.parquet",
            data / "prices" / "daily_2026-01_2026-07.parquet", folder / "out", start=options.start, end=options.end,
            names=master / "names_observed.parquet", industries=master / "sw_industry_history.parquet",
            tagger=tagger, cache=folder / "cache", progress=False,
        )  # fmt: skip
    own = [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
    return result, list(dict.fromkeys(own))


def peak_memory() -> float:
    """GiB of resident memory at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def print_counts(result: Run, tagger: Tagger) -> None:
    """Statuses of tags and links, and the answer lines that the strict parser refuses."""
    tags, links = (pd.read_parquet(result.out / f"{name}.parquet") for name in ("tags", "links"))
    evidence = links.loc[links["is_subject"], "name_evidence"].fillna("code in the text")
    counts = {"tags": tags["status"], "links": links["link_status"], "names of main subjects": evidence}
    rows = [
        {"of": of, "status": status, "rows": count}
        for of, values in counts.items()
        for status, count in values.value_counts().items()
    ]
    print()
    print_table(pd.DataFrame(rows))
    print(f"\nInvalid answers: {count_invalid(tags, tagger)} of {int(tags['status'].isin(('ok', 'truncated')).sum())}")


def print_evaluations(result: Run) -> None:
    """That the reports exist and on how few sessions they rest: no figure of a week is one to act on."""
    for name, evaluation in (("stock", result.by_stock), ("industry", result.by_industry)):
        made = (
            "none" if evaluation is None else f"at most {evaluation.summary['n_days'].max():.0f} sessions with a RankIC"
        )
        print(f"\nEvaluation by {name}: {made}")


if __name__ == "__main__":
    main()
