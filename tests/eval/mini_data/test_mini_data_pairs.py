from eval.mini_data.pairs import Pairs, alone, cloze, drawn, keywords, verbose, words_of

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


def test_sentences_on_end_ask_for_the_rest_which_keeps_its_lines():
    lines = "\n".join(f"Line number {n} says something of its own." for n in range(8))
    made = [verbose(f"{seed}. {lines}", seed) for seed in range(60)]
    stayed = [each for each in made if each.query in " ".join(each.rest.split())]
    assert 0 < len(stayed) < 20
    for each in (each for each in made if each not in stayed):
        count = each.query.count("Line")
        assert count in (2, 3)
        assert each.rest.count("\nLine") >= 8 - count - 1
        first = int(each.query.split()[2])
        assert each.query.split()[2::8] == [str(first + n) for n in range(count)]
    assert len({each.query.count("Line") for each in made}) == 2
    assert verbose(TEXT, 0) is None
    assert verbose(f"One two three four five. {'word ' * 90}. " * 2, 0) is None
    assert verbose(f"return one and two {'x' * 600}. " * 9, 0) is None


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
