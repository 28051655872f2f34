"""The page holds all it needs, escapes what it is given, and its figures draw what the frames say."""

from __future__ import annotations

import base64
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from markets import random_market
from matplotlib.figure import Figure

from newsfactor.evaluation import evaluate
from newsfactor.report import (
    Section,
    plot_classes,
    plot_coverage,
    plot_decay,
    plot_ic,
    plot_months,
    plot_quantile_curves,
    plot_quantiles,
    write_page,
)

HOSTILE = "<script>alert('1')</script>\"><img src=x onerror=alert(2)> $\\frac{ {{ 7 * 7 }} 情感"


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def result():
    panel, prices, universe = random_market(40, 25, planted=0.002)
    return evaluate(panel.rename(columns={"noise": HOSTILE}), prices, universe, horizons=(1, 5))


def test_a_hostile_factor_name_stays_text(result, tmp_path):
    page = Page(result.to_html(tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert HOSTILE in page.text


def test_the_page_needs_no_other_file(result, tmp_path):
    text = result.to_html(tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    images = [value for name, value in page.attributes if name == "src"]
    assert len(images) == 2 * 7
    for image in images:
        kind, data = image.split(",", 1)
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data, validate=True).startswith(b"\x89PNG")
    assert not re.search(r"https?://|@import|url\(", text)
    assert {"link", "script", "iframe"}.isdisjoint(page.tags)
    assert page.tags.count("table") == 7
    assert "因子评价报告" in page.text


def test_tables_show_every_cell(tmp_path):
    table = pd.DataFrame({"name": ["a<b", None], "value": [0.12345, np.nan], "count": [1234, 5]})
    text = write_page(tmp_path / "page.html", title="T & T", sections=[Section("S", table=table)]).read_text("utf-8")
    for cell in ("a&lt;b", "–", "0.1235", "1,234", "T &amp; T"):
        assert cell in text
    assert text.count('class="number"') == 6  # two columns of numbers, each a head and two cells


def test_figures_draw_the_frames(result):
    rows = result.ic[(result.ic["factor"] == "tone") & (result.ic["horizon"] == 1)].dropna(subset="rank_ic")
    daily, total = plot_ic(result.ic, factor="tone", horizon=1).axes
    drawn = np.array([segment[1][1] for segment in daily.collections[0].get_segments() if len(segment)], dtype=float)
    np.testing.assert_allclose(drawn, rows["rank_ic"].to_numpy())
    np.testing.assert_allclose(np.asarray(total.lines[0].get_ydata(), float)[: len(rows)], rows["rank_ic"].cumsum())
    (axes,) = plot_decay(result.decay, factor="tone").axes
    decay = result.decay.query("factor == 'tone'").dropna()
    np.testing.assert_allclose(axes.containers[-1][0].get_ydata().astype(float), decay["mean_rank_ic"])
    (axes,) = plot_classes(result.subsets, factor="tone", horizon=1).axes
    within = result.subsets.query("factor == 'tone' and horizon == 1 and kind == 'industry'")["mean_rank_ic"]
    np.testing.assert_allclose(axes.containers[-1][0].get_ydata().astype(float), within.sort_values(ascending=False))
    (axes,) = plot_months(result.subsets, factor="tone", horizon=1).axes
    months = result.subsets.query("factor == 'tone' and horizon == 1 and kind == 'month'").set_index("subset")[
        "mean_rank_ic"
    ]
    shown = axes.images[0].get_array()[0]
    np.testing.assert_allclose([shown[int(month[-2:]) - 1] for month in months.index], months)
    (axes,) = plot_quantile_curves(result.quantile_daily, factor="tone", horizon=5).axes
    ends = [line.get_ydata()[-1] for line in axes.lines[:5]]
    totals = (
        result.quantile_daily.query("factor == 'tone' and horizon == 5").groupby("quantile")["mean_excess"].sum() * 20
    )
    np.testing.assert_allclose(ends, totals)
    (axes,) = plot_quantiles(result.quantile_returns, factor="tone").axes
    heights = sorted(bar.get_height() for bar in axes.patches)
    expected = sorted(result.quantile_returns.query("factor == 'tone'")["mean_excess"] * 1e4)
    np.testing.assert_allclose(heights, expected)
    (axes,) = plot_coverage(result.coverage, factor="tone").axes
    assert sum(bar.get_width() for bar in axes.patches) == pytest.approx(200)


def test_figures_are_objects_of_their_own():
    assert "matplotlib.pyplot" not in Path(sys.modules["newsfactor.report"].__file__).read_text("utf-8")
    empty = pd.DataFrame({"date": pd.to_datetime([]), "factor": [], "horizon": [], "rank_ic": []})
    figure = plot_ic(empty, factor="tone", horizon=1)
    assert isinstance(figure, Figure)
    figure.canvas.draw()
