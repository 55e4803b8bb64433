"""What importing the package costs, and that no two of its files need each other."""

import ast
import subprocess
import sys
from collections.abc import Mapping, Set
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import masa

# A configuration changes itself (`Config.replace`) by the rules by which files are read into one.
_MAY_CALL_BACK = {("masa.config.schema", "masa.config.load")}


def _imports() -> dict[str, set[str]]:
    """The files of the package by module name, and what each imports of them: anywhere, also for types alone."""
    root = Path(masa.__file__).parent
    files = {
        ".".join(("masa", *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in root.rglob("*.py")
    }
    return {name: _imported(path, set(files)) - {name} for name, path in files.items()}


def _imported(path: Path, modules: Set[str]) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & modules or {node.module}
    return found & modules


def _circle(imports: Mapping[str, Set[str]]) -> list[str]:
    """Files that import each other in a circle, the first of them again at the end; nothing where there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_file_imports_another_that_imports_it() -> None:
    imports = _imports()
    assert len(imports) > 300
    for one, other in _MAY_CALL_BACK:
        assert other in imports[one]
        imports[one].remove(other)
    assert _circle(imports) == []


def test_a_circle_of_imports_is_named() -> None:
    assert set(_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == {"b", "c"}


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
