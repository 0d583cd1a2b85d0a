"""genjax: functional training of generative models in JAX and Flax.

Importing this package imports none of its parts: take ``genjax.losses`` alone and only jax comes
with it.
"""
