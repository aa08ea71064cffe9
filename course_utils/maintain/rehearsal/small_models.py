"""Checkpoints and data under the published names: published widths, one layer each, random weights, a cut vocabulary.

The architecture is the published one (`Qwen3-VL-2B`: text width 2048, vision width 1024; `siglip2-base-patch16-224`: 768) but
for the number of layers, and for the vocabulary, which is the stand-ins' (13,083 pieces instead of 151,936 and 256,000).
all-MiniLM-L6-v2 is the real one. The data set has the published configs and columns, and pages of this course.
"""

import functools
import json
import os
import shutil
from pathlib import Path

from course_utils import paths
from course_utils.checkpoints import minilm_folder
from course_utils.files import atomic_write
from course_utils.machine import quiet
from course_utils.maintain.memory_need import TRUE
from course_utils.maintain.standins.siglip import siglip_tokenizer
from course_utils.pages.build import Sheet, rows, sheets
from course_utils.profiles import PROFILES, PUBLISHED_DATA

DEV, DEV_PAGES = 60, 4  # rows of the profiles' dev split, and the pages that they ask about
ROWS = {"train": 28 + DEV, "eval": 6}
SHARD = "100MB"
LARGE, SMALL = (
    (1240, 1594),
    (128, 160),
)  # the first row's page as scanned at 150 dots an inch; all others 20 image tokens
VERSION = "5"  # of what `build_hub` writes

PUBLISHED_TEXT = TRUE["text"] | {
    "max_position_embeddings": 262144,
    "tie_word_embeddings": True,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 5_000_000.0,
        "mrope_section": [24, 20, 20],
        "mrope_interleaved": True,
    },
}
PUBLISHED_VISION = TRUE["vision"] | {"temporal_patch_size": 2, "num_position_embeddings": 2304}
SIGLIP_TOWER = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 1}

TOKENS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}

# Roles as in the published templates: the raw model knows system, user and assistant; the reranker query and document, too.
CHAT_TEMPLATE = """\
{%- for message in messages %}
    {%- if message.role in ["system", "user", "assistant"] %}
        {{- '<|im_start|>' + message.role + '\\n' }}
        {%- if message.content is string %}
            {{- message.content }}
        {%- else %}
            {%- for content in message.content %}
                {%- if content.type == 'image' or 'image' in content %}
                    {{- '<|vision_start|><|image_pad|><|vision_end|>' }}
                {%- elif content.type == 'video' or 'video' in content %}
                    {{- '<|vision_start|><|video_pad|><|vision_end|>' }}
                {%- elif 'text' in content %}
                    {{- content.text }}
                {%- endif %}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
ROLES, PAIR_ROLES = '"assistant"]', '"assistant", "query", "document"]'


def build_hub(folder: Path) -> Path:
    """Write the repositories that profile `full` names into `folder`, once (about a minute, 1 GB); returns `folder`."""
    done = folder / "complete"
    if done.exists() and done.read_text(encoding="utf-8") == VERSION:
        return folder
    quiet()
    shutil.rmtree(folder, ignore_errors=True)
    names = PROFILES["full"]
    models = folder / "models"
    raw = models / names.raw_vlm
    _save_raw(raw)
    _save_on_top(models / names.embedder, raw, paths.MODELS / "tiny-qwen3-vl-embedding")
    pairs = CHAT_TEMPLATE.replace(ROLES, PAIR_ROLES)
    _save_on_top(models / names.reranker, raw, paths.MODELS / "tiny-qwen3-vl-reranker", pairs)
    _save_siglip(models / names.image_tower)
    shutil.copytree(minilm_folder(), models / names.text_tower)
    _save_data(folder / "datasets" / PUBLISHED_DATA)
    atomic_write(done, VERSION)
    return folder


def _save_raw(folder: Path) -> None:
    """The raw VLM, its weights in shards."""
    import torch
    from transformers import AutoProcessor, Qwen3VLConfig, Qwen3VLForConditionalGeneration

    processor = AutoProcessor.from_pretrained(paths.MODELS / "tiny-qwen3-vl")
    tokenizer = processor.tokenizer
    tokenizer.model_max_length = PUBLISHED_TEXT["max_position_embeddings"]
    for part, shortest, longest in (
        (processor.image_processor, 65_536, 16_777_216),
        (processor.video_processor, 4_096, 25_165_824),
    ):
        part.image_mean = part.image_std = [0.5] * 3
        part.size = {"shortest_edge": shortest, "longest_edge": longest}
    processor.chat_template = tokenizer.chat_template = CHAT_TEMPLATE
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in TOKENS.items()}
    config = Qwen3VLConfig(
        text_config=PUBLISHED_TEXT
        | {
            "vocab_size": len(tokenizer),
            "num_hidden_layers": 1,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config=PUBLISHED_VISION | {"depth": 1, "deepstack_visual_indexes": [0]},
        tie_word_embeddings=True,
        **ids,
    )
    torch.manual_seed(0)
    Qwen3VLForConditionalGeneration._from_config(config, dtype=torch.bfloat16).save_pretrained(
        folder, max_shard_size=SHARD
    )
    processor.save_pretrained(folder)


def _save_on_top(folder: Path, raw: Path, standin: Path, template: str = CHAT_TEMPLATE) -> None:
    """The same weights with the modules of a stand-in, whose classes are the published ones, and the published settings."""
    shutil.copytree(raw, folder, copy_function=os.link)
    files = ["modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "tokenizer_config.json"]
    for path in [*(standin / file for file in files), *standin.glob("[0-9]_*/config.json")]:
        values = json.loads(path.read_text(encoding="utf-8"))
        if path.name == "sentence_bert_config.json":
            values["processing_kwargs"] = {"chat_template": {"add_generation_prompt": True}}
        if "embedding_dimension" in values:
            values["embedding_dimension"] = PUBLISHED_TEXT["hidden_size"]
        atomic_write(folder / path.relative_to(standin), json.dumps(values, indent=1))
    atomic_write(folder / "chat_template.jinja", template)


def _save_siglip(folder: Path) -> None:
    import torch
    from transformers import AutoTokenizer, SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor

    words = siglip_tokenizer(AutoTokenizer.from_pretrained(paths.MODELS / "tiny-qwen3-vl"), padding_side="right")
    end = words.eos_token_id
    config = SiglipConfig(
        text_config=SIGLIP_TOWER
        | {
            "vocab_size": len(words),
            "max_position_embeddings": 64,
            "projection_size": 768,
            "eos_token_id": end,
            "bos_token_id": end,
            "pad_token_id": words.pad_token_id,
        },
        vision_config=SIGLIP_TOWER | {"image_size": 224, "patch_size": 16},
    )
    torch.manual_seed(0)
    SiglipModel(config).save_pretrained(folder, max_shard_size=SHARD)
    images = SiglipImageProcessor(
        size={"height": 224, "width": 224}, image_mean=[0.5] * 3, image_std=[0.5] * 3, resample=2
    )
    SiglipProcessor(images, words).save_pretrained(folder)


def _save_data(folder: Path) -> None:
    """Configs `train` and `eval`, one split `train` each, the images inside the parquet files; a card that names them.

    The last rows of `train`, which are the profiles' dev split, ask about the same few pages, so that they are cheap.
    """
    from datasets import Dataset, Features, Image, Value

    drawn = sheets()
    lines = ["---", "configs:"]
    for config, split in (("train", "train"), ("eval", "test")):
        table = rows(split, drawn).head(ROWS[config])
        pages = table.drop(columns="query")
        if config == "train":  # the queries stay different
            pages.iloc[-DEV:] = pages.iloc[[-1 - k % DEV_PAGES for k in range(DEV)]].to_numpy()
        content = {"query": table["query"].tolist()}
        for name in pages:
            sizes = [LARGE if name == "image" and not k else SMALL for k in range(len(pages))]
            content[name] = [_page(drawn[page], size) for page, size in zip(pages[name], sizes, strict=True)]
        features = Features({"query": Value("string"), **{name: Image() for name in pages}})
        file = folder / config / "train-00000-of-00001.parquet"
        file.parent.mkdir(parents=True)
        Dataset.from_dict(content, features).to_parquet(file)
        lines += [f"- config_name: {config}", "  data_files:", "  - split: train", f"    path: {config}/train-*"]
    atomic_write(
        folder / "README.md",
        "\n".join([*lines, "---", "Pages of this course under a published name, to rehearse with.", ""]),
    )


@functools.cache
def _page(sheet: Sheet, size: tuple[int, int]):
    return sheet.draw().image.convert("RGB").resize(size)
