"""The one function that adds LoRA to a model; lesson 07 shows it."""

import torch
from peft import LoraConfig

TEXT_ATTENTION = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj)"  # of Qwen3-VL: the vision tower has none of these


def add_lora(model: torch.nn.Module, rank: int = 16) -> None:
    """LoRA (Hu et al. 2021) on the text side's attention: its weights freeze, two slim matrices beside each train.

    `model` is a SentenceTransformer, a CrossEncoder or one `Transformer` module, as a Router holds them. A layer behind
    the network (Dense) still trains. Adapters are float32 whatever the weights are: AdamW's steps are too small for
    fp16, and the scaler of `fp16=True` refuses fp16 gradients. Raises ValueError if the network has no such attention.
    """
    network = model.transformers_model if hasattr(model, "transformers_model") else model.model
    network.add_adapter(LoraConfig(r=rank, target_modules=TEXT_ATTENTION))  # q_proj, k_proj, v_proj and o_proj
    for name, parameter in network.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
