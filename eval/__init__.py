"""Judge rankings: measures, UDCG, LLM judges and their agreement, significance, reports."""
