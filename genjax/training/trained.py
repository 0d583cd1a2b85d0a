"""What a trained model can be used for: samples, scores, latents, networks, programs."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from etils import epath
from numpy.typing import ArrayLike

from genjax import data
from genjax.families.base import Family, Samples, TrainState
from genjax.training import attacking, embedding, export, loop, record, workdir
from genjax.training import mesh as meshes
from genjax.training import step as steps
from genjax.training.checkpoints import Checkpoints, Resumed
from genjax.training.class_prior import Prior, class_log_prior
from genjax.training.console import Reporter
from genjax.training.editor import Draw, Editor, Model
from genjax.training.evaluate import Evaluator
from genjax.training.experiment import Experiment, SampleSettings
from genjax.training.inversion import Descent, Inverter
from genjax.training.random import random_key
from genjax.training.rows import rows_to_fill, rows_to_read, rows_to_score


@dataclasses.dataclass(frozen=True)
class Asked:
    """Samples that are asked for.

    Attributes:
        experiment: The experiment, with the settings of sampling that they are drawn with.
        evaluator: What draws them.
        requests: What they are made from, a row a sample.
        seed: Seed of the draws.
    """

    experiment: Experiment
    evaluator: Evaluator
    requests: Mapping[str, np.ndarray]
    seed: int

    @property
    def told(self) -> dict[str, np.ndarray]:
        """What samples are drawn from, by feature; not the images whose vectors are given."""
        family = self.experiment.family
        given = [name for name in family.derived if name in self.requests]
        unread = {"x"} & {family.derived[name].source for name in given}
        names = [name for name in (*family.reads, *given) if name not in unread]
        return {name: self.requests[name] for name in names}


class Trained:
    """The newest state of an experiment in a workdir, and what it can be used for.

    Arguments and errors are those of :class:`~genjax.training.run.Run`.
    """

    def __init__(
        self,
        experiment: Experiment,
        place: epath.PathLike,
        *,
        quiet: bool = False,
        own_config: Mapping[str, Any] | None = None,
        allow_config_change: bool = False,
    ):
        experiment.check_devices(jax.device_count())
        self.experiment = experiment
        self.workdir = workdir.resolved(place)
        self.writes = jax.process_index() == 0
        self.report = Reporter(quiet=quiet or not self.writes)
        self.family, self.mesh = experiment.on_devices()
        self.template = steps.state_template(experiment.state_shapes, self.mesh)
        self._evaluator = Evaluator(self.family, self.mesh, progress=self._progress)
        self._others: list[tuple[Any, Experiment, Evaluator]] = []
        self._own_config = own_config
        self._allow_config_change = allow_config_change
        self._stop: Any = None
        self._held: tuple[int, TrainState] | None = None

    def newest(self) -> tuple[int, TrainState]:
        """The newest state and its step, from memory or from the newest checkpoint.

        Raises:
            WorkdirError: If there is none.
        """
        if self._held is None:
            if not workdir.has_run(self.workdir):
                raise self._no_checkpoint()
            self.check_config(training=False)
            self._check_words()
            with Checkpoints(self.workdir, read_only=True) as checkpoints:
                self._held = self._held_of(checkpoints.restore(self.template))
        if self._held is None:
            raise self._no_checkpoint()
        return self._held

    def check_config(self, *, training: bool) -> None:
        """Refuses a config that is not the run's, where there is work to protect."""
        config = self.experiment.config
        if config is None or self._allow_config_change or not workdir.has_run(self.workdir):
            return
        own = self._own_config or workdir.read_config(self.workdir)
        workdir.check_config(self.workdir, own, config, training=training)

    def _check_words(self) -> None:
        """Refuses texts whose numbers stand for other words than those of the run."""
        streams = self.experiment.streams
        if self._allow_config_change or not any(
            data.vocabularies(stream.train.spec) for stream in streams.values()
        ):
            return
        recorded = record.read_record(self.workdir)
        if recorded is not None:
            record.check_words(self.workdir, recorded, streams)

    def sample(
        self,
        num_samples: int | None = None,
        *,
        seed: int | None = None,
        num_steps: int | None = None,
        sampler: Any = None,
        guidance: Any = None,
        **reads: Any,
    ) -> np.ndarray:
        """Draws samples from the newest state.

        Args:
            num_samples: Number of samples; that of the ``sample`` section if None.
            seed: Seed of the draws; that of the ``sample`` section if None.
            num_steps: Steps from noise to data, of models that take several; those of the
                ``sample`` section if None.
            sampler: How noise becomes data: a mapping as in the ``sample`` section, such as
                ``dict(name="heun")``, its name, or a value, such as ``genjax.diffusion.Heun()``;
                that of the section if None.
            guidance: What makes samples of a class more typical of it, alike; a number is the scale
                of the section's guidance, or of classifier-free guidance.
            **reads: What the family samples from, one row a sample, such as ``label=[3, 3, 7]``
                or ``tokens="a red seven"``; a single value is meant for all samples. A label of -1
                stands for none, where the model was trained without labels, too;
                ``negative_label=8``, or ``negative_tokens="a two"``, is what guidance leads away
                from. What is not given is as in pictures (:meth:`Experiment.sample_requests`).

        Returns:
            ``[num_samples, *event]``, grey levels or real numbers.

        Raises:
            ValueError: If the family generates nothing, does not read what is given, or does not
                go with the sampler or the guidance.
        """
        asked = self.ask(
            num_samples, reads, seed=seed, num_steps=num_steps, sampler=sampler, guidance=guidance
        )
        with self.report.bars:
            return np.asarray(self._drawn(self.newest()[1], asked).rows)

    def ask(
        self,
        num_samples: int | None,
        reads: Mapping[str, Any],
        *,
        seed: int | None = None,
        num_steps: int | None = None,
        sampler: Any = None,
        guidance: Any = None,
    ) -> Asked:
        """What :meth:`sample` draws of, given its arguments."""
        self._check_samples()
        settings = self.experiment.sample
        if num_steps is not None:
            settings = dataclasses.replace(settings, num_steps=num_steps)
        if isinstance(sampler, str):
            sampler = _section(settings.sampler, "name", sampler, {})
        if isinstance(guidance, int | float):
            free = {"name": "classifier_free"}
            guidance = _section(settings.guidance, "scale", float(guidance), free)
        away = [name for name in reads if name.startswith("negative_")]
        if away and guidance is None and settings.guidance is None:
            raise ValueError(
                f"{away[0]}: nothing leads away from it without guidance: give its scale, such as 3"
            )
        experiment, evaluator = self._resampled(settings, sampler, guidance)
        count, given = rows_to_read(experiment, num_samples, reads)
        requests = experiment.sample_requests(count) | given
        return Asked(experiment, evaluator, requests, settings.seed if seed is None else seed)

    def log_prob(self, x: ArrayLike, **features: Any) -> np.ndarray:
        """Log-probability of each row in nats, under the newest state's averaged parameters.

        Args:
            x: Rows ``[N, *event]`` of the kind of the data: grey levels or real numbers.
            **features: Further features the model reads, such as ``label``, each ``[N, ...]`` or a
                single value for all rows.

        Returns:
            ``[N]``: exact, or the lower bound that ``family.eval_protocol`` names.

        Raises:
            ValueError: If the family has no likelihood, or the rows are not of the data's kind.
        """
        if self.family.log_prob is None:
            raise ValueError("this family gives no likelihood of given rows")
        key, log_prob = random_key(self.experiment.eval.seed, "log_prob"), self.family.log_prob
        rows = rows_to_score(self.experiment, x, features)
        if not len(rows["x"]):
            return np.zeros(0, np.float32)
        return np.asarray(self.of_rows("log_prob", lambda s, b: log_prob(s, b, key), rows))

    def outlier_scores(
        self, x: ArrayLike, *, names: Sequence[str] | None = None, **features: Any
    ) -> dict[str, np.ndarray]:
        """Scores of how much of an outlier each row is, other than its likelihood.

        Args:
            x: Rows ``[N, *event]`` of the kind of the data.
            names: Which scores, of ``family.outlier_scores``; all if None.
            **features: Further features the model reads, as of :meth:`log_prob`.

        Returns:
            The scores by name, each ``[N]``, higher the more of an outlier a row is; empty where
            the family has none. Scores of the likelihood are functions of :meth:`log_prob`:
            ``genjax.evaluation``.

        Raises:
            ValueError: If there is no such score, or the rows are not of the data's kind.
        """
        every = self.family.outlier_scores
        chosen = tuple(every if names is None else names)
        unknown = sorted(set(chosen) - set(every))
        if unknown:
            raise ValueError(
                f"this family has no score {unknown[0]!r}; it has {', '.join(every) or 'none'}"
            )
        rows = rows_to_score(self.experiment, x, features)
        if not chosen or not len(rows["x"]):
            return {name: np.zeros(len(rows["x"]), np.float32) for name in chosen}
        key = random_key(self.experiment.eval.seed, "log_prob")
        # One program each: of all together, networks of many groups would be one that never ends.
        return {
            name: np.asarray(self.of_rows(name, lambda s, b, own=every[name]: own(s, b, key), rows))
            for name in chosen
        }

    def class_log_probs(
        self, x: ArrayLike, *, prior: Prior = "train", **features: Any
    ) -> np.ndarray:
        """Log-density of each row together with each class: a classifier made of densities.

        All classes of a row are asked under the same noise, so that where ``log_prob`` is a random
        bound, differences of classes are less random than their values.

        Args:
            x: Rows ``[N, *event]`` of the kind of the data.
            prior: Probabilities of the classes: their shares in ``"train"``, ``"uniform"``, or
                numbers ``[C]``.
            **features: What the model reads besides ``label``.

        Returns:
            ``log p(x|y) + log p(y)`` in nats, ``[N, C]``; their ``logsumexp`` is ``log p(x)``, and
            :func:`genjax.evaluation.class_probabilities` makes ``p(y|x)`` of them. Of a classifier
            it is ``log p(y|x)`` itself.

        Raises:
            ValueError: If the family has no likelihood given labels, the rows are not of the data's
                kind, or the prior is none, or not that of a classifier's training rows.
        """
        if self.family.class_logits is not None:
            if not (isinstance(prior, str) and prior == "train"):
                raise ValueError("prior: a classifier has that of its training rows: leave it out")
            rows = rows_to_score(self.experiment, x, features)
            logits = attacking.logits_of(self, attacking.as_shares(self.experiment, rows["x"]))
            return np.asarray(jax.nn.log_softmax(logits), np.float64)
        logs = class_log_prior(self.experiment, prior)
        found = [self.log_prob(x, label=y, **features) for y in range(len(logs))]
        return np.stack(found, axis=1).astype(np.float64) + logs

    def classify(self, x: ArrayLike, *, prior: Prior = "train", **features: Any) -> np.ndarray:
        """The most probable class id of each row, int32 ``[N]``: see :meth:`class_log_probs`."""
        found = self.class_log_probs(x, prior=prior, **features)
        return found.argmax(1).astype(np.int32)

    def attack(
        self,
        x: ArrayLike,
        label: ArrayLike,
        *,
        epsilon: float,
        num_steps: int = 40,
        step_size: float | None = None,
        norm: attacking.Norm = "linf",
        num_restarts: int = 1,
        seed: int | None = None,
    ) -> attacking.Attacked:
        """Looks for rows near given ones that the classifier decides wrongly.

        Args:
            x: Rows ``[N, *event]`` of the kind of the data.
            label: Their class ids, ``[N]``.
            epsilon: How far a row may be moved: of grey levels as a share of the range from black
                to white (0.3 of MNIST as published), of real numbers in units of the data.
            num_steps: Steps of projected gradient ascent; 1 for the fast gradient sign method,
                which starts from the rows themselves, and others from random places in the ball.
            step_size: Length of a step; ``epsilon`` for a single one, else 2.5 times ``epsilon``
                over the number of steps, if None.
            norm: What ``epsilon`` bounds: the largest change of an entry (``"linf"``), or the
                length of the change of a row (``"l2"``).
            num_restarts: Random starts, of which the worst counts for each row.
            seed: Seed of the starts; that of ``eval`` if None.

        Returns:
            The attacked rows, and what the classifier says of them and of the rows themselves.

        Raises:
            ValueError: If the family is no classifier of rows, or rows or numbers do not fit.
        """
        rows = rows_to_score(self.experiment, x, {"label": label})
        key = random_key(self.experiment.eval.seed if seed is None else seed, "attack")
        return attacking.attack(
            self, rows, key, epsilon=epsilon, num_steps=num_steps, step_size=step_size, norm=norm,
            num_restarts=num_restarts,
        )  # fmt: skip

    def impute(
        self,
        x: ArrayLike,
        mask: ArrayLike | None = None,
        *,
        num_draws: int = 1,
        num_steps: int | None = None,
        seed: int | None = None,
        **features: Any,
    ) -> np.ndarray:
        """Draws missing entries of rows given the known ones.

        Args:
            x: Rows ``[N, *event]`` of the kind of the data; read where they are known.
            mask: True where an entry is known: of the shape of ``x``, of one example, or of an
                image without its channels. None for where real numbers are not NaN.
            num_draws: Draws for each row; each is a Markov chain, or a way from noise, of its own.
            num_steps: Steps of a chain, 500 if None; of what denoises, steps from noise to data,
                those of the ``sample`` section if None.
            seed: Seed of the draws; that of the section if None.
            **features: What the model reads, such as ``label``, each ``[N, ...]`` or a single value
                for all rows.

        Returns:
            ``[num_draws, N, *event]``, equal to ``x`` where it is known.

        Raises:
            ValueError: If the family can not, or rows or mask do not fit.
        """
        rows, known = rows_to_fill(self.experiment, x, mask, features)
        if num_draws < 1:
            raise ValueError(f"num_draws must be at least 1, got {num_draws}")
        count = len(known)
        requests = {n: np.concatenate([a] * num_draws) for n, a in rows.items()}
        known = np.concatenate([known] * num_draws)
        if self.family.impute is not None:
            drawn = self._filled(requests, known, 500 if num_steps is None else num_steps, seed)
        elif self.family.denoising is not None:
            own: dict[str, Any] = {n: a for n, a in requests.items() if n != "x"}
            drawn = self.edit.inpaint(requests["x"], known, seed=seed, num_steps=num_steps, **own)
        else:
            raise ValueError(
                "this family does not fill in missing entries: flows, vae and what denoises do, "
                "and families whose record has impute"
            )
        return drawn.reshape(num_draws, count, *drawn.shape[1:])

    def encode(self, x: ArrayLike, **features: Any) -> Any:
        """Latents of each row: what :meth:`decode` makes rows from.

        Args:
            x: Rows ``[N, *event]`` of the kind of the data: grey levels or real numbers.
            **features: Further features the model reads, as of :meth:`log_prob`.

        Returns:
            The family's latents, an array ``[N, ...]`` or a tree of them.

        Raises:
            ValueError: If the family has no latents of given rows, or the rows are not of the
                data's kind.
        """
        if self.family.encode is None:
            raise ValueError("this family has no latents of given rows")
        key, encode = random_key(self.experiment.eval.seed, "log_prob"), self.family.encode
        rows = rows_to_score(self.experiment, x, features)
        return self.of_rows("encode", lambda s, b: encode(s, b, key), rows)

    def embed(
        self, x: ArrayLike | None = None, tokens: ArrayLike | Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """Vectors of unit length of images and of captions, whose products say how well they fit.

        Args:
            x: Rows ``[N, *event]`` of the kind of the data; None for none.
            tokens: Captions as tokens ``[M, T]``, or as strings; None for none.

        Returns:
            ``embedding`` ``[N, D]`` and ``text_embedding`` ``[M, D]``, of what is given.

        Raises:
            ValueError: If the family has no such vectors, nothing is given, or it is not of the
                data's kind.
        """
        return embedding.embed(self, x, tokens)

    def decode(self, latents: Any, **features: Any) -> np.ndarray:
        """The rows that latents stand for.

        Args:
            latents: As :meth:`encode` gives them, ``[N, ...]``.
            **features: Features the model reads, such as ``label``, each ``[N, ...]`` or a single
                value for all rows.

        Returns:
            ``[N, *event]``, grey levels or real numbers.

        Raises:
            ValueError: If the family has no latents, or does not read what is given.
        """
        if self.family.decode is None:
            raise ValueError("this family makes no rows from given latents")
        leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, latents))
        count, given = rows_to_read(self.experiment, len(leaves[0]), features)
        rows = self.experiment.sample_requests(count) | given
        named = {f"latent {i}": leaf for i, leaf in enumerate(leaves)}
        decode = self.family.decode

        def function(state: TrainState, batch: Mapping[str, Any]) -> Any:
            return decode(state, jax.tree.unflatten(structure, [batch[n] for n in named]), batch)

        return np.asarray(self.of_rows(f"decode {structure}", function, {**rows, **named}))

    def reconstruct(self, x: ArrayLike, **features: Any) -> np.ndarray:
        """Rows encoded and decoded again, ``[N, *event]``; arguments and errors as above."""
        return self.decode(self.encode(x, **features), **features)

    def invert(
        self,
        x: ArrayLike,
        *,
        start: ArrayLike | Literal["mean", "random", "encoder"] = "mean",
        num_starts: int = 1,
        descent: Descent = Descent(),
        seed: int | None = None,
        **features: Any,
    ) -> np.ndarray:
        """Latents whose rows are nearest to some rows: what :meth:`decode` makes rows from.

        Args:
            x: Rows ``[N, *event]`` of the kind of the data.
            start: Where the descent begins: the ``"mean"`` of the prior, ``"random"`` draws of it,
                what the ``"encoder"`` of a model that has one says, or latents ``[N, Z]``.
            num_starts: Draws of each row, of which the one that ends nearest is kept; 1 unless the
                start is random.
            descent: Steps and learning rate.
            seed: Seed of the draws; that of the ``sample`` section if None.
            **features: Further features the model reads, such as ``label``.

        Returns:
            ``[N, Z]``.

        Raises:
            ValueError: If the family does not make rows of latents in one pass, has no encoder
                where one is asked for, or rows or starts do not fit.
        """
        rows = rows_to_score(self.experiment, x, features)
        if num_starts < 1 or (
            num_starts > 1 and not (isinstance(start, str) and start == "random")
        ):
            raise ValueError(
                f"num_starts is of random starts, and at least 1; got {num_starts} and {start!r}"
            )
        starts: list[Any] = [None]
        if not isinstance(start, str):
            starts = [np.asarray(start, np.float32)]
            if starts[0].ndim != 2 or len(starts[0]) != len(rows["x"]):
                raise ValueError(
                    f"start: expected latents [{len(rows['x'])}, Z], got {list(starts[0].shape)}"
                )
        elif start == "encoder":
            starts = [np.asarray(self.encode(x, **features))]
        elif start == "random":
            key = random_key(self.experiment.sample.seed if seed is None else seed, "invert")
            starts = [jax.random.fold_in(key, i) for i in range(num_starts)]
        elif start != "mean":
            raise ValueError(
                f"start must be 'mean', 'random', 'encoder' or latents [N, Z], got {start!r}"
            )
        _, state = self.newest()
        with self.report.bars:
            return self._inverter.run(state, rows, starts, descent)[0]

    def encoder_features(self, x: ArrayLike, **features: Any) -> np.ndarray:
        """Features that a model's encoder makes latents of: its last hidden layer.

        Args:
            x: Rows ``[N, *event]`` of the kind of the data.
            **features: Further features the model reads.

        Returns:
            ``[N, F]``.

        Raises:
            ValueError: If the family has no such encoder, or the rows are not of the data's kind.
        """
        generating = self.family.generating
        if generating is None or self.family.encode is None:
            raise ValueError("this family has no encoder beside a generator: bigan and others have")

        def function(state: TrainState, batch: Mapping[str, Any]) -> Any:
            asked = generating(state, batch)
            assert asked.features is not None
            return asked.features(asked.encode(batch["x"]))

        rows = rows_to_score(self.experiment, x, features)
        return np.asarray(self.of_rows("features", function, rows))

    def scores(self, x: ArrayLike, **features: Any) -> dict[str, np.ndarray]:
        """What evaluation says of each row, under the newest state.

        Args:
            x: Rows ``[N, *event]`` of the kind of the data.
            **features: Further features the model reads.

        Returns:
            The metrics by name, each ``[N]``.

        Raises:
            ValueError: If the family has no score of single examples, or the rows are not of the
                data's kind.
        """
        if self.family.eval_step is None:
            raise ValueError("this family has no score of single examples")
        key, eval_step = random_key(self.experiment.eval.seed, "eval"), self.family.eval_step
        rows = rows_to_score(self.experiment, x, features)
        found = self.of_rows("scores", lambda s, b: eval_step(s, b, key), rows)
        return {name: np.asarray(values) for name, values in found.items()}

    @property
    def edit(self) -> Editor:
        """Editing with the newest state: interpolation, variations, inpainting, directions."""
        return Editor(self._editable(self.experiment, self.family, self._evaluator))

    @property
    def networks(self) -> Mapping[str, Any]:
        """The networks by name, bound to the newest state's averaged parameters.

        Each is a Linen module that can be called; what it takes is in units of the model (grey
        levels are scaled, standardised data is).
        """
        _, state = self.newest()
        bound = {}
        for name, net in {**self.experiment.networks, **self.family.networks}.items():
            if not hasattr(net, "bind"):  # no Linen module
                continue
            params = {**state.params, **state.ema}.get(name, {})
            kept = state.model_state.get(name, {})
            # What a family keeps beside the collections of a network is its own.
            collections = {n: value for n, value in kept.items() if isinstance(value, Mapping)}
            bound[name] = net.bind({"params": params, **collections})
        return bound

    @property
    def config(self) -> Mapping[str, Any] | None:
        """The complete config, if there is one."""
        return self.experiment.config

    @property
    def state(self) -> TrainState:
        """The newest state."""
        return self.newest()[1]

    def export(self, folder: epath.PathLike | None = None) -> epath.Path:
        """Writes the newest state for use without genjax: see :mod:`genjax.training.export`.

        Args:
            folder: Where the files go; ``export`` in the workdir if None.

        Returns:
            The folder.

        Raises:
            ValueError: If the family neither samples nor scores rows.
        """
        step, state = self.newest()
        place = self.workdir / "export" if folder is None else epath.Path(folder)
        written = export.export(self.experiment, state, place)
        self.report.say(f"step {step}: {', '.join(written)} in {place}")
        return place

    # Parts.

    def _drawn(self, state: TrainState, asked: Asked) -> Samples:
        """Samples that were asked for, of a state."""
        return asked.evaluator.sample(
            state,
            asked.requests,
            random_key(asked.seed, "sample"),
            batch_size=asked.experiment.sample.batch_size or len(asked.requests["x"]),
        )

    @functools.cached_property
    def _inverter(self) -> Inverter:
        """What inverts the generator, compiled once."""
        return Inverter(self.family, self.experiment.eval.batch_size, self._progress)

    def _filled(
        self, rows: Mapping[str, np.ndarray], known: np.ndarray, num_steps: int, seed: int | None
    ) -> np.ndarray:
        """Rows with missing entries drawn by the family's own chain."""
        fill = self.family.impute
        assert fill is not None

        def function(
            state: TrainState, shared: Any, key: jax.Array, batch: Mapping[str, Any]
        ) -> Any:
            return fill(state, batch, key, num_steps)

        _, state = self.newest()
        key = random_key(self.experiment.sample.seed if seed is None else seed, "impute")
        size = min(self.experiment.eval.batch_size, len(known))
        with self.report.bars:
            drawn = self._evaluator.draw(
                f"imputing {num_steps}", function, state, None, {**rows, "known": known}, key,
                batch_size=size,
            )  # fmt: skip
        return np.asarray(drawn)

    def _editable(self, experiment: Experiment, family: Family, evaluator: Evaluator) -> Model:
        """What an editor needs, where samples are drawn by an evaluator."""

        def draw_rows(
            name: str,
            function: Draw,
            requests: Mapping[str, np.ndarray],
            key: jax.Array,
            shared: Any = None,
        ) -> Any:
            _, state = self.newest()
            size = experiment.sample.batch_size or len(next(iter(requests.values())))
            with self.report.bars:
                return evaluator.draw(name, function, state, shared, requests, key, batch_size=size)

        def resampled(sampler: Any, guidance: Any) -> Model:
            other, drawn_by = self._resampled(self.experiment.sample, sampler, guidance)
            return self._editable(other, other.family, drawn_by)

        return Model(
            experiment=experiment,
            family=family,
            encode=self.encode,
            decode=self.decode,
            draw_rows=draw_rows,
            resampled=resampled,
        )

    def of_rows(self, name: str, function: Any, rows: Mapping[str, np.ndarray]) -> Any:
        """A function of the newest state and of rows, which are filled up to whole batches."""
        _, state = self.newest()
        if not len(next(iter(rows.values()))):
            raise ValueError("expected rows, got none")
        batches = data.EvalBatches(
            data.ArraySource(**rows),
            meshes.filled_up(self.experiment.eval.batch_size, self.mesh),
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        with self.report.bars:
            return self._evaluator.by_row(
                name, function, state, (batches[i] for i in range(len(batches))), len(batches)
            )

    def _resampled(
        self, settings: SampleSettings, sampler: Any, guidance: Any
    ) -> tuple[Experiment, Evaluator]:
        """The experiment with other settings of sampling, and its evaluator, made once."""
        asked = settings.num_steps, sampler, guidance
        if asked == (self.experiment.sample.num_steps, None, None):
            return self.experiment, self._evaluator
        # Compared, not hashed: mappings are no keys.
        for known, experiment, evaluator in self._others:
            if known == asked:
                return experiment, evaluator
        if self.experiment.resampled is None:
            raise ValueError(
                "num_steps, sampler, guidance: this experiment was not built from a config"
            )
        family = self.experiment.resampled(settings, sampler=sampler, guidance=guidance)
        # What guides samples may read more than the model does.
        experiment = dataclasses.replace(self.experiment, family=family)
        evaluator = Evaluator(family, self.mesh, progress=self._progress)
        self._others.append((asked, experiment, evaluator))
        return experiment, evaluator

    @staticmethod
    def _held_of(resumed: Resumed) -> tuple[int, TrainState] | None:
        return None if resumed.state is None else (resumed.step, resumed.state)

    def _no_checkpoint(self) -> workdir.WorkdirError:
        return workdir.WorkdirError(f"there is no checkpoint in {self.workdir}: train first")

    def _check_samples(self) -> None:
        if self.family.sample is None:
            raise workdir.WorkdirError("this family generates nothing to sample")

    def _progress(self, items: Any, total: int, label: str) -> Iterator[Any]:
        def give_way() -> None:
            if self._stop is not None and self._stop.is_set():
                raise loop.StopRequested

        return self.report.progress(items, total, label, give_way)


def _section(
    section: Mapping[str, Any] | None, key: str, value: Any, otherwise: Mapping[str, Any]
) -> dict[str, Any]:
    """A section with one key set anew; what else it says is kept if it is of the same name."""
    kept = section if section is not None and key != "name" else otherwise
    if section is not None and section.get("name") == value:
        kept = section
    return {**kept, key: value}
