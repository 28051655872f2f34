"""An archive: a folder of tables that are never changed, and of manifests that say which of them are live."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

from newsfactor import __version__
from newsfactor.errors import InvalidValueError, StoreError
from newsfactor.files import replacing, sync_folder
from newsfactor.schema import TIMEZONE

FORMAT = 2
STAMPS = ("format", "published_at", "library", "parent")
_NAME = "%Y%m%dT%H%M%S%f"
_RESTORE = "restore it from a backup or build the store anew"

Entry = dict[str, Any]
Manifest = dict[str, Any]


class Archive:
    """Parquet files named by the hash of their content in ``data/``, one JSON file per publication in ``manifests/``.

    A manifest's name holds its time and the hash of its content. It appears by an atomic rename when all
    that it names is on disk, so that a reader sees a publication whole or not at all. Each names the one before
    it, and ``chain`` the last and the last forgotten one, so that one that someone removed is missed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._data, self._manifests, self._chain = self.path / "data", self.path / "manifests", self.path / "chain"
        if self.path.exists() and not self.path.is_dir():
            raise StoreError("path", str(path), "must be a folder, not a file")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the only right to write; it ends with the process at the latest."""
        try:
            for folder in (self._data, self._manifests):
                folder.mkdir(parents=True, exist_ok=True)
            sync_folder(self.path)
            lock = (self.path / "lock").open("w")
        except OSError as error:
            raise StoreError("path", str(self.path), f"must be writable ({error.strerror})") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise StoreError("path", str(self.path), "is being written by another process") from error
            try:
                yield
            except InvalidValueError as error:
                if isinstance(error.__cause__, OSError) and not isinstance(error, StoreError):
                    raise StoreError("path", str(self.path), f"could not be updated: {error}", remedy="nothing was published, and the last update stays readable") from error  # fmt: skip
                raise

    def write(self, table: pd.DataFrame) -> Entry:
        """Keep a table in a file of its own; what lies there under its name already is the same."""
        plain = table.reset_index(drop=True)
        plain.attrs = {}
        buffer = BytesIO()
        plain.to_parquet(buffer, compression="zstd", index=False)
        content = buffer.getvalue()
        digest = hashlib.sha256(content).hexdigest()
        path = self._data / f"{digest[:32]}.parquet"
        # A file that a killed update left, or that was damaged since, does not count as written.
        if not path.exists() or path.read_bytes() != content:
            with replacing(path) as stream:
                stream.write(content)
        return {"file": path.name, "sha256": digest, "rows": len(table)}

    def locate(self, entry: Entry) -> Path:
        """The path of a kept file."""
        return self._data / Path(entry["file"]).name

    def read(self, entry: Entry) -> pd.DataFrame:
        """A kept table, or an error that names the file if it is not what was written."""
        path = self.locate(entry)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StoreError("file", str(path), "must exist: the manifest names it", remedy=str(error)) from error
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise StoreError("file", str(path), "was changed after it was written", remedy=_RESTORE)
        return pd.read_parquet(BytesIO(content))

    def publish(self, manifest: Manifest) -> None:
        """Make a manifest the live one."""
        now = pd.Timestamp.now(tz="UTC").as_unit("us")
        earlier = self._list()
        if earlier:  # a clock set back must not put this update before the last
            now = max(now, _published(earlier[-1]) + pd.Timedelta(microseconds=1))
        parent = earlier[-1].stem if earlier else None
        stamps = dict(zip(STAMPS, (FORMAT, now.isoformat(), __version__, parent), strict=True))
        content = json.dumps({**stamps, **manifest}, ensure_ascii=False, indent=1).encode()
        sync_folder(self._data)
        path = self._manifests / f"{now.strftime(_NAME)}-{_short_hash(content)}.json"
        with replacing(path) as stream:
            stream.write(content)
        with suppress(InvalidValueError):  # it is published, and an older end of the chain is no false alarm
            self._write_chain(last=path.stem)

    def manifest(self, as_of: pd.Timestamp | str | None = None) -> Manifest | None:
        """The manifest that was live at a time, the last one if no time is given; None before the first."""
        last = self._read_chain().get("last")  # before the listing, which may then have more but not less
        listed = self._list()
        moment = None if as_of is None else _moment(as_of)
        found = [path for path in listed if moment is None or _published(path) <= moment]
        if len(found) < len(listed):
            self._require_parent(listed[len(found)], found[-1] if found else None)
        elif last and last not in {path.stem for path in listed} and (moment is None or _published(self._name(last)) <= moment):  # fmt: skip
            raise self._missing(last, f"delete {self._chain} to go on from the update before")
        return self._load(found[-1]) if found else None

    def history(self) -> list[pd.Timestamp]:
        """When each manifest was published, oldest first."""
        return [_published(path) for path in self._list()]

    def vacuum(self, before: pd.Timestamp | str | None = None) -> list[Path]:
        """Forget what was live only before a time, and drop every file that no manifest names."""
        with self.writing():
            forgotten: list[Path] = []
            if before is not None:
                forgotten = [path for path in self._list() if _published(path) <= _moment(before)][:-1]
            kept = [self._load(path) for path in self._list() if path not in forgotten]
            named = {entry["file"] for manifest in kept for entry in entries(manifest)}
            if forgotten:
                self._write_chain(last=self._list()[-1].stem, forgotten=forgotten[-1].stem)
            for path in forgotten:
                path.unlink()
            # The manifests must be gone for good before the files that they name.
            sync_folder(self._manifests)
            drafts = [path for folder in (self.path, self._data, self._manifests) for path in folder.glob(".*.tmp")]
            orphans = [path for path in self._data.glob("*.parquet") if path.name not in named]
            for path in drafts + orphans:
                path.unlink()
            return forgotten + orphans + drafts

    def verify(self) -> list[str]:
        """Read every manifest and every file that one names; a sentence for each that is damaged."""
        problems, seen = self._find_gaps(), set()
        for path in self._list():
            try:
                found = entries(self._load(path))
            except StoreError as error:
                problems.append(str(error))
                continue
            for entry in found:
                if entry["sha256"] not in seen:
                    seen.add(entry["sha256"])
                    try:
                        self.read(entry)
                    except StoreError as error:
                        problems.append(str(error))
        return problems

    def _find_gaps(self) -> list[str]:
        """A sentence for each manifest that was removed, as far as another one knows of it."""
        problems, listed = [], self._list()
        for before, path in zip([None, *listed], listed, strict=False):
            try:
                self._require_parent(path, before)
            except StoreError as error:
                problems.append(str(error))
        last = self._read_chain().get("last")
        if last and last not in {path.stem for path in listed}:
            problems.append(str(self._missing(last)))
        return problems

    def _require_parent(self, path: Path, before: Path | None) -> None:
        """Stop if a manifest names another one than that before it, unless that was forgotten on purpose."""
        parent = self._load(path).get("parent")
        known = before.stem if before else self._read_chain().get("forgotten")
        if parent is not None and parent != known:
            raise self._missing(parent)

    def _missing(self, stem: str, remedy: str = "") -> StoreError:
        remedy = f"{_RESTORE}, or {remedy}" if remedy else _RESTORE
        return StoreError("manifest", str(self._name(stem)), "must exist: the next one names it", remedy=remedy)

    def _name(self, stem: str) -> Path:
        return self._manifests / f"{stem}.json"

    def _read_chain(self) -> dict[str, str]:
        try:
            chain: dict[str, str] = json.loads(self._chain.read_bytes())
        except FileNotFoundError:  # an empty store, or the first update was killed
            return {}
        except (OSError, ValueError) as error:
            raise StoreError("chain", str(self._chain), f"must be readable ({error})", remedy="delete it to go on without it") from error  # fmt: skip
        return chain

    def _write_chain(self, **ends: str) -> None:
        with replacing(self._chain) as stream:
            stream.write(json.dumps({**self._read_chain(), **ends}).encode())

    def _list(self) -> list[Path]:
        return sorted(self._manifests.glob("*.json"))

    def _load(self, path: Path) -> Manifest:
        if "-" not in path.stem:
            raise StoreError("manifest", str(path), "is of an older form of the store", remedy="build the store anew in another folder")  # fmt: skip
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StoreError("manifest", str(path), f"must be readable ({error.strerror})") from error
        if _short_hash(content) != path.stem.partition("-")[2]:
            raise StoreError("manifest", str(path), "was changed after it was written", remedy=_RESTORE)
        manifest: Manifest = json.loads(content)
        if manifest["format"] != FORMAT:
            raise StoreError("manifest", str(path), f"is of another form ({manifest['format']}) of the store", remedy=f"read it with newsfactor {manifest['library']}")  # fmt: skip
        return manifest


def entries(manifest: Manifest) -> list[Entry]:
    """All files that a manifest names."""
    lists = [value for value in manifest.values() if isinstance(value, list)]
    return [entry for value in lists for entry in value if isinstance(entry, dict)]


def _short_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _moment(time: pd.Timestamp | str) -> pd.Timestamp:
    moment = pd.Timestamp(time)
    return moment.tz_localize(TIMEZONE) if moment.tzinfo is None else moment


def _published(path: Path) -> pd.Timestamp:
    try:
        return pd.to_datetime(path.stem.partition("-")[0], format=_NAME, utc=True)
    except ValueError as error:
        raise StoreError("manifest", str(path), "is not named by its time and content", remedy=_RESTORE) from error
