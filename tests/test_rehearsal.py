"""The published path is rehearsed: a hub of our own, checkpoints under the published names, and lessons that ask for no more."""

import json
import re
import subprocess
import sys
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from course_utils import profiles
from course_utils.maintain.rehearsal import hub as hub_module
from course_utils.maintain.rehearsal.hub import serving_hub
from course_utils.maintain.rehearsal.run import environment, fetched, gpu_gb, needed, problems
from course_utils.maintain.rehearsal.small_models import build_hub
from course_utils.paths import SOLUTIONS
from course_utils.profiles import PROFILES, PUBLISHED_DATA, load_profile
from course_utils.runner.lessons import Lesson, find_lessons

FULL, T4 = PROFILES["full"], PROFILES["t4"]


@pytest.fixture
def served(tmp_path):
    """A hub with one model of two files."""
    folder = tmp_path / "hub" / "models" / "org" / "name"
    (folder / "1_Part").mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    (folder / "1_Part" / "weights.bin").write_bytes(bytes(range(100)))
    with serving_hub(tmp_path / "hub") as hub:
        yield hub


def ask(hub, path, method="GET"):
    with urlopen(Request(hub.address + path, method=method)) as answer:
        return answer.status, dict(answer.headers), answer.read()


def test_a_file_has_its_commit_its_hash_and_its_length(served):
    status, headers, body = ask(served, "/org/name/resolve/main/config.json", "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", "22")
    assert re.fullmatch(r"[0-9a-f]{40}", headers["X-Repo-Commit"]) and re.fullmatch(r'"[0-9a-f]{64}"', headers["ETag"])
    assert ask(served, f"/org/name/resolve/{headers['X-Repo-Commit']}/config.json")[2] == b'{"model_type": "bert"}'


def test_trees_are_listed(served):
    def listed(answer):
        return [(entry["type"], entry["path"], entry["size"]) for entry in json.loads(answer[2])]

    assert listed(ask(served, "/api/models/org/name/tree/main")) == [
        ("directory", "1_Part", 0),
        ("file", "config.json", 22),
    ]
    assert len(listed(ask(served, "/api/models/org/name/tree/main?recursive=true"))) == 2
    assert listed(ask(served, "/api/models/org/name/tree/main/1_Part")) == [("file", "1_Part/weights.bin", 100)]


@pytest.mark.parametrize(
    "path, error",
    [
        ("/org/other/resolve/main/config.json", "RepoNotFound"),
        ("/datasets/org/name/resolve/main/config.json", "RepoNotFound"),
        ("/org/name/resolve/v2/config.json", "RevisionNotFound"),
        ("/org/name/resolve/main/missing.json", "EntryNotFound"),
        ("/org/name/resolve/main/../../../../../etc/passwd", "EntryNotFound"),
        ("/api/models/org/other", "RepoNotFound"),
        ("/api/models/org/name/tree/main/missing", "EntryNotFound"),
    ],
)
def test_what_is_missing_is_named_as_the_hub_names_it(served, path, error):
    with pytest.raises(HTTPError) as raised:
        ask(served, path)
    assert (raised.value.code, raised.value.headers["X-Error-Code"]) == (404, error)
    assert served.log[-1].status == 404


def run_python(code, hub, tmp_path):
    variables = environment(hub, tmp_path / "home", tmp_path / "build", tmp_path / "refused.txt")
    variables["HF_HUB_DISABLE_TELEMETRY"] = "1"  # as in every lesson
    return subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=120)


def test_the_hubs_own_library_reads_it_and_every_request_is_written_down(served, tmp_path):
    code = (
        "from huggingface_hub import HfApi, snapshot_download; from pathlib import Path\n"
        "folder = Path(snapshot_download('org/name')); print(sorted(p.name for p in folder.rglob('*') if p.is_file()))\n"
        "print(sum(file.size for file in HfApi().model_info('org/name', files_metadata=True).siblings))"
    )
    done = run_python(code, served, tmp_path)
    assert done.stdout.split("\n")[:2] == ["['config.json', 'weights.bin']", "122"], done.stderr
    assert fetched(served) == {"org/name"}
    assert problems(served, {"org/name"}, tmp_path / "refused.txt") == []
    assert problems(served, {"org/name", "org/more"}, tmp_path / "refused.txt") == ["org/more was not fetched"]
    assert problems(served, set(), tmp_path / "refused.txt") == ["org/name was asked for and is not needed"]


def test_a_rehearsed_process_reaches_no_other_machine(served, tmp_path):
    done = run_python("import urllib.request; urllib.request.urlopen('http://example.org')", served, tmp_path)
    assert done.returncode and "the rehearsal refuses example.org" in done.stderr
    done = run_python("import socket; socket.create_connection(('192.0.2.1', 80))", served, tmp_path)
    assert done.returncode and "the rehearsal refuses 192.0.2.1" in done.stderr
    assert problems(served, set(), tmp_path / "refused.txt") == [
        "another machine was asked for: 192.0.2.1",
        "another machine was asked for: example.org",
    ]


def test_an_unknown_name_and_a_stray_question_are_problems(served, tmp_path):
    for path in ("/api/models/org/other", "/api/whoami-v2"):
        with pytest.raises(HTTPError):
            ask(served, path)
    assert problems(served, set(), tmp_path / "none") == [
        "org/other was asked for and is not needed",
        "asked of the hub: GET /api/whoami-v2",
    ]


def lesson(number) -> Lesson:
    return find_lessons(SOLUTIONS, [number])[0]


@pytest.mark.parametrize(
    "number, profile, names",
    [
        ("00", FULL, set()),
        ("01", FULL, {FULL.embedder, FULL.raw_vlm, FULL.reranker, PUBLISHED_DATA}),
        ("04", T4, {T4.embedder, PUBLISHED_DATA}),
        ("07", FULL, {FULL.embedder, PUBLISHED_DATA}),
    ],
)
def test_what_a_lesson_needs_is_read_from_its_cells(number, profile, names):
    assert needed(lesson(number), profile) == names


def test_without_a_gpu_a_profile_falls_back_and_says_so_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(profiles, "device", lambda: "cpu")
    for name in ("t4", "full"):
        here, there = load_profile(name), PROFILES[name]
        assert (here.dtype, here.attention, here.bf16, here.fp16) == ("float32", "sdpa", False, False)
        kept = [field for field in vars(there) if field not in ("dtype", "attention", "bf16", "fp16")]
        assert all(getattr(here, field) == getattr(there, field) for field in kept)
        said = capsys.readouterr().out
        assert said.count("\n") == 1 and name in said and there.dtype in said
    assert load_profile("tiny") == PROFILES["tiny"] and capsys.readouterr().out == ""
    monkeypatch.setattr(profiles, "device", lambda: "cuda")
    assert load_profile("full") == FULL and capsys.readouterr().out == ""


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory):
    """The hub's repositories; half a minute and 0.6 GB."""
    return build_hub(tmp_path_factory.mktemp("rehearsal") / "rehearsal" / "hub")


@pytest.mark.slow
def test_the_hub_serves_the_published_names_and_widths_with_one_layer_each(hub_folder):
    names = {
        getattr(FULL, name) for name in ("embedder", "raw_vlm", "reranker", "text_tower", "image_tower", "dataset")
    }
    assert hub_module.Hub(hub_folder).repositories() == names

    def config(name, file="config.json"):
        return json.loads((hub_folder / "models" / name / file).read_text(encoding="utf-8"))

    for name in (FULL.embedder, FULL.raw_vlm, FULL.reranker):
        text, vision = config(name)["text_config"], config(name)["vision_config"]
        assert (text["hidden_size"], text["intermediate_size"], text["num_hidden_layers"]) == (2048, 6144, 1)
        assert (vision["hidden_size"], vision["intermediate_size"], vision["depth"]) == (1024, 4096, 1)
        assert len(list((hub_folder / "models" / name).glob("model-*.safetensors"))) > 1
    assert config(FULL.image_tower)["vision_config"]["hidden_size"] == 768
    assert not (hub_folder / "models" / FULL.raw_vlm / "modules.json").exists()
    classes = {
        name: [m["type"].rsplit(".", 1)[-1] for m in config(name, "modules.json")]
        for name in (FULL.embedder, FULL.reranker)
    }
    assert classes == {
        FULL.embedder: ["Transformer", "Pooling", "Normalize"],
        FULL.reranker: ["Transformer", "LogitScore"],
    }
    assert config(FULL.embedder, "1_Pooling/config.json")["pooling_mode"] == "lasttoken"


def test_the_gpu_of_a_profile_has_the_memory_that_its_hardware_line_says():
    assert (gpu_gb(T4), gpu_gb(FULL)) == (16, 80)


def test_a_rehearsed_process_has_the_pretended_gpu(served, tmp_path, monkeypatch):
    monkeypatch.setenv("REHEARSAL_GPU", "16")
    code = "import torch; print(torch.cuda.get_device_name(), torch.ones(2, device='cuda').device)"
    assert run_python(code, served, tmp_path).stdout == "pretended GPU cuda:0\n"
    monkeypatch.setenv("REHEARSAL_GPU", "none")
    done = run_python(code, served, tmp_path)
    assert done.returncode == 1 and "could not convert string to float" in done.stderr
