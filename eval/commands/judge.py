"""`python -m eval judge COLLECTION --model NAME`: a language model labels pairs, as qrels."""

import argparse
from typing import TYPE_CHECKING

from configs.command import note
from eval.commands.output import Subparsers, print_json
from eval.commands.reader_options import add_reader_options, open_cache, open_reader

if TYPE_CHECKING:
    from eval.judging.judge import Pair


def add_judge_parser(subparsers: Subparsers) -> None:
    """Add the `judge` subcommand."""
    parser = subparsers.add_parser(
        "judge",
        help="label query-passage pairs with a language model",
        description="Ask a local language model, or one behind an OpenAI-compatible endpoint, for "
        "the relevance of pairs, and write its labels as qrels. Answers are cached: a run that "
        "was killed goes on where it stopped. A pair without a readable answer gets no label.",
    )
    parser.add_argument("collection", help="BEIR folder or ir_datasets id, with texts")
    parser.add_argument(
        "--model", required=True, help="local model, folder, hub id, or remote name"
    )
    parser.add_argument("--out", required=True, help="write the labels here (TREC qrels)")
    parser.add_argument("--prompt", default="graded_0_3", help="name or YAML file (%(default)s)")
    parser.add_argument(
        "--mode",
        choices=("generate", "likelihood"),
        default="generate",
        help="parse what it writes, or take the likeliest label (%(default)s)",
    )
    parser.add_argument("--split", default="test", help="whose judged pairs (%(default)s)")
    parser.add_argument("--run-file", metavar="RUN", help="label this run's pairs instead")
    parser.add_argument("--depth", type=int, default=10, help="of the run (%(default)s)")
    parser.add_argument("--sample", type=int, help="label this many of the pairs, drawn by --seed")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    add_reader_options(parser)
    parser.set_defaults(run=run_judge)


def run_judge(arguments: argparse.Namespace) -> None:
    """Label, write the qrels, say what failed."""
    from collections import Counter

    from tqdm import tqdm

    from eval.files.trec import write_qrels
    from eval.judging.judge import judge_pairs, sample_pairs
    from eval.judging.prompts import read_judge_prompt
    from eval.pipeline.collection_texts import passage_texts
    from retrieval.corpora import load_collection

    prompt = read_judge_prompt(arguments.prompt)
    collection = load_collection(arguments.collection, arguments.split)
    pairs = sample_pairs(_pairs(arguments, collection.qrels), arguments.sample, arguments.seed)
    passages = passage_texts(arguments.collection, {pair.passage_id for pair in pairs})
    reader = open_reader(arguments, arguments.model)
    with tqdm(total=len(pairs), unit="pair", disable=None) as bar:
        judged = judge_pairs(
            pairs,
            collection.queries,
            passages,
            prompt,
            reader,
            open_cache(arguments),
            mode=arguments.mode,
            progress=bar.update,
        )
    reasons = Counter(judged.failures.values())
    for reason, count in reasons.most_common(5):
        note(f"{count} pairs have no label: {reason}")
    if not judged.judgments:
        raise RuntimeError(f"none of the {len(pairs)} pairs got a label; nothing was written")
    write_qrels(arguments.out, judged.as_qrels())
    grades = Counter(judgment.grade for judgment in judged.judgments)
    if arguments.json:
        print_json(
            {
                "collection": str(arguments.collection),
                "model": arguments.model,
                "prompt": arguments.prompt,
                "mode": arguments.mode,
                "sample": arguments.sample,
                "seed": arguments.seed,
                "pairs": len(pairs),
                "labelled": len(judged.judgments),
                "grades": {str(grade): grades[grade] for grade in sorted(grades)},
                "failures": [
                    {"query": pair.query_id, "passage": pair.passage_id, "reason": reason}
                    for pair, reason in judged.failures.items()
                ],
                "out": str(arguments.out),
            }
        )
        return
    listed = ", ".join(f"{grade}: {grades[grade]}" for grade in sorted(grades))
    print(
        f"{len(judged.judgments)} of {len(pairs)} pairs labelled ({listed}), "
        f"{len(judged.failures)} failed; written to {arguments.out}"
    )


def _pairs(arguments: argparse.Namespace, qrels: dict[str, dict[str, int]]) -> "list[Pair]":
    from eval.files.trec import read_run
    from eval.judging.judge import pairs_of
    from eval.measures.ranking import trec_eval_order

    if not arguments.run_file:
        return pairs_of(qrels)
    run = read_run(arguments.run_file)
    return pairs_of({q: trec_eval_order(scores)[: arguments.depth] for q, scores in run.items()})
