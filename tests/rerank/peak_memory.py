"""Print how many MiB 1,000 passages add to the peak of this process: in groups, then in one."""

import resource
import sys
from pathlib import Path

from rerank import BlockRanker


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(folder: Path) -> None:
    passages = [f"Pear number {i} fell." for i in range(1000)]
    ranker = BlockRanker.from_pretrained(str(folder), device="cpu", max_tokens=1024)
    ranker.rerank("who wrote Faust?", passages[:20])
    for max_tokens in (1024, 10**6):
        before = _peak()
        found = BlockRanker(ranker.backbone, max_tokens=max_tokens).rerank("who?", passages)
        assert len(found) == 1000
        print(_peak() - before)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
