"""`python -m eval udcg FILE`: score a file of the published UDCG format."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from configs.command import note
from eval.commands.output import Subparsers, add_output_options, print_json, print_table
from eval.commands.reader_options import add_reader_options, open_cache, open_reader

if TYPE_CHECKING:
    from eval.files.udcg_examples import Example, Scored
    from eval.measures.udcg import LearnedWeights


def add_udcg_parser(subparsers: Subparsers) -> None:
    """Add the `udcg` subcommand."""
    parser = subparsers.add_parser(
        "udcg",
        help="utility and distraction of retrieved passages for a model that answers",
        description="Score a JSON file of questions with passages, relevance and abstention "
        "probabilities (the published UDCG sample format), and print the mean and the share of "
        "empty contexts.",
    )
    parser.add_argument("file", help="JSON file of examples")
    parser.add_argument("--model", help="reader whose probabilities count (the only one)")
    parser.add_argument("--out", help="write the examples with their scores to this file")
    parser.add_argument(
        "--reader", metavar="NAME", help="first ask this language model for the probabilities"
    )
    parser.add_argument(
        "--published-tokens",
        action="store_true",
        help="tokenise as the published script does: a start token twice, where there is one",
    )
    parser.add_argument("--relevant-weight", type=float, default=1.0, help="(%(default)s)")
    parser.add_argument(
        "--irrelevant-weight",
        type=float,
        default=-1 / 3,
        help="at most 0: the paper's gamma, negated (-1/3; the published samples: -0.333)",
    )
    parser.add_argument(
        "--empty",
        choices=("zero", "neutral"),
        default="zero",
        help="score of a context without passages: 0 as published, or .5 (%(default)s)",
    )
    parser.add_argument(
        "--learn",
        metavar="FIELD",
        help="learn weights by position from this number of each example (accuracy, 0..1)",
    )
    parser.add_argument("--weights", metavar="FILE", help="use weights written by --save-weights")
    parser.add_argument("--save-weights", metavar="FILE", help="write learned weights as JSON")
    add_output_options(parser)
    add_reader_options(parser)
    parser.set_defaults(run=run_udcg)


def run_udcg(arguments: argparse.Namespace) -> None:
    """Score and print; write the examples where asked."""
    from eval.files.udcg_examples import (
        choose_model,
        read_examples,
        score_examples,
        with_scores,
        write_examples,
    )
    from eval.measures.udcg import EMPTY_SCORES, check_weights

    check_weights(arguments.relevant_weight, arguments.irrelevant_weight)
    examples = read_examples(arguments.file)
    if arguments.reader:
        examples = _with_reader(arguments, examples)
    model = choose_model(examples, arguments.model or arguments.reader)
    weights = _weights(arguments, examples, model)
    scored = score_examples(
        examples,
        model,
        relevant_weight=arguments.relevant_weight,
        irrelevant_weight=arguments.irrelevant_weight,
        empty=EMPTY_SCORES[arguments.empty],
        weights=weights,
    )
    if arguments.out:
        write_examples(arguments.out, with_scores(examples, model, scored))
    for name, reason in scored.failed.items():
        note(f"{name} has no score: {reason}")
    names = [str(example.get("example_id", number + 1)) for number, example in enumerate(examples)]
    if arguments.format == "json":
        print_json(_as_json(arguments, model, names, scored, weights))
        return
    rows: list[tuple[str, int | str, float | str]] = [
        (name, len(example["passages"]), "failed" if score is None else score)
        for name, example, score in zip(names, examples, scored.scores, strict=True)
    ]
    rows.append(("mean", "", "failed" if scored.mean is None else scored.mean))
    print_table(arguments, ["example", "passages", "UDCG"], rows)
    if arguments.format == "text":
        print(
            f"\n{len(examples)} examples, reader {model}, "
            f"null contexts {scored.null / len(examples):.1%}, failed {len(scored.failed)}"
        )


def _with_reader(arguments: argparse.Namespace, examples: "list[Example]") -> "list[Example]":
    """Ask the reader about every passage; a passage that failed stays without a probability."""
    from collections import Counter

    from tqdm import tqdm

    from eval.files.udcg_examples import with_probabilities
    from eval.judging.abstention import abstention_probabilities

    reader = open_reader(arguments, arguments.reader, published_tokens=arguments.published_tokens)
    passages = sum(len(example["passages"]) for example in examples)
    with tqdm(total=passages, unit="passage", disable=None) as bar:
        found = abstention_probabilities(
            examples, reader, open_cache(arguments), progress=bar.update
        )
    for reason, count in Counter(found.failures.values()).most_common(5):
        note(f"{count} passages have no probability: {reason}")
    if passages and not found.probabilities:
        raise RuntimeError(f"{arguments.reader} gave no probability for any passage")
    return with_probabilities(examples, arguments.reader, found.probabilities)


def _weights(
    arguments: argparse.Namespace, examples: "list[Example]", model: str
) -> "LearnedWeights | None":
    from configs.files import write_text
    from configs.formats.lines import read_json
    from eval.files.udcg_examples import context_of
    from eval.measures.udcg import LearnedWeights, learn_weights

    if arguments.weights:
        fields = read_json(arguments.weights)
        try:
            return LearnedWeights(
                tuple(map(float, fields["relevant"])), tuple(map(float, fields["irrelevant"]))
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{arguments.weights}: expected an object with 'relevant' and 'irrelevant', "
                f"lists of numbers ({error})"
            ) from None
    if not arguments.learn:
        return None
    contexts, accuracies = [], []
    for number, example in enumerate(examples, start=1):
        context = context_of(example, model)
        if isinstance(context, str):
            continue
        accuracy = example.get(arguments.learn)
        if not isinstance(accuracy, int | float):
            raise ValueError(
                f"{arguments.file}, example {number}: no number {arguments.learn!r} to learn from"
            )
        contexts.append(context)
        accuracies.append(float(accuracy))
    weights = learn_weights(contexts, accuracies)
    if arguments.save_weights:
        write_text(arguments.save_weights, json.dumps(vars(weights), indent=2) + "\n")
    return weights


def _as_json(
    arguments: argparse.Namespace,
    model: str,
    names: list[str],
    scored: "Scored",
    weights: "LearnedWeights | None",
) -> dict[str, Any]:
    report: dict[str, Any] = {
        "file": str(arguments.file),
        "model": model,
        "mean": scored.mean,
        "null": scored.null,
        "null_share": scored.null / len(scored.scores),
        "empty": arguments.empty,
        "failed": scored.failed,
        "scores": dict(zip(names, scored.scores, strict=True)),
    }
    if weights is None:
        report["relevant_weight"] = arguments.relevant_weight
        report["irrelevant_weight"] = arguments.irrelevant_weight
    else:
        report["learned_weights"] = vars(weights)
    return report
