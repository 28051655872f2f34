"""From raw Chinese financial news to a tested, point-in-time factor.

The names below are loaded when they are first used, so that ``import newsfactor`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

_HOMES = {
    "Taxonomy": "taxonomy",
    "normalize_code": "codes",
    "format_code": "codes",
    "read_news": "tables",
    "read_prices": "tables",
    "write_table": "tables",
    "clean": "cleaning",
    "read_securities": "securities",
    "universe": "securities",
    "Tagger": "tagging",
    "fine_tune": "training",
    "merge_adapter": "training",
    "convert_checkpoint": "checkpoints",
    "read_labels": "labels",
    "write_labels": "labels",
    "score_tags": "scoring",
    "Scorecard": "scoring",
    "compare_tags": "comparison",
    "link": "linking",
    "explain_link": "linking",
    "panel": "panels",
    "infer_coverage": "coverage",
    "PanelStore": "store",
    "forward_returns": "returns",
    "evaluate": "evaluation",
    "Evaluation": "evaluation",
    "to_alphalens": "bridges",
    "to_qlib": "bridges",
    "synthetic_market": "synthetic",
    "run": "pipeline",
}
_MODULES = ("errors", "factors", "schema", "sources", "testing", "transforms")

__all__ = [*_HOMES, *_MODULES]

if TYPE_CHECKING:  # the aliases export the names to type checkers, which do not follow __all__ here
    from newsfactor import errors as errors
    from newsfactor import factors as factors
    from newsfactor import schema as schema
    from newsfactor import sources as sources
    from newsfactor import testing as testing
    from newsfactor import transforms as transforms
    from newsfactor.bridges import to_alphalens as to_alphalens
    from newsfactor.bridges import to_qlib as to_qlib
    from newsfactor.checkpoints import convert_checkpoint as convert_checkpoint
    from newsfactor.cleaning import clean as clean
    from newsfactor.codes import format_code as format_code
    from newsfactor.codes import normalize_code as normalize_code
    from newsfactor.comparison import compare_tags as compare_tags
    from newsfactor.coverage import infer_coverage as infer_coverage
    from newsfactor.evaluation import Evaluation as Evaluation
    from newsfactor.evaluation import evaluate as evaluate
    from newsfactor.labels import read_labels as read_labels
    from newsfactor.labels import write_labels as write_labels
    from newsfactor.linking import explain_link as explain_link
    from newsfactor.linking import link as link
    from newsfactor.panels import panel as panel
    from newsfactor.pipeline import run as run
    from newsfactor.returns import forward_returns as forward_returns
    from newsfactor.scoring import Scorecard as Scorecard
    from newsfactor.scoring import score_tags as score_tags
    from newsfactor.securities import read_securities as read_securities
    from newsfactor.securities import universe as universe
    from newsfactor.store import PanelStore as PanelStore
    from newsfactor.synthetic import synthetic_market as synthetic_market
    from newsfactor.tables import read_news as read_news
    from newsfactor.tables import read_prices as read_prices
    from newsfactor.tables import write_table as write_table
    from newsfactor.tagging import Tagger as Tagger
    from newsfactor.taxonomy import Taxonomy as Taxonomy
    from newsfactor.training import fine_tune as fine_tune
    from newsfactor.training import merge_adapter as merge_adapter


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"newsfactor.{_HOMES[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"newsfactor.{name}")
    else:
        raise AttributeError(f"module 'newsfactor' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
