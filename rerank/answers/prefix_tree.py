"""Answers that share their first tokens, as one tree: what every answer costs is its own tokens.

Enters: the answers' token ids. Leaves: the tree's nodes and, from a model's logits at the nodes,
each answer's probability among all of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch


class PrefixTree(NamedTuple):
    """M nodes, a parent before its children; the root is no node of its own, its number is -1.

    `tokens` and `parents` hold M numbers, `ends` the node each answer ends at.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def inner(self) -> list[int]:
        """The nodes that others follow, whose logits count."""
        return sorted(set(self.parents) - {-1})

    def depths(self) -> list[int]:
        """How many nodes stand above each of the M."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(0 if parent < 0 else depths[parent] + 1)
        return depths

    def sees(self) -> torch.Tensor:
        """bool [M, M]: each node sees itself and the nodes above it."""
        sees = torch.eye(len(self.tokens), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                sees[node] |= sees[parent]
        return sees


def prefix_tree(answers: Sequence[Sequence[int]]) -> PrefixTree:
    """The tree of `answers`; raises `ValueError` where one is empty, or begins another."""
    tokens: list[int] = []
    parents: list[int] = []
    ends: list[int] = []
    nodes: dict[tuple[int, int], int] = {}
    for answer in answers:
        node = -1
        for token in answer:
            if (node, token) not in nodes:
                nodes[node, token] = len(tokens)
                tokens.append(token)
                parents.append(node)
            node = nodes[node, token]
        ends.append(node)
    if -1 in ends or set(ends) & set(parents) or len(set(ends)) < len(ends):
        raise ValueError("an answer is empty or begins another one: close answers with answer_end")
    return PrefixTree(tuple(tokens), tuple(parents), tuple(ends))


def answer_log_probabilities(tree: PrefixTree, logits: torch.Tensor) -> torch.Tensor:
    """float32 [answers], the log-probability of each answer when nothing else may be written.

    `logits` [inner nodes + 1, vocabulary] are the model's after each inner node and, last, after
    the root. The next token is drawn among a node's children alone, so that the probabilities of
    all answers add up to 1.
    """
    rows = {node: row for row, node in enumerate(tree.inner)}
    row = torch.tensor([rows.get(parent, len(rows)) for parent in tree.parents])
    row = row.to(logits.device)
    chosen = logits[row, torch.tensor(tree.tokens, device=logits.device)].double()
    totals = torch.stack([chosen[row == r].logsumexp(0) for r in range(len(rows) + 1)])
    steps = chosen - totals[row]
    sums = tree.sees().to(logits.device).double() @ steps
    return sums[list(tree.ends)].float()
