"""Gradient noise under other labels, compared by inner products of gradients alone."""

from jaxtyping import Float

from sgdnoise.core._arrays import Array, namespace


def fisher_trace(gram: Float[Array, "N N"], weights: Float[Array, " N"]) -> Float[Array, ""]:
    """Trace of sum_a w_a g_a g_a^T, from the inner products of the gradients g_a."""
    xp = namespace(gram)
    return xp.sum(weights * xp.linalg.diagonal(gram))


def fisher_inner_product(
    gram: Float[Array, "N N"], weights: Float[Array, " N"], other_weights: Float[Array, " N"]
) -> Float[Array, ""]:
    """Tr(A B) of A = sum_a v_a g_a g_a^T and B = sum_a w_a g_a g_a^T: sum_ab v_a w_b (g_a g_b)^2.

    With each example once for every label, g_iy, weights p(y|x_i) / n make the Fisher information,
    which for softmax and cross-entropy is the Gauss-Newton matrix; ones for the labels that the
    data have, over n, make the second moment of their gradients, the "empirical Fisher", which is
    another matrix (Kunstner, Balles & Hennig, 2019).
    """
    return weights @ (gram**2 @ other_weights)


def fisher_scatter(gram: Float[Array, "N N"], laws: Float[Array, "n y"]) -> Float[Array, ""]:
    """E |A - F|^2 of the second moment A of gradients whose labels are drawn from the laws p_i.

    (1 / n^2) sum_i ( sum_y p_iy |g_iy|^4 - |F_i|^2 ), |F_i|^2 = sum_yz p_iy p_iz (g_iy g_iz)^2:
    examples are independent, and F = mean_i F_i is the mean.  gram: N = n y, labels innermost.
    """
    xp, (n, labels) = namespace(gram), laws.shape
    squares = xp.reshape(gram**2, (n, labels, n, labels))
    same_example = xp.stack([squares[i, :, i, :] for i in range(n)])
    diagonal = xp.sum(laws * xp.linalg.diagonal(same_example))
    outer = xp.sum(laws[:, :, None] * same_example * laws[:, None, :])
    return (diagonal - outer) / n**2
