"""Arguments of another kind are refused by every public function, in a sentence that names them.

The guard of a function reads its arguments before the function does, so that a wrong one is refused
even if the others are missing.
"""

import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
import torch

from sgdnoise import noise, theory
from sgdnoise.core import Problem
from sgdnoise.core._arguments import ARRAYS, FINITE, NOT_NEGATIVE, POSITIVE, WHOLE, checked
from sgdnoise.dynamics import sgd

HOMES = "core", "noise", "dynamics", "theory"
NAN, INF = float("nan"), float("inf")
NO_NUMBERS = ["0.1", b"1", True, np.True_, [0.1], (1,), {}, 1j, 10**400]
WRONG = {
    "positive": [
        *(0, -1, -0.1, NAN, INF, np.float32(-0.1), np.int64(-3), np.array(-1.0)),
        *(torch.tensor(-0.1), jnp.asarray(-0.1), np.float16(0), *NO_NUMBERS),
    ],
    "not negative": [-1, -0.1, NAN, INF, np.float32(-0.1), torch.tensor(NAN), *NO_NUMBERS],
    "whole": [2.5, NAN, INF, np.float32(0.5), torch.tensor(1.5), np.array(2.5), *NO_NUMBERS[:4]],
    "array": [
        "abc",
        np.asarray(["a", "b"]),
        np.asarray([1.0, None], dtype=object),
        np.ones(2) * 1j,
        np.ma.masked_array([1.0, 2.0], mask=[False, True]),
        scipy.sparse.csr_array(np.eye(2)),
        scipy.sparse.coo_matrix(np.eye(2)),
        [[1.0], [1.0, 2.0]],
    ],
    "finite": [np.asarray([1.0, NAN]), np.diag([1.0, INF]), [1.0, -INF]],
}


KINDS = {
    "positive": POSITIVE,
    "not negative": NOT_NEGATIVE,
    "whole": WHOLE,
    "array": ARRAYS,
    "finite": FINITE,
}
UNGUARDED = {"mlp_problem"}  # whose targets may be classes


def public_functions():
    for home in HOMES:
        module = importlib.import_module(f"sgdnoise.{home}")
        for name in module.__all__:
            if inspect.isfunction(function := getattr(module, name)) and name not in UNGUARDED:
                yield pytest.param(function, id=f"{home}.{name}")


@pytest.mark.parametrize("function", [*public_functions()])
def test_every_function_with_an_argument_of_the_table_is_guarded(function):
    names = {*inspect.signature(function).parameters} & set().union(*KINDS.values())
    assert not names or hasattr(function, "guard"), names


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_of_another_kind_is_refused_by_name(kind):
    for name in KINDS[kind]:
        taker = checked(_function_of(name))
        for wrong in WRONG[kind]:
            with pytest.raises(
                ValueError, match=rf"^{name} (must be|is sparse|has masked)"
            ) as seen:
                taker(wrong)
            assert len(str(seen.value)) < 160
            assert "\n" not in str(seen.value)
            with pytest.raises(ValueError, match=rf"^{name} "):
                taker(**{name: wrong})


def _function_of(name):
    """A function of one argument of this name."""
    scope: dict = {}
    exec(f"def function({name}): return {name}", scope)
    return scope["function"]


def test_what_is_known_only_later_passes():
    take = checked(lambda learning_rate, batch_size=None: (learning_rate, batch_size))
    schedule = lambda step: 0.1 / (1 + step)  # noqa: E731
    for value in (schedule, jnp.asarray([0.1, 0.2]), np.asarray([0.1]), torch.ones(3), 0.1):
        assert take(value)[0] is value
    assert float(jax.jit(lambda rate: take(rate)[0])(0.1)) == pytest.approx(0.1)
    assert take(0.1, None) == (0.1, None)


@pytest.mark.parametrize("four", [4.0, np.int64(4), np.float32(4), np.array(4), torch.tensor(4)])
def test_whole_numbers_of_any_type_become_ints(four):
    take = checked(lambda batch_size: batch_size)
    assert take(four) == 4
    assert type(take(four)) is int
    problem = Problem(lambda t, x: (x @ t) ** 2, (jnp.ones((6, 2)),))
    assert noise.minibatch(problem, four).draw == noise.minibatch(problem, 4).draw


OTHERS = {
    "small integers": lambda a: a.astype(np.uint8),
    "matrix": lambda a: a.view(np.matrix),
    "masked array without masks": np.ma.masked_array,
    "list": np.ndarray.tolist,
    "objects": lambda a: a.astype(object),
    "data frame": lambda a: pytest.importorskip("pandas").DataFrame(a),
    "data array": lambda a: pytest.importorskip("xarray").DataArray(a),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_arrays_of_any_kind_become_plain_float64(kind):
    """No overflow of small integers, and no product of matrices in place of one of entries."""
    hessian, covariance = np.diag([10.0, 20.0, 30.0]), np.diag([100.0, 50.0, 25.0])
    expected = theory.excess_loss(hessian, covariance)
    assert theory.excess_loss(OTHERS[kind](hessian), OTHERS[kind](covariance)) == expected


def test_a_rate_of_numpy_or_torch_is_used_as_it_is():
    problem = Problem(lambda t, x: (x @ t) ** 2, (jnp.ones((6, 2)),))
    for rate in (np.float32(0.1), np.array(0.1)):
        process = sgd(noise.full_batch(problem), rate)
        assert process is not None
