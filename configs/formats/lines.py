"""Lines of a text file or of stdin, plain or gzipped, and JSON on them.

Enters: a path, or None for stdin. Leaves: numbered lines without their breaks.

    for line in read_lines(Path("passages.jsonl.gz")): print(line.number, line.text)
"""

import gzip
import io
import json
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

PathLike = str | os.PathLike[str]
_GZIP = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
NOT_UTF8 = "not UTF-8; convert the file to UTF-8"


class Line(NamedTuple):
    """A line, numbered from 1; `text` is None where its bytes are not UTF-8."""

    number: int
    text: str | None


def read_lines(
    path: PathLike | None, opened: Callable[[io.BufferedReader], object] | None = None
) -> Iterator[Line]:
    """The lines of the file `path` (None: stdin), blank ones included.

    `opened` gets the open file, whose place says how much of it was read. Gzip is known by its
    first bytes, whatever the name. A byte order mark is no text. Lines end at newlines alone, for
    texts and ids may hold what else Unicode calls a line break. Raises `ValueError` naming the file
    where it is missing, a folder, UTF-16, or damaged gzip.
    """
    for number, line in _raw_lines(path, opened):
        yield Line(number, _decoded(line.rstrip(b"\r\n")))


def read_text(path: PathLike | None) -> str:
    """The whole text of the file `path` (None: stdin), its line breaks as they are.

    Raises `ValueError` as `read_lines`, and naming the line for one that is not UTF-8.
    """
    texts = []
    for number, line in _raw_lines(path):
        text = _decoded(line)
        if text is None:
            raise ValueError(f"{path or 'stdin'}:{number}: {NOT_UTF8}")
        texts.append(text)
    return "".join(texts)


def _raw_lines(
    path: PathLike | None, opened: Callable[[io.BufferedReader], object] | None = None
) -> Iterator[tuple[int, bytes]]:
    """Numbered lines with their breaks, unpacked, without a byte order mark."""
    name = str(path or "stdin")
    number = 0
    with _opened(path) as raw:
        if opened:
            opened(raw)
        packed = raw.peek(2)[:2] == _GZIP
        source = gzip.GzipFile(fileobj=raw) if packed else raw
        try:
            for number, line in enumerate(source, 1):
                if number == 1:
                    if line.startswith(_UTF16_MARKS):
                        raise ValueError(f"{name} is UTF-16; convert the file to UTF-8")
                    line = line.removeprefix(_BYTE_ORDER_MARK)
                yield number, line
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{name}: damaged gzip file after line {number} ({reason}); copy it again"
            ) from None


def text_lines(path: PathLike | None) -> Iterator[tuple[int, str]]:
    """As `read_lines`, of lines that are not blank; raises `ValueError` for one not UTF-8."""
    for number, text in read_lines(path):
        if text is None:
            raise ValueError(f"{path or 'stdin'}:{number}: {NOT_UTF8}")
        if text.strip():
            yield number, text


def parse_json(text: str) -> Any:
    """The JSON value that `text` spells, strictly: NaN and Infinity are none.

    Raises `ValueError` saying what is broken, also for what nests too deeply or is too large.
    """
    try:
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in text else ""
        raise ValueError(f"broken JSON: {error.msg} at {line}column {error.colno}") from None
    except RecursionError:
        raise ValueError("JSON that nests too deeply to be read") from None
    except MemoryError:
        raise ValueError(f"JSON of {len(text)} characters, too large for the memory") from None
    except ValueError as error:  # endless digits, NaN
        raise ValueError(f"broken JSON: {error}") from None


def json_lines(path: PathLike | None) -> Iterator[tuple[int, Any]]:
    """Numbers and values of JSON Lines, blank lines passed over.

    Raises `ValueError` naming file and line for one that is not UTF-8 or no JSON.
    """
    for number, text in text_lines(path):
        try:
            yield number, parse_json(text)
        except ValueError as error:
            raise ValueError(f"{path or 'stdin'}:{number}: {error}") from None


def read_json(path: PathLike) -> Any:
    """The one JSON value that a whole file holds.

    Raises `ValueError` naming the file for one that is not UTF-8 or no JSON.
    """
    texts = []
    for number, text in read_lines(path):
        if text is None:
            raise ValueError(f"{path}:{number}: {NOT_UTF8}")
        texts.append(text)
    try:
        return parse_json("\n".join(texts))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _decoded(line: bytes) -> str | None:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _opened(path: PathLike | None) -> AbstractContextManager[io.BufferedReader]:
    if path is None:
        # Left open: stdin belongs to the process.
        buffer: Any = getattr(sys.stdin, "buffer", None)
        if hasattr(buffer, "peek"):
            return nullcontext(buffer)
        # A caller's stand-in, which may hold text alone.
        content = buffer.read() if buffer else sys.stdin.read().encode("utf-8", "surrogatepass")
        return io.BufferedReader(io.BytesIO(content))
    file = Path(path)
    if file.is_dir():
        raise ValueError(f"{path} is a folder, wanted a file")
    try:
        return file.open("rb")
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
