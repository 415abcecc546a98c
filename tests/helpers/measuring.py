"""A small experiment to be measured, and what measuring it leaves behind."""

from helpers.commands import call
from helpers.small import SMALL
from msgd.lab.measure.measurements_file import read_measurements

RECIPE = SMALL.replace("steps = 60", "steps = 20\nsnapshots = [10]").replace('model = "mlp"', 'model = "conv-small"')


def trained(folder, recipe, data_dir, *options):
    folder.mkdir(exist_ok=True)
    (folder / "small.toml").write_text(recipe)
    assert (
        call("run", folder / "small.toml", "--out", folder / "out", "--data-dir", data_dir, "--jobs", 1, *options) == 0
    )
    return folder / "out"


def entries(out):
    """All that must not depend on how the measuring was interrupted or shared out."""
    found = read_measurements(out)
    assert found is not None
    return [m.model_dump(exclude={"seconds"}) for m in found.measurements]
