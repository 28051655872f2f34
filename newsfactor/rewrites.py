"""Which texts tell the same event: MinHash proposes pairs, their letters and figures decide.

Whether two texts match depends on the two alone, never on what else is in the table: that is what makes a day's
result the same however much news is cleaned with it. The bounds were tuned on three Chinese wires (the figures
are those of ``benchmarks/near_duplicates.py``).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from datasketch import MinHash
from scipy import sparse

from newsfactor.prompting import news_text

SHORTEST: Final = 8
# A desk rewrites another within minutes; hours later only a near copy is the same event, and a telegraph of a line
# ("指数跌超1%") is as a rule another move in the same words.
SOON: Final = np.timedelta64(1, "h")
_LIKENESS, _LATER_LIKENESS, _LATER_SHORTEST = 0.5, 0.7, 40
_SAME_FIGURES = 0.6
# Bigrams on end: a name in another's place changes two or more at the start of a title, five if of four in its middle.
_NAME, _STRETCH = 2, 5
# What a headline says stands in its first 24 characters; what a report says first, in its first 48.
_TITLE, _LEAD = 24, 48
# Leads with a Jaccard similarity of 0.2 share one of 32 bands of two values with probability 0.73, of 0.35 with 0.98.
_VALUES, _BAND = 64, 2
_CODES = 2**31 - 1
_BLOCK = 20_000

# What a desk puts before a story that it shares with others: its name and the day.
_DATELINE = re.compile(r"^[\u4e00-\u9fff]{2,6}\d{1,2}(?:月\d{1,2})?日(?:电|讯|消息)[,，]?")
_HEADLINE = re.compile(r"^【([^】]*)】")
_STOCK_CODE = re.compile(r"\(\d{5,6}(?:\.[A-Z]{2})?\)")
_SOURCE = re.compile(r"\([^()]{2,8}\)$")
_MARKS = re.compile(r"[^\w%.]+")
_COMMA = re.compile(r"(?<=\d),(?=\d)")
_DATE = re.compile(r"\d+(?:年|月|日(?!元))")
_DAY = re.compile(r"(?<![\d.])(\d{1,2})日(?!元)")
_FIGURE = re.compile(r"\d+(?:\.\d+)?")


class Wording(NamedTuple):
    """A news item without what differs from desk to desk: dateline, stock code, source and punctuation."""

    title: str
    body: str
    text: str
    plain: str  # the text with its punctuation, which keeps its figures apart

    @property
    def head(self) -> str:
        """The title, or the start of a text without one."""
        return (self.title or self.text)[:_TITLE]


def read_wording(title: str, content: str) -> Wording:
    """The wording of one item; a leading ``【…】`` is the title where there is no other.

    Examples
    --------
    >>> read_wording("", "【海川重工中标】晨报7月6日电，海川重工(600000.SH)公告，中标。（晨报）")[:3]
    ('海川重工中标', '海川重工公告中标', '海川重工中标海川重工公告中标')
    """
    title, content = (unicodedata.normalize("NFKC", part).strip() for part in (title, content))
    headline = _HEADLINE.match(content)
    title = _STOCK_CODE.sub("", title or (headline.group(1) if headline else ""))
    body = _SOURCE.sub("", _STOCK_CODE.sub("", _DATELINE.sub("", news_text("", content))))
    plain = body if body.startswith(title) else f"{title}。{body}"
    title, body, text = (_MARKS.sub("", part) for part in (title, body, plain))
    return Wording(title, body, text, plain)


def find_rewrites(
    wordings: Sequence[Wording], first: np.ndarray, last: np.ndarray, window: np.timedelta64
) -> list[list[tuple[int, bool]]]:
    """For each of the distinct wordings those that tell the same event.

    Parameters
    ----------
    wordings : sequence of Wording
        Each once.
    first, last : arrays of datetime64
        When each was first and last told. Wordings further apart than ``window`` are not compared.

    Returns
    -------
    list of list of (int, bool)
        Position of the other, and whether the match holds at any distance in time (True) or only within
        ``SOON``. Texts under ``SHORTEST`` characters match nothing.
    """
    matches: list[list[tuple[int, bool]]] = [[] for _ in wordings]
    if not matches:
        return matches
    texts = [word.text for word in wordings]
    same_title, same_body = (_number_equal(parts) for parts in zip(*(word[:2] for word in wordings), strict=True))
    grams = _bigrams(texts)
    bands = [*_bands(_bigrams([text[:_LEAD] for text in texts])), same_title, same_body]
    long_enough = np.array([len(text) >= SHORTEST for text in texts])
    a, b = _share_bucket(bands, long_enough, first, last, window)
    alike = _likeness(grams, _bigrams([word.head for word in wordings]), a, b)
    same_title, same_body = same_title[a] == same_title[b], same_body[a] == same_body[b]
    open_ = (alike >= _LIKENESS) | same_title | same_body
    for one, other, *signs in zip(*(v[open_].tolist() for v in (a, b, alike, same_title, same_body)), strict=True):
        lasting = signs[2] or _is_lasting(wordings[one], wordings[other], *signs[:2])
        if lasting or signs[1] or _is_rewrite(wordings[one], wordings[other]):
            matches[one].append((other, lasting))
            matches[other].append((one, lasting))
    return matches


def _is_rewrite(one: Wording, other: Wording) -> bool:
    """Whether two texts that are alike report one thing: most figures agree and no name is another."""
    return _figures_agree(one.plain, other.plain) and not _names_differ(one, other)


def _is_lasting(one: Wording, other: Wording, alike: float, same_title: bool) -> bool:
    """Whether two texts are one story even if more than ``SOON`` lies between them."""
    if min(len(one.text), len(other.text)) < _LATER_SHORTEST:
        return False
    if alike < (_LIKENESS if same_title else _LATER_LIKENESS):
        return False
    days, others = (set(_DAY.findall(word.plain)) for word in (one, other))
    if days and others and days.isdisjoint(others):
        return False
    return _figures_agree(one.plain, other.plain) if same_title else _is_rewrite(one, other)


def _names_differ(one: Wording, other: Wording) -> bool:
    """Whether each title has a stretch that the other text lacks: two firms' announcements in one form."""
    (stretch, begins), (their_stretch, theirs_begins) = _find_strange(one, other), _find_strange(other, one)
    shortest = min(stretch, their_stretch)
    return shortest >= _STRETCH or (shortest >= _NAME and begins and theirs_begins)


def _find_strange(word: Wording, other: Wording) -> tuple[int, bool]:
    """How many bigrams of the title on end the other text lacks, and whether it lacks the very first."""
    head = word.head
    lacking = "".join(" " if head[k : k + 2] in other.text else "x" for k in range(len(head) - 1))
    # ST stands before the names of many firms.
    return max(map(len, lacking.split()), default=0), head.removeprefix("ST")[:2] not in other.text


def _figures_agree(one: str, other: str) -> bool:
    """Whether most figures of the text that has fewer stand in the other too; dates do not count."""
    ours, theirs = _figures(one), _figures(other)
    fewer = min(len(ours), len(theirs))
    return len(ours & theirs) >= _SAME_FIGURES * fewer


def _figures(plain: str) -> set[str]:
    found = _FIGURE.findall(_DATE.sub("", _COMMA.sub("", plain)))
    return {figure.rstrip("0").rstrip(".") if "." in figure else figure for figure in found}


def _bigrams(texts: Sequence[str]) -> sparse.csr_matrix:
    """Which pairs of neighbouring characters each text holds: one row per text, one column per pair."""
    blocks = [_bigram_block(texts[start : start + _BLOCK]) for start in range(0, len(texts), _BLOCK)]
    return sparse.vstack(blocks, format="csr")


def _bigram_block(texts: Sequence[str]) -> sparse.csr_matrix:
    lengths = np.array([len(text) for text in texts])
    points = np.frombuffer("".join(texts).encode("utf-32-le"), dtype=np.uint32).astype(np.int64) & 0xFFFF
    row = np.repeat(np.arange(len(texts)), lengths)
    inside = row[1:] == row[:-1]
    codes = ((points[:-1] << 16) | points[1:])[inside] % _CODES
    keys = np.sort((row[:-1][inside] << 31) | codes)
    keys = keys[np.diff(keys, prepend=-1) > 0]
    starts = np.searchsorted(keys, np.arange(len(texts) + 1) << 31)
    values = np.ones(len(keys), dtype=np.int8)
    return sparse.csr_matrix((values, (keys & (2**31 - 1)).astype(np.int32), starts), shape=(len(texts), _CODES))


def _bands(grams: sparse.csr_matrix) -> np.ndarray:
    """Bands of MinHash values, one row per band and one column per text; equal values fall into one bucket."""
    sets = (grams.indices[start:end].tolist() for start, end in zip(grams.indptr[:-1], grams.indptr[1:], strict=True))
    # The scheme is named so that no version of the library changes which texts are compared.
    hashes = MinHash.generator(sets, num_perm=_VALUES, seed=1, scheme="affine32", hashfunc=int)
    values = np.array([made.hashvalues for made in hashes], dtype=np.uint64).reshape(-1, _VALUES)
    return (values[:, ::_BAND] << np.uint64(32) | values[:, 1::_BAND]).T


def _number_equal(parts: Sequence[str]) -> np.ndarray:
    """One number for equal parts; a short one is shared by accident, so each has its own."""
    firsts: dict[str, int] = {}
    numbers = [firsts.setdefault(part, k) if len(part) >= SHORTEST else k for k, part in enumerate(parts)]
    return np.array(numbers, dtype=np.uint64)


def _share_bucket(
    bands: Sequence[np.ndarray], allowed: np.ndarray, first: np.ndarray, last: np.ndarray, window: np.timedelta64
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of positions that share a bucket of any band, no more than ``window`` apart."""
    begin = (first - first.min()).astype("timedelta64[s]").astype(np.int64)
    until = (last - first.min() + window).astype("timedelta64[s]").astype(np.int64) + 1
    found = np.empty(0, dtype=np.int64)
    for k in range(0, len(bands), 8):  # all at once would hold each pair as often as it shares a bucket
        found = np.sort(np.concatenate([found, *(_pairs_of_band(b, allowed, begin, until) for b in bands[k : k + 8])]))
        found = found[np.diff(found, prepend=-1) > 0]
    return np.divmod(found, len(allowed))


def _pairs_of_band(band: np.ndarray, allowed: np.ndarray, begin: np.ndarray, until: np.ndarray) -> np.ndarray:
    order = np.lexsort((begin, band))
    order = order[allowed[order]]
    bucket = np.cumsum(np.diff(band[order], prepend=band[order[:1]]) != 0)
    # Buckets one after another on one axis of time, so that one search finds the end of each text's reach.
    width = int(until.max()) + 1
    end = np.searchsorted(bucket * width + begin[order], bucket * width + until[order], side="right")
    counts = end - np.arange(len(order)) - 1
    left = np.repeat(np.arange(len(order)), counts)
    right = left + 1 + np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
    pairs: np.ndarray = np.minimum(order[left], order[right]) * len(allowed) + np.maximum(order[left], order[right])
    return pairs


def _likeness(grams: sparse.csr_matrix, heads: sparse.csr_matrix, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The smallest of: the shorter text's share of bigrams in the other, and each title's share in the other's text.

    A title of its own tells what a text is about: of two announcements in the same form the rest is form.
    """
    result = np.empty(len(a))
    for start in range(0, len(a), _BLOCK):
        x, y = a[start : start + _BLOCK], b[start : start + _BLOCK]
        part = np.minimum(_share(heads, grams, x, y), _share(heads, grams, y, x))
        # Most pairs are settled by their titles, and the texts are what takes time.
        open_ = part >= _LIKENESS
        x, y = x[open_], y[open_]
        part[open_] = np.minimum(part[open_], np.maximum(_share(grams, grams, x, y), _share(grams, grams, y, x)))
        result[start : start + _BLOCK] = part
    return result


def _share(of: sparse.csr_matrix, in_: sparse.csr_matrix, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The share of each row ``a`` of one matrix that row ``b`` of the other holds."""
    parts = of[a]
    share: np.ndarray = parts.multiply(in_[b]).getnnz(axis=1) / np.maximum(parts.getnnz(axis=1), 1)
    return share
