"""The reranker behind interfaces that other libraries and services already speak.

One module an interface: `cross_encoder` (sentence-transformers), `langchain`, `llama_index`,
`hosted` (the JSON of hosted rerank services). Each imports its library, if any, and none of the
others.
"""
