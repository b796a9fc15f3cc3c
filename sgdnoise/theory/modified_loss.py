"""The loss that a noisy descent follows on average."""

__all__ = ["label_noise_strength", "residual_amplification"]


def label_noise_strength(rate, label_noise, batch):
    r"""kappa in L + kappa Tr H, the loss that label noise makes descent follow near zero residual.

    kappa = rate label_noise^2 / (4 batch), for losses with the factor 1/2: theta jitters with
    covariance (rate label_noise^2 / 2 batch) I, whose mean force is -(1/2) grad Tr(H S).
    In regime for rate * lambda_max << 1 and small `residual_amplification`.
    Blanc et al. (2020), Damian, Ma & Lee (2021), Li, Wang & Arora (2022).
    """
    return rate * label_noise**2 / (4 * batch)


def residual_amplification(rate, trace, batch, outputs):
    r"""u, the share of the noise that comes from sampling the residual it makes itself.

    u = rate Tr H / (2 batch outputs), to first order in rate and for residuals alike in all
    outputs: label_noise^2 acts as label_noise^2 / (1 - u).  Where one curvature dominates Tr H the
    correction grows, up to twice in one dimension.  The theory of `label_noise_strength` wants
    u << 1: its linear networks agree to 5% for u <= 0.12.
    """
    return rate * trace / (2 * batch * outputs)
