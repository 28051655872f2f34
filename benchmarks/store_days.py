"""A store updated session by session against one built at once, on a real wire.

    python benchmarks/store_days.py DATA [--tags FILE] [--by stock] [--start 2026-05-14] [--end 2026-07-31] [--all-factors]

The bundled model tags the wire, through a cache where one is given; `--tags` takes a Parquet file of tags instead, and
`--made-up` a level that depends on the news' id, so that nothing has to be tagged. Each session's update brings the
news of its window and its day of the universe. With a fiftieth of the news the wire's own order is broken: they are
handed in five sessions late. After every session the store must be, to 1e-12, what `nf.panel` makes of all that was
handed in so far; after each `--rebuild-every` of them, and at the last, a store built at once from it must have the
same files, byte for byte. DATA holds wire/, prices/ and master/; only figures are printed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
from bundled_model import read_known_securities
from machine import describe_machine

import newsfactor as nf
from newsfactor.factors import DEFAULT, SHIPPED
from newsfactor.schema import LEVELS, PROBABILITIES
from newsfactor.sessions import assign_sessions, default_sessions
from newsfactor.taxonomy import SHENWAN_LEVEL1

EVENTS = ("个股财报", "股权变动", "合同订单", "公司动态", "监管诉讼")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with wire/, prices/ and master/")
    parser.add_argument("--by", default="stock")
    parser.add_argument("--start", default="2026-05-14")
    parser.add_argument("--end", default="2026-07-31")
    parser.add_argument("--tags", type=Path, help="Parquet of TAGS of the wire")
    parser.add_argument("--cache", type=Path, help="folder of a tag cache")
    parser.add_argument("--made-up", action="store_true", help="labels by the news' id")
    parser.add_argument("--rebuild-every", type=int, default=10, help="sessions between two rebuilds")
    parser.add_argument("--all-factors", action="store_true", help="every shipped factor, not the default ones")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(describe_machine(), flush=True)
    factors = SHIPPED if options.all_factors else DEFAULT
    securities = read_known_securities(options.data)
    tags = pd.read_parquet(options.tags) if options.tags else make_tags(options, securities)
    links, universe = nf.link(tags, securities), read_universe(options.data, securities)
    days = default_sessions()
    days = days[(days >= options.start) & (days <= options.end)]
    universe = universe[universe["date"].isin(days)]
    session = assign_sessions(links["available_at"], links["time_precision"])
    links = links[session <= days[-1]]
    arrives = days.searchsorted(session[session <= days[-1]])
    arrives = np.minimum(arrives + 5 * (hash_ids(links["news_id"]) % 50 == 0), len(days) - 1)
    rows, wrong = [], 0
    with tempfile.TemporaryDirectory() as folder:
        store = nf.PanelStore(Path(folder) / "daily", by=options.by, factors=factors)
        for k, day in enumerate(days):
            before = size_of(store.path)
            began = time.perf_counter()
            store.update(links[arrives == k], universe[universe["date"] == day])
            rows.append({"seconds": time.perf_counter() - began, "written MB": (size_of(store.path) - before) / 1e6})
            known = links[arrives <= k], universe[universe["date"] <= day]
            direct = nf.panel(*known, by=options.by, factors=factors)
            near = store.read().attrs == direct.attrs and is_near(store.read(), direct)
            wrong += not near
            if k % options.rebuild_every == options.rebuild_every - 1 or k == len(days) - 1:
                began = time.perf_counter()
                rebuilt = nf.PanelStore(Path(folder) / f"rebuilt{k}", by=options.by, factors=factors)
                rebuilt.update(*known)
                spent = time.perf_counter() - began
                same = [path.read_bytes() for path in store.files()] == [path.read_bytes() for path in rebuilt.files()]
                wrong += not same
                print(f"{day:%Y-%m-%d}: {len(direct)} cells, files equal: {same}, equal to nf.panel: {near}, rebuilt in {spent:.1f} s", flush=True)  # fmt: skip
            elif not near:
                print(f"{day:%Y-%m-%d}: {len(direct)} cells, not equal to nf.panel", flush=True)
        problems = store.verify()
        repeated = len(store.history())
        store.update(links, universe)
        print(f"handed everything once more: {len(store.history()) - repeated} new updates; damaged files: {len(problems)}")  # fmt: skip
        table = pd.DataFrame(rows)
        summary = table.agg(["median", "max"]).round(2).T
        summary["last five"] = table.tail(5).mean().round(2)
        print(
            f"\n{len(days)} updates, each compared with nf.panel: {wrong} comparisons failed; {len(links)} links, {universe['code'].nunique()} codes\n"
        )
        print(summary.to_markdown())
        print(f"\nfolder {size_of(store.path) / 1e6:.0f} MB, of which live {live_size(store) / 1e6:.0f} MB")
    raise SystemExit(1 if wrong or problems else 0)


def make_tags(options: argparse.Namespace, securities: pd.DataFrame) -> pd.DataFrame:
    """TAGS of the wire's texts, by the bundled model or made up."""
    wire = pd.read_parquet(next((options.data / "wire").glob("news_*.parquet")))
    news = nf.clean(nf.read_news(wire[["news_id", "source", "published_at", "title", "content"]]))
    if not options.made_up:
        return nf.Tagger.load().tag(news, securities=securities, cache=options.cache)
    number = hash_ids(news["news_id"])
    level = number % 7
    labels = {"event": pick(EVENTS, number // 7), "market": "中国市场", "industry": pick(SHENWAN_LEVEL1, number // 35)}
    tags = news.assign(
        **labels, sentiment=pick(tuple(LEVELS), level), score=(level - 3) * 0.9, p_event=0.9, p_market=0.9, p_industry=0.8,
        reports_price=number % 11 == 0, status="ok", tagger="made up",
        trained_through=pd.Series(pd.NaT, index=news.index, dtype="datetime64[us]"),
        **{name: np.where(level == k, 0.7, 0.05) for k, name in enumerate(PROBABILITIES)},
    )  # fmt: skip
    for name in ("stocks", "stock_scores"):
        tags[name] = [[] for _ in range(len(tags))]
    return tags


def read_universe(data: Path, securities: pd.DataFrame) -> pd.DataFrame:
    """UNIVERSE of the widest collection of prices; each stock on every session, so that no day is missing."""
    prices = pd.read_parquet(next((data / "prices").glob("daily_2026*.parquet")))
    quotes = nf.read_prices(prices.drop(columns=["name", "src"]).drop_duplicates(["date", "code"]))
    return nf.universe(securities, quotes)


def hash_ids(ids: pd.Series) -> np.ndarray:
    return np.array([zlib.crc32(name.encode()) for name in ids], dtype=np.int64)


def pick(labels: tuple[str, ...], numbers: np.ndarray) -> np.ndarray:
    return np.array(labels, dtype=object)[numbers % len(labels)]


def is_near(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    try:
        pd.testing.assert_frame_equal(one, other, rtol=1e-12, atol=1e-12)
    except AssertionError as error:
        print(error)
        return False
    return True


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def live_size(store: nf.PanelStore) -> int:
    """Bytes that are left when the past updates are forgotten."""
    store.vacuum(before=store.history()[-1])
    return size_of(store.path)


if __name__ == "__main__":
    main()
