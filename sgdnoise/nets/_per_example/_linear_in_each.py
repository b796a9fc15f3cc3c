"""Whether the outputs of a network are linear in each parameter alone, by the graph of autograd."""

from typing import Any

from sgdnoise.nets._per_example._graph import kind_of

# Linear in all arguments together, or linear in pieces: the derivative of a corner is left out.
LINEAR = set(
    """
    Abs AdaptiveAvgPool1D AdaptiveAvgPool2D AdaptiveAvgPool3D AdaptiveMaxPool1D
    AdaptiveMaxPool2D AdaptiveMaxPool3D Add Alias Amax Amin AvgPool2D AvgPool3D Cat Clamp ClampMax
    ClampMin Clone ConstantPadNd Cumsum Embedding Expand Hardtanh LeakyRelu MaskedFill Max
    MaxPool2DWithIndices MaxPool3DWithIndices Maximum Mean Min Minimum Neg Permute ReflectionPad1D
    ReflectionPad2D Relu ReplicationPad2D ReshapeAlias Rsub Select Slice Split SplitWithSizes
    Squeeze Stack Sub Sum T Threshold ToCopy Transpose Tril Triu Unbind Unfold UnsafeView Unsqueeze
    UpsampleBilinear2D UpsampleNearest2D View Where
    """.upper().split()
)
# Linear in each argument: linear in a parameter that only one of them depends on.
PRODUCTS = set(
    """
    Addcmul Addmm Addmv Baddbmm Bmm Convolution ConvolutionOverrideable Dot Linear
    MkldnnConvolution MkldnnLinear Mm Mul Mv NativeBatchNorm PreluKernel
    """.upper().split()
)


def is_linear_in_each(outputs, leaves: dict) -> bool:
    """Whether a tensor is linear, or linear in pieces, in each of some leaves while others stay.

    This is proven by the operations of its graph, and False where they prove nothing.  Then the
    second derivative by any single number of a leaf is zero, as of networks of linear layers,
    convolutions, relus, pools and frozen batch norm.
    """
    if outputs.grad_fn is None:
        return True
    wanted = {id(leaf) for leaf in leaves.values()}
    known: dict[Any, frozenset] = {None: frozenset()}
    pending = [outputs.grad_fn]
    while pending:
        node = pending[-1]
        if node in known:
            pending.pop()
            continue
        before = [after for after, _ in node.next_functions]
        unknown = [after for after in before if after not in known]
        if unknown:
            pending += unknown
            continue
        pending.pop()
        of_arguments = [known[after] for after in before]
        variable = getattr(node, "variable", None)
        known[node] = frozenset({id(variable)} & wanted).union(*of_arguments)
        if variable is None and known[node] and not _keeps(node, of_arguments):
            return False
    return True


def _keeps(node, of_arguments) -> bool:
    """Whether an operation on such tensors returns such a tensor."""
    kind = kind_of(node)
    if kind in LINEAR:
        return True
    if kind == "DIV":  # by a number that no parameter is in
        return not any(of_arguments[1:])
    if kind not in PRODUCTS or (kind == "NATIVEBATCHNORM" and node._saved_training):
        return False
    return sum(map(len, of_arguments)) == len(frozenset().union(*of_arguments))
