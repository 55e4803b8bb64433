"""The scripts of ``../shared/cases``: each stands for a mistake that was found, and prints what is right today.

What each shows has a test of its own that needs no such folder (docs/testing.md). Those marked slow train for several
steps, start vLLM or are launched by accelerate.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass

import pytest
import warm_processes
from case_scripts import CASES, ROOT

_RUN = "import sys; sys.path[:0] = ['.', 'tests/models']; from case_scripts import run_here; run_here(*sys.argv[1:])"
_NO_LONGER = ("Traceback", "WRONG", "FAIL")


@dataclass(frozen=True)
class Case:
    """A script, and what it says: each of ``says`` so many times, nothing of ``never``, no number over ``at_most``.

    ``says`` are patterns. Numbers are those that ``numbers`` matches, one or more of them.
    """

    script: str
    says: tuple[tuple[int, str], ...] = ()
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    numbers: str = ""
    at_most: float = 1e-5
    never: tuple[str, ...] = _NO_LONGER
    launched: str = ""
    slow: bool = False

    @property
    def name(self) -> str:
        extra = [*self.arguments, *(f"{key}={value}" for key, value in self.environment), self.launched]
        return "-".join([self.script.removesuffix(".py"), *filter(None, extra)])


_DISTANCE = r"(?:padded-vs-own|shared-vs-padded|engine-vs-own) (\S+)"
_PACKED = r"packed-vs-padded (\S+)"
# Packed rows of the families with other layers than attention are compared by the start check, which does without.
_FAMILIES = ("qwen3", "gemma2", "gemma3_text", "gemma3", "gemma4", "glm4_moe", "deepseek_v3b", "smollm3", "phi3")
_OTHER_LAYERS = ("qwen3_next", "qwen3_5_text", "lfm2", "falcon_h1")
_EAGER = (("ATT", "eager"),)

CASES_OF_MODELS = (
    Case("models/buffers.py", says=((3, "checkpoint reloaded"),), numbers=r"log-probs up to (\S+) nats"),
    Case(
        "models/families.py",
        arguments=_FAMILIES,
        says=((len(_FAMILIES), "engine-vs-own"), (len(_FAMILIES), "packed-vs-padded")),
        numbers=f"(?:{_DISTANCE}|{_PACKED})",
    ),
    Case("models/families.py", arguments=_OTHER_LAYERS, says=((4, "engine-vs-own"),), numbers=_DISTANCE),
    # Falcon passes no arguments on to its attention: prompts are not shared, which the start check finds.
    Case("models/families.py", arguments=("falcon",), numbers=_DISTANCE, never=("Traceback", "engine FAIL", "cannot")),
    Case("models/families.py", arguments=("gpt_oss",), environment=_EAGER, numbers=_DISTANCE),
    # The hint is made by the script: that such a hint is not given is `test_hinting`'s; an engine refuses it, by name.
    Case("models/hint_room.py", says=((2, r"RolloutError problem 'p': .* 4136 together; the engine takes 4096"),)),
    Case("models/lora_experts.py", says=((1, r"qwen3_moe adapted: .*'experts'.*'q_proj'"),)),
    Case("models/nested_checkpoint.py", says=((1, "checkpoint written"),)),
    Case("models/nested_checkpoint.py", arguments=("4",), says=((1, "checkpoint written"),)),
    Case("models/reference_precision.py", environment=(("MP", "no"),), numbers=r"'policy/\w+': ([^,}]+)", at_most=0.0),
    Case(
        "models/reference_precision.py", environment=(("MP", "bf16"),), numbers=r"'policy/\w+': ([^,}]+)", at_most=0.0
    ),
    Case(
        "models/server_defaults.py",
        says=((1, r"temperature 1\.0 top_p 1\.0 top_k 0 min_p 0\.0 repetition_penalty 1\.0"),),
        slow=True,
    ),
    # A gate that the script asks for readable predictions alone, and a template rendered past the run, are not ours.
    Case(
        "models/small_faults.py",
        says=(
            (1, r"r_notion English: 1\.0  Chinese: 1\.0"),
            (1, r"own notions, Chinese: 0\.0"),
            (1, r"predicted \[1\.0, None.*evaluation gates: False  training flags: False"),
            (1, r"k2 expected gradient.*cos 1\.0 norm 1\.0"),
        ),
    ),
    Case("models/zero3_decay.py", says=((1, r"\[\(0\.1, 29\), \(0\.0, 17\)\]"),), launched="cpu_zero3", slow=True),
    Case("models/zero3_decay.py", says=((1, r"\[\(0\.1, 29\), \(0\.0, 17\)\]"),), launched="cpu_zero2", slow=True),
    *(
        Case(
            "models/zero3_moe_resume.py",
            arguments=(zero,),
            says=((1, f"{zero} checkpoint written"), (1, f"{zero} restored")),
            launched=f"cpu_{zero}",
            slow=True,
        )
        for zero in ("zero3", "zero2")
    ),
)
_RESULT = "(?m)^RESULT "
CASES_OF_REPORTS = (
    Case(
        "reports/01_sliding_window_decode.py",
        says=((8, _RESULT + r"\w+ sliding_window"),),
        numbers=r"[\[ ](\d\S*e-\d+)",
        slow=True,
    ),
    Case("reports/03_lora_on_experts.py", says=((2, _RESULT + r"\w+ ok"),), slow=True),
    Case("reports/05_checkpoint_without_moment.py", says=((1, _RESULT + "ok"),)),
    Case(
        "reports/06_response_limit_beyond_context.py",
        says=((2, _RESULT + r"\w+ ConfigError rollout\.max_solution_tokens: found \d+, allowed"),),
    ),
    Case(
        "reports/07_shared_prompts_unsupported_attention.py", says=((4, _RESULT + r"\w+ (?:auto|off) ok"),), slow=True
    ),
    Case(
        "reports/09_hybrid_models.py",
        says=((2, _RESULT + r"\w+ ok"), (2, _RESULT + r"\w+ ConfigError rollout\.engine: found transformers with")),
        slow=True,
    ),
    Case(
        "reports/10_tokenizer_larger_than_embedding.py",
        says=((1, _RESULT + r"ConfigError model\.path: the tokenizer has 512 tokens, the model embeddings for 20"),),
    ),
    Case("reports/12_numpy_answer.py", says=((1, _RESULT + "ok"),)),
    Case("reports/13_math_wrong_verdicts.py", says=((11, _RESULT + "ok"),)),
    Case(
        "reports/15_report_out_is_a_folder.py",
        arguments=("docs",),
        says=((1, r"--out: found the folder .*, a file needed, such as .* left behind: False"),),
    ),
    Case("reports/16_future_warnings.py", says=((1, _RESULT + r"set\(\)"),)),
    Case("reports/17_template_with_date.py", says=((1, "a moment later is equal: True"),)),
    Case(
        "reports/18_reward_and_verifier_objects.py",
        says=(
            (1, _RESULT + "not a list TypeError reward_functions is .*a list of functions is needed"),
            (1, _RESULT + "bools TypeError .*an object is needed"),
            (1, _RESULT + r"too few ValueError Short\.verify returned 0 verdicts for 4 items"),
        ),
    ),
    # The schedule is stretched, and the run says where the rate jumps.
    Case(
        "reports/19_resume_more_steps_schedule.py",
        says=((1, _RESULT + r"\[0\.0003, "), (1, r"decays\s+over\s+8\s+updates\s+instead\s+of\s+4")),
        slow=True,
    ),
)
ALL = (*CASES_OF_MODELS, *CASES_OF_REPORTS)
_needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason=f"{CASES} is not there")


def _run(case: Case) -> tuple[int, str]:
    """Exit code and everything that the script wrote."""
    own = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment = {**os.environ, **own, **dict(case.environment)}
    script = [str(CASES / case.script), *case.arguments]
    if case.launched:
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1"]
        file = f"configs/accelerate/{case.launched}.yaml"
        command = [*launch, "--config_file", file, *script]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    else:
        done = warm_processes.run([sys.executable, "-c", _RUN, *script], cwd=ROOT, env=environment)
    return done.returncode, done.stdout + done.stderr


@_needs_cases
def test_every_script_that_is_to_run_is_there() -> None:
    assert [case.script for case in ALL if not (CASES / case.script).is_file()] == []
    assert len({case.name for case in ALL}) == len(ALL)


@_needs_cases
@pytest.mark.parametrize(
    "case", [pytest.param(one, id=one.name, marks=[pytest.mark.slow] if one.slow else []) for one in ALL]
)
def test_a_script_says_what_is_right(case: Case) -> None:
    if "lora" in case.script or case.arguments == ("4",):
        pytest.importorskip("peft", reason="needs peft (the extra lora)")
    if case.launched:
        pytest.importorskip("deepspeed", reason="needs DeepSpeed (the extra deepspeed)")
    if "server_defaults" in case.script:
        pytest.importorskip("vllm", reason="needs vLLM (the extra vllm)")
    code, said = _run(case)
    assert code == 0, said[-3000:]
    for times, pattern in case.says:
        assert len(re.findall(pattern, said)) == times, (pattern, said[-3000:])
    for word in case.never:
        assert word not in said, said[-3000:]
    if case.numbers:
        numbers = [float(next(filter(None, match.groups()))) for match in re.finditer(case.numbers, said)]
        assert numbers, said[-3000:]
        assert max(numbers) <= case.at_most, said[-3000:]
