"""Whole words: a model that has part of all-MiniLM-L6-v2's vocabulary gets all of it, without training."""

import re

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import Qwen3VLProcessor

from course_utils.checkpoints import minilm_folder
from course_utils.maintain.standins.architecture import word_pieces

RIDGE = 1e-3  # of the mean square of the teacher's components


def widen(model, processor: Qwen3VLProcessor) -> Qwen3VLProcessor:
    """Give `model`, in place, a row for every word piece of the teacher; returns its new processor.

    Old ids stay. New rows are the teacher's, by the linear map that best takes the shared ones to ours.
    Where no piece is missing, nothing changes.
    """
    folder = minilm_folder()
    places = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    known = processor.tokenizer.get_vocab()
    old = sorted(known, key=known.__getitem__)
    theirs = sorted(places, key=places.__getitem__)
    new = [piece for piece in theirs if piece not in known and not re.fullmatch(r"\[\w+\]", piece)]
    if not new:
        return processor
    teacher = load_file(folder / "model.safetensors")["embeddings.word_embeddings.weight"].float()
    table = model.get_input_embeddings().weight.detach().clone()
    shared = [piece for piece in old if piece in places and not piece.startswith("[")]
    ours, source = table[[known[p] for p in shared]], teacher[[places[p] for p in shared]]
    our_mean, source_mean = ours.mean(0), source.mean(0)
    centred = source - source_mean
    square = centred.T @ centred + RIDGE * len(shared) * centred.square().mean() * torch.eye(centred.shape[1])
    view = torch.linalg.solve(square, centred.T @ (ours - our_mean))
    rows = (teacher[[places[p] for p in new]] - source_mean) @ view + our_mean
    model.resize_token_embeddings(len(old) + len(new), mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(torch.cat([table, rows]))
    return Qwen3VLProcessor(
        processor.image_processor,
        word_pieces([*old, *new]),
        processor.video_processor,
        chat_template=processor.chat_template,
    )
