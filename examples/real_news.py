"""Real news to an honest verdict: a wire of 2026 and coded announcements of 2016 to 2020, tagged by the bundled model.

    python examples/real_news.py DATA [--cache FOLDER] [--out FOLDER]

DATA holds wire/, prices/ and master/. Prints one table: how much news there was, how much of the panel could be judged,
the smallest mean RankIC that the sample could detect, and the next session's RankIC, raw and incremental, beside its
placebos, before and after the day through which the model was trained. What could not be traded stands apart. The
reports are written to --out. Tagging 85,000 news takes a quarter of an hour on two quiet cores; the journal in --cache keeps it.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import pandas as pd

import newsfactor as nf

FACTORS = ("mean_score", "mean_score_all", "news_count", "decayed_score")
KEY = ["factor", "horizon"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, help="folder of the tags' journal; the user's own if not given")
    parser.add_argument("--out", type=Path, default=Path("real-news"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", UserWarning)
    data, master = options.data, options.data / "master"
    current = pd.read_parquet(master / "securities.parquet").drop(columns="code")
    current = pd.concat([current, pd.read_parquet(master / "hk_names.parquet")[["ts_code", "name"]]], ignore_index=True)
    securities = nf.read_securities(current, master / "names_observed.parquet", master / "sw_industry_history.parquet")
    tagger, cache = nf.Tagger.load(), options.cache or True
    figures, diagnostics = [], []
    for name, news_file, price_file, min_names in (
        ("wire 2026", "news_2026-05-14_2026-07-31", "daily_2026-01_2026-07", 20),
        ("coded 2016-2020", "coded_news_2016_2020", "daily_2018_2021", 5),  # seven items a day
    ):
        tags = tagger.tag(
            nf.clean(nf.read_news(data / "wire" / f"{news_file}.parquet")), securities=securities, cache=cache
        )
        links = nf.link(tags, securities)
        # A few rows stand twice in the older table.
        raw = pd.read_parquet(data / "prices" / f"{price_file}.parquet").drop_duplicates(["date", "code"])
        prices = nf.read_prices(raw)
        universe = nf.universe(securities, prices)
        coverage = None  # of a wire: its silences mean that it was not observed, and are inferred
        if name.startswith("coded"):
            coverage = declare_coverage(links)
            # Adjusted prices: a limit is known to a fifth of a percent only.
            universe = universe.assign(limit_up=universe["limit_up"] * 0.998, limit_down=universe["limit_down"] * 1.002)
        for by in ("stock", "industry"):
            report, whole, row = judge(links, prices, universe, by=by, min_names=min_names, coverage=coverage)
            report.to_html(options.out / f"{name.replace(' ', '_')}_{by}.html")
            figures.append(row.assign(sample_of=f"{name}, by {by}"))
            diagnostics.append(whole.diagnostics.assign(sample_of=f"{name}, by {by}"))
            print(f"{name}, by {by}: {len(tags):,} news, {row['sessions'].iloc[0]} sessions", flush=True)
    print("\n" + to_markdown(pd.concat(figures)))
    print("\nDiagnostics: the gap before and the session of the cell itself. Not tradable.\n")
    print(to_markdown(pd.concat(diagnostics)))


def judge(
    links: pd.DataFrame,
    prices: pd.DataFrame,
    universe: pd.DataFrame,
    *,
    by: str,
    min_names: int,
    coverage: pd.DataFrame | None,
) -> tuple[nf.Evaluation, nf.Evaluation, pd.DataFrame]:
    """The evaluation of a few factors, that of all sessions together, and the rows at the next session.

    The placebos and diagnostics shown are of all sessions, which is no evidence where the model has seen their news.
    """
    factors = {name: nf.factors.SHIPPED[name] for name in FACTORS}
    first, last = prices["date"].min(), prices["date"].max()
    day = links["available_at"].dt.tz_localize(None)
    # Without prices there is nothing to judge, and the store of older news would only lengthen the calendar.
    inside = day.between(first, last + pd.Timedelta(days=1))
    panel = nf.panel(links[inside], universe, by=by, factors=factors, coverage=coverage)
    options = {"horizons": (1, 5), "min_names": min_names}
    report = nf.evaluate(panel, prices, universe, **options)
    panel.attrs = {}
    whole = nf.evaluate(panel, prices, universe, **options)
    rows = report.summary[report.summary["horizon"] == 1]
    rows = pd.concat([whole.summary[whole.summary["horizon"] == 1], rows[rows["sample"] != "all"]])
    rows = rows.sort_values(
        ["factor", "sample"], key=lambda column: column.map({"all": 0, "in": 1, "out": 2}).fillna(0), kind="stable"
    )
    used = whole.coverage[whole.coverage["reason"] == "used"].set_index(KEY)
    known = whole.coverage[~whole.coverage["reason"].isin(["factor_missing", "not_observed"])]
    share = used["rows"] / known.groupby(KEY)["rows"].sum()
    placebo = whole.placebo[whole.placebo["figure"] == "rank_ic"].pivot(index=KEY, columns="placebo", values="p")
    at, everything = pd.MultiIndex.from_frame(rows[KEY]), (rows["sample"] == "all").to_numpy()
    return report, whole, rows.assign(
        news=links.loc[inside, "news_id"].nunique(), sessions=whole.settings["sessions"],
        judged=share.reindex(at).to_numpy(),
        placebo_names=placebo["names"].reindex(at).where(everything).to_numpy(),
        placebo_dates=placebo["dates"].reindex(at).where(everything).to_numpy(),
    )  # fmt: skip


def declare_coverage(links: pd.DataFrame) -> pd.DataFrame:
    """Announcements come a few a day, so that silence says nothing: each source counts as observed throughout."""
    spans = links.groupby("source")["available_at"].agg(["min", "max"]).reset_index()
    return spans.set_axis(["source", "start", "end"], axis=1)


def to_markdown(table: pd.DataFrame) -> str:
    """A table of numbers as texts: |cell|cell|."""
    table = table.sort_values(["sample_of", "factor"], kind="stable")
    shown = table.rename(
        columns={"sample_of": "news and panel", "mean_rank_ic": "RankIC", "incremental_rank_ic": "incremental"}
    )
    wanted = (
        "news and panel", "factor", "sample", "window", "news", "n_days", "judged", "detectable", "RankIC", "low", "high",
        "incremental", "incremental_low", "incremental_high", "q", "placebo_names", "placebo_dates",
    )  # fmt: skip
    shown = shown[[name for name in wanted if name in shown.columns]]
    shown = shown.astype({"n_days": int})
    cells = [[_show(value) for value in row] for row in shown.itertuples(index=False)]
    lines = [list(shown.columns), ["---"] * shown.shape[1], *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _show(value: object) -> str:
    if isinstance(value, float):
        return "–" if pd.isna(value) else f"{value:.3f}"
    return str(value)


if __name__ == "__main__":
    main()
