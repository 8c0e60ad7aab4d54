import numpy as np
import pytest
import torch

from retrieval.adapter.maps import MAPS, apply_map, outputs_of
from retrieval.adapter.network import Start, map_parameters

PAIRS = 1_000_000


def _random_parameters(name: str, count: int, generator: torch.Generator):
    """What a network could answer at its wildest: outputs of either sign over many magnitudes."""
    size = 10.0 ** (torch.rand(count, 3, generator=generator, dtype=torch.float64) * 4 - 2)
    outputs = size * torch.randn(count, 3, generator=generator, dtype=torch.float64)
    start = Start(slope=14.0, offset=-2.0, centre=0.4)
    return map_parameters(outputs[:, : outputs_of(name)], start, name) if name != "raw" else None


@pytest.mark.parametrize("name", MAPS)
def test_a_million_random_parameters_invert_no_pair_of_cosines(name):
    """Half of the pairs are float32 neighbours, where rounding would show first."""
    generator = torch.Generator().manual_seed(1)
    x = (torch.rand(PAIRS, generator=generator) * 2 - 1).numpy()
    y = (torch.rand(PAIRS, generator=generator) * 2 - 1).numpy()
    y[::2] = np.nextafter(x[::2], np.float32(2))
    low, high = (torch.from_numpy(f(x, y)).double() for f in (np.minimum, np.maximum))
    parameters = _random_parameters(name, PAIRS, generator) or (torch.ones(()), torch.zeros(()))
    f_low, f_high = apply_map(name, low, *parameters), apply_map(name, high, *parameters)
    assert int((f_low > f_high).sum()) == 0
    # Far apart, the order must be strict: a map that is flat would pass the line above.
    far = (high - low > 0.1) & (parameters[0] > 1e-2) & (parameters[0] < 1e3)
    assert bool((f_low[far] < f_high[far]).all())
    assert int(far.sum()) > 1000


@pytest.mark.parametrize("name", MAPS)
def test_no_nan_and_no_infinity_on_cosines(name):
    generator = torch.Generator().manual_seed(2)
    edges = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 1e-38, -1e-30, 1.0, -1.0], dtype=torch.float64)
    x = torch.cat([torch.linspace(-1, 1, 2001, dtype=torch.float64), edges])
    parameters = _random_parameters(name, 500, generator)
    shaped = [
        p[:, None] if p is not None else None for p in parameters or (torch.ones(1), torch.zeros(1))
    ]
    assert bool(torch.isfinite(apply_map(name, x, *shaped)).all())


@pytest.mark.parametrize("name", MAPS[1:])
def test_training_has_finite_gradients_at_a_score_of_zero(name):
    """d|x|^k/dk is |x|^k log|x|: 0 times minus infinity without care."""
    outputs = torch.zeros(1, outputs_of(name), requires_grad=True)
    a, b, k = map_parameters(outputs, Start(10.0, -3.0, 0.0), name)
    apply_map(name, torch.tensor([0.0, 0.5, -0.5]), a, b, k).sum().backward()
    assert bool(torch.isfinite(outputs.grad).all())


def test_published_formulas_by_hand():
    x, a, b = torch.tensor([-0.25, 0.25]), torch.tensor(2.0), torch.tensor(0.5)
    assert apply_map("linear", x, a, b).tolist() == [0.0, 1.0]
    assert apply_map("sqrt", x, a, b).tolist() == [-0.5, 1.5]
    assert apply_map("quadratic", x, a, b).tolist() == [0.375, 0.625]
    assert apply_map("power", x, a, b, torch.tensor(1.5)).tolist() == pytest.approx([0.25, 0.75])
    assert apply_map("raw", x, a, b).tolist() == x.tolist()


def test_zero_outputs_are_the_global_calibration():
    """Training starts, and a member that learns nothing ends, at slope * (x - centre) + offset."""
    a, b, _ = map_parameters(
        torch.zeros(1, 2, dtype=torch.float64), Start(10.0, -1.0, 0.4), "linear"
    )
    logits = apply_map("linear", torch.tensor([0.4, 0.5], dtype=torch.float64), a, b)
    assert logits.tolist() == pytest.approx([-1.0, 0.0], abs=1e-3)


def test_an_unknown_map_is_named():
    with pytest.raises(ValueError, match="map 'cubic' is not one of raw, linear"):
        outputs_of("cubic")
