"""The options that choose a language model: a local one, or one behind an endpoint.

Enters: a parser. Leaves: a reader and its cache of answers.
"""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eval.judging.readers import Reader
    from eval.judging.readers.answer_cache import AnswerCache


def add_reader_options(parser: argparse.ArgumentParser) -> None:
    """Add how the model is reached; the subcommand itself adds the model's name."""
    group = parser.add_argument_group("the language model")
    group.add_argument("--endpoint", metavar="URL", help="OpenAI-compatible, such as http://…/v1")
    group.add_argument(
        "--key-variable", default="OPENAI_API_KEY", help="holds the key (%(default)s)"
    )
    group.add_argument(
        "--concurrency", type=int, default=8, help="requests at a time (%(default)s)"
    )
    group.add_argument("--attempts", type=int, default=5, help="per request (%(default)s)")
    group.add_argument("--timeout", type=float, default=120, help="seconds (%(default)s)")
    group.add_argument("--device", help="of a local model (a GPU if there is one)")
    group.add_argument("--cache", help="file of answers (answers.sqlite in the cache folder)")


def open_reader(
    arguments: argparse.Namespace, name: str, published_tokens: bool = False
) -> "Reader":
    """Return the reader that the options name; `published_tokens` is for a local model alone."""
    if arguments.endpoint:
        from eval.judging.readers.endpoint import EndpointReader, Patience

        return EndpointReader(
            arguments.endpoint,
            name,
            concurrency=arguments.concurrency,
            patience=Patience(attempts=arguments.attempts, timeout_s=arguments.timeout),
            key_variable=arguments.key_variable,
        )
    from eval.judging.readers.local import LocalReader

    return LocalReader(name, device=arguments.device, published_tokens=published_tokens)


def open_cache(arguments: argparse.Namespace) -> "AnswerCache":
    """Return the cache of answers."""
    from configs.models import cache_folder
    from eval.judging.readers.answer_cache import AnswerCache

    return AnswerCache(arguments.cache or cache_folder() / "answers.sqlite")
