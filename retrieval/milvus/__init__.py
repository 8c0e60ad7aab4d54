"""An index whose vectors and texts lie in Milvus, behind the same `Retriever`.

Enters: what `build` encodes. Leaves: a collection, and a folder that says where it is. Read
`collection.py` first: every call of pymilvus is there.
"""
