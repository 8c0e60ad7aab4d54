"""Sums whose bits do not depend on the order of their terms.

In: float64 terms and a bound on their size. Out: their sum over the first dimension. The terms are
rounded to whole multiples of one unit, small enough to keep about 2^-45 of the bound and large
enough that every partial sum is a whole number below 2^53: float64 then adds without any rounding,
so any order, vector width or thread count gives the same bits.

    exact_sum(torch.rand(1000, 4).double(), torch.ones(4))  # [4]
"""

from __future__ import annotations

import torch


def exact_sum(terms: torch.Tensor, bound: torch.Tensor) -> torch.Tensor:
    """Sum float64 `terms` [n, ...] over n, overwriting them; `bound` [...] >= every |term|.

    The error is at most n units of 2^(n.bit_length() - 51) times the bound. NaN stays NaN.
    """
    bits = 52 - terms.shape[0].bit_length()
    _, exponent = torch.frexp(bound.double())
    per_unit = torch.exp2((bits - exponent).double())
    return terms.mul_(per_unit).round_().sum(0) / per_unit


def exact_logsumexp(logits: torch.Tensor) -> torch.Tensor:
    """float64 log(sum(exp(logits))) over the first dimension; -inf where all logits are (or n = 0).

    As any order of the logits gives the same bits, so does any order of what they stand for.
    """
    if not logits.shape[0]:
        return logits.new_full(logits.shape[1:], -torch.inf, dtype=torch.float64)
    largest = logits.amax(0).double()
    # Subtracting -inf from itself would give NaN for a row without any finite logit.
    shift = torch.where(largest == -torch.inf, 0.0, largest)
    terms = torch.exp(logits.double() - shift)
    return shift + torch.log(exact_sum(terms, torch.ones_like(shift)))
