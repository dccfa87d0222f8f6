"""Train and export docs_llama: `python -m models.docs_llama.train FOLDER`, from the root of the repository.

FOLDER is `html/_sources` of Debian's package python3.11-doc: the text of Python's documentation. Every fiftieth of its
files is held out for evaluation. See README.md for the commands.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.docs_llama.tokenizer import Tokenizer

HERE = Path(__file__).parent
PARTS = ("library", "reference", "tutorial", "howto", "faq", "using", "extending", "c-api")
VOCABULARY, WIDTH, LAYERS, HEADS, GROUPS, HIDDEN, LENGTH = 1024, 128, 6, 4, 2, 352, 256
SIZE = WIDTH // HEADS
BATCH, STEPS, RATE = 8, 2000, 4e-3
SEED, OPSET, THREADS = 0, 17, 1
EVALUATION, CALIBRATION = 48, 64


class Norm(nn.Module):
    """RMSNorm, written out as exporters write it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5))


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary position embedding, in halves."""
    left, right = x[..., : SIZE // 2], x[..., SIZE // 2 :]
    return x * cosine + torch.cat((-right, left), dim=-1) * sine


class Attention(nn.Module):
    """Grouped-query attention with keys and values of what came before."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.o = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.k, self.v = (nn.Linear(WIDTH, GROUPS * SIZE, bias=False) for _ in range(2))

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], mask: Tensor, past: tuple[Tensor, Tensor]) -> Any:
        batch, length, _ = x.shape
        q = rotate(self.q(x).view(batch, length, HEADS, SIZE).transpose(1, 2), *angles)
        k = rotate(self.k(x).view(batch, length, GROUPS, SIZE).transpose(1, 2), *angles)
        v = self.v(x).view(batch, length, GROUPS, SIZE).transpose(1, 2)
        k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
        whole = k.shape[2]
        keys, values = (
            t[:, :, None].expand(batch, GROUPS, HEADS // GROUPS, whole, SIZE).reshape(batch, HEADS, whole, SIZE)
            for t in (k, v)
        )
        scores = torch.matmul(q, keys.transpose(2, 3)) * SIZE**-0.5 + mask
        mixed = torch.matmul(torch.softmax(scores, dim=-1), values)
        return self.o(mixed.transpose(1, 2).reshape(batch, length, WIDTH)), k, v


class Block(nn.Module):
    """x + attention(norm(x)), then x + down(silu(gate(norm(x))) * up(norm(x)))."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after, self.attention = Norm(), Norm(), Attention()
        self.gate, self.up = (nn.Linear(WIDTH, HIDDEN, bias=False) for _ in range(2))
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], mask: Tensor, past: tuple[Tensor, Tensor]) -> Any:
        mixed, k, v = self.attention(self.before(x), angles, mask, past)
        x = x + mixed
        y = self.after(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y)), k, v


class Llama(nn.Module):
    """Tokens to logits; the output matrix is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = Norm()
        frequencies = 10000.0 ** (-torch.arange(0, SIZE, 2) / SIZE)
        self.register_buffer("frequencies", torch.cat((frequencies, frequencies)), persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                scale = 0.02 if "o.weight" not in name and "down" not in name else 0.02 / (2 * LAYERS) ** 0.5
                nn.init.normal_(parameter, std=scale)

    def forward(self, input_ids: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        length, before = input_ids.shape[1], past[0].shape[2]
        positions = torch.arange(before, before + length)
        angle = positions[:, None] * self.frequencies
        angles = torch.cos(angle), torch.sin(angle)
        mask = torch.where(torch.arange(before + length)[None] > positions[:, None], -1e9, 0.0)
        x, present = self.embed(input_ids), []
        for index, block in enumerate(self.blocks):
            x, k, v = block(x, angles, mask, (past[2 * index], past[2 * index + 1]))
            present += [k, v]
        return functional.linear(self.norm(x), self.embed.weight), *present


def empty(batch: int) -> list[Tensor]:
    """Keys and values of nothing."""
    return [torch.zeros(batch, GROUPS, 0, SIZE) for _ in range(2 * LAYERS)]


def read(folder: Path) -> tuple[str, str]:
    """The text for training and that for evaluation."""
    files = sorted(file for part in PARTS for file in (folder / part).rglob("*.rst.txt"))
    texts = [file.read_text(encoding="utf-8") for file in files]
    return "\n".join(t for i, t in enumerate(texts) if i % 50), "\n".join(texts[::50])


def train(model: Llama, tokens: NDArray[np.int64], steps: int) -> None:
    """AdamW with warm-up and a cosine, in bfloat16 where that is enough."""
    groups = [
        {"params": [p for p in model.parameters() if p.dim() == 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() != 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE, total_steps=steps, pct_start=0.05, final_div_factor=20, cycle_momentum=False
    )
    rng, start = np.random.default_rng(SEED), time.monotonic()
    for step in range(steps):
        places = rng.integers(0, len(tokens) - LENGTH - 1, BATCH)
        rows = torch.from_numpy(np.stack([tokens[p : p + LENGTH + 1] for p in places]))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(rows[:, :-1], *empty(BATCH))[0]
        loss = functional.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss.item():.3f}, {time.monotonic() - start:.0f} s", flush=True)


def rows(tokens: NDArray[np.int64], count: int, length: int) -> dict[str, NDArray[Any]]:
    """Samples spread over a text as the arrays of an .npz file; the labels are the tokens that follow."""
    places = np.linspace(0, len(tokens) - length - 1, count).astype(np.int64)
    cut = np.stack([tokens[place : place + length + 1] for place in places])
    past = {name: np.zeros((count, GROUPS, 0, SIZE), np.float32) for name in past_names()}
    return {"input_ids": cut[:, :-1], **past, "labels": cut[:, 1:]}


def past_names(stem: str = "past_key_values") -> list[str]:
    """Names of keys and values, in order."""
    return [f"{stem}.{layer}.{kind}" for layer in range(LAYERS) for kind in ("key", "value")]


def export(model: Llama, path: Path) -> None:
    """Writes the model with dynamic batch, length and past."""
    names = ["input_ids", *past_names()], ["logits", *past_names("present")]
    axes: dict[str, dict[int, str]] = {name: {0: "batch", 2: "past"} for name in past_names()}
    axes |= {name: {0: "batch", 2: "total"} for name in past_names("present")}
    axes |= {"input_ids": {0: "batch", 1: "length"}, "logits": {0: "batch", 1: "length"}}
    example = torch.randint(0, VOCABULARY, (2, 5)), *(torch.randn(2, GROUPS, 3, SIZE) for _ in past_names())
    torch.onnx.export(
        model, example, path, input_names=names[0], output_names=names[1], dynamic_axes=axes, opset_version=OPSET,
        dynamo=False, do_constant_folding=False,
    )  # fmt: skip
    proto = onnx.load(path)
    for node in proto.graph.node:
        node.ClearField("doc_string")
    proto.producer_version = ""
    onnx.save(proto, path)


def perplexity(model: Llama, tokens: NDArray[np.int64], labels: NDArray[np.int64]) -> float:
    """Of the float model on the evaluation rows."""
    with torch.no_grad():
        logits = model(torch.from_numpy(tokens), *empty(len(tokens)))[0]
    return float(functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(labels).flatten()).exp())


def main() -> None:
    """Trains on the documentation and writes the files beside this one."""
    torch.manual_seed(SEED)
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    training, held_out = read(Path(sys.argv[1]))
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else STEPS
    tokenizer = Tokenizer.learn(training, VOCABULARY)
    tokenizer.save(HERE / "tokenizer.txt")
    tokens, unseen = (np.asarray(tokenizer.encode(text), np.int64) for text in (training, held_out))
    print(f"{len(training)} characters, {len(tokens)} tokens to train on, {len(unseen)} held out", flush=True)
    model = Llama()
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    train(model, tokens, steps)
    model.eval()
    evaluation = rows(unseen, EVALUATION, LENGTH)
    np.savez_compressed(HERE / "evaluation.npz", allow_pickle=False, **evaluation)
    np.savez_compressed(HERE / "calibration.npz", allow_pickle=False, **rows(tokens, CALIBRATION, LENGTH))
    print(f"perplexity {perplexity(model, evaluation['input_ids'], evaluation['labels']):.4f}")
    export(model, HERE / "model.onnx")


if __name__ == "__main__":
    main()
