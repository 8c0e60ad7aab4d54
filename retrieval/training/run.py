"""Train an encoder for a corpus: pairs, negatives, training, and what it was worth.

Enters: a corpus, where its pairs come from, settings. Leaves: a folder that sentence-transformers
and `retrieval.index build --encoder` read, where the held-out pairs are found no worse than before.

    train_encoder("pydoc", Path("my-encoder"), TrainSettings(), Made(("title",)))
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from configs.files import new_folder, write_text
from index.records import Passage
from retrieval.corpora import open_corpus
from retrieval.corpora.reading import Reading
from retrieval.corpora.records import Skipped
from retrieval.encoder import Encoder
from retrieval.training.fit import check_installed, fit
from retrieval.training.given import judged_pairs, read_pairs
from retrieval.training.made import TASKS, made_pairs
from retrieval.training.measure import DECIDING, Gain, gains, measured
from retrieval.training.negatives import hard_negatives
from retrieval.training.pairs import Pair
from retrieval.training.settings import TrainSettings
from retrieval.training.split import split_pairs

RECORD = "training.json"
_PACKAGES = (
    "blockseek", "torch", "transformers", "sentence-transformers", "accelerate", "datasets", "peft",
)  # fmt: skip
_PASSAGES_AT_A_TIME = 2048


class Made(NamedTuple):
    """Pairs made of the corpus by `tasks`."""

    tasks: tuple[str, ...] = TASKS


class PairFile(NamedTuple):
    """Pairs from a file: see `given.read_pairs`."""

    path: Path


class Judged(NamedTuple):
    """Pairs from a file of queries and one of qrels."""

    queries: Path
    qrels: Path


Source = Made | PairFile | Judged


@dataclass(frozen=True)
class Trained:
    """What came of it. `gains` are over `held_out_queries`; `out` is None where none was written.

    `passages` are what a query is looked for among; `steps` the optimizer's.
    """

    out: str | None
    source: str
    passages: int
    training_pairs: int
    held_out_pairs: int
    held_out_queries: int
    steps: int
    gains: dict[str, Gain]

    @property
    def is_worse(self) -> bool:
        """Whether the held-out queries are answered worse than before, in the mean."""
        return self.gains[DECIDING].gain < 0


def train_encoder(
    corpus: str,
    out: Path,
    settings: TrainSettings,
    source: Source,
    *,
    reading: Reading | None = None,
    skipped: Skipped | None = None,
    device: str | None = None,
    keep_worse: bool = False,
) -> Trained:
    """Train `settings.encoder` on pairs of `corpus`, held in memory, and write it to `out`.

    Held-out pairs are measured before and after, among all passages; a model that is worse in
    nDCG@10 is written only with `keep_worse`. The folder is whole or not there, and nothing is kept
    of a run that is killed. Raises `ValueError` as the readers do, for an `out` that exists, and
    where the trainer's libraries are missing.
    """
    if out.exists():
        raise ValueError(f"{out} exists; remove it, or name another --out")
    check_installed(lora=settings.lora is not None)
    passages = list(open_corpus(corpus, skipped, reading))
    texts = {passage.id: passage.full_text for passage in passages}
    pairs = _pairs(source, passages, texts, settings.seed)
    training, held_out = split_pairs(pairs, settings.held_out, settings.seed, settings.max_pairs)
    encoder = Encoder.load(settings.encoder, device=device, max_length=settings.max_length)
    base = encoder.record
    ids = list(texts)
    vectors = _encoded(encoder, texts.values(), "encode the corpus")
    before = _measured(encoder, held_out, ids, vectors)
    columns = _columns(encoder, training, held_out, texts, vectors, settings)
    prompts = dict.fromkeys(columns, base.passage_prompt) | {"query": base.query_prompt}
    steps = fit(encoder.model, columns, prompts, settings)
    trained = Encoder(str(out), encoder.model)
    vectors = _encoded(trained, texts.values(), "encode it again")
    found = gains(before, _measured(trained, held_out, ids, vectors), settings.seed)
    result = Trained(
        str(out), _named(source), len(texts), len(training), len(held_out),
        len(before[DECIDING]), steps, found,
    )  # fmt: skip
    if result.is_worse and not keep_worse:
        return replace(result, out=None)
    record = {
        "corpus": corpus,
        "encoder": {"name": base.name, "fingerprint": base.fingerprint},
        "settings": asdict(settings),
        **as_json(result),
        "versions": {name: version(name) for name in _PACKAGES if _is_there(name)},
    }
    with new_folder(out) as folder:
        encoder.model.save_pretrained(str(folder), create_model_card=False)
        write_text(folder / RECORD, json.dumps(record, indent=1) + "\n")
    return result


def as_json(result: Trained) -> dict[str, Any]:
    """`result` as plain values, its gains by name."""
    named = {name: gain._asdict() for name, gain in result.gains.items()}
    return {**vars(result), "gains": named}


def _pairs(
    source: Source, passages: Sequence[Passage], texts: dict[str, str], seed: int
) -> list[Pair]:
    if isinstance(source, Made):
        return list(made_pairs(passages, source.tasks, seed))
    if isinstance(source, PairFile):
        return read_pairs(source.path, texts)
    from configs.formats.qrels import read_qrels
    from configs.formats.queries import read_queries

    return judged_pairs(read_queries(source.queries), read_qrels(source.qrels), texts)


def _named(source: Source) -> str:
    if isinstance(source, Made):
        return f"made: {', '.join(source.tasks)}"
    return " and ".join(str(path) for path in source)


def _columns(
    encoder: Encoder,
    training: Sequence[Pair],
    held_out: Sequence[Pair],
    texts: dict[str, str],
    vectors: np.ndarray,
    settings: TrainSettings,
) -> dict[str, list[str]]:
    """The texts to train on. No passage of a held-out pair is a negative."""
    columns = {
        "query": [pair.query for pair in training],
        "passage": [pair.text for pair in training],
    }
    if not settings.negatives:
        return columns
    barred = {pair.id for pair in held_out}
    rows = [row for row, id_ in enumerate(texts) if id_ not in barred]
    ids = list(texts)
    place = {ids[row]: number for number, row in enumerate(rows)}
    answers: dict[str, set[int]] = {}
    for pair in training:
        answers.setdefault(pair.query, set()).add(place[pair.id])
    found = hard_negatives(
        _queries(encoder, training),
        vectors[rows],
        _encoded(encoder, columns["passage"], "encode the pairs"),
        [answers[pair.query] for pair in training],
        settings.negatives,
        settings.margin,
    )
    for number in range(settings.negatives):
        columns[f"negative_{number + 1}"] = [texts[ids[rows[row]]] for row in found[:, number]]
    return columns


def _measured(
    encoder: Encoder, held_out: Sequence[Pair], ids: Sequence[str], vectors: np.ndarray
) -> dict[str, list[float]]:
    own = _encoded(encoder, [pair.text for pair in held_out], "encode the pairs")
    return measured(held_out, _queries(encoder, held_out), own, ids, vectors)


def _queries(encoder: Encoder, pairs: Sequence[Pair]) -> np.ndarray:
    return _in_parts([pair.query for pair in pairs], "encode the queries", encoder.encode_queries)


def _encoded(encoder: Encoder, texts: Iterable[str], what: str) -> np.ndarray:
    passages = [Passage("", "", text) for text in texts]
    return _in_parts(passages, what, lambda part: encoder.encode_passages(part)[0])


def _in_parts(
    items: Sequence[Any], what: str, encode: Callable[[Sequence[Any]], np.ndarray]
) -> np.ndarray:
    """The vectors [n, d] of `items`, with a bar on stderr where that is a terminal."""

    def parts() -> Iterator[np.ndarray]:
        with tqdm(desc=what, total=len(items), disable=None, file=sys.stderr) as bar:
            for start in range(0, len(items), _PASSAGES_AT_A_TIME):
                yield encode(items[start : start + _PASSAGES_AT_A_TIME])
                bar.update(min(_PASSAGES_AT_A_TIME, len(items) - start))

    return np.concatenate(list(parts()))


def _is_there(package: str) -> bool:
    from importlib.metadata import PackageNotFoundError

    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False
