"""The label sets of the five fields, and loading a user's own."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from newsfactor.errors import InvalidTaxonomyError
from newsfactor.schema import SENTIMENTS

# A label with one of these could not be told from the answer line's own punctuation.
RESERVED = (",", ":", "、", "\n", "\r")

EVENTS = tuple(
    "个股行情 个股研报 个股财报 股权变动 并购重组 融资发行 分红激励 合同订单 产品研发 监管诉讼 风险事件 人事变动 "
    "公司动态 行业动态 政策法规发布 经济数据解读 货币政策 大盘行情 机构观点 商品行情 外汇债券行情 基金动态 国际要闻 其他".split()
)
MARKETS = tuple("中国市场 香港市场 美国市场 欧洲市场 日本市场 韩国市场 全球市场 其他市场".split())
SHENWAN_LEVEL1 = tuple(
    "农林牧渔 基础化工 钢铁 有色金属 电子 汽车 家用电器 食品饮料 纺织服饰 轻工制造 医药生物 公用事业 交通运输 "
    "房地产 商贸零售 社会服务 银行 非银金融 综合 建筑材料 建筑装饰 电力设备 机械设备 国防军工 计算机 传媒 通信 "
    "煤炭 石油石化 环保 美容护理".split()
)
OTHER_INDUSTRIES = ("汇率", "利率", "大宗商品", "宏观经济", "股市大盘", "数字货币", "无")


@dataclass(frozen=True)
class Taxonomy:
    """The allowed labels of the three open label sets; the seven sentiment levels are fixed.

    Parameters
    ----------
    events, markets, industries : tuple of str
        The labels, in the order in which probabilities are listed.

    Raises
    ------
    InvalidTaxonomyError
        If a set is empty or a label is repeated, blank, or holds ``,`` ``:`` ``、`` or a line break.

    Examples
    --------
    >>> Taxonomy().markets[0]
    '中国市场'
    """

    events: tuple[str, ...] = EVENTS
    markets: tuple[str, ...] = MARKETS
    industries: tuple[str, ...] = SHENWAN_LEVEL1 + OTHER_INDUSTRIES

    def __post_init__(self) -> None:
        for field in ("events", "markets", "industries"):
            object.__setattr__(self, field, _check_labels(field, getattr(self, field)))

    @property
    def slots(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The closed slots in the answer's order: (field, labels)."""
        return (
            ("event", self.events),
            ("market", self.markets),
            ("industry", self.industries),
            ("sentiment", SENTIMENTS),
        )

    def save(self, path: str | Path) -> None:
        """Write the label sets as a JSON file that :meth:`load` reads."""
        sets = {"events": self.events, "markets": self.markets, "industries": self.industries}
        Path(path).write_text(json.dumps(sets, ensure_ascii=False, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Taxonomy:
        """Read label sets from JSON: an object with ``events``, ``markets`` and ``industries``."""
        try:
            sets = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidTaxonomyError("file", str(path), f"cannot be read as JSON ({error})") from error
        if not isinstance(sets, dict) or set(sets) != {"events", "markets", "industries"}:
            found = sorted(sets) if isinstance(sets, dict) else type(sets).__name__
            raise InvalidTaxonomyError("keys", found, "must be exactly events, markets and industries")
        return cls(**sets)


def _check_labels(field: str, labels: Iterable[str]) -> tuple[str, ...]:
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        raise InvalidTaxonomyError(field, labels, "must be a list of labels")
    labels = tuple(labels)
    if not labels:
        raise InvalidTaxonomyError(field, labels, "must hold at least one label")
    for label in labels:
        if not isinstance(label, str) or not label.strip() or label != label.strip():
            raise InvalidTaxonomyError(field, label, "must be non-blank text without spaces around it")
        if any(mark in label for mark in RESERVED):
            raise InvalidTaxonomyError(field, label, "must not hold a comma, a colon, 、 or a line break")
        if labels.count(label) > 1:
            raise InvalidTaxonomyError(field, label, "must be listed once")
    return labels
