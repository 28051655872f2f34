"""Tags against gold labels: every figure with an interval by story."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from newsfactor.errors import InvalidValueError, TableError
from newsfactor.prompting import NO_STOCKS, news_text, strip_control
from newsfactor.schema import LEVELS, PROBABILITIES, SENTIMENTS
from newsfactor.taxonomy import Taxonomy

Array = NDArray[np.float64]

CLOSED = ("event", "market", "industry", "sentiment")
FIELDS = (*CLOSED, "stocks")
INVALID = "invalid"
BINS = 10

NUMBERS = ("score", *PROBABILITIES, "p_event", "p_market", "p_industry")
_UNANSWERED = ("empty", "failed", INVALID)
# Numbers in one block of resampling weights: 32 MB, whatever the number of items.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class Scorecard:
    """The result of `score_tags`; printing it gives one screen of text.

    Attributes
    ----------
    figures : DataFrame
        ``field, metric, value, low, high, n``: the figure, its 95% interval, and the number of items (names
        for precision, recall and F1 of stocks) that it rests on. What cannot be computed is NaN.
    confusion : mapping
        For each closed field a frame of counts: a row for each gold label, a column for each predicted one
        and a last column ``invalid``.
    by_label : DataFrame
        ``field, label, precision, recall, f1, support``; precision is NaN for a label that was never
        predicted, recall for one that is not in gold.
    counts : mapping
        ``items`` of gold, their ``stories``, those ``missing`` in the tags, those ``invalid`` (missing ones
        among them), and tags ``ignored`` because they have no gold.
    """

    figures: pd.DataFrame
    confusion: Mapping[str, pd.DataFrame]
    by_label: pd.DataFrame
    counts: Mapping[str, int]

    def __str__(self) -> str:
        count = self.counts
        shown = self.figures[self.figures["value"].notna()]
        interval = [f"{low:.3f} to {high:.3f}" for low, high in zip(shown["low"], shown["high"], strict=True)]
        table = pd.DataFrame({
            "field": shown["field"].mask(shown["field"].duplicated(), ""), "metric": shown["metric"],
            "value": shown["value"].map("{:.3f}".format), "95% interval": interval, "n": shown["n"],
        }).replace("nan to nan", "–")  # fmt: skip
        return "\n".join([
            f"Scorecard on {count['items']:,} items of {count['stories']:,} stories: {count['invalid']:,} without a"
            f" valid answer ({count['missing']:,} not in the tags), {count['ignored']:,} tags without gold ignored",
            align_text(table), "\nSentiment: gold in rows, predicted in columns",
            align_text(self.confusion["sentiment"].reset_index().rename_axis(columns=None)),
        ])  # fmt: skip

    def value(self, field: str, metric: str) -> float:
        """One figure, such as ``value("sentiment", "kappa")``.

        Raises
        ------
        InvalidValueError
            If there is no such figure; it lists the field's metrics.
        """
        rows = self.figures[self.figures["field"] == field]
        found = rows.loc[rows["metric"] == metric, "value"]
        if found.empty:
            known = ", ".join(rows["metric"] if len(rows) else self.figures["field"].unique())
            raise InvalidValueError("metric" if len(rows) else "field", metric if len(rows) else field, f"must be one of {known}")  # fmt: skip
        return float(found.iloc[0])

    def to_dict(self) -> dict[str, Any]:
        """The scorecard as plain JSON types, NaN as None; `from_dict` reads it back."""
        confusion = {
            field: {"gold": list(table.index), "predicted": list(table.columns), "counts": table.to_numpy().tolist()}
            for field, table in self.confusion.items()
        }
        return {
            "counts": dict(self.counts),
            "figures": _to_records(self.figures),
            "confusion": confusion,
            "by_label": _to_records(self.by_label),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Scorecard:
        """Read back what `to_dict` gave, also after a round through a JSON file."""
        confusion = {
            field: _name_axes(pd.DataFrame(table["counts"], index=table["gold"], columns=table["predicted"]))
            for field, table in record["confusion"].items()
        }
        figures = pd.DataFrame(record["figures"]).astype(dict.fromkeys(("value", "low", "high"), float))
        by_label = pd.DataFrame(record["by_label"]).astype(dict.fromkeys(("precision", "recall", "f1"), float))
        return cls(figures, confusion, by_label, dict(record["counts"]))


def score_tags(gold: pd.DataFrame, tags: pd.DataFrame, *, repeats: int = 1000, seed: int = 0) -> Scorecard:
    """Judge tags against gold labels, each figure with a bootstrap interval by story.

    Rows are matched on ``news_id`` where both frames have it throughout, else on the text. An item without a row,
    with the status ``empty``, ``failed`` or ``invalid``, or without a readable label in any closed field has no
    valid answer: it is wrong in every field and counts in the invalid rate.

    - ``accuracy`` of each field; stocks are equal if the sets of names are. ``answer exact_match``: all five fields.
    - ``macro_f1``: mean of ``2 TP / (gold + predicted)`` over the labels that are in gold.
    - ``polarity_accuracy``: equal signs of the level. ``sign_flips``: share of non-neutral gold that was given the
      opposite sign; neutral and invalid answers are no flips. ``extremes_recall``: recall of the levels −3 and +3
      together. ``within_one_level``: at most one level off.
    - ``kappa``: Cohen's, weighted by ``((i - j) / 6) ** 2``; an invalid answer is a category of its own at the
      largest distance, weight 1, from every level. NaN if no disagreement could arise by chance.
    - ``spearman``: rank correlation of ``score`` (of the level where absent) with the gold level over valid answers.
    - ``rps``: ranked probability score ``sum_k (F_k - O_k) ** 2 / 6`` of the cumulative probabilities of the seven
      levels (Epstein 1969, divided by its maximum); an invalid answer has 1, the worst. ``rps_skill``: one less
      its ratio to the score of always giving gold's own frequencies.
    - ``calibration_error`` of the chosen label's probability over valid answers: the root of the debiased squared
      error ``sum_b n_b / n * ((p_b - y_b) ** 2 - y_b (1 - y_b) / (n_b - 1))``, not below 0, over 10 bins of equal
      mass, p_b and y_b being the means of probability and correctness (Kumar, Liang & Ma 2019). NaN below 20 answers.
    - ``precision, recall, f1`` of stocks: micro, over all names.

    Intervals are percentiles of resampled stories (``story_id`` of gold, else of the tags, else each item is its
    own); resamples in which a figure does not exist are left out. For the calibration error a resample is debiased
    twice: it has the noise of the sample and that of resampling.

    Parameters
    ----------
    gold : DataFrame
        ``event, market, industry, sentiment, stocks`` and ``news_id``, ``text`` or ``title`` and ``content``.
    tags : DataFrame
        TAGS, or a frame such as gold. Figures of absent probabilities are NaN. Rows without gold are ignored and
        counted.
    repeats : int
        Resamples; 0 for no intervals.
    seed : int
        Of the resampling.

    Returns
    -------
    Scorecard
        Intervals are NaN for a single story.

    Raises
    ------
    TableError
        If a column or a gold label is missing, a key is repeated, or no gold item has a row in the tags.
    InvalidValueError
        If ``repeats`` is negative.

    Examples
    --------
    >>> gold = pd.DataFrame({"text": ["海川重工中标"], "event": ["合同订单"], "market": ["中国市场"],
    ...                      "industry": ["机械设备"], "sentiment": ["一般正面"], "stocks": [["海川重工"]]})
    >>> score_tags(gold, gold.assign(sentiment="轻微正面")).value("sentiment", "within_one_level")
    1.0
    """
    if not isinstance(repeats, int | np.integer) or repeats < 0:
        raise InvalidValueError("repeats", repeats, "must be a whole number of at least 0")
    pairs = _match(read_answers(gold, "gold"), read_answers(tags, "tags"))
    figures = [figure for field in CLOSED for figure in _closed_figures(pairs, field)]
    figures += _stock_figures(pairs) + _answer_figures(pairs)
    confusion = {field: _tabulate(pairs, field) for field in CLOSED}
    by_label = pd.concat([_score_labels(field, table) for field, table in confusion.items()], ignore_index=True)
    counts = {
        "items": len(pairs.gold), "stories": int(pairs.stories.max()) + 1, "missing": int((pairs.tags["status"] == "missing").sum()),
        INVALID: int(pairs.invalid.sum()), "ignored": pairs.ignored,
    }  # fmt: skip
    return Scorecard(_estimate(figures, pairs.stories, repeats, seed), confusion, by_label, counts)


def read_answers(frame: pd.DataFrame, parameter: str) -> pd.DataFrame:
    """Keys, fields and numbers of a frame; the fields of a row without a valid answer are null."""
    if not isinstance(frame, pd.DataFrame):
        raise TableError(parameter, type(frame).__name__, "must be a DataFrame of labels or TAGS")
    if missing := [name for name in FIELDS if name not in frame.columns]:
        raise TableError(parameter, [str(name) for name in frame.columns], f"needs the column {missing[0]!r}")
    answers = frame.reset_index(drop=True).reindex(columns=["news_id", "story_id", "status", *FIELDS, *NUMBERS])
    answers = answers.astype(dict.fromkeys(("news_id", "story_id", "status", *CLOSED), "str"))
    answers["text"] = _read_texts(frame)
    answers["status"] = answers["status"].fillna("ok")
    answers["stocks"] = pd.Series([_to_names(value) for value in answers["stocks"]], dtype=object)
    for name in NUMBERS:
        answers[name] = pd.to_numeric(answers[name], errors="coerce").astype(float)
    unanswered = answers["status"].isin(_UNANSWERED) | answers[list(CLOSED)].isna().any(axis=1)
    unanswered |= ~answers["sentiment"].isin(SENTIMENTS)
    answers.loc[unanswered, [*FIELDS, *NUMBERS]] = np.nan
    return answers


def _read_texts(frame: pd.DataFrame) -> pd.Series:
    if "text" in frame.columns:
        texts = frame["text"].tolist()
    elif {"title", "content"} & set(frame.columns):
        parts = frame.reindex(columns=["title", "content"]).astype("str").fillna("")
        texts = [news_text(title, content) for title, content in zip(parts["title"], parts["content"], strict=True)]
    else:
        texts = [None] * len(frame)
    return pd.Series(texts, dtype="str")


def _to_names(value: Any) -> frozenset[str] | None:
    """The names of a cell: a list, or the text that a csv file holds in its place."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.startswith("[") else value.split("、")
        except ValueError:
            return None
    if not isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return None
    return frozenset(str(name) for name in value) - {"", NO_STOCKS}


class _Pairs(NamedTuple):
    """Gold beside the answers, row by row; ``stories`` numbers the clusters from 0."""

    gold: pd.DataFrame
    tags: pd.DataFrame
    invalid: NDArray[np.bool_]
    stories: NDArray[np.intp]
    ignored: int


def _match(gold: pd.DataFrame, tags: pd.DataFrame) -> _Pairs:
    key = choose_key(gold, tags)
    if gold.empty:
        raise TableError("gold", 0, "must hold at least one item")
    bad = gold[list(FIELDS)].isna().any(axis=1)
    if bad.any():
        requirement = "must hold all five labels in every row, the sentiment one of the seven"
        raise TableError("gold", f"{bad.sum()} rows without", requirement, f"row {int(bad.to_numpy().argmax())}")
    refuse_repeats(gold, key, "gold")
    found = tags[tags[key].isin(gold[key])]
    if found.empty:
        raise no_overlap("tags", tags, key)
    # Only what is judged must be unique: tags repeat the text of reposts.
    refuse_repeats(found, key, "tags")
    aligned = look_up(found, key, gold[key])
    numbers, names = pd.factorize(gold["story_id"].fillna(aligned["story_id"]))
    alone = numbers < 0
    numbers[alone] = len(names) + np.arange(alone.sum())
    return _Pairs(gold, aligned, aligned["sentiment"].isna().to_numpy(), numbers, len(tags) - len(found))


def choose_key(first: pd.DataFrame, second: pd.DataFrame) -> str:
    if first["news_id"].notna().all() and second["news_id"].notna().all():
        return "news_id"
    return "text"


def refuse_repeats(answers: pd.DataFrame, key: str, parameter: str) -> None:
    for bad, requirement in ((answers[key].isna(), "must not be missing"), (answers[key].duplicated(), "must occur once")):  # fmt: skip
        if bad.any():
            row = int(answers.index[bad][0])
            remedy = "keep one row of each, or give both frames a news_id"
            raise TableError(f"{parameter}[{key!r}]", answers[key][row], requirement, f"row {row}", remedy)


def no_overlap(parameter: str, answers: pd.DataFrame, key: str) -> TableError:
    example = answers[key].iloc[0] if len(answers) else None
    remedy = "drop news_id from one to match on the text" if key == "news_id" else "the texts must be the same"
    return TableError(f"{parameter}[{key!r}]", example, "must share items with the other frame", remedy=remedy)


def look_up(answers: pd.DataFrame, key: str, keys: pd.Series) -> pd.DataFrame:
    found = answers.set_index(key).reindex(keys).reset_index()
    found["status"] = found["status"].fillna("missing")
    return found


class _Figure(NamedTuple):
    """A figure as a function of weights (resamples × items) to one value for each resample."""

    field: str
    metric: str
    n: int
    estimate: Callable[[Array], Array]
    resampled: Callable[[Array], Array] | None = None


def _closed_figures(pairs: _Pairs, field: str) -> list[_Figure]:
    gold, tags = pairs.gold[field], pairs.tags[field]
    labels = _order_labels(pairs, field)
    right = (gold == tags).to_numpy()
    figures = [
        _ratio(field, "accuracy", right),
        _macro_f1(field, _encode(gold, labels), _encode(tags, labels), len(labels)),
    ]
    if field == "sentiment":
        figures += _sentiment_figures(pairs)
        chosen = probability_of(pairs.tags, to_levels(pairs.tags))
    else:
        chosen = _to_array(pairs.tags, [f"p_{field}"])[:, 0]
    return [*figures, _calibration(field, chosen, right)]


def _sentiment_figures(pairs: _Pairs) -> list[_Figure]:
    level, given = to_levels(pairs.gold), to_levels(pairs.tags)
    score = _to_array(pairs.tags, ["score"])[:, 0]
    # An invalid answer's level is NaN, whose sign is NaN: it equals nothing.
    return [
        _ratio("sentiment", "polarity_accuracy", np.sign(given) == np.sign(level)),
        _ratio("sentiment", "sign_flips", given * level < 0, level != 0),
        _ratio("sentiment", "extremes_recall", (given == level) & (abs(level) == 3), abs(level) == 3),
        _ratio("sentiment", "within_one_level", abs(given - level) <= 1),
        _kappa(level, given),
        _spearman(np.where(np.isnan(score), given, score), level),
        *_ranked_probability(_to_array(pairs.tags, PROBABILITIES), level, pairs.invalid),
    ]


def _stock_figures(pairs: _Pairs) -> list[_Figure]:
    given = [names if isinstance(names, frozenset) else frozenset() for names in pairs.tags["stocks"]]
    both = zip(pairs.gold["stocks"], given, strict=True)
    found = np.array([len(wanted & names) for wanted, names in both], dtype=float)
    wanted = pairs.gold["stocks"].map(len).to_numpy(float)
    named = np.array([len(names) for names in given], dtype=float)
    return [
        _ratio("stocks", "accuracy", (pairs.gold["stocks"] == pairs.tags["stocks"]).to_numpy()),
        _ratio("stocks", "precision", found, named),
        _ratio("stocks", "recall", found, wanted),
        _ratio("stocks", "f1", 2 * found, named + wanted),
    ]


def _answer_figures(pairs: _Pairs) -> list[_Figure]:
    exact = np.logical_and.reduce([(pairs.gold[field] == pairs.tags[field]).to_numpy() for field in FIELDS])
    return [_ratio("answer", "exact_match", exact), _ratio("answer", "invalid_rate", pairs.invalid)]


def _ratio(field: str, metric: str, hits: NDArray[Any], counted: NDArray[Any] | None = None) -> _Figure:
    above = hits.astype(float)
    below = np.ones(len(above)) if counted is None else counted.astype(float)
    return _Figure(field, metric, int(below.sum()), lambda weights: _divide(weights @ above, weights @ below))


def _macro_f1(field: str, gold: NDArray[np.intp], given: NDArray[np.intp], n_labels: int) -> _Figure:
    wanted, named = _one_hot(gold, n_labels), _one_hot(given, n_labels)
    found = wanted * named

    def estimate(weights: Array) -> Array:
        support = weights @ wanted
        f1 = _divide(2 * (weights @ found), support + weights @ named)
        return _divide(np.where(support > 0, f1, 0).sum(axis=1), (support > 0).sum(axis=1))

    return _Figure(field, "macro_f1", len(gold), estimate)


def _kappa(level: Array, given: Array) -> _Figure:
    scale = np.arange(7.0)
    distance = np.column_stack([(scale[:, None] - scale) ** 2 / 36, np.ones(7)])
    cell = (level + 3) * 8 + np.where(np.isnan(given), 4, given) + 3
    cells = _one_hot(cell.astype(int), 56)

    def estimate(weights: Array) -> Array:
        table = (weights @ cells).reshape(-1, 7, 8)
        seen = (table * distance).sum(axis=(1, 2))
        chance = np.einsum("ri,ij,rj->r", table.sum(axis=2), distance, table.sum(axis=1)) / table.sum(axis=(1, 2))
        return 1 - _divide(seen, chance)

    return _Figure("sentiment", "kappa", len(level), estimate)


def _spearman(score: Array, level: Array) -> _Figure:
    valid = ~np.isnan(score)

    def estimate(weights: Array) -> Array:
        counted = weights[:, valid]
        x, y = _centred_ranks(counted, score[valid]), _centred_ranks(counted, level[valid])
        spread = np.sqrt((counted * x**2).sum(axis=1) * (counted * y**2).sum(axis=1))
        return _divide((counted * x * y).sum(axis=1), spread)

    return _Figure("sentiment", "spearman", int(valid.sum()), estimate)


def _centred_ranks(weights: Array, values: Array) -> Array:
    """The ranks of the values in each resample less their mean, ties having their average rank."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    if not len(values):
        return weights
    starts = np.cumsum(sizes) - sizes
    mass = np.add.reduceat(weights[:, np.argsort(group, kind="stable")], starts, axis=1)
    # The mean rank is half the mass: exact, so that equal values have no spread at all.
    ranks = np.cumsum(mass, axis=1) - mass / 2 - mass.sum(axis=1, keepdims=True) / 2
    return np.asarray(ranks[:, group])


def _ranked_probability(probabilities: Array, level: Array, invalid: NDArray[np.bool_]) -> list[_Figure]:
    observed = (level[:, None] <= np.arange(-3, 3)).astype(float)
    scores = ((np.cumsum(probabilities, axis=1)[:, :6] - observed) ** 2).sum(axis=1) / 6
    given = ~np.isnan(scores)
    counted = ((given | invalid) & given.any()).astype(float)
    scores = np.where(given, scores, 1) * counted

    def skill(weights: Array) -> Array:
        mass = weights @ counted
        usual = _divide(weights @ (observed * counted[:, None]), mass[:, None])
        return 1 - _divide(_divide(weights @ scores, mass), (usual * (1 - usual)).sum(axis=1) / 6)

    figure = _ratio("sentiment", "rps", scores, counted)
    return [figure, _Figure("sentiment", "rps_skill", figure.n, skill)]


def _calibration(field: str, probability: Array, right: NDArray[np.bool_]) -> _Figure:
    given = ~np.isnan(probability)
    n = int(given.sum())
    # Equal probabilities share a bin, so that the order of the rows does not matter.
    bins = np.full(len(given), -1)
    bins[given] = (rankdata(probability[given]) - 0.5) * BINS // max(n, 1)
    member = _one_hot(bins, BINS)
    stated, correct = np.where(given, probability, 0)[:, None] * member, right[:, None] * member

    def estimate(weights: Array, corrections: int = 1) -> Array:
        mass = weights @ member
        share = _divide(weights @ correct, mass)
        noise = share * (1 - share) / np.maximum(mass - 1, 1)
        error = (_divide(weights @ stated, mass) - share) ** 2 - corrections * noise
        squared = _divide(np.nansum(mass * error, axis=1), mass.sum(axis=1))
        return np.sqrt(np.maximum(squared, 0)) if n >= 2 * BINS else np.full(len(weights), np.nan)

    return _Figure(field, "calibration_error", n, estimate, lambda weights: estimate(weights, 2))


def _one_hot(codes: NDArray[Any], n: int) -> Array:
    return np.asarray(codes[:, None] == np.arange(n), dtype=float)


def _encode(labels: pd.Series, order: Sequence[str]) -> NDArray[np.intp]:
    return pd.Index(order).get_indexer(pd.Index(labels))


def _to_array(answers: pd.DataFrame, columns: Sequence[str]) -> Array:
    return np.asarray(answers[list(columns)], dtype=float)


def to_levels(answers: pd.DataFrame) -> Array:
    """The levels −3 … +3, NaN without a valid answer."""
    return np.asarray(answers["sentiment"].map(LEVELS), dtype=float)


def probability_of(answers: pd.DataFrame, levels: Array) -> Array:
    """What each row's probabilities give to a level, NaN where either is missing."""
    column = np.where(np.isnan(levels), 0, levels).astype(int) + 3
    chosen = _to_array(answers, PROBABILITIES)[np.arange(len(column)), column]
    return np.where(np.isnan(levels), np.nan, chosen)


def _divide(above: Array, below: Array) -> Array:
    """The quotient, NaN where the divisor is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(below == 0, np.nan, above / below))


def _estimate(figures: Sequence[_Figure], stories: NDArray[np.intp], repeats: int, seed: int) -> pd.DataFrame:
    whole = np.ones((1, len(stories)))
    draws = np.concatenate([
        np.empty((0, len(figures))),
        *(
            np.column_stack([(figure.resampled or figure.estimate)(weights) for figure in figures])
            for weights in _resample(stories, repeats if stories.max() else 0, seed)
        ),
    ])  # fmt: skip
    rows = [
        {
            "field": figure.field, "metric": figure.metric, "value": float(figure.estimate(whole)[0]),
            **_interval(draws[:, k]), "n": figure.n,
        }
        for k, figure in enumerate(figures)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def _interval(draws: Array) -> dict[str, float]:
    draws = draws[~np.isnan(draws)]
    low, high = np.quantile(draws, [0.025, 0.975]) if len(draws) else (np.nan, np.nan)
    return {"low": float(low), "high": float(high)}


def _resample(stories: NDArray[np.intp], repeats: int, seed: int) -> Iterator[Array]:
    """Weights of the items in each resample of whole stories, in blocks of resamples."""
    random = np.random.default_rng(seed)
    n = int(stories.max()) + 1
    step = max(_BLOCK // len(stories), 1)
    for start in range(0, repeats, step):
        drawn = random.integers(n, size=(min(step, repeats - start), n))
        rows = np.arange(len(drawn))[:, None]
        times = np.bincount((rows * n + drawn).ravel(), minlength=drawn.size).reshape(drawn.shape)
        yield times[:, stories].astype(float)


def _tabulate(pairs: _Pairs, field: str) -> pd.DataFrame:
    labels = _order_labels(pairs, field)
    given = _encode(pairs.tags[field], labels)
    cells = _encode(pairs.gold[field], labels) * (len(labels) + 1) + np.where(given < 0, len(labels), given)
    counts = np.bincount(cells, minlength=len(labels) * (len(labels) + 1)).reshape(len(labels), -1)
    return _name_axes(pd.DataFrame(counts, index=labels, columns=[*labels, INVALID]))


def _order_labels(pairs: _Pairs, field: str) -> list[str]:
    """The labels that occur, in the default taxonomy's order and others after them; always all seven sentiments."""
    seen = set(pairs.gold[field]) | set(pairs.tags[field].dropna())
    known = dict(Taxonomy().slots)[field]
    return [label for label in known if label in seen or field == "sentiment"] + sorted(seen - set(known))


def _name_axes(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename_axis(index="gold", columns="predicted")


def _score_labels(field: str, table: pd.DataFrame) -> pd.DataFrame:
    counts: Array = np.asarray(table, dtype=float)
    support, named, found = counts.sum(axis=1), counts[:, :-1].sum(axis=0), counts.diagonal()
    scores = pd.DataFrame({
        "field": field, "label": table.index, "precision": _divide(found, named), "recall": _divide(found, support),
        "f1": _divide(2 * found, named + support), "support": support.astype(int),
    })  # fmt: skip
    occurs: NDArray[np.bool_] = named + support > 0
    return scores[occurs]


def _to_records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in frame.astype(object).to_dict("records")
    ]


def align_text(table: pd.DataFrame) -> str:
    table = table.map(lambda cell: " ".join(strip_control(cell).split()) if isinstance(cell, str) else cell)
    with pd.option_context("display.unicode.east_asian_width", True, "display.width", None, "display.max_colwidth", 60):
        return table.to_string(index=False)
