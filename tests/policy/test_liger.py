"""Which policies get liger-kernel's kernels. There is no GPU here, so its functions are stand-ins in plain torch."""

import copy
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest
import torch
from small_policies import small_qwen3

from masa.config import ConfigError
from masa.policy.forward.liger import take_out_liger_kernels, use_liger_kernels

IDS = torch.arange(12).reshape(2, 6)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often the stand-ins of the package's functions were called."""
    counts = {"rms_norm": 0, "swiglu": 0}

    def rms_norm(states: Any, weight: Any, eps: float, *, in_place: bool) -> Any:
        assert not in_place
        counts["rms_norm"] += 1
        return weight * states * torch.rsqrt(states.square().mean(-1, keepdim=True) + eps)

    def swiglu(gate: Any, up: Any) -> Any:
        counts["swiglu"] += 1
        return torch.nn.functional.silu(gate) * up

    for name in ("liger_kernel", "liger_kernel.transformers", "liger_kernel.transformers.functional"):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["liger_kernel.transformers.functional"].__dict__.update(liger_rms_norm=rms_norm, liger_swiglu=swiglu)
    return counts


def _policy() -> Any:
    return small_qwen3(vocab_size=32)


def _loss_and_gradient(policy: Any) -> tuple[torch.Tensor, torch.Tensor]:
    loss = policy(input_ids=IDS, labels=IDS).loss
    policy.zero_grad()
    loss.backward()
    return loss.detach(), torch.cat([one.grad.flatten() for one in policy.parameters()])


def test_the_kernels_stand_in_every_norm_and_mlp_of_this_model_alone(calls: dict[str, int]) -> None:
    policy, other = _policy(), _policy()
    expected = _loss_and_gradient(policy)
    assert use_liger_kernels(policy, "on", on_gpu=True)
    calls.update(rms_norm=0, swiglu=0)
    torch.testing.assert_close(_loss_and_gradient(policy), expected)
    assert calls == {"rms_norm": 2 * 4 + 1, "swiglu": 2}
    _loss_and_gradient(other)
    assert calls == {"rms_norm": 9, "swiglu": 2}


def test_a_copy_of_the_model_computes_with_its_own_weights(calls: dict[str, int]) -> None:
    policy = _policy()
    use_liger_kernels(policy, "on", on_gpu=True)
    frozen = copy.deepcopy(policy)
    before = frozen(input_ids=IDS).logits
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(2)
    torch.testing.assert_close(frozen(input_ids=IDS).logits, before, rtol=0, atol=0)


@pytest.mark.parametrize(("times", "kept"), [((2.0, 1.0), True), ((1.0, 2.0), False), ((1.0, 1.0), False)])
def test_auto_keeps_the_kernels_only_where_they_are_faster(
    calls: dict[str, int], times: tuple[float, float], kept: bool
) -> None:
    policy, measured = _policy(), iter(times)
    assert use_liger_kernels(policy, "auto", seconds=lambda _: next(measured), on_gpu=True) == kept
    calls.update(rms_norm=0, swiglu=0)
    _loss_and_gradient(policy)
    assert (calls["swiglu"] > 0) == kept


def test_taken_out_the_model_is_as_it_was(calls: dict[str, int]) -> None:
    policy = _policy()
    use_liger_kernels(policy, "on", on_gpu=True)
    take_out_liger_kernels(policy)
    calls.update(rms_norm=0, swiglu=0)
    _loss_and_gradient(policy)
    assert calls == {"rms_norm": 0, "swiglu": 0}


def test_a_norm_of_another_formula_is_left_alone(calls: dict[str, int]) -> None:
    class ShiftedRMSNorm(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.variance_epsilon = torch.nn.Parameter(torch.ones(16)), 1e-6

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return (1 + self.weight) * states * torch.rsqrt(states.square().mean(-1, keepdim=True) + 1e-6)

    with pytest.raises(ConfigError, match="none of its modules"):
        use_liger_kernels(torch.nn.Sequential(ShiftedRMSNorm()), "on", on_gpu=True)


def test_without_a_gpu_auto_does_nothing_and_on_is_refused(calls: dict[str, int]) -> None:
    assert not use_liger_kernels(_policy(), "auto")
    with pytest.raises(ConfigError, match=r"model.liger_kernel: found 'on', allowed without a GPU: auto, off"):
        use_liger_kernels(_policy(), "on")
    assert calls == {"rms_norm": 0, "swiglu": 0}


def test_without_the_package_auto_does_nothing_and_on_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masa.policy.forward.liger._PACKAGE", "no_such_package")
    assert not use_liger_kernels(_policy(), "auto", on_gpu=True)
    with pytest.raises(ConfigError, match="allowed without the package liger-kernel: auto, off"):
        use_liger_kernels(_policy(), "on", on_gpu=True)
