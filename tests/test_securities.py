"""Names in time, with fictional renames, relistings and nested names."""

from __future__ import annotations

import pandas as pd
import pytest

from newsfactor.errors import InvalidValueError, TableError
from newsfactor.securities import NameIndex, facts_at, find_candidates, read_securities, strip_marks, universe

CURRENT = pd.DataFrame(
    {
        "code": ["600001.SH", "600002.SH", "300003.SZ", "600004.SH", "00005.HK"],
        "name": ["海川重工", "方岳氏炭材", "XD青禾生", "*ST远岫地产", "海川重工"],
        "list_date": ["2001-01-08", "2002-02-04", "2015-03-02", "2003-03-03", None],
        "sw_l1": ["机械设备", "电力设备", "医药生物", "房地产", None],
    }
)
NAMES = pd.DataFrame(
    {
        "code": ["600001.SH", "600001.SH", "300003.SZ", "300003.SZ"],
        "name": ["海川股份", "海川重工", "青禾生物", "XD青禾生"],
        "first_seen": ["2018-01-02", "2020-06-01", "2016-01-04", "2026-07-01"],
        "last_seen": ["2020-03-02", "2026-07-31", "2026-07-31", "2026-07-01"],
    }
)
INDUSTRIES = pd.DataFrame(
    {
        "code": ["600001.SH", "600001.SH"], "start_date": ["2021-07-30", "2023-01-03"],
        "end_date": ["2023-01-03", "9999-12-31"], "sw_l1": ["钢铁", "机械设备"],
    }
)  # fmt: skip


@pytest.fixture
def securities() -> pd.DataFrame:
    return read_securities(CURRENT, NAMES, INDUSTRIES)


def codes(index: NameIndex, name: str, day: str) -> list[tuple[str, str]]:
    moment = pd.Timestamp(day)
    return [(span.code, span.evidence_on(moment)) for span in index.resolve(name, moment)]


def test_a_name_means_what_it_meant_on_the_day(securities):
    index = NameIndex(securities)
    assert codes(index, "海川股份", "2019-05-06") == [("600001.SH", "observed")]
    assert codes(index, "海川股份", "2020-04-15") == [("600001.SH", "inferred")]
    assert codes(index, "海川股份", "2005-04-15") == [("600001.SH", "inferred")]
    assert codes(index, "海川股份", "2020-06-01") == []
    assert codes(index, "海川重工", "2019-05-06") == [("00005.HK", "current")]
    assert codes(index, "海川重工", "2024-05-06") == [("00005.HK", "current"), ("600001.SH", "observed")]


def test_day_marks_are_no_names_and_status_marks_no_part_of_one(securities):
    index = NameIndex(securities)
    assert codes(index, "XD青禾生", "2026-07-01") == []
    assert codes(index, "青禾生物", "2026-07-01") == [("300003.SZ", "observed")]
    assert (
        codes(index, "远岫地产", "2026-07-01")
        == codes(index, "*ST远岫地产", "2026-07-01")
        == [("600004.SH", "current")]
    )
    assert [strip_marks(name) for name in ("SST远岫", "S远岫", "海川芯-UW", "远岫退")] == [
        "远岫",
        "远岫",
        "海川芯",
        "远岫",
    ]


def test_the_longest_name_valid_on_the_day_is_found():
    table = pd.concat([CURRENT, pd.DataFrame({"code": ["600009.SH"], "name": ["方岳氏"]})])
    names = pd.DataFrame(
        {
            "code": ["600002.SH", "600002.SH"], "name": ["炭业股份", "方岳氏炭材"],
            "first_seen": ["2018-01-02", "2022-01-04"], "last_seen": ["2021-12-31", "2026-07-31"],
        }
    )  # fmt: skip
    index = NameIndex(read_securities(table, names))
    text = "方岳氏炭材与海川重工签约"
    assert index.find(text, pd.Timestamp("2024-01-02")) == [(0, "方岳氏炭材"), (6, "海川重工")]
    # Before the long name came into use it must not hide the short one.
    assert index.find(text, pd.Timestamp("2019-01-02")) == [(0, "方岳氏"), (6, "海川重工")]


def test_industry_is_as_of_the_day_and_backcast_before(securities):
    keys = pd.DataFrame(
        {"code": ["600001.SH"] * 4 + ["600999.SH"],
         "date": pd.to_datetime(["2019-01-02", "2021-07-30", "2023-01-02", "2023-01-03", "2023-01-03"])},
        index=[9, 8, 7, 6, 5],
    )  # fmt: skip
    found = facts_at(securities, "sw1", keys)
    assert found["value"].tolist()[:4] == ["机械设备", "钢铁", "钢铁", "机械设备"]
    assert found["evidence"].tolist()[:4] == ["current", "observed", "observed", "observed"]
    assert pd.isna(found["value"].iloc[4]) and list(found.index) == [9, 8, 7, 6, 5]


def test_row_order_of_the_inputs_changes_nothing(securities):
    again = read_securities(CURRENT.sample(frac=1, random_state=1), NAMES[::-1], INDUSTRIES[::-1])
    pd.testing.assert_frame_equal(again, securities)
    pd.testing.assert_frame_equal(read_securities(securities), securities)


def test_bad_tables_are_named():
    with pytest.raises(TableError, match="'name'"):
        read_securities(CURRENT.drop(columns="name"))
    with pytest.raises(InvalidValueError, match="'60000'"):
        read_securities(CURRENT.assign(code=["60000", *CURRENT["code"][1:]]))
    with pytest.raises(TableError, match=r"2026-02-30.*600001\.SH"):
        read_securities(CURRENT.assign(list_date="2026-02-30"))


def test_universe_knows_only_the_past():
    prices = pd.DataFrame(
        {
            "date": pd.to_datetime(["2026-07-06", "2026-07-07"] * 2), "code": ["600001.SH"] * 2 + ["600004.SH"] * 2,
            "open": 10.0, "high": 10.0, "low": 10.0, "close": 10.0, "pre_close": [10.45, 10.0, 2.0, 2.02],
            "amount": [1e6, 0.0, 1e6, 1e6], "circ_mv": [1e9, 2e9, 3e9, 4e9],
        }
    )  # fmt: skip
    table = universe(read_securities(CURRENT, NAMES, INDUSTRIES), prices.sample(frac=1, random_state=0))
    first = table[table["code"] == "600001.SH"].reset_index(drop=True)
    assert first["circ_mv"].isna().tolist() == [True, False] and first.loc[1, "circ_mv"] == 1e9
    assert first["is_suspended"].tolist() == [False, True]
    assert first.loc[0, ["limit_up", "limit_down"]].tolist() == [11.5, 9.41]  # 11.495 and 9.405 round half up
    special = table[table["code"] == "600004.SH"]
    assert special["is_st"].all() and special["limit_up"].tolist() == [2.2, 2.22]  # 10 % from 2026-07-06
    assert first.loc[0, "industry"] == "机械设备"


def test_funds_are_left_out_with_a_count():
    funds = pd.DataFrame({"code": ["510300.SH", "000001.SH"], "name": ["某某ETF", "某指数"]})
    with pytest.warns(UserWarning, match=r"2 codes are no shares.*510300\.SH"):
        table = read_securities(pd.concat([CURRENT, funds]))
    assert set(table["code"]) == set(CURRENT["code"])


def test_sightings_that_overlap_cut_no_name_short_and_carry_none_back():
    names = pd.DataFrame(
        {"code": ["600001.SH"] * 2, "name": ["海川重工", "海川重工甲"],
         "first_seen": ["2018-01-02", "2020-01-02"], "last_seen": ["2026-07-31", "2022-01-04"]}
    )  # fmt: skip
    index = NameIndex(read_securities(CURRENT, names))
    assert codes(index, "海川重工", "2026-07-30") == [("00005.HK", "current"), ("600001.SH", "observed")]
    assert codes(index, "海川重工甲", "2021-01-04") == [("600001.SH", "observed")]
    assert codes(index, "海川重工甲", "2018-01-03") == [("600001.SH", "inferred")]
    assert codes(index, "海川重工甲", "2018-01-02") == []


def test_candidates_have_the_industry_of_the_day(securities):
    times = pd.Series(
        pd.to_datetime(["2022-05-06 21:00", "2026-07-06 08:00", "2026-07-06 08:00"]).tz_localize("Asia/Shanghai")
    )
    texts = ["海川重工与方岳氏炭材签约，海川重工称……", "青禾生物中标，海川重工未中标", "大盘上涨"]
    found = find_candidates(securities, texts, times)
    assert found == [
        {"海川重工": "钢铁", "方岳氏炭材": "电力设备"},
        {"青禾生物": "医药生物", "海川重工": "机械设备"},
        {},
    ]
    assert [list(names) for names in found] == [["海川重工", "方岳氏炭材"], ["青禾生物", "海川重工"], []]


def test_a_name_begins_with_the_listing_and_not_before(securities):
    index = NameIndex(securities)
    assert codes(index, "方岳氏炭材", "2002-02-03") == []
    assert codes(index, "方岳氏炭材", "2002-02-04") == [("600002.SH", "current")]
    # Seen before the listing: the sighting counts. No list date at all: the first class tells it.
    early = NAMES.assign(first_seen=["2000-05-08", *NAMES["first_seen"][1:]])
    assert codes(NameIndex(read_securities(CURRENT, early)), "海川股份", "2000-05-08") == [("600001.SH", "observed")]
    undated = read_securities(CURRENT.drop(columns="list_date"), NAMES, INDUSTRIES)
    assert codes(NameIndex(undated), "海川股份", "2015-12-31") == []


def test_an_old_beijing_code_ends_where_its_successor_begins():
    table = pd.DataFrame(
        {"code": ["831001.BJ", "920101.SH", "920999.BJ"], "name": ["远岫精工", "远岫精工", "青禾精工"]}
    )
    classes = pd.DataFrame(
        {"code": ["920101.SH"], "start_date": ["2022-01-04"], "end_date": [None], "sw_l1": ["机械设备"]}
    )

    def bearer(names: pd.DataFrame | None, day: str) -> list[str]:
        index = NameIndex(read_securities(table, names, classes))
        return [code for code, _ in codes(index, "远岫精工", day)]

    assert bearer(None, "2025-10-08") == ["831001.BJ"] and bearer(None, "2025-10-09") == ["920101.BJ"]
    seen = pd.DataFrame(
        {"code": ["831001.BJ", "920101.SH"], "name": ["远岫精工"] * 2,
         "first_seen": ["2022-01-04", "2025-06-03"], "last_seen": ["2025-05-30", "2026-07-31"]}
    )  # fmt: skip
    assert bearer(seen, "2025-06-02") == ["831001.BJ"] and bearer(seen, "2025-06-03") == ["920101.BJ"]
    known = read_securities(table, seen, classes)
    keys = pd.DataFrame({"code": ["831001.BJ"], "date": pd.to_datetime(["2024-05-06"])})
    assert facts_at(known, "sw1", keys)["value"].tolist() == ["机械设备"]


def test_a_code_without_a_class_of_2021_had_left():
    classes = pd.DataFrame(
        {"code": ["600001.SH", "600002.SH"], "start_date": ["2010-01-04", "2010-01-04"],
         "end_date": ["9999-12-31"] * 2, "sw_l1": ["机械设备", None]}
    )  # fmt: skip
    table = CURRENT.assign(name=["东岳明珠", "东岳明珠", *CURRENT["name"][2:]])
    index = NameIndex(read_securities(table, None, classes))
    assert [code for code, _ in codes(index, "东岳明珠", "2015-05-06")] == ["600001.SH", "600002.SH"]
    assert [code for code, _ in codes(index, "东岳明珠", "2026-07-06")] == ["600001.SH"]


def test_classes_before_the_scheme_of_2021_are_marked():
    classes = INDUSTRIES.assign(start_date=["2015-01-05", "2023-01-03"])
    table = read_securities(CURRENT, NAMES, classes)
    keys = pd.DataFrame({"code": "600001.SH", "date": pd.to_datetime(["2014-05-05", "2016-05-05", "2021-07-30"])})
    found = facts_at(table, "sw1", keys)
    assert found["value"].tolist() == ["机械设备", "钢铁", "钢铁"]
    assert found["evidence"].tolist() == ["current", "inferred", "observed"]


def test_limits_begin_on_the_sixth_session_by_the_calendar():
    listed = pd.DataFrame({"code": ["600777.SH"], "name": ["海川新材"], "list_date": ["2026-07-03"]})
    days = pd.to_datetime(["2026-07-03", "2026-07-06", "2026-07-09", "2026-07-10"])  # Fri, Mon; two have no row
    prices = pd.DataFrame({"date": days, "code": "600777.SH", "amount": 1e6, "circ_mv": 1e9})
    prices = prices.assign(**dict.fromkeys(("open", "high", "low", "close", "pre_close"), 10.0))
    table = universe(read_securities(listed), prices)
    assert table["limit_up"].isna().tolist() == [True, True, True, False]
    assert table.loc[3, ["limit_up", "limit_down"]].tolist() == [11.0, 9.0]
