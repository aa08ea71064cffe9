"""The machine a lesson runs on, and quiet libraries."""

import contextlib
import logging
import os
import platform
import re
import subprocess
import sys
import warnings
from functools import cache
from importlib.metadata import version
from pathlib import Path

import psutil

# Messages of the libraries that ask nothing of a learner: (logger, words in the message).
NOISE = (
    ("transformers.image_utils", "Image decoding with `torchvision` is deprecated"),  # torchvision is pinned
    ("transformers.trainer_utils", "The tokenizer has new PAD/BOS/EOS tokens"),  # only generation would use them
    # about speed only; a query and a page never qualify
    ("sentence_transformers.base.losses.merged_forward", "embedding each input column in its own forward pass"),
    # defaults of SiglipTextConfig
    ("transformers.configuration_utils", "must be `None` or an integer within the vocabulary"),
)
WARNINGS = (
    "IProgress not found",  # progress bars are text without ipywidgets
    "'pin_memory' argument is set as true",  # has no effect without a GPU
    "`is_gradient_checkpointing` is deprecated",  # peft asks transformers by the old name
)

CGROUP = Path("/sys/fs/cgroup")  # a container's limits, on Linux
PACKAGES = ("sentence-transformers", "transformers", "torch", "torchvision", "datasets", "accelerate", "peft", "numpy")


def device() -> str:
    """ "cuda" if there is a GPU that torch can use, else "cpu".

    Apple's "mps" is never chosen for you (`quiet` hides it): not every operation of these models runs there. To try it,
    pass `device="mps"` yourself and compare the embeddings with the CPU's first.
    """
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def quiet() -> None:
    """Drop the library messages that ask nothing of a learner; call it before importing the libraries.

    Only the messages in NOISE and WARNINGS go, and the bars for loading and writing weights: whatever
    else a library warns about is worth reading. Also: torch uses the cores that this process may use
    (unless OMP_NUM_THREADS is set) and no Apple GPU, tokenizers do not warn about forks, LanceDB tells errors only (unless LANCEDB_LOG
    is set), and the Hugging Face Hub gets no usage statistics. Download bars stay. Calling it twice changes nothing.
    """
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"  # of data sets, counted on another machine than the Hub
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("LANCEDB_LOG", "error")  # LanceDB warns whenever it makes a table
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message=re.escape(message))
    for name, words in NOISE:
        logging.getLogger(name).addFilter(lambda record, words=words: words not in record.getMessage())

    import torch
    from huggingface_hub import constants
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from transformers.utils import logging as transformers_logging

    if torch.backends.mps.is_available():  # else every trainer takes it
        torch.backends.mps.is_available = lambda: False
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(cores())
    constants.HF_HUB_DISABLE_TELEMETRY = True
    downloads_hidden = are_progress_bars_disabled()
    transformers_logging.disable_progress_bar()  # would hide the Hub's download bars as well
    if not downloads_hidden:
        enable_progress_bars()


def cores() -> int:
    """CPU cores that this process may use, which in a container can be fewer than the machine has."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):  # a container's share of the time, "200000 100000" for two cores
        quota, period = map(int, (CGROUP / "cpu.max").read_text(encoding="utf-8").split())
        found = min(found, max(1, quota // period))
    return found


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far, in MiB.

    Linux gives it as VmHWM (its `ru_maxrss` would be the parent's where that was larger), macOS as `ru_maxrss`, Windows
    as the peak of the working set.
    """
    with contextlib.suppress(OSError, TypeError):
        return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))[1]) / 1024
    with contextlib.suppress(ImportError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return psutil.Process().memory_info().peak_wset / 2**20


@cache
def describe() -> dict[str, str]:
    """This machine in words: processor, cores, memory, gpu, python, system; without torch and without host names."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        found = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        found = ""
    return {
        "processor": cpu_model(),
        "cores": f"{cores()} cores",
        "memory": f"{memory_gb():.0f} GB memory",
        "gpu": found.strip().replace("\n", ", ") or "no NVIDIA GPU",
        "python": f"Python {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Versions of the packages that decide the results."""
    return {name: version(name) for name in PACKAGES}


def cpu_model() -> str:
    """The processor's name."""
    with contextlib.suppress(OSError, TypeError):
        return re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))[1].strip()
    return platform.processor() or platform.machine()


def memory_gb() -> float:
    """Memory that this process may use: the machine's, or the container's limit where that is smaller."""
    memory = psutil.virtual_memory().total
    with contextlib.suppress(OSError, ValueError):
        memory = min(memory, int((CGROUP / "memory.max").read_text(encoding="utf-8")))
    return round(memory / 1e9, 1)


def free_gb() -> float:
    """Memory that a new process could take: the machine's, or what is left of the container's where that is less."""
    free = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):
        limit, used = (int((CGROUP / name).read_text(encoding="utf-8")) for name in ("memory.max", "memory.current"))
        free = min(free, limit - used)
    return free / 1e9
