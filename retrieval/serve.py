"""The command line of the service: an index, and perhaps a reranker, behind HTTP.

python -m retrieval.serve my-index --rerank mini
"""

import argparse
import sys
import warnings
from pathlib import Path

from configs.command import run_command
from configs.formats.checks import check_count


def make_parser() -> argparse.ArgumentParser:
    """Return the parser."""
    parser = argparse.ArgumentParser(
        prog="python -m retrieval.serve",
        description="Serve an index: /v1/search, /v1/rerank, /v2/rerank, /v1/embeddings, /health, "
        "/ready, /metrics, /openapi.json. docs/serve.md tells their JSON.",
    )
    parser.add_argument("index", type=Path, help="the index's folder")
    parser.add_argument("--rerank", metavar="MODEL", help="mini, minilm, smollm2, a folder, ...")
    parser.add_argument(
        "--reranker",
        metavar="NAME",
        default="blockrank",
        help="which installed reranker reads MODEL (%(default)s)",
    )
    parser.add_argument(
        "--filter",
        metavar="COSINE|FOLDER|index",
        help="keep what is relevant, as `python -m retrieval.index search --filter` does",
    )
    parser.add_argument("--device", help="cpu, cuda, ...; default: the best there is")
    parser.add_argument(
        "--rerank-memory",
        type=int,
        default=256,
        metavar="MIB",
        help="for what the reranker has read of documents that come again; 0: none (%(default)s)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to (%(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (%(default)s)")
    parser.add_argument(
        "--api-keys",
        type=Path,
        metavar="FILE",
        help="keys, one a line; or $BLOCKSEEK_API_KEYS, with commas. Needed where --host is not "
        "loopback",
    )
    limits = parser.add_argument_group("limits of a request")
    limits.add_argument("--max-body", type=int, default=4 << 20, help="bytes (%(default)s)")
    limits.add_argument("--max-documents", type=int, default=1000, help="(%(default)s)")
    limits.add_argument(
        "--max-tokens", type=int, default=1 << 16, help="that a rerank reads (%(default)s)"
    )
    queue = parser.add_argument_group("queues; past them clients get 429 and come again")
    queue.add_argument("--max-waiting", type=int, default=128, help="requests (%(default)s)")
    queue.add_argument(
        "--max-wait", type=float, default=30.0, metavar="SECONDS", help="(%(default)s)"
    )
    parser.add_argument(
        "--drain",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="how long running requests have after SIGTERM (%(default)s)",
    )
    parser.add_argument(
        "--poll",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="how often to look for a changed index (%(default)s); SIGHUP looks at once",
    )
    parser.set_defaults(run=_serve)
    return parser


def _serve(arguments: argparse.Namespace) -> None:
    """Check, load, serve."""
    for option in ("max_body", "max_documents", "max_tokens", "max_waiting"):
        check_count(f"--{option.replace('_', '-')}", getattr(arguments, option))
    if not 0 <= arguments.rerank_memory < 1 << 20:
        raise ValueError(f"--rerank-memory is {arguments.rerank_memory}, wanted MiB, or 0 for none")
    for option in ("max_wait", "drain", "poll"):
        if not 0 < getattr(arguments, option) <= 86_400:
            raise ValueError(
                f"--{option.replace('_', '-')} is {getattr(arguments, option):g}, wanted seconds "
                f"above 0"
            )
    if not 0 <= arguments.port < 1 << 16:
        raise ValueError(f"--port is {arguments.port}, wanted 0 to 65535")
    try:
        from retrieval.serving.server import bind, serve
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn", "prometheus_client", "starlette", "pydantic"):
            raise
        raise ValueError(
            f"the service needs {error.name}: pip install 'blockseek[serve]'"
        ) from None
    from retrieval.serving.auth import KEYS_VARIABLE, is_loopback, read_keys
    from retrieval.serving.batching import QueueLimits
    from retrieval.serving.limits import Limits
    from retrieval.serving.service import Service, ServiceSettings

    keys, loopback = read_keys(arguments.api_keys), is_loopback(arguments.host)
    if not keys and not loopback:
        raise ValueError(
            f"--host {arguments.host} can be reached by others: give API keys with --api-keys FILE "
            f"or ${KEYS_VARIABLE}"
        )
    # A passage that was cut, say, would be told once a request, and stderr is a log here.
    warnings.simplefilter("ignore", UserWarning)
    settings = ServiceSettings(
        # Whole, for a client is told no path, and a part of one is a word like any other.
        index=arguments.index.absolute(),
        rerank=arguments.rerank,
        reranker=arguments.reranker,
        filter=arguments.filter,
        device=arguments.device,
        kept_bytes=arguments.rerank_memory << 20,
        limits=Limits(arguments.max_body, arguments.max_documents, arguments.max_tokens),
        queue=QueueLimits(arguments.max_waiting, seconds=arguments.max_wait),
    )
    with bind(arguments.host, arguments.port) as bound:  # a taken port is told before a model loads
        serve(
            Service.start(settings),
            bound,
            keys=keys,
            loopback=loopback,
            drain=arguments.drain,
            poll=arguments.poll,
        )


if __name__ == "__main__":
    sys.exit(run_command(make_parser()))
