"""The commands: each a few lines over the library's functions."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from newsfactor.errors import NewsfactorError

if TYPE_CHECKING:
    from newsfactor.taxonomy import Taxonomy

app = typer.Typer(
    help="From raw Chinese financial news to a tested, point-in-time factor.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip
label_app = typer.Typer(help="Label news in rounds.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(label_app, name="label")
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


@app.command()
def train(
    labels: Annotated[Path, typer.Argument(help="Labels: json, jsonl, csv, xlsx, or LLaMA-Factory's dataset_info.json.")],
    output: Annotated[Path, typer.Argument(help="Folder for the adapter.")],
    base: Annotated[str | None, typer.Option(help="Base model: a hub name or folder; the bundled one if not given.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Entry of dataset_info.json.")] = None,
    test: Annotated[Path | None, typer.Option(help="Labels to judge each epoch by; else a share is held out.")] = None,
    held_out: Annotated[float, typer.Option(help="Share of the labels that is held out.", min=0.0, max=0.9)] = 0.1,
    epochs: Annotated[float, typer.Option(help="Epochs.")] = 5,
    rate: Annotated[float, typer.Option(help="Learning rate; 1e-3 suits the bundled base.")] = 5e-5,
    batch: Annotated[int, typer.Option(help="Records a step.")] = 2,
    rank: Annotated[int, typer.Option(help="Rank of the adapter.")] = 8,
    four_bit: Annotated[bool, typer.Option("--4bit", help="QLoRA: the base in 4 bits.")] = False,
    patience: Annotated[int | None, typer.Option(help="Stop after so many epochs without progress; keep the best.")] = None,
    template: Annotated[str | None, typer.Option(help="A template of LLaMA-Factory by name.")] = None,
    taxonomy: Annotated[Path | None, typer.Option(help="Label sets as JSON; the default ones if not given.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of order and initialisation.")] = 0,
) -> None:  # fmt: skip
    """Tune a LoRA on labelled news by the article's recipe; killed and called again, it goes on."""
    with _reported():
        from newsfactor.labels import read_labels
        from newsfactor.scoring import Scorecard
        from newsfactor.training import SCORECARD, fine_tune

        sets = _load_taxonomy(taxonomy)
        folder = fine_tune(
            read_labels(labels, dataset=dataset, taxonomy=sets), output, taxonomy=sets, base=base, held_out=held_out if test is None else test, rank=rank,
            quantization="4bit" if four_bit else None, patience=patience, template=template, seed=seed,
            num_train_epochs=epochs, learning_rate=rate, per_device_train_batch_size=batch,
        )  # fmt: skip
        if (folder / SCORECARD).exists():
            out_console.print(str(Scorecard.from_dict(json.loads((folder / SCORECARD).read_text(encoding="utf-8")))))
        out_console.print(f"adapter: {folder.resolve()}", soft_wrap=True)


@app.command()
def score(
    gold: Annotated[Path, typer.Argument(help="Labels, or generated_predictions.jsonl of LLaMA-Factory alone.")],
    tags: Annotated[Path | None, typer.Argument(help="Tags (parquet) of the same news; a model given by --model if not.")] = None,
    model: Annotated[str | None, typer.Option(help="FOLDER[,adapter=FOLDER][,dtype=TYPE][,quantization=4bit][,template=NAME]; 'bundled' is the bundled one.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Entry of dataset_info.json.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the scorecard there as JSON.")] = None,
) -> None:  # fmt: skip
    """Judge tags against gold labels: accuracy, macro-F1, ordinal agreement, calibration, with intervals."""
    with _reported():
        from newsfactor.predictions import read_predictions
        from newsfactor.scoring import score_tags
        from newsfactor.tables import read_table

        if tags is None and model is None:
            labelled, answers = read_predictions(gold)
        else:
            labelled = _read_gold(gold, dataset)
            answers = _tag_labels(str(model), labelled) if tags is None else read_table(tags, parameter="tags")
        card = score_tags(labelled, answers)
        out_console.print(str(card))
        if out is not None:
            out.write_text(json.dumps(card.to_dict(), ensure_ascii=False, indent=1), encoding="utf-8")


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="FOLDER[,adapter=FOLDER][,dtype=TYPE][,quantization=4bit][,template=NAME]; 'bundled' is the bundled one.")],
    second: Annotated[str, typer.Argument(help="Another way to run it, in the same form.")],
    on: Annotated[Path, typer.Option(help="Labels whose texts both tag.")],
    dataset: Annotated[str | None, typer.Option(help="Entry of dataset_info.json.")] = None,
) -> None:  # fmt: skip
    """Check that two ways to run one model agree on 99.5 % of labels; exit 1 and list them if not."""
    with _reported():
        from newsfactor.comparison import compare_tags

        labelled = _read_gold(on, dataset)
        found = compare_tags(_tag_labels(first, labelled), _tag_labels(second, labelled))
        out_console.print(str(found))
        raise typer.Exit(0 if found.passes else 1)


@app.command()
def merge(
    adapter: Annotated[Path, typer.Argument(help="Folder of the adapter.")],
    output: Annotated[Path, typer.Argument(help="Empty folder for the checkpoint.")],
    base: Annotated[str | None, typer.Option(help="The base it was tuned on; the bundled one if not given.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16; the base's own if not given.")] = None,
) -> None:  # fmt: skip
    """Write base and adapter as one plain checkpoint."""
    with _reported():
        from newsfactor.training import merge_adapter

        out_console.print(f"checkpoint: {merge_adapter(base, adapter, output, dtype=dtype).resolve()}", soft_wrap=True)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Folder of an InternLM, InternLM2 or Baichuan-7B checkpoint.")],
    output: Annotated[Path, typer.Argument(help="New or empty folder for the Llama checkpoint.")],
) -> None:
    """Write an InternLM, InternLM2 or Baichuan-7B checkpoint as a Llama checkpoint; none of its code is run."""
    with _reported():
        from newsfactor.checkpoints import convert_checkpoint

        out_console.print(f"checkpoint: {convert_checkpoint(source, output).resolve()}", soft_wrap=True)


@label_app.command("export")
def label_export(
    tags: Annotated[Path, typer.Argument(help="Tags of the news to choose from, such as tags.parquet of a run.")],
    sheet: Annotated[Path, typer.Argument(help="Excel file to write.")],
    size: Annotated[int, typer.Option(help="Items in the sheet.", min=1)] = 100,
    mix: Annotated[tuple[float, float, float], typer.Option(help="Shares of random, least confident and rare items.")] = (0.4, 0.4, 0.2),
    labelled: Annotated[Path | None, typer.Option(help="Labels that there are already; their news are left out.")] = None,
    taxonomy: Annotated[Path | None, typer.Option(help="Label sets as JSON; the default ones if not given.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the choice.")] = 0,
) -> None:  # fmt: skip
    """Write a sample worth labelling to an Excel sheet, with dropdowns and the model's own answers."""
    with _reported():
        from newsfactor.annotation import export_sheet
        from newsfactor.tables import read_table

        table, sets = read_table(tags, parameter="tags"), _load_taxonomy(taxonomy)
        chosen = export_sheet(table, sheet, size=size, mix=mix, labelled=labelled, seed=seed, taxonomy=sets)
        reasons = chosen["reason"].str.split(":").str[0].value_counts(sort=False)
        _show(reasons.rename_axis("chosen as").reset_index(name="items"), f"{sheet}")


@label_app.command("import")
def label_import(
    sheet: Annotated[Path, typer.Argument(help="Labelled Excel file.")],
    labels: Annotated[Path, typer.Argument(help="Labels to merge it into: json, jsonl, csv, xlsx or parquet; made if there are none.")],
    layout: Annotated[str, typer.Option(help="Form of JSON records for LLaMA-Factory: alpaca or sharegpt.")] = "alpaca",
    taxonomy: Annotated[Path | None, typer.Option(help="Label sets as JSON; the default ones if not given.")] = None,
) -> None:  # fmt: skip
    """Check a labelled sheet and merge it into the labels; a bad row changes nothing."""
    with _reported():
        from newsfactor.annotation import import_sheet
        from newsfactor.labels import write_labels

        sets = _load_taxonomy(taxonomy)
        merged = import_sheet(sheet, into=labels, taxonomy=sets)
        write_labels(merged, labels, layout=layout, taxonomy=sets)
        counts = [(name, merged.attrs[name]) for name in ("added", "changed", "unchanged", "mended")]
        _show(pd.DataFrame([*counts, ("labels in all", len(merged))], columns=["rows", "count"]), f"{labels}")


@label_app.command("agreement")
def label_agreement(
    first: Annotated[Path, typer.Argument(help="One annotator's labels: any label file or sheet.")],
    second: Annotated[Path, typer.Argument(help="The other's.")],
    out: Annotated[Path | None, typer.Option(help="File for every disagreement: csv or parquet.")] = None,
    taxonomy: Annotated[Path | None, typer.Option(help="Label sets as JSON; the default ones if not given.")] = None,
) -> None:
    """Compare two annotators: agreement, Cohen's kappa, and where they differ."""
    with _reported():
        from newsfactor.annotation import agreement
        from newsfactor.tables import write_table

        result = agreement(first, second, taxonomy=_load_taxonomy(taxonomy))
        out_console.print(str(result), soft_wrap=True)
        if out is not None:
            write_table(result.disagreements, out)


def _load_taxonomy(path: Path | None) -> Taxonomy | None:
    from newsfactor.taxonomy import Taxonomy

    return None if path is None else Taxonomy.load(path)


def _read_gold(path: Path, dataset: str | None) -> pd.DataFrame:
    """Labels, each text once; the reader has refused those that contradict each other."""
    from newsfactor.labels import read_labels

    return read_labels(path, dataset=dataset).drop_duplicates("text", ignore_index=True)


def _tag_labels(model: str, labels: pd.DataFrame) -> pd.DataFrame:
    """Tags of labelled texts by a model given as FOLDER,option=value,…"""
    from newsfactor.errors import InvalidValueError
    from newsfactor.tables import read_news
    from newsfactor.tagging import Tagger

    base, *parts = model.split(",")
    known = ("adapter", "dtype", "device", "quantization", "template")
    options = dict(part.partition("=")[::2] for part in parts)
    for name in options:
        if name not in known:
            raise InvalidValueError("model", name, f"must be a folder and options of {', '.join(known)}")
    tagger = Tagger.load(None if base == "bundled" else base, **options)  # type: ignore[arg-type]
    known_as = labels["news_id"] if "news_id" in labels.columns else labels.index.map(str)
    table = pd.DataFrame({"news_id": known_as, "published_at": "2000-01-01", "title": "", "content": labels["text"]})
    # The label's own text is the key, also where the tagger strips a headline from it.
    return tagger.tag(read_news(table, timezone="Asia/Shanghai"), cache=False).assign(text=labels["text"])


if __name__ == "__main__":
    app()
