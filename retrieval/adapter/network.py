"""The small network that chooses, for each query, the parameters of its map.

Enters: query embeddings and/or score profiles with labelled hits. Leaves: the weights of a network
that gives every query its slope a, offset b and exponent k.

    weights = train_network(labelled, settings, start=(slope, offset, centre), seed=0)

The published network (arXiv 2408.04887) is LN - Linear 3072 - ReLU - Dropout - LN - Linear 3072 -
ReLU - Dropout - Linear, fitted on millions of pairs. Labels are scarcer here, so: the layers are
narrow (`hidden` says how wide, 3072 is allowed), a linear path runs beside them, the last layer
starts at zero so that training starts from one global Platt calibration, and several members,
each watching other queries, stop where those stop improving. A member that learns nothing useful
thus stays the global calibration.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from retrieval.adapter.hits import UNJUDGED, LabelledHits
from retrieval.adapter.maps import SMALLEST_EXPONENT, outputs_of, shape

if TYPE_CHECKING:
    from torch import Tensor

INPUTS = ("embedding", "profile", "both")
# softplus(_UNIT) = 1: a zero output leaves the slope as it started.
_UNIT = float(np.log(np.e - 1))
_SMALLEST_SLOPE = 1e-4
_FEATURE_BOUND = 4.0


@dataclass(frozen=True)
class AdapterSettings:
    """How an adapter is built and trained; saved beside its weights."""

    map: str = "linear"
    inputs: str = "both"
    depth: int = 20
    hidden: int = 64
    members: int = 4
    dropout: float = 0.5
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    epochs: int = 80
    patience: int = 10
    batch_queries: int = 256
    watched_share: float = 0.2

    def __post_init__(self) -> None:
        outputs_of(self.map)
        if self.inputs not in INPUTS:
            raise ValueError(f"adapter inputs {self.inputs!r} are none of {', '.join(INPUTS)}")
        for name in ("depth", "hidden", "members", "epochs", "patience", "batch_queries"):
            if getattr(self, name) < 1:
                raise ValueError(f"adapter setting {name}={getattr(self, name)} must be at least 1")


class Start(NamedTuple):
    """The global calibration to depart from: slope * (shape(x) - shape(centre)) + offset."""

    slope: float
    offset: float
    centre: float


def network_inputs(
    embeddings: np.ndarray | None, profile: np.ndarray | None, mean: np.ndarray, spread: np.ndarray
) -> "Tensor":
    """Network input, float64 [Q, in]: layer-normalised embedding beside standardised profile."""
    import torch

    parts = []
    if embeddings is not None:
        e = embeddings.astype(np.float64)
        e = e - e.mean(axis=1, keepdims=True)
        parts.append(e / np.sqrt((e**2).mean(axis=1, keepdims=True) + 1e-5))
    if profile is not None:
        z = (profile.astype(np.float64) - mean) / spread
        # A query unlike any seen in training must not extrapolate far.
        parts.append(np.clip(np.nan_to_num(z), -_FEATURE_BOUND, _FEATURE_BOUND))
    return torch.from_numpy(np.concatenate(parts, axis=1))


def profile_scale(profile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (float64) of each profile feature over the queries that have it."""
    known = ~np.isnan(profile)
    count = np.maximum(known.sum(axis=0), 1)
    values = np.nan_to_num(profile.astype(np.float64))
    mean = values.sum(axis=0) / count
    spread = np.sqrt((np.where(known, values - mean, 0.0) ** 2).sum(axis=0) / count)
    return mean, np.where(spread > 1e-9, spread, 1.0)


def initial_weights(inputs: int, settings: AdapterSettings, seed: int) -> dict[str, "Tensor"]:
    """Weights of all members, stacked on the first axis; outputs start at zero."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, size in weight_shapes(inputs, settings).items():
        if name in ("first", "second"):
            weights[name] = torch.randn(size, generator=generator) * (2 / size[1]) ** 0.5
        else:
            weights[name] = torch.zeros(size)
    return weights


def weight_shapes(inputs: int, settings: AdapterSettings) -> dict[str, tuple[int, int, int]]:
    """The shape of each of the network's weights."""
    members, hidden, outputs = settings.members, settings.hidden, outputs_of(settings.map)
    return {
        "first": (members, inputs, hidden),
        "first_bias": (members, 1, hidden),
        "second": (members, hidden, hidden),
        "second_bias": (members, 1, hidden),
        "last": (members, hidden, outputs),
        "last_bias": (members, 1, outputs),
        "beside": (members, inputs, outputs),
    }


def forward(weights: dict[str, "Tensor"], x: "Tensor", dropout: float = 0.0) -> "Tensor":
    """Outputs of every member, [E, Q, outputs], from inputs [Q, in] (or [E, Q, in])."""
    from torch.nn.functional import dropout as drop
    from torch.nn.functional import layer_norm, relu

    x = x.expand(len(weights["first"]), -1, -1) if x.dim() == 2 else x
    hidden = weights["first"].shape[-1]
    h = drop(relu(x @ weights["first"] + weights["first_bias"]), dropout)
    h = layer_norm(h, (hidden,))
    h = drop(relu(h @ weights["second"] + weights["second_bias"]), dropout)
    return h @ weights["last"] + weights["last_bias"] + x @ weights["beside"]


def map_parameters(
    outputs: "Tensor", start: Start, name: str
) -> tuple["Tensor", "Tensor", "Tensor | None"]:
    """Slope a > 0, offset b and exponent k (for `power`) from network outputs [..., 2 or 3]."""
    import torch
    from torch.nn.functional import softplus

    slope = start.slope * (softplus(outputs[..., 0] + _UNIT) + _SMALLEST_SLOPE)
    k = None
    if name == "power":
        k = 2 * torch.sigmoid(outputs[..., 2]).clamp_min(SMALLEST_EXPONENT / 2)
    centre = shape(name, torch.full((), start.centre, dtype=outputs.dtype), k)
    return slope, start.offset + outputs[..., 1] - slope * centre, k


def train_network(
    labelled: LabelledHits, x: "Tensor", settings: AdapterSettings, start: Start, seed: int
) -> dict[str, "Tensor"]:
    """Fit all members at once by BCE-with-logits; each keeps its best epoch.

    `x` is `network_inputs` of the same queries. Returns float32 weights, stacked by member.
    """
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    scores, labels, known = (torch.from_numpy(one) for one in _padded(labelled))
    x = x.float()
    generator = torch.Generator().manual_seed(seed)
    watched = _watched(labelled.hits.queries, settings, generator)  # [E, Q]
    weights = initial_weights(x.shape[1], settings, seed + 1)
    for one in weights.values():
        one.requires_grad_(True)
    decayed = [w for name, w in weights.items() if not name.endswith("bias")]
    biases = [w for name, w in weights.items() if name.endswith("bias")]
    optimiser = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": biases, "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
    )

    def losses(take: "Tensor", seen: "Tensor", dropout: float) -> "Tensor":
        """Mean loss of each member over the hits of queries `take` that `seen` [E, take] admits."""
        a, b, k = map_parameters(forward(weights, x[take], dropout), start, settings.map)
        shaped = shape(settings.map, scores[take], None if k is None else k[..., None])
        logits = a[..., None] * shaped + b[..., None]
        target = labels[take].expand_as(logits)
        each = binary_cross_entropy_with_logits(logits, target, reduction="none")
        weight = known[take] * seen[..., None]
        return (each * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2)).clamp_min(1)

    everything = torch.arange(len(x))
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(seed + 2)
        best_loss = torch.full((settings.members,), float("inf"))
        best = {name: w.detach().clone() for name, w in weights.items()}
        since = 0
        for _ in range(settings.epochs + 1):
            with torch.no_grad():
                loss = losses(everything, watched, 0.0)
            better = loss < best_loss
            best_loss = torch.where(better, loss, best_loss)
            for name, w in weights.items():
                best[name][better] = w.detach()[better]
            since = 0 if better.any() else since + 1
            if since > settings.patience:
                break
            order = torch.randperm(len(x), generator=generator)
            for take in order.split(settings.batch_queries):
                optimiser.zero_grad()
                losses(take, 1 - watched[:, take], settings.dropout).sum().backward()
                optimiser.step()
    return best


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread inside: matrices this small lose more to handing work over than they win."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _watched(queries: int, settings: AdapterSettings, generator: "object") -> "Tensor":
    """Which queries a member stops by instead of learning from, float [E, Q]; each has its own."""
    import torch

    size = max(1, round(settings.watched_share * queries))
    watched = torch.zeros(settings.members, queries)
    order = torch.randperm(queries, generator=generator)  # type: ignore[call-overload]
    for member in range(settings.members):
        watched[member, order[torch.arange(member * size, (member + 1) * size) % queries]] = 1
    return watched


def _padded(labelled: LabelledHits) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, labels and which hits count, float32 [Q, longest]."""
    hits = labelled.hits
    size = (hits.queries, int(hits.counts.max()))
    where = (hits.query_of_hit, hits.rank_of_hit)
    tables = [np.zeros(size, np.float32) for _ in range(3)]
    tables[0][where] = hits.scores
    tables[1][where] = labelled.labels == 1
    tables[2][where] = labelled.labels != UNJUDGED
    return tables[0], tables[1], tables[2]
