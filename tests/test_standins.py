"""The stand-ins: made resumably, sealed by hash, and of the published classes."""

import json
import shutil

import pytest
import torch

from course_utils import checkpoints, paths
from course_utils.errors import CourseError
from course_utils.splits import splits
from course_utils.standins.architecture import new_model
from course_utils.standins.corpus import GeneralPages
from course_utils.standins.pretrain import Phase, Trainer, patches

PHASE = Phase("toy", steps=3, strip_steps=0, dense_steps=0, crop_steps=1, learning_rate=1e-3, match=True,
              batch=4, crop_batch=4, texts=4)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return GeneralPages(tmp_path_factory.mktemp("general"), 1, splits().general[:12])


def train(corpus, folder, stops):
    """Train the toy phase in as many processes' worth of trainers as there are stops; the weights at the end."""
    for stop in stops:
        model, processor = new_model()
        trainer = Trainer(model, processor, corpus, PHASE, folder)
        list(trainer.run(stop_at=stop, save_every=1))
        trainer.close()
    return model.state_dict()


def test_training_stopped_and_resumed_gives_the_same_weights_as_in_one_go(corpus, tmp_path):
    whole = train(corpus, tmp_path / "whole", [3])
    parts = train(corpus, tmp_path / "parts", [1, 3])
    fresh = new_model()[0].state_dict()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert any(not torch.equal(whole[name], fresh[name]) for name in whole)


def test_patches_are_the_processors_own(corpus):
    from PIL import Image

    processor = new_model()[1]
    seen = processor.image_processor(Image.fromarray(corpus.images[0]), return_tensors="pt")["pixel_values"]
    frames = seen.view(-1, 3, 2, 256)
    assert torch.equal(frames[:, :, 0], frames[:, :, 1])
    ours = patches(torch.from_numpy(corpus.images[:1].copy()))
    assert torch.allclose(frames[:, :, 0].reshape(-1, 768), ours, atol=1e-5)


def test_general_pages_are_none_of_the_courses():
    general = splits().page_ids("general")
    assert general and all(general.isdisjoint(splits().page_ids(split)) for split in ("train", "dev", "test"))


@pytest.mark.parametrize("name", ["tiny-qwen3-vl", "tiny-qwen3-vl-embedding"])
def test_a_stand_in_is_small_sealed_and_has_a_card_with_its_scores(name):
    folder = paths.MODELS / name
    assert checkpoints.checkpoint(name) == str(folder)
    weights = folder / "model.safetensors"
    assert weights.stat().st_size < 35 * 2**20
    assert not [path for path in folder.rglob("*") if path.suffix in {".bin", ".pt", ".pth", ".pkl"}]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "do not predict the published model's scores" in card.replace("\n", " ") and "Measured here" in card


def test_the_embedding_stand_in_is_built_like_the_published_model():
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(checkpoints.checkpoint("tiny-qwen3-vl-embedding"), model_kwargs={"dtype": "float32"})
    assert [type(module).__name__ for module in model] == ["Transformer", "Pooling", "Normalize"]
    assert model[1].pooling_mode == "lasttoken"
    assert set(model.modalities) == {"text", "image", "video", "message"}
    assert not (paths.MODELS / "tiny-qwen3-vl" / "modules.json").exists()


def test_an_altered_or_missing_checkpoint_is_named_with_what_to_do(tmp_path, monkeypatch):
    models = tmp_path / "models"
    shutil.copytree(paths.MODELS, models)
    monkeypatch.setattr(paths, "MODELS", models)
    config = models / "tiny-qwen3-vl" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"altered": True}))
    with pytest.raises(CourseError, match="git checkout data/models"):
        checkpoints.checkpoint("tiny-qwen3-vl")
    shutil.rmtree(models / "tiny-qwen3-vl-embedding")
    with pytest.raises(CourseError, match="missing.*build-standins"):
        checkpoints.checkpoint("tiny-qwen3-vl-embedding")
