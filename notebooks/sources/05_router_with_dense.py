# %% [markdown]
# # 05 · A Router with Dense
#
# **You will be able to**
# - join a text model and an image model with `Router`, and say which input takes which route
# - show that two unaligned spaces are at chance, however good each tower is
# - align them with a `Dense` layer while both towers are frozen, then train a tower at a rate of its own
# - say what the default Tanh of `Dense` does, from a measurement
# - weigh a Router against a vision-language model: score, parameters, seconds, and queries in unseen words
#
# **Time** tiny 5 min · t4 about 20 min · full about 40 min (the two on a GPU are estimates, not measured here)
#
# **Memory** tiny 2 GB · t4 16 GB of GPU memory · full 80 GB of GPU memory
#
# **Read first** nothing; 04 explains intervals, 06 the cached loss, and 07 trains the model that this one is set beside
# (on a GPU, run 07 first)

# %% tags=["parameters"]
PROFILE = "tiny"
SEED = 0
ROWS = 0
IMAGE_TOWER = False  # True: stage two trains the image tower as well, which takes a GPU or patience

# %%
from course_utils.machine import device, quiet

quiet()  # drops library messages that ask nothing of you

import re
import time

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, load_dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers import SentenceTransformerTrainingArguments
from sentence_transformers.base.modules import Dense, Normalize, Router, Transformer
from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Pooling

from course_utils import evaluation, finetuned, plots
from course_utils.checkpoints import checkpoint
from course_utils.corpus import build_corpus
from course_utils.dataset import page_table, prepare_dataset
from course_utils.exercises import check
from course_utils.profiles import load_profile
from course_utils.recording import Run

# %%
P = load_profile(PROFILE)
run = Run("05_router_with_dense", profile=PROFILE, seed=SEED)
STAGE_ONE = {"batch": 128, "epochs": 30, "rate": 5e-3}
STAGE_TWO = {"batch": P.batch_size if IMAGE_TOWER else 128, "epochs": 1 if IMAGE_TOWER else 4}
STAGE_TWO |= {"text": 2e-4, "dense": 1e-3, "image": 3e-5}

# %% [markdown]
# ## 1. Two towers
#
# A vision-language model (VLM) reads texts and pages with one network. The older way is **two towers**: one model that
# has read much, and one that has looked at many images. Here they are the real all-MiniLM-L6-v2 and a SigLIP, each with
# a space of its own. In `tiny`, SigLIP is a small stand-in, and no stranger: while it was made, MiniLM was its teacher
# for the meaning of headings, through a layer that was thrown away (see its model card). That makes the aligning below
# easier than between strangers.
#
# The task is that of lesson 07: among the test split's page images, find the one that answers the query. `build_corpus`
# keeps each page once and notes which queries it answers.
#
# **On a GPU** the other profiles take the published data and `google/siglip2-base-patch16-224`.

# %%
dataset = prepare_dataset(P)
train_data = load_dataset(dataset, "train", split=P.train_split)
dev_data = load_dataset(dataset, P.dev_config, split=P.dev_split)
test_data = load_dataset(dataset, "eval", split="train")
print(train_data)


# %%
def first(rows, count):
    return rows.select(range(min(ROWS or count, count, len(rows))))


train_rows = first(train_data.shuffle(seed=SEED), P.train_rows)
test, dev = build_corpus(first(test_data, len(test_data))), build_corpus(first(dev_data, len(dev_data)))
run.record("queries", len(test.queries))
run.record("pages", len(test.corpus))
shown = list(test.corpus)[:5]
marks = ["answer" if page in test.relevant["q0"] else "page" for page in shown]
plots.pages_row([test.image(page) for page in shown], marks, title=f"query: “{test.queries['q0']}”")

# %% [markdown]
# ## 2. Join them with a Router
#
# `Transformer` loads one model and says which inputs it takes. MiniLM gives a vector for each token, so it needs mean
# **pooling**. SigLIP's image tower ends in a pooling head of its own. Its checkpoint also has a **text tower**, which
# we do not use.
#
# A **Router** holds a list of modules for each **route** and sends each input down one of them. The text route ends in
# a **Dense** layer, which takes MiniLM's vectors to the width of the image tower's. Without `activation_function=None`,
# a Tanh would follow it; we will come to that. `Normalize`, behind the Router, serves both routes.

# %%
towers = {"dtype": "float32", "attn_implementation": P.attention}
text = Transformer(checkpoint(P.text_tower), model_kwargs=towers)
pooling = Pooling(text.get_embedding_dimension(), pooling_mode="mean")
image = Transformer(checkpoint(P.image_tower), model_kwargs=towers)


def new_dense(activation=None, seed=SEED):
    torch.manual_seed(seed)
    widths = text.get_embedding_dimension(), image.get_embedding_dimension()
    return Dense(*widths, activation_function=activation)


dense = new_dense()
router = Router(
    {"text": [text, pooling, dense], "image": [image]},
    route_mappings={("query", "text"): "text", ("document", "image"): "image"},
)
model = SentenceTransformer(modules=[router, Normalize()], device=device())


# %%
def millions(module):
    return sum(p.numel() for p in module.parameters()) / 1e6


for route, modules in router.sub_modules.items():
    names = " > ".join(type(module).__name__ for module in modules)
    print(f"{route} route: {names}, {millions(modules):.1f} M parameters")
print(f"of which SigLIP's own text tower: {millions(image.model.text_model):.1f} M")
print("the whole model takes", model.modalities)

# %% [markdown]
# ### Which route?
#
# The Router asks in this order, and takes the first yes. Is there a mapping for
#
# 1. this task *and* this modality, 2. this task alone, as in `("query", None)`, 3. this modality alone, 4. anything:
#    `(None, None)`?
# 5. Is there a route with the name of the task? 6. With the name of the modality? If not: an error if a task was set,
#    else the default route (the first, unless told otherwise).
#
# `encode_query` sets the task "query", `encode_document` sets "document", `encode` sets none. The modality is seen from
# the input. A hook notes the route that was taken. Predict the six routes.

# %%
page, question = test.image(next(iter(test.corpus))), test.queries["q0"]
taken = []
hooks = [
    modules[0].register_forward_hook(lambda *_, route=route: taken.append(route))
    for route, modules in router.sub_modules.items()
]
calls = {
    (encode, modality): getattr(model, encode)(value)
    for encode in ("encode_query", "encode_document", "encode")
    for modality, value in (("text", question), ("image", page))
}
for (encode, modality), route, vector in zip(calls, taken, calls.values(), strict=True):
    print(f"{encode:>15}({modality:<5}) takes the {route:<5} route and gives {vector.shape}")
    run.record(f"route/{encode}/{modality}", list(router.sub_modules).index(route))

# %% [markdown]
# Two of the six were decided by a mapping. The others fell through to step 6, the route with the name of the modality.
# That is what a Router without any `route_mappings` does as well.
#
# So when does a mapping matter? Where the modality would choose wrongly. Below, *documents of every kind* are sent to
# the image route. SigLIP takes texts too: they go to its own text tower. **Watch out**: nothing warns.

# %%
sentence = "Inflation in Chad, percent a year"
by_modality = model.encode_document(sentence)
router.route_mappings[("document", None)] = "image"
by_task = model.encode_document(sentence)
del router.route_mappings[("document", None)]
for hook in hooks:
    hook.remove()
print("routes:", taken[-2:])
print(f"cosine of the two vectors of one sentence: {by_modality @ by_task:.3f}")
run.record("cosine/one-sentence-two-routes", float(by_modality @ by_task))

# %% [markdown]
# ### Exercise 1: which route?
# Write the six questions as code. `route_of` returns the route's name, or `None` where no question gets a yes.
#
# *Hint: try four keys of `mappings` in turn, then two names in `routes`.*


# %%
def route_of(task, modality, mappings: dict, routes: list) -> str | None:
    # <solution>
    for key in ((task, modality), (task, None), (None, modality), (None, None)):
        if key in mappings:
            return mappings[key]
    return next((name for name in (task, modality) if name in routes), None)
    # </solution>


names = ["fast", "image", "sound", "text", "query"]
some = {("query", "text"): "fast", ("document", None): "image", (None, "audio"): "sound"}
keys = [("query", "text"), ("query", None), (None, "text"), (None, None)]
four = list(zip(keys, names[:4], strict=True))
cases = [("query", "text"), ("document", "text"), (None, "audio"), ("query", "image"), (None, "video")]
in_order = [route_of("query", "text", dict(four[k:][::-1]), names) for k in range(4)]
tests = [
    (lambda a: a[0] == "fast", "a mapping for task and modality together comes first"),
    (lambda a: a[1] == "image", "then a mapping for the task alone, whatever the modality"),
    (lambda a: a[2] == "sound", "then a mapping for the modality alone"),
    (lambda a: a[3] == "query", "without a mapping, the task's name comes before the modality's"),
    (lambda a: a[4] is None, "nothing fits: None"),
    (lambda a: in_order == names[:4], "several mappings fit: questions 1 to 4 go in order"),
]
check("which route", [route_of(*case, some, names) for case in cases], tests)

# %% [markdown]
# ## 3. Before: unaligned spaces
#
# The widths fit, so cosines can be computed. Predict the NDCG@10 (1: the right page comes first; 0: not among the first
# ten), before any training: half of what each tower could do? A tenth?
#
# The text route's Dense is random, and this draw of it could be a lucky one. So try nineteen more: pages and pooled
# queries are embedded once, and each Dense is one matrix product.

# %%
options = {"batch_size": P.eval_batch_size, "convert_to_tensor": True, "show_progress_bar": False}


def embed_pages(corpus):
    return model.encode_document(list(corpus.corpus.values()), **options).float().cpu()


def embed_queries(corpus, with_model=None):
    return (with_model or model).encode_query(list(corpus.queries.values()), **options).float().cpu()


def scores(queries, pages, corpus):
    """NDCG@10 of every query."""
    ids = list(corpus.queries), list(corpus.corpus)
    return evaluation.per_query_ndcg(queries, pages, *ids, corpus.relevant)


# %%
pages, dev_pages = {"before": embed_pages(test)}, {"before": embed_pages(dev)}
queries = {"before": embed_queries(test)}
score = {"before": scores(queries["before"], pages["before"], test)}
before = evaluation.bootstrap(score["before"])
chance = evaluation.random_ceiling(list(test.queries), test.relevant, len(test.corpus)).mean()
run.record("ndcg@10/before", before)
run.record("ndcg@10/chance", chance)
print(f"NDCG@10 before: {before}, chance: {chance:.4f}")

# %%
pooled = SentenceTransformer(modules=[text, pooling], device=device())  # the text tower without Dense
pooled_queries = embed_queries(test, pooled)
with torch.no_grad():
    draws = [new_dense(seed=seed).linear(pooled_queries) for seed in range(1, 20)]
draws = [scores(draw, pages["before"], test).mean() for draw in draws]
run.record("ndcg@10/before/best-of-19-draws", max(draws))
print(f"nineteen other Dense layers: {min(draws):.4f} to {max(draws):.4f}")

# %%
centred = [vectors["before"] - vectors["before"].mean(0) for vectors in (queries, pages)]
shifted = scores(*centred, test).mean()
run.record("ndcg@10/before/gap-closed", shifted)
print(f"the gap between the two clouds closed by a shift: {shifted:.4f}")
clouds = {"queries": queries["before"].numpy(), "pages": pages["before"].numpy()}
figure = plots.clouds(clouds, "Before training")
alt = "Queries and pages before training: two clouds apart along the line between their centroids."
run.figure("clouds_before", figure, alt)
figure

# %% [markdown]
# Read it: two clouds apart. But the gap is not the trouble: closed by a shift of each cloud to the middle, the score is
# still at chance. The *directions* differ. What tells countries apart in one space may tell fonts apart in the other.
# Good towers do not make a good Router. Only training on pairs does.
#
# ## 4. Stage one: frozen towers
#
# Dense is fresh and random, the towers are good. If everything trained at once, gradients from a random layer would
# damage the pretrained towers. So the towers are **frozen** first, and only Dense learns, at a large rate.
#
# A frozen tower gives the same vector for the same input every time. So embed the training queries and pages **once**,
# and train Dense on a Router whose first modules only hand those vectors out, by number. Same gradients, and thirty
# epochs take seconds.


# %%
class Frozen(torch.nn.Module):
    """Stands in for a frozen tower: hands out the vectors that it gave, by their numbers."""

    def __init__(self, vectors):
        super().__init__()
        self.vectors = vectors

    def preprocess(self, inputs, **_):
        return {"sentence_embedding": self.vectors[[int(number) for number in inputs]]}

    def forward(self, features):
        return features


# %%
seen_queries = pooled.encode(train_rows["query"][:], **options).clone().cpu()
began = time.perf_counter()
parts = (train_rows["image"][k : k + 256] for k in range(0, len(train_rows), 256))  # decoded in turn
seen_pages = torch.cat([model.encode_document(part, **options).cpu() for part in parts]).clone()
seconds_a_page = (time.perf_counter() - began) / len(train_rows)
numbers = [str(k) for k in range(len(train_rows))]
numbered = Dataset.from_dict({"query": numbers, "image": numbers})
print(f"{len(numbered)} queries and their pages embedded once, in {time.perf_counter() - began:.0f} s")

# %% [markdown]
# In training there is no `encode_query` to set the task. The trainer asks for **`router_mapping`**: which column has
# which task. (Do not confuse it with the Router's `route_mappings`, which takes task and modality to a route.) The
# inputs are numbers now, so those go by the task alone. Leave `router_mapping` out, and read what it says.


# %%
def aligner(*text_route):
    """The Router with its image tower replaced by the vectors that it gave."""
    stand_ins = Router(
        {"text": [*text_route], "image": [Frozen(seen_pages)]},
        route_mappings={("query", None): "text", ("document", None): "image"},
    )
    trial = SentenceTransformer(modules=[stand_ins, Normalize()], device=device())
    trial.model_card_data.widget = [{}]  # no examples for a model card
    return trial


def arguments(batch, **others):
    common = {"warmup_steps": 0.1, "save_strategy": "no", "seed": SEED, "report_to": "none"}
    folder = str(run.folder / "training")
    return SentenceTransformerTrainingArguments(folder, per_device_train_batch_size=batch, **common, **others)


# %%
trial = aligner(Frozen(seen_queries), new_dense())
loss = CachedMultipleNegativesRankingLoss(trial)
try:
    SentenceTransformerTrainer(trial, arguments(8), numbered, loss=loss)
except ValueError as error:
    run.record("refused/without-router-mapping", 1)
    print("ValueError:", error)

# %% [markdown]
# With it, the rest is the recipe of lesson 07: `CachedMultipleNegativesRankingLoss`, and the other pages of the batch
# are the negatives. Dev pages keep the vectors of section 3, since nothing on their route learns.
#
# Now for the **Tanh**. It bends every number into the range from -1 to 1, and `Dense` brings it along unless told
# otherwise. The same training with and without, from the same random start, at the rate that we shall use and at a
# hundred times that. Predict: a gain, a loss, or nothing?


# %%
def align(dense, rate):
    """Stage one: trains `dense`, and nothing else."""
    trial = aligner(Frozen(seen_queries), dense)
    assert [name.split(".")[-2:] for name, _ in trial.named_parameters()] == [
        ["linear", "weight"],
        ["linear", "bias"],
    ]
    batch = min(STAGE_ONE["batch"], len(numbered))
    args = arguments(
        batch,
        num_train_epochs=STAGE_ONE["epochs"],
        learning_rate=rate,
        logging_strategy="no",
        router_mapping={"query": "query", "image": "document"},
    )
    loss = CachedMultipleNegativesRankingLoss(trial, mini_batch_size=batch)
    SentenceTransformerTrainer(trial, args, numbered, loss=loss).train()
    return dense.cpu()


# %%
rates = {"small-rate": STAGE_ONE["rate"], "large-rate": 100 * STAGE_ONE["rate"]}
pooled_dev, aligned, table = embed_queries(dev, pooled), {}, []
dev_score = {"before": scores(embed_queries(dev), dev_pages["before"], dev)}
for label, rate in rates.items():
    for name, activation in (("linear", None), ("Tanh", torch.nn.Tanh())):
        layer = aligned[name, label] = align(new_dense(activation), rate)
        with torch.no_grad():
            out = layer({"sentence_embedding": pooled_dev})["sentence_embedding"]
            reached = layer.linear(pooled_dev).abs().quantile(0.99).item()
        dev_score[name, label] = scores(out, dev_pages["before"], dev)
        interval = evaluation.bootstrap(dev_score[name, label])
        run.record(f"ndcg@10/dev/{name.lower()}/{label}", interval)
        table.append([rate, name, str(interval), f"±{reached:.1f}"])

# %%
for label, rate in rates.items():
    cost = evaluation.paired_bootstrap(dev_score["linear", label], dev_score["Tanh", label])
    run.record(f"ndcg@10/dev/gain-of-tanh/{label}", cost)
    print(f"learning rate {rate:g}: the Tanh changes dev NDCG@10 by {cost}")
columns = ["learning rate", "Dense", "dev NDCG@10", "99% of numbers (before the Tanh) within"]
pd.DataFrame(table, columns=columns)

# %% [markdown]
# In `tiny` the small rate's interval contains 0: no difference seen. The large rate's lies below 0: a loss. The last
# column hints why. Near zero a Tanh is almost a straight line: as long as Dense's numbers stay small, it does little.
# Far out it is flat: numbers of 3 and of 30 become the same 1, and the gradient dies. How large they get depends on the
# rate, the length of training and the width of the tower's vectors, all of which you may want to change without
# thinking of a Tanh. A linear layer has no such edge, so write `activation_function=None`.
#
# So much for the trial; the linear Dense at the small rate goes into our model.

# %%
router.sub_modules["text"][2].load_state_dict(aligned["linear", "small-rate"].state_dict())
queries["stage one"] = embed_queries(test)
score["stage one"] = scores(queries["stage one"], pages["before"], test)
unseen = None
if P.drawn and not ROWS:  # for section 7: other queries over the same pages
    unseen = test.ask(load_dataset(dataset, "unseen", split="train"))
    unseen_stage_one = embed_queries(unseen)
again = model.encode_document(list(test.corpus.values())[:4], **options).float().cpu()
assert torch.allclose(again, pages["before"][:4], atol=1e-5), "a frozen tower has moved"
stage_one = evaluation.bootstrap(score["stage one"])
run.record("ndcg@10/stage-one", stage_one)
learned = sum(p.numel() for p in dense.parameters())
print(f"NDCG@10 after stage one: {stage_one}; {learned:,} numbers learned")

# %% [markdown]
# From chance to this, with one matrix. No page was embedded again: an index of pages would still be valid. In `tiny`
# dev scored higher: it has 300 pages, not 1,500, and no unseen country. Predict what training the text tower adds.
#
# ## 5. Stage two: the towers, at rates of their own
#
# `learning_rate_mapping` gives learning rates by regular expression on parameter names; what matches none takes
# `learning_rate`. Dense goes on at a middling rate; a tower, which has more to lose, at a smaller one. MiniLM's word
# embeddings stay frozen, since they hold words that our few queries never use; so does SigLIP's unused text tower. The
# loss may rise in the first epoch: the tower starts to move under Dense, and it now drops numbers at random
# (*dropout*).
#
# And the image tower? Each of its pages would go through it with gradients, in every epoch. Left frozen, it gives the
# vectors that we have, and an index would stay valid. That is the bargain of two towers: train one, keep the other.
# `IMAGE_TOWER = True` trains both.

# %%
columns = ["query", "image", *(f"negative_{k}" for k in range(P.negatives))]
if IMAGE_TOWER:  # a hard negative for each row, too: a page that looks like the answer
    learner, pairs = model, train_rows.select_columns(columns)
else:  # the same text, pooling and dense as in `model`: what they learn here, `model` has learned
    learner = aligner(text, pooling, dense)
    pairs = Dataset.from_dict({"query": train_rows["query"][:], "image": numbers})

NEVER = r"image\.0\.model\.(text_model|logit_)|word_embeddings"
RATES = {r"sub_modules\.text\.0\.": STAGE_TWO["text"]}
if IMAGE_TOWER:
    RATES[r"sub_modules\.image\.0\."] = STAGE_TWO["image"]
groups = {"frozen": 0, "Dense": 0} | {pattern: 0 for pattern in RATES}
for name, parameter in learner.named_parameters():
    parameter.requires_grad_(not re.search(NEVER, name))
    group = next((pattern for pattern in RATES if re.search(pattern, name)), "Dense")
    groups[group if parameter.requires_grad else "frozen"] += parameter.numel()
for group, count in groups.items():
    print(f"{count / 1e6:6.2f} M parameters: {group}{f', rate {RATES[group]:g}' if group in RATES else ''}")
if not IMAGE_TOWER:  # forward twice for the cached loss, backward about as long
    minutes = 4 * seconds_a_page * len(train_rows) / 60
    print(f"an epoch that trains the image tower as well would take {minutes:.0f} minutes or more here")

# %% [markdown]
# ### Exercise 2: a rate for one layer
# The last layers of a tower are the usual ones to train. Write a regular expression that matches the parameters of
# MiniLM's **last** layer and no others.
#
# *Hint: look at `[name for name, _ in learner.named_parameters()]`. A dot in a pattern matches any character; `\.` is a
# dot.*

# %%
# <solution> stub: pattern = ...
pattern = r"sub_modules\.text\.0\.model\.encoder\.layer\.5\."
# </solution>
parameters = dict(learner.named_parameters())
found = [name for name in parameters if isinstance(pattern, str) and re.search(pattern, name)]
last = {id(parameter) for parameter in text.model.encoder.layer[-1].parameters()}
tests = [
    (lambda a: isinstance(a, str), "give a pattern as text"),
    (lambda a: found, "no parameter matches, and the trainer would say so with a ValueError"),
    (lambda a: not any(".image." in name for name in found), "it also matches parameters of the image route"),
    (
        lambda a: {id(parameters[name]) for name in found} <= last,
        "it matches more than the last; layers count from 0",
    ),
    (lambda a: len(found) == len(last), "it misses some of that layer's parameters"),
]
check("a rate for one layer", pattern, tests)

# %%
batch = min(STAGE_TWO["batch"], len(pairs))
args = arguments(
    batch,
    num_train_epochs=STAGE_TWO["epochs"],
    learning_rate=STAGE_TWO["dense"],
    learning_rate_mapping=RATES,
    router_mapping={"query": "query"} | {column: "document" for column in pairs.column_names[1:]},
    batch_sampler="no_duplicates",
    bf16=P.bf16,
    fp16=P.fp16,
    logging_steps=max(1, len(pairs) // batch // 5),
)
loss = CachedMultipleNegativesRankingLoss(learner, mini_batch_size=P.mini_batch_size)  # lesson 06
learner.model_card_data.widget = [{}]  # no examples for a model card: they would be training pages
trainer = SentenceTransformerTrainer(learner, args, pairs, loss=loss)
_ = trainer.train()

# %%
figure = plots.training_curve(trainer.state.log_history, title="Stage two")
run.figure("stage_two", figure, "Training loss of stage two by step.")
figure

# %%
model.eval()
for vectors, corpus in ((pages, test), (dev_pages, dev)):
    vectors["after"] = embed_pages(corpus) if IMAGE_TOWER else vectors["before"]
run.record("pages/moved", (pages["after"] - pages["before"]).abs().max().item())
queries["after"] = embed_queries(test)
score["after"] = scores(queries["after"], pages["after"], test)
dev_score["stage-one"] = dev_score["linear", "small-rate"]
dev_score["stage-two"] = scores(embed_queries(dev), dev_pages["after"], dev)

# %%
measured = {
    f"dev/{stage}": evaluation.bootstrap(dev_score[stage]) for stage in ("before", "stage-one", "stage-two")
}
measured["after"] = evaluation.bootstrap(score["after"])
measured["gain"] = evaluation.paired_bootstrap(score["before"], score["after"])
measured["gain/stage-two"] = evaluation.paired_bootstrap(score["stage one"], score["after"])
for name, interval in measured.items():
    run.record(f"ndcg@10/{name}", interval)
    print(f"{name:>14}: {interval}")

# %%
slices = {"all": np.ones(len(test.queries), bool)}
if P.drawn:
    answers = page_table(P).loc[[min(test.relevant[query]) for query in test.queries]]
    slices |= {"unseen-country": answers["unseen_country"].to_numpy(), "scan": answers["scan"].to_numpy()}
by_slice = {}
for name, mask in slices.items():
    if mask.any():
        by_slice[name] = tuple(evaluation.bootstrap(score[when][mask]) for when in ("before", "after"))
        if name != "all":
            run.record(f"ndcg@10/after/{name}", by_slice[name][1])
figure = plots.before_after(by_slice, {"chance": chance}, title="The Router before and after training")
alt = "NDCG@10 of the Router before and after training, overall and by slice, with 95% intervals."
run.figure("before_after", figure, alt)
figure

# %%
clouds = {"queries": queries["after"].numpy(), "pages": pages["after"].numpy()}
figure = plots.clouds(clouds, "After training")
alt = "Queries and pages after training, along the line between their centroids."
run.figure("clouds_after", figure, alt)
figure

# %% [markdown]
# In `tiny` the text tower gained a little; unseen countries score lowest. In the clouds the gap is smaller, not gone,
# and queries now spread up and down nearly as far as pages. Only the spread is needed: a search asks which page is
# nearest, not how near.
#
# ## 6. Beside the vision-language model
#
# Lesson 07's model answered the same queries over the same pages: its vectors are yours, if you ran it, else the ones
# that come with the course, labelled **precomputed**. (Only those of `tiny` come with it: on a GPU run lesson 07 first,
# or see the Router alone.) Speed is measured here, on the same pages in turn.

# %%
systems = {f"Router, {when}": score[when] for when in ("before", "stage one", "after")}
try:
    vlm = finetuned.finetuned(P)
except finetuned.CourseError as missing:
    vlm = None
    print(f"The Router alone. {missing}")
if vlm:
    query_rows = [vlm.query_ids.index(query) for query in test.queries]
    page_rows = [vlm.page_ids.index(page) for page in test.corpus]
    for when in ("before", "after"):
        vectors = getattr(vlm, f"queries_{when}")[query_rows], getattr(vlm, f"pages_{when}")[page_rows]
        score[f"VLM {when}"] = systems[vlm.title(f"VLM, {when}")] = scores(*vectors, test)
        run.record(f"ndcg@10/vlm-{when}", evaluation.bootstrap(score[f"VLM {when}"]))
    lead = evaluation.paired_bootstrap(score["VLM after"], score["after"])
    run.record("ndcg@10/router-over-vlm", lead)
    print(f"Router after minus VLM after, the same queries: {lead}")

# %%
intervals = {name: {"test queries": evaluation.bootstrap(each)} for name, each in systems.items()}
figure = plots.systems(intervals, title="Two towers beside one network")
alt = "NDCG@10 on the test split of the Router and of lesson 07's model, before and after training."
run.figure("systems", figure, alt)
figure

# %%
kwargs = {"dtype": P.dtype, "attn_implementation": P.attention}
network = SentenceTransformer(checkpoint(P.embedder), device=device(), model_kwargs=kwargs)
inputs = {"page": list(test.corpus.values())[:64], "query": list(test.queries.values())[:64]}
seconds = {(name, what): [] for name in ("Router", "VLM") for what in inputs}
for _ in range(2):
    for name, each in (("Router", model), ("VLM", network)):
        for what, encode in (("page", each.encode_document), ("query", each.encode_query)):
            began = time.perf_counter()
            encode(inputs[what], **options)
            seconds[name, what].append((time.perf_counter() - began) / len(inputs[what]))

# %%
used = {"Router": millions(model) - millions(image.model.text_model), "VLM": millions(network)}
table = pd.DataFrame({"million parameters in use": used}).round(1)
for name, size in used.items():
    run.record(f"parameters/{name.lower()}", size * 1e6)
for (name, what), each in seconds.items():
    run.record(f"seconds/{what}/{name.lower()}", min(each))
    table.loc[name, f"milliseconds a {what}"] = round(1000 * min(each), 1)
table.loc["Router", "NDCG@10, after"] = str(evaluation.bootstrap(score["after"]))
if vlm:
    table.loc["VLM", "NDCG@10, after"] = vlm.title(str(evaluation.bootstrap(score["VLM after"])))
table.T

# %% [markdown]
# In `tiny` one network wins by far. SigLIP's own two towers do little better than our Router (see its model card), so
# the limit seems to be the image tower, not the aligning. Parameters are a poor measure of cost: half of MiniLM's are a
# table of words, and a page passes the image tower alone. Each tower can be exchanged, or run on other hardware,
# without the other. What two towers cannot do is look at the page *with* the query's words in mind; nor can the
# vision-language model's embedding, for that is a reranker's work.
#
# ## 7. Free wording
#
# MiniLM has read widely. Our vision-language stand-in starts from MiniLM's word table and learned to imitate its
# vectors. The unseen-wording set asks for test pages in words that no training query of this course used. Does the gap
# between the two shrink?

# %%
if unseen is None:
    print("There are no unseen wordings here: collect queries from people who have not seen yours.")
else:
    print("for example:", "; ".join(f"“{query}”" for query in list(unseen.queries.values())[:3]))
    free = {"stage-one": scores(unseen_stage_one, pages["before"], unseen)}
    free["after"] = scores(embed_queries(unseen), pages["after"], unseen)
    for when in ("before", "after"):
        vectors = getattr(vlm, f"unseen_{when}"), getattr(vlm, f"pages_{when}")[page_rows]
        free[f"vlm-{when}"] = scores(*vectors, unseen)
    for name, values in free.items():
        run.record(f"ndcg@10/{name}/unseen-wording", evaluation.bootstrap(values))
    lead = evaluation.paired_bootstrap(free["vlm-after"], free["after"])
    run.record("ndcg@10/router-over-vlm/unseen-wording", lead)
    print(f"Router after minus VLM after, the same queries: {lead}")
    print(f"on the test queries: {(score['after'] - score['VLM after']).mean():.3f}")

# %%
if unseen is not None:
    titles = ["Router, stage one", "Router, after", *(vlm.title(f"VLM, {w}") for w in ("before", "after"))]
    intervals = [{"queries in unseen words": evaluation.bootstrap(values)} for values in free.values()]
    figure = plots.systems(dict(zip(titles, intervals, strict=True)), title="Free wording")
    alt = "NDCG@10 on queries in words of no training query, of the Router and of lesson 07's model."
    run.figure("free_wording", figure, alt)
    display(figure)

# %% [markdown]
# In `tiny` both fall, the vision-language model further: its lead shrinks. A score on the wordings of training says
# little about next week's users. Had stage two lost on these queries, the text tower would have moved too far: take a
# smaller rate for it, or none. The published vision-language model has read the web as well, so do not expect the same
# of it.
#
# ## 8. Saved and reloaded
#
# A Router saves each module in a folder of its own, with `router_config.json` for the routes.
# `create_model_card=False`, since a card would show training pages.

# %%
folder = run.folder / "model"
model.save_pretrained(str(folder), create_model_card=False)
again = SentenceTransformer(str(folder), device=device())
few_queries, few_pages = list(test.queries.values())[:16], list(test.corpus.values())[:8]
query_change = np.abs(again.encode_query(few_queries) - model.encode_query(few_queries)).max()
page_change = np.abs(again.encode_document(few_pages) - model.encode_document(few_pages)).max()
difference = max(query_change, page_change)
run.record("reload/difference", difference)
run.record("rows", len(train_rows))
run.save()
assert difference == 0, "the reloaded Router gives other vectors"
assert again[0].route_mappings == router.route_mappings
print(sorted(path.name for path in folder.iterdir()), "\nlargest difference after reloading:", difference)

# %% [markdown]
# ## You have
# - joined MiniLM and SigLIP with a `Router`, and predicted the route of each call
# - measured that two unaligned spaces are at chance, whatever the draw of Dense
# - aligned them: Dense alone on vectors that frozen towers gave once, then a tower at its own rate
# - measured where the default Tanh does nothing and where it costs
# - set two towers beside one network: score, parameters, seconds, and free wording
#
# **Next**: lesson 06 makes the batch of such a training large in little memory, and lesson 07 finetunes the
# vision-language model.
