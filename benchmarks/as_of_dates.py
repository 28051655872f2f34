"""Renames, renumbered and relisted shares and namesakes: does the news of a day get the right code?

    python benchmarks/as_of_dates.py DATA

DATA holds master/, prices/daily_2026-01_2026-07.parquet and wire/coded_news_2016_2020.parquet; names are read from it, only
codes, days and counts are printed. The cases of the first table were chosen and checked by hand: a rename of 2026 is the first
day on which the quotes show another name, and where the wire carries the company's notice its day agrees; the older ones
are names under which other news of the day carried the code. The second table puts every such name of 2016 to 2020 to the
test. The observed names partly come from the same providers.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from bundled_model import print_table, read_known_securities
from machine import describe_machine

from newsfactor.codes import normalize_code
from newsfactor.errors import NotAShareError
from newsfactor.linking import link
from newsfactor.names import DAY_MARK, fold_width, strip_marks
from newsfactor.schema import TIMEZONE
from newsfactor.tables import read_news

# Code, a day on which the old name was quoted, one on which the new one was.
RENAMES = (
    ("000595.SZ", "2026-07-10", "2026-07-13"), ("000672.SZ", "2026-06-04", "2026-07-03"),
    ("000736.SZ", "2026-06-12", "2026-07-03"), ("002356.SZ", "2026-07-10", "2026-07-13"),
    ("002476.SZ", "2026-06-12", "2026-07-03"), ("002742.SZ", "2026-06-12", "2026-07-03"),
    ("600676.SH", "2026-07-27", "2026-07-28"), ("603322.SH", "2026-06-05", "2026-07-03"),
    ("603333.SH", "2026-06-12", "2026-07-03"),
)  # fmt: skip
# Code, a day on which news named it otherwise than today.
OLD_NAMES = (
    ("000100.SZ", "2016-05-20"), ("000800.SZ", "2016-04-15"), ("000839.SZ", "2017-03-14"), ("000930.SZ", "2016-04-14"),
    ("000975.SZ", "2016-05-18"), ("002129.SZ", "2016-03-25"), ("300188.SZ", "2016-05-26"), ("600048.SH", "2016-04-07"),
    ("600115.SH", "2016-04-14"), ("600208.SH", "2017-03-10"), ("600515.SH", "2016-05-18"), ("600690.SH", "2018-04-04"),
    ("600720.SH", "2016-03-30"), ("601001.SH", "2016-05-26"), ("601880.SH", "2016-04-01"),
)  # fmt: skip
RENUMBERED = (("839273.BJ", "920273.BJ"), ("834261.BJ", "920261.BJ"))
TODAY = "2026-07-15"


@dataclass(frozen=True)
class Case:
    """A name, as ``code`` bore it on ``borne``, in news of ``day``: whose is it? Nobody's if ``wanted`` is None."""

    what: str
    code: str
    borne: str
    day: str
    wanted: str | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with master/, prices/ and wire/")
    data = parser.parse_args().data
    print(describe_machine(), flush=True)
    securities = read_known_securities(data)
    quotes = pd.read_parquet(data / "prices" / "daily_2026-01_2026-07.parquet", columns=["date", "code", "name"])
    quotes["date"] = quotes["date"].dt.strftime("%Y-%m-%d")
    older = read_older(data)
    names = pd.concat([older, quotes]).set_index(["code", "date"])["name"]
    judge_cases(make_cases(), names, securities)
    judge_older(older, quotes, securities)


def make_cases() -> list[Case]:
    cases = [Case("old name before", code, before, before, code) for code, before, _ in RENAMES]
    cases += [Case("new name after", code, after, after, code) for code, _, after in RENAMES]
    early = ("000595.SZ", "000736.SZ", "600676.SH")
    cases += [Case("new name long before", c, after, "2026-05-06", None) for c, _, after in RENAMES if c in early]
    cases += [Case("old name then", code, day, day, code) for code, day in OLD_NAMES]
    cases += [Case("today's name then", code, TODAY, day, None) for code, day in OLD_NAMES]
    for old, new in RENUMBERED:
        cases += [Case("Beijing, old number", new, "2026-07-06", "2024-05-06", old)]
        cases += [Case("Beijing, new number", new, "2026-07-06", "2026-07-06", new)]
    return [
        *cases,
        Case("namesake that left the market", "600637.SH", TODAY, TODAY, "600637.SH"),
        Case("namesake that left the market", "600827.SH", TODAY, TODAY, "600827.SH"),
        Case("namesake of another listing", "003036.SZ", TODAY, TODAY, "003036.SZ"),
        Case("ex-date", "601390.SH", "2026-07-30", "2026-07-31", "601390.SH"),
        Case("other ST mark", "000793.SZ", "2026-07-30", "2026-07-31", "000793.SZ"),
        Case("before its first trading day", "688836.SH", "2026-07-31", "2026-06-15", None),
    ]


def judge_cases(cases: list[Case], names: pd.Series, securities: pd.DataFrame) -> None:
    known = [last_name(names, case.code, case.borne) for case in cases]
    found = link_names(known, [case.day for case in cases], securities)
    table = pd.DataFrame([(c.what, c.day, c.wanted or "none") for c in cases], columns=["case", "news of", "wanted"])
    table["found"] = found.to_numpy()
    table["right"] = (table["found"] == table["wanted"]).map({True: "yes", False: "no"})
    companies = len({case.code for case in cases})
    print(f"\n{(table['right'] == 'yes').sum()} of {len(table)} right, {companies} companies:\n")
    print_table(table)


def judge_older(older: pd.DataFrame, quotes: pd.DataFrame, securities: pd.DataFrame) -> None:
    """How many names of 2016 to 2020 get the code that the news carried: names borne still, and names given up."""
    rows = older.drop_duplicates(["code", "name", "date"])
    today = quotes.sort_values("date").drop_duplicates("code", keep="last").set_index("code")["name"]
    rows = rows[rows["code"].isin(today.index)].reset_index(drop=True)
    still = rows["name"].map(base) == rows["code"].map(today).map(base)
    found = link_names(rows["name"].tolist(), rows["date"].tolist(), securities)
    result = found.mask(found == rows["code"].to_numpy(), "right").where(lambda codes: codes.isin(["right", "none"]), "another")  # fmt: skip
    counts = pd.crosstab(still.map({True: "borne still", False: "given up"}), result.to_numpy())
    print(f"\n{len(rows)} names by day of 2016 to 2020, of {rows['code'].nunique()} companies:\n")
    print_table(counts.rename_axis(index="name").reset_index())


def read_older(data: Path) -> pd.DataFrame:
    """``date, code, name`` of the older news; names on ex-dates and rows of funds are left out."""
    news = pd.read_parquet(data / "wire" / "coded_news_2016_2020.parquet", columns=["published_at", "code", "name"])
    news = news[news["name"].notna() & ~news["name"].str.match(DAY_MARK).fillna(True).astype(bool)]
    news = news.assign(code=news["code"].map(normalize_or_none), date=news["published_at"].dt.strftime("%Y-%m-%d"))
    return news[news["code"].notna()].sort_values("date")[["date", "code", "name"]]


def normalize_or_none(code: str) -> str | None:
    try:
        return normalize_code(code)
    except NotAShareError:
        return None


def base(name: str) -> str:
    return strip_marks(fold_width(name)).replace(" ", "")


def link_names(names: list[str], days: list[str], securities: pd.DataFrame) -> pd.Series:
    """The codes found for news of each day that begins with the name; ``none`` where there are none."""
    news = pd.DataFrame({"news_id": [f"{k:05d}" for k in range(len(names))], "title": "", "source": "by hand"})
    news["content"] = [f"{name.replace(' ', '')}公告，签订合同。" for name in names]
    news["published_at"] = pd.to_datetime([f"{day} 18:00" for day in days]).tz_localize(TIMEZONE)
    links = link(read_news(news), securities).dropna(subset="code")
    return links.groupby("news_id")["code"].agg(" ".join).reindex(news["news_id"]).fillna("none")


def last_name(names: pd.Series, code: str, day: str) -> str:
    """The name under which the code was last met up to the day."""
    own = names.loc[code]
    return str(own[own.index <= day].iloc[-1])


if __name__ == "__main__":
    main()
