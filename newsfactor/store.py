"""``PanelStore``: a folder of Parquet that keeps its links and its panels, as of every update."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from newsfactor.archive import STAMPS, Archive, Manifest
from newsfactor.errors import StoreError
from newsfactor.factors import DEFAULT, Factor, lookback_of
from newsfactor.lineage import VALUES, Probe, Trace, contributions, weigh
from newsfactor.schema import COVERAGE, LINKS, UNIVERSE, check
from newsfactor.updates import Settings, State

_SHOWN = [
    "news_id", "available_at", "source", "title", "name", "code", "event", "sentiment", *VALUES, "relevance",
    "novelty", "event_novelty", "age",
]  # fmt: skip
ALL = ("by", "cutoff", "multi", "factors")


class PanelStore:
    """Factor panels in a folder, updated day by day.

    The folder holds ``data/`` (Parquet files of a month each, named by the hash of their content, never
    changed) and ``manifests/`` (one small JSON file per update, which names its data files). A manifest
    appears by an atomic rename when all its files are on disk, so a reader sees an update whole or not at
    all, and ``read(as_of=…)`` gives the cells as they were published then. Read through the store or through
    :meth:`files`: a glob over ``data/`` also finds what earlier updates wrote.

    Parameters
    ----------
    path : str or path
        The folder; made by the first update.
    by : str, optional
    factors : mapping, optional
    cutoff : str, optional
    multi : str, optional
        As in :func:`newsfactor.panel`, and its defaults for a new store. A store knows its own: only factors
        other than the default ones must be given again, and only to update or to explain.

    Raises
    ------
    StoreError
        If the folder holds a store with other settings (they are named), or is damaged.

    Examples
    --------
    >>> store = PanelStore("factors/", by="stock")  # doctest: +SKIP
    >>> store.update(links, universe)  # doctest: +SKIP
    """

    def __init__(
        self, path: str | Path, *, by: str | None = None, factors: Mapping[str, Factor] | None = None,
        cutoff: str | None = None, multi: str | None = None,
    ) -> None:  # fmt: skip
        self.path = Path(path)
        self._archive = Archive(path)
        kept = (self._archive.manifest() or {}).get("settings", {})
        self.factors = dict(DEFAULT if factors is None else factors)
        self._settings = Settings(
            by or kept.get("by", "stock"), cutoff or kept.get("cutoff", "09:15"), multi or kept.get("multi", "subject"),
            self.factors,
        )  # fmt: skip
        self._refuse_other(kept, ("by", "cutoff", "multi") if factors is None else ALL)

    @property
    def by(self) -> str:
        """What a row is about."""
        return self._settings.by

    @property
    def cutoff(self) -> str:
        """Time of day at which a session's cell closes."""
        return self._settings.cutoff

    def update(
        self, links: pd.DataFrame, universe: pd.DataFrame, *, coverage: pd.DataFrame | None = None,
        sessions: pd.DatetimeIndex | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Add links and days of the universe, and publish the panel that follows from all that is kept.

        Only the sessions that the new rows touch are computed, each with the longest lookback after it. Days
        one by one end in the same panel as all at once, an update repeated changes nothing, and news handed
        in late enter by their ``available_at``. A day of the universe or a span of coverage given again
        replaces the kept one. So does a news item with the same ``available_at``; with another it is a new
        version, and both count, each from its own time. Coverage that is never given is inferred.

        Returns
        -------
        DataFrame
            The whole PANEL as published.

        Raises
        ------
        StoreError
            If another process is writing, a kept file is damaged, the disk is full, or the new rows do not
            fit the kept ones: other columns, another tagger, other labels for kept news, other trading days,
            or factors that no longer give what they gave. Nothing is published then.
        """
        check(links, LINKS, parameter="links")
        check(universe, UNIVERSE, parameter="universe")
        if coverage is not None:
            check(coverage, COVERAGE, parameter="coverage")
        with self._archive.writing():
            kept = self._archive.manifest()
            self._refuse_other((kept or {}).get("settings", {}), ALL)
            state = State(self._archive, kept, self._settings, sessions)
            state.add(links, universe, coverage)
            state.compute()
            manifest = json.loads(json.dumps(state.manifest()))
            if kept is None or manifest != {name: value for name, value in kept.items() if name not in STAMPS}:
                self._archive.publish(manifest)
        return self.read()

    def read(self, *, as_of: pd.Timestamp | str | None = None) -> pd.DataFrame:
        """The PANEL as last published, or as it was published at a time past (in Asia/Shanghai unless it says).

        Raises
        ------
        StoreError
            If nothing had been published, or a file is missing or changed: it is named.
        """
        manifest = self._require(as_of)
        table = self._state(manifest).read("panel")
        table.attrs = manifest["attrs"]
        return table

    def files(self, *, as_of: pd.Timestamp | str | None = None) -> list[Path]:
        """The panel's live Parquet files, for DuckDB or Polars."""
        return [self._archive.locate(entry) for entry in self._require(as_of)["panel"]]

    def history(self) -> list[pd.Timestamp]:
        """When each update was published, oldest first."""
        return self._archive.history()

    def vacuum(self, *, before: pd.Timestamp | str | None = None) -> list[Path]:
        """Drop every file that no kept manifest names, such as those of a killed update.

        Parameters
        ----------
        before : Timestamp or str, optional
            Forget the updates that were followed by another one up to then; ``as_of`` from this time on is
            still answered. All are kept if it is not given.

        Returns
        -------
        list of path
            What was dropped. A reader that was still reading it gets a StoreError.
        """
        return self._archive.vacuum(before)

    def verify(self) -> list[str]:
        """Read every kept file; one sentence for each that is missing, truncated or changed."""
        return self._archive.verify()

    def explain(
        self, *, date: pd.Timestamp | str, factor: str, code: str | None = None, industry: str | None = None,
        as_of: pd.Timestamp | str | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """The news that entered one cell, with what each contributes to a factor's value.

        Parameters
        ----------
        date : Timestamp or str
            The cell's session.
        factor : str
            Name of one of the store's factors.
        code, industry : str
            The cell's stock, or its industry in a store by industry. By ``industry_from_stocks`` the news are those
            of the industry's stocks that have a value, each with its stock's ``weight`` in the mean.
        as_of : Timestamp or str, optional
            As for :meth:`read`.

        Returns
        -------
        DataFrame
            One row per link inside the factor's lookback, with ``age`` in sessions and ``contribution``. Where
            the factor is a sum over its news, such as a mean or a count, the contributions sum to the value;
            for others they are NaN. ``attrs``: the published ``value``, the factor's ``formula`` (its
            docstring), ``linear``, ``observed`` and ``known_at``.

        Raises
        ------
        StoreError
            If there is no such factor or cell, or the factor no longer gives the published value.
        """
        about = code if self.by == "stock" else industry
        means = self.by == "industry_from_stocks"
        if factor not in self.factors:
            raise StoreError("factor", factor, f"must be one of {', '.join(self.factors)}")
        if about is None:
            raise StoreError(self._settings.key, None, "must be given", remedy=f"the store is by {self.by}")
        manifest = self._require(as_of)
        self._refuse_other(manifest["settings"], ("factors",))
        state, day = self._state(manifest), pd.Timestamp(date).normalize()
        cell = self._find(state.read("panel", f"{day:%Y-%m}", f"{day:%Y-%m}"), day, about)
        traces = self._trace_stocks(state, day, about, factor) if means else self._trace(state, day, about, factor)
        parts: list[pd.Series] | None = None
        if not np.isnan(cell[factor]):
            now = sum(trace.weight * trace.value(self.factors[factor]) for trace in traces)
            if not np.isclose(now, cell[factor], rtol=1e-6, atol=1e-9):
                raise StoreError("factor", factor, f"must give what it gave, {cell[factor]} and not {now}", f"{day:%Y-%m-%d} {about}", "its definition has changed")  # fmt: skip
            found = [contributions(self.factors[factor], *trace.arguments) for trace in traces]
            split = [trace.weight * part for trace, part in zip(traces, found, strict=True) if part is not None]
            parts = split if len(split) == len(traces) else None
        news = pd.concat([trace.links.assign(weight=trace.weight) for trace in traces], ignore_index=True)
        table = news[[name for name in (*_SHOWN, *(["weight"] if means else [])) if name in news.columns]]
        table = table.assign(contribution=np.nan if parts is None else np.concatenate(parts))
        table = table.sort_values(["available_at", "news_id"], ignore_index=True)
        table.attrs = {
            "value": float(cell[factor]), "formula": inspect.getdoc(self.factors[factor]) or "",
            "linear": parts is not None, "observed": float(cell["observed"]), "known_at": str(cell["known_at"]),
        }  # fmt: skip
        return table

    def _find(self, table: pd.DataFrame, day: pd.Timestamp, about: str) -> pd.Series:
        found = table[(table["date"] == day) & (table[self._settings.key] == about)]
        if found.empty:
            raise StoreError(self._settings.key, about, "must have a cell", f"{day:%Y-%m-%d}", "it had no news inside any lookback, or was not in the universe")  # fmt: skip
        return found.iloc[0]

    def _trace(self, state: State, day: pd.Timestamp, about: str, factor: str) -> list[Trace]:
        """The links behind one cell."""
        probe = Probe(self.factors[factor])
        table = self._probe(state, day, probe, factor, [about] if self.by == "stock" else None)
        row = table[(table["date"] == day) & (table[self._settings.key] == about)][factor].dropna()
        # A cell may be there for the longer memory of another factor.
        return [Trace(*probe.find(row.iloc[0])) if len(row) else Trace.empty(state.links(0, 0))]

    def _trace_stocks(self, state: State, day: pd.Timestamp, industry: str, factor: str) -> list[Trace]:
        """The links behind each stock of an industry that has a value, with its weight in the mean."""
        slot = state.slot(day)
        universe = state.universe(slot, slot)
        members = universe[universe["industry"] == industry].set_index("code")["circ_mv"]
        probe = Probe(self.factors[factor])
        table = self._probe(state.by_stock(), day, probe, factor, list(members.index))
        rows = table[table["date"] == day].dropna(subset=[factor])
        traces = {code: Trace(*probe.find(number)) for code, number in zip(rows["code"], rows[factor], strict=True)}
        valued = [code for code, trace in traces.items() if not np.isnan(trace.value(self.factors[factor]))]
        weight = weigh(members.reindex(valued))
        return [replace(traces[code], weight=weight[code]) for code in weight.index] or [Trace.empty(state.links(0, 0))]

    def _probe(
        self, state: State, day: pd.Timestamp, probe: Probe, factor: str, codes: list[str] | None
    ) -> pd.DataFrame:
        """The panel of a probe, of all names or of some codes."""
        slot = state.slot(day)
        low = max(slot - lookback_of(probe), 0)
        links, universe = state.links(low, slot), state.universe(low, slot)
        if codes is not None:
            links = links[links["news_id"].isin(links.loc[links["code"].isin(codes), "news_id"])]
            universe = universe[universe["code"].isin(codes)]
        return state.make_panel(links, universe, {factor: probe})

    def _state(self, manifest: Manifest) -> State:
        return State(self._archive, manifest, self._settings)

    def _require(self, as_of: pd.Timestamp | str | None) -> Manifest:
        manifest = self._archive.manifest(as_of)
        if manifest is None:
            raise StoreError("as_of", as_of, "must not be before the first update", str(self.path), "call update first")
        return manifest

    def _refuse_other(self, kept: Mapping[str, Any], names: tuple[str, ...]) -> None:
        own = self._settings.describe()
        for name in names:
            if name in kept and kept[name] != own[name]:
                raise StoreError(name, own[name], "must be that of the store (it holds other settings)", str(self.path), f"it is {json.dumps(kept[name], ensure_ascii=False)}")  # fmt: skip
