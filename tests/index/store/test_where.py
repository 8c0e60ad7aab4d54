"""Conditions in the words of SQL: they keep the rows that SQLite keeps, and faults have a place."""

import sqlite3
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import acero

from index.store.where import parse_where

TYPES = {
    "year": "integer",
    "lang": "string",
    "score": "float",
    "open": "boolean",
    "day": "date",
    "seen": "time UTC",
    "local": "time",
    "none": "unknown",
    "two words": "string",
}
ROWS = [
    (2019, "en", 0.5, True),
    (2020, "de", None, False),
    (2021, "it's", 2.0, None),
    (None, "en", -1.5, True),
    (2021, None, 3.25, False),
    (-3, "EN", 2021.0, None),
    (2020, "", 2020.0, True),
    (None, None, None, None),
]
NAMES = list(TYPES)[:4]
TABLE = pa.table(
    dict(zip(NAMES, zip(*ROWS, strict=True), strict=True))
    | {
        "day": pa.array([date(2020, 1, n + 1) for n in range(7)] + [None]),
        "seen": pa.array([datetime(2020, 1, 1, n, tzinfo=UTC) for n in range(8)]),
        "local": pa.array([datetime(2020, 1, n + 1, 12) for n in range(8)]),
        "none": pa.nulls(8),
        "two words": pa.array(["a", "b"] * 4),
    }
)


def _kept(condition):
    """The numbers of the rows for which it is true."""
    project = acero.ProjectNodeOptions([parse_where(condition, TYPES)], ["kept"])
    plan = [
        acero.Declaration("table_source", acero.TableSourceNodeOptions(TABLE)),
        acero.Declaration("project", project),
    ]
    found = acero.Declaration.from_sequence(plan).to_table(use_threads=False)["kept"].to_pylist()
    return [row for row, kept in enumerate(found) if kept]


NUMBERS = st.sampled_from(["2020", "2019", "-3", "2.0", "-1.5", "2020.0", "1e3", ".5"])
TEXTS = st.sampled_from(["'en'", "'de'", "'it''s'", "''", "'EN'", "'z'"])
SIGNS = st.sampled_from(["=", "==", "!=", "<>", "<", "<=", ">", ">="])


def _lists(values):
    return st.lists(values, min_size=1, max_size=3).map(", ".join)


COMPARED = st.one_of(
    st.tuples(st.sampled_from(["year", "score"]), SIGNS, NUMBERS),
    st.tuples(st.just("lang"), SIGNS, TEXTS),
    st.tuples(st.just("open"), st.sampled_from(["=", "!="]), st.sampled_from(["true", "false"])),
    st.just(("open",)),
    st.tuples(st.just("year"), SIGNS, st.sampled_from(["score", "year"])),
    st.tuples(st.sampled_from(NAMES), st.sampled_from(["is null", "IS NOT NULL"])),
    st.tuples(
        st.just("year"), st.sampled_from(["in", "not in"]), _lists(NUMBERS).map("({})".format)
    ),
    st.tuples(st.just("lang"), st.sampled_from(["in", "NOT IN"]), _lists(TEXTS).map("({})".format)),
    st.tuples(
        st.just("lang"),
        st.sampled_from(["like", "not like"]),
        st.sampled_from(["'e%'", "'_n'", "'%'", "'it''%'", "'%s'"]),
    ),
).map(" ".join)
CONDITIONS = st.recursive(
    COMPARED,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" and ", " or ", " AND "]), inner).map("".join),
        inner.map("not {}".format),
        inner.map("({})".format),
    ),
    max_leaves=6,
)


@settings(max_examples=300)
@given(condition=CONDITIONS)
def test_a_condition_keeps_the_rows_that_sqlite_keeps(sqlite, condition):
    wanted = sqlite.execute(f"select n from rows where {condition} order by n").fetchall()
    assert _kept(condition) == [row for (row,) in wanted], condition


@pytest.fixture(scope="module")
def sqlite():
    database = sqlite3.connect(":memory:")
    database.execute("create table rows (n int, year int, lang text, score real, open int)")
    database.executemany(
        "insert into rows values (?,?,?,?,?)", [(n, *row) for n, row in enumerate(ROWS)]
    )
    database.execute("pragma case_sensitive_like = on")
    return database


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("day >= '2020-01-03' and day < '2020-01-05'", [2, 3]),
        ("day in ('2020-01-01', '2020-01-07')", [0, 6]),
        ("seen <= '2020-01-01 01:00:00'", [0, 1]),
        ("seen <= '2020-01-01T03:00:00+02:00'", [0, 1]),
        ("local > '2020-01-07'", [6, 7]),
        ("none = 3 or none like 'a' or none in (1, 'a') or none < year", []),
        ("not none = 3", []),
        ("none is null", list(range(8))),
        ("`two words` = 'a'", [0, 2, 4, 6]),
        ('lang = "it\'s" or lang = "e""n"', [2]),
        ("year < 99999999999999999999", [0, 1, 2, 4, 5, 6]),
        (" year\n=\t2019 ", [0]),
    ],
)
def test_dates_times_quotes_and_columns_without_values(condition, rows):
    assert _kept(condition) == rows


def test_long_conditions_do_not_end_the_process():
    """Arrow walks an expression on the stack: a chain of ten thousand is its end."""
    assert _kept(" or ".join(f"year = {n}" for n in range(1600, 2100))) == [0, 1, 2, 4, 6]
    assert _kept(" and ".join(f"not year = {n}" for n in range(1520, 2020))) == [1, 2, 4, 5, 6]
    assert _kept(f"year in ({', '.join(map(str, range(30_000)))})") == [0, 1, 2, 4, 6]
    assert _kept("(" * 100 + "year = 2019" + ")" * 100) == [0]


@pytest.mark.parametrize(
    ("condition", "place", "message"),
    [
        ("yaer > 3", 1, "there is no column 'yaer'; the columns are year, lang, score"),
        ("YEAR > 3", 1, "there is no column 'YEAR'"),
        ("lang = en", 8, r"there is no column 'en' \(text stands in quotes\)"),
        ("year = 'en'", 8, "'year' is integer, which 'en' is not"),
        ("lang in ('en', 3)", 16, "'lang' is string, which 3 is not"),
        ("open = 1", 8, "'open' is boolean, which 1 is not"),
        ("open < true", 6, "'open' is true or false, which have no order"),
        ("day > '2020-13-01'", 7, "'day' is date, which '2020-13-01' is not; write 'YYYY-MM-DD'"),
        ("day > 2020", 7, "which 2020 is not; write 'YYYY-MM-DD'"),
        ("local > '2020-01-01T00:00:00+01:00'", 9, "'local' is time, which"),
        ("year < lang", 8, "'year' is integer, 'lang' is string"),
        ("year like '2%'", 11, "`like` is for text, and 'year' is integer"),
        ("lang like en", 11, "wanted a pattern in quotes"),
        ("year = null", 8, "nothing equals null; write `year is null`"),
        ("year", 5, "wanted what 'year' is compared with"),
        ("year = ", 8, "wanted a value: 'text', a number, true or false, got the end"),
        ("year = 3 and", 13, "wanted a column, got the end"),
        ("year = 3 lang = 'en'", 10, "wanted `and`, `or` or the end, got lang"),
        ("(year = 3", 10, r"wanted `\)`, got the end"),
        ("year = 3)", 9, r"wanted `and`, `or` or the end, got \)"),
        ("year in 3", 9, r"wanted `\(`, got 3"),
        ("year in ()", 10, r"wanted a value: .*, got \)"),
        ("year is 3", 9, "wanted `null`, got 3"),
        ("lang not = 'en'", 10, "wanted `in` or `like`, got ="),
        ("lang = 'en", 8, "wanted a value: .*, got a stray '"),
        ("year = 3; drop table", 9, "got a stray ;"),
        ("__import__('os')", 1, "there is no column '__import__'"),
        ("3 = year", 1, "wanted a column, got 3"),
        ("", 1, "wanted a column, got the end"),
        ("(" * 101 + "open" + ")" * 101, 101, "conditions nest more than 100 deep"),
        ("not " * 100_000 + "open", 401, "conditions nest more than 100 deep"),
        (
            " or ".join(["open"] * 10_000),
            4001,
            "more than 500 conditions; for many values, use `in`",
        ),
    ],
)
def test_a_fault_is_told_with_its_place(condition, place, message):
    with pytest.raises(ValueError, match=f"character {place}: .*{message}") as raised:
        parse_where(condition, TYPES)
    assert len(str(raised.value)) < 500


def test_without_columns_the_option_that_keeps_them_is_named():
    with pytest.raises(ValueError, match="the columns are none: build the index with --keep"):
        parse_where("year = 3", {})
