"""A hook of mkdocs: links from a page to files of the repository outside of docs/ become the files' names.

On a page of the repository such a link opens the file; the site does not have it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]
_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./([^)#\s]+)(?:#[^)\s]*)?\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page's text with such links replaced; a link to a file that is not there stays, and mkdocs warns of it."""
    return _OUTSIDE.sub(_named, markdown)


def _named(link: re.Match[str]) -> str:
    text, path = link.groups()
    if not (_ROOT / path).exists():
        return link[0]
    return f"`{path}`" if text.strip("`") in (path, Path(path).name) else f"{text} (`{path}`)"
