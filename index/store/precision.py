"""How exactly vectors are stored: float32, float16, or int8 with one scale a vector.

Enters: float32 vectors. Leaves: what is stored of them, and the float32 vectors that it stands for.

    stored(vectors, "int8").floats()  # near to `vectors`

An int8 code is a component in units of the vector's largest one, / 127, rounded. The scale that is
kept beside the codes gives the vector the length that it had, not quite that unit: rounding alone
could make a unit vector longer than one, and a cosine with it.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from index.manifest.plan import FLOAT32, INT8
from index.manifest.segments import ScoreShift

_LEVELS = 127
_QUERIES = 32
_CODES = {FLOAT32: pa.float32(), "float16": pa.float16(), INT8: pa.int8()}


class StoredVectors(NamedTuple):
    """`codes` [n, d] of a stored type, and for int8 the float32 `scales` [n] of their vectors."""

    codes: np.ndarray
    scales: np.ndarray | None = None

    def floats(self) -> np.ndarray:
        """The vectors that these stand for, float32 [n, d]; float32 codes are given as they are."""
        floats = self.codes.astype(np.float32, copy=False)
        return floats if self.scales is None else floats * self.scales[:, None]

    def rows(self, rows: np.ndarray | slice) -> "StoredVectors":
        """Some of them, by number, slice or mask."""
        return StoredVectors(self.codes[rows], None if self.scales is None else self.scales[rows])


def stored(vectors: np.ndarray, precision: str) -> StoredVectors:
    """What is stored of float32 `vectors` [n, d]."""
    vectors = np.ascontiguousarray(vectors, np.float32)
    if precision != INT8:
        return StoredVectors(vectors.astype(_CODES[precision].to_pandas_dtype(), copy=False))
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
    codes = np.rint(vectors * (_LEVELS / np.where(largest > 0, largest, 1))).astype(np.int8)
    lengths = np.linalg.norm(codes.astype(np.float32), axis=1)
    scales = np.linalg.norm(vectors, axis=1) / np.where(lengths > 0, lengths, 1)
    return StoredVectors(codes, scales.astype(np.float32))


def concatenated(parts: list[StoredVectors]) -> StoredVectors:
    """`parts`, one or more of the same type, one behind the other."""
    codes, scales = zip(*parts, strict=True)
    whole = None if scales[0] is None else np.concatenate(scales)
    return StoredVectors(np.concatenate(codes), whole)


def score_shift(vectors: np.ndarray, kept: StoredVectors) -> ScoreShift:
    """How storing `vectors`, float32 [n, d], moves their scores, for queries evenly among them."""
    if kept.codes.dtype == np.float32:
        return ScoreShift()
    queries = vectors[np.linspace(0, len(vectors) - 1, min(_QUERIES, len(vectors))).astype(int)]
    moved = np.abs(queries @ (vectors - kept.floats()).T)
    most = float(moved.max())
    return ScoreShift(most, min(most, float(moved.mean(dtype=np.float64))))


def schema_of(precision: str, dimension: int) -> pa.Schema:
    """The Arrow schema of the files of such vectors."""
    fields = [("vector", pa.list_(_CODES[precision], dimension))]
    return pa.schema(fields + [("scale", pa.float32())] * (precision == INT8))


def as_table(kept: StoredVectors) -> pa.Table:
    """The Arrow table that a file of vectors holds."""
    codes, scales = kept
    flat = pa.array(np.ascontiguousarray(codes).reshape(-1))
    columns = {"vector": pa.FixedSizeListArray.from_arrays(flat, codes.shape[1])}
    return pa.table(columns if scales is None else columns | {"scale": pa.array(scales)})


def of_table(table: pa.Table, dimension: int) -> StoredVectors:
    """What `as_table` holds; mapped bytes are not copied where they lie in one piece."""
    (codes, *scales) = (_in_one_piece(column) for column in table.columns)
    return StoredVectors(codes.reshape(-1, dimension), *scales)


def _in_one_piece(column: pa.ChunkedArray) -> np.ndarray:
    is_list = pa.types.is_fixed_size_list(column.type)
    pieces = [
        (chunk.flatten() if is_list else chunk).to_numpy(zero_copy_only=True)
        for chunk in column.chunks
    ]
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
