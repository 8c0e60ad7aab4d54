"""Chunks of whole sentences: nothing is lost, nothing is cut apart, overlap holds what it says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.formats.chunks import chunks, pieces, sentences


def characters(texts):
    return [len(text) for text in texts]


def words(texts):
    return [len(text.split()) for text in texts]


def _cut(text, spans):
    return [text[start:end] for start, end in spans]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        (" \n\t ", []),
        ("  One. Two! ", ["One. ", "Two! "]),
        ("Pi is 3.14, e.g. here. Yes?", ["Pi is 3.14, e.g. here. ", "Yes?"]),
        ('She said "No." Then left.', ['She said "No." ', "Then left."]),
        ("Title\n\nsmall letters\nfollow", ["Title\n\n", "small letters\nfollow"]),
        ("One.\n\nand two.", ["One.\n\n", "and two."]),
        ("你好。世界！「好。」再见", ["你好。", "世界！", "「好。」", "再见"]),
        ("Wait... what? Oh", ["Wait... what? ", "Oh"]),
        ("one\r\n\r\ntwo", ["one\r\n\r\n", "two"]),
        ("好！\ufe0f对", ["好！\ufe0f对"]),  # the selector belongs to the mark
    ],
)  # fmt: skip
def test_sentences(text, wanted):
    assert _cut(text, sentences(text)) == wanted


def test_chunks_by_hand():
    text = "A b c. D e. F g h. I j.  "
    assert _cut(text, chunks(text, words, 5)) == ["A b c. D e.", "F g h. I j."]
    # The last sentences that hold two words come again.
    assert _cut(text, chunks(text, words, 8, 2)) == ["A b c. D e. F g h.", "F g h. I j."]
    # A sentence longer than (7 - 2) // 2 words is parted, at a space where there is nothing better.
    assert _cut(text, chunks(text, words, 7, 2)) == ["A b c. D e. F g", "F g h. I j."]


def test_a_text_of_one_chunk_is_that_text():
    assert _cut("\n One. Two. \n", chunks("\n One. Two. \n", words, 10, 3)) == ["One. Two."]


ALPHABET = "ab .!?,\n\r。你é́👩\u200d👧🏽🇩🇪각\ufe0f"


@given(st.text(ALPHABET, max_size=150), st.integers(2, 40), st.data())
def test_nothing_is_lost_and_every_overlap_holds(text, size, data):
    overlap = data.draw(st.integers(0, size - 1))
    found = list(chunks(text, characters, size, overlap))
    covered = {place for span in found for place in range(*span)}
    assert all(place in covered or c.isspace() for place, c in enumerate(text))
    assert found == sorted(set(found))
    parts = list(pieces(text, characters, max(1, (size - overlap) // 2)))
    divisible = all(part.tokens <= max(1, (size - overlap) // 2) for part in parts)
    for start, end in found:
        assert start < end
        assert text[start:end] == text[start:end].strip()
        assert not divisible or end - start <= size
    if divisible:
        # Every stretch of `overlap` characters lies whole in a chunk, white space at ends aside.
        for place in range(len(text) - overlap + 1):
            stretch = text[place : place + overlap]
            first = place + len(stretch) - len(stretch.lstrip())
            last = place + len(stretch.rstrip())
            assert first >= last or any(s <= first and last <= e for s, e in found)


@given(st.text(ALPHABET, max_size=100), st.integers(1, 6))
def test_pieces_join_to_the_text(text, most):
    parts = list(pieces(text, characters, most))
    assert "".join(text[start:end] for start, end, _ in parts) == text.lstrip()


CHARACTERS = [
    "👩‍👩‍👧",
    "🇩🇪",
    "e\u0301",
    "👍🏽",
    "각",
    "❤\ufe0f",
    "🏴\U000e0067\U000e0062\U000e007f",
]


@pytest.mark.parametrize("character", CHARACTERS)
def test_no_character_is_cut(character):
    text = character * 20
    for size in (1, 4, 7):
        for start, end in chunks(text, characters, size):
            assert text[start:end] == character * ((end - start) // len(character))


def test_a_text_without_spaces_is_cut_into_full_chunks():
    text = "天地玄黄宇宙洪荒" * 500
    found = list(chunks(text, characters, 100, 20))
    assert all(end - start <= 100 for start, end in found)
    assert len(found) < 2 * len(text) / 80


def test_no_string_that_is_counted_is_long():
    """A tokenizer's memory grows with its text: a document of one line is cut before."""
    longest = 0

    def counter(texts):
        nonlocal longest
        longest = max(longest, *map(len, texts))
        return characters(texts)

    assert sum(1 for _ in chunks("x" * 100_000, counter, 200, 40)) > 500
    assert longest <= 10_000


@pytest.mark.parametrize("text", ["." * 20_000, '."' * 10_000, "!\n \n" * 5_000, "🇩🇪" * 10_000])
def test_hard_texts_take_few_steps(text):
    """Texts that would take the square of their length in a rule written carelessly."""
    assert sum(1 for _ in chunks(text, characters, 200, 40)) >= 50


def test_what_has_no_token_makes_no_chunk():
    assert list(chunks("\ufffd\ufffd", lambda texts: [0] * len(texts), 5)) == []


@pytest.mark.parametrize(("size", "overlap"), [(0, 0), (5, 5), (5, -1)])
def test_sizes_that_do_not_fit_are_refused(size, overlap):
    with pytest.raises(ValueError, match=r"is -?\d tokens, wanted"):
        list(chunks("a", words, size, overlap))
