"""What is known about the machine, and quiet libraries."""

import logging
import subprocess
import sys
import warnings

from course_utils import machine


def test_the_machine_is_asked_once_and_described_in_words(monkeypatch, request):
    asked = []

    def run(command, **options):
        asked.append((command[0], options["timeout"] > 0))
        return subprocess.CompletedProcess(command, 0, "NVIDIA T4\n", "")

    monkeypatch.setattr(subprocess, "run", run)
    machine.describe.cache_clear()  # the machine is asked again, here and after the test
    request.addfinalizer(machine.describe.cache_clear)
    found = machine.describe()
    assert machine.describe() == found and asked == [("nvidia-smi", True)]
    assert found["gpu"] == "NVIDIA T4" and found["cores"] == f"{machine.cores()} cores"


def test_a_container_s_limits_count(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    cores, free = machine.cores(), machine.free_gb()
    (tmp_path / "cpu.max").write_text("max 100000\n", encoding="utf-8")
    assert machine.cores() == cores
    (tmp_path / "cpu.max").write_text("100000 100000\n", encoding="utf-8")
    (tmp_path / "memory.max").write_text("900000000\n", encoding="utf-8")
    (tmp_path / "memory.current").write_text("400000000\n", encoding="utf-8")
    assert (machine.cores(), machine.memory_gb(), machine.free_gb()) == (1, 0.9, min(free, 0.5))


def test_peak_memory_is_that_of_the_process_and_not_of_its_parent():
    show = "from course_utils.machine import peak_memory_mib as peak; "
    child = (
        f"import subprocess, sys; {show} block = b'x' * (200 << 20); print(peak()); block = None; sys.stdout.flush(); "
        f"subprocess.run([sys.executable, '-c', {show + 'print(peak())'!r}])"
    )
    result = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True, timeout=60)
    parent, grandchild = map(float, result.stdout.split())
    assert 200 < parent < 400
    if sys.platform == "linux":
        assert 1 < grandchild < 100


def test_quiet_uses_the_cores_keeps_download_bars_and_sends_no_statistics(monkeypatch):
    import torch
    from huggingface_hub import constants
    from huggingface_hub.utils import are_progress_bars_disabled

    hidden, threads = are_progress_bars_disabled(), torch.get_num_threads()
    with warnings.catch_warnings():
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        machine.quiet()
        assert torch.get_num_threads() == threads
        monkeypatch.delenv("OMP_NUM_THREADS")
        machine.quiet()
        assert torch.get_num_threads() == machine.cores()
        assert constants.HF_HUB_DISABLE_TELEMETRY and are_progress_bars_disabled() == hidden


def test_quiet_keeps_trainers_and_models_off_an_apple_gpu(monkeypatch):
    import torch
    from sentence_transformers.util import get_device_name

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert get_device_name() == "mps" or torch.cuda.is_available()
    machine.quiet()
    assert get_device_name() == machine.device()


def test_quiet_silences_lancedb_when_it_makes_a_table(tmp_path):
    lines = (
        "from course_utils.machine import quiet",
        "quiet()",
        "import lancedb",
        f"lancedb.connect({str(tmp_path)!r}).create_table('pages', [{{'page': 'a', 'vector': [1.0, 0.0]}}])",
    )
    said = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, encoding="utf-8", check=True)
    assert "WARN" not in said.stdout + said.stderr


def test_quiet_drops_only_the_messages_that_it_names(caplog):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        machine.quiet()
        machine.quiet()  # changes nothing more
        warnings.warn("'pin_memory' argument is set as true but no", stacklevel=2)
        warnings.warn("loss is NaN", stacklevel=2)
        logger = logging.getLogger("transformers.image_utils")
        logger.addHandler(caplog.handler)
        try:
            logger.warning("Image decoding with `torchvision` is deprecated and will be removed")
            logger.warning("Something that matters")
        finally:
            logger.removeHandler(caplog.handler)
    assert [str(warning.message) for warning in seen] == ["loss is NaN"]
    assert {record.getMessage() for record in caplog.records} == {"Something that matters"}
