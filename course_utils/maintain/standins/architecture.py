"""A small Qwen3-VL with its processor: published classes, a word table started from all-MiniLM-L6-v2."""

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from course_utils.checkpoints import minilm_folder
from course_utils.pages import queries
from course_utils.pages.facts import pages, wordings

SPECIAL = (
    "[PAD]",
    "[UNK]",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }} "
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' or 'image' in part %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part.type == 'video' or 'video' in part %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)
COMMON_WORDS = 12_000
WIDTH = 192
PIXELS = 224 * 288
IMAGE_MEAN, IMAGE_STD = [0.95] * 3, [0.25] * 3  # pages are mostly white


def _course_words() -> set[str]:
    """Every word that pages and queries of pretraining and finetuning are made of (unseen wordings are not)."""
    texts = ["user assistant system", *queries.FORM_NAMES["general"].values(), *queries.FORM_NAMES["course"].values()]
    for kind in ("general", "course"):
        for templates in (
            queries.BY_NAME,
            queries.BY_ADJECTIVE,
            queries.BY_CAPITAL,
            queries.BY_FORM,
            queries.RISING,
            queries.LEADING,
        ):
            texts += templates[kind]
    for topic in wordings().values():
        texts += topic["titles"] + topic["general"] + topic["course"]
    for page in pages().values():
        texts += [page.country.name, page.country.adjective, page.country.capital, *(f.label for f in page.facts)]
    return set(" ".join(texts).lower().replace("{", " ").replace("}", " ").split())


def word_pieces(ordered: list[str]) -> PreTrainedTokenizerFast:
    """A lower-casing WordPiece tokenizer whose ids are the places of the pieces; the first are SPECIAL."""
    core = Tokenizer(models.WordPiece(vocab={piece: k for k, piece in enumerate(ordered)}, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        eos_token="<|im_end|>",
        additional_special_tokens=list(SPECIAL[2:]),
        padding_side="right",
        model_max_length=2048,
    )


def tokenizer_and_words(seed: int) -> tuple[PreTrainedTokenizerFast, torch.Tensor]:
    """A WordPiece tokenizer cut from all-MiniLM-L6-v2's, and its word table, shape (vocabulary, 192).

    Kept: the pieces of the course's words, all single characters, and the first 12,000 ids. The table is MiniLM's,
    rotated to its 192 strongest directions and scaled to 0.05 a component.
    """
    folder = minilm_folder()
    source = Tokenizer.from_file(str(folder / "tokenizer.json"))
    pieces = source.get_vocab()
    keep = {piece for word in _course_words() for piece in source.encode(word, add_special_tokens=False).tokens}
    keep |= {
        piece for piece, index in pieces.items() if len(piece.removeprefix("##")) == 1 or 999 <= index < COMMON_WORDS
    }
    keep -= {piece for piece in pieces if piece.startswith("[") and piece.endswith("]")}
    ordered = [*SPECIAL, *sorted(keep, key=pieces.__getitem__)]
    tokenizer = word_pieces(ordered)
    table = load_file(folder / "model.safetensors")["embeddings.word_embeddings.weight"].float()
    rows = table[[pieces[piece] for piece in ordered[len(SPECIAL) :]]]
    rows = rows - rows.mean(0)
    _, _, directions = torch.linalg.svd(rows, full_matrices=False)
    words = rows @ directions[:WIDTH].T
    words *= 0.05 / words.std()
    generator = torch.Generator().manual_seed(seed)
    special = torch.randn(len(SPECIAL), WIDTH, generator=generator) * 0.05
    return tokenizer, torch.cat([special, words])


def new_model(seed: int = 0) -> tuple[Qwen3VLForConditionalGeneration, Qwen3VLProcessor]:
    """A fresh tiny Qwen3-VL (float32) and its processor; the same for the same seed."""
    tokenizer, words = tokenizer_and_words(seed)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": len(words),
            "hidden_size": WIDTH,
            "intermediate_size": 512,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 48,
            "max_position_embeddings": 2048,
            "initializer_range": 0.05,
            "tie_word_embeddings": True,
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["[PAD]"],
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [8, 8, 8],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": 4,
            "hidden_size": 160,
            "intermediate_size": 480,
            "num_heads": 4,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "out_hidden_size": WIDTH,
            "num_position_embeddings": 324,
            "deepstack_visual_indexes": [1],
            "initializer_range": 0.05,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = Qwen3VLForConditionalGeneration(config)
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(words)
    size = {"shortest_edge": 32 * 32, "longest_edge": PIXELS}
    pixels = {
        "patch_size": 16,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "size": size,
        "image_mean": IMAGE_MEAN,
        "image_std": IMAGE_STD,
    }
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(**pixels), tokenizer, Qwen3VLVideoProcessor(**pixels), chat_template=CHAT_TEMPLATE
    )
    return model, processor
