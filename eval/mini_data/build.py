"""Make the training files, the validation file and the start of the reranker in the box.

Enters: `MiniDataSettings`. Leaves, in a folder: `SOURCE.jsonl` of each source, `validation.jsonl`,
`start/` (MiniLM with a late interaction that is still to be trained) and `about.json`.

    build_mini_data(Path("mini/data"), read_settings(MiniDataSettings, "mini_data"), Path("data"))
"""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tqdm import tqdm

from configs.files import new_folder
from configs.models import MINILM, find_model
from eval.files.provenance import package_versions
from eval.mini_data import sources
from eval.mini_data.pairs import Pairs, alone, cloze, digest, drawn, keywords, words_of
from index.records import Passage
from rerank.backbones.late_interaction import FILE, LateInteraction
from rerank.backbones.lexical import Lexical
from rerank.examples.labelled import Example
from rerank.examples.mining import write_examples
from rerank.prompt.candidates import Candidate
from rerank.prompt.words import text_keys
from rerank.settings.reading import OWN_SETTINGS, read_ranker_settings
from rerank.settings.writing import write_settings
from retrieval.encoder import Encoder

# One query in this many is kept out of training to choose the checkpoint.
_HELD_OUT = 40
# About the words of a paragraph, a passage's usual length for the lexical head.
_USUAL_WORDS = 100.0
# Sources with this many passages or more keep only those that are asked for.
_LARGE = 10_000


@dataclass(frozen=True)
class MiniDataSettings:
    """How many queries a source gives at most, and what is made of them.

    A query gets the `negatives` passages that `encoder` ranks highest beside the right one. The
    late interaction starts at `temperature` and coefficients `tokens` and `dense`; `lexical` is
    that of equal words.
    """

    queries: Mapping[str, int]
    encoder: str = MINILM
    max_length: int = 160
    negatives: int = 15
    validation: int = 75
    temperature: float = 0.04
    tokens: float = 3.0
    dense: float = 1.0
    lexical: float = 0.8
    seed: int = 0


def build_mini_data(
    folder: Path, settings: MiniDataSettings, data: Path, without: Sequence[str] = ()
) -> dict[str, int]:
    """Write everything to `folder` and return the number of training queries by source.

    `without` leaves sources out. Raises `ValueError` where `folder` exists, a source cannot be
    read, or none is left.
    """
    found = [
        drawn(pairs, settings.queries[pairs.name])
        for pairs in _all_pairs(data, settings, without)
        if pairs.queries and pairs.name not in without
    ]
    if not found:
        raise ValueError("no source is left that has a query")
    versions = {"versions": package_versions()}
    counts: dict[str, int] = {}
    validation: list[Example] = []
    with new_folder(folder) as made:
        encoder = Encoder.load(settings.encoder, max_length=settings.max_length)
        for pairs in found:
            pairs = alone(pairs) if len(pairs.passages) >= _LARGE else pairs
            _say(f"{pairs.name}: {len(pairs.queries)} queries, {len(pairs.passages)} passages")
            examples = _mined(pairs, encoder, settings)
            held = [e for e in examples if digest(e.query) % _HELD_OUT == 0][: settings.validation]
            queries = {example.query for example in held}
            kept = [example for example in examples if example.query not in queries]
            write_examples(made / f"{pairs.name}.jsonl", kept, {"source": pairs.name} | versions)
            counts[pairs.name] = len(kept)
            validation += held
        write_examples(made / "validation.jsonl", validation, versions)
        _write_start(made / "start", found, settings)
        about = {"settings": asdict(settings), "training_queries": counts}
        (made / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return counts


def _all_pairs(data: Path, settings: MiniDataSettings, without: Sequence[str]) -> list[Pairs]:
    """Every source and what is made of it, but what `without` needs no reading for."""
    found: list[Pairs] = []
    if "debian" not in without:
        debian = sources.debian()
        found += [debian, cloze("debian_cloze", debian.passages)]
    if "pydoc" not in without:
        found.append(sources.pydoc())
    if "squad" not in without:
        found += sources.squad(data)
    if "natural_questions" not in without:
        found.append(sources.natural_questions(data))
    texts = [text for pairs in found for text in pairs.passages]
    frequency = Counter(word for text in texts for word in set(words_of(text)))
    few = sorted(set(texts), key=digest)[: 2 * settings.queries["keywords"]]
    return [*found, keywords("keywords", few, frequency, settings.seed)]


def _mined(pairs: Pairs, encoder: Encoder, settings: MiniDataSettings) -> list[Example]:
    """The queries with their passage and the hardest others, by exact dense search."""
    places = {text: str(number) for number, text in enumerate(dict.fromkeys(pairs.passages))}
    texts = list(places)
    vectors = _vectors(encoder, texts)
    asked = encoder.encode_queries([query for query, _ in pairs.queries])
    examples = []
    for number, ((query, place), vector) in enumerate(zip(pairs.queries, asked, strict=True)):
        right = places[pairs.passages[place]]
        order = np.argsort(-(vectors @ vector), kind="stable")[: settings.negatives + 1]
        ids = [right, *(str(i) for i in order if str(i) != right)][: settings.negatives + 1]
        passages = tuple(Candidate(id_, "", texts[int(id_)], None) for id_ in ids)
        examples.append(Example(f"{pairs.name}-{number}", query, passages, {right: 1}, {}))
    return examples


def _vectors(encoder: Encoder, texts: list[str]) -> np.ndarray:
    parts = []
    for start in tqdm(range(0, len(texts), 2048), desc="encoding", disable=None):
        passages = [Passage(str(i), "", t) for i, t in enumerate(texts[start : start + 2048])]
        parts.append(encoder.encode_passages(passages)[0])
    return np.concatenate(parts)


def _write_start(folder: Path, found: Sequence[Pairs], settings: MiniDataSettings) -> None:
    """The settings of MiniLM's late interaction, and token weights counted over all passages."""
    from transformers import AutoTokenizer

    folder.mkdir()
    tokenizer = AutoTokenizer.from_pretrained(find_model(settings.encoder))
    texts = sorted({text for pairs in found for text in pairs.passages})
    count = np.zeros(len(tokenizer))
    for start in range(0, len(texts), 2048):
        rows = tokenizer(
            texts[start : start + 2048], truncation=True, max_length=256, verbose=False
        )["input_ids"]
        for row in rows:
            count[list(set(row))] += 1
    late = LateInteraction(
        _inverse_document_frequency(count, len(texts)),
        _width(settings.encoder),
        temperature=settings.temperature,
        tokens=settings.tokens,
        dense=settings.dense,
    )
    save_file({name: tensor.detach() for name, tensor in late.state_dict().items()}, folder / FILE)
    words_of_texts(texts, settings.lexical).save(folder)
    ranker = read_ranker_settings(
        f"rerank/{MINILM}", base=settings.encoder, late_interaction=True, lexical=True
    )
    write_settings(folder / OWN_SETTINGS, ranker)


def words_of_texts(texts: Sequence[str], coefficient: float) -> Lexical:
    """BM25's inverse document frequencies of the words of `texts`.

    Words of a single text are left out: what is unknown counts as much.
    """
    count = Counter(key for text in texts for key in set(text_keys(text)))
    keys = sorted(key for key, number in count.items() if number > 1)
    numbers = np.array([count[key] for key in keys])
    return Lexical(
        torch.tensor(keys, dtype=torch.int32),
        _inverse_document_frequency(numbers, len(texts)),
        coefficient=coefficient,
        usual=_USUAL_WORDS,
    )


def _inverse_document_frequency(counts: np.ndarray, texts: int) -> torch.Tensor:
    """BM25's, float32, never below 0: `counts` of `texts` texts hold each of the words."""
    weights = np.log1p((texts - counts + 0.5) / (counts + 0.5))
    return torch.tensor(weights, dtype=torch.float32)


def _width(model: str) -> int:
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(find_model(model)).hidden_size)


def _say(text: str) -> None:
    print(text, file=sys.stderr)
