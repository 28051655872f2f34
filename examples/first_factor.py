"""From twelve news items of your own to links, with the bundled model: what a row looks like at each stage."""

from pathlib import Path

import pandas as pd

import newsfactor as nf

data = Path(__file__).parent.parent / "data"
news = nf.clean(nf.read_news(data / "sample_news.csv", timezone="Asia/Shanghai"))
securities = nf.read_securities(data / "sample_securities.csv")

tags = nf.Tagger.load().tag(news, securities=securities, progress=False)
links = nf.link(tags, securities)

pd.set_option("display.width", 160, "display.max_columns", 12, "display.max_colwidth", 28)
print(tags[["title", "event", "industry", "sentiment", "score", "stocks"]])
print(links[["news_id", "name", "code", "relevance", "is_subject", "novelty", "link_status"]])
