"""Passage caches on disk: whole or not at all, resumed byte for byte, refused when not ours."""

import dataclasses
import json
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rerank_cases import PASSAGES, QUERY, load_ranker, save_model, scores
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rerank import PassageCache, PassagesTruncatedWarning
from rerank.cache.build import build
from rerank.cache.files import read_manifest, record_of

ROOT = Path(__file__).resolve().parents[3]
MANY = [
    {"id": f"p{n}", "title": "", "text": f"Passage {n}. " + "Rain fell. " * n} for n in range(9)
]
IDS = [passage["id"] for passage in MANY]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Shards of three passages or so."""
    monkeypatch.setattr("rerank.cache.build._SHARD_BYTES", 1)
    monkeypatch.setattr("rerank.cache.build._BATCH_TOKENS", 40)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    folder = save_model(tmp_path_factory.mktemp("llama"), "Llama", "smollm2")
    return load_ranker(
        folder,
        "backbone: decoder\nquery_in_instruction: false\ninstruction: 'Rank.\\n'\n"
        "passage: '{text}\\n'\nquery: '{query}?'\nquery_attends: true\nsignal: last\n"
        "score: mass\nlayer: 2\n",
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("which", ["minilm", "decoder"])
@pytest.mark.parametrize("bits", [32, 16, 8, 4])
def test_a_cache_on_disk_is_the_one_in_memory(which, bits, minilm_ranker, decoder, tmp_path):
    ranker = minilm_ranker if which == "minilm" else decoder
    cache = PassageCache.build(ranker, iter(MANY), tmp_path, bits)
    assert len(cache.shards) > 2
    assert (len(cache), cache.ids) == (9, IDS)
    assert cache.scores(QUERY, IDS) == ranker.cache(MANY, bits).scores(QUERY, IDS)
    some = [IDS[i] for i in (8, 0, 5, 3)]
    assert PassageCache.open(ranker, tmp_path, verify=True).scores(QUERY, some) == (
        ranker.cache(MANY, bits).scores(QUERY, some)
    )
    if bits == 32:
        assert cache.scores(QUERY, IDS) == scores(ranker, QUERY, MANY)


def test_states_on_disk_are_mapped_not_read(minilm_ranker, tmp_path):
    """A cache may be larger than the memory there is."""
    cache = PassageCache.build(minilm_ranker, MANY, tmp_path, 32)
    maps = Path("/proc/self/maps").read_text() if Path("/proc/self/maps").exists() else None
    if maps is None:
        pytest.skip("this system does not tell what is mapped")
    assert sum(line.endswith(".safetensors") for line in maps.splitlines()) >= len(cache.shards)


@pytest.mark.parametrize(("stop_at", "kept"), [(1, 0), (3, 1), (5, 2)])
def test_a_killed_build_goes_on_to_the_same_bytes(
    minilm_ranker, tmp_path, monkeypatch, stop_at, kept
):
    backbone = minilm_ranker.backbone
    build(backbone, MANY, tmp_path / "whole", 4, 0.1)
    read, calls = type(backbone).read_passages, []

    def counted(self, prompts):
        calls.append(prompts)
        if len(calls) > stop_at:
            raise KeyboardInterrupt
        return read(self, prompts)

    monkeypatch.setattr(type(backbone), "read_passages", counted)
    with pytest.raises(KeyboardInterrupt):
        build(backbone, MANY, tmp_path / "killed", 4, 0.1)
    with pytest.raises(ValueError, match=r"unfinished build|no passage cache"):
        PassageCache.open(minilm_ranker, tmp_path / "killed")
    assert len(list((tmp_path / "killed").glob("shard-*"))) == kept
    monkeypatch.setattr(type(backbone), "read_passages", read)
    build(backbone, MANY, tmp_path / "killed", 4, 0.1)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_process_killed_while_it_builds_leaves_what_the_next_one_needs(minilm_ranker, tmp_path):
    (tmp_path / "passages.jsonl").write_text("\n".join(map(json.dumps, MANY)))
    program = (
        "import os, signal, rerank.cache.build as build\n"
        "build._SHARD_BYTES, build._BATCH_TOKENS = 1, 40\n"
        "written, write = [], build.write_tensors\n"
        "def stop(path, *rest):\n"
        "    if len(written) == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    write(path, *rest); written.append(path)\n"
        "build.write_tensors = stop\n"
        "from rerank.__main__ import make_parser\n"
        "from configs.command import run_command\n"
        f"run_command(make_parser(), ['cache', 'build', 'minilm', '--passages', "
        f"'{tmp_path}/passages.jsonl', '--out', '{tmp_path}/killed'])\n"
    )
    killed = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    names = sorted(path.name for path in (tmp_path / "killed").iterdir())
    assert names == [
        "instruction.safetensors",
        "shard-00000.safetensors",
        "shard-00001.safetensors",
    ]
    build(minilm_ranker.backbone, MANY, tmp_path / "killed", 8, 0.05)
    build(minilm_ranker.backbone, MANY, tmp_path / "whole", 8, 0.05)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_build_over_something_else_is_refused(minilm_ranker, decoder, tmp_path):
    backbone = minilm_ranker.backbone
    build(backbone, MANY, tmp_path, 8, 0.05)
    with pytest.raises(ValueError, match="holds a whole passage cache; remove it"):
        build(backbone, MANY, tmp_path, 8, 0.05)
    (tmp_path / "manifest.json").unlink()
    others = [{**MANY[0], "text": "Other words."}, *MANY[1:]]
    for passages in (others, MANY[1:], MANY[:1]):
        with pytest.raises(ValueError, match=r"unfinished cache of other passages: passage \d of"):
            build(backbone, passages, tmp_path, 8, 0.05)
    for ranker, bits in ((minilm_ranker, 16), (decoder, 8)):
        with pytest.raises(ValueError, match="unfinished cache of another model or other settings"):
            build(ranker.backbone, MANY, tmp_path, bits, 0.05)


def test_a_cache_of_another_model_or_other_settings_is_refused(minilm_ranker, decoder, tmp_path):
    PassageCache.build(minilm_ranker, MANY, tmp_path / "minilm")
    PassageCache.build(decoder, MANY, tmp_path / "decoder")
    with pytest.raises(ValueError, match="was made with other settings: "):
        PassageCache.open(decoder, tmp_path / "minilm")
    folder = Path(decoder.backbone.model.config.name_or_path)
    own = (folder / "blockrank.yaml").read_text()
    for change, message in (
        (("layer: 2", "layer: 1"), "other settings: layer is 2 there and 1 here"),
        (("'Rank.", "'Order."), "other settings: instruction is 'Rank.* there and 'Order."),
        (("'{query}?'", "'Query: {query}'"), None),
    ):
        other = load_ranker(folder, own.replace(*change))
        if message is None:
            assert len(PassageCache.open(other, tmp_path / "decoder")) == 9
            continue
        with pytest.raises(ValueError, match=message):
            PassageCache.open(other, tmp_path / "decoder")
    (folder / "blockrank.yaml").write_text(own)
    half = load_ranker(folder, dtype="bfloat16")
    with pytest.raises(ValueError, match="was made in float32, the reranker runs in bfloat16"):
        PassageCache.open(half, tmp_path / "decoder")
    trained = load_ranker(folder)
    with torch.no_grad():
        trained.backbone.model.layers[0].mlp.up_proj.weight.add_(0.01)
    with pytest.raises(ValueError, match="was made with another model"):
        PassageCache.open(trained, tmp_path / "decoder")


def test_a_setting_that_came_later_and_is_unset_refuses_no_older_cache(minilm_ranker, tmp_path):
    PassageCache.build(minilm_ranker, MANY, tmp_path)
    manifest = tmp_path / "manifest.json"
    values = json.loads(manifest.read_text())
    assert values["identity"]["settings"].pop("layer", 0) is None
    manifest.write_text(json.dumps(values))
    assert len(PassageCache.open(minilm_ranker, tmp_path)) == 9


def test_broken_files_are_named(minilm_ranker, tmp_path):
    cache = PassageCache.build(minilm_ranker, MANY, tmp_path)
    shard = tmp_path / "shard-00001.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=r"shard-00001.* is broken: its checksum is not the man"):
        PassageCache.open(minilm_ranker, tmp_path, verify=True)
    shard.write_bytes(whole[:-5])
    with pytest.raises(ValueError, match=r"shard-00001.* is broken: it has \d+ bytes"):
        PassageCache.open(minilm_ranker, tmp_path)
    shard.write_bytes(b"\xff" * len(whole))
    with pytest.raises(ValueError, match=r"shard-00001.* is broken"):
        PassageCache.open(minilm_ranker, tmp_path)
    shard.unlink()
    with pytest.raises(ValueError, match=r"shard-00001.* is missing; build the cache again"):
        PassageCache.open(minilm_ranker, tmp_path)
    manifest = tmp_path / "manifest.json"
    values = json.loads(manifest.read_text())
    for text, message in (
        (json.dumps(values | {"version": 9}), "has version 9, this program reads 2"),
        (json.dumps(values | {"more": 1}), "unknown setting 'more'"),
        ("[]", "is no manifest of a passage cache"),
        ("{", "is no JSON"),
    ):
        manifest.write_text(text)
        with pytest.raises(ValueError, match=message):
            PassageCache.open(minilm_ranker, tmp_path)
    with pytest.raises(ValueError, match="holds no passage cache"):
        PassageCache.open(minilm_ranker, tmp_path / "nowhere")
    assert len(cache) == 9


def _set(path, value):
    def change(values):
        *parents, last = path
        for name in parents:
            values = values[name]
        values[last] = value

    return change


def _changed(folder, change):
    values = json.loads((folder / "manifest.json").read_text())
    change(values)
    (folder / "manifest.json").write_text(json.dumps(values))


@pytest.fixture(scope="module")
def whole(minilm_ranker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "cache"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("rerank.cache.build._SHARD_BYTES", 1)
        patched.setattr("rerank.cache.build._BATCH_TOKENS", 40)
        build(minilm_ranker.backbone, MANY, folder, 4, 0.1)
    return folder


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["shards", 1, "file"], "../outside", "'../outside' stands in the place of shard-00001"),
        (["shards", 1, "file"], "shard-00000.safetensors", "stands in the place of shard-00001"),
        (["instruction", "file"], "/etc/passwd", "'/etc/passwd' stands in the place of instru"),
        (["shards", 1, "bytes"], -1, "fewer bytes, passages or tokens than none"),
        (["shards", 1, "bytes"], True, r"shards\[1\]: bytes is True, wanted int"),
        (["shards", 1, "sha256"], "f" * 63, "wanted 64 hexadecimal digits"),
        (["shards"], [], "passages is 9, its shards have 0"),
        (["passages"], 10, "passages is 10, its shards have 9"),
        (["tokens"], "many", "tokens is 'many', wanted int"),
        (["identity", "bits"], 5, "bits is 5, wanted 32, 16, 8, 6, 4"),
        (["identity", "salient_share"], 1, "the salient share is 1.0, wanted 0 or more and below"),
        (["identity", "dtype"], "load", "dtype is 'load', wanted float32, bfloat16, float16"),
        (["identity", "tokens", "head.0"], [10**9, 10**9, "float32"], "have 1000000000 heads of"),
        (["identity", "tokens", "head.0"], [12], r"identity: tokens\.head\.0 has 1 values, want"),
        (["identity", "fingerprint"], None, "fingerprint is None, wanted str"),
    ],
)
def test_a_manifest_by_a_stranger_is_checked(whole, tmp_path, path, value, message):
    shutil.copy(whole / "manifest.json", tmp_path)
    _changed(tmp_path, _set(path, value))
    with pytest.raises(ValueError, match=message) as raised:
        read_manifest(tmp_path)
    assert "manifest.json is damaged" in str(raised.value)


def _rewritten(folder, name, change):
    """Another file in the place of one, its record with it: only what it holds is wrong."""
    with safe_open(folder / name, "pt") as file:
        metadata = file.metadata()
    save_file(change(load_file(folder / name)), folder / name, metadata)
    record = dataclasses.asdict(record_of(folder / name))

    def put(values):
        for each in (values["instruction"], *values["shards"]):
            if each["file"] == name:
                each |= {key: record[key] for key in ("bytes", "sha256")}

    _changed(folder, put)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: {k: v for k, v in x.items() if k != "words"}, "'words'"),
        (lambda x: x | {"token.more": x["words"].clone()}, "token.more is missing or unknown"),
        (lambda x: x | {"lengths": x["lengths"] - 50}, "its lengths are none"),
        (lambda x: x | {"lengths": x["lengths"].int()}, "its lengths are none"),
        (lambda x: x | {"lengths": x["lengths"] + 1}, r"wanted torch\.\w+ \[\d+"),
        (lambda x: x | {"lengths": torch.ones(9, dtype=torch.int64)}, "ids for 9 passages"),
        (lambda x: x | {"key_mask": x["key_mask"].int()}, r"key_mask is torch\.int32"),
        (lambda x: x | {"words": x["words"][:-1].clone()}, "words is torch.int32"),
        (lambda x: x | {"salient": ~x["salient"]}, r"\.salient"),
        (lambda x: x | {"texts": torch.zeros(3, dtype=torch.uint8)}, "JSON"),
        (lambda x: x | {"texts": _texts([[1], ["-"]])}, "its ids are no strings"),
    ],
)
def test_a_shard_by_a_stranger_is_checked(minilm_ranker, whole, tmp_path, change, message):
    folder = tmp_path / "cache"
    shutil.copytree(whole, folder)
    _rewritten(folder, "shard-00001.safetensors", change)
    with pytest.raises(ValueError, match=message) as raised:
        PassageCache.open(minilm_ranker, folder, verify=True)
    assert "shard-00001.safetensors is no shard of this passage cache" in str(raised.value)


def _texts(value):
    return torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)


def test_files_that_contradict_each_other_are_refused(minilm_ranker, whole, tmp_path):
    def opened(name, change):
        folder = tmp_path / name
        shutil.copytree(whole, folder)
        change(folder)
        return PassageCache.open(minilm_ranker, folder)

    first = load_file(whole / "shard-00000.safetensors")
    with pytest.raises(ValueError, match=r"holds other counts than manifest|an id twice"):
        opened("twice", lambda f: _rewritten(f, "shard-00001.safetensors", lambda x: first))

    def narrow(states):
        return {name: x[..., :1].clone() for name, x in states.items()}

    with pytest.raises(ValueError, match=r"holds other states than manifest\.json says"):
        opened("narrow", lambda f: _rewritten(f, "instruction.safetensors", narrow))
    with pytest.raises(ValueError, match="says that it holds other states than this model's"):
        opened("heads", lambda f: _changed(f, _set(["identity", "tokens"], {})))

    def link(folder):
        (folder / "instruction.safetensors").rename(tmp_path / "outside")
        (folder / "instruction.safetensors").symlink_to(tmp_path / "outside")

    with pytest.raises(ValueError, match="is a link that leads out of the cache"):
        opened("link", link)
    assert len(opened("whole", lambda folder: None)) == 9


@pytest.mark.parametrize(
    "name", ["notes.txt", "instruction.safetensors", "shard-00007.safetensors"]
)
def test_a_folder_of_the_users_is_refused_before_anything_is_read(tmp_path, name):
    (tmp_path / name).write_text("the user's")
    with pytest.raises(ValueError, match=r"is in the way|is no file of a passage cache") as raised:
        build(None, None, tmp_path, 8, 0.05)
    assert str(tmp_path / name) in str(raised.value)
    assert contents(tmp_path) == {name: b"the user's"}


def test_a_full_disk_names_the_file(minilm_ranker, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            build(minilm_ranker.backbone, MANY, tmp_path, 8, 0.05)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.filename == str(tmp_path / "instruction.safetensors")
    assert contents(tmp_path) == {}


def test_what_was_cut_is_counted(minilm_ranker):
    long = {"id": "long", "text": "Rain fell. " * 500}
    with pytest.warns(PassagesTruncatedWarning, match="1 of 6 passages were cut to 1024 tokens"):
        cache = minilm_ranker.cache([long, *PASSAGES], 32)
    with pytest.warns(PassagesTruncatedWarning):
        wanted = scores(minilm_ranker, QUERY, [long, *PASSAGES])
    assert cache.scores(QUERY, cache.ids) == wanted


def test_the_command_builds_and_tells(run_module, tmp_path):
    passages = tmp_path / "passages.txt"
    passages.write_text("\n".join([json.dumps(MANY[2]), "", "A pear."]))
    told = {}
    out = tmp_path / "c"
    build_it = ("rerank", "cache", "build", "minilm", "--passages", passages, "--out", out)
    for name, arguments in (
        ("built", (*build_it, "--bits", 4, "--json")),
        ("info", ("rerank", "cache", "info", out, "--verify", "--json")),
    ):
        found = run_module(*arguments)
        assert found.returncode == 0, found.stderr
        told[name] = json.loads(found.stdout)
    assert told["built"] == told["info"]
    assert told["info"]["passages"] == 2
    assert told["info"]["bits"] == 4
    assert told["info"]["bytes"] == sum(path.stat().st_size for path in out.glob("*.safetensors"))
    passages.write_text('{"text": "Good."}\n{broken\n')
    for arguments, message in (
        ((*build_it[:-1], tmp_path / "d"), r"passages.txt:2: broken JSON"),
        ((*build_it[:5], "nowhere.jsonl", *build_it[6:]), "nowhere.jsonl does not exist"),
        (("rerank", "cache", "info", tmp_path), "holds no passage cache"),
    ):
        found = run_module(*arguments)
        assert found.returncode == 2
        assert message in found.stderr
        assert len(found.stderr.strip().splitlines()) == 1
