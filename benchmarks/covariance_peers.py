"""What other packages have of a gradient-noise covariance: what -> a function that computes it."""

from functools import partial
from importlib import import_module

import numpy as np
import torch
from torch import nn

__all__ = ["PEERS"]

MAX_NUMBERS = 2**29  # the most numbers of per-example gradients in memory, 2 GiB
CHUNK = 64  # examples whose gradients are in memory at the same time, for sums


def by_hand(task) -> dict:
    """torch.func."""
    from torch.func import functional_call, grad, jvp, vjp, vmap

    start = {name: piece.detach() for name, piece in task.net.named_parameters()}
    n, p = len(task.targets), task.p

    def value(theta, some):
        outputs = functional_call(task.net, theta, (task.inputs[some],))
        return task.losses(outputs, task.targets[some])

    def alone(theta, x, t):
        return task.losses(functional_call(task.net, theta, (x[None],)), t[None])[0]

    def product(vector):
        along = _like(vector, start)
        recorded = [jvp(partial(value, some=s), (start,), (along,))[1] for s in _batches(n, 256)]
        weights = torch.cat(recorded)
        weights = (weights - weights.mean()) / n
        backs = [(vjp(partial(value, some=s), start)[1](weights[s])[0]) for s in _batches(n, 256)]
        return sum(_flat(back) for back in backs)

    def rows(some):
        result = vmap(grad(alone), (None, 0, 0))(start, task.inputs[some], task.targets[some])
        return torch.cat([row.flatten(1) for row in result.values()], 1)

    def moments():
        mean, squares = torch.zeros(p), torch.zeros(p)
        for row in (rows(s) for s in _batches(n, CHUNK)):
            mean += row.sum(0) / n
            squares += row.square().sum(0) / n
        return mean, squares - mean**2

    def spectrum():
        row = torch.cat([rows(s) for s in _batches(n, CHUNK)])
        row -= row.mean(0)
        return torch.linalg.eigvalsh(row @ row.T)

    vector = torch.randn(p)
    result = {
        "product": lambda: product(vector),
        **dict.fromkeys(("trace", "diagonal", "noise scale"), moments),
        "top 10 pairs": lambda: _eigsh(product, p),
    }
    return result | ({"spectrum": spectrum} if n * p < MAX_NUMBERS else {})


def compiled(task) -> dict:
    """The same, after one product on two examples, which imports what torch needs for it."""
    by_hand(task._replace(inputs=task.inputs[:2], targets=task.targets[:2]))["product"]()
    return by_hand(task)


def curvlinops(task) -> dict:
    """The empirical Fisher of curvlinops."""
    built = import_module("curvlinops").EFLinearOperator
    if task.targets.ndim > 1:
        return {}
    data = [(task.inputs[s], task.targets[s]) for s in _batches(len(task.targets), 256)]
    pieces, settings = list(task.net.parameters()), {"check_deterministic": False}
    operator = built(task.net, nn.CrossEntropyLoss(), pieces, data, **settings)
    vector, few = torch.randn(task.p), [(task.inputs[:2], task.targets[:2])]
    built(task.net, nn.CrossEntropyLoss(), pieces, few, **settings) @ vector  # imports
    return {
        "product": lambda: operator @ vector,
        "top 10 pairs": lambda: _eigsh(lambda v: operator @ v, task.p),
    }


def backpack(task) -> dict:
    """First-order extensions of BackPACK."""
    package, extensions = import_module("backpack"), import_module("backpack.extensions")
    if task.targets.ndim > 1:
        return {}
    net = package.extend(task.net)
    loss, n = package.extend(nn.CrossEntropyLoss(reduction="sum")), len(task.targets)

    def passed(extension, name):
        sums = [torch.zeros_like(piece) for piece in net.parameters()]
        means = [torch.zeros_like(piece) for piece in net.parameters()]
        for subset in _batches(n, 256):
            net.zero_grad()
            with package.backpack(extension()):
                loss(net(task.inputs[subset]), task.targets[subset]).backward()
            for total, mean, piece in zip(sums, means, net.parameters(), strict=True):
                result = getattr(piece, name)
                total += result if result.shape == piece.shape else result.sum()
                mean += piece.grad / n
        return sums, means

    def diagonal():
        sums, means = passed(extensions.SumGradSquared, "sum_grad_squared")
        return [total / n - mean**2 for total, mean in zip(sums, means, strict=True)]

    def norms():
        sums, means = passed(extensions.BatchL2Grad, "batch_l2")
        signal = sum(mean.square().sum() for mean in means)
        return sum(total.flatten()[0] for total in sums) / n - signal, signal

    return {"trace": norms, "diagonal": diagonal, "noise scale": norms}


def nngeometry(task) -> dict:
    """The hooks of nngeometry."""
    hooks = import_module("nngeometry.backend").TorchHooksJacobianBackend
    vectors = import_module("nngeometry.object.vector")
    if task.targets.ndim > 1:
        return {}
    data = torch.utils.data.TensorDataset(task.inputs, task.targets)
    loader = torch.utils.data.DataLoader(data, 256)
    backend = hooks(task.net, lambda x, t: task.losses(task.net(x), t)[:, None])
    vector = vectors.PVector(backend.layer_collection, vector_repr=torch.randn(task.p))

    def gram():
        return backend.get_gram_matrix(loader).flatten(0, 1).flatten(1)

    return {
        "product": lambda: backend.implicit_mv(vector, loader),
        "trace": lambda: backend.implicit_trace(loader),
        "diagonal": lambda: backend.get_covariance_diag(loader),
        "top 10": lambda: _largest(gram().numpy()),
        "spectrum": lambda: torch.linalg.eigvalsh(gram()),
    }


PEERS = {
    "torch.func by hand": compiled,
    "curvlinops": curvlinops,
    "BackPACK": backpack,
    "nngeometry": nngeometry,
}


def _batches(n, size):
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _like(vector, named):
    """The parts of a flat vector."""
    sizes = [piece.numel() for piece in named.values()]
    both = zip(named.items(), vector.split(sizes), strict=True)
    return {name: piece.view_as(like) for (name, like), piece in both}


def _flat(named):
    return torch.cat([piece.flatten() for piece in named.values()])


def _eigsh(product, p, k=10):
    linalg = import_module("scipy.sparse.linalg")

    def run(vector):
        return product(torch.from_numpy(vector.reshape(-1).astype(np.float32))).detach().numpy()

    operator = linalg.LinearOperator((p, p), run, dtype=np.float32)
    return linalg.eigsh(operator, k, tol=1e-3)


def _largest(matrix, k=10):
    return import_module("scipy.sparse.linalg").eigsh(matrix, k, return_eigenvectors=False)
