"""Train the raw VLM and the embedding model on general pages: read, describe, match with queries, imitate a teacher.

Four losses, of which each stage uses some:

- *read*: each image token names the word pieces that lie in its 32 x 32 px, as a softmax over the word table;
- *describe*: next-token loss on a caption after the page ("algeria. inflation, consumer prices. line graph");
- *match*: queries against the pages that they ask for and against pages told in words, all of the batch competing,
  with look-alikes side by side;
- *imitate*: the state of a text, and of a page, seen through a linear layer, points where all-MiniLM-L6-v2 puts that text
  or that page's headings. This is where the small model gets to know words that it is never asked about.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionPatchEmbed

from course_utils.maintain.standins.architecture import IMAGE_MEAN, IMAGE_STD, WIDTH
from course_utils.maintain.standins.general_pages import GRID_COLUMNS, GRID_ROWS, GeneralPages
from course_utils.maintain.standins.losses import match, next_token, state
from course_utils.maintain.standins.pictures import cells, picture, sheet, strip
from course_utils.maintain.standins.reading import Reading
from course_utils.maintain.standins.texts import LookAlikes, Teacher, caption, told
from course_utils.maintain.standins.training import Resumable, decayed_and_not, mixed
from course_utils.pages.facts import wordings
from course_utils.pages.queries import query

TEACHER_WIDTH = 384
IMITATION = 4.0  # weight of the imitation losses: each is 1 - cosine, so at most 2


@dataclass(frozen=True)
class Recipe:
    """Steps on strips, then on sheets, on parts of pages, and on whole pages, each with its batch size."""

    strip_steps: int
    sheet_steps: int
    crop_steps: int
    page_steps: int
    learning_rate: float
    strips: int = 64
    sheets: int = 24
    crops: int = 48
    pages: int = 40
    others: int = 64
    texts: int = 96
    pool: int = 4000  # strips that sheets are put together from
    seed: int = 0

    @property
    def steps(self) -> int:
        return self.strip_steps + self.sheet_steps + self.crop_steps + self.page_steps


def flat_patches(module: Qwen3VLVisionPatchEmbed, pixels: torch.Tensor) -> torch.Tensor:
    """The patch embedding as a matrix product, 5x faster to differentiate on a CPU than the convolution it equals.

    `pixels` is (patches, 3 * 16 * 16): one frame, since both frames of a still image are the same.
    """
    weight = module.proj.weight.sum(2).flatten(1)
    return F.linear(pixels, weight, module.proj.bias)


def patches(images: torch.Tensor) -> torch.Tensor:
    """Normalised pixels in the processor's order: (n, h, w, 3) uint8 to (n * h * w / 256, 768) float32."""
    n, h, w, _ = images.shape
    scaled = (images.float() / 255 - torch.tensor(IMAGE_MEAN)) / torch.tensor(IMAGE_STD)
    blocks = scaled.reshape(n, h // 32, 2, 16, w // 32, 2, 16, 3)
    return blocks.permute(0, 1, 4, 2, 5, 7, 3, 6).reshape(-1, 3 * 16 * 16)


def title_words(corpus: GeneralPages) -> list[str]:
    """The words that headings are made of: names of countries and titles of topics."""
    names = {w for page in corpus.pages for w in page.country.name.split()}
    return sorted(names | {w for topic in wordings().values() for title in topic["titles"] for w in title.split()})


class Trainer(Resumable):
    """Trains a Qwen3-VL in place."""

    def __init__(self, model, processor, corpus: GeneralPages, teacher: Teacher, recipe: Recipe, folder: Path):
        self.model, self.tokenizer, self.recipe = model, processor.tokenizer, recipe
        self.corpus, self.teacher, self.look_alikes = corpus, teacher, LookAlikes(corpus.pages)
        self.ids = {t: self.tokenizer.convert_tokens_to_ids(t) for t in ("<|image_pad|>", "<|im_end|>")}
        self.scales = nn.Parameter(torch.tensor([15.0, 10.0]).log())  # read, match
        generator = torch.Generator().manual_seed(recipe.seed)
        self.view = nn.Parameter(torch.randn(TEACHER_WIDTH, WIDTH, generator=generator) * 0.05)  # ours to the teacher's
        self.reading = Reading(self.tokenizer, corpus)
        self.title_words = title_words(corpus)
        parameters = dict(model.named_parameters()) | {"scales": self.scales, "view": self.view}
        groups = decayed_and_not(parameters, table=model.get_input_embeddings().weight, part=0.3)
        super().__init__(parameters, groups, recipe.learning_rate, recipe.steps, folder)
        self.strips: list = []
        self.state["loose"] = torch.zeros(1)  # how freely words are placed in strips: grows as they are read
        embed = model.model.visual.patch_embed
        embed.forward = flat_patches.__get__(embed)
        self.hook = model.model.visual.register_forward_hook(
            lambda _, __, out: setattr(self, "seen", out.pooler_output.float())
        )

    def close(self) -> None:
        """Give the model back its own forward pass."""
        del self.model.model.visual.patch_embed.forward
        self.hook.remove()

    # ---- one batch -------------------------------------------------------------------------------------------------
    def _tokens(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
        return found["input_ids"], found["attention_mask"]

    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        ids, mask = self._tokens([f"<|im_start|>user {text}<|im_end|>" for text in texts])
        with mixed():
            hidden = self.model.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        return state(hidden, ids, self.ids["<|im_end|>"])

    def pages(self, images: torch.Tensor, after: list[str] | None = None):
        """Hidden states (n, length, 192) and ids of page prompts, followed by captions where `after` is given."""
        n, h, w, _ = images.shape
        cells = h * w // 1024
        image = "<|vision_start|>" + "<|image_pad|>" * cells + "<|vision_end|>"
        texts = [f"<|im_start|>user {image}<|im_end|>" + tail for tail in (after or [""] * n)]
        ids, mask = self._tokens(texts)
        with mixed():
            hidden = self.model.model(
                input_ids=ids,
                attention_mask=mask,
                pixel_values=patches(images),
                image_grid_thw=torch.tensor([[1, h // 16, w // 16]] * n),
                mm_token_type_ids=(ids == self.ids["<|image_pad|>"]).int(),
            ).last_hidden_state
        return hidden.float(), ids

    def _look(self, images: torch.Tensor, rows: int) -> None:
        """Show the tower pictures that are `rows` image tokens high."""
        where = torch.tensor([[1, 2 * rows, 2 * GRID_COLUMNS]] * len(images))
        with mixed():
            self.model.model.visual(patches(images), grid_thw=where)

    def _read_loss(self, targets: list[dict[int, set[int]]]) -> tuple[torch.Tensor, float]:
        return self.reading.loss(self.seen, self.model.get_input_embeddings().weight, self.scales[0].exp(), targets)

    def _imitate_loss(self, rng: random.Random) -> torch.Tensor:
        """How far texts of the teacher's are from where it puts them, as 1 - cosine."""
        chosen = rng.sample(range(len(self.teacher.texts)), self.recipe.texts)
        ours = self.embed_texts([self.teacher.texts[k] for k in chosen])
        return 1 - F.cosine_similarity(ours @ self.view.T, self.teacher.vectors[chosen]).mean()

    def _strip_losses(self, rng: random.Random) -> dict[str, torch.Tensor | float]:
        """Reading on strips, whose words stand more and more freely as they are read."""
        made = [
            strip(self.corpus, self.title_words, rng, self.state["loose"].item()) for _ in range(self.recipe.strips)
        ]
        images = torch.from_numpy(np.stack([image for image, _ in made]))
        self._look(images, 1)
        read, right = self._read_loss([cells(words, 1, self.reading.columns_of) for _, words in made])
        if right > 0.7:
            self.state["loose"] += (1 - self.state["loose"]).clamp(max=0.01)
        return {"read": read, "read_right": right, "loose": self.state["loose"].item()}

    def _sheet_losses(self, rng: random.Random) -> dict[str, torch.Tensor | float]:
        """Reading on pages full of headings."""
        if not self.strips:
            fixed = random.Random(f"strips-{self.recipe.seed}")
            self.strips = [strip(self.corpus, self.title_words, fixed, 1.0) for _ in range(self.recipe.pool)]
        made = [sheet(self.strips, rng) for _ in range(self.recipe.sheets)]
        images = torch.from_numpy(np.stack([image for image, _ in made]))
        self._look(images, GRID_ROWS)
        targets = [cells(words, GRID_ROWS, self.reading.columns_of) for _, words in made]
        read, right = self._read_loss(targets)
        return {"read": read, "read_right": right}

    def _page_losses(self, rng: random.Random, crop: bool) -> dict[str, torch.Tensor | float]:
        """Reading, describing, matching and imitating on pages or parts of pages."""
        recipe, corpus = self.recipe, self.corpus
        chosen = self.look_alikes.draw(recipe.crops if crop else recipe.pages, rng)
        pictures = [picture(corpus, k, crop, rng) for k in chosen]
        images = torch.from_numpy(np.stack([image for image, _ in pictures]))
        tails = [f"<|im_start|>assistant {caption(corpus.pages[k], corpus.forms[k])}<|im_end|>" for k in chosen]
        hidden, ids = self.pages(images, tails)
        tokens, rows = images.shape[1] * images.shape[2] // 1024, images.shape[1] // 32
        prompt = 5 + tokens  # <|im_start|> user, vision start and end, <|im_end|>
        after = prompt + 1  # "<|im_start|>assistant"
        describe, said = next_token(self.model.lm_head, hidden, ids, after, self.tokenizer.pad_token_id)
        read, read_right = self._read_loss([cells(words, rows, self.reading.columns_of) for _, words in pictures])
        both = chosen + self.look_alikes.draw(recipe.others, rng)
        about = [(corpus.pages[k], corpus.forms[k]) for k in both]
        queries = self.embed_texts([query(page, form, "general", rng) for page, form in about])
        states = state(hidden, ids, self.ids["<|im_end|>"])
        in_words = self.embed_texts([told(page, form, rng) for page, form in about[len(chosen) :]])
        documents, scale = torch.cat([states, in_words]), self.scales[1].exp().clamp(max=60)
        matched, right = match(scale, queries, documents, [page.id for page, _ in about], len(chosen))
        imitate = 1 - F.cosine_similarity(states @ self.view.T, self.teacher.of_page[chosen]).mean()
        return {
            "describe": 0.5 * describe,
            "read": read,
            "match": matched,
            "imitate_page": IMITATION * imitate,
            "said": said,
            "read_right": read_right,
            "right": right,
        }

    def losses(self, step: int) -> dict[str, torch.Tensor | float]:
        recipe, rng = self.recipe, random.Random(f"step-{self.recipe.seed}-{step}")
        sheets_from = recipe.strip_steps
        crops_from = sheets_from + recipe.sheet_steps
        if step < sheets_from:
            found = self._strip_losses(rng)
        elif step < crops_from:
            found = self._sheet_losses(rng)
        else:
            found = self._page_losses(rng, crop=step < crops_from + recipe.crop_steps)
        return found | {"imitate": IMITATION * self._imitate_loss(rng)}

    def rate(self, step: int) -> float:
        """A share of the learning rate: rising at first, falling as half a cosine while there are pages in the batches."""
        return self.rising_and_falling(step, begin=self.recipe.strip_steps + self.recipe.sheet_steps)
