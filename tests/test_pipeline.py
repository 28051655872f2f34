"""The main job on a small synthetic market, with the bundled model and real files."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import newsfactor as nf
from newsfactor import pipeline
from newsfactor.cli import app
from newsfactor.errors import NewsfactorError
from newsfactor.pipeline import compare_levels, run, true_panel
from newsfactor.prompting import Answer, parse_answer
from newsfactor.schema import LINKS, TAGS, check
from newsfactor.tables import write_table


@pytest.fixture(scope="module")
def market():
    return nf.synthetic_market(40, 40, 0.1, seed=3)


@pytest.fixture(scope="module")
def files(market, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    for name in ("news", "securities", "prices", "coverage"):
        write_table(getattr(market, name), folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    inputs = (files / "news.parquet", files / "securities.parquet", files / "prices.parquet")
    cache = tmp_path_factory.mktemp("journal")
    return run(*inputs, out, coverage=files / "coverage.parquet", dtype="float32", cache=cache, progress=False)


def test_every_table_is_there_and_no_row_is_lost(market, finished):
    tags = check(pd.read_parquet(finished.out / "tags.parquet"), TAGS)
    links = check(pd.read_parquet(finished.out / "links.parquet"), LINKS)
    assert sorted(tags["news_id"]) == sorted(market.news["news_id"]) == sorted(links["news_id"].unique())
    for stage in finished.stages:
        assert stage.into == stage.kept + sum(stage.dropped.values()), stage.name
    for row in tags[tags["status"] == "ok"].itertuples():
        parse_answer(str(Answer(row.event, row.market, row.industry, row.sentiment, tuple(row.stocks))))


def test_days_are_cleaned_as_all_at_once(market):
    whole = nf.clean(market.news)
    day = whole["available_at"].dt.normalize()
    assert (whole["novelty"] < 1).mean() > 0.05
    for _, expected in whole.groupby(day):
        chosen = market.news.loc[expected.index].reset_index(drop=True)
        cleaned = pipeline._clean_after_past(market.news, chosen)
        pd.testing.assert_frame_equal(cleaned, expected.reset_index(drop=True))


def test_links_find_the_company_of_each_news(market, finished):
    links = pd.read_parquet(finished.out / "links.parquet")
    names = market.securities[market.securities["kind"] == "short"].set_index("value")["code"]
    truth = market.labels.assign(code=market.labels["stocks"].str[0].map(names))
    subjects = links[links["is_subject"]].merge(truth, on="news_id", suffixes=("", "_true"))
    assert (subjects["code"] == subjects["code_true"]).mean() > 0.97
    assert len(subjects) > 0.9 * truth["code"].notna().sum()


def test_the_report_is_one_page_with_plots(finished):
    for name in ("report.html", "report_industry.html"):
        page = (finished.out / name).read_text(encoding="utf-8")
        assert page.count("<img") + page.count("<svg") >= 4 and "http://" not in page.replace("http://www.w3.org", "")


def test_the_store_holds_the_panels(finished):
    table = nf.PanelStore(finished.out / "factors" / "stock").read()
    assert {"mean_score", "mean_level", "weighted_score", "news_count", "decayed_score"} <= set(table.columns)
    assert nf.PanelStore(finished.out / "factors" / "industry", by="industry").read()["industry"].notna().all()


def test_true_levels_find_the_planted_ic_and_shifted_dates_do_not():
    """Over 50 markets of standard error near 0.02 at least 45 are within two; a session off, almost none."""
    hits = {shift: 0 for shift in (-1, 0, 1)}
    for seed in range(50):
        small = nf.synthetic_market(60, 120, 0.10, seed=seed)
        tradable = nf.universe(small.securities, small.prices)
        table = true_panel(small, tradable)
        for shift in hits:
            row = judge(small, tradable, table, shift)
            hits[shift] += abs(row["mean_rank_ic"] - 0.10) <= 2 * row["standard_error"]
    assert hits[0] >= 45 and hits[-1] == 0 and hits[1] <= 25


def judge(market, tradable: pd.DataFrame, table: pd.DataFrame, shift: int) -> pd.Series:
    from newsfactor.sessions import known_at, shift_sessions

    moved = table.assign(date=shift_sessions(table["date"], shift).to_numpy())
    moved = moved.assign(known_at=known_at(moved["date"]))
    return nf.evaluate(moved, market.prices, tradable, horizons=(1,)).summary.iloc[0]


def test_shuffled_levels_find_nothing():
    market = nf.synthetic_market(60, 120, 0.10, seed=8)
    figures = compare_levels(market, None).set_index("levels")
    shuffled = figures.loc["shuffled levels"]
    assert abs(shuffled["mean_rank_ic"]) <= 2 * shuffled["standard_error"]


def command(files, out, journal) -> list[str]:
    inputs = [f"--{name}={files / name}.parquet" for name in ("news", "securities", "prices", "coverage")]
    return [
        sys.executable,
        "-m",
        "newsfactor.cli",
        "run",
        *inputs,
        f"--out={out}",
        f"--cache={journal}",
        "--dtype=float32",
    ]


def count(journal) -> int:
    path = journal / "tags.sqlite"
    if not path.exists():
        return 0
    with sqlite3.connect(path, timeout=30) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'answers'").fetchone():
            return 0
        return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])


def test_killed_while_tagging_and_run_again_it_gives_the_same_tables(files, finished, tmp_path):
    journal, out = tmp_path / "journal", tmp_path / "out"
    process = subprocess.Popen(command(files, out, journal), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while count(journal) < 64 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = count(journal)
    assert 64 <= kept < len(pd.read_parquet(files / "news.parquet")) * 0.9, "it was to be killed in the middle"
    subprocess.run(command(files, out, journal), check=True, capture_output=True)
    compare(finished.out, out)


def compare(first, second) -> None:
    one, two = (pd.read_parquet(folder / "tags.parquet") for folder in (first, second))
    probabilities = one.filter(regex="^p_[mp0]").to_numpy()
    top = np.sort(probabilities, axis=1)[:, -2:]
    tie = (top[:, 1] - top[:, 0]) < 1e-5
    for field in ("event", "market", "industry", "sentiment"):
        assert ((one[field] == two[field]) | tie | one[field].isna()).all()
    assert np.allclose(one["score"], two["score"], atol=1e-5, equal_nan=True)
    panels = [nf.PanelStore(folder / "factors" / "stock").read() for folder in (first, second)]
    pd.testing.assert_frame_equal(*panels, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("news", lambda t: t.rename(columns={"published_at": "publishd"}), "published_at"),
        ("news", lambda t: t.assign(published_at=t["published_at"].dt.tz_localize(None)), "timezone"),
        ("news", lambda t: pd.concat([t, t.iloc[:1]]), "news_id"),
        ("news", lambda t: t.iloc[:0], "news"),
        ("prices", lambda t: t.drop(columns="close"), "close"),
        ("prices", lambda t: t.assign(date=t["date"] + pd.Timedelta(days=3650)), "20"),
        ("securities", lambda t: t.drop(columns="value"), "name"),
    ],
)
def test_bad_input_stops_before_tagging_and_names_itself(market, tmp_path, name, change, message):
    tables = {k: getattr(market, k) for k in ("news", "securities", "prices")}
    tables[name] = change(tables[name])
    with pytest.raises(NewsfactorError, match=message):
        run(*tables.values(), tmp_path / "out", coverage=market.coverage, progress=False)
    assert not (tmp_path / "out" / "tags.parquet").exists()


def test_the_command_says_in_one_line_what_is_wrong(files, tmp_path):
    runner = CliRunner()
    prices, securities = files / "prices.parquet", files / "securities.parquet"
    torn = tmp_path / "torn.parquet"
    torn.write_bytes((files / "news.parquet").read_bytes()[:2000])
    for news, named in ((tmp_path, "folder"), (torn, "torn.parquet"), (tmp_path / "none.csv", "none.csv")):
        result = runner.invoke(
            app,
            [
                "run",
                "--news",
                str(news),
                "--securities",
                str(securities),
                "--prices",
                str(prices),
                "--out",
                str(tmp_path / "o"),
            ],
        )
        assert result.exit_code == 2 and named in result.stderr and "Traceback" not in result.output


def test_every_command_and_option_has_help():
    runner = CliRunner()
    assert runner.invoke(app, ["--help"]).exit_code == 0
    import typer

    for command in typer.main.get_command(app).commands.values():
        assert command.help and all(option.help for option in command.params if option.name != "help")
