"""One module per subcommand of `python -m rerank`, each with `add_parser` and `run`."""
