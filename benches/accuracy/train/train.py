"""Learns the weights of the net that looks at suspicious moments (detectors/video/block_damage/upstream/net.rs).

Reads records that `cargo run -p glasswatch-accuracy --bin upstream -- learn` wrote (set tune only), writes weights as
bfloat16, prints how well clips that were held out are told apart. Started by `run`, which makes the environment.

Net: 4 planes of 64x64 -> four convolutions 3x3 of stride 2, clipped at zero -> mean and largest of each channel,
with the context -> 32 -> 1.
"""

import argparse
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

EDGE = 64
PLANES = 4
CONTEXT = 8
RECORD = PLANES * EDGE * EDGE + 4 * (CONTEXT + 1) + 12
CHANNELS = [12, 24, 32, 40]
HIDDEN = 32


def read(path):
    raw = np.fromfile(path, dtype=np.uint8)
    raw = raw[: len(raw) // RECORD * RECORD].reshape(-1, RECORD)
    planes = raw[:, : PLANES * EDGE * EDGE].reshape(-1, PLANES, EDGE, EDGE)
    floats = raw[:, PLANES * EDGE * EDGE : -12].copy().view(np.float32)
    ids = raw[:, -12:].copy().view(np.uint32)
    return planes, floats[:, :CONTEXT], floats[:, CONTEXT], ids


def start(key):
    params = []
    before = PLANES
    for after in CHANNELS:
        key, k = jax.random.split(key)
        scale = (2.0 / (9 * before)) ** 0.5
        params.append((scale * jax.random.normal(k, (after, before, 3, 3)), jnp.zeros(after)))
        before = after
    wide = 2 * before + CONTEXT
    for rows, columns in [(HIDDEN, wide), (1, HIDDEN)]:
        key, k = jax.random.split(key)
        scale = (2.0 / columns) ** 0.5
        params.append((scale * jax.random.normal(k, (rows, columns)), jnp.zeros(rows)))
    return params


def weights_of(path, like):
    """Weights that were written before, to go on from."""
    kept = np.fromfile(path, dtype=np.uint8)[:-4].view("<u2").astype(np.uint32) << 16
    leaves, shape = jax.tree.flatten(like)
    cuts = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = np.split(kept.view(np.float32), cuts)
    return jax.tree.unflatten(shape, [p.reshape(l.shape) for p, l in zip(parts, leaves)])


def prepare(planes):
    """As Net::planes does: three planes about the mean of the moment, what no motion explains as it is."""
    x = planes.astype(jnp.float32)
    mean = x[:, 1:2].mean(axis=(2, 3), keepdims=True)
    about = (x - mean) / 32.0
    return jnp.concatenate([about[:, :2], x[:, 2:3] / 16.0, about[:, 3:]], axis=1)


def net(params, x, context, drop=None):
    for weights, bias in params[:-2]:
        x = jax.lax.conv_general_dilated(x, weights, (2, 2), [(1, 1), (1, 1)])
        x = jax.nn.relu(x + bias[None, :, None, None])
    x = jnp.concatenate([x.mean(axis=(2, 3)), x.max(axis=(2, 3)), context], axis=1)
    if drop is not None:
        x = x * jax.random.bernoulli(drop, 0.8, x.shape) / 0.8
    (w, b), (last, bias) = params[-2:]
    return (jax.nn.relu(x @ w.T + b) @ last.T + bias)[:, 0]


def loss(params, planes, context, label, weight, key):
    flip, shade, drop = jax.random.split(key, 3)
    x = prepare(planes)
    gain = jnp.exp(0.3 * jax.random.normal(shade, (x.shape[0], 1, 1, 1)))
    x = x * gain
    x = jnp.where(jax.random.bernoulli(flip, 0.5, (x.shape[0], 1, 1, 1)), x[..., ::-1], x)
    z = net(params, x, context, drop)
    # What is sound must not be called damaged at any price: it weighs more the worse it is.
    each = jax.nn.softplus(jnp.where(label > 0.5, -z, z))
    return (each * weight).sum() / weight.sum()


@jax.jit
def step(params, moments, at, batch, key, rate):
    value, grads = jax.value_and_grad(loss)(params, *batch, key)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, moments[0], grads)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, moments[1], grads)

    def move(p, m, v):
        return p - rate * (m / (1 - 0.9**at) / (jnp.sqrt(v / (1 - 0.999**at)) + 1e-8) + 1e-3 * p)

    return jax.tree.map(move, params, first, second), (first, second), value


@jax.jit
def logits(params, planes, context):
    return net(params, prepare(planes), context)


def all_logits(params, planes, context, size=512):
    out = []
    for i in range(0, len(planes), size):
        part, around = planes[i : i + size], context[i : i + size]
        short = size - len(part)
        if short:
            part = np.concatenate([part, np.zeros((short, *part.shape[1:]), np.uint8)])
            around = np.concatenate([around, np.zeros((short, CONTEXT), np.float32)])
        out.append(np.asarray(logits(params, part, around))[: size - short])
    return np.concatenate(out) if out else np.zeros(0)


def bfloat(values):
    bits = np.asarray(values, np.float32).ravel().view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def rounded(values):
    shape = np.shape(values)
    bits = bfloat(values).astype(np.uint32) << 16
    return bits.view(np.float32).reshape(shape)


def auc(high, low):
    low = np.sort(low)
    below = np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")
    return below.mean() / 2 / max(len(low), 1)


def report(name, z, label, ids):
    """By patch, and by moment: mean of the two highest patches, one that is not there counting 0."""
    high, low = z[label > 0.5], z[label == 0]
    print(f"{name}: patches {len(high)}+{len(low)} AUC {auc(high, low):.4f}", end="; ")
    moments = {}
    for value, l, (clip, picture, kind) in zip(z, label, ids):
        moments.setdefault((clip, picture, kind), []).append((value, l))
    score = {True: [], False: []}
    worst = []
    for key, patches in moments.items():
        if any(l < 0 for _, l in patches) and not any(l > 0.5 for _, l in patches):
            continue
        mean = sum(sorted((v for v, _ in patches), reverse=True)[:2]) / 2
        bad = any(l > 0.5 for _, l in patches)
        score[bad].append(mean)
        if not bad:
            worst.append((mean, key))
    bad, good = np.array(score[True]), np.array(score[False])
    worst.sort(reverse=True)
    limits = [worst[min(k, len(worst) - 1)][0] for k in (0, 2, 9)]
    found = [(bad > limit).mean() for limit in limits]
    print(f"moments {len(bad)}+{len(good)} AUC {auc(bad, good):.4f}", end="; ")
    print("found above the 1st, 3rd, 10th highest sound one:", " ".join(f"{f:.3f}@{l:.2f}" for f, l in zip(found, limits)))
    print("  highest sound:", [(round(float(v), 1), tuple(int(x) for x in k)) for v, k in worst[:12]])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", nargs="+")
    parser.add_argument("--weights", default="detectors/video/block_damage/upstream/weights.bin")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=270.0, help="stop after")
    parser.add_argument("--start", help="weights to go on from")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--quiet", action="store_true", help="no report")
    parser.add_argument("--all", action="store_true", help="hold nothing out")
    parser.add_argument("--logits", help="write the log odds of all records here")
    given = parser.parse_args()
    parts = [read(path) for path in given.records]
    planes, context, label, ids = (np.concatenate(p) for p in zip(*parts))
    held = (ids[:, 0] % 5 == 4) & (not given.all)
    use = np.flatnonzero(~held & (label >= 0))
    print(f"{len(use)} to learn from, {(label[use] > 0.5).sum()} damaged")
    # A clip with many moments must not drown the others.
    names, turn, count = np.unique(ids[:, 0] * 8 + ids[:, 2], return_inverse=True, return_counts=True)
    weight = np.minimum(1.0, 60.0 / count[turn]).astype(np.float32)
    damaged = label > 0.5
    # What came out of a decoder is the thing itself.
    weight[damaged & (ids[:, 2] == 2)] *= 3.0
    weight[damaged] *= 0.5 * weight[use].sum() / max(weight[use][damaged[use]].sum(), 1.0)
    key = jax.random.PRNGKey(1)
    params = start(key)
    if given.start:
        params = weights_of(given.start, params)
    zeros = jax.tree.map(jnp.zeros_like, params)
    moments = (zeros, zeros)
    order = np.random.default_rng(1)
    began, at = time.time(), 0
    steps = given.epochs * (len(use) // given.batch)
    for epoch in range(given.epochs):
        total = 0.0
        mixed = order.permutation(use)
        for i in range(len(mixed) // given.batch):
            pick = mixed[i * given.batch : (i + 1) * given.batch]
            at += 1
            # One cycle of the rate, by steps or by time, whichever is further on.
            done = max(at / steps, (time.time() - began) / given.seconds)
            rate = given.rate * min(1.0, at / 100) * (0.5 + 0.5 * np.cos(np.pi * min(done, 1.0)))
            key, k = jax.random.split(key)
            batch = (planes[pick], context[pick], label[pick], weight[pick])
            params, moments, value = step(params, moments, float(at), batch, k, rate)
            total += float(value)
            if done >= 1.0:
                break
        print(f"epoch {epoch}: loss {total / (i + 1):.4f}, {time.time() - began:.0f} s", flush=True)
        if time.time() - began > given.seconds:
            break
    params = jax.tree.map(rounded, params)
    z = np.zeros(0) if given.quiet else all_logits(params, planes, context)
    real = ids[:, 2] < 3
    parts = [("learned", ~held), ("held out", held), ("held out, decoded", held & real)]
    for name, part in [] if given.quiet else parts:
        if (label[part] > 0.5).any() and (label[part] == 0).any():
            report(name, z[part], label[part], ids[part])
    flat = [leaf for pair in params for leaf in pair]
    # Behind the weights stands the answer to a made-up pattern, for the test of the net in Rust.
    y, x = np.mgrid[:EDGE, :EDGE]
    pattern = [((x * (3 + p) + y * 5 + p * 40) ^ (x * y // 7)) & 255 for p in range(PLANES)]
    around = 0.1 * np.arange(CONTEXT, dtype=np.float32)
    answer = all_logits(params, np.array([pattern], np.uint8), around[None])
    with open(given.weights, "wb") as file:
        file.write(b"".join(bfloat(leaf).tobytes() for leaf in flat))
        file.write(answer.astype("<f4").tobytes())
    print(sum(np.size(leaf) for leaf in flat), "weights")
    if given.logits:
        np.save(given.logits, z)


if __name__ == "__main__":
    sys.exit(main())
