"""A small SigLIP for the Router: its image tower starts from the reading tower of the small Qwen3-VL.

Four losses on whole general pages: *read* as in pretraining; *match* page and query by SigLIP's own two towers, as a softmax
over the batch and as SigLIP's sigmoid; *imitate*: page and text, each seen through the same linear layer, point where
all-MiniLM-L6-v2 puts the page's headings and the text, and a page is nearer to its own headings than to the others'.
That layer is thrown away: the finished model's space is nobody else's.
"""

import math
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionPatchMerger

from ..queries import query
from .architecture import IMAGE_MEAN, IMAGE_STD
from .corpus import GRID_ROWS, GeneralPages
from .pictures import cells, picture
from .pretrain import IMITATION, TEACHER_WIDTH
from .reading import Reading
from .texts import LookAlikes, Teacher
from .training import Resumable, decayed_and_not

SIDE = 288
WIDTH = 160
GRID = SIDE // 32
TOWER = {"hidden_size": WIDTH, "intermediate_size": 480, "num_attention_heads": 4}


@dataclass(frozen=True)
class SiglipRecipe:
    steps: int
    learning_rate: float
    pages: int = 40
    texts: int = 64
    seed: int = 0


def new_siglip(reader, tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> tuple[SiglipModel, SiglipProcessor]:
    """A SiglipModel (float32) with the blocks of `reader`'s image tower and the strongest directions of its words."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="<|im_end|>",
        padding_side="left", model_max_length=64,  # SigLIP pools the last token
    )
    end = tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A <|im_end|>", special_tokens=[("<|im_end|>", end)])
    config = SiglipConfig(
        text_config=TOWER | {"vocab_size": len(tokenizer), "num_hidden_layers": 2, "max_position_embeddings": 64,
                             "eos_token_id": end, "bos_token_id": end, "pad_token_id": tokenizer.pad_token_id},
        vision_config=TOWER | {"num_hidden_layers": 4, "image_size": SIDE, "patch_size": 16},
    )
    torch.manual_seed(seed)
    model = SiglipModel(config)
    _take_over(model.vision_model, reader.model.visual)
    with torch.no_grad():
        words = reader.get_input_embeddings().weight.float()
        directions = torch.linalg.svd(words - words.mean(0), full_matrices=False)[2][:WIDTH]
        model.text_model.embeddings.token_embedding.weight.copy_((words - words.mean(0)) @ directions.T)
    images = SiglipImageProcessor(size={"height": SIDE, "width": SIDE}, image_mean=IMAGE_MEAN, image_std=IMAGE_STD, resample=3)
    return model, SiglipProcessor(images, tokenizer)


@torch.no_grad()
def _take_over(tower, reader) -> None:
    """Copy a Qwen3-VL image tower into SigLIP's, which has no rotary positions and splits queries, keys and values."""
    embeddings = tower.embeddings
    embeddings.patch_embedding.weight.copy_(reader.patch_embed.proj.weight.sum(2))
    embeddings.patch_embedding.bias.copy_(reader.patch_embed.proj.bias)
    embeddings.position_embedding.weight.copy_(reader.pos_embed.weight)
    for layer, block in zip(tower.encoder.layers, reader.blocks, strict=True):
        pairs = [(layer.layer_norm1, block.norm1), (layer.layer_norm2, block.norm2), (layer.self_attn.out_proj, block.attn.proj),
                 (layer.mlp.fc1, block.mlp.linear_fc1), (layer.mlp.fc2, block.mlp.linear_fc2)]
        for mine, its in pairs:
            mine.load_state_dict(its.state_dict())
        attention = layer.self_attn
        for k, part in enumerate((attention.q_proj, attention.k_proj, attention.v_proj)):
            part.weight.copy_(block.attn.qkv.weight.chunk(3)[k])
            part.bias.copy_(block.attn.qkv.bias.chunk(3)[k])


def _flat_patches(convolution: nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
    """The patch embedding as a matrix product, faster to differentiate on a CPU than the convolution it equals."""
    n, _, h, w = images.shape
    blocks = images.reshape(n, 3, h // 16, 16, w // 16, 16).permute(0, 2, 4, 1, 3, 5).flatten(3)
    return F.linear(blocks, convolution.weight.flatten(1), convolution.bias).permute(0, 3, 1, 2)


class SiglipTrainer(Resumable):
    """Trains a SiglipModel in place on pages of `corpus`, drawn 288 x 288."""

    def __init__(self, model, processor, reader, corpus: GeneralPages, teacher: Teacher, recipe: SiglipRecipe, folder: Path):
        self.model, self.tokenizer, self.recipe = model, processor.tokenizer, recipe
        self.corpus, self.teacher, self.look_alikes = corpus, teacher, LookAlikes(corpus.pages)
        self.reading = Reading(self.tokenizer, corpus)
        drawing = {page.id: k for k, page in enumerate(teacher.pages)}
        self.headings = F.normalize(teacher.of_page[[drawing[page.id] for page in corpus.pages]], dim=-1)
        self.table = reader.get_input_embeddings().weight.detach().float()
        self.merger = Qwen3VLVisionPatchMerger(reader.config.vision_config)
        self.merger.load_state_dict(reader.model.visual.merger.state_dict())
        self.scales = nn.Parameter(torch.tensor([15.0, 10.0, 10.0]).log())  # read, match, headings
        generator = torch.Generator().manual_seed(recipe.seed)
        self.view = nn.Parameter(torch.randn(TEACHER_WIDTH, WIDTH, generator=generator) * 0.05)
        parameters = dict(model.named_parameters()) | {"scales": self.scales, "view": self.view}
        parameters |= {f"merger.{name}": p for name, p in self.merger.named_parameters()}
        super().__init__(parameters, decayed_and_not(parameters), recipe.learning_rate, recipe.steps, folder)
        convolution = model.vision_model.embeddings.patch_embedding
        convolution.forward = _flat_patches.__get__(convolution)

    def close(self) -> None:
        """Give the model back its own forward pass."""
        del self.model.vision_model.embeddings.patch_embedding.forward

    def rate(self, step: int) -> float:
        return min(1.0, (step + 1) / 60) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / self.steps)))

    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        found = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        return F.normalize(self.model.text_model(found["input_ids"], attention_mask=found["attention_mask"]).pooler_output, dim=-1)

    def losses(self, step: int) -> dict[str, torch.Tensor | float]:
        corpus, rng = self.corpus, random.Random(f"siglip-{self.recipe.seed}-{step}")
        chosen = self.look_alikes.draw(self.recipe.pages, rng)
        pictures = [picture(corpus, k, False, rng) for k in chosen]
        images = torch.from_numpy(np.stack([image for image, _ in pictures])).float() / 255
        images = (images - torch.tensor(IMAGE_MEAN)) / torch.tensor(IMAGE_STD)
        out = self.model.vision_model(images.permute(0, 3, 1, 2).contiguous())
        states = F.normalize(out.pooler_output, dim=-1)
        blocks = out.last_hidden_state.reshape(len(chosen), GRID, 2, GRID, 2, WIDTH).transpose(2, 3).reshape(-1, WIDTH)
        targets = [cells(words, GRID_ROWS, self.reading.columns_of, GRID) for _, words in pictures]
        read, read_right = self.reading.loss(self.merger(blocks), self.table, self.scales[0].exp(), targets)

        queries = self.embed_texts([query(corpus.pages[k], corpus.forms[k], "general", rng) for k in chosen])
        labels, cosines = torch.arange(len(chosen)), queries @ states.T
        logits = self.scales[1].exp() * cosines
        match = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
        sign = 2 * torch.eye(len(chosen)) - 1
        sigmoid = -F.logsigmoid(sign * (self.model.logit_scale.exp() * cosines.detach() + self.model.logit_bias)).sum(1).mean()

        texts = rng.sample(range(len(self.teacher.texts)), self.recipe.texts)
        ours = self.embed_texts([self.teacher.texts[k] for k in texts]) @ self.view.T
        imitate = 1 - F.cosine_similarity(ours, self.teacher.vectors[texts]).mean()
        viewed = F.normalize(states @ self.view.T, dim=-1)
        headings = self.headings[chosen]
        near = 1 - (viewed * headings).sum(1).mean()
        nearest = self.scales[2].exp().clamp(max=60) * viewed @ headings.T
        return {"read": read, "match": match, "sigmoid": 0.1 * sigmoid, "imitate": IMITATION * imitate,
                "imitate_page": IMITATION * near, "headings": F.cross_entropy(nearest, labels), "read_right": read_right,
                "right": (logits.argmax(1) == labels).float().mean().item(),
                "headings_right": (nearest.argmax(1) == labels).float().mean().item()}
