"""Methods: what they are made of, and how their options are refused."""

from __future__ import annotations

from typing import Any

import pytest

import disca
from disca.caching.forecasts import RepeatChange, Reuse
from disca.caching.gates import Every, Given
from disca.caching.learned import Learned
from disca.caching.methods import METHODS, Method
from disca.caching.policy import Rule, check_policy
from disca.caching.polynomials import Taylor
from disca.caching.sites import Trunk
from tests.methods import COUNTED, SOME


def predictor(**_: Any) -> tuple[()]:
    return ()


def rule(when: Any, how: Any) -> tuple[Rule]:
    return (Rule(Trunk(), when, how),)


def test_methods_are_where_when_how() -> None:
    assert disca.reuse(every=4, warmup=2) == rule(Every(4, 2), Reuse())
    assert disca.repeat_change(full_steps=[0, 3]) == rule(Given((0, 3)), RepeatChange())
    assert disca.taylor(every=5, order=2, form="newton") == rule(Every(5), Taylor(2, "newton"))
    assert disca.disca(predictor, full_steps=disca.Schedule(8, (0, 2, 4, 7))) == rule(
        Given((0, 2, 4, 7), 8), Learned(predictor)
    )


@pytest.mark.parametrize("name", METHODS)
def test_each_method_is_public_named_and_cited(name: str) -> None:
    method = METHODS[name]
    assert method.name == name
    assert getattr(disca, name) is method.function
    paper, _, number = method.citation.partition("arXiv:")
    assert (number[:10] or paper.partition(",")[0]) in (method.function.__doc__ or "")


@pytest.mark.parametrize("name", METHODS)
def test_each_method_is_found_by_its_name(name: str) -> None:
    given = {"predictor": predictor} if "predictor" in METHODS[name].options else {}
    assert disca.from_name(name, **SOME[name], **given) == METHODS[name].function(**SOME[name], **given)


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "one of full_steps .* and every"),
        ({"every": 3, "full_steps": (0, 2)}, "one of full_steps .* and every"),
        ({"full_steps": (0, 2), "warmup": 2}, "go with every"),
        ({"full_steps": (0, 2), "force_last": True}, "go with every"),
        ({"full_steps": (2, 4)}, r"Did you mean \(0, 2, 4\)"),
        ({"full_steps": ()}, "one or more whole numbers"),
        ({"every": 0}, "is no counter"),
        ({"every": 3, "warm_up": 2}, "Unknown option of .* 'warm_up'. Did you mean 'warmup'"),
    ],
)
def test_options_that_do_not_fit_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    given = {"predictor": predictor} if "predictor" in METHODS[name].options else {}
    given |= {"ratio": 0.1} if "ratio" in METHODS[name].options else {}
    with pytest.raises(ValueError, match=message):
        disca.from_name(name, **given, **options)


def test_an_unknown_policy_is_told_the_nearest() -> None:
    with pytest.raises(
        ValueError, match=r"Unknown policy 'tayler'\. Did you mean 'taylor'\? Known: delta_dit, disca, "
    ):
        disca.from_name("tayler", every=3)


def test_disca_needs_a_predictor() -> None:
    with pytest.raises(ValueError, match="needs a predictor"):
        disca.from_name("disca", every=3)


def test_the_table_lists_each_name_once() -> None:
    assert all(isinstance(method, Method) for method in METHODS.values())
    assert len({method.function for method in METHODS.values()}) == len(METHODS)


@pytest.mark.parametrize("policy", [disca.taylor, (Reuse(),), 3])
def test_what_is_no_policy_is_refused(policy: Any) -> None:
    with pytest.raises(ValueError, match="A policy is a tuple of rules"):
        check_policy(policy)


def test_two_rules_for_one_site_are_refused() -> None:
    with pytest.raises(ValueError, match="Two rules of the policy are for one site"):
        check_policy(disca.reuse(every=2) + disca.taylor(every=2))


def test_names_and_words_in_the_place_of_policies_and_numbers_are_refused(hunyuan: Any) -> None:
    with pytest.raises(ValueError, match=r"from_name\('reuse'\)"):
        disca.attach(hunyuan, "reuse", timesteps=[1000.0, 500.0])
    with pytest.raises(ValueError, match="whole numbers; given '2'"):
        disca.reuse(every="2")
