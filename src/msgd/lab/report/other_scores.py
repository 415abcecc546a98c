"""The scores that do not decide: each method's mean and verdict, in tables narrow enough for a terminal."""

from __future__ import annotations

from msgd.lab.experiment_folder.results import Results
from msgd.lab.experiment_folder.scores import Score
from msgd.lab.report.means import mean_text

WIDTH = 80  #: largest number of characters in a line of a table, unless one score alone takes more
GAP = 2  #: number of characters between two columns

Rows = list[tuple[str, ...]]


def other_tables(results: Results) -> list[tuple[str, tuple[str, ...], Rows]]:
    """The tables of the scores that do not decide.

    Args:
        results: the experiment's results.

    Returns:
        Title, column heads and rows of each table, with as many scores side by side as `WIDTH` allows; none for a
        phase diagram, which shows one score.
    """
    if results.recipe.grid or len(results.scores) < 2:
        return []
    groups: list[Rows] = []
    for score in results.scores[1:]:
        columns = _columns(results, score)
        names = [row[:1] for row in columns]
        wider: Rows = []
        if groups and [row[:1] for row in groups[-1]] == names:
            wider = [(*left, *right[1:]) for left, right in zip(groups[-1], columns, strict=True)]
        if wider and _width(wider) <= WIDTH:
            groups[-1] = wider
        else:
            groups.append(columns)
    titles = ["Other scores", *["Other scores, continued"] * (len(groups) - 1)]
    return [(title, heads, body) for title, (heads, *body) in zip(titles, groups, strict=True)]


def other_notes(results: Results) -> list[str]:
    """State the conditions of the verdicts in `other_tables`."""
    others = results.scores[1:]
    if results.recipe.grid or not others:
        return []
    claimed = [f"{score.name} (within {score.within})" for score in others if score.margin is not None]
    unclaimed = [score.name for score in others if score.margin is None]
    lower = [score.name for score in others if score.lower_is_better]
    sentences = ["The other scores are compared by the same tests, Holm-adjusted over the methods of each score."]
    if claimed:
        sentences.append(f"Equivalence is tested for {_listed(claimed)}.")
    if unclaimed:
        sentences.append(f"No equivalence is tested for {_listed(unclaimed)}: the recipe's margins name none.")
    if lower:
        sentences.append(f"Lower values of {_listed(lower)} are better.")
    return [" ".join(sentences)]


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _columns(results: Results, score: Score) -> Rows:
    """The methods that have a score, with its two columns, and the heads."""
    ends, diverged = results.endpoints(score.name), results.diverged_runs()
    verdicts = {c.method: c.verdict for c in results.comparisons_of(score.name)} | {
        results.recipe.reference: "the reference"
    }
    table: Rows = [("method", f"test {score.name}", "verdict")]
    for method in results.by_method():
        if method in ends or method in diverged:
            verdict = "diverged" if method in diverged else verdicts.get(method, "–")
            table.append((method, mean_text(score, ends.get(method, {})), verdict))
    return table


def _width(table: Rows) -> int:
    return sum(max(map(len, column)) + GAP for column in zip(*table, strict=True)) - GAP
