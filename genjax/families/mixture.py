"""Mixtures, naive Bayes and discriminant analysis: a discrete latent, fitted in closed form."""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from genjax.devices import spread_rows
from genjax.families.base import Batch, Family, Metrics, Params, PyTree, Samples, TrainState
from genjax.families.components import Component, Parameters, Sums, log_shares
from genjax.families.expectation_maximization import expectation_maximization
from genjax.families.levels import as_levels
from genjax.families.likelihood import density_metrics, likelihood_metrics, plane_density
from genjax.families.observations import Entries
from genjax.families.seeding import clusters
from genjax.losses.arrays import whole_levels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixture:
    """A mixture as functions of parameters and rows.

    Attributes:
        component: The distribution of a component.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        num_classes: Number of classes whose labels are known; 1 where there are none.
        num_components: Components of each class.
    """

    component: Component
    event_shape: tuple[int, ...]
    num_levels: int | None
    num_classes: int
    num_components: int

    @property
    def entries(self) -> Entries:
        """What is observed: all entries of an example together."""
        return Entries(math.prod(self.event_shape), self.num_levels)

    def init(self, key: PRNGKeyArray, batch: Batch, label: Array | None) -> Parameters:
        """Parameters of the clusters of each class in a batch."""
        x = self.rows(batch["x"])
        of_class = jnp.ones((1, x.shape[0]))
        if label is not None:
            of_class = jax.nn.one_hot(label, self.num_classes).T
        keys = jax.random.split(key, self.num_classes)
        found = jax.vmap(lambda k, w: clusters(k, x, w, self.num_components))(keys, of_class)
        shares = jnp.moveaxis(found, 0, 1).reshape(x.shape[0], -1)
        parameters: Parameters = self.component.start(x, shares.shape[1], self.entries)
        for _ in range(2):  # the second time about the means that were found
            sums = self.component.sums(parameters, x, shares, self.entries)
            weight = jnp.sum(shares, axis=0)
            parameters = self.component.estimate(parameters, weight, sums, self.entries)
        return {"log_weights": log_shares(weight), **parameters}

    def rows(self, x: Array) -> Float[Array, "N D"]:
        """Examples as rows of numbers; grey levels stay the whole numbers they are."""
        if self.num_levels is not None:
            x = whole_levels(x, self.num_levels)
        return x.reshape(x.shape[0], -1).astype(jnp.float32)

    def allowed(self, label: Int[Array, " N"] | None, count: int) -> Array:
        """Classes that rows may be of, ``[N, C]``: a label of -1 leaves all open."""
        if label is None:
            return jnp.ones((count, self.num_classes), bool)
        return (label[:, None] < 0) | (label[:, None] == jnp.arange(self.num_classes))

    def log_joint(self, parameters: Parameters, x: Array) -> Float[Array, "N C M"]:
        """Log-probability of examples together with each class and component."""
        x = self.rows(x)
        found = parameters["log_weights"] + self.component.log_prob(parameters, x, self.entries)
        return found.reshape(x.shape[0], self.num_classes, self.num_components)

    def log_prior(self, parameters: Parameters) -> Float[Array, " C"]:
        """Log-probability of each class."""
        weights = parameters["log_weights"].reshape(self.num_classes, self.num_components)
        return jax.nn.logsumexp(weights, axis=1)

    def log_prob(
        self, parameters: Parameters, x: Array, label: Int[Array, " N"] | None
    ) -> Float[Array, " N"]:
        """Log-probability of examples given their labels, or of any where there are none."""
        allowed = self.allowed(label, x.shape[0])
        joint = jnp.where(allowed[:, :, None], self.log_joint(parameters, x), -jnp.inf)
        prior = jnp.where(allowed, self.log_prior(parameters), -jnp.inf)
        return jax.nn.logsumexp(joint, axis=(1, 2)) - jax.nn.logsumexp(prior, axis=1)

    def expectation(
        self, parameters: Parameters, x: Array, label: Int[Array, " N"] | None
    ) -> tuple[Array, Sums]:
        """Mean nats of examples together with their labels, and sums by what explains each."""
        joint = self.log_joint(parameters, x)
        joint = jnp.where(self.allowed(label, x.shape[0])[:, :, None], joint, -jnp.inf)
        joint = joint.reshape(x.shape[0], -1)
        evidence = jax.nn.logsumexp(joint, axis=1)
        shares = jnp.exp(joint - evidence[:, None])
        sums = self.component.sums(parameters, self.rows(x), shares, self.entries)
        return -jnp.mean(evidence), {"weight": jnp.sum(shares, axis=0), **sums}

    def maximization(self, parameters: Parameters, sums: Sums) -> Parameters:
        """The parameters that are most likely given which component explains what."""
        weight = sums["weight"]
        made = self.component.estimate(parameters, weight, sums, self.entries)
        return {"log_weights": log_shares(weight), **made}

    def draw(
        self, key: PRNGKeyArray, parameters: Parameters, label: Int[Array, " N"] | None, count: int
    ) -> Array:
        """Examples of labels, or of any, ``[N, *event]``."""
        of_component, of_data = jax.random.split(key)
        allowed = jnp.repeat(self.allowed(label, count), self.num_components, axis=1)
        logits = jnp.where(allowed, parameters["log_weights"], -jnp.inf)
        chosen = spread_rows(jax.random.categorical(of_component, logits))
        x = self.component.draw(of_data, parameters, chosen, self.entries)
        x = x.reshape(count, *self.event_shape)
        return x if self.num_levels is None else as_levels(jnp.round(x), self.num_levels)

    def fill(
        self,
        key: PRNGKeyArray,
        parameters: Parameters,
        x: Array,
        known: Bool[Array, "N *event"],
        label: Int[Array, " N"] | None,
    ) -> Array:
        """Examples whose missing entries are drawn given the known ones and what is their label."""
        of_component, of_data = jax.random.split(key)
        # What is not known need not be a level, nor a number.
        rows, mask = self.rows(jnp.where(known, x, jnp.zeros_like(x))), known.reshape(len(x), -1)
        fits = self.component.log_prob_known(parameters, rows, mask, self.entries)
        allowed = jnp.repeat(self.allowed(label, len(x)), self.num_components, axis=1)
        logits = jnp.where(allowed, parameters["log_weights"] + fits, -jnp.inf)
        chosen = spread_rows(jax.random.categorical(of_component, logits))
        filled = self.component.fill(of_data, parameters, chosen, rows, mask, self.entries)
        filled = filled.reshape(x.shape)
        if self.num_levels is not None:
            filled = as_levels(jnp.round(filled), self.num_levels)
        return jnp.where(known, x, filled)


def mixture(
    *,
    component: Component,
    event_shape: tuple[int, ...],
    num_levels: int | None,
    num_classes: int | None = None,
    labels: bool = False,
    num_components: int = 1,
    accumulate_steps: int = 1,
) -> Family:
    r"""Mixture of components, whose latent is hidden or the label, fitted by maximum likelihood.

    With a hidden latent it is a mixture model, fitted by expectation maximisation (EM) from
    clusters of the first batch. With known labels it is naive Bayes (components that are
    independent in their entries), linear discriminant analysis (Gaussians of one full covariance)
    or quadratic (a covariance each); several components for each label make it mixture discriminant
    analysis. Rows whose label is -1 have a hidden one.

    Args:
        component: The distribution of a component.
        event_shape: Shape of one example.
        num_levels: Number of grey levels of integer data; None for real-valued data.
        num_classes: Number of classes of the data; read where labels are known.
        labels: Whether the latent is the class label.
        num_components: Number of components, of each class where labels are known.
        accumulate_steps: Steps whose sums are added up before parameters are made of them: EM is
            exact where their batches are the training set.

    Returns:
        The family. ``eval_step`` gives ``nats`` and ``bits_per_dim``, with labels those of an
        example given its label; then also ``nats_marginal`` of the example alone, and
        ``cross_entropy`` and ``error`` of the label that is most probable given the example.
        ``encode`` gives the ``posterior`` of class and component given the example, ``[B, C, M]``,
        or of the component, ``[B, M]``.

    Raises:
        ValueError: If an argument is out of range, or the component is not of such data.

    References:
        Bishop, Pattern Recognition and Machine Learning, 2006, chapters 4 and 9; Hastie and
        Tibshirani, Discriminant Analysis by Gaussian Mixtures, 1996.
    """
    if num_components < 1:
        raise ValueError(f"num_components must be at least 1, got {num_components}")
    if labels and num_classes is None:
        raise ValueError(
            "labels is True, but the data has no labels: leave it out for a hidden component"
        )
    component.check(num_levels)
    classes = num_classes if labels and num_classes is not None else 1
    model = Mixture(
        component=component,
        event_shape=event_shape,
        num_levels=num_levels,
        num_classes=classes,
        num_components=num_components,
    )

    def label_of(batch: Batch) -> Array | None:
        return batch["label"] if labels else None

    def parameters_of(params: Params) -> Parameters:
        return params["mixture"]  # type: ignore[no-any-return]

    init, train_step = expectation_maximization(
        name="mixture",
        init_parameters=lambda key, batch: model.init(key, batch, label_of(batch)),
        expectation=lambda p, batch: model.expectation(p, batch["x"], label_of(batch)),
        maximization=model.maximization,
        accumulate_steps=accumulate_steps,
    )

    def log_prob(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Array:
        del key
        return model.log_prob(parameters_of(state.params), batch["x"], label_of(batch))

    def eval_step(state: TrainState, batch: Batch, key: PRNGKeyArray) -> Metrics:
        found = dict(likelihood_metrics(-log_prob(state, batch, key)[None], math.prod(event_shape)))
        if labels:
            joint = model.log_joint(parameters_of(state.params), batch["x"])
            of_class = jax.nn.logsumexp(joint, axis=2)
            marginal = jax.nn.logsumexp(of_class, axis=1)
            true = jnp.take_along_axis(of_class, batch["label"][:, None], axis=1)[:, 0]
            wrong = jnp.argmax(of_class, axis=1) != batch["label"]
            found["nats_marginal"] = -marginal
            found["cross_entropy"] = marginal - true
            found["error"] = wrong.astype(jnp.float32)
        return found

    def sample(state: TrainState, key: PRNGKeyArray, batch: Batch) -> Samples:
        parameters = parameters_of(state.params)
        rows = model.draw(key, parameters, label_of(batch), batch["x"].shape[0])
        if num_levels is not None or event_shape != (2,) or labels:
            return Samples(rows=rows)
        density = plane_density(rows, lambda x: model.log_prob(parameters, x, None))
        return Samples(rows=rows, density=density)

    def impute(state: TrainState, batch: Batch, key: PRNGKeyArray, num_steps: int) -> Array:
        del num_steps  # one draw is exact
        parameters, label = parameters_of(state.params), label_of(batch)
        return model.fill(key, parameters, batch["x"], batch["known"], label)

    def encode(state: TrainState, batch: Batch, key: PRNGKeyArray) -> PyTree:
        del key
        joint = model.log_joint(parameters_of(state.params), batch["x"])
        posterior = jax.nn.softmax(joint, axis=(1, 2))
        return {"posterior": posterior if labels else posterior[:, 0]}

    return Family(
        init=init,
        train_step=train_step,
        eval_step=eval_step,
        sample=sample,
        log_prob=log_prob,
        encode=encode,
        impute=impute,
        eval_protocol={
            "density": component.said(num_levels),
            **({"given": "label"} if labels else {}),
            "parameters": "current",
        },
        reads=("label",) if labels else (),
        unlabelled=("label",) if labels else (),
        density_metrics=density_metrics(
            math.prod(event_shape), "bits_per_dim", in_nats=("loss", "nats", "nats_marginal")
        ),
    )
