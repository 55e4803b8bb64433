"""Commands as the README and the pages show them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"(?:<!-- needs: ([^>]+?) -->\n)?```bash\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class ShellBlock:
    """A block of commands; ``needs`` is what the comment above it says that it cannot run without, or empty."""

    text: str
    needs: str

    def commands(self) -> list[list[str]]:
        """The words of each command, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def shell_blocks(page: Path) -> list[ShellBlock]:
    """The blocks of a page, in its order."""
    return [ShellBlock(text, needs or "") for needs, text in _BLOCK.findall(page.read_text(encoding="utf-8"))]


def masa_arguments(words: list[str]) -> tuple[str, list[str]] | None:
    """The subcommand of ``masa`` that a command starts and its arguments, or None where it starts none."""
    words = words[next((place for place, word in enumerate(words) if "=" not in word), 0) :]
    if words[0] == "masa":
        return words[1], words[2:]
    if "-m" in words and words[0] in ("accelerate", "python"):
        place = words.index("-m") + 1
        module = words[place]
        if module.startswith("masa."):
            return module.removeprefix("masa.").replace("_", "-"), words[place + 1 :]
    return None
