"""A dense index on disk: manifest, vector shards, texts, a FAISS file. No model, no query text."""
