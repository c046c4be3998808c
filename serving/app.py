"""A page and an API for a trained model: `python -m serving.app --checkpoint outputs/vae/<trial>`.

Listens on this machine only, unless told otherwise. SIGTERM and Ctrl-C let running requests end.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

from experiments.cli import commands
from experiments.errors import UserError
from experiments.terminal import errors_for_people
from serving.api.settings import Settings
from serving.model.references import KINDS

TOKEN = "VAESWEEP_TOKEN"
"""Environment variable with the bearer token."""

_MOST_SECONDS = 3600


def _parser() -> argparse.ArgumentParser:
    default = Settings()
    parser = argparse.ArgumentParser(prog="python -m serving.app", description=__doc__)
    add = parser.add_argument
    add(
        "--checkpoint",
        required=True,
        metavar="WHAT",
        help=KINDS,
    )
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for every one")
    add("--port", type=int, default=8000, help="port to listen on; 0 for a free one (8000)")
    add("--threads", type=int, help="of PyTorch (one a core)")
    add("--timeout", type=float, default=default.timeout, help="seconds for a request (10)")
    add("--queue", type=int, default=default.queue, help="requests that may wait (64)")
    add("--batch", type=int, default=default.batch, help="images computed together (64)")
    add("--max-mebibytes", type=float, default=16.0, help="of a request (16)")
    add("--max-megapixels", type=float, default=40.0, help="of a photo (40)")
    add("--max-images", type=int, default=default.max_images, help="in a request (256)")
    add("--drift-reconstruction", type=float, default=default.drift_reconstruction,
        help="distance of the errors of recent photos that counts as drift (0.35)")  # fmt: skip
    add("--drift-latent", type=float, default=default.drift_latent,
        help="distance of their latents that counts as drift (1.5)")  # fmt: skip
    add("--cors", nargs="*", default=[], metavar="ORIGIN", help="pages that may call the API")
    add("--token-file", type=Path, help=f"file with the bearer token (or set {TOKEN})")
    return parser


def _settings(arguments: argparse.Namespace) -> Settings:
    rules: dict[str, tuple[float, float]] = {
        "port": (0, 65535), "timeout": (0.001, _MOST_SECONDS), "queue": (1, 10**6),
        "batch": (1, 4096), "max_mebibytes": (0.001, 4096), "max_megapixels": (0.001, 178),
        "max_images": (1, 4096), "drift_reconstruction": (0, 1), "drift_latent": (0, 1e9),
    }  # fmt: skip
    for name, (least, most) in rules.items():
        value = getattr(arguments, name)
        if not least <= value <= most:
            option = name.replace("_", "-")
            raise UserError(f"`--{option}` must be {least:g} to {most:g}, but got {value:g}")
    if arguments.threads is not None and arguments.threads < 1:
        raise UserError(f"`--threads` must be 1 or more, but got {arguments.threads}")
    return Settings(
        timeout=arguments.timeout,
        queue=arguments.queue,
        batch=arguments.batch,
        max_bytes=int(arguments.max_mebibytes * 2**20),
        max_pixels=int(arguments.max_megapixels * 10**6),
        max_images=arguments.max_images,
        token=_token(arguments.token_file),
        cors=tuple(arguments.cors),
        drift_reconstruction=arguments.drift_reconstruction,
        drift_latent=arguments.drift_latent,
    )


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(TOKEN) or None
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise UserError(f"`--token-file` must be a readable file, but {file}: {error}") from error
    if not token:
        raise UserError(f"`--token-file` must hold a token, but {file} is empty")
    return token


def _listen(host: str, port: int) -> socket.socket:
    """A socket that holds the address, so that nobody waits for a model in vain."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with ExitStack() as opened:
            listener = opened.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            opened.pop_all()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            "`--host` and `--port` must be an address of this machine that is free, but "
            f"{_shown(host, port)} gives: {reason}; another --port, or 0 for a free one"
        ) from error
    return listener


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@errors_for_people()
def main() -> None:
    """The command."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = _settings(arguments)
    try:
        import uvicorn

        from serving.api.service import create
    except ImportError as error:
        raise UserError(f"the service needs more packages: {commands.install('serve')}") from error
    listener = _listen(arguments.host, arguments.port)
    from experiments.machine.device import take_threads
    from serving.model.checkpoints import load

    take_threads(arguments.threads)
    app = create(load(arguments.checkpoint), settings)
    # uvicorn ends running requests, then raises the signal again: that end is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    config = uvicorn.Config(
        app,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.timeout) + 5,
        timeout_keep_alive=30,
    )
    address = _shown(*listener.getsockname()[:2])
    logging.getLogger(__name__).info("page and API: http://%s (Ctrl-C to end)", address)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
