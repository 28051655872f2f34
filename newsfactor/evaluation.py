"""Evaluation: what a factor's sample can tell, its IC, its quantiles, and where every row went."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import newsfactor
from newsfactor.errors import TableError
from newsfactor.report import Section, plot_coverage, plot_decay, plot_ic, plot_quantiles, write_page
from newsfactor.returns import check_horizons, forward_returns, industry_returns, panel_cutoff
from newsfactor.schema import PANEL_BY_INDUSTRY, PANEL_BY_STOCK, TIMEZONE, check
from newsfactor.sessions import check_sessions, shift_sessions
from newsfactor.statistics import DETECTABLE_ERRORS, MIN_NAMES, assign_quantiles, ic, newey_west_t, rank_ic

FEW_SESSIONS, FEW_WINDOWS = 120, 10
_LINES = 16


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`; printing it gives one screen of text.

    Attributes
    ----------
    summary : DataFrame
        One row for each ``factor, horizon, sample``: ``mean_rank_ic``; ``standard_error``, ``t``, ``p`` of
        it (Newey-West); ``detectable`` (2.8 standard errors: the smallest mean that a two-sided 5% test
        finds with 80% power); ``mean_ic``; ``icir`` (mean over standard deviation of the daily RankIC, not
        annualised); ``positive`` (share of days above 0); ``n_days``; ``n_cells``. ``sample`` is ``all``
        and, if the tagger's training overlaps, ``in`` and ``out``.
    ic : DataFrame
        ``date, factor, horizon, ic, rank_ic, n_names``: one row for each date of the panel.
    quantile_returns : DataFrame
        ``factor, horizon, quantile, mean_return, mean_excess, n_days, n_cells``; means over days of the
        bucket's mean return, and of that less the mean of all covered names. Bucket 1 is the lowest factor.
    coverage : DataFrame
        ``factor, horizon, reason, rows, rows_in``: the rows of each reason, ``used`` among them, add up to
        ``rows_in``.
    settings : dict
        How the figures were made, with fingerprints of the data.
    """

    summary: pd.DataFrame
    ic: pd.DataFrame
    quantile_returns: pd.DataFrame
    coverage: pd.DataFrame
    settings: Mapping[str, Any]

    def __str__(self) -> str:
        tables = [(title, _shorten(table)) for title, table in _tables(self).items()]
        findings = [textwrap.fill(line, 110, subsequent_indent="  ") for line in _findings(self)]
        parts = [_title(self), *findings, *(f"\n{title}\n{text}" for title, text in tables)]
        return "\n".join(parts)

    def to_html(self, path: str | Path) -> Path:
        """Write the tear sheet with its figures to one self-contained HTML file and return its path."""
        first = self.settings["horizons"][0]
        findings = Section("What this sample can tell", "样本能说明什么", _findings(self))
        chinese = ("秩相关系数汇总", "分组超额收益", "样本行去向")
        named = zip(_tables(self).items(), chinese, strict=True)
        tables = [Section(title, subtitle, table=table) for (title, table), subtitle in named]
        figures = [
            Section(factor, "因子", figures={
                "Daily and cumulative RankIC · 每日与累计秩相关": plot_ic(self.ic, factor=factor, horizon=first),
                "Decay of the mean RankIC · 秩相关衰减": plot_decay(self.summary, factor=factor),
                "Mean excess return by quantile · 分组超额收益": plot_quantiles(self.quantile_returns, factor=factor),
                "Coverage · 覆盖": plot_coverage(self.coverage, factor=factor),
            })
            for factor in self.summary["factor"].unique()
        ]  # fmt: skip
        values = [str(value) for value in self.settings.values()]
        listed = pd.DataFrame({"setting": list(self.settings), "value": values})
        sections = [findings, *tables, *figures, Section("Settings", "设置", table=listed)]
        return write_page(path, title=_title(self), subtitle="因子评价报告", sections=sections)


def evaluate(
    panel: pd.DataFrame,
    prices: pd.DataFrame,
    universe: pd.DataFrame,
    *,
    factors: Sequence[str] | None = None,
    horizons: Sequence[int] = (1, 5, 10, 20),
    quantiles: int = 5,
    entry: str = "next_open",
    sessions: pd.DatetimeIndex | None = None,
    adjusted: bool = False,
) -> Evaluation:
    """Test the factors of a panel against the returns that could be had after they were known.

    A row is used for a factor and a horizon if the factor is present, the entry was tradable, the return
    is known and at least 20 such rows share its day. Standard errors are Newey-West with the lag of
    `newey_west_t`. With ``panel.attrs["trained_through"]`` (and ``"taggers"``) results are also split there:
    a session is out of sample only if the whole window of its cell lies after that day; a factor that
    looks back further still carries older news. No correction is made for the number of tests, which is stated.

    Parameters
    ----------
    panel : PANEL by stock or by industry
        By industry if it has no column ``code``.
    prices, universe : PRICES, UNIVERSE
        Prices in yuan, raw.
    factors : sequence of str, optional
        All columns of floats that are not part of the table's key and frame, if not given.
    horizons : sequence of int
        In sessions, each at least 1; the first is the headline of the figures.
    quantiles : int
        Buckets a day, at least 2; equal values share one (`assign_quantiles`).
    entry, sessions, adjusted
        As in `forward_returns`.

    Returns
    -------
    Evaluation
        Missing or infinite factors and returns never count; a figure without data is NaN.

    Raises
    ------
    TableError
        If a table is not valid, or the panel has no such factor.
    NewsfactorError
        As `forward_returns`.
    """
    name = "code" if "code" in panel.columns else "industry"
    table = PANEL_BY_STOCK if name == "code" else PANEL_BY_INDUSTRY
    check(panel, table)
    names, wanted = _check_factors(panel, factors, table.columns), check_horizons(horizons)
    options: dict[str, Any] = {"horizons": wanted, "entry": entry, "sessions": sessions, "adjusted": adjusted}
    if name == "code":
        outcomes = forward_returns(prices, panel, universe=universe, **options)
    else:
        outcomes = industry_returns(prices, universe, panel, **options)
    through = _trained_through(panel)
    in_sample = _in_sample(panel["date"], through, sessions)
    parts = [_measure(panel, outcomes, factor, horizon, quantiles) for factor in names for horizon in wanted]
    daily, buckets, coverage = (pd.concat(frames, ignore_index=True) for frames in zip(*parts, strict=True))
    data = {"panel": panel, "prices": prices, "universe": universe}
    settings = {
        "by": "stock" if name == "code" else name, "cutoff": panel_cutoff(panel),
        "entry": entry, "horizons": wanted, "quantiles": quantiles,
        "adjusted": adjusted, "min_names": MIN_NAMES, "rows": len(panel), "sessions": panel["date"].nunique(),
        "first_session": f"{panel['date'].min():%Y-%m-%d}", "last_session": f"{panel['date'].max():%Y-%m-%d}",
        "trained_through": None if through is None else f"{through:%Y-%m-%d}", "in_sample_sessions": len(in_sample),
        "taggers": panel.attrs.get("taggers"), "version": newsfactor.__version__,
        **{f"{label}_sha1": _fingerprint(frame) for label, frame in data.items()},
    }  # fmt: skip
    return Evaluation(_summarise(daily, in_sample), daily, buckets, coverage, settings)


def _check_factors(panel: pd.DataFrame, factors: Sequence[str] | None, frame: Mapping[str, str]) -> list[str]:
    floats = [str(c) for c in panel.columns if c not in frame and pd.api.types.is_float_dtype(panel[c].dtype)]
    names = floats if factors is None else [factors] if isinstance(factors, str) else list(factors)
    unknown = [name for name in names if name not in panel.columns or not pd.api.types.is_numeric_dtype(panel[name])]
    if unknown or not names or not len(panel):
        requirement = "needs rows and a numeric column for each factor"
        raise TableError("panel", unknown or list(panel.columns), requirement, remedy=f"it has {floats}")
    return names


def _measure(
    panel: pd.DataFrame, outcomes: pd.DataFrame, factor: str, horizon: int, quantiles: int
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Daily IC, buckets and coverage of one factor at one horizon."""
    value, earned = panel[factor].astype(float).to_numpy(), outcomes[f"return_{horizon}"].to_numpy()
    rows = pd.DataFrame({"date": panel["date"].to_numpy(), "value": value, "earned": earned})
    reason = outcomes[f"reason_{horizon}"].to_numpy().astype(object)
    missing = ~np.isfinite(value)
    reason[missing] = np.where(panel["observed"].to_numpy()[missing] > 0, "factor_missing", "not_observed")
    kept = rows[reason == ""]
    daily = pd.DataFrame({
        "ic": ic(kept, factor="value", returns="earned"), "rank_ic": rank_ic(kept, factor="value", returns="earned"),
        "n_names": kept.groupby("date").size(),
    }).reindex(pd.Index(np.unique(rows["date"]), name="date"))  # fmt: skip
    daily["n_names"] = daily["n_names"].fillna(0).astype(int)
    on_day = daily.reindex(rows["date"])
    small, flat = (on_day["n_names"] < MIN_NAMES).to_numpy(), on_day["rank_ic"].isna().to_numpy()
    reason = np.where(reason != "", reason, np.select([small, flat], ["day_too_small", "day_constant"], "used"))
    label: dict[str, Any] = {"factor": factor, "horizon": horizon}
    counts = pd.Series(reason).value_counts().reindex(["used", *sorted(set(reason) - {"used"})], fill_value=0)
    coverage = pd.DataFrame({**label, "reason": counts.index, "rows": counts.to_numpy(), "rows_in": len(panel)})
    buckets = _bucket_returns(rows[reason == "used"], quantiles).assign(**label)
    return daily.reset_index().assign(**label)[["date", *label, "ic", "rank_ic", "n_names"]], buckets, coverage


def _bucket_returns(rows: pd.DataFrame, quantiles: int) -> pd.DataFrame:
    bucket = assign_quantiles(rows, factor="value", quantiles=quantiles).rename("quantile")
    excess = rows["earned"] - rows.groupby("date")["earned"].transform("mean")
    cells = pd.DataFrame(
        {"date": rows["date"], "mean_return": rows["earned"], "mean_excess": excess, "quantile": bucket}
    )
    daily = cells.groupby(["quantile", "date"])[["mean_return", "mean_excess"]].mean()
    means = daily.groupby("quantile").mean()
    means = means.assign(n_days=daily.groupby("quantile").size(), n_cells=bucket.value_counts())
    means = means.reindex(pd.RangeIndex(1, quantiles + 1, name="quantile"))
    means[["n_days", "n_cells"]] = means[["n_days", "n_cells"]].fillna(0).astype(int)
    return means.reset_index()


def _summarise(daily: pd.DataFrame, in_sample: pd.DatetimeIndex) -> pd.DataFrame:
    samples = {"all": daily}
    if len(in_sample):
        inside = daily["date"].isin(in_sample)
        samples |= {"in": daily[inside], "out": daily[~inside]}
    keys = daily[["factor", "horizon"]].drop_duplicates().itertuples(index=False)
    records = []
    for factor, horizon in keys:
        for sample, frame in samples.items():
            rows = frame[(frame["factor"] == factor) & (frame["horizon"] == horizon)].dropna(subset="rank_ic")
            records.append({"factor": factor, "horizon": horizon, "sample": sample, **_summarise_one(rows, horizon)})
    return pd.DataFrame(records)


def _summarise_one(rows: pd.DataFrame, horizon: int) -> dict[str, float]:
    values = rows["rank_ic"]
    test, deviation = newey_west_t(values, horizon=horizon), values.std()
    return {
        "mean_rank_ic": test.mean, "standard_error": test.standard_error, "t": test.t, "p": test.p,
        "detectable": DETECTABLE_ERRORS * test.standard_error, "mean_ic": rows["ic"].mean(),
        "icir": test.mean / deviation if deviation > 0 else np.nan,
        "positive": (values > 0).mean(), "n_days": test.n, "n_cells": int(rows["n_names"].sum()),
    }  # fmt: skip


def _trained_through(panel: pd.DataFrame) -> pd.Timestamp | None:
    given = panel.attrs.get("trained_through")
    if pd.isna(given):
        return None
    day = pd.Timestamp(given)
    return (day.tz_convert(TIMEZONE).tz_localize(None) if day.tz else day).normalize()


def _in_sample(dates: pd.Series, through: pd.Timestamp | None, sessions: pd.DatetimeIndex | None) -> pd.DatetimeIndex:
    """The sessions whose cell may hold news of ``through`` or before: those whose predecessor is not after it."""
    found = pd.DatetimeIndex(dates.unique())
    if through is None:
        return found[:0]
    before = shift_sessions(found, -1, sessions=check_sessions(sessions))
    return found[(before <= through) | before.isna()]


def _title(result: Evaluation) -> str:
    setting = result.settings
    count = result.summary["factor"].nunique()
    factors = f"{count} factor" if count == 1 else f"{count} factors"
    return f"Evaluation of {factors} by {setting['by']}, {setting['first_session']} to {setting['last_session']}"


def _findings(result: Evaluation) -> list[str]:
    """What the sample can and cannot tell, most important first."""
    setting, summary = result.settings, result.summary
    tested = summary[summary["sample"] == ("out" if "out" in set(summary["sample"]) else "all")]
    floor = tested.groupby("horizon")["detectable"].agg(["min", "max"]).map("{:.4f}".format).replace("nan", "unknown")
    spans = [f"{low if low == high else f'{low} to {high}'} at {h}" for h, low, high in floor.itertuples()]
    lines = [
        "Smallest mean RankIC that this sample could detect (80% power, two-sided 5%, 2.8 standard errors):"
        f" {', '.join(spans)} sessions. A smaller figure is not told from zero.",
        f"Cutoff {setting['cutoff']}, entry {setting['entry']}, {setting['sessions']} sessions,"
        f" {setting['rows']:,} rows, {len(tested)} tests:"
        f" with no effect at all about {0.05 * len(tested):.1f} would have p < 0.05 by chance.",
    ]
    evidence = setting["sessions"] - setting["in_sample_sessions"]
    if evidence < FEW_SESSIONS:
        remark = f"fewer than {FEW_SESSIONS}: no conclusion rests on so few."
        lines.append(f"Warning: {evidence} sessions to judge by, {remark}")
    thin = sorted(tested.loc[tested["n_days"] < FEW_WINDOWS * tested["horizon"], "horizon"].unique())
    if thin:
        remark = f"at {', '.join(map(str, thin))} sessions: those standard errors are too small."
        lines.append(f"Warning: fewer than {FEW_WINDOWS} separate windows {remark}")
    if setting["in_sample_sessions"]:
        lines.append(
            f"In sample for the tagger: {setting['in_sample_sessions']} of {setting['sessions']} sessions may hold news"
            f' up to {setting["trained_through"]}, when its training ends; only the sample "out" is evidence.'
        )
    return lines


def _tables(result: Evaluation) -> dict[str, pd.DataFrame]:
    """The tables for the eye, by title: numbers rounded, wide where that saves lines."""
    spread = result.quantile_returns.pivot(index=["factor", "horizon"], columns="quantile", values="mean_excess")
    spread = ((spread * 1e4).round(1) + 0.0).map("{:.1f}".format).replace("nan", "–").rename(columns=str)
    counts = result.coverage.pivot(index=["factor", "horizon"], columns="reason", values="rows").fillna(0).astype(int)
    rows = counts.sum(axis=1)
    counts = counts[["used", *counts.columns.drop("used")]]
    counts.insert(0, "rows", rows)
    order = result.summary[["factor", "horizon"]].drop_duplicates()
    return {
        "Rank information coefficient": _round_summary(result),
        "Mean excess return by quantile, basis points over the horizon, 1 = lowest factor": _ordered(spread, order),
        "Rows of the panel": _ordered(counts, order),
    }


def _round_summary(result: Evaluation) -> pd.DataFrame:
    summary = result.summary
    reading = np.where(summary["mean_rank_ic"].abs() < summary["detectable"], "below", "above")
    split = "in" in set(summary["sample"])
    reading = np.where(split & (summary["sample"] != "out"), "in sample", reading)
    reading = np.where(summary["detectable"].isna(), "–", reading)
    fixed = {"mean_rank_ic": 4, "standard_error": 4, "detectable": 4, "t": 2, "p": 3, "mean_ic": 4, "icir": 2}
    shown = {name: [f"{value:.{places}f}" for value in summary[name]] for name, places in fixed.items()}
    table = pd.DataFrame({
        "factor": summary["factor"], "horizon": summary["horizon"], "sample": summary["sample"],
        "mean RankIC": shown["mean_rank_ic"], "s.e.": shown["standard_error"], "detectable": shown["detectable"],
        "reading": reading, "t": shown["t"], "p": shown["p"], "mean IC": shown["mean_ic"], "ICIR": shown["icir"],
        "> 0": [f"{value:.0%}" for value in summary["positive"]], "days": summary["n_days"],
        "cells": summary["n_cells"],
    })  # fmt: skip
    table = table.replace({"nan": "–", "nan%": "–"})
    return table if split else table.drop(columns="sample")


def _ordered(table: pd.DataFrame, order: pd.DataFrame) -> pd.DataFrame:
    return order.merge(table.reset_index(), on=["factor", "horizon"]).rename_axis(columns=None)


def _shorten(table: pd.DataFrame) -> str:
    with pd.option_context("display.unicode.east_asian_width", True):
        text = table.head(_LINES).to_string(index=False)
    return text + (f"\n... and {len(table) - _LINES} more" if len(table) > _LINES else "")


def _fingerprint(frame: pd.DataFrame) -> str:
    digest = hashlib.sha1("\n".join(map(str, frame.columns)).encode(), usedforsecurity=False)
    digest.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return digest.hexdigest()[:12]
