import csv
import io

from eval.reporting.tables import csv_table, latex_table, text_table

HEADER = ["run_a", "AP"]
ROWS = [["x,y & 50%", 0.12345], ["failed", None]]


def test_a_missing_value_reads_not_run_never_zero():
    assert text_table(HEADER, ROWS).splitlines()[3].split() == ["failed", "not", "run"]
    assert "not run" in latex_table(HEADER, ROWS)
    assert csv_table(HEADER, ROWS).splitlines()[2] == "failed,"


def test_csv_keeps_every_digit_and_quotes():
    value = 0.1 + 0.2
    rows = list(csv.reader(io.StringIO(csv_table(["a"], [[value], ["x,y"]]))))
    assert float(rows[1][0]) == value
    assert rows[2] == ["x,y"]


def test_latex_escapes_its_special_characters():
    text = latex_table(HEADER, ROWS)
    assert r"run\_a & AP \\" in text
    assert r"x,y \& 50\% & 0.1235 \\" in text or r"x,y \& 50\% & 0.1234 \\" in text
    assert text.startswith(r"\begin{tabular}{lr}")


def test_text_aligns_numbers_right():
    lines = text_table(["n", "value"], [["a", 1], ["bbb", 12345]]).splitlines()
    assert lines[2] == "a        1"
    assert lines[3] == "bbb  12345"
