"""What theory says of label noise in these networks: its excess loss, and where it is claimed."""

import numpy as np
import torch

from sgdnoise.dimension import participation_ratio
from sgdnoise.theory import FlowRegime, label_noise_covariance, network_regime
from simulations.learned_dimension._nets import Task, hidden, losses, measured, traces


def jacobians(weights, inputs) -> tuple[np.ndarray, np.ndarray]:
    """The derivatives of outputs (n, o, p) and of hidden units (n, h, p) of the first network."""
    v, rows = weights[1][0], hidden(weights, inputs)[0]
    slopes, (h, o) = 1 - rows**2, v.shape
    by_w = torch.einsum("ni,na,aj->njia", inputs, slopes, v).flatten(2)
    by_v = torch.einsum("na,jk->njak", rows, torch.eye(o).to(rows)).flatten(2)
    of_hidden = torch.einsum("ni,na,ab->naib", inputs, slopes, torch.eye(h).to(rows)).flatten(2)
    none = of_hidden.new_zeros(len(inputs), h, v.numel())
    pairs = (by_w, by_v), (of_hidden, none)
    outputs, units = (torch.cat(pair, 2).numpy(force=True) for pair in pairs)
    return outputs, units


def residuals(weights, task: Task) -> np.ndarray:
    """Outputs of the first network less the targets without label noise, (n, o)."""
    return (hidden(weights, task.inputs)[0] @ weights[1][0] - task.targets).numpy(force=True)


def excess(weights, task: Task, time: float, **noise) -> float:
    """E L - L to the next order in the rate, Tr(H S) / 2, after some time under noise.

    noise: label_noise, learning_rate and batch_size, as for `label_noise_covariance`.
    """
    jacobian, _ = jacobians(weights, task.inputs)
    rows = label_noise_covariance(jacobian, residuals(weights, task), time=time, **noise).rows
    return float(0.5 * ((jacobian.reshape(-1, rows.shape[1]) @ rows.T) ** 2).sum() / len(jacobian))


def observed(weights, task: Task):
    """PR of the hidden layer, loss and Tr H of each network, (g, 3)."""
    with torch.no_grad():
        ratios = measured(participation_ratio, hidden(weights, task.inputs))
        return torch.stack([ratios, losses(weights, task), traces(weights, task.inputs)], 1)


def predictions(weights, task: Task, steps: int, **noise) -> dict:
    """What theory says of label noise along descent on L + kappa Tr H, by the names of results.

    weights: those of the records of the descent (t, ...), at equal times up to `steps` steps of
    SGD.  The excess loss and the small parameters are those of the second half alone.
    """
    ratio, loss, trace = (column.numpy(force=True) for column in observed(weights, task).T)
    first, records = len(loss) // 2 - 1, np.arange(1, len(loss) + 1)  # the record half way
    times = noise["learning_rate"] * steps * records / len(loss)
    later = [[layer[k : k + 1] for layer in weights] for k in range(first, len(loss))]
    added = np.full(len(loss), np.nan)
    added[first:] = [
        excess(w, task, time, **noise) for w, time in zip(later, times[first:], strict=True)
    ]
    small = regime(later[0], task, times[first:], [ratio[first:], trace[first:]], **noise)
    paths = {"descent_loss": loss, "descent_trace": trace, "excess": added}
    parameters = {name: value for name, value in small._asdict().items() if name != "error"}
    return {name: ("look", path) for name, path in paths.items()} | parameters


def regime(weights, task: Task, times, paths, **noise) -> FlowRegime:
    """The small parameters of label noise, for predicted paths (k, t) that start at the weights.

    They start without jitter, so that the covariance is that after the time of the paths.
    """
    jacobian, units = jacobians(weights, task.inputs)
    layers = [(hidden(weights, task.inputs)[0].numpy(force=True), units)]
    rest = residuals(weights, task)
    return network_regime(jacobian, layers, times, paths, residuals=rest, **noise)
