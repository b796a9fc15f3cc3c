"""The dimension of what every layer of a network represents, in one call."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from sgdnoise.core._arguments import checked_by_annotation
from sgdnoise.core._dataset import as_dataset
from sgdnoise.core._estimate import Estimate, with_group_error
from sgdnoise.dimension._distance_ratios import twonn
from sgdnoise.dimension._spectral import participation_ratio
from sgdnoise.dimension._surrogate import covariance_spectrum, gaussian_twonn
from sgdnoise.nets._examples import leaves
from sgdnoise.nets._network import device_of, unwrapped
from sgdnoise.nets._watch._activations import (
    activations,
    dimensions,
    mapped_inputs,
    preserved,
)
from sgdnoise.nets._watch._probe import Probe

INPUT = "input"
RESERVED = {"units", "surrogate_twonn"}
FEWEST = 12  # examples
CHUNK = 256  # examples in a forward pass, where they do not come in batches


@checked_by_annotation
def representation_dimensions(
    net: nn.Module,
    inputs,
    *,
    layers: Collection[str] | None = None,
    points: int = 2000,
    pooled: bool | None = None,
    estimators: dict[str, Callable] | None = None,
    surrogate: bool = True,
):
    """The dimension of the outputs of each layer, with errors, an xarray Dataset along `layer`.

    inputs: a tensor, a tuple of them, or a dictionary by arguments, examples first; or an iterable
    of batches, such as a DataLoader, each of which is one of these.  A batch of two is (inputs,
    targets), whose targets are not used, as "labels" of a dictionary are not.  The first `points`
    examples are used.  Of each layer their outputs alone are held, (points, d).
    layers: names of net.named_modules(); by default all with a weight of two axes or more, in the
    order of the forward pass.  The first layer of the result is "input", or "(input)" where a layer
    of the network has that name.
    pooled: means over the positions of images and sequences, by default of convolutions alone;
    attrs["pooled"] names the layers.
    estimators: name -> function of a numpy array (n, d); by default `participation_ratio` and
    `twonn`, each with its error by `with_group_error`.
    surrogate: adds `surrogate_twonn`, the `twonn` of normal points of the same covariance.  Where
    `twonn` is not below it, curvature and clusters have no part in the dimension.
    The network is in eval, and is left as it was.  What cannot be measured is nan, with an
    UnmeasuredWarning.
    Raises ValueError for layers that do not exist or are not reached, for fewer than 12 examples,
    and for an estimator called "units" or "surrogate_twonn".

    Example:
        >>> net = nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 3))
        >>> result = representation_dimensions(net, torch.randn(300, 5))
        >>> result.layer.values.tolist(), sorted(result)[:2]
        (['input', '0', '2'], ['participation_ratio', 'participation_ratio_stderr'])
    """
    net = unwrapped(net)
    rows, pooled_layers = _rows(net, inputs, layers, points, pooled)
    measures = dict(_default() if estimators is None else estimators)
    if taken := RESERVED & set(measures):
        raise ValueError(f"an estimator cannot be called {min(taken)!r}, which has a meaning here")
    if surrogate:
        measures["surrogate_twonn"] = _of_surrogate
    record: dict[str, dict] = dimensions(rows, measures)
    record["units"] = {name: float(values.shape[1]) for name, values in rows.items()}
    n = len(next(iter(rows.values())))
    result = as_dataset({0: record}).isel(step=0, drop=True)
    return result.assign_attrs(examples=n, pooled=", ".join(pooled_layers))


def _default() -> dict[str, Callable]:
    return {
        "participation_ratio": partial(with_group_error, participation_ratio),
        "twonn": partial(with_group_error, twonn),
    }


def _of_surrogate(values) -> Estimate:
    return gaussian_twonn(covariance_spectrum(values), len(values))


def _rows(net, inputs, names, points, pooled):
    """layer -> (n, d) of the first examples, and the layers whose positions are averaged."""
    chunks: dict[str, list] = {}
    probe, points = None, int(points)
    left = points
    with preserved(net, training=False):
        for batch in _batches(inputs, device_of(net)):
            batch = mapped_inputs(lambda tensor, n=left: tensor[:n], batch)
            if probe is None:
                probe = Probe(net, batch, None, None, {}, {}, pooled, 0, 0, 1)
                probe.check()
                probe = probe.at_layers(names)
            here = replace(probe, inputs=batch)
            _, outputs = activations(net, batch, probe.layers, here.rows_of)
            own = f"({INPUT})" if INPUT in probe.layers else INPUT
            for name, values in {own: _input(batch), **outputs}.items():
                chunks.setdefault(name, []).append(values)
            left -= len(chunks[own][-1])
            if left <= 0:
                break
    if probe is None or points - left < FEWEST:
        raise ValueError(f"a dimension needs {FEWEST} examples or more, not {points - left}")
    averaged = [name for name, layer in probe.layers.items() if probe.pools(layer)]
    return {name: np.concatenate(parts) for name, parts in chunks.items()}, averaged


def _batches(inputs, device) -> Iterator[Any]:
    """The inputs in batches, as tuples or dictionaries, on the device of the network."""
    if isinstance(inputs, (torch.Tensor, tuple, Mapping)):
        whole = _as_inputs(inputs)
        for start in range(0, len(_first(whole)), CHUNK):
            span = slice(start, start + CHUNK)
            yield mapped_inputs(lambda tensor, span=span: tensor[span].to(device), whole)
        return
    if not isinstance(inputs, Iterable) or isinstance(inputs, str):
        raise ValueError(
            f"inputs are tensors or an iterable of batches, not {type(inputs).__name__}"
        )
    for batch in inputs:
        if isinstance(batch, (list, tuple)) and len(batch) == 2:
            batch = batch[0]
        yield mapped_inputs(lambda tensor: tensor.to(device), _as_inputs(batch))


def _as_inputs(batch):
    if isinstance(batch, Mapping):
        return {name: tensor for name, tensor in batch.items() if name != "labels"}
    batch = batch if isinstance(batch, (tuple, list)) else (batch,)
    if wrong := [part for part in leaves(tuple(batch)) if not torch.is_tensor(part)]:
        raise ValueError(f"inputs must be tensors, not {type(wrong[0]).__name__}")
    return tuple(batch)


def _first(batch):
    return next(iter(batch.values())) if isinstance(batch, Mapping) else batch[0]


def _input(batch) -> np.ndarray:
    """The inputs as rows (n, d)."""
    tensors = batch.values() if isinstance(batch, Mapping) else batch
    rows = [t.detach().to("cpu", torch.float64).reshape(len(t), -1) for t in tensors]
    return torch.cat(rows, 1).numpy()
