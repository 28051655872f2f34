"""``PanelStore``: a folder of Parquet that keeps its links and its panels, as of every update."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from newsfactor import __version__
from newsfactor.errors import StoreError
from newsfactor.factors import DEFAULT, Factor, lookback_of, needs_complete
from newsfactor.panels import panel
from newsfactor.schema import LINKS, TIMEZONE, UNIVERSE, check

_UNIVERSE_KEPT = list(UNIVERSE.columns)
_LINK_KEY = ["news_id", "name", "code"]


class PanelStore:
    """Factor panels in a folder, updated day by day.

    The folder holds ``data/`` (Parquet files named by the hash of their content, never changed) and
    ``manifests/`` (one small JSON file per update, which names its data files). A manifest appears by an
    atomic rename when all its files are on disk, so a reader sees an update whole or not at all, and
    ``read(as_of=…)`` gives the cells as they were published then. Read through the store or through
    :meth:`files`: a glob over ``data/`` also finds what earlier updates wrote.

    Parameters
    ----------
    path : str or path
        The folder; made if it does not exist.
    by : {"stock", "industry"}
    factors : mapping, optional
        As in :func:`newsfactor.panel`.
    cutoff : str
        As in :func:`newsfactor.panel`.

    Raises
    ------
    StoreError
        If the folder holds a store with other settings: they are named.

    Examples
    --------
    >>> store = PanelStore("factors/", by="stock")  # doctest: +SKIP
    >>> store.update(links, universe)  # doctest: +SKIP
    """

    def __init__(
        self, path: str | Path, *, by: str = "stock", factors: Mapping[str, Factor] | None = None, cutoff: str = "09:15"
    ) -> None:
        self.path = Path(path)
        self.by, self.cutoff = by, cutoff
        self.factors = dict(DEFAULT if factors is None else factors)
        if self.path.is_file():
            raise StoreError("path", str(path), "must be a folder, not a file")
        for folder in ("data", "manifests"):
            (self.path / folder).mkdir(parents=True, exist_ok=True)
        latest = self._manifest(None)
        if latest is not None and latest["settings"] != self._settings:
            raise StoreError("path", str(path), "holds a store with other settings", remedy=f"they are {json.dumps(latest['settings'], ensure_ascii=False)}")  # fmt: skip

    @property
    def _settings(self) -> dict[str, Any]:
        declared = {name: [lookback_of(f), needs_complete(f)] for name, f in self.factors.items()}
        return {"by": self.by, "cutoff": self.cutoff, "factors": declared}

    def update(
        self, links: pd.DataFrame, universe: pd.DataFrame, *, coverage: pd.DataFrame | None = None,
        sessions: pd.DatetimeIndex | None = None,
    ) -> pd.DataFrame:  # fmt: skip
        """Add links and days of the universe, and publish the panel that follows from all that is kept.

        A link, a day of the universe or a span of coverage given again replaces the kept one, so an update
        repeated changes nothing, and updates day by day end in the same panel as one with everything.

        Returns
        -------
        DataFrame
            The whole PANEL as published.

        Raises
        ------
        StoreError
            If another process is writing, or a kept file is damaged.
        """
        check(links, LINKS, parameter="links")
        check(universe, UNIVERSE, parameter="universe")
        with self._writing():
            kept = self._manifest(None) or {"links": [], "universe": [], "coverage": []}
            links = _merge(self._read_all(kept["links"]), links, _LINK_KEY, replaced="news_id")
            universe = _merge(self._read_all(kept["universe"]), universe[_UNIVERSE_KEPT], ["date", "code"])
            covered = self._read_all(kept["coverage"])
            if coverage is not None:
                covered = _merge(covered, coverage, ["source", "start"])
            table = panel(
                links, universe, by=self.by, factors=self.factors, cutoff=self.cutoff,
                coverage=covered, sessions=sessions,
            )  # fmt: skip
            manifest = {
                "settings": self._settings,
                "links": self._write_months(links, links["available_at"].dt.strftime("%Y-%m")),
                "universe": self._write_months(universe, universe["date"].dt.strftime("%Y-%m")),
                "coverage": [] if covered is None else [self._write(covered)],
                "panel": self._write_months(table, table["date"].dt.strftime("%Y-%m")),
                "attrs": table.attrs,
            }
            # Coverage inferred by an update covers more with every further one, so only a given one is kept.
            same = {name: value for name, value in kept.items() if name in manifest}
            if same != json.loads(json.dumps(manifest)):
                self._publish(manifest)
        return table

    def read(self, *, as_of: pd.Timestamp | str | None = None) -> pd.DataFrame:
        """The PANEL as last published, or as it was published at a time past.

        Raises
        ------
        StoreError
            If nothing had been published, or a file is missing or changed: it is named.
        """
        manifest = self._require(as_of)
        table = self._read_all(manifest["panel"])
        assert table is not None
        table.attrs = manifest["attrs"]
        return table

    def files(self, *, as_of: pd.Timestamp | str | None = None) -> list[Path]:
        """The panel's live Parquet files, for DuckDB or Polars."""
        return [self.path / "data" / entry["file"] for entry in self._require(as_of)["panel"]]

    def history(self) -> list[pd.Timestamp]:
        """When each update was published, oldest first."""
        return [_published(path) for path in self._manifests()]

    def _require(self, as_of: pd.Timestamp | str | None) -> dict[str, Any]:
        manifest = self._manifest(as_of)
        if manifest is None:
            raise StoreError("as_of", as_of, "must not be before the first update", str(self.path), "call update first")
        return manifest

    def _manifests(self) -> list[Path]:
        return sorted((self.path / "manifests").glob("*.json"))

    def _manifest(self, as_of: pd.Timestamp | str | None) -> dict[str, Any] | None:
        found = self._manifests()
        if as_of is not None:
            moment = pd.Timestamp(as_of)
            moment = moment.tz_localize(TIMEZONE) if moment.tzinfo is None else moment
            found = [path for path in found if _published(path) <= moment]
        if not found:
            return None
        try:
            manifest: dict[str, Any] = json.loads(found[-1].read_text(encoding="utf-8"))
        except ValueError as error:
            raise StoreError(
                "manifest", str(found[-1]), "must be JSON", remedy=f"restore it from a backup ({error})"
            ) from error
        return manifest

    def _read_all(self, entries: list[dict[str, Any]]) -> pd.DataFrame | None:
        tables = [self._read_file(entry) for entry in entries]
        return pd.concat(tables, ignore_index=True) if tables else None

    def _read_file(self, entry: dict[str, Any]) -> pd.DataFrame:
        path = self.path / "data" / entry["file"]
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StoreError("file", str(path), "must exist: the manifest names it", remedy=str(error)) from error
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise StoreError(
                "file",
                str(path),
                "was changed after it was written",
                remedy="restore it from a backup or rebuild the store",
            )
        return pd.read_parquet(BytesIO(content))

    def _write_months(self, table: pd.DataFrame, months: pd.Series) -> list[dict[str, Any]]:
        return [self._write(part) for _, part in table.groupby(months.to_numpy(), sort=True)] or [self._write(table)]

    def _write(self, table: pd.DataFrame) -> dict[str, Any]:
        """Write one file named by its content; what lies there already is the same."""
        plain = table.reset_index(drop=True)
        plain.attrs = {}
        buffer = BytesIO()
        plain.to_parquet(buffer, compression="zstd", index=False)
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        path = self.path / "data" / f"{digest[:32]}.parquet"
        if not path.exists():
            _write_durably(path, buffer.getvalue())
        return {"file": path.name, "sha256": digest, "rows": len(table)}

    def _publish(self, manifest: dict[str, Any]) -> None:
        now = pd.Timestamp.now(tz="UTC").as_unit("us")
        previous = self._manifests()
        if previous:  # a clock set back must not put this update before the last
            now = max(now, _published(previous[-1]) + pd.Timedelta(microseconds=1))
        full = {**manifest, "published_at": now.isoformat(), "library": __version__}
        path = self.path / "manifests" / f"{now:%Y%m%dT%H%M%S%f}.json"
        _write_durably(path, json.dumps(full, ensure_ascii=False, indent=1).encode())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with (self.path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StoreError("path", str(self.path), "is being written by another process") from error
            yield


def _merge(kept: pd.DataFrame | None, new: pd.DataFrame | None, key: list[str], *, replaced: str | None = None) -> Any:
    """Kept and new rows, sorted by key; a new row replaces the kept ones of its key (or of ``replaced``)."""
    if kept is None or new is None or kept.empty:
        table = new if new is not None else kept
    else:
        if replaced is not None:
            kept = kept[~kept[replaced].isin(new[replaced])]
        table = pd.concat([kept, new], ignore_index=True) if len(kept) else new
    if table is None:
        return None
    return table.drop_duplicates(key, keep="last").sort_values(key, ignore_index=True)


def _published(path: Path) -> pd.Timestamp:
    return pd.to_datetime(path.stem, format="%Y%m%dT%H%M%S%f", utc=True)


def _write_durably(path: Path, content: bytes) -> None:
    """The whole file or none: written beside, flushed to disk, renamed, and the folder flushed."""
    draft = path.with_suffix(".tmp")
    with draft.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(draft, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
