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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Another file here is called as a package of the project, and this folder comes first otherwise.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from provenance import provenance

from configs.settings import read_settings
from eval.intervals import bootstrap_intervals
from rerank import BlockRanker
from rerank.candidates import Candidate
from rerank.examples import Example, read_examples
from rerank.mine import MiningSettings, mined_examples, write_examples
from rerank.training.run_folder import read_log
from rerank.training.settings import TrainingSettings
from rerank.training.validation import ndcg
from retrieval.corpora import load_collection, open_corpus
from retrieval.encoder import Encoder

DEPTH = 50
NEGATIVES = 15


@dataclass(frozen=True)
class Sizes:
    """How much is read: training pairs, test questions, and the length of candidate lists."""

    pairs: int = 1500
    validation: int = 80
    wikiqa: int = 300
    nq: int = 80
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

    def search(self, queries: Mapping[str, str], depth: int) -> dict[str, dict[str, float]]:
        """A run: the `depth` best of every query."""
        run = {}
        for query_id, text in queries.items():
            scores = self._vectors @ self._encoder.encode_queries([text])[0]
            best = np.argsort(-scores, kind="stable")[:depth]
            run[query_id] = {self._ids[row]: float(scores[row]) for row in best}
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
    """Training examples, and validation examples of other articles: the last tenth of the file."""
    with gzip.open(folder / "squad_sentence_pairs" / "train.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    cut = len(rows) * 9 // 10
    parts = []
    for name, part, count in (
        ("train", _spread(rows[:cut], sizes.pairs), sizes.pairs),
        ("validation", rows[cut:], sizes.validation),
    ):
        ids: dict[str, str] = {}
        queries, qrels = {}, {}
        for number, row in enumerate(part):
            queries[f"{name}{number}"] = row["query"]
            positive = ids.setdefault(row["positive"], f"s{len(ids)}")
            qrels[f"{name}{number}"] = {positive: 1}
        pool = Pool(encoder, [Candidate(id_, "", text, None) for text, id_ in ids.items()])
        asked = {query_id: queries[query_id] for query_id in _spread(list(queries), count)}
        run = pool.search(asked, DEPTH)
        # Sentences next to an answer may hold it too: none above the answer itself trains.
        settings = MiningSettings(NEGATIVES, DEPTH, margin=0.0 if name == "train" else None)
        parts.append(mined_examples(queries, run, qrels, pool.texts, settings)[0])
    return parts[0], parts[1]


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
    pool = Pool(encoder, [p for p in passages if p.id not in tested])
    queries = {query_id: collection.queries[query_id] for query_id in _spread(train, sizes.pairs)}
    run = pool.search(queries, DEPTH)
    settings = MiningSettings(NEGATIVES, DEPTH, margin=0.0)
    training, _ = mined_examples(queries, run, collection.qrels, pool.texts, settings)
    whole = Pool(encoder, passages)
    asked = {query_id: collection.queries[query_id] for query_id in _spread(test, sizes.nq)}
    tests = []
    for query_id, scores in whole.search(asked, sizes.top).items():
        found = tuple(whole.passages[id_] for id_ in scores)
        tests.append(Example(query_id, asked[query_id], found, collection.qrels[query_id], scores))
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


def training_files(folder: Path, work: Path, sizes: Sizes) -> dict[str, list[Example]]:
    """Write the training and validation files where they are missing; the test sets."""
    encoder = Encoder.load("minilm", device="cpu", max_length=128)
    nq_train, nq_test = natural_questions(folder, encoder, sizes)
    if not (work / "validation.jsonl").is_file():
        train, validation = squad(folder, encoder, sizes)
        record = {"sizes": vars(sizes), "negatives": NEGATIVES, "depth": DEPTH}
        for name, examples in (("squad", train), ("nq", nq_train), ("validation", validation)):
            write_examples(work / f"{name}.jsonl", examples, record)
    return {
        "wikiqa, candidates of the page": wikiqa(folder, encoder, sizes),
        f"nq_qed, other half, dense top {sizes.top}": nq_test,
    }


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
    tests = training_files(arguments.data, arguments.work, sizes)
    steps = arguments.steps or (4 if arguments.quick else None)
    if arguments.decoder:
        name, config, start = "smollm2-lora", "rerank/train/smollm2_lora", "smollm2"
        tests = {
            test: _spread(examples, 40) for test, examples in tests.items() if "wikiqa" in test
        }
        changes = {"steps": steps or 30, "validate_every": 10, "max_validation_queries": 20}
    else:
        name, config, start = "minilm", "rerank/train/minilm", "minilm"
        changes = {"steps": steps} if steps else {}
    model = train(config, arguments.work, name, **changes)
    rows = [
        provenance()
        | {
            "recipe": config,
            "examples": len(read_examples(arguments.work / "squad.jsonl"))
            + len(read_examples(arguments.work / "nq.jsonl")),
        }
    ]
    rows += [
        line | {"run": name}
        for line in read_log(arguments.work / name)
        if "validation_ndcg" in line or line["step"] % 20 == 0
    ]
    rows += report(name, str(model), start, tests)
    rows.append({"run": name, "cpu_seconds": round(time.process_time() - began)})
    for row in rows:
        print(json.dumps(row) if arguments.json else _line(row), flush=True)
    if arguments.out:
        with arguments.out.open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(row)}\n" for row in rows)


def _line(row: Mapping[str, object]) -> str:
    shown = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
    return "  ".join(f"{name} {value}" for name, value in shown.items())


if __name__ == "__main__":
    main()
