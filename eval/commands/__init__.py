"""One module per subcommand of `python -m eval`, each with its `add_<name>_parser`."""
