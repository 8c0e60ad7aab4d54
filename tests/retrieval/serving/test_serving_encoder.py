"""A query's vector has the same bits alone and in any company."""

import numpy as np
import pytest

from retrieval.encoder import Encoder
from retrieval.serving import encoding
from retrieval.serving.encoding import SteadyEncoder

WORDS = (
    "how",
    "to",
    "open",
    "a",
    "file",
    "and",
    "read",
    "lines",
    "when",
    "the",
    "list",
    "is",
    "long",
)


@pytest.fixture(scope="module")
def encoder():
    return SteadyEncoder.load("minilm", device="cpu")


@pytest.fixture(scope="module")
def queries():
    random = np.random.default_rng(0)
    return [" ".join(random.choice(WORDS, count)) for count in random.integers(1, 24, 40)]


def test_bits_do_not_depend_on_the_company(encoder, queries, one_thread):
    prompt = encoder.record.query_prompt
    alone = np.concatenate([encoder.encode_apart([query], prompt)[0] for query in queries])
    together, lengths = encoder.encode_apart(queries, prompt)
    assert len(set(lengths.tolist())) < len(queries)  # else nothing was together
    np.testing.assert_array_equal(alone, together)
    backwards = encoder.encode_apart(queries[::-1], prompt)[0][::-1]
    np.testing.assert_array_equal(alone, backwards)


def test_equal_texts_are_read_once(tiny_encoder, monkeypatch, one_thread):
    encoder = SteadyEncoder.load(str(tiny_encoder), device="cpu")
    wanted = [encoder.encode_apart([text], "") for text in ("a b", "c d")]
    read = []
    plain = encoder._encode
    monkeypatch.setattr(
        encoder, "_encode", lambda texts, *rest: (read.extend(set(texts)), plain(texts, *rest))[1]
    )
    vectors, lengths = encoder.encode_apart(["a b", "c d", "a b", "c d", "a b"], "")
    assert sorted(read) == ["a b", "c d"]
    for row in range(5):
        np.testing.assert_array_equal(vectors[row], wanted[row % 2][0][0])
    assert lengths.tolist() == [wanted[row % 2][1][0] for row in range(5)]


def test_vectors_are_those_of_the_plain_encoder(encoder, queries, one_thread):
    plain = Encoder.encode_queries(encoder, queries)
    np.testing.assert_allclose(encoder.encode_queries(queries), plain, atol=1e-6)


def test_what_was_asked_before_is_remembered_to_the_bit(tiny_encoder, monkeypatch, one_thread):
    encoder = SteadyEncoder.load(str(tiny_encoder), device="cpu")
    monkeypatch.setattr(encoding, "_REMEMBERED", 2)
    read = []
    plain = encoder._encode
    monkeypatch.setattr(
        encoder, "_encode", lambda texts, *rest: (read.append(texts[0]), plain(texts, *rest))[1]
    )
    first = encoder.encode_queries(["a", "b c", "a"])
    np.testing.assert_array_equal(first[0], first[2])
    np.testing.assert_array_equal(encoder.encode_queries(["b c", "a"]), first[[1, 0]])
    assert sorted(read) == ["a", "b c"]
    encoder.encode_queries(["d d d"])
    np.testing.assert_array_equal(encoder.encode_queries(["b c", "a"]), first[[1, 0]])
    assert read.count("a") == 1  # it was asked for last
    assert read.count("b c") == 2
    assert all(vector.base is None for vector in encoder._known.values())  # no batch is held on to


def test_no_queries_have_no_vectors_and_a_bad_one_is_named(tiny_encoder):
    encoder = SteadyEncoder.load(str(tiny_encoder), device="cpu")
    assert encoder.encode_queries([]).shape == (0, encoder.record.dimension)
    with pytest.raises(ValueError, match="query 2 of 2 is empty"):
        encoder.encode_queries(["a", " "])
