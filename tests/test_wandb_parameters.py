"""The distributions of a W&B sweep file mean what W&B's documentation says they do."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import RandomSampler, TPESampler
from scipy import stats

from experiments.errors import UserError
from sweeps.search.samplers import with_priors
from sweeps.space.dimensions import Dimension, Space
from sweeps.wandb.parameters import KEYS, read

Spec = dict[str, Any]


def dimension(spec: Spec, method: str = "random") -> Dimension:
    constants, space = read({"x": spec}, method)
    assert constants == []
    (found,) = space.dimensions
    return found


def drawn(spec: Spec, count: int = 2000) -> list[Any]:
    """Values as a worker's sampler draws them."""
    # What travels to another process draws the same.
    of_x: Dimension = pickle.loads(pickle.dumps(dimension(spec)))
    sampler = with_priors(RandomSampler(seed=1), Space((of_x,)))
    trial = optuna.trial.create_trial(value=0.0)
    study = optuna.create_study()
    return [sampler.sample_independent(study, trial, "x", of_x.distribution) for _ in range(count)]


def contains(distribution: BaseDistribution, value: Any) -> bool:
    return bool(distribution._contains(distribution.to_internal_repr(value)))


CONTINUOUS: list[tuple[Spec, Any]] = [
    ({"min": 0.5, "max": 2.0}, stats.uniform(0.5, 1.5)),
    ({"min": 0, "max": 1.5}, stats.uniform(0, 1.5)),
    ({"min": 0.0, "max": 2}, stats.uniform(0, 2)),
    ({"distribution": "uniform", "min": 1, "max": 5}, stats.uniform(1, 4)),
    (
        {"distribution": "log_uniform", "min": -9.2, "max": -4.6},
        stats.loguniform(math.exp(-9.2), math.exp(-4.6)),
    ),
    (
        {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2},
        stats.loguniform(1e-4, 1e-2),
    ),
    # log(1/X) is uniform between min and max.
    (
        {"distribution": "inv_log_uniform", "min": 1, "max": 3},
        stats.loguniform(math.exp(-3), math.exp(-1)),
    ),
    (
        {"distribution": "inv_log_uniform_values", "min": 0.1, "max": 10.0},
        stats.loguniform(0.1, 10),
    ),
    ({"distribution": "normal"}, stats.norm()),
    ({"distribution": "normal", "mu": 3, "sigma": 0.5}, stats.norm(3, 0.5)),
    (
        {"distribution": "log_normal", "mu": -7, "sigma": 0.7},
        stats.lognorm(s=0.7, scale=math.exp(-7)),
    ),
    ({"distribution": "beta"}, stats.uniform()),
    ({"distribution": "beta", "a": 2, "b": 5}, stats.beta(2, 5)),
]


@pytest.mark.parametrize(("spec", "meant"), CONTINUOUS, ids=[str(c[0]) for c in CONTINUOUS])
def test_numbers_are_drawn_from_the_distribution(spec: Spec, meant: Any) -> None:
    values = drawn(spec)
    assert stats.kstest(values, meant.cdf).pvalue > 0.01
    distribution = dimension(spec).distribution
    assert all(contains(distribution, value) for value in values)


@pytest.mark.parametrize(
    "spec",
    [spec for spec, _ in CONTINUOUS if spec.get("distribution", "") in ("normal", "log_normal")],
)
def test_a_quantile_is_that_of_scipy_between_the_tails(spec: Spec) -> None:
    prior = dimension(spec).prior
    assert prior is not None
    meant = next(meant for other, meant in CONTINUOUS if other == spec)
    chances = np.array([1e-8, 0.001, 0.3, 0.5, 0.9, 0.99999])
    assert [prior.quantile(p) for p in chances] == pytest.approx(meant.ppf(chances), rel=1e-9)
    assert (prior.quantile(0), prior.quantile(1)) == pytest.approx(
        tuple(meant.ppf([1e-9, 1 - 1e-9])), rel=1e-6
    )


ROUNDED: list[tuple[Spec, float, Any]] = [
    ({"distribution": "q_uniform", "min": 8, "max": 32, "q": 8}, 8, stats.uniform(8, 24)),
    ({"distribution": "q_uniform", "min": 0.2, "max": 1.1, "q": 0.3}, 0.3, stats.uniform(0.2, 0.9)),
    ({"distribution": "q_uniform", "min": 1, "max": 5}, 1, stats.uniform(1, 4)),
    (
        {"distribution": "q_log_uniform", "min": 2, "max": 5, "q": 16},
        16,
        stats.loguniform(math.exp(2), math.exp(5)),
    ),
    (
        {"distribution": "q_log_uniform_values", "min": 16, "max": 256, "q": 8},
        8,
        stats.loguniform(16, 256),
    ),
    ({"distribution": "q_normal", "mu": 1, "sigma": 0.2, "q": 0.1}, 0.1, stats.norm(1, 0.2)),
    (
        {"distribution": "q_log_normal", "mu": 3, "sigma": 0.5, "q": 10},
        10,
        stats.lognorm(s=0.5, scale=math.exp(3)),
    ),
    ({"distribution": "q_beta", "a": 2, "b": 2, "q": 0.25}, 0.25, stats.beta(2, 2)),
]


@pytest.mark.parametrize(("spec", "step", "meant"), ROUNDED, ids=[str(c[0]) for c in ROUNDED])
def test_rounded_numbers_are_the_nearest_multiples(spec: Spec, step: float, meant: Any) -> None:
    values = drawn(spec)
    whole = step == int(step)
    assert all(isinstance(value, int if whole else float) for value in values)
    distribution = dimension(spec).distribution
    assert all(contains(distribution, value) for value in values)
    counts = Counter(round(value / step) for value in values)
    assert all(value == pytest.approx(round(value / step) * step) for value in values)
    # Round(X / q) * q is k * q for X between (k - 1/2) q and (k + 1/2) q.
    steps = np.arange(min(counts), max(counts) + 1)
    chances = meant.cdf((steps + 0.5) * step) - meant.cdf((steps - 0.5) * step)
    assert sum(chances) == pytest.approx(1, abs=0.01)
    often = chances * len(values) >= 5
    expected = np.append(chances[often], 1 - chances[often].sum()) * len(values) + 1e-9
    observed = np.array([counts[step] for step in steps[often]])
    observed = np.append(observed, len(values) - observed.sum())
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 0.01


def test_whole_numbers_are_those_between_both_ends() -> None:
    for spec in ({"min": 2, "max": 5}, {"distribution": "int_uniform", "min": 2, "max": 5}):
        counts = Counter(drawn(spec))
        assert sorted(counts) == [2, 3, 4, 5]
        assert stats.chisquare(list(counts.values())).pvalue > 0.01


def test_choices_are_drawn_evenly_or_by_their_probabilities() -> None:
    counts = Counter(drawn({"values": ["mse", "l1", 7]}))
    assert stats.chisquare([counts[v] for v in ("mse", "l1", 7)]).pvalue > 0.01
    spec = {"values": ["mse", "l1", "ssim"], "probabilities": [0.7, 0.3, 0.0]}
    counts = Counter(drawn(spec))
    assert counts["ssim"] == 0
    assert stats.chisquare([counts["mse"], counts["l1"]], [1400, 600]).pvalue > 0.01
    counts = Counter(drawn({"values": ["a", "b", "a"], "probabilities": [0.25, 0.5, 0.25]}))
    assert stats.chisquare([counts["a"], counts["b"]]).pvalue > 0.01


def test_a_value_is_what_the_command_line_would_have(compose: Any) -> None:
    values = ["a, b", None, True, 1e-05, 16.0, ["x", "y, z"], {"schedule": "cosine"}]
    found = dimension({"values": values}, "grid")
    assert found.texts == (
        "'a, b'",
        "null",
        "true",
        "1e-05",
        "16",
        "[x,'y, z']",
        "{schedule:cosine}",
    )
    assert [found.render(value) for value in found.values()] == list(found.texts)
    assert compose(f"optimizer={found.texts[-1]}")["optimizer"]["schedule"] == "cosine"
    one = dimension({"values": [1, True]}, "grid")
    assert [one.render(value) for value in one.values()] == ["1", "true"]


def test_constants_and_nested_parameters_have_dotted_keys() -> None:
    constants, space = read(
        {
            "optimizer": {
                "parameters": {
                    "schedule": {"value": "cosine"},
                    "ema_decay": {"distribution": "constant", "value": None},
                    "weight_decay": {"min": 0.0, "max": 0.1},
                }
            },
            "loss": {"values": ["mse", "ssim"]},
            "loss.scale": {"value": "sum"},
            "seed": {"values": [3, 1, 3]},
        },
        "random",
    )
    assert constants == ["optimizer.schedule=cosine", "optimizer.ema_decay=null", "loss.scale=sum"]
    assert [d.key for d in space.dimensions] == ["optimizer.weight_decay", "loss"]
    assert space.seeds == (3, 1)


@pytest.mark.parametrize(
    ("spec", "values"),
    [
        ({"values": ["b", "a", "b"]}, ["b", "a"]),
        ({"min": 2, "max": 5}, [2, 3, 4, 5]),
        ({"distribution": "q_uniform", "min": 8, "max": 32, "q": 8}, [8, 16, 24, 32]),
        ({"distribution": "q_uniform", "min": 0.1, "max": 0.38, "q": 0.1}, [0.1, 0.2, 0.3, 0.4]),
    ],
)
def test_a_grid_has_every_value_once(spec: Spec, values: list[Any]) -> None:
    found = dimension(spec, "grid")
    assert (list(found.values()), found.enumerated, found.prior) == (values, True, None)
    assert read({"seed": {"min": 0, "max": 2}}, "grid")[1].seeds == (0, 1, 2)


@pytest.mark.parametrize("kind", sorted(KEYS))
def test_every_distribution_is_searched_as_it_is_meant_or_refused_by_its_name(kind: str) -> None:
    given: Spec = {"value": 1, "values": [1, 2], "probabilities": [0.5, 0.5], "min": 1, "max": 3}
    spec = {"distribution": kind} | {key: given[key] for key in KEYS[kind] if key in given}
    bayes = {"categorical", "int_uniform", "uniform", "q_uniform", "log_uniform"}
    bayes |= {"log_uniform_values", "inv_log_uniform", "inv_log_uniform_values"}
    bayes |= {"q_log_uniform", "q_log_uniform_values"}
    known = {
        "grid": {"categorical", "int_uniform", "q_uniform"},
        "random": set(KEYS),
        "bayes": bayes,
    }
    for method, kinds in known.items():
        if kind == "constant":
            assert read({"x": spec}, method)[0] == ["x=1"]
        elif kind in kinds:
            found = dimension(spec, method)
            assert found.prior is None or method == "random"
        else:
            with pytest.raises(
                UserError, match=rf"`parameters.x` must be .* but got {kind}; .*random"
            ):
                dimension(spec, method)


def test_a_bayesian_search_rounds_on_a_logarithmic_scale_only_to_whole_numbers() -> None:
    spec = {"distribution": "q_log_uniform_values", "min": 8, "max": 128}
    found = dimension(spec, "bayes").distribution
    assert found == optuna.distributions.IntDistribution(8, 128, log=True)
    for other in ({"q": 8}, {"min": 0.1}):
        with pytest.raises(UserError, match="with q: 1 from 1 on"):
            dimension(spec | other, "bayes")


def test_only_a_random_sampler_heeds_a_prior() -> None:
    space = Space((dimension({"distribution": "normal"}),))
    with pytest.raises(UserError, match=r"sampler` must be random where `x` is drawn from normal"):
        with_priors(TPESampler(), space)
    plain = Space((Dimension("x", CategoricalDistribution(["a"]), ("a",)),))
    sampler = TPESampler()
    assert with_priors(sampler, plain) is sampler


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (5, r"`parameters.x` must have keys such as value"),
        ({}, r"`parameters.x` must have value, values, min and max"),
        ({"min": 1}, r"`parameters.x` must have value, values, min and max"),
        ({"distribution": "gumbel", "mu": 1}, r"distribution` must be one of constant, .*'gumbel'"),
        ({"distribution": "normal", "mean": 1}, r"must have mu and sigma as normal takes them"),
        ({"distribution": "uniform", "min": 1}, r"must have min and max as uniform takes them"),
        ({"values": [1], "max": 1}, r"must have values as categorical takes them"),
        ({"values": []}, r"`parameters.x.values` must be a list of values, but got \[\]"),
        ({"values": "mse,l1"}, r"must be a list of values, but got 'mse,l1'"),
        ({"min": 2, "max": 1}, r"`parameters.x.min` must be at most max, 1, but got 2"),
        (
            {"min": "1e-4", "max": 1.0},
            r"must be a number, but got '1e-4'; YAML wants a dot: 1.0e-4",
        ),
        ({"min": True, "max": 2}, r"`parameters.x.min` must be a number, but got True"),
        ({"min": 0.0, "max": float("nan")}, r"max` must be a number, but got nan"),
        ({"distribution": "int_uniform", "min": 1, "max": 2.5}, r"max` must be a whole number"),
        ({"distribution": "log_uniform_values", "min": 0, "max": 1}, r"min` must be above 0"),
        ({"distribution": "log_uniform", "min": 1, "max": 1000}, r"natural logarithm .*\(or take"),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0}, r"x.q` must be above 0"),
        ({"distribution": "normal", "sigma": -1}, r"x.sigma` must be above 0, but got -1"),
        ({"values": [1, 2], "probabilities": [0.5, 0.6]}, r"probabilities` must be .* add up to 1"),
        ({"values": [1, 2], "probabilities": [1.0]}, r"one for each of the values"),
        ({"values": [1, 2], "probabilities": [1.5, -0.5]}, r"numbers of 0 or more"),
        ({"parameters": {}}, r"`parameters.x.parameters` must be parameters by their names"),
        ({"parameters": {"y": {"value": 1}}, "value": 1}, r"must have nothing beside parameters"),
        ({"parameters": {"y": {"min": 2, "max": 1}}}, r"`parameters.x.parameters.y.min` must be"),
    ],
)
def test_a_parameter_that_is_none_is_refused(spec: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read({"x": spec}, "random")


@pytest.mark.parametrize("parameters", [None, {}, ["lr"], {"a b": {"value": 1}}, {1: {"value": 1}}])
def test_parameters_must_have_names(parameters: Any) -> None:
    with pytest.raises(UserError, match=r"`parameters` must"):
        read(parameters, "random")


@pytest.mark.parametrize(
    "spec", [{"min": 0, "max": 9}, {"values": ["a"]}, {"min": 0.0, "max": 1.0}]
)
def test_a_sampler_is_not_given_the_seed(spec: Spec) -> None:
    with pytest.raises(UserError, match=r"`parameters.seed` must be whole numbers in a list"):
        read({"seed": spec}, "random")


def test_logarithms_that_look_like_values_are_told(caplog: pytest.LogCaptureFixture) -> None:
    found = dimension({"distribution": "log_uniform", "min": 1e-4, "max": 1e-2})
    low, high = found.distribution.low, found.distribution.high  # type: ignore[attr-defined]
    assert (low, high) == (math.exp(1e-4), math.exp(1e-2))
    assert "values are between 1.0001 and 1.01005; log_uniform_values takes" in caplog.text
