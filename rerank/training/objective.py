"""The loss of one pass: scores from the backbone, terms from the scores, their weighted sum.

Enters: a `Pass`. Leaves: the sum over its prompts of every term, unweighted, and of the whole.
"""

from dataclasses import replace

import torch
from torch import nn

from rerank.backbones.protocol import Backbone, Readout
from rerank.scoring.scores import head_values, matches, passage_scores
from rerank.training.language_model import LanguageModel
from rerank.training.losses import distance_from_start, distillation, info_nce, listwise
from rerank.training.passes import Pass
from rerank.training.settings import TrainingSettings

# A passage without a token of its own has the lowest score there is; divided by a temperature it
# would be infinite, and its share of a listwise target no number.
_LOWEST = -1e4


class Objective(nn.Module):
    """A backbone, or a language model around one, under the loss of `settings`."""

    def __init__(
        self,
        backbone: Backbone,
        settings: TrainingSettings,
        language_model: LanguageModel | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.settings = settings
        self.language_model = language_model
        for name, module in modules_of(backbone).items():
            self.add_module(name, module)
        if language_model is not None:
            self.head = language_model.head
        self.start: dict[str, torch.Tensor] = {}

    def remember_start(self) -> None:
        """Take the trained parameters as they are now for where the pull goes."""
        self.start = {name: p.detach().clone() for name, p in self.trained().items()}

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def forward(self, batch: Pass) -> dict[str, torch.Tensor]:
        """Each term that counts and `total`, scalars, summed over the pass's prompts."""
        loss, number = self.settings.loss, len(batch.grades)
        terms: dict[str, torch.Tensor] = {}
        if self.language_model is not None:
            readout, terms["language_model"] = self.language_model.read(batch.packed, batch.answers)
        else:
            readout = self.backbone.read(batch.packed)
        if loss.needs_scores:
            # The kernels do their own rounding; autocast inside them would add to it.
            with torch.autocast(self.backbone.device.type, enabled=False):
                scores = self._scores(readout, batch)
                terms |= self._score_terms(scores, batch)
        if loss.start:
            terms["start"] = number * distance_from_start(dict(self.trained()), self.start)
        weighted = [getattr(loss, name) * value for name, value in terms.items()]
        return terms | {"total": torch.stack(weighted).sum()}

    def _scores(self, readout: Readout, batch: Pass) -> list[torch.Tensor]:
        readout = _without_autocast_types(readout)
        if self.settings.in_batch:
            found = scores_of_all(readout, batch, self.backbone)
        else:
            found = passage_scores(readout, batch.packed, self.backbone.settings)
        return [scores.clamp(min=_LOWEST) for scores in found]

    def _score_terms(self, scores: list[torch.Tensor], batch: Pass) -> dict[str, torch.Tensor]:
        loss = self.settings.loss
        rows = list(zip(scores, batch.grades, batch.teacher, strict=True))
        terms = {}
        if loss.info_nce:
            terms["info_nce"] = [info_nce(s, g, loss.temperature) for s, g, _ in rows]
        if loss.listwise:
            terms["listwise"] = [listwise(s, g, loss.temperature) for s, g, _ in rows]
        if loss.distillation:
            temperatures = (loss.temperature, loss.teacher_temperature)
            terms["distillation"] = [distillation(s, t, *temperatures) for s, _, t in rows]
        return {name: torch.stack(values).sum() for name, values in terms.items()}


def modules_of(backbone: Backbone) -> dict[str, nn.Module]:
    """The modules that a backbone consists of, by the attribute that holds them."""
    return {name: value for name, value in vars(backbone).items() if isinstance(value, nn.Module)}


def scores_of_all(readout: Readout, batch: Pass, backbone: Backbone) -> list[torch.Tensor]:
    """Scores float32 [P] of the first request's P passages for every query of the pass."""
    everyone = replace(batch.packed, signal_request=torch.zeros_like(batch.queries))
    count, device = batch.packed.passage_counts[0], batch.packed.signal.device
    totals = [torch.zeros(count, dtype=torch.float64, device=device) for _ in batch.grades]
    if readout.prior is not None:
        queries, passages = readout.prior
        totals = list((queries @ passages.T).double())
    if readout.words is not None:
        for query in range(len(totals)):
            found = matches(readout.words, batch.packed, 0, batch.queries == query)
            totals[query] = totals[query] + found.to(device)
    for heads in readout.heads:
        values = head_values(heads, everyone, backbone.settings)
        for query in range(len(totals)):
            mine = batch.queries == query
            weighted = values[:, mine].double() * heads.weights[:, mine, None].double()
            totals[query] = totals[query] + weighted.sum((0, 1))
    return [total.float() for total in totals]


def _without_autocast_types(readout: Readout) -> Readout:
    """Queries and keys in fp32: autocast leaves them in whatever type their last operation had."""
    heads = tuple(h._replace(q=h.q.float(), k=h.k.float()) for h in readout.heads)
    return readout._replace(heads=heads)
