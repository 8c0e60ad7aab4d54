"""Prepare a training pack: lists with mined negatives, in one folder that training goes from.

Enters: `PrepareSettings`, a pack, the measured collections. Leaves: `SOURCE.jsonl.gz` and its
passages for each source, `validation.jsonl.gz`, `train.yaml` (what `python -m rerank train` runs)
and `about.json`. A source that is there is kept: a killed preparation goes on where it was.

    prepare(Path("mix"), PrepareSettings(), pack=Path("train"), data=Path("data"))
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from configs.files import write_text
from configs.formats.lines import read_json
from eval.files.provenance import package_versions
from eval.mini_data.leaks import MeasuredTexts
from eval.mini_data.lists import ListSettings, make_lists
from eval.mini_data.pack import Pair, drawn_pairs, pack_files, read_pairs
from eval.mini_data.pairs import digest
from rerank.backbones.encoder import EncoderBackbone
from rerank.backbones.loading import load_backbone
from rerank.examples.labelled import Example, read_examples
from rerank.examples.shared import write_shared

# Counts of a source by what was counted.
Counts = dict[str, dict[str, int]]
VALIDATION, ABOUT = "validation.jsonl.gz", "about.json"


@dataclass(frozen=True)
class PrepareSettings:
    """What is made of a pack.

    A source gives at most `pairs` pairs, of which a tenth is held out by document; `held_out`
    queries of them choose among models. An epoch draws of a source with n queries a share that goes
    by n to the power of `exponent`, the inverse of a temperature: 1 is as they are, 0 all alike.
    """

    model: str = "mini"
    pairs: int = 1000
    held_out: int = 24
    exponent: float = 0.5
    without: tuple[str, ...] = ()
    lists: ListSettings = field(default_factory=ListSettings)


def prepare(folder: Path, settings: PrepareSettings, pack: Path, data: Path) -> Counts:
    """Write everything to `folder`; what each source gave and what was left out of it.

    Raises `ValueError` where the pack or the measured collections can't be read, where `folder` was
    begun with other settings, and where a text that is left is one of the measured.
    """
    files = pack_files(pack, settings.without)
    done = _begun(folder, settings)
    if done:
        return done
    measured = MeasuredTexts.of(data)
    backbone = load_backbone(settings.model, device=torch.device("cpu"), dtype=torch.float32)
    assert isinstance(backbone, EncoderBackbone)
    counts: Counts = {}
    validation: dict[str, list[Example]] = {}
    for name, file in files.items():
        record = folder / f"{name}.json"
        if not record.is_file():
            pairs = drawn_pairs(read_pairs(file), settings.pairs)
            found = _source(name, pairs, backbone, measured, settings)
            write_shared(folder / f"{name}.jsonl.gz", found[0])
            if found[1]:
                write_shared(folder / f"{name}.held.jsonl.gz", found[1])
            write_text(record, json.dumps(found[2]) + "\n")
        counts[name] = read_json(record)
        if counts[name]["held_out_queries"]:
            validation[name] = read_examples(folder / f"{name}.held.jsonl.gz")
        print(f"{name}: {counts[name]}", file=sys.stderr, flush=True)
    if not validation:
        raise ValueError(f"{pack} has too few documents: none of them is held out")
    write_shared(folder / VALIDATION, _interleaved(validation))
    write_text(folder / "train.yaml", _run_settings(counts, settings.exponent))
    _write_about(folder, settings, counts)
    for name in files:  # what a source left for the case of a kill is in the other files now
        for path in (folder / f"{name}.json", *folder.glob(f"{name}.held.*")):
            path.unlink(missing_ok=True)
    return counts


def _begun(folder: Path, settings: PrepareSettings) -> Counts:
    """What the preparation in `folder` gave; nothing where it is not done, and begun if it is new.

    Raises `ValueError` where it was begun with other settings.
    """
    file = folder / ABOUT
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _write_about(folder, settings, {})
    about = read_json(file)
    if about["settings"] != json.loads(json.dumps(asdict(settings))):
        raise ValueError(f"{folder} was begun with other settings: remove it, or name another")
    found: Counts = about["sources"]
    return found


def _write_about(folder: Path, settings: PrepareSettings, counts: Counts) -> None:
    about = {"settings": asdict(settings), "sources": counts, "versions": package_versions()}
    write_text(folder / ABOUT, json.dumps(about, indent=1) + "\n")


def _source(
    name: str,
    pairs: Sequence[Pair],
    backbone: EncoderBackbone,
    measured: MeasuredTexts,
    settings: PrepareSettings,
) -> tuple[list[Example], list[Example], dict[str, int]]:
    """Lists to train on, lists to choose by, and counts."""
    clean = [
        pair
        for pair in pairs
        if not (measured.holds(pair.query) or measured.holds(f"{pair.title}\n{pair.passage}"))
    ]
    lists = make_lists(name, clean, backbone, settings.lists)
    # Keywords may happen to be a query too.
    train, held = (
        [e for e in examples if not measured.holds(e.query)]
        for examples in (lists.train, lists.held_out)
    )
    made = len(lists.train) + len(lists.held_out) - len(train) - len(held)
    held = sorted(held, key=lambda e: digest(f"held {e.query}"))[: settings.held_out]
    for examples in (train, held):
        texts = (p.title + "\n" + p.text for e in examples for p in e.passages)
        measured.refuse({name: [*(e.query for e in examples), *set(texts)]})
    counts = {
        "pairs": len(pairs),
        "leaks_left_out": len(pairs) - len(clean) + made,
        "training_queries": len(train),
        "held_out_queries": len(held),
        "negatives_dropped": lists.dropped,
    }
    # Scores mined the lists; the recipe learns from none of them, and they take much of the room.
    train, held = ([e._replace(scores={}) for e in examples] for examples in (train, held))
    return train, held, counts


def _interleaved(found: Mapping[str, Sequence[Example]]) -> list[Example]:
    """The first of each source, the second of each, and so on, under ids of their own."""
    ordered = []
    for place in range(max(map(len, found.values()))):
        for name, examples in found.items():
            if place < len(examples):
                ordered.append(_renamed(examples[place], name))
    return ordered


def _renamed(example: Example, source: str) -> Example:
    """The example with passage ids that say their source: sources number theirs alike."""
    named = tuple(p._replace(id=f"{source}/{p.id}") for p in example.passages)
    relevant = {f"{source}/{id_}": grade for id_, grade in example.relevant.items()}
    return example._replace(passages=named, relevant=relevant)


def _run_settings(counts: Mapping[str, Mapping[str, int]], exponent: float) -> str:
    """The sources with weights that mix them by `exponent`, as training settings."""
    queries = {name: c["training_queries"] for name, c in counts.items() if c["training_queries"]}
    scale = sum(queries.values()) / sum(n**exponent for n in queries.values())
    rows: list[dict[str, Any]] = [
        {
            "path": f"{name}.jsonl.gz",
            "weight": round(scale * n ** (exponent - 1), 4),
        }
        for name, n in queries.items()
    ]
    settings = {"train": rows, "validation": VALIDATION}
    return json.dumps(settings, indent=1) + "\n"
