"""From a corpus to hits: read passages, encode them, build an index, search it, cut what is irrelevant."""
