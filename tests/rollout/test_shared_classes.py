"""Classes that vLLM decorates for itself go on making and calling the policy's objects."""

import copy

import pytest
import torch
from torch import nn

from masa.rollout.vllm.shared_classes import classes_kept


class _Base(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


def _decorate(cls: type[nn.Module]) -> None:
    """What vLLM does to a class: objects need its configuration to be made, and an attribute to be called."""
    make = cls.__init__

    def new_init(self, *args):
        make(self, *args)
        self.do_not_compile = True

    def new_call(self, *args):
        return self.forward(*args) + (0 if self.do_not_compile else 1)

    cls.__init__ = new_init
    cls.__call__ = new_call


def _decorated_class() -> tuple[type[nn.Module], nn.Module, nn.Module]:
    class Decoder(_Base):
        pass

    ours = Decoder(2)
    with classes_kept({type(module) for module in ours.modules()}):
        _decorate(Decoder)
        theirs = Decoder(2)
    return Decoder, ours, theirs


def test_a_policy_whose_class_was_decorated_is_called_with_its_hooks() -> None:
    _, ours, _ = _decorated_class()
    called = []
    ours.register_forward_hook(lambda *_: called.append(True))
    assert ours(torch.ones(1, 2)).shape == (1, 2)
    assert called == [True]


def test_another_object_of_the_class_can_be_made_and_copied() -> None:
    decoder, ours, _ = _decorated_class()
    another = decoder(3)
    assert "do_not_compile" not in vars(another)
    assert another(torch.ones(1, 3)).shape == (1, 3)
    assert copy.deepcopy(ours)(torch.ones(1, 2)).shape == (1, 2)


def test_an_object_of_the_engine_keeps_the_engine_s_call() -> None:
    _, _, theirs = _decorated_class()
    called = []
    theirs.register_forward_hook(lambda *_: called.append(True))
    theirs(torch.ones(1, 2))
    assert not called


def test_an_engine_that_is_built_again_finds_its_own_constructor() -> None:
    decoder, ours, _ = _decorated_class()
    with classes_kept({type(ours)}):
        theirs = decoder(2)
    assert vars(theirs)["do_not_compile"] is True
    assert "do_not_compile" not in vars(decoder(2))


def test_classes_are_usable_again_where_the_engine_fails_to_start() -> None:
    class Decoder(_Base):
        pass

    ours = Decoder(2)

    def build() -> None:
        with classes_kept({Decoder}):
            _decorate(Decoder)
            raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        build()
    assert ours(torch.ones(1, 2)).shape == (1, 2)
