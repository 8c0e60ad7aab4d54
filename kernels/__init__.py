"""Block-sparse attention over packed, ragged blocks: torch and Triton alone."""
