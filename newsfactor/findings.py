"""What an evaluation allows one to say, in English and in Chinese: first what the sample could find at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

FEW_SESSIONS, FEW_WINDOWS = 120, 10
_TOLD = 8  # factors that get a sentence


def tell_findings(
    summary: pd.DataFrame, placebo: pd.DataFrame, settings: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """The sentences, most important first; both languages say the same.

    No sentence calls a figure a signal that is smaller than what the sample could detect with 80 % power, that
    the correction for the number of tests takes away, or that placebos reach.
    """
    tested = summary[summary["sample"] == settings["evidence"]]
    pairs = [_tell_power(tested), _tell_setting(tested, settings), *_warn(tested, settings)]
    first = tested[tested["horizon"] == settings["horizons"][0]]
    if settings["evidence"] != "in":
        pairs += [_judge(row, placebo) for row in first.head(_TOLD).itertuples()]
    if len(first) > _TOLD:
        more = len(first) - _TOLD
        pairs.append((f"{more} more factors: see the table.", f"另有{more}个因子，见表。"))
    english, chinese = zip(*pairs, strict=True)
    return list(english), list(chinese)


def _tell_power(tested: pd.DataFrame) -> tuple[str, str]:
    floor = tested.groupby("horizon")["detectable"].agg(["min", "max"])
    ends = {h: (low, high) for h, low, high in floor.itertuples()}
    english = ", ".join(f"{_span(*pair, ' to ', 'unknown')} at {h}" for h, pair in ends.items())
    chinese = "、".join(f"{h}日{_span(*pair, '至', '未知')}" for h, pair in ends.items())
    return (
        "Smallest mean RankIC that this sample could detect (two-sided 5 % test, 80 % power):"
        f" {english} sessions. A smaller figure is not told from zero.",
        f"本样本能够检出的最小平均秩相关（双侧5%检验，80%功效）：{chinese}。更小的数值无法与零区分。",
    )


def _span(low: float, high: float, to: str, unknown: str) -> str:
    if pd.isna(low):
        return unknown
    ends = f"{low:.4f}", f"{high:.4f}"
    return ends[0] if ends[0] == ends[1] else to.join(ends)


def _tell_setting(tested: pd.DataFrame, settings: Mapping[str, Any]) -> tuple[str, str]:
    count, sessions = len(tested), settings["sessions"]
    return (
        f"Cutoff {settings['cutoff']}, entry {settings['entry']}, {sessions} sessions, {settings['rows']:,} rows, {count} tests:"
        f" with no effect at all about {0.05 * count:.1f} would have p < 0.05 by chance; q corrects for it.",
        f"截止{settings['cutoff']}，入场{settings['entry']}，{sessions}个交易日，{settings['rows']:,}行，{count}个检验："
        f"即使毫无效果，也约有{0.05 * count:.1f}个会偶然出现p<0.05；q值已作校正。",
    )


def _warn(tested: pd.DataFrame, settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    lines = []
    evidence = settings["evidence_sessions"]
    if evidence < FEW_SESSIONS:
        lines.append((
            f"Warning: {evidence} sessions to judge by, fewer than {FEW_SESSIONS}: no conclusion rests on so few.",
            f"警告：可用于判断的交易日仅{evidence}个，少于{FEW_SESSIONS}个：样本太少，不足以下结论。",
        ))  # fmt: skip
    thin = sorted(tested.loc[tested["n_days"] < FEW_WINDOWS * tested["horizon"], "horizon"].unique())
    if thin:
        spans = ", ".join(map(str, thin))
        lines.append((
            f"Warning: fewer than {FEW_WINDOWS} separate windows at {spans} sessions: the test rests on few degrees of freedom.",
            f"警告：{spans}日收益的独立窗口少于{FEW_WINDOWS}个，检验自由度很低。",
        ))  # fmt: skip
    through = settings["trained_through"]
    if settings["evidence"] == "in":
        lines.append((
            f"The tagger was trained on news through {through}: every session is in sample, and no figure here is evidence.",
            f"打标模型的训练数据截至{through}：全部交易日都在样本内，任何数值都不能作为证据。",
        ))  # fmt: skip
    elif settings["evidence"] == "out":
        lines.append((
            f"The tagger was trained on news through {through}: only the {evidence} sessions after it (sample \"out\") are evidence.",
            f"打标模型的训练数据截至{through}：只有其后的{evidence}个交易日（样本out）可作证据。",
        ))  # fmt: skip
    if settings["refused"]:
        named = ", ".join(f"{factor} at {horizon}" for factor, horizon in settings["refused"])
        lines.append((
            f"Refused, since more than {settings['max_loss']:.0%} of their values had no usable outcome: {named}. Coverage says why.",
            f"以下因子因超过{settings['max_loss']:.0%}的取值没有可用收益而拒绝给出结论：{named}；原因见样本行去向。",
        ))  # fmt: skip
    if settings["moved_rows"]:
        moved, superseded = settings["moved_rows"], settings["superseded_rows"]
        lines.append((
            f"{moved} rows were dated on closed days and count on the next session; {superseded} gave way there to that session's own row.",
            f"{moved}行的日期为休市日，计入下一交易日；其中{superseded}行让位于当日已有的行。",
        ))  # fmt: skip
    return lines


def _judge(row: Any, placebo: pd.DataFrame) -> tuple[str, str]:
    """One factor at the first horizon."""
    head = f"{row.factor}: mean RankIC {row.mean_rank_ic:.4f} at {row.horizon} session{'s' if row.horizon > 1 else ''}"
    said = f"{row.factor}：{row.horizon}日平均秩相关{row.mean_rank_ic:.4f}"
    if pd.isna(row.mean_rank_ic) or pd.isna(row.detectable):
        return f"{row.factor}: too little data for a test.", f"{row.factor}：数据太少，无法检验。"
    if abs(row.mean_rank_ic) < row.detectable:
        return (
            f"{head} is below the {row.detectable:.4f} that the sample could detect: not told from zero.",
            f"{said}，低于可检出的{row.detectable:.4f}：无法与零区分。",
        )
    chosen = placebo[
        (placebo["factor"] == row.factor) & (placebo["horizon"] == row.horizon) & (placebo["figure"] == "rank_ic")
    ]
    p = chosen["p"].max()
    if not row.q < 0.05 or not p < 0.05:
        return (
            f"{head} is above the detectable {row.detectable:.4f}, but q is {row.q:.3f} and placebos reach it with p {p:.3f}: no signal is claimed.",
            f"{said}，高于可检出的{row.detectable:.4f}，但q为{row.q:.3f}，安慰剂p为{p:.3f}：不称其为信号。",
        )
    holds = row.incremental_q < 0.05 and np.sign(row.incremental_rank_ic) == np.sign(row.mean_rank_ic)
    return (
        f"{head} (95 % {row.low:.4f} to {row.high:.4f}) is above the detectable {row.detectable:.4f}, q {row.q:.3f}, placebo p {p:.3f}; "
        + _tell_rest(row, holds),
        f"{said}（95%区间{row.low:.4f}至{row.high:.4f}），高于可检出的{row.detectable:.4f}，q为{row.q:.3f}，安慰剂p为{p:.3f}；"
        + _tell_rest_chinese(row, holds),
    )


def _tell_rest(row: Any, holds: bool) -> str:
    if pd.isna(row.incremental_rank_ic):
        return "nothing is known of past returns, size and industry to set against it."
    figure = f"(incremental {row.incremental_rank_ic:.4f}, q {row.incremental_q:.3f})"
    return f"it {'stays' if holds else 'does not stay'} after past returns, turnover, size and industry {figure}."


def _tell_rest_chinese(row: Any, holds: bool) -> str:
    if pd.isna(row.incremental_rank_ic):
        return "没有过去收益、市值、行业可供剔除。"
    return f"剔除过去收益、换手、市值和行业后{'仍然成立' if holds else '不再成立'}（增量{row.incremental_rank_ic:.4f}，q为{row.incremental_q:.3f}）。"
