"""Second moments of gradients under several labels, from inner products alone."""

from jaxtyping import Shaped

from sgdnoise.core._arguments import checked
from sgdnoise.core._arrays import Array, namespace, same_library, widened


@checked
def fisher_trace(gram: Shaped[Array, "N N"], weights: Shaped[Array, " N"]) -> Shaped[Array, ""]:
    """The trace of sum_a w_a g_a g_a^T, from the Gram matrix (N, N) of the gradients g_a.

    It equals sum_a w_a |g_a|^2.  weights (N,): see `fisher_inner_product`.

    Example:
        >>> import numpy as np
        >>> gram = np.diag([1.0, 2.0, 3.0])
        >>> float(fisher_trace(gram, np.full(3, 1 / 3)))
        2.0
    """
    gram, weights = _checked(gram, weights=weights)
    xp = namespace(gram)
    return xp.sum(weights * xp.linalg.diagonal(gram))


@checked
def fisher_inner_product(
    gram: Shaped[Array, "N N"], weights: Shaped[Array, " N"], other_weights: Shaped[Array, " N"]
) -> Shaped[Array, ""]:
    """Tr(A B) for A = sum_a v_a g_a g_a^T and B = sum_a w_a g_a g_a^T: sum_ab v_a w_b (g_a g_b)^2.

    gram: the inner products g_a g_b (N, N); weights v and other_weights w (N,).  If each example
    appears once for each label, weights p(y|x_i) / n give the Fisher information, which for softmax
    and cross-entropy is the Gauss-Newton matrix.  Weights 1 / n for the labels of the data give the
    second moment of their gradients, the "empirical Fisher", which is another matrix (Kunstner,
    Balles & Hennig, 2019).

    Example:
        >>> import numpy as np
        >>> gram = np.diag([1.0, 2.0, 3.0])
        >>> float(fisher_inner_product(gram, np.full(3, 1 / 3), np.full(3, 1 / 3)))
        1.5555555555555554
    """
    gram, weights, other_weights = _checked(gram, weights=weights, other_weights=other_weights)
    return weights @ (gram**2 @ other_weights)


@checked
def fisher_scatter(gram: Shaped[Array, "N N"], laws: Shaped[Array, "n y"]) -> Shaped[Array, ""]:
    """E |A - F|^2 for the second moment A of gradients with labels drawn from the laws p_i.

    (1 / n^2) sum_i ( sum_y p_iy |g_iy|^4 - |F_i|^2 ) with |F_i|^2 = sum_yz p_iy p_iz (g_iy g_iz)^2.
    F = mean_i F_i is the mean of A; examples are independent.
    gram: inner products (N, N) with N = n y, labels fastest.  laws: p_iy (n, y).

    Example:
        >>> import numpy as np
        >>> g = np.asarray([[0.5], [-0.5]] * 2)  # two examples with two labels each
        >>> float(fisher_scatter(g @ g.T, np.full((2, 2), 0.5)))  # g^2 is 1 / 4 for sure
        0.0
        >>> g = np.asarray([[1.0], [-1 / 3]] * 2)
        >>> round(float(fisher_scatter(g @ g.T, np.asarray([[0.25, 0.75]] * 2))), 4)  # 2 / 27
        0.0741
    """
    laws = widened(laws, "laws")
    gram, _ = _checked(gram, laws=laws.reshape(-1))
    laws = same_library(laws, gram)
    xp, (n, labels) = namespace(gram), laws.shape
    squares = xp.reshape(gram**2, (n, labels, n, labels))
    same_example = xp.stack([squares[i, :, i, :] for i in range(n)])
    diagonal = xp.sum(laws * xp.linalg.diagonal(same_example))
    outer = xp.sum(laws[:, :, None] * same_example * laws[:, None, :])
    return (diagonal - outer) / n**2


def _checked(gram, **weights):
    """The inner products and weights as real numbers of one library, if their sizes agree."""
    gram = widened(gram, "gram")
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
        raise ValueError(f"gram must be a matrix (N, N), not of shape {tuple(gram.shape)}")
    for name, values in weights.items():
        if tuple(values.shape) != (gram.shape[0],):
            raise ValueError(
                f"{name} must be one number for each of the {gram.shape[0]} gradients of gram, "
                f"not of shape {tuple(values.shape)}"
            )
    return gram, *(same_library(widened(w, name), gram) for name, w in weights.items())
