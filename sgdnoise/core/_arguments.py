"""The kinds of the arguments of public functions, checked before a function runs.

The same name means the same kind everywhere: `learning_rate` is a number of 0 or more, `batch_size`
a whole number, `hessian` an array.  Other arguments are of the kind of their annotation.  What
cannot be judged yet passes: traced values of jax, functions of the step, and objects of the
package.  Errors that numpy or Python raise in the function all the same, as of shapes that do not
fit, become one sentence with the arguments.
"""

import inspect
import math
from collections.abc import Callable
from functools import wraps
from numbers import Real
from typing import Any, TypeVar

import numpy as np

from sgdnoise.core._annotations import taker_of_annotation
from sgdnoise.core._arrays import is_jax_array, is_torch_array
from sgdnoise.core._checks import as_generator
from sgdnoise.core._failures import FAILURES, told
from sgdnoise.core._scalars import check_numbers, has_axes, number_of, shown, whole_of

Function = TypeVar("Function", bound=Callable)

POSITIVE = {"dt"}
NOT_NEGATIVE = {"learning_rate", "label_noise", "weight_decay", "temperature", "population_factor"}
WHOLE = {
    *("batch_size", "steps", "every", "block", "stretch", "batches", "outputs", "depth"),
    *("n", "draws", "projections", "fan_in", "fan_out", "n_probes", "pairs", "epochs", "chunk"),
}
ARRAYS = {
    *("hessian", "covariance", "moment", "inputs", "targets", "curvatures", "variances"),
    *("samples", "rows", "gram", "weights", "other_weights", "laws", "white", "mean", "jacobian"),
    *("residuals", "powers", "readout", "modes", "cross", "drift", "diffusion", "product", "noise"),
    *("start", "first", "second", "curvature", "theta", "values_left_out", "eigenvalues"),
}
NAMES = {"curvature": ("hessian", "gauss_newton")}  # texts that stand for an array
FINITE = ARRAYS - {"samples", "eigenvalues", "values_left_out", "rows", "theta", "start", "weights"}


def checked(function: Function, *, by_name: bool = True) -> Function:
    """The function, which first checks the kinds of its arguments.

    by_name: by the table of names, and else by annotations alone.
    Whole numbers may be given as floats, and arrays as lists, data frames or matrices; the function
    gets ints and plain arrays, in which integers and truth values became float64.
    Raises ValueError, in a sentence that names the argument, for values of another kind, and for
    errors of numpy or Python in the function, in a sentence that names them all.
    """
    parameters = inspect.signature(function).parameters
    takers = {name: taker for name, p in parameters.items() if (taker := _taker(name, p, by_name))}
    optional = {name for name, p in parameters.items() if p.default is None}
    order = [(name, takers.get(name)) for name in parameters]
    name_of = function.__qualname__.rpartition(".__init__")[0] or function.__name__

    @wraps(function)
    def guarded(*args, **kwargs):
        if args:
            args = tuple(
                value
                if place >= len(order) or order[place][1] is None
                else _taken(order[place][1], order[place][0], value, optional)
                for place, value in enumerate(args)
            )
        for name, value in kwargs.items():
            if name in takers:
                kwargs[name] = _taken(takers[name], name, value, optional)
        try:
            return function(*args, **kwargs)
        except FAILURES as error:
            if (sentence := told(error, name_of, order_of(args, kwargs))) is None:
                raise
            raise ValueError(sentence) from error

    def order_of(args, kwargs):
        return dict(zip(parameters, args, strict=False)) | kwargs

    guarded.guard = guarded  # type: ignore[attr-defined] # which further decorators keep
    return guarded  # type: ignore[return-value]


def checked_by_annotation(function: Function) -> Function:
    """The function, checked by its annotations alone: its names have kinds of their own."""
    return checked(function, by_name=False)


def _taken(taker, name, value, optional):
    return value if value is None and name in optional else taker(name, value)


def _taker(name, parameter, by_name) -> Callable[[str, Any], Any] | None:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return None
    if not by_name:
        return taker_of_annotation(parameter.annotation)
    if name in POSITIVE or name in NOT_NEGATIVE:
        return as_number
    if name in WHOLE:
        return as_whole
    if name == "rng":
        return _generator
    return as_plain if name in ARRAYS else taker_of_annotation(parameter.annotation)


def as_number(name: str, value):
    """A finite number, positive or not negative as its name asks; arrays and functions pass."""
    if callable(value) or has_axes(value) or isinstance(value, (tuple, list, dict)):
        if isinstance(value, (tuple, list, dict)):
            raise ValueError(f"{name} must be a number, not a {type(value).__name__}")
        check_numbers(name, value)
        return value
    number = number_of(name, value)
    if number is None:
        return value
    if name in POSITIVE and not number > 0:
        raise ValueError(f"{name} must be positive, not {shown(value)}")
    if name in NOT_NEGATIVE and not number >= 0:
        raise ValueError(f"{name} must be 0 or more and finite, not {shown(value)}")
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, not {shown(value)}")
    return value


def as_whole(name: str, value):
    """A whole number as an int, also if it is given as a float; arrays and functions pass."""
    if callable(value) or has_axes(value):
        check_numbers(name, value)
        return value
    whole = whole_of(name, value)
    return value if whole is None else whole


def _generator(_, value):
    """What `as_generator` takes, as it is."""
    as_generator(value)
    return value


def as_plain(name: str, value):
    """A plain array of real numbers; what is no array, such as an object of the package, passes."""
    if is_torch_array(value) or is_jax_array(value):
        return value
    if isinstance(value, (str, bytes)):
        if value in (names := NAMES.get(name, ())):
            return value
        choices = "".join(f", {choice!r}" for choice in names)
        raise ValueError(
            f"{name} must be an array of numbers{choices}, not the text {value[:20]!r}"
        )
    if isinstance(value, np.ma.MaskedArray):
        if np.ma.is_masked(value):
            raise ValueError(f"{name} has masked entries; fill or remove them first")
        value = value.data
    if type(value).__module__.startswith("scipy.sparse"):
        raise ValueError(f"{name} is sparse; give {name}.toarray()")
    if hasattr(value, "to_numpy"):  # of pandas, polars and xarray
        value = value.to_numpy()
    if type(value) in (list, tuple) and _of_numbers(value):
        try:
            value = np.asarray(value)
        except ValueError:
            raise ValueError(
                f"{name} must be an array, and these are lists of unequal length"
            ) from None
    if not isinstance(value, np.ndarray):
        return value
    return _real(name, np.asarray(value))


def _of_numbers(value):
    """Whether a list holds numbers, or lists of numbers, and no arrays."""
    return all(isinstance(v, Real) or (type(v) in (list, tuple) and _of_numbers(v)) for v in value)


def _real(name, array):
    """An array of numpy with real numbers, finite where its name asks for it."""
    if array.dtype.kind in "biu":
        return array.astype(float) if name in FINITE else array
    if array.dtype.kind == "O" and all(isinstance(item, Real) for item in array.flat):
        array = array.astype(float)
    if str(array.dtype).startswith("bfloat"):  # of ml_dtypes
        return array
    if array.dtype.kind != "f":
        wrong = "complex" if array.dtype.kind == "c" else f"of type {array.dtype}"
        raise ValueError(f"{name} must be an array of real numbers, and these are {wrong}")
    if name in FINITE and not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, and {_first_wrong(array)}")
    return array


def _first_wrong(array):
    place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
    return f"its entry {list(place)} is {array[place]}" if place else f"it is {array}"
