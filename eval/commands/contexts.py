"""`python -m eval contexts COLLECTION RUN`: what a run retrieved, as a file for UDCG."""

import argparse

from eval.commands.output import Subparsers


def add_contexts_parser(subparsers: Subparsers) -> None:
    """Add the `contexts` subcommand."""
    parser = subparsers.add_parser(
        "contexts",
        help="write the passages that a run retrieved in the UDCG file format",
        description="One example per judged query: its text, its first passages and their "
        "relevance. Score the file with `udcg FILE --reader NAME`.",
    )
    parser.add_argument("collection", help="BEIR folder or ir_datasets id, with texts")
    parser.add_argument("run_file", metavar="run", help="TREC run, plain or .gz")
    parser.add_argument("--out", required=True, help="JSON file to write")
    parser.add_argument("--split", default="test", help="of the qrels (%(default)s)")
    parser.add_argument("--depth", type=int, default=5, help="passages a query (%(default)s)")
    parser.add_argument("--minimum-grade", type=int, default=1, help="relevant from (%(default)s)")
    parser.add_argument("--queries", type=int, help="only the first so many judged queries")
    parser.set_defaults(run=run_contexts)


def run_contexts(arguments: argparse.Namespace) -> None:
    """Collect the texts and write the file."""
    from itertools import islice

    from eval.files.trec import read_run
    from eval.files.udcg_examples import examples_from_run, write_examples
    from eval.measures.ranking import check_overlap, trec_eval_order
    from eval.pipeline.collection_texts import passage_texts
    from retrieval.corpora import load_collection

    collection = load_collection(arguments.collection, arguments.split)
    run = read_run(arguments.run_file)
    check_overlap(collection.qrels, run)
    qrels = dict(islice(collection.qrels.items(), arguments.queries))
    ranked = {
        query_id: trec_eval_order(run[query_id])[: arguments.depth]
        for query_id in qrels
        if query_id in run
    }
    wanted = {passage_id for ids in ranked.values() for passage_id in ids}
    examples = examples_from_run(
        collection.queries,
        passage_texts(arguments.collection, wanted),
        qrels,
        ranked,
        depth=arguments.depth,
        minimum_grade=arguments.minimum_grade,
    )
    write_examples(arguments.out, examples)
    empty = sum(not example["passages"] for example in examples)
    print(f"{len(examples)} examples, {empty} of them without a passage: {arguments.out}")
