"""What is written for a GPU, on a device that is not the CPU: nothing of the CPU's meets it, and the numbers are the CPU's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.devices.pretended import There, another_device


def test_tensors_say_where_they_are_and_keep_their_numbers() -> None:
    with another_device() as device:
        x = torch.arange(6.0).view(2, 3).to(device).requires_grad_()
        y = (x @ torch.ones(3, 2, device=device)).square().sum()
        y.backward()
        assert x.device == y.device == x.grad.device == device and isinstance(x.grad, There)
        assert float(y.detach()) == 306.0
        assert torch.equal(x.grad.cpu(), torch.tensor([[12.0], [48.0]]).expand(2, 3))
        assert not isinstance(x.detach().cpu(), There)


def test_tensors_of_the_cpu_are_refused() -> None:
    with another_device() as device:
        x = torch.ones(3, device=device)
        assert (x + torch.tensor(1.0)).device == device, "a number may come from anywhere"
        with pytest.raises(RuntimeError, match="of the CPU, of shape"):
            x + torch.ones(3)
        with pytest.raises(RuntimeError, match="of the CPU, of shape"):
            nn.Linear(3, 2)(x)
        x.copy_(torch.full((3,), 2.0))
        assert float(x.sum()) == 6.0


def test_in_place_and_out_return_the_same_tensor() -> None:
    with another_device() as device:
        x = torch.ones(3, device=device)
        assert x.add_(1) is x and torch.mul(x, 2, out=x) is x
        assert nn.Linear(3, 2).to(device)(x).device == device
