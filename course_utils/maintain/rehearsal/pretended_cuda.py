"""What `torch.cuda` answers where a GPU is pretended."""

import functools
from types import SimpleNamespace
from typing import Any

import torch

NAME = "pretended GPU"
CUDA = torch.device("cuda", 0)


def _nothing(*args, **kwargs) -> None:
    pass


def _zero(*args, **kwargs) -> int:
    return 0


@functools.cache
def _properties(memory_gb: float) -> SimpleNamespace:
    major, minor = (7, 5) if memory_gb < 24 else (9, 0)
    return SimpleNamespace(
        name=NAME, total_memory=int(memory_gb * 1e9), major=major, minor=minor, multi_processor_count=40, warp_size=32
    )


class _Nothing:
    """A stream, an event, a device's block: anything that can be entered, waited for and asked."""

    device_index = 0
    device = CUDA

    def __init__(self, *args, **kwargs):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def __getattr__(self, name):
        return lambda *args, **kwargs: 0


def answers(memory_gb: float) -> dict[str, Any]:
    """What `torch.cuda` says."""
    memory = int(memory_gb * 1e9)
    properties = _properties(memory_gb)
    return {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda device=None: NAME,
        "get_device_properties": lambda device=None: properties,
        "get_device_capability": lambda device=None: (properties.major, properties.minor),
        "get_arch_list": lambda: [f"sm_{properties.major}{properties.minor}"],
        "is_bf16_supported": lambda including_emulation=True: properties.major >= 8,
        "mem_get_info": lambda device=None: (memory, memory),
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "set_rng_state": lambda state, device=None: torch.set_rng_state(state),
        "get_rng_state_all": lambda: [torch.get_rng_state()],
        "set_rng_state_all": lambda states: torch.set_rng_state(states[0]),
        "memory_stats": lambda device=None: {},
        **dict.fromkeys(["Stream", "Event", "device", "stream"], _Nothing),
        **dict.fromkeys(["current_stream", "default_stream"], lambda device=None: _Nothing()),
        **dict.fromkeys(
            ["memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved", "utilization"], _zero
        ),
        **dict.fromkeys(
            [
                "init",
                "_lazy_init",
                "set_device",
                "synchronize",
                "empty_cache",
                "ipc_collect",
                "manual_seed",
                "manual_seed_all",
                "seed_all",
                "reset_peak_memory_stats",
                "reset_max_memory_allocated",
                "set_stream",
            ],
            _nothing,
        ),
    }
