"""The main job: raw news in, a judged factor out, with a count of every row on the way."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from newsfactor.cleaning import clean
from newsfactor.errors import InvalidValueError, TableError
from newsfactor.evaluation import Evaluation, evaluate
from newsfactor.linking import link
from newsfactor.schema import TIMEZONE
from newsfactor.securities import read_securities, universe
from newsfactor.sessions import check_price_dates, known_at
from newsfactor.store import PanelStore
from newsfactor.synthetic import SyntheticMarket, synthetic_market
from newsfactor.tables import read_news, read_prices, read_table, write_table
from newsfactor.tagging import Tagger

# How far back news can share a story: the three days of `clean`, and one for items that count at the end of their day.
_REACH = pd.Timedelta(days=4)


@dataclass
class Stage:
    """What one stage did with its rows: ``into`` = ``kept`` + the sum of ``dropped``."""

    name: str
    into: int = 0
    kept: int = 0
    seconds: float = 0.0
    dropped: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """What the main job made: the tables' folder, the evaluations and the stages."""

    out: Path
    stages: list[Stage]
    by_stock: Evaluation | None
    by_industry: Evaluation | None

    def table(self) -> pd.DataFrame:
        """The stages as a frame: rows in and kept, rows per second, what was dropped or marked and why."""
        return pd.DataFrame(
            {
                "stage": stage.name, "in": stage.into, "kept": stage.kept, "seconds": round(stage.seconds, 2),
                "per second": round(stage.into / stage.seconds, 1) if stage.seconds else np.nan,
                "dropped": _describe(stage.dropped), "noted": _describe(stage.notes),
            }
            for stage in self.stages
        )  # fmt: skip


def _describe(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count)


def run(
    news: str | Path | pd.DataFrame, securities: str | Path | pd.DataFrame, prices: str | Path | pd.DataFrame,
    out: str | Path, *, start: str | None = None, end: str | None = None, names: str | Path | None = None,
    industries: str | Path | None = None, coverage: str | Path | pd.DataFrame | None = None,
    timezone: str | None = None, cutoff: str = "09:15", dtype: str | None = None, tagger: Tagger | None = None,
    cache: str | Path | bool = True, progress: bool = True,
) -> Run:  # fmt: skip
    """Tag, link, panel and evaluate news, and keep every stage's table in a folder.

    Writes ``tags.parquet``, ``links.parquet``, the stores ``factors/stock`` and ``factors/industry``,
    ``report.html`` and ``report_industry.html``. It can be killed and called again: finished batches of
    tagging are found in the journal, and the other tables are made anew. ``factors/`` is a store: a run with
    further news adds to it.

    Parameters
    ----------
    news, securities, prices : path or DataFrame
        As for :func:`read_news`, :func:`read_securities` and :func:`read_prices`.
    out : path
        The folder; made if it does not exist.
    start, end : str, optional
        First and last day (Asia/Shanghai) by ``available_at``; both count.
    names, industries : path, optional
        Observed names and Shenwan history, as for :func:`read_securities`.
    coverage : path or DataFrame, optional
        COVERAGE; inferred with a warning if not given.
    timezone : str, optional
        Of naive times in the news.
    cutoff, dtype, cache, progress
        As for :func:`panel`, :meth:`Tagger.load` and :meth:`Tagger.tag`.
    tagger : Tagger, optional
        The bundled model if not given.

    Returns
    -------
    Run
        An evaluation is None where no news reached a panel.

    Raises
    ------
    NewsfactorError
        For any table that cannot be used; all are read before anything is tagged.
    """
    folder = Path(out)
    if folder.is_file():
        raise InvalidValueError("out", str(out), "must be a folder, not a file")
    stages: list[Stage] = []
    with _stage(stages, "read") as stage:
        all_news = read_news(news, timezone=timezone)
        known = read_securities(securities, names, industries)
        quotes = read_prices(prices)
        check_price_dates(quotes["date"])
        spans = None if coverage is None else _read_coverage(coverage)
        chosen = _between(all_news, start, end, stage)
    with _stage(stages, "universe") as stage:
        tradable = universe(known, quotes)
        stage.into, stage.kept = len(quotes), len(tradable)
    folder.mkdir(parents=True, exist_ok=True)
    with _stage(stages, "clean") as stage:
        cleaned = _clean_after_past(all_news, chosen)
        stage.into = stage.kept = len(cleaned)
        stage.notes = {"reposts": int((cleaned["novelty"] < 1).sum())}
    with _stage(stages, "tag") as stage:
        tagger = tagger or Tagger.load(dtype=dtype)
        tags = tagger.tag(cleaned, securities=known, cache=cache, progress=progress)
        write_table(tags, folder / "tags.parquet")
        stage.into = stage.kept = len(tags)
        stage.notes = _counts(tags["status"])
    with _stage(stages, "link") as stage:
        links = link(tags, known)
        write_table(links, folder / "links.parquet")
        stage.into, stage.kept = len(tags), links["news_id"].nunique()
        stage.notes = {"links": len(links), **_counts(links["link_status"]), **_counts(links["name_evidence"])}
    results = {}
    for by, page in (("stock", "report.html"), ("industry", "report_industry.html")):
        with _stage(stages, f"panel by {by}") as stage:
            store = PanelStore(folder / "factors" / by, by=by, cutoff=cutoff)
            table = store.update(links, tradable, coverage=spans)
            _count_panel(stage, table)
        with _stage(stages, f"evaluate by {by}") as stage:
            results[by] = _judge(table, quotes, tradable, folder / page, stage)
    return Run(folder, stages, results["stock"], results["industry"])


@contextmanager
def _stage(stages: list[Stage], name: str) -> Iterator[Stage]:
    stage = Stage(name)
    began = time.perf_counter()
    yield stage
    stage.seconds = time.perf_counter() - began
    stages.append(stage)


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(name): int(count) for name, count in values.value_counts().items()}


def _read_coverage(source: str | Path | pd.DataFrame) -> pd.DataFrame:
    table = read_table(source, parameter="coverage")
    for column in ("start", "end"):
        if column not in table.columns:
            raise TableError(
                "coverage", [str(name) for name in table.columns], f"needs the column {column!r} (COVERAGE)"
            )
        table[column] = pd.to_datetime(table[column])
    return table


def _between(news: pd.DataFrame, start: str | None, end: str | None, stage: Stage) -> pd.DataFrame:
    """The news of the days from start to end; the rest is counted."""
    day = news["available_at"].dt.tz_convert(TIMEZONE).dt.tz_localize(None).dt.normalize()
    first, last = _day("start", start, day.min()), _day("end", end, day.max())
    early, late = day < first, day > last
    stage.into, stage.kept = len(news), int((~early & ~late).sum())
    stage.dropped = {"before start": int(early.sum()), "after end": int(late.sum())}
    if not stage.kept:
        raise InvalidValueError("start, end", (start, end), f"must leave at least one of {len(news)} news", remedy=f"they lie between {day.min().date()} and {day.max().date()}")  # fmt: skip
    chosen: pd.DataFrame = news[~early & ~late].reset_index(drop=True)
    return chosen


def _clean_after_past(news: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """The chosen news, cleaned with those shortly before, so that runs day by day equal one over all days."""
    first, last = chosen["available_at"].min(), chosen["available_at"].max()
    cleaned = clean(news[news["available_at"].between(first - _REACH, last)])
    return cleaned[cleaned["news_id"].isin(chosen["news_id"])].reset_index(drop=True)


def _day(parameter: str, value: str | None, default: pd.Timestamp) -> pd.Timestamp:
    if value is None:
        return default
    try:
        return pd.Timestamp(value).normalize()
    except ValueError as error:
        raise InvalidValueError(parameter, value, "must be a date such as 2026-07-06") from error


def _count_panel(stage: Stage, table: pd.DataFrame) -> None:
    counts = dict(table.attrs["rows"])
    stage.into, stage.kept = counts.pop("in"), counts.pop("used")
    stage.dropped, stage.notes = counts, {"rows of the panel": len(table)}


def _judge(
    table: pd.DataFrame, quotes: pd.DataFrame, tradable: pd.DataFrame, page: Path, stage: Stage
) -> Evaluation | None:
    if table.empty:
        return None
    report = evaluate(table, quotes, tradable)
    report.to_html(page)
    # Rows of the first factor at the shortest horizon; the report lists the others.
    first = report.coverage[["factor", "horizon"]].iloc[0]
    rows = report.coverage[(report.coverage[["factor", "horizon"]] == first).all(axis=1)].set_index("reason")["rows"]
    counts = {str(name): int(count) for name, count in rows.items()}
    stage.into, stage.kept = sum(counts.values()), counts.pop("used", 0)
    stage.dropped = counts
    return report


@dataclass(frozen=True)
class Demo:
    """The demo's figures: planted against found, with the model's accuracy on texts it has never seen."""

    run: Run
    figures: pd.DataFrame
    accuracy: pd.DataFrame
    planted: float


def demo(
    out: str | Path, *, n_stocks: int = 100, n_days: int = 250, ic: float = 0.10, seed: int = 0,
    cache: str | Path | bool = True, progress: bool = True,
) -> Demo:  # fmt: skip
    """Run the main job on a synthetic market whose true next-session RankIC is known.

    Its ``figures`` compare the mean RankIC at the next session (entry at the opening auction) of the true
    levels, of the model's tags, and of true levels shuffled across names within each day.
    """
    market = synthetic_market(n_stocks, n_days, ic, seed=seed)
    shutil.rmtree(Path(out) / "factors", ignore_errors=True)  # a store would add this market to an earlier one's
    result = run(
        market.news, market.securities, market.prices, out, coverage=market.coverage, cache=cache, progress=progress
    )
    return Demo(result, compare_levels(market, result, seed=seed), _accuracy(market, result), ic)


def compare_levels(market: SyntheticMarket, result: Run | None, *, seed: int = 0) -> pd.DataFrame:
    """Next-session RankIC of true levels, shuffled levels and, given a run, of the model's mean score."""
    tradable = universe(market.securities, market.prices)
    truth = true_panel(market, tradable)
    rng = np.random.default_rng(seed + 1)
    within = truth.groupby("date")["level"].transform(lambda day: rng.permutation(day.to_numpy()))
    shuffled = truth.assign(level=within)
    tables = {"true levels": (truth, "level"), "shuffled levels": (shuffled, "level")}
    if result is not None:
        tables["model tags"] = (PanelStore(result.out / "factors" / "stock").read(), "mean_score")
    rows = []
    for name, (table, factor) in tables.items():
        summary = evaluate(table, market.prices, tradable, factors=[factor], horizons=(1,)).summary
        row = summary[summary["sample"] == "all"].iloc[0]
        rows.append({"levels": name, "mean_rank_ic": row["mean_rank_ic"], "standard_error": row["standard_error"], "n_days": row["n_days"], "n_cells": row["n_cells"]})  # fmt: skip
    return pd.DataFrame(rows)


def true_panel(market: SyntheticMarket, tradable: pd.DataFrame) -> pd.DataFrame:
    """The panel that perfect tags would give: each cell's true level as the factor ``level``."""
    truth = market.truth.merge(tradable[["date", "code"]], on=["date", "code"])
    table = truth.assign(known_at=known_at(truth["date"]), observed=1.0, n_news=1, level=truth["level"].astype(float))
    return table[["date", "code", "known_at", "observed", "n_news", "level"]]


def _accuracy(market: SyntheticMarket, result: Run) -> pd.DataFrame:
    """Share of the synthetic news on which the model's label is the true one."""
    tags = pd.read_parquet(result.out / "tags.parquet")
    both = market.labels.merge(tags, on="news_id", suffixes=("_true", ""))
    fields = ("event", "market", "industry", "sentiment")
    return pd.DataFrame(
        {"field": field, "accuracy": float((both[field] == both[f"{field}_true"]).mean()), "n": len(both)}
        for field in fields
    )
