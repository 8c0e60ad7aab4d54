"""The engine behind HTTP: requests enter, one thread computes them in batches, JSON leaves.

Read `engine.py` first: what is served (an index, its encoder, a filter, a reranker). `batching.py`
puts requests of many clients into one computation, `swapping.py` changes the index under them,
`app.py` is what a client sees, `server.py` the process. Needs the extra `serve`.
"""
