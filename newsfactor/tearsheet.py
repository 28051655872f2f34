"""The evaluation of a factor, and how it reads: one screen of text, one page of HTML, in words that claim no more than it shows."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from newsfactor.findings import tell_findings
from newsfactor.report import (
    Section,
    plot_classes,
    plot_coverage,
    plot_decay,
    plot_ic,
    plot_months,
    plot_quantile_curves,
    plot_quantiles,
    write_page,
)

_LINES, _DRAWN = 12, 8


@dataclass(frozen=True)
class Evaluation:
    """The result of `newsfactor.evaluate`; printing it gives one screen of text.

    Every table is long. Means are over sessions; ``low``, ``high`` are 95 % intervals; returns are simple (0.01 = 1 %).

    Attributes
    ----------
    summary : DataFrame
        A row for each ``factor, horizon, sample``: ``mean_rank_ic`` with ``standard_error``, ``t``, ``p``, ``low``, ``high``
        of the equal-weighted cosine test, ``bootstrap_low/high`` of a studentised block bootstrap, ``detectable`` (the
        smallest mean that a two-sided 5 % test finds with 80 % power) and ``q`` (false discovery over all tests);
        ``naive_rank_ic`` (entries and exits that could not be had counted too); ``incremental_rank_ic`` with ``_low``,
        ``_high``, ``_p``, ``_q``: of the residual on the last 1, 5 and 20 sessions' return, turnover, log
        capitalisation and industry, each on the sessions that have it (``settings["control_sessions"]``); ``mean_ic`` (Pearson); ``icir`` (mean over standard deviation of the daily RankIC,
        not annualised); ``positive`` (share of sessions above 0); ``n_days``; ``n_cells``. ``sample`` is ``all`` and,
        if the tagger's training overlaps, ``in`` and ``out``; q is of the sample that is evidence.
    subsets : DataFrame
        ``factor, horizon, kind`` (industry, size, month), ``subset``, ``mean_rank_ic``, its interval, ``p``, ``q``.
    decay : DataFrame
        ``factor, lag``: the mean RankIC with the return over the shortest horizon, entered ``lag`` sessions later.
    placebo : DataFrame
        ``factor, horizon, figure`` (rank_ic, long_only, long_short), ``placebo`` (names, dates): the ``observed`` figure
        (ranks of returns are among all names here), its ``p`` and the central 95 % of ``draws`` placebos.
    portfolios : DataFrame
        ``factor, horizon, leg`` (long_only: top bucket less all covered names; long_short: top less bottom): mean
        excess ``gross``, ``cost`` and ``net`` over the horizon, with the interval of ``net``; turnover of the buckets
        and rank autocorrelation over the horizon. Borrowing is not charged.
    quantile_returns, quantile_daily : DataFrame
        ``factor, horizon, quantile`` (1: lowest), ``mean_return``, ``mean_excess`` over all covered names; the second by day.
    ic : DataFrame
        ``date, factor, horizon, ic, rank_ic, naive_rank_ic, incremental_rank_ic, n_names``.
    coverage : DataFrame
        ``factor, horizon, reason, rows, rows_in``: the rows of each reason, ``used`` among them, add up to ``rows_in``.
    diagnostics : DataFrame
        ``factor, window`` (gap, same_day): the mean RankIC with the gap before the session and with the session of the cell itself. Not tradable.
    settings : dict
        How the figures were made, with fingerprints of the data.
    """

    summary: pd.DataFrame
    subsets: pd.DataFrame
    decay: pd.DataFrame
    placebo: pd.DataFrame
    portfolios: pd.DataFrame
    quantile_returns: pd.DataFrame
    quantile_daily: pd.DataFrame
    ic: pd.DataFrame
    coverage: pd.DataFrame
    diagnostics: pd.DataFrame
    settings: Mapping[str, Any]

    def __str__(self) -> str:
        english, _ = tell_findings(self.summary, self.placebo, self.settings)
        lines = [textwrap.fill(line, 118, subsequent_indent="  ") for line in english]
        tables = [f"\n{title}\n{_shorten(table)}" for title, (_, table) in _tables(self).items()]
        return "\n".join([_title(self), *lines, *tables])

    def to_html(self, path: str | Path) -> Path:
        """Write the tear sheet with its figures to one self-contained HTML file and return its path."""
        english, chinese = tell_findings(self.summary, self.placebo, self.settings)
        sections = [Section("What holds and what does not", paragraphs=english), Section("结论", paragraphs=chinese)]
        sections += [Section(title, subtitle, table=table) for title, (subtitle, table) in _tables(self).items()]
        drawn = _choose_drawn(self)
        sections += [Section(factor, _bucket_note(self, factor), figures=_draw(self, factor)) for factor in drawn]
        sections += [
            Section(title, subtitle, table=table) for title, (subtitle, table) in _long_tables(self, drawn).items()
        ]
        values = [str(value) for value in self.settings.values()]
        listed = pd.DataFrame({"setting": list(self.settings), "value": values})
        sections.append(Section("Settings and fingerprints", "设置与数据指纹", table=listed))
        return write_page(path, title=_title(self), subtitle="因子评价报告", sections=sections)


def _title(result: Evaluation) -> str:
    setting = result.settings
    count = result.summary["factor"].nunique()
    factors = f"{count} factor" if count == 1 else f"{count} factors"
    return f"Evaluation of {factors} by {setting['by']}, {setting['first_session']} to {setting['last_session']}"


def _evidence(result: Evaluation) -> pd.DataFrame:
    rows: pd.DataFrame = result.summary[result.summary["sample"] == result.settings["evidence"]]
    return rows


def _choose_drawn(result: Evaluation) -> list[str]:
    """The factors that get figures: all, or of many those with the largest t at the first horizon."""
    first = _evidence(result)
    first = first[first["horizon"] == result.settings["horizons"][0]]
    largest = first.assign(size=first["t"].abs()).nlargest(_DRAWN, "size", keep="first")["factor"]
    return [factor for factor in first["factor"] if len(first) <= _DRAWN or factor in set(largest)]


def _bucket_note(result: Evaluation, factor: str) -> str:
    return f"因子 · buckets: {result.settings['buckets'][factor]}"


def _draw(result: Evaluation, factor: str) -> dict[str, Any]:
    first = result.settings["horizons"][0]
    figures = {
        "Daily and cumulative RankIC · 每日与累计秩相关": plot_ic(result.ic, factor=factor, horizon=first),
        "Decay of the RankIC · 秩相关衰减": plot_decay(result.decay, factor=factor),
        "RankIC by month · 月度秩相关": plot_months(result.subsets, factor=factor, horizon=first),
        "Cumulative excess return by quantile · 分组累计超额": plot_quantile_curves(
            result.quantile_daily, factor=factor, horizon=first
        ),
        "Mean excess return by quantile · 分组平均超额": plot_quantiles(result.quantile_returns, factor=factor),
        "Coverage · 覆盖": plot_coverage(result.coverage, factor=factor),
    }
    if (result.subsets["kind"] == "industry").any():
        figures["RankIC by industry · 分行业秩相关"] = plot_classes(result.subsets, factor=factor, horizon=first)
    return figures


# The tables for the eye: numbers as texts, wide where that saves lines.


def _tables(result: Evaluation) -> dict[str, tuple[str, pd.DataFrame]]:
    return {
        "Rank information coefficient (95 % interval; q: false-discovery rate)": ("秩相关系数", _rank_table(result)),
        "After costs, basis points over the horizon": ("扣除成本后的超额收益（基点）", _portfolio_table(result)),
        "Rows of the panel": ("样本行去向", _coverage_table(result)),
        "Diagnostics, NOT TRADABLE: the gap before and the session of the cell itself": ("诊断：不可交易", _diagnostic_table(result)),
    }  # fmt: skip


def _rank_table(result: Evaluation) -> pd.DataFrame:
    rows = result.summary
    split = rows["sample"].nunique() > 1
    names, dates = (_placebo_p(result, kind, rows) for kind in ("names", "dates"))
    table = pd.DataFrame({
        "factor": rows["factor"], "horizon": rows["horizon"], "sample": rows["sample"],
        "RankIC": _fix(rows["mean_rank_ic"], 4), "95 %": _interval(rows["low"], rows["high"], 4),
        "detectable": _fix(rows["detectable"], 4), "q": _fix(rows["q"], 3), "placebo p": _pair(names, dates),
        "incremental": _fix(rows["incremental_rank_ic"], 4), "q inc.": _fix(rows["incremental_q"], 3),
        "naive": _fix(rows["naive_rank_ic"], 4), "ICIR": _fix(rows["icir"], 2), "> 0": _percent(rows["positive"]),
        "days": rows["n_days"], "cells": rows["n_cells"],
    })  # fmt: skip
    return table if split else table.drop(columns="sample")


def _placebo_p(result: Evaluation, kind: str, rows: pd.DataFrame) -> pd.Series:
    chosen = result.placebo[(result.placebo["figure"] == "rank_ic") & (result.placebo["placebo"] == kind)]
    p = chosen.set_index(["factor", "horizon"])["p"]
    found = pd.Series(
        [p.get((f, h), np.nan) for f, h in zip(rows["factor"], rows["horizon"], strict=True)], index=rows.index
    )
    return found.where(rows["sample"] == result.settings["evidence"])


def _portfolio_table(result: Evaluation) -> pd.DataFrame:
    rows = result.portfolios
    wide = {}
    for leg, title in (("long_only", "top – covered"), ("long_short", "top – bottom")):
        part = rows[rows["leg"] == leg].reset_index(drop=True)
        wide[title] = _fix(part["gross"] * 1e4, 1)
        wide["net" if leg == "long_only" else "net "] = _fix(part["net"] * 1e4, 1)
        wide["95 %" if leg == "long_only" else "95 % "] = _interval(part["net_low"] * 1e4, part["net_high"] * 1e4, 1)
    part = rows[rows["leg"] == "long_only"].reset_index(drop=True)
    return pd.DataFrame({
        "factor": part["factor"], "horizon": part["horizon"], **wide, "turnover": _percent(part["turnover_top"]),
        "rank autocorr.": _fix(part["rank_autocorrelation"], 2), "days": part["n_days"],
    })  # fmt: skip


def _coverage_table(result: Evaluation) -> pd.DataFrame:
    counts = result.coverage.pivot(index=["factor", "horizon"], columns="reason", values="rows").fillna(0).astype(int)
    counts = counts[["used", *counts.columns.drop("used")]]
    counts.insert(0, "rows", counts.sum(axis=1))
    order = result.coverage[["factor", "horizon"]].drop_duplicates()
    table: pd.DataFrame = order.merge(counts.reset_index(), on=["factor", "horizon"]).rename_axis(columns=None)
    return table


def _diagnostic_table(result: Evaluation) -> pd.DataFrame:
    rows = result.diagnostics
    return pd.DataFrame({
        "factor": rows["factor"], "window": rows["window"].map({"gap": "gap (previous close to open)", "same_day": "same day (open to close)"}),
        "RankIC": _fix(rows["mean_rank_ic"], 4), "95 %": _interval(rows["low"], rows["high"], 4), "days": rows["n_days"],
    })  # fmt: skip


def _long_tables(result: Evaluation, drawn: list[str]) -> dict[str, tuple[str, pd.DataFrame]]:
    """What only the page has room for, of the factors that are drawn."""
    first = result.settings["horizons"][0]
    parts = result.subsets[result.subsets["factor"].isin(drawn) & (result.subsets["horizon"] == first)]
    parts = parts[parts["kind"] != "month"]
    subsets = pd.DataFrame({
        "factor": parts["factor"], "kind": parts["kind"], "subset": parts["subset"], "RankIC": _fix(parts["mean_rank_ic"], 4),
        "95 %": _interval(parts["low"], parts["high"], 4), "q": _fix(parts["q"], 3), "days": parts["n_days"], "cells": parts["n_cells"],
    })  # fmt: skip
    rows = result.placebo[result.placebo["factor"].isin(drawn)]
    scale = np.where(rows["figure"] == "rank_ic", 1.0, 1e4)
    placebo = pd.DataFrame({
        "factor": rows["factor"], "horizon": rows["horizon"], "placebo": rows["placebo"],
        "figure": rows["figure"].map({"rank_ic": "RankIC", "long_only": "top – covered, bp", "long_short": "top – bottom, bp"}),
        "observed": _fix(rows["observed"] * scale, 4), "placebos, 95 %": _interval(rows["low"] * scale, rows["high"] * scale, 4),
        "p": _fix(rows["p"], 3), "draws": rows["draws"],
    })  # fmt: skip
    tables = {"Placebos: names exchanged, dates shifted": ("安慰剂检验", placebo)}
    return (
        {f"By industry and size, {first} session ahead": ("分行业与分市值", subsets)} if len(subsets) else {}
    ) | tables


def _fix(values: pd.Series, places: int) -> pd.Series:
    return values.map(lambda value: "–" if pd.isna(value) else _unsigned(f"{value:.{places}f}"))


def _unsigned(text: str) -> str:
    return text.removeprefix("-") if float(text) == 0 else text


def _percent(values: pd.Series) -> pd.Series:
    return values.map(lambda value: "–" if pd.isna(value) else f"{value:.0%}")


def _interval(low: pd.Series, high: pd.Series, places: int) -> pd.Series:
    ends = zip(_fix(low, places), _fix(high, places), strict=True)
    return pd.Series(["–" if a == "–" else f"{a} … {b}" for a, b in ends], index=low.index, dtype="str")


def _pair(names: pd.Series, dates: pd.Series) -> pd.Series:
    ends = zip(_fix(names, 3), _fix(dates, 3), strict=True)
    return pd.Series(["–" if a == b == "–" else f"{a} / {b}" for a, b in ends], index=names.index, dtype="str")


def _shorten(table: pd.DataFrame) -> str:
    if not len(table):
        return "(none)"
    with pd.option_context("display.unicode.east_asian_width", True):
        text = table.head(_LINES).to_string(index=False)
    return text + (f"\n... and {len(table) - _LINES} more" if len(table) > _LINES else "")
