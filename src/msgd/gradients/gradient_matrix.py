"""The gradient matrix G as a linear operator: products with G and Gᵀ, without forming the matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator
from torch import Tensor, nn

from msgd._checks import check_uncoupled
from msgd.gradients.chunks import Batches, InMemory, SteadyLoader
from msgd.gradients.gram import gram
from msgd.gradients.per_example import CHUNK, Examples, LossFunction
from msgd.noise.law import Weights

Product = Callable[[Tensor], Tensor]  #: product of an operator with a vector, or with a block of columns
_MAX_HELD = 2**27  # default limit of the numbers in the per-example gradients held at once: 0.5 GB in float32


class GradientMatrix:
    """The matrix ``G = [g_1 … g_n] ∈ R^{d×n}`` of per-example gradients ``g_i = ∇ℓ_i(θ)``, as an operator.

    ``G @ w`` takes one forward and one backward pass over the examples, with the loss Σ w_i·ℓ_i. ``G.T @ u`` takes one
    forward-mode pass, or a double backward pass if an operation of the model has no forward mode: ⟨G·v, u⟩ is linear
    in v, and its gradient with respect to v is Gᵀ·u. A product with k columns takes k derivative passes; ``G @ w``
    shares one forward pass among them.

    Vectors in parameter space are flat, in the order of ``model.parameters()`` with ``requires_grad``. Each product
    uses the current parameters and does not change the model. `as_linear_operator` returns an operator for SciPy.

    Args:
        model: a model in float32 or float64, with all trained parameters in one dtype on one device, without BatchNorm
            in training mode or active dropout.
        loss_fn: maps the model's outputs and the targets to one loss per example, shape (batch,); each loss may depend
            on its own example only.
        inputs: inputs of all n examples, along the first dimension. Without ``targets``: batches (inputs, targets) that
            are the same in every pass, such as a DataLoader without shuffling or a list. They are moved to the device
            of the parameters chunk by chunk.
        targets: targets of all n examples, or None.
        chunk: number of examples processed at once. None: 250, or a whole batch of a loader; fewer if d is large for
            `column_norms`, `gram` and `to_dense`, whose memory grows with chunk·d. Results depend on it only by
            rounding.

    Raises:
        TypeError: ``chunk`` is not an integer, or the data are not pairs of tensors. A product raises it if the vector
            or the losses are not tensors of the right dtype.
        ValueError: there are no examples or trained parameters, inputs and targets differ in number, or parameters
            differ in dtype or device; examples are coupled or gradients random; the vector or the losses have a wrong
            shape; or the batches of a loader differ from those of the first pass, see below.
        NotImplementedError: in ``G.T @ u``, an operation has neither forward mode nor a double backward pass.

    A loader is iterated over once at the start, which records the number of batches and a CRC-32 of the shapes, dtypes
    and bytes of each; its first batch is then fetched again and compared. Every later pass compares each batch.
    Coupling and randomness are detected in modules of torch (BatchNorm, dropout). `column_norms`, `gram` and `to_dense`
    also detect functions that draw random numbers, provided that `torch.func.vmap` supports the model. Other cases are
    not detected. Recurrent layers on CUDA have neither forward mode nor a double backward pass inside cuDNN: disable it
    with ``torch.backends.cudnn.flags(enabled=False)`` around the product.

    Examples:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.zeros_(model.weight)
        >>> squares = lambda out, y: 0.5 * (out - y).squeeze(1) ** 2
        >>> G = GradientMatrix(model, squares, torch.eye(2), torch.tensor([[2.0], [4.0]]))
        >>> G.to_dense()
        tensor([[-2.,  0.],
                [ 0., -4.]])
        >>> G @ torch.tensor([1.0, 0.5])
        tensor([-2., -2.])
        >>> G.T @ torch.tensor([1.0, 1.0])
        tensor([-2., -4.])
        >>> G.mean()
        tensor([-1., -2.])

    References:
        Wu et al. 2020, arXiv 1906.07405: the gradient of SGD is G·w/n. Forward mode: Baydin et al. 2018,
        arXiv 1502.05767; the double backward pass: Townsend 2017, "A new trick for calculating Jacobian vector
        products".
    """

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        inputs: Tensor | Iterable[tuple[Tensor, Tensor]],
        targets: Tensor | None = None,
        *,
        chunk: int | None = None,
    ) -> None:
        data = _data(inputs, targets, chunk)
        self._examples = Examples(model, loss_fn, data)
        parameters = list(self._examples.parameters.values())
        like = parameters[0]
        if like.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"the parameters are {like.dtype}, but sums need float32 or float64: use model.float()")
        for parameter in parameters:
            if (parameter.dtype, parameter.device) != (like.dtype, like.device):
                raise ValueError(
                    f"parameters in {like.dtype} on {like.device} and in {parameter.dtype} on {parameter.device}: "
                    "flat vectors need one dtype and one device, use model.to(...)"
                )
        check_uncoupled(model)
        few = data.at_most(max(1, min(CHUNK, _MAX_HELD // self._examples.d))) if chunk is None else data
        self._row_examples = Examples(model, loss_fn, few)

    def __repr__(self) -> str:
        return f"GradientMatrix(d={self.shape[0]}, n={self.shape[1]}, {self.dtype}, {self.device})"

    @property
    def shape(self) -> tuple[int, int]:
        """(d, n): the numbers of trained parameters and of examples."""
        return self._examples.d, self._examples.n

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters and of all vectors."""
        return self._examples.like.dtype

    @property
    def device(self) -> torch.device:
        """The device of the parameters and of all vectors."""
        return self._examples.like.device

    @property
    def T(self) -> TransposedGradientMatrix:  # noqa: N802
        """Gᵀ, which multiplies vectors in parameter space."""
        return TransposedGradientMatrix(self)

    def __matmul__(self, w: Tensor) -> Tensor:
        """Return G·w, of shape (d,) or (d, k) for w of shape (n,) or (n, k)."""
        examples = self._ready(self._examples)
        rows = self._rows("w", w, "n", examples.n)
        total = rows.new_zeros(len(rows), examples.d)
        for index, part in enumerate(examples.data.parts):
            for row, gradient in zip(total, examples.weighted_sums(index, rows[:, part]), strict=True):
                row += _flat(gradient)
        return total.reshape(-1) if w.ndim == 1 else total.t()

    def mean(self) -> Tensor:
        """Return ḡ = G·1/n, shape (d,)."""
        return _flat(self._ready(self._examples).mean_gradient())

    def mean_loss(self, shift: Tensor | None = None) -> float:
        """Return L(θ + shift) = (1/n)·Σ ℓ_i, in one forward pass that does not change the parameters θ.

        Args:
            shift: vector in parameter space, shape (d,); None: 0.

        Returns:
            The mean loss, summed in float64.

        Raises:
            ValueError: ``shift`` has a wrong shape.
        """
        examples = self._ready(self._examples)
        rows = examples.like.new_zeros(1, examples.d) if shift is None else self._rows("shift", shift, "d", examples.d)
        if len(rows) > 1:
            raise ValueError(f"shift must be one vector of shape (d,), not {len(rows)} vectors")
        chunks = range(len(examples.data.parts))
        return sum(float(examples.losses_at(index, rows[0]).double().sum()) for index in chunks) / examples.n

    def column_norms(self, *, centred: bool = False) -> Tensor:
        """Return ‖g_i‖, or ‖g_i − ḡ‖ if ``centred``, shape (n,), in one pass over the per-example gradients."""
        examples, centre = self._centre(centred)
        squares = [
            torch.stack([row.square().sum(1) for row in examples.rows(index, centre=centre)]).sum(0)
            for index in range(len(examples.data.parts))
        ]
        return torch.cat(squares).sqrt_()

    def gram(self, *, centred: bool = False) -> Tensor:
        """Return the Gram matrix GᵀG with entries ⟨g_i, g_j⟩, or that of the columns g_i − ḡ if ``centred``.

        With c chunks each per-example gradient is computed (c + 1)/2 times, and up to three chunks are held. Products
        are computed in the parameters' dtype, sums over parameters in float64. ḡ is subtracted before the products, so
        that nothing cancels if ḡ is large; the rounding error of ḡ itself remains.

        Args:
            centred: subtract ḡ from each column.

        Returns:
            The symmetric matrix of products, shape (n, n), float64, on the CPU.
        """
        examples, centre = self._centre(centred)
        rows = lru_cache(maxsize=2)(lambda index: examples.rows(index, centre=centre))
        return gram(rows, examples.data.parts)

    def to_dense(self) -> Tensor:
        """Return G as a dense matrix, shape (d, n); only for small cases, since it holds d·n numbers."""
        examples, _ = self._centre(False)
        chunks = [torch.cat(examples.rows(index), dim=1) for index in range(len(examples.data.parts))]
        return torch.cat(chunks).t()

    def as_linear_operator(self) -> LinearOperator[Any]:
        """Return G as an operator for `scipy.sparse.linalg`, on NumPy vectors in the dtype of the parameters."""
        return numpy_operator(self.shape, self, self.__matmul__, self._adjoint)

    def hessian_product(self, v: Tensor) -> Tensor:
        """Return H·v with the Hessian H of the mean loss, for v of shape (d,) or (d, k), by double backward passes."""
        examples = self._ready(self._examples)
        rows = self._rows("v", v, "d", examples.d)
        total = torch.zeros_like(rows)
        for index in range(len(examples.data.parts)):
            x, y = examples.chunk(index)
            for row, direction in zip(total, rows, strict=True):
                row += _flat(examples.gradient_and_hvp(x, y, examples.n, along=tuple(examples.split(direction)))[1])
        return total.reshape(-1) if v.ndim == 1 else total.t()

    def _adjoint(self, u: Tensor) -> Tensor:
        examples = self._ready(self._examples)
        rows = self._rows("u", u, "d", examples.d)
        products = [examples.along(index, rows) for index in range(len(examples.data.parts))]
        product = torch.cat(products, dim=1)
        return product.reshape(-1) if u.ndim == 1 else product.t()

    def _ready(self, examples: Examples) -> Examples:
        check_uncoupled(examples.model)  # before every product, because the model's mode may have changed
        return examples

    def _centre(self, centred: bool) -> tuple[Examples, tuple[Tensor, ...] | None]:
        examples = self._ready(self._row_examples)
        return examples, examples.mean_gradient() if centred else None

    def _rows(self, name: str, vectors: Tensor, letter: str, length: int) -> Tensor:
        """Return the columns of a vector or of a block of vectors as rows."""
        if isinstance(vectors, Weights):
            raise TypeError(f"{name} is a draw, and a vector of all weights is needed: write G @ draw.dense()")
        if not isinstance(vectors, Tensor) or (vectors.dtype, vectors.device) != (self.dtype, self.device):
            given = f"{vectors.dtype} on {vectors.device}" if isinstance(vectors, Tensor) else type(vectors).__name__
            raise TypeError(
                f"{name} must be a tensor in {self.dtype} on {self.device} like the parameters, not {given}"
            )
        if vectors.ndim not in (1, 2) or len(vectors) != length or vectors.numel() == 0:
            raise ValueError(
                f"{name} must have shape ({letter},) or ({letter}, k) with {letter} = {length}, "
                f"not {tuple(vectors.shape)}"
            )
        return vectors.detach().reshape(length, -1).t()


class TransposedGradientMatrix:
    """Gᵀ ∈ R^{n×d}; see `GradientMatrix`.

    Args:
        matrix: G.
    """

    def __init__(self, matrix: GradientMatrix) -> None:
        self.T = matrix  #: the transpose of Gᵀ, which is G

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return self.T.shape[1], self.T.shape[0]

    def __matmul__(self, u: Tensor) -> Tensor:
        """Return Gᵀ·u, of shape (n,) or (n, k) for u of shape (d,) or (d, k)."""
        return self.T._adjoint(u)

    def as_linear_operator(self) -> LinearOperator[Any]:
        """Return Gᵀ as an operator for `scipy.sparse.linalg`, on NumPy vectors in the dtype of the parameters."""
        return numpy_operator(self.shape, self.T, self.__matmul__, self.T.__matmul__)


def check_matrix(matrix: object) -> None:
    """Refuse what is no gradient matrix, such as the model itself.

    Args:
        matrix: what was given.

    Raises:
        TypeError: it is no `GradientMatrix`.
    """
    if not isinstance(matrix, GradientMatrix):
        raise TypeError(
            f"the first argument must be a GradientMatrix, not a {type(matrix).__name__}: "
            "write GradientMatrix(model, loss_fn, inputs, targets)"
        )


def _data(
    inputs: Tensor | Iterable[tuple[Tensor, Tensor]], targets: Tensor | None, chunk: int | None
) -> InMemory | Batches:
    if targets is None:
        if isinstance(inputs, Tensor):
            raise TypeError("inputs is a tensor: pass targets too, or batches (inputs, targets) instead")
        return Batches(SteadyLoader(inputs), chunk)
    if not (isinstance(inputs, Tensor) and isinstance(targets, Tensor)):
        raise TypeError("inputs and targets must be tensors: to use a loader, pass it as inputs without targets")
    return InMemory(inputs, targets, CHUNK if chunk is None else chunk)


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def numpy_operator(
    shape: tuple[int, int], matrix: GradientMatrix, forward: Product, backward: Product
) -> LinearOperator[Any]:
    """Wrap products of tensors as a SciPy operator, in the dtype of the parameters.

    Args:
        shape: shape of the operator.
        matrix: G, which determines dtype and device of the tensors.
        forward: product of the operator with a vector or a block of columns.
        backward: product of the transposed operator.

    Returns:
        The operator, on NumPy arrays.
    """

    def on_arrays(product: Product) -> Callable[[NDArray[Any]], NDArray[Any]]:
        def call(array: NDArray[Any]) -> NDArray[Any]:
            vectors = torch.tensor(np.asarray(array), dtype=matrix.dtype, device=matrix.device)
            return product(vectors).cpu().numpy()

        return call

    product, transposed = on_arrays(forward), on_arrays(backward)
    dtype = np.dtype(str(matrix.dtype).removeprefix("torch."))
    return LinearOperator(shape, matvec=product, rmatvec=transposed, matmat=product, rmatmat=transposed, dtype=dtype)
