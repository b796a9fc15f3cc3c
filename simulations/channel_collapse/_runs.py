"""SGD on a network in place, of all weights or of a few channels alone."""

import numpy as np
import torch
import torch.nn.functional as F


def sgd(net, inputs, labels, rate: float, order, only=None) -> float:
    """A step of SGD for each batch of photographs; the mean loss of the last quarter.

    order: the photographs of each batch (steps, batch).  only: channels whose (v, w, b) alone are
    changed.  Ends at a loss that is not finite: nan.
    """
    weights = list(net.parameters()) if only is None else _weights(net, only)
    masks = None if only is None else _masks(net, only)
    losses = []
    for index in torch.as_tensor(order, device=inputs.device):
        loss = F.cross_entropy(net(inputs[index]), labels[index])
        if not torch.isfinite(loss):
            return float("nan")
        slopes = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for place, (weight, slope) in enumerate(zip(weights, slopes, strict=True)):
                weight -= rate * (slope if masks is None else slope * masks[place])
        losses.append(float(loss.detach()))
    return float(np.mean(losses[-max(1, len(order) // 4) :]))


def _weights(net, channels):
    weights = []
    for block, _ in channels:
        module = net.get_submodule(block)
        weights += [module.conv2.weight, module.bn1.weight, module.bn1.bias]
    return weights


def _masks(net, channels):
    masks = []
    for block, number in channels:
        module = net.get_submodule(block)
        for place, weight in enumerate((module.conv2.weight, module.bn1.weight, module.bn1.bias)):
            mask = torch.zeros_like(weight)
            mask[(slice(None), number) if place == 0 else number] = 1
            masks.append(mask)
    return masks
