"""Networks and training steps of scripts/bench_peers.py, written out in PyTorch.

A setting joins, with plus signs, what PyTorch's users turn on for speed: ``channels_last`` (the
memory format), ``bfloat16`` (autocast) and ``compile`` (torch.compile); ``plain`` is none of them.
Optimisers are fused in all; on GPUs products are TF32 and cuDNN looks for its fastest algorithm.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
torch.set_default_device(DEVICE)
torch.backends.cuda.matmul.allow_tf32 = True
torch.backends.cudnn.benchmark = True

SETTINGS = (
    ("channels_last", "channels_last+bfloat16", "channels_last+bfloat16+compile")
    if DEVICE == "cuda"
    else ("plain", "channels_last", "bfloat16", "channels_last+bfloat16")
)
"""What is tried on this device: the fastest of these is PyTorch's time."""

Peer = tuple[Callable[[int], int], int]
"""A function that makes so many steps and waits for the last, and the number of parameters."""


def peer(what: str, setting: str) -> Peer:
    """The training of a benchmark under a setting.

    Args:
        what: Name of the benchmark, such as ``dcgan64``, ``vdm28`` or ``sngan_cifar10``.
        setting: Words joined by plus signs: ``channels_last``, ``bfloat16``, ``compile``, or
            ``plain``.

    Raises:
        ValueError: If a word of the setting is not known.
    """
    words = frozenset(setting.split("+")) - {"plain"}
    unknown = words - {"channels_last", "bfloat16", "compile"}
    if unknown:
        raise ValueError(
            f"expected plain, or channels_last, bfloat16 and compile joined by +, got {setting!r}"
        )
    if what.startswith("vdm"):
        image = {28: 1, 32: 3}[int(what[3:])]
        step, nets = _diffusion(_VDMNet(image), image, int(what[3:]), 32, words)
    elif what.startswith("unet"):
        image = {28: 1, 32: 3}[int(what[4:])]
        step, nets = _diffusion(_UNet(image), image, int(what[4:]), 64, words)
    elif what.endswith("_cifar10"):
        step, nets = _cifar10(what, words)
    else:
        step, nets = _gan(int(what[-2:]), words, penalty=what.startswith("wgan_gp"))

    def run(number: int) -> int:
        for _ in range(number):
            step()
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        return number

    return run, sum(p.numel() for net in nets for p in net.parameters())


Words = frozenset[str]
Trained = tuple[Callable[[], None], list[Any]]


def _autocast(words: Words) -> Any:
    if "bfloat16" in words:
        return torch.autocast(DEVICE, torch.bfloat16)
    return contextlib.nullcontext()


def _laid_out(tensor_or_net: Any, words: Words) -> Any:
    if "channels_last" in words:
        return tensor_or_net.to(memory_format=torch.channels_last)
    return tensor_or_net


def _compiled(net: Any, words: Words) -> Any:
    return torch.compile(net) if "compile" in words else net


def _adam(net: Any, rate: float = 2e-4, betas: tuple[float, float] = (0.5, 0.999)) -> Any:
    return torch.optim.Adam(net.parameters(), rate, betas, fused=True)


def _dcgan_nets(
    size: int, latent: int, *, norm: bool, transposed_end: bool, channels: int
) -> tuple[Any, Any]:
    """The generator and the critic; ``transposed_end``: the last layer doubles the size itself."""
    doublings = {32: 3, 64: 4}[size]
    up: list[Any] = [nn.Linear(latent, 16 * channels), nn.Unflatten(1, (channels, 4, 4))]
    wide = channels
    for _ in range(doublings - transposed_end):
        narrow = max(wide // 2, 64)
        up += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1), nn.BatchNorm2d(narrow), nn.ReLU()]
        wide = narrow
    end = nn.ConvTranspose2d(wide, 3, 4, 2, 1) if transposed_end else nn.Conv2d(wide, 3, 3, 1, 1)
    up += [end, nn.Tanh()]
    down: list[Any] = []
    inputs = 3
    for i in range(doublings):
        width = max(channels >> (doublings - 1 - i), 64)
        down += [nn.Conv2d(inputs, width, 4, 2, 1)]
        down += [nn.BatchNorm2d(width)] if norm and i else []
        down += [nn.LeakyReLU(0.2)]
        inputs = width
    down += [nn.Flatten(), nn.Linear(16 * inputs, 1)]
    return nn.Sequential(*up), nn.Sequential(*down)


def _gan(size: int, words: Words, *, penalty: bool) -> Trained:
    """A DCGAN, of which one forward pass of the generator serves both players, or a WGAN-GP."""
    generator, critic = _dcgan_nets(
        size, 100, norm=not penalty, transposed_end=True, channels={32: 256, 64: 512}[size]
    )
    if penalty:
        return _game(generator, critic, words, _Wasserstein, size=size, latent=100)
    generator, critic = (_laid_out(net, words) for net in (generator, critic))
    make, judge = (_compiled(net, words) for net in (generator, critic))
    adams = [_adam(critic), _adam(generator)]
    real = _laid_out(torch.randn(64, 3, size, size), words)
    ones, zeros = torch.ones(64, 1), torch.zeros(64, 1)
    cross_entropy = nn.BCEWithLogitsLoss()

    def loss(x: Any, labels: Any) -> Any:
        with _autocast(words):
            return cross_entropy(judge(x).float(), labels)

    def step() -> None:
        with _autocast(words):
            fake = make(torch.randn(64, 100))
        adams[0].zero_grad()
        loss(real, ones).backward()
        loss(fake.detach(), zeros).backward()
        adams[0].step()
        adams[1].zero_grad()
        loss(fake, ones).backward()
        adams[1].step()

    return step, [generator, critic]


class _Logistic:
    penalty = 0.0

    @staticmethod
    def critic(real: Any, fake: Any) -> Any:
        return functional.softplus(-real).mean() + functional.softplus(fake).mean()

    @staticmethod
    def generator(fake: Any) -> Any:
        return functional.softplus(-fake).mean()


class _Wasserstein:
    penalty = 10.0

    @staticmethod
    def critic(real: Any, fake: Any) -> Any:
        return fake.mean() - real.mean()

    @staticmethod
    def generator(fake: Any) -> Any:
        return -fake.mean()


class _Hinge(_Wasserstein):
    penalty = 0.0

    @staticmethod
    def critic(real: Any, fake: Any) -> Any:
        return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()


def _game(
    generator: Any,
    critic: Any,
    words: Words,
    losses: Any,
    *,
    size: int,
    latent: int,
    critic_steps: int = 1,
    generator_rows: int = 64,
    betas: tuple[float, float] = (0.5, 0.999),
    average_decay: float | None = None,
) -> Trained:
    """Steps of the critic on 64 real and 64 generated rows, then one of the generator."""
    generator, critic = (_laid_out(net, words) for net in (generator, critic))
    make, judge = (_compiled(net, words) for net in (generator, critic))
    adams = [_adam(net, betas=betas) for net in (critic, generator)]
    real = _laid_out(torch.randn(64, 3, size, size), words)
    averages = [p.detach().clone() for p in generator.parameters()]

    def steepness(fake: Any) -> Any:
        weight = torch.rand(64, 1, 1, 1)
        between = (weight * real + (1 - weight) * fake).requires_grad_()
        with _autocast(words):  # not compiled, which gradients of gradients do not allow
            scores = critic(between).float()
        (slope,) = torch.autograd.grad(scores.sum(), between, create_graph=True)
        return losses.penalty * ((slope.flatten(1).norm(dim=1) - 1) ** 2).mean()

    def step() -> None:
        for _ in range(critic_steps):
            with torch.no_grad(), _autocast(words):
                fake = make(torch.randn(64, latent)).float()
            adams[0].zero_grad()
            with _autocast(words):
                scores = judge(real).float(), judge(fake).float()
            loss = losses.critic(*scores)
            if losses.penalty:
                loss = loss + steepness(fake)
            loss.backward()
            adams[0].step()
        adams[1].zero_grad()
        with _autocast(words):
            scores = judge(make(torch.randn(generator_rows, latent))).float()
        losses.generator(scores).backward()
        adams[1].step()
        if average_decay is not None:
            with torch.no_grad():
                torch._foreach_lerp_(averages, list(generator.parameters()), 1 - average_decay)

    return step, [generator, critic]


def _cifar10(what: str, words: Words) -> Trained:
    """The networks, games and batches of experiments/gan/*_cifar10.py."""
    if what == "dcgan_cifar10":
        nets = _dcgan_nets(32, 128, norm=True, transposed_end=False, channels=512)
        return _game(
            *nets, words, _Logistic, size=32, latent=128, critic_steps=2, average_decay=0.9998
        )
    spectral = what == "sngan_cifar10"
    nets = _resnets(256 if spectral else 128, spectral=spectral)
    return _game(
        *nets, words, _Hinge if spectral else _Wasserstein, size=32, latent=128, critic_steps=5,
        generator_rows=128, betas=(0.0, 0.9),
    )  # fmt: skip


class _Up(nn.Module):
    """A residual block of the generator, which doubles the resolution."""

    def __init__(self, width: int):
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(width) for _ in range(2)])
        self.convs = nn.ModuleList([nn.Conv2d(width, width, 3, 1, 1) for _ in range(2)])
        self.shortcut = nn.Conv2d(width, width, 1)

    def forward(self, x: Any) -> Any:
        h = functional.interpolate(functional.relu(self.norms[0](x)), scale_factor=2.0)
        h = self.convs[1](functional.relu(self.norms[1](self.convs[0](h))))
        return functional.interpolate(self.shortcut(x), scale_factor=2.0) + h


class _Down(nn.Module):
    """A residual block of the critic; the first sees the image before any ReLU."""

    def __init__(self, inputs: int, width: int, wrap: Any, *, halves: bool):
        super().__init__()
        self.convs = nn.ModuleList([
            wrap(nn.Conv2d(inputs, width, 3, 1, 1)), wrap(nn.Conv2d(width, width, 3, 1, 1))
        ])  # fmt: skip
        self.shortcut = wrap(nn.Conv2d(inputs, width, 1)) if halves else None
        self.first = inputs != width

    def forward(self, x: Any) -> Any:
        h = self.convs[0](x if self.first else functional.relu(x))
        h = self.convs[1](functional.relu(h))
        if self.shortcut is None:
            return x + h
        return self.shortcut(functional.avg_pool2d(x, 2)) + functional.avg_pool2d(h, 2)


class _ResNetCritic(nn.Module):
    def __init__(self, width: int, wrap: Any, pool: str):
        super().__init__()
        self.blocks = nn.Sequential(
            _Down(3, width, wrap, halves=True),
            _Down(width, width, wrap, halves=True),
            _Down(width, width, wrap, halves=False),
            _Down(width, width, wrap, halves=False),
        )
        self.head, self.pool = wrap(nn.Linear(width, 1)), pool

    def forward(self, x: Any) -> Any:
        h = functional.relu(self.blocks(x)).float()
        return self.head(h.sum((2, 3)) if self.pool == "sum" else h.mean((2, 3)))


def _resnets(width: int, *, spectral: bool) -> tuple[Any, Any]:
    """SNGAN's or WGAN-GP's networks for 32x32x3."""
    generator = nn.Sequential(
        nn.Linear(128, 16 * width), nn.Unflatten(1, (width, 4, 4)), _Up(width), _Up(width),
        _Up(width), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 3, 3, 1, 1), nn.Tanh(),
    )  # fmt: skip
    wrap: Any = spectral_norm if spectral else lambda layer: layer
    return generator, _ResNetCritic(128, wrap, "sum" if spectral else "mean")


class _VDMBlock(nn.Module):
    def __init__(self, inputs: int, channels: int):
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(32, inputs), nn.GroupNorm(32, channels)])
        self.first = nn.Conv2d(inputs, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.condition = nn.Linear(4 * channels, channels, bias=False)
        self.shortcut = nn.Identity() if inputs == channels else nn.Conv2d(inputs, channels, 1)

    def forward(self, x: Any, condition: Any) -> Any:
        h = self.first(functional.silu(self.norms[0](x)))
        h = h + self.condition(condition)[:, :, None, None]
        h = functional.dropout(functional.silu(self.norms[1](h)), 0.1)
        return self.shortcut(x) + self.second(h)


class _VDMNet(nn.Module):
    """The network of ``vdm28`` and ``vdm32``."""

    def __init__(self, image: int, channels: int = 32):
        super().__init__()
        wide = 4 * channels
        self.channels = channels
        self.embed = nn.Sequential(
            nn.Linear(channels, wide), nn.SiLU(), nn.Linear(wide, wide), nn.SiLU()
        )
        self.first = nn.Conv2d(5 * image, channels, 3, padding=1)
        self.down = nn.ModuleList([_VDMBlock(channels, channels) for _ in range(4)])
        self.middle = nn.ModuleList([_VDMBlock(channels, channels) for _ in range(2)])
        self.norm = nn.GroupNorm(32, channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.up = nn.ModuleList([_VDMBlock(2 * channels, channels) for _ in range(5)])
        self.last = nn.Sequential(nn.GroupNorm(32, channels), nn.SiLU(),
                                  nn.Conv2d(channels, image, 3, padding=1))  # fmt: skip

    def forward(self, z: Any, time: Any) -> Any:
        rates = torch.exp(torch.linspace(0, -9.2, self.channels // 2))
        angles = 1000 * time[:, None] * rates
        condition = self.embed(torch.cat([angles.sin(), angles.cos()], 1))
        waves = [f(2**k * 3.14159265 * z) for k in (6, 7) for f in (torch.sin, torch.cos)]
        h = self.first(torch.cat([z, *waves], 1))
        skips = [h]
        for block in self.down:
            h = block(h, condition)
            skips.append(h)
        h = self.middle[0](h, condition)
        tokens = self.norm(h).flatten(2).transpose(1, 2)
        parts = self.query_key_value(tokens)[:, None].chunk(3, -1)
        mixed = self.out(functional.scaled_dot_product_attention(*parts)[:, 0])
        h = self.middle[1](h + mixed.transpose(1, 2).reshape(h.shape), condition)
        for block in self.up:
            h = block(torch.cat([h, skips.pop()], 1), condition)
        return z + self.last(h).float()


class _UNetBlock(nn.Module):
    """A residual block whose second norm the condition scales and shifts, then self-attention."""

    def __init__(self, inputs: int, channels: int, wide: int, *, attention: bool):
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(32, inputs), nn.GroupNorm(32, channels)])
        self.first = nn.Conv2d(inputs, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(wide, 2 * channels)
        self.shortcut = nn.Identity() if inputs == channels else nn.Conv2d(inputs, channels, 1)
        self.attention = attention
        if attention:
            self.norm = nn.GroupNorm(32, channels)
            self.query_key_value = nn.Linear(channels, 3 * channels)
            self.out = nn.Linear(channels, channels)

    def forward(self, x: Any, condition: Any) -> Any:
        h = self.first(functional.silu(self.norms[0](x)))
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, 1)
        h = functional.silu(self.norms[1](h) * (1 + scale) + shift)
        h = self.shortcut(x) + self.second(functional.dropout(h, 0.1, self.training))
        if not self.attention:
            return h
        tokens = self.norm(h).flatten(2).transpose(1, 2)
        parts = self.query_key_value(tokens)[:, None].chunk(3, -1)
        mixed = self.out(functional.scaled_dot_product_attention(*parts)[:, 0])
        return h + mixed.transpose(1, 2).reshape(h.shape)


class _UNet(nn.Module):
    """The network of ``unet28`` and ``unet32``."""

    def __init__(self, image: int, channels: int = 32, blocks: int = 2):
        super().__init__()
        wide, widths = 4 * channels, [channels, 2 * channels, 2 * channels]
        self.channels = channels
        self.embed = nn.Sequential(
            nn.Linear(channels, wide), nn.SiLU(), nn.Linear(wide, wide), nn.SiLU()
        )
        self.first = nn.Conv2d(image, channels, 3, padding=1)
        down: list[Any] = []
        skips, inputs = [channels], channels
        for level, width in enumerate(widths):
            for _ in range(blocks):
                down += [_UNetBlock(inputs, width, wide, attention=level == 2)]
                inputs = width
                skips += [width]
            if level < 2:
                down += [nn.Conv2d(width, width, 3, 2, 1)]
                skips += [width]
        middle = [_UNetBlock(inputs, inputs, wide, attention=i == 0) for i in range(2)]
        up: list[Any] = []
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                up += [_UNetBlock(inputs + skips.pop(), width, wide, attention=level == 2)]
                inputs = width
            if level:
                up += [nn.Conv2d(width, width, 3, 1, 1)]
        self.down, self.middle, self.up = (nn.ModuleList(part) for part in (down, middle, up))
        self.last = nn.Sequential(nn.GroupNorm(32, channels), nn.SiLU(),
                                  nn.Conv2d(channels, image, 3, padding=1))  # fmt: skip

    def forward(self, z: Any, time: Any) -> Any:
        rates = torch.exp(torch.linspace(0, -9.2103404, self.channels // 2))
        angles = 1000 * time[:, None] * rates
        condition = self.embed(torch.cat([angles.sin(), angles.cos()], 1))
        h = self.first(z)
        skips = [h]
        for part in self.down:
            h = part(h, condition) if isinstance(part, _UNetBlock) else part(h)
            skips.append(h)
        for part in self.middle:
            h = part(h, condition)
        for part in self.up:
            if isinstance(part, _UNetBlock):
                h = part(torch.cat([h, skips.pop()], 1), condition)
            else:
                h = part(functional.interpolate(h, scale_factor=2.0))
        return z + self.last(h).float()


def _diffusion(net: Any, image: int, size: int, batch: int, words: Words) -> Trained:
    """The error of the noise, AdamW and an average of the parameters."""
    net = _laid_out(net, words)
    predict = _compiled(net, words)
    averages = [p.detach().clone() for p in net.parameters()]
    optimizer = torch.optim.AdamW(net.parameters(), 2e-4, fused=True)
    x = _laid_out(torch.randn(batch, image, size, size), words)

    def step() -> None:
        time, noise = torch.rand(batch), torch.randn_like(x)
        share = torch.sigmoid(18.3 * time - 13.3)[:, None, None, None]
        z = (1 - share).sqrt() * x + share.sqrt() * noise
        optimizer.zero_grad()
        with _autocast(words):
            predicted = predict(z, time)
        ((predicted - noise) ** 2).sum((1, 2, 3)).mean().backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(averages, list(net.parameters()), 1e-4)

    return step, [net]
