# %% [markdown]
# # 02 · Inputs of every kind
#
# **You will be able to**
# - give a model the same page as an image, a path, a URL or an array, and prove that it sees the same
# - put text and image together in a dictionary or a chat message, and embed video frames and sound
# - recognise the inputs that are refused, and the more dangerous ones that are not
# - use query and document prompts, and measure what a mismatch costs
# - measure and draw the gap between texts and pages in one space
#
# **Time** tiny 1 min · t4 about 5 min · full about 5 min (the two on a GPU are estimates, not measured here)
#
# **Memory** tiny 2 GB · t4 8 GB of GPU memory · full 12 GB of GPU memory
#
# **Read first** lesson 01, for what a modality is

# %% tags=["parameters"]
PROFILE = "tiny"
SEED = 0
ROWS = 0

# %%
from course_utils.machine import device, quiet

quiet()  # drops library messages that ask nothing of you

import numpy as np
import torch
from datasets import load_dataset
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer, ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor

from course_utils import evaluation, plots
from course_utils.checkpoints import checkpoint
from course_utils.corpus import build_corpus
from course_utils.dataset import prepare_dataset
from course_utils.exercises import check, close
from course_utils.local_server import serving
from course_utils.profiles import load_profile
from course_utils.recording import Run

# %%
P = load_profile(PROFILE)
run = Run("02_inputs_of_every_kind", profile=PROFILE, seed=SEED)
run.folder.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## 1. One page, seven ways
#
# The model, and the pages of the dev split, each once. `ROWS` takes fewer rows, for a quick look: with very few,
# the scores below say little.

# %%
kwargs = {"dtype": P.dtype, "attn_implementation": P.attention}
model = SentenceTransformer(checkpoint(P.embedder), device=device(), model_kwargs=kwargs)
model[0].processing_kwargs |= {
    "image": {"size": P.pixels},
    "video": {"do_sample_frames": False, "cap_pixels_per_frame": True},  # all frames, each within the budget
}

# %%
dataset = prepare_dataset(P)
dev_data = load_dataset(dataset, P.dev_config, split=P.dev_split)
dev = build_corpus(dev_data.select(range(min(ROWS or len(dev_data), len(dev_data)))))
query_ids, page_ids = list(dev.queries), list(dev.corpus)
page = dev.image(page_ids[0]).convert("RGB")
page


# %%
def embed(value, by=model):
    """One input of any kind to its vector: one row of numbers, all finite, together of length one."""
    vector = by.encode([value], convert_to_tensor=True)[0].float().cpu()
    assert vector.ndim == 1 and torch.isfinite(vector).all() and abs(vector.norm() - 1) < 1e-2
    return vector


def cosine(one, other):
    return float(model.similarity(one[None], other[None]))


def apart(one, other):
    """The largest difference between two vectors in any component."""
    return (one - other).abs().max().item()


# %% [markdown]
# The library inspects each string to decide what it is: an existing file with the ending of an image is an image, so
# is a URL with such an ending, and everything else is text. Arrays with three axes are images, with channels first or
# last.
#
# `serving` puts one folder on this machine's own address, 127.0.0.1, so that there is a URL without a network.
# Predict: which of these will differ from the PIL image? `embed`, above, wraps the list that `encode` takes, and
# looks at the vector.

# %%
path = run.folder / "page.png"
page.save(path)
pixels = np.array(page)  # (height, width, 3), uint8
channels_first = pixels.transpose(2, 0, 1).copy()
with serving(run.folder) as address:
    same_page = {
        "pil-image": page,
        "path": str(path),
        "url": f"{address}/page.png",
        "numpy-channels-last": pixels,
        "numpy-channels-first": channels_first,
        "torch-channels-first": torch.from_numpy(channels_first),
        "dictionary": {"image": page},
    }
    vectors = {form: embed(value) for form, value in same_page.items()}

# %%
original = vectors["pil-image"]
for form, vector in vectors.items():
    run.record(f"difference/{form}", apart(vector, original))
    print(f"{form:>22}: shape {tuple(vector.shape)}, differs by at most {apart(vector, original):.1e}")
    assert apart(vector, original) <= 1e-3, f"the page as {form} is not the same page"

# %% [markdown]
# They agree. Paths and URLs are opened when they are needed, so a list of a million paths costs little memory; arrays
# and PIL images are all in memory at once.
#
# ### What goes wrong without a word
#
# The inputs below are all accepted. Predict which of them is still the page.

# %%
silent = {
    "floats-from-0-to-1": torch.from_numpy(channels_first).float() / 255,
    "floats-from-0-to-255": pixels.astype(np.float32),
    "blue-first": pixels[:, :, ::-1].copy(),  # as OpenCV gives
    "a-path-with-a-typo": path.name.replace("page", "pgae"),
}
for form, value in silent.items():
    vector = embed(value)
    run.record(f"cosine/{form}", cosine(vector, original))
    moved = f"differs by at most {apart(vector, original):.1e}"
    print(f"{form:>22}: cosine with the page {cosine(vector, original):.3f}, {moved}")

# %% [markdown]
# - The processor divides pixels by 255. Floats from 0 to 1 are divided again: a nearly black page.
# - Floats from 0 to 255 are nearly the page: resizing them gives slightly other pixels. In `uint8` they are the page.
# - OpenCV's arrays have blue first. Our model reads letters and hardly notices; do not count on that with photographs.
# - A path that does not exist is a *text*, and texts are welcome. Check your paths before you embed a million of them.

# %% [markdown]
# ### Exercise 1: an array that is safe
# Write `as_pixels(array)`: it takes an image array with channels last, in floats from 0 to 1 or in whole numbers from 0
# to 255, and returns it in `uint8`.
#
# *Hint: `np.issubdtype(array.dtype, np.floating)` tells floats; round before you cut to whole numbers.*


# %%
def as_pixels(array: np.ndarray) -> np.ndarray:
    # <solution>
    if np.issubdtype(array.dtype, np.floating):
        array = (array * 255).round()
    return array.astype(np.uint8)
    # </solution>


ones = np.ones((2, 2, 3), int)
kept = "floats from 0 to 1 must come back as the pixels they were: times 255, rounded"
check(
    "an array that is safe",
    as_pixels,
    [
        (lambda f: f(pixels) is not None, "give back an array: put your answer in place of `...`"),
        (lambda f: f(pixels / 255).dtype == f(ones).dtype == np.uint8, "return an array of uint8"),
        (lambda f: close(f(pixels), pixels), "whole numbers are already right"),
        (lambda f: close(f(ones), ones), "decide by the dtype, not by the values"),
        (lambda f: close(f(pixels / 255 - 1e-6), pixels), kept),
    ],
)

# %% [markdown]
# ## 2. Text and image together
#
# A **dictionary** names its parts. A **chat message** says who speaks, and what, in order. Inside, the library makes
# a message of every input of this model anyway: that is how a vision-language model was taught.

# %%
title = "Exports, in billions of dollars"
image_part, text_part = {"type": "image", "image": page}, {"type": "text", "text": title}
message = {"role": "user", "content": [image_part]}
mixed = {
    "message, the page": [message],
    "dictionary, page and text": {"image": page, "text": title},
    "dictionary, text and page": {"text": title, "image": page},
    "message, page and text": [{"role": "user", "content": [image_part, text_part]}],
    "message, text and page": [{"role": "user", "content": [text_part, image_part]}],
    "text alone": title,
}
found = {form: embed(value) for form, value in mixed.items()}
for form, vector in found.items():
    print(f"{form:>27}: cosine with the page {cosine(vector, original):.3f}")

# %% [markdown]
# Which of these are the same input? Three pairs should be, and the order of the parts should count:

# %%
page_first, text_first = found["dictionary, page and text"], found["dictionary, text and page"]
same = {
    "message": apart(found["message, the page"], original),
    "dictionary-page-and-text": apart(page_first, found["message, page and text"]),
    "dictionary-text-and-page": apart(text_first, found["message, text and page"]),
}
for what, difference in same.items():
    run.record(f"difference/{what}", difference)
    assert difference <= 1e-3
run.record("difference/order-of-parts", apart(page_first, text_first))
print(f"the same dictionary in the other order differs by up to {apart(page_first, text_first):.2f}")

# %%
read = model.preprocess([mixed["dictionary, text and page"]])["input_ids"][0]
print("what the model reads of the dictionary:", model[0].processor.tokenizer.decode(read[:12]), "…")
print("[message, message] gives", model.encode([message, message]).shape)
print("[[message], [message]] gives", model.encode([[message], [message]]).shape)

# %% [markdown]
# The page as a message is the page. With a text beside it, the vector moves, and the order of the parts counts, since
# the last token looks back at both. A dictionary keeps the order in which you wrote it, as a message does: write all
# of yours in one order, the one that the model was trained with.
#
# The last line shows a trap: a *list* of messages is one conversation, so one vector. To embed many, give a list of
# lists.
#
# ## 3. Video and sound
#
# A video is frames: an array with four axes. Here are four pages turned one after another, with their times, and then
# the bare array. Without times the library warns, as you will see, and takes 24 frames a second. Will that change the
# vector?

# %%
turned = np.stack([np.array(dev.image(p).convert("RGB").resize((448, 576))) for p in page_ids[:4]])
times = {"fps": 1, "total_num_frames": len(turned), "frames_indices": list(range(len(turned)))}
clip = {"video": {"array": turned, "video_metadata": times}}
video, bare = embed(clip), embed(turned)
grid = model.preprocess([clip])["video_grid_thw"]
run.record("video/tokens", int(grid.prod()) // 4)
print("frames:", turned.shape, "| grid of patches (time, height, width):", grid.tolist())
print(f"the bare array differs by at most {apart(bare, video):.1e}")
cosines = [round(cosine(video, embed(dev.image(p))), 2) for p in page_ids[:5]]
print("cosines with its pages, and with another page:", cosines)

# %% [markdown]
# Two frames make one step in time, so four frames have two. Each step has its time written before it, so the times
# are part of the input, and the bare array, with other times, gives another vector. Our small model has never seen a
# video: do not read much into the cosines. The published one was trained on some.
#
# And sound? A processor needs a feature extractor for it. Look at what ours has, and at what `supports("audio")`
# says. Models of the **CLAP** class have one, beside a tokenizer. The one below is made on the spot, with random
# weights: it hears nothing, but a clip takes the very path that it takes in a trained one.

# %%
PARTS = ("tokenizer", "image_processor", "video_processor", "feature_extractor")


def parts(model):
    return [part for part in PARTS if hasattr(model[0].processor, part)]


print("ours has", parts(model), "| audio:", model.supports("audio"))
assert not model.supports("audio")

# %%
torch.manual_seed(SEED)
small_text = {"vocab_size": 20_000, "hidden_size": 32, "intermediate_size": 64}
small_text |= {"num_hidden_layers": 1, "num_attention_heads": 2}
small_audio = {"hidden_size": 128, "patch_embeds_hidden_size": 16}
small_audio |= {"depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]}
clap = ClapModel(ClapConfig(text_config=small_text, audio_config=small_audio, projection_dim=32))
tokenizer = AutoTokenizer.from_pretrained(checkpoint(P.embedder))
extractor = ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad")
clap.save_pretrained(run.folder / "clap")
ClapProcessor(extractor, tokenizer).save_pretrained(run.folder / "clap")
listener = SentenceTransformer(str(run.folder / "clap"), device="cpu")
print("CLAP has", parts(listener), "|", listener.modalities)

# %%
seconds = np.arange(48_000) / 48_000
waves = [np.sin(2 * np.pi * hertz * seconds).astype(np.float32) for hertz in (220, 440)]
tones = [{"audio": {"array": wave, "sampling_rate": 48_000}} for wave in waves]
low, high = (embed(tone, by=listener) for tone in tones)
print(f"a tone: shape {tuple(low.shape)}; another tone differs by up to {apart(low, high):.2f}")
run.record("audio/dimensions", len(low))
run.record("audio/two-tones", apart(low, high))

# %% [markdown]
# One axis is sound, three are an image, four a video. A sound comes with its **sampling rate**: the same numbers at
# another rate are another sound, so a rate that the model was not made for is refused, below.
#
# ## 4. What is refused
#
# An error that says what to do is worth more than a vector of nonsense. These are caught and printed.

# %%
refused = {
    "a-grey-page-two-axes": np.array(page.convert("L")),
    "bytes-of-a-file": path.read_bytes(),
    "a-pathlib-path": path,
    "a-raw-row-of-datasets": {"bytes": path.read_bytes(), "path": None},
    "sound": tones[0],
    "a-number": 3,
    "sound-at-another-rate": {"audio": {"array": waves[0], "sampling_rate": 16_000}},
}
for what, value in refused.items():
    try:
        (listener if what == "sound-at-another-rate" else model).encode([value])
        print(f"{what}: accepted")
    except ValueError as error:
        print(f"{what}: {str(error)[:150]}\n")
        run.record(f"refused/{what}", 1)

# %% [markdown]
# Read the first again: an array with fewer than three axes counts as sound. Give a grey page as `image.convert("RGB")`.
#
# ## 5. Queries, documents and prompts
#
# A **prompt** is a sentence put before every input of a kind, such as "Find the page that answers this question".
# Many models are trained with one for queries and none, or another, for documents. `encode_query` and
# `encode_document` pick it from `model.prompts`; plain `encode` picks none. For a vision-language model the prompt
# becomes the system message.
#
# Our model was trained without: its prompts are empty. First see where a prompt goes.

# %%
print("prompts of this model:", model.prompts)
question = dev.queries["q0"]
with_prompt = model.preprocess([question], prompt="Find the page.")["input_ids"][0]
print("with a prompt it reads:", model[0].processor.tokenizer.decode(with_prompt))
as_query = model.encode_query(question, prompt="Find the page.", convert_to_tensor=True).float().cpu()
print(f"the query moves by up to {apart(as_query, embed(question)):.2f}")

# %% [markdown]
# What does a prompt that it never saw cost in NDCG@10? Predict: nothing, or a tenth, or a half?

# %%
options = {"batch_size": P.eval_batch_size, "convert_to_tensor": True}
texts, documents = list(dev.queries.values()), list(dev.corpus.values())
page_vectors = model.encode_document(documents, **options)
query_vectors = {"none": model.encode_query(texts, **options)}
prompts = {"short": "Find the page."}
prompts["long"] = "Retrieve the page of a statistical yearbook that answers the question."
for which, prompt in prompts.items():
    model.prompts = {"query": prompt, "document": ""}
    query_vectors[which] = model.encode_query(texts, **options)
model.prompts = {"query": "", "document": ""}


# %%
def scored(queries, pages):
    return evaluation.per_query_ndcg(queries, pages, query_ids, page_ids, dev.relevant)


scores = {name: scored(vectors, page_vectors) for name, vectors in query_vectors.items()}
for name, values in scores.items():
    interval = evaluation.bootstrap(values, SEED)
    run.record(f"ndcg@10/dev/prompt-{name}", interval)
    print(f"{name:>6} prompt: NDCG@10 {interval}")
for name in prompts:
    cost = evaluation.paired_bootstrap(scores[name], scores["none"], SEED)
    run.record(f"ndcg@10/cost-of-prompt/{name}", cost)
    print(f"{name:>6} prompt costs {cost}")

# %% [markdown]
# The interval of the cost is paired: the same queries with and without. If zero lies inside it, these queries cannot
# tell the cost from none. Two prompts on one small model are no law, but the rule costs nothing: **search with the
# prompts that a model was trained with**. Look at `model.prompts` when you load a model, and save them with yours.
#
# ## 6. The modality gap
#
# `similarity` compares all of one list with all of another, by cosine. One space for texts and pages does not mean
# that they mix in it. Draw both: across, the line from one **centroid** (the mean of a cloud) to the other; up, the
# widest direction at right angles to it. Predict: one cloud, or two?

# %%
queries = torch.nn.functional.normalize(query_vectors["none"].float().cpu(), dim=-1)
pages = torch.nn.functional.normalize(page_vectors.float().cpu(), dim=-1)
cosines = model.similarity(queries, pages)
own = torch.tensor([[page in dev.relevant[query] for page in page_ids] for query in query_ids])
print(f"mean cosine of a query with its page {cosines[own].mean():.3f}")
print(f"mean cosine of a query with another page {cosines[~own].mean():.3f}")
for kind, cloud in {"queries": queries, "pages": pages}.items():
    others = ~torch.eye(len(cloud), dtype=torch.bool)  # a vector's cosine with itself is always 1
    print(f"mean cosine of two different {kind} {model.similarity(cloud, cloud)[others].mean():.3f}")

# %%
figure = plots.clouds({"queries": queries.numpy(), "pages": pages.numpy()})
run.figure(
    "gap", figure, "Queries and pages along the line between their centroids: clouds that overlap or not."
)
figure

# %% [markdown]
# ### Exercise 2: measure the gap
# The usual measure is the distance between the two centroids: the mean vector of the queries and that of the pages,
# both of unit vectors ([Liang et al. 2022, Mind the gap](https://arxiv.org/abs/2203.02053)). Write `gap(a, b)`.
#
# *Hint: `mean(dim=0)`, then the length of the difference, `torch.linalg.norm`.*


# %%
def gap(a: torch.Tensor, b: torch.Tensor) -> float:
    # <solution>
    return float(torch.linalg.norm(a.mean(dim=0) - b.mean(dim=0)))
    # </solution>


corner = torch.eye(
    3
)  # two unit vectors make a cloud with the centroid (½, ½, 0), one makes a cloud at (0, 0, 1)
root = "the length of the difference between the centroids: the root of the sum of its squares"
check(
    "the gap",
    gap,
    [
        (lambda f: f(pages, pages) is not None, "give back a number: put your answer in place of `...`"),
        (lambda f: np.ndim(f(pages, pages)) == 0, "give one number, not a vector"),
        (lambda f: close(f(pages, pages), 0), "a cloud has no gap to itself"),
        (lambda f: not close(f(corner[:2], corner[2:]), 0), "average over the vectors, not their dimensions"),
        (lambda f: close(f(corner[:2], corner[2:]), 1.5**0.5), root),
    ],
)

# %% [markdown]
# A distance alone says little: two random handfuls of *one* cloud also have two centroids, and few vectors in many
# dimensions put them far apart. So shuffle which vector is called a query, many times, and measure again. Predict:
# how much is left?


# %%
def between(a, b):
    """The distance between the centroids of two clouds."""
    return torch.linalg.norm(a.mean(dim=0) - b.mean(dim=0)).item()


everything = torch.cat([queries, pages])
draws = torch.Generator().manual_seed(SEED)
by_chance = []
for _ in range(1000):
    order = torch.randperm(len(everything), generator=draws)
    by_chance.append(between(everything[order[: len(queries)]], everything[order[len(queries) :]]))
low, high = np.percentile(by_chance, [2.5, 97.5])
distance = between(queries, pages)
shuffled = evaluation.Interval(float(np.mean(by_chance)), low, high, len(by_chance))
run.record("gap/distance", distance)
run.record("gap/distance/shuffled", shuffled)
print(f"distance of the centroids {distance:.3f}; shuffled, mean and 95% of the draws: {shuffled}")

# %% [markdown]
# Above that interval there is a gap; within it, these vectors cannot tell a gap from none. How large it is shows in
# how far it lies above. The drawing flatters a gap for the same reason: its line across was chosen to part the two.
#
# Is the gap a fault? Close it, and see: subtract from each kind its own centroid, and the distance must all but
# vanish. Predict what that does to the score.


# %%
def centred(vectors):
    return torch.nn.functional.normalize(vectors - vectors.mean(dim=0), dim=-1)


closed = between(centred(queries), centred(pages))
scores["centred"] = scored(centred(queries), centred(pages))
change = evaluation.paired_bootstrap(scores["none"], scores["centred"], SEED)
run.record("gap/distance/centred", closed)
run.record("ndcg@10/gain-of-centring", change)
run.record("queries", len(query_ids))
run.save()
print(f"distance of the centroids {distance:.3f}, centred {closed:.3f}; NDCG@10 changes by {change}")

# %% [markdown]
# Ranking asks only which page is *nearest* to one query. Moving all pages by one step adds the same amount to all of
# a query's dot products, so little of the order can change. A threshold is another matter: where there is a gap, a
# cosine of query and page and one of page and page are not on one scale.

# %% [markdown]
# ## You have
# - given one page in seven forms and seen the same vector, and met four inputs that go wrong without a word
# - put text and image together, and embedded frames and tones
# - read what the library refuses, and why
# - measured what an unknown prompt costs
# - drawn the modality gap, measured it against chance, and closed it
#
# **Next**: lesson 03 takes the pages apart: the data that a retriever is trained on.
