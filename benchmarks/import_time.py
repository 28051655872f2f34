"""What `import newsfactor` adds to `import pandas`: medians of alternating fresh interpreters.

python benchmarks/import_time.py [--runs 10]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from machine import describe_machine

HEAVY = ("torch", "transformers", "akshare", "matplotlib", "exchange_calendars")


def seconds(statement: str) -> float:
    """Wall time of a fresh interpreter that runs one statement."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    seconds("import pandas, newsfactor")
    pairs = [(seconds("import pandas"), seconds("import pandas, newsfactor")) for _ in range(runs)]
    plain, both = (statistics.median(column) for column in zip(*pairs, strict=True))
    added = statistics.median(b - a for a, b in pairs)
    script = f"import sys, newsfactor; print([name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    print(describe_machine())
    print(
        f"import pandas: {plain:.3f} s; with newsfactor: {both:.3f} s; added (median of pairs): {added:.3f} s; heavy modules loaded: {loaded}"
    )


if __name__ == "__main__":
    main()
