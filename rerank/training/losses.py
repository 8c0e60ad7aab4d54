"""What a prompt's scores should have been: one number a prompt, lower is better.

Enters: the scores of one prompt's passages, and grades or a teacher's scores. Leaves: a loss.

    info_nce(torch.tensor([0.9, 0.1]), torch.tensor([1, 0]), temperature=0.05)
"""

import torch
from torch.nn import functional as F


def info_nce(scores: torch.Tensor, grades: torch.Tensor, temperature: float) -> torch.Tensor:
    """-log of the softmax of scores [N] / temperature that falls on relevant passages.

    Several relevant passages (grades [N] above 0) are joined by log-sum-exp: it is enough to find
    one (BlockRank, arXiv 2510.05396, equation 5).
    """
    logs = F.log_softmax(scores / temperature, dim=0)
    return -torch.logsumexp(logs[grades > 0], dim=0)


def listwise(scores: torch.Tensor, grades: torch.Tensor, temperature: float) -> torch.Tensor:
    """Cross-entropy of the softmax of scores [N] / temperature to the passages' shares of gain.

    The gain of a grade g is 2^g - 1 (as in nDCG), the loss ListNet's top-1 cross-entropy (Cao et
    al. 2007) to gains in place of exponentials: passages of grade 0 get no share.
    """
    gains = torch.exp2(grades.float()) - 1
    return -(gains / gains.sum() * F.log_softmax(scores / temperature, dim=0)).sum()


def distillation(
    scores: torch.Tensor, teacher: torch.Tensor, temperature: float, teacher_temperature: float
) -> torch.Tensor:
    """KL divergence of the softmax of scores [N] / temperature from the teacher's [N].

    Passages that the teacher did not score (NaN) are left out of both.
    """
    known = ~teacher.isnan()
    wanted = F.log_softmax(teacher[known] / teacher_temperature, dim=0)
    found = F.log_softmax(scores[known] / temperature, dim=0)
    return F.kl_div(found, wanted, reduction="sum", log_target=True)


def distance_from_start(
    parameters: dict[str, torch.Tensor], start: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Half the squared distance of all parameters to their start (L2-SP, arXiv 1802.01483)."""
    parts = [(parameters[name] - start[name]).float().square().sum() for name in parameters]
    return torch.stack(parts).sum() / 2
