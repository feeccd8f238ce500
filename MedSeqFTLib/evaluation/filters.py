"""Where the filters of a weight lie: a filter is all that makes one output channel, or one output of a linear layer."""

from __future__ import annotations

from torch import Tensor, nn

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def transposed_weights(module: nn.Module) -> frozenset[str]:
    """Names of the weights of transposed convolutions: [in, out, ...], where others are [out, in, ...].

    Raises NotImplementedError for one in groups, whose filters are not along one axis.
    """
    found = {name: part for name, part in module.named_modules() if isinstance(part, _TRANSPOSED)}
    grouped = [name for name, part in found.items() if part.groups > 1]
    if grouped:
        raise NotImplementedError(f"transposed convolution in groups: {grouped[0]}")
    return frozenset(f"{name}.weight".removeprefix(".") for name in found)


def by_filter(weight: Tensor, transposed: bool) -> Tensor:
    """A weight of two or more axes as [filters, values of a filter]."""
    return (weight.transpose(0, 1) if transposed else weight).flatten(1)
