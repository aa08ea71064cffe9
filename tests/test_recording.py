"""What a lesson records is whole, readable and named so that tests and the report find it."""

import json
import math
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from huggingface_hub import constants

from course_utils import recording
from course_utils.errors import CourseError
from course_utils.evaluation import Interval
from course_utils.recording import Run


@pytest.fixture
def run(tmp_path):
    return Run("07_toy", profile="tiny", seed=3, build=tmp_path)


def saved(run):
    assert run.save() is None, "a notebook would show what its last line returns: a path of this machine"
    return json.loads((run.folder / "metrics.json").read_text(encoding="utf-8"))


def test_a_saved_run_holds_its_figures_and_their_intervals(run):
    run.record("queries", np.int64(300))
    run.record("ndcg@10/before", np.array(0.87))
    run.record("ndcg@10/gain", Interval(0.4, np.float64(0.35), 0.45, 300))
    content = saved(run)
    ends = {"ndcg@10/before": 0.87, "ndcg@10/gain": 0.4, "ndcg@10/gain/low": 0.35, "ndcg@10/gain/high": 0.45}
    assert content["metrics"] == {"queries": 300} | ends and isinstance(content["metrics"]["queries"], int)
    assert (content["lesson"], content["profile"], content["seed"]) == ("07_toy", "tiny", 3)
    assert content["peak_memory_mib"] > 1


@pytest.mark.parametrize("value", [math.nan, math.inf, Interval(0.5, math.nan, 0.6, 3)])
def test_a_figure_that_is_no_number_is_refused_by_name(run, value):
    with pytest.raises(CourseError, match="ndcg@10/after"):
        run.record("ndcg@10/after", value)


def test_a_name_with_spaces_is_refused(run):
    with pytest.raises(CourseError, match="measure/when"):
        run.record("ndcg after", 0.5)


def test_a_figure_is_saved_with_its_alt_text(run):
    figure, _ = plt.subplots()
    path = run.figure("before_after", figure, alt="Two bars.")
    plt.close(figure)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert saved(run)["figures"] == {"before_after": {"path": "before_after.png", "alt": "Two bars."}}
    with pytest.raises(CourseError, match="alt text"):
        run.figure("other", figure, alt=" ")


def test_a_training_goes_on_from_its_newest_whole_checkpoint_and_else_starts_afresh(run):
    folder, newest = run.training_folder(100, "lora")
    assert newest is None
    for step in (5, 10, 20):
        (folder / f"checkpoint-{step}").mkdir(parents=True)
    for step in (5, 10):  # 20 was cut off before its last file
        (folder / f"checkpoint-{step}" / "trainer_state.json").touch()
    assert run.training_folder(100, "lora", resume=True) == (folder, folder / "checkpoint-10")
    assert run.training_folder(100, "org/whole", resume=True)[1] is None
    assert run.training_folder(100, "lora") == (folder, None) and not folder.exists()


def test_other_weights_or_another_seed_are_another_training(run, tmp_path, monkeypatch):
    folder, _ = run.training_folder(100)
    assert Run("07_toy", profile="tiny", seed=4, build=tmp_path).training_folder(100)[0] != folder
    monkeypatch.setattr(recording, "fingerprint", lambda name: "of tomorrow")
    assert run.training_folder(100)[0] != folder


def test_the_commits_that_a_hub_gave_are_recorded(run, tmp_path, monkeypatch):
    published = recording.PROFILES["t4"]
    profile = replace(published, dataset=f"{published.dataset}@feed")
    monkeypatch.setitem(recording.PROFILES, "tiny", profile)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name, ref in (("models--Qwen--Qwen3-VL-Embedding-2B", "beef"), (published.dataset, "f00d")):
        folder = tmp_path / (name if name.startswith("models--") else f"datasets--{name.replace('/', '--')}")
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(ref, encoding="utf-8")
    (folder / "snapshots" / "feed").mkdir(parents=True)  # the data set is pinned
    commits = saved(run)["commits"]
    assert commits == {"Qwen/Qwen3-VL-Embedding-2B": "beef", profile.dataset: "feed"}
