"""Losses that several trainings share."""

import torch
import torch.nn.functional as F


def state(hidden: torch.Tensor, ids: torch.Tensor, end: int) -> torch.Tensor:
    """Unit vectors (n, width) at the first `end` token of each row: where the embedding model pools."""
    at = (ids == end).int().argmax(1)
    return F.normalize(hidden[torch.arange(len(ids)), at], dim=-1)


def both_ways(logits: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of each query's page and of each page's query; they lie on the diagonal."""
    labels = torch.arange(len(logits))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def match(scale: torch.Tensor, queries: torch.Tensor, documents: torch.Tensor, ids: list[str], pages: int):
    """Each query's document among all, each document's query; and the share of pages that their queries find.

    The first `pages` documents are pages and count twice as much as the others, pages told in words. The same
    page twice in a batch (`ids`) is not its own negative.
    """
    logits = scale * queries @ documents.T
    order = torch.tensor([ids.index(page) for page in ids])
    same = (order[:, None] == order) & ~torch.eye(len(ids), dtype=torch.bool)
    logits = logits.masked_fill(same, -torch.inf)
    labels = torch.arange(len(ids))
    each = sum(F.cross_entropy(found, labels, reduction="none") for found in (logits, logits.T)) / 2
    right = (logits[:pages].argmax(1) == labels[:pages]).float().mean().item()
    return each[:pages].mean() + 0.5 * each[pages:].mean(), right


def next_token(head, hidden: torch.Tensor, ids: torch.Tensor, begin: int, padding: int):
    """Loss of each token after place `begin` but for the padding, and the share that is guessed right."""
    says, asked = hidden[:, begin:-1].flatten(0, 1), ids[:, begin + 1 :].flatten()
    kept = asked != padding
    logits = head(says[kept])
    return F.cross_entropy(logits, asked[kept]), (logits.argmax(1) == asked[kept]).float().mean().item()
