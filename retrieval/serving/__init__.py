"""The engine behind HTTP: requests enter, one thread computes them in batches, JSON leaves.

Read `engine.py` first: what is served (an index, its encoder, a filter, a reranker). `batching.py`
puts requests of many clients into one computation, `swapping.py` changes the index under them,
`app.py` and the files of routes are what a client sees, `server.py` is the process. Needs the extra
`serve`.
"""
