"""Three factors of ten million links: `nf.panel`, plain vectorised pandas, and direct queries.

    python benchmarks/panel_speed.py [--links 10000000] [--repeats 3] [--growth 1000000 10000000 30000000]

The links are synthetic: 5,000 stocks and ten years. Every run is a process of its own that reads its frames, sets the
mark of its highest memory back, and does the same job once: cells by session with the 09:15 cutoff; only news of the
main subject, without failed tags, unclear names and reports of a price move; the mean score of the day, the score
decayed over ten sessions and the surprise against the twenty before; a row for each day and name of the universe with
news that count in the last 21 sessions, sorted. `nf.panel` does more: it checks both tables, looks for repeated news,
keeps the rows that only reports of a price move have, says what became of each link, and gives `known_at`,
`observed` and `n_news`. The results must agree to 1e-9. Memory is what the process held at its highest beyond its
frames. In the second table one frame of each size has its labels, names and codes as categories, so that it fits.
"""

from __future__ import annotations

import argparse
import gc
import json
import re
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

import newsfactor as nf
from newsfactor.factors import DECAY, DEFAULT, MONTH, SHIPPED
from newsfactor.schema import PROBABILITIES, SENTIMENTS, TIMEZONE
from newsfactor.sessions import default_sessions, known_at

NAMES, YEARS, BATCH = 5_000, 10, 1_000_000
FACTORS = ("mean_score", "decayed_score", "score_surprise")
CHOSEN = {
    "three": {name: SHIPPED[name] for name in FACTORS}, "default": DEFAULT, "shipped": SHIPPED,
}  # fmt: skip
ENGINES = ("newsfactor", "pandas", "polars", "duckdb")
LABELS = ("event", "market", "industry", "sentiment", "time_precision", "source", "status", "tagger", "name", "code", "stock_industry", "name_evidence", "link_status")  # fmt: skip
GOOD_STATUS, GOOD_LINK = ("ok", "truncated"), ("exact", "alias", "code")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--links", type=int, default=10 * BATCH)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--growth", type=int, nargs="*", default=[BATCH, 10 * BATCH, 30 * BATCH])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(run_child(**json.loads(options.child))))
        return
    from machine import describe_machine

    print(describe_machine(), flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_universe(folder / "universe.arrow")
        equal = compare_engines(folder, options.links, options.repeats)
        show_growth(folder, options.growth)
    raise SystemExit(0 if equal else 1)


def compare_engines(folder: Path, links: int, repeats: int) -> bool:
    """Print the table of the engines; whether all results are equal."""
    write_links(folder / "links.arrow", links, categories=False)
    runs = {engine: [] for engine in ENGINES}
    for repeat in range(repeats):
        for engine in ENGINES:  # taken in turn, so that a busy minute hits all of them
            runs[engine].append(start(folder, engine=engine, keep=repeat == 0))
    default = [start(folder, engine="newsfactor", factors="default") for _ in range(repeats)]
    ours = pd.read_parquet(folder / "newsfactor.parquet")
    rows, equal = [], True
    for label, found in {**runs, "newsfactor, default factors": default}.items():
        seconds = np.median([run["seconds"] for run in found])
        row = {
            "engine": label, "seconds": f"{seconds:.1f}", "all runs": " ".join(f"{run['seconds']:.1f}" for run in found),
            "times newsfactor": f"{seconds / np.median([run['seconds'] for run in runs['newsfactor']]):.2f}",
            "processor seconds": f"{np.median([run['worked'] for run in found]):.1f}",
            "frames, MB": found[0]["frames"], "more at the highest, MB": int(np.median([run["added"] for run in found])), "rows": found[0]["rows"],
        }  # fmt: skip
        if label in ENGINES[1:]:
            largest = difference(ours, pd.read_parquet(folder / f"{label}.parquet"))
            equal &= largest <= 1e-9
            row["largest difference"] = f"{largest:.1e}"
        rows.append(row)
    print(f"\n{links:,} links\n\n{pd.DataFrame(rows).fillna('').to_markdown(index=False, disable_numparse=True)}\n", flush=True)  # fmt: skip
    return equal


def show_growth(folder: Path, sizes: list[int]) -> None:
    """Print the table of the sizes."""
    rows = []
    for size in sizes:
        write_links(folder / "links.arrow", size, categories=True)
        for name in ("three", "default", "shipped")[: 3 if size == min(sizes) else 2]:  # all of them: a large panel
            run = start(folder, engine="newsfactor", factors=name)
            row = {"links": f"{size:,}", "factors": name, "seconds": f"{run['seconds']:.1f}", "processor seconds": f"{run['worked']:.1f}"}  # fmt: skip
            row |= {"frames, MB": run["frames"], "more at the highest, MB": run["added"], "panel itself, MB": run["result"], "rows": run["rows"]}  # fmt: skip
            rows.append(row)
    print(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))


def start(folder: Path, **task: object) -> dict:
    command = [sys.executable, "-W", "ignore", __file__, "--child", json.dumps({"folder": str(folder), **task})]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    print(task, answer, file=sys.stderr, flush=True)
    return answer


def run_child(folder: str, engine: str, factors: str = "three", keep: bool = False) -> dict:
    """Do the job once; seconds, and MB of the frames, of the result and of what was held beyond the frames."""
    run = globals()[f"run_{engine}"]
    first = default_sessions()
    frames = [read(Path(folder) / name, engine) for name in ("links.arrow", "universe.arrow")]
    gc.collect()
    pa.default_memory_pool().release_unused()
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    began, worked = time.perf_counter(), time.process_time()
    table = run(*frames, first) if engine != "newsfactor" else run(*frames, CHOSEN[factors])
    seconds, worked, highest = time.perf_counter() - began, time.process_time() - worked, memory("VmHWM")
    if keep:
        table.to_parquet(Path(folder) / f"{engine}.parquet")
    return {"seconds": seconds, "worked": worked, "frames": before, "added": highest - before, "rows": len(table), "result": int(table.memory_usage().sum() / 1e6)}  # fmt: skip


def read(path: Path, engine: str):
    """A frame of the engine's own kind; arrow tables are DuckDB's."""
    with pa.OSFile(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    if engine == "polars":
        import polars

        return polars.from_arrow(table, rechunk=True)
    return table if engine == "duckdb" else table.to_pandas(split_blocks=True, self_destruct=True)


def memory(name: str) -> int:
    return int(re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1000


def difference(ours: pd.DataFrame, theirs: pd.DataFrame) -> float:
    """The largest between two tables of the same rows; infinite where the rows are not the same."""
    ours = ours[ours[list(FACTORS)].notna().any(axis=1)].reset_index(drop=True)
    theirs = theirs[theirs[list(FACTORS)].notna().any(axis=1)].reset_index(drop=True)
    if len(ours) != len(theirs) or (ours["date"] != theirs["date"]).any() or (ours["code"] != theirs["code"]).any():
        return np.inf
    a, b = (table[list(FACTORS)].to_numpy(dtype=float) for table in (ours, theirs))
    return np.inf if (np.isnan(a) != np.isnan(b)).any() else float(np.nanmax(np.abs(a - b)))


# The same job four times.


def run_newsfactor(links: pd.DataFrame, universe: pd.DataFrame, factors: dict) -> pd.DataFrame:
    first, last = links["available_at"].min(), links["available_at"].max()
    span = {"start": [first - pd.Timedelta(days=400)], "end": [last + pd.Timedelta(days=40)]}
    coverage = pd.concat([pd.DataFrame({"source": name, **span}) for name in ("wire", "paper", "exchange")])
    return nf.panel(links, universe, factors=factors, coverage=coverage)


def run_pandas(links: pd.DataFrame, universe: pd.DataFrame, days: pd.DatetimeIndex) -> pd.DataFrame:
    used = links["status"].isin(GOOD_STATUS) & links["link_status"].isin(GOOD_LINK) & links["is_subject"]
    used &= ~links["reports_price"] & links["score"].notna()
    news = links.loc[used, ["available_at", "time_precision", "code", "score"]]
    when, whole = news["available_at"], news["time_precision"] == "day"
    when = when.where(~whole, when.dt.normalize() + pd.Timedelta(days=1))
    news["session"] = known_at(days).searchsorted(when, side="right")
    daily = news.groupby(["session", "code"])["score"].agg(["sum", "count"])
    slots = range(daily.index[0][0], daily.index[-1][0] + MONTH + 1)
    wide = daily.unstack("code").reindex(slots).fillna(0.0)
    total, count = wide["sum"], wide["count"]
    decayed = sum(total.shift(age, fill_value=0.0) * weight for age, weight in enumerate(DECAY))
    month = count.shift(1, fill_value=0.0).rolling(MONTH, min_periods=1).sum().round()
    mean = total / count.where(count > 0)
    before = total.shift(1, fill_value=0.0).rolling(MONTH, min_periods=1).sum() / month.where(month > 0)
    recent = count.rolling(len(DECAY), min_periods=1).sum().round() > 0
    tables = {"mean_score": mean, "decayed_score": decayed.where(recent), "score_surprise": mean - before}
    table = pd.DataFrame({name: part.stack() for name, part in tables.items()})
    table = table[((count + month) > 0).stack()].reset_index()
    table["date"] = days.to_numpy()[table.pop("session")]
    return table.merge(universe[["date", "code"]], on=["date", "code"]).sort_values(["date", "code"], ignore_index=True)


def run_polars(links, universe, days: pd.DatetimeIndex) -> pd.DataFrame:
    import polars as pl

    when = pl.col("available_at")
    closes = pl.LazyFrame({"when": known_at(days), "session": np.arange(len(days), dtype=np.int32)}).with_columns(pl.col("when").cast(pl.Datetime("us", TIMEZONE))).set_sorted("when")  # fmt: skip
    news = links.lazy().filter(
        pl.col("status").is_in(GOOD_STATUS) & pl.col("link_status").is_in(GOOD_LINK) & pl.col("is_subject"),
        ~pl.col("reports_price") & pl.col("score").is_not_nan() & pl.col("score").is_not_null(),
    ).select(
        "code", "score",
        when=pl.when(pl.col("time_precision") == "day").then(when.dt.truncate("1d") + pl.duration(days=1)).otherwise(when),
    )  # fmt: skip
    # The first close after the news, and not the close of its very second.
    news = news.sort("when").join_asof(
        closes.with_columns(pl.col("when") - pl.duration(microseconds=1)), on="when", strategy="forward"
    )
    daily = news.group_by("session", "code").agg(total=pl.col("score").sum(), count=pl.len().cast(pl.Int32)).collect()
    first, last = daily["session"].min(), daily["session"].max()
    slots = pl.DataFrame({"session": np.arange(first, last + MONTH + 1, dtype=np.int32)})
    dates = pl.LazyFrame({"session": np.arange(len(days), dtype=np.int32), "date": days.to_numpy()})
    total, count = pl.col("total"), pl.col("count")
    past = {"min_samples": 1}
    month = count.shift(1, fill_value=0).rolling_sum(MONTH, **past).over("code")
    before = total.shift(1, fill_value=0.0).rolling_sum(MONTH, **past).over("code")
    decayed = pl.sum_horizontal(
        [(total.shift(age, fill_value=0.0) * weight).over("code") for age, weight in enumerate(DECAY)]
    )
    mean = pl.when(count > 0).then(total / count)
    grid = daily.select("code").unique().join(slots, how="cross").lazy()
    grid = grid.join(daily.lazy(), on=["session", "code"], how="left").with_columns(total.fill_null(0.0), count.fill_null(0))  # fmt: skip
    table = grid.sort("code", "session").select(
        "session", "code", mean_score=mean, month=month, before=before,
        decayed_score=pl.when(count.rolling_sum(len(DECAY), **past).over("code") > 0).then(decayed), count="count",
    ).filter((pl.col("month") + count) > 0).select(
        "session", "code", "mean_score", "decayed_score",
        score_surprise=pl.col("mean_score") - pl.when(pl.col("month") > 0).then(pl.col("before") / pl.col("month")),
    )  # fmt: skip
    known = universe.lazy().select("date", "code")
    table = table.join(dates, on="session").join(known, on=["date", "code"], how="semi").sort("date", "code")
    return table.select("date", "code", *FACTORS).collect().to_pandas()


def run_duckdb(links: pa.Table, universe: pa.Table, days: pd.DatetimeIndex) -> pd.DataFrame:
    import duckdb

    closes = {"closes": known_at(days), "date": days, "session": np.arange(len(days), dtype=np.int32)}
    decayed = " + ".join(f"{weight!r} * coalesce(lag(total, {age}) OVER names, 0)" for age, weight in enumerate(map(float, DECAY)))  # fmt: skip
    query = f"""
        WITH news AS (
            SELECT code, score, CASE WHEN time_precision = 'day'
                THEN date_trunc('day', available_at) + INTERVAL 1 DAY ELSE available_at END AS moment
            FROM links WHERE status IN {GOOD_STATUS} AND link_status IN {GOOD_LINK} AND is_subject
            AND NOT reports_price AND score IS NOT NULL AND NOT isnan(score)
        ), daily AS (
            SELECT session, code, sum(score) AS total, count(*) AS count
            FROM news ASOF JOIN closes ON moment < closes GROUP BY session, code
        ), grid AS (
            SELECT session, code, coalesce(total, 0) AS total, coalesce(count, 0) AS count
            FROM (SELECT DISTINCT code FROM daily)
            CROSS JOIN (SELECT range AS session FROM range((SELECT min(session) FROM daily), (SELECT max(session) + {MONTH + 1} FROM daily)))
            LEFT JOIN daily USING (session, code)
        ), past AS (
            SELECT session, code, CASE WHEN count > 0 THEN total / count END AS mean_score, count,
                {decayed} AS decayed, sum(count) OVER (names ROWS {len(DECAY) - 1} PRECEDING) AS recent,
                sum(total) OVER (names ROWS BETWEEN {MONTH} PRECEDING AND 1 PRECEDING) AS before,
                coalesce(sum(count) OVER (names ROWS BETWEEN {MONTH} PRECEDING AND 1 PRECEDING), 0) AS month
            FROM grid WINDOW names AS (PARTITION BY code ORDER BY session)
        )
        SELECT date, code, mean_score, CASE WHEN recent > 0 THEN decayed END AS decayed_score,
            mean_score - CASE WHEN month > 0 THEN before / month END AS score_surprise
        FROM past JOIN closes USING (session) SEMI JOIN universe USING (date, code)
        WHERE month + count > 0 ORDER BY date, code
    """
    connection = duckdb.connect()
    connection.register("closes", pa.table(closes))
    connection.execute(f"SET TimeZone = '{TIMEZONE}'")
    return connection.execute(query).df()


# Links and universe, written once and read by every process.


def sessions() -> pd.DatetimeIndex:
    days = default_sessions()
    return days[(days >= "2015-01-05") & (days < f"{2015 + YEARS}-01-05")]


def codes() -> pa.Array:
    return pa.array([f"{600000 + name}.SH" for name in range(NAMES)], pa.large_string())


def write_universe(path: Path) -> None:
    """Every stock on every session but one in two hundred."""
    days, rng = sessions(), np.random.default_rng(1)
    with pa.OSFile(str(path), "wb") as file:
        writer = None
        for part in np.array_split(days, 10):
            kept = rng.random((len(part), NAMES)) > 0.005
            slot, name = kept.nonzero()
            size = len(slot)
            table = pa.table(
                {
                    "date": part.to_numpy()[slot], "code": codes().take(pa.array(name)), "industry": pick(("电子", "银行", "煤炭"), name % 3),
                    "circ_mv": rng.lognormal(23, 1, size), "is_st": np.zeros(size, bool), "is_suspended": np.zeros(size, bool),
                    "limit_up": np.full(size, 11.0), "limit_down": np.full(size, 9.0), "list_date": np.full(size, np.datetime64("2010-01-04", "us")),
                }
            )  # fmt: skip
            writer = writer or pa.ipc.new_file(file, table.schema)
            writer.write_table(table)
        writer.close()


def write_links(path: Path, size: int, *, categories: bool) -> None:
    """Links in the order of time, some batches of the same length."""
    days = sessions()
    span = int((days[-2] - days[45]).total_seconds())
    edges = np.linspace(0, size, max(size // BATCH, 1) + 1).astype(int)
    with pa.OSFile(str(path), "wb") as file:
        writer = None
        for k, (low, high) in enumerate(pairwise(edges.tolist())):
            rng = np.random.default_rng(k)
            seconds = np.sort(rng.integers(span * low // size, span * high // size, high - low))
            when = pd.DatetimeIndex(days[45] + pd.to_timedelta(seconds, unit="s")).as_unit("us").tz_localize(TIMEZONE)
            table = make_links(np.arange(low, high), when, rng, categories)
            writer = writer or pa.ipc.new_file(file, table.schema)
            writer.write_table(table)
        writer.close()


def make_links(number: np.ndarray, when: pd.DatetimeIndex, rng: np.random.Generator, categories: bool) -> pa.Table:
    size = len(number)
    stock, level = rng.integers(0, NAMES, size), rng.integers(0, 7, size)
    none, failed = rng.random(size) < 0.03, rng.random(size) < 0.01
    known = ~(none | failed)
    ids = pa.array(number).cast(pa.large_string())
    columns = {
        "news_id": ids, "published_at": when, "available_at": when, "time_precision": pick(("second", "day"), rng.random(size) < 0.01),
        "title": pc.binary_join_element_wise(*(pa.scalar(text, pa.large_string()) if isinstance(text, str) else text for text in ("某公司发布公告第", ids, "号", ""))), "source": pick(("wire", "paper", "exchange"), number % 3),
        "event": pick(("个股财报", "股权变动", "合同订单", "监管诉讼"), stock % 4, ~failed), "market": pick(("中国市场",), 0 * stock, ~failed),
        "industry": pick(("电子", "银行", "煤炭"), stock % 3, ~failed), "sentiment": pick(SENTIMENTS, level, ~failed),
        "score": np.where(failed, np.nan, np.clip(level - 3 + rng.normal(0, 0.1, size), -3, 3)),
        **dict.fromkeys(PROBABILITIES, np.where(failed, np.nan, 1 / 7)), "p_event": np.where(failed, np.nan, 0.9),
        "p_market": np.where(failed, np.nan, 0.9), "p_industry": np.where(failed, np.nan, 0.9),
        "reports_price": rng.random(size) < 0.1, "status": pick(("ok", "failed"), failed), "tagger": pick(("tagger",), 0 * stock),
        "trained_through": np.full(size, np.datetime64("2014-12-31", "us")), "name": pick([f"公司{k}" for k in range(NAMES)], stock, known),
        "code": pick(codes(), stock, known), "mentioned": known * 0.9, "relevance": rng.random(size), "is_subject": known & (rng.random(size) < 0.85),
        "n_codes": known.astype(np.int64), "event_novelty": np.ones(size), "stock_industry": pick(("电子", "银行", "煤炭"), stock % 3, known),
        "name_evidence": pick(("observed",), 0 * stock, known), "link_status": pick(("exact", "alias", "none"), np.where(known, rng.random(size) < 0.1, 2)),
        "story_id": ids, "novelty": np.ones(size),
    }  # fmt: skip
    if not categories:
        columns |= {name: columns[name].cast(pa.large_string()) for name in LABELS}
    return pa.table(columns)


def pick(values, number: np.ndarray, known: np.ndarray | bool = True) -> pa.DictionaryArray:
    """Values by their numbers, missing where they are not known."""
    index = pa.array(np.asarray(number, dtype=np.int16), mask=np.broadcast_to(~np.asarray(known), np.shape(number)))
    return pa.DictionaryArray.from_arrays(index, pa.array(values, pa.large_string()))


if __name__ == "__main__":
    main()
