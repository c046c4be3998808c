"""Checkpoints that trials have uploaded to Weights & Biases (`logger.log_model=true`)."""

from __future__ import annotations

import os
import re
from pathlib import Path

from experiments.errors import UserError

_CACHE = ".cache/vaesweep"
_SECONDS = 30


def download(name: str) -> Path:
    """Download the artifact `ENTITY/PROJECT/NAME:ALIAS`; what is here already is not fetched again.

    Returns:
        The path of its checkpoint, in the cache (`VAESWEEP_CACHE`).

    Raises:
        UserError: wandb is missing, the server or the artifact cannot be had, or the artifact is
            not a model with one checkpoint.
    """
    if not all(re.split("[/:]", name.strip())):
        raise UserError(f"a W&B artifact is named ENTITY/PROJECT/NAME:ALIAS, but got {name!r}")
    try:
        import wandb
    except ImportError as error:
        raise UserError("`wandb:...` needs the package wandb: pip install wandb") from error

    root = Path(os.environ.get("VAESWEEP_CACHE") or _CACHE).expanduser() / "artifacts"
    try:
        artifact = wandb.Api(timeout=_SECONDS).artifact(name)
        folder = root / Path(artifact.qualified_name.replace(":", "/"))
        files = Path(artifact.download(root=str(folder)))
    except (wandb.Error, ValueError, OSError) as error:
        raise UserError(
            "a W&B artifact must be one that you can reach, ENTITY/PROJECT/NAME:ALIAS, but "
            f"{name} gives: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    checkpoints = sorted(files.rglob("*.ckpt"))
    if len(checkpoints) != 1:
        raise UserError(
            f"a W&B artifact must hold one .ckpt file, but {name} holds {len(checkpoints)}"
        )
    return checkpoints[0]
