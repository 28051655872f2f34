"""The store: idempotent, equal to a rebuild, readable as it was, whole or not at all."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import time

import numpy as np
import pandas as pd
import pytest
from tables_by_hand import make_coverage, make_links, make_universe

from newsfactor.archive import Archive
from newsfactor.errors import StoreError
from newsfactor.factors import DEFAULT, EVENT_GROUPS, SHIPPED, lookback_of, mean_score
from newsfactor.panels import panel
from newsfactor.sessions import default_sessions
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


def random_links(n: int = 400, seed: int = 3) -> pd.DataFrame:
    """News about four companies from May to July, some handed in late, two sources."""
    rng = np.random.default_rng(seed)
    times = pd.Timestamp("2026-05-20") + pd.to_timedelta(np.sort(rng.integers(0, 55 * 86_400, n)), unit="s")
    rows = [
        (f"n{k}", str(time), f"60000{rng.integers(1, 5)}.SH", int(rng.integers(-3, 4))) for k, time in enumerate(times)
    ]
    links = make_links(rows)
    links["relevance"], links["novelty"] = rng.uniform(0, 1, n), rng.uniform(0.2, 1, n)
    links["source"] = pd.Series(rng.choice(["wire_a", "wire_b"], n), dtype="str")
    links["industry"] = pd.Series(rng.choice(["电子", "银行"], n), dtype="str")
    late = rng.random(n) < 0.05
    links["available_at"] += pd.to_timedelta(np.where(late, rng.integers(1, 9, n), 0), unit="D")
    return links


def market_days() -> list[str]:
    days = default_sessions()
    return days[(days >= "2026-05-20") & (days <= "2026-07-20")].strftime("%Y-%m-%d").tolist()


@pytest.mark.parametrize("by", ["stock", "industry"])
@pytest.mark.parametrize("given", [True, False], ids=["coverage given", "coverage inferred"])
def test_every_day_equals_a_rebuild(tmp_path, by, given):
    """A tenth of the news comes out of order; with inferred coverage earlier cells change as sources go on."""
    links, universe = random_links(), make_universe(market_days(), [f"60000{k}.SH" for k in (1, 2, 3, 4)])
    coverage = [pd.concat([make_coverage("2026-05-01", "2026-06-19", name), make_coverage("2026-06-20 12:00", "2026-07-20", name)]) for name in ("wire_a", "wire_b")]  # fmt: skip
    options = {"coverage": pd.concat(coverage)} if given else {}
    order = links["available_at"] + pd.to_timedelta(np.where(np.arange(len(links)) % 10 == 0, 20, 0), unit="D")
    daily, step = PanelStore(tmp_path / "daily", by=by), pd.Timedelta(days=7)
    times = pd.date_range("2026-05-20", "2026-08-12", freq=step, tz="Asia/Shanghai")
    for start in times:
        new = links[(order >= start) & (order < start + step)]
        first, last = start.tz_localize(None), (start + step).tz_localize(None)
        found = daily.update(new, universe[universe["date"].between(first, last, inclusive="left")], **options)
        expected = panel(links[order < start + step], universe[universe["date"] < last], by=by, **options)
        pd.testing.assert_frame_equal(found, expected, rtol=1e-12)
        assert found.attrs == expected.attrs
    rebuilt = PanelStore(tmp_path / "rebuilt", by=by)
    rebuilt.update(links, universe, **options)
    assert [path.name for path in daily.files()] == [path.name for path in rebuilt.files()]


def test_a_daily_update_writes_its_month_alone(tmp_path):
    links, universe = random_links(), make_universe(market_days(), ["600001.SH", "600002.SH"])
    store = PanelStore(tmp_path)
    update(store, links[links["available_at"] < "2026-07-10"], universe)
    before = {path.name for path in (tmp_path / "data").iterdir()}
    update(store, links[links["available_at"] >= "2026-07-10"], universe)
    months = [entry["month"] for entry in latest(tmp_path)["panel"] if entry["file"] not in before]
    assert months == ["2026-07"]
    assert len({path.name for path in (tmp_path / "data").iterdir()} - before) == 2  # links and panel


def latest(path) -> dict:
    return json.loads(sorted((path / "manifests").iterdir())[-1].read_text(encoding="utf-8"))


def test_news_handed_in_late_enter_by_available_at(tmp_path):
    store = PanelStore(tmp_path)
    late = make_links([("late", "2026-07-02 20:00:00", "600001.SH", 3)])
    update(store, LINKS[LINKS["available_at"] < "2026-07-07"])
    moment = store.history()[-1]
    update(store, pd.concat([late.assign(available_at=pd.Timestamp("2026-07-06 10:00", tz="Asia/Shanghai"))]))
    then, now = store.read(as_of=moment), store.read()
    both = then.merge(now, on=["date", "code"])
    moved = both[(both["n_news_x"] != both["n_news_y"]) | (both["mean_score_x"] != both["mean_score_y"]) & both["mean_score_x"].notna()]  # fmt: skip
    assert set(moved["date"]) <= {pd.Timestamp("2026-07-07")}
    cell = now.set_index(["date", "code"]).loc[(pd.Timestamp("2026-07-07"), "600001.SH")]
    assert cell["n_news"] == 1 + int(((LINKS["code"] == "600001.SH") & LINKS["available_at"].between("2026-07-06 09:15+08:00", "2026-07-06 23:59+08:00")).sum())  # fmt: skip


def test_an_edited_text_is_a_new_version_and_the_old_cell_stays(tmp_path):
    store = PanelStore(tmp_path)
    first = make_links([("n1", "2026-07-02 20:00:00", "600001.SH", 3)])
    edited = make_links([("n1", "2026-07-06 10:00:00", "600001.SH", -2)])
    update(store, first)
    update(store, edited)
    cells = store.read().set_index(["date", "code"])["mean_score"].dropna()
    assert cells.to_dict() == {
        (pd.Timestamp("2026-07-03"), "600001.SH"): 3,
        (pd.Timestamp("2026-07-07"), "600001.SH"): -2,
    }
    seen = store.explain(date="2026-07-07", code="600001.SH", factor="decayed_score")
    assert seen["news_id"].tolist() == ["n1", "n1@2026-07-06 10:00:00.000000"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.assign(sentiment="极度正面"), "labels that were published stay"),
        (lambda t: t.assign(tagger="another"), "of two taggers has a break"),
        (lambda t: t.assign(mood=1.0), "'mood'"),
        (lambda t: t.drop(columns="extra"), "'extra'"),
        (lambda t: t.assign(extra="text"), "extra"),
    ],
)
def test_what_does_not_fit_the_kept_links_is_refused(tmp_path, change, message):
    links, store = LINKS.assign(extra=0.5), PanelStore(tmp_path)
    before = update(store, links)
    with pytest.raises(StoreError, match=message):
        update(store, change(links))
    pd.testing.assert_frame_equal(store.read(), before)
    assert len(store.history()) == 1


def test_news_whose_tagging_failed_may_come_again(tmp_path):
    store = PanelStore(tmp_path)
    failed = LINKS.assign(status=LINKS["status"].where(LINKS["news_id"] != "n3", "failed"))
    for column in ("event", "market", "industry", "sentiment", "score"):
        failed[column] = failed[column].where(failed["news_id"] != "n3")
    assert update(store, failed).attrs["rows"]["not tagged"] == 1
    pd.testing.assert_frame_equal(update(store, LINKS), panel(LINKS, UNIVERSE, coverage=COVERAGE))


def test_a_factor_that_changed_its_mind_is_found(tmp_path):
    def make(sign: int):
        return {"tone": lambda links, cell: sign * links["score"].groupby(cell).mean()}

    early = LINKS["available_at"] < "2026-07-07"
    update(PanelStore(tmp_path, factors=make(1)), LINKS[early])
    with pytest.raises(StoreError, match=r"`factors` must give what it gave.*'tone'"):
        update(PanelStore(tmp_path, factors=make(-1)), LINKS[~early])
    update(PanelStore(tmp_path, factors=make(1)), LINKS[~early])


def test_other_trading_days_are_refused_and_the_users_own_are_kept(tmp_path):
    days = default_sessions()
    days = days[(days >= "2026-01-01") & (days <= "2026-07-31")]
    early = LINKS["available_at"] < "2026-07-06"
    store = PanelStore(tmp_path)
    store.update(LINKS[early], UNIVERSE, coverage=COVERAGE, sessions=days)
    with pytest.raises(StoreError, match="trading days there were others"):
        store.update(LINKS[~early], UNIVERSE, coverage=COVERAGE, sessions=days[days != "2026-07-06"])
    update(store, LINKS[~early])
    pd.testing.assert_frame_equal(store.read(), panel(LINKS, UNIVERSE, coverage=COVERAGE, sessions=days))


def test_a_store_knows_its_settings(tmp_path):
    update(PanelStore(tmp_path, by="industry", cutoff="15:00", factors={"one": mean_score}), LINKS)
    again = PanelStore(tmp_path)
    assert (again.by, again.cutoff) == ("industry", "15:00") and "one" in again.read()
    with pytest.raises(StoreError, match="`factors`"):
        update(again, LINKS)


def test_a_day_of_the_universe_given_again_replaces_the_kept_one(tmp_path):
    store = PanelStore(tmp_path)
    update(store, LINKS)
    smaller = UNIVERSE[(UNIVERSE["date"] != "2026-07-06") | (UNIVERSE["code"] != "600003.SH")]
    update(store, LINKS.iloc[:0], smaller[smaller["date"] == "2026-07-06"])
    pd.testing.assert_frame_equal(store.read(), panel(LINKS, smaller, coverage=COVERAGE))


def damage_truncate(files) -> None:
    files[0].write_bytes(files[0].read_bytes()[:-7])


def damage_swap(files) -> None:
    first, second = files[0].read_bytes(), files[1].read_bytes()
    files[0].write_bytes(second)
    files[1].write_bytes(first)


def damage_edit(files) -> None:
    pd.read_parquet(files[0]).assign(mean_score=9.0).to_parquet(files[0])


@pytest.mark.parametrize("damage", [damage_truncate, damage_swap, damage_edit])
def test_a_damaged_file_is_named(tmp_path, damage):
    links, store = random_links(), PanelStore(tmp_path)
    update(store, links, make_universe(market_days(), ["600001.SH", "600002.SH"]))
    assert store.verify() == []
    files = store.files()
    damage(files)
    with pytest.raises(StoreError, match=files[0].name):
        store.read()
    assert any(files[0].name in problem for problem in store.verify())


def test_a_damaged_file_of_links_stops_the_update_and_is_named(tmp_path):
    store = PanelStore(tmp_path)
    update(store, LINKS)
    name = latest(tmp_path)["links"][0]["file"]
    path = tmp_path / "data" / name
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match=name):
        update(store, LINKS.iloc[:3])
    assert len(store.verify()) == 1 and len(store.read())


def test_an_edited_manifest_is_named(tmp_path):
    store = PanelStore(tmp_path)
    update(store, LINKS)
    path = next((tmp_path / "manifests").iterdir())
    path.write_text(path.read_text(encoding="utf-8").replace('"09:15"', '"15:00"'), encoding="utf-8")
    for call in (store.read, store.files, lambda: PanelStore(tmp_path)):
        with pytest.raises(StoreError, match=path.name):
            call()


def _update_on_a_full_disk(path, limit: int, said) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        update(PanelStore(path), LINKS)
    except StoreError as error:
        said.put(str(error))


@pytest.mark.parametrize("limit", [0, 1500, 9000])
def test_a_full_disk_leaves_the_old_state_readable(tmp_path, limit):
    store = PanelStore(tmp_path)
    before = update(store, LINKS.iloc[:10])
    context = multiprocessing.get_context("fork")
    said = context.SimpleQueue()
    process = context.Process(target=_update_on_a_full_disk, args=(tmp_path, limit, said))
    process.start()
    process.join(60)
    assert process.exitcode == 0 and not said.empty()
    assert "the last update stays readable" in said.get()
    pd.testing.assert_frame_equal(store.read(), before)
    update(store, LINKS)
    pd.testing.assert_frame_equal(store.read(), panel(LINKS, UNIVERSE, coverage=COVERAGE))
    assert store.verify() == [] and not list((tmp_path / "data").glob(".*"))


def test_vacuum_drops_what_no_kept_manifest_names(tmp_path):
    store = PanelStore(tmp_path)
    for k in (10, 20, 30):
        update(store, LINKS.iloc[:k])
    (tmp_path / "data" / ("0" * 32 + ".parquet")).write_bytes(b"left by a killed update")
    (tmp_path / "data" / ".draft.tmp").write_bytes(b"")
    tables, moments = [store.read(as_of=moment) for moment in store.history()], store.history()
    assert {path.name for path in store.vacuum()} == {"0" * 32 + ".parquet", ".draft.tmp"}
    dropped = store.vacuum(before=moments[1])
    assert len(store.history()) == 2 and any(path.suffix == ".parquet" for path in dropped)
    for moment, table in zip(moments[1:], tables[1:], strict=True):
        pd.testing.assert_frame_equal(store.read(as_of=moment), table)
    assert store.verify() == [] and store.vacuum() == []


def test_contributions_sum_to_the_value_by_hand(tmp_path):
    links = make_links(
        [
            ("a", "2026-07-03 10:00:00", "600001.SH", 3),
            ("b", "2026-07-06 08:00:00", "600001.SH", -1),
            ("c", "2026-07-02 10:00:00", "600001.SH", 2),
            ("d", "2026-07-06 08:00:00", "600002.SH", 1),
        ]
    )
    links["relevance"] = [1.0, 0.5, 1.0, 1.0]
    factors = {**DEFAULT, "lowest": lambda links, cell: links["score"].groupby(cell).min()}
    store = PanelStore(tmp_path, factors=factors)
    update(store, links)

    def parts(factor: str) -> dict:
        found = store.explain(date="2026-07-06", code="600001.SH", factor=factor)
        value = store.read().set_index(["date", "code"]).loc[(pd.Timestamp("2026-07-06"), "600001.SH"), factor]
        assert found.attrs["value"] == value
        if found.attrs["linear"]:
            assert found["contribution"].sum() == pytest.approx(value)
        return found.set_index("news_id")["contribution"].round(9).to_dict()

    assert parts("mean_score") == {"a": 1.5, "b": -0.5}
    assert parts("weighted_score") == {"a": 2.0, "b": round(-1 / 3, 9)}
    assert parts("news_count") == {"a": 1, "b": 1}
    assert parts("decayed_score") == {"a": 3, "b": -1, "c": round(2 * 0.5 ** (1 / 3), 9)}
    lowest = store.explain(date="2026-07-06", code="600001.SH", factor="lowest")
    assert lowest["contribution"].isna().all() and lowest["score"].tolist() == [3, -1] and not lowest.attrs["linear"]
    formula = store.explain(date="2026-07-06", code="600001.SH", factor="mean_score").attrs["formula"]
    assert formula == DEFAULT["mean_score"].__doc__


def test_every_shipped_factor_is_explained(tmp_path):
    """Means, sums and counts over the news are split; ratios, extremes and deviations show their formula."""
    universe = make_universe(market_days(), [f"60000{k}.SH" for k in (1, 2, 3, 4)])
    factors = {
        name: f
        for name, f in SHIPPED.items()
        if not name.endswith("_all") and name.removesuffix("_score") not in EVENT_GROUPS
    }
    store, coverage = PanelStore(tmp_path, factors=factors), make_coverage("2026-03-01", "2026-08-31")
    links = random_links(600).assign(source="wire_a")
    cells = store.update(links, universe, coverage=coverage).set_index(["date", "code"])
    late = cells[cells.index.get_level_values("date") > "2026-07-10"]
    (day, code), split = late["n_news"].idxmax(), set()
    for factor in factors:
        found = store.explain(date=day, code=code, factor=factor)
        value = cells.loc[(day, code), factor]
        assert found["age"].between(0, lookback_of(factors[factor]) - 1).all() and found.attrs["formula"]
        if not np.isnan(value) and found.attrs["linear"]:
            assert found["contribution"].sum() == pytest.approx(value, abs=1e-9)
            split.add(factor)
    assert {"mean_score", "shrunk_score", "news_count", "decayed_score", "score_surprise", "score_change"} <= split
    assert not split & {"minimum_score", "abnormal_attention", "disagreement"}


@pytest.mark.parametrize("by", ["industry_from_stocks", "industry_both"])
def test_other_panels_day_by_day(tmp_path, by):
    links, universe = random_links(200), make_universe(market_days(), ["600001.SH", "600002.SH", "600003.SH"])
    links["story_id"] = links["news_id"].where(np.arange(len(links)) % 3 > 0, "n1")
    store = PanelStore(tmp_path, by=by, multi="share")
    for days in (links["available_at"] < "2026-06-20", links["available_at"] >= "2026-06-20"):
        update(store, links[days], universe)
    expected = panel(links, universe, by=by, multi="share", coverage=COVERAGE)
    pd.testing.assert_frame_equal(store.read(), expected, rtol=1e-12)
    assert store.read().attrs == expected.attrs


def test_explain_by_industry_and_as_of(tmp_path):
    store = PanelStore(tmp_path, by="industry")
    update(store, LINKS.iloc[:10])
    moment, day = store.history()[0], "2026-07-06"
    update(store, LINKS)
    for as_of in (moment, None):
        table = store.read(as_of=as_of).set_index(["date", "industry"])
        found = store.explain(date=day, industry="电子", factor="decayed_score", as_of=as_of)
        assert found["contribution"].sum() == pytest.approx(table.loc[(pd.Timestamp(day), "电子"), "decayed_score"])
    for options, message in (({"code": "600001.SH"}, "industry"), ({"industry": "银行"}, "must have a cell")):
        with pytest.raises(StoreError, match=message):
            store.explain(date=day, factor="mean_score", **options)
    with pytest.raises(StoreError, match="must be one of mean_score"):
        store.explain(date=day, industry="电子", factor="mood")


def test_explain_a_mean_of_stocks_by_hand(tmp_path):
    """Two banks worth 3 and 1 with scores of 2 and −1 and 3: the mean is 3/4·2 + 1/4·(−1 + 3)/2."""
    links = make_links(
        [
            ("a", "2026-07-06 08:00:00", "600001.SH", 2), ("b", "2026-07-06 08:00:00", "600002.SH", -1),
            ("c", "2026-07-06 08:30:00", "600002.SH", 3), ("d", "2026-07-06 08:30:00", "600003.SH", 1),
            ("e", "2026-07-03 08:00:00", "600004.SH", -3),
        ]
    )  # fmt: skip
    value = UNIVERSE["code"].map({"600001.SH": 3e9, "600002.SH": 1e9, "600003.SH": 5e9, "600004.SH": 2e9})
    industry = UNIVERSE["code"].map({"600003.SH": "电子"}).fillna("银行").astype("str")
    store = PanelStore(tmp_path, by="industry_from_stocks", factors={**DEFAULT, "best": SHIPPED["minimum_score"]})
    cells = update(store, links, UNIVERSE.assign(circ_mv=value, industry=industry)).set_index(["date", "industry"])
    found = store.explain(date="2026-07-06", industry="银行", factor="mean_score").set_index("news_id")
    assert found["contribution"].round(9).to_dict() == {"a": 1.5, "b": -0.125, "c": 0.375}
    assert found["weight"].to_dict() == {"a": 0.75, "b": 0.25, "c": 0.25} and found.attrs["value"] == 1.75
    decayed = store.explain(date="2026-07-06", industry="银行", factor="decayed_score")
    assert set(decayed["news_id"]) == {"a", "b", "c", "e"}
    assert decayed["contribution"].sum() == pytest.approx(
        cells.loc[(pd.Timestamp("2026-07-06"), "银行"), "decayed_score"]
    )
    best = store.explain(date="2026-07-06", industry="银行", factor="best")
    assert not best.attrs["linear"] and best["contribution"].isna().all()
    early = store.explain(date="2026-07-07", industry="银行", factor="mean_score")
    assert early.empty and np.isnan(early.attrs["value"])


@pytest.mark.parametrize("gone", [0, 1, 2], ids=["the oldest", "one between", "the newest"])
def test_a_manifest_that_was_removed_is_named(tmp_path, gone):
    store = PanelStore(tmp_path)
    for k in (10, 20, 30):
        update(store, LINKS.iloc[:k])
    moments, paths = store.history(), sorted((tmp_path / "manifests").iterdir())
    paths[gone].unlink()
    assert len(store.verify()) == 1 and paths[gone].name in store.verify()[0]
    with pytest.raises(StoreError, match=paths[gone].name):
        store.read(as_of=moments[gone])
    if gone == 2:
        with pytest.raises(StoreError, match=r"delete .*chain to go on"):
            store.read()
        (tmp_path / "chain").unlink()
        update(store, LINKS)
        assert store.verify() == [] and len(store.history()) == 3
    else:
        assert len(store.read())


def test_a_vacuum_leaves_no_gap(tmp_path):
    store = PanelStore(tmp_path)
    for k in (10, 20, 30):
        update(store, LINKS.iloc[:k])
    store.vacuum(before=store.history()[1])
    assert store.verify() == [] and len(store.history()) == 2
    with pytest.raises(StoreError, match="before the first update"):
        store.read(as_of="2026-01-01")
    update(store, LINKS.iloc[:5])
    assert store.verify() == []


def _read_forever(path, known: set, stop, found) -> None:
    """Read while others write; what is read must be one of the states that an update ends in."""
    reads, strange = 0, []
    while not stop.is_set():
        store = PanelStore(path)
        if store.history():
            reads += 1
            if digest(store.read()) not in known:
                strange.append("a partial state")
    found.put((reads, strange))


def digest(table: pd.DataFrame) -> int:
    return int(pd.util.hash_pandas_object(table.select_dtypes("number").round(9), index=False).sum())


def test_a_reader_beside_a_killed_writer_sees_whole_states(tmp_path):
    states = [digest(panel(LINKS.iloc[:k], UNIVERSE, coverage=COVERAGE)) for k in range(5, 31)]
    context = multiprocessing.get_context("fork")
    stop, found = context.Event(), context.SimpleQueue()
    reader = context.Process(target=_read_forever, args=(tmp_path, set(states), stop, found))
    reader.start()
    for delay in (0.1, 0.3, 0.5, 0.8):
        writer = context.Process(target=_update_forever, args=(tmp_path,))
        writer.start()
        time.sleep(delay)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    update(PanelStore(tmp_path), LINKS)
    stop.set()
    reads, strange = found.get()
    reader.join()
    assert reads > 0 and strange == [] and reader.exitcode == 0
    assert digest(PanelStore(tmp_path).read()) == states[-1]
