"""Whether a run can be online, found out without starting the W&B client.

The client itself does not fall back: without a key it raises, and with a key and no server it
waits. So its sources of credentials are read here as it reads them (wandb 0.31), and the server
is asked for one connection.
"""

from __future__ import annotations

import configparser
import ipaddress
import netrc
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

from experiments.errors import UserError

_MODES: dict[str, Literal["online", "offline", "disabled"]] = {
    "online": "online",
    "run": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
}
_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_FORMER_HOST = "api.wandb.ai"  # keys stored for it are valid at the client's default server


@dataclass(frozen=True)
class Mode:
    """How a run is logged, and why so: `reason` reads well after "because"."""

    mode: Literal["online", "offline", "disabled"]
    reason: str


def choose(env: Mapping[str, str], timeout: float, default_url: Callable[[], str]) -> Mode:
    """The mode that the environment allows; see `experiments.tracking.wandb.run.choose_mode`.

    Args:
        env: the environment variables.
        timeout: seconds to wait for the server, at most.
        default_url: gives the server that the client uses where nobody names one.

    Raises:
        UserError: `WANDB_MODE`, `WANDB_BASE_URL` or the proxy is malformed.
    """
    settings = _settings(env)
    if env.get("WANDB_DISABLED", "").lower() in ("true", "1"):
        return Mode("disabled", "WANDB_DISABLED is set")
    wanted = (env.get("WANDB_MODE") or settings.get("mode") or "").lower()
    if wanted and wanted not in _MODES:
        raise UserError(f"`WANDB_MODE` must be one of {', '.join(_MODES)}, but got {wanted!r}")
    if wanted and _MODES[wanted] != "online":
        return Mode(_MODES[wanted], f"its mode is set to {wanted}")
    if not _has_credentials(env, settings, default_url):
        return Mode("offline", "there is no API key (set WANDB_API_KEY or run `wandb login`)")
    server = _server(env, settings, default_url)
    if wanted:
        return Mode("online", f"its mode is set to {wanted}")
    host, port = _first_hop(server, env, settings)
    refusal = _refusal(host, port, timeout)
    if refusal:
        return Mode("offline", f"{host}:{port} {refusal}")
    return Mode("online", f"there is an API key and {host}:{port} answers")


def _settings(env: Mapping[str, str]) -> dict[str, str]:
    """The client's settings files, `wandb/settings` here over the one in the home directory."""
    home = Path(env.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser()
    root = Path(env.get("WANDB_DIR") or ".").expanduser()
    folder = ".wandb" if (root / ".wandb").exists() else "wandb"
    merged: dict[str, str] = {}
    for path in (home / "settings", root / folder / "settings"):
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue  # the client ignores it too, and says so
        if parser.has_section("default"):
            merged |= dict(parser.items("default"))
    return merged


def _server(
    env: Mapping[str, str], settings: Mapping[str, str], default_url: Callable[[], str]
) -> SplitResult:
    url = env.get("WANDB_BASE_URL") or settings.get("base_url") or default_url()
    parts = urlsplit(url)
    try:
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is no number
        valid = False
    if not valid:
        raise UserError(f"`WANDB_BASE_URL` must be http(s)://HOST[:PORT], but got {url!r}")
    return parts


def _has_credentials(
    env: Mapping[str, str], settings: Mapping[str, str], default_url: Callable[[], str]
) -> bool:
    if env.get("WANDB_API_KEY") or env.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    if settings.get("api_key") or settings.get("identity_token_file"):
        return True
    path = _netrc_path(env)
    if not path.exists():
        return False
    try:
        entries = netrc.netrc(str(path))
    except (netrc.NetrcParseError, OSError, UnicodeDecodeError):
        return False  # the client ignores it too, and says so
    server = _server(env, settings, default_url)
    hosts = [server.netloc]
    if server.geturl() == default_url():
        hosts.append(_FORMER_HOST)
    return any(entry[2] for host in hosts if (entry := entries.authenticators(host)))


def _netrc_path(env: Mapping[str, str]) -> Path:
    if named := env.get("NETRC"):
        return Path(named).expanduser()
    usual, windows = Path("~/.netrc").expanduser(), Path("~/_netrc").expanduser()
    return windows if windows.exists() and not usual.exists() else usual


def _first_hop(
    server: SplitResult, env: Mapping[str, str], settings: Mapping[str, str]
) -> tuple[str, int]:
    """Host and port to connect to: the server's, or those of the proxy in front of it."""
    host = server.hostname or ""
    port = server.port or _PORTS[server.scheme]
    name = f"{server.scheme}_proxy"
    proxy = env.get(f"WANDB_{name.upper()}") or settings.get(name)
    proxy = proxy or env.get(name) or env.get(name.upper())
    excluded = env.get("no_proxy") or env.get("NO_PROXY") or ""
    if not proxy or _is_loopback(host):
        return host, port
    if excluded and proxy_bypass_environment(f"{host}:{port}", {"no": excluded}):
        return host, port
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    try:
        hop = parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:  # the port is no number
        hop = None, None
    if not hop[0] or not hop[1] or parts.scheme not in _PORTS:
        raise UserError(  # without the value, which may hold a password
            f"`{name.upper()}` must be SCHEME://HOST:PORT with a scheme of {', '.join(_PORTS)}, "
            "but it is something else"
        )
    return hop[0], hop[1]


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refusal(host: str, port: int, timeout: float) -> str | None:
    """Why there is no connection, or None if there is one; `timeout` bounds the name's look-up."""
    outcome: list[str | None] = []

    def connect() -> None:
        try:
            with socket.create_connection((host, port), timeout):
                outcome.append(None)
        except TimeoutError:
            pass
        except socket.gaierror:
            outcome.append("is not known by that name")
        except ConnectionRefusedError:
            outcome.append("refuses the connection")
        except OSError as error:
            outcome.append(f"cannot be reached ({error.strerror or error})")

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(timeout)
    return outcome[0] if outcome else f"does not answer within {timeout:g} s"
