"""The pages are one site: built without a warning, every page reachable, the API whole, the version everywhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from shell_blocks import ROOT

import masa

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        pytest.importorskip(package, reason=f"needs {package} (the extra docs)")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_is_built_without_a_warning_and_has_every_page(site: Path) -> None:
    for page in DOCS.glob("*.md"):
        assert (site / page.stem / "index.html").is_file() or page.stem == "index"


def test_the_api_reference_has_everything_that_the_package_offers(site: Path) -> None:
    text = (site / "api" / "index.html").read_text()
    for name in masa.__all__:
        assert re.search(rf'id="masa\.[\w.]*\b{name}"', text), name
    for method in ("train", "steps", "evaluate", "predict", "solve", "save", "push_to_hub"):
        assert f'id="masa.trainer.MASATrainer.{method}"' in text


def test_the_site_loads_nothing_from_other_servers(site: Path) -> None:
    text = (site / "index.html").read_text()
    assert re.findall(r'<(?:script|link)[^>]+(?:src|href)="https?://[^"]*\.(?:js|css)', text) == []


def test_the_index_and_the_navigation_name_every_page() -> None:
    pages = {page.name for page in DOCS.glob("*.md")}
    linked = set(re.findall(r"\]\((\w+\.md)", (DOCS / "index.md").read_text()))
    assert linked | {"index.md"} == pages
    assert set(re.findall(r"- (\w+\.md)", (ROOT / "mkdocs.yml").read_text())) == pages


def test_links_of_the_readme_lead_to_files() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", (ROOT / "README.md").read_text())
    assert len(links) > 20
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_version_is_the_same_in_package_changes_and_citation() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert {project["version"], citation["version"], newest[1]} == {masa.__version__}
    assert citation["license"] == project["license"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def test_the_readme_says_what_is_out_of_scope_and_names_other_libraries_on_its_first_screen() -> None:
    text = (ROOT / "README.md").read_text()
    assert "docs/coming_from.md" in "\n".join(text.splitlines()[:20])
    section = text.split("## What it does not do", 1)[1].split("\n## ")[0]
    assert all(word in section for word in ("tools", "multi-turn", "images"))


def test_troubleshooting_has_a_section_for_every_warning_sign() -> None:
    from typing import get_args

    from masa.config.signs import SignName

    text = (DOCS / "troubleshooting.md").read_text() + (DOCS / "run_directory.md").read_text()
    assert [name for name in get_args(SignName) if f"`{name}`" not in text] == []
