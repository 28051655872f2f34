"""A test that a pipeline uses nothing before it was known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pandas as pd

from newsfactor.errors import InvalidValueError, LookAheadError
from newsfactor.schema import DATE_TYPE, TIMEZONE
from newsfactor.sessions import effective_at

Pipeline = Callable[[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame], pd.DataFrame]
Tables = dict[str, pd.DataFrame]
_CHANGES = ("add", "remove", "edit")
_PRICE_COLUMNS = ("open", "high", "low", "close", "amount", "circ_mv")
_STRANGER = "605999.SH"
_HOUR, _DAY = pd.Timedelta(hours=1), pd.Timedelta(days=1)


def assert_no_lookahead(
    pipeline: Pipeline, news: pd.DataFrame, securities: pd.DataFrame, prices: pd.DataFrame, universe: pd.DataFrame,
    *, decisions: int = 2, seed: int = 0,
) -> None:  # fmt: skip
    """Stop if what a pipeline says of a decision time changes with what came after it.

    At each of some decision times of the result, what was not known by then is removed from all tables at once, and
    then added to, removed from and edited in one table after the other: news by ``available_at`` (among those added
    are reposts of earlier news and news ``published_at`` earlier), names and industries from the next day on, prices of
    the session itself and all later ones, the universe from the next session on. Every row whose ``known_at`` is not
    later must stay the same to the last bit.

    Parameters
    ----------
    pipeline : function
        From (news, securities, prices, universe) to a table with ``known_at``, such as a PANEL: the whole
        chain, transforms and store included. It must give the same for the same tables, and take every table from
        its arguments.
    news : DataFrame
        NEWS, or TAGS where the pipeline begins after the tagger.
    securities, prices, universe : DataFrame
        SECURITIES, PRICES, UNIVERSE.
    decisions : int
        Decision times to try; the pipeline runs 13 times for each, and twice more.
    seed : int
        Of the changes.

    Raises
    ------
    LookAheadError
        It names the change, the decision time, and the first cell that differs.
    InvalidValueError
        If the pipeline is not deterministic, or nothing in its result depends on the news.

    Examples
    --------
    >>> assert_no_lookahead(pipeline, news, securities, prices, universe)  # doctest: +SKIP
    """
    tables = {"news": news, "securities": securities, "prices": prices, "universe": universe}
    whole = _run(pipeline, tables)
    if (difference := _first_difference(whole, _run(pipeline, tables))) is not None:
        raise InvalidValueError("pipeline", difference, "must give the same result for the same tables")
    depends = False
    for moment in _decision_times(whole, decisions):
        known = whole[whole["known_at"] <= moment].reset_index(drop=True)
        for change, changed in _changes(tables, moment, np.random.default_rng(seed)):
            result = _run(pipeline, changed)
            found = result[result["known_at"] <= moment].reset_index(drop=True)
            if (difference := _first_difference(known, found)) is not None:
                raise LookAheadError("pipeline", difference, f"must not use what came after {moment}", f"a change that it could not know ({change})")  # fmt: skip
            depends |= change.endswith("news") and _first_difference(whole, result) is not None
    if not depends:
        raise InvalidValueError("pipeline", len(whole), "must give rows that depend on the news that it is given")


def _run(pipeline: Pipeline, tables: Tables) -> pd.DataFrame:
    """The pipeline's result on copies: what it does to its arguments must not reach the next run."""
    result = pipeline(*(table.copy() for table in tables.values()))
    if not isinstance(result, pd.DataFrame) or "known_at" not in result.columns:
        raise InvalidValueError("pipeline", type(result).__name__, "must return a frame with `known_at`")
    return result.reset_index(drop=True)


def _decision_times(result: pd.DataFrame, decisions: int) -> list[pd.Timestamp]:
    times = sorted(result["known_at"].unique())
    if decisions < 1 or len(times) < decisions + 2:
        raise InvalidValueError("decisions", decisions, f"must be from 1 to {len(times) - 2}, the decision times less two")  # fmt: skip
    return [pd.Timestamp(times[round(len(times) * (k + 1) / (decisions + 1))]) for k in range(decisions)]


def _first_difference(left: pd.DataFrame, right: pd.DataFrame) -> str | None:
    """Where two tables first differ, None if they do not: order of rows, types and bits count."""
    if list(left.columns) != list(right.columns):
        return f"columns {list(left.columns)} and {list(right.columns)}"
    if len(left) != len(right):
        return f"{len(left)} rows and {len(right)}"
    for column in left.columns:
        one, other = left[column], right[column]
        if one.dtype != other.dtype:
            return f"{column} of type {one.dtype} and {other.dtype}"
        if pd.api.types.is_float_dtype(one.dtype):
            bits = one.to_numpy().view(np.int64) != other.to_numpy().view(np.int64)
            differs = bits & ~(one.isna() & other.isna()).to_numpy()
        else:
            differs = ~((one == other) | (one.isna() & other.isna())).to_numpy(dtype=bool)
        if differs.any():
            row = int(differs.argmax())
            place = " ".join(str(left[key].iloc[row]) for key in ("date", "code", "industry") if key in left.columns)
            return f"{column} {one.iloc[row]!r} and {other.iloc[row]!r} at {place}"
    return None


def _changes(tables: Tables, moment: pd.Timestamp, rng: np.random.Generator) -> Iterator[tuple[str, Tables]]:
    """Tables that agree on all that was known at the moment, each with what was changed."""
    yield "remove from all tables", {name: _forget(name, table, moment) for name, table in tables.items()}
    for name, table in tables.items():
        for change in _CHANGES:
            yield f"{change} {name}", {**tables, name: _CHANGERS[name](table, moment, change, rng)}


def _forget(name: str, table: pd.DataFrame, moment: pd.Timestamp) -> pd.DataFrame:
    """A table without what was not known at the moment; the session's own prices are there, but empty."""
    if name == "news":
        return table[~_is_late(table, moment)]
    today = _today(moment)
    if name == "securities":
        return _forget_ends(table[~(table["valid_from"] > today)], today)
    past: pd.DataFrame = table[table["date"] <= today]
    return _edit_today(past, moment, None) if name == "prices" else past


def _today(moment: pd.Timestamp) -> pd.Timestamp:
    return moment.tz_convert(TIMEZONE).tz_localize(None).normalize()


def _is_late(news: pd.DataFrame, moment: pd.Timestamp) -> pd.Series:
    late: pd.Series = effective_at(news["available_at"], news["time_precision"]) >= moment
    return late


def _change_news(news: pd.DataFrame, moment: pd.Timestamp, change: str, rng: np.random.Generator) -> pd.DataFrame:
    late = _is_late(news, moment)
    if change == "remove":
        return news[~late | (rng.random(len(news)) < 0.5)]
    if change == "add":
        return pd.concat([news, *_later_news(news, late, moment, rng)], ignore_index=True)
    fixed = [column for column in ("news_id", "published_at", "available_at", "time_precision") if column in news]
    source = np.arange(len(news))
    source[late] = rng.permutation(source[late])
    edited = pd.concat([news[fixed].reset_index(drop=True), news.drop(columns=fixed).iloc[source].reset_index(drop=True)], axis=1)  # fmt: skip
    return edited[list(news.columns)].set_axis(news.index)


def _later_news(
    news: pd.DataFrame, late: pd.Series, moment: pd.Timestamp, rng: np.random.Generator
) -> Iterator[pd.DataFrame]:
    """Reposts of the latest known news, news that came earlier than it was received, and news of an unknown hour."""
    known, unknown = news[~late].sort_values(["available_at", "news_id"]), news[late]
    when = moment.as_unit("us").tz_convert(news["available_at"].dt.tz)
    midnight = _today(moment).tz_localize(TIMEZONE).as_unit("us").tz_convert(news["available_at"].dt.tz)
    reposts = known.tail(20)
    hours = pd.to_timedelta(rng.integers(0, 48, len(reposts)), unit="h").as_unit("us")
    yield reposts.assign(news_id=[f"{value}-again" for value in reposts["news_id"]], available_at=when + hours)
    backdated = unknown.head(20)
    yield backdated.assign(
        news_id=[f"{value}-before" for value in backdated["news_id"]],
        published_at=when - _HOUR,
        time_precision="second",
    )
    dated = pd.concat([known.tail(20), unknown.head(20)])
    yield dated.assign(
        news_id=[f"{value}-dated" for value in dated["news_id"]], published_at=midnight, available_at=midnight,
        time_precision="day",
    )  # fmt: skip


def _change_securities(
    securities: pd.DataFrame, moment: pd.Timestamp, change: str, rng: np.random.Generator
) -> pd.DataFrame:
    today = _today(moment)
    late = securities["valid_from"] > today
    if change == "remove":
        return _forget_ends(securities[~late], today)
    if change == "edit":
        shuffled = securities["value"].to_numpy().copy()
        for kind in securities["kind"].unique():
            rows = np.flatnonzero(late & (securities["kind"] == kind))
            shuffled[rows] = shuffled[rng.permutation(rows)]
        return securities.assign(value=pd.Series(shuffled, index=securities.index, dtype="str"))
    return _rename(securities, today, rng)


def _forget_ends(securities: pd.DataFrame, today: pd.Timestamp) -> pd.DataFrame:
    ends = {name: securities[name].where(~(securities[name] > today)) for name in ("valid_to", "seen_to")}
    return securities.assign(**ends)


def _rename(securities: pd.DataFrame, today: pd.Timestamp, rng: np.random.Generator) -> pd.DataFrame:
    """From tomorrow half of the codes have another's name and industry, and a new code has one too."""
    tomorrow = (today + _DAY).as_unit("us")
    current = ~(securities["valid_from"] > today) & ~(securities["valid_to"] <= today)
    current &= securities["kind"].isin(("short", "sw1"))
    codes = securities["code"].drop_duplicates()
    chosen = current & securities["code"].isin(codes.sample(frac=0.5, random_state=rng))
    ended = securities["valid_to"].mask(chosen & ~(securities["valid_to"] <= tomorrow), tomorrow)
    facts = securities[chosen].assign(valid_from=tomorrow)
    facts["valid_to"] = pd.Series(pd.NaT, index=facts.index, dtype=DATE_TYPE)
    for kind in ("short", "sw1"):
        rows = facts["kind"] == kind
        facts.loc[rows, "value"] = np.roll(facts.loc[rows, "value"].to_numpy(), 1)
    strangers = facts.drop_duplicates("kind").assign(code=_STRANGER)
    return pd.concat([securities.assign(valid_to=ended), facts, strangers], ignore_index=True)


def _change_prices(prices: pd.DataFrame, moment: pd.Timestamp, change: str, rng: np.random.Generator) -> pd.DataFrame:
    today = _today(moment)
    late = prices["date"] > today
    if change != "edit":
        return _change_dated(prices, late, change, rng)
    edited = _edit_today(prices, moment, rng)
    scale = np.where(late, rng.lognormal(0, 0.5, len(prices)), 1.0)
    columns = [column for column in (*_PRICE_COLUMNS, "pre_close") if column in prices]
    return edited.assign(**{column: edited[column] * scale for column in columns})


def _edit_today(prices: pd.DataFrame, moment: pd.Timestamp, rng: np.random.Generator | None) -> pd.DataFrame:
    """Other values, or none, for what the session had not yet shown at the moment; its opening price from 09:25 on."""
    clock = moment.tz_convert(TIMEZONE).strftime("%H:%M")
    own = (prices["date"] == _today(moment)) & (clock < "15:00")
    scale = np.where(own, np.nan if rng is None else rng.lognormal(0, 0.5, len(prices)), 1.0)
    hidden = [column for column in _PRICE_COLUMNS if column in prices and (column != "open" or clock < "09:25")]
    return prices.assign(**{column: prices[column] * scale for column in hidden})


def _change_universe(
    universe: pd.DataFrame, moment: pd.Timestamp, change: str, rng: np.random.Generator
) -> pd.DataFrame:
    late = universe["date"] > _today(moment)
    if change != "edit":
        return _change_dated(universe, late, change, rng)
    source = np.arange(len(universe))
    source[late] = rng.permutation(source[late])
    industry = pd.Series(universe["industry"].to_numpy()[source], index=universe.index, dtype="str")
    value = universe["circ_mv"] * np.where(late, rng.lognormal(0, 1, len(universe)), 1.0)
    flags = {name: universe[name] ^ late for name in ("is_st", "is_suspended")}
    return universe.assign(industry=industry, circ_mv=value, **flags)


def _change_dated(table: pd.DataFrame, late: pd.Series, change: str, rng: np.random.Generator) -> pd.DataFrame:
    """Half of the codes vanish, or a new one appears."""
    codes = table["code"].drop_duplicates()
    if change == "remove":
        return table[~(late & table["code"].isin(codes.sample(frac=0.5, random_state=rng)))]
    rows: pd.DataFrame = table[late & (table["code"] == codes.iloc[0])]
    return pd.concat([table, rows.assign(code=_STRANGER)], ignore_index=True)


_CHANGERS: Mapping[str, Callable[[pd.DataFrame, pd.Timestamp, str, np.random.Generator], pd.DataFrame]] = {
    "news": _change_news, "securities": _change_securities, "prices": _change_prices, "universe": _change_universe,
}  # fmt: skip
