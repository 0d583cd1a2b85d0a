"""Neural spline flows on the tables that density estimators are compared on.

Command:  python scripts/run.py --config=experiments/flow/tabular.py:power \
              --workdir=/tmp/genjax/flow_power --config.data.data_dir=FOLDER
Expected: not run: the tables are not part of genjax.

FOLDER holds `train.npy` and `test.npy`, rows of real numbers, preprocessed as for the Masked
Autoregressive Flow (arXiv:1705.07057, appendix D; https://zenodo.org/record/1161203 has the raw
tables). What is reported, `eval/nats`, is minus the mean log-likelihood in nats that papers give.
Models are chosen by validation: put that split into `test.npy`, or name it with
`--config.data.test_split=validation` for `validation.npy`.

Settings are the defaults of the code of Durkan et al., arXiv:1906.04032: 10 layers of a random
permutation, an LU linear layer and a spline coupling, 8 bins on [-3, 3], residual networks of 2
blocks of 256, dropout 0.25, the entries that a coupling keeps mapped by splines too; Adam with
3e-4, cosine to 0 over 200,000 steps, clipped at 5. (The paper varies some of them from table to
table.)
"""

from ml_collections import ConfigDict

# Columns of the tables, so that a folder of another is noticed.
NUM_COLUMNS = dict(power=6, gas=8, hepmass=21, miniboone=43, bsds300=63)


def get_config(table: str = "power") -> ConfigDict:
    """Returns the config for a table of :data:`NUM_COLUMNS`."""
    if table not in NUM_COLUMNS:
        raise ValueError(f"the table must be one of {', '.join(NUM_COLUMNS)}, got {table!r}")
    return ConfigDict(
        dict(
            data=dict(
                name="npy",
                batch_size=512,
                event_shape=(NUM_COLUMNS[table],),
            ),
            model=dict(
                name="coupling_flow",
                elementwise="spline",
                num_layers=10,
                hidden_size=256,
                num_blocks=2,
                dropout_rate=0.25,
                num_bins=8,
                bound=3.0,
                permute=True,
                marginal=True,
                actnorm=False,
            ),
            family=dict(name="flow", ema_decay=0.999),
            optimizer=dict(
                name="adamw",
                learning_rate=3e-4,
                warmup_steps=0,
                b2=0.999,
                weight_decay=0.0,
                decay_steps=200_000,
                clip_norm=5.0,
            ),
            train=dict(
                num_steps=200_000,
                eval_every=2_500,
                sample_every=0,
                checkpoint_every=2_500,
                best_metric="eval/nats",
            ),
            eval=dict(batch_size=2_000),
            sample=dict(num_samples=1_000),
        )
    )
