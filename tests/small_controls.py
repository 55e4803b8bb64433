"""Options of runs that are small enough for a test, with controls that find something to do in them."""

HINTED_TEMPLATE = "Solve: {{ problem }}{% if hint %} Hint: {{ hint }}{% endif %}"
SMALL = (
    "algorithm.num_problems=4",
    "algorithm.num_solutions=3",
    "algorithm.num_metas=3",
    "problems.limit=64",
    "problems.eval=null",
    "rollout.max_solution_tokens=48",
    "rollout.max_meta_tokens=56",
    "rewards.verifier_workers=1",
    "tracking.figures=false",
    "run.threads=1",
)
# Thresholds so loose that an untrained gate finds something to do.
GATING = (
    "controls.gating.enabled=true",
    "controls.gating.start=open",
    "controls.gating.max_std=0.5",
    "controls.gating.trivial=0.6",
    "controls.gating.unsolvable=0.4",
    "controls.gating.audit_share=0.3",
    "controls.gating.max_rounds=1",
)
CUTOFF = ("controls.cutoff.enabled=true", "controls.cutoff.floor=8", "controls.cutoff.factor=0.7")
HINTING = (
    "controls.hinting.enabled=true",
    "controls.hinting.min_agreement=0.0",
    f"prompts.solution={HINTED_TEMPLATE!r}",
)
