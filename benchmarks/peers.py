"""A step with Fisher noise on VGG-11, and what a user would do instead: per-example gradients times w. Prints JSON.

    python benchmarks/peers.py time REPETITIONS
    python benchmarks/peers.py memory ROUTE

It runs in an environment of its own, with Opacus and BackPACK. Every route draws w, computes G·w/n, and moves along it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace

import torch
from alone import peak_mib
from settings import Setting, cross_entropy, loop, make
from timing import interleaved, ratio
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from msgd import Reweighter
from msgd.noise import Fisher

LAW = Fisher(20)


def drawn(step: int, n: int) -> Tensor:
    """The weights of a step."""
    return LAW.draw(n, seed=0, step=step).dense()


def contracted(model: nn.Module, columns: Callable[[nn.Parameter], Tensor], w: Tensor) -> None:
    """Write Σ w_i g_i / n into the gradients."""
    for parameter in model.parameters():
        parameter.grad = torch.tensordot(w, columns(parameter), dims=1) / len(w)


def plain() -> tuple[Setting, Callable[[], None]]:
    """The step without noise."""
    setting = make("vgg11")
    return setting, loop(setting, torch.mean)


def ours() -> tuple[Setting, Callable[[], None]]:
    """One line in the loop."""
    setting = make("vgg11")
    return setting, loop(setting, Reweighter(LAW, seed=0))


def _stepping(setting: Setting, gradients: Callable[[Tensor], None]) -> tuple[Setting, Callable[[], None]]:
    optimizer = torch.optim.SGD(setting.model.parameters(), lr=0.01)
    numbers = iter(range(10**9))

    def step() -> None:
        optimizer.zero_grad()
        gradients(drawn(next(numbers), len(setting.y)))
        optimizer.step()

    return setting, step


def with_vmap() -> tuple[Setting, Callable[[], None]]:
    """torch.func: vmap of grad."""
    setting = make("vgg11")
    model = setting.model

    def loss(parameters: dict[str, Tensor], image: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(functional_call(model, parameters, (image[None],)), target[None]).sum()

    def gradients(w: Tensor) -> None:
        parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
        columns = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, setting.x, setting.y)
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        contracted(model, lambda parameter: columns[names[id(parameter)]], w)

    return _stepping(setting, gradients)


def with_opacus() -> tuple[Setting, Callable[[], None]]:
    """Opacus: GradSampleModule; not in channels-last layout, in which its gradients of convolutions come out wrong."""
    from opacus import GradSampleModule

    usual = make("vgg11")
    model = usual.model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    setting = replace(usual, model=model, x=usual.x.contiguous())
    wrapped = GradSampleModule(_out_of_place(setting.model), loss_reduction="sum")

    def gradients(w: Tensor) -> None:
        for parameter in setting.model.parameters():
            parameter.grad_sample = None  # type: ignore[attr-defined]
        cross_entropy(wrapped(setting.x), setting.y).sum().backward()  # type: ignore[no-untyped-call]
        contracted(setting.model, lambda parameter: parameter.grad_sample, w)  # type: ignore[attr-defined]

    return _stepping(setting, gradients)


def with_backpack() -> tuple[Setting, Callable[[], None]]:
    """BackPACK: the extension BatchGrad."""
    from backpack import backpack, extend
    from backpack.extensions import BatchGrad

    setting = make("vgg11")
    model, criterion = extend(_out_of_place(setting.model)), extend(nn.CrossEntropyLoss(reduction="sum"))

    def gradients(w: Tensor) -> None:
        with backpack(BatchGrad()):
            criterion(model(setting.x), setting.y).backward()
        contracted(setting.model, lambda parameter: parameter.grad_batch, w)  # type: ignore[attr-defined]

    return _stepping(setting, gradients)


def _out_of_place(model: nn.Module) -> nn.Module:
    """Both packages need what an in-place ReLU overwrites."""
    for layer in model.modules():
        if isinstance(layer, nn.ReLU):
            layer.inplace = False
    return model


ROUTES = {"plain": plain, "ours": ours, "vmap": with_vmap, "opacus": with_opacus, "backpack": with_backpack}


def check(routes: dict[str, tuple[Setting, Callable[[], None]]]) -> float:
    """Take the first step of every route from the same parameters.

    Args:
        routes: as `ROUTES` makes them.

    Returns:
        The largest relative difference of their parameters from ours.
    """
    before = [p.detach().clone() for p in make("vgg11").model.parameters()]
    moved = {}
    for name, (setting, step) in routes.items():
        step()
        moved[name] = torch.cat(
            [(p.detach() - b).flatten() for p, b in zip(setting.model.parameters(), before, strict=True)]
        )
    truth = moved["ours"]
    others = [float((moved[name] - truth).norm() / truth.norm()) for name in routes if name not in ("plain", "ours")]
    return max(others)


def main() -> None:
    """Time all routes in turn, or see what one needs."""
    torch.set_num_threads(1)
    what, argument = sys.argv[1:]
    if what == "memory":
        _, step = ROUTES[argument]()
        step()
        step()
        json.dump({"peak_mib": peak_mib()}, sys.stdout)
        return
    routes = {name: route() for name, route in ROUTES.items()}
    difference = check(routes)
    if difference > 1e-3:
        raise SystemExit(f"the routes' steps differ by {difference}")
    times = interleaved({name: step for name, (_, step) in routes.items()}, int(argument), warm_up=0)
    versions = {name: __import__(name).__version__ for name in ("torch", "opacus")}
    from importlib.metadata import version

    versions["backpack-for-pytorch"] = version("backpack-for-pytorch")
    peers = [name for name in ROUTES if name not in ("plain", "ours")]
    json.dump(
        {
            "seconds": {name: sorted(seconds)[len(seconds) // 2] for name, seconds in times.items()},
            "ratios": {name: ratio(times[name], times["ours"]) for name in peers},
            "difference": difference,
            "versions": versions,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
