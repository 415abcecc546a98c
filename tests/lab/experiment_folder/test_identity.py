"""What a run's folder records beside its identity."""

import json

from msgd.lab.experiment_folder.identity import note_processes


def test_a_record_of_the_processes_that_is_anything(tmp_path):
    for content in ('{"processes_per_run": ""}', '{"processes_per_run": []}', "[]", "[" * 10**5, '{"a": NaN}'):
        (tmp_path / "environment.json").write_text(content)
        note_processes(tmp_path, {"processes_per_run": 2})
    (tmp_path / "environment.json").write_text('{"processes_per_run": 1}')
    note_processes(tmp_path, {"processes_per_run": 2})
    assert json.loads((tmp_path / "environment.json").read_text()) == {"processes_per_run": "1, then 2"}
