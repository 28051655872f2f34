"""The later stages of pretraining: news with labels of many kinds read as text behind it.

Every document is a list of pieces: they are tokenised one by one, each has its weight in the loss, and a label that is
guessed or that lies on a scale is learned as a distribution. Texts that stand in ``labels/dev`` enter no document.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import parallel_config
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

import newsfactor as nf
from newsfactor.prompting import hint_line, news_text, user_turn
from newsfactor.schema import TIMEZONE
from newsfactor.securities import facts_at, find_candidates
from newsfactor.taxonomy import Taxonomy


class Piece(NamedTuple):
    """Text that is tokenised by itself; a label may carry the distribution over its field that is to be learned."""

    text: str
    weight: int
    field: str = ""
    shares: np.ndarray | None = None


Document = list[Piece]
Shares = dict[str, np.ndarray]  # by field: rows of probabilities in the order of the taxonomy
Teacher = Callable[[list[str], list[dict[str, str]]], Shares]

BEGIN, END, ANSWER = "<s>", "</s>", "<|answer|>"
LENGTH = 320  # characters of a news text; the labelled items were cut there
PLAIN, WEAK, GOLD = 1, 2, 4
NAMES = {"event": "事件", "market": "市场", "industry": "行业", "sentiment": "情感"}
FIELDS = tuple(NAMES)
UNDATED = pd.Timestamp("2019-12-31", tz=TIMEZONE)  # labelled items without a time are announcements of 2018 to 2020
TASKS = {"topic": "分类", "event_types": "类型", "title_polarity": "极性", "forum_sentiment": "观点"}
SLOTS = dict(Taxonomy().slots)
ANNOTATIONS = Path(__file__).parent / "annotations.csv.gz"
FLOOR, SHARPENED = 1e-4, 1.3
CLOSING_SHARE = 0.27
LENT = 0.06  # of a labelled level, to each level beside it
SAID = (
    "{name}公布季度业绩。", "财联社电，{name}表示，将扩大投资。", "{name}跌超3%。", "据报道，{name}计划裁员。", "{name}推出新产品。",
    "{name}股价涨超5%，创历史新高。", "高管谈{name}的下一步。", "{name}与合作方签署协议。", "{name}营收超出预期。",
)  # fmt: skip
POLARITIES = {"positive": "正面", "negative": "负面", "neutral": "中性"}


def make_documents(
    data: Path, until: pd.Timestamp, seed: int, teachers: Sequence[Teacher] = (), *, labels: pd.DataFrame | None,
    closing: bool = False,
) -> list[Document]:  # fmt: skip
    """All documents of a stage, shuffled; teachers' answers join the baseline's.

    Without ``labels`` nothing that comes of them is told: no item's labels and no guess of them. A ``closing`` stage
    reads a share of the weak documents with each labelled item once, and then labelled items alone.
    """
    rng = np.random.default_rng(seed)
    banned = set(pd.read_parquet(data / "labels" / "dev.parquet")["text"].map(make_key))
    securities = read_known_securities(data)
    wire = read_wire(data, until, banned)
    weak = [
        *wire_documents(wire, labels, securities, rng, teachers),
        *auxiliary_documents(data, banned, rng),
        *entity_documents(data, banned),
        *coded_documents(data, banned, securities),
        *name_documents(securities, rng),
        *abroad_documents(rng),
        *article_documents(data, seed),
    ]
    gold = [] if labels is None else gold_documents(labels, securities)
    if not closing:
        return shuffle([*weak, *gold], rng)
    weak = [document for document in weak if rng.random() < CLOSING_SHARE]
    once = [gold[k + rng.integers(2)] for k in range(0, len(gold), 2)]
    return [*shuffle([*weak, *once], rng), *shuffle(gold, rng)]


def shuffle(documents: list[Document], rng: np.random.Generator) -> list[Document]:
    return [documents[k] for k in rng.permutation(len(documents))]


def make_key(text: str) -> str:
    """What tells two texts apart: their first forty letters and digits."""
    return re.sub(r"[\W_]+", "", text)[:40]


def read_known_securities(data: Path) -> pd.DataFrame:
    """SECURITIES of the data's mainland and Hong Kong tables."""
    master = data / "master"
    current = pd.read_parquet(master / "securities.parquet").drop(columns="code")
    current = pd.concat([current, pd.read_parquet(master / "hk_names.parquet")[["ts_code", "name"]]], ignore_index=True)
    return nf.read_securities(current, master / "names_observed.parquet", master / "sw_industry_history.parquet")


def read_wire(data: Path, until: pd.Timestamp, banned: set[str]) -> pd.DataFrame:
    """Wire items before ``until``, each text once."""
    wire = pd.concat([pd.read_parquet(path) for path in sorted((data / "wire").glob("news_*.parquet"))])
    wire = wire[wire["published_at"] < until]
    texts = [news_text(title, content)[:LENGTH] for title, content in zip(wire["title"], wire["content"], strict=True)]
    wire = wire.assign(text=texts, key=[make_key(text) for text in texts])
    return wire[(wire["text"].str.len() > 8) & ~wire["key"].isin(banned)].drop_duplicates("key", ignore_index=True)


def read_labels(data: Path) -> pd.DataFrame:
    """labels/train without the ids, the times in the exchange's zone."""
    labels = pd.read_parquet(data / "labels" / "train.parquet").drop(columns="news_id")
    return labels.assign(published_at=labels["published_at"].dt.tz_convert(TIMEZONE))


def read_annotations(data: Path, until: pd.Timestamp, told: Path = ANNOTATIONS) -> pd.DataFrame:
    """The annotated items before ``until`` whose texts lie in ``data``, with the columns of :func:`read_labels`.

    The file holds no text: an item is told by a hash of its key, a related stock by its place in the text.
    """
    wire = read_wire(data, until, set())[["text", "key", "published_at"]]
    coded = pd.read_parquet(data / "wire" / "coded_news_2016_2020.parquet")
    coded = coded.assign(text=coded["content"].str[:LENGTH], key=coded["content"].map(make_key), published_at=UNDATED)
    texts = pd.concat([wire, coded[["text", "key", "published_at"]]]).drop_duplicates("key")
    times = pd.to_datetime(texts["published_at"], utc=True).dt.tz_convert(TIMEZONE)
    texts = texts.assign(item=texts["key"].map(make_hash), published_at=times)
    items = pd.read_csv(told, dtype=str, keep_default_na=False).merge(texts, on="item")
    places = items["stocks"].str.findall(r"(\d+)\+(\d+)")
    items["stocks"] = [
        "、".join(text[int(start) : int(start) + int(length)] for start, length in spans) or "无"
        for text, spans in zip(items["text"], places, strict=True)
    ]
    return items[["text", *FIELDS, "stocks", "published_at"]]


def make_hash(key: str) -> str:
    return hashlib.sha1(key.encode()).hexdigest()[:12]


def make_vectorizer() -> TfidfVectorizer:
    """Character 1-3-grams, sublinear. A gram of one text alone is left out."""
    return TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True, min_df=2)


def fit_field(features: sparse.csr_matrix, labels: pd.Series, c: float) -> OneVsRestClassifier:
    """One logistic regression per label; their normalised probabilities are the field's."""
    one = LogisticRegression(C=c, solver="liblinear", dual=True, max_iter=100, random_state=0)
    features.sum_duplicates()  # in place: left to the threads, which share the matrix, it crashes now and then
    with warnings.catch_warnings(), parallel_config("threading"):
        # 100 passes are as accurate as 300 in 3-fold on labels/train.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return OneVsRestClassifier(one, n_jobs=-1).fit(features, labels)


def guess_labels(labels: pd.DataFrame, texts: pd.Series, taught: Sequence[Shares]) -> Shares:
    """Each field's distribution for each text: the geometric mean of a TF-IDF baseline's and the teachers', sharpened."""
    vectorizer = make_vectorizer()
    features, wanted = vectorizer.fit_transform(labels["text"]), vectorizer.transform(texts)
    guessed = {}
    for field in FIELDS:
        model = fit_field(features, labels[field], 100.0)
        baseline = np.zeros((len(texts), len(SLOTS[field])))
        baseline[:, [SLOTS[field].index(label) for label in model.classes_]] = model.predict_proba(wanted)
        logs = [np.log(shares + FLOOR) for shares in (baseline, *(teacher[field] for teacher in taught))]
        share = np.exp(SHARPENED * np.mean(logs, axis=0))
        guessed[field] = share / share.sum(axis=1, keepdims=True)
    return guessed


def draw(share: np.ndarray, rng: np.random.Generator) -> int:
    return min(int((share.cumsum() < rng.random()).sum()), len(share) - 1)


def wire_documents(
    wire: pd.DataFrame, labels: pd.DataFrame | None, securities: pd.DataFrame, rng: np.random.Generator,
    teachers: Sequence[Teacher],
) -> list[Document]:  # fmt: skip
    """Wire items with guessed labels, corrected by the editors' codes, and their topics; half of them with the hint.

    Without ``labels`` nothing is guessed, and only what the codes say is told.
    """
    gold = set() if labels is None else set(labels["text"].map(make_key))
    candidates = find_candidates(securities, wire["text"].tolist(), wire["published_at"])
    taught = [teach(wire["text"].tolist(), candidates) for teach in teachers]
    guessed = None if labels is None else guess_labels(labels, wire["text"], taught)
    industries = industries_of(securities, wire)
    known = securities[securities["kind"] == "short"].groupby("value")["code"].agg(set)
    documents = []
    for k, row in enumerate(wire.itertuples()):
        topics = [topic for topic in row.subjects if topic][:5]
        behind = [Piece(f"{ANSWER}话题:{'、'.join(topics)}{END}", PLAIN)] if topics else []
        hint = hint_line(candidates[k]) if rng.random() < 0.5 else ""
        if row.key in gold:
            documents += [[Piece(BEGIN + row.text, PLAIN), *behind]] if behind else []
            continue
        sure = sure_labels(row.codes, industries[k] if rng.random() < 0.9 else [])
        told = []
        for field in FIELDS:
            if field in sure:
                told.append([Piece(f"{NAMES[field]}:", WEAK), Piece(sure[field], WEAK)])
            elif guessed is not None:
                told.append(tell_label(field, draw(guessed[field][k], rng), guessed[field][k], WEAK))
        named = [name for name in candidates[k] if known.get(name, set()) & set(row.codes)]
        if named:
            told.append([Piece(f"关联:{'、'.join(named[:8])}", WEAK)])
        elif not candidates[k] and not len(row.codes) and any(part[-1].text == "中国市场" for part in told):
            told.append([Piece("关联:无", WEAK)])
        documents.append([*ask(row.text, hint), *tell(told, WEAK), *behind])
    return documents


def sure_labels(codes: Sequence[str], industries: Sequence[str]) -> dict[str, str]:
    """What the editors' codes say of market and industry."""
    abroad = {code.endswith("HK") for code in codes}
    sure = {"market": "香港市场" if abroad == {True} else "中国市场"} if len(abroad) == 1 else {}
    return sure | ({"industry": industries[0]} if len(industries) == 1 else {})


def tell_label(field: str, label: int, shares: np.ndarray, weight: int) -> list[Piece]:
    return [Piece(f"{NAMES[field]}:", weight), Piece(SLOTS[field][label], weight, field, shares)]


def tell(parts: Sequence[Sequence[Piece]], weight: int) -> list[Piece]:
    """The parts of an answer joined by commas, and its end."""
    joined = [piece for part in parts for piece in (Piece(",", weight), *part)][1:]
    return [*joined, Piece(END, weight)] if joined else []


def industries_of(securities: pd.DataFrame, wire: pd.DataFrame) -> list[list[str]]:
    """The Shenwan classes of each item's mainland codes on its day."""
    day = wire["published_at"].dt.tz_convert(TIMEZONE).dt.tz_localize(None).dt.normalize()
    pairs = [
        (k, code, day.iloc[k]) for k, codes in enumerate(wire["codes"]) for code in codes if not code.endswith("HK")
    ]
    keys = pd.DataFrame(pairs, columns=["row", "code", "date"])
    value = facts_at(securities, "sw1", keys)["value"]
    found: list[list[str]] = [[] for _ in range(len(wire))]
    for row, industry in zip(keys["row"], value, strict=True):
        if not pd.isna(industry) and industry not in found[row]:
            found[row].append(industry)
    return found


def ask(text: str, hint: str = "") -> Document:
    """The prompt as the tagger makes it."""
    return [Piece(f"{BEGIN}{user_turn(text)}{chr(10) + hint if hint else ''}{ANSWER}", PLAIN)]


def gold_documents(labels: pd.DataFrame, securities: pd.DataFrame) -> list[Document]:
    """Each labelled item twice, alone and with the hint."""
    times = labels["published_at"].fillna(UNDATED)
    hints = [hint_line(names) for names in find_candidates(securities, labels["text"].tolist(), times)]
    documents = []
    for row, hint in zip(labels.itertuples(), hints, strict=True):
        parts = []
        for field in FIELDS:
            label = SLOTS[field].index(getattr(row, field))
            parts.append(tell_label(field, label, smooth(label, field), GOLD))
        parts.append([Piece(f"关联:{row.stocks or '无'}", GOLD)])
        documents += [[*ask(row.text, shown), *tell(parts, GOLD)] for shown in ("", hint)]
    return documents


def smooth(label: int, field: str) -> np.ndarray:
    """All on the label; a level of sentiment lends to those beside it."""
    lent = LENT if field == "sentiment" else 0.0
    shares = np.zeros(len(SLOTS[field]))
    shares[label] = 1 - 2 * lent
    for beside in (label - 1, label + 1):
        shares[beside if 0 <= beside < len(shares) else label] += lent
    return shares


def auxiliary_documents(data: Path, banned: set[str], rng: np.random.Generator) -> list[Document]:
    tasks = pd.read_parquet(data / "aux" / "auxiliary_tasks.parquet")
    documents = []
    for task, text, label in tasks[["task", "text", "label"]].itertuples(index=False):
        kind, _, subject = label.partition("|")
        # Half of the forum's posts and most subjects of no event are left out: they are many and say little.
        dull = 0.5 if task == "forum_sentiment" else 0.6 if task == "event_subject" and kind == "其他" else 0.0
        if make_key(text) in banned or rng.random() < dull:
            continue
        told = (
            f"类型:{kind},主体:{'无' if subject == 'NaN' else subject}"
            if task == "event_subject"
            else f"{TASKS[task]}:{label}"
        )
        documents.append([Piece(f"{BEGIN}{text.strip()[:LENGTH]}{ANSWER}", PLAIN), Piece(told + END, WEAK)])
    return documents


def entity_documents(data: Path, banned: set[str]) -> list[Document]:
    pairs = pd.read_parquet(data / "aux" / "entity_polarity.parquet")
    documents = []
    for sentence, group in pairs.groupby("sentence"):
        text = str(sentence)[:LENGTH]
        told = [
            f"{term}:{POLARITIES[mark]}"
            for term, mark in zip(group["term"], group["polarity"], strict=True)
            if term in text
        ]
        if told and make_key(text) not in banned:
            documents.append([Piece(f"{BEGIN}{text}{ANSWER}", PLAIN), Piece("、".join(told) + END, WEAK)])
    return documents


def coded_documents(data: Path, banned: set[str], securities: pd.DataFrame) -> list[Document]:
    """Older announcements with their code's industry, their name and, where there is one, their mark."""
    news = pd.read_parquet(data / "wire" / "coded_news_2016_2020.parquet")
    day = news["published_at"].dt.tz_convert(TIMEZONE).dt.tz_localize(None).dt.normalize()
    industries = facts_at(securities, "sw1", pd.DataFrame({"code": news["code"], "date": day}))["value"]
    documents = []
    for row, industry in zip(news.itertuples(), industries, strict=True):
        parts = ["市场:中国市场"]
        parts += [] if pd.isna(industry) else [f"行业:{industry}"]
        parts += [f"极性:{row.polarity}"] if isinstance(row.polarity, str) else []
        parts += [f"关联:{row.name}"] if isinstance(row.name, str) and row.name in row.content else []
        if make_key(row.content) not in banned:
            documents.append(
                [Piece(f"{BEGIN}{row.content[:LENGTH]}{ANSWER}", PLAIN), Piece(",".join(parts) + END, WEAK)]
            )
    return documents


def name_documents(securities: pd.DataFrame, rng: np.random.Generator) -> list[Document]:
    """Every name with its current industry, twenty to a document, in the hint's form."""
    classes = securities[(securities["kind"] == "sw1") & securities["valid_to"].isna()]
    industry = classes.drop_duplicates("code").set_index("code")["value"]
    named = securities[securities["kind"] == "short"].drop_duplicates(["code", "value"])
    told = [
        f"{name}({industry[code]})"
        for code, name in zip(named["code"], named["value"], strict=True)
        if code in industry.index
    ]
    rng.shuffle(told)
    return [[Piece(f"{BEGIN}候选:{'、'.join(told[k : k + 20])}{END}", PLAIN)] for k in range(0, len(told), 20)]


def abroad_documents(rng: np.random.Generator) -> list[Document]:
    """What market and industry a company abroad or unlisted belongs to, in short sentences."""
    documents = []
    for line in (Path(__file__).parent / "companies_abroad.txt").read_text(encoding="utf-8").splitlines():
        market, industry, *names = ("",) * 2 if line.startswith("#") else line.split()
        for name in (spelled.replace("_", " ") for spelled in names):
            for said in rng.choice(SAID, 5, replace=False):
                text, line_told = str(said).format(name=name), f"市场:{market},行业:{industry}"
                documents.append([*ask(text), Piece(line_told + END, WEAK)])
    return documents


def article_documents(data: Path, seed: int) -> list[Document]:
    """Half of the corpus that is not broadcast news, its opening."""
    corpus = pd.read_parquet(data / "corpus" / "zh_finance_text.parquet")
    chosen = corpus.loc[corpus["source"] != "xwlb", "text"].sample(frac=0.5, random_state=seed)
    clean = chosen.str.replace(r"</?(?:p|strong)>|查看原文", "", regex=True).str.slice(0, 500)
    return [[Piece(f"{BEGIN}{text}{END}", PLAIN)] for text in clean]
