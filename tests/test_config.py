"""What a composed config may hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import ConfigCompositionException

from experiments.config import objectives
from experiments.errors import UserError
from experiments.terminal import message_of

Compose = Callable[..., dict[str, Any]]
SAVED_SETS = Path(__file__).parents[1] / "conf" / "experiments"


def test_the_defaults_are_those_of_the_docs(compose: Compose) -> None:
    config = compose()
    chosen = [config[group]["name"] for group in ("data", "model", "loss", "logger")]
    assert chosen == ["cats", "conv", "mse", "wandb"]
    assert config["loss"]["scale"] == "optimal_sigma"
    assert config["objective"] == "psnr"


@pytest.mark.parametrize("name", sorted(path.stem for path in SAVED_SETS.glob("*.yaml")))
def test_every_saved_set_composes(compose: Compose, name: str) -> None:
    compose(f"experiments={name}")


@pytest.mark.slow
def test_saved_sets_of_the_course_project(compose: Compose) -> None:
    keys = ("lr", "max_epochs", "batch_size", "latent_dim", "seed")
    sets = {
        name: tuple(compose(f"experiments={name}")[key] for key in keys)
        for name in ("exp1", "exp2", "exp3")
    }
    assert sets["exp1"] == (0.01, 50, 64, 32, 42)
    assert (sets["exp2"][1], sets["exp2"][4]) == (500, 47)
    assert (sets["exp3"][1], sets["exp3"][4]) == (5, 42)


def test_the_command_line_wins_over_a_saved_set(compose: Compose) -> None:
    assert compose("experiments=exp1", "lr=0.5")["lr"] == 0.5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lr=0", "`lr` must be above 0, but got 0.0"),
        ("lr=inf", "`lr` must be above 0, but got inf"),
        ("beta=-1", "`beta` must be 0 or more"),
        ("latent_dim=0", "`latent_dim` must be an integer of 1 or more"),
        ("batch_size=1", "`batch_size` must be an integer of 2 or more"),
        ("max_epochs=0", "`max_epochs` must be"),
        ("report=pdf", "`report` must be one of html, none, but got 'pdf'"),
        ("seed=-1", "`seed` must be an integer in"),
        ("name=..", "`name` must be a file name"),
        ("objective=psn", "one of psnr, ssim, .*but got 'psn'"),
        ("objective=fid", "one of psnr"),
        ("objective=[psnr,lpips]", "but got 'lpips'"),
        ("objective=[]", "a metric or a list of metrics"),
        ("objective=[psnr,psnr]", "but got .'psnr', 'psnr'.; name each once"),
        ("beta=1e308", "`beta` must be 0 or more, at most 1e9"),
        ("optimizer.weight_decay=1e10", "must be 0 or more, at most 1000"),
        ("data.fit=zoom", "`data.fit` must be one of crop, pad, squash"),
        ("data.max_bad_fraction=2", r"`data.max_bad_fraction` must be in \[0, 1\]"),
        ("objective=3", "a metric or a list of metrics"),
        ("trainer.precision=8", "`trainer.precision` must be one of auto, 32-true"),
        ("trainer.profiler=fast", "simple, advanced, pytorch, or null"),
        ("optimizer.schedule=step", "plateau, cosine, constant"),
        ("optimizer.ema_decay=1", "between 0 and 1, or null"),
        ("data.root=photos", "add data=images to train on photos"),
        ("+learning_rate=1", "`learning_rate` is not a key of the config; known are name, seed"),
        ("+trainer.gpus=1", "`trainer.gpus` is not a key of the config; known in trainer"),
    ],
)
def test_a_value_out_of_range_is_refused(compose: Compose, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compose(override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lr=fast", "^`lr` must be a number, but got fast$"),
        ("seed=1.5", "^`seed` must be an integer, but got 1.5$"),
        ("trainer.threads=1.5", "^`trainer.threads` must be an integer, but got 1.5$"),
        ("max_epochs=1e3", "^`max_epochs` must be an integer, .* 1000.0; type max_epochs=1000$"),
        ("data.flip=maybe", "^`data.flip` must be true or false, but got maybe$"),
        ("learning_rate=1", "^`learning_rate` is not a key of the config; known are hydra, name"),
        ("lrr=1", r"^`lrr` is not a key of the config; did you mean lr\?$"),
        ("kl.warmup=1", r"^`kl.warmup` is not a key .*; did you mean kl.warmup_epochs\?$"),
        ("trainer.gpus=1", "^`trainer.gpus` is not a key .*; known in trainer are [a-z_, ]*$"),
        ("loss.sclae=sum", r"^`loss.sclae` is not a key .*; did you mean loss.scale\?$"),
        ("~lrr", "^`lrr` is not a key of the config$"),
        ("+lr=1", "^`lr` must be given without \\+.* since the config has it already$"),
        ("+loss=mse", "^`loss` must be given without \\+.* since the config has it already$"),
        ("loss=mss", r"^`loss` must be one of .*, mse, ssim, but got mss; did you mean mse\?$"),
        ("loss=[mse,mss]", "^`loss` must be a file in the config's folder, but got mss$"),
        ("experiments=foo", "^`experiments` must be one of exp1, .*, quick, but got foo$"),
        ("model=con", r"^`model` must be .* got con; where .*=MODULE .*; did you mean conv\?$"),
        ("loss=", "^`loss` must be one of .*, mse, ssim, but got nothing$"),
        ("lr=null", "^`lr` must have a value, but got none$"),
        ("data=pics", "^`data` must be .* got pics; where .* put VAESWEEP_PLUGINS=MODULE before"),
    ],
)
def test_a_wrong_type_or_key_that_hydra_refuses_is_told(
    compose: Compose, override: str, message: str
) -> None:
    with pytest.raises(ConfigCompositionException) as caught:
        compose(override)
    assert re.search(message, str(message_of(caught.value)))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss=null", "must be given the name of a choice, but got null$"),
        ("loss@=1", "must be given the name of a choice, but got a value of type int$"),
        ("~loss", "^`loss` must have a value, but got none$"),
    ],
)
def test_a_group_without_a_choice_is_told(compose: Compose, override: str, message: str) -> None:
    with pytest.raises((ValueError, UserError)) as caught:
        compose(override)
    assert re.search(message, str(message_of(caught.value)))


def test_several_objectives_are_kept_in_order(compose: Compose) -> None:
    assert objectives(compose("objective=[ms_ssim,psnr]")) == ["ms_ssim", "psnr"]


def test_whether_there_is_a_report_is_no_matter_of_a_trial(compose: Compose) -> None:
    assert compose("report=none") == compose("report=html")
    assert "report" not in compose()
