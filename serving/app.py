"""A page and an API for a trained model: `python -m serving.app --checkpoint outputs/vae/<trial>`.

Listens on this machine only, unless told otherwise. SIGTERM and Ctrl-C let running requests end.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import socket
import sys
from contextlib import ExitStack

from experiments.cli import commands
from experiments.errors import UserError
from experiments.terminal import errors_for_people

_PORTS = "another --port, or 0 for a free one"
_NAMES = "--host 127.0.0.1 is this machine for itself, 0.0.0.0 for every one"
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def _listen(host: str, port: int, backlog: int) -> socket.socket:
    """A socket that holds the address, so that nobody waits for a model in vain."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with ExitStack() as opened:
            listener = opened.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(backlog)  # or two could hold it
            opened.pop_all()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        is_of_port = getattr(error, "errno", None) in (errno.EADDRINUSE, errno.EACCES)
        raise UserError(
            "`--host` and `--port` must be an address of this machine that is free, but "
            f"{_shown(host, port)} gives: {reason}; {_PORTS if is_of_port else _NAMES}"
        ) from error
    return listener


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _hosts(asked: str, address: str) -> tuple[str, ...]:
    """The names of a loopback address, so that no page from elsewhere can call it by its own name.

    An address that others reach has names that only they know.
    """
    return (*_LOOPBACK, asked) if ipaddress.ip_address(address).is_loopback else ("*",)


@errors_for_people()
def main() -> None:
    """The command."""
    try:
        from serving.api.settings import options, token

        command = options(sys.argv[1:])
        secret = token(command.token_file)

        from serving.api.service import create
        from serving.server import BACKLOG, log_seldom, prepare
    except ImportError as error:
        raise UserError(f"the service needs more packages: {commands.install('serve')}") from error
    log_seldom()
    listener = _listen(command.host, command.port, BACKLOG)
    host, port = listener.getsockname()[:2]
    from experiments.machine.device import take_threads
    from serving.model.checkpoints import load

    take_threads(command.threads)
    settings = command.model_copy(update={"hosts": command.hosts or _hosts(command.host, host)})
    server = prepare(create(load(command.checkpoint), settings, secret), settings)
    logging.getLogger(__name__).info(
        "page and API: http://%s (%s; Ctrl-C to end)",
        _shown(host, port),
        "no token is asked for" if secret is None else "the API asks for the token",
    )
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
