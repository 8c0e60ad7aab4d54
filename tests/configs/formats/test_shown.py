from configs.formats.shown import snippet


def test_a_snippet_is_one_short_line_that_moves_nothing():
    assert snippet("a\n\tb") == "a b"
    assert snippet("x" * 100) == "x" * 100
    assert snippet("x" * 101) == "x" * 100 + "…"
    assert snippet("abc", 2) == "ab…"
    assert snippet("\x1b[31mred") == "\\x1b[31mred"
    # Cut before it is spelled out: no half of an escape is left.
    assert snippet("\u202e\u202e\u202e", 2) == "\\u202e\\u202e…"
