"""A small SigLIP for the Router: its image tower starts from the reading tower of the small Qwen3-VL.

That tower knows places by rotary positions, which SigLIP does not have. Training begins with them and turns them down
step by step, so that learned positions take over: as they go much of the reading is lost, and has to come back without them.

Five losses: *read* as in pretraining, on pages and on sheets of headings; *match* page and query by SigLIP's own two
towers, as a softmax over the batch and as SigLIP's sigmoid; *imitate*: text, seen through a linear layer, points where
all-MiniLM-L6-v2 puts it; *headings*: through the same layer, a page is nearer to the point of its own headings than to
those of all other pages; *asked*: through it again, a page is nearer to a query of its own than to the other pages'
queries. That layer is thrown away: the finished model's space is nobody else's.
"""

import copy
import functools
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor

from course_utils.maintain.standins.architecture import IMAGE_MEAN, IMAGE_STD
from course_utils.maintain.standins.general_pages import GRID_ROWS, GeneralPages
from course_utils.maintain.standins.losses import both_ways
from course_utils.maintain.standins.pictures import Words, cells, picture, sheet, strip
from course_utils.maintain.standins.pretrain import IMITATION, TEACHER_WIDTH, title_words
from course_utils.maintain.standins.reading import Reading
from course_utils.maintain.standins.texts import Asked, LookAlikes, Teacher
from course_utils.maintain.standins.training import Resumable, decayed_and_not, mixed
from course_utils.pages.queries import query

SIDE = 288
WIDTH, CONTENT = 192, 160  # of which the reading tower's
GRID = SIDE // 32
TOWER = {"hidden_size": WIDTH, "intermediate_size": 512, "num_attention_heads": 4}


@dataclass(frozen=True)
class SiglipRecipe:
    """Steps, and what is in the batch of each: whole pages, sheets of headings, texts of the teacher."""

    steps: int
    learning_rate: float
    pages: int = 24
    sheets: int = 8
    texts: int = 64
    pool: int = 4000  # strips that sheets are put together from
    turned: float = 0.1  # share of the steps with full rotary positions
    upright: float = 0.6  # share of the steps after which there are none
    seed: int = 0


def siglip_tokenizer(tokenizer: PreTrainedTokenizerFast, padding_side: str) -> PreTrainedTokenizerFast:
    """The same pieces for a SigLIP's text tower: at most 64 tokens, of which `<|im_end|>` ends a text."""
    found = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        eos_token="<|im_end|>",
        padding_side=padding_side,
        model_max_length=64,
    )
    end = [("<|im_end|>", found.eos_token_id)]
    found.backend_tokenizer.post_processor = TemplateProcessing(single="$A <|im_end|>", special_tokens=end)
    return found


def new_siglip(reader, tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> tuple[SiglipModel, SiglipProcessor]:
    """A SiglipModel (float32) with the blocks of `reader`'s image tower and the strongest directions of its words."""
    tokenizer = siglip_tokenizer(tokenizer, padding_side="left")  # SigLIP pools the last token
    end = tokenizer.eos_token_id
    config = SiglipConfig(
        text_config=TOWER
        | {
            "vocab_size": len(tokenizer),
            "num_hidden_layers": 2,
            "max_position_embeddings": 64,
            "eos_token_id": end,
            "bos_token_id": end,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config=TOWER | {"num_hidden_layers": 4, "image_size": SIDE, "patch_size": 16},
    )
    torch.manual_seed(seed)
    model = SiglipModel(config)
    _take_over(model.vision_model, reader.model.visual)
    with torch.no_grad():
        words = reader.get_input_embeddings().weight.float()
        directions = torch.linalg.svd(words - words.mean(0), full_matrices=False)[2][:WIDTH]
        model.text_model.embeddings.token_embedding.weight.copy_((words - words.mean(0)) @ directions.T)
    images = SiglipImageProcessor(
        size={"height": SIDE, "width": SIDE}, image_mean=IMAGE_MEAN, image_std=IMAGE_STD, resample=3
    )
    return model, SiglipProcessor(images, tokenizer)


def _positions() -> torch.Tensor:
    """Sines and cosines of row and column, shape (324, 32): what the reading tower gets by rotary positions."""
    place = torch.arange(SIDE // 16).float()
    waves = place[:, None] * (1.5 * 0.66 ** torch.arange(8))
    waves = torch.cat([waves.sin(), waves.cos()], dim=1)
    rows, columns = waves.repeat_interleave(len(place), 0), waves.repeat(len(place), 1)
    return torch.cat([rows, columns], dim=1)


@torch.no_grad()
def _take_over(tower, reader) -> None:
    """Copy a Qwen3-VL image tower into the first dimensions of a wider SigLIP's, which has no rotary positions.

    The other dimensions carry positions. Each head keeps its dimensions and gets a few more.
    """
    content = torch.arange(CONTENT)
    heads = TOWER["num_attention_heads"]
    mine, its = WIDTH // heads, CONTENT // heads
    in_heads = torch.cat([torch.arange(its) + head * mine for head in range(heads)])

    def put(target: torch.Tensor, source: torch.Tensor, *places: torch.Tensor) -> None:
        target[torch.meshgrid(*places, indexing="ij")] = source

    embeddings = tower.embeddings
    embeddings.patch_embedding.weight.zero_()
    embeddings.patch_embedding.weight[:CONTENT] = reader.patch_embed.proj.weight.sum(2)
    embeddings.patch_embedding.bias.zero_()
    embeddings.patch_embedding.bias[:CONTENT] = reader.patch_embed.proj.bias
    embeddings.position_embedding.weight[:, :CONTENT] = reader.pos_embed.weight
    embeddings.position_embedding.weight[:, CONTENT:] = _positions()
    for layer, block in zip(tower.encoder.layers, reader.blocks, strict=True):
        attention, hidden = layer.self_attn, torch.arange(block.mlp.linear_fc1.out_features)
        for norm, source in ((layer.layer_norm1, block.norm1), (layer.layer_norm2, block.norm2)):
            put(norm.weight, source.weight, content)
            put(norm.bias, source.bias, content)
        for part, weight, bias in zip(
            (attention.q_proj, attention.k_proj, attention.v_proj),
            block.attn.qkv.weight.chunk(3),
            block.attn.qkv.bias.chunk(3),
            strict=True,
        ):
            put(part.weight, weight, in_heads, content)
            put(part.bias, bias, in_heads)
        put(attention.out_proj.weight, block.attn.proj.weight, content, in_heads)
        put(attention.out_proj.bias, block.attn.proj.bias, content)
        put(layer.mlp.fc1.weight, block.mlp.linear_fc1.weight, hidden, content)
        put(layer.mlp.fc1.bias, block.mlp.linear_fc1.bias, hidden)
        put(layer.mlp.fc2.weight, block.mlp.linear_fc2.weight, content, hidden)
        put(layer.mlp.fc2.bias, block.mlp.linear_fc2.bias, content)


class Rotary:
    """The reading tower's rotary positions for a SigLIP image tower, with `strength` from 1 to 0 (none).

    Stands in for `forward` of the projections to queries and keys, whose outputs it turns.
    """

    def __init__(self, tower):
        place = torch.arange(SIDE // 16).float()
        waves = 10_000.0 ** (
            -torch.arange(10) / 10
        )  # Qwen3-VL: half of a head's 20 pairs for the row, half for the column
        rows, columns = place.repeat_interleave(len(place)), place.repeat(len(place))
        self.angles = torch.cat([rows[:, None] * waves, columns[:, None] * waves], dim=1)[:, None]  # (324, 1, 20)
        self.strength = 1.0
        self.parts = [
            part for layer in tower.encoder.layers for part in (layer.self_attn.q_proj, layer.self_attn.k_proj)
        ]
        for part in self.parts:
            part.forward = functools.partial(self._turned, part)

    def close(self) -> None:
        """Give the projections back their own forward pass."""
        for part in self.parts:
            del part.forward

    def _turned(self, part: nn.Linear, states: torch.Tensor) -> torch.Tensor:
        found = F.linear(states, part.weight, part.bias)
        if not self.strength:
            return found
        cosines, sines = (self.strength * self.angles).cos(), (self.strength * self.angles).sin()
        found = found.unflatten(-1, (TOWER["num_attention_heads"], -1))
        pairs = self.angles.shape[-1]
        first, second, rest = found[..., :pairs], found[..., pairs : 2 * pairs], found[..., 2 * pairs :]
        return torch.cat([first * cosines - second * sines, second * cosines + first * sines, rest], dim=-1).flatten(-2)


def _flat_patches(convolution: nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
    """The patch embedding as a matrix product, faster to differentiate on a CPU than the convolution it equals."""
    n, _, h, w = images.shape
    blocks = images.reshape(n, 3, h // 16, 16, w // 16, 16).permute(0, 2, 4, 1, 3, 5).flatten(3)
    return F.linear(blocks, convolution.weight.flatten(1), convolution.bias).permute(0, 3, 1, 2)


class SiglipTrainer(Resumable):
    """Trains a SiglipModel in place on pages of `corpus`, drawn 288 x 288; `teacher` is of the same drawings."""

    def __init__(
        self, model, processor, reader, corpus: GeneralPages, teacher: Teacher, recipe: SiglipRecipe, folder: Path
    ):
        self.model, self.tokenizer, self.recipe = model, processor.tokenizer, recipe
        self.corpus, self.teacher, self.look_alikes = corpus, teacher, LookAlikes(corpus.pages)
        self.reading, self.asked = Reading(self.tokenizer, corpus), Asked(corpus, folder.parent)
        self.headings, self.heading_of = F.normalize(teacher.of_page, dim=-1).unique(dim=0, return_inverse=True)
        self.table = reader.get_input_embeddings().weight.detach().float()
        self.merger = copy.deepcopy(reader.model.visual.merger)
        self.scales = nn.Parameter(torch.tensor([15.0, 10.0, 10.0]).log())  # read, match, headings
        generator = torch.Generator().manual_seed(recipe.seed)
        self.view = nn.Parameter(torch.randn(TEACHER_WIDTH, WIDTH, generator=generator) * 0.05)
        parameters = dict(model.named_parameters()) | {"scales": self.scales, "view": self.view}
        parameters |= {f"merger.{name}": p for name, p in self.merger.named_parameters()}
        super().__init__(parameters, decayed_and_not(parameters), recipe.learning_rate, recipe.steps, folder)
        convolution = model.vision_model.embeddings.patch_embedding
        convolution.forward = _flat_patches.__get__(convolution)
        self.rotary = Rotary(model.vision_model)

    def close(self) -> None:
        """Give the model back its own forward pass."""
        self.rotary.close()
        del self.model.vision_model.embeddings.patch_embedding.forward

    def rate(self, step: int) -> float:
        return self.rising_and_falling(step, begin=self.steps // 2)

    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        found = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        return F.normalize(
            self.model.text_model(found["input_ids"], attention_mask=found["attention_mask"]).pooler_output, dim=-1
        )

    def look(self, pictures: list[tuple[np.ndarray, Words]]):
        """What the image tower makes of pictures, unit vectors (n, 192); the loss of reading, and the share read right."""
        images = torch.from_numpy(np.stack([image for image, _ in pictures])).float() / 255
        images = (images - torch.tensor(IMAGE_MEAN)) / torch.tensor(IMAGE_STD)
        with mixed():
            out = self.model.vision_model(images.permute(0, 3, 1, 2).contiguous())
        tokens, pooled = out.last_hidden_state.float(), out.pooler_output.float()
        blocks = tokens[..., :CONTENT].reshape(len(pictures), GRID, 2, GRID, 2, CONTENT).transpose(2, 3)
        targets = [cells(words, GRID_ROWS, self.reading.columns_of, GRID) for _, words in pictures]
        read, right = self.reading.loss(
            self.merger(blocks.reshape(-1, CONTENT)), self.table, self.scales[0].exp(), targets
        )
        return F.normalize(pooled, dim=-1), read, right

    @functools.cached_property
    def _strips(self) -> list[tuple[np.ndarray, Words]]:
        fixed = random.Random(f"siglip-strips-{self.recipe.seed}")
        words = title_words(self.corpus)
        return [strip(self.corpus, words, fixed, 1.0, SIDE) for _ in range(self.recipe.pool)]

    def losses(self, step: int) -> dict[str, torch.Tensor | float]:
        recipe, corpus = self.recipe, self.corpus
        rng = random.Random(f"siglip-{recipe.seed}-{step}")
        left = recipe.upright - step / self.steps
        self.rotary.strength = min(1.0, left / (recipe.upright - recipe.turned)) if left > 0 else 0.0
        chosen = self.look_alikes.draw(recipe.pages, rng)
        pictures = [picture(corpus, k, False, rng) for k in chosen] + [
            sheet(self._strips, rng) for _ in range(recipe.sheets)
        ]
        states, read, read_right = self.look(pictures)
        states = states[: len(chosen)]
        queries = self.embed_texts([query(corpus.pages[k], corpus.forms[k], "general", rng) for k in chosen])
        labels, cosines = torch.arange(len(chosen)), queries @ states.T
        logits = self.scales[1].exp() * cosines
        sign = 2 * torch.eye(len(chosen)) - 1
        sigmoid = (
            -F.logsigmoid(sign * (self.model.logit_scale.exp() * cosines.detach() + self.model.logit_bias))
            .sum(1)
            .mean()
        )

        texts = rng.sample(range(len(self.teacher.texts)), recipe.texts)
        ours = self.embed_texts([self.teacher.texts[k] for k in texts]) @ self.view.T
        imitate = 1 - F.cosine_similarity(ours, self.teacher.vectors[texts]).mean()
        scale = self.scales[2].exp().clamp(max=60)
        named = scale * states @ F.normalize(self.headings @ self.view, dim=-1).T
        asked = scale * F.normalize(self.asked.of(chosen, step) @ self.view, dim=-1) @ states.T
        headings = self.heading_of[chosen]
        right, headings_right, asked_right = (
            (found.argmax(1) == wanted).float().mean().item()
            for found, wanted in ((logits, labels), (named, headings), (asked, labels))
        )
        return {
            "read": read,
            "match": both_ways(logits),
            "sigmoid": 0.1 * sigmoid,
            "imitate": IMITATION * imitate,
            "headings": F.cross_entropy(named, headings),
            "asked": both_ways(asked),
            "read_right": read_right,
            "right": right,
            "headings_right": headings_right,
            "asked_right": asked_right,
            "rotary": self.rotary.strength,
        }
