"""Selection by a value head on the policy's hidden state of the prompt: PCL (Gao et al. 2025, arXiv 2510.01135)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from masa.config.selection import ValueHeadSection
from masa.controls.gating import Judgement
from masa.controls.selection.selector import Evidence, Need, Outcome

if TYPE_CHECKING:
    from masa.controls.plan import PredictedProblem

Vector = NDArray[np.float64]
_BETAS = (0.9, 0.999)
_EPSILON = 1e-8
# Far beyond any decoder's states, and small enough for sums of squares.
_LARGEST = 1e12


class ValueHead:
    """A linear head with a sigmoid, V(h) = sigmoid(w . x(h) + b), trained by Adam; float64.

    x(h) is the hidden state less its mean over all states seen so far, scaled to norm 1: decoders' states share a large
    common part, and their size differs between models. The loss is the cross-entropy of V(h) and the measured pass
    rate, whose minimum is the mean rate, as is that of the squared error in arXiv 2510.01135 (equation 4); unlike it, a
    confident mistake keeps its gradient.
    """

    def __init__(self, section: ValueHeadSection) -> None:
        self._section = section
        self._seen = 0
        self._steps = 0
        self._mean: Vector = np.zeros(0)
        # The last entry of each is the bias's.
        self._weights: Vector = np.zeros(0)
        self._first: Vector = np.zeros(0)
        self._second: Vector = np.zeros(0)

    def __call__(self, states: Vector) -> Vector:
        """Expected pass rates, [N], of hidden states [N, D]; 0.5 before anything was learned."""
        if not self._seen:
            return np.full(len(states), 0.5)
        return _sigmoid(self._inputs(states) @ self._weights)

    def learn(self, states: Vector, rates: Vector) -> None:
        """``updates`` Adam steps on hidden states [N, D] and their measured pass rates [N]."""
        if not len(states):
            return
        if not self._seen:
            width = states.shape[1]
            self._mean = np.zeros(width)
            self._weights, self._first, self._second = (np.zeros(width + 1) for _ in range(3))
        self._seen += len(states)
        self._mean = self._mean + (states - self._mean).sum(axis=0) / self._seen
        inputs = self._inputs(states)
        for _ in range(self._section.updates):
            gradient = inputs.T @ (_sigmoid(inputs @ self._weights) - rates) / len(rates)
            self._steps += 1
            self._first = _BETAS[0] * self._first + (1 - _BETAS[0]) * gradient
            self._second = _BETAS[1] * self._second + (1 - _BETAS[1]) * gradient**2
            first = self._first / (1 - _BETAS[0] ** self._steps)
            second = self._second / (1 - _BETAS[1] ** self._steps)
            self._weights = self._weights - self._section.learning_rate * first / (np.sqrt(second) + _EPSILON)

    def state_dict(self) -> dict[str, Any]:
        vectors = {name: getattr(self, f"_{name}").tolist() for name in ("mean", "weights", "first", "second")}
        return {"seen": self._seen, "steps": self._steps, **vectors}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._seen, self._steps = int(state["seen"]), int(state["steps"])
        self._mean, self._weights, self._first, self._second = (
            np.asarray(state[name], dtype=np.float64) for name in ("mean", "weights", "first", "second")
        )

    def _inputs(self, states: Vector) -> Vector:
        centred = states - self._mean
        norms = np.linalg.norm(centred, axis=1, keepdims=True)
        scaled = np.divide(centred, norms, out=np.zeros_like(centred), where=norms > 0)
        return np.concatenate([scaled, np.ones((len(states), 1))], axis=1)


class ValueHeadSelector:
    """Keeps the problems whose expected pass rate is nearest to the target, as PCL does with a value model of its own.

    The head has as many numbers as the policy's hidden state. Every process holds it whole, learns from the problems of
    all processes, and has it in its checkpoint.
    """

    needs: Need = "prompts"
    ranks = True

    def __init__(self, section: ValueHeadSection, target: float) -> None:
        self._target = target
        self._head = ValueHead(section)

    def judge(self, step: int, candidates: Sequence[PredictedProblem], evidence: Evidence) -> dict[str, Judgement]:
        ids = [one.problem.id for one in candidates]
        rates: Sequence[float] = self._head(_states(ids, evidence)).tolist() if ids else []
        return {id: Judgement("open", (abs(rate - self._target), 0.0)) for id, rate in zip(ids, rates, strict=True)}

    def observe(self, step: int, outcomes: Sequence[Outcome], evidence: Evidence) -> dict[str, float]:
        known = [one for one in outcomes if one.problem in evidence]
        if not known:
            return {}
        states = _states([one.problem for one in known], evidence)
        rates = np.array([one.correct / one.total for one in known])
        errors = np.abs(self._head(states) - rates)
        self._head.learn(states, rates)
        return {"control/value_head_error": float(errors.mean())}

    def state_dict(self) -> dict[str, Any]:
        return self._head.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._head.load_state_dict(state)


def _states(ids: Sequence[str], evidence: Evidence) -> Vector:
    # A policy that has diverged has no state to speak of; the head must outlive what an update may yet mend.
    states = np.array([evidence[id] for id in ids], dtype=np.float64)
    return np.clip(np.where(np.isfinite(states), states, 0.0), -_LARGEST, _LARGEST)


def _sigmoid(values: Vector) -> Vector:
    return 1.0 / (1.0 + np.exp(-np.clip(values, -60.0, 60.0)))
