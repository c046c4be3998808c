"""What a service allows and how long it takes: the options of its command."""

from __future__ import annotations

import argparse
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from typing_extensions import TypeAliasType

from experiments.errors import UserError
from serving.model.references import KINDS

TOKEN = "VAESWEEP_TOKEN"
"""Environment variable with the bearer token."""

_BYTES_PER_NUMBER = 32
"""Of JSON: 17 digits, sign, exponent and comma, with room for spaces."""
_LEAST_JSON = 4096
_MOST_TOKEN = 2**12  # bytes
_HEADER_SAFE = re.compile(r"[\x21-\x7e]+")

_HOST = r"^(\*|(\*\.)?[!-)+-.0-9;-~]+)$"
NAMES = TypeAliasType("NAMES", tuple[Annotated[str, Field(pattern=_HOST)], ...])
_ORIGIN = (
    r"^(\*|[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]+)?)$"  # as browsers say it
)
ORIGINS = TypeAliasType("ORIGINS", tuple[Annotated[str, Field(pattern=_ORIGIN)], ...])
_RULES = {
    "hosts": "names such as vae.example.org or *.example.org, in ASCII "
    "(xn--bcher-kva.example for b\xfccher.example) and without a port",
    "cors": "origins such as https://vae.example.org or http://localhost:8080, in small letters "
    "and without a path or a slash at their end, or * for any",
}
"""For those that have a pattern."""


class Settings(BaseModel):
    """Of a service."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeout: float = Field(
        default=10.0, gt=0, le=3600, description="seconds for a request, body included"
    )
    queue: int = Field(
        default=64,
        ge=1,
        le=10**6,
        description="requests that may wait, three quarters of them of one client; more are "
        "refused",
    )
    batch: int = Field(default=64, ge=1, le=4096, description="images computed together")
    max_mebibytes: float = Field(default=16.0, ge=0.001, le=4096, description="of a request")
    max_megapixels: float = Field(default=40.0, ge=0.001, le=178, description="of a photo")
    max_decode_mebibytes: int = Field(
        default=192,
        ge=16,
        le=2**16,
        description="memory that a large photo may take while it is decoded",
    )
    max_images: int = Field(default=256, ge=1, le=4096, description="in a request")
    max_temperature: float = Field(default=3.0, gt=0, le=100, description="of draws")
    max_connections: int = Field(default=512, ge=8, le=2**16, description="open at once")
    drift_window: int = Field(
        default=256, ge=128, le=10**6, description="photos drift is measured over"
    )
    drift_reconstruction: float = Field(
        default=0.35,
        ge=0,
        le=1,
        description="distance of recent photos' errors that counts as drift",
    )
    drift_latent: float = Field(
        default=1.5,
        ge=0,
        le=1e9,
        description="distance of recent photos' latents that counts as drift",
    )
    cors: ORIGINS = Field(
        default=(), description="origins whose pages may call the API, commas between"
    )
    hosts: NAMES = Field(
        default=(),
        description="names that requests may call the service by, such as "
        "vae.example.org,*.example.org (this machine's own on a loopback address, any elsewhere)",
    )

    @property
    def max_bytes(self) -> int:
        """Of a request's body."""
        return int(self.max_mebibytes * 2**20)

    @property
    def max_pixels(self) -> int:
        """Of an uploaded photo, read from its header before it is decoded."""
        return int(self.max_megapixels * 10**6)

    def max_json(self, latent_dim: int) -> int:
        """Bytes of a request to decode: as many as `max_images` latents can need."""
        needed = _LEAST_JSON + _BYTES_PER_NUMBER * self.max_images * latent_dim
        return min(self.max_bytes, needed)


class Command(Settings, BaseSettings):
    """A page and an API for a trained model: --checkpoint outputs/vae/<trial>.

    Listens on this machine only, unless told otherwise. SIGTERM and Ctrl-C let running requests
    end. Behind a proxy, the variable FORWARDED_ALLOW_IPS must name its address or network, or all
    its clients count as one.
    """

    model_config = SettingsConfigDict(
        cli_prog_name="python -m serving.app",
        cli_kebab_case=True,
        cli_enforce_required=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        extra="forbid",
    )

    checkpoint: str = Field(description=KINDS)
    host: str = Field(
        default="127.0.0.1", description="address to listen on; 0.0.0.0 for every one"
    )
    port: int = Field(
        default=8000, ge=0, le=65535, description="port to listen on; 0 for a free one"
    )
    threads: int | None = Field(default=None, ge=1, le=4096, description="of PyTorch; one a core")
    token_file: str | None = Field(
        default=None, min_length=1, description=f"file with the bearer token (or set {TOKEN})"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Of the command line alone: Kubernetes sets variables such as VAESWEEP_PORT on its own."""
        return (init_settings,)


class _Help(argparse.RawDescriptionHelpFormatter):
    """Without defaults that say nothing."""

    def _get_help_string(self, action: argparse.Action) -> str:
        return re.sub(r" \(default: (None|\(\))\)$", "", action.help or "")


def options(arguments: Sequence[str]) -> Command:
    """The command's options.

    Raises:
        UserError: a value is none that it may be.
        SystemExit: help was asked for, or an option is unknown or missing.
    """
    try:
        source = CliSettingsSource[object](Command, formatter_class=_Help)
        return CliApp.run(Command, cli_args=list(arguments), cli_settings_source=source)
    except ValidationError as error:
        raise UserError("; ".join(map(_told, error.errors()))) from None


def _told(error: object) -> str:
    assert isinstance(error, dict)
    name = str(error["loc"][0]).replace("_", "-")
    rule = str(error["msg"]).partition(", unable")[0]
    if error["type"] == "string_pattern_mismatch":
        rule = f"must be {_RULES[name]}"
    rule = rule.replace("Input should be", "must be").replace("String should", "must")
    return f"`--{name}` {rule}, but got {error['input'] or 'nothing'}"


def token(file: str | Path | None) -> str | None:
    """The bearer token of a file, or else of the environment; None if there is none.

    Raises:
        UserError: it cannot be read, or no header of a request could hold it.
    """
    if file is None:
        source, given = TOKEN, os.environ.get(TOKEN)
        if given is None:
            return None
        found = given
    else:
        source = f"`--token-file` {file}"
        try:
            _check_ends(file)
            with open(file, "rb") as opened:
                read = opened.read(_MOST_TOKEN + len("\r\n") + 1).decode(errors="replace")
            found = read.removesuffix("\n").removesuffix("\r")
        except OSError as error:
            raise UserError(
                f"`--token-file` must be a readable file, but {file}: {error}"
            ) from error
    if not found:
        raise UserError(
            f"a token must not be empty, but that of {source} is; `openssl rand -hex 32` makes "
            f"one, and without {TOKEN} and --token-file none is asked for"
        )
    if len(found) > _MOST_TOKEN:
        raise UserError(
            f"a token must have at most {_MOST_TOKEN} bytes, but that of {source} has more; "
            "`openssl rand -hex 32` makes one"
        )
    if not _HEADER_SAFE.fullmatch(found):
        odd = next(c for c in found if not _HEADER_SAFE.fullmatch(c))
        raise UserError(
            "a token must be letters, digits and signs of ASCII without spaces or line ends, since "
            f"it is sent in a header, but that of {source} has {odd!a}; "
            "`openssl rand -hex 32` makes one"
        )
    return found


def _check_ends(file: str | Path) -> None:
    """Refuse what may never end or never begin, such as a device or a pipe that has a name.

    A pipe without a name, as of `<(command)` in a shell, has somebody who writes to it.
    """
    mode = os.stat(file).st_mode
    is_open = os.path.realpath(file).startswith(("/dev/fd/", "/proc/"))
    if not (stat.S_ISREG(mode) or (stat.S_ISFIFO(mode) and is_open)):
        raise UserError(f"`--token-file` must be a regular file, but {file} is none")
