"""What is lost when a reranker becomes a late-interaction checkpoint, and whether ours reads one.

Enters: a collection. Leaves: nDCG@10 of dense search, of the reranker and of its export over the
dense top, the paired loss with its 95 % interval, Kendall's tau of the two orders, and how far the
export's scores are from the library's own.

    python benchmarks/multi_vector.py my-collection
"""

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

# This file is called as the package it measures, and its folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from measuring.asked import asked, garden
from measuring.gains import paired_gain, tell
from provenance import provenance
from scipy.stats import kendalltau
from tqdm import tqdm

from eval.measures.ranking import evaluate
from rerank import BlockRanker, PassagesTruncatedWarning
from rerank.interfaces.multi_vector_export import export_multi_vector
from retrieval.encoder import Encoder

MEASURE = "nDCG@10"
# Queries whose passages the library encodes too, each time again.
COMPARED = 3


def main() -> None:
    """Export, rank, compare and print."""
    parser = argparse.ArgumentParser(description="What an export to late interaction loses.")
    parser.add_argument("collection", nargs="?", help="a BEIR folder or an ir_datasets id")
    parser.add_argument("--model", default="mini", help="the reranker (%(default)s)")
    parser.add_argument("--depth", type=int, default=50, help="of dense search (%(default)s)")
    parser.add_argument("--queries", type=int, default=100, help="at most (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="four passages, four queries")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    if arguments.collection is None and not arguments.quick:
        parser.error("name a collection, or --quick")
    passages, queries, qrels = (
        garden() if arguments.quick else asked(arguments.collection, arguments.queries)
    )
    encoder = Encoder.load()
    cosines = encoder.encode_queries(queries.values()) @ encoder.encode_passages(passages)[0].T
    depth = min(arguments.depth, len(passages))
    found = np.argsort(-cosines, axis=1, kind="stable")[:, :depth]
    ranker = BlockRanker.from_pretrained(arguments.model)
    runs: dict[str, dict[str, dict[str, float]]] = {"dense": {}, arguments.model: {}, "export": {}}
    taus: list[float] = []
    furthest = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "export"
        export_multi_vector(ranker, folder)
        from sentence_transformers import MultiVectorEncoder

        exported = BlockRanker.from_pretrained(str(folder))
        library = MultiVectorEncoder(str(folder), device=str(exported.backbone.device))
        # Read once for all queries, and kept in the bits that were computed.
        kept = [passages[row] for row in np.unique(found)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PassagesTruncatedWarning)
            caches = [each.cache(kept, bits=32) for each in (ranker, exported)]
        every = list(zip(queries.items(), found, cosines, strict=True))
        for number, ((name, query), rows, cosine) in enumerate(tqdm(every, disable=None)):
            ids = [passages[row].id for row in rows]
            own, other = (cache.scores(query, ids) for cache in caches)
            taus.append(float(kendalltau(own, other).statistic))
            for system, scores in zip(runs, (cosine[rows].tolist(), own, other), strict=True):
                runs[system][name] = dict(zip(ids, scores, strict=True))
            if number < COMPARED:
                vectors = library.encode_document([passages[row].full_text for row in rows])
                wanted = library.similarity(library.encode_query([query]), vectors)[0].tolist()
                furthest = max(furthest, *map(abs, np.subtract(wanted, other).tolist()))
    values = {name: evaluate(qrels, run, [MEASURE]).values[MEASURE] for name, run in runs.items()}
    result = {
        **provenance(),
        "collection": Path(arguments.collection or "garden").name,
        "queries": len(queries),
        "depth": depth,
        **{f"{MEASURE} {name}": float(each.mean()) for name, each in values.items()},
        **paired_gain(values[arguments.model], values["export"]),
        "Kendall's tau": float(np.mean(taus)),
        "largest |ours - library's|": furthest,
    }
    tell(result, as_json=arguments.json)


if __name__ == "__main__":
    main()
