"""A gradient matrix that counts the cost of its products."""

from __future__ import annotations

from torch import Tensor

from msgd.gradients.gradient_matrix import GradientMatrix


class CostCountingMatrix(GradientMatrix):
    """The gradient matrix G, with the cost of its products in ``gradients``.

    The unit is one pass that computes the mean gradient of all n examples. G·w and Gᵀ·u cost one for each column. H·v
    costs three, because it differentiates twice. A pass over the per-example gradients costs one, and one more if they
    are centred. The products of all of them cost (c + 1)/2 for c chunks. The loss costs a third. These costs count
    operations: on a small network, per-example gradients take longer than that.
    """

    gradients: float = 0.0

    def __matmul__(self, w: Tensor) -> Tensor:
        """G·w."""
        self.gradients += w.numel() / len(w)
        return super().__matmul__(w)

    def mean(self) -> Tensor:
        """ḡ."""
        self.gradients += 1
        return super().mean()

    def mean_loss(self, shift: Tensor | None = None) -> float:
        """The mean loss."""
        self.gradients += 1 / 3
        return super().mean_loss(shift)

    def column_norms(self, *, centred: bool = False) -> Tensor:
        """‖g_i‖."""
        self.gradients += 1 + centred
        return super().column_norms(centred=centred)

    def gram(self, *, centred: bool = False) -> Tensor:
        """GᵀG."""
        self.gradients += (len(self._row_examples.data.parts) + 1) / 2 + centred
        return super().gram(centred=centred)

    def hessian_product(self, v: Tensor) -> Tensor:
        """H·v."""
        self.gradients += 3 * v.numel() / len(v)
        return super().hessian_product(v)

    def _adjoint(self, u: Tensor) -> Tensor:
        self.gradients += u.numel() / len(u)
        return super()._adjoint(u)
