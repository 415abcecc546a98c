"""What a module must define to be a task."""

from types import SimpleNamespace

import pytest
from torch import nn

from msgd.lab.errors import UserError
from msgd.lab.tasks.task import Task, task_in


def test_what_a_module_defines():
    module = SimpleNamespace(data=dict, network=list, LOWER_IS_BETTER=["mae"])
    task = task_in(module, "task.py")
    assert (task.data, task.network, task.loss, task.scores) == (dict, list, None, None)
    assert task.lower_is_better == ("mae",)
    assert not task.is_empty
    assert Task().is_empty


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (SimpleNamespace(), "task.py defines none of data, network, loss, scores; msgd init FOLDER"),
        (SimpleNamespace(network=nn.Linear(1, 1)), "network: it must be a function or a class that builds the network"),
        (SimpleNamespace(data=3), "data in task.py must be a function, not int"),
        (SimpleNamespace(data=dict, LOWER_IS_BETTER="mae"), "LOWER_IS_BETTER in task.py must be a list"),
        (SimpleNamespace(data=dict, LOWER_IS_BETTER=[1]), "LOWER_IS_BETTER in task.py must be a list"),
    ],
)
def test_refused(module, message):
    with pytest.raises(UserError, match=message):
        task_in(module, "task.py")
