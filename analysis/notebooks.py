"""Execute the notebooks: `python -m analysis.notebooks` rewrites them with fresh outputs.

Figures become pictures, so that they show where no notebook runs; that takes Chrome or Chromium,
and BROWSER_PATH where it is not found.
"""

from __future__ import annotations

import base64
import io
import os
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
_SECONDS = 600  # for one cell


def paths() -> list[Path]:
    """The notebooks of this folder."""
    return sorted(FOLDER.glob("*.ipynb"))


def execute(path: Path, *, source: str | None = None, renderer: str = "png") -> Any:
    """Run all cells of a notebook in a fresh kernel.

    Args:
        path: of the notebook, which is only read.
        source: as VAESWEEP_SOURCE; None for the notebook's own.
        renderer: of plotly: "png" for pictures, "json" where no browser is needed.

    Returns:
        The notebook with its outputs (`nbformat`).

    Raises:
        CellExecutionError: a cell failed.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    # tqdm tells every notebook, with its own path, that a widget could show its bars.
    settings = {"PLOTLY_RENDERER": renderer, "PYTHONWARNINGS": "ignore:IProgress not found"}
    if source is not None:
        settings["VAESWEEP_SOURCE"] = source
    resources = {"metadata": {"path": str(FOLDER)}}
    client = NotebookClient(notebook, timeout=_SECONDS, resources=resources)
    client.execute(env=os.environ | settings)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran is no part of the answer
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output["data"]["image/png"] = _smaller(output["data"]["image/png"])
    return notebook


def main(names: list[str]) -> None:
    """Execute and rewrite the named notebooks, or all but the one that needs a W&B account."""
    import nbformat

    chosen = [p for p in paths() if p.stem in names or (not names and p.stem != "from_wandb")]
    for path in chosen:
        notebook = execute(path, source=os.environ.get("VAESWEEP_SOURCE"))
        nbformat.write(notebook, path)


def _smaller(picture: str) -> str:
    """A PNG (base64) in 256 colours, a third of the size."""
    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGBA")
    file = io.BytesIO()
    image.quantize(256, method=Image.Quantize.FASTOCTREE).save(file, format="PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


if __name__ == "__main__":
    main([Path(name).stem for name in sys.argv[1:]])
