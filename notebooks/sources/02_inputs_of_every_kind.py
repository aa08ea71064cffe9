# %% [markdown]
# # 02 · Inputs of every kind
#
# **You will be able to**
# - give a model the same page as an image, a path, a URL or an array, and prove that it sees the same
# - put text and image together in a dictionary or a chat message, and embed video frames
# - recognise the inputs that are refused, and the more dangerous ones that are not
# - use query and document prompts, and measure what a mismatch costs
# - measure and draw the gap between texts and pages in one space
#
# **Time** tiny 1 min · t4 about 5 min · full about 5 min (the two on a GPU are estimates, not measured here)
#
# **Learning time** about 40 min
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

from course_utils import evaluation, plots
from course_utils.checkpoints import checkpoint
from course_utils.corpus import build_corpus
from course_utils.dataset import prepare_dataset
from course_utils.exercises import check, close
from course_utils.local_server import serving
from course_utils.profiles import load_profile
from course_utils.recording import Run

P = load_profile(PROFILE)
run = Run("02_inputs_of_every_kind", profile=PROFILE, seed=SEED)
run.folder.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## 1. One page, seven ways
#
# An embedding model turns an input into one vector: a row of numbers. Which inputs does it take? And how do
# you check that it read them as you meant?
#
# ![Text, images, dictionaries, messages and videos each become one chat message. A tokenizer turns words into token
# ids; the image and video processor turns pixels into patches and tokens. The model reads them as one row and keeps
# the last token's state: one vector. In the vector space, texts form one cloud and pages another, with the modality
# gap between them.](images/02_inputs.svg)
#
# The next cell loads the model and the pages of the dev split. A **split** is a part of the data kept apart:
# dev is for trying things out, test for the final score. `ROWS` limits the rows.

# %%
kwargs = {"dtype": P.dtype, "attn_implementation": P.attention}
model = SentenceTransformer(checkpoint(P.embedder), device=device(), model_kwargs=kwargs)
model[0].processing_kwargs |= {
    "image": {"size": P.pixels},
    "video": {"do_sample_frames": False, "cap_pixels_per_frame": True},  # all frames, in one video budget
}
dataset = prepare_dataset(P)
dev_data = load_dataset(dataset, P.dev_config, split=P.dev_split)
dev = build_corpus(dev_data.select(range(min(ROWS or len(dev_data), len(dev_data)))))
query_ids, page_ids = list(dev.queries), list(dev.corpus)
page = dev.image(page_ids[0]).convert("RGB")
page


# %%
def embed(value):
    """The vector of one input of any kind: finite numbers, and of length one."""
    vector = model.encode([value], convert_to_tensor=True)[0].float().cpu()
    assert vector.ndim == 1 and torch.isfinite(vector).all() and abs(vector.norm() - 1) < 1e-2
    return vector


def cosine(one, other):
    return float(model.similarity(one[None], other[None]))


def apart(one, other):
    """The largest difference between two vectors in any component."""
    return (one - other).abs().max().item()


# %% [markdown]
# [`encode`](https://sbert.net/docs/package_reference/sentence_transformer/model.html) takes a list of inputs;
# `embed`, above, gives it one. The library inspects each string: a URL, or the path of an existing file, is
# an image or a video if it ends like one (`.png`, `.mp4`). Others are text. An array with three axes is an
# image, with its channels first or last.
#
# `serving` gives the folder a URL on this machine. **Predict:** which forms give a different vector from the
# PIL image?

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
original = vectors["pil-image"]
differences = {form: apart(vector, original) for form, vector in vectors.items()}
for form, difference in differences.items():
    run.record(f"difference/{form}", difference)
    print(f"{form:>22}: shape {tuple(vectors[form].shape)}, differs by at most {difference:.1e}")
    assert difference <= 1e-3, f"the page as {form} is not the same page"
most = max(differences.values())
print(f"\nYou saw {len(vectors)} forms that differ by at most {most:.1e}: all are the same page.")

# %% [markdown]
# So choose the form by its memory: a list of a million paths takes little, but arrays and PIL images are all
# in memory at once.
#
# ## 2. Mistakes without an error
#
# The library accepts every input in the next cell. The cell also counts the **image tokens**: how much of an
# input the model reads as a picture. **Predict:** which are still the page to the model?


# %%
def image_tokens(value):
    """How many tokens of a picture the model reads in this input."""
    grid = model.preprocess([value]).get("image_grid_thw")
    return 0 if grid is None else int(grid.prod(dim=1).sum()) // 4  # patches of 16x16, four to a token


silent = {
    "the-page": page,
    "floats-from-0-to-1": torch.from_numpy(channels_first).float() / 255,
    "floats-from-0-to-255": pixels.astype(np.float32),
    "blue-first": pixels[:, :, ::-1].copy(),  # as OpenCV gives
    "a-path-with-a-typo": path.name.replace("page", "pgae"),
}
likeness = {form: cosine(embed(value), original) for form, value in silent.items()}
for form, value in silent.items():
    run.record(f"cosine/{form}", likeness[form])
    run.record(f"image-tokens/{form}", image_tokens(value))
    print(f"{form:>22}: cosine with the page {likeness[form]:.4f}, image tokens {image_tokens(value)}")
lost = [form for form, found in likeness.items() if found < 0.9]
print("\nYou saw these below a cosine of 0.9, our limit for “still the page”:", ", ".join(lost) or "none")

# %% [markdown]
# - The processor divides pixels by 255. Floats from 0 to 1 are divided a second time: the page is nearly
#   black.
# - Floats from 0 to 255 are nearly the page: resizing them gives slightly different pixels.
# - OpenCV's arrays have blue first, which changes coloured pixels. The small model (`tiny`) hardly sees
#   colour; other models may.
# - A path that does not exist is read as *text*, so it has no image tokens. Check your paths first.

# %% [markdown]
# ### Exercise 1: an array that is safe
# Write `as_pixels(array)`. It takes an image array with channels last, either floats from 0 to 1 or whole
# numbers from 0 to 255. It returns `uint8` from 0 to 255.
#
# <details><summary>Hint</summary>
#
# `np.issubdtype(array.dtype, np.floating)` is true for floats. Round first: `astype` cuts fractions off.
#
# </details>


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
        (lambda f: f(pixels) is not None, "not done yet: return an array instead of `...`"),
        (lambda f: f(pixels / 255).dtype == f(ones).dtype == np.uint8, "return an array of uint8"),
        (lambda f: close(f(pixels), pixels), "whole numbers must come back unchanged"),
        (lambda f: close(f(ones), ones), "decide by the dtype, not by the values"),
        (lambda f: close(f(pixels / 255 - 1e-6), pixels), kept),
    ],
)

# %% [markdown]
# ## 3. Text and image together
#
# A **dictionary** names its parts. A **chat message** says who speaks (`role`), and what, in order
# (`content`). **Predict:** which of the inputs in `mixed` are the same to the model?

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
}
found = {form: embed(value) for form, value in mixed.items()}
page_first, text_first = found["dictionary, page and text"], found["dictionary, text and page"]
same = {
    "message": apart(found["message, the page"], original),
    "dictionary-page-and-text": apart(page_first, found["message, page and text"]),
    "dictionary-text-and-page": apart(text_first, found["message, text and page"]),
}
for what, difference in (same | {"order-of-parts": apart(page_first, text_first)}).items():
    run.record(f"difference/{what}", difference)
    assert (difference <= 1e-3) == (what in same)
print("You saw each message and its other form, the page or the dictionary, differ", end=" ")
print(f"by at most {max(same.values()):.1e}: one input.")
print(f"The two orders of the parts differ by up to {apart(page_first, text_first):.2f}: two inputs.")

# %% [markdown]
# A dictionary is the same input as a message with its parts in the same order, because the library writes
# every input of this model as a message. Keep all your inputs in the order that the model was trained with.
#
# **Predict:** how many vectors does each of the next two `encode` calls give?

# %%
tokens = image_tokens([message, message])
run.record("image-tokens/two-messages", tokens)
print("[message, message] gives", model.encode([message, message]).shape, "with", tokens, "image tokens")
print("[[message], [message]] gives", model.encode([[message], [message]]).shape)

# %% [markdown]
# **Watch out:** a *list* of messages is one conversation: you saw one vector for two pages. To embed many
# messages, give a list of lists.
#
# A **video** is an array with four axes: frames, height, width, channels. The next cell embeds pages as
# frames with their times, and then the bare array. Without times, the library assumes 24 frames a second, and
# warns. **Predict:** do the times change the vector?

# %%
turned = np.stack([np.array(dev.image(p).convert("RGB").resize((448, 576))) for p in page_ids[:4]])
times = {"fps": 1, "total_num_frames": len(turned), "frames_indices": list(range(len(turned)))}
clip = {"video": {"array": turned, "video_metadata": times}}
video, bare = embed(clip), embed(turned)
grid = model.preprocess([clip])["video_grid_thw"]
run.record("video/tokens", int(grid.prod()) // 4)
run.record("difference/video-without-times", apart(bare, video))
print("frames:", turned.shape, "| grid of patches (time, height, width):", grid.tolist())
print(f"You saw the bare array differ by up to {apart(bare, video):.1e}: the times are part of the input.")

# %% [markdown]
# Two frames make one step in time. The processor writes each step's time before it.
#
# An array with one or two axes is **sound**. Our model refuses it. Models for sound, such as
# [CLAP](https://huggingface.co/docs/transformers/model_doc/clap), take it together with its sampling rate.
#
# ## 4. Inputs that are refused
#
# An error is better than a meaningless vector. The next cell prints six.

# %%
refused = {
    "a-grey-page-two-axes": np.array(page.convert("L")),
    "bytes-of-a-file": path.read_bytes(),
    "a-pathlib-path": path,
    "a-raw-row-of-datasets": {"bytes": path.read_bytes(), "path": None},
    "sound": {"audio": {"array": np.zeros(48_000, np.float32), "sampling_rate": 48_000}},
    "a-number": 3,
}
for what, value in refused.items():
    try:
        model.encode([value])
        print(f"{what}: accepted")
    except ValueError as error:
        print(f"{what}: {str(error)[:150]}\n")
        run.record(f"refused/{what}", 1)
print("An array with fewer than three axes counts as sound: give a grey page as image.convert('RGB').")

# %% [markdown]
# ### Exercise 2: find the mistake
# Four colleagues each embedded two pages, and each made one mistake. They saw:
#
# | | result | image tokens | cosine with the right vector |
# | --- | --- | --- | --- |
# | A | a vector for each page | as many as the page has | far below 1 |
# | B | an error about sound | – | – |
# | C | a vector for each page | none | far below 1 |
# | D | one vector for two pages | as many as both pages have | – |
#
# Name each mistake: `"typo"` (in the paths), `"floats"` (from 0 to 1), `"grey"` (arrays with two axes) or
# `"conversation"` (a flat list of messages).
#
# <details><summary>Hint</summary>
#
# Begin with the image tokens: which mistake gives the model no picture at all?
#
# </details>

# %%
# <solution> stub: mistakes = {"A": ..., "B": ..., "C": ..., "D": ...}
mistakes = {"A": "floats", "B": "grey", "C": "typo", "D": "conversation"}
# </solution>
known = {"floats", "grey", "typo", "conversation"}
check(
    "find the mistake",
    mistakes,
    [
        (lambda a: set(a) == set("ABCD") and set(a.values()) == known, "use each of the four names once"),
        (lambda a: a["C"] == "typo", "C: which input does the library read as text?"),
        (lambda a: a["A"] == "floats", "A: the model read a whole picture, but not the right one"),
        (lambda a: a["D"] == "conversation", "D: two pages were read together"),
        (lambda a: a["B"] == "grey", "B: the number of axes says what an array is"),
    ],
)

# %% [markdown]
# ## 5. Queries, documents and prompts
#
# A **prompt** is a sentence put before every query, or every document, such as "Find the page that answers
# this question". Many models are trained with one for queries, and with another or none for documents.
# [`encode_query`](https://sbert.net/docs/package_reference/sentence_transformer/model.html) and
# `encode_document` take it from `model.prompts`. For a vision-language model it becomes the system message.
# Our model was trained without prompts: its own are empty. The first cell shows where a prompt goes; the next
# two measure what an unknown one costs.
#
# - **NDCG@10** scores a ranking: 1 if the right page comes first, smaller for each later rank,
#   and 0 after rank ten.
# - The **95% interval** in brackets says how far the mean moves if other queries of the same kind are drawn.
#
# **Predict:** does it cost nothing, a tenth of the score, or half?

# %%
print("prompts of this model:", model.prompts)
question = dev.queries["q0"]
with_prompt = model.preprocess([question], prompt="Find the page.")["input_ids"][0]
print("with a prompt it reads:", model[0].processor.tokenizer.decode(with_prompt))
as_query = model.encode_query(question, prompt="Find the page.", convert_to_tensor=True).float().cpu()
print(f"the query's vector changes by up to {apart(as_query, embed(question)):.2f}")

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
    verdict = "falls" if cost.low > 0 else "rises" if cost.high < 0 else "shows no clear change"
    print(f"You saw the cost, NDCG@10 without a prompt minus NDCG@10 with the {name} one: {cost}.")
    share = cost.mean / scores["none"].mean()
    print(f"That is {share:.0%} of the score. So NDCG@10 {verdict} with this prompt.")

# %% [markdown]
# A cost below zero would mean that the prompt helped. If the interval includes zero, these queries show no cost,
# which does not prove that there is none. Two prompts and one small model are little evidence, but the rule costs
# nothing: **search with the prompts used in training** (`model.prompts`).
#
# ## 6. The modality gap
#
# Texts and pages share one space, but need not mix in it.
# [`similarity`](https://sbert.net/docs/package_reference/sentence_transformer/model.html) compares every
# vector of one list with every vector of another. **Predict:** is a page nearer to other pages, or to queries
# about other pages?
#
# Then we draw both clouds. The horizontal axis joins their **centroids** (mean vectors, large marks).

# %%
queries = torch.nn.functional.normalize(query_vectors["none"].float().cpu(), dim=-1)
pages = torch.nn.functional.normalize(page_vectors.float().cpu(), dim=-1)
cosines = model.similarity(queries, pages)
own = torch.tensor([[page in dev.relevant[query] for page in page_ids] for query in query_ids])
pairs = ~torch.eye(len(pages), dtype=torch.bool)  # a page's cosine with itself is always 1
means = {
    "query-and-its-page": cosines[own].mean().item(),
    "query-and-another-page": cosines[~own].mean().item(),
    "two-pages": model.similarity(pages, pages)[pairs].mean().item(),
}
for what, mean in means.items():
    run.record(f"cosine/{what}", mean)
    print(f"mean cosine, {what}: {mean:.3f}")
to_pages = means["two-pages"] > means["query-and-another-page"]
print("You saw that a page is nearer, on average, to", "other pages." if to_pages else "such queries.")

# %%
figure = plots.clouds({"queries": queries.numpy(), "pages": pages.numpy()})
run.figure(
    "gap", figure, "Queries and pages as two clouds of points, along the line between their centroids."
)
figure

# %% [markdown]
# The drawing proves nothing, because its horizontal axis was chosen to separate the clouds. The usual measure
# is the distance between the centroids ([Liang et al. 2022](https://arxiv.org/abs/2203.02053)). But if you
# split *one* cloud at random, the two centroids differ too. So the next cell also shuffles which vectors are
# called queries, a thousand times. **Predict:** is the real distance larger than the shuffled ones?


# %%
def between(a, b):
    """The distance between the centroids of two clouds."""
    return torch.linalg.norm(a.mean(dim=0) - b.mean(dim=0)).item()


everything = torch.cat([queries, pages])
draws = torch.Generator().manual_seed(SEED)
by_chance = []
for _ in range(1000):
    mixed_up = everything[torch.randperm(len(everything), generator=draws)]
    by_chance.append(between(mixed_up[: len(queries)], mixed_up[len(queries) :]))
low, high = np.percentile(by_chance, [2.5, 97.5])
distance = between(queries, pages)
shuffled = evaluation.Interval(float(np.mean(by_chance)), low, high, len(by_chance))
run.record("gap/distance", distance)
run.record("gap/distance/shuffled", shuffled)
print(f"distance of the centroids {distance:.3f}; shuffled, mean and 95% of the draws: {shuffled}")
answer = "above that range: there is a gap" if distance > high else "not above that range: it may be chance"
print(f"You saw that the real distance is {answer}.")

# %% [markdown]
# Does the gap harm the search? We close it: subtract each kind's centroid from its vectors, and scale each
# vector to length one again. **Predict:** does NDCG@10 rise, fall or show no clear change?


# %%
def centred(vectors):
    return torch.nn.functional.normalize(vectors - vectors.mean(dim=0), dim=-1)


closed = between(centred(queries), centred(pages))
scores["centred"] = scored(centred(queries), centred(pages))
change = evaluation.paired_bootstrap(scores["none"], scores["centred"], SEED)
run.record("gap/distance/centred", closed)
run.record("ndcg@10/gain-of-centring", change)
print(f"distance of the centroids {distance:.3f}, centred {closed:.3f}; NDCG@10 changes by {change}")
verdict = "rises" if change.low > 0 else "falls" if change.high < 0 else "shows no clear change"
print(f"You saw the gap close from {distance:.2f} to {closed:.2f}. NDCG@10 {verdict}.")

# %% [markdown]
# ### Exercise 3: which step can change a ranking?
# That cell took the steps below. A ranking orders the pages by their dot products with *one* query. For each
# step, give `True` if it leaves every ranking the same, whatever the vectors are, and `False` if a ranking
# can change.
#
# - `"pages-moved"`: subtract one vector `c` from all pages
# - `"queries-moved"`: subtract one vector `c` from all queries
# - `"pages-rescaled"`: after the first step, divide each page by its own length
#
# <details><summary>Hint</summary>
#
# Write the new dot product, `q · (p - c)` or `(q - c) · p`, as a difference of two dot products. Is the
# second the same for all pages?
#
# </details>

# %%
# <solution> stub: keeps_order = {"pages-moved": ..., "queries-moved": ..., "pages-rescaled": ...}
keeps_order = {"pages-moved": True, "queries-moved": False, "pages-rescaled": False}
# </solution>
check(
    "which step can change a ranking",
    keeps_order,
    [
        (lambda a: all(isinstance(value, bool) for value in a.values()), "give True or False for each step"),
        (lambda a: a["pages-moved"], "pages moved: does q · c depend on the page?"),
        (lambda a: not a["queries-moved"], "queries moved: does c · p depend on the page?"),
        (lambda a: not a["pages-rescaled"], "pages rescaled: is every page divided by the same number?"),
    ],
)


# %%
def order(queries, pages):
    return (queries @ pages.T).argsort(dim=1, descending=True, stable=True)


q, p = queries.double(), pages.double()
steps = {
    "pages-moved": order(q, p - p.mean(dim=0)),
    "queries-moved": order(q - q.mean(dim=0), p),
    "pages-rescaled": order(q, centred(p)),
}
for step, after in steps.items():
    share = (after != order(q, p)).any(dim=1).double().mean().item()
    run.record(f"order-changed/{step}", share)
    print(f"{step:>15}: the order of the pages changes for {share:.0%} of the queries")
run.record("queries", len(query_ids))
run.save()

# %% [markdown]
# You saw that moving the pages changes no order: `q · (p - c) = q · p - q · c`, and `q · c` is one number for
# all pages. Moving the queries subtracts `c · p`, which differs from page to page. Rescaling divides each
# page by its own length. If NDCG@10 changed above, the change came from these two steps. Moving all pages
# opens or closes a gap, so a gap alone harms no ranking. It matters for a threshold: cosines of a query and
# a page are then on a different scale from cosines of two pages.

# %% [markdown]
# ## Three questions
#
# **1.** You embed a million paths as strings, and one of them has a typo. What happens?
#
# - a) `encode` stops with an error
# - b) you get a vector of the path as text
# - c) you get a vector of zeros
#
# <details><summary>Answer</summary>
#
# **b.** A path to a missing file is read as text. Not a: the library cannot know that you meant a file. Not
# c: a text has a vector of length one.
#
# </details>
#
# **2.** A model was trained with a prompt for queries and none for documents. How do you search with it?
#
# - a) `encode_query` for queries and `encode_document` for pages
# - b) `encode` for both, without a prompt
# - c) the query prompt for both
#
# <details><summary>Answer</summary>
#
# **a.** Each method uses the prompt of its kind. Not b: the queries would lack their prompt. Not c: the pages
# had none in training.
#
# </details>
#
# **3.** All your pages lie far from all your queries. What follows?
#
# - a) the rankings must be bad
# - b) nothing yet about the rankings, but each pair of kinds needs its own cosine threshold
# - c) the library took the pages for texts
#
# <details><summary>Answer</summary>
#
# **b.** Moving all pages alike changes no order. Not a: a ranking compares pages with each other. Not c: correct
# inputs can have a gap too; count the image tokens to see what was read.
#
# </details>

# %% [markdown]
# ## You have
# - given one page in seven forms and seen the same vector
# - put text and image together, and embedded frames with their times
# - met inputs that are refused or go wrong without an error, and found four mistakes from their symptoms
# - used prompts, and measured what an unknown one costs
# - drawn the modality gap, measured it against chance, and closed it
#
# **Next**: lesson 03 examines the data that a retriever is trained on.
