"""A dense index on disk: manifest, vector shards, texts and a FAISS file. No model, no query text."""
