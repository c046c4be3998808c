"""Hydra's config loader, which lets a sweep fix an option that only some of its choices have.

The config from which a multirun starts has the default of each group that is searched: in
`-m loss=ssim,mse loss.window_size=7` it is that of `mse`, which has no `window_size`.
"""

from __future__ import annotations

from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode


class SweepLoader(ConfigLoaderImpl):
    """Leaves overrides of keys that a sweep's own config does not have to the trials' configs.

    Those are composed and checked before any trial begins, so a mistake is told all the same.
    """

    def _load_configuration_impl(self, **arguments: Any) -> Any:
        load = super()._load_configuration_impl
        if arguments["run_mode"] != RunMode.MULTIRUN:
            return load(**arguments)
        try:
            return load(**arguments)
        except ConfigCompositionException:
            parsed = arguments["parsed_overrides"]
            without_options = [one for one in parsed if not _is_option(one)]
            config = load(**{**arguments, "parsed_overrides": without_options})
            known = [one for one in parsed if not _is_option(one) or _applies(config, one)]
            if len(known) == len(parsed):
                raise
        config = load(**{**arguments, "parsed_overrides": known})
        typed = [one.input_line for one in parsed if not one.is_hydra_override()]
        config.hydra.overrides.task = typed
        return config


def install() -> None:
    """Let Hydra use it, which has no other place to say so."""
    import hydra._internal.hydra as main

    main.ConfigLoaderImpl = SweepLoader


def _is_option(override: Override) -> bool:
    """Whether it is about a key within a node, such as `loss.window_size`."""
    return "." in override.key_or_group and not override.is_hydra_override()


def has_key(config: Any, key: str) -> bool:
    """Whether a dotted key is part of a composed config."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    absent = object()
    try:
        return OmegaConf.select(config, key, default=absent) is not absent
    except (OmegaConfBaseException, ValueError):  # a part of a text, or a list's `[x]`
        return False


def _applies(config: Any, override: Override) -> bool:
    adds = override.is_add() or override.is_force_add()
    key = override.key_or_group
    return has_key(config, key.rpartition(".")[0] if adds else key)
