"""Late-interaction checkpoints that sentence-transformers saved: our scores are the library's."""

import json
import random
import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from rerank_cases import PASSAGES, save_model, tokenizer_of
from safetensors.torch import load_file, save_file
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Normalize, Router, Transformer
from sentence_transformers.base.modules.dense import Dense
from sentence_transformers.multi_vector_encoder.modules import (
    HierarchicalTokenPooling,
    MultiVectorMask,
)
from sentence_transformers.sentence_transformer.modules import WordWeights
from tokenizers import Tokenizer

from rerank import BlockRanker, PassageCache
from rerank.prompt.multi_vector import QueryTruncatedWarning

pytestmark = pytest.mark.filterwarnings("ignore:.* cut to")
TEXTS = [p if isinstance(p, str) else p["text"] for p in PASSAGES]
LONG = "Goethe wrote Faust, a tragedy in two parts, and a novel; it made him famous at once. " * 4
QUERIES = ["who wrote the tragedy Faust?", "pear", "what fell on Weimar, all night long; and why?"]
FIXED = {"strategy": "fixed", "length": 24}
WIDTH = 48


def _dense(**options):
    options = {"bias": False, "activation_function": torch.nn.Identity()} | options
    torch.manual_seed(4)
    return Dense(WIDTH, 16, module_input_name="token_embeddings", **options)


def _tokens(cls=Normalize):
    return cls("token_embeddings")


def _weights(tokenizer):
    words = ["wrote", "faust", "pear", "?"]
    return WordWeights(
        list(tokenizer.get_vocab()), dict(zip(words, [2.0, 3.0, 0.5, 0.1], strict=True))
    )


@pytest.fixture(scope="module")
def words():
    """BERT's tokenizer with a vocabulary of some hundred, which loads in no time."""
    small = tokenizer_of("minilm").train_new_from_iterator([*TEXTS, LONG, *QUERIES], 250)
    spelled = json.loads(small.backend_tokenizer.to_str())
    vocabulary = spelled["model"]["vocab"]
    for name in ("[unused0]", "[unused1]", "[unused7]"):
        vocabulary[name] = len(vocabulary)
    small._tokenizer = Tokenizer.from_str(json.dumps(spelled))
    return small


@pytest.fixture(scope="module")
def bases(words, tmp_path_factory):
    """Random transformers by family, made once."""
    folder = tmp_path_factory.mktemp("bases")
    special = {f"{name}_token_id": words.cls_token_id for name in ("cls", "bos")}
    special |= {f"{name}_token_id": words.sep_token_id for name in ("sep", "eos")}
    modern = {"local_attention": 48, "global_attn_every_n_layers": 2, "pad_token_id": 0, **special}

    @cache
    def base(family):
        changes = modern if family == "ModernBert" else {}
        made = save_model(folder / family, family, "minilm", vocab_size=len(words), **changes)
        words.save_pretrained(made)
        return made

    return base


@pytest.fixture(scope="module")
def saved(bases, tmp_path_factory):
    """Save a checkpoint by the library."""

    def save(*modules, family="Bert", prompts=None, similarity=None, **options):
        body = Transformer(str(bases(family)), **options)
        chain = [m if isinstance(m, torch.nn.Module) else m(body.tokenizer) for m in modules]
        folder = tmp_path_factory.mktemp("saved") / "model"
        model = MultiVectorEncoder(
            modules=[body, *chain], prompts=prompts, similarity_fn_name=similarity, device="cpu"
        )
        model.save_pretrained(str(folder), create_model_card=False)
        return folder, model

    return save


def _ours(folder, queries, texts):
    ranker = BlockRanker.from_pretrained(str(folder), device="cpu")
    return torch.tensor(ranker.scores_batch(queries, [texts] * len(queries)))


def _same(folder, model=None):
    """Ours are the scores of the library's `model`, or of its own reading of `folder`."""
    model = model or MultiVectorEncoder(str(folder), device="cpu")
    texts = [*TEXTS, LONG]
    wanted = model.similarity(model.encode_query(QUERIES), model.encode_document(texts))
    assert (wanted.max(1).values - wanted.min(1).values).min() > 0.02
    torch.testing.assert_close(_ours(folder, QUERIES, texts), wanted, rtol=0, atol=1e-4)


MASK = MultiVectorMask(skiplist_words=[".", ",", ";"])
CHECKPOINTS = {
    "lengths and prompts": (
        (_dense(), MASK, _tokens()),
        {
            "query_length": 7,
            "document_length": 20,
            "prompts": {"query": "[Q] ", "document": "read: "},
        },
    ),
    "expansion": ((_dense(), MASK, _tokens()), {"query_expansion": FIXED}),
    "attended": ((_dense(), MASK, _tokens()), {"query_expansion": FIXED | {"attend": True}}),
    "short": ((_dense(), MASK, _tokens()), {"query_expansion": FIXED | {"length": 9}}),
    "at least": (
        (_dense(), MASK, _tokens()),
        {"query_expansion": {"strategy": "min", "length": 9, "token": "[unused7]"}},
    ),
    "unscored": ((_dense(), _tokens()), {"query_expansion": FIXED}),
    "both sides": (
        (
            _dense(bias=True, activation_function=torch.nn.Tanh(), use_residual=True),
            MultiVectorMask(skiplist_words=["?", "[CLS]"], skiplist_tasks=["query", "document"]),
        ),
        {"similarity": "meanmaxsim"},
    ),
    "kept": ((_dense(), MultiVectorMask(keep_only_token_ids=[2, 3, *range(9, 60)]), _tokens()), {}),
    "routed": (
        (
            _dense(),
            lambda tokenizer: Router.for_query_document(
                [_tokens(), _weights(tokenizer)], [_tokens()]
            ),
            MASK,
        ),
        {},
    ),
    "Roberta": ((_dense(), MASK, _tokens()), {"family": "Roberta", "query_expansion": FIXED}),
    "ModernBert": ((_dense(), MASK, _tokens()), {"family": "ModernBert", "query_expansion": FIXED}),
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_scores_are_the_librarys(saved, name):
    modules, options = CHECKPOINTS[name]
    _same(*saved(*modules, **options))


@pytest.fixture(scope="module")
def colbert(saved):
    """A checkpoint with everything that a classic one has."""
    folder, _ = saved(
        _dense(),
        MASK,
        _tokens(),
        prompts={"query": "[Q] ", "document": "[D] "},
        query_expansion=FIXED,
        document_length=60,
    )
    return folder


@pytest.fixture(scope="module")
def ranker(colbert):
    return BlockRanker.from_pretrained(str(colbert), device="cpu")


@pytest.fixture
def copied(colbert, tmp_path):
    """A copy to change."""
    return Path(shutil.copytree(colbert, tmp_path / "copied"))


def test_no_bit_depends_on_order_or_company(ranker):
    texts = [*TEXTS, LONG[:300]]
    wanted = ranker.scores_batch(QUERIES, [texts] * 3)
    chance = random.Random(1)
    for count in (1, 2, 5):
        rows = chance.sample(range(len(texts)), count)
        for query, row in zip(QUERIES, wanted, strict=True):
            assert ranker.scores(query, [texts[n] for n in rows]) == [row[n] for n in rows]


def test_a_cache_gives_the_same_scores(ranker, tmp_path):
    """In memory, and in a folder that is opened again."""
    PassageCache.build(ranker, TEXTS, tmp_path / "cache", bits=32)
    for kept in (ranker.cache(TEXTS, bits=32), PassageCache.open(ranker, tmp_path / "cache")):
        assert kept.identity.tokens == {"head.0": (1, 16, "float32")}
        for query in QUERIES:
            found = {result.id: result.score for result in kept.rerank(query)}
            assert [found[str(n)] for n in range(len(TEXTS))] == ranker.scores(query, TEXTS)


def test_in_half_precision_scores_are_about_the_same(colbert, ranker):
    """The transformer's states are rounded; projections and maxima are in fp32."""
    half = BlockRanker.from_pretrained(str(colbert), device="cpu", dtype="bfloat16")
    found, wanted = (torch.tensor(each.scores(QUERIES[0], TEXTS)) for each in (half, ranker))
    assert 0 < (found - wanted).abs().max() < 0.05 * wanted.abs().max()
    assert half.backbone.model.dtype == torch.bfloat16
    with pytest.raises(ValueError, match="dtype 'fp8' is for decoders, and it is an encoder"):
        BlockRanker.from_pretrained(str(colbert), device="cpu", dtype="fp8")


def test_a_query_that_is_cut_is_told(ranker):
    with pytest.warns(QueryTruncatedWarning, match="a query of 41 tokens was cut to the 24 that"):
        ranker.scores("pear " * 36, TEXTS[:1])


def test_titles_stand_before_texts(ranker):
    titled, joined = ranker.scores(
        QUERIES[0], [{"title": "Pear", "text": "A fruit."}, "Pear\nA fruit."]
    )
    assert titled == joined


def test_a_mask_that_a_query_spells_is_text(ranker):
    """The library reads the control token there; a caller's words are words here."""
    (prompt,) = ranker.prompts(["pear [MASK]"], [[]])
    mask = ranker.backbone.tokenizer.mask_token_id
    own = len(ranker.backbone.tokenizer("[Q] pear [ mask ]")["input_ids"])
    assert prompt.query.ids.count(mask) == FIXED["length"] - own
    assert len(prompt.signal) == len(prompt.query.ids) == FIXED["length"]


def _changed(path, **values):
    """JSON at `path` with other `values`; those that are None are taken out."""
    found = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: x for key, x in found.items() if x is not None}))


def test_pylates_folders_are_read(copied):
    """PyLate 3: [Transformer, Dense], prefixes and lengths in one file, punctuation skipped."""
    modules = json.loads((copied / "modules.json").read_text())[:2]
    modules[1]["type"] = "pylate.models.Dense.Dense"
    (copied / "modules.json").write_text(json.dumps(modules))
    _changed(copied / "sentence_bert_config.json", query_expansion=None, document_length=None)
    _changed(
        copied / "config_sentence_transformers.json",
        model_type="ColBERT",
        prompts=None,
        query_prefix="[unused0] ",
        document_prefix="[unused1] ",
        query_length=20,
        document_length=30,
        attend_to_expansion_tokens=True,
    )
    ranker = BlockRanker.from_pretrained(str(copied), device="cpu")
    assert ranker.settings.expansion.length == ranker.settings.max_query_tokens == 20
    assert ranker.settings.passage.startswith("[unused1] ")
    _same(copied)


def test_stanfords_colbert_is_read(bases, tmp_path):
    """The projection lies among the transformer's weights, all else in artifact.metadata."""
    folder = tmp_path / "stanford"
    shutil.copytree(bases("Bert"), folder)
    weights = load_file(folder / "model.safetensors")
    weights = {f"bert.{name}": tensor for name, tensor in weights.items()}
    torch.manual_seed(4)
    weights["linear.weight"] = torch.randn(16, WIDTH)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _changed(folder / "config.json", architectures=["HF_ColBERT"])
    (folder / "artifact.metadata").write_text(json.dumps({"query_maxlen": 18, "doc_maxlen": 40}))
    _same(folder)


def test_a_hub_name_is_fetched_without_pickles(colbert, ranker, monkeypatch):
    asked = []

    def snapshot(name, allow_patterns, **_):
        asked.append((name, allow_patterns))
        return str(colbert)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    fetched = BlockRanker.from_pretrained("somebody/colbert", device="cpu")
    assert fetched.scores(QUERIES[0], TEXTS) == ranker.scores(QUERIES[0], TEXTS)
    assert {name for name, _ in asked} == {"somebody/colbert"}
    assert not [
        each for _, patterns in asked for each in patterns if each.endswith((".bin", ".py"))
    ]


def _pickled(folder):
    (folder / "1_Dense" / "model.safetensors").rename(folder / "1_Dense" / "pytorch_model.bin")


def _stranger(folder):
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "antigravity.Dense"
    (folder / "modules.json").write_text(json.dumps(modules))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_pickled, "pytorch_model.bin is a pickle"),
        (_stranger, "class 'antigravity.Dense', which is not sentence-transformers' own"),
        (
            lambda folder: _changed(
                folder / "config_sentence_transformers.json", prompts={"query": "{text} "}
            ),
            "spells a placeholder",
        ),
        (
            lambda folder: _changed(folder / "1_Dense" / "config.json", module_output_name="other"),
            "its Dense reads and writes other, token_embeddings, wanted token_embeddings",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(copied, change, message):
    change(copied)
    with pytest.raises(ValueError, match=message):
        BlockRanker.from_pretrained(str(copied), device="cpu")


def test_pooled_tokens_are_refused(saved):
    folder, _ = saved(_dense(), MASK, _tokens(), HierarchicalTokenPooling(pool_factor=2))
    with pytest.raises(ValueError, match="HierarchicalTokenPooling is not known"):
        BlockRanker.from_pretrained(str(folder), device="cpu")


def test_a_decoder_is_refused(tmp_path):
    folder = save_model(tmp_path, "Llama", "smollm2")
    (folder / "config_sentence_transformers.json").write_text(
        '{"model_type": "MultiVectorEncoder"}'
    )
    with pytest.raises(ValueError, match="a decoder's late interaction; only encoders' are read"):
        BlockRanker.from_pretrained(str(folder), device="cpu")


def test_it_is_not_trained_here(ranker):
    with pytest.raises(ValueError, match="train it with sentence-transformers"):
        ranker.backbone.model.train()
