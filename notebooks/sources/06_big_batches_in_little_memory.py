# %% [markdown]
# # 06 · Big batches in little memory
#
# **You will be able to**
# - say what an in-batch negative is, and measure what more of them are worth
# - write gradient caching from scratch, and show that it gives the same loss and the same gradients
# - measure peak memory against batch size, plain and cached, with and without activation checkpointing
# - choose `mini_batch_size` or `mini_batch_num_tokens`, and say what either costs in time
#
# **Time** tiny 6 min · t4 about 20 min · full about 20 min (the two on a GPU are estimates, not measured here)
#
# **Memory** tiny 8 GB · t4 16 GB of GPU memory · full 80 GB of GPU memory
#
# **Read first** nothing; lesson 07 uses what this one takes apart

# %% tags=["parameters"]
PROFILE = "tiny"
SEED = 0
ROWS = 0

# %%
from course_utils.machine import device, quiet

quiet()  # drops library messages that ask nothing of you

import gc
import re
import time

import pandas as pd
import torch
from datasets import load_dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses
from torch.nn.functional import cross_entropy, normalize
from tqdm.auto import tqdm
from transformers import get_linear_schedule_with_warmup

from course_utils import evaluation, memory, plots
from course_utils.adapters import add_lora
from course_utils.checkpoints import checkpoint
from course_utils.corpus import build_corpus
from course_utils.dataset import prepare_dataset
from course_utils.exercises import check, close
from course_utils.profiles import load_profile
from course_utils.recording import Run

# %%
P = load_profile(PROFILE)
DEVICE = "cpu" if P.drawn else device()  # tiny measures the CPU's memory, also beside a GPU
run = Run("06_big_batches_in_little_memory", profile=PROFILE, seed=SEED)

# %% [markdown]
# ## 1. The other rows are the negatives
#
# A row brings a **query** (the anchor), its **positive** page and a **hard negative**. `MultipleNegativesRankingLoss`
# embeds a batch of rows, and asks each query to pick its own positive among *all* pages of the batch: a softmax over
# cosines, times a scale of 20, with the positive as the right class. The pages of the other rows are **in-batch
# negatives**. They cost nothing: they are embedded anyway.
#
# `ROWS` takes fewer rows, for a quick look.

# %%
dataset = prepare_dataset(P)
train_data = load_dataset(dataset, "train", split=P.train_split)
dev_data = load_dataset(dataset, P.dev_config, split=P.dev_split)
rows = train_data.shuffle(seed=SEED).select(range(min(ROWS or 256, len(train_data))))
dev = build_corpus(dev_data)
print(rows)

# %%
kwargs = {"dtype": P.dtype, "attn_implementation": P.attention}


def load_model(frozen=""):
    """The embedding model; parameters whose name matches `frozen` are not trained."""
    model = SentenceTransformer(checkpoint(P.embedder), device=DEVICE, model_kwargs=kwargs)
    model[0].processing_kwargs |= {"image": {"size": P.pixels}}
    for name, parameter in model.named_parameters():
        if frozen and re.search(frozen, name):
            parameter.requires_grad_(False)
    if P.lora:
        add_lora(model)
    return model


model = load_model()

# %% [markdown]
# The loss takes **features**, one dictionary of tensors for each column: what the collator makes of a batch with
# `model.preprocess`. Eight rows, then, through the library and by hand.


# %%
def prepare(model, inputs):
    """The features of texts or pages, on the model's device."""
    return {k: v.to(DEVICE) if torch.is_tensor(v) else v for k, v in model.preprocess(list(inputs)).items()}


def features(model, rows):
    """One dictionary of tensors for each column: queries, positives, hard negatives."""
    return [prepare(model, rows[column]) for column in ("query", "image", "negative_0")]


# %%
def in_batch_loss(queries, positives, negatives, scale=20.0):
    """Mean cross entropy of picking one's own positive; three tensors (rows, dimensions)."""
    pages = torch.cat([positives, negatives])
    similarity = normalize(queries) @ normalize(pages).T
    return cross_entropy(similarity * scale, torch.arange(len(queries), device=queries.device))


eight = rows.select(range(8))
with torch.no_grad():
    queries, positives, negatives = (model(column)["sentence_embedding"] for column in features(model, eight))
    library = losses.MultipleNegativesRankingLoss(model)(features(model, eight), labels=None)
ours = in_batch_loss(queries, positives, negatives)
print(f"library {library:.6f}, by hand {ours:.6f}")

# %%
cosines = model.similarity(queries, torch.cat([positives, negatives])).float().cpu()
figure = plots.similarity_matrix(cosines, eight["query"])
alt = "Cosines of eight queries with the eight positives and eight hard negatives of their batch."
run.figure("similarities", figure, alt)
figure

# %% [markdown]
# Each row of the picture is one softmax. It should be brightest inside its white border. Bright cells elsewhere are the
# pages that this query confuses, and those are what the loss pushes away. With 8 rows there are few to confuse.

# %% [markdown]
# ### Exercise 1: gradient accumulation
# A training runs with `per_device_train_batch_size=8` and `gradient_accumulation_steps=4`, one hard negative a row.
# Each update of the weights has seen 32 rows. How many pages were in one query's softmax, its own positive included?
#
# *Hint: the loss is called once for each batch of 8, and knows nothing of the others.*

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
# ### What more negatives are worth
#
# A larger batch changes two things at once: each query meets more negatives, and the same pages make fewer updates of
# the weights. Accumulation separates them. Below, every training sees the same rows in the same order and updates after
# every 32; only the number of rows in one softmax differs. So do not read these scores as a recipe for small batches:
# these accumulate.
#
# The budget is small, so that it fits the lesson. Predict: which is best, and will 60 dev queries be enough to tell?

# %%
per_update = min(32, len(rows))
updates = len(rows) // per_update


def finetune(batch_size):
    """A model trained on `rows`, and its mean loss; each softmax holds `batch_size` rows."""
    model = load_model(P.frozen).train()
    loss = losses.MultipleNegativesRankingLoss(model)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=P.learning_rate)
    schedule = get_linear_schedule_with_warmup(optimizer, updates // 4, updates)
    total = 0.0
    for update in tqdm(range(updates), f"batch {batch_size}"):
        for start in range(update * per_update, (update + 1) * per_update, batch_size):
            batch = rows.select(range(start, start + batch_size))
            value = loss(features(model, batch), labels=None) * batch_size / per_update
            value.backward()
            total += value.item()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model, total / updates


# %%
def dev_scores(model):
    """NDCG@10 of every dev query."""
    options = {"batch_size": P.eval_batch_size, "convert_to_tensor": True}
    query_vectors = model.encode_query(list(dev.queries.values()), **options)
    page_vectors = model.encode_document(list(dev.corpus.values()), **options)
    ids = list(dev.queries), list(dev.corpus)
    return evaluation.per_query_ndcg(query_vectors, page_vectors, *ids, dev.relevant)


before = dev_scores(model)
scores = {}
for size in (2, 8, 32):
    if size <= per_update:
        trained, mean_loss = finetune(size)
        scores[size] = dev_scores(trained)
        run.record(f"loss/train/batch-{size}", mean_loss)
        print(f"{size:>2} rows in a softmax: mean training loss {mean_loss:.3f}")
        del trained  # one trained model at a time
        gc.collect()

# %%
intervals = {size: evaluation.bootstrap(values) for size, values in scores.items()}
least, most = min(scores), max(scores)
measured = {"before": evaluation.bootstrap(before)}
measured |= {f"batch-{size}": interval for size, interval in intervals.items()}
measured["gain-of-negatives"] = evaluation.paired_bootstrap(scores[least], scores[most])
for name, interval in measured.items():
    run.record(f"ndcg@10/dev/{name}", interval)
    print(f"{name:>17}: {interval}")
print(f"the last line: {most} rows in a softmax over {least}, the same queries")

# %%
figure = plots.score_by_batch_size(intervals, measured["before"])
alt = "NDCG@10 on dev pages by the number of rows in one softmax, with 95% intervals."
run.figure("batch_size", figure, alt)
figure

# %% [markdown]
# The loss first: the more pages there are to pick from, the more a query errs, and it is errors that give gradients. A
# good model picks one of four pages without effort and learns nothing from it.
#
# Then the last line: the same queries, scored by two trainings that differ in nothing but negatives. If its interval
# lies above zero, the negatives did it. If it holds zero, 60 queries and one short training cannot tell, and the honest
# thing is to say so. Few pages of dev are left to win, too: the dotted line is where training began.
#
# **Go deeper**: [Qu et al. 2021, RocketQA](https://arxiv.org/abs/2010.08191), on batch size and hard negatives.
#
# ## 2. What a big batch costs
#
# To compute gradients, a model keeps what every layer computed, the **activations**, for every page of the batch, until
# the backward pass has used them. How does memory grow with the batch?
#
# Peak memory has to be measured in a *fresh process* for each point: a process that has once held a large batch does
# not reliably give the memory back. Here is all that such a process runs: one step of training, with its imports
# inside, since it starts from nothing. All weights train, the image tower's too; frozen layers would keep less.


# %%
def training_step(kind, columns, folder, options, mini_batch_size, lora):
    """One step on the features in the file `columns`; `kind`: the loss, and checkpointing or not."""
    import time

    import psutil
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import losses

    model = SentenceTransformer(folder, **options).train()
    if lora:
        from course_utils.adapters import add_lora

        add_lora(model)
    if "checkpointing" in kind:  # what activation_checkpointing=True in the arguments does
        model[0].model.activation_checkpointing_enable()
    cached = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=mini_batch_size)
    loss = cached if "cached" in kind else losses.MultipleNegativesRankingLoss(model)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-5)
    columns = torch.load(columns, map_location=model.device)
    at_rest, start = psutil.Process().memory_info().rss / 2**20, time.perf_counter()
    loss(columns, labels=None).backward()
    optimizer.step()
    on_gpu = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0
    return {"seconds": time.perf_counter() - start, "at_rest": at_rest, "on_gpu": on_gpu}


# %% [markdown]
# `memory.in_fresh_process` writes the source of that function to a file, lets a new Python run it, and asks the system
# for the largest resident memory that this process ever had (on Linux `VmHWM`), libraries included. It also tells when
# the system ended the process because memory ran out.
#
# Preparing the features is not part of the step: in training, other processes can do it. So they are written to files
# here, once, and cutting a batch out of them takes some care: Qwen3-VL lays the patches of all its images one after
# another in one tensor, and the grid (`image_grid_thw`: time, height, width) says how many belong to which.


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


# %%
largest = min({"tiny": 128, "t4": 8, "full": 16}[PROFILE], len(rows))
sizes = (largest // 8, largest // 4, largest)
MINI = min(8, P.mini_batch_size)

prepared = run.folder / "features"
prepared.mkdir(parents=True, exist_ok=True)
everything = features(model, rows.select(range(largest)))
for size in sizes:
    torch.save([next(parts(column, size)) for column in everything], prepared / f"{size}.pt")
print({path.name: f"{path.stat().st_size / 2**20:.0f} MiB" for path in sorted(prepared.iterdir())})
weights = sum(p.nbytes for p in model.parameters()) / 2**20
del (
    everything,
    model,
    queries,
    positives,
    negatives,
)  # what this notebook holds is not free for the measurements
gc.collect()
torch.cuda.empty_cache()


# %%
def measure(kind, size):
    """Peak memory (MiB) and seconds of one training step in a process of its own."""
    found = memory.in_fresh_process(
        training_step,
        kind=kind,
        columns=str(prepared / f"{size}.pt"),
        folder=checkpoint(P.embedder),
        options={"device": DEVICE, "model_kwargs": kwargs},
        mini_batch_size=MINI,
        lora=P.lora,
    )
    name = f"{kind.replace(' ', '-')}/{size}"
    peak = found.value["on_gpu"] or found.peak_mib
    run.record(f"memory/{name}", peak)
    run.record(f"seconds/{name}", found.value["seconds"])
    return {"kind": kind, "size": size, "peak": peak, "together": found.together_mib, **found.value}


# %% [markdown]
# The plain loss first. Predict the shape: does the peak grow in a line, faster, or slower?

# %%
measured = pd.DataFrame([measure("plain", size) for size in sizes])
per_row = (measured["peak"].iloc[-1] - measured["peak"].iloc[0]) / (sizes[-1] - sizes[0])
print(measured.round(1).to_string(index=False))
print(f"{per_row:.1f} MiB for each row more; the model's weights are {weights:.0f} MiB")

# %% [markdown]
# `together` adds what this notebook itself holds: your machine needs both. `at_rest` is the process before its step:
# libraries, weights, features. Everything above it is mostly activations, and they
# grow with every row. Compare what a row costs with what the whole model weighs.

# %% [markdown]
# ### Exercise 2: a batch of 1,024
# Published trainings use batches of a thousand rows and more. From the table `measured`, what would a plain step with
# 1,024 rows need, in MiB?
#
# *Hint: memory grows in a line; `per_row` is its slope.*

# %%
# <solution> stub: needed = ...
needed = measured["peak"].iloc[-1] + per_row * (1024 - sizes[-1])
# </solution>
peaks = measured["peak"].tolist()
line = peaks[0] + per_row * (1024 - sizes[0])
tests = [
    (lambda a: a > max(peaks), "it must be more than the largest batch measured"),
    (lambda a: not close(a / (per_row * 1024), 1, 1e-3), "add what there is before the first row"),
    (lambda a: close(a / line, 1, 0.15), "start from a measured point, and go on along the line"),
]
check("memory for 1,024 rows", needed, tests)

# %% [markdown]
# ## 3. Gradient caching from scratch
#
# The softmax needs all *embeddings* of the batch at once. It does not need all *activations* at once, and embeddings
# are small. Three steps:
#
# 1. embed everything, a few rows at a time, **without** gradients: no activations are kept;
# 2. compute the loss from the embeddings, and its gradient with respect to *them*. That is the cache;
# 3. embed again, a few rows at a time, **with** gradients, and hand each piece its share of the cache. The chain rule
#    does the rest: `tensor.backward(gradient)` goes on from there into the weights.


# %%
def embed(model, part):
    return model(part)["sentence_embedding"]


def cached_step(model, columns, mini_batch_size):
    """Add the gradients of the in-batch loss to the parameters, a few rows at a time; returns the loss."""
    pieces = [list(parts(column, mini_batch_size)) for column in columns]
    with torch.no_grad():  # 1. all embeddings, no activations
        vectors = [torch.cat([embed(model, part) for part in column]) for column in pieces]

    vectors = [
        vector.requires_grad_() for vector in vectors
    ]  # 2. the loss, and its gradient for the embeddings
    loss = in_batch_loss(*vectors)
    loss.backward()

    for column, vector in zip(pieces, vectors, strict=True):  # 3. once more with activations, piece by piece
        for part, gradient in zip(column, vector.grad.split(mini_batch_size), strict=True):
            embed(model, part).backward(gradient)
    return loss.detach()


# %% [markdown]
# Is it the same? Predict how far the gradients will be apart: equal to the last bit, or to about a millionth, or to a
# percent? All parameters train here. 20 rows are no multiple of 8, so the last piece is a smaller one.

# %%
model = load_model().train()


def gradients_of(step):
    """The loss, and the gradient of every trained parameter by name."""
    columns = features(model, rows.select(range(min(20, len(rows)))))
    model.zero_grad()
    loss = step(columns)
    if loss.requires_grad:
        loss.backward()
    trained = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return loss.item(), {name: gradient.float().clone() for name, gradient in trained.items()}


# %%
cached = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=MINI)
plain = losses.MultipleNegativesRankingLoss(model)
ways = {
    "from scratch": gradients_of(lambda columns: cached_step(model, columns, MINI)),
    "library, cached": gradients_of(lambda columns: cached(columns, labels=None)),
    "library, plain": gradients_of(lambda columns: plain(columns, labels=None)),
}
model[0].model.activation_checkpointing_enable()
ways["cached, checkpointing"] = gradients_of(lambda columns: cached(columns, labels=None))
model[0].model.activation_checkpointing_disable()

# %%
loss_here, here = ways["from scratch"]
most = max(gradient.abs().max().item() for gradient in here.values())
print(f"largest gradient of any parameter: {most:.2g}, in {len(here)} tensors")
apart = {}
for name, (loss_there, there) in ways.items():
    assert there.keys() == here.keys(), "one of the ways trains other parameters"
    apart[name] = max((here[k] - there[k]).abs().max().item() for k in here)
    print(f"{name:>22}: loss {loss_there:.6f}, gradients differ by at most {apart[name]:.1e}")
run.record("gradients/difference", max(apart.values()))
run.record("loss/difference", max(abs(loss_here - loss_there) for loss_there, _ in ways.values()))

# %% [markdown]
# The differences are those of float32: sums in another order. There is no approximation in gradient caching, and none
# in **activation checkpointing**, the other way to save memory: it keeps only each layer's input, and computes the rest
# of the layer again in the backward pass. Some advise against using both; the last line shows that they agree.
#
# **Watch out**: step 3 has to repeat step 1 exactly. With dropout, two passes give two different embeddings, and our
# function would hand gradients to the wrong ones. The library keeps the state of the random generator for each piece
# and sets it back.
#
# ## 4. What it saves
#
# Predict: from the smallest to the largest batch, eight times the rows, how much will the cached step's peak grow?

# %%
kinds = [("cached", size) for size in sizes]
kinds += [("plain checkpointing", largest), ("cached checkpointing", largest)]
more = pd.DataFrame([measure(kind, size) for kind, size in tqdm(kinds)])
measured = pd.concat([measured, more], ignore_index=True)
for path in prepared.iterdir():
    path.unlink()
run.record("memory/with-notebook", measured["together"].max())
print(measured.round(1).to_string(index=False))

# %%
by_kind = measured.groupby("kind", sort=False)
lines = {kind: dict(zip(group["size"], group["peak"], strict=True)) for kind, group in by_kind}
for kind in ("plain", "cached"):
    growth = lines[kind][sizes[-1]] / lines[kind][sizes[0]]
    print(f"{kind:>7}: {growth:.2f} times the memory for {sizes[-1] / sizes[0]:g} times the rows")
figure = plots.by_batch_size(lines, measured["at_rest"].min())
alt = "Peak memory of one training step by batch size: plain grows with every row, cached hardly."
run.figure("memory", figure, alt)
figure

# %% [markdown]
# The plain line climbs; the cached line nearly lies flat. What is left of its slope is the batch itself: the pixels of
# all its pages, which must be somewhere. Checkpointing (single points) lowers the plain step a good deal, but its need
# still grows with the batch; with the cache it saves on `mini_batch_size` rows only, which matters when even those do
# not fit.
#
# **On a GPU** the figures are those of the GPU's memory. There, activations are nearly everything: the published 2B
# model at 600x600 pixels takes mini-batches of one page, and trains with 64 rows all the same.
#
# ## 5. What it costs
#
# Step 1 embeds every page once more. A backward pass costs about two forward passes; so expect about four parts of work
# instead of three.

# %%
times = measured.pivot(index="size", columns="kind", values="seconds")
times["cached / plain"] = times["cached"] / times["plain"]
print(times.round(2).to_string())

# %% [markdown]
# Each figure is one step of a fresh process, so the small batch carries the start of everything, and the large one is
# the figure to trust. Is the factor above or below four thirds? Working through small pieces can also be *kinder* to a
# CPU: a piece stays in its caches, and the plain step's memory has to be asked of the system.
#
# ### Rows or tokens
#
# `mini_batch_size=8` takes eight rows of any length: eight short queries or eight pages. If a collection mixes small
# and large pages, memory is decided by the eight largest, and you have to plan for them. `mini_batch_num_tokens` fills
# each piece up to a budget of **tokens**, image tokens included. Like `mini_batch_size`, it changes no result.
#
# Here a batch has every second positive at a quarter of its width and height. A hook on the model counts the pieces.

# %%
mixed = rows.select(range(per_update))
pages = [page.convert("RGB").reduce(4 if k % 2 else 1) for k, page in enumerate(mixed["image"])]
columns = [prepare(model, mixed["query"]), prepare(model, pages), prepare(model, mixed["negative_0"])]
lengths = columns[1]["attention_mask"].sum(dim=1).tolist()
print("tokens of the positives:", lengths)

# %%
budget = MINI * max(lengths)
options = {"one row": {"mini_batch_size": 1}, f"{MINI} rows": {"mini_batch_size": MINI}}
options[f"{budget} tokens"] = {"mini_batch_num_tokens": budget}
masks, table = [], []
hook = model[0].register_forward_pre_hook(lambda module, inputs: masks.append(inputs[0]["attention_mask"]))
for name, option in options.items():
    loss = losses.CachedMultipleNegativesRankingLoss(model, **option)
    model.zero_grad()
    masks.clear()
    start = time.perf_counter()
    value = loss(columns, labels=None)
    value.backward()
    seconds = time.perf_counter() - start
    half = masks[: len(masks) // 2]  # the first pass; the second repeats it
    rows_at_most, tokens_at_most = max(map(len, half)), max(int(mask.sum()) for mask in half)
    table.append([name, len(half), rows_at_most, tokens_at_most, round(seconds, 2), round(value.item(), 5)])
    run.record(f"seconds/mini-batch/{name.replace(' ', '-')}", seconds)
hook.remove()

# %%
titles = ["mini-batch", "pieces", "rows, at most", "tokens, at most", "seconds", "loss"]
run.record("rows", len(rows))
run.record("updates", updates)
run.save()
print(pd.DataFrame(table, columns=titles).to_string(index=False))

# %% [markdown]
# The same loss each time. One row at a time is the safest and the slowest. The budget makes fewer pieces than eight
# rows do: short queries and small pages share one, and none exceeds it. Choose it from the longest input times the
# number of them that your memory holds.

# %% [markdown]
# ### Exercise 3: fill the pieces
# Write what `mini_batch_num_tokens` does: go through the lengths in order, and put each row into the current piece
# while the piece stays within the budget; else begin a new one. Return how many rows each piece has. A row longer than
# the whole budget gets a piece of its own.
#
# *Hint: keep a list of pieces, each with its rows and tokens, and look only at the last one.*


# %%
def fill(lengths: list[int], budget: int) -> list[int]:
    # <solution>
    pieces = []
    for length in lengths:
        if pieces and sum(pieces[-1]) + length <= budget:
            pieces[-1].append(length)
        else:
            pieces.append([length])
    return [len(piece) for piece in pieces]
    # </solution>


answers = [fill([10, 10, 10, 10], 30), fill([10, 60, 5, 5], 30), fill([30, 1], 30), fill(lengths, budget)]
tests = [
    (lambda a: a[0] == [3, 1], "four rows of 10 tokens at a budget of 30 make pieces of 3 and 1"),
    (lambda a: a[1] == [1, 1, 2], "a row of 60 tokens gets a piece of its own; the next begins another"),
    (lambda a: a[2] == [1, 1], "a full piece takes no more"),
    (lambda a: sum(a[3]) == len(lengths), "every row goes into one piece"),
]
check("rows in each piece", answers, tests)

# %% [markdown]
# ## You have
# - seen that the other rows' pages are the negatives, and measured what more of them were worth at equal pages and
#   updates
# - written gradient caching in three steps, and found its loss and gradients equal to the plain loss's
# - measured peak memory in a fresh process for each point: plain grows with the batch, cached hardly
# - counted pieces by rows and by tokens, and read what the second pass costs in time
#
# **Next**: lesson 07 puts `CachedMultipleNegativesRankingLoss` to work, inside a Matryoshka loss.
