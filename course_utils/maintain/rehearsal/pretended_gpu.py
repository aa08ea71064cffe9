"""A GPU where there is none: tensors that report `cuda:0`, refuse what a CUDA tensor refuses, and compute on the CPU.

A tensor's device is a mark on its storage, so views share it and autograd, modules and optimizers need not know.
- `TorchFunctionMode` sees what Python asks for (`.to("cuda")`, `device=`) and marks what comes back.
- `TorchDispatchMode` sees every operation, backward passes included: it refuses operands on two devices and hands the
  mark on. Products of half-precision matrices are computed in float32 and rounded, as a GPU does.
- `torch.cuda` answers as a GPU of `memory_gb` would; `torch.autocast("cuda")` and its GradScaler work as the CPU's.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import safetensors.torch
import torch
import torch._dynamo  # before torch.cuda is altered, of which it makes a list
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from course_utils.maintain.rehearsal.pretended_cuda import CUDA, answers

CPU, GPU, EITHER = "cpu", "cuda", "either"  # EITHER: torch's own buffers, made without a tensor to take the device from
aten = torch.ops.aten
COPIES = {aten.copy_, aten._to_copy, aten._copy_from}
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
PRODUCTS = {aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.convolution, aten.convolution_backward}
HALVES = {torch.float16, torch.bfloat16}
IN_FLOAT32 = {torch.nn.functional.layer_norm}  # by CUDA's autocast; the CPU's leaves them in half precision
TO = {torch.Tensor.to, torch.Tensor.cuda, torch.Tensor.cpu}
MODULES = (torch.cuda, torch.cuda.random, torch.cuda.memory, torch.accelerator)
_real_device = torch._C.TensorBase.device.__get__
_real_numpy = torch._C.TensorBase.numpy


def _storage(tensor: torch.Tensor) -> torch.UntypedStorage | None:
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    try:
        return torch._C.TensorBase.untyped_storage(tensor)
    except (NotImplementedError, RuntimeError):  # a tensor without a storage
        return None


def place(tensor: torch.Tensor) -> str:
    """CPU, GPU or EITHER."""
    with torch._C.DisableTorchFunction():
        return getattr(_storage(tensor), "place", CPU)


def _mark(result: Any, where: str) -> Any:
    def mark(tensor: torch.Tensor) -> None:
        with torch._C.DisableTorchFunction():
            if (storage := _storage(tensor)) is not None:
                storage.place = where

    if isinstance(result, torch.Tensor):
        mark(result)
    elif isinstance(result, (tuple, list)):
        for part in result:
            _mark(part, where)
    return result


def _asks(device: Any) -> str | None:
    """What a `device` argument asks for: CPU or GPU; None for other devices and for other things."""
    if isinstance(device, torch.device):
        device = device.type
    elif isinstance(device, int) and not isinstance(device, bool):
        return GPU
    elif not isinstance(device, str):
        return None
    kind = device.partition(":")[0]
    return kind if kind in (CPU, GPU) else None


def _tensors(values: Any) -> list[torch.Tensor]:
    found = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (tuple, list)):
            found += _tensors(value)
    return found


class _Asked(TorchFunctionMode):
    """Answers what Python code asks of a device."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in TO:
            return self._moved(func, args, kwargs)
        if func in IN_FLOAT32 and torch.is_autocast_enabled(CPU):
            args, kwargs = tree_map_only(torch.Tensor, lambda tensor: tensor.to(torch.float32), (args, kwargs))
        asked = _asks(kwargs.get("device")) if "device" in kwargs else None
        if asked:
            kwargs["device"] = CPU
        given = _tensors((*args, *kwargs.values()))
        result = func(*args, **kwargs)
        if asked:
            return _arrive(result, given, asked)
        if not given and isinstance(result, torch.Tensor) and place(result) == EITHER:
            _mark(result, CPU)
        return result

    def _moved(self, func, args, kwargs):
        tensor, *rest = args
        if func is torch.Tensor.cuda:
            asked, rest, kwargs = GPU, [], {}
        elif func is torch.Tensor.cpu:
            asked, rest, kwargs = CPU, [], {}
        else:
            rest = [_place_of(other) if isinstance(other, torch.Tensor) else [other] for other in rest]
            rest = [value for values in rest for value in values]
            if isinstance(other := kwargs.pop("other", None), torch.Tensor):
                rest = [*_place_of(other), *rest]
            first = rest[0] if rest and not isinstance(rest[0], (torch.dtype, bool)) else kwargs.get("device")
            asked = _asks(first)
            if asked:
                rest = [CPU, *rest[1:]] if rest and first is rest[0] else rest
                kwargs |= {"device": CPU} if "device" in kwargs else {}
        result = torch.Tensor.to(tensor, *rest, **kwargs)
        return _arrive(result, [tensor], asked) if asked else result


def _place_of(other: torch.Tensor) -> list:
    return [other.device, other.dtype]


def _arrive(result: Any, given: list[torch.Tensor], asked: str) -> Any:
    """The result on the device that was asked for: a copy, where it shares memory with a tensor on another."""
    if not isinstance(result, torch.Tensor):
        return result
    if place(result) != asked and any(
        torch._C.TensorBase.untyped_storage(result)._cdata == torch._C.TensorBase.untyped_storage(tensor)._cdata
        for tensor in given
    ):
        result = result.clone()
    return _mark(result, asked)


class _Computed(TorchDispatchMode):
    """Watches every operation."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        packet = func.overloadpacket
        given = _tensors((*args, *kwargs.values()))
        where = place(given[0]) if packet in COPIES else _common(packet, args, given)
        kinds = {tensor.dtype for tensor in given}
        if packet in PRODUCTS and len(kinds) == 1 and kinds <= HALVES:
            (kind,) = kinds
            raised = tree_map_only(torch.Tensor, torch.Tensor.float, args)
            result = tree_map_only(torch.Tensor, lambda tensor: tensor.to(kind), func(*raised, **kwargs))
        else:
            result = func(*args, **kwargs)
        return _mark(result, where) if where != CPU else result


def _common(packet: Any, args: tuple, given: list[torch.Tensor]) -> str:
    """Where an operation happens. Raises RuntimeError, with CUDA's words, where its operands are on two devices."""
    if not given:
        return EITHER
    places = [place(tensor) for tensor in given]
    if GPU not in places:
        return CPU if CPU in places else EITHER
    if CPU not in places:
        return GPU
    if packet in INDEXED:
        if places[0] == CPU:
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        given = _tensors([args[0], *args[2:3]])
        places = [place(tensor) for tensor in given]
    if (
        any(where == CPU and tensor.dim() for where, tensor in zip(places, given, strict=True))
        or places[0] == CPU
        and _writes(packet)
    ):
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
        )
    return GPU


def _writes(packet: Any) -> bool:
    return packet._qualified_op_name.endswith("_")


@contextmanager
def pretended_gpu(memory_gb: float = 16) -> Iterator[None]:
    """Pretend a GPU in this process, threads that start in the block included.

    It does not lie below Python: C++ sees CPU tensors. What it cannot show: kernels that CUDA lacks or adds, its speed,
    its memory (see `models_alive`), and more than one GPU.
    """
    changes: list[tuple[Any, str, Any]] = []
    for name, answer in answers(memory_gb).items():
        changes += [(module, name, answer) for module in MODULES if hasattr(module, name)]
    changes += [
        (torch.accelerator, "current_accelerator", lambda check_available=False: torch.device(GPU)),
        (torch.accelerator, "current_device_index", lambda: 0),
        (torch.Tensor, "device", property(lambda self: CUDA if place(self) == GPU else _real_device(self))),
        (torch.Tensor, "is_cuda", property(lambda self: place(self) == GPU)),
        (torch.Tensor, "is_cpu", property(lambda self: _real_device(self).type == CPU and place(self) != GPU)),
        (torch.Tensor, "get_device", lambda self: 0 if place(self) == GPU else -1),
        (torch.Tensor, "numpy", _numpy),
        (torch.Tensor, "pin_memory", lambda self, device=None: self),
        (torch.amp.autocast, "__init__", _on_the_cpu(torch.amp.autocast.__init__)),
        (torch.amp.GradScaler, "__init__", _on_the_cpu(torch.amp.GradScaler.__init__)),
        (torch, "load", _loading(torch.load)),
        (safetensors.torch, "load_file", _loading(safetensors.torch.load_file)),
        (torch.autograd, "_engine_run_backward", _asking(torch.autograd._engine_run_backward)),
        (threading.Thread, "start", _pretending(threading.Thread.start)),
    ]
    for name in ("is_autocast_enabled", "get_autocast_dtype", "set_autocast_enabled", "set_autocast_dtype"):
        changes.append((torch, name, _as_cpu(getattr(torch, name))))
    with ExitStack() as stack:
        for thing, name, changed in changes:
            stack.enter_context(patch.object(thing, name, changed))
        stack.enter_context(_Asked())
        stack.enter_context(_Computed())
        yield


def _as_cpu(function: Callable) -> Callable:
    """A function of torch whose first argument may be "cuda", answered by the CPU's."""

    @functools.wraps(function)
    def answered(device_type=GPU, *args, **kwargs):
        return function(CPU if _asks(device_type) == GPU else device_type, *args, **kwargs)

    return answered


def _on_the_cpu(start: Callable) -> Callable:
    """The `__init__` of autocast or GradScaler, told that it works on the CPU."""

    @functools.wraps(start)
    def started(self, *args, **kwargs):
        name = "device" if "device" in kwargs else "device_type"
        device, rest = (kwargs.pop(name), args) if name in kwargs else ((*args, GPU)[0], args[1:])
        start(self, CPU if _asks(device) == GPU else device, *rest, **kwargs)

    return started


def _loading(load: Callable) -> Callable:
    """A function that loads a file of tensors, with its second argument, a device, answered here."""

    @functools.wraps(load)
    def loading(file, device=None, *args, **kwargs):
        device = kwargs.pop("map_location", device)
        asked = _asks(device)
        result = (
            load(file, CPU if asked else device, *args, **kwargs) if device is not None else load(file, *args, **kwargs)
        )
        return tree_map_only(torch.Tensor, lambda tensor: tensor.to(GPU), result) if asked == GPU else result

    return loading


def _asking(run_backward: Callable) -> Callable:
    """The backward pass with the mode, which torch has put aside by then: hooks can compute again in Python."""

    @functools.wraps(run_backward)
    def asking(*args, **kwargs):
        with _Asked():
            return run_backward(*args, **kwargs)

    return asking


def _pretending(start: Callable) -> Callable:
    """A thread's `start` whose `run`, a subclass's too, has the modes, which torch keeps for each thread."""

    @functools.wraps(start)
    def pretending(self):
        run = self.run

        def with_modes():
            with _Asked(), _Computed():
                run()

        self.run = with_modes
        start(self)

    return pretending


def _numpy(tensor: torch.Tensor, *args, **kwargs):
    if place(tensor) == GPU:
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first."
        )
    return _real_numpy(tensor, *args, **kwargs)
