"""Plain frames and figures to one self-contained HTML page.

Figures carry no factor names: the page sets them as text beside the figure, where every script and
every character is safe. All figures are 5.2 inches wide, so that their text reads on a phone.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT, RESOLUTION = 5.2, 3.0, 150
BLUE, RED, GREY, PALE = "#1f5f8b", "#b5442e", "#8a8f98", "#d9e3ea"
_PALETTE = (BLUE, "#c58b2a", RED, "#5b8c5a", "#7b5ea7", GREY, "#3fa0a8", "#a05c7b", "#444c5c", "#b8b14a")
_NUMBER = re.compile(r"[-+]?[\d.,]+%?|–")


@dataclass(frozen=True)
class Section:
    """One part of a page: a heading with a subtitle, paragraphs, at most one table, figures by caption.

    A table's strings are shown as they are, its floats with four decimals, missing values as a dash.
    """

    title: str
    subtitle: str = ""
    paragraphs: Sequence[str] = ()
    table: pd.DataFrame | None = None
    figures: Mapping[str, Figure] = field(default_factory=dict)


def write_page(path: str | Path, *, title: str, subtitle: str = "", sections: Sequence[Section] = ()) -> Path:
    """Write sections to one HTML file that needs no other: the style and the figures are within it.

    Parameters
    ----------
    path : str or Path
        Overwritten if it exists; its folder must exist.
    title, subtitle : str
        Plain text, as are all texts in the sections: markup is escaped.
    sections : sequence of Section
        In order. None makes a page with a title.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("newsfactor", "pages"), autoescape=True, trim_blocks=True
    )
    page = environment.get_template("report.html").render(
        title=title, subtitle=subtitle, sections=sections, lay_out=_lay_out, embed=_embed,
    )  # fmt: skip
    target = Path(path)
    target.write_text(page, encoding="utf-8")
    return target


def plot_ic(ic: pd.DataFrame, *, factor: str, horizon: int) -> Figure:
    """The daily RankIC as bars and its running sum as a line; days without one are gaps.

    Parameters
    ----------
    ic : DataFrame
        ``Evaluation.ic``: ``date, factor, horizon, rank_ic``.
    factor, horizon
        Which rows to draw; without any the axes are empty.

    Returns
    -------
    Figure
        Not shown and not registered with pyplot.
    """
    rows = ic[(ic["factor"] == factor) & (ic["horizon"] == horizon)].sort_values("date")
    figure, axes = _figure(f"Daily RankIC, {_sessions(horizon)}", "RankIC")
    axes.vlines(rows["date"], 0, rows["rank_ic"], color=GREY, linewidth=max(0.4, min(2.0, 240 / max(len(rows), 1))))
    axes.axhline(0, color="black", linewidth=0.6)
    total = axes.twinx()
    total.plot(rows["date"], rows["rank_ic"].cumsum(), color=BLUE, linewidth=1.6)
    total.set_ylabel("cumulative", color=BLUE)
    total.tick_params(axis="y", colors=BLUE)
    total.spines[["top", "left"]].set_visible(False)
    _set_dates(axes)
    return figure


def plot_decay(decay: pd.DataFrame, *, factor: str) -> Figure:
    """The mean RankIC with the return over the shortest horizon by the sessions waited, with 95 % intervals.

    Parameters
    ----------
    decay : DataFrame
        ``Evaluation.decay``: ``factor, lag, mean_rank_ic, low, high``.
    factor : str

    Returns
    -------
    Figure
    """
    rows = decay[(decay["factor"] == factor) & decay["low"].notna()].sort_values("lag")
    figure, axes = _figure("Mean RankIC by sessions waited, 95 % intervals", "mean RankIC")
    reach = [rows["mean_rank_ic"] - rows["low"], rows["high"] - rows["mean_rank_ic"]]
    axes.errorbar(rows["lag"], rows["mean_rank_ic"], reach, fmt="o-", color=BLUE, ecolor=GREY, linewidth=1, capsize=3)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("sessions between cell and entry")
    return figure


def plot_months(subsets: pd.DataFrame, *, factor: str, horizon: int) -> Figure:
    """The mean RankIC of each month, a row a year; months without one are grey.

    Parameters
    ----------
    subsets : DataFrame
        ``Evaluation.subsets``: the rows of kind ``month``.
    factor, horizon
        Which rows to draw.

    Returns
    -------
    Figure
    """
    rows = _choose(subsets, factor, horizon, "month")
    month = pd.to_datetime(rows["subset"], format="%Y-%m")
    table = rows.assign(year=month.dt.year, month=month.dt.month).pivot(
        index="year", columns="month", values="mean_rank_ic"
    )
    table = table.reindex(columns=range(1, 13))
    figure, axes = _figure("Mean RankIC by month", "")
    reach = np.nanmax(np.abs(table.to_numpy()), initial=0.01)
    colours = colormaps["RdBu"].with_extremes(bad="#e4e7eb")
    axes.imshow(table.to_numpy(), cmap=colours, vmin=-reach, vmax=reach, aspect="auto")
    for (row, column), value in np.ndenumerate(table.to_numpy()):
        if np.isfinite(value):
            shade = "white" if abs(value) > 0.6 * reach else "black"
            axes.text(column, row, f"{value:.2f}".replace("0.", "."), ha="center", va="center", fontsize=7, color=shade)
    axes.set_xticks(range(12), [str(number) for number in range(1, 13)])
    axes.set_yticks(range(len(table)), table.index.astype(str))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def plot_classes(subsets: pd.DataFrame, *, factor: str, horizon: int) -> Figure:
    """The mean RankIC within each industry with its 95 % interval, largest first; by number, which the table resolves.

    Parameters and return as for `plot_months`, of the rows of kind ``industry``.
    """
    rows = (
        _choose(subsets, factor, horizon, "industry")
        .dropna(subset=["low"])
        .sort_values("mean_rank_ic", ascending=False)
    )
    figure, axes = _figure("Mean RankIC within industries, 95 % intervals, sorted", "mean RankIC")
    place = np.arange(len(rows))
    reach = [rows["mean_rank_ic"] - rows["low"], rows["high"] - rows["mean_rank_ic"]]
    axes.errorbar(place, rows["mean_rank_ic"], reach, fmt="o", markersize=4, color=BLUE, ecolor=PALE, elinewidth=3)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xticks([])
    axes.set_xlabel(f"{len(rows)} industries")
    return figure


def plot_quantile_curves(quantile_daily: pd.DataFrame, *, factor: str, horizon: int) -> Figure:
    """The running sum of each bucket's daily mean excess return, spread evenly over its horizon, in percent.

    Parameters
    ----------
    quantile_daily : DataFrame
        ``Evaluation.quantile_daily``: ``date, factor, horizon, quantile, mean_excess``.
    factor, horizon
        Which rows to draw.

    Returns
    -------
    Figure
    """
    rows = quantile_daily[(quantile_daily["factor"] == factor) & (quantile_daily["horizon"] == horizon)]
    table = rows.pivot(index="date", columns="quantile", values="mean_excess").fillna(0.0).cumsum() * 100 / horizon
    figure, axes = _figure(f"Cumulative excess return by quantile, {_sessions(horizon)}", "%")
    colours = _shade_buckets(table.shape[1])
    for number, quantile in enumerate(table.columns):
        axes.plot(table.index, table[quantile], color=colours[number], linewidth=1.4, label=str(quantile))
    axes.axhline(0, color="black", linewidth=0.6)
    _set_dates(axes)
    _legend(axes, min(table.shape[1], 10))
    return figure


def _choose(subsets: pd.DataFrame, factor: str, horizon: int, kind: str) -> pd.DataFrame:
    return subsets[(subsets["factor"] == factor) & (subsets["horizon"] == horizon) & (subsets["kind"] == kind)]


def plot_quantiles(quantile_returns: pd.DataFrame, *, factor: str) -> Figure:
    """The mean excess return of each bucket, in basis points over the horizon, one group for each horizon.

    Parameters
    ----------
    quantile_returns : DataFrame
        ``Evaluation.quantile_returns``: ``factor, horizon, quantile, mean_excess``.
    factor : str

    Returns
    -------
    Figure
    """
    rows = quantile_returns[quantile_returns["factor"] == factor]
    table = rows.pivot(index="horizon", columns="quantile", values="mean_excess") * 1e4
    figure, axes = _figure("Mean excess return by quantile", "basis points")
    width = 0.8 / max(table.shape[1], 1)
    colours = _shade_buckets(table.shape[1])
    for number, quantile in enumerate(table.columns):
        place = np.arange(len(table)) + (number - (table.shape[1] - 1) / 2) * width
        axes.bar(place, table[quantile], width * 0.9, color=colours[number], label=str(quantile))
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xticks(np.arange(len(table)), table.index.astype(str))
    axes.set_xlabel("sessions")
    _legend(axes, min(table.shape[1], 10))
    return figure


def plot_coverage(coverage: pd.DataFrame, *, factor: str) -> Figure:
    """The share of the panel's rows that each horizon uses, and of those lost for each reason.

    Parameters
    ----------
    coverage : DataFrame
        ``Evaluation.coverage``: ``factor, horizon, reason, rows``.
    factor : str

    Returns
    -------
    Figure
    """
    reasons = ["used", *sorted(set(coverage["reason"]) - {"used"})]
    colours = {reason: _PALETTE[number % len(_PALETTE)] for number, reason in enumerate(reasons)}
    rows = coverage[coverage["factor"] == factor]
    table = rows.pivot(index="horizon", columns="reason", values="rows").fillna(0)[rows["reason"].unique()]
    share = table.div(table.sum(axis=1), axis=0) * 100
    figure, axes = _figure("Where the panel's rows went", "sessions")
    left = np.zeros(len(share))
    for reason in share.columns:
        axes.barh(np.arange(len(share)), share[reason], 0.7, left, color=colours[reason], label=reason)
        left = left + share[reason].to_numpy()
    axes.set_yticks(np.arange(len(share)), share.index.astype(str))
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of rows")
    _legend(axes, 3)
    return figure


def _figure(title: str, label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _shade_buckets(count: int) -> list[Any]:
    """Red for the lowest to blue for the highest; the palest, in the middle, is grey."""
    shades = list(colormaps["coolwarm_r"](np.linspace(0, 1, max(count, 1))))
    return [GREY if count % 2 and number == count // 2 else shade for number, shade in enumerate(shades)]


def _set_dates(axes: Axes) -> None:
    locator = AutoDateLocator(maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _legend(axes: Axes, columns: int) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, ncols=columns, loc="upper center", bbox_to_anchor=(0.5, -0.22))


def _sessions(horizon: int) -> str:
    return f"{horizon} session" + ("s" if horizon > 1 else "")


def _embed(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=RESOLUTION)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _lay_out(table: pd.DataFrame) -> list[list[tuple[str, bool]]]:
    """Header and rows as texts, each with whether it is set as a number (to the right)."""
    columns = [[_cell(value) for value in table.iloc[:, place]] for place in range(table.shape[1])]
    numeric = [bool(column) and all(_NUMBER.fullmatch(text) for text in column) for column in columns]
    lines = [[str(name) for name in table.columns], *zip(*columns, strict=True)]
    return [list(zip(line, numeric, strict=True)) for line in lines]


def _cell(value: Any) -> str:
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "–"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int | np.integer) and not isinstance(value, bool) else str(value)
