"""Per-example gradients of a network as an operator, and their covariance."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, wraps
from typing import Any

import torch
from torch import nn

from sgdnoise.core._arguments import checked_by_annotation
from sgdnoise.core._arrays import device as _device
from sgdnoise.core._gradients import CentredGradients
from sgdnoise.nets._batches import Batches
from sgdnoise.nets._checks import check_block, listed
from sgdnoise.nets._examples import Examples
from sgdnoise.nets._network import Network, device_of, plain_torch, unwrapped
from sgdnoise.nets._per_example._curvature import curvature_product
from sgdnoise.nets._per_example._gram import gram, layers, mirrored
from sgdnoise.nets._per_example._plan import Block, Plan
from sgdnoise.nets._per_example._stored import as_double

HIDING = (
    1e4  # square of the mean over the variance, above which rounding of the one hides the other
)
MAX_EXAMPLES = 512  # examples in one pass over the network
MAX_LAYER_NUMBERS = 1 << 23  # numbers in the inputs and outputs of all layers, in one pass


def _in_plain_torch(method):
    """A method that computes without the autocast and the inference mode of its caller."""

    @wraps(method)
    def inner(self, *args):
        with plain_torch(self.device), torch.no_grad():
            return method(self, *args)

    return inner


@dataclass(frozen=True, eq=False)
class NetworkGradients:
    """Per-example gradients (n, p) of a network as PerExampleGradients; they are never stored.

    shapes: name -> shape of each parameter, in the order of the flat vector.
    routes: name -> the kind of layer from which the gradient of that parameter is computed, or
    "torch.func".
    blocks: () -> the gradients, block by block of examples, stored or recomputed each time.
    networks: () -> the network, block by block of examples.
    like: a number of the type and on the device of the gradients.

    Example:
        >>> import torch
        >>> from sgdnoise.nets import models, per_example_gradients
        >>> net = models.mlp([4, 3, 2], seed=0)
        >>> loss = torch.nn.CrossEntropyLoss(reduction="none")
        >>> rows = per_example_gradients(net, loss, torch.randn(20, 4), torch.arange(20) % 2)
        >>> rows.n, rows.p == sum(parameter.numel() for parameter in net.parameters())
        (20, True)
        >>> rows.layer("1").p  # 3 x 4 weights and 3 biases
        15
    """

    n: int
    shapes: dict
    routes: dict
    blocks: Callable[[], Iterable[Block]]
    networks: Callable[[], Iterable[Network]]
    like: Any

    @property
    def p(self):
        return sum(shape.numel() for shape in self.shapes.values())

    @property
    def device(self):
        return _device(self.like)

    def ones(self):
        return self.like.new_ones(self.n)

    @_in_plain_torch
    def project(self, vectors):
        # Each vector lies in one piece, so that its parts are views in the parameters' shapes.
        views = self._views(vectors.t().contiguous())
        columns = torch.cat([self._products(block, views) for block in self.blocks()])
        return columns.view(self.n, *vectors.shape[1:])

    @_in_plain_torch
    def combine(self, weights):
        if len(weights) != self.n:
            raise ValueError(f"{self.n} gradients take as many weights, not {len(weights)}")
        flat, views = self._empty(*weights.shape[1:])
        start = 0
        for block in self.blocks():
            _add(block, weights[start : start + block.n], views)
            start += block.n
        return flat

    @_in_plain_torch
    def normal(self, vectors, shift):
        # G^T (G v - shift) in a single pass: recomputed blocks cost a pass over the network.
        flat, views = self._empty(*vectors.shape[1:])
        directions = self._views(vectors.t().contiguous())
        for block in self.blocks():
            _add(block, self._products(block, directions) - shift, views)
        return flat

    @_in_plain_torch
    def squares(self):
        """|g_i|^2, (n,), summed over layers in float64, since traces subtract such sums."""
        zero = self.like.double()
        return torch.cat([_total(b, zero, lambda p: p.squares()) for b in self.blocks()])

    @_in_plain_torch
    def column_squares(self):
        flat, (views,) = self._empty()
        for block in self.blocks():
            for gradient_form in block.forms:
                gradient_form.column_squares(views)
        return flat

    @_in_plain_torch
    def gram(self):
        out = self.like.new_zeros(self.n, self.n)
        # Layer by layer with all blocks of examples, since the matrix pairs examples across blocks.
        routes, blocks = None, []
        while routes != self.routes:  # a route may turn out slow after some of the blocks
            routes = {**self.routes}
            blocks = [block.forms for block in self.blocks()]
        for layer in layers(blocks):
            gram(layer, out)
        return mirrored(out)

    def about(self, mean) -> CentredGradients:
        """The gradients without their mean, as for a noise scale."""
        plain = CentredGradients(self, mean)
        if float(mean @ mean) <= HIDING * float(plain.squares().mean()):
            return plain
        return GradientsAboutMean(self, mean)

    def curvature(self, kind: str) -> Callable:
        """v -> Hv for the mean loss, with kind "hessian" or "gauss_newton", at these parameters.

        Of some of the parameters it is the block of the matrix that belongs to them.
        Raises ValueError for another kind, and for a network without second derivatives.
        """
        return curvature_product(self.networks, self.n, [*self.shapes], kind)

    def double(self) -> "NetworkGradients":
        """The same gradients, with sums and products in double precision."""

        def blocks():
            return (Block(b.n, [as_double(form) for form in b.forms]) for b in self.blocks())

        return replace(self, blocks=blocks, like=self.like.double())

    def layer(self, name: str) -> "NetworkGradients":
        """The same examples, of one parameter or of all below a module's name."""
        names = {key for key in self.shapes if key == name or key.startswith(f"{name}.")}
        if not names:
            raise ValueError(f"no parameter is called {name!r}; there are {listed(self.shapes)}")
        return self._of(names)

    def by_parameter(self) -> dict[str, "NetworkGradients"]:
        """name -> the same examples, of that parameter alone."""
        return {name: self._of({name}) for name in self.shapes}

    def _of(self, names):
        def blocks():
            for block in self.blocks():
                forms = (form.restricted_to(names) for form in block.forms)
                yield Block(block.n, [form for form in forms if form is not None])

        shapes, routes = ({k: d[k] for k in d if k in names} for d in (self.shapes, self.routes))
        return replace(self, shapes=shapes, routes=routes, blocks=blocks)

    def _products(self, block, views):
        """Inner products of the gradients of a block with each of some vectors, (b, k)."""
        like = self.like
        # One vector at a time: several together would multiply the temporaries of the layers.
        return torch.stack([_total(block, like, lambda p, v=v: p.project(v)) for v in views], 1)

    def _empty(self, *shape):
        """Zeros (p,) or (p, k), each vector in one piece, and their views by parameter."""
        # As (k, p) in memory: views of columns in the shapes of parameters would not be contiguous.
        flat = self.like.new_zeros(*shape, self.p)
        return flat.t(), self._views(flat)

    def _views(self, flat):
        """The parameters by name, as views of one vector (p,) or of each of (k, p)."""
        sizes = [shape.numel() for shape in self.shapes.values()]
        rows = (zip(self.shapes.items(), row.split(sizes), strict=True) for row in _several(flat))
        return [{name: form.view(shape or 1) for (name, shape), form in row} for row in rows]


class GradientsAboutMean(CentredGradients):
    """Gradients of a network without their mean, centred in double precision."""

    rows: NetworkGradients

    @cached_property
    def wide(self):
        """The gradients in double precision, and their mean."""
        wide = self.rows.double()
        return wide, wide.combine(wide.ones() / wide.n)

    @cached_property
    def along(self):
        wide, mean = self.wide
        return wide.project(mean)

    def project(self, vector):
        values = self.wide[0].project(vector.to(torch.float64))
        return (values - values.mean(0)).to(vector.dtype)

    def squares(self):
        wide, mean = self.wide
        return (wide.squares() - 2 * self.along + mean @ mean).clamp(min=0)

    def column_squares(self):
        wide, mean = self.wide
        return (wide.column_squares() - self.n * mean**2).clamp(min=0)

    def gram(self):
        wide, mean = self.wide
        return wide.gram() - self.along - self.along[:, None] + mean @ mean


def _several(vectors):
    return vectors if vectors.ndim > 1 else vectors[None]


def _add(block, weights, views):
    """Add to each view the sum of the gradients of a block, with weights (b,) or (b, k)."""
    for gradient_form in block.forms:
        for column, view in zip(_several(weights.t()), views, strict=True):
            gradient_form.combine(column, view)


def _total(block, zero, measure):
    """A number for each example, summed over the forms of a block."""
    total = zero.new_zeros(block.n)
    for form in block.forms:
        total += measure(form)
    return total


@checked_by_annotation
def per_example_gradients(
    net: nn.Module, losses: Callable, inputs, targets=None, *, block: int | None = None
) -> NetworkGradients:
    """The gradients of the losses (n,) of n examples with respect to all trainable parameters.

    inputs: a tensor, examples first; a tuple of them, for a network of several arguments; or a
    dictionary of them by the names of the arguments.  targets: what the losses take, a tensor or a
    tuple or dictionary of them.  losses: (outputs, targets) -> (n,).  They may read the parameters
    of the network, as weight decay does, or call the network again.
    inputs may also be an iterable of batches without targets, such as a DataLoader: each batch is
    (inputs, targets), or a dictionary with the targets as "labels".  It needs `block`, is gone
    through anew whenever something is asked, and must have the same batches each time.
    The gradient of a linear layer is sum_t d_it a_it^T of its input a and the gradient d of its
    output, and similarly for convolutions, embeddings and norms, wherever the network calls them.
    Only a and d are stored, and of small layers the gradient itself.  Parameters without such a
    formula go through torch.func or, if that fails, through autograd example by example, with a
    FallbackWarning.  Formulas are compared with autograd on some of the examples, and on all of
    them if the network does more than to treat each example alike, as with indexing.
    block: store nothing, and pass over the network again, `block` examples at a time, whenever
    something is asked.  In both cases the network is used as it is now: its trained parameters,
    buffers and modes may change later, but not its frozen parameters and the examples, which are
    not copied.  Autocast is off, compiled parts run uncompiled, and hooks on the gradients of
    parameters do not run.
    Raises ValueError for a block below 1; losses of another shape than (n,); fewer than 2
    examples, or examples that are not tensors on the device of the network; a network that is
    random (dropout), mixes its examples (batch norm in training), changes them or its parameters
    in place, is scripted, or has no trainable parameters or such in half precision; losses that
    hold parameters by references of their own; a network or loss that does not take the examples;
    and for losses or gradients that are not finite, naming example and layer.

    Example:
        >>> import torch
        >>> net = torch.nn.Linear(2, 1, bias=False)
        >>> inputs = torch.tensor([[1.0, 0.0], [3.0, 2.0]])
        >>> rows = per_example_gradients(net, lambda out, y: out[:, 0] - y, inputs, torch.zeros(2))
        >>> rows.gram().tolist()  # the gradient of w x is x
        [[1.0, 3.0], [3.0, 13.0]]
    """
    check_block(block)
    net = unwrapped(net)
    with plain_torch(device_of(net)):
        if targets is None and not isinstance(inputs, (torch.Tensor, tuple, Mapping)):
            return _streamed(net, losses, Batches.of(inputs, net), block)
        network = Network.of(net, losses, Examples.of(inputs, targets))
        return gradients_by_plan(Plan.of(network), block)


def gradients_by_plan(plan: Plan, block: int | None = None) -> NetworkGradients:
    """The per-example gradients, by the routes of a plan."""
    n = len(plan.network)
    step = block or max(1, min(MAX_EXAMPLES, MAX_LAYER_NUMBERS // plan.numbers_per_example))

    def blocks():
        return (plan.block(span) for span in spans(n, step))

    def networks():
        examples = plan.network.examples
        return (replace(plan.network, examples=examples.at(span)) for span in spans(n, step))

    if block:
        return _gradients(plan, n, blocks, networks)
    # Even if all is stored, passes are limited: each holds the graph of all layers for autograd.
    routes, stored = None, None
    while routes != plan.routes:  # a route that turns out wrong is left in the blocks before it too
        routes = {**plan.routes}
        stored = list(blocks())
    return _gradients(plan, n, lambda: stored, networks)


def spans(n: int, step: int) -> list[slice]:
    """The numbers 0, ..., n - 1 in slices of `step`."""
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def _streamed(net, losses, batches: Batches, block) -> NetworkGradients:
    """The gradients of examples that come in batches, of which one is held at a time."""
    if block is None:
        raise ValueError("batches of examples are gone through again each time: this needs block=")
    network = Network.of(net, losses, batches.first)
    plan = Plan.of(network)
    of_batches: dict = {}

    def blocks():
        for number, examples in enumerate(batches):
            here = replace(network, examples=examples)
            known = of_batches.setdefault(number, set())
            local = replace(plan, network=here, reference=(), checked=known)
            for span in spans(len(examples), block):
                yield local.block(span)

    def networks():
        return (replace(network, examples=examples) for examples in batches)

    return _gradients(plan, batches.n, blocks, networks)


def _gradients(plan, n, blocks, networks):
    tensors = plan.network.tensors
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    like = next(iter(tensors.values())).new_zeros(())
    return NetworkGradients(n, shapes, plan.routes, blocks, networks, like)
