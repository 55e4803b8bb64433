"""The README's commands with the recipe for 8 billion parameters, as written, with nothing but sizes changed.

Two processes stand for eight GPUs and a small Qwen3 with the real vocabulary for the model; problems are real ones.
"""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from launched_runs import ROOT, environment, kill_tree, rows
from small_policies import small_qwen3
from transformers import AutoTokenizer

from masa.embedded import DATA_DIRECTORY
from masa.problems.loading import load_problems

pytest.importorskip("deepspeed", reason="needs deepspeed (the extra deepspeed)")
pytest.importorskip("vllm", reason="needs vllm (the extra vllm, or cpu)")

MATH = ROOT.parent / "shared" / "data" / "math_train.parquet"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not MATH.exists(), reason=f"{MATH} is not there"),
]

VOCABULARY = 151_936
SIZES = {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 4, "num_attention_heads": 4}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    tokenizer = AutoTokenizer.from_pretrained(DATA_DIRECTORY)
    model = small_qwen3(
        vocab_size=VOCABULARY,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=32_768,
        eos_token_id=tokenizer.eos_token_id,
        **SIZES,
    )
    model.bfloat16().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def smaller(policy: Path, run: Path, *options: str) -> list[str]:
    """What makes the recipe small; all else is the file's."""
    return [
        f"model.path={policy}",
        f"problems.train={MATH}",
        f"problems.eval={MATH}",
        "problems.limit=16",
        "problems.eval_limit=2",
        "prompts.max_tokens=4096",
        "rollout.engine=vllm",
        "rollout.kv_cache_gb=0.5",
        "rollout.max_solution_tokens=512",
        "rollout.max_meta_tokens=512",
        "rollout.max_batch_size=32",
        "rollout.sleep_level=0",
        "algorithm.num_problems=8",
        "algorithm.num_solutions=2",
        "algorithm.num_metas=2",
        # A random policy solves nothing; a KL term makes every row one that is trained on.
        "algorithm.kl_coefficient=0.01",
        "evaluation.num_samples=1",
        "evaluation.max_solution_tokens=512",
        "checkpoint.every=1",
        "rewards.verifier_workers=1",
        "run.steps=2",
        "run.threads=1",
        f"run.dir={run}",
        *options,
    ]


def readme_commands() -> list[list[str]]:
    """The shell commands under "Use it" as lists of words."""
    section = (ROOT / "README.md").read_text().split("## Use it", 1)[1]
    blocks = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    lines = [line.split("  #")[0].strip() for line in "".join(blocks).replace("\\\n", " ").splitlines()]
    return [shlex.split(line) for line in lines if line and not line.startswith(("#", "pip "))]


def adapted(command: list[str], *options: str) -> list[str]:
    """The command with this Python, two processes in place of eight, and ``options`` behind it."""
    words = list(command)
    if words[0] == "accelerate":
        assert words[1] == "launch"
        words[:2] = [sys.executable, "-m", "accelerate.commands.launch"]
        place = words.index("--config_file") + 2
        words[place:place] = ["--num_processes", "2", "--main_process_port", "0"]
    else:
        assert words[0] == "masa"
        words[:1] = [sys.executable, "-m", "masa.cli"]
    resume = ["--resume"] if words[-1] == "--resume" else []
    return [*(words[:-1] if resume else words), *options, *resume]


def run_to_the_end(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, f"{command}\n{done.stderr[-4000:]}"
    return done.stdout


def killed_after(command: list[str], run: Path, step: int) -> None:
    """Start ``command`` and kill all its processes once the checkpoint after ``step`` is there."""
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 400
        while not (run / "checkpoints" / f"step_{step:06d}" / "state.json").exists():
            assert process.poll() is None, "the run ended before it was killed"
            assert time.monotonic() < deadline, "the checkpoint did not come"
            time.sleep(0.05)
        for one in psutil.Process(process.pid).children(recursive=True):
            one.send_signal(signal.SIGKILL)
    finally:
        kill_tree(process.pid)
        process.wait()


def test_the_commands_of_the_readme_run_the_real_recipe_in_small(policy: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    dry, own, begin, resume, without_gpu, evaluate = readme_commands()

    shown = run_to_the_end(adapted(dry, *smaller(policy, run)))
    assert "solution prompt" in shown

    killed_after(adapted(begin, *smaller(policy, run)), run, step=1)
    run_to_the_end(adapted(resume, *smaller(policy, run)))
    assert [row["step"] for row in rows(run)] == [0, 1, 2]
    assert all(row["policy/rows_trained"] > 0 for row in rows(run)[1:])
    assert "eval/accuracy" in rows(run)[-1]

    data, of_its_own = tmp_path / "train.jsonl", tmp_path / "own"
    problems = load_problems(str(MATH), limit=16).problems
    lines = [json.dumps({"problem": one.statement, "answer": one.answer}) for one in problems]
    data.write_text("\n".join(lines))
    given = [word.replace("data/train.jsonl", str(data)) for word in own]
    data_of_its_own = [word for word in given if word.startswith("problems.")]
    run_to_the_end(adapted(given, *smaller(policy, of_its_own, "run.steps=1"), *data_of_its_own))
    assert [row["step"] for row in rows(of_its_own)] == [0, 1]

    servers = tmp_path / "servers"
    options = ("rollout.engine=vllm_server", "rollout.num_servers=1", "run.steps=1")
    run_to_the_end(adapted(begin, *smaller(policy, servers, *options)))
    assert [row["step"] for row in rows(servers)] == [0, 1]

    small = ("run.steps=1", "problems.eval_limit=4", "run.threads=1", f"run.dir={tmp_path / 'quickstart'}")
    run_to_the_end(adapted(without_gpu, *small))

    page = tmp_path / "report.html"
    run_to_the_end([sys.executable, "-m", "masa.report", str(run), "--out", str(page)])
    assert page.stat().st_size > 10_000

    results = tmp_path / "evaluation"
    given = " ".join(evaluate).replace("Qwen/Qwen3-8B", str(max((run / "checkpoints").glob("step_*"))))
    benchmarks = given.split("--benchmarks ")[1].split()[0].split(",")
    files = [word for name in benchmarks for word in ("--data", f"{name}={_benchmark(tmp_path, name)}")]
    options = [*files, "--samples", "2", "--metas", "2", "--max-tokens", "16", "--max-meta-tokens", "16"]
    run_to_the_end(adapted(given.split(), *options, "--engine", "transformers", "--out", str(results)))
    assert (results / "results.json").exists()


def _benchmark(folder: Path, name: str) -> Path:
    """Three problems in the columns of the benchmark's own file."""
    file = folder / f"{name}.json"
    problems = load_problems(str(MATH), limit=3).problems
    file.write_text(json.dumps([{"problem": one.statement, "answer": one.answer} for one in problems]))
    return file
