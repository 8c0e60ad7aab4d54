"""A GPU that is none: its tensors hold their numbers on the CPU, and give them away as a GPU does.

A real rank runs on it, and what would make the host wait for a GPU is counted; tensors of both
places in one operation are refused as a GPU refuses them. Only the kernels, which have no such
tensors, compute on the CPU.

    with FarDevice() as far:
        far.move(backbone)
"""

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

from kernels.dispatch import chosen_module

DEVICE = torch.device("cuda", 0)
# The shape of their results depends on numbers, or they are numbers.
_WAITING = {
    *("bincount", "equal", "is_nonzero", "item", "_local_scalar_dense", "masked_select"),
    *("nonzero", "repeat_interleave", "_unique2", "unique_consecutive", "unique_dim"),
}
_NUMBERS = {"__bool__", "__float__", "__index__", "__int__", "item"}


class _Far(torch.Tensor):
    """`held` as a tensor of the device."""

    held: torch.Tensor
    far: "FarDevice"

    @staticmethod
    def __new__(cls, held: torch.Tensor, far: "FarDevice") -> "_Far":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held, made.far = held, far
        return made

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        # Written in C++, these look for the device themselves.
        if function is torch.Tensor.__getitem__:
            args[0].far.indexed(args[1])
            return cls(args[0].held[_here(args[1])], args[0].far)
        if function is torch.Tensor.__setitem__:
            args[0].far.indexed(args[1])
            args[0].held[_here(args[1])] = _here(args[2])
            return None
        if function is torch.Tensor.contiguous:
            return cls(args[0].held.contiguous(), args[0].far)
        if function is torch.Tensor.nonzero:
            args[0].far.waits["nonzero"] += 1
            return cls(args[0].held.nonzero(), args[0].far)
        if function.__name__ in _NUMBERS:
            args[0].far.waits["number"] += 1
            return function(args[0].held)
        if function is torch.Tensor.tolist:
            return args[0].cpu().tolist()
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise RuntimeError(f"{function} outside of the FarDevice that made its tensors")


class FarDevice(TorchDispatchMode):
    """`waits` counts what the host would have waited for, `queued` the copies that it need not."""

    def __init__(self) -> None:
        super().__init__()
        # As torch's own FakeTensorMode: it does not look for CUDA then.
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE
        self.waits: Counter[str] = Counter()
        self.queued = 0
        self._pinned: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    @torch.inference_mode()
    def move(self, backbone: Any) -> None:
        """Put the modules of `backbone` there, for inference."""
        for module in [value for value in vars(backbone).values() if isinstance(value, nn.Module)]:
            for part in module.modules():
                for tensors in (part._parameters, part._buffers):
                    tensors.update(
                        {n: _Far(x.clone(), self) for n, x in tensors.items() if x is not None}
                    )
        backbone.device = DEVICE

    def kernels(self, operation: str) -> AbstractContextManager[object]:
        """The package `operation` of `kernels` computes on the CPU."""
        return patch.object(
            import_module(operation),
            "chosen_module",
            lambda *a: _Kernels(chosen_module(*_here(a)), self.there),
        )

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = function._schema.name.removeprefix("aten::")
        flat = tree_flatten((args, kwargs))[0]
        tensors = [x for x in flat if isinstance(x, torch.Tensor)]
        far = [x for x in tensors if isinstance(x, _Far)]
        target = next((x for x in flat if isinstance(x, torch.device)), None)
        if far and target is not None and target.type == "cpu":
            self.waits["copy to the host"] += 1
            return function(*_here(args), **_here(kwargs))
        if name == "pin_memory":
            self._pinned[args[0]] = True
            return args[0]
        if name in ("to", "_to_copy") and not far and target == DEVICE:
            if kwargs.pop("non_blocking", False) and args[0] in self._pinned:
                self.queued += 1
            else:
                self.waits["copy from ordinary memory"] += 1
        elif far and len(far) < len(tensors):
            self._check_mixed(name, tensors)
        if far and name in _WAITING and kwargs.get("output_size") is None:
            self.waits[name] += 1
        if not far and target != DEVICE:
            return function(*args, **kwargs)
        known = {id(x.held): x for x in far}
        result = function(*_here(args), **_here(kwargs))
        return tree_map(lambda x: known[id(x)] if id(x) in known else self.there(x), result)

    def there(self, x: Any) -> Any:
        """`x` on the device, where it is a tensor."""
        return _Far(x, self) if isinstance(x, torch.Tensor) and not isinstance(x, _Far) else x

    def indexed(self, index: Any) -> None:
        """Count what an index of numbers on the host, or of truth values, waits for."""
        for x in tree_flatten(index)[0] if isinstance(index, tuple | list) else [index]:
            if isinstance(x, torch.Tensor) and x.dtype == torch.bool:
                self.waits["index by truth values"] += 1
            elif isinstance(x, torch.Tensor) and not isinstance(x, _Far) and x.dim():
                self.waits["index by the host's tensor"] += 1
        if isinstance(index, list) or (
            isinstance(index, tuple) and any(isinstance(x, list) for x in index)
        ):
            self.waits["index by a list"] += 1

    def _check_mixed(self, name: str, tensors: list[torch.Tensor]) -> None:
        """Of the host's tensors only single numbers may be used there."""
        others = [x for x in tensors if not isinstance(x, _Far) and x.dim()]
        assert not others, f"{name} of tensors on the device and on the host"


class _Kernels:
    """A module of kernels, with tensors of the device for in- and output."""

    def __init__(self, module: Any, there: Callable[[Any], Any]) -> None:
        self._module = module
        self._there = there

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            result = getattr(self._module, name)(*_here(args))
            return tree_map(self._there, result)

        return call


def _here(values: Any) -> Any:
    """The numbers themselves, and the CPU in place of the device."""

    def one(x: Any) -> Any:
        if hasattr(x, "requests") and hasattr(x, "to"):
            return x.to("cpu")
        if isinstance(x, torch.device):
            return torch.device("cpu")
        return x.held if isinstance(x, _Far) else x

    return tree_map(one, values, is_leaf=lambda x: hasattr(x, "requests"))
