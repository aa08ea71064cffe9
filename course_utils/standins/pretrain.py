"""Train the raw VLM and the embedding model on general pages: describe, read, and match with queries.

Three losses share one forward pass over a batch of page images:

- *describe*: next-token loss on a caption after the page ("algeria. inflation, consumer prices. line graph");
- *read*: each image token names the word pieces that lie in its 32 x 32 px, as a softmax over the word table;
- *match* (embedding model only): the page's last token against its query's, and a text description of a page
  against that page's query, each against all others of the batch, with look-alikes side by side.
"""

import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionPatchEmbed

from ..facts import Page, wordings
from ..queries import FORM_NAMES, query
from ..layouts import BASELINE_GRID, FAMILIES, HEADING_SIZES, INKS
from ..pages import BASELINE, font_of
from .architecture import IMAGE_MEAN, IMAGE_STD
from .corpus import GRID_COLUMNS, GRID_ROWS, GeneralPages

CROP_ROWS = 3
STRIP_BATCH, DENSE_BATCH, POOL = 64, 24, 4000
LEGIBLE = 6.4  # px: titles are taller than this, labels are not


@dataclass(frozen=True)
class Phase:
    """One stand-in's training: steps, batch sizes, learning rate, and which losses count."""

    name: str
    steps: int
    strip_steps: int
    dense_steps: int
    crop_steps: int
    learning_rate: float
    match: bool
    batch: int = 40
    crop_batch: int = 48
    texts: int = 64
    seed: int = 0


def _flat_patches(module: Qwen3VLVisionPatchEmbed, pixels: torch.Tensor) -> torch.Tensor:
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


def caption(page: Page, form: str) -> str:
    """What the raw VLM learns to say of a page."""
    return f"{page.country.name}. {wordings()[page.topic]['titles'][0]}. {FORM_NAMES['general'][form]}"


def look_alikes(items: list[Page], size: int, rng: random.Random) -> list[int]:
    """`size` indices of different pages: half of them in groups of one country or of one topic."""
    chosen: dict[str, int] = {}
    while len(chosen) < size // 2:
        seedling = items[rng.randrange(len(items))]
        by_country = rng.random() < 0.5
        same = [k for k in _index(items)["country" if by_country else "topic"]
                [seedling.country.code if by_country else seedling.topic]]
        for k in rng.sample(same, min(6, len(same))):
            chosen.setdefault(items[k].id, k)
    while len(chosen) < size:
        k = rng.randrange(len(items))
        chosen.setdefault(items[k].id, k)
    return list(chosen.values())[:size]


_INDEX: dict[int, dict] = {}


def _index(items: list[Page]) -> dict[str, dict[str, list[int]]]:
    if id(items) not in _INDEX:
        by_country, by_topic = {}, {}
        for k, page in enumerate(items):
            by_country.setdefault(page.country.code, []).append(k)
            by_topic.setdefault(page.topic, []).append(k)
        _INDEX[id(items)] = {"country": by_country, "topic": by_topic}
    return _INDEX[id(items)]


class Trainer:
    """Trains a Qwen3-VL in place. `progress` is called with a line of figures every 20 steps."""

    def __init__(self, model, processor, corpus: GeneralPages, phase: Phase, folder: Path):
        self.model, self.tokenizer, self.corpus, self.phase, self.folder = model, processor.tokenizer, corpus, phase, folder
        self.ids = {t: self.tokenizer.convert_tokens_to_ids(t) for t in ("<|image_pad|>", "<|im_end|>")}
        self.scales = nn.Parameter(torch.tensor([15.0, 10.0, 10.0]).log())  # read, page match, text match
        known = sorted({w.lower() for words in corpus.words for w, _ in words if any(c.isalpha() for c in w)})
        pieces = self.tokenizer(known, add_special_tokens=False)["input_ids"]
        self.pieces = {w: [p for p in found if p > 7] for w, found in zip(known, pieces, strict=True)}
        self.read_ids = torch.tensor(sorted({p for found in self.pieces.values() for p in found}))
        self.column = {int(p): k for k, p in enumerate(self.read_ids)}
        names = {w for page in corpus.pages for w in page.country.name.split()}
        titles = {w for topic in wordings().values() for title in topic["titles"] for w in title.split()}
        self.title_words = sorted(names | titles)
        table = model.get_input_embeddings().weight
        decayed = [p for p in model.parameters() if p.ndim > 1 and p is not table]
        plain = [p for p in model.parameters() if p.ndim <= 1] + [self.scales]
        groups = [{"params": decayed, "weight_decay": 0.02, "part": 1.0},
                  {"params": plain, "weight_decay": 0.0, "part": 1.0},
                  {"params": [table], "weight_decay": 0.0, "part": 0.3}]
        self.optimizer = torch.optim.AdamW(groups, lr=phase.learning_rate, betas=(0.9, 0.98))
        self.step = 0
        self.pool: list = []
        self.loose = torch.zeros(1)  # how freely words are placed in strips: grows as they are read
        embed = model.model.visual.patch_embed
        embed.forward = _flat_patches.__get__(embed)
        self.hook = model.model.visual.register_forward_hook(lambda _, __, out: setattr(self, "seen", out.pooler_output))

    def close(self) -> None:
        """Give the model back its own forward pass."""
        del self.model.model.visual.patch_embed.forward
        self.hook.remove()

    # ---- one batch -------------------------------------------------------------------------------------------------
    def _tokens(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
        return found["input_ids"], found["attention_mask"]

    def _state(self, hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Unit vectors (n, 192) at the first <|im_end|> of each row: where the embedding model pools."""
        at = (ids == self.ids["<|im_end|>"]).int().argmax(1)
        return F.normalize(hidden[torch.arange(len(ids)), at], dim=-1)

    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        ids, mask = self._tokens([f"<|im_start|>user {text}<|im_end|>" for text in texts])
        return self._state(self.model.model(input_ids=ids, attention_mask=mask).last_hidden_state, ids)

    def pages(self, images: torch.Tensor, after: list[str] | None = None):
        """Hidden states (n, length, 192) and ids of page prompts, followed by captions where `after` is given."""
        n, h, w, _ = images.shape
        cells = h * w // 1024
        image = "<|vision_start|>" + "<|image_pad|>" * cells + "<|vision_end|>"
        texts = [f"<|im_start|>user {image}<|im_end|>" + tail for tail in (after or [""] * n)]
        ids, mask = self._tokens(texts)
        hidden = self.model.model(
            input_ids=ids, attention_mask=mask, pixel_values=patches(images),
            image_grid_thw=torch.tensor([[1, h // 16, w // 16]] * n), mm_token_type_ids=(ids == self.ids["<|image_pad|>"]).int(),
        ).last_hidden_state
        return hidden, ids

    def _picture(self, k: int, crop: bool, rng: random.Random) -> tuple[np.ndarray, list]:
        """A drawing moved by a few pixels, or three rows of it around its words; and its words in the new place."""
        image, words = self.corpus.images[k], self.corpus.words[k]
        dx, dy = rng.randint(-10, 10), 16 * rng.randint(-1, 1)
        rows = GRID_ROWS
        if crop:
            rows = CROP_ROWS
            titles = set(self.corpus.pages[k].country.name.lower().split())
            tops = [box[1] for word, box in words if word.lower().strip(":") in titles] or [0]
            dy = 16 * round((32 * rows / 2 - rng.choice(tops) + rng.uniform(-40, 24)) / 16)
            dy = max(min(dy, 16), 32 * rows - image.shape[0] - 16)
        moved = np.full((32 * rows, image.shape[1], 3), 255, np.uint8)
        top, left = max(dy, 0), max(dx, 0)
        bottom, right = min(image.shape[0] + dy, moved.shape[0]), min(image.shape[1] + dx, moved.shape[1])
        moved[top:bottom, left:right] = image[top - dy : bottom - dy, left - dx : right - dx]
        return moved, [(word, (b[0] + dx, b[1] + dy, b[2] + dx, b[3] + dy)) for word, b in words]

    def _cells(self, words: list, rows: int) -> dict[int, set[int]]:
        """For each image token of the page, the columns of the legible pieces that lie in it by at least 4 px."""
        found: dict[int, set[int]] = {}
        for word, (x0, y0, x1, y1) in words:
            columns = [self.column[p] for p in self.pieces.get(word.lower(), ())]
            if not columns or y1 < 4 or x1 < 4 or y1 - y0 < LEGIBLE:
                continue
            for row in range(max(0, int((y0 + 3) // 32)), min(rows - 1, int((y1 - 3) // 32)) + 1):
                for column in range(max(0, int((x0 + 4) // 32)), min(GRID_COLUMNS - 1, int((x1 - 4) // 32)) + 1):
                    found.setdefault(row * GRID_COLUMNS + column, set()).update(columns)
        return found

    def _read_loss(self, targets: list[dict[int, set[int]]], cells: int):
        """Cross entropy of the image tokens with words in them, and the share whose best guess is one of them."""
        at = [n * cells + cell for n, found in enumerate(targets) for cell in found]
        wanted = torch.zeros(len(at), len(self.read_ids))
        for row, columns in enumerate(c for found in targets for c in found.values()):
            wanted[row, list(columns)] = 1
        table = F.normalize(self.model.get_input_embeddings().weight[self.read_ids], dim=-1)
        logits = self.scales[0].exp() * F.normalize(self.seen[at], dim=-1) @ table.T
        loss = F.cross_entropy(logits, wanted / wanted.sum(1, keepdim=True))
        return loss, wanted.gather(1, logits.argmax(1, keepdim=True)).mean().item()

    def _strip(self, rng: random.Random, loose: float) -> tuple[np.ndarray, list]:
        """Two heading lines, 224 x 32 px, words aligned with the image tokens at first, anywhere as `loose` grows to 1."""
        ink, paper = ("black", "white")
        if rng.random() < loose:
            ink, paper = rng.choice((("white", rng.choice(INKS)), (rng.choice(INKS), "white")))
        strip = Image.new("RGB", (448, 64), paper)
        draw, words = ImageDraw.Draw(strip), []
        for line in range(2):
            font = font_of(rng.choice(tuple(FAMILIES)), rng.random() < 0.6, rng.choice(HEADING_SIZES))
            page = rng.choice(self.corpus.pages)
            phrase = f"{page.country.name} {rng.choice(wordings()[page.topic]['titles'])}".split() if rng.random() < loose / 2 else []
            x, y = 4 + loose * rng.uniform(-4, 56), line * BASELINE_GRID + BASELINE
            while x < 440:
                word = phrase.pop(0) if phrase else rng.choice(self.title_words)
                draw.text((x, y), word, font=font, fill=ink, anchor="ls")
                width = font.getlength(word)
                words.append((word, (x / 2, y / 2 - 8, (x + width) / 2, y / 2)))
                x += width + font.getlength(" ")
                if loose < 0.5:
                    x = 64 * math.ceil((x - 4) / 64) + 4 + 2 * loose * rng.uniform(-4, 28)
        return np.asarray(strip.reduce(2)), words

    def _strip_loss(self, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        rng = random.Random(f"strip-{self.phase.seed}-{step}")
        strips = [self._strip(rng, self.loose.item()) for _ in range(STRIP_BATCH)]
        images = torch.from_numpy(np.stack([image for image, _ in strips]))
        self.model.model.visual(patches(images), grid_thw=torch.tensor([[1, 2, 2 * GRID_COLUMNS]] * STRIP_BATCH))
        read, right = self._read_loss([self._cells(words, 1) for _, words in strips], GRID_COLUMNS)
        if right > 0.7:
            self.loose += (1 - self.loose).clamp(max=0.01)
        return read, {"read": read.item(), "read_right": right, "loose": self.loose.item()}

    def _dense_loss(self, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        """The reading loss on pages full of headings: nine strips of a pool."""
        if not self.pool:
            rng = random.Random(f"pool-{self.phase.seed}")
            self.pool = [self._strip(rng, 1.0) for _ in range(POOL)]
        rng = random.Random(f"dense-{self.phase.seed}-{step}")
        sheets, targets = [], []
        for _ in range(DENSE_BATCH):
            words = []
            strips = rng.sample(self.pool, GRID_ROWS)
            sheets.append(np.concatenate([image for image, _ in strips]))
            for row, (_, found) in enumerate(strips):
                words += [(word, (x0, y0 + 32 * row, x1, y1 + 32 * row)) for word, (x0, y0, x1, y1) in found]
            targets.append(self._cells(words, GRID_ROWS))
        images = torch.from_numpy(np.stack(sheets))
        self.model.model.visual(patches(images), grid_thw=torch.tensor([[1, 2 * GRID_ROWS, 2 * GRID_COLUMNS]] * DENSE_BATCH))
        read, right = self._read_loss(targets, GRID_ROWS * GRID_COLUMNS)
        return read, {"read": read.item(), "read_right": right}

    def losses(self, step: int) -> tuple[torch.Tensor, dict[str, float]]:
        phase, corpus = self.phase, self.corpus
        rng = random.Random(f"{phase.name}-{phase.seed}-{step}")
        if step < phase.strip_steps:
            return self._strip_loss(step)
        if step < phase.strip_steps + phase.dense_steps:
            return self._dense_loss(step)
        crop = step < phase.strip_steps + phase.dense_steps + phase.crop_steps
        chosen = look_alikes(corpus.pages, phase.crop_batch if crop else phase.batch, rng)
        pictures = [self._picture(k, crop, rng) for k in chosen]
        images = torch.from_numpy(np.stack([image for image, _ in pictures]))
        tails = [f"<|im_start|>assistant {caption(corpus.pages[k], corpus.forms[k])}<|im_end|>" for k in chosen]
        hidden, ids = self.pages(images, tails)
        prompt = 5 + images.shape[1] * images.shape[2] // 1024  # <|im_start|> user, vision start and end, <|im_end|>
        says = hidden[:, prompt + 1 : -1].flatten(0, 1)  # after "<|im_start|>assistant"
        asked = ids[:, prompt + 2 :].flatten()
        kept = asked != self.tokenizer.pad_token_id
        logits = self.model.lm_head(says[kept])
        describe = F.cross_entropy(logits, asked[kept])
        targets = [self._cells(words, images.shape[1] // 32) for _, words in pictures]
        read, read_right = self._read_loss(targets, images.shape[1] * images.shape[2] // 1024)
        figures = {"describe": describe.item(), "said": (logits.argmax(1) == asked[kept]).float().mean().item(),
                   "read": read.item(), "read_right": read_right}
        total = describe + read
        if phase.match:
            others = look_alikes(corpus.pages, phase.texts, rng)
            asked_pages = [(corpus.pages[k], corpus.forms[k]) for k in chosen + others]
            queries = self.embed_texts([query(page, form, "general", rng) for page, form in asked_pages])
            told = self.embed_texts([self._told(page, form, rng) for page, form in asked_pages[len(chosen):]])
            page_match, right = self._match(queries[: len(chosen)], self._state(hidden, ids), 1)
            text_match, text_right = self._match(queries[len(chosen):], told, 2)
            total = 0.5 * describe + read + page_match + 0.5 * text_match
            figures |= {"match": page_match.item(), "right": right, "text": text_match.item(), "text_right": text_right}
        return total, figures

    @staticmethod
    def _told(page: Page, form: str, rng: random.Random) -> str:
        """A page as words: titles, country, form and a few labels, in one of two orders."""
        labels = [fact.label for fact in page.facts]
        parts = [page.country.name, rng.choice(wordings()[page.topic]["titles"])]
        rng.shuffle(parts)
        return " ".join([*parts, FORM_NAMES["general"][form], *rng.sample(labels, min(3, len(labels)))])

    def _match(self, queries: torch.Tensor, documents: torch.Tensor, scale: int) -> tuple[torch.Tensor, float]:
        logits = self.scales[scale].exp().clamp(max=60) * queries @ documents.T
        labels = torch.arange(len(logits))
        loss = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
        return loss, (logits.argmax(1) == labels).float().mean().item()

    # ---- the run ---------------------------------------------------------------------------------------------------
    def _rate(self, step: int) -> float:
        warm = min(1.0, (step + 1) / 60)
        decay = 0.04 + 0.96 * 0.5 * (1 + math.cos(math.pi * step / self.phase.steps))
        return warm * (decay if self.phase.match else 1.0)

    def run(self, stop_at: int | None = None, save_every: int = 150, watch=None) -> Iterator[str]:
        """Train to the last step (or `stop_at`), going on from the newest checkpoint; yields lines of figures."""
        self.load()
        began, first = time.time(), self.step
        while self.step < (stop_at or self.phase.steps):
            for group in self.optimizer.param_groups:
                group["lr"] = self.phase.learning_rate * group["part"] * self._rate(self.step)
            loss, figures = self.losses(self.step)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_([*self.model.parameters(), self.scales], 1.0)
            self.optimizer.step()
            self.step += 1
            if self.step % 20 == 0:
                speed = (time.time() - began) / (self.step - first)
                yield f"{self.phase.name} {self.step}/{self.phase.steps} {speed:.2f} s/step " + " ".join(
                    f"{name} {value:.3f}" for name, value in figures.items())
            if self.step % save_every == 0 or self.step == self.phase.steps:
                self.save()
                if watch:
                    yield watch(self)

    def _parameters(self) -> dict[str, torch.Tensor]:
        return dict(self.model.named_parameters()) | {"scales": self.scales}

    def save(self) -> None:
        """Weights and optimizer state at this step, in one safetensors file that is replaced whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {"loose": self.loose}
        for name, parameter in self._parameters().items():
            tensors[f"weight/{name}"] = parameter.detach().contiguous()
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{key}/{name}"] = value.contiguous()
        temporary = self.folder / f"{self.phase.name}.partial"
        save_file(tensors, temporary, metadata={"step": json.dumps(self.step)})
        temporary.replace(self.folder / f"{self.phase.name}.safetensors")

    def load(self) -> None:
        """Go on from the newest checkpoint of this phase, if there is one."""
        path = self.folder / f"{self.phase.name}.safetensors"
        if not path.exists():
            return
        tensors = load_file(path)
        self.loose = tensors["loose"]
        with torch.no_grad():
            for name, parameter in self._parameters().items():
                parameter.copy_(tensors[f"weight/{name}"])
                state = {key: tensors[f"{key}/{name}"] for key in ("step", "exp_avg", "exp_avg_sq") if f"{key}/{name}" in tensors}
                if state:
                    self.optimizer.state[parameter] = state
                    self.step = max(self.step, int(state["step"]))
