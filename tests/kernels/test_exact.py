import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.exact import exact_logsumexp, exact_sum


@given(st.integers(1, 300), st.integers(0, 2**32), st.floats(-280, 280))
def test_order_and_neighbours_do_not_change_the_bits(n, seed, log_scale):
    generator = torch.Generator().manual_seed(seed)
    terms = torch.randn(n, 5, generator=generator, dtype=torch.float64) * 10.0**log_scale
    bound = terms.abs().amax(0)
    total = exact_sum(terms.clone(), bound)
    order = torch.randperm(n, generator=generator)
    assert torch.equal(exact_sum(terms[order], bound), total)
    assert torch.equal(exact_sum(terms[:, 2:3].clone(), bound[2:3]), total[2:3])
    for column in range(5):
        wanted = math.fsum(terms[:, column].tolist())
        allowed = n * bound[column].item() * 2.0 ** (n.bit_length() - 51)
        assert abs(total[column].item() - wanted) <= allowed


def test_logsumexp_of_nothing_and_of_masked_logits_is_minus_infinity():
    assert exact_logsumexp(torch.empty(0, 2)).tolist() == [-math.inf, -math.inf]
    logits = torch.tensor([[-math.inf, 1.0], [-math.inf, -math.inf]])
    assert exact_logsumexp(logits).tolist() == [-math.inf, 1.0]


@given(st.integers(1, 200), st.floats(-1000, 1000))
def test_logsumexp_matches_torch(n, shift):
    logits = torch.randn(n, 3, generator=torch.Generator().manual_seed(n)).double() * 10 + shift
    torch.testing.assert_close(exact_logsumexp(logits), logits.logsumexp(0), rtol=1e-12, atol=1e-11)
