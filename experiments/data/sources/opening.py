"""Which source a path is, by what it is and what its name ends with.

Adding a kind of file is a class of `experiments.data.sources.source.Source` and a line in `FILES`.
"""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name

from experiments.data.sources.source import Source
from experiments.errors import UserError
from models.registry import Registry

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_ARRAYS = (".npy", ".npz", ".pt")
_FOLDER = "experiments.data.sources.folder:Folder"

FILES = Registry(
    "kind of file",
    {
        **dict.fromkeys(_ARCHIVES, "experiments.data.sources.archives:open_archive"),
        **dict.fromkeys(_ARRAYS, "experiments.data.sources.arrays:ArrayFile"),
    },
)
"""What files of a suffix are opened with: `module:callable`, which takes the path."""


def open_source(root: str | Path | None) -> Source:
    """The source at `root`, by what it is and what its name ends with.

    Raises:
        UserError: it is missing, empty, unreadable or of an unknown kind.
    """
    if root is None or str(root) == "":
        raise UserError(
            f"`data=images` needs `data.root`: a folder, {', '.join(FILES)}, "
            "for example data.root=photos"
        )
    path = Path(root).expanduser().absolute()
    kinds = f"a folder or a file ending in {', '.join(FILES)}"
    try:
        is_folder = path.is_dir()
        if not is_folder:
            if path.exists() and not path.is_file():  # a pipe would be waited for
                raise UserError(f"`data.root` must be {kinds}, but {path} is neither")
            path.open("rb").close()
    except FileNotFoundError as error:
        raise UserError(f"`data.root` must be {kinds}, but {path} does not exist") from error
    except OSError as error:
        raise UserError(f"`data.root` must be readable, but {path}: {error.strerror}") from error
    name = path.name.lower()
    opener = _FOLDER if is_folder else next((FILES[s] for s in FILES if name.endswith(s)), None)
    if opener is None:
        raise UserError(f"`data.root` must be {kinds}, but got {path}")
    source: Source = resolve_name(opener)(path)
    return source
