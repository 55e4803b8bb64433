"""Keeping vLLM from changing the classes of the policy.

For an architecture without code of its own, vLLM builds the class that `transformers` has, and decorates that class
for its compiler: from then on objects of the class that vLLM has not made, the policy among them, could neither be
called nor made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

# The attribute that vLLM's constructor gives to what it makes, and that its call reads.
_MADE_BY_VLLM = "do_not_compile"
_building: list[bool] = []


@contextmanager
def classes_kept(classes: Iterable[type]) -> Iterator[None]:
    """Within this context vLLM builds a model; afterwards ``classes`` make and call our objects as before.

    Objects that vLLM has made keep its constructor and its call.
    """
    before = {one: (one.__init__, one.__call__) for one in classes}  # type: ignore[misc]
    _building.append(True)
    try:
        yield
    finally:
        _building.pop()
        for one, (make, call) in before.items():
            if one.__init__ is not make:  # type: ignore[misc]
                one.__init__ = _making(make, one.__init__)  # type: ignore[misc]
            if one.__call__ is not call:
                one.__call__ = _calling(call, one.__call__)  # type: ignore[method-assign]


def _making(ours: Callable[..., None], theirs: Callable[..., None]) -> Callable[..., None]:
    def make(self: Any, *args: Any, **keywords: Any) -> None:
        (theirs if _building else ours)(self, *args, **keywords)

    return make


def _calling(ours: Callable[..., Any], theirs: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, *args: Any, **keywords: Any) -> Any:
        return (theirs if _MADE_BY_VLLM in vars(self) else ours)(self, *args, **keywords)

    return call
