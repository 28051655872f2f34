"""Judge the factors of a panel by what was earned after they were known, with every row accounted for."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd

import newsfactor
from newsfactor.errors import InvalidValueError, TableError
from newsfactor.measures import NEUTRALIZE, Factor, find_mode, measure
from newsfactor.parallel import map_beside
from newsfactor.returns import check_horizons, panel_cutoff
from newsfactor.samples import draw_cells, draw_industries, draw_stocks, fingerprint, split_sessions
from newsfactor.schema import PANEL_BY_INDUSTRY, PANEL_BY_STOCK, TIMEZONE, check, choose_factors
from newsfactor.sessions import check_sessions
from newsfactor.statistics import MIN_NAMES
from newsfactor.summaries import (
    correct_for_number,
    count_coverage,
    find_refused,
    list_daily,
    list_quantiles,
    run_placebos,
    summarise,
    summarise_decay,
    summarise_diagnostics,
    summarise_portfolios,
    summarise_quantiles,
    summarise_subsets,
)
from newsfactor.tearsheet import Evaluation as Evaluation


def evaluate(
    panel: pd.DataFrame,
    prices: pd.DataFrame,
    universe: pd.DataFrame,
    *,
    factors: Sequence[str] | None = None,
    horizons: Sequence[int] = (1, 5, 10, 20),
    quantiles: int = 5,
    neutralize: str | None = None,
    entry: str = "next_open",
    min_names: int = MIN_NAMES,
    cost: float = 0.00075,
    max_loss: float = 0.5,
    sessions: pd.DatetimeIndex | None = None,
    adjusted: bool = False,
    seed: int = 0,
) -> Evaluation:
    """Test the factors of a panel against the returns that could be had after they were known.

    A row counts for a factor and a horizon if the factor is present, the entry was tradable on either side, the return
    is known and at least ``min_names`` such rows share its session. Rows that are dated on a closed day are moved to the next
    session, and counted. Means are tested by the equal-weighted cosine test (`newsfactor.statistics.assess_means`);
    q is the false-discovery rate over all factors, horizons and subsets together. With
    ``panel.attrs["trained_through"]`` results are also split there: a session is out of sample only if the whole window
    of its cell lies after that day, and subsets, quantiles, portfolios, decay and placebos are then of these sessions alone. A factor that
    looks back further still carries older news. Where every session is in sample they are of these, and no evidence.

    Parameters
    ----------
    panel : PANEL by stock or by industry
        By industry if it has no column ``code``. All cells of one cutoff.
    prices, universe : PRICES, UNIVERSE
        Prices in yuan, raw.
    factors : sequence of str, optional
        All columns of floats that are not part of the table's key and frame, if not given.
    horizons : sequence of int
        In sessions, each at least 1; the first is the headline.
    quantiles : int
        Buckets a day, at least 2: by rank, equal values sharing one; a factor of which one value has more of the median
        day than a bucket should is split below and above that value, which has the middle bucket to itself.
    neutralize : {None, "industry", "industry_size", "industry_returns"}
        Judge the factor less its industry's mean, or its residual on industry dummies and log capitalisation; or the
        factor as it is against returns less the mean of their industry's names that have a factor (alphalens'
        ``group_adjust``). Stocks only.
    entry : {"next_open", "next_close", "diagnostic_close"}
        As in `forward_returns`.
    min_names : int
        Names that a session needs, of industries too, for a figure.
    cost : float
        Commission and slippage of one purchase or sale, as a share of its value; dated stamp duty on sales comes on top.
    max_loss : float
        Where more than this share of the present factor values has no usable outcome, for other reasons than the end
        of the data, the figures are refused: NaN, with the reasons in ``coverage``.
    sessions : DatetimeIndex, optional
        The trading days, if not those of exchange_calendars' XSHG.
    adjusted : bool
        As in `forward_returns`.
    seed : int
        Of the bootstrap and the placebos.

    Returns
    -------
    Evaluation
        Missing or infinite factors and returns never count; a figure without data is NaN.

    Raises
    ------
    TableError, InvalidValueError
        If a table or an option is not valid, or the panel has no such factor.
    NewsfactorError
        As `forward_returns`.
    """
    key, table = ("code", PANEL_BY_STOCK) if "code" in panel.columns else ("industry", PANEL_BY_INDUSTRY)
    check(panel, table)
    names, wanted = choose_factors(panel, table, factors), check_horizons(horizons)
    if not len(panel):
        raise TableError("panel", "no rows", "must have rows")
    _check_options(quantiles, neutralize, min_names, cost, max_loss, key)
    calendar = check_sessions(sessions)
    cutoff = panel_cutoff(panel)
    cells = draw_cells(panel, key, names, calendar)
    draw = draw_stocks if key == "code" else draw_industries
    options: dict[str, Any] = {"cutoff": cutoff, "sessions": calendar, "adjusted": adjusted}
    judging = {"quantiles": quantiles, "min_names": min_names, "neutralize": neutralize}
    setting = draw(cells, prices, universe, horizons=wanted, entry=entry, judging=judging, **options)
    modes = {name: None if neutralize else find_mode(values, quantiles) for name, values in cells.factors.items()}
    measures = measure(setting.sample, {name: Factor(cells.factors[name], modes[name]) for name in names})
    daily = measures.daily
    through = _trained_through(panel)
    samples = split_sessions(cells.days, through, calendar)
    # Where all is in sample its figures are still told, as no evidence.
    evidence = next(name for name in ("out", "in", "all") if name in samples and samples[name].any())
    kept = samples[evidence]

    with ThreadPoolExecutor() as pool:  # what takes a second each, beside each other
        placebo = pool.submit(run_placebos, measures, setting.sample, kept, seed=seed)
        decay = pool.submit(summarise_decay, measures, kept, min_names=min_names)
        coverage = count_coverage(daily, cells, setting)
        refused = find_refused(coverage, max_loss)
        summary = summarise(daily, samples, seed=seed)
        subsets = summarise_subsets(daily, setting.sample, cells, kept)
        prints = map_beside(fingerprint, (panel, prices, universe))
    summary, subsets = correct_for_number(_refuse(summary, refused), _refuse(subsets, refused), evidence)
    quantile_daily = list_quantiles(daily, cells, kept)
    settings = {
        "by": "stock" if key == "code" else key, "cutoff": cutoff, "entry": entry, "horizons": wanted,
        "quantiles": quantiles, "buckets": {name: _bucket_rule(mode) for name, mode in modes.items()},
        "neutralize": neutralize, "control_sessions": setting.controls, "cost": cost, "max_loss": max_loss, "adjusted": adjusted, "min_names": min_names,
        "rows": cells.rows, "moved_rows": cells.moved, "superseded_rows": cells.superseded,
        "exits": {horizon: notes for horizon, notes in setting.notes.items() if notes},
        "refused": sorted(refused), "sessions": int(cells.told.sum()), "evidence": evidence,
        "evidence_sessions": int((cells.told & kept).sum()),
        "first_session": f"{cells.days[0]:%Y-%m-%d}", "last_session": f"{cells.days[-1]:%Y-%m-%d}",
        "trained_through": None if through is None else f"{through:%Y-%m-%d}", "taggers": panel.attrs.get("taggers"),
        "seed": seed, "version": newsfactor.__version__,
        **dict(zip(("panel_sha1", "prices_sha1", "universe_sha1"), prints, strict=True)),
    }  # fmt: skip
    return Evaluation(
        summary=summary, subsets=subsets, decay=decay.result(),
        placebo=_refuse(placebo.result(), refused),
        portfolios=_refuse(summarise_portfolios(measures, cells, kept, cost=cost), refused),
        quantile_returns=_refuse(summarise_quantiles(quantile_daily), refused), quantile_daily=quantile_daily,
        ic=list_daily(daily, cells), coverage=coverage, diagnostics=summarise_diagnostics(measures, kept),
        settings=settings,
    )  # fmt: skip


def _check_options(
    quantiles: int, neutralize: str | None, min_names: int, cost: float, max_loss: float, key: str
) -> None:
    if not isinstance(quantiles, int | np.integer) or not 2 <= quantiles <= 100:
        raise InvalidValueError("quantiles", quantiles, "must be a whole number from 2 to 100")
    if neutralize not in NEUTRALIZE or (neutralize and key == "industry"):
        allowed = NEUTRALIZE if key == "code" else (None,)
        raise InvalidValueError(
            "neutralize", neutralize, f"must be one of {', '.join(map(repr, allowed))}", f"a panel by {key}"
        )
    if not isinstance(min_names, int | np.integer) or min_names < 3:
        raise InvalidValueError("min_names", min_names, "must be a whole number of at least 3")
    if not 0 <= cost < 1:
        raise InvalidValueError("cost", cost, "must be a share of the value traded, from 0 to 1")
    if not 0 < max_loss <= 1:
        raise InvalidValueError("max_loss", max_loss, "must be a share above 0, at most 1")


def _bucket_rule(mode: float | None) -> str:
    return "by rank, equal values together" if mode is None else f"{mode:g} in the middle, the rest by rank"


def _refuse(frame: pd.DataFrame, refused: set[tuple[str, int]]) -> pd.DataFrame:
    """The table without the figures of what lost too many rows; what only counts stays."""
    if not refused:
        return frame
    rows = pd.Series(list(zip(frame["factor"], frame["horizon"], strict=True)), index=frame.index).isin(list(refused))
    figures = [c for c in frame.columns if pd.api.types.is_float_dtype(frame[c].dtype)]
    return frame.assign(**{name: frame[name].mask(rows) for name in figures})


def _trained_through(panel: pd.DataFrame) -> pd.Timestamp | None:
    given = panel.attrs.get("trained_through")
    if pd.isna(given):
        return None
    day = pd.Timestamp(given)
    return (day.tz_convert(TIMEZONE).tz_localize(None) if day.tz else day).normalize()
