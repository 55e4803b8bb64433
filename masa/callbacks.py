"""Callbacks: objects that a run calls at its events, and that may stop it, save it and add to its metrics."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from masa.config.files import ConfigError
from masa.config.schema import CallbackSource
from masa.errors import brief, described
from masa.import_paths import import_option

if TYPE_CHECKING:
    from masa.run_state import RunState


class Callback:
    """What a run calls, in the order of the methods below; a subclass defines those that it needs.

    Every process of a run has its callbacks and calls them at the same instants, so a method may use collective
    operations (but for `on_run_end` after an error). ``run`` is one object for the whole run: what it holds
    (`masa.run_state.RunState`) grows from event to event. What a method raises ends the run.
    """

    def on_run_begin(self, run: RunState) -> None:
        """The model is loaded and, in a resumed run, the checkpoint taken; ``run.step`` is the last step done."""

    def on_step_begin(self, run: RunState) -> None:
        """``run.step``, counted from 1, is about to begin."""

    def on_rollouts(self, run: RunState) -> None:
        """``run.batch`` holds the step's problems, and the rollouts that this process sampled."""

    def on_rewards(self, run: RunState) -> None:
        """``run.groups`` holds the graded groups of all processes: verdicts, rewards, predictions, lengths.

        Tokens and texts are those of this process's own groups (`masa.rewards.grading.GradedGroup.process`).
        """

    def on_update(self, run: RunState) -> None:
        """The policy has been updated, and the engine has its weights; ``run.metrics`` has the update's measures."""

    def on_evaluate_begin(self, run: RunState) -> None:
        """Held-out problems are about to be solved, after ``run.step``; 0: before the first step."""

    def on_evaluate(self, run: RunState) -> None:
        """``run.evaluation`` holds the metrics of an evaluation, ``run.evaluated`` its graded problems.

        Step 0 is the evaluation before the first step. Not called where no problems are held out.
        """

    def on_step_end(self, run: RunState) -> None:
        """``run.metrics`` holds all metrics of the step; what is logged now is still part of them."""

    def on_log(self, run: RunState) -> None:
        """``run.metrics`` is the whole row of a step, as metrics.jsonl has it; also for step 0."""

    def on_checkpoint(self, run: RunState) -> None:
        """The checkpoint ``run.checkpoint`` is complete on the disk."""

    def on_run_end(self, run: RunState) -> None:
        """The run ends, however it ends: ``run.error`` is what was raised, ``run.summary`` is there where it is whole.

        Called for the callbacks in reverse order, and for each whose `on_run_begin` returned.
        """


EVENTS = tuple(name for name in vars(Callback) if name.startswith("on_"))
_NEEDED = f"an object is needed with one or more of the methods {', '.join(EVENTS)}, each of one argument, the run"


class Callbacks:
    """Several callbacks as one."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self._callbacks = tuple(callbacks)

    def call(self, event: str, run: RunState) -> None:
        """Call ``event`` of each, in their order."""
        for one in self._callbacks:
            _method(one, event)(run)

    @contextmanager
    def running(self, run: RunState) -> Iterator[None]:
        """Begin the run for each callback, and end it for each that began, whatever happens in between."""
        with ExitStack() as stack:
            try:
                for one in self._callbacks:
                    _method(one, "on_run_begin")(run)
                    stack.callback(_method(one, "on_run_end"), run)
                yield
            except GeneratorExit:
                raise  # closed by whoever takes the steps, which is no error
            except BaseException as error:
                run.error = error
                raise


def checked_callbacks(callbacks: Any) -> tuple[Callback, ...]:
    """The callbacks as a tuple.

    Raises:
        TypeError: not a list of objects with methods that are called.
    """
    if isinstance(callbacks, (str, bytes, Mapping)) or not hasattr(callbacks, "__iter__"):
        raise TypeError(f"callbacks is {described(callbacks)}, a list is needed: callbacks=[...]")
    found = tuple(callbacks)
    for index, one in enumerate(found):
        _check(f"callbacks[{index}]", one)
    return found


def load_callbacks(sources: Sequence[CallbackSource]) -> tuple[Callback, ...]:
    """The callbacks that ``run.callbacks`` names, made from their classes.

    Raises:
        ConfigError: one that cannot be imported or made, or that is no callback.
    """
    found = []
    for index, source in enumerate(sources):
        key = f"run.callbacks[{index}]"
        named = import_option(f"{key}.path", source.path)
        if callable(named):
            try:
                named = named(**source.arguments)
            except Exception as error:
                raise ConfigError(f"{key}: {source.path} cannot be made: {brief(error)}") from error
        elif source.arguments:
            raise ConfigError(f"{key}.arguments: {source.path} is an object already; allowed: no arguments")
        try:
            _check(key, named)
        except TypeError as error:
            raise ConfigError(str(error)) from error
        found.append(named)
    return tuple(found)


def _method(callback: Any, event: str) -> Any:
    return getattr(callback, event, None) or _ignore


def _ignore(run: RunState) -> None:
    """An event that a callback has no method for."""


def _check(what: str, callback: Any) -> None:
    if inspect.isclass(callback):
        raise TypeError(f"{what} is the class {callback.__name__}, {_NEEDED}: {callback.__name__}()")
    methods = [name for name in dir(callback) if name.startswith("on_") and callable(getattr(callback, name))]
    for name in methods:
        if name not in EVENTS:
            near = difflib.get_close_matches(name, EVENTS, n=1)
            meant = f"; did you mean {near[0]}?" if near else f"; allowed: {', '.join(EVENTS)}"
            raise TypeError(f"{what} has a method {name}, which no event calls{meant}")
        try:
            inspect.signature(getattr(callback, name)).bind(None)
        except TypeError as error:
            raise TypeError(f"{what}.{name} cannot be called ({error}); {_NEEDED}") from None
    if not methods:
        raise TypeError(f"{what} is {described(callback)}, {_NEEDED}")
