"""The cosine adapter: know where a query's relevant results end.

Enters: the scores of each query's hits, their relevance labels and, where wanted, the queries'
embeddings. Leaves: a `RelevanceFilter` that keeps or cuts each hit and never reorders them.

    from retrieval.adapter.filters import load_filter, threshold_filter
    threshold_filter(0.35).keep(None, [scores])

hits       what is fitted and filtered: flat scores, labels, offsets
profile    what a query's own scores say about it, as features
maps       the monotone maps from a cosine to a logit
network    the small network that chooses a map's parameters for a query
scorers    what turns hits into values: plain rules and calibrations
cosine_adapter  the scorer that asks the network
restored   scorers from what a filter's folder keeps
filters    a scorer with a threshold, bound to its encoder, saved and loaded
candidates what can be fitted, by name
measures   PR-AUC, precision at recall, calibration error, what a cut keeps and loses
compare    cross-validation of candidates, and which one to keep
fit        split, compare, fit the best, choose its threshold
"""
