"""The gradient matrix G as a linear operator: products with it and with its transpose, never the matrix itself."""

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

Product = Callable[[Tensor], Tensor]  #: of an operator with a vector or a block of them
_HELD = 2**27  # numbers in the per-example gradients held at once, where no chunk is given: 0.5 GB in float32


class GradientMatrix:
    """The matrix ``G = [g_1 … g_n] ∈ R^{d×n}`` of per-example gradients ``g_i = ∇ℓ_i(θ)``, as an operator.

    ``G @ w`` is one forward and one backward pass over the examples, of the loss Σ w_i·ℓ_i. ``G.T @ u`` is one
    forward-mode pass; where an operation of the model has no forward mode, a double backward pass: G·v is linear in v,
    and its derivative in v along u is Gᵀ·u. Products with k columns cost k passes of derivatives, the first product on
    one forward pass for all.

    Vectors in parameter space are flat, in the order of ``model.parameters()`` with ``requires_grad``. Each product is
    taken at the parameters as they are then, and leaves the model alone. `as_linear_operator` is for SciPy.

    Args:
        model: in float32 or float64, with all trained parameters of one dtype on one device; without BatchNorm in
            training mode or active dropout.
        loss_fn: from the model's outputs and the targets to one loss for each example, shape (batch,), each of its own
            example only.
        inputs: of all n examples, along the first dimension; or, without ``targets``, batches (inputs, targets) of
            them that are the same in every pass: a DataLoader without shuffling, a list. They are moved to where the
            parameters are, chunk by chunk.
        targets: of all n examples, or None.
        chunk: number of examples computed at once. None: 250, or a whole batch of a loader, and for `column_norms`,
            `gram` and `to_dense`, whose memory grows with chunk·d, fewer where d is large. Results depend on it by
            rounding only.

    Raises:
        TypeError: ``chunk`` is no integer, or what is given is no pair of tensors; from a product, the vector or the
            losses are no tensors of the right dtype.
        ValueError: examples or parameters are missing, inputs and targets differ in number, parameters differ in dtype
            or device; the examples are coupled or the gradients random; the vector or the losses have a wrong shape;
            the batches of a loader are not those of the first pass, see below.
        NotImplementedError: from ``G.T @ u``, an operation has neither forward mode nor a double backward pass.

    A loader is passed over once at the start, when the number of batches and a CRC-32 of each one's shapes, types and
    bytes are kept, and its first batch is fetched again and compared; in every later pass each batch is compared.
    Coupling and randomness are found in modules of torch (BatchNorm, dropout), and in `column_norms`, `gram` and
    `to_dense` in functions that draw random numbers, as long as `torch.func.vmap` takes the model; beyond that they are
    not. Recurrent layers on CUDA have neither forward mode nor a double backward pass inside cuDNN:
    ``torch.backends.cudnn.flags(enabled=False)`` around the product puts it aside.

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
            raise ValueError(f"the parameters are {like.dtype}, and sums need float32 or float64: use model.float()")
        for parameter in parameters:
            if (parameter.dtype, parameter.device) != (like.dtype, like.device):
                raise ValueError(
                    f"parameters in {like.dtype} on {like.device} and in {parameter.dtype} on {parameter.device}: "
                    "flat vectors need one dtype and one device, use model.to(...)"
                )
        check_uncoupled(model)
        few = data.at_most(max(1, min(CHUNK, _HELD // self._examples.d))) if chunk is None else data
        self._held = Examples(model, loss_fn, few)

    def __repr__(self) -> str:
        return f"GradientMatrix(d={self.shape[0]}, n={self.shape[1]}, {self.dtype}, {self.device})"

    @property
    def shape(self) -> tuple[int, int]:
        """(d, n): the number of trained parameters and that of examples."""
        return self._examples.d, self._examples.n

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters, and of all vectors."""
        return self._examples.like.dtype

    @property
    def device(self) -> torch.device:
        """Where the parameters are, and all vectors."""
        return self._examples.like.device

    @property
    def T(self) -> TransposedGradientMatrix:  # noqa: N802
        """Gᵀ, to be multiplied with vectors in parameter space."""
        return TransposedGradientMatrix(self)

    def __matmul__(self, w: Tensor) -> Tensor:
        """G·w, of shape (d,) or (d, k) for w of shape (n,) or (n, k)."""
        examples = self._ready(self._examples)
        rows = self._rows("w", w, "n", examples.n)
        total = rows.new_zeros(len(rows), examples.d)
        for index, part in enumerate(examples.data.parts):
            for row, gradient in zip(total, examples.combined(index, rows[:, part]), strict=True):
                row += _flat(gradient)
        return total.reshape(-1) if w.ndim == 1 else total.t()

    def mean(self) -> Tensor:
        """ḡ = G·1/n, shape (d,)."""
        return _flat(self._ready(self._examples).mean_gradient())

    def mean_loss(self, shift: Tensor | None = None) -> float:
        """L(θ + shift) = (1/n)·Σ ℓ_i, in one forward pass; the parameters θ stay as they are.

        Args:
            shift: shape (d,); None: at θ.

        Returns:
            The mean, summed in float64.

        Raises:
            ValueError: ``shift`` has a wrong shape.
        """
        examples = self._ready(self._examples)
        rows = examples.like.new_zeros(1, examples.d) if shift is None else self._rows("shift", shift, "d", examples.d)
        if len(rows) > 1:
            raise ValueError(f"shift must have shape (d,), one vector and not {len(rows)}")
        chunks = range(len(examples.data.parts))
        return sum(float(examples.losses_at(index, rows[0]).double().sum()) for index in chunks) / examples.n

    def column_norms(self, *, centred: bool = False) -> Tensor:
        """‖g_i‖, or ‖g_i − ḡ‖ where ``centred``, shape (n,), in one pass over the per-example gradients."""
        examples, centre = self._centre(centred)
        squares = [
            torch.stack([row.square().sum(1) for row in examples.rows(index, centre=centre)]).sum(0)
            for index in range(len(examples.data.parts))
        ]
        return torch.cat(squares).sqrt_()

    def gram(self, *, centred: bool = False) -> Tensor:
        """GᵀG, or that of the g_i − ḡ where ``centred``: entries ⟨g_i, g_j⟩, shape (n, n), float64, on the CPU.

        With c chunks each per-example gradient is computed (c + 1)/2 times, and up to three chunks of them are held.
        Products are in the parameters' dtype, sums over parameters in float64. ḡ is subtracted before the products, so
        that nothing cancels where it is large; its own rounding stays.

        Args:
            centred: subtract ḡ from each column.

        Returns:
            The symmetric matrix of products.
        """
        examples, centre = self._centre(centred)
        rows = lru_cache(maxsize=2)(lambda index: examples.rows(index, centre=centre))
        return gram(rows, examples.data.parts)

    def to_dense(self) -> Tensor:
        """G itself, shape (d, n): for small cases, since it holds d·n numbers."""
        examples, _ = self._centre(False)
        chunks = [torch.cat(examples.rows(index), dim=1) for index in range(len(examples.data.parts))]
        return torch.cat(chunks).t()

    def as_linear_operator(self) -> LinearOperator[Any]:
        """G for `scipy.sparse.linalg`, with NumPy vectors in and out in the dtype of the parameters."""
        return numpy_operator(self.shape, self, self.__matmul__, self._adjoint)

    def hessian_product(self, v: Tensor) -> Tensor:
        """H·v for the Hessian H of the mean loss, of shape (d,) or (d, k) as v; by double backward, a pass a column."""
        examples = self._ready(self._examples)
        rows = self._rows("v", v, "d", examples.d)
        total = torch.zeros_like(rows)
        for index in range(len(examples.data.parts)):
            x, y = examples.chunk(index)
            for row, direction in zip(total, rows, strict=True):
                row += _flat(examples.curved(x, y, examples.n, along=tuple(examples.split(direction)))[1])
        return total.reshape(-1) if v.ndim == 1 else total.t()

    def _adjoint(self, u: Tensor) -> Tensor:
        examples = self._ready(self._examples)
        rows = self._rows("u", u, "d", examples.d)
        products = [examples.along(index, rows) for index in range(len(examples.data.parts))]
        product = torch.cat(products, dim=1)
        return product.reshape(-1) if u.ndim == 1 else product.t()

    def _ready(self, examples: Examples) -> Examples:
        check_uncoupled(examples.model)  # also between products: the model may have been set to train
        return examples

    def _centre(self, centred: bool) -> tuple[Examples, tuple[Tensor, ...] | None]:
        examples = self._ready(self._held)
        return examples, examples.mean_gradient() if centred else None

    def _rows(self, name: str, vectors: Tensor, letter: str, length: int) -> Tensor:
        """The columns of a vector or of a block, as rows."""
        if not isinstance(vectors, Tensor) or (vectors.dtype, vectors.device) != (self.dtype, self.device):
            given = f"{vectors.dtype} on {vectors.device}" if isinstance(vectors, Tensor) else type(vectors).__name__
            raise TypeError(f"{name} must be a tensor in {self.dtype} on {self.device} as the parameters, not {given}")
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
        self.T = matrix  #: G again

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return self.T.shape[1], self.T.shape[0]

    def __matmul__(self, u: Tensor) -> Tensor:
        """Gᵀ·u, of shape (n,) or (n, k) for u of shape (d,) or (d, k)."""
        return self.T._adjoint(u)

    def as_linear_operator(self) -> LinearOperator[Any]:
        """Gᵀ for `scipy.sparse.linalg`, with NumPy vectors in and out in the dtype of the parameters."""
        return numpy_operator(self.shape, self.T, self.__matmul__, self.T.__matmul__)


def _data(
    inputs: Tensor | Iterable[tuple[Tensor, Tensor]], targets: Tensor | None, chunk: int | None
) -> InMemory | Batches:
    if targets is None:
        if isinstance(inputs, Tensor):
            raise TypeError("inputs is a tensor: give its targets, or batches (inputs, targets)")
        return Batches(SteadyLoader(inputs), chunk)
    if not (isinstance(inputs, Tensor) and isinstance(targets, Tensor)):
        raise TypeError("inputs and targets must be tensors, or inputs alone the batches (inputs, targets) of a loader")
    return InMemory(inputs, targets, CHUNK if chunk is None else chunk)


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def numpy_operator(
    shape: tuple[int, int], matrix: GradientMatrix, forward: Product, backward: Product
) -> LinearOperator[Any]:
    """Products of tensors as a SciPy operator, in the dtype of the parameters.

    Args:
        shape: of the operator.
        matrix: says dtype and device of the tensors.
        forward: the product with a vector or a block.
        backward: that of the transposed operator.

    Returns:
        The operator, with NumPy arrays in and out.
    """

    def through(product: Product) -> Callable[[NDArray[Any]], NDArray[Any]]:
        def call(array: NDArray[Any]) -> NDArray[Any]:
            vectors = torch.tensor(np.asarray(array), dtype=matrix.dtype, device=matrix.device)
            return product(vectors).cpu().numpy()

        return call

    there, back = through(forward), through(backward)
    dtype = np.dtype(str(matrix.dtype).removeprefix("torch."))
    return LinearOperator(shape, matvec=there, rmatvec=back, matmat=there, rmatmat=back, dtype=dtype)
