"""The store: idempotent, equal to a rebuild, readable as it was, whole or not at all."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time

import pandas as pd
import pytest
from tables_by_hand import make_coverage, make_links, make_universe

from newsfactor.archive import Archive
from newsfactor.errors import StoreError
from newsfactor.panels import panel
from newsfactor.store import PanelStore

DAYS = ["2026-07-02", "2026-07-03", "2026-07-06", "2026-07-07", "2026-07-08"]
COVERAGE = make_coverage("2026-06-01 00:00", "2026-08-31 00:00")
LINKS = make_links(
    [(f"n{k}", f"2026-07-0{2 + k % 6} {8 + k % 9:02d}:00:00", f"60000{1 + k % 4}.SH", k % 7 - 3) for k in range(30)]
)
UNIVERSE = make_universe(DAYS, [f"60000{k}.SH" for k in (1, 2, 3, 4)])


def update(store: PanelStore, links: pd.DataFrame, universe: pd.DataFrame = UNIVERSE) -> pd.DataFrame:
    return store.update(links, universe, coverage=COVERAGE)


def test_reads_what_the_panel_is(tmp_path):
    store = PanelStore(tmp_path / "factors")
    update(store, LINKS)
    expected = panel(LINKS, UNIVERSE, coverage=COVERAGE)
    pd.testing.assert_frame_equal(store.read(), expected)
    assert store.read().attrs == expected.attrs
    pd.testing.assert_frame_equal(pd.concat(map(pd.read_parquet, store.files()), ignore_index=True), expected)


def test_day_by_day_equals_a_rebuild_and_repeating_changes_nothing(tmp_path):
    daily = PanelStore(tmp_path / "daily")
    for day, part in LINKS.groupby(LINKS["available_at"].dt.date):
        update(daily, part, UNIVERSE[UNIVERSE["date"] <= pd.Timestamp(day) + pd.Timedelta(days=4)])
    update(daily, LINKS.iloc[:0])
    rebuilt = PanelStore(tmp_path / "rebuilt")
    update(rebuilt, LINKS)
    pd.testing.assert_frame_equal(daily.read(), rebuilt.read())
    published = len(rebuilt.history())
    update(rebuilt, LINKS)
    update(rebuilt, LINKS.iloc[:5])
    assert len(rebuilt.history()) == published
    assert [path.name for path in daily.files()] == [path.name for path in rebuilt.files()]


def test_read_as_of_gives_the_cells_as_published(tmp_path):
    store = PanelStore(tmp_path)
    first = update(store, LINKS.iloc[:10])
    moment = store.history()[0]
    update(store, LINKS)
    pd.testing.assert_frame_equal(store.read(as_of=moment), first)
    assert len(store.read()) > len(first)
    with pytest.raises(StoreError, match="before the first update"):
        store.read(as_of=moment - pd.Timedelta(seconds=1))


def test_a_changed_or_missing_file_is_named(tmp_path):
    store = PanelStore(tmp_path)
    update(store, LINKS)
    path = store.files()[0]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"x")
    with pytest.raises(StoreError, match=path.name):
        store.read()
    path.unlink()
    with pytest.raises(StoreError, match=path.name):
        store.read()


def test_other_settings_are_refused(tmp_path):
    update(PanelStore(tmp_path), LINKS)
    with pytest.raises(StoreError, match="other settings"):
        PanelStore(tmp_path, cutoff="15:00")
    assert not PanelStore(tmp_path).read().empty


def test_an_empty_store_and_a_file_in_its_place_are_named(tmp_path):
    with pytest.raises(StoreError, match="before the first update"):
        PanelStore(tmp_path / "new").read()
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="not a file"):
        PanelStore(tmp_path / "file")


def _hold(path, ready) -> None:
    with Archive(path).writing():
        ready.set()
        time.sleep(60)


def test_one_writer_at_a_time(tmp_path):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready))
    process.start()
    try:
        assert ready.wait(30)
        with pytest.raises(StoreError, match="another process"):
            update(PanelStore(tmp_path), LINKS)
    finally:
        process.kill()
        process.join()
    update(PanelStore(tmp_path), LINKS)


def _update_forever(path) -> None:
    for k in range(5, 31):
        update(PanelStore(path), LINKS.iloc[:k])
    time.sleep(60)


def test_killed_at_any_moment_it_reads_whole_and_goes_on(tmp_path):
    """SIGKILL at five moments: what is read is always one of the states that an update ends in."""
    states = [panel(LINKS.iloc[:k], UNIVERSE, coverage=COVERAGE) for k in range(5, 31)]
    context = multiprocessing.get_context("fork")
    for delay in (0.05, 0.2, 0.4, 0.7, 1.1):
        path = tmp_path / str(delay)
        process = context.Process(target=_update_forever, args=(path,))
        process.start()
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        store = PanelStore(path)
        if store.history():
            found = store.read()
            assert any(found.equals(state) for state in states)
        update(store, LINKS)
        pd.testing.assert_frame_equal(store.read(), states[-1])


def test_the_manifest_names_every_live_file(tmp_path):
    store = PanelStore(tmp_path)
    update(store, LINKS)
    manifest = json.loads(sorted((tmp_path / "manifests").iterdir())[-1].read_text())
    named = {entry["file"] for kind in ("links", "universe", "coverage", "panel") for entry in manifest[kind]}
    assert named == {path.name for path in (tmp_path / "data").iterdir()}
