"""What comes from outside and breaks its contract is told in a sentence, and harms nothing else."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from torch import Tensor

import losses
import models
from experiments import config, metrics
from experiments.config.named import LOGGERS, SOURCES, DataSource
from experiments.data import ImageSet, load_cats
from experiments.data.sources.opening import FILES
from experiments.errors import Interrupted, TrialError, UserError
from experiments.metrics.reconstruction import reconstruction_metrics
from experiments.record import LAST, read_result
from experiments.trial import run_trial
from models import Entry
from models.registry import Registry
from tests.additions import METRICS, Memory, Plain
from tests.conftest import TINY, Compose
from tests.test_resume import epochs_later

HERE = __name__


class Narrow(Plain):
    """Its posterior lacks the variances."""

    def posterior_parameters(self, x: Tensor) -> Tensor:
        return super().posterior_parameters(x)[:, : self.latent_dim]


class Broken(Plain):
    def decode_logits(self, z: Tensor) -> Tensor:
        raise ZeroDivisionError("oh")


class Odd(Plain):
    """An option that no config can have."""

    def __init__(self, *, image_shape: Any, latent_dim: int, activation: Any = torch.relu) -> None:
        super().__init__(image_shape=image_shape, latent_dim=latent_dim)


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Registers something for a test."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    monkeypatch.setattr(store, "repo", copy.deepcopy(store.repo))

    def registered(registry: Registry[Any], name: str, entry: Any) -> None:
        monkeypatch.setitem(registry, name, entry)
        config.register()

    return registered


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("direction", "up", "one of maximize, minimize"),
        ("subject", "pixels", "one of reconstructions, posterior"),
        ("places", "everywhere", "one of compared, plotted, listed"),
        ("margin", "x", "a number of 0 or more, or None"),
        ("margin", -1, "a number of 0 or more, or None"),
        ("name", "my metric", "letters, digits and _"),
        ("name", "val/x", "letters, digits and _"),
        ("function", "edges", "the text module:function"),
        ("home_of", "mse", "a tuple of losses"),
    ],
)
def test_a_metric_is_checked_when_it_is_registered(field: str, value: Any, rule: str) -> None:
    with pytest.raises(ValueError, match=f"`{field}` of a metric must be {rule}.*{value!r}"):
        metrics.register(replace(METRICS[0], **{field: value}))


def test_a_metric_is_registered_under_its_own_name() -> None:
    with pytest.raises(ValueError, match="registered under its name, edges, but got 'other'"):
        metrics.METRICS["other"] = METRICS[0]
    assert "other" not in metrics.METRICS


@pytest.mark.parametrize(
    ("registry", "name", "entry", "other"),
    [
        (metrics.METRICS, "psnr", replace(METRICS[0], name="psnr"), "reconstruction:psnr"),
        (models.NETWORKS, "conv", Entry(f"{HERE}:Narrow"), "models.conv:ConvNetwork"),
        (SOURCES, "cats", DataSource(f"{HERE}:none"), "loading:load_cats"),
        (LOGGERS, "csv", f"{HERE}:open_none", "csv_logger:open_csv"),
        (FILES, ".npy", f"{HERE}:none", "arrays:ArrayFile"),
    ],
)
def test_a_name_stays_what_it_is(
    registry: Registry[Any], name: str, entry: Any, other: str
) -> None:
    before = registry[name]
    with pytest.raises(ValueError, match=f"must have a name of its own, but '{name}'.*{other}"):
        registry[name] = entry
    registry[name] = before  # a module that is imported twice
    with pytest.raises(TypeError):
        losses.DISTANCES["mse"] = entry  # type: ignore[index]


def test_a_source_has_keys_of_the_config_only() -> None:
    with pytest.raises(ValueError, match=r"keys of a data source must be .*'nokey'.*environment"):
        DataSource("somewhere:load", ("nokey",))


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("nonsuch:Net", "ModuleNotFoundError"),
        (f"{HERE}:replace", "<function replace"),
        (f"{HERE}:Odd", "activation"),
        (f"{HERE}:Narrow", r"posterior parameters must be \(B, 8\).*got \(2, 4\)"),
        (f"{HERE}:Broken", "ZeroDivisionError: oh"),
    ],
)
def test_a_bad_network_breaks_its_own_trials_only(
    path: str, told: str, add: Callable[..., None], compose: Compose, tmp_path: Path
) -> None:
    add(models.NETWORKS, "bad", Entry(path))
    others = [text for text in TINY if not text.startswith("model.")]
    assert compose(*TINY)["model"]["name"] == "conv"
    with pytest.raises(UserError, match=f"the network `bad` .*{told}"):
        run_trial(compose(*others, "model=bad"), tmp_path / "record")
    assert not (tmp_path / "record").exists()


def load_none(**settings: Any) -> Any:
    return None


def load_nothing(**settings: Any) -> Any:
    raise KeyError("oh")


def load_exiting(**settings: Any) -> Any:
    sys.exit(3)


def load_floats(**settings: Any) -> Any:
    floats: Any = np.zeros((80, 3, 32, 32))
    return replace(load_cats(count=80, **settings), images=floats)


def load_large(*, size: int, **settings: Any) -> ImageSet:
    return load_cats(count=80, size=2 * size, **settings)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("load_none", "must give an ImageSet, but gave NoneType"),
        ("load_nothing", "KeyError: 'oh'"),
        ("load_exiting", r"sys\.exit\(3\)"),
        ("load_floats", r"of uint8, but got float64 \(80, 3, 32, 32\)"),
        ("load_large", r"must be \(3, 32, 32\), but are \(3, 64, 64\)"),
        ("tpyo", "AttributeError"),
    ],
)
def test_a_bad_source_is_told(
    function: str, told: str, add: Callable[..., None], compose: Compose, tmp_path: Path
) -> None:
    add(SOURCES, "bad", DataSource(f"{HERE}:{function}"))
    others = [text for text in TINY if text != "data.count=120"]
    with pytest.raises(UserError, match=rf"the data source `bad` \({HERE}:{function}\).*{told}"):
        run_trial(compose(*others, "data=bad"), tmp_path / "record")
    assert not (tmp_path / "record").exists()


@contextmanager
def open_none(settings: Any, record: Any) -> Iterator[None]:
    yield None


def open_badly(settings: Any, record: Any) -> Any:
    raise KeyError("oh")


def open_exiting(settings: Any, record: Any) -> Any:
    sys.exit(3)


@pytest.mark.trains
@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("open_none", "NoneType"),
        ("open_badly", "KeyError: 'oh'"),
        ("open_exiting", r"sys\.exit\(3\)"),
    ],
)
def test_a_bad_logger_leaves_no_record_and_one_that_can_still_be_continued(
    function: str, told: str, add: Callable[..., None], tiny: Compose, tmp_path: Path
) -> None:
    add(LOGGERS, "bad", f"{HERE}:{function}")
    directory = tmp_path / "record"
    message = rf"`logger=bad` must open one of Lightning's loggers, but {HERE}:{function} .*{told}"
    with pytest.raises(UserError, match=message):
        run_trial(tiny("logger=bad"), directory)
    assert not directory.exists()
    with pytest.raises(Interrupted):
        run_trial(tiny(), directory, in_sweep=True, resumable=True, should_stop=epochs_later(1))
    with pytest.raises(UserError, match=message):
        run_trial(tiny("logger=bad"), directory, in_sweep=True, resumable=True)
    assert read_result(directory)["status"] == "interrupted"
    assert (directory / LAST).exists()


class Unreliable(Memory):
    """Fails in one of its methods."""

    def __init__(self, failing: str, calls: list[str]) -> None:
        super().__init__()

        def fail(*_: Any, **__: Any) -> NoReturn:
            calls.append(failing)
            raise KeyError("oh")

        setattr(self, failing, fail)


CALLS: list[str] = []


@contextmanager
def open_unreliable(config: Mapping[str, Any], record: Any) -> Iterator[Memory]:
    method = config["logger"]["project"]
    try:
        yield Unreliable(method, CALLS) if method != "close" else Memory()
    except BaseException:  # noqa: BLE001  # as a careless logger does
        CALLS.append("told of an error")
    if method == "close":
        CALLS.append("close")
        raise KeyError("oh")


METHODS = ["log_metrics", "encoded", "log_pictures", "finalize", "close"]


@pytest.mark.parametrize("method", METHODS)
def test_a_logger_that_fails_later_costs_its_logs_only(
    method: str,
    add: Callable[..., None],
    tiny: Compose,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    CALLS.clear()
    add(LOGGERS, "bad", f"{HERE}:open_unreliable")
    run_trial(tiny("logger=bad", f"logger.project={method}"), tmp_path)
    assert read_result(tmp_path)["status"] == "completed"
    (told,) = [line for line in caplog.messages if "logger=bad" in line]
    assert told == (
        "`logger=bad`: logging stopped, because it failed (KeyError: 'oh'); the trial goes on"
    )
    assert [method] == CALLS


def test_a_logger_hides_no_failure_of_its_trial(
    add: Callable[..., None], tiny: Compose, tmp_path: Path
) -> None:
    CALLS.clear()
    add(LOGGERS, "bad", f"{HERE}:open_unreliable")
    with pytest.raises(TrialError):
        run_trial(tiny("logger=bad", "logger.project=close", "lr=1e30"), tmp_path)
    assert CALLS == ["told of an error", "close"]


def inverted(x_hat: Tensor, x: Tensor) -> Tensor:
    """Writes into what it is given, and gives float64."""
    return x_hat.mul_(-1).sub_(x).double().mean(dim=(1, 2, 3))


def test_a_metric_that_writes_changes_no_other_and_all_are_of_one_type(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x_hat, x = torch.rand(2, 3, 3, 32, 32)
    alone = reconstruction_metrics(x_hat, x)
    first = replace(METRICS[0], name="first", function=f"{HERE}:inverted")
    monkeypatch.setattr(metrics, "METRICS", Registry("metric", {"first": first, **metrics.METRICS}))
    monkeypatch.setattr("experiments.metrics.reconstruction.METRICS", metrics.METRICS)
    found = reconstruction_metrics(x_hat, x)
    assert {values.dtype for values in found.values()} == {torch.float32}
    assert all(torch.equal(found[name], values) for name, values in alone.items())
