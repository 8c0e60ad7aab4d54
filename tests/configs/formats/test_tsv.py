import pytest

from configs.formats.tsv import text_columns


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("p1\tA pear.", ("p1", "", "A pear.")),
        ("p1\tPear\tA fruit.", ("p1", "Pear", "A fruit.")),
        ("p1\t", ("p1", "", "")),
        ("p1\t  spaces stay ", ("p1", "", "  spaces stay ")),
    ],
)
def test_an_id_perhaps_a_title_and_a_text(line, found):
    assert text_columns(line) == found


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("A pear.", "1 tab-separated columns, wanted id, text or id, title, text"),
        ("a\tb\tc\td", "4 tab-separated columns, wanted id, text or id, title, text"),
        ("\ttext", "the id is empty"),
        ("two words\ttext", "id 'two words' has white space"),
    ],
)
def test_what_is_no_such_line(line, message):
    with pytest.raises(ValueError, match=message):
        text_columns(line)
