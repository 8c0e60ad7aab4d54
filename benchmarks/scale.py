"""An index of a billion passages on paper: bytes, files, hours and cost, from stated inputs.

Enters: options, each an input of the plan. Leaves: one line a quantity on stdout. Nothing is timed
here: what was measured elsewhere is an option whose default says so in docs/scale.md.

    python benchmarks/scale.py
    python benchmarks/scale.py --passages 100000000 --rate 20000 --workers 4
"""

import argparse
import json
import math
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Inputs:
    """What a plan rests on; bytes are bytes, rates are passages a second."""

    passages: int = 1_000_000_000
    dimension: int = 384
    segments: int = 20
    shard_size: int = 65_536
    text_bytes: float = 400  # of a passage, before compression; an assumption
    text_stored: float = 0.41  # the share that Parquet and zstd leave: measured
    record_bytes: float = 361  # of a shard in the manifest: measured
    seen_bytes: float = 19  # of a digest among those that find ids twice: measured
    core_rate: float = 92.5  # of one core, MiniLM, 40 tokens: measured
    rate: float = 5_000  # of one GPU worker: an assumption
    workers: int = 8
    price: float = 2.5  # of a worker's hour: an assumption
    flops: float = 1e12  # a second, of the machine that trains and fills FAISS: an assumption
    read: float = 1e9  # bytes a second of reading and digesting: an assumption


def plan(given: Inputs) -> dict[str, str]:
    """The plan, a line a quantity."""
    N, d = given.passages, given.dimension
    each = math.ceil(N / given.segments)
    lists, whole_lists = _lists(each), _lists(N)
    training = 64 * lists
    code = d // 2 * 4 / 8
    shards = math.ceil(N / given.shard_size)
    texts = N * given.text_bytes * given.text_stored
    hours = N / (given.rate * given.workers) / 3600
    fill = N * lists * 2 * d / given.flops / 3600
    read = given.segments * 64 * each // lists
    files = 4 * N * d + texts + N * (code + 8)
    return {
        "vectors, float32": _bytes(4 * N * d),
        "vectors, float16": _bytes(2 * N * d),
        "vectors, int8": _bytes(N * d),
        "codes of PQ, 4 bits a pair": _bytes(N * code),
        "ids of FAISS, 8 bytes": _bytes(8 * N),
        "texts, compressed": _bytes(texts),
        "all files, with float32": _bytes(files),
        "shards": f"{shards:,}",
        "shards, at the default size": f"{math.ceil(N / 2048):,}",
        "manifest": _bytes(shards * given.record_bytes),
        "manifest, at the default size": _bytes(math.ceil(N / 2048) * given.record_bytes),
        "a shard in memory": _bytes(given.shard_size * (4 * d + given.text_bytes)),
        "shards in memory, each four": _bytes(
            4 * given.workers * given.shard_size * (4 * d + given.text_bytes)
        ),
        "a segment": f"{each:,} passages, IVF{lists},PQ{d // 2}x4fs",
        "training vectors of a segment": f"{training:,}, {_bytes(4 * training * d)}",
        "filling all lists": f"{fill:.1f} hours",
        "filling one index of all": f"{fill * whole_lists / lists:.0f} hours",
        "lists of one index of all": f"{whole_lists:,}",
        "codes read a query": f"{read:,}, {_bytes(read * code)}",
        "set of ids seen": _bytes(N * given.seen_bytes),
        "an id refused by chance": f"{-math.expm1(-N * N / 2**129):.0e}",
        "HNSW32 in memory, float32": _bytes(N * (4 * d + 4 * 2 * 32)),
        "encoding, one core": f"{N / given.core_rate / 3600:,.0f} hours",
        "encoding, all workers": f"{hours:.1f} hours",
        "cost of encoding": f"{hours * given.workers * given.price:,.0f}",
        "verify": f"{files / given.read / 3600:.1f} hours",
    }


def _lists(passages: int) -> int:
    """About four times the square root, a power of two."""
    return int(2 ** round(math.log2(4 * math.sqrt(passages))))


def _bytes(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} bytes"


def main() -> None:
    """Print the plan of the options."""
    parser = argparse.ArgumentParser(description="A large index on paper.")
    parser.add_argument("--quick", action="store_true", help="no difference: nothing is timed")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    for field in fields(Inputs):
        kind = int if isinstance(field.default, int) else float
        name = f"--{field.name.replace('_', '-')}"
        parser.add_argument(name, type=kind, default=field.default, help="(%(default)s)")
    arguments = vars(parser.parse_args())
    found = plan(Inputs(**{field.name: arguments[field.name] for field in fields(Inputs)}))
    if arguments["json"]:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:<30} {value}")


if __name__ == "__main__":
    main()
