"""What importing the package costs."""

import subprocess
import sys


def _modules_after(statement: str) -> tuple[set[str], float]:
    code = (
        "import sys, time; start = time.perf_counter()\n"
        f"{statement}\n"
        "print(time.perf_counter() - start); print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    seconds, modules = output.splitlines()
    return set(modules.split()), float(seconds)


def test_importing_masa_is_quick_and_brings_no_engine() -> None:
    modules, seconds = _modules_after("import masa")
    assert seconds < 2.0
    assert not modules & {"torch", "vllm", "deepspeed", "transformers"}


def test_importing_the_configuration_does_not_import_torch() -> None:
    modules, _ = _modules_after("from masa import Config, load_config; load_config()")
    assert not modules & {"torch", "vllm", "deepspeed", "transformers"}


def test_the_trainer_imports_neither_vllm_nor_deepspeed() -> None:
    modules, _ = _modules_after("from masa import MASATrainer")
    assert not modules & {"vllm", "deepspeed"}
