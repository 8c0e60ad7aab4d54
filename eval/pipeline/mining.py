"""Training examples for the reranker out of dense search.

Enters: a collection with judgments and an index. Leaves: examples with hard negatives.

    mine_from_index("my-collection", "my-index", MiningSettings(), split="train")
"""

from collections.abc import Sequence

from rerank.examples.labelled import Example
from rerank.examples.mining import MiningCounts, MiningSettings, mined_examples
from rerank.prompt.candidates import Candidate
from retrieval.corpora import load_collection
from retrieval.own_hits import own_ids, without_own
from retrieval.retriever import Retriever


def mine_from_index(
    collection: str,
    index: str,
    settings: MiningSettings,
    *,
    split: str = "train",
    teacher: bool = False,
    device: str | None = None,
) -> tuple[list[Example], MiningCounts, dict[str, str]]:
    """Examples of the judged queries, what was left out, and which index it came from.

    The search goes `settings.depth` deep; `teacher` gives its scores to the examples, where it
    found the passage. Raises `ValueError` when collection or index can't be read, or no query of
    the split is judged.
    """
    loaded = load_collection(collection, split)
    queries = {id_: text for id_, text in loaded.queries.items() if id_ in loaded.qrels}
    if not queries:
        raise ValueError(f"{collection}: no query of split {split} is judged")
    retriever = Retriever.open(index, device=device)
    known = retriever.index
    # A passage that is the query itself would make the hardest, and wrongest, negative.
    own = own_ids(loaded.qrels, known)
    found = retriever.search(list(queries.values()), settings.depth + bool(own))
    run = {
        query_id: {hit.id: hit.score for hit in without_own(hits, query_id, own, settings.depth)}
        for query_id, hits in zip(queries, found, strict=True)
    }

    def texts(ids: Sequence[str]) -> dict[str, Candidate]:
        passages = retriever.index.passages([id_ for id_ in ids if id_ in known])
        return {p.id: Candidate(p.id, p.title, p.text, None) for p in passages}

    examples, counts = mined_examples(
        queries,
        run,
        loaded.qrels,
        texts,
        settings,
        teacher=run if teacher else None,
    )
    encoder = retriever.index.manifest.encoder
    return examples, counts, {"encoder": encoder.name, "fingerprint": encoder.fingerprint}
