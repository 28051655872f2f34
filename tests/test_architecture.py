"""Modules import only modules above them in the order of the data flow; the documents run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pandas as pd
import pytest

import newsfactor as nf

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "newsfactor"
ORDER = (
    "errors parallel keys files schema taxonomy sessions codes prompting tables sources rewrites cleaning names securities mentions label_files labels annotation "
    "scoring predictions comparison decoding templates weights checkpoints tagging training linking coverage factors transforms cells panels archive lineage merging updates store grids tradability returns exposures statistics resampling "
    "cross_sections measures persistence placebo samples summaries findings report tearsheet evaluation bridges synthetic_texts synthetic testing pipeline cli"
).split()


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("newsfactor."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "newsfactor":
            found |= {alias.name for alias in node.names} & set(ORDER)
    return found


@pytest.mark.parametrize("module", ORDER)
def test_a_module_imports_only_modules_above_it(module):
    above = set(ORDER[: ORDER.index(module)])
    assert imported(PACKAGE / f"{module}.py") <= above


def test_every_module_has_its_place():
    assert sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__") == sorted(ORDER)


def test_public_names_resolve_and_are_documented():
    for name in nf.__all__:
        value = getattr(nf, name)
        assert value.__doc__, name
    with pytest.raises(AttributeError, match="no_such_name"):
        nf.no_such_name  # noqa: B018


def test_only_safetensors_are_shipped():
    shipped = {path.suffix for path in (PACKAGE / "models").rglob("*") if path.is_file()}
    assert shipped <= {".safetensors", ".json", ".md", ".jinja", ".png"}
    size = sum(path.stat().st_size for path in (PACKAGE / "models").rglob("*") if path.is_file())
    assert size < 24 * 10**6


@pytest.mark.parametrize("document", ["README.md", "README.zh-CN.md"])
def test_the_python_blocks_of_the_readme_run(document, tmp_path, monkeypatch):
    """The first block on files of a synthetic market, then the one on factors; hub models cannot be reached here."""
    market = nf.synthetic_market(30, 30, 0.1, seed=1)
    for name in ("news", "securities", "prices"):
        nf.write_table(getattr(market, name), tmp_path / f"{name}.parquet")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), flags=re.DOTALL)
    scope: dict[str, object] = {}
    for block in blocks:
        if "Qwen/" not in block:
            exec(block, scope)
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert isinstance(scope["best"], pd.DataFrame) and "best_score" in scope["best"]
    assert nf.PanelStore(tmp_path / "factors").read().equals(scope["panel"])


def test_both_readmes_have_the_same_parts():
    blocks = [
        re.findall(r"^#+ |^```\w*", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
        for name in ("README.md", "README.zh-CN.md")
    ]
    assert blocks[0] == blocks[1]


@pytest.mark.parametrize(
    "example", sorted(path.name for path in (ROOT / "examples").glob("*.py") if path.name != "real_news.py")
)
def test_examples_run(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = (ROOT / "examples" / example).read_text(encoding="utf-8")
    exec(compile(source, example, "exec"), {"__name__": "__main__", "__file__": str(ROOT / "examples" / example)})
