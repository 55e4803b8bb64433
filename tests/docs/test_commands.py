"""Every command and option that the README and the pages show is one that exists."""

from __future__ import annotations

import importlib
import io
import json
import re
import shlex
from pathlib import Path

import pytest
from rich.console import Console
from shell_blocks import PAGES, ROOT, masa_arguments, shell_blocks

from masa.cli import COMMANDS
from masa.config import Config, load_config
from masa.config.reference import render_reference
from masa.dry_run import dry_run

_OPTIONS = set(re.findall(r"^\| `([a-z_0-9.]+)` \|", render_reference(), re.MULTILINE))
_SECTIONS = "|".join(Config.model_fields)
# Written like options: an attribute of a callback's `run`, and options of verl.
_NO_OPTIONS = {
    "run.is_main_process",
    "algorithm.adv_estimator",
    "algorithm.norm_adv_by_std_in_grpo",
    "algorithm.filter_groups.enable",
}
# Programs of others, whose options are not checked here.
_OTHERS = {"source", "pip", "python3.11", "sbatch", "apt-get", "accelerate", "mkdocs"}
_SHOWN = [
    pytest.param(words, id=f"{page.name}: {shlex.join(words)[:90]}")
    for page in PAGES
    for block in shell_blocks(page)
    for words in block.commands()
]


@pytest.mark.parametrize("words", _SHOWN)
def test_a_command_that_a_page_shows_is_accepted(words: list[str]) -> None:
    found = masa_arguments(words)
    if found is None or found[0] not in COMMANDS:
        _require_known_program(words, found)
        return
    command, arguments = found
    parser = importlib.import_module(COMMANDS[command][0])._parser()
    options = parser.parse_intermixed_args(arguments)
    config = getattr(options, "config", None)
    if config and config.startswith("configs/"):
        overrides = [one for one in getattr(options, "overrides", []) if ":" not in one and "PATH" not in one]
        load_config(ROOT / config, overrides)


def _require_known_program(words: list[str], module: tuple[str, list[str]] | None) -> None:
    """Scripts and modules of the project must be there; other programs must be those that the pages may name."""
    if module is not None:
        assert (ROOT / "masa" / f"{module[0].replace('.', '/').replace('-', '_')}.py").is_file(), words
        return
    program = next(word for word in words if "=" not in word)
    scripts = [word for word in words if word.startswith(("scripts/", "tests/")) and "::" not in word]
    assert all((ROOT / script).exists() for script in scripts), words
    assert scripts or program in _OTHERS or words[1:3] == ["-m", "pytest"], words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(rf"`((?:{_SECTIONS})(?:\.[a-z_0-9]+)+)(?:[=:][^`]*)?`", text))
    files = (".py", ".yaml", ".json", ".jsonl", ".txt", ".safetensors")
    known = {name for option in _OPTIONS for name in _prefixes(option)}
    assert sorted(name for name in named if name not in known | _NO_OPTIONS and not name.endswith(files)) == []


def _prefixes(option: str) -> list[str]:
    parts = option.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


# Slow: a dry run measures the machine's speed, and takes up to a minute where that is busy.
@pytest.mark.slow
def test_the_configuration_of_the_tutorial_for_one_gpu_passes_a_dry_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "tutorial_one_gpu.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    (text,) = re.findall(r"```yaml[^\n]*\n(.*?)```", page, re.DOTALL)
    (tmp_path / "my_run.yaml").write_text(text)
    (tmp_path / "data").mkdir()
    for name, count in (("train", 64), ("test", 8)):
        problem = json.loads(row)
        rows = [{**problem, "problem": f"{problem['problem']} ({name}, {index})"} for index in range(count)]
        (tmp_path / "data" / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    monkeypatch.chdir(tmp_path)
    # The page's model is on the hub; the embedded one stands in, so that nothing has to be downloaded.
    config = load_config("my_run.yaml", {"model.path": "embedded", "prompts.max_tokens": 512})
    shown = io.StringIO()
    dry_run(config, Console(file=shown, width=160), gpu="24")
    assert "How many positive divisors" in shown.getvalue()
