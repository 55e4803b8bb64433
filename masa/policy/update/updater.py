"""The policy update: rows with advantages in, one optimiser step out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from masa.config.algorithm import OptimizerSection
from masa.files.tensor_files import Part, Parts
from masa.model.lora import has_adapters
from masa.policy.batching.collate import TokenBatch, TokenRow
from masa.policy.batching.shared_prompts import can_share_prompts
from masa.policy.batching.workload import Workload, divide_work
from masa.policy.objective.losses import loss_normalizer, policy_loss
from masa.policy.objective.measures import Measure, from_vectors, measure_values, merge_measures, to_vectors
from masa.policy.objective.parameters import LossParameters
from masa.policy.update.optimizer import learning_rate_factor
from masa.policy.update.optimizer_state import load_state, optimizer_steps, reset_states, state_parts, value_parts
from masa.policy.update.sharding import share_update
from masa.policy.update.shares import Share, share_rows
from masa.policy.update.shares import TrainingRow as TrainingRow
from masa.tokens.exchange import Place

# So many updates in a row without a finite gradient are no accident but a run that has diverged.
MAX_SKIPPED_UPDATES = 5


class DivergedError(RuntimeError):
    """Several updates in a row had a loss or a gradient that is not finite."""


class PolicyUpdater:
    """Takes optimiser steps on a batch of rows that every process knows and all of them share out.

    Tokens and log-probs of a row need to be in one process only: they go to the one that computes it.

    Args:
        accelerator: prepares and runs the module; its processes share each update.
        module: a `PolicyModule`.
        optimizer: over the module's parameters.
        loss: what the loss is.
        constant_length: the response limit, for the ``constant`` aggregation.
        total_updates: for schedules that decay.
        reference: a frozen `PolicyModule` where the loss has a KL term.
        packed: put the rows of a micro-batch one behind another instead of padding them.
        engine_has_all_tokens: whether the rollouts' log-probs are of the distribution over all tokens, as the policy's
            are; those of a truncated one (top-p, top-k) are not compared with the policy's.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        module: nn.Module,
        optimizer: Optimizer,
        section: OptimizerSection,
        loss: LossParameters,
        *,
        constant_length: int,
        total_updates: int,
        reference: nn.Module | None = None,
        packed: bool = False,
        engine_has_all_tokens: bool = True,
    ) -> None:
        self._accelerator = accelerator
        self.module = module
        self._trained = {name: one for name, one in module.named_parameters() if one.requires_grad}
        policy: Any = module
        self._adapted = has_adapters(policy.model)
        wanted = section.share_prompts == "on" or (section.share_prompts == "auto" and accelerator.device.type == "cpu")
        self._shares_prompts = wanted and can_share_prompts(module.model)
        self.sharded = share_update(accelerator, module, optimizer, section.max_grad_norm)
        self._section = section
        self._loss = loss
        self._constant_length = constant_length
        self._reference = reference
        if reference is not None:
            _take_types(reference, module)
        self._packed = packed
        self._engine_has_all_tokens = engine_has_all_tokens
        self._factor = learning_rate_factor(section, total_updates)
        self.updates_done = 0
        self._skipped_in_a_row = 0
        self._trained_lengths: list[int] = []

    @property
    def layouts(self) -> tuple[str, ...]:
        """The layouts beside padded rows that micro-batches may have: ``packed``, ``shared``."""
        return ("packed",) if self._packed else ("shared",) if self._shares_prompts else ()

    def give_up_layouts(self, names: Iterable[str]) -> None:
        """Pad rows instead of what ``names`` holds of `layouts`."""
        self._packed = self._packed and "packed" not in names
        self._shares_prompts = self._shares_prompts and "shared" not in names

    def update(self, parts: Sequence[Sequence[TrainingRow]]) -> dict[str, float]:
        """One optimiser step on each part, in order, and metrics over all of them.

        Parts after the first are off-policy by then: the log-probs that their ratios are taken against are computed
        before the first step. With a single part every ratio is 1 by definition and nothing is computed twice.

        Raises:
            DivergedError: `MAX_SKIPPED_UPDATES` updates in a row had no finite gradient.
        """
        shares = [share_rows(part, self._loss, self._divide, self._place) for part in parts]
        old: list[dict[int, Tensor] | None] = [None, *(self._old_logprobs(share) for share in shares[1:])]
        outcomes = [self._one_update(share, before) for share, before in zip(shares, old, strict=True)]
        measured = measure_values(self._merged([measures for measures, _ in outcomes]))
        merged = {f"policy/{name}": value for name, value in measured.items()}
        totals = [numbers for _, numbers in outcomes]
        for name in ("policy/loss", "policy/gradient_norm", "policy/padding_waste"):
            merged[name] = sum(numbers[name] for numbers in totals) / len(totals)
        for name in ("policy/rows_trained", "policy/rows_left_out", "policy/skipped_updates"):
            merged[name] = sum(numbers[name] for numbers in totals)
        merged["policy/learning_rate"] = totals[-1]["policy/learning_rate"]
        return merged

    @property
    def learning_rate(self) -> float:
        """What the schedule says of the next policy update."""
        return self._section.learning_rate * self._factor(self.updates_done)

    def clone(self, rows: Sequence[TokenRow], *, weight: float, learning_rate: float) -> dict[str, float]:
        """One optimiser step of behaviour cloning (docs/controls.md), by the same optimiser.

        L_BC = -mean over all response tokens of ``rows`` of log pi(token), times ``weight``. The count of policy
        updates does not move.

        Raises:
            ValueError: no rows.
            DivergedError: as `update`.
        """
        lengths = [row.computed_length for row in rows]
        if not lengths:
            raise ValueError("behaviour cloning needs at least one row")
        total = sum(len(row.token_ids) for row in rows)
        work = self._divide(rows)
        plan = work.plans[self._accelerator.process_index]
        mean = 0.0
        for number, batch in enumerate(plan):
            # A process without rows of its own joins the collectives with a token that counts for nothing.
            chosen = [rows[index] for index in batch] or [TokenRow(rows[0].prompt_ids, rows[0].token_ids[:1], [False])]
            tokens = work.collate(chosen).to(self._accelerator.device)
            with self.sharded.accumulating(last=number == len(plan) - 1):
                loss = -self.sharded.module(tokens, False)[0].sum() / total
                self.sharded.backward(weight * loss)
            mean += float(loss.detach())
        mean = self._sum_over_processes(mean)
        self._trained_lengths += lengths
        step = self._step(learning_rate, mean)
        return {
            "control/expert_loss": mean,
            "control/expert_gradient_norm": step["policy/gradient_norm"],
            "control/expert_skipped_updates": step["policy/skipped_updates"],
            "control/expert_rows": float(len(rows)),
            "control/expert_tokens": float(sum(lengths)),
        }

    def begin_anew(self) -> None:
        """Forget what the optimiser gathered so far, as before a first step; the weights stay."""
        reset_states(self.sharded)
        self._skipped_in_a_row = 0

    def take_trained_lengths(self) -> list[int]:
        """Tokens computed for each row trained on since the last call, policy updates and cloning together."""
        taken, self._trained_lengths = self._trained_lengths, []
        return taken

    def state_dict(self) -> dict[str, int]:
        """Where the optimiser and its schedule stand; plain JSON values."""
        return {
            "updates_done": self.updates_done,
            "skipped_in_a_row": self._skipped_in_a_row,
            "optimizer_steps": optimizer_steps(self.sharded),
        }

    @property
    def trained_names(self) -> list[str]:
        """The names of the parameters that are trained, in the module."""
        return list(self._trained)

    def value_parts(self, file: str) -> Iterator[Part]:
        """Trained parameters, where the model's own files have them merged into what is not trained: adapters.

        This process's piece of each; all processes must iterate together.
        """
        if self._adapted:
            yield from value_parts(self.sharded, self._trained, file)

    def state_parts(self, file: str) -> Iterator[Part]:
        """This process's piece of each tensor that the optimiser keeps; no process waits for another."""
        yield from state_parts(self.sharded, self._trained, file)

    def load_state(self, state: Mapping[str, int], saved: Parts, values: Parts) -> None:
        """Go on where ``state`` and ``saved`` were taken, whatever sharded the policy there; all processes together.

        ``values`` has the policy's parameters, by the names they have in the module.
        """
        load_state(self.sharded, self._trained, values, saved, state["optimizer_steps"])
        self.updates_done = state["updates_done"]
        self._skipped_in_a_row = state["skipped_in_a_row"]

    @property
    def _place(self) -> Place:
        accelerator = self._accelerator
        return Place(accelerator.process_index, accelerator.num_processes, accelerator.device)

    def _divide(self, rows: Sequence[TokenRow]) -> Workload:
        """The micro-batches of each process."""
        return divide_work(
            rows,
            self._accelerator.num_processes,
            self._section.micro_batch_tokens,
            packed=self._packed,
            share_prompts=self._shares_prompts,
        )

    def _one_update(
        self, share: Share, old: dict[int, Tensor] | None
    ) -> tuple[list[dict[str, Measure]], dict[str, float]]:
        rows, kept = share.rows, share.kept
        learning_rate = self.learning_rate
        numbers = {
            "policy/loss": 0.0,
            "policy/gradient_norm": 0.0,
            "policy/skipped_updates": 0.0,
            "policy/rows_trained": float(len(kept)),
            "policy/rows_left_out": float(len(rows) - len(kept)),
            "policy/padding_waste": share.work.waste,
            "policy/learning_rate": learning_rate,
        }
        measures: list[dict[str, Measure]] = []
        self._trained_lengths += [rows[index].tokens().computed_length for index in kept]
        if kept:
            normalizer = loss_normalizer(self._loss.aggregation, share.lengths, self._constant_length)
            for number, batch in enumerate(share.plan):
                last = number == len(share.plan) - 1
                loss, metrics = self._micro_batch(share, batch, old, normalizer, last=last)
                numbers["policy/loss"] += loss
                measures.append(metrics)
            numbers["policy/loss"] = self._sum_over_processes(numbers["policy/loss"])
            numbers |= self._step(learning_rate, numbers["policy/loss"])
        self.updates_done += 1
        return measures, numbers

    def _micro_batch(
        self,
        share: Share,
        batch: Sequence[int],
        old: dict[int, Tensor] | None,
        normalizer: float,
        *,
        last: bool,
    ) -> tuple[float, dict[str, Measure]]:
        """Forward and backward of one micro-batch; gradients are exchanged with the last one only."""
        chosen = share.chosen(batch)
        tokens = share.work.collate([row.tokens() for row in chosen]).to(self._accelerator.device)
        with self.sharded.accumulating(last):
            bonus = self._loss.entropy_coefficient != 0
            logprobs, entropy = self.sharded.module(tokens, True, bonus)
            engine = tokens.align([row.rollout_logprobs for row in chosen]) if self._engine_has_all_tokens else None
            output = policy_loss(
                logprobs,
                _stack(old, batch, logprobs) if old is not None else None,
                torch.tensor([row.advantage for row in chosen], device=logprobs.device),
                tokens.response_mask,
                params=self._loss,
                normalizer=normalizer,
                ref_logprobs=self._reference_logprobs(tokens),
                rollout_logprobs=engine,
                entropy=entropy,
            )
            self.sharded.backward(output.loss)
        return float(output.loss.detach()), dict(output.metrics)

    def _step(self, learning_rate: float, loss: float) -> dict[str, float]:
        """Clip, check and apply the gradient; a gradient that is not finite is dropped and counted."""
        norm, applied = self.sharded.step(learning_rate, skip=not math.isfinite(loss))
        self._skipped_in_a_row = 0 if applied else self._skipped_in_a_row + 1
        if self._skipped_in_a_row >= MAX_SKIPPED_UPDATES:
            raise DivergedError(
                f"{self._skipped_in_a_row} updates in a row had no finite gradient (loss {loss}, norm {norm}); "
                "lower optimizer.learning_rate or resume from an earlier checkpoint"
            )
        return {"policy/gradient_norm": norm, "policy/skipped_updates": float(not applied)}

    @torch.no_grad()
    def _old_logprobs(self, share: Share) -> dict[int, Tensor]:
        """Log-probs of each contributing row that this process computes, under the present weights, by row index."""
        found: dict[int, Tensor] = {}
        for batch in share.plan:
            tokens = share.work.collate([row.tokens() for row in share.chosen(batch)]).to(self._accelerator.device)
            logprobs, _ = self.sharded.module(tokens, False)
            for place, index in enumerate(batch):
                found[index] = logprobs[place, : len(share.rows[index].token_ids)].cpu()
        return found

    @torch.no_grad()
    def _reference_logprobs(self, tokens: TokenBatch) -> Tensor | None:
        if self._reference is None:
            return None
        # Computed as the policy is: any other rounding would be a divergence before the policy has moved.
        with self._accelerator.autocast():
            logprobs: Tensor = self._reference(tokens, False)[0]
        return logprobs.float()

    def _merged(self, parts: list[list[dict[str, Measure]]]) -> dict[str, Measure]:
        merged = merge_measures(one for part in parts for one in part)
        if self._accelerator.num_processes == 1 or not merged:
            return merged
        sums, maxima = to_vectors(merged)
        total = self._accelerator.reduce(sums, "sum")
        largest = self._accelerator.gather(maxima[None]).amax(0)
        return from_vectors(merged, total.cpu(), largest.cpu())

    def _sum_over_processes(self, value: float) -> float:
        if self._accelerator.num_processes == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=self._accelerator.device)
        return float(self._accelerator.reduce(tensor, "sum"))


def _take_types(reference: nn.Module, policy: nn.Module) -> None:
    """DeepSpeed rounds the policy it is given to bfloat16, where it is set to; its reference is rounded likewise."""
    for kept, moved in ((reference.parameters(), policy.parameters()), (reference.buffers(), policy.buffers())):
        for own, other in zip(kept, moved, strict=True):
            own.data = own.data.to(other.dtype)


def _stack(old: dict[int, Tensor], batch: Sequence[int], like: Tensor) -> Tensor:
    """The rows' old log-probs as [R, L], 0 where there is none."""
    stacked = torch.zeros_like(like)
    for place, index in enumerate(batch):
        stacked[place, : len(old[index])] = old[index].to(like.device)
    return stacked
