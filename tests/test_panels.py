"""Panels against tables worked out by hand and against a slow loop."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tables_by_hand import make_coverage, make_links, make_universe

from newsfactor.errors import InvalidValueError
from newsfactor.factors import SHIPPED, window
from newsfactor.panels import BY, CoverageWarning, panel

DAYS = ["2026-07-02", "2026-07-03", "2026-07-06", "2026-07-07", "2026-07-08"]
FULL = make_coverage("2026-06-01 00:00", "2026-07-31 00:00")
LINKS = make_links(
    [
        ("n1", "2026-07-03 09:14:59", "600001.SH", 2),
        ("n2", "2026-07-03 09:15:00", "600001.SH", -1),
        ("n3", "2026-07-04 20:00:00", "600001.SH", 3),
        ("n4", "2026-07-06 10:00:00", "300002.SZ", -2),
        ("n5", "2026-07-06 10:00:00", None, 1),
    ]
)
UNIVERSE = make_universe(DAYS, ["600001.SH", "300002.SZ"])


def cells(table: pd.DataFrame, factor: str) -> dict:
    rows = table[table[factor].notna()]
    return {(f"{row.date:%m-%d}", row.code): round(getattr(row, factor), 6) for row in rows.itertuples()}


def test_cells_by_hand():
    table = panel(LINKS, UNIVERSE, coverage=FULL)
    assert cells(table, "mean_level") == {
        ("07-03", "600001.SH"): 2.0, ("07-06", "600001.SH"): 1.0, ("07-07", "300002.SZ"): -2.0,
    }  # fmt: skip
    assert cells(table, "news_count") == {
        ("07-03", "600001.SH"): 1.0, ("07-06", "600001.SH"): 2.0, ("07-07", "300002.SZ"): 1.0,
    }  # fmt: skip
    third = 0.5 ** (1 / 3)
    decayed = {key: round(value, 4) for key, value in cells(table, "decayed_score").items()}
    assert decayed[("07-06", "600001.SH")] == round(2 * third + 2, 4)
    assert decayed[("07-07", "600001.SH")] == round(2 * third**2 + 2 * third, 4)
    assert (table["known_at"] == table["date"].dt.tz_localize("Asia/Shanghai") + pd.Timedelta("9h15min")).all()
    assert table.loc[table["mean_level"].isna(), "n_news"].eq(0).all()
    assert table.attrs["rows"] == {"in": 5, "about no stock": 1, "outside the universe": 0, "used": 4}


def test_no_news_is_missing_and_never_zero():
    table = panel(
        LINKS, UNIVERSE, coverage=FULL, factors={"level": lambda links, cell: links["level"].groupby(cell).mean()}
    )
    assert len(table) == 3 and not (table["level"] == 0).any()


@pytest.mark.parametrize("cutoff", ["09:15", "14:50", "15:00"])
def test_equals_a_slow_loop(cutoff):
    rng = np.random.default_rng(1)
    times = pd.Timestamp("2026-07-01", tz="Asia/Shanghai") + pd.to_timedelta(rng.integers(0, 7 * 86_400, 200), unit="s")
    links = make_links(
        [
            (f"n{k}", str(time.tz_localize(None)), rng.choice(["600001.SH", "300002.SZ"]), rng.integers(-3, 4))
            for k, time in enumerate(times)
        ]
    )
    days = ["2026-06-30", "2026-07-01", *DAYS]
    found = panel(links, make_universe(days, ["600001.SH", "300002.SZ"]), cutoff=cutoff, coverage=FULL)
    hour = pd.Timedelta(f"{cutoff}:00")
    for row in found.itertuples():
        day = row.date
        earlier = max(d for d in pd.to_datetime(["2026-06-29", *days]) if d < day)
        low, high = ((d + hour).tz_localize("Asia/Shanghai") for d in (earlier, day))
        inside = [
            link.score for link in links.itertuples()
            if low <= link.available_at < high and link.code == row.code
        ]  # fmt: skip
        assert row.n_news == len(inside)
        assert np.isclose(row.mean_score, np.mean(inside)) if inside else np.isnan(row.mean_score)


def test_unobserved_windows_have_no_counts():
    torn = pd.concat(
        [make_coverage("2026-06-01 00:00", "2026-07-06 12:00"), make_coverage("2026-07-06 18:00", "2026-07-31 00:00")]
    )
    table = panel(LINKS, UNIVERSE, coverage=torn).set_index(["date", "code"])
    hurt = table.loc[(pd.Timestamp("2026-07-07"), "300002.SZ")]
    assert hurt["observed"] == pytest.approx(1 - 6 / 24) and np.isnan(hurt["news_count"]) and hurt["mean_level"] == -2
    whole = table.loc[(pd.Timestamp("2026-07-06"), "600001.SH")]
    assert whole["observed"] == 1 and whole["news_count"] == 2 and whole["decayed_score"] > 0
    later = table.loc[(pd.Timestamp("2026-07-08"), "300002.SZ")]
    assert later["observed"] == 1 and np.isnan(later["decayed_score"])  # its lookback holds the hole


def test_a_missing_day_is_told_from_a_quiet_one():
    """The same news without a source's day: with coverage it is quiet, without it is unobserved."""
    rows = [(f"n{k}", f"2026-07-0{day} {hour:02d}:30:00", "600001.SH", 1) for k, (day, hour) in enumerate(
        (day, hour) for day in range(1, 9) for hour in (3, 8, 13, 18, 23) if day != 7)]  # fmt: skip
    links = make_links(rows)
    given = panel(links, UNIVERSE, coverage=FULL).set_index("date")
    with pytest.warns(CoverageWarning):
        inferred = panel(links, UNIVERSE).set_index("date")
    day = pd.Timestamp("2026-07-08")
    assert given.loc[day, "observed"] == 1 and inferred.loc[day, "observed"] == pytest.approx(20 / 24)
    assert given.loc[day, "news_count"] > 0 and np.isnan(inferred.loc[day, "news_count"])


def test_an_echo_of_the_price_counts_only_among_the_news():
    table = panel(LINKS.assign(reports_price=LINKS["news_id"] == "n3"), UNIVERSE, coverage=FULL).set_index(
        ["date", "code"]
    )
    cell = table.loc[(pd.Timestamp("2026-07-06"), "600001.SH")]
    assert cell["mean_level"] == -1 and cell["n_news"] == 2 and cell["news_count"] == 1


def test_names_outside_the_universe_are_counted():
    table = panel(LINKS, UNIVERSE[UNIVERSE["code"] == "600001.SH"], coverage=FULL)
    assert set(table["code"]) == {"600001.SH"} and table.attrs["rows"]["outside the universe"] == 1


def test_by_industry_each_news_counts_once():
    links = pd.concat([LINKS, LINKS[LINKS["news_id"] == "n4"].assign(code="600001.SH", name="另一家")])
    table = panel(links, UNIVERSE, by="industry", coverage=FULL)
    assert table[table["n_news"] > 0][["industry", "n_news"]].values.tolist() == [["电子", 1], ["电子", 2], ["电子", 2]]
    assert table.attrs["rows"]["same news again"] == 1


def make_company_links() -> pd.DataFrame:
    """Three news of one morning: two tellings of one story about a bank, tagged 电子; one about two companies."""
    links = make_links(
        [
            ("a", "2026-07-06 08:00:00", "600001.SH", 2), ("b", "2026-07-06 08:30:00", "600001.SH", 3),
            ("c", "2026-07-06 09:00:00", "600001.SH", -1), ("c", "2026-07-06 09:00:00", "300002.SZ", -1),
        ]
    )  # fmt: skip
    return links.assign(
        story_id=["a", "a", "c", "c"], is_subject=[True, True, False, True], n_codes=[1, 1, 2, 2],
        stock_industry=["银行", "银行", "银行", "煤炭"], relevance=0.5, p_industry=[1.0, 0.5, 0.5, 0.5],
    )  # fmt: skip


def by_industry(links: pd.DataFrame, universe: pd.DataFrame = UNIVERSE, **options) -> dict:
    factors = {name: SHIPPED[name] for name in ("mean_score", "relevance_score", "news_count")}
    table = panel(links, universe, factors=factors, coverage=FULL, **options)
    columns = ["n_news", "mean_score", "relevance_score", "news_count"]
    return {row["industry"]: [row[name] for name in columns] for row in table.to_dict("records")}


def test_by_industry_tagged_the_relevance_is_the_tagged_industrys():
    found = by_industry(make_company_links(), by="industry_tagged")
    assert found == {"电子": [3, pytest.approx(4 / 3), (2 + 1.5 - 0.5) / 2, 3]}
    assert found == by_industry(make_company_links(), by="industry")


def test_by_industry_both_each_story_counts_once():
    found = by_industry(make_company_links(), by="industry_both")
    assert found == {"电子": [2, 0.5, (2 - 0.5) / 1.5, 2], "银行": [1, 2, 2, 1], "煤炭": [1, -1, -1, 1]}
    shared = by_industry(make_company_links(), by="industry_both", multi="share")
    assert shared["银行"][:2] == [2, pytest.approx((2 - 0.5) / 1.5)] and shared["煤炭"][3] == 0.5


def test_by_industry_from_stocks_capitalisation_weighs():
    universe = UNIVERSE.assign(circ_mv=UNIVERSE["code"].map({"600001.SH": 3e9, "300002.SZ": 1e9}))
    # The first has two news of mean 2.5, the second one of -1.
    assert by_industry(make_company_links(), universe, by="industry_from_stocks") == {
        "电子": [3, (3 * 2.5 - 1) / 4, (3 * 2.5 - 1) / 4, (3 * 2 + 1) / 4]
    }
    one = universe.assign(circ_mv=universe["circ_mv"].where(universe["code"] == "300002.SZ"))
    assert by_industry(make_company_links(), one, by="industry_from_stocks")["电子"][:2] == [3, -1]
    none = universe.assign(circ_mv=np.nan)
    assert by_industry(make_company_links(), none, by="industry_from_stocks")["电子"][:2] == [3, 0.75]


def test_shares_of_news_about_several_companies():
    factors = {name: SHIPPED[name] for name in ("mean_score", "news_count")}
    table = panel(make_company_links(), UNIVERSE, factors=factors, multi="share", coverage=FULL).set_index("code")
    assert table.loc["600001.SH", ["n_news", "mean_score", "news_count"]].tolist() == [3, (2 + 3 - 0.5) / 2.5, 2.5]
    assert table.loc["300002.SZ", ["n_news", "mean_score", "news_count"]].tolist() == [1, -1, 0.5]
    with pytest.raises(InvalidValueError, match="'whole'"):
        panel(LINKS, UNIVERSE, multi="whole", coverage=FULL)


def test_news_before_a_name_is_in_the_universe_counts_when_it_is():
    table = panel(LINKS, UNIVERSE[UNIVERSE["date"] > "2026-07-03"], coverage=FULL).set_index(["date", "code"])
    cell = table.loc[(pd.Timestamp("2026-07-06"), "600001.SH")]
    assert cell["decayed_score"] == pytest.approx(2 * 0.5 ** (1 / 3) + 2)


def test_a_source_counts_from_its_first_start_on():
    """A source that is added later leaves the past as it was."""
    later = make_coverage("2026-07-07 00:00", "2026-07-31 00:00", "wire_b")
    table = panel(LINKS, UNIVERSE, coverage=pd.concat([FULL, later]))
    observed = table.drop_duplicates("date").set_index("date")["observed"]
    assert observed["2026-07-06"] == 1 and observed["2026-07-08"] == 1
    assert observed["2026-07-07"] == pytest.approx((1 + 9.25 / 24) / 2)


def test_inferred_coverage_knows_no_more_than_the_day_did():
    links = make_links([(f"n{k}", f"2026-07-{day:02} 08:00:00", "600001.SH", 1) for k, day in enumerate((2, 3, 6, 8))])
    with pytest.warns(CoverageWarning):
        whole = panel(links, UNIVERSE)
    with pytest.warns(CoverageWarning):
        early = panel(links.iloc[:3], UNIVERSE)
    known = whole["date"] <= "2026-07-07"
    pd.testing.assert_frame_equal(whole[known], early[early["date"] <= "2026-07-07"])
    # After Friday 08:00 a day's silence is taken for quiet; from Saturday 08:00 to Monday's news for absence.
    monday = whole.set_index("date").loc[pd.Timestamp("2026-07-06"), "observed"]
    assert monday == pytest.approx((22.75 + 1.25) / 72)


def test_row_order_index_and_arguments():
    shuffled = LINKS.sample(frac=1, random_state=4)
    shuffled.index = [7] * len(shuffled)
    before = shuffled.copy()
    table = panel(shuffled, UNIVERSE.sample(frac=1, random_state=4), coverage=FULL)
    pd.testing.assert_frame_equal(table, panel(LINKS, UNIVERSE, coverage=FULL))
    pd.testing.assert_frame_equal(shuffled, before)


def test_a_users_factor_with_a_lookback():
    @window(lookback=2)
    def latest(links, cell):
        return links.sort_values("available_at")["level"].groupby(cell).last()

    found = cells(panel(LINKS, UNIVERSE, coverage=FULL, factors={"latest": latest}), "latest")
    assert found[("07-06", "600001.SH")] == 3 and found[("07-07", "600001.SH")] == 3


def test_bad_options_are_named():
    with pytest.raises(InvalidValueError, match="'sector'"):
        panel(LINKS, UNIVERSE, by="sector", coverage=FULL)
    with pytest.raises(InvalidValueError, match="'broken'"):
        panel(LINKS, UNIVERSE, coverage=FULL, factors={"broken": lambda links, cell: 1.0})


@pytest.mark.parametrize("by", BY)
def test_empty_in_empty_out(by):
    key = "code" if by == "stock" else "industry"
    for links, universe in ((LINKS.iloc[:0], UNIVERSE), (LINKS, UNIVERSE.iloc[:0])):
        table = panel(links, universe, by=by, coverage=FULL)
        assert table.empty and table.columns[:5].tolist() == ["date", key, "known_at", "observed", "n_news"]
