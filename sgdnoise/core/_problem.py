"""What training minimises: the mean of the losses of n examples, and its derivatives."""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import is_torch_array
from jaxtyping import Shaped

from sgdnoise._extras import require
from sgdnoise.core._arrays import Array, as_numpy, concrete, namespace
from sgdnoise.core._independence import check_independence


@dataclass(frozen=True, eq=False)
class Problem:
    """L(theta) = (1/n) sum_i l_i(theta), where theta is one flat vector of p parameters.

    losses: (theta, *examples) -> (n,), the loss of each example, from one batched forward pass.
    examples: arrays of torch or jax with one leading axis n; the last of them is the target.
    Their library differentiates the losses: torch.func for torch, jax for jax and numpy.
    autodiff: what differentiates instead of it, with the grad, jvp, vmap and jacfwd of jax.
    size: the number of parameters p; None until a function is called with the first theta.
    rows: (theta, *examples) -> PerExampleGradients, if there is a better way than a matrix.
    backward: (theta, weights, shift, *examples) -> what `weighted_gradient` returns, if there is
    a faster way than automatic differentiation; shift may be None.
    All methods raise ValueError if theta is not a vector of `size` real numbers, or if the losses
    are not one number for each example.  `gradients` and `weighted_gradient` also raise it if the
    loss of an example is random or depends on other examples, which is tried once on a few of them.

    Example:
        >>> import jax.numpy as jnp
        >>> x, y = jnp.asarray([[1.0, 0.0], [0.0, 2.0]]), jnp.asarray([1.0, 1.0])
        >>> problem = Problem(lambda theta, x, y: (x @ theta - y) ** 2 / 2, (x, y))
        >>> problem.gradient(jnp.zeros(2)).tolist()
        [-0.5, -1.0]
        >>> problem.size
        2
    """

    losses: Callable[..., Any]
    examples: tuple[Any, ...]
    size: int | None = None
    rows: Callable[..., Any] | None = None
    backward: Callable[..., Any] | None = None
    autodiff: Any = None

    def __post_init__(self):
        _check_examples(self.examples)
        if self.autodiff is None:
            torch = is_torch_array(self.examples[0])
            module = require("torch.func", "torch") if torch else require("jax", "jax")
            object.__setattr__(self, "autodiff", module)

    def __len__(self):
        return self.examples[0].shape[0]

    def subset(self, index) -> "Problem":
        """The same problem on some of its examples; an example may be repeated.

        Raises ValueError for an index that no example has.
        """
        index = np.asarray(index) if isinstance(index, (list, tuple)) else index
        if isinstance(index, np.ndarray):
            index = np.flatnonzero(index) if index.dtype == bool else index.astype(int)
        if not _is_strict(self.examples[0]):
            _check_index(index, len(self))
        try:
            return self._of(tuple(array[index] for array in self.examples))
        except IndexError:
            _check_index(index, len(self))  # which says it in a sentence
            raise

    def with_target_shift(self, shift) -> "Problem":
        """The same problem with `shift` added to its targets."""
        *inputs, targets = self.examples
        return self._of((*inputs, targets + shift))

    def value(self, theta: Shaped[Array, " p"]) -> Shaped[Array, ""]:
        """The mean loss."""
        return self.example_losses(theta).mean()

    def example_losses(self, theta: Shaped[Array, " p"]) -> Shaped[Array, " n"]:
        """The loss of each example."""
        self._check_theta(theta)
        self.check_independence(theta)
        return self._checked(theta, self._losses(theta, *self.examples), len(self))

    def gradient(self, theta: Shaped[Array, " p"]) -> Shaped[Array, " p"]:
        """The gradient of the mean loss."""
        if self.backward is None:
            return self.autodiff.grad(self.value)(theta)
        xp, n = namespace(theta), len(self)
        weights = xp.broadcast_to(xp.ones_like(theta[:1]) / n, (n,))  # on the device of theta
        return self.weighted_gradient(theta, weights)

    def weighted_gradient(
        self, theta: Shaped[Array, " p"], weights: Shaped[Array, " n"], shift=None
    ) -> Shaped[Array, " p"]:
        """The gradient of sum_i w_i l_i, from one backward pass.

        With `shift`, an array like the targets, it is the gradient of
        sum_i (w_i l_i + <shift_i, dl_i / dtarget_i>), still from one backward pass.
        """
        self._check_theta(theta)
        self.check_independence(theta)
        if self.backward is not None:
            return self.backward(theta, weights, shift, *self.examples)
        if shift is None:
            return self.autodiff.grad(lambda t: (weights * self.example_losses(t)).sum())(theta)
        *inputs, targets = self.examples

        def total(t):
            losses, changes = self.autodiff.jvp(
                lambda labels: self._losses(t, *inputs, labels), (targets,), (shift,)
            )
            return (weights * self._checked(t, losses, len(self)) + changes).sum()

        return self.autodiff.grad(total)(theta)

    def gradients(self, theta: Shaped[Array, " p"]) -> Shaped[Array, "n p"]:
        """The gradient of the loss of each example.  It needs n x p memory."""
        self._check_theta(theta)
        self.check_independence(theta)

        def single_loss(t, *example):
            losses = self._losses(t, *(array[None] for array in example))
            return self._checked(t, losses, 1)[0]

        gradient = self.autodiff.grad(single_loss)
        return self.autodiff.vmap(gradient, (None, *[0] * len(self.examples)))(
            theta, *self.examples
        )

    def hvp(self, theta: Shaped[Array, " p"], vector: Shaped[Array, " p"]) -> Shaped[Array, " p"]:
        """The Hessian of the mean loss times a vector."""
        return self.autodiff.jvp(self.gradient, (theta,), (vector,))[1]

    def _of(self, examples) -> "Problem":
        """The same losses of other examples, which remembers the examples that it comes from."""
        _check_examples(examples)
        problem = copy(self)
        object.__setattr__(problem, "examples", examples)
        object.__setattr__(problem, "_origin", self._all_examples)
        return problem

    @property
    def _all_examples(self):
        return getattr(self, "_origin", self.examples)

    def check_independence(self, theta) -> None:
        """Raise ValueError if the loss of an example is random or depends on other examples.

        A few examples are tried once: in a batch, again, and alone, at random parameters of the
        size of theta.  Who gives `rows` or `backward` answers for the losses.
        """
        if self.rows is None and self.backward is None:
            check_independence(self.losses, self._all_examples, theta)

    def _losses(self, theta, *examples):
        try:
            return self.losses(theta, *examples)
        except IndexError as error:
            raise ValueError(
                f"the losses do not take these examples, such as a label out of range: {error}"
            ) from error

    def _check_theta(self, theta):
        """Raise ValueError unless theta is one vector, of the size that is known."""
        shape = tuple(getattr(theta, "shape", ()))
        if len(shape) != 1 or self.size not in (None, *shape):
            size = "all" if self.size is None else self.size
            raise ValueError(
                f"theta must be one vector of {size} parameters, not an array of shape {shape}"
            )
        kind = str(theta.dtype).rpartition(".")[2]
        if "float" not in kind:
            raise ValueError(f"theta must hold real numbers in floating point, not {kind}")
        if is_torch_array(theta) != is_torch_array(self.examples[0]):
            raise ValueError(
                "theta and the examples must be arrays of one library, not of torch and of another"
            )

    def _checked(self, theta, losses, n):
        """The losses, if they are one number for each example; the size is then that of theta."""
        shape = tuple(getattr(losses, "shape", ()))
        if shape != (n,):
            raise ValueError(
                f"losses must return one number for each of the {n} examples, an array of "
                f"shape ({n},), not {shape}; do not take the mean over the examples"
            )
        if self.size is None:
            object.__setattr__(self, "size", theta.shape[0])
        return losses


def _check_examples(examples):
    """Raise ValueError unless examples are a tuple of arrays of one library and one length."""
    if not isinstance(examples, tuple) or not examples:
        kind = "an empty tuple" if isinstance(examples, tuple) else type(examples).__name__
        raise ValueError(f"examples must be a tuple of arrays with one leading axis, not {kind}")
    if any(not getattr(array, "shape", ()) for array in examples):
        raise ValueError("examples must be arrays with a leading axis, one row for each example")
    lengths = [array.shape[0] for array in examples]
    if len(set(lengths)) > 1:
        raise ValueError(f"examples must have one length, not {lengths}")
    if len({is_torch_array(array) for array in examples}) > 1:
        raise ValueError("examples must be arrays of one library, not of torch and of another")


def _is_strict(array):
    """Whether the library of an array itself refuses an index that is out of range."""
    return is_torch_array(array) and array.device.type == "cpu"


def _check_index(index, n):
    """Raise ValueError for a known index that is out of range; jax would take the last example."""
    if isinstance(index, slice) or index is None or not getattr(index, "shape", ()):
        return
    if "int" in str(index.dtype) and concrete((index < -n).any() | (index >= n).any()):
        values = as_numpy(index)
        wrong = values[(values < -n) | (values >= n)][0]
        raise ValueError(f"there are {n} examples, and none has the index {wrong}")
