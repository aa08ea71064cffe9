"""Trained models written as the checkpoints that lessons load: in bfloat16, with their modules."""

import copy
import shutil
from pathlib import Path

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from sentence_transformers.sentence_transformer.modules import Pooling

from course_utils.maintain.standins.reranker import NO, YES


def save_vlm(model, processor, folder: Path) -> None:
    """Write a model of transformers in bfloat16 with its processor: a raw one has no modules.json."""
    shutil.rmtree(folder, ignore_errors=True)
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)


def save_embedder(model, processor, folder: Path) -> None:
    """Write the embedding model: Transformer, last-token Pooling, Normalize."""
    raw = folder.with_name(f".{folder.name}")
    save_vlm(model, processor, raw)
    transformer = Transformer(str(raw), model_kwargs={"dtype": torch.bfloat16})
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="lasttoken")
    shutil.rmtree(folder, ignore_errors=True)
    SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu").save_pretrained(
        str(folder), create_model_card=False
    )
    shutil.rmtree(raw)


def save_reranker(model, processor, folder: Path) -> None:
    """Write the reranker: Transformer, ended by the assistant's turn, and LogitScore of yes against no."""
    raw = folder.with_name(f".{folder.name}")
    save_vlm(model, processor, raw)
    transformer = Transformer(
        str(raw),
        transformer_task="any-to-any",
        model_kwargs={"dtype": torch.bfloat16},
        processing_kwargs={"chat_template": {"add_generation_prompt": True}},
    )
    shutil.rmtree(folder, ignore_errors=True)
    scores = LogitScore(*processor.tokenizer.convert_tokens_to_ids([YES, NO]))
    model = CrossEncoder(modules=[transformer, scores], device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    shutil.rmtree(raw)
