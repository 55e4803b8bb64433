"""A checkpoint is a model's folder to vLLM as it comes."""

import subprocess
import sys
from pathlib import Path

from launched_runs import environment

PROGRAM = """
import sys
from vllm import LLM, SamplingParams

if __name__ == "__main__":
    llm = LLM(sys.argv[1], enforce_eager=True, dtype="float32", kv_cache_memory_bytes=100_000_000, max_model_len=128)
    print("sampled", len(llm.generate("3+4", SamplingParams(max_tokens=4))[0].outputs[0].token_ids))
"""


def test_vllm_loads_a_checkpoint_by_its_folder_alone(in_process_run: Path, tmp_path: Path) -> None:
    folder = max((in_process_run / "checkpoints").glob("step_*"))
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    alone = {**environment(), "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, str(program), str(folder)], env=alone, capture_output=True, text=True, timeout=250
    )
    assert "sampled" in done.stdout, done.stderr[-3000:]
