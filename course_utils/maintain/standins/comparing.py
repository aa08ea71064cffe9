"""The first new layer of the reranker starts as the dot product of query and document, which no short training finds.

The last token attends to the last token of the query with heads 0 and 2, and to that of the document with heads 1 and
3, and copies `N` principal directions of each. The gated network then multiplies them one by one: with two hidden
units for each direction, silu(z) u + silu(-z) (-u) = z u, exactly. The sum goes where it moves yes against no.
"""

import random

import torch
import torch.nn.functional as F

from course_utils.maintain.standins.reranker import PAGE, RerankerTrainer, pair

N = 94  # directions of query and of document: 2 for the scores' and the last state's mean, 2 spare, of 192
HEAD = 48
QUERY, DOCUMENT, OTHER = 22, 23, 21  # dimensions of a key that the rotary positions turn least
SHARP = 1.5  # weight of the keys' norm: attention to a right token beats 80 others
LOUD = 6.0  # how much longer what is copied is than the last token's own state
STEEP = 25.0  # of the score, by cosine


@torch.no_grad()
def start_to_compare(trainer: RerankerTrainer, batches: int = 6, queries: int = 24) -> None:
    """Set the weights of the first new layer from states of some pairs; the score is then about yes at the middle."""
    states, roles, last, ends = _states(trainer, batches, queries)
    gain, width = trainer.gain, states.shape[1]
    layer = trainer.model.model.language_model.layers[trainer.middle]
    attention, mlp = layer.self_attn, layer.mlp
    table = trainer.model.get_input_embeddings().weight
    says = gain * (table[trainer.yes] - table[trainer.no])

    # keys name the token's role; queries of all heads are constant
    counts = torch.bincount(roles, minlength=3)
    weights = torch.tensor([1.0, 1.0, 2 * counts[0] / counts[2]])[roles]
    named = _fit(states, F.one_hot(roles, 3).float(), weights, 1.0)
    attention.k_proj.weight.zero_()
    attention.q_proj.weight.zero_()
    for begin in range(0, attention.k_proj.out_features, HEAD):
        for dimension, row in zip((QUERY, DOCUMENT, OTHER), named.T, strict=True):
            attention.k_proj.weight[begin + dimension] = row / named.norm(dim=0).max()
    for head, dimension in enumerate((QUERY, DOCUMENT, QUERY, DOCUMENT)):
        attention.q_proj.weight[HEAD * head + dimension] = F.normalize(_unit(last).mean(0), dim=0)
    attention.k_norm.weight.fill_(SHARP)

    # values hold the principal directions, less their mean, and a one, all of them times a state's length
    vectors = F.normalize(ends * gain, dim=2)
    centred = (vectors - vectors.mean(0)).flatten(0, 1)
    directions = torch.linalg.svd(centred, full_matrices=False)[2][:N]
    one = _fit(ends.flatten(0, 1), torch.ones(2 * len(ends), 1), torch.ones(2 * len(ends)), 5.0).squeeze(1)
    one = one * (length := (ends * gain).norm(dim=2).mean())
    attention.v_proj.weight.zero_()
    attention.v_proj.weight[:N] = directions * gain - (directions @ vectors.mean((0, 1)))[:, None] * one
    attention.v_proj.weight[-1] = one

    # the last token gets them at right angles to each other, to the score and to its own mean
    fixed = torch.stack([says, last.mean(0)], dim=1)
    free = torch.randn(width, width - 2, generator=torch.Generator().manual_seed(0))
    basis = torch.linalg.qr(torch.cat([fixed, free], dim=1))[0].T
    of_query, of_document, spare = basis[2 : 2 + N], basis[2 + N : 2 + 2 * N], basis[-1]
    loud = LOUD * last.norm(dim=1).mean()
    attention.o_proj.weight.zero_()
    for k in range(N):
        begin = 2 * HEAD * (k // HEAD) + k % HEAD
        attention.o_proj.weight[:, begin] = loud / length * of_query[k]
        attention.o_proj.weight[:, begin + HEAD] = loud / length * of_document[k]
    attention.o_proj.weight[:, 3 * HEAD - 1] = 0.3 * loud / length * spare

    # products; those of the spare direction are taken off, so that the middle of the scores is zero
    gates, ups = (torch.cat([rows, spare[None]]) for rows in (of_query, of_document))
    mlp.gate_proj.weight[: 2 * N + 2] = torch.cat([gates, -gates])
    mlp.up_proj.weight[: 2 * N + 2] = torch.cat([ups, -ups])
    sums = STEEP * loud / (width / 2 * says.norm() * width**0.5) * F.normalize(says, dim=0)
    mlp.down_proj.weight.zero_()
    mlp.down_proj.weight[:, : 2 * N + 2] = sums[:, None]
    offsets, taken, step = [N, 2 * N + 1], 0.0, 1.0
    mlp.down_proj.weight[:, offsets] = 0
    middle = _middle(trainer)
    for _ in range(4):  # what is taken off moves the score a little less than in proportion
        taken += step
        mlp.down_proj.weight[:, offsets] = -taken * sums[:, None]
        before, middle = middle, _middle(trainer)
        if abs(middle) < 0.1 or before == middle:
            break
        step *= middle / (before - middle)


def _unit(states: torch.Tensor) -> torch.Tensor:
    """States as a layer's norm gives them on."""
    return states / states.square().mean(-1, keepdim=True).sqrt()


def _fit(x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor, ridge: float) -> torch.Tensor:
    """Weighted ridge regression of y (n, m) on x (n, d): (d, m)."""
    weighted = x * weights[:, None]
    return torch.linalg.solve(x.T @ weighted + ridge * torch.eye(x.shape[1]), weighted.T @ y)


def _pairs(trainer: RerankerTrainer, queries: int, shows: bool, rng: random.Random) -> tuple[list[str], list[int]]:
    """Pairs of queries and their candidates, and the drawings that they show."""
    own = rng.sample(range(trainer.count), min(queries, trainer.count))
    pairs = [(trainer.asked(k, rng), other) for k in own for other in trainer.candidates(k, rng)]
    drawn = [trainer.drawing(k, rng) for _, k in pairs] if shows else []
    return [pair(text, PAGE if shows else trainer.document(k, rng)) for text, k in pairs], drawn


def _states(trainer: RerankerTrainer, batches: int, queries: int) -> tuple[torch.Tensor, ...]:
    """Of many pairs: all tokens' states and roles; last states; states of the two ends, (pairs, 2, 192)."""
    rng, states, roles, last, ends = random.Random("comparing"), [], [], [], []
    for batch in range(2 * batches):
        found = trainer.read(*_pairs(trainer, queries, batch % 2 == 0, rng))[1]
        role = torch.full(found.mask.shape, 2)
        role.scatter_(1, found.ends, torch.tensor([[0, 1]]).expand_as(found.ends))
        told = found.mask.bool()
        told[:, -1] = False
        states.append(_unit(found.states[told]))
        roles.append(role[told])
        last.append(found.states[:, -1])
        ends.append(_unit(found.at_ends()))
    return tuple(torch.cat(part) for part in (states, roles, last, ends))


def _middle(trainer: RerankerTrainer) -> float:
    """Half way between the mean score of right pages and that of the others."""
    both, drawn = _pairs(trainer, 24, True, random.Random("middle"))
    scores = trainer.score(trainer.read(both, drawn)[0])
    right = torch.zeros(len(scores), dtype=torch.bool)
    right[:: len(scores) // min(24, trainer.count)] = True
    return (scores[right].mean() + scores[~right].mean()).item() / 2
