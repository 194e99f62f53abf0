"""PyTorch's counterparts of Causeway's operators and of its training steps, for scripts/bench_against.

A peer is a function that makes its inputs and returns the calls to time. Packages that are not installed are named by
missing(). One sequence of the same number of tokens is what every peer computes, unless it says otherwise: most have no
documents, so they do not keep documents apart.
"""

import importlib
import importlib.util
import math
import statistics
import time

import torch
import torch.nn.functional as F


def missing(module):
    """Why a package cannot be used, or None. It is imported: one that is installed may have been built for another
    PyTorch."""
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken extension raises anything
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


class Clock:
    """The median time of a call, after runs that are not counted: three, or one where a run takes long."""

    def __init__(self, device, seconds):
        self.device, self.seconds = device, seconds

    def once(self, call):
        if self.device != "cuda":
            begin = time.perf_counter()
            call()
            return time.perf_counter() - begin
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1e3

    def median(self, call):
        first = self.once(call)
        if first < self.seconds / 10:
            for _ in range(2):
                self.once(call)
        times = [self.once(call)]
        while len(times) < 20 and sum(times) < self.seconds:
            times.append(self.once(call))
        return statistics.median(times)


def forward_and_backward(function, inputs):
    """The calls that run `function(*inputs)`, and its backward pass alone."""
    for x in inputs:
        x.requires_grad_()
    y = function(*inputs)
    gradient = torch.randn_like(y)

    def forward():
        with torch.no_grad():
            function(*inputs)

    return {"forward": forward,
            "backward": lambda: torch.autograd.grad(y, inputs, gradient, retain_graph=True)}


def random(shape, like, low=-1.0, high=1.0, dtype=None):
    return torch.empty(shape, device=like["device"], dtype=dtype or like["dtype"]).uniform_(low, high)


def mamba_ssm_scan(tokens, channels, like, states=16):
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    u, delta, z = (random((1, channels, tokens), like) for _ in range(3))
    A = random((channels, states), like, -16, -1, torch.float32)
    B, C = (random((1, states, tokens), like) for _ in range(2))
    D, bias = (random((channels,), like, dtype=torch.float32) for _ in range(2))
    return forward_and_backward(
        lambda u, delta, A, B, C, D, z, bias: selective_scan_fn(u, delta, A, B, C, D, z, bias, True),
        [u, delta, A, B, C, D, z, bias])


def causal_conv1d_conv(tokens, channels, like):
    from causal_conv1d import causal_conv1d_fn
    x = random((1, tokens, channels), like).transpose(1, 2)  # channel last, as Causeway's
    return forward_and_backward(lambda x, w, b: causal_conv1d_fn(x, w, b, activation="silu"),
                                [x, random((channels, 4), like), random((channels,), like)])


def fla_conv(tokens, channels, like):
    from fla.modules.convolution import causal_conv1d

    def run(x, w, b):
        y = causal_conv1d(x, w, b, activation="silu")
        return y[0] if isinstance(y, tuple) else y

    return forward_and_backward(run, [random((1, tokens, channels), like), random((channels, 4), like),
                                      random((channels,), like)])


def torch_conv(tokens, channels, like):
    return forward_and_backward(
        lambda x, w, b: F.silu(F.conv1d(x, w, b, padding=3, groups=channels)[..., :tokens]),
        [random((1, channels, tokens), like), random((channels, 1, 4), like), random((channels,), like)])


def torch_attention(tokens, channels, like):
    head = min(128, channels // 8)
    q, k, v = (random((1, channels // head, tokens, head), like) for _ in range(3))
    return forward_and_backward(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), [q, k, v])


def torch_norm(tokens, channels, like):
    return forward_and_backward(lambda x, w: F.rms_norm(x, (channels,), w),
                                [random((tokens, channels), like), random((channels,), like)])


def torch_gemm(tokens, channels, like):
    a, b = random((tokens, channels), like), random((2 * channels, channels), like)
    return {"": lambda: a @ b.T}


# Causeway's operator, the package, the peer. All take one sequence.
OPERATORS = [("selective_scan", "mamba_ssm", mamba_ssm_scan),
             ("causal_conv", "causal_conv1d", causal_conv1d_conv),
             ("causal_conv", "fla", fla_conv),
             ("causal_conv", "torch", torch_conv),
             ("attention", "torch", torch_attention),
             ("rms_norm", "torch", torch_norm),
             ("gemm", "torch", torch_gemm)]


CHUNK = 16  # tokens of a chunk; torch.compile unrolls the loop over them


def entering_states(decay, added):
    """The state that enters each chunk, from what the chunks do: state_out = decay * state_in + added, (chunks, D, N).
    In log2(chunks) steps, each of which combines twice as many chunks as the one before."""
    shift = 1
    while shift < len(added):
        added = torch.cat([added[:shift], added[shift:] + decay[shift:] * added[:-shift]])
        decay = torch.cat([decay[:shift], decay[shift:] * decay[:-shift]])
        shift *= 2
    return torch.cat([torch.zeros_like(added[:1]), added[:-1]])


def scan_in_chunks(u, delta, A, B, C, D):
    """The selective scan of one sequence by PyTorch's operators. u, delta: (T, D); A: (D, N); B, C: (T, N). All chunks
    advance at the same time, token by token; then their states are carried from one to the next."""
    tokens, channels = u.shape
    chunks = tokens // CHUNK
    split = [x.reshape(chunks, CHUNK, -1).unbind(1) for x in (u, delta, B, C)]
    h, ys, sums = u.new_zeros((chunks, channels, A.shape[1]), dtype=torch.float32), [], []
    total = torch.zeros_like(split[1][0], dtype=torch.float32)
    for x, step, b, _ in zip(*split):
        h = torch.exp(step.float()[..., None] * A) * h + (step * x).float()[..., None] * b.float()[:, None, :]
        total = total + step.float()
        ys.append(h)
        sums.append(total)
    before = entering_states(torch.exp(total[..., None] * A), h)
    y = torch.stack([((state + torch.exp(total[..., None] * A) * before) * c.float()[:, None, :]).sum(-1)
                     for state, total, c in zip(ys, sums, split[3])], 1)
    return (y.reshape(tokens, channels) + u.float() * D).to(u.dtype)


class TorchMixer(torch.nn.Module):
    """Mamba's mixer (arXiv 2312.00752) by PyTorch's operators."""

    def __init__(self, width, states=16):
        super().__init__()
        inner, self.states, self.rank = 2 * width, states, math.ceil(width / 16)
        self.in_proj = torch.nn.Linear(width, 2 * inner, bias=False)
        self.conv = torch.nn.Conv1d(inner, inner, 4, groups=inner, padding=3)
        self.x_proj = torch.nn.Linear(inner, self.rank + 2 * states, bias=False)
        self.dt_proj = torch.nn.Linear(self.rank, inner)
        self.A_log = torch.nn.Parameter(torch.log(torch.arange(1.0, states + 1)).repeat(inner, 1))
        self.D = torch.nn.Parameter(torch.ones(inner))
        self.out_proj = torch.nn.Linear(inner, width, bias=False)

    def forward(self, x):
        x, z = self.in_proj(x).chunk(2, -1)
        u = F.silu(self.conv(x.transpose(1, 2))[..., :x.shape[1]]).transpose(1, 2)
        dt, B, C = self.x_proj(u).split([self.rank, self.states, self.states], -1)
        A = -torch.exp(self.A_log.float())
        y = scan_in_chunks(u[0], F.softplus(self.dt_proj(dt))[0], A, B[0], C[0], self.D.float())
        return self.out_proj(y[None] * F.silu(z))


class Block(torch.nn.Module):
    """Residual branches, each with a norm before it."""

    def __init__(self, mixers, width):
        super().__init__()
        self.mixers = torch.nn.ModuleList(mixers)
        self.norms = torch.nn.ModuleList(torch.nn.RMSNorm(width) for _ in mixers)

    def forward(self, x):
        for norm, mixer in zip(self.norms, self.mixers):
            x = x + mixer(norm(x))
        return x


class Stack(torch.nn.Module):
    """Embedding, blocks, head and loss, as in Causeway's model. `make` returns the mixers of a block."""

    def __init__(self, make, layers, width, vocabulary):
        super().__init__()
        self.embedding = torch.nn.Embedding(vocabulary, width)
        self.blocks = torch.nn.ModuleList(Block(make(width), width) for _ in range(layers))
        self.norm = torch.nn.RMSNorm(width)

    def forward(self, ids):
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x)
        logits = self.norm(x) @ self.embedding.weight.T
        return F.cross_entropy(logits[0, :-1].float(), ids[0, 1:])


def torch_model(layers, width, vocabulary):
    return Stack(lambda width: [TorchMixer(width)], layers, width, vocabulary)


def mamba_ssm_model(layers, width, vocabulary):
    from mamba_ssm import Mamba
    return Stack(lambda width: [Mamba(width)], layers, width, vocabulary)


class TorchAttention(torch.nn.Module):
    """Causal attention with rotary positions (arXiv 2104.09864). On a GPU cuDNN computes it, where PyTorch has it."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.projections = torch.nn.Linear(width, 3 * width, bias=False)
        self.out_proj = torch.nn.Linear(width, width, bias=False)

    def forward(self, x):
        tokens, head = x.shape[1], x.shape[2] // self.heads
        q, k, v = (part.unflatten(2, (self.heads, head)).transpose(1, 2) for part in self.projections(x).chunk(3, -1))
        frequencies = 10000.0 ** (-torch.arange(0, head, 2, device=x.device) / head)
        angles = torch.arange(tokens, device=x.device)[:, None] * frequencies
        cosine, sine = angles.cos(), angles.sin()

        def rotated(x):
            a, b = x.float().chunk(2, -1)
            return torch.cat([a * cosine - b * sine, b * cosine + a * sine], -1).to(x.dtype)

        y = F.scaled_dot_product_attention(rotated(q), rotated(k), v, is_causal=True)
        return self.out_proj(y.transpose(1, 2).flatten(2))


class TorchGatedMlp(torch.nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.fc1 = torch.nn.Linear(width, 2 * inner, bias=False)
        self.fc2 = torch.nn.Linear(inner, width, bias=False)

    def forward(self, x):
        a, b = self.fc1(x).chunk(2, -1)
        return self.fc2(F.silu(a) * b)


def transformer(heads, inner):
    """The model of attention and gated MLPs, as a function like those above."""
    return lambda layers, width, vocabulary: Stack(
        lambda width: [TorchAttention(width, heads), TorchGatedMlp(width, inner)], layers, width, vocabulary)


def fastest_attention():
    """A context in which cuDNN computes attention, or the fastest that this PyTorch has."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    order = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    return sdpa_kernel(order, set_priority=True)


class TransformersModel(torch.nn.Module):
    def __init__(self, layers, width, vocabulary):
        super().__init__()
        from transformers import MambaConfig, MambaForCausalLM
        self.model = MambaForCausalLM(MambaConfig(vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers,
                                                  use_cache=False))

    def forward(self, ids):
        return self.model(input_ids=ids, labels=ids, use_cache=False).loss


# The package, what it is, the model, and whether its time is a loop over tokens in Python, so that it is measured on
# fewer tokens.
MODELS = [("mamba_ssm", "mamba_ssm's Mamba blocks", mamba_ssm_model, False),
          ("torch", "a Mamba of PyTorch's operators", torch_model, False),
          ("transformers", "transformers' MambaForCausalLM", TransformersModel, True)]


def training_step(make, layers, width, vocabulary, tokens, like, compiled=False, update=True):
    """The call that runs one step: forward, loss, backward and, unless `update` is false, AdamW."""
    model = make(layers, width, vocabulary).to(like["device"], like["dtype"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=like["device"] == "cuda")
    ids = torch.randint(vocabulary, (1, tokens), device=like["device"])
    if compiled:  # each block alone: all have the same code, which is then compiled once
        for block in model.blocks:
            block.compile()

    def step():
        model.zero_grad(set_to_none=True)
        with fastest_attention():
            model(ids).backward()
        if update:
            optimizer.step()

    return step
