"""Hydra's config loader, for sweeps: of options that some choices lack, and of many trials.

The config from which a multirun starts has the default of each group that is searched: in
`-m loss=ssim,mse loss.window_size=7` it is that of `mse`, which has no `window_size`.

Hydra reads and merges its twenty files anew for each trial, though most differ in a few values
only. Here they are merged once for each choice of files, and the values are set in a copy.
"""

from __future__ import annotations

import copy
import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import OmegaConf

_KEPT = 64  # configs
_REFERENCE = re.compile(r"\$\{(?!oc\.env:)")
_DECIDES_PLACES = ("name", "data.cache_dir")


class SweepLoader(ConfigLoaderImpl):
    """Leaves overrides of keys that a sweep's own config does not have to the trials' configs.

    Those are composed and checked before any trial begins, so a mistake is told all the same.
    """

    _master: Any = None
    """The sweep's config whose trials are kept in `_composed`."""
    _composed: OrderedDict[tuple[str, ...], Any]

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_master", "_composed")}

    def load_sweep_config(self, master_config: Any, sweep_overrides: list[str]) -> Any:
        parsed = OverridesParser.create().parse_overrides(sweep_overrides)
        values = [one for one in parsed if self._is_value(one)]
        rest = [one for one in parsed if not self._is_value(one)]
        if not values or _meet(values, [one for one in rest if not self._is_group(one)]):
            return super().load_sweep_config(master_config, sweep_overrides)
        composed = self._with(master_config, [one.input_line or "" for one in rest])
        if _places_depend_on_values(composed):  # then the guard must see them together
            return super().load_sweep_config(master_config, sweep_overrides)
        config = copy.deepcopy(composed)
        try:
            self._apply_overrides_to_config(values, config)
        except ConfigCompositionException:
            return super().load_sweep_config(master_config, sweep_overrides)  # in Hydra's words
        typed = [one.input_line for one in parsed if not one.is_hydra_override()]
        config.hydra.overrides.task = typed
        # Hydra does so that ${now:...} is the command's.
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    def _with(self, master_config: Any, overrides: list[str]) -> Any:
        """The config of a trial with these overrides, kept for the next one."""
        if self._master is not master_config:
            self._master, self._composed = master_config, OrderedDict()
        key = tuple(overrides)
        if key not in self._composed:
            self._composed[key] = super().load_sweep_config(master_config, overrides)
            if len(self._composed) > _KEPT:
                self._composed.popitem(last=False)
        self._composed.move_to_end(key)
        return self._composed[key]

    def _is_value(self, override: Override) -> bool:
        """Whether it sets one value and decides nothing else: no file, and no place to write."""
        key = override.key_or_group
        decides = (
            override.type != OverrideType.CHANGE
            or override.is_hydra_override()
            or override.package is not None
            or override.is_sweep_override()
            or key in _DECIDES_PLACES
            or "${" in (override.input_line or "")
        )
        return not decides and not self._is_group(override)

    def _is_group(self, override: Override) -> bool:
        """Whether it chooses a file, which counts before every value."""
        return bool(self.repository.group_exists(override.key_or_group))

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


def _places_depend_on_values(config: Any) -> bool:
    """Whether a key that decides where files go is taken from other keys of the config."""
    raw: Any = OmegaConf.to_container(config, resolve=False)
    data = raw.get("data")
    places = [raw.get("name"), data.get("cache_dir") if isinstance(data, dict) else data]
    return any(_REFERENCE.search(str(place)) for place in places)


def _meet(values: Sequence[Override], others: Sequence[Override]) -> bool:
    """Whether their order counts, since some are about the same node."""
    keys = [f"{one.key_or_group}." for one in values]
    rest = [f"{one.key_or_group}." for one in others if not one.is_hydra_override()]
    return any(a.startswith(b) or b.startswith(a) for a in keys for b in rest)


def _is_option(override: Override) -> bool:
    """Whether it is about a key within a node, such as `loss.window_size`."""
    return "." in override.key_or_group and not override.is_hydra_override()


def has_key(config: Any, key: str) -> bool:
    """Whether a dotted key is part of a composed config."""
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
