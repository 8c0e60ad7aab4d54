"""The reranker as others already call one: their types enter, their types leave, best first.

Read `by_place.py` first; then one module an interface: `cross_encoder` (sentence-transformers),
`langchain`, `llama_index`, `hosted` (the JSON of hosted rerank services). Each imports its library,
if any, and none of the others.
"""
