"""Seconds of a training step on many GPUs, by a heap of events: walls or streams, controls, stragglers put aside.

    python scripts/simulate_step.py [--gpus 8,64,512] [--steps 6] [--seed 0] [--rows 64]

*Walls*: all metas, then all solutions, then all verdicts, then the update; problems are dealt to GPUs by number, and
all samples of a problem stay on its GPU. *Streams*: each problem goes its own way, samples go to the GPU that has
least to do, and each solution is verified when it ends; the update alone waits for all. *Partial*: more
problems are in flight, a step ends when ``problems`` of them are whole, and the others go on first in the next one.

An engine with b sequences, whose caches hold C tokens together, gives each of them one token in
``token_seconds + b * row_seconds + C * cache_seconds``. The numbers below are arithmetic for an 8B model in bfloat16
from the data sheet of an H100 (16 GB of weights and 147 KB of cache a token at 3.3 TB/s, 40 % of 989 TFLOP/s in the
update), not measurements; sending weights and failures take no time. Lengths are the paper's means with a heavy tail:
log-normal factors of the problem and of the sample, up to a limit. `scripts/measure_step.py` puts measured speeds and
lengths of a run on a CPU in their place, and compares.
"""

from __future__ import annotations

import argparse

from step_events import Machine
from step_model import Job, Plan, simulate

PLANS = (
    Plan(streams=False, controls=False),
    Plan(streams=True, controls=False),
    Plan(streams=False, controls=True),
    Plan(streams=True, controls=True),
    Plan(streams=True, controls=False, partial=0.9),
    Plan(streams=True, controls=False, partial=0.6),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gpus", default="8,64,512", help="numbers of GPUs, with commas between them")
    parser.add_argument("--steps", type=int, default=6, help="steps that are averaged")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=int, default=64, help="sequences that a GPU has room for at once")
    options = parser.parse_args()
    print("| GPUs | plan | step, s | of it sampling, s | idle | at once of a GPU | million tokens | thousands a s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for gpus in (int(one) for one in options.gpus.split(",")):
        for plan in PLANS:
            one = simulate(Job(), Machine(gpus, options.rows), plan, steps=options.steps, seed=options.seed)
            times = f"{one.seconds:,.0f} | {one.sampling:,.0f} | {one.idle:.0%} | {one.in_flight:.1f}"
            tokens = f"{one.tokens / 1e6:.1f} | {one.tokens / one.seconds / 1e3:.0f}"
            print(f"| {gpus} | {plan.name} | {times} | {tokens} |")


if __name__ == "__main__":
    main()
