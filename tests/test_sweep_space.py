"""Search spaces: from overrides to dimensions, conditions and points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from experiments.cli.grammar import readable_conditions
from experiments.errors import UserError
from sweeps.space.composing import Composer, probes
from sweeps.space.dimensions import Dimension, Space
from sweeps.space.grammar import parse
from sweeps.space.grid import Grid
from tests.hydra_multirun import ROOT, multirun_config


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer(*multirun_config())


@pytest.fixture
def space(composer: Composer) -> Callable[..., Space]:
    def of(*overrides: str, params: Any = None, conditions: Any = None) -> Space:
        return composer.space(params or {}, overrides, conditions or {})

    return of


def overrides_of(space: Space) -> list[list[str]]:
    return [space.overrides(*point) for point in Grid(space)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "values"),
    [
        ("loss=ssim,mse", ["ssim", "mse"]),
        ("latent_dim=16,32,64", [16, 32, 64]),
        ("latent_dim=choice(16,32)", [16, 32]),
        ("latent_dim=range(8,33,8)", [8, 16, 24, 32]),
        ("beta=range(0.5,2.0,0.5)", [0.5, 1.0, 1.5]),
        ("beta=sort(2,1)", [1, 2]),
        ("data.flip=true,false", [True, False]),
        ("optimizer.ema_decay=null,0.9", ["null", 0.9]),
        ("loss=glob(*ssim,exclude=kornia*)", ["ms_ssim", "ssim"]),
        ("latent_dim=16,16,32", [16, 32]),
        ("latent_dim=8,", None),
        ("loss.weights=[1,2],[2,1]", ["[1,2]", "[2,1]"]),
        ("+data.extra=1,2", [1, 2]),
        ("name2='a,b','c d'", ["'a,b'", "'c d'"]),
    ],
)
def test_every_listed_value_is_a_choice(override: str, values: list[Any] | None) -> None:
    if values is None:
        with pytest.raises(Exception, match="latent_dim=8,"):
            parse([override])
        return
    config_loader = multirun_config()[0]
    (dimension,) = parse([override], config_loader).dimensions
    assert list(dimension.values()) == values
    assert dimension.enumerated


def test_what_is_rendered_is_read_back_as_the_same_value() -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    overrides = ["a='x,y','z w',null,true,7,0.5,[1,2],{k:v}", "b=range(0.1,0.5,0.1)"]
    parser = OverridesParser.create()
    for override in overrides:
        (dimension,) = parse([override]).dimensions
        original = parser.parse_overrides([override])[0]
        expected = [str(v) for v in original.sweep_iterator()]
        rendered = [f"k={dimension.render(value)}" for value in dimension.values()]
        read = [str(parsed._value) for parsed in parser.parse_overrides(rendered)]
        assert read == expected


@pytest.mark.parametrize(
    ("override", "distribution"),
    [
        ("lr=interval(1e-4,1e-2)", FloatDistribution(1e-4, 1e-2)),
        ("lr=tag(log,interval(1e-4,1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("latent_dim=tag(log,int(interval(8,64)))", IntDistribution(8, 64, log=True)),
    ],
)
def test_an_interval_is_searched_by_a_sampler(override: str, distribution: Any) -> None:
    space = parse([override])
    assert space.dimensions[0].distribution == distribution
    assert not space.is_enumerated


def test_an_interval_of_a_key_of_integers_has_integers(space: Callable[..., Space]) -> None:
    found = space(
        "latent_dim=tag(log,interval(8,64))", "lr=interval(1,2)", "model.width=interval(8,9)"
    )
    assert [d.distribution for d in found.dimensions] == [
        IntDistribution(8, 64, log=True),
        FloatDistribution(1, 2),
        IntDistribution(8, 9),
    ]


def test_so_has_an_interval_of_a_key_that_only_some_choices_have(
    space: Callable[..., Space],
) -> None:
    found = space("loss=mse,ssim", "loss.window_size=interval(7,11)")
    assert {d.key: d.distribution for d in found.dimensions}["loss.window_size"] == (
        IntDistribution(7, 11)
    )


PRESETS = sorted(path.stem for path in (ROOT / "conf" / "sweep").glob("*.yaml"))


@pytest.mark.slow
@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "wandb"])
def test_every_preset_is_a_search_that_hydra_composes(preset: str) -> None:
    loader, config = multirun_config(f"sweep={preset}")
    arguments = [f"sweep={preset}", "model.width=interval(4,8)"]
    composer = Composer(loader, config)
    found = composer.space(config.hydra.sweeper.params, arguments, {})
    assert {key.lstrip("+") for key in config.hydra.sweeper.params} <= {
        *(d.key for d in found.dimensions),
        *(["seed"] if found.seeds else []),
    }
    composer.check(found)
    for values in probes(found):
        composer.plain(found.overrides(values, None))


SEARCHES = {
    "an interval": "{lr: 'interval(1e-4,1e-2)'}",
    "a tag": "{lr: 'tag(log,interval(1e-4,1e-2))', latent_dim: 'tag(log,int(interval(8,64)))'}",
    "whole numbers": "{latent_dim: 'interval(8,64)', beta: 'range(1,5)'}",
    "only what one loss has": "{loss: 'mse,ssim', loss.window_size: 'interval(7,11)'}",
    "numbers and texts": "{latent_dim: '8,16', seed: '0,1', lr: 0.01, loss: glob(*ssim), beta: 3}",
    "conditions": "{lr: 'interval(1e-4,1e-2)', optimizer.schedule: 'plateau,cosine'}",
}


@pytest.mark.slow
@pytest.mark.parametrize("group", ["sweep", "experiments"])
@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
def test_a_search_of_the_users_own_may_be_a_preset_or_an_experiment(
    tmp_path: Path, search: str, group: str
) -> None:
    lines = ["# @package _global_", "max_epochs: 3", "hydra:", "  sweeper:", "    n_trials: 7"]
    lines += [f"    params: {search}", "    conditions: {lr: optimizer.schedule=plateau}"]
    if "schedule" not in search:
        lines = lines[:-1]
    folder = tmp_path / group
    folder.mkdir()
    (folder / "mine.yaml").write_text("\n".join(lines))
    typed = [f"{group}=mine"]
    loader, config = multirun_config(f"hydra.searchpath=[file://{tmp_path}]", *typed)
    composer = Composer(loader, config)
    sweeper = config.hydra.sweeper
    found = composer.space(sweeper.params, typed, sweeper.conditions)
    composer.check(found)
    for values in probes(found):
        assert composer.plain(found.overrides(values, 1))["max_epochs"] == 3


def test_fixed_overrides_pass_through_and_the_last_word_counts() -> None:
    space = parse(["lr=1e-3,3e-4", "max_epochs=3", "~data.flip", "lr=0.1", "max_epochs=4"])
    assert space.dimensions == ()
    assert space.overrides({}, None) == ["~data.flip", "lr=0.1", "max_epochs=4"]


def test_a_command_line_wins_over_a_preset(space: Callable[..., Space]) -> None:
    preset = {"loss": "mse,l1", "lr": "interval(1e-4,1e-2)", "latent_dim": [8, 16]}
    found = space("lr=1e-3,1e-4", params=preset)
    assert {d.key: d.distribution for d in found.dimensions}["lr"] == CategoricalDistribution(
        [1e-3, 1e-4]
    )


def test_a_grid_has_every_point_once_and_the_seed_varies_fastest() -> None:
    space = parse(["loss=ssim,mse", "latent_dim=4,8", "seed=1,2"])
    points = overrides_of(space)
    assert len({tuple(point) for point in points}) == len(points) == Grid(space).size == 8
    assert points[:3] == [
        ["loss=ssim", "latent_dim=4", "seed=1"],
        ["loss=ssim", "latent_dim=4", "seed=2"],
        ["loss=ssim", "latent_dim=8", "seed=1"],
    ]
    assert [d.key for d in space.dimensions] == ["loss", "latent_dim"], "no sampler sees the seed"


def test_a_key_that_one_loss_has_is_searched_for_that_loss_only(
    space: Callable[..., Space],
) -> None:
    found = space("loss.window_size=7,11", "loss=ssim,mse,ms_ssim")
    points = overrides_of(found)
    assert points == [
        ["loss=ssim", "loss.window_size=7"],
        ["loss=ssim", "loss.window_size=11"],
        ["loss=mse"],
        ["loss=ms_ssim", "loss.window_size=7"],
        ["loss=ms_ssim", "loss.window_size=11"],
    ]


def test_so_is_a_fixed_value(space: Callable[..., Space]) -> None:
    found = space("loss=ssim,mse", "loss.window_size=7")
    assert overrides_of(found) == [["loss.window_size=7", "loss=ssim"], ["loss=mse"]]


def applied(space: Space) -> dict[str, set[str]]:
    """The other overrides that each choice of the first dimension gets."""
    key = space.dimensions[0].key
    found: dict[str, set[str]] = {}
    for overrides in overrides_of(space):
        (choice,) = [text for text in overrides if text.startswith(f"{key}=")]
        found.setdefault(choice, set()).update(set(overrides) - {choice})
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("group", "option", "having"),
    [
        ("loss=custom,mse", "loss.target=my_losses.focal", {"custom"}),
        ("loss=ssim,mse,ms_ssim", "loss.window_size=7", {"ssim", "ms_ssim"}),
        ("loss=custom,mse", "+loss.options.gamma=2", {"custom"}),
        ("loss=custom,mse", "++loss.options.gamma=2", {"custom"}),
        ("loss=ssim,mse", "~loss.window_size", {"ssim"}),
        ("loss=mix,mse", "loss.terms=[mse,l1]", {"mix"}),
        ("loss=ssim,mse", "loss.scale=sum", {"ssim", "mse"}),
        ("model=conv,resnet", "model.blocks=2", {"resnet"}),
        ("model=conv,resnet", "~model.blocks", {"resnet"}),
        ("model=classic,conv,resnet", "model.width=8", {"conv", "resnet"}),
        ("data=cats,images", "data.root=photos", {"images"}),
        ("data=cats,images", "data.count=100", {"cats"}),
        ("data=cats,images", "data.size=32", {"cats", "images"}),
    ],
)
def test_a_fixed_option_holds_for_the_choices_that_have_it(
    space: Callable[..., Space], group: str, option: str, having: set[str]
) -> None:
    name, _, choices = group.partition("=")
    expected = {
        f"{name}={choice}": {option} if choice in having else set() for choice in choices.split(",")
    }
    assert applied(space(group, option)) == expected


@pytest.mark.parametrize("option", ["loss.window_size=7", "~loss.window_size"])
def test_so_does_one_beside_a_preset(space: Callable[..., Space], option: str) -> None:
    expected: dict[str, set[str]] = {"loss=ssim": {option}, "loss=mse": set()}
    assert applied(space(option, params={"loss": "ssim,mse"})) == expected


def test_an_option_that_does_not_apply_makes_no_second_trial(space: Callable[..., Space]) -> None:
    points = overrides_of(space("data=cats,images", "data.count=100,200"))
    assert points == [
        ["data=cats", "data.count=100"],
        ["data=cats", "data.count=200"],
        ["data=images"],
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["loss=custom,mse", "loss.target=my_losses.focal", "data.size=32"],
        ["loss=mse,ssim", "loss.window_size=7"],
        ["loss=mse,ssim", "~loss.window_size"],
        ["model=conv,resnet", "model.blocks=2"],
        ["sweep=losses", "loss.window_size=7"],
        ["+hydra.sweeper.params.loss='mse,ssim'", "loss.window_size=7"],
    ],
)
def test_the_config_of_a_sweep_does_without_an_option_that_its_default_lacks(
    overrides: list[str],
) -> None:
    loader, config = multirun_config(*overrides)
    own = [text for text in overrides if "hydra." not in text]
    assert list(config.hydra.overrides.task) == own, "the option is the sweeper's to apply"
    assert config.data.size == (32 if "data.size=32" in overrides else 64)
    assert config.loss.name == "mse"
    found = Composer(loader, config).space(config.hydra.sweeper.params, own, {})
    assert any(option.conditions for option in found.fixed)


@pytest.mark.parametrize(
    "overrides", [["loss=mse,ssim", "loss.windw=7"], ["model.depth=3", "lr=1,2"]]
)
def test_an_option_that_nothing_has_is_one_error(overrides: list[str]) -> None:
    loader, config = multirun_config(*overrides)
    composer = Composer(loader, config)
    with pytest.raises(UserError, match=r"`(loss\.windw|model\.depth)` is not a key"):
        composer.check(composer.space({}, overrides, {}))


def test_a_single_run_refuses_an_option_that_its_loss_lacks(compose: Callable[..., Any]) -> None:
    with pytest.raises(Exception, match=r"Could not override 'loss\.window_size'"):
        compose("loss=mse", "loss.window_size=7")


def test_a_key_that_no_choice_has_is_refused(space: Callable[..., Space]) -> None:
    with pytest.raises(UserError, match=r"`loss\.window` is not a key .* loss=ssim,mse"):
        space("loss=ssim,mse", "loss.window=7,11")


def test_a_stated_condition_holds(space: Callable[..., Space]) -> None:
    conditions = {"optimizer.plateau_factor": "optimizer.schedule=plateau"}
    found = space(
        "optimizer.plateau_factor=0.1,0.5",
        "optimizer.schedule=plateau,cosine",
        conditions=conditions,
    )
    assert overrides_of(found) == [
        ["optimizer.schedule=plateau", "optimizer.plateau_factor=0.1"],
        ["optimizer.schedule=plateau", "optimizer.plateau_factor=0.5"],
        ["optimizer.schedule=cosine"],
    ]


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"absent": "lr=1"}, "must be about keys of the search, but 'absent'"),
        ({"lr": "lr=0.1"}, "of another key of the search"),
        ({"lr": "beta=1"}, "of another key of the search"),
        ({"lr": "latent_dim=4", "latent_dim": "lr=0.1"}, "must not run in a circle"),
        ({"lr": "latent_dim=4,5"}, r"values that are searched.* 5 is none of latent_dim's: 4, 8"),
        ({"lr": "latent_dim=interval(4,8)"}, "must list the values of latent_dim"),
        ({"lr": "latent_dim=4,"}, "must be KEY=VALUES"),
        ({"lr": "latent_dim"}, "must be KEY=VALUES"),
        ({"lr": "seed=1"}, "of another key of the search"),
        ({"lr": "latent_dim=five"}, r"values that are searched.* five is none of latent_dim's"),
        ({"lr": "latent_dim="}, "must be KEY=VALUES|must name values that are searched"),
        ({"lr": "=4"}, "must be KEY=VALUES"),
        ({"lr": ""}, "must be KEY=VALUES"),
        ({"lr": "latent_dim=[4"}, "must be KEY=VALUES"),
        ({"lr": "~latent_dim"}, "must be KEY=VALUES"),
        ({"lr": "latent_dim=nan,4"}, "must equal itself|values that are searched"),
        ({"lr": "objective=psnr"}, "of another key of the search"),
        ({"lr": "width=9"}, "of another key of the search"),
        ({"lr": "beta=range(1,3)"}, "of another key of the search"),
        ({"seed": "lr=0.1"}, "must be about keys of the search, but 'seed'"),
    ],
)
def test_a_wrong_condition_is_refused_in_one_line(
    space: Callable[..., Space], conditions: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        space("lr=0.1,0.2", "latent_dim=4,8", conditions=conditions)
    assert "\n" not in str(caught.value)


def test_a_mistyped_value_of_a_range_is_refused_however_large_it_is(
    space: Callable[..., Space],
) -> None:
    with pytest.raises(UserError, match=r"9 is none of latent_dim's: 8, 16, 24, 32$"):
        space("latent_dim=range(8,33,8)", "lr=1,2", conditions={"lr": "latent_dim=9"})
    with pytest.raises(
        UserError, match=r"0\.35 is none of beta's: 0\.1, 0\.2, .*, \.\.\.$"
    ) as caught:
        space("beta=range(0.1,9.0,0.1)", "lr=1,2", conditions={"lr": "beta=0.35"})
    assert len(str(caught.value)) < 300


def test_a_condition_that_contradicts_the_config_is_refused(space: Callable[..., Space]) -> None:
    searched = ("loss=ssim,mse,l1", "loss.window_size=7,11")
    with pytest.raises(
        UserError, match=r"conditions\.loss\.window_size` must hold with some"
    ) as no:
        space(*searched, conditions={"loss.window_size": "loss=mse"})
    assert "\n" not in str(no.value)
    fixed = ("loss=ssim,mse,l1", "loss.window_size=7")
    with pytest.raises(UserError, match=r"conditions\.loss\.window_size` must hold with some"):
        space(*fixed, conditions={"loss.window_size": "loss=mse,l1"})
    found = space(*searched, conditions={"loss.window_size": "loss=ssim,mse"})
    assert Grid(found).size == 4, "mse has no such key, whatever the condition says"


def test_a_condition_may_be_about_a_key_that_the_config_does_not_have_yet(
    space: Callable[..., Space],
) -> None:
    found = space("+data.extra=1,2", "lr=1,2", conditions={"lr": "data.extra=2"})
    assert overrides_of(found) == [
        ["+data.extra=1"],
        ["+data.extra=2", "lr=1"],
        ["+data.extra=2", "lr=2"],
    ]
    found = space("+data.extra=1,2", "lr=1,2", conditions={"+data.extra": "lr=1"})
    assert Grid(found).size == 3


def test_conditions_of_conditions_are_probed_where_they_hold(
    composer: Composer, space: Callable[..., Space]
) -> None:
    found = space(
        "lr=0.1,0.2",
        "beta=range(1,4)",
        "latent_dim=4,8",
        conditions={"beta": "lr=0.2", "latent_dim": "beta=3"},
    )
    probed = [*probes(found)]
    assert {"lr": 0.2, "beta": 3, "latent_dim": 8} in probed
    composer.check(found)


def test_a_condition_on_an_interval_is_refused(space: Callable[..., Space]) -> None:
    with pytest.raises(UserError, match="whose values are listed, but `lr` is an interval"):
        space("lr=interval(1,2)", "latent_dim=4,8", conditions={"latent_dim": "lr=1"})


def test_a_condition_is_about_values_however_they_are_written(space: Callable[..., Space]) -> None:
    found = space(
        "lr=1e-3,3e-4",
        "beta=1,2",
        "data.flip=true,false",
        conditions={"beta": "lr=0.001", "data.flip": "beta=2.0"},
    )
    assert overrides_of(found) == [
        ["lr=0.001", "beta=1"],
        ["lr=0.001", "beta=2", "data.flip=True"],
        ["lr=0.001", "beta=2", "data.flip=False"],
        ["lr=0.0003"],
    ]


def test_a_condition_on_a_fixed_value_is_decided(space: Callable[..., Space]) -> None:
    conditions = {"beta": "optimizer.schedule=plateau,cosine", "lr": "beta=1"}
    searched = ("beta=1,2", "lr=0.1,0.2", "latent_dim=4,8")
    holds = space(*searched, "optimizer.schedule=cosine", conditions=conditions)
    assert {d.key for d in holds.dimensions} == {"beta", "lr", "latent_dim"}
    fails = space(*searched, "optimizer.schedule=constant", conditions=conditions)
    assert [d.key for d in fails.dimensions] == ["latent_dim"], "lr waits for beta, which is none"


def test_a_fixed_value_may_have_a_condition(space: Callable[..., Space]) -> None:
    found = space("lr=0.1,0.2", "beta=3", conditions={"beta": "lr=0.2"})
    assert overrides_of(found) == [["lr=0.1"], ["beta=3", "lr=0.2"]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "conditions"),
    [
        (
            "{optimizer.plateau_factor: optimizer.schedule=plateau}",
            {"optimizer.plateau_factor": "optimizer.schedule=plateau"},
        ),
        ("{lr: loss=mse,ssim}", {"lr": "loss=mse,ssim"}),
        (
            "{lr: loss=mse,ssim, beta: latent_dim=4}",
            {"lr": "loss=mse,ssim", "beta": "latent_dim=4"},
        ),
        ("{lr:loss=mse,beta:latent_dim=4,8}", {"lr": "loss=mse", "beta": "latent_dim=4,8"}),
        (
            "{ lr : loss=glob(*ssim) , beta : lr=1e-3 }",
            {"lr": "loss=glob(*ssim)", "beta": "lr=1e-3"},
        ),
        ("{lr: loss.weights=[1,2],[2,1]}", {"lr": "loss.weights=[1,2],[2,1]"}),
        ("{lr: 'loss=mse,ssim'}", {"lr": "loss=mse,ssim"}),
        (r"{lr: loss\=mse\,ssim}", {"lr": "loss=mse,ssim"}),
        ("{}", {}),
    ],
)
@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_conditions_are_typed_as_the_readme_shows_them(
    typed: str, conditions: dict[str, str], plus: str
) -> None:
    overrides = readable_conditions([f"{plus}hydra.sweeper.conditions={typed}", "lr=1,2"])
    _, config = multirun_config(*overrides)
    assert config.hydra.sweeper.conditions == conditions
    assert readable_conditions(overrides) == overrides, "what is printed can be typed again"


@pytest.mark.parametrize("text", ["hydra.sweeper.conditions=3", "lr=1", "hydra.sweeper.params={}"])
def test_other_overrides_stay_as_they_are(text: str) -> None:
    assert readable_conditions([text]) == [text]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("name=a,b", "`name` cannot be swept: it names the sweep"),
        ("objective=psnr,ssim", r"`objective` cannot be swept: .*objective=\[psnr,ssim\]"),
        ("seed=interval(1,5)", "`seed` must be listed"),
        ("seed=1,a", "`seed` must be integers"),
        ("loss=glob(nothing*)", "must have values"),
        ("latent_dim=range(5,5)", "no search space|must have values"),
    ],
)
def test_what_cannot_be_swept_is_refused(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse([override], multirun_config()[0])


@pytest.mark.slow
def test_a_mistake_in_any_value_is_told_before_a_trial(
    composer: Composer, space: Callable[..., Space]
) -> None:
    for overrides, message in [
        (["loss=mse,sim"], "`loss` must be one of charbonnier"),
        (["lr=interval(-1,1)"], "`lr` must be above 0, but got -1"),
        (
            ["latent_dim=16,0"],
            "`latent_dim` must be an integer of 1 or more, at most 65,536",
        ),
        (["lr=1e-3,fast"], "`lr` must be a number, but got fast"),
        (["loss=mse,l1", "typo=1"], "`typo` is not a key of the config"),
        (["loss.window_size=7,eleven", "loss=ssim,mse", "latent_dim=4,-1"], "latent_dim"),
    ]:
        with pytest.raises(UserError, match=message):
            composer.check(space(*overrides))


def test_every_value_is_tried_even_below_a_condition(space: Callable[..., Space]) -> None:
    found = space("loss=mse,ssim", "loss.window_size=7,11", "latent_dim=4,8")
    tried = list(probes(found))
    for dimension in found.dimensions:
        assert {values.get(dimension.key) for values in tried} >= set(dimension.values())


def test_a_dimension_with_more_choices_than_meant_goes_through_its_own() -> None:
    wide = CategoricalDistribution(["mse", "l1", "ssim"])
    dimension = Dimension("loss", wide, ("mse", "l1", "ssim"), listed=("ssim", "mse"))
    assert overrides_of(Space((dimension,))) == [["loss=ssim"], ["loss=mse"]]
