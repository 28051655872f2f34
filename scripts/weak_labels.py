"""The second stage of pretraining: news with labels of many kinds read as text behind it.

Every document is a list of (piece, weight): the pieces are tokenised one by one, the weight is the loss's. Texts that
stand in ``labels/dev`` enter no document.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

import newsfactor as nf
from newsfactor.prompting import Answer, hint_line, news_text, user_turn
from newsfactor.schema import TIMEZONE
from newsfactor.securities import facts_at, find_candidates
from newsfactor.taxonomy import Taxonomy

Document = list[tuple[str, int]]
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
FLOOR = 1e-4
SAID = (
    "{name}公布季度业绩。", "财联社电，{name}表示，将扩大投资。", "{name}跌超3%。", "据报道，{name}计划裁员。", "{name}推出新产品。",
    "{name}股价涨超5%，创历史新高。", "高管谈{name}的下一步。", "{name}与合作方签署协议。", "{name}营收超出预期。",
)  # fmt: skip
POLARITIES = {"positive": "正面", "negative": "负面", "neutral": "中性"}


def make_documents(
    data: Path, until: pd.Timestamp, seed: int, teach: Teacher | None = None, *, labelled: bool = True
) -> list[Document]:
    """All documents of the second stage, shuffled; of the third, where a teacher's answers join the baseline's.

    Without ``labelled`` nothing that comes of labels/train is told: no item's labels and no guess of them.
    """
    rng = np.random.default_rng(seed)
    train = pd.read_parquet(data / "labels" / "train.parquet")
    banned = set(pd.read_parquet(data / "labels" / "dev.parquet")["text"].map(make_key))
    securities = read_securities(data)
    wire = read_wire(data, until, banned)
    documents = [
        *wire_documents(wire, train if labelled else None, securities, rng, teach),
        *(gold_documents(train, securities, rng) if labelled else []),
        *auxiliary_documents(data, banned, rng),
        *entity_documents(data, banned),
        *coded_documents(data, banned, securities),
        *name_documents(securities, rng),
        *abroad_documents(rng),
        *article_documents(data, seed),
    ]
    return [documents[k] for k in rng.permutation(len(documents))]


def make_key(text: str) -> str:
    """What tells two texts apart: their first forty letters and digits."""
    return re.sub(r"[\W_]+", "", text)[:40]


def read_securities(data: Path) -> pd.DataFrame:
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


def guess_labels(
    train: pd.DataFrame, texts: pd.Series, rng: np.random.Generator, taught: Shares | None
) -> dict[str, np.ndarray]:
    """A label per field for each text, drawn from the sharpened probabilities of a TF-IDF baseline.

    A teacher's are joined to them by the geometric mean.
    """
    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True, min_df=2)
    features, wanted = vectorizer.fit_transform(train["text"]), vectorizer.transform(texts)
    drawn = {}
    for field in FIELDS:
        one = LogisticRegression(C=100.0, solver="liblinear", dual=True, max_iter=100, random_state=0)
        model = OneVsRestClassifier(one).fit(features, train[field])
        share = model.predict_proba(wanted)
        if taught is not None:
            named = [SLOTS[field].index(label) for label in model.classes_]
            share = np.sqrt((share + FLOOR) * (taught[field][:, named] + FLOOR))
        share = share**1.3
        share /= share.sum(axis=1, keepdims=True)
        below = (share.cumsum(axis=1) < rng.random((len(share), 1))).sum(axis=1)
        drawn[field] = model.classes_[np.minimum(below, len(model.classes_) - 1)]
    return drawn


def wire_documents(
    wire: pd.DataFrame, train: pd.DataFrame | None, securities: pd.DataFrame, rng: np.random.Generator,
    teach: Teacher | None,
) -> list[Document]:  # fmt: skip
    """Wire items with guessed labels, corrected by the editors' codes, and their topics; half of them with the hint.

    Without ``train`` nothing is guessed, and only what the codes say is told.
    """
    gold = set() if train is None else set(train["text"].map(make_key))
    candidates = find_candidates(securities, wire["text"].tolist(), wire["published_at"])
    taught = teach(wire["text"].tolist(), candidates) if teach else None
    guessed = None if train is None else guess_labels(train, wire["text"], rng, taught)
    industries = industries_of(securities, wire)
    known = securities[securities["kind"] == "short"].groupby("value")["code"].agg(set)
    documents = []
    for k, row in enumerate(wire.itertuples()):
        topics = [topic for topic in row.subjects if topic][:5]
        behind = [(f"{ANSWER}话题:{'、'.join(topics)}{END}", PLAIN)] if topics else []
        hint = hint_line(candidates[k]) if rng.random() < 0.5 else ""
        if row.key in gold:
            documents += [[(BEGIN + row.text, PLAIN), *behind]] if behind else []
            continue
        told = {field: None if guessed is None else guessed[field][k] for field in FIELDS}
        if len(row.codes):
            abroad = [code.endswith("HK") for code in row.codes]
            told["market"] = "香港市场" if all(abroad) else "中国市场" if not any(abroad) else told["market"]
        if len(industries[k]) == 1 and rng.random() < 0.9:
            told["industry"] = industries[k][0]
        parts = [f"{NAMES[field]}:{label}" for field, label in told.items() if label is not None]
        named = [name for name in candidates[k] if known.get(name, set()) & set(row.codes)]
        if named:
            parts.append(f"关联:{'、'.join(named[:8])}")
        elif not candidates[k] and not len(row.codes) and told["market"] == "中国市场":
            parts.append("关联:无")
        answer = [(",".join(parts) + END, WEAK)] if parts else []
        documents.append([*ask(row.text, hint), *answer, *behind])
    return documents


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
    return [(f"{BEGIN}{user_turn(text)}{chr(10) + hint if hint else ''}{ANSWER}", PLAIN)]


def gold_documents(train: pd.DataFrame, securities: pd.DataFrame, rng: np.random.Generator) -> list[Document]:
    """Each labelled item three times: alone, with the hint, and either."""
    times = train["published_at"].dt.tz_convert(TIMEZONE).fillna(UNDATED)
    hints = [hint_line(names) for names in find_candidates(securities, train["text"].tolist(), times)]
    documents = []
    for row, hint in zip(train.itertuples(), hints, strict=True):
        stocks = () if row.stocks in ("无", "") else tuple(row.stocks.split("、"))
        line = str(Answer(row.event, row.market, row.industry, row.sentiment, stocks)) + END
        for shown in ("", hint, hint if rng.random() < 0.5 else ""):
            documents.append([*ask(row.text, shown), (line, GOLD)])
    return documents


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
        documents.append([(f"{BEGIN}{text.strip()[:LENGTH]}{ANSWER}", PLAIN), (told + END, WEAK)])
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
            documents.append([(f"{BEGIN}{text}{ANSWER}", PLAIN), ("、".join(told) + END, WEAK)])
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
            documents.append([(f"{BEGIN}{row.content[:LENGTH]}{ANSWER}", PLAIN), (",".join(parts) + END, WEAK)])
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
    return [[(f"{BEGIN}候选:{'、'.join(told[k : k + 20])}{END}", PLAIN)] for k in range(0, len(told), 20)]


def abroad_documents(rng: np.random.Generator) -> list[Document]:
    """What market and industry a company abroad or unlisted belongs to, in short sentences."""
    documents = []
    for line in (Path(__file__).parent / "companies_abroad.txt").read_text(encoding="utf-8").splitlines():
        market, industry, *names = ("",) * 2 if line.startswith("#") else line.split()
        for name in (spelled.replace("_", " ") for spelled in names):
            for said in rng.choice(SAID, 5, replace=False):
                text, line_told = str(said).format(name=name), f"市场:{market},行业:{industry}"
                documents.append([*ask(text), (line_told + END, WEAK)])
    return documents


def article_documents(data: Path, seed: int) -> list[Document]:
    """Half of the corpus that is not broadcast news, its opening."""
    corpus = pd.read_parquet(data / "corpus" / "zh_finance_text.parquet")
    chosen = corpus.loc[corpus["source"] != "xwlb", "text"].sample(frac=0.5, random_state=seed)
    clean = chosen.str.replace(r"</?(?:p|strong)>|查看原文", "", regex=True).str.slice(0, 500)
    return [[(f"{BEGIN}{text}{END}", PLAIN)] for text in clean]
