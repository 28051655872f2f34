"""From daily figures to the tables of an evaluation; every table is long, one row for each factor and horizon and more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from newsfactor.cross_sections import average_rows
from newsfactor.measures import Daily, Key, Measures, Sample, Traits
from newsfactor.persistence import measure_autocorrelation, measure_decay, measure_turnover
from newsfactor.placebo import Placebo, draw_orders, exchange_names, shift_dates, transform
from newsfactor.resampling import block_bootstrap
from newsfactor.returns import REASONS
from newsfactor.samples import Cells, Setting
from newsfactor.statistics import assess_means, false_discovery

DECAY_LAGS = (0, 1, 2, 3, 4, 5, 9, 14, 19)
STAMP_DUTY = ((pd.Timestamp("2008-09-19"), 0.001), (pd.Timestamp("2023-08-28"), 0.0005))  # on sales
# Rows of a panel that lack an outcome, in the order in which they are counted.
LOSSES = (*(reason for reason in REASONS if reason), "factor_missing", "not_observed", "day_too_small", "day_constant", "used")  # fmt: skip
# What is no loss of a value that could have been judged: there was none, or its time has not come.
EXCUSED = ("factor_missing", "not_observed", "beyond_data", "used")


def summarise(daily: Mapping[Key, Daily], samples: Mapping[str, np.ndarray], *, seed: int) -> pd.DataFrame:
    """Mean RankIC with its test, beside the naive, the linear and the incremental one."""
    keys = [(*key, name) for key in daily for name in samples]
    horizon = [key[1] for key in keys]

    def stack(figure: str) -> np.ndarray:
        return np.column_stack(
            [np.where(samples[name], getattr(daily[factor, h], figure), np.nan) for factor, h, name in keys]
        )

    ranks = stack("rank_ic")
    tests, rest = (assess_means(part, horizon=horizon) for part in (ranks, stack("incremental_rank_ic")))
    resampled = block_bootstrap(ranks, horizon=horizon, seed=seed)
    counts = np.where(np.isfinite(ranks), stack("n_names"), 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = np.where(tests["n"] > 1, _nan(np.nanstd, ranks) * np.sqrt(tests["n"] / (tests["n"] - 1)), np.nan)
        table = {
            "mean_rank_ic": tests["mean"], "standard_error": tests["standard_error"], "t": tests["t"], "p": tests["p"],
            "low": tests["low"], "high": tests["high"], "bootstrap_low": resampled["low"],
            "bootstrap_high": resampled["high"], "detectable": tests["detectable"],
            "naive_rank_ic": _nan(np.nanmean, stack("naive_rank_ic")),
            "incremental_rank_ic": rest["mean"], "incremental_low": rest["low"], "incremental_high": rest["high"],
            "incremental_p": rest["p"], "mean_ic": _nan(np.nanmean, stack("ic")),
            "icir": np.where(deviation > 0, tests["mean"] / deviation, np.nan),
            "positive": np.where(tests["n"] > 0, (ranks > 0).sum(axis=0) / np.maximum(tests["n"], 1), np.nan),
            "n_days": tests["n"], "n_cells": counts.sum(axis=0).astype(int),
        }  # fmt: skip
    return pd.DataFrame(keys, columns=["factor", "horizon", "sample"]).assign(
        **{name: np.asarray(column) for name, column in table.items()}
    )


def _nan(reduce: Any, values: np.ndarray) -> np.ndarray:
    """A NaN-aware reduction by column, NaN without a warning where there is nothing."""
    empty = ~np.isfinite(values).any(axis=0)
    return np.where(empty, np.nan, reduce(np.where(empty, 0.0, values), axis=0))


def summarise_subsets(daily: Mapping[Key, Daily], sample: Sample, cells: Cells, kept: np.ndarray) -> pd.DataFrame:
    """Mean RankIC by industry, by size and by month, over the sessions that are kept."""
    months = cells.days.strftime("%Y-%m").to_numpy()
    rows: list[dict[str, Any]] = []
    columns: list[np.ndarray] = []
    for (factor, horizon), figures in daily.items():
        for kind, classes in sample.classes.items():
            for number, label in enumerate(classes.labels):
                columns.append(np.where(kept, figures.by[kind][:, number], np.nan))
                counted = figures.by_names[kind][np.isfinite(columns[-1]), number].sum()
                rows.append({"factor": factor, "horizon": horizon, "kind": kind, "subset": label, "n_cells": int(counted)})  # fmt: skip
        for month in np.unique(months[kept]):
            columns.append(np.where(kept & (months == month), figures.rank_ic, np.nan))
            counted = figures.n_names[np.isfinite(columns[-1])].sum()
            rows.append({"factor": factor, "horizon": horizon, "kind": "month", "subset": month, "n_cells": int(counted)})  # fmt: skip
    tests = assess_means(np.column_stack(columns), horizon=[row["horizon"] for row in rows])
    names = {"mean": "mean_rank_ic", "standard_error": "standard_error", "p": "p", "low": "low", "high": "high", "n": "n_days"}  # fmt: skip
    return pd.DataFrame(rows).join(tests[list(names)].rename(columns=names).reset_index(drop=True))


def correct_for_number(
    summary: pd.DataFrame, subsets: pd.DataFrame, evidence: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Add the false-discovery q, by Benjamini–Yekutieli: of the figures of whole factors together, and of all tests.

    The first are few and meant from the start. A subset is found among hundreds, so that its q counts those of the
    factors, horizons and other subsets too.
    """
    judged = summary["sample"] == evidence
    whole = pd.concat([summary["p"].where(judged), summary["incremental_p"].where(judged)])
    raw, rest = np.split(false_discovery(whole.to_numpy()).to_numpy(), 2)
    every = false_discovery(np.concatenate([whole, subsets["p"]])).to_numpy()
    return summary.assign(q=raw, incremental_q=rest), subsets.assign(q=every[len(whole) :])


def list_daily(daily: Mapping[Key, Daily], cells: Cells) -> pd.DataFrame:
    """The daily correlations of the panel's sessions."""
    held = cells.told
    frames = []
    for (factor, horizon), figures in daily.items():
        frames.append(
            pd.DataFrame({
                "date": cells.days[held], "factor": factor, "horizon": horizon, "ic": figures.ic[held],
                "rank_ic": figures.rank_ic[held], "naive_rank_ic": figures.naive_rank_ic[held],
                "incremental_rank_ic": figures.incremental_rank_ic[held], "n_names": figures.n_names[held],
            })
        )  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def list_quantiles(daily: Mapping[Key, Daily], cells: Cells, kept: np.ndarray) -> pd.DataFrame:
    """The daily mean return of each bucket, and the same less that of all covered names."""
    frames = []
    days = cells.told & kept
    for (factor, horizon), figures in daily.items():
        returns = figures.bucket_return[days]
        count = returns.shape[1]
        frames.append(
            pd.DataFrame({
                "date": cells.days[days].repeat(count), "factor": factor, "horizon": horizon,
                "quantile": np.tile(np.arange(1, count + 1), int(days.sum())), "mean_return": returns.ravel(),
                "mean_excess": (returns - figures.mean_return[days, None]).ravel(),
                "n_names": figures.bucket_names[days].ravel(),
            })
        )  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def summarise_quantiles(quantiles: pd.DataFrame) -> pd.DataFrame:
    """Means over days of the daily figures of each bucket."""
    keys = ["factor", "horizon", "quantile"]
    groups = quantiles.groupby(keys, sort=False)
    table = groups[["mean_return", "mean_excess"]].mean()
    counts = {"n_days": groups["mean_return"].count(), "n_cells": groups["n_names"].sum()}
    return table.assign(**counts).reset_index()


def stamp_duty(days: pd.DatetimeIndex) -> np.ndarray:
    """The duty on a sale on each day, as a share of its value."""
    starts = pd.DatetimeIndex([start for start, _ in STAMP_DUTY])
    rates = np.array([rate for _, rate in STAMP_DUTY])
    duty: np.ndarray = rates[np.maximum(starts.searchsorted(days, side="right") - 1, 0)]
    return duty


def summarise_portfolios(measures: Measures, cells: Cells, kept: np.ndarray, *, cost: float) -> pd.DataFrame:
    """What the top bucket earned over all covered names, and over the bottom one, before and after costs.

    A cohort is bought for each session and held over the horizon. Of the top bucket the names that were not in it a
    horizon before are bought and as many are sold; so for the bottom one, the other way round. Duty is that of the
    cell's date, and what has no earlier bucket is traded in full.
    """
    held, duty = cells.told, stamp_duty(cells.days)
    rows: list[dict[str, Any]] = []
    columns: list[np.ndarray] = []
    traits = measures.traits
    for (factor, horizon), figures in measures.daily.items():
        last = figures.bucket_return.shape[1] - 1
        top, bottom = (measure_turnover(traits[factor], bucket=b, lag=horizon, held=held) for b in (last, 0))
        steady = measure_autocorrelation(traits[factor], lag=horizon)
        legs = {
            "long_only": (figures.long_excess, np.nan_to_num(top, nan=1.0)),
            "long_short": (figures.long_excess - figures.short_excess, np.nan_to_num(top, nan=1.0) + np.nan_to_num(bottom, nan=1.0)),
        }  # fmt: skip
        for leg, (gross, traded) in legs.items():
            charge = traded * (2 * cost + duty)
            columns += [np.where(kept, gross, np.nan), np.where(kept, gross - charge, np.nan)]
            rows.append({
                "factor": factor, "horizon": horizon, "leg": leg,
                "cost": _mean_where(charge, np.isfinite(columns[-1])), "turnover_top": _mean_where(top, kept),
                "turnover_bottom": _mean_where(bottom, kept), "rank_autocorrelation": _mean_where(steady, kept),
            })  # fmt: skip
    tests = assess_means(np.column_stack(columns), horizon=[row["horizon"] for row in rows for _ in range(2)])
    gross, net = tests.iloc[::2].reset_index(drop=True), tests.iloc[1::2].reset_index(drop=True)
    return pd.DataFrame(rows).assign(
        gross=gross["mean"], net=net["mean"], net_low=net["low"], net_high=net["high"], net_p=net["p"], n_days=net["n"]
    )


def _mean_where(values: np.ndarray, kept: np.ndarray) -> float:
    chosen = values[kept & np.isfinite(values)]
    return float(chosen.mean()) if len(chosen) else np.nan


def summarise_decay(measures: Measures, kept: np.ndarray, *, min_names: int) -> pd.DataFrame:
    """The mean RankIC with what was earned over the shortest horizon, some sessions later."""
    horizon = min(measures.outcomes)
    keys = [(factor, lag) for factor in measures.traits for lag in DECAY_LAGS]
    columns = [
        measure_decay(measures.traits[factor], measures.outcomes[horizon], lag=lag, min_names=min_names)
        for factor, lag in keys
    ]
    return _describe_means(pd.DataFrame(keys, columns=["factor", "lag"]), columns, kept, horizon)


def summarise_diagnostics(measures: Measures, kept: np.ndarray) -> pd.DataFrame:
    """The mean RankIC with the gap before and the session of the cell itself: no figure here could be traded on."""
    keys = [(factor, window) for factor, trait in measures.traits.items() for window in trait.same_day]
    columns = [measures.traits[factor].same_day[window] for factor, window in keys]
    return _describe_means(pd.DataFrame(keys, columns=["factor", "window"]), columns, kept, 1)


def _describe_means(keys: pd.DataFrame, columns: list[np.ndarray], kept: np.ndarray, horizon: int) -> pd.DataFrame:
    names = {"mean": "mean_rank_ic", "low": "low", "high": "high", "n": "n_days"}
    if not columns:
        return keys.reindex(columns=[*keys.columns, *names.values()])
    values = np.where(kept[:, None], np.column_stack(columns), np.nan)
    tests = assess_means(values, horizon=horizon)[list(names)].rename(columns=names)
    return keys.join(tests.reset_index(drop=True))


def run_placebos(measures: Measures, sample: Sample, kept: np.ndarray, *, seed: int) -> pd.DataFrame:
    """Each headline figure beside the same one with names exchanged and with dates shifted."""
    names = ["factor", "horizon", "figure", "placebo", *Placebo._fields]
    sessions = np.flatnonzero(kept)
    if not len(sessions):
        return pd.DataFrame(columns=names)
    rows = slice(int(sessions[0]), int(sessions[-1]) + 1)
    orders = draw_orders(sample.tradable.shape[1], seed=seed)
    weights = {
        (factor, figure): transform(value, orders)
        for factor, trait in measures.traits.items()
        for figure, value in _weigh(trait, rows, sample).items()
    }
    found = []
    for horizon, market in sample.markets.items():
        earned = market.earned[rows]
        ranked = transform(measures.outcomes[horizon][rows], orders)
        excess = transform(earned - average_rows(earned)[:, None], orders)
        for (factor, figure), weight in weights.items():
            outcome = ranked if figure == "rank_ic" else excess
            kinds = {
                "names": exchange_names(weight, outcome),
                "dates": shift_dates(weight, outcome, least=max(5, horizon)),
            }
            found += [
                {"factor": factor, "horizon": horizon, "figure": figure, "placebo": kind, **result._asdict()}
                for kind, result in kinds.items()
            ]
    return pd.DataFrame(found, columns=names)


def _weigh(trait: Traits, rows: slice, sample: Sample) -> dict[str, np.ndarray]:
    """Each figure as a sum over names of weight times outcome: of standard ranks, or of returns less their mean."""
    buckets = trait.buckets[rows]
    n = (buckets >= 0).sum(axis=1, keepdims=True)
    enough = n >= sample.min_names
    shares = {}
    for name, chosen in (("top", buckets == sample.quantiles - 1), ("bottom", buckets == 0), ("all", buckets >= 0)):
        shares[name] = np.where(enough, chosen / np.maximum(chosen.sum(axis=1, keepdims=True), 1), 0.0)
    return {
        "rank_ic": np.where(enough, np.nan_to_num(trait.scores[rows]) / np.maximum(n, 1), 0.0),
        "long_only": shares["top"] - shares["all"], "long_short": shares["top"] - shares["bottom"],
    }  # fmt: skip


def count_coverage(daily: Mapping[Key, Daily], cells: Cells, setting: Setting) -> pd.DataFrame:
    """Where each row of the panel went, for each factor and horizon."""
    rows: list[dict[str, Any]] = []
    place = {reason: number for number, reason in enumerate(LOSSES)}
    into = np.array([place[reason or "used"] for reason in REASONS], dtype=np.int8)
    for (factor, horizon), figures in daily.items():
        value = cells.factors[factor]
        lost = into[setting.reasons[horizon]]
        few = np.where(figures.n_names < setting.sample.min_names, place["day_too_small"], place["day_constant"])
        judged = np.isfinite(figures.rank_ic)[:, None]
        lost = np.where((lost == place["used"]) & ~judged, few[:, None], lost)
        none = np.where(cells.observed, place["factor_missing"], place["not_observed"])
        lost = np.where(np.isfinite(value), lost, none)
        counts = dict(zip(LOSSES, np.bincount(lost[cells.held], minlength=len(LOSSES)).tolist(), strict=True))
        counts["superseded"] = cells.superseded
        ordered = ["used", *sorted(reason for reason, count in counts.items() if count and reason != "used")]
        rows += [{"factor": factor, "horizon": horizon, "reason": r, "rows": counts[r], "rows_in": cells.rows} for r in ordered]  # fmt: skip
    return pd.DataFrame(rows)


def find_refused(coverage: pd.DataFrame, max_loss: float) -> set[Key]:
    """The factors and horizons of which more than a share of the values that had an outcome ahead were lost."""
    judged = coverage[~coverage["reason"].isin(set(EXCUSED) - {"used"})]
    sums = judged.assign(lost=judged["rows"].where(judged["reason"] != "used", 0)).groupby(["factor", "horizon"])
    share = sums["lost"].sum() / sums["rows"].sum().clip(lower=1)
    return {(str(key[0]), int(key[1])) for key, value in zip(share.index, share, strict=True) if value > max_loss}
