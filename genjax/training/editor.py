"""Editing with a trained model: arrays in, arrays out."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from genjax.diffusion import bottleneck
from genjax.diffusion.editing import Resampling, known_latents, shortened, slerp, with_known
from genjax.diffusion.samplers import prior_latents
from genjax.families.base import Denoising, Family, TrainState
from genjax.training.experiment import Experiment
from genjax.training.random import random_key
from genjax.training.rows import checked_mask, rows_to_read, rows_to_score

Draw = Callable[[TrainState, Any, jax.Array, Mapping[str, Any]], Any]
Filling = Literal["resampling", "replacement"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """What an editor needs of a trained model.

    Attributes:
        experiment: The experiment.
        family: Its family, as samples are drawn from it.
        encode: Latents of rows, ``(x, **features) -> latents``.
        decode: Rows of latents, ``(latents, **features) -> x``.
        draw_rows: ``(name, function, requests, key, shared=None) -> tree`` of arrays ``[N, ...]``:
            a random function of the newest state and of rows in batches of samples, compiled once
            for each name.
        resampled: ``(sampler, guidance) -> Model``: the same with another sampler or guidance.
    """

    experiment: Experiment
    family: Family
    encode: Callable[..., Any]
    decode: Callable[..., np.ndarray]
    draw_rows: Callable[..., Any]
    resampled: Callable[[Any, Any], "Model"]


@dataclasses.dataclass(frozen=True)
class Recorded:
    """Samples, and what was in the middle of the network on the way to them.

    Attributes:
        rows: The samples, ``[N, *event]``.
        h: The activation in the middle at each network call, ``[N, M, *shape]``, float32.
        reads: What they were sampled from, such as ``label`` ``[N]``.
    """

    rows: np.ndarray
    h: np.ndarray
    reads: Mapping[str, np.ndarray]


class Editor:
    """Edits of rows and of samples with a model that was trained.

    Rows go in and come out as the data is: grey levels or real numbers. Everything is a function of
    the newest state and of a seed.

    Args:
        model: The model.
    """

    def __init__(self, model: Model):
        self._model = model

    def using(self, *, sampler: Any = None, guidance: Any = None) -> "Editor":
        """Edits with another sampler or guidance.

        Args:
            sampler: As of :meth:`~genjax.training.trained.Trained.sample`.
            guidance: Alike.

        Returns:
            The editor.

        Raises:
            ValueError: If they do not go with the model.
        """
        return Editor(self._model.resampled(sampler, guidance))

    def latents(self, x: ArrayLike, **features: Any) -> Any:
        """Latents of rows: see :meth:`~genjax.training.trained.Trained.encode`."""
        return self._model.encode(x, **features)

    def rows(self, latents: Any, **features: Any) -> np.ndarray:
        """Rows of latents: see :meth:`~genjax.training.trained.Trained.decode`."""
        return self._model.decode(latents, **features)

    def interpolate(
        self, x0: ArrayLike, x1: ArrayLike, num: int = 8, **features: Any
    ) -> np.ndarray:
        """Rows on the way from some rows to others, through their latents.

        Latents are noise that the model takes to the rows, and the way between two of them an arc
        (:func:`~genjax.diffusion.editing.slerp`).

        Args:
            x0: Rows ``[N, *event]`` at which the ways begin.
            x1: Rows at which they end.
            num: Places on each way, the ends included.
            **features: Further features the model reads, such as ``label``, of both ends: each
                ``[N, ...]`` or a single value for all rows.

        Returns:
            ``[N, num, *event]``.

        Raises:
            ValueError: If the family has no latents, or the rows are not of the data's kind.
        """
        if num < 2:
            raise ValueError(f"num must be at least 2, for both ends, got {num}")
        if np.shape(x0) != np.shape(x1):
            raise ValueError(
                f"expected as many rows at both ends, got shapes {np.shape(x0)} and {np.shape(x1)}"
            )
        a, b = (self._model.encode(x, **features) for x in (x0, x1))
        shares = jnp.linspace(0.0, 1.0, num)

        def way(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            points = np.swapaxes(np.asarray(slerp(jnp.asarray(a), jnp.asarray(b), shares)), 0, 1)
            return points.reshape(-1, *points.shape[2:])

        repeated = {
            name: np.repeat(value, num, axis=0) if np.ndim(value) else value
            for name, value in features.items()
        }
        rows = self._model.decode(jax.tree.map(way, a, b), **repeated)
        return rows.reshape(-1, num, *rows.shape[1:])

    def vary(
        self,
        x: ArrayLike,
        strength: float,
        *,
        seed: int | None = None,
        num_steps: int | None = None,
        **features: Any,
    ) -> np.ndarray:
        """Variations of rows: noise is added, and the sampler takes it off again.

        Args:
            x: Rows ``[N, *event]``.
            strength: Time up to which noise is added: close to 0 changes little, 1 everything.
            seed: Seed of the noise; that of the ``sample`` section if None.
            num_steps: Steps of the sampler from time 1, of which the share ``strength`` is taken;
                those of the section if None.
            **features: Further features the model reads, such as ``label``: those of the
                variations, each ``[N, ...]`` or a single value for all rows.

        Returns:
            ``[N, *event]``.

        Raises:
            ValueError: If the family does not denoise, the rows are not of the data's kind or the
                strength is out of range.
        """
        rows = self._rows(x, features)
        if not 0.0 < strength <= 1.0:
            raise ValueError(f"strength must be above 0 and at most 1, got {strength}")

        def function(
            state: TrainState, shared: Any, key: jax.Array, batch: Mapping[str, Any]
        ) -> Any:
            asked = self._asked(state, batch)
            denoiser = shortened(asked.denoiser, strength)
            key, key_noise = jax.random.split(key)
            data = asked.encode(batch["x"])
            alpha, sigma = denoiser.process.scales(jnp.ones(()))
            z = alpha * data + sigma * jax.random.normal(key_noise, data.shape)
            taken = max(1, round((num_steps or asked.num_steps) * strength))
            drawn, _ = asked.sampler.sample(denoiser, key, z, num_steps=taken)
            return asked.decode(drawn)

        name = f"varying {strength} {num_steps}"
        return np.asarray(self._model.draw_rows(name, function, rows, self._key(seed)))

    def inpaint(
        self,
        x: ArrayLike,
        mask: ArrayLike,
        *,
        method: Filling = "resampling",
        jump_length: int = 10,
        num_resamplings: int = 10,
        seed: int | None = None,
        num_steps: int | None = None,
        **features: Any,
    ) -> np.ndarray:
        """Rows of which a part is known, and the rest is filled in by the model.

        Args:
            x: Rows ``[N, *event]``; read where they are known.
            mask: True where a row is known: of the shape of ``x``, of one example, or of an image
                without its channels.
            method: ``"replacement"``: the sampler is told the known part at each step, which costs
                nothing and is biased; ``"resampling"``: besides, noise is added again after every
                few steps and the steps are taken anew, which takes about ``num_resamplings`` times
                as long and lessens the bias. It walks ancestrally, whatever the sampler is.
            jump_length: Steps between repetitions.
            num_resamplings: How often each stretch of steps is taken.
            seed: Seed of the noise; that of the ``sample`` section if None.
            num_steps: Steps from noise to data; those of the section if None.
            **features: Further features the model reads, as of :meth:`vary`.

        Returns:
            ``[N, *event]``, equal to ``x`` where it is known.

        Raises:
            ValueError: If the family does not denoise, or rows, mask or method do not fit.
        """
        rows = self._rows(x, features)
        known = checked_mask(mask, rows["x"].shape)
        if method not in ("resampling", "replacement"):
            raise ValueError(f"method must be resampling or replacement, got {method!r}")
        resampling = Resampling(jump_length=jump_length, num_resamplings=num_resamplings)
        repeats = method == "resampling"
        if repeats:
            resampling.walk(num_steps or self._model.experiment.sample.num_steps)

        def function(
            state: TrainState, shared: Any, key: jax.Array, batch: Mapping[str, Any]
        ) -> Any:
            asked = self._asked(state, batch)
            if not asked.entrywise:
                raise ValueError(
                    "this model denoises latents, of which a mask of the data says nothing: "
                    "inpaint with a model of the data itself"
                )
            process, kept = asked.denoiser.process, batch["mask"]
            data = asked.encode(batch["x"])
            key, z = prior_latents(process, key, data.shape)
            sampler = asked.sampler
            if repeats:
                threshold: Any = getattr(sampler, "threshold", "none")
                sampler = dataclasses.replace(resampling, threshold=threshold)
            drawn, _ = sampler.sample(
                with_known(asked.denoiser, data, kept),
                key,
                known_latents(process, data, kept, z),
                num_steps=num_steps or asked.num_steps,
            )
            return jnp.where(kept, batch["x"], asked.decode(drawn))

        name = f"inpainting {resampling if repeats else method} {num_steps}"
        requests = {**rows, "mask": known}
        return np.asarray(self._model.draw_rows(name, function, requests, self._key(seed)))

    def record(
        self,
        num_samples: int | None = None,
        *,
        seed: int | None = None,
        num_steps: int | None = None,
        **reads: Any,
    ) -> Recorded:
        """Draws samples and keeps the activation in the middle of the network on the way.

        Args:
            num_samples: Number of samples; that of the ``sample`` section if None.
            seed: Seed of the draws; that of the section if None.
            num_steps: Steps of the sampler; those of the section if None.
            **reads: What is sampled from, as of :meth:`~genjax.training.trained.Trained.sample`.

        Returns:
            Samples and activations, from which :mod:`genjax.diffusion.directions` finds directions.

        Raises:
            ValueError: If the family does not denoise, the network has no middle, or the sampler
                chooses its own steps.
        """
        requests = self._requests(num_samples, reads)

        def function(
            state: TrainState, shared: Any, key: jax.Array, batch: Mapping[str, Any]
        ) -> Any:
            asked = self._asked(state, batch)
            key, z = prior_latents(asked.denoiser.process, key, self._shape(asked, batch))
            drawn, h = bottleneck.recorded(
                asked.denoiser, asked.sampler, key, z, num_steps=num_steps or asked.num_steps
            )
            return asked.decode(drawn), jnp.moveaxis(h, 0, 1)

        key = self._key(seed, "sample")
        rows, h = self._model.draw_rows(f"recording {num_steps}", function, requests, key)
        return Recorded(rows, h, {n: a for n, a in requests.items() if n != "x"})

    def steer(
        self,
        direction: ArrayLike,
        strengths: Sequence[float],
        num_samples: int | None = None,
        *,
        asymmetric: bool = False,
        seed: int | None = None,
        num_steps: int | None = None,
        **reads: Any,
    ) -> np.ndarray:
        """Samples with a direction added in the middle of the network, at several strengths.

        Args:
            direction: What is added at each network call at strength 1, ``[M, *shape]``.
            strengths: Factors of the direction. At 0 samples are those of :meth:`record` of the
                same seed.
            num_samples: Number of samples; that of the ``sample`` section if None.
            asymmetric: Whether the direction changes the estimate of the data alone, as Asyrp has
                it: see :func:`~genjax.diffusion.bottleneck.steered`.
            seed: Seed of the draws, the same at all strengths; that of the section if None.
            num_steps: Steps of the sampler; those of the section if None.
            **reads: What is sampled from, as of :meth:`~genjax.training.trained.Trained.sample`.

        Returns:
            ``[A, N, *event]``, one set of the same samples at each strength.

        Raises:
            ValueError: As :meth:`record`, or if the direction does not fit the network calls.
        """
        requests = self._requests(num_samples, reads)

        def function(
            state: TrainState, shared: Any, key: jax.Array, batch: Mapping[str, Any]
        ) -> Any:
            asked = self._asked(state, batch)
            key, z = prior_latents(asked.denoiser.process, key, self._shape(asked, batch))
            return asked.decode(
                bottleneck.steered(
                    asked.denoiser,
                    asked.sampler,
                    key,
                    z,
                    shared,
                    num_steps=num_steps or asked.num_steps,
                    asymmetric=asymmetric,
                )
            )

        direction = np.asarray(direction)
        # A program for each shape, so that one that does not fit is refused again.
        name = f"steering {asymmetric} {num_steps} {direction.shape}"
        key = self._key(seed, "sample")
        return np.stack(
            [
                self._model.draw_rows(
                    name, function, requests, key, np.asarray(strength * direction, np.float32)
                )
                for strength in strengths
            ]
        )

    # Parts.

    def _asked(self, state: TrainState, batch: Mapping[str, Any]) -> Denoising:
        assert self._model.family.denoising is not None
        return self._model.family.denoising(state, batch)

    def _shape(self, asked: Denoising, batch: Mapping[str, Any]) -> tuple[int, ...]:
        """Shape of what is denoised for rows of a batch."""
        shaped = jax.eval_shape(asked.encode, batch["x"])
        return tuple(shaped.shape)

    def _check(self) -> None:
        if self._model.family.denoising is None:
            raise ValueError(
                "this family does not go from noise to data by denoising: edits are of vdm, ddpm, "
                "edm and other diffusion models, and of flow_matching"
            )

    def _rows(self, x: ArrayLike, features: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Rows to edit, with what the model reads."""
        self._check()
        rows = rows_to_score(self._model.experiment, x, features)
        if not len(rows["x"]):
            raise ValueError("expected rows, got none")
        return self._model.experiment.sample_requests(len(rows["x"])) | rows

    def _requests(self, count: int | None, reads: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Rows to sample from."""
        self._check()
        count, given = rows_to_read(self._model.experiment, count, reads)
        return self._model.experiment.sample_requests(count) | given

    def _key(self, seed: int | None, purpose: str = "edit") -> jax.Array:
        return random_key(self._model.experiment.sample.seed if seed is None else seed, purpose)
