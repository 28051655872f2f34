"""Every exception: each builds its sentence from parameter, value, place and remedy."""

from __future__ import annotations

from collections.abc import Sequence


class NewsfactorError(Exception):
    """Base of all errors that this library raises on purpose."""


class InvalidValueError(NewsfactorError, ValueError):
    """A parameter or a cell has a value that cannot be used.

    The sentence reads: `` `parameter` requirement, got value at place; remedy ``.
    """

    def __init__(self, parameter: str, value: object, requirement: str, place: str = "", remedy: str = "") -> None:
        self.parameter, self.value, self.place, self.remedy = parameter, value, place, remedy
        shown = repr(value)
        # The end is kept, since that of a path is the file's name.
        shown = shown if len(shown) <= 120 else f"{shown[:47]}...{shown[-70:]}"
        sentence = f"`{parameter}` {requirement}, got {shown}"
        sentence += f" at {place}" if place else ""
        sentence += f"; {remedy}" if remedy else ""
        super().__init__(sentence)


class NotAShareError(InvalidValueError):
    """A well-formed code of an index, a fund or a bond where a share was meant."""


class InvalidTaxonomyError(InvalidValueError):
    """A label set that cannot be told apart in the answer line."""


class AnswerFormatError(InvalidValueError):
    """An answer line that is not of the fixed form."""


class TableError(InvalidValueError):
    """A table with a missing column, a wrong type, a duplicate key or an impossible value.

    ``problems`` lists every bad record of a file of labels: (index, reason).
    """

    problems: Sequence[tuple[int, str]] = ()


class UnreadableFileError(InvalidValueError):
    """A file that is missing, a folder, truncated, or not of its format."""


class CalendarError(InvalidValueError):
    """A date that the trading calendar does not cover or that the prices contradict."""


class LookAheadError(InvalidValueError):
    """A request that would use what was not yet known."""


class TaggerError(InvalidValueError):
    """A model, an adapter or a tokenizer that cannot be used together."""


class StoreError(InvalidValueError):
    """A factor store that is damaged, or an update that does not fit its settings."""


class SourceError(InvalidValueError):
    """A data source that cannot be reached or whose answer changed its form."""


class MissingExtraError(NewsfactorError, ImportError):
    """An optional package that is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"`{package}` is not installed; pip install 'newsfactor[{extra}]'")
