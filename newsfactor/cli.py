"""The commands: each a few lines over the library's functions."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from newsfactor.errors import NewsfactorError

app = typer.Typer(
    help="From raw Chinese financial news to a tested, point-in-time factor.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip
out_console = Console(markup=False, highlight=False)
error_console = Console(stderr=True, markup=False, highlight=False)


@contextmanager
def _reported() -> Iterator[None]:
    """An error of use is one clear line and exit code 2; an interruption says how to go on."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: error_console.print(f"note: {message}")  # type: ignore[assignment]
        try:
            yield
        except NewsfactorError as error:
            error_console.print(f"error: {error}", soft_wrap=True)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            error_console.print("interrupted; run the same command again to go on: finished batches are kept")
            raise typer.Exit(130) from error


def _show(frame: pd.DataFrame, title: str) -> None:
    table = Table(title=title, title_justify="left")
    for column in frame.columns:
        table.add_column(
            str(column), justify="right" if pd.api.types.is_numeric_dtype(frame[column]) else "left", overflow="fold"
        )
    for row in frame.itertuples(index=False):
        table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row))
    out_console.print(table)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the tables and the report.")] = Path("demo-output"),
    stocks: Annotated[int, typer.Option(help="Number of fictional companies.", min=20)] = 100,
    days: Annotated[int, typer.Option(help="Number of trading sessions.", min=30)] = 250,
    ic: Annotated[
        float, typer.Option(help="Planted RankIC of the true level with the next session's return.", min=0.0, max=0.3)
    ] = 0.10,
    seed: Annotated[int, typer.Option(help="Seed of the synthetic market.")] = 0,
    cache: Annotated[bool, typer.Option(help="Find tags of earlier runs in the journal.")] = True,
) -> None:
    """Run the main job on a synthetic market whose true IC is known, with the bundled model."""
    with _reported():
        from newsfactor.pipeline import demo as run_demo

        result = run_demo(out, n_stocks=stocks, n_days=days, ic=ic, seed=seed, cache=cache)
        _show(result.run.table(), "Rows")
        _show(result.accuracy, "The bundled model on these texts")
        _show(result.figures, f"Next-session RankIC, {result.planted:g} planted")
        out_console.print(f"report: {(out / 'report.html').resolve()}", soft_wrap=True)


@app.command()
def run(
    news: Annotated[Path, typer.Option(help="News: csv, json, jsonl or parquet.")],
    securities: Annotated[Path, typer.Option(help="Current securities (code or ts_code, name, list_date, sw_l1) or a SECURITIES table.")],
    prices: Annotated[Path, typer.Option(help="Daily prices: date, code, open, close, pre_close (or pct_chg), amount, circ_mv.")],
    out: Annotated[Path, typer.Option(help="Folder for tags.parquet, links.parquet, factors/ and report.html.")],
    start: Annotated[str | None, typer.Option(help="First day of news, such as 2026-07-06.")] = None,
    end: Annotated[str | None, typer.Option(help="Last day of news, included.")] = None,
    names: Annotated[Path | None, typer.Option(help="Observed names: code, name, first_seen, last_seen.")] = None,
    industries: Annotated[Path | None, typer.Option(help="Shenwan history: code, start_date, end_date, sw_l1.")] = None,
    coverage: Annotated[Path | None, typer.Option(help="When each source was observed: source, start, end.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Timezone of naive times, such as Asia/Shanghai.")] = None,
    cutoff: Annotated[str, typer.Option(help="Time of day at which a session's cell closes: 09:15, 14:50 or 15:00.")] = "09:15",
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16; the processor's own if not given.")] = None,
    model: Annotated[str | None, typer.Option(help="Base model: a hub name or folder; the bundled one if not given.")] = None,
    adapter: Annotated[Path | None, typer.Option(help="Folder of a LoRA adapter for the base.")] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder of the tagging journal; the user's cache if not given.")] = None,
) -> None:  # fmt: skip
    """Tag, link, panel and evaluate news; killed and called again, it tags nothing twice."""
    with _reported():
        from newsfactor.pipeline import run as run_job
        from newsfactor.tagging import Tagger

        tagger = Tagger.load(model, adapter=adapter, dtype=dtype)
        result = run_job(
            news, securities, prices, out, start=start, end=end, names=names, industries=industries, coverage=coverage,
            timezone=timezone, cutoff=cutoff, tagger=tagger, cache=cache or True,
        )  # fmt: skip
        if result.by_stock is not None:
            out_console.print(str(result.by_stock))
        _show(result.table(), "Rows")
        out_console.print(f"report: {(out / 'report.html').resolve()}", soft_wrap=True)


if __name__ == "__main__":
    app()
