"""The command line. Everything heavy is imported when a command runs, so that help answers at once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from msgd.errors import UserError
from msgd.lab.endings import clear_errors

if TYPE_CHECKING:
    from rich.console import Console

    from msgd.lab.backends import Workers

app = typer.Typer(
    name="msgd",
    help="The noise of stochastic gradient descent: experiments by name, judged with statistics.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        from msgd import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


RecipeArgument = Annotated[str, typer.Argument(help="A recipe's name (see msgd recipes) or a TOML file of yours.")]
FolderArgument = Annotated[Path, typer.Argument(help="A folder that msgd run wrote, such as runs/mnist1d.")]
BackendOption = Annotated[
    str, typer.Option(help="Who does the jobs: loky, processes of this machine; dask, a Dask cluster.")
]
AddressOption = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Of the Dask scheduler.", show_default="a cluster on this machine"),
]


@app.command()
def run(
    recipe: RecipeArgument,
    out: Annotated[Path | None, typer.Option(help="Folder for the results.", show_default="runs/RECIPE")] = None,
    methods: Annotated[str | None, typer.Option(help="Only these methods, as a,b.", show_default="all")] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds 0 … N−1.", show_default="the recipe's")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of each run.", show_default="the recipe's")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time.", show_default="the cores")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    tune: Annotated[
        str | None, typer.Option(metavar="lr=A,B,…", help="Pick each method's learning rate on held-out examples.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any key of the recipe: --set lr=0.2 --set methods.gd.lr=0.6"),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the data set's files.")] = None,
    backend: BackendOption = "loky",
    address: AddressOption = None,
    log: Annotated[
        str | None, typer.Option(metavar="tensorboard", help="Write the metrics as TensorBoard's event files, too.")
    ] = None,
) -> None:
    """Run an experiment: every method and seed, then the verdicts and the report.

    Finished runs are skipped and interrupted ones continued when the same command is given again.
    """
    with clear_errors():
        changes = _settings(settings or [])
        changes |= {key: value for key, value in (("seeds", seeds), ("steps", steps)) if value is not None}
        if tune is not None:
            changes["tune.lr"] = _rates(tune)
        names = None if methods is None else _names(methods)
        _run(recipe, out, names, changes, _Who(backend, address, jobs), device, data_dir, events=_wants_events(log))


@app.command()
def report(folder: FolderArgument) -> None:
    """Write report.html and results.json anew from the finished runs in a folder."""
    with clear_errors():
        from msgd.lab.said import conclude

        conclude(folder, _console())


@app.command()
def measure(
    target: Annotated[
        Path, typer.Argument(help="A folder that msgd run wrote, a run in it, or one of its checkpoints.")
    ],
    at: Annotated[str | None, typer.Option(help="Only these steps, as 0,300.", show_default="all kept")] = None,
    what: Annotated[
        str | None, typer.Option(help="Some of covariance,noise-scale,tails,sharpness.", show_default="all")
    ] = None,
    cost: Annotated[str, typer.Option(help="How much of each: cheap, medium or full.")] = "cheap",
    methods: Annotated[str | None, typer.Option(help="Only these methods, as a,b.", show_default="all")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="The first so many seeds of each method.")] = 1,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time.", show_default="the cores")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    data_dir: Annotated[Path | None, typer.Option(help="Folder with the data set's files.")] = None,
    backend: BackendOption = "loky",
    address: AddressOption = None,
) -> None:
    """Measure the noise of finished runs: covariance, noise scale, tails, sharpness.

    By default of the first seed of each method, at every step that is kept. Writes measurements.json and the report.
    What is measured already is skipped when the same command is given again.
    """
    with clear_errors():
        _measure(target, at, what, cost, methods, seeds, _Who(backend, address, jobs), device, data_dir)


@app.command()
def compare(folder: FolderArgument) -> None:
    """Print the verdicts of the finished runs in a folder; writes nothing."""
    with clear_errors():
        from msgd.lab.said import gather, print_verdicts

        print_verdicts(gather(folder), _console())


@app.command()
def recipes() -> None:
    """List the recipes."""
    with clear_errors():
        from msgd.lab.reading import read_table, recipe_names, recipe_text

        width = max(len(name) for name in recipe_names()) + 2
        for name in recipe_names():
            typer.echo(f"{name:<{width}}{read_table(recipe_text(name), source=name)['title']}")


@app.command()
def show(recipe: RecipeArgument) -> None:
    """Print a recipe's TOML; save it to a file to make your own."""
    with clear_errors():
        from msgd.lab.reading import recipe_text

        typer.echo(recipe_text(recipe), nl=False)


def _console() -> Console:
    from rich.console import Console

    # No markup: a recipe's title may hold brackets.
    terminal = sys.stdout.isatty()  # elsewhere lines are not folded: they are searched, and may hold a long path
    return Console(highlight=False, markup=False, width=None if terminal else 140, soft_wrap=not terminal)


def _settings(pairs: list[str]) -> dict[str, Any]:
    from msgd.lab.files import parse_toml

    table: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UserError(f"--set {pair}: write --set key=value")
        try:
            table[key] = parse_toml(f"value = {value}")["value"]
        except ValueError:
            table[key] = value  # a string without quotes
    return table


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _rates(text: str) -> list[float]:
    key, equals, values = text.partition("=")
    try:
        if key.strip() != "lr" or not equals:
            raise ValueError
        return [float(value) for value in values.split(",")]
    except ValueError:
        raise UserError(f"--tune {text}: write --tune lr=0.1,0.2,0.4") from None


def _wants_events(log: str | None) -> bool:
    if log not in (None, "tensorboard"):
        raise UserError(f"--log: {log!r} is not known; there is tensorboard")
    return log is not None


class _Who(NamedTuple):
    """Who is to do the jobs, as the options say."""

    backend: str
    address: str | None
    jobs: int | None

    @contextmanager
    def workers(self, console: Console) -> Iterator[Workers]:
        from msgd.lab.backends import connected

        with connected(*self) as workers:
            if workers.about:
                console.print(workers.about)
            yield workers

    def place(self, folder: Path) -> Path:
        """A folder as the workers of a cluster can name it: their working directory is another one."""
        return folder if self.backend == "loky" else folder.absolute()

    def device(self, name: str) -> str:
        """The device that an option names; the command itself needs none where a cluster has it."""
        if name not in ("auto", "cpu", "cuda"):
            raise UserError(f"--device: {name!r} is none of auto, cpu, cuda")
        if name == "cpu" or (name == "cuda" and self.backend != "loky"):
            return name
        import torch

        if torch.cuda.is_available():
            return "cuda"
        if name == "cuda":
            raise UserError("--device cuda: torch sees no CUDA device; use --device cpu")
        return "cpu"


def _run(
    name: str,
    out: Path | None,
    methods: list[str] | None,
    changes: dict[str, Any],
    who: _Who,
    device: str,
    data_dir: Path | None,
    *,
    events: bool,
) -> None:
    from msgd.lab.reading import kind_of, read_table, recipe_names, recipe_text
    from msgd.lab.said import conclude

    source = f"recipe {name}" if name in recipe_names() else name
    table = read_table(recipe_text(name), source=source, settings=changes)
    name = Path(name).stem
    out, console = who.place(out or Path("runs") / name), _console()
    if kind_of(table, source=source) == "least-squares":
        if data_dir is not None or device == "cuda":
            raise UserError(f"{source}: least squares are simulated on the CPU: leave out --data-dir and --device cuda")
        if events:
            raise UserError(f"{source}: simulated least squares have no metrics for TensorBoard: leave out --log")
        who.device(device)
        _simulate(name, table, source, methods, out, who, console)
    else:
        _train(name, table, source, methods, out, who, who.device(device), data_dir, console, events)
    conclude(out, console)


def _train(
    name: str,
    table: dict[str, Any],
    source: str,
    methods: list[str] | None,
    out: Path,
    who: _Who,
    device: str,
    data_dir: Path | None,
    console: Console,
    events: bool,
) -> None:
    from msgd.lab.config import select_methods, validated_recipe

    recipe = select_methods(validated_recipe(table, source=source), methods)

    if events:
        from msgd.lab.events import check_installed

        check_installed()

    from msgd.lab import processes
    from msgd.lab.experiment import Experiment

    console.print(recipe.title, style="bold")
    if processes.size() > 1:
        processes.check(recipe, who.jobs, who.backend, device)
        who = who._replace(jobs=1)
        console.print(f"Each step is shared out over {processes.size()} processes.")
    with who.workers(console) as workers:
        Experiment(name, recipe, out, data_dir, workers, device, console, events).conduct()


def _simulate(
    name: str,
    table: dict[str, Any],
    source: str,
    methods: list[str] | None,
    out: Path,
    who: _Who,
    console: Console,
) -> None:
    from msgd.lab.least_squares.conduct import conduct
    from msgd.lab.least_squares.recipe import parse, select

    recipe = select(parse(table, source=source), methods)
    console.print(recipe.title, style="bold")
    with who.workers(console) as workers:
        conduct(name, recipe, out, workers=workers, console=console)


def _measure(
    target: Path,
    at: str | None,
    what: str | None,
    cost: str,
    methods: str | None,
    seeds: int,
    who: _Who,
    device: str,
    data_dir: Path | None,
) -> None:
    from msgd.lab import results
    from msgd.lab.measure import measure as run_measurements
    from msgd.lab.noise_tables import noise_notes, noise_rows, shape_rows
    from msgd.lab.points import locate, request_of
    from msgd.lab.reading import kind_in
    from msgd.lab.report import write_report
    from msgd.lab.said import print_table

    request = request_of(at, what, cost, None if methods is None else _names(methods), seeds)
    out, folder, step = locate(who.place(target))
    if kind_in(out) == "least-squares":
        raise UserError(f"{out}: simulated least squares keep no checkpoints; what they are is known exactly (theory)")
    gathered, console = results.gather(out), _console()
    place = who.device(device)
    with who.workers(console) as workers:
        measured = run_measurements(
            gathered,
            out,
            folder,
            request if step is None else request.only(step),
            data_dir=data_dir,
            workers=workers,
            device=place,
            console=console,
        )
    for table in (noise_rows(measured), shape_rows(measured)):
        print_table(console, *table)
    console.print()
    for sentence in noise_notes(measured):
        console.print(sentence)
    console.print(f"\nReport: {write_report(gathered, out)}")
