"""The one type that a column has: learned from values, or fixed by an index."""

from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pytest

from index.manifest.columns import ColumnRecord, Columns, check_columns

BERLIN = timezone(timedelta(hours=1))
SAMPLES = {
    "string": "a",
    "integer": 1,
    "float": 1.5,
    "boolean": True,
    "date": date(2021, 3, 4),
    "time": datetime(2021, 3, 4, 5),
    "time UTC": datetime(2021, 3, 4, 5, tzinfo=UTC),
}


def test_every_column_has_a_value_or_none():
    columns = Columns(["year", "lang"])
    assert columns.checked({"lang": "en"}) == {"year": None, "lang": "en"}
    assert columns.checked({}) == {"year": None, "lang": None}
    assert list(columns.checked({"lang": "de", "year": 2021})) == ["year", "lang"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.int32(7), 7),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (float("nan"), None),
        (datetime(2021, 3, 4, 1, tzinfo=BERLIN), datetime(2021, 3, 4, 0, tzinfo=UTC)),
        (2**63 - 1, 2**63 - 1),
    ],
)
def test_values_are_kept_in_one_form(given, kept):
    found = Columns(["x"]).checked({"x": given})["x"]
    assert (found, type(found)) == (kept, type(kept))


@pytest.mark.parametrize("first", SAMPLES)
@pytest.mark.parametrize("second", SAMPLES)
def test_two_types_in_one_column_are_told_unless_both_are_numbers(first, second):
    columns = Columns(["x"])
    columns.checked({"x": SAMPLES[first]})
    if first == second or {first, second} == {"integer", "float"}:
        columns.checked({"x": SAMPLES[second]})
        return
    with pytest.raises(ValueError, match=r"the field 'x' is .*; it was .* before"):
        columns.checked({"x": SAMPLES[second]})
    columns.checked({"x": SAMPLES[first]})  # nothing was learned of the bad one


@pytest.mark.parametrize("values", [[2**53 + 1, 0.5], [0.5, 2**53 + 1]])
def test_no_whole_number_is_rounded_to_stand_among_fractions(values):
    columns = Columns(["x"])
    columns.checked({"x": values[0]})
    with pytest.raises(ValueError, match="the field 'x' is"):
        columns.checked({"x": values[1]})


def test_the_types_of_an_index_stay_but_for_those_that_no_value_has_decided():
    columns = Columns(known=[ColumnRecord("year", "integer"), ColumnRecord("new", "unknown")])
    with pytest.raises(
        ValueError, match=r"the field 'year' is 1\.5, a number; it was a whole number"
    ):
        columns.checked({"year": 1.5})
    assert columns.checked({"new": 1}) == {"year": None, "new": 1}
    columns.checked({"new": 1.5})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], r"the field 'x' is \[1\]: a list, wanted a string, number, true or false, date or"),
        ({"a": 1}, "a dict, wanted"),
        (b"a", "a bytes, wanted"),
        (2**63, "it needs more than 64 bits"),
        (float("inf"), "it is not finite"),
        ("a\ud800", "half of a surrogate pair"),
        (np.datetime64("2021-01-01T00:00:00.000000001"), "a datetime64, wanted"),
    ],
)
def test_values_that_no_column_holds_are_told(value, message):
    with pytest.raises(ValueError, match=message):
        Columns(["x"]).checked({"x": value})


def test_a_field_that_is_not_kept_is_told():
    with pytest.raises(ValueError, match=r"the field 'z' is not kept: the index keeps x, y"):
        Columns(["x", "y"]).checked({"z": 1})
    with pytest.raises(ValueError, match="the index keeps no fields"):
        Columns().checked({"z": 1})


@pytest.mark.parametrize("names", [["a", "a"], [""]])
def test_columns_have_names_of_their_own(names):
    with pytest.raises(ValueError, match="wanted names, each once"):
        check_columns(ColumnRecord(name, "string") for name in names)
    with pytest.raises(ValueError, match="type is 'text', wanted one of string, integer"):
        ColumnRecord("a", "text")
