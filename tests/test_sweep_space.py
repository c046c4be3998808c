"""Search spaces: from overrides to dimensions, conditions and cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from experiments.errors import UserError
from sweeps.composing import Composer, probes
from sweeps.space import Dimension, Space, cell_name, cell_seed, parse
from tests.hydra_multirun import multirun_config


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer(*multirun_config())


@pytest.fixture
def space(composer: Composer) -> Callable[..., Space]:
    def of(*overrides: str, params: Any = None, conditions: Any = None) -> Space:
        return composer.space(params or {}, overrides, conditions or {})

    return of


def overrides_of(space: Space) -> list[list[str]]:
    return [space.overrides(*cell) for cell in space.cells()]


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
    assert dimension.values() == values
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


def test_a_grid_has_every_cell_once_and_the_seed_varies_fastest() -> None:
    space = parse(["loss=ssim,mse", "latent_dim=4,8", "seed=1,2"])
    cells = overrides_of(space)
    assert len({tuple(cell) for cell in cells}) == len(cells) == space.cell_count(100) == 8
    assert cells[:3] == [
        ["loss=ssim", "latent_dim=4", "seed=1"],
        ["loss=ssim", "latent_dim=4", "seed=2"],
        ["loss=ssim", "latent_dim=8", "seed=1"],
    ]
    assert [d.key for d in space.dimensions] == ["loss", "latent_dim"], "no sampler sees the seed"


def test_a_key_that_one_loss_has_is_searched_for_that_loss_only(
    space: Callable[..., Space],
) -> None:
    found = space("loss.window_size=7,11", "loss=ssim,mse,ms_ssim")
    cells = overrides_of(found)
    assert cells == [
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
    cells = overrides_of(space("data=cats,images", "data.count=100,200"))
    assert cells == [
        ["data=cats", "data.count=100"],
        ["data=cats", "data.count=200"],
        ["data=images"],
    ]


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
    with pytest.raises(
        UserError, match=r"loss\.windw` is not a key|Could not override 'model\.depth'"
    ):
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
    ],
)
def test_a_wrong_condition_is_refused(
    space: Callable[..., Space], conditions: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        space("lr=0.1,0.2", "latent_dim=4,8", conditions=conditions)


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


def test_a_mistake_in_any_value_is_told_before_a_trial(
    composer: Composer, space: Callable[..., Space]
) -> None:
    for overrides, message in [
        (["loss=mse,sim"], "Could not find 'loss/sim'"),
        (["lr=interval(-1,1)"], "`lr` must be above 0, but got -1"),
        (["latent_dim=16,0"], "`latent_dim` must be an integer of 1 or more, but got 0"),
        (["lr=1e-3,fast"], "could not be converted to Float"),
        (["loss=mse,l1", "typo=1"], "Could not override 'typo'"),
        (["loss.window_size=7,eleven", "loss=ssim,mse", "latent_dim=4,-1"], "latent_dim"),
    ]:
        with pytest.raises(UserError, match=message):
            composer.check(space(*overrides))


def test_every_value_is_tried_even_below_a_condition(space: Callable[..., Space]) -> None:
    found = space("loss=mse,ssim", "loss.window_size=7,11", "latent_dim=4,8")
    tried = list(probes(found))
    for dimension in found.dimensions:
        assert {values.get(dimension.key) for values in tried} >= set(dimension.values())


def test_a_cells_name_tells_cells_apart_and_keeps_the_seed() -> None:
    assert cell_name({"a": 1, "b": 2}, 3) == cell_name({"b": 2, "a": 1}, 3)
    names = {cell_name({"a": value}, seed) for value in (1, 1.5, "1", True) for seed in (None, 1)}
    assert len(names) == 8
    assert cell_seed(cell_name({"a": 1}, 7)) == 7


def test_a_dimension_with_more_choices_than_meant_goes_through_its_own() -> None:
    wide = CategoricalDistribution(["mse", "l1", "ssim"])
    dimension = Dimension("loss", wide, ("mse", "l1", "ssim"), listed=("ssim", "mse"))
    assert overrides_of(Space((dimension,))) == [["loss=ssim"], ["loss=mse"]]
