"""What change of a layer's weights does the same as a change of its inputs."""

from jaxtyping import Float

from sgdnoise.core._arrays import Array, concrete, namespace


def dual_change(
    weights: Float[Array, "o d"],
    activations: Float[Array, "*examples d"],
    changed: Float[Array, "*examples d"],
) -> Float[Array, "*examples o d"]:
    r"""The smallest change of W by which a layer W a answers to a as it would to `changed`.

    dW = W (a' - a) a^T / |a|^2, so that (W + dW) a = W a' and the loss is the same; of all such
    changes it has the least norm, |W (a' - a)| / |a|, for any other adds what maps a to zero
    (Feng, Zhang & Tu, 2023).  For each example by itself: no one change serves them all unless the
    activations are linearly independent.  A bias is a coordinate of 1 in both.
    Raises ValueError where an activation is zero, which no change of weights can move.
    """
    xp = namespace(weights, activations, changed)
    squares = xp.sum(activations**2, axis=-1)
    if concrete(xp.any(squares == 0)):
        count = int(xp.sum(xp.astype(squares == 0, xp.int32)))
        raise ValueError(f"{count} activations are zero, which no change of weights can move")
    answer = (changed - activations) @ weights.T
    return answer[..., :, None] * (activations / squares[..., None])[..., None, :]
