"""Several experiments as one: the methods of all their folders, compared with one reference, paired by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from msgd.lab.errors import UserError, one_line
from msgd.lab.experiment_folder.results import FinishedRun, Results, compare_methods
from msgd.lab.experiment_folder.scores import Score


@dataclass(frozen=True, eq=False)
class Pool:
    """Results of several folders.

    Args:
        results: the results, whose methods are named ``FOLDER:METHOD``, with the deciding score and the margin of the
            first folder. All comparisons are one family of Holm's adjustment.
        copies: methods that are left out, because their runs have the settings and the noise of another's: name → the
            other. A difference of zero by construction would cost the others power.
    """

    results: Results
    copies: dict[str, str]


def pool(folders: Sequence[Path], experiments: Sequence[object], reference: str | None) -> Pool:
    """Compare the methods of several experiments with one reference.

    Args:
        folders: the folders.
        experiments: the results of each, of whichever kind.
        reference: ``FOLDER:METHOD``, with the folder's name or path, or a method of the first folder; None for the
            first folder's own reference.

    Returns:
        The pooled results.

    Raises:
        UserError: a folder is given twice, or holds a phase diagram or no training runs; the folders have other data,
            or no seed or score in common; or there is no such reference.
    """
    names = folder_names(folders)
    trained = [_trained(name, results) for name, results in zip(names, experiments, strict=True)]
    first = trained[0]
    for name, results in zip(names, trained, strict=True):
        _check_data(names[0], first, name, results)
        _check_score(names[0], first.score, name, results)
    runs: dict[str, list[FinishedRun]] = {}
    copies: dict[str, str] = {}
    for name, results in zip(names, trained, strict=True):
        for method, done in results.by_method().items():
            label = f"{name}:{method}"
            twin = next((other for other, theirs in runs.items() if _is_copy(done, theirs)), None)
            if twin is None:
                runs[label] = done
            else:
                copies[label] = twin
    base = _reference(names[0], first, _named(reference, folders, names), runs, copies)
    renamed = [replace(each, run=replace(each.run, method=label)) for label, done in runs.items() for each in done]
    same_vary = all(results.recipe.vary == first.recipe.vary for results in trained)
    recipe = first.recipe.model_copy(
        update={"reference": base, "match": "steps", **({} if same_vary else {"vary": ["init", "noise"]})}
    )
    missing = sum(results.missing_runs for results in trained)
    results = Results(first.name, recipe, first.environment, renamed, missing, 0, [], (first.score,))
    return Pool(replace(results, comparisons=compare_methods(results, first.score)), copies)


def folder_names(folders: Sequence[Path]) -> list[str]:
    """A name for each folder: the end of its path, as short as tells all of them apart.

    Args:
        folders: the folders.

    Returns:
        The names, all different.

    Raises:
        UserError: a folder is given twice, or two cannot be told apart in print.
    """
    resolved = [folder.resolve() for folder in folders]
    for folder, path in zip(folders, resolved, strict=True):
        if resolved.count(path) > 1:
            raise UserError(f"{folder} is given twice: give each folder once")
    names = [one_line(_short(path, resolved)) for path in resolved]
    if len(set(names)) < len(names):
        raise UserError("two folders differ only in characters that cannot be printed: rename one")
    return names


def _short(path: Path, others: Sequence[Path]) -> str:
    """The shortest end of a path that no other path has."""
    length = 1
    while sum(other.parts[-length:] == path.parts[-length:] for other in others) > 1:
        length += 1
    return "/".join(path.parts[-length:])


def _trained(name: str, results: object) -> Results:
    if not isinstance(results, Results):
        raise UserError(f"{name} holds simulated least squares, which have exact curves to compare with: give it alone")
    if results.recipe.grid:
        raise UserError(f"{name} holds a phase diagram, whose cells have references of their own: give it alone")
    return results


def _check_data(first: str, base: Results, name: str, results: Results) -> None:
    """Refuse other data: the pairs would differ by more than the method.

    Raises:
        UserError: a seed that both have has other data, or they have no seed in common.
    """
    mine, theirs = ({each.run.seed: each.run for each in r.finished_runs} for r in (base, results))
    shared = [seed for seed in mine if seed in theirs]
    if not shared:
        raise UserError(f"{name} has no seed in common with {first}: run more seeds, such as --seeds {len(mine)}")
    for seed in shared:
        a, b = mine[seed], theirs[seed]
        if (a.data_digest, a.n) == (b.data_digest, b.n):
            continue
        if a.data != b.data:
            what = f"{b.data}, and {first} on {a.data}"
        elif a.n != b.n:
            what = f"{b.n} examples of {b.data}, and {first} on {a.n}"
        else:
            what = f"{b.data} with the digest {b.data_digest[:12]} (seed {seed}), and {first} on {a.data_digest[:12]}"
        raise UserError(f"{name} was trained on {what}: only folders with the same data can be compared")


def _check_score(first: str, score: Score, name: str, results: Results) -> None:
    found = [each for each in results.scores if each.name == score.name]
    if not found:
        known = ", ".join(each.name for each in results.scores)
        raise UserError(
            f"{name} has no score {score.name!r}, by which {first} is decided; its scores are {known}: "
            "give a folder first whose deciding score all have"
        )
    if found[0].lower_is_better != score.lower_is_better:
        better = {True: "lower", False: "higher"}
        raise UserError(
            f"{better[found[0].lower_is_better]} values of {score.name} are better in {name}, and "
            f"{better[score.lower_is_better]} ones in {first}: only scores of the same direction can be compared"
        )


def _is_copy(done: list[FinishedRun], theirs: list[FinishedRun]) -> bool:
    """Whether the runs of two methods have equal settings and noise at every seed that both have."""
    by_seed = {each.run.seed: each.run for each in theirs}
    pairs = [(each.run, by_seed[each.run.seed]) for each in done if each.run.seed in by_seed]
    return bool(pairs) and all(a.identity() == b.identity() for a, b in pairs)


def _named(reference: str | None, folders: Sequence[Path], names: list[str]) -> str | None:
    """The reference with the folder's name in place of its path."""
    folder, colon, method = (reference or "").rpartition(":")
    paths = {path.resolve(): name for path, name in zip(folders, names, strict=True)}
    return f"{paths[path]}:{method}" if colon and (path := Path(folder).resolve()) in paths else reference


def _reference(
    first: str, base: Results, wanted: str | None, runs: dict[str, list[FinishedRun]], copies: dict[str, str]
) -> str:
    """The name of the reference, which has a finished run.

    Returns:
        ``FOLDER:METHOD``.

    Raises:
        UserError: there is none of this name.
    """
    label = base.recipe.reference if wanted is None else wanted
    for name in (label, f"{first}:{label}"):
        if (name := copies.get(name, name)) in runs:
            return name
    option = "" if wanted is None else "--reference "
    raise UserError(f"{option}{label}: there is no finished run of it; take one of {', '.join(runs)}")
