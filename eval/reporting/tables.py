"""Small tables for people and programs: text, CSV, LaTeX.

Enters: column names and rows of cells. Leaves: one string.

    python -c "from eval.reporting.tables import text_table as f; print(f(['run'], [['a']]))"
"""

import csv
import io
from collections.abc import Sequence

Cell = str | int | float | None

# A system that failed has no value. It prints as these words: a 0 would be a measurement.
NOT_RUN = "not run"

_LATEX_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
)


def format_cell(cell: Cell, digits: int = 4) -> str:
    """Return a number with `digits` decimals, `not run` for None, text as it is."""
    if cell is None:
        return NOT_RUN
    if isinstance(cell, float):
        return f"{cell:.{digits}f}"
    return str(cell)


def text_table(header: Sequence[str], rows: Sequence[Sequence[Cell]], digits: int = 4) -> str:
    """Return an aligned table: text to the left, numbers to the right."""
    cells = [[format_cell(cell, digits) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    numeric = [
        any(isinstance(row[column], int | float) for row in rows) for column in range(len(header))
    ]
    lines = []
    for row in [list(header), *cells]:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def csv_table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Return RFC 4180 CSV with every digit of the numbers; None is an empty field."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([[repr(c) if isinstance(c, float) else c for c in row] for row in rows])
    return buffer.getvalue().rstrip("\n")


def latex_table(header: Sequence[str], rows: Sequence[Sequence[Cell]], digits: int = 4) -> str:
    """Return a `tabular` for the booktabs package, the special characters escaped."""
    numeric = [
        any(isinstance(row[column], int | float) for row in rows) for column in range(len(header))
    ]
    alignment = "".join("r" if right else "l" for right in numeric)
    lines = [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", _latex_row(header, digits)]
    lines.append(r"\midrule")
    lines.extend(_latex_row(row, digits) for row in rows)
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _latex_row(row: Sequence[Cell], digits: int) -> str:
    cells = (format_cell(cell, digits).translate(_LATEX_ESCAPES) for cell in row)
    return " & ".join(cells) + r" \\"
