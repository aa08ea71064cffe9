# %% [markdown]
# # 06 · Big batches in little memory
#
# **You will be able to**
# - say what an in-batch negative is, and count how many a query meets
# - measure the peak memory of a training step against its batch size
# - write gradient caching from scratch, and show that it gives the same loss and the same gradients
# - choose `mini_batch_size` or `mini_batch_num_tokens`, and say what caching costs in time
#
# **Time** tiny 3 min · t4 about 20 min · full about 20 min (the two on a GPU are estimates, not measured here)
#
# **Learning time** about 40 min
#
# **Memory** tiny 5 GB · t4 16 GB of GPU memory · full 80 GB of GPU memory
#
# **Read first** nothing; lesson 07 uses the loss that this lesson takes apart

# %% tags=["parameters"]
PROFILE = "tiny"
SEED = 0
ROWS = 0

# %%
from course_utils.machine import device, quiet

quiet()  # drops library messages that ask nothing of you

import gc
import time

import pandas as pd
import torch
from datasets import load_dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses
from torch.nn.functional import cross_entropy, normalize
from tqdm.auto import tqdm

from course_utils import memory, plots
from course_utils.adapters import add_lora
from course_utils.checkpoints import checkpoint
from course_utils.dataset import prepare_dataset
from course_utils.exercises import check, close
from course_utils.profiles import load_profile
from course_utils.recording import Run

P = load_profile(PROFILE)

# %% [markdown]
# ## 1. The other rows are the negatives
#
# A row of training data has a **query** (the anchor), the page that answers it (the **positive**) and a **hard
# negative**, a similar page that does not answer it (we use the first of four).
# [`MultipleNegativesRankingLoss`](https://sbert.net/docs/package_reference/sentence_transformer/losses.html#multiplenegativesrankingloss)
# embeds a batch of rows and trains each query to pick its own positive among *all* pages of the batch.
#
# ![A table with four queries as rows and the eight pages of their batch as columns. Each query has one positive, on
# the diagonal. Its own hard negative and all pages of the other rows are negatives.](images/06_in_batch_negatives.svg)
#
# The pages of the other rows are **in-batch negatives**. They need no extra work: the batch embeds them
# anyway.
#
# The next cell loads the rows and the model.

# %%
DEVICE = "cpu" if P.drawn else device()  # tiny measures the CPU's memory, also beside a GPU
MINI = min(8, P.mini_batch_size)
run = Run("06_big_batches_in_little_memory", profile=PROFILE, seed=SEED)
train_data = load_dataset(prepare_dataset(P), "train", split=P.train_split)
rows = train_data.shuffle(seed=SEED).select(range(min(ROWS or 64, len(train_data))))
print(rows)

kwargs = {"dtype": P.dtype, "attn_implementation": P.attention}


def load_model():
    """The embedding model, ready for training."""
    model = SentenceTransformer(checkpoint(P.embedder), device=DEVICE, model_kwargs=kwargs).train()
    model[0].processing_kwargs |= {"image": {"size": P.pixels}}
    if P.lora:
        add_lora(model)
    return model


model = load_model()

# %% [markdown]
# The loss takes **features**: one dictionary of tensors for each column, made by
# [`model.preprocess`](https://sbert.net/docs/package_reference/sentence_transformer/model.html). The model
# embeds them, and the loss multiplies all cosines by a scale of 20. For each query, a **softmax** turns these
# numbers into probabilities of the pages. The **cross entropy** is minus the logarithm of the positive's
# probability. `in_batch_loss` does the same by hand.


# %%
def prepare(model, inputs):
    """The features of texts or pages, on the model's device."""
    return {k: v.to(DEVICE) if torch.is_tensor(v) else v for k, v in model.preprocess(list(inputs)).items()}


def features(model, rows):
    """One dictionary of tensors for each column: queries, positives, hard negatives."""
    return [prepare(model, rows[column]) for column in ("query", "image", "negative_0")]


def embed(model, part):
    return model(part)["sentence_embedding"]


def in_batch_loss(queries, positives, negatives, scale=20.0):
    """Mean cross entropy of picking one's own positive; three tensors (rows, dimensions)."""
    pages = torch.cat([positives, negatives])
    similarity = normalize(queries.float()) @ normalize(pages.float()).T
    return cross_entropy(similarity * scale, torch.arange(len(queries), device=queries.device))


# %%
eight = rows.select(range(8))
with torch.no_grad():
    queries, positives, negatives = (embed(model, column) for column in features(model, eight))
    library = losses.MultipleNegativesRankingLoss(model)(features(model, eight), labels=None)
print(f"library {library:.6f}, by hand {in_batch_loss(queries, positives, negatives):.6f}")

cosines = model.similarity(queries, torch.cat([positives, negatives])).float().cpu()
figure = plots.similarity_matrix(cosines, eight["query"])
alt = "Cosines of eight queries with the eight positives and eight hard negatives of their batch."
run.figure("similarities", figure, alt)
figure

# %% [markdown]
# Each row of the picture goes into one softmax. Its brightest cell should be the positive, in the white
# border. The loss pushes other bright pages away: the model confuses them with the positive.

# %% [markdown]
# ### Exercise 1: gradient accumulation
# You train with `per_device_train_batch_size=8`, `gradient_accumulation_steps=4` and one hard negative a row.
# The gradients of four batches add up before each update. How many pages are in one query's softmax, its own
# positive included?
#
# <details><summary>Hint</summary>
#
# The loss is called once for each batch of 8 rows, and does not see the other batches.
#
# </details>

# %%
# <solution> stub: competing = ...
competing = 8 * (1 + 1)
# </solution>
tests = [
    (lambda a: isinstance(a, int), "give a whole number"),
    (lambda a: a != 8, "every row also brings a hard negative"),
    (lambda a: a < 32, "accumulation adds up gradients; rows of different batches never meet in a softmax"),
    (lambda a: a == 8 * 2, "count the positives and the hard negatives of one batch"),
]
check("pages in one softmax", competing, tests)

# %% [markdown]
# ### What more rows change
# The next cell embeds some rows once, then computes the loss with 2 rows in each softmax, then with more.
# Predict: with more rows, does the loss fall, stay the same or grow?

# %%
per_batch = min(32, len(rows))
pieces = []
for start in range(0, per_batch, MINI):
    columns = features(model, rows.select(range(start, min(start + MINI, per_batch))))
    with torch.no_grad():
        pieces.append([embed(model, column) for column in columns])
vectors = [torch.cat(column) for column in zip(*pieces, strict=True)]
grown = {}
for size in (2, 8, per_batch):
    softmaxes = zip(*(vector.split(size) for vector in vectors), strict=True)
    grown[size] = torch.stack([in_batch_loss(*one) for one in softmaxes]).mean().item()
    run.record(f"loss/batch-{size}", grown[size])
    print(f"{size:>2} rows, {2 * size:>2} pages in each softmax: mean loss {grown[size]:.4f}")

# %% [markdown]
# You saw the loss grow, although no embedding changed. It has to grow: every further page takes probability
# away from the positive. So do not compare losses between batch sizes.
#
# Do larger batches also give a better retriever? One short training cannot tell. For text,
# [RocketQA (Qu et al. 2021)](https://arxiv.org/abs/2010.08191) found that they do.
#
# **Watch out**: in a larger batch it is more likely that another row's page answers the query, too, and the
# loss pushes it away. The [batch sampler](https://sbert.net/docs/package_reference/base/sampler.html)
# `NO_DUPLICATES` keeps equal inputs out of one batch. It cannot see that two different pages both answer.
#
# ## 2. What a big batch costs
#
# In training, a model keeps the outputs of its layers, the **activations**, of every page until the
# **backward pass**, which computes the gradients. How does memory grow with the batch?
#
# A process that has held a large batch may not give the memory back. So we measure each batch size in a
# *fresh process*, which runs this function. All weights train, also in the layers that read images (in `t4`,
# only LoRA's small added matrices).


# %%
def training_step(kind, files, folder, options, mini_batch_size, lora):
    """One step for each file of features, the last timed; `kind`: the loss, and checkpointing if used."""
    from time import perf_counter
    import psutil
    import torch
    from sentence_transformers.sentence_transformer import SentenceTransformer, losses
    from course_utils.adapters import add_lora

    model = SentenceTransformer(folder, **options).train()
    if lora:
        add_lora(model)
    if "checkpointing" in kind:  # activation_checkpointing=True in the arguments; explained in section 3
        model[0].model.activation_checkpointing_enable()
    cached = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=mini_batch_size)
    loss = cached if "cached" in kind else losses.MultipleNegativesRankingLoss(model)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-5)
    at_rest = (torch.cuda.memory_allocated() or psutil.Process().memory_info().rss) / 2**20
    for file in files:
        columns, start = torch.load(file, map_location=model.device), perf_counter()
        loss(columns, labels=None).backward()
        optimizer.step()
        optimizer.zero_grad()
    next(model.parameters()).flatten()[0].item()  # waits for a GPU
    on_gpu = torch.cuda.max_memory_allocated() / 2**20  # 0 without one
    return {"seconds": perf_counter() - start, "at_rest": at_rest, "on_gpu": on_gpu}


# %% [markdown]
# `memory.in_fresh_process` runs that function in a new Python process and asks the system for the most memory
# that this process ever held, libraries included. A first, small step starts everything up; the second step
# is timed.
#
# The next cell writes the features to files. `parts` cuts a batch out of them. Qwen3-VL puts the patches
# (small squares) of all images in one tensor; `image_grid_thw` (time, height, width) says how many each has.


# %%
def parts(column, size):
    """The features of `column`, `size` rows at a time."""
    images = []
    if "pixel_values" in column:
        images = column["pixel_values"].split(column["image_grid_thw"].prod(dim=1).tolist())
    for start in range(0, len(column["input_ids"]), size):
        part = {k: v[start : start + size] if torch.is_tensor(v) else v for k, v in column.items()}
        if images:
            part["pixel_values"] = torch.cat(images[start : start + size])
        yield part


largest = min({"tiny": 64, "t4": 8, "full": 16}[PROFILE], len(rows))
sizes = (largest // 8, largest // 4, largest)
files = {size: run.folder / "features" / f"{size}.pt" for size in sizes}
files[largest].parent.mkdir(parents=True, exist_ok=True)
everything = features(model, rows.select(range(largest)))
for size, file in files.items():
    torch.save([next(parts(column, size)) for column in everything], file)
weights = sum(p.nbytes for p in model.parameters()) / 2**20
del model, everything, columns  # leave their memory to the measurements
gc.collect()
torch.cuda.empty_cache()

# %% [markdown]
# We measure the plain loss first. Predict: with eight times the rows, how many times the memory is needed?


# %%
def measure(kind, size):
    """Peak memory (MiB) and seconds of one training step in a process of its own."""
    found = memory.in_fresh_process(
        training_step,
        kind=kind,
        files=[str(files[sizes[0]]), str(files[size])],
        folder=checkpoint(P.embedder),
        options={"device": DEVICE, "model_kwargs": kwargs},
        mini_batch_size=MINI,
        lora=P.lora,
    )
    peak = found.value["on_gpu"] or found.peak_mib
    run.record(f"memory/{kind.replace(' ', '-')}/{size}", peak)
    run.record(f"seconds/{kind.replace(' ', '-')}/{size}", found.value["seconds"])
    return {"kind": kind, "size": size, "peak": peak, "together": found.together_mib, **found.value}


measured = pd.DataFrame([measure("plain", size) for size in sizes])
first, last = measured["peak"].iloc[[0, -1]]
print(measured.round(1).to_string(index=False))
print(f"You saw {last / first:.1f} times the memory for {sizes[-1] / sizes[0]:.0f} times the rows.")
slope = (last - first) / (largest - sizes[0])
print(f"One more row costs {slope:.1f} MiB; all weights take {weights:.0f} MiB.")

# %% [markdown]
# Before the first row, a process already holds its libraries and weights (`at_rest`). The rest is mostly
# activations, which grow with every row. `together` adds what this notebook holds: your machine needs both. The
# seconds of one step are rough; section 5 measures time.
#
# ## 3. Gradient caching from scratch
#
# The softmax needs all *embeddings* of the batch at once, and those are small. It does not need all
# *activations* at once. [GradCache (Gao et al. 2021)](https://arxiv.org/abs/2101.06983) uses this in three
# passes:
#
# ![Pass 1 embeds piece by piece and keeps only the embeddings. Pass 2 computes one loss from all of them, and the
# gradient of each embedding: the cache. Pass 3 embeds piece by piece again, with activations, and carries each
# cached gradient on into the weights.](images/06_three_passes.svg)
#
# Pass 3 uses the chain rule: `tensor.backward(gradient)` carries an embedding's gradient on to the weights.


# %%
def cached_step(model, columns, mini_batch_size):
    """Add the gradients of the in-batch loss to the parameters, a few rows at a time; returns the loss."""
    pieces = [list(parts(column, mini_batch_size)) for column in columns]
    with torch.no_grad():  # 1. all embeddings, no activations
        vectors = [torch.cat([embed(model, part) for part in column]) for column in pieces]

    vectors = [vector.requires_grad_() for vector in vectors]  # 2. the loss, and the embeddings' gradients
    loss = in_batch_loss(*vectors)
    loss.backward()

    for column, vector in zip(pieces, vectors, strict=True):  # 3. once more with activations, piece by piece
        for part, gradient in zip(column, vector.grad.split(mini_batch_size), strict=True):
            embed(model, part).backward(gradient)
    return loss.detach()


# %% [markdown]
# Does this give the same gradients? Predict how far they are from the library's: equal to the last bit, apart
# by about a millionth of the largest gradient, or by a percent? With 20 rows, the last piece is smaller.

# %%
model = load_model()


def gradients_of(step, count=20):
    """The loss on `count` rows, and the gradient of every trained parameter by name."""
    columns = features(model, rows.select(range(min(count, len(rows)))))
    model.zero_grad()
    loss = step(columns)
    if loss.requires_grad:
        loss.backward()
    trained = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return loss.item(), {name: gradient.float().clone() for name, gradient in trained.items()}


def of_eight(step):
    """The same for a step of ours, four rows at a time."""
    return gradients_of(lambda columns: step(model, columns, 4), 8)


def difference(one, other):
    """The largest difference between two sets of gradients, as a share of the largest gradient of `one`."""
    most = max(gradient.abs().max().item() for gradient in one.values())
    missing = torch.zeros((), device=DEVICE)
    return max((one[k] - other.get(k, missing)).abs().max().item() for k in one) / most


# %%
cached = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=MINI)
plain = losses.MultipleNegativesRankingLoss(model)
ways = {
    "library, plain": gradients_of(lambda columns: plain(columns, labels=None)),
    "library, cached": gradients_of(lambda columns: cached(columns, labels=None)),
    "from scratch": gradients_of(lambda columns: cached_step(model, columns, MINI)),
}
model[0].model.activation_checkpointing_enable()
ways["cached, checkpointing"] = gradients_of(lambda columns: cached(columns, labels=None))
model[0].model.activation_checkpointing_disable()

loss_here, here = ways["library, plain"]
apart = {name: difference(here, there) for name, (_, there) in ways.items()}
for name, (loss_there, there) in ways.items():
    assert there.keys() == here.keys(), "one of the ways trains other parameters"
    print(f"{name:>22}: loss {loss_there:.6f}, gradients differ by at most {apart[name]:.0e} of the largest")
print(f"You saw differences of at most {max(apart.values()):.0e} of the largest gradient.")
run.record("gradients/difference", max(apart.values()))
run.record("loss/difference", max(abs(loss_here - loss_there) for loss_there, _ in ways.values()))

# %% [markdown]
# That is rounding, because the sums run in another order. Gradient caching is exact. So is
# **activation checkpointing**, the other way to save memory: it keeps only the input of each layer and
# computes the rest again in the backward pass. The line with both shows that they work together.
#
# **Watch out**: pass 3 has to repeat pass 1 exactly. With **dropout** (in training, random activations are set
# to zero), two passes give two different embeddings, and our function would use gradients of the wrong ones.
# [`CachedMultipleNegativesRankingLoss`](https://sbert.net/docs/package_reference/sentence_transformer/losses.html#cachedmultiplenegativesrankingloss)
# therefore stores the state of the random number generator for each piece and restores it in pass 3.

# %% [markdown]
# ### Exercise 2: a mistake that the loss does not show
# Write `broken_step`: like `cached_step`, but with one mistake. It must return the *right* loss and leave
# *wrong* gradients. Then choose why the loss cannot show it:
#
# - `"a"`: the loss is a mean, and errors cancel in a mean
# - `"b"`: the loss is known before pass 3 begins
# - `"c"`: the loss is computed without gradients
#
# <details><summary>Hint</summary>
#
# Pass 3 gives each piece its own share of the cache. What happens if every piece gets the same share?
#
# </details>


# %%
def broken_step(model, columns, mini_batch_size):
    # <solution>
    pieces = [list(parts(column, mini_batch_size)) for column in columns]
    with torch.no_grad():
        vectors = [torch.cat([embed(model, part) for part in column]) for column in pieces]
    loss = in_batch_loss(*(vector.requires_grad_() for vector in vectors))
    loss.backward()
    for column, vector in zip(pieces, vectors, strict=True):
        for part in column:
            embed(model, part).backward(vector.grad[: len(part["input_ids"])])  # always the first share
    return loss.detach()
    # </solution>


# <solution> stub: reason = ...
reason = "b"
# </solution>
right, wanted = gradients_of(lambda columns: plain(columns, labels=None), 8)
most = 1e-5 if P.drawn else 1e-2  # the loss may differ by rounding: more in 16 bits
tests = [
    (lambda a: close(of_eight(a[0])[0], right, most), "the loss is not the plain one: keep passes 1 and 2"),
    (lambda a: difference(wanted, of_eight(a[0])[1]) > 0.01, "the gradients are still right: break pass 3"),
    (lambda a: a[1] == "b", "which of the three passes computes the loss, and which one did you break?"),
]
check("a broken pass", [broken_step, reason], tests)

# %% [markdown]
# ## 4. What it saves
#
# Predict: if the batch grows eightfold, how many times the memory will the cached step need?

# %%
kinds = [("cached", size) for size in sizes]
kinds += [("plain checkpointing", largest), ("cached checkpointing", largest)]
more = pd.DataFrame([measure(kind, size) for kind, size in tqdm(kinds)])
measured = pd.concat([measured, more], ignore_index=True)
for file in files.values():
    file.unlink(missing_ok=True)
run.record("memory/with-notebook", measured["together"].max())
print(measured.round(1).to_string(index=False))

by_kind = measured.groupby("kind", sort=False)
lines = {kind: dict(zip(group["size"], group["peak"], strict=True)) for kind, group in by_kind}
growth = {kind: lines[kind][sizes[-1]] / lines[kind][sizes[0]] for kind in ("plain", "cached")}
print(f"You saw {growth['cached']:.2f} times the memory with the cache, {growth['plain']:.2f} times without.")
figure = plots.by_batch_size(lines, measured["at_rest"].min())
alt = "Peak memory of one training step by batch size: plain grows with every row, cached hardly."
run.figure("memory", figure, alt)
figure

# %% [markdown]
# The cached line still rises a little: the step holds the pixels of the whole batch. Checkpointing (single
# points) lowers the plain step, but still keeps each layer's input for every row. Beside the cache it saves
# less: only `mini_batch_size` rows have activations at a time. It helps if even those do not fit.
#
# **On a GPU** `peak` is the GPU's memory. Choose the largest `mini_batch_size` that fits.

# %% [markdown]
# ### Exercise 3: which batch fits?
# A machine can give `limit` MiB to the process of one training step. `lines` holds the peak memory of each
# kind by rows. How many rows fit with the plain loss, and how many with the cached one? Within 15% is enough.
#
# <details><summary>Hint</summary>
#
# Memory grows linearly. Print `lines["plain"]`: what does one more row cost, and from which point do you
# start?
#
# </details>

# %%
limit = 2 * lines["plain"][largest]
# <solution> stub: plain_rows, cached_rows = ..., ...
answer = []
for kind in ("plain", "cached"):
    first, last = lines[kind][sizes[0]], lines[kind][largest]
    answer.append(largest + (limit - last) * (largest - sizes[0]) / (last - first))
plain_rows, cached_rows = answer
# </solution>
both = {kind: lines[kind] for kind in ("plain", "cached")}
slopes = {kind: (line[largest] - line[sizes[0]]) / (largest - sizes[0]) for kind, line in both.items()}
fits = {kind: largest + (limit - lines[kind][largest]) / slope for kind, slope in slopes.items()}
tests = [
    (lambda a: a[0] > largest, "the largest plain batch needs half of the limit, so more rows fit"),
    (lambda a: not close(a[0] * slopes["plain"] / limit, 1, 1e-3), "a process at rest takes memory too"),
    (lambda a: close(a[0] / fits["plain"], 1, 0.15), "plain: extend the line from a measured point"),
    (lambda a: close(a[1] / fits["cached"], 1, 0.15), "cached: the same, with the slope of the cached line"),
]
check("rows that fit", [plain_rows, cached_rows], tests)

# %% [markdown]
# ## 5. What it costs
#
# Pass 1 embeds everything one more time. A backward pass costs about as much as two forward passes, so a
# plain step costs three units and a cached step four. Predict: will the measured ratio be 4/3?
#
# One timed step tells little: another program may run just then. So both take five steps in turn, and each turn
# reverses the order. The **median** is the middle one of the five ratios.


# %%
def timed(loss, columns):
    """One forward and one backward pass: its seconds, and the loss."""
    start = time.perf_counter()
    value = loss(columns, labels=None)
    value.backward()
    value = value.item()  # on a GPU, this waits for the end
    seconds = time.perf_counter() - start
    model.zero_grad()
    return seconds, value


def in_turn(ways, columns, turns):
    """Seconds of a step of each way, one line for each turn; the order is reversed from turn to turn."""
    lines = []
    for turn in range(turns):
        lines.append({name: timed(ways[name], columns)[0] for name in list(ways)[:: (-1) ** turn]})
    return pd.DataFrame(lines, columns=list(ways))


# %%
some = features(model, rows.select(range(min(MINI, len(rows)))))
halves = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=max(1, MINI // 2))
seconds = in_turn({"plain": plain, "cached": halves}, some, 5)
ratio = seconds["cached"] / seconds["plain"]
for name, value in {"": ratio.median(), "/low": ratio.min(), "/high": ratio.max()}.items():
    run.record(f"seconds/cached-over-plain{name}", value)
print(seconds.assign(ratio=ratio).round(2).to_string(index=False))
print(f"You saw caching take {ratio.median():.2f} times as long (the median of five turns).")
where = "inside" if ratio.min() <= 4 / 3 <= ratio.max() else "outside"
print(f"4/3 = {4 / 3:.3f} lies {where} the range of the turns, {ratio.min():.3f} to {ratio.max():.3f}.")

# %% [markdown]
# Three and four units are a rule of thumb. Plan with the ratio that you measure on your machine.
#
# ### Rows or tokens
#
# `mini_batch_size=8` takes eight rows of any length: eight short queries or eight pages. If a collection
# mixes small and large pages, the piece with the largest pages decides the memory. `mini_batch_num_tokens`
# instead fills each piece up to a budget of **tokens**, image tokens included. Here every second positive is
# shrunk to a quarter of its width and height. Predict: which of the two is faster?

# %%
mixed = rows.select(range(min(2 * MINI, len(rows))))
pages = [page.convert("RGB").reduce(4 if k % 2 else 1) for k, page in enumerate(mixed["image"])]
columns = [prepare(model, mixed["query"]), prepare(model, pages), prepare(model, mixed["negative_0"])]
budget = MINI * int(columns[1]["attention_mask"].sum(dim=1).max())
options = {"rows": {"mini_batch_size": MINI}, "tokens": {"mini_batch_num_tokens": budget}}
ways = {name: losses.CachedMultipleNegativesRankingLoss(model, **option) for name, option in options.items()}
masks, table = [], {}
hook = model[0].register_forward_pre_hook(lambda module, inputs: masks.append(inputs[0]["attention_mask"]))
for name, way in ways.items():
    masks.clear()
    table[name] = {"loss": timed(way, columns)[1], "pieces": len(masks) // 2}
    table[name]["tokens-at-most"] = max(int(mask.sum()) for mask in masks)
hook.remove()
seconds = in_turn(ways, columns, 3)

# %%
whole = in_batch_loss(*(vector[: len(mixed)] for vector in vectors)).item()  # the same rows, all pages whole
run.record("mini-batch/budget", budget)
run.record("mini-batch/loss/whole-pages", whole)
for name, found in table.items():
    found["seconds"] = seconds[name].median()
    for measure_name, number in found.items():
        run.record(f"mini-batch/{measure_name}/{name}", number)
run.record("rows", len(rows))
run.save()
print(pd.DataFrame(table).T.round(4).to_string())
ratio = seconds["tokens"] / seconds["rows"]
low, high = ratio.min(), ratio.max()
said = "tokens were faster" if high < 0.95 else "rows were faster" if low > 1.05 else "no clear winner"
print(f"You saw the token budget take {low:.2f} to {high:.2f} times as long as rows: {said}.")
print("(A winner needs every turn below 0.95 or above 1.05.)")
if all(found["tokens-at-most"] == budget for found in table.values()):
    print(f"In both, the largest piece fills the budget of {budget} tokens with {MINI} whole pages.")
print(f"Loss: {table['rows']['loss']:.2f} and {table['tokens']['loss']:.2f}; with whole pages {whole:.2f}.")

# %% [markdown]
# The budget made fewer pieces: more short queries, or more small pages, fit into one. The tokens are the
# same, so do not expect to save time if one piece keeps the processor busy. The budget bounds memory, whatever
# the lengths are.
#
# The loss is higher than with whole pages, because the model errs on the tiny ones. Here it only matters that
# both lines agree.
#
# ## Three questions
#
# **1.** You train with the cached loss, `per_device_train_batch_size=64` and `mini_batch_size=4`. Each row
# has one hard negative. Among how many pages does a query pick its own?
#
# - a) 8 · b) 64 · c) 128
#
# <details><summary>Answer</summary>
#
# **c.** The softmax has the positives and hard negatives of all 64 rows. Not a: that is one piece, and pieces
# do not change the loss. Not b: that leaves out the hard negatives.
#
# </details>
#
# **2.** Memory runs out in pass 3 of a cached training. What helps, without changing the gradients?
#
# - a) a smaller `mini_batch_size` · b) a smaller batch · c) fewer hard negatives
#
# <details><summary>Answer</summary>
#
# **a.** Pass 3 holds the activations of one piece. Not b and not c: both take pages out of the softmax, so
# the gradients change, while a piece needs as much memory as before.
#
# </details>
#
# **3.** How does gradient accumulation over 4 batches of 8 rows differ from one cached batch of 32?
#
# - a) not at all, both see 32 rows an update · b) the cached batch lets all 32 rows compete · c) accumulation
#   needs more memory
#
# <details><summary>Answer</summary>
#
# **b.** One loss over 32 rows has all their pages in each softmax. Not a: the rows are the same, the
# negatives are not. Not c: accumulation holds the activations of 8 rows at a time.
#
# </details>

# %% [markdown]
# ## You have
# - seen that the pages of the other rows are the negatives, and that more of them raise the loss
# - measured peak memory in fresh processes: the plain step's grows with the batch, the cached step's hardly
# - written gradient caching in three passes, and found its loss and gradients equal to the plain loss's
# - compared pieces by rows and by tokens, and read what the extra pass costs in time
#
# **Next**: lesson 07 puts `CachedMultipleNegativesRankingLoss` to work, inside a Matryoshka loss.
