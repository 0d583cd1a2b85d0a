"""Masked multilayer perceptrons: networks of vectors that see only what comes before."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from genjax.nets.causal import as_numbers
from genjax.nets.dense import Dense, by_entry, columns_are_faster, dense
from genjax.nets.embeddings import check_label


class MaskedDense(nn.Module):
    """A dense layer whose outputs see only inputs of a lower or equal degree.

    Attributes:
        degrees_in: The degree of each input: the last entry of the event that it has seen.
        degrees_out: The degree of each output.
        columns: Whether input and output are columns, ``[I, B]``, instead of rows.
        strict: Whether the degree of an input must be lower than that of the output.
        kernel_init: Initialiser of the weights.
    """

    degrees_in: tuple[int, ...]
    degrees_out: tuple[int, ...]
    columns: bool
    strict: bool = False
    kernel_init: Callable = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps ``[..., inputs]`` to ``[..., outputs]``, or columns to columns."""
        before, after = np.asarray(self.degrees_in)[:, None], np.asarray(self.degrees_out)
        mask = after > before if self.strict else after >= before
        kernel = self.param("kernel", self.kernel_init, mask.shape)
        bias = self.param("bias", nn.initializers.zeros_init(), mask.shape[1:])
        # The mask is applied in each pass, not once at initialisation: an optimiser would move
        # weights that are merely 0.
        return dense(x, jnp.where(mask, kernel, 0.0), bias, columns=self.columns)


class MADE(nn.Module):
    """A network whose outputs for entry ``i`` depend on entries before ``i`` only.

    Attributes:
        num_outputs: Number of outputs for each entry.
        hidden_size: Width of every layer.
        num_layers: Number of hidden layers; from the second on they are residual.

    References:
        Germain et al., MADE, arXiv:1502.03509; residual: Nash and Durkan, arXiv:1904.05626.
    """

    num_outputs: int
    hidden_size: int = 64
    num_layers: int = 2

    @nn.compact
    def __call__(
        self, x: Float[Array, "*batch D"], context: Float[Array, "*rows C"] | None = None
    ) -> Float[Array, "... D P"]:
        """Maps ``[B, D]`` to ``[B, D, num_outputs]``; zero at initialisation.

        Args:
            x: The entries in their order, ``[B, D]``.
            context: What all outputs may depend on, ``[B, C]``, or None.
        """
        size = x.shape[-1]
        entries = tuple(range(1, size + 1))
        # Degree of a hidden unit: the last entry it has seen. With one entry it may see none. All
        # degrees in turn, or, where there are fewer units, spread over the entries.
        units = np.arange(self.hidden_size)
        degrees = units % max(1, size - 1) + min(1, size - 1)
        if self.hidden_size < size - 1:
            degrees = size - 1 - units * (size - 1) // self.hidden_size
        hidden = tuple(degrees.tolist())
        outputs = tuple(np.repeat(entries, self.num_outputs).tolist())

        columns = columns_are_faster(self.hidden_size, x, context)
        zeros = nn.initializers.zeros_init()

        def with_context(h: Array, name: str, **options: Any) -> Array:
            # Without a mask: a context comes before all entries.
            if context is None:
                return h
            width = h.shape[0 if columns else -1]
            layer = Dense(width, columns, use_bias=False, name=name, **options)
            return h + layer(context.T if columns else context)

        h = MaskedDense(entries, hidden, columns, name="dense_in")(x.T if columns else x)
        h = with_context(h, "context_in")
        for i in range(self.num_layers - 1):
            r = MaskedDense(hidden, hidden, columns, name=f"dense_{i}")(nn.relu(h))
            h += with_context(r, f"context_{i}")
        # Strictly lower here alone: an output must not see its own entry, a hidden unit of the same
        # degree may.
        last = MaskedDense(
            hidden, outputs, columns, strict=True, kernel_init=zeros, name="dense_out"
        )
        y = with_context(last(nn.relu(h)), "context_out", kernel_init=zeros)
        return by_entry(y.T if columns else y, self.num_outputs)


class MaskedMLP(nn.Module):
    """MADE as a model of data: what is known of each entry from those before it, in raster order.

    Attributes:
        hidden_size: Width of every layer.
        num_layers: Number of hidden layers; from the second on they are residual.
        num_classes: Number of classes, told one-hot, or None for an unconditional model.
        num_levels: Number of grey levels of the data, or None for real numbers; the family's.
        num_outputs: Outputs for each entry; the family's.

    References:
        Germain et al., MADE, arXiv:1502.03509.
    """

    hidden_size: int = 512
    num_layers: int = 1
    num_classes: int | None = None
    num_levels: int | None = None
    num_outputs: int = 1

    @property
    def by_pixel(self) -> bool:
        """Each entry has outputs of its own."""
        return False

    @nn.compact
    def __call__(
        self, x: Array, label: Int[Array, " B"] | None = None
    ) -> Float[Array, "B *event P"]:
        """Looks at examples.

        Args:
            x: Whole grey levels or real numbers, ``[B, *event]``.
            label: Class ids, ``[B]``, of which a negative one means no label.

        Returns:
            Outputs of each entry that depend on the entries before it, ``[B, *event, P]``.

        Raises:
            ValueError: If labels do not fit.
        """
        check_label(self.num_classes, label)
        context = None
        if label is not None:
            assert self.num_classes is not None
            context = jax.nn.one_hot(label, self.num_classes)
        rows = as_numbers(x, self.num_levels).reshape(x.shape[0], -1)
        net = MADE(self.num_outputs, self.hidden_size, self.num_layers, name="made")
        return net(rows, context).reshape(*x.shape, self.num_outputs)
