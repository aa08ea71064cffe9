"""A fault that only a GPU shows is found without one: three that lessons had are put back, each in a few lines."""

import threading

import numpy as np
import pytest
import torch
from torch import nn

from course_utils.machine import device
from course_utils.maintain.rehearsal import models_alive
from course_utils.maintain.rehearsal.models_alive import watched
from course_utils.maintain.rehearsal.pretended_gpu import pretended_gpu
from course_utils.profiles import PROFILES, load_profile

TWO_DEVICES = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"


@pytest.fixture
def gpu():
    with pretended_gpu():
        yield


def network(*widths, **options):
    layers = [nn.Linear(a, b, **options) for a, b in zip(widths, widths[1:], strict=False)]
    return nn.Sequential(*layers)


# --- what a tensor says and refuses ---


def test_tensors_and_modules_report_the_gpu_and_views_and_results_stay_there(gpu):
    x = torch.randn(3, 4).to("cuda")
    made = [x, x[0], x @ x.T, x.half(), x.new_zeros(2), torch.zeros(2, device="cuda"), torch.arange(3, device=x.device)]
    made += [x.detach(), torch.zeros_like(x), torch.randn(2).cuda(), torch.tensor([1.0], device=0), x.to("cuda")]
    assert all(tensor.is_cuda and tensor.device == torch.device("cuda", 0) for tensor in made)
    back = [x.cpu(), x.to("cpu"), torch.zeros_like(x, device="cpu"), torch.zeros(2), x.cpu() + 1]
    assert not any(tensor.is_cuda for tensor in back) and {tensor.device.type for tensor in back} == {"cpu"}
    model = network(4, 4).to("cuda")
    assert all(p.is_cuda and p.is_leaf for p in model.parameters()) and model(x).is_cuda
    assert not any(p.is_cuda for p in model.to("cpu").parameters())


def test_a_copy_on_the_gpu_leaves_the_original_where_it_was(gpu):
    x = torch.zeros(2)
    y = x.to("cuda")
    y += 1
    assert x.tolist() == [0, 0] and not x.is_cuda and y.is_cuda


@pytest.mark.parametrize(
    "mixed",
    [
        lambda x, y: x + y,
        lambda x, y: x @ y,
        lambda x, y: torch.cat([x, y]),
        lambda x, y: x.add_(y),
        lambda x, y: nn.functional.linear(y, x),
    ],
)
def test_two_devices_in_one_operation_raise_what_cuda_raises(gpu, mixed):
    with pytest.raises(RuntimeError, match=TWO_DEVICES):
        mixed(torch.ones(2, 2, device="cuda"), torch.ones(2, 2))


def test_what_cuda_allows_is_allowed(gpu):
    x = torch.ones(2, 2, device="cuda")
    assert (x * torch.tensor(2.0)).is_cuda and x[torch.tensor([0])].is_cuda
    y = torch.zeros(2, 2)
    y.copy_(x)
    assert y.sum() == 4 and not y.is_cuda
    with pytest.raises(RuntimeError, match="indices should be either on cpu"):
        y[torch.tensor([0], device="cuda")]


def test_numpy_refuses_a_gpu_tensor(gpu):
    for read in (torch.Tensor.numpy, np.asarray):
        with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu"):
            read(torch.ones(2, device="cuda"))
    assert torch.ones(2, device="cuda").cpu().numpy().sum() == 2


@pytest.mark.parametrize("options", [{}, {"fused": True}, {"foreach": True}], ids=str)
def test_training_on_it_gives_what_training_on_the_cpu_gives(options):
    def trained(where):
        torch.manual_seed(0)
        model, x = network(4, 8, 3).to(where), torch.randn(6, 4).to(where)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, **options)
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), torch.arange(6, device=where) % 3).backward()
            optimizer.step()
        assert all(p.grad.device.type == where for p in model.parameters())
        return torch.cat([p.detach().flatten().cpu() for p in model.parameters()])

    with pretended_gpu():
        found = trained("cuda")
    torch.testing.assert_close(found, trained("cpu"))


def test_threads_that_start_in_the_block_see_it_too(gpu):
    seen = []

    class Worker(threading.Thread):  # as the pools of web servers write it
        def run(self):
            seen.append(torch.zeros(1).to("cuda").is_cuda)

    for thread in (threading.Thread(target=lambda: seen.append(torch.zeros(1).to("cuda").is_cuda)), Worker()):
        thread.start()
        thread.join(60)
    assert seen == [True, True]


def test_it_ends_with_the_block_and_profiles_stay_as_written_inside_it():
    before = torch.cuda.is_available()
    with pretended_gpu(16):
        assert device() == "cuda" and load_profile("t4") == PROFILES["t4"]
    assert torch.cuda.is_available() == before and "device" not in vars(torch.Tensor)


# --- faults that lessons had, put back ---


def test_fault_vectors_on_the_cpu_beside_a_model_on_the_gpu(gpu):
    """Lessons 04 and 07 gave an evaluator vectors that were moved to the CPU before."""
    from sentence_transformers.util import cos_sim

    queries = network(4, 4).to("cuda")(torch.randn(2, 4, device="cuda"))
    pages = queries.detach().cpu()
    with pytest.raises(RuntimeError, match=TWO_DEVICES):
        cos_sim(queries, pages)
    assert cos_sim(queries, pages.to(queries.device)).is_cuda


def test_fault_a_layer_in_float32_behind_a_network_in_half_precision(gpu):
    """Lesson 09 cast its trained Dense to float32: training hides it in autocast, prediction does not."""
    model = nn.Sequential(network(4, 4).half(), network(4, 1)).to("cuda")
    x = torch.randn(2, 4, device="cuda").half()
    with torch.autocast("cuda", dtype=torch.float16):
        assert model(x).dtype == torch.float16
    with pytest.raises(RuntimeError, match=r"same dtype.*Half.*[Ff]loat|[Ff]loat.*Half"):
        model(x)


def one_lora_step(adapters):
    """A step as the trainer takes it with fp16=True: fp16 weights, autocast, a gradient scaler."""
    from peft import LoraConfig, inject_adapter_in_model

    torch.manual_seed(0)
    model = inject_adapter_in_model(LoraConfig(r=2, target_modules=["0"]), network(4, 4).half()).to("cuda")
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for p in trained.values():
        p.data = p.data.to(adapters)
    optimizer = torch.optim.AdamW(trained.values(), lr=0.1)
    scaler = torch.amp.GradScaler("cuda", init_scale=8.0)
    before = {name: p.detach().clone() for name, p in trained.items()}
    with torch.autocast("cuda", dtype=torch.float16):
        loss = model(torch.randn(2, 4, device="cuda").half()).float().square().mean()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    return [name for name, p in trained.items() if not torch.equal(p, before[name])]


def test_fault_adapters_in_fp16(gpu):
    """Lessons 03 and 06 trained them so."""
    with pytest.raises(ValueError, match="Attempting to unscale FP16 gradients"):
        one_lora_step(torch.float16)


def test_adapters_in_float32_beside_fp16_weights_take_a_step(gpu):
    assert any("lora_B" in name for name in one_lora_step(torch.float32))


# --- models that are alive at once ---


class Small(nn.Module):
    """Stands for a published network: the type and width of its configuration are all that counts."""

    def __init__(self):
        super().__init__()
        self.config = type("Config", (), {"model_type": "small", "hidden_size": 4})
        self.layer = nn.Linear(4, 4)


@pytest.fixture
def two_billion(monkeypatch):
    monkeypatch.setitem(models_alive.PUBLISHED, ("small", 4), 2.13e9)


def test_four_models_of_two_billion_do_not_fit_16_gb_and_three_do(gpu, two_billion):
    with watched(16):
        held = [Small().half().to("cuda") for _ in range(3)]
        with pytest.raises(
            torch.OutOfMemoryError, match=r"4 models are alive at once and need 17\.0 GB of the 14\.4 GB"
        ):
            Small().half().to("cuda")
        del held[0]
        held.append(Small().half().to("cuda"))
        held[0].to("cpu")
        assert Small().half().to("cuda").layer.weight.is_cuda, "one that was moved away takes nothing"


def test_gradients_and_moments_count_once_a_step_is_taken(gpu, two_billion):
    with watched(16):
        model = Small().half().to("cuda")
        optimizer = torch.optim.AdamW(model.parameters())
        model.layer(torch.ones(1, 4, device="cuda").half()).sum().backward()
        with pytest.raises(torch.OutOfMemoryError, match=r"Small 17\.0 GB"):
            optimizer.step()
