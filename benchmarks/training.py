"""Does training teach? A small real task, measured on queries that were not trained on.

Enters: the folder of test collections ($BLOCKSEEK_DATA or --data). Leaves: a table on stdout; under
--work the training files, the runs and their logs; with --out the results as JSON Lines.

    python benchmarks/training.py --work runs --out results.jsonl

Trained on SQuAD's question and sentence pairs and on every second question of nq_qed, negatives
mined by dense search; measured on WikiQA's questions over their own candidates and on the other
questions of nq_qed over the dense top. Chosen by a validation set of SQuAD questions.
"""

import argparse
import gzip
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

# Another file here is called as a package of the project, and this folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from provenance import provenance

from configs.settings import read_settings
from eval.statistics.intervals import bootstrap_intervals
from rerank import BlockRanker
from rerank.examples.labelled import Example, read_examples
from rerank.examples.mining import MiningSettings, mined_examples, write_examples
from rerank.examples.ndcg import ndcg
from rerank.prompt.candidates import Candidate
from rerank.training.run_folder import read_log
from rerank.training.settings import TrainingSettings
from retrieval.corpora import load_collection, open_corpus
from retrieval.encoder import Encoder

TRAINING = ("squad", "nq", "validation")
DEPTH = 50
NEGATIVES = 15
# What an unjudged sentence may score above the answer and still be a negative: minus this.
MARGIN = -0.1
# Rows of SQuAD that stand together: a few paragraphs of one article.
BLOCK = 40


@dataclass(frozen=True)
class Sizes:
    """How much is read: training pairs, test questions, and the length of candidate lists."""

    pairs: int = 3200
    validation: int = 200
    wikiqa: int = 800
    nq: int = 60
    top: int = 10


QUICK = Sizes(pairs=120, validation=16, wikiqa=16, nq=8, top=5)


class Pool:
    """Texts under an encoder, searched exactly."""

    def __init__(self, encoder: Encoder, passages: Sequence[Candidate]) -> None:
        self.passages = {passage.id: passage for passage in passages}
        self._encoder = encoder
        self._ids = list(self.passages)
        order = sorted(range(len(passages)), key=lambda i: len(passages[i].text))
        self._vectors = np.empty((len(passages), encoder.record.dimension), np.float32)
        for start in range(0, len(order), 256):
            rows = order[start : start + 256]
            with torch.autocast("cpu", dtype=torch.bfloat16):
                self._vectors[rows], _ = encoder.encode_passages(
                    [_passage(passages[row]) for row in rows]
                )

    def search(
        self, queries: Mapping[str, str], depth: int, without: Set[str] = frozenset()
    ) -> dict[str, dict[str, float]]:
        """A run: the `depth` best of every query, as if the passages `without` were not there."""
        kept = [row for row, id_ in enumerate(self._ids) if id_ not in without]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            vectors = self._encoder.encode_queries(list(queries.values()))
        run = {}
        for query_id, scores in zip(queries, vectors @ self._vectors[kept].T, strict=True):
            best = np.argsort(-scores, kind="stable")[:depth]
            run[query_id] = {self._ids[kept[place]]: float(scores[place]) for place in best}
        return run

    def texts(self, ids: Sequence[str]) -> dict[str, Candidate]:
        """The passages of `ids`."""
        return {id_: self.passages[id_] for id_ in ids if id_ in self.passages}


def _passage(candidate: Candidate):
    from index.records import Passage

    return Passage(candidate.id, candidate.title, candidate.text)


def _spread(values: Sequence, count: int) -> list:
    count = min(count, len(values))
    return [values[i * len(values) // count] for i in range(count)]


def squad(folder: Path, encoder: Encoder, sizes: Sizes) -> tuple[list[Example], list[Example]]:
    """Training examples, and validation examples of other articles: the last tenth of the file.

    Training takes blocks of neighbours out of the file: the sentences around an answer are the
    negatives that are hard, and hardly ever hold it too.
    """
    with gzip.open(folder / "squad_sentence_pairs" / "train.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    cut = len(rows) * 9 // 10
    starts = _spread(range(0, cut - BLOCK, BLOCK), sizes.pairs // BLOCK)
    train = [row for start in starts for row in rows[start : start + BLOCK]]
    return (
        squad_examples(train, encoder, len(train), "train", MARGIN),
        squad_examples(rows[cut:], encoder, sizes.validation, "validation", None),
    )


def squad_examples(
    rows: Sequence[Mapping[str, str]],
    encoder: Encoder,
    count: int,
    name: str,
    margin: float | None,
) -> list[Example]:
    """`count` questions evenly out of `rows`, over the sentences of all `rows`."""
    ids: dict[str, str] = {}
    queries, qrels = {}, {}
    for number, row in enumerate(rows):
        queries[f"{name}{number}"] = row["query"]
        positive = ids.setdefault(row["positive"], f"s{len(ids)}")
        qrels[f"{name}{number}"] = {positive: 1}
    pool = Pool(encoder, [Candidate(id_, "", text, None) for text, id_ in ids.items()])
    asked = {query_id: queries[query_id] for query_id in _spread(list(queries), count)}
    run = pool.search(asked, DEPTH)
    settings = MiningSettings(NEGATIVES, DEPTH, margin=margin)
    return mined_examples(queries, run, qrels, pool.texts, settings)[0]


def natural_questions(
    folder: Path, encoder: Encoder, sizes: Sizes
) -> tuple[list[Example], list[Example]]:
    """Training examples of the even questions over their own passages; tests of the odd ones."""
    source = str(folder / "nq_qed")
    collection = load_collection(source)
    passages = [Candidate(p.id, p.title, p.text, None) for p in open_corpus(source)]
    ids = [query_id for query_id in collection.queries if query_id in collection.qrels]
    train, test = ids[::2], ids[1::2]
    tested = {passage for query in test for passage in collection.qrels[query]}
    pool = Pool(encoder, passages)
    queries = {query_id: collection.queries[query_id] for query_id in _spread(train, sizes.pairs)}
    run = pool.search(queries, DEPTH, without=tested)
    settings = MiningSettings(NEGATIVES, DEPTH, margin=0.0)
    training, _ = mined_examples(queries, run, collection.qrels, pool.texts, settings)
    asked = {query_id: collection.queries[query_id] for query_id in _spread(test, sizes.nq)}
    tests = []
    for query_id, scores in pool.search(asked, sizes.top).items():
        found = tuple(pool.passages[id_] for id_ in scores)
        grades = {i: g for i, g in collection.qrels[query_id].items() if i in scores}
        tests.append(Example(query_id, asked[query_id], found, grades, scores))
    return training, tests


def wikiqa(folder: Path, encoder: Encoder, sizes: Sizes) -> list[Example]:
    """Questions with an answer over the sentences of their page, scored by dense."""
    examples = []
    with gzip.open(folder / "wikiqa_train_pairs" / "train.jsonl.gz", "rt") as lines:
        rows = [row for row in map(json.loads, lines) if row["positives"]]
    for number, row in enumerate(_spread(rows, sizes.wikiqa)):
        texts = list(dict.fromkeys([*row["positives"], *row["negatives"]]))
        passages = tuple(Candidate(f"p{i}", "", text, None) for i, text in enumerate(texts))
        relevant = {p.id: 1 for p in passages if p.text in row["positives"]}
        (scores,) = Pool(encoder, passages).search({"": row["query"]}, len(texts)).values()
        examples.append(Example(f"w{number}", row["query"], passages, relevant, scores))
    return examples


def ndcg_of(scores: Mapping[str, float], example: Example) -> float:
    """nDCG@10 of the order (score descending, id)."""
    ordered = sorted(scores, key=lambda id_: (-scores[id_], id_))
    return ndcg([example.relevant.get(i, 0) for i in ordered], list(example.relevant.values()))


def measured(model: str, tests: Sequence[Example]) -> np.ndarray:
    """nDCG@10 [Q] of a reranker."""
    ranker = BlockRanker.from_pretrained(model, device="cpu")
    values = []
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for example in tests:
            results = ranker.rerank(example.query, example.passages)
            values.append(ndcg_of({r.id: r.score for r in results}, example))
    return np.array(values)


def gain(after: np.ndarray, before: np.ndarray) -> dict[str, float]:
    """The mean paired difference and its 95 % bootstrap interval over queries."""
    differences = (after - before)[:, None]
    low, high = bootstrap_intervals(differences, seed=0)
    return {"gain": float(differences.mean()), "low": float(low[0]), "high": float(high[0])}


def report(name: str, model: str, start: str, tests: Mapping[str, list[Example]]) -> Iterator[dict]:
    """A row for each test set: dense, the start, the trained model, and what training brought."""
    for test, examples in tests.items():
        dense = np.array([ndcg_of(example.scores, example) for example in examples])
        before, after = measured(start, examples), measured(model, examples)
        row = {
            "run": name,
            "test": test,
            "queries": len(examples),
            "dense": float(dense.mean()),
            "start": float(before.mean()),
            "trained": float(after.mean()),
        }
        yield row | gain(after, before)


def prepare(folder: Path, work: Path, sizes: Sizes) -> dict[str, list[Example]]:
    """Write the files of examples into `work`, or keep those that are there; the test sets."""
    tests = {"wikiqa": "WikiQA, sentences of the page", "nq_test": "nq_qed, other half, dense top"}
    if not all((work / f"{name}.jsonl").is_file() for name in (*TRAINING, *tests)):
        encoder = Encoder.load("minilm", device="cpu", max_length=128)
        nq_train, nq_test = natural_questions(folder, encoder, sizes)
        train, validation = squad(folder, encoder, sizes)
        files = dict(zip(TRAINING, (train, nq_train, validation), strict=True))
        files |= {"wikiqa": wikiqa(folder, encoder, sizes), "nq_test": nq_test}
        record = {"sizes": vars(sizes), "negatives": NEGATIVES, "depth": DEPTH}
        for name, examples in files.items():
            write_examples(work / f"{name}.jsonl", examples, record)
    return {about: read_examples(work / f"{name}.jsonl") for name, about in tests.items()}


def train(config: str, work: Path, name: str, **changes: object) -> Path:
    """Train as the project's recipe says, going on where a run was stopped; the model's folder."""
    from rerank.training.trainer import train

    settings = read_settings(
        TrainingSettings,
        config,
        out=str(work / name),
        train=[{"path": str(work / "squad.jsonl")}, {"path": str(work / "nq.jsonl")}],
        validation=str(work / "validation.jsonl"),
        device="cpu",
        **changes,
    )
    found = train(settings, resume=(work / name).is_dir())
    assert found.model is not None
    return found.model


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = os.environ.get("BLOCKSEEK_DATA")
    parser.add_argument("--data", type=Path, default=Path(data) if data else None)
    parser.add_argument("--work", type=Path, default=Path("training-benchmark"))
    parser.add_argument("--out", type=Path, help="append results and logs as JSON Lines")
    parser.add_argument("--decoder", action="store_true", help="the LoRA run on smollm2 instead")
    parser.add_argument("--steps", type=int, help="other than the recipe's")
    parser.add_argument("--quick", action="store_true", help="a few steps on a few queries")
    parser.add_argument("--json", action="store_true", help="print JSON Lines")
    arguments = parser.parse_args()
    if arguments.data is None:
        print("nothing measured: name the folder of collections with --data or $BLOCKSEEK_DATA")
        return
    sizes = QUICK if arguments.quick else Sizes()
    began = time.process_time()
    tests = prepare(arguments.data, arguments.work, sizes)
    steps = arguments.steps or (4 if arguments.quick else None)
    if arguments.decoder:
        name, config, start = "smollm2-lora", "rerank/train/smollm2_lora", "smollm2"
        tests = {test: _spread(found, 40) for test, found in tests.items() if "WikiQA" in test}
        changes: dict[str, object] = {
            "steps": steps or 24,
            "passages": 6,
            "prompts_per_step": 4,
            "validate_every": 8,
            "max_validation_queries": 12,
        }
    else:
        name, config, start = "minilm", "rerank/train/minilm", "minilm"
        changes = {"steps": steps} if steps else {}
    model = train(config, arguments.work, name, **changes)
    sources = [read_examples(arguments.work / f"{source}.jsonl") for source in ("squad", "nq")]
    begin = provenance() | {"run": name, "recipe": config, "examples": sum(map(len, sources))}
    log = [line | {"run": name} for line in read_log(arguments.work / name)]
    results = [*report(name, str(model), start, tests)]
    end = {"run": name, "cpu_seconds": round(time.process_time() - began)}
    for row in (begin, *_thinned(log), *results, end):
        print(json.dumps(row) if arguments.json else _line(row), flush=True)
    if arguments.out:
        with arguments.out.open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(row)}\n" for row in (begin, *log, *results, end))


def _thinned(log: Sequence[Mapping[str, object]], wanted: int = 10) -> Iterator[dict]:
    """Validations, and between them about `wanted` means of the loss over as many steps."""
    steps = [line for line in log if "total" in line]
    size = -(-len(steps) // wanted)
    for line in log:
        if "validation_ndcg" in line:
            yield {"step": line["step"], "validation_ndcg": line["validation_ndcg"]}
        elif line["step"] % size == 0:
            part = [row["total"] for row in steps if line["step"] - size < row["step"]]
            part = part[: min(size, len(part))]
            yield {"step": line["step"], "steps": size, "mean_loss": sum(part) / len(part)}


def _line(row: Mapping[str, object]) -> str:
    shown = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
    return "  ".join(f"{name} {value}" for name, value in shown.items())


if __name__ == "__main__":
    main()
