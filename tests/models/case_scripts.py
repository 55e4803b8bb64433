"""The scripts of ``../shared/cases``, run as they stand with the modules that hold today what they import.

``python case_scripts.py SCRIPT [ARGUMENT ...]`` runs one. The scripts were written against an earlier layout of the
package: a name that has moved is imported from its home, and nothing else of a script is changed.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT.parent / "shared" / "cases"

_HOMES = {
    "ControlThresholds": "masa.evaluation.measures.meta_awareness",
    "LossParameters": "masa.policy.objective.parameters",
    "PolicyModule": "masa.policy.forward.policy_module",
    "PolicyUpdater": "masa.policy.update.updater",
    "TokenRow": "masa.policy.batching.collate",
    "TrainingRow": "masa.policy.update.updater",
    "TransformersEngine": "masa.rollout.transformers.engine",
    "VllmEngine": "masa.rollout.vllm.engine",
    "_gated": "masa.evaluation.measures.meta_awareness",
    "_linear_layers": "masa.model.lora",
    "add_adapters": "masa.model.lora",
    "can_share_prompts": "masa.policy.batching.shared_prompts",
    "collate": "masa.policy.batching.collate",
    "collate_behind_prompts": "masa.policy.batching.collate",
    "completion_body": "masa.rollout.servers.completions",
    "join_processes": "masa.distributed.processes",
    "kl_estimate": "masa.policy.objective.losses",
    "load_policy": "masa.model.loading",
    "load_tokenizer": "masa.model.loading",
    "make_accelerator": "masa.distributed.processes",
    "make_optimizer": "masa.policy.update.optimizer",
    "pack": "masa.policy.batching.collate",
    "plain_copy": "masa.model.copies",
    "policy_weights": "masa.model.weights",
    "prepare_policy": "masa.model.loading",
    "restore_policy": "masa.checkpointing.saving",
    "write_policy": "masa.checkpointing.saving",
}


class _Homes(ast.NodeTransformer):
    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.stmt]:
        return [
            ast.copy_location(ast.ImportFrom(_HOMES.get(one.name, node.module), [one], 0), node) for one in node.names
        ]


def run_here(script: str, *arguments: str) -> None:
    """Run a script in this process, which it may change as it likes."""
    tree = ast.fix_missing_locations(_Homes().visit(ast.parse(Path(script).read_text())))
    sys.argv = [script, *arguments]
    exec(compile(tree, script, "exec"), {"__name__": "__main__", "__file__": script})


if __name__ == "__main__":
    run_here(*sys.argv[1:])
