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
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from weak_labels import read_known_securities

from newsfactor import linking
from newsfactor.linking import (
    COEFFICIENTS,
    FEATURES,
    NAME_FEATURES,
    ODDS_CONTEXTS,
    TAG_FEATURES,
    Found,
    find_features,
    hash_name,
)
from newsfactor.names import NameIndex
from newsfactor.prompting import NO_STOCKS
from newsfactor.schema import TIMEZONE
from newsfactor.tables import read_news

OBSERVER, LABELLED = "cls", "wire"
Coefficients = dict[str, float]
FOLDS = 5
SMALLEST_ODDS, SHRINKAGE, FEWEST = 0.5, 2.0, 3
ODDS = 1 + len(ODDS_CONTEXTS)
GIVEN = FEATURES.index("code_given")
PLAIN = [k for k, name in enumerate(FEATURES) if name not in TAG_FEATURES and name != "intercept"]
TEXT = [k for k in PLAIN if FEATURES[k] not in NAME_FEATURES[:ODDS]]
TAGS = [k for k, name in enumerate(FEATURES) if name in TAG_FEATURES]


def main() -> None:
    arguments = parse_arguments()
    until = pd.Timestamp(arguments.until, tz=TIMEZONE)
    securities = read_known_securities(arguments.data)
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


def read_wire(data: Path, until: pd.Timestamp) -> pd.DataFrame:
    """NEWS of the observed wire with the editors' codes."""
    wire = pd.read_parquet(data / "wire" / "news_2026-05-14_2026-07-31.parquet").drop(columns=["subjects", "level"])
    return read_news(wire[(wire["source"] == OBSERVER) & (wire["published_at"] < until)])


def read_labelled(data: Path, until: pd.Timestamp) -> pd.DataFrame:
    """NEWS of the labelled items, the text as content, with the labels' ``names``."""
    table = pd.read_parquet(data / "labels" / "train.parquet")
    table = table[table["published_at"] < until]
    names = table["stocks"].map(lambda text: [] if text == NO_STOCKS else text.split("、"))
    news = table[["news_id", "published_at"]].assign(title="", content=table["text"], source=LABELLED, names=names)
    return read_news(news)


def fit_models(
    wire: pd.DataFrame, labelled: pd.DataFrame, tags: pd.DataFrame, securities: pd.DataFrame
) -> dict[str, Any]:
    """Coefficients by figure and kind of news, and the odds of names."""
    described = describe(wire, securities)
    marks = mark_coded(wire, described)
    # Editors give the share 机器人 to news of the theme 机器人概念: such slips teach nothing.
    themed = (described.features[:, FEATURES.index("themed")] > 0) & (described.features[:, GIVEN] == 0)
    marks[themed & (marks == 1)] = np.nan
    odds, cross_fitted = make_all_odds(described, marks, wire["published_at"].dt.dayofyear.to_numpy())
    put_odds(described.features, cross_fitted)
    write_odds(odds)
    own = tags.merge(wire[["news_id", "codes"]], on="news_id")
    read = describe(own, securities)
    weights = weigh(own, wire, read, described)
    mentioned = fit_pair(described, marks, read, mark_coded(own, read), weights)
    stated = describe(labelled, securities)
    own = tags[tags["source"] == LABELLED].merge(labelled[["news_id", "names"]], on="news_id")
    read = describe(own, securities)
    marks = mark_about(labelled, stated, securities)
    relevance = fit_pair(stated, marks, read, mark_about(own, read, securities), np.ones(len(read.mentions)))
    return {"mentioned": mentioned, "relevance": relevance, "name_odds": odds}


def fit_pair(
    plain: Found, marks: np.ndarray, tagged: Found, tagged_marks: np.ndarray, weights: np.ndarray
) -> dict[str, Coefficients]:
    """The models of plain and of tagged news, and the thresholds of their best F1."""
    models = {"plain": fit(plain.features, marks, PLAIN)}
    models["tagged"] = fit_tagged(tagged, tagged_marks, models["plain"], weights)
    cuts = {
        "plain": choose_threshold(log_odds(plain.features, models["plain"]), marks, np.ones(len(marks))),
        "tagged": choose_threshold(log_odds(tagged.features, models["tagged"]), tagged_marks, weights),
    }
    return models | {"thresholds": cuts}


def choose_threshold(values: np.ndarray, marks: np.ndarray, weights: np.ndarray) -> float:
    """The chance at which F1 is highest: the middle of those whose F1 comes within 0.002 of it."""
    rows = np.flatnonzero(~np.isnan(marks))
    rows = rows[np.argsort(-values[rows])]
    hits, found = np.cumsum(weights[rows] * marks[rows]), np.cumsum(weights[rows])
    scores = 2 * hits / (found + hits[-1])
    near = 1 / (1 + np.exp(-values[rows[scores >= scores.max() - 0.002]]))
    return float((near.min() + near.max()) / 2)


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


def fit(features: np.ndarray, marks: np.ndarray, columns: list[int]) -> Coefficients:
    """A logistic model of these columns as {feature: coefficient}; rows without a mark do not count."""
    rows = ~np.isnan(marks)
    spread = features[rows][:, columns].std(axis=0)
    used = [column for column, width in zip(columns, spread, strict=True) if width > 0]
    spread = spread[spread > 0]
    fitted = LogisticRegression(C=1.0, max_iter=2000).fit(features[rows][:, used] / spread, marks[rows])
    known = {FEATURES[column]: float(value) for column, value in zip(used, fitted.coef_[0] / spread, strict=True)}
    return {"intercept": float(fitted.intercept_[0]), **known}


def log_odds(features: np.ndarray, known: Coefficients) -> np.ndarray:
    values: np.ndarray = features @ np.array([known.get(name, 0.0) for name in FEATURES])
    return values


def make_all_odds(found: Found, marks: np.ndarray, days: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """The odds of names, and for each mention those of its name from the days of the other folds."""
    keys = np.array([hash_name(mention.name) for mention in found.mentions])
    chances = 1 / (1 + np.exp(-log_odds(found.features, fit(found.features, marks, TEXT))))
    marked, folds = ~np.isnan(marks), days[found.positions] % FOLDS
    odds = np.zeros(len(keys))
    for fold in range(FOLDS):
        rows = marked & (folds != fold)
        known = make_odds(keys[rows], marks[rows], chances[rows])
        odds[folds == fold] = [known.get(key, 0.0) for key in keys[folds == fold]]
    return make_odds(keys[marked], marks[marked], chances[marked]), odds


def make_odds(keys: np.ndarray, marks: np.ndarray, chances: np.ndarray) -> dict[str, float]:
    """What one shrunk Newton step leaves of each name's log-odds; names with little to say are left out."""
    table = pd.DataFrame({"left": marks - chances, "information": chances * (1 - chances), "n": 1})
    sums = table.groupby(keys).sum()
    odds = (sums["left"] / (sums["information"] + SHRINKAGE)).clip(-4, 4)
    kept = odds[(odds.abs() >= SMALLEST_ODDS) & (sums["n"] >= FEWEST)]
    return {str(key): round(float(value), 1) for key, value in kept.sort_index().items()}


def put_odds(features: np.ndarray, odds: np.ndarray) -> None:
    """Replace the odds, and what is made of them, in the features."""
    features[:, FEATURES.index("name_odds")] = odds
    for context in ODDS_CONTEXTS:
        features[:, FEATURES.index(f"name_odds_{context}")] = odds * features[:, FEATURES.index(context)]


def write_odds(odds: dict[str, float]) -> None:
    """Let the library's own features use the new odds from here on."""
    linking._read_model()["name_odds"] = odds
    linking._odds_of.cache_clear()


def fit_tagged(found: Found, marks: np.ndarray, plain: Coefficients, weights: np.ndarray) -> Coefficients:
    """Scale of the plain log-odds and what the tags add, as coefficients of all features."""
    rows = np.flatnonzero(~np.isnan(marks))
    matrix = np.column_stack([log_odds(found.features[rows], plain), found.features[rows][:, TAGS]])
    fitted = LogisticRegression(C=1.0, max_iter=2000).fit(matrix, marks[rows], weights[rows])
    scale, *added = fitted.coef_[0]
    known = {name: value * scale for name, value in plain.items()} | dict(zip(TAG_FEATURES, added, strict=True))
    return known | {"intercept": known["intercept"] + float(fitted.intercept_[0])}


def weigh(tags: pd.DataFrame, wire: pd.DataFrame, found: Found, described: Found) -> np.ndarray:
    """Weights that give coded and uncoded news among the tagged ones their share of all mentions of the wire."""
    coded = [(table["codes"].map(len) > 0).to_numpy()[part.positions] for table, part in ((tags, found), (wire, described))]  # fmt: skip
    ratios = [(coded[1] == kind).sum() / max((coded[0] == kind).sum(), 1) for kind in (False, True)]
    weights = np.where(coded[0], ratios[1], ratios[0])
    scaled: np.ndarray = weights / weights.mean()
    return scaled


def _round(value: dict[str, Any]) -> dict[str, Any]:
    return {key: _round(part) if isinstance(part, dict) else round(float(part), 3) for key, part in value.items()}


if __name__ == "__main__":
    main()
