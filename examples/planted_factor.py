"""A market with a known IC: does the whole chain find it, and how much does the model lose against true levels?"""

import newsfactor as nf
from newsfactor.pipeline import demo

result = demo("planted", n_stocks=60, n_days=60, ic=0.10, progress=False)
print(result.figures)
print(result.accuracy)

panel = nf.PanelStore("planted/factors/stock").read()
market = nf.synthetic_market(60, 60, 0.10)
factor_data = nf.to_alphalens(panel, market.prices, factor="mean_score", horizons=(1,))
print(factor_data.head())
