import numpy as np
import pytest

from configs.formats.checks import check_count, is_blank


@pytest.mark.parametrize("value", [1, 7, np.int64(3)])
def test_a_count_is_a_whole_number_from_1(value):
    check_count("top_k", value)


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (0, ValueError, "top_k is 0, wanted at least 1"),
        (-2, ValueError, "top_k is -2, wanted at least 1"),
        (2.5, TypeError, r"top_k is 2\.5, wanted a whole number"),
        (2.0, TypeError, r"top_k is 2\.0, wanted a whole number"),
        (True, TypeError, "top_k is True, wanted a whole number"),
        ("3", TypeError, "top_k is '3', wanted a whole number"),
        (None, TypeError, "top_k is None, wanted a whole number"),
    ],
)
def test_nothing_else_is_a_count(value, kind, message):
    with pytest.raises(kind, match=message):
        check_count("top_k", value)


@pytest.mark.parametrize(
    "text", ["", " \n\t", "\u200b\u200d", "\ufeff", "\x00\x1b", "\u0301", "\u2028"]
)
def test_what_nobody_sees_is_blank(text):
    assert is_blank(text)


@pytest.mark.parametrize("text", ["a", ".", "梨", "\ufffd", "\U0001f350", "\ue000", "\U00031350"])
def test_what_a_font_may_show_is_not(text):
    """Private characters, and those of a Unicode that is newer than this Python, have a glyph."""
    assert not is_blank(text)
