"""The same operator from mx_driving, through PyTorch. Its locations are (x, y)."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.npu.launches import ARRAYS, enqueue
from tests.support.cases import FLOATS, Inputs
from tests.support.on_card import Results


class MxDriving:
    """`mx_driving.deformable_aggregation` on one device.

    Args:
        torch: the module.
        aggregate: the operator.
        device: what PyTorch calls the device.
        wait: returns when all work on the device is done.
    """

    def __init__(
        self,
        torch: Any,
        aggregate: Callable[..., Any],
        device: str,
        wait: Callable[[], None],
    ) -> None:
        self.torch, self.aggregate = torch, aggregate
        self.device, self.wait = device, wait

    def call(self, inputs: Inputs, cotangent: np.ndarray) -> Callable[[], Results]:
        """Moves the problem to the device; each call computes it there, once.

        Results stay there: `fetch` brings them here.
        """
        tensors = [self._tensor(array) for array in inputs]
        bar = self._tensor(cotangent)
        wanted = [tensors[i].requires_grad_() for i in FLOATS]

        def both() -> Results:
            out = self.aggregate(*tensors)
            grads = self.torch.autograd.grad(out, wanted, bar)
            self.wait()
            return out, grads

        return both

    def our_kernels(
        self, inputs: Inputs, cotangent: np.ndarray
    ) -> Callable[[], Results]:
        """The same with our kernels, on PyTorch's tensors and its current stream."""
        given = zip(ARRAYS, (*inputs, cotangent), strict=False)
        tensors = {name: self._tensor(array) for name, array in given}
        results = {
            name: self._tensor(np.zeros_like(like))
            for name, like in zip(
                ARRAYS[6:], (cotangent, *(inputs[i] for i in FLOATS)), strict=True
            )
        }
        everything = tensors | results
        pointers = {name: tensor.data_ptr() for name, tensor in everything.items()}

        def both() -> Results:
            enqueue(inputs, pointers, self.torch.npu.current_stream().npu_stream)
            self.wait()
            out, *grads = (results[name] for name in ARRAYS[6:])
            return out, grads

        return both

    def fetch(self, results: Any) -> Results:
        """As numpy arrays."""
        out, *grads = (x.detach().cpu().numpy() for x in (results[0], *results[1]))
        return out, grads

    def _tensor(self, array: np.ndarray) -> Any:
        return self.torch.from_numpy(np.array(array)).to(self.device)


def find(device: int) -> MxDriving:
    """The peer on a card; raises ImportError where it is not installed."""
    import torch as imported
    import torch_npu  # noqa: F401  (it makes torch.npu)
    from mx_driving import deformable_aggregation

    torch: Any = imported
    torch.npu.set_device(device)
    wait = torch.npu.synchronize
    return MxDriving(torch, deformable_aggregation, f"npu:{device}", wait)
