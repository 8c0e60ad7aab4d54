"""The subcommands of `python -m retrieval.index`: arguments enter, results leave on stdout.

One module for those that belong together, each with `add_parser`; read `search.py` first.
"""
