"""Let passages read the query in every layer, through gates that start closed.

Enters: q, k, v of packed prompts whose queries are read alone, a gate a layer and head. Leaves:
attention outputs in which a passage's token also attended to its query's block,

    out = own + g (joint - own)

`own` is attention to the passage alone, `joint` to the query and the passage as one softmax: the
query as BlockRank's instruction block (arXiv 2510.05396, section 3). At g = 0 not a bit differs
from a model without gates, at g = 1 it is the published form; what a gate is worth is learned.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from kernels import BlockLayout, RequestBlocks, block_attention
from kernels.host import to_device
from rerank.backbones.block_interface import BlockContext
from rerank.backbones.low_rank import load_tensors
from rerank.prompt.packing import PackedPrompts

FILE = "query_gates.safetensors"
# What a gate is multiplied by, so that one learning rate suits it and a low-rank update.
_GAIN = 10.0


class QueryGates(nn.Module):
    """`gates` float32 [layers, heads], 0 at the start: closed."""

    def __init__(self, layers: int, heads: int) -> None:
        super().__init__()
        self.gates = nn.Parameter(torch.zeros(layers, heads))

    @classmethod
    def load(cls, folder: Path, layers: int, heads: int) -> "QueryGates":
        """Read them from `folder`; closed where it has none, as before training.

        Raises `ValueError` naming the file where it is broken or another model's.
        """
        made = cls(layers, heads)
        path = folder / FILE
        if path.is_file():
            tensors = load_tensors(path)
            shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            if shapes != {"gates": (layers, heads)}:
                raise ValueError(f"{path} holds {shapes}, wanted gates of {(layers, heads)}")
            made.load_state_dict({"gates": tensors["gates"].float()})
        return made

    def of_layer(self, layer: int) -> torch.Tensor:
        """How far each head [H] of the layer is open."""
        return _GAIN * self.gates[layer]


@dataclass(frozen=True)
class _Joint:
    """The prompts laid out with each query as its passages' instruction.

    `rows` int64 are the tokens of the other layout in this order; of these, the places `passages`
    are passages' tokens.
    """

    layout: BlockLayout
    rows: torch.Tensor
    passages: torch.Tensor


@dataclass
class GatedContext(BlockContext):
    """As `BlockContext`, with passages that read their query; `gates` and `prompts` are needed."""

    gates: QueryGates | None = None
    prompts: PackedPrompts | None = None

    def attend(
        self, layer: int | None, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """The attention output [T, Hq, D] of one layer."""
        assert self.gates is not None
        assert self.prompts is not None
        own = super().attend(layer, q, k, v, scale)
        joint = joint_layout(self.prompts)
        q, k, v = (tensor.index_select(0, joint.rows) for tensor in (q, k, v))
        both = block_attention(q, k, v, joint.layout, causal=False, scale=scale)
        # The attentions of a pass are counted as they come: not every model numbers its layers.
        gate = self.gates.of_layer(self.layers - 1)[:, None].to(own.dtype)
        rows = joint.rows[joint.passages]
        added = gate * (both.index_select(0, joint.passages) - own.index_select(0, rows))
        return own.index_add(0, rows, added.to(own.dtype))


def joint_layout(prompts: PackedPrompts) -> _Joint:
    """The layout that `prompts`, whose queries are requests of their own, have with them inside."""
    found: _Joint = prompts.layout.memo("joint", lambda: _joint(prompts))
    return found


def _joint(prompts: PackedPrompts) -> _Joint:
    requests, rows, passages = [], [], []
    count = len(prompts.passage_counts)
    for number in range(count):
        spans = prompts.layout.spans[number]
        query = prompts.layout.spans[count + number].passages[0]
        lengths = [span.length for span in spans.passages]
        requests.append(RequestBlocks(query.length, lengths, 0))
        rows += list(range(query.start, query.end))
        begin = len(rows)
        rows += [row for span in spans.passages for row in range(span.start, span.end)]
        passages += list(range(begin, len(rows)))
    device = prompts.signal.device
    return _Joint(
        BlockLayout.build(requests, device),
        to_device(torch.tensor(rows, dtype=torch.int64), device),
        to_device(torch.tensor(passages, dtype=torch.int64), device),
    )
