"""The subcommands of `python -m rerank`: arguments enter, results leave on stdout.

One module a subcommand, each with `add_parser` and `run`; read `rank.py` first.
"""
