# %% [markdown]
# # 13 · Scale out
#
# **You will be able to**
# - train on several processes, and prove that their loss and gradients are those of one process with the whole batch
# - find the false negatives that several processes bring back, and get rid of them
# - encode PDFs on Ray Data, with one worker or two, on this machine or on a cluster by one address
# - kill a worker or the whole job, and show that no page is lost or doubled
# - keep the index on object storage, and work out on paper what 100 million pages cost
#
# **Time** tiny 4 min · t4 about 10 min · full about 10 min (the two on a GPU are estimates, not measured here)
#
# **Learning time** about 45 min
#
# **Memory** tiny 5 GB · t4 16 GB of GPU memory · full 80 GB of GPU memory
#
# **Read first** nothing; lesson 06 explains in-batch negatives, lesson 10 codes and LanceDB

# %% tags=["parameters"]
PROFILE = "tiny"
SEED = 0
ROWS = 0

# %%
from course_utils.machine import quiet

quiet()  # drops library messages that ask nothing of you
import json
import math
import shutil
from collections import Counter
import httpx
import lancedb
import numpy as np
import pandas as pd
import pyarrow as pa
import pypdfium2
import torch
from moto.server import ThreadedMotoServer
from course_utils import documents, plots, scale
from course_utils.checkpoints import checkpoint
from course_utils.dataset import page_table
from course_utils.exercises import check
from course_utils.profiles import PROFILES, load_profile
from course_utils.recording import Run

P = load_profile(PROFILE)
run = Run("13_scale_out", profile=PROFILE, seed=SEED)
run.folder.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## 1. Train on two processes
#
# With two GPUs, two **processes** train at once, each with a copy of the model and a batch of its own. After each
# backward pass they average their gradients, so that the copies stay equal
# ([DDP](https://docs.pytorch.org/docs/stable/notes/ddp.html)).
#
# A contrastive loss needs more: each process has only its own pages as negatives. With `gather_across_devices=True`, the
# processes exchange their **embeddings**, and each query meets the pages of all:
#
# ![Two processes with two queries and two pages each. Without gathering, each query meets the two pages of its own
# process. With gathering, it meets all four; the two new ones come from the other process.](images/13_gather.svg)
#
# A notebook cannot split itself into processes, so the next two cells write a **script**. It trains one step for each
# case that it is asked for, and keeps the gradients.

# %%
# %%writefile "{run.folder}/train.py"
import json
import sys
import torch
from accelerate.utils import gather_object
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers import SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer import losses
from transformers import TrainerCallback

asked = json.loads(sys.argv[1])


class KeepGradients(TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, model=None, **_):
        self.gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def load():
    model = SentenceTransformer(asked["model"], device="cpu", model_kwargs={"dtype": "float32"})
    model[0].processing_kwargs |= {"image": {"size": asked["pixels"]}}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("visual." not in name)  # as in lesson 07
    return model


# %%
# %%writefile -a "{run.folder}/train.py"


def step(rows, loss, gather, arguments, **options):
    """One training step; the same on every process but for its rows."""
    model, keep, values = load(), KeepGradients(), []
    loss = getattr(losses, loss)(model, gather_across_devices=gather, **options)
    loss.register_forward_hook(lambda module, inputs, value: values.append(value.item()))
    common = {"max_steps": 1, "use_cpu": True, "save_strategy": "no", "max_grad_norm": 0}
    args = SentenceTransformerTrainingArguments(asked["folder"], seed=asked["seed"], **common, **arguments)
    data = Dataset.from_dict(rows)
    trainer = SentenceTransformerTrainer(model, args=args, train_dataset=data, loss=loss, callbacks=[keep])
    mine = next(iter(trainer.get_train_dataloader().batch_sampler))  # the rows of this process
    trainer.train()
    return {"rows": gather_object([mine]), "losses": gather_object(values), "gradients": keep.gradients}


steps = {name: step(asked["rows"][case.pop("data")], **case) for name, case in asked["cases"].items()}
if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
    torch.save(steps, sys.argv[2])

# %% [markdown]
# [`accelerate launch`](https://huggingface.co/docs/accelerate/basic_tutorials/launch) starts the script once for each
# process. Our command is the one for two GPUs. The script's `use_cpu=True` makes the processes talk through **gloo**,
# PyTorch's communication backend for CPUs. On GPUs it is NCCL, which needs a GPU for each process; so this section uses
# the stand-in on the CPU in every profile.
#
# `apart` holds 16 queries with 16 different pages. We compare one process with a batch of 16 to two with 8 each.
# The table's last column is the largest difference to the gradients of one process, as a share of the largest gradient.
# Predict: without gathering, is the mean loss of the two processes higher, lower or the same?

# %%
COUNT, PLAIN, CACHED = 16, "MultipleNegativesRankingLoss", "CachedMultipleNegativesRankingLoss"
drawn = page_table(PROFILES["tiny"])
drawn = drawn[(drawn["split"] == "train") & (drawn["topic"] == "age structure")]
some = drawn.sample(COUNT, random_state=SEED)
asks = [f"{row.country}, {row.topic}" for row in some.itertuples()]
paths = some["path"].tolist()
apart = {"anchor": asks, "positive": paths}
twice = {"anchor": [*asks, *(f"page about {text}" for text in asks)], "positive": paths * 2}
half = {"per_device_train_batch_size": COUNT // 2, "batch_sampler": "no_duplicates"}
whole = half | {"per_device_train_batch_size": COUNT}
one = {kind: {"data": "apart", "loss": kind, "gather": False, "arguments": whole} for kind in (PLAIN, CACHED)}
one[CACHED]["mini_batch_size"] = 4  # lesson 06
two = {f"{kind}, gathered": case | {"gather": True, "arguments": half} for kind, case in one.items()}
two |= {f"{kind}, not gathered": case | {"arguments": half} for kind, case in one.items()}
two["twins"] = {"data": "twice", "loss": PLAIN, "gather": True, "arguments": half}
split = whole | {"accelerator_config": {"split_batches": True}}
two["twins, split"] = two["twins"] | {"arguments": split}


# %%
def train(name, cases, launch=()):
    """The steps of the cases: rows and losses of each process, and the gradients, equal on all."""
    size = {"shortest_edge": 32 * 32, "longest_edge": PROFILES["tiny"].longest_edge}
    asked = {"model": checkpoint("tiny-qwen3-vl-embedding"), "pixels": size, "seed": SEED, "cases": cases}
    asked |= {"folder": str(run.folder / "training"), "rows": {"apart": apart, "twice": twice}}
    answer = run.folder / f"{name}.pt"
    done = scale.run_script([*launch, run.folder / "train.py", json.dumps(asked), answer])
    run.record(f"memory/training/{name}", done.peak_mib)
    print(
        f"{name}: {len(cases)} steps in {done.seconds:.0f} s, {done.peak_mib / 1024:.1f} GB in all processes"
    )
    return torch.load(answer)


# accelerate launch --multi_gpu --num_processes 2 train.py, and what else it would ask for
options = ["--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no"]
options += ["--dynamo_backend=no", "--main_process_port=0"]
steps = train("one", one) | train("two", two, ["-m", "accelerate.commands.launch", *options])

# %%
reference = steps[PLAIN]["gradients"]
largest = max(gradient.abs().max().item() for gradient in reference.values())
lines = {}
for name in [*one, *two][:6]:
    found = steps[name]
    assert found["gradients"].keys() == reference.keys()
    apart_by = max((found["gradients"][key] - reference[key]).abs().max().item() for key in reference)
    lines[name] = {"loss": np.mean(found["losses"]), "of each process": np.round(found["losses"], 4)}
    lines[name]["gradients differ by"] = f"{apart_by / largest:.1e}"
    label = name.replace(", ", "/").replace(" ", "-")
    run.record(f"loss/{label}", lines[name]["loss"])
    run.record(f"gradients/difference/{label}", apart_by / largest)
gathered = [f"gradients/difference/{kind}/gathered" for kind in (PLAIN, CACHED)]
run.record("gradients/difference", max(run.metrics[name] for name in gathered))
off, on = (run.metrics[f"loss/{PLAIN}/{kind}"] for kind in ("not-gathered", "gathered"))
print(f"You saw a mean loss of {off:.4f} without gathering and {on:.4f} with it;", end=" ")
print(f"one process with all {COUNT} has {run.metrics[f'loss/{PLAIN}']:.4f}.")
pd.DataFrame(lines).T

# %% [markdown]
# ### Exercise 1: how many pages compete?
# Write `competing`: the number of pages in the softmax of one query, its own positive included. `batch` is
# `per_device_train_batch_size`, and each row has `negatives` hard negatives.
#
# <details><summary>Hint</summary>
#
# Rows that one query meets, times pages of a row. Does every process add rows?
#
# </details>


# %%
def competing(batch, processes, negatives, gather):
    # <solution> stub: return ...
    return batch * (processes if gather else 1) * (1 + negatives)
    # </solution>


tests = [
    (lambda f: f(8, 2, 0, True) is not ..., "not done yet: write the body in place of `...`"),
    (lambda f: f(8, 2, 0, False) == 8, "without gathering, a query meets the rows of its own process only"),
    (lambda f: f(8, 2, 0, True) == 16, "with gathering, it meets the rows of all processes"),
    (lambda f: f(8, 4, 1, True) == 64, "each row brings its positive and its hard negatives"),
]
check("how many pages compete", competing, tests)

# %% [markdown]
# You saw: with gathering, only rounding is left, and **two processes train as one would with the whole batch**. Without
# it, each query meets half of the pages, so the loss is lower and the gradients are others.
#
# **Watch out**: `gather_across_devices` is off by default, and no error tells you.
#
# ### False negatives come back
# `NO_DUPLICATES` keeps equal pages out of one batch (lesson 03). But `accelerate`
# [gives each process a batch of its own](https://huggingface.co/docs/accelerate/package_reference/torch_wrappers#accelerate.data_loader.BatchSamplerShard),
# and nobody compares the batches of two processes. `twice` has two wordings for each page. If they land on two
# processes, gathering makes the page a **false negative** of its own query.
#
# With `split_batches`, the sampler makes batches for all processes together, and each process takes a part. Predict:
# how many of the 16 queries of a step meet their own page twice, before and after?

# %%
for name in ("twins", "twins, split"):
    seen = [[twice["positive"][row] for row in rows] for rows in steps[name]["rows"]]
    within = sum(len(each) - len(set(each)) for each in seen)
    across = 2 * len(set(seen[0]) & set(seen[1]))
    label = name.replace(", ", "-")
    run.record(f"duplicates/within/{label}", within)
    run.record(f"duplicates/across/{label}", across)
    run.record(f"loss/{label}", np.mean(steps[name]["losses"]))
    print(f"{name:>12}: {[len(each) for each in seen]} rows; {within} equal pages within a process,", end=" ")
    print(f"{across} of {sum(map(len, seen))} queries meet their page twice; loss", end=" ")
    print(f"{np.mean(steps[name]['losses']):.4f}")
least = run.metrics["duplicates/across/twins"] / COUNT * math.log(2)
print(f"Two equal pages share the probability, so these twins keep the mean loss above {least:.4f}.")

# %% [markdown]
# A query whose page is there twice can give each copy half of the probability at most, so its loss cannot
# fall below log 2 = 0.69. The copy that counts as wrong weakens the pull towards the right page.
#
# **On a GPU**: with `split_batches`, `per_device_train_batch_size` is the batch of all processes together.
#
# ## 2. Encode on Ray Data
#
# [Ray Data](https://docs.ray.io/en/latest/data/data.html) runs a pipeline on many workers: it hands out batches, restarts
# workers that died, and repeats what they had in hand.
#
# ![PDFs become rows of bytes, then rows of a page image each, then batches that two workers turn into vectors; each
# worker writes its batches into a LanceDB table, keyed by page](images/13_pipeline.svg)
#
# `draw` makes the pages of one PDF, and skips those that are done already.

# %%
# %%writefile "{run.folder}/encode.py"
import argparse
import io
import os
import signal
import time
from pathlib import Path
import pypdfium2
import ray
from PIL import Image


def draw(row, pixels, done):
    """The pages of one PDF that are not done, as PNG images of so many pixels."""
    pages, name = [], Path(row["path"]).stem
    for number, page in enumerate(pypdfium2.PdfDocument(row["bytes"]), start=1):
        if f"{name}-p{number:04d}" not in done:
            width, height = page.get_size()
            drawn, png = page.render(scale=(pixels / (width * height)) ** 0.5).to_pil(), io.BytesIO()
            drawn.convert("RGB").save(png, "PNG")
            pages.append({"page": f"{name}-p{number:04d}", "image": png.getvalue()})
    return pages


# %% [markdown]
# Each worker has an `Encoder`, which loads the model once. It **writes by key**: `merge_insert("page")` adds only pages
# that the table does not have. `accident` is for this lesson only: once, it kills the worker or fails the job, after
# the second batch was written and *before* Ray hears of it.


# %%
# %%writefile -a "{run.folder}/encode.py"
class Encoder:
    def __init__(self, asked):
        import lancedb  # only workers need these
        import torch
        from sentence_transformers import SentenceTransformer

        gpu, self.asked, self.batches = torch.cuda.is_available(), asked, 0
        kwargs = {"dtype": asked.dtype if gpu else "float32"}
        self.model = SentenceTransformer(asked.model, device="cuda" if gpu else "cpu", model_kwargs=kwargs)
        size = {"shortest_edge": 32 * 32, "longest_edge": asked.pixels}
        self.model[0].processing_kwargs |= {"image": {"size": size}}
        self.table = lancedb.connect(asked.index).open_table("pages")

    def __call__(self, batch):
        began, images = time.time(), [Image.open(io.BytesIO(png)) for png in batch["image"]]
        vectors = self.model.encode_document(images, batch_size=8, normalize_embeddings=True)
        about = {"worker": os.getpid(), "began": began, "ended": time.time()}
        rows = [{"page": page, "vector": v, **about} for page, v in zip(batch["page"], vectors, strict=True)]
        self.table.merge_insert("page").when_not_matched_insert_all().execute(rows)
        self.batches += 1
        if self.batches == 2 and self.asked.accident:
            accident(self.asked.accident, self.asked.index)
        return {"page": batch["page"]}


# %%
# %%writefile -a "{run.folder}/encode.py"
def accident(kind, folder):
    """Once only, in the worker that comes first: die without a word, or stop the whole job."""
    try:
        with open(f"{folder}/{kind}", "x") as file:  # "x": fails where the file is there
            file.write(str(os.getpid()))
    except FileExistsError:
        return
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise OSError("no space left on device")


def start(workers):
    """Join the cluster at RAY_ADDRESS; without one, start Ray here, which can take more than one try."""
    here = {"num_cpus": workers + 1, "object_store_memory": 300 * 2**20, "include_dashboard": False}
    here |= {"_node_ip_address": "127.0.0.1", "log_to_driver": False, "logging_level": "error"}
    for more in (2, 1, 0):
        try:
            return ray.init(**({} if "RAY_ADDRESS" in os.environ else here))
        except Exception:
            if not more:
                raise
            ray.shutdown()


# %% [markdown]
# The last part is the pipeline. Nothing runs until `to_pandas` asks for the result. On a
# [cluster](https://docs.ray.io/en/latest/cluster/getting-started.html), the same file runs with
# `RAY_ADDRESS=10.0.0.1:6379 python encode.py …`, if all machines can reach PDFs, model and table. Ray's support of
# Windows is [in beta](https://docs.ray.io/en/latest/ray-overview/installation.html#windows-support); there, use WSL.
#
# **On a GPU**: the two workers share one (`num_gpus` is 0.5 for each), which helps only while one does not fill it.

# %%
# %%writefile -a "{run.folder}/encode.py"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="PDFs to pages to vectors to a LanceDB table")
    for name in ("pdfs", "index", "model", "dtype", "accident"):
        parser.add_argument(f"--{name}", default="")
    for name in ("pixels", "dimensions", "batch", "workers"):
        parser.add_argument(f"--{name}", type=int)
    asked = parser.parse_args()
    start(asked.workers)
    gpus = min(1, ray.cluster_resources().get("GPU", 0) / asked.workers)
    import lancedb  # after Ray has started its processes
    import pyarrow as pa

    times = [("worker", pa.int64()), ("began", pa.float64()), ("ended", pa.float64())]
    schema = pa.schema([("page", pa.string()), ("vector", pa.list_(pa.float32(), asked.dimensions)), *times])
    table = lancedb.connect(asked.index).create_table("pages", schema=schema, exist_ok=True)
    done = set(table.search().select(["page"]).limit(None).to_arrow()["page"].to_pylist())
    ray.data.DataContext.get_current().wait_for_min_actors_s = 600  # begin when all workers are there
    pdfs = ray.data.read_binary_files(asked.pdfs, include_paths=True, file_extensions=["pdf"])
    pages = pdfs.flat_map(draw, fn_kwargs={"pixels": asked.pixels, "done": done})
    options = {"compute": ray.data.ActorPoolStrategy(size=asked.workers), "num_cpus": 1, "num_gpus": gpus}
    written = pages.map_batches(Encoder, fn_constructor_args=[asked], batch_size=asked.batch, **options)
    print(f"{len(written.to_pandas())} pages encoded now, {len(done)} were there")

# %% [markdown]
# We take country reports of lesson 12, enough PDFs for about 240 pages. `wanted` has the page ids that must be in the
# table at the end. We count the seconds in which all workers were at work, and not the start. Drawing the pages needs a
# core, too. Predict: how many times as many pages a second do two workers encode as one?

# %%
pdfs, wanted, most = run.folder / "pdfs", [], ROWS or 240
for old in (pdfs, *run.folder.glob("index-*")):
    shutil.rmtree(old, ignore_errors=True)
pdfs.mkdir()
for file in sorted(documents.print_reports().glob("*.pdf")):
    if len(wanted) < most:
        shutil.copy(file, pdfs)
        wanted += [f"{file.stem}-p{k + 1:04d}" for k in range(len(pypdfium2.PdfDocument(file)))]
run.record("pages", len(wanted))
print(f"{len(list(pdfs.iterdir()))} PDFs, {len(wanted)} pages")


def encode(name, workers=2, accident=""):
    """Run the script into a table of its own; what the table then has, a row a page."""
    index = run.folder / f"index-{name}"
    values = {"pdfs": pdfs, "index": index, "model": checkpoint(P.embedder), "dtype": P.dtype}
    values |= {"pixels": P.longest_edge, "dimensions": P.dimensions[0], "batch": max(2, len(wanted) // 15)}
    values |= {"workers": workers, "accident": accident}
    command = [run.folder / "encode.py", *(f"--{key}={value}" for key, value in values.items())]
    done = scale.run_script(command, with_ray=True, may_fail=accident == "fail")
    run.record(f"memory/encoding/{name}", done.peak_mib)
    said = [line for line in done.said.splitlines() if "encoded now" in line] or ["the job failed"]
    print(f"{name}: {said[0]}; {done.seconds:.0f} s, {done.peak_mib / 1024:.1f} GB in all processes")
    return lancedb.connect(str(index)).open_table("pages").to_pandas()


# %%
tables = {"one": encode("one", workers=1), "two": encode("two")}
speed = {name: scale.throughput(table) for name, table in tables.items()}
for name, value in speed.items():
    run.record(f"throughput/{name}", value)
run.record("throughput/2-over-1", speed["two"] / speed["one"])
print(f"one worker {speed['one']:.1f} pages a second, two {speed['two']:.1f}:", end=" ")
print(f"{speed['two'] / speed['one']:.2f} times as many")
pair = [np.stack(table.sort_values("page")["vector"]) for table in tables.values()]
run.record("vectors/difference", np.abs(pair[0] - pair[1]).max())
print(f"The vectors differ by at most {np.abs(pair[0] - pair[1]).max():.0e}.")
figure = plots.timeline(tables["two"], "Two workers: a bar is a batch")
run.figure(
    "workers", figure, "Batches of two workers as bars along the seconds, with the pages of each batch."
)
figure

# %% [markdown]
# ### Exercise 2: lost and doubled
# Next we break things, so first write the check. `audit(wanted, stored)` takes two lists of page ids, and returns how
# many wanted pages are **lost** (not stored), and how many stored rows are **too many** (second and later copies).
#
# <details><summary>Hint</summary>
#
# `Counter(stored)` counts each id. A page that is stored three times is two rows too many.
#
# </details>


# %%
def audit(wanted, stored):
    # <solution> stub: return ..., ...
    counts = Counter(stored)
    return sum(page not in counts for page in wanted), sum(count - 1 for count in counts.values())
    # </solution>


tests = [
    (lambda f: ... not in f(["a"], ["a"]), "not done yet: write the body in place of `...`"),
    (
        lambda f: f(["a", "b"], ["b", "a"]) == (0, 0),
        "here nothing is lost or doubled, and order says nothing",
    ),
    (lambda f: f(["a", "b", "c"], ["b"])[0] == 2, "lost: wanted pages that are not stored"),
    (lambda f: f(["a", "b"], ["a", "a", "a", "b"])[1] == 2, "doubled: rows beyond the first of each page"),
    (lambda f: f(["a", "b"], ["a", "a"]) == (1, 1), "a page too many does not make up for a lost one"),
]
check("lost and doubled", audit, tests)

# %% [markdown]
# ### A worker is killed
# Ray will start the worker again and repeat its batch: each batch runs **at least once**. Predict: what would a plain
# `add` leave in the table, and what does `merge_insert` leave?


# %%
def lost_and_doubled(table):
    """What `audit` should find, counted by pandas, so that nothing depends on your answer."""
    return len(set(wanted) - set(table["page"])), int(table["page"].duplicated().sum())


killed = encode("killed", accident="kill")
lost, doubled = lost_and_doubled(killed)
run.record("pages/lost", lost)
run.record("pages/doubled", doubled)
run.record("workers/killed-run", killed["worker"].nunique())
print(f"You saw {lost} pages lost and {doubled} doubled;", end=" ")
dead = killed[killed["worker"] == int((run.folder / "index-killed" / "kill").read_text())]
run.record("workers/killed-run/batches-of-the-dead", dead["began"].nunique())
again = dead[dead["began"] == dead["began"].max()].drop(columns="vector")  # the batch that was repeated
database = lancedb.connect(str(run.folder / "index-killed"))
plain = database.create_table("plain", killed.drop(columns="vector"), mode="overwrite")
plain.add(again)
run.record("pages/doubled-by-add", lost_and_doubled(plain.to_pandas())[1])
print(f"a second plain add of the batch of {len(again)} doubles {run.metrics['pages/doubled-by-add']}.")
figure = plots.timeline(killed, "A worker is killed after its second batch")
run.figure("killed", figure, "Batches by worker along the seconds: the killed worker stops early.")
figure

# %% [markdown]
# **A write that can be repeated** turns "at least once" into "exactly once". (If a worker only seems dead, two may write
# the same batch at once. So count at the end, as we did.)
#
# ### The whole job stops
# Now the job itself fails in the middle ("no space left"). We start the same command a second time. `done` leaves out
# what the table has, before any page is drawn.

# %%
stopped = encode("stopped", accident="fail")
before = set(stopped["page"])
resumed = encode("stopped")
new = resumed[~resumed["page"].isin(before)]
kept = resumed[resumed["page"].isin(before)].set_index("page")["ended"]
untouched = int((kept == stopped.set_index("page")["ended"].reindex(kept.index)).sum())
run.record("resumed/kept", untouched)
run.record("resumed/encoded", len(new))
run.record("resumed/lost", lost_and_doubled(resumed)[0])
run.record("resumed/doubled", lost_and_doubled(resumed)[1])
print(
    f"{len(before)} of {len(wanted)} pages were there when it stopped; the second run encoded {len(new)}",
    end=" ",
)
print(f"and left {untouched} as they were. Lost: {lost_and_doubled(resumed)[0]}.")

# %% [markdown]
# **Watch out**: a second run skips pages by their names. If a PDF changes, or you change the model, take a new table
# (lesson 12 names files by their content).
#
# ## 3. An index on object storage
#
# **Object storage** such as Amazon's S3 keeps files behind an HTTP address, cheaply, for all machines.
# [LanceDB](https://docs.lancedb.com/storage/configuration) needs another address and a key, and no other line changes.
# We try it with [moto](https://docs.getmoto.org/en/latest/docs/server_mode.html), a server on this machine that answers
# as S3 does.

# %%
requests = scale.kept_log("werkzeug")  # a line for each request that the server answers
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
httpx.put(f"http://{host}:{port}/course").raise_for_status()  # a bucket, S3's word for a folder of objects
keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region": "us-east-1"}
keys |= {"endpoint": f"http://{host}:{port}", "allow_http": "true"}
content = lancedb.connect(str(run.folder / "index-two")).open_table("pages").to_arrow()
content, found = content.select(["page", "vector"]).sort_by("page"), {}
for address, options in ((str(run.folder / "index-disk"), None), ("s3://course/index", keys)):
    table = lancedb.connect(address, storage_options=options).create_table("pages", content, mode="overwrite")
    table.merge_insert("page").when_not_matched_insert_all().execute(content.slice(0, 5))  # nothing new
    requests.clear()
    five = [table.search(vector.as_py()).distance_type("dot").limit(10) for vector in content["vector"][:5]]
    found[address] = [each.to_arrow()["page"].to_pylist() for each in five]
    where, first = "S3" if options else "disk", found[address][0][:2]
    print(f"{where:>4}: {table.count_rows()} rows, the first finds {first}")
on_disk, on_s3 = found.values()
run.record("s3/requests", len(requests))
run.record("s3/rows", table.count_rows())
run.record("s3/same-as-disk", int(on_disk == on_s3))
server.stop()
print(f"same pages in the same order: {on_disk == on_s3}; five searches made {len(requests)} requests")

# %% [markdown]
# On a cluster, `s3://…` is a table that all workers can reach. But each search makes requests, which cost milliseconds
# and money; so serve from a copy on a fast disk.
#
# ## 4. On paper
#
# What would your collection cost? `on_paper` multiplies assumptions. Every one of them is an argument, so replace it by
# your own. *Published* (us-east-1, list prices, look them up again):
#
# - GPU: an L4 computes [121 TFLOPS](https://www.nvidia.com/en-us/data-center/l4/) at 16 bits (that page gives twice
#   this, for sparse matrices), [g6.xlarge](https://aws.amazon.com/ec2/instance-types/g6/) costs about 0.80 dollars an hour
# - [S3](https://aws.amazon.com/s3/pricing/): 0.023 dollars per GB per month
# - memory: about 5 dollars per GB per month, from
#   [r7g.large](https://aws.amazon.com/ec2/instance-types/r7g/) (16 GiB for 0.107 dollars an hour)
# - many vectors: [ColPali](https://arxiv.org/abs/2407.01449), 1,030 vectors of 128 components a page
#
# *Assumed*, not published: a GPU reaches 30% of its peak; a forward pass takes 2 operations for each parameter and
# token; a page id takes 24 bytes.


# %%
BITS = {"float32": 32, "int8": 8, "bits": 1}


def on_paper(
    pages, precision="float32", vectors=1, dimensions=2048, id_bytes=24, parameters=2e9, tokens=350,
    peak=121e12, share_of_peak=0.3, gpu_hour=0.80, stored_gb_month=0.023, memory_gb_month=5.0,
):  # fmt: skip
    """GPU hours to encode so many pages; GB to store and to hold in memory; dollars once and a month."""
    hours = pages * tokens * 2 * parameters / (peak * share_of_peak) / 3600
    gigabytes = pages * (vectors * dimensions * BITS[precision] / 8 + id_bytes) / 1e9
    costs = {"GPU hours": hours, "dollars to encode": hours * gpu_hour, "GB": gigabytes}
    costs["dollars a month on S3"] = gigabytes * stored_gb_month
    costs["dollars a month in memory"] = gigabytes * (stored_gb_month + memory_gb_month)
    return costs


# %%
SHAPES = {"single": {}, "multi": {"vectors": 1030, "dimensions": 128}}
SIZES = [10**power for power in range(3, 9)]
keys = [(shape, precision, size) for shape in SHAPES for precision in BITS for size in SIZES]
paper = {key: on_paper(key[2], key[1], **SHAPES[key[0]]) for key in keys}
for (shape, precision, size), costs in paper.items():
    run.record(f"cost/{size}/gpu-hours", costs["GPU hours"])
    run.record(f"cost/{size}/{shape}/{precision}/gb", costs["GB"])
    run.record(f"cost/{size}/{shape}/{precision}/month", costs["dollars a month in memory"])
most = pd.DataFrame({key[:2]: costs for key, costs in paper.items() if key[2] == SIZES[-1]}).T
print(f"On paper, {SIZES[-1]:,} pages:")
display(most.map("{:,.0f}".format))
lines = {}
for shape, precision in (("single", "float32"), ("single", "bits"), ("multi", "float32"), ("multi", "bits")):
    lines[f"{shape}, {precision}"] = [
        (size, paper[shape, precision, size]["dollars a month in memory"]) for size in SIZES
    ]
figure = plots.by_pages(lines, "dollars a month (logarithmic scale)", "Index held in memory, on paper")
run.figure("cost", figure, "Dollars a month by pages for one vector or many a page, as float32 or bits.")
figure

# %% [markdown]
# Encoding is paid once, memory every month. Many vectors multiply bytes, not GPU hours.
#
# ### Check the paper
# At the small end we can measure: we write made vectors with `FULL` components into LanceDB, and divide the bytes of its
# files by those on paper. Above 1, the files add something, such as headers. Below 1, Lance has compressed the page ids,
# which weigh most beside small vectors. Predict: for which precision is the ratio furthest from 1?
#
# GPU hours cannot be checked here: measure a thousand pages on your GPU first.

# %%
FULL, rng = P.dimensions[0], np.random.default_rng(SEED)


def file_ratio(pages, vectors, precision):
    """The bytes of LanceDB's files of so many made pages, over those on paper."""
    kind = {"float32": np.float32, "int8": np.int8, "bits": np.uint8}[precision]
    width = FULL * BITS[precision] // 8 // np.dtype(kind).itemsize
    numbers = rng.integers(0, 127, pages * vectors * width).astype(kind)
    column = pa.FixedSizeListArray.from_arrays(pa.array(numbers), width)
    if vectors > 1:
        ends = np.arange(0, pages * vectors + 1, vectors, dtype=np.int32)
        column = pa.ListArray.from_arrays(pa.array(ends), column)
    ids = [f"{wanted[k % len(wanted)]}-{k}" for k in range(pages)]
    shutil.rmtree(run.folder / "index-size", ignore_errors=True)
    database = lancedb.connect(str(run.folder / "index-size"))
    database.create_table("pages", pa.table({"page": ids, "vector": column}))
    about = {"dimensions": FULL, "id_bytes": np.mean([len(page) for page in ids])}
    expected = on_paper(pages, precision, vectors, **about)["GB"] * 1e9
    return scale.file_bytes(run.folder / "index-size") / expected


# %%
ratios = {}
for pages, vectors in ((1_000, 1), (10_000, 1), (500, 63)):
    for precision in BITS:
        ratios[pages, vectors, precision] = file_ratio(pages, vectors, precision)
        shape = "single" if vectors == 1 else "multi"
        run.record(f"size/ratio/{precision}/{shape}-{pages}", ratios[pages, vectors, precision])
for precision in BITS:
    run.record(f"size/ratio/{precision}", max(ratios[pages, 1, precision] for pages in (1_000, 10_000)))
pages, vectors, worst = max(ratios, key=lambda key: abs(ratios[key] - 1))
print(f"Furthest from 1: {worst}, with {pages:,} pages, {ratios[pages, vectors, worst]:.3f}")
pd.Series(ratios).rename_axis(["pages", "vectors a page", "precision"]).unstack()[list(BITS)].round(3)

# %% [markdown]
# ### Exercise 3: what fits?
# A machine gives 64 GB of memory to an index of **ten million pages**. Which of the six ways fit? Answer with a set of
# pairs, such as `{("single", "bits")}`. Use `on_paper`.
#
# <details><summary>Hint</summary>
#
# `paper[shape, precision, 10**7]["GB"]` for each shape and precision.
#
# </details>

# %%
# <solution> stub: fits = ...
fits = {
    (shape, precision) for shape in SHAPES for precision in BITS if paper[shape, precision, 10**7]["GB"] <= 64
}
# </solution>
tests = [
    (lambda a: isinstance(a, set) and all(len(pair) == 2 for pair in a), "give a set of pairs"),
    (lambda a: ("single", "bits") in a, "one vector of bits is the smallest: it fits"),
    (lambda a: ("single", "float32") not in a, "2,048 components of four bytes, ten million times: 82 GB"),
    (lambda a: not any(shape == "multi" for shape, _ in a), "1,030 vectors a page: look at the GB of each"),
    (lambda a: a == {("single", "int8"), ("single", "bits")}, "int8 takes a quarter of float32"),
]
check("what fits", fits, tests)
run.record("memory/most", max(value for name, value in run.metrics.items() if name.startswith("memory/")))
run.save()

# %% [markdown]
# **Go deeper**: [Ray Data's guide to batch inference](https://docs.ray.io/en/latest/data/batch_inference.html);
# [actors that die](https://docs.ray.io/en/latest/ray-core/fault_tolerance/actors.html);
# [Sentence Transformers on several GPUs](https://sbert.net/docs/sentence_transformer/training/distributed.html).
#
# ## Three questions
#
# **1.** You move a training from one GPU to four, with the same batch on each and `gather_across_devices=False`. What
# changes for one query?
#
# - a) it meets four times the negatives · b) it meets the same number · c) a quarter
#
# <details><summary>Answer</summary>
#
# **b.** Each process uses its own batch only. Not a: that needs gathering. Not c: the batch of each GPU is the same.
#
# </details>
#
# **2.** A worker dies after it wrote a batch. Your script uses a plain `add`. What is in the table at the end?
#
# - a) a hole · b) a batch twice · c) exactly what was wanted
#
# <details><summary>Answer</summary>
#
# **b.** Ray repeats what was not reported. Not a: nothing is left out. Not c: that needs a write that can be repeated.
#
# </details>
#
# **3.** Your index of ten million pages costs too much each month. What do you try first?
#
# - a) fewer GPU hours · b) bits with rescoring, from object storage or disk · c) more workers
#
# <details><summary>Answer</summary>
#
# **b.** Memory is the monthly part, and bits take 1/32 (lesson 10 measures what they lose). Not a, not c: encoding is
# paid once.
#
# </details>

# %% [markdown]
# ## You have
# - trained on two processes, and seen loss and gradients equal those of one process with the whole batch
# - found pages that were negatives of their own queries across processes, and removed them with `split_batches`
# - encoded PDFs on Ray Data with one worker and two, with a script that needs one address for a cluster
# - killed a worker and a job, and counted what was lost and doubled
# - searched the same index on disk and on object storage, and checked a bill on paper against files
#
# **Next**: this is the last lesson. The final project stands in lesson 12: take your own pages.
