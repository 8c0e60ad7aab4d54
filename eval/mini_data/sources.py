"""The texts: Debian's package descriptions, Python's documentation, SQuAD, Natural Questions.

Enters: this machine's package lists and Python, the folder of test collections. Leaves: `Pairs`.
Licences: Debian's descriptions are free documentation under their packages' licences, Python's and
its packages' docstrings PSF and BSD-like, SQuAD and Natural Questions (QED) CC BY-SA. Questions
and passages of MS MARCO, TREC, WikiQA, NFCorpus and CrowdFlower only measure.
"""

import hashlib
import re
import subprocess
from collections import Counter
from pathlib import Path

from configs.formats.lines import json_lines
from eval.mini_data.pairs import Pairs
from eval.pipeline.known_items import known_item, opening
from retrieval.corpora import load_collection, open_corpus

# Known items that come first by digest belong to the demo and its like, which test on them.
_KEPT_FOR_TESTS = 1500
# apt keeps its lists compressed as it likes.
_APT_HELPER = ("/usr/lib/apt/apt-helper", "cat-file")
_LISTS = Path("/var/lib/apt/lists")
_FEWEST_CHARACTERS, _FEWEST_WORDS = 80, 3
_SENTENCES = 4


def debian(lists: Path = _LISTS) -> Pairs:
    """A package's one-line description asks for the long one.

    Raises `ValueError` where apt has no English descriptions.
    """
    files = sorted(lists.glob("*_main_i18n_Translation-en*"))
    if not files:
        raise ValueError(
            f"{lists} holds no package descriptions; on Debian run "
            f"`apt-get -o Acquire::Languages=en update`, or leave them out: --without debian"
        )
    found: dict[str, str] = {}
    longs: set[str] = set()
    for file in files:
        command = [*_APT_HELPER, str(file)]
        text = subprocess.run(command, capture_output=True, check=True).stdout.decode()
        for record in text.split("\n\n"):
            match = re.search(r"^Description-en: (.*)\n((?: .*\n?)*)", record, re.MULTILINE)
            if match is None:
                continue
            short = match[1].strip()
            lines = (line.strip() for line in match[2].split("\n"))
            long = " ".join(line for line in lines if line not in ("", "."))
            if len(long) < _FEWEST_CHARACTERS or len(short.split()) < _FEWEST_WORDS:
                continue
            # Binary packages of one source begin their descriptions alike.
            if short not in found and long[:200] not in longs:
                longs.add(long[:200])
                found[short] = long
    passages = list(found.values())
    return Pairs("debian", passages, [(short, i) for i, short in enumerate(found)])


def pydoc() -> Pairs:
    """A docstring's summary asks for the rest."""
    passages = list(open_corpus("pydoc"))
    items = [item for passage in passages if (item := known_item(passage))]
    openings = Counter(opening(passage.text) for passage in passages)
    items = [item for item in items if openings[opening(item.query)] == 1]
    items.sort(key=lambda item: hashlib.sha256(item.passage.id.encode()).digest())
    items = items[_KEPT_FOR_TESTS:]
    return Pairs(
        "pydoc",
        [item.passage.full_text for item in items],
        [(item.query, place) for place, item in enumerate(items)],
    )


def squad(folder: Path) -> tuple[Pairs, Pairs, Pairs]:
    """Questions to sentences; to paragraphs, four sentences on end; a sentence to its neighbours.

    Raises `ValueError` where the file is missing.
    """
    path = folder / "squad_sentence_pairs" / "train.jsonl.gz"
    if not path.is_file():
        raise ValueError(f"{path} does not exist: set BLOCKSEEK_DATA to the folder that holds it")
    places: dict[str, int] = {}
    questions = []
    for _, row in json_lines(path):
        place = places.setdefault(row["positive"], len(places))
        questions.append((row["query"], place))
    sentences = list(places)  # in the file's order, an article's one after the other
    paragraphs = [
        " ".join(sentences[start : start + _SENTENCES])
        for start in range(0, len(sentences), _SENTENCES)
    ]
    starts = range(0, len(sentences) - _SENTENCES, _SENTENCES + 1)
    around = [" ".join(sentences[s : s + 2] + sentences[s + 3 : s + 5]) for s in starts]
    return (
        Pairs("squad", sentences, questions),
        Pairs("squad_paragraphs", paragraphs, [(q, place // _SENTENCES) for q, place in questions]),
        Pairs("squad_cloze", around, [(sentences[s + 2], i) for i, s in enumerate(starts)]),
    )


def natural_questions(folder: Path) -> Pairs:
    """Questions that people asked a search engine, to paragraphs of Wikipedia (QED's part)."""
    collection = load_collection(str(folder / "nq_qed"), "test")
    passages = list(open_corpus(str(folder / "nq_qed")))
    places = {passage.id: place for place, passage in enumerate(passages)}
    queries = [
        (collection.queries[query_id], places[passage_id])
        for query_id, grades in collection.qrels.items()
        for passage_id in grades
    ]
    return Pairs("natural_questions", [passage.full_text for passage in passages], queries)
