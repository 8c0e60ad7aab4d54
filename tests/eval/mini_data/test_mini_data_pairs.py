from eval.mini_data.pairs import Pairs, alone, cloze, drawn, keywords, words_of

TEXT = (
    "The first sentence says what this is. The second one asks for all the others. "
    "A third one adds some detail. And a fourth one ends it."
)


def test_the_second_sentence_asks_for_the_others_and_is_not_among_them():
    pairs = cloze("c", ["Too short. Much too short.", TEXT])
    ((query, place),) = pairs.queries
    assert query == "The second one asks for all the others."
    assert query not in pairs.passages[place]
    assert pairs.passages[place].startswith("The first")
    assert pairs.passages[place].endswith("it.")


def test_keywords_are_rare_words_of_the_passage_in_its_order():
    words = words_of(TEXT)
    frequency = dict.fromkeys(("the", "one", "and", "for", "all"), 100)
    pairs = keywords("k", [TEXT, "few words"], frequency, seed=0)
    ((query, place),) = pairs.queries
    found = query.split()
    assert place == 0
    assert 2 <= len(found) <= 5
    assert not set(found) & set(frequency)
    assert [words.index(word) for word in found] == sorted(words.index(word) for word in found)
    assert keywords("k", [TEXT], frequency, seed=0) == pairs._replace(passages=[TEXT])


def test_a_draw_depends_on_the_texts_alone():
    pairs = Pairs("p", ["x", "y", "z"], [("one", 0), ("two", 1), ("three", 2)])
    mixed = pairs._replace(queries=pairs.queries[::-1])
    assert drawn(pairs, 2) == drawn(mixed, 2)
    assert len(drawn(pairs, 9).queries) == 3


def test_passages_nobody_asks_for_are_left_out():
    pairs = alone(Pairs("p", ["x", "y", "z"], [("two", 2), ("one", 0)]))
    assert [(query, pairs.passages[place]) for query, place in pairs.queries] == [
        ("two", "z"),
        ("one", "x"),
    ]
    assert pairs.passages == ["x", "z"]
