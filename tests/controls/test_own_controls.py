"""Selection methods, token budgets and hints of the user's own, by import path."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from controls_world import World, prediction
from test_selecting_runs import RATES, reads
from test_training import QUICKSTART, _config, _rows, _train, _weights

from masa.config import ConfigError, load_config
from masa.controls.requirements import check_own_controls
from masa.preflight import make_templates
from masa.train import main

PARTS = '''
import threading

from masa.problems.seeds import derive_seed


class Fewest:
    """Solves first what has been solved least often, ties by a draw of its own."""

    ranks = True

    def __init__(self, seed=0):
        self.seed, self.counts = seed, {}

    def judge(self, step, candidates, evidence):
        def distance(id):
            return self.counts.get(id, 0) + derive_seed(self.seed, step, id, "fewest") / 2**63

        return {one.problem.id: distance(one.problem.id) for one in candidates}

    def observe(self, step, outcomes, evidence):
        for one in outcomes:
            self.counts[one.problem] = self.counts.get(one.problem, 0) + 1
        return {"fewest_known": len(self.counts)}

    def state_dict(self):
        return {"counts": self.counts}

    def load_state_dict(self, state):
        self.counts = dict(state["counts"])


class ByMetas:
    """Flags what one prediction or more calls unsolvable."""

    needs = "metas"

    def judge(self, step, candidates, evidence):
        told = {one.problem.id: [p.pass_rate for p in one.predictions] for one in candidates}
        return {id: "unsolvable" if 0.0 in rates else "open" for id, rates in told.items()}


class ByPrompts(ByMetas):
    needs = "prompts"
    ranks = True

    def judge(self, step, candidates, evidence):
        return {one.problem.id: abs(evidence[one.problem.id][0]) for one in candidates}


class FlagsByPrompts(ByMetas):
    needs = "prompts"

    def judge(self, step, candidates, evidence):
        return {one.problem.id: "unsolvable" if evidence[one.problem.id][0] == 0.0 else "open" for one in candidates}


class BySolutions(ByMetas):
    needs = "solutions"


class RanksByMetas(ByMetas):
    ranks = True


class Silent:
    def judge(self, step, candidates, evidence):
        return {}


class Strange(ByMetas):
    def judge(self, step, candidates, evidence):
        return {one.problem.id: 0.5 for one in candidates}


class Unsure(ByMetas):
    needs = "luck"


class HalfAState(ByMetas):
    def state_dict(self):
        return {}


class NoJson(HalfAState):
    def state_dict(self):
        return {"seen": {1, 2}}

    def load_state_dict(self, state):
        pass


class NoCopy(ByMetas):
    def __init__(self):
        self.lock = threading.Lock()


class NoJudge:
    pass


def budget(problem, predictions):
    return 5 if problem.id[-1] in "13579" else None


class Growing:
    """A budget of one token more each step."""

    def __init__(self, start):
        self.tokens = start

    def __call__(self, problem, predictions):
        return self.tokens

    def observe(self, step, groups):
        self.tokens += 1

    def state_dict(self):
        return {"tokens": self.tokens}

    def load_state_dict(self, state):
        self.tokens = state["tokens"]


def half(problem, predictions):
    return 0.5


def hint(problem, predictions):
    rates = [one.pass_rate for one in predictions if one.pass_rate is not None]
    return "<|end|>" if problem.id[-1] in "13579" else f"expect {max(rates, default=0):g}"


def raises(problem, predictions):
    raise KeyError("missing")


NUMBER = 3
'''


@pytest.fixture(autouse=True)
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "my_controls.py").write_text(PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_controls", raising=False)
    import my_controls

    return my_controls


def _world(*overrides: str, rates: dict[str, float] = RATES) -> World:
    made = World(
        lambda problem, draw: prediction(rates[problem], 20),
        rates,
        "algorithm.num_problems=8",
        "problems.train=embedded:train",
        "controls.gating.start=open",
        "controls.gating.audit_share=0.2",
        *overrides,
    )
    made.controls.read_prompts = reads
    return made


def test_a_method_of_ones_own_ranks_candidates_and_is_audited_like_any_other() -> None:
    made = _world("controls.selection.method=my_controls:Fewest", "controls.selection.arguments={seed: 3}")
    counts = dict.fromkeys(RATES, 0)
    for step in range(1, 9):
        batch, groups, metrics = made.step(step)
        assert (len(groups), len(batch.gated)) == (8, 8)
        for one in groups:
            counts[one.problem.id] += 1
    assert metrics["control/selection_fewest_known"] == sum(count > 0 for count in counts.values())
    assert metrics["control/gate_audits"] > 0
    assert max(counts.values()) <= 3


def test_a_method_of_ones_own_flags_by_predictions() -> None:
    made = _world("controls.selection.method=my_controls:ByMetas", "controls.gating.audit_share=0")
    batch, groups, _ = made.step(1)
    assert len(groups) == 8
    assert {RATES[one.problem.id] for one in batch.gated} == {0.0}
    assert all(one.metas for one in batch.gated)


def test_a_method_of_ones_own_is_not_shown_the_rewards_that_it_is_measured_by() -> None:
    made = _world("controls.selection.method=my_controls:ByMetas", "controls.gating.start=closed")
    shown = []
    judge = made.controls.selector.judge
    made.controls.selector.judge = lambda step, problems, evidence: (
        shown.append(evidence) or judge(step, problems, evidence)
    )
    made.step(1)
    assert len(shown) == 8
    assert not any(shown)


def test_a_method_of_ones_own_judges_by_hidden_states_of_prompts() -> None:
    batch, groups, _ = _world("controls.selection.method=my_controls:ByPrompts").step(1)
    assert (len(groups), len(batch.gated)) == (8, 8)


@pytest.mark.parametrize("gated", ["replace", "leave_out"])
def test_a_method_of_ones_own_flags_by_hidden_states_of_prompts(gated: str) -> None:
    made = _world(
        "controls.selection.method=my_controls:FlagsByPrompts", "controls.gating.audit_share=0",
        "controls.gating.max_share=0.5", f"controls.gating.gated={gated}",
    )  # fmt: skip
    made.controls.read_prompts = lambda prompts, passes: [[float(n % 2)] for n in range(len(prompts))]
    batch, groups, _ = made.step(1)
    assert batch.gated
    assert {batch.evidence[one.problem.id][0] for one in batch.gated} == {0.0}
    assert {batch.evidence[one.problem.id][0] for one in groups} >= {1.0}
    assert len(batch.prompts_read) == len(batch.evidence) >= len(groups) + len(batch.gated)


def test_what_decides_about_a_step_that_is_sampled_ahead_learns_nothing_meanwhile() -> None:
    made = _world(
        "controls.cutoff.enabled=true", "controls.own.budget={path: my_controls:Growing, arguments: {start: 20}}"
    )
    before = made.controls.at_this_moment()
    problem = made.prepared.train[0]
    made.step(1)
    budgets = [one.plan_settings.cutoff.budget(problem, (), 64) for one in (before, made.controls)]  # type: ignore[union-attr]
    assert budgets == [20, 21]


def test_a_budget_of_ones_own_cuts_solutions_and_is_measured() -> None:
    made = _world(
        "controls.cutoff.enabled=true", "controls.cutoff.floor=3", "controls.cutoff.audit_share=0",
        "controls.own.budget=my_controls:budget",
    )  # fmt: skip
    batch, groups, metrics = made.step(1)
    budgets = {id: plan.budget for id, plan in batch.plans.items()}
    assert budgets == {id: 5 if id[-1] in "13579" else 64 for id in budgets}
    for group in groups:
        assert all(one.cut == (group.problem.id[-1] in "13579") for one in group.solutions)
    assert 0 < metrics["control/cut_share"] < 1


def test_a_budget_stays_between_floor_and_response_limit() -> None:
    def budgets(*options: str) -> set[int]:
        made = _world("controls.cutoff.enabled=true", "controls.own.budget.path=my_controls:Growing", *options)
        return {plan.budget for plan in made.step(1)[0].plans.values()}

    assert budgets("controls.own.budget.arguments={start: 3}", "controls.cutoff.floor=8") == {8}
    assert budgets("controls.own.budget.arguments={start: 1000}") == {64}


def test_a_hint_of_ones_own_stands_in_the_prompts_but_never_a_special_token() -> None:
    made = _world("controls.hinting.enabled=true", "controls.own.hint=my_controls:hint", "controls.hinting.share=1")
    batch, groups, _ = made.step(1)
    for group in groups:
        id = group.problem.id
        expected = None if id[-1] in "13579" else f"expect {RATES[id]:g}"
        assert {one.hint for one in group.solutions} == {expected}
    assert batch.plans


def test_what_parts_of_ones_own_remember_is_in_the_state_of_the_controls() -> None:
    options = (
        "controls.selection.method=my_controls:Fewest",
        "controls.cutoff.enabled=true",
        "controls.own.budget={path: my_controls:Growing, arguments: {start: 20}}",
    )
    made, other = _world(*options), _world(*options)
    for step in (1, 2):
        made.step(step)
    state = json.loads(json.dumps(made.controls.state_dict()))
    assert state["own_budget"] == {"tokens": 22}
    assert len(state["selector"]["counts"]) > 8
    other.controls.load_state_dict(state)
    assert other.controls.state_dict() == made.controls.state_dict()
    assert {plan.budget for plan in other.step(3)[0].plans.values()} == {22}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["controls.selection.method=my_controls:nothing"], "'my_controls:nothing' cannot be imported"),
        (["controls.selection.method=my_controls:NUMBER"], "is 3 (int), allowed: a class"),
        (["controls.selection.method=my_controls:NoJudge"], "has no method judge(step, candidates, evidence)"),
        (["controls.selection.method=my_controls:Unsure"], "needs is 'luck', allowed: nothing, metas, prompts"),
        (
            ["controls.selection.method=my_controls:RanksByMetas"],
            "RanksByMetas ranks and needs 'metas'; allowed: nothing or prompts, because candidates are ranked before",
        ),
        (["controls.selection.method=my_controls:HalfAState"], "has no method load_state_dict; allowed: both"),
        (["controls.selection.method=my_controls:NoJson"], "NoJson.state_dict() is no JSON"),
        (
            ["controls.selection.method=my_controls:NoCopy", "rollout.async_steps=1"],
            "controls.selection.method: my_controls:NoCopy was tried and failed: TypeError: cannot pickle",
        ),
        (["controls.selection.method=my_controls:Silent"], "judge returned judgements of []"),
        (["controls.selection.method=my_controls:Strange"], "judge returned 0.5 (float), allowed: open, trivial"),
        (
            ["controls.selection.method=my_controls:Fewest", "controls.selection.arguments={colour: red}"],
            "my_controls:Fewest was tried and failed: TypeError",
        ),
        (["controls.selection.method=my_controls:ByMetas", "algorithm.meta=false"], "but algorithm.meta is false"),
        (["controls.selection.method=my_controls:BySolutions", "problems.train=gsm8k"], "solves every problem"),
        (
            ["controls.selection.method=my_controls:Fewest", "controls.selection.keep_predictions=3"],
            "controls.selection.keep_predictions is 3, which needs a gate that judges by meta-predictions",
        ),
        (["controls.selection.method=history", "controls.selection.arguments={a: 1}"], "arguments has a, but method"),
        (["controls.selection.method=fewest"], "found 'fewest', allowed: none, meta, combined"),
        (["controls.own.budget=my_controls:budget"], "which needs cutoff.enabled, but that is false"),
        (
            ["controls.cutoff.enabled=true", "controls.own.budget=my_controls:half"],
            "my_controls:half returned 0.5 (float) for problem 'trial'; allowed: a whole number of tokens, or None",
        ),
        (
            ["controls.cutoff.enabled=true", "controls.own.budget=my_controls:raises"],
            "controls.own.budget: my_controls:raises was tried and failed: KeyError: 'missing'",
        ),
        (
            ["controls.cutoff.enabled=true", "controls.own.budget={path: my_controls:budget, arguments: {a: 1}}"],
            "and arguments are for classes; allowed: no arguments",
        ),
        (
            ["controls.hinting.enabled=true", "controls.own.hint=my_controls:half"],
            "my_controls:half returned 0.5 (float) for problem 'trial'; allowed: a text, or None for no hint",
        ),
    ],
)
def test_a_part_that_does_not_work_is_refused_before_a_model_is_loaded(options: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_own_controls(load_config(None, options))
    assert message in " ".join(str(caught.value).split())


def test_what_cannot_be_copied_may_decide_where_no_step_is_sampled_ahead() -> None:
    check_own_controls(load_config(None, ["controls.selection.method=my_controls:NoCopy"]))


def test_training_and_its_dry_run_refuse_such_a_part_and_an_evaluation_does_not_ask_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["controls.selection.method=gone:Method", f"run.dir={tmp_path / 'run'}", "problems.limit=32"]
    for further in ([], ["--dry-run"]):
        assert main(["--config", str(QUICKSTART), *options, *further]) == 2
        assert "controls.selection.method: 'gone:Method' cannot be imported" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    make_templates(load_config(None, options))


def test_a_run_with_parts_of_ones_own_that_was_resumed_equals_the_uninterrupted_one(tmp_path: Path) -> None:
    options = [
        "controls.selection.method=my_controls:Fewest",
        "controls.cutoff.enabled=true",
        "controls.cutoff.floor=16",
        "controls.own.budget={path: my_controls:Growing, arguments: {start: 30}}",
    ]
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    _train(_config(whole, *options))
    _train(_config(resumed, *options, "run.steps=2"))
    _train(_config(resumed, *options), resume=True)
    assert _rows(resumed) == _rows(whole)
    expected, found = _weights(whole), _weights(resumed)
    assert all(found[key].equal(expected[key]) for key in expected)
    assert _rows(whole)[-1]["control/cutoff_budget"] > _rows(whole)[1]["control/cutoff_budget"]
