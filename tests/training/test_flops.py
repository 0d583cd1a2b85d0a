import jax
import jax.numpy as jnp
import pytest

from genjax.nets.convolution import Conv, ConvTranspose
from genjax.training.flops import matrix_bytes, matrix_flops
from genjax.training.plan import collectives_of


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def test_products_count_two_operations_a_term():
    assert matrix_flops(jnp.matmul, shape(4, 8), shape(8, 3)) == 2 * 4 * 8 * 3
    batched = matrix_flops(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), shape(5, 4, 8),
                           shape(5, 8, 3))  # fmt: skip
    assert batched == 5 * 2 * 4 * 8 * 3


def test_bytes_are_those_of_operands_and_results():
    assert matrix_bytes(jnp.matmul, shape(4, 8), shape(8, 3)) == 4 * (4 * 8 + 8 * 3 + 4 * 3)

    def loop(x):  # elementwise work between is not counted, every turn is
        return jax.lax.scan(lambda h, _: (jnp.tanh(h @ h), None), x, None, length=5)[0]

    assert matrix_bytes(loop, shape(8, 8)) == 5 * 4 * 3 * 8 * 8
    conv = Conv(6, (3, 3), use_bias=False)
    params = jax.eval_shape(conv.init, jax.random.key(0), shape(2, 8, 8, 4))
    assert matrix_bytes(conv.apply, params, shape(2, 8, 8, 4)) == 4 * (
        2 * 8 * 8 * 4 + 3 * 3 * 4 * 6 + 2 * 8 * 8 * 6
    )


def test_a_gradient_costs_a_forward_pass_for_each_of_its_arguments():
    loss = lambda w, x: jnp.sum(jnp.tanh(x @ w) ** 2)  # noqa: E731
    args = shape(8, 3), shape(4, 8)
    once = matrix_flops(loss, *args)
    assert matrix_flops(jax.grad(loss), *args) == 2 * once
    assert matrix_flops(jax.grad(loss, argnums=(0, 1)), *args) == 3 * once
    again = jax.grad(jax.checkpoint(loss), argnums=(0, 1))
    assert matrix_flops(again, *args) == 4 * once


def test_scans_count_every_turn_and_conditionals_the_cheapest_branch():
    def many(w, x):
        return jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0]

    assert matrix_flops(many, shape(6, 8, 8), shape(4, 8)) == 6 * 2 * 4 * 8 * 8
    assert matrix_flops(jax.jit(many), shape(6, 8, 8), shape(4, 8)) == 6 * 2 * 4 * 8 * 8

    def sometimes(x, due):
        return jax.lax.cond(due, lambda: jnp.sum(x @ x.T), lambda: 0.0) + jnp.sum(x.T @ x)

    due = jax.ShapeDtypeStruct((), bool)
    assert matrix_flops(sometimes, shape(4, 8), due) == 2 * 8 * 8 * 4


@pytest.mark.parametrize("layer, size", [
    (Conv(5, (3, 3)), 9),
    (Conv(6, (3, 3), feature_group_count=2), 8),
    (ConvTranspose(5, (4, 4), strides=(2, 2)), 8),
])  # fmt: skip
def test_convolutions_count_what_the_compiler_counts(layer, size):
    x = shape(2, size, size, 4)
    params = jax.eval_shape(layer.init, jax.random.key(0), x)
    loss = lambda p, x: jnp.sum(layer.apply(p, x) ** 2)  # noqa: E731
    compiled = jax.jit(layer.apply).lower(params, x).compile().cost_analysis()
    compiled = compiled[0] if isinstance(compiled, list) else compiled
    counted = matrix_flops(layer.apply, params, x)
    # The compiler leaves out products with the padding, and counts the bias.
    assert counted == pytest.approx(compiled["flops"], rel=0.35)
    assert matrix_flops(jax.grad(loss, argnums=(0, 1)), params, x) == pytest.approx(
        3 * counted, rel=0.35
    )


LOOP = """
%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %c = f32[] add(%a, %b)
}

%inner (x: (f32[4])) -> (f32[4]) {
  %y = f32[4]{0} all-reduce(%x), to_apply=%add
}

%seldom (x: (f32[4])) -> (f32[4]) {
  %z = f32[1024]{0} all-gather(%x), dimensions={0}
}

%often (x: (f32[4])) -> (f32[4]) {
  %w = bf16[8]{0} all-gather-start(%x), dimensions={0}
}

%test (x: (f32[4])) -> pred[] {
  ROOT %p = pred[] constant(true)
}

%outer (x: (f32[4])) -> (f32[4]) {
  %l = (f32[4]) while(%x), condition=%test, body=%inner, backend_config={"known_trip_count":{"n":"5"}}
  %m = (f32[4]) conditional(%p, %l, %l), branch_computations={%seldom, %often}
}

ENTRY %main (x: (f32[4])) -> (f32[4]) {
  %k = (f32[4]) while(%x), condition=%test, body=%outer, backend_config={"known_trip_count":{"n":"3"}}
  %r = f32[2]{0} reduce-scatter(%k), to_apply=%add
  ROOT %u = (f32[4]) while(%k), condition=%test, body=%inner
}
"""  # noqa: E501


def test_collectives_in_loops_count_every_turn():
    assert collectives_of(LOOP) == {
        "all-gather": (3, 3 * 16),
        "all-reduce": (16, 16 * 16),
        "reduce-scatter": (1, 8),
    }
