"""The subcommands of `python -m eval`: arguments enter, tables leave on stdout.

One module a subcommand, each with its `add_<name>_parser`; read `measure.py` first.
"""
