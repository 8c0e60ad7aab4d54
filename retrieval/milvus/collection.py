"""A collection of Milvus: every call of pymilvus is here.

Enters: passages and unit vectors, or query vectors and ids. Leaves: the same back, as our own kinds
of values. Ids are spelled as in a URL: pymilvus puts them into an expression as they are, quotation
marks among them.

    Collection.create("http://localhost:19530", "docs", dimension=384).upsert(passages, vectors)
"""

import contextlib
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote

import numpy as np

from index.records import Passage

if TYPE_CHECKING:
    from pymilvus import MilvusClient

TOKEN = "MILVUS_TOKEN"  # the environment variable's name
# Milvus's own limits: the bytes of a text, and the hits of a search.
MOST_BYTES, MOST_HITS = 65_535, 16_384
_BYTES_AT_ONCE = 16 * 2**20
_IDS_AT_ONCE = 1_000
_LISTS_PROBED, _BEAM = 64, 128
_ROWS_A_LIST = 39  # what Milvus's k-means wants to see


class Found(NamedTuple):
    """The hits of one query as Milvus gave them: ids, and their vectors [n, d]."""

    ids: list[str]
    vectors: np.ndarray


class Collection:
    """A collection by its name, at an address that pymilvus connects to."""

    def __init__(self, address: str, name: str) -> None:
        """Raises `ValueError` where nothing answers or there is no such collection."""
        self.address = address
        self.name = name
        self._client = _connect(address)
        with told_of(address):
            if not self._client.has_collection(name):
                raise ValueError(f"Milvus at {address} has no collection {name}; build it again")

    @classmethod
    def create(cls, address: str, name: str, dimension: int) -> "Collection":
        """Make an empty one, or take the one of that name."""
        client = _connect(address)
        with told_of(address):
            if client.has_collection(name):
                return cls(address, name)
            from pymilvus import DataType

            schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
            for field in ("id", "title", "text"):
                schema.add_field(
                    field, DataType.VARCHAR, max_length=MOST_BYTES, is_primary=field == "id"
                )
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
            client.create_collection(name, schema=schema)
        return cls(address, name)

    @staticmethod
    def drop(address: str, name: str) -> None:
        """Delete a collection, if it is there."""
        client = _connect(address)
        with told_of(address):
            client.drop_collection(name)

    def __len__(self) -> int:
        with told_of(self.address):
            rows = self._client.query(
                self.name, output_fields=["count(*)"], consistency_level="Strong"
            )
        return int(rows[0]["count(*)"])

    def upsert(self, passages: Sequence[Passage], vectors: np.ndarray) -> None:
        """Put passages in, each in place of one of the same id.

        Raises `ValueError` for one that Milvus has no place for.
        """
        rows: list[dict[str, Any]] = []
        size = 0
        for passage, vector in zip(passages, vectors, strict=True):
            row = {"id": quote(passage.id, safe=""), "title": passage.title, "text": passage.text}
            lengths = {name: len(value.encode()) for name, value in row.items()}
            for name, length in lengths.items():
                if length > MOST_BYTES:
                    raise ValueError(
                        f"the {name} of passage {passage.id!r:.80} has {length:,} bytes, Milvus "
                        f"keeps {MOST_BYTES:,}: cut it into several passages (build --chunk)"
                    )
            if rows and size + sum(lengths.values()) + vector.nbytes > _BYTES_AT_ONCE:
                self._upsert(rows)
                rows, size = [], 0
            rows.append({**row, "vector": vector})
            size += sum(lengths.values()) + vector.nbytes
        self._upsert(rows)

    def _upsert(self, rows: list[dict[str, Any]]) -> None:
        with told_of(self.address):
            self._client.upsert(self.name, rows)

    def delete(self, ids: Sequence[str]) -> None:
        """Delete the passages of those ids; one that is not there is none the less gone."""
        for part in _parts(ids):
            with told_of(self.address):
                self._client.delete(self.name, ids=part)

    def build_index(self, index_type: str) -> None:
        """Build the index of vectors over all that is in, wait for it, and load the collection.

        Raises `ValueError` for a type that Milvus refuses, `RuntimeError` when what it built is
        another one or not all of it.
        """
        params = self._client.prepare_index_params()
        params.add_index(
            "vector",
            index_type=index_type,
            metric_type="IP",
            params=_build_params(index_type, len(self)),
        )
        with told_of(self.address):
            # Sealed first: what is still growing would be compared whole, whatever type was asked.
            self._client.flush(self.name)
            self._client.create_index(self.name, params)
            self._client.load_collection(self.name)
        self._await_index(index_type)

    def _await_index(self, index_type: str) -> None:
        while True:
            with told_of(self.address):
                found = self._client.describe_index(self.name, "vector")
                state = self._client.get_load_state(self.name)["state"]
            built = str(found.get("index_type"))
            if built != index_type or str(found.get("state")) == "Failed":
                raise RuntimeError(
                    f"Milvus at {self.address} built {built}, {found.get('state')}, where "
                    f"{index_type} was asked for: {found.get('index_state_fail_reason', '')}"
                )
            waiting = int(found.get("pending_index_rows") or 0)
            left = int(found.get("total_rows") or 0) - int(found.get("indexed_rows") or 0)
            if not waiting and left <= 0 and getattr(state, "name", state) == "Loaded":
                return
            time.sleep(1)

    def load(self) -> None:
        """Bring the collection into Milvus's memory, where it is not yet."""
        with told_of(self.address):
            self._client.load_collection(self.name)

    def search(self, queries: np.ndarray, k: int, index_type: str) -> list[Found]:
        """The `k` best of each query, float32 [q, d], as Milvus sees it, and their vectors."""
        found: list[Found] = []
        at_once = max(1, _BYTES_AT_ONCE // (4 * k * queries.shape[1]))
        for start in range(0, len(queries), at_once):
            with told_of(self.address):
                answers = self._client.search(
                    self.name,
                    data=list(queries[start : start + at_once]),
                    anns_field="vector",
                    limit=k,
                    search_params={"metric_type": "IP", "params": _search_params(index_type, k)},
                    output_fields=["vector"],
                    consistency_level="Strong",
                )
            for hits in answers:
                vectors = np.array([hit["entity"]["vector"] for hit in hits], np.float32)
                vectors = vectors.reshape(len(hits), queries.shape[1])
                found.append(Found([unquote(hit["id"]) for hit in hits], vectors))
        return found

    def rows(self, ids: Sequence[str], *fields: str) -> dict[str, dict[str, Any]]:
        """Those `fields` of the passages of `ids`, by id; ids that are not there are left out."""
        found: dict[str, dict[str, Any]] = {}
        for part in _parts(ids):
            with told_of(self.address):
                rows = self._client.get(
                    self.name,
                    ids=part,
                    output_fields=["id", *fields],
                    consistency_level="Strong",
                )
            found |= {unquote(row["id"]): row for row in rows}
        return found

    def ids(self) -> Iterator[str]:
        """The id of every passage, in no order."""
        return self._ids("")

    def ids_starting(self, prefixes: Iterable[str]) -> Iterator[str]:
        """The ids that begin with one of `prefixes` and go on with anything but "~"."""
        for prefix in prefixes:
            first = quote(prefix, safe="")
            # Ids are spelled without any character beyond "~".
            yield from self._ids(f'id >= "{first}" and id < "{first}~"')

    def _ids(self, condition: str) -> Iterator[str]:
        with told_of(self.address):
            rows = self._client.query_iterator(
                self.name,
                _IDS_AT_ONCE,
                filter=condition,
                output_fields=["id"],
                consistency_level="Strong",
            )
            while part := rows.next():
                yield from (unquote(row["id"]) for row in part)
            rows.close()


@contextlib.contextmanager
def told_of(address: str) -> Iterator[None]:
    """Let what pymilvus raises be a `ValueError` of one sentence that names the server."""
    from pymilvus import MilvusException

    try:
        yield
    except MilvusException as error:
        reason = (str(error.message).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"Milvus at {address}: {reason}") from None


def require_pymilvus() -> None:
    """Raise `ValueError` where it is not installed."""
    try:
        import pymilvus  # noqa: F401
    except ImportError:
        raise ValueError("pymilvus is not installed: pip install 'blockseek[milvus]'") from None


@lru_cache(maxsize=8)
def _connect(address: str) -> "MilvusClient":
    require_pymilvus()
    from pymilvus import MilvusClient

    # They print whatever they raise, with a traceback; the second is Milvus Lite's server.
    for name in ("pymilvus", "grpc._server"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with told_of(address):
        return MilvusClient(uri=address, token=os.environ.get(TOKEN, ""))


def _parts(ids: Sequence[str]) -> Iterator[list[str]]:
    spelled = [quote(id_, safe="") for id_ in dict.fromkeys(ids)]
    for start in range(0, len(spelled), _IDS_AT_ONCE):
        yield spelled[start : start + _IDS_AT_ONCE]


def _build_params(index_type: str, rows: int) -> dict[str, int]:
    if index_type == "HNSW":
        return {"M": 32, "efConstruction": 200}
    if index_type.startswith("IVF") or index_type == "SCANN":
        lists = min(int(4 * rows**0.5), rows // _ROWS_A_LIST, 65_536)
        return {"nlist": max(1, lists)}
    return {}


def _search_params(index_type: str, k: int) -> dict[str, int]:
    if index_type == "HNSW":
        return {"ef": max(_BEAM, k)}
    if index_type.startswith("IVF") or index_type == "SCANN":
        return {"nprobe": _LISTS_PROBED}
    return {"search_list": max(_BEAM, k)} if index_type == "DISKANN" else {}
