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
    "panel": "panels",
    "infer_coverage": "panels",
    "PanelStore": "store",
    "forward_returns": "returns",
    "evaluate": "evaluation",
    "Evaluation": "evaluation",
    "to_alphalens": "bridges",
    "synthetic_market": "synthetic",
    "run": "pipeline",
}
_MODULES = ("errors", "factors", "schema", "sources")

__all__ = [*_HOMES, *_MODULES]

if TYPE_CHECKING:
    from newsfactor import errors, factors, schema, sources
    from newsfactor.bridges import to_alphalens
    from newsfactor.checkpoints import convert_checkpoint
    from newsfactor.cleaning import clean
    from newsfactor.codes import normalize_code
    from newsfactor.comparison import compare_tags
    from newsfactor.evaluation import Evaluation, evaluate
    from newsfactor.labels import read_labels, write_labels
    from newsfactor.linking import link
    from newsfactor.panels import infer_coverage, panel
    from newsfactor.pipeline import run
    from newsfactor.returns import forward_returns
    from newsfactor.scoring import Scorecard, score_tags
    from newsfactor.securities import read_securities, universe
    from newsfactor.store import PanelStore
    from newsfactor.synthetic import synthetic_market
    from newsfactor.tables import read_news, read_prices, write_table
    from newsfactor.tagging import Tagger
    from newsfactor.taxonomy import Taxonomy
    from newsfactor.training import fine_tune, merge_adapter


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
