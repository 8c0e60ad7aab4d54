"""The texts of a collection that are asked for by id.

Enters: a BEIR folder or an ir_datasets id, and ids. Leaves: texts, title first.

    python -c "from eval.pipeline.collection_texts import passage_texts; \
print(passage_texts('folder', {'d1'}))"
"""

from collections.abc import Set as AbstractSet

from retrieval.corpora import open_corpus


def passage_texts(collection: str, passage_ids: AbstractSet[str]) -> dict[str, str]:
    """Return title and text of the passages of `passage_ids` that the corpus has.

    The corpus is read once and only what is asked for is kept.
    """
    return {
        passage.id: f"{passage.title}\n{passage.text}" if passage.title else passage.text
        for passage in open_corpus(collection)
        if passage.id in passage_ids
    }
