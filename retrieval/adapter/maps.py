"""The monotone maps from a score to a logit, one formula each.

Enters: scores and, per query, a slope a > 0, an offset b and for `power` an exponent k.
Leaves: F(x) = a * shape(x) + b, which rises with x whatever the parameters are.

    apply_map("quadratic", torch.tensor([-0.5, 0.5]), a, b, k)

From arXiv 2408.04887, with two repairs: shapes are odd, so a negative cosine has an image under
`sqrt`, and a is positive by construction (`network.py`), so the order never turns.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MAPS = ("raw", "linear", "sqrt", "quadratic", "power")
SMALLEST_EXPONENT = 0.05
# log() needs a value at 0; the sign makes the product 0 again.
_NEVER_ZERO = 1e-30


def outputs_of(name: str) -> int:
    """How many numbers the network chooses for this map: a and b, and k for `power`."""
    if name not in MAPS:
        raise ValueError(f"map {name!r} is not one of {', '.join(MAPS)}")
    return {"raw": 0, "power": 3}.get(name, 2)


def shape(name: str, x: "Tensor", k: "Tensor | None" = None) -> "Tensor":
    """The map's shape without slope and offset: odd, rising, 0 at 0; same shape as x.

    In float64 no two float32 scores change places: neighbours differ by 6e-8 relative, hence by
    k * 6e-8 >= 3e-9 after the power, seven digits above the rounding error.
    """
    if name == "sqrt":
        return x.sign() * x.abs().sqrt()
    if name == "quadratic":
        return x * x.abs()
    if name == "power":
        assert k is not None
        return x.sign() * (k * x.abs().clamp_min(_NEVER_ZERO).log()).exp()
    return x


def apply_map(
    name: str, x: "Tensor", a: "Tensor", b: "Tensor", k: "Tensor | None" = None
) -> "Tensor":
    """F(x) = a * shape(x) + b; `raw` is x itself."""
    return x if name == "raw" else a * shape(name, x, k) + b
