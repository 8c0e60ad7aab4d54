"""The lexical leg: what words find, whatever segment they lie in, and what its files may become."""

import errno
import json
import math
import random
import shutil

import pytest
from index_cases import change_index, unit_vectors, write_index, write_values
from kill_cases import largest_file

import index.words.files
import index.words.leg
from index.dense_index import DenseIndex
from index.manifest.manifest import MANIFEST, Manifest
from index.records import Passage
from index.store.shards import write_shard
from index.verify import verify
from index.words.files import write_lexical
from index.words.scratch import SCRATCH

PASSAGES = [
    Passage("wing", "Wings", "Lift of a swept wing at high speed."),
    Passage("pear", "", "Pears and apples ripen in autumn."),
    Passage("lift", "", "A lift carries passengers; lifts are inspected."),
]


def _made(folder, texts, lexical="english", **others):
    write_index(folder, unit_vectors(len(texts)), texts=texts, lexical=lexical, **others)
    return DenseIndex.open(folder)


def _random_texts(count, seed=0):
    """Passages of words from a skewed vocabulary, no two of which score alike by chance alone."""
    draw = random.Random(seed)
    words = [f"w{n}" for n in range(40)]
    weights = [1 / (n + 1) for n in range(40)]
    return [
        Passage(f"p{n:04d}", "", " ".join(draw.choices(words, weights, k=draw.randrange(1, 30))))
        for n in range(count)
    ]


def _ids(index, query, k=10):
    (hits,) = index.search_words([query], k)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    return [hit.id for hit in hits]


def test_words_meet_by_their_stems_and_rarer_ones_count_more(tmp_path):
    index = _made(tmp_path, PASSAGES)
    assert _ids(index, "lifting wings") == ["wing", "lift"]
    assert _ids(index, "zebra") == [] == _ids(index, "of the")


def test_plain_words_are_neither_stemmed_nor_left_out(tmp_path):
    index = _made(tmp_path, [*PASSAGES, Passage("de", "", "Äpfel und Birnen")], "plain")
    assert _ids(index, "lifting wings") == ["wing"]
    assert _ids(index, "OF the") == ["wing"]
    assert _ids(index, "äpfel") == ["de"]


def test_a_score_is_bm25_as_by_hand(tmp_path):
    ((hit,),) = _made(tmp_path, PASSAGES).search_words(["autumn"], 10)
    lengths = {"wing": 6, "pear": 4, "lift": 5}  # words that are left: no stop words
    idf = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    norm = 1.2 * (1 - 0.75 + 0.75 * lengths["pear"] / (sum(lengths.values()) / 3))
    assert hit.score == pytest.approx(idf * (1 + 1.2) / (1 + norm), rel=1e-6)


def test_a_word_counts_as_often_as_the_query_has_it(tmp_path):
    index = _made(tmp_path, PASSAGES)
    (once,), (thrice,) = index.search_words(["autumn", "autumn Autumn autumn"], 1)
    assert thrice.score == pytest.approx(3 * once.score, rel=1e-6)


@pytest.mark.parametrize(
    "query",
    [
        '"(+-~*:^\\',
        "",
        "  ",
        "\x00",
        "text:pear AND (NOT",
        "[a TO b]",
        "é\u0301\u200b",
        "🎉",
        "x" * 10**5,
    ],
)
def test_no_text_is_more_than_its_words(tmp_path_factory, query):
    """And the words beside it are found as ever."""
    folder = tmp_path_factory.getbasetemp() / "any text"
    index = DenseIndex.open(folder) if folder.exists() else _made(folder, PASSAGES)
    assert set(_ids(index, query)) <= {"pear"}
    assert _ids(index, f"autumn {query}") == ["pear"]


def test_long_queries_and_words_of_other_scripts(tmp_path):
    index = _made(
        tmp_path, [*PASSAGES, Passage("cn", "", "北京 大学"), Passage("e", "", "a 🎉 b1")]
    )
    assert _ids(index, "北京") == ["cn"]
    assert _ids(index, " ".join(f"autumn{n}" for n in range(10_000)) + " autumn") == ["pear"]
    assert _ids(index, "ripening " * 10_000) == ["pear"]


def test_equal_scores_go_by_id_in_any_segment(tmp_path):
    twins = [Passage(name, "", "the very same words") for name in ("d", "b", "f")]
    _made(tmp_path, twins)
    more = [Passage(name, "", "the very same words") for name in ("e", "a", "c")]
    change_index(tmp_path, more, unit_vectors(3, seed=1))
    index = DenseIndex.open(tmp_path)
    for k in range(1, 8):
        assert _ids(index, "words", k) == list("abcdef")[:k]


def test_segments_and_pieces_find_what_one_index_finds_to_the_last_bit(tmp_path, monkeypatch):
    texts = _random_texts(300)
    queries = [" ".join(f"w{n}" for n in range(i, 40, 7)) for i in range(7)] + ["w0", "w39 w0"]
    whole = _made(tmp_path / "whole", texts)
    wanted = whole.search_words(queries, 40)
    assert all(wanted)
    monkeypatch.setattr(index.words.files, "_PIECE_BYTES", 2_000)
    grown = tmp_path / "grown"
    _made(grown, texts[:200], shard_size=30)
    change_index(grown, texts[200:210], unit_vectors(10))
    manifest = change_index(grown, texts[210:], unit_vectors(90))
    assert [len(segment.words) for segment in manifest.segments] == [5, 1, 3]
    assert DenseIndex.open(grown).search_words(queries, 40) == wanted
    assert verify(grown) == ([], 1.0)


def test_deleted_passages_are_not_found_and_count_until_compact(tmp_path):
    texts = _random_texts(120)
    _made(tmp_path / "index", texts)
    gone = [passage.id for passage in texts[::2]]
    change_index(tmp_path / "index", deleted=gone)
    left = [passage for passage in texts if passage.id not in gone]
    fresh = _made(tmp_path / "fresh", left)
    queries = ["w0 w5", "w1", "w30 w2"]
    for k in (1, 5, 100):
        found = DenseIndex.open(tmp_path / "index").search_words(queries, k)
        wanted = fresh.search_words(queries, k)
        assert [len(hits) for hits in found] == [len(hits) for hits in wanted]
        assert not {hit.id for hits in found for hit in hits} & set(gone)
        assert found != wanted  # words are as rare as they were
    change_index(tmp_path / "index", compact=True)
    compacted = DenseIndex.open(tmp_path / "index")
    assert compacted.search_words(queries, 100) == fresh.search_words(queries, 100)
    for ours, theirs in zip(*(each.manifest.segments for each in (compacted, fresh)), strict=True):
        assert ours.words == theirs.words  # the same bytes


def test_an_open_index_stays_what_it_was(tmp_path):
    index = _made(tmp_path, PASSAGES)
    change_index(tmp_path, deleted=["pear"])
    change_index(tmp_path, compact=True)
    assert _ids(index, "autumn") == ["pear"]
    assert _ids(DenseIndex.open(tmp_path), "autumn") == []


def test_an_index_of_nothing_finds_nothing(tmp_path):
    _made(tmp_path, PASSAGES)
    change_index(tmp_path, deleted=[passage.id for passage in PASSAGES])
    assert _ids(DenseIndex.open(tmp_path), "autumn") == []
    change_index(tmp_path, PASSAGES[:1], unit_vectors(1))
    assert _ids(DenseIndex.open(tmp_path), "autumn wing") == ["wing"]


def test_an_index_without_words_says_how_it_gets_them(tmp_path):
    index = _made(tmp_path, PASSAGES, "off")
    with pytest.raises(ValueError, match=r"no lexical leg; .* compact .* --lexical english"):
        index.search_words(["autumn"], 3)


def test_k_below_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match="k is 0, wanted at least 1"):
        _made(tmp_path, PASSAGES).search_words(["autumn"], 0)


@pytest.mark.parametrize("suffix", ["fast", "fieldnorm", "idx", "pos", "store", "term"])
def test_a_damaged_file_is_refused_or_found_by_verify(tmp_path, suffix):
    _made(tmp_path, PASSAGES)
    path = tmp_path / "data-0001" / f"lexical-00000.{suffix}"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert verify(tmp_path).faults == [f"data-0001: {path.name} has changed"]
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(
        ValueError, match=r"is damaged \(the lexical files can't be read: .*overwrite"
    ):
        DenseIndex.open(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match=rf"is damaged \(data-0001: {path.name} is missing\)"):
        DenseIndex.open(tmp_path)
    path.symlink_to(shutil.copy(__file__, tmp_path.parent / "elsewhere"))
    with pytest.raises(ValueError, match="is a link that leads out of the index"):
        DenseIndex.open(tmp_path)


def test_verify_looks_for_passages_where_the_manifest_says_that_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(index.words.files, "_PIECE_BYTES", 2_000)
    _made(tmp_path, _random_texts(60))
    values = json.loads((tmp_path / MANIFEST).read_text())
    words = values["segments"][0]["words"]
    assert words[0]["rows"] != words[1]["rows"]
    words[0]["rows"], words[1]["rows"] = words[1]["rows"], words[0]["rows"]
    write_values(tmp_path, values)
    (fault,) = verify(tmp_path).faults
    assert fault.startswith("data-0001: the lexical files do not hold the words of row")


def test_verify_takes_many_passages_of_the_same_words(tmp_path, monkeypatch):
    monkeypatch.setattr(index.words.leg, "_LIKE_IT", 5)
    _made(tmp_path, [Passage(f"p{n:02d}", "", "the same words") for n in range(20)])
    assert verify(tmp_path) == ([], 1.0)


def test_no_place_for_temporary_files_is_no_damage(tmp_path, monkeypatch):
    _made(tmp_path, PASSAGES)
    monkeypatch.setattr(index.words.leg.tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(
        RuntimeError, match=r"none can be written .*; name a place for one in TMPDIR"
    ):
        DenseIndex.open(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(lexical="klingon"), "lexical is .klingon., wanted english"),
        (lambda v: v.update(lexical="off"), r"segments\[0\] has words, lexical is off"),
        (lambda v: v["segments"][0].update(words=[]), r"segments\[0\] has no words, lexical is"),
        (lambda v: v["segments"][0]["words"][0].update(rows=2), "its pieces of words have 2"),
        (lambda v: v["segments"][0]["words"][0]["sha256"].pop("idx"), "sha256 is of"),
        (lambda v: v["segments"][0]["words"][0]["sha256"].update(idx="../x"), "sha256.idx is"),
    ],
)  # fmt: skip
def test_a_manifest_that_contradicts_itself_is_refused(tmp_path, change, message):
    _made(tmp_path, PASSAGES)
    values = json.loads((tmp_path / MANIFEST).read_text())
    change(values)
    write_values(tmp_path, values)
    with pytest.raises(ValueError, match=message):
        Manifest.read(tmp_path)


@pytest.mark.parametrize(("size", "error"), [(100, errno.EFBIG), (1_000, errno.EIO)])
def test_a_full_disk_names_the_folder_and_leaves_nothing(tmp_path, monkeypatch, size, error):
    """Also where a thread of tantivy's meets it, which does not say what it met."""
    shard = write_shard(tmp_path, 0, PASSAGES, unit_vectors(3), 0)
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(index.words.files, "read_passages", lambda *_: PASSAGES * 40_000)
    with largest_file(size), pytest.raises(OSError, match=r"File too large|disk full") as raised:
        write_lexical(tmp_path, [shard], "english")
    assert (raised.value.errno, raised.value.filename) == (error, str(tmp_path / SCRATCH))
    assert sorted(tmp_path.iterdir()) == before


def test_a_strangers_file_where_tantivy_writes_is_left(tmp_path):
    shard = write_shard(tmp_path, 0, PASSAGES, unit_vectors(3), 0)
    (tmp_path / SCRATCH).mkdir()
    stranger = tmp_path / SCRATCH / "thesis.txt"
    stranger.write_text("mine")
    with pytest.raises(FileExistsError, match=SCRATCH):
        write_lexical(tmp_path, [shard], "plain")
    assert stranger.read_text() == "mine"
