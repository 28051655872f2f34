"""Fit the small logistic models of ``nf.link`` and write their coefficients and the names' odds.

    python scripts/fit_linking.py DATA --tags TAGS [TAGS ...] [--until 2026-07-26] [--out newsfactor/linking.json]

DATA holds wire/, labels/train.parquet and master/; TAGS are tables of tagged news of the wire and of labels/train (``newsfactor
tag``). Only news before ``--until`` count. ``mentioned`` is fitted on the editors' codes of one wire, mainland shares alone;
``relevance`` on the stocks of labels/train. The models of plain news come first; those of tagged news are the plain log-odds,
scaled, and what the tags add. A name's odds are what is left of its editors' codes when its contexts are accounted for: they
are kept under a short hash of the name, where they are large enough to matter, and for the fit they come from other days.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

import newsfactor as nf
from newsfactor import linking
from newsfactor.linking import COEFFICIENTS, FEATURES, NAME_FEATURES, TAG_FEATURES, Found, find_features, hash_name
from newsfactor.names import NameIndex
from newsfactor.prompting import NO_STOCKS
from newsfactor.schema import TIMEZONE

OBSERVER = "cls"
FOLDS = 5
SMALLEST_ODDS, SHRINKAGE, FEWEST = 0.5, 2.0, 3
PLAIN = [k for k, name in enumerate(FEATURES) if name not in TAG_FEATURES and name != "intercept"]
TEXT = [k for k in PLAIN if FEATURES[k] not in NAME_FEATURES[:3]]
TAGS = [k for k, name in enumerate(FEATURES) if name in TAG_FEATURES]


def main() -> None:
    arguments = parse_arguments()
    until = pd.Timestamp(arguments.until, tz=TIMEZONE)
    securities = read_securities(arguments.data)
    wire = read_wire(arguments.data, until)
    labelled = read_labelled(arguments.data, until)
    tags = pd.concat([pd.read_parquet(path) for path in arguments.tags])
    tags = tags[tags["published_at"] < until].drop_duplicates("news_id")
    model = fit_models(wire, labelled, tags, securities)
    rounded = {name: _round(value) for name, value in model.items()}
    arguments.out.write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")
    print(f"{len(rounded['name_odds'])} names with odds, {arguments.out.stat().st_size / 1024:.0f} KiB")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--tags", type=Path, nargs="+", required=True, help="tables of tagged news")
    parser.add_argument("--until", default="2026-07-26", help="news from this day on are not read")
    parser.add_argument("--out", type=Path, default=COEFFICIENTS)
    return parser.parse_args()


def read_securities(data: Path) -> pd.DataFrame:
    """SECURITIES of the data: mainland and Hong Kong names."""
    master = data / "master"
    mainland = pd.read_parquet(master / "securities.parquet").drop(columns="code")
    abroad = pd.read_parquet(master / "hk_names.parquet")[["ts_code", "name"]]
    names, industries = master / "names_observed.parquet", master / "sw_industry_history.parquet"
    return nf.read_securities(pd.concat([mainland, abroad]), names, industries)


def read_wire(data: Path, until: pd.Timestamp) -> pd.DataFrame:
    """NEWS of the observed wire with the editors' codes."""
    wire = pd.read_parquet(data / "wire" / "news_2026-05-14_2026-07-31.parquet").drop(columns=["subjects", "level"])
    return nf.read_news(wire[(wire["source"] == OBSERVER) & (wire["published_at"] < until)])


def read_labelled(data: Path, until: pd.Timestamp) -> pd.DataFrame:
    """NEWS of the labelled items, the text as content, with the labels' ``names``."""
    table = pd.read_parquet(data / "labels" / "train.parquet")
    table = table[table["published_at"] < until]
    names = table["stocks"].map(lambda text: [] if text == NO_STOCKS else text.split("、"))
    news = table[["news_id", "published_at"]].assign(title="", content=table["text"], source="wire", names=names)
    return nf.read_news(news)


def fit_models(wire: pd.DataFrame, labelled: pd.DataFrame, tags: pd.DataFrame, securities: pd.DataFrame) -> dict:
    """Coefficients by figure and kind of news, and the odds of names."""
    described = describe(wire, securities)
    named = mark_coded(wire, described)
    rows = np.flatnonzero(~np.isnan(named))
    days = wire["published_at"].dt.dayofyear.to_numpy()[described.positions]
    odds = cross_fit_odds(described, named, rows, days)
    model = {"name_odds": make_odds(described, rows, named[rows], fit_text(described, rows, named))}
    put_odds(described.features, odds)
    model["mentioned"] = {"plain": fit(described.features[rows], named[rows], PLAIN)}
    write_odds(model["name_odds"])
    stated = describe(labelled, securities)
    about = mark_about(labelled, stated, securities)
    model["relevance"] = {"plain": fit(stated.features, about, PLAIN)}
    own = tags[tags["news_id"].isin(wire["news_id"])].merge(wire[["news_id", "codes"]], on="news_id")
    model["mentioned"]["tagged"] = fit_tagged(own, mark_coded, model["mentioned"]["plain"], securities, wire)
    own = tags[tags["news_id"].isin(labelled["news_id"]) & (tags["source"] == "wire")]
    own = own.merge(labelled[["news_id", "names"]], on="news_id")
    model["relevance"]["tagged"] = fit_tagged(own, lambda t, f: mark_about(t, f, securities), model["relevance"]["plain"], securities)  # fmt: skip
    return model


def describe(table: pd.DataFrame, securities: pd.DataFrame) -> Found:
    tagged = "sentiment" in table.columns
    return find_features(table if tagged else linking._as_tags(table), securities, tagged=tagged)


def mark_coded(table: pd.DataFrame, found: Found) -> np.ndarray:
    """1 where the editors gave the mention's code, 0 where not, NaN where it is no single mainland share's."""
    codes = [set(codes) for codes in table["codes"]]
    marks = [
        float(m.codes[0] in codes[k]) if len(m.codes) == 1 and not m.codes[0].endswith("HK") else np.nan
        for k, m in zip(found.positions, found.mentions, strict=True)
    ]
    return np.array(marks)


def mark_about(table: pd.DataFrame, found: Found, securities: pd.DataFrame) -> np.ndarray:
    """1 where the labels name the mention's company."""
    index = NameIndex(securities)
    days = linking._days_of(table).tolist()
    about = [
        {code for name in names for code in (name, *(span.code for span in index.resolve(name, day)))}
        for names, day in zip(table["names"], days, strict=True)
    ]
    marks = [bool(about[k] & {m.name, *m.codes}) for k, m in zip(found.positions, found.mentions, strict=True)]
    return np.array(marks, dtype=float)


def fit(features: np.ndarray, marks: np.ndarray, columns: list[int], weights: np.ndarray | None = None) -> dict:
    """A logistic model of these columns as {feature: coefficient}."""
    spread = features[:, columns].std(axis=0)
    used = [column for column, width in zip(columns, spread, strict=True) if width > 0]
    spread = spread[spread > 0]
    fitted = LogisticRegression(C=1.0, max_iter=2000).fit(features[:, used] / spread, marks, weights)
    known = {FEATURES[column]: value for column, value in zip(used, fitted.coef_[0] / spread, strict=True)}
    return {"intercept": float(fitted.intercept_[0]), **known}


def log_odds(features: np.ndarray, known: dict) -> np.ndarray:
    return features @ np.array([known.get(name, 0.0) for name in FEATURES])


def fit_text(found: Found, rows: np.ndarray, marks: np.ndarray) -> np.ndarray:
    """The chance by context alone, names not known."""
    return 1 / (1 + np.exp(-log_odds(found.features[rows], fit(found.features[rows], marks[rows], TEXT))))


def make_odds(found: Found, rows: np.ndarray, marks: np.ndarray, chances: np.ndarray) -> dict[str, float]:
    """What one shrunk Newton step leaves of each name's log-odds; names with little to say are left out."""
    table = pd.DataFrame({"key": [hash_name(found.mentions[row].name) for row in rows], "mark": marks, "chance": chances})
    table["information"] = table["chance"] * (1 - table["chance"])
    sums = table.groupby("key").agg(mark=("mark", "sum"), chance=("chance", "sum"), information=("information", "sum"), n=("mark", "size"))  # fmt: skip
    odds = ((sums["mark"] - sums["chance"]) / (sums["information"] + SHRINKAGE)).clip(-4, 4)
    kept = odds[(odds.abs() >= SMALLEST_ODDS) & (sums["n"] >= FEWEST)]
    return {str(key): round(float(value), 1) for key, value in kept.sort_index().items()}


def cross_fit_odds(found: Found, marks: np.ndarray, rows: np.ndarray, days: np.ndarray) -> np.ndarray:
    """Each mention's odds of its name from the days of the other folds."""
    odds = np.zeros(len(found.mentions))
    chances = fit_text(found, rows, marks)
    folds = days[rows] % FOLDS
    for fold in range(FOLDS):
        others = folds != fold
        known = make_odds(found, rows[others], marks[rows][others], chances[others])
        for row in rows[~others]:
            odds[row] = known.get(hash_name(found.mentions[row].name), 0.0)
    return odds


def put_odds(features: np.ndarray, odds: np.ndarray) -> None:
    """Replace the odds, and what is made of them, in the features."""
    own, bare, inside = (FEATURES.index(name) for name in NAME_FEATURES[:3])
    features[:, own] = odds
    features[:, bare] = odds * features[:, FEATURES.index("no_stock_words")]
    features[:, inside] = odds * features[:, FEATURES.index("inside_word")]


def write_odds(odds: dict[str, float]) -> None:
    """Let the library's own features use the new odds from here on."""
    linking._read_model()["name_odds"] = odds
    linking._odds_of.cache_clear()


def fit_tagged(tags, mark, plain: dict, securities, population=None) -> dict:  # noqa: ANN001
    """Scale of the plain log-odds and what the tags add, as coefficients of all features."""
    found = describe(tags, securities)
    marks = mark(tags, found)
    rows = np.flatnonzero(~np.isnan(marks))
    added = found.features[rows][:, TAGS]
    matrix = np.column_stack([log_odds(found.features[rows], plain), added])
    weights = None
    if population is not None:
        coded = tags["codes"].map(len).to_numpy() > 0
        share = (population["codes"].map(len) > 0).mean() * 0 + 1  # noqa: F841
        weights = np.where(coded[found.positions[rows]], WEIGHT_CODED, WEIGHT_UNCODED)
    fitted = LogisticRegression(C=1.0, max_iter=2000).fit(matrix, marks[rows], weights)
    scale, *extra = fitted.coef_[0]
    known = {name: value * scale for name, value in plain.items()}
    known["intercept"] += float(fitted.intercept_[0])
    return known | dict(zip(TAG_FEATURES, extra, strict=True))


def _round(value):  # noqa: ANN001, ANN202
    return {key: _round(part) if isinstance(part, dict) else round(float(part), 3) for key, part in value.items()}


if __name__ == "__main__":
    main()
