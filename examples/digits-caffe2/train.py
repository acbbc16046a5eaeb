"""Digits with Caffe2: shards that find each other by files and add their gradients up over gloo.

Caffe2 was last of its own in PyTorch 1.0, for CPython 3.6:
``pip install torch==1.0.0 future six protobuf==3.19.6 "pyyaml<6" "networkx<2.6" scikit-learn==0.24.2``.
"""

import argparse
from pathlib import Path

import numpy as np
from caffe2.python import brew, core, data_parallel_model, dyndep, model_helper, optimizer, workspace
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

dyndep.InitOpsLibrary("@/caffe2/caffe2/distributed:file_store_handler_ops")


def meeting(options):
    """How the shards find each other, or None for a single one."""
    if options.num_shards == 1:
        return None
    workspace.RunOperatorOnce(
        core.CreateOperator(
            "FileStoreHandlerCreate", [], ["store"], path=options.file_store_path, prefix=options.run_id
        )
    )
    return {
        "kv_handler": "store",
        "num_shards": options.num_shards,
        "shard_id": options.shard_id,
        "engine": "GLOO",
        "transport": "tcp",
        "interface": options.distributed_interfaces,
        "exit_nets": None,
    }


def forward(model, scale):
    hidden = brew.relu(model, brew.fc(model, "images", "hidden", 64, 96), "active")
    scores = brew.fc(model, hidden, "scores", 96, 10)
    _, loss = model.SoftmaxWithLoss([scores, "labels"], ["likelihood", "loss"])
    return [model.Scale(loss, scale=scale)]


def feed(images, labels):
    workspace.FeedBlob("cpu_0/images", images)
    workspace.FeedBlob("cpu_0/labels", labels)


def scores(images):
    net = core.Net("test")
    workspace.FeedBlob("test_images", images)
    hidden = net.Relu(net.FC(["test_images", "cpu_0/hidden_w", "cpu_0/hidden_b"], "test_hidden"), "test_active")
    found = net.FC([hidden, "cpu_0/scores_w", "cpu_0/scores_b"], "test_scores")
    workspace.RunNetOnce(net)
    return workspace.FetchBlob(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num_shards", type=int, default=1)
    parser.add_argument("--shard_id", type=int, default=0)
    parser.add_argument("--run_id", default="0")
    parser.add_argument("--file_store_path", default=".", help="folder that all shards see")
    parser.add_argument("--distributed_interfaces", default="", help="network interface that the shards meet on")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch", type=int, default=32, help="images per step and shard")
    parser.add_argument("--out", default=".", help="folder of the model")
    options = parser.parse_args()

    digits = load_digits()
    x_train, x_test, y_train, y_test = train_test_split(
        (digits.data / 16.0).astype(np.float32),
        digits.target.astype(np.int32),
        test_size=0.25,
        random_state=7,
        stratify=digits.target,
    )
    feed(x_train[: options.batch], y_train[: options.batch])
    model = model_helper.ModelHelper(name="digits")
    data_parallel_model.Parallelize(
        model,
        input_builder_fun=lambda model: None,
        forward_pass_builder_fun=forward,
        optimizer_builder_fun=lambda model: optimizer.build_sgd(model, 0.1, momentum=0.9),
        devices=[0],
        rendezvous=meeting(options),
        cpu_device=True,
    )
    # The weights of shard 0 go to all shards with it.
    workspace.RunNetOnce(model.param_init_net)
    workspace.CreateNet(model.net)

    shuffle = np.random.RandomState(7)
    step = options.batch * options.num_shards
    for epoch in range(1, options.epochs + 1):
        # The same order everywhere; each shard takes its own of every num_shards images.
        order = shuffle.permutation(len(x_train))
        for start in range(0, len(order) - step + 1, step):
            chosen = order[start : start + step][options.shard_id :: options.num_shards]
            feed(x_train[chosen], y_train[chosen])
            workspace.RunNet(model.net)
        if options.shard_id == 0 and epoch % 10 == 0:
            print(f"epoch {epoch:3d}  loss {float(workspace.FetchBlob('cpu_0/loss')):.4f}", flush=True)

    # All shards must have ended with the same weights: otherwise they trained different models.
    weights = {str(blob): workspace.FetchBlob(str(blob)) for blob in model.GetParams()}
    mine = np.concatenate([value.ravel() for _, value in sorted(weights.items())])
    meet = Path(options.file_store_path)
    np.save(str(meet / f"weights-{options.run_id}-{options.shard_id}.npy"), mine)
    if options.num_shards > 1:
        data_parallel_model.Synchronize(model)
    if not np.allclose(mine, np.load(str(meet / f"weights-{options.run_id}-0.npy")), atol=1e-6):
        raise SystemExit(f"shard {options.shard_id}: the shards' weights differ")

    if options.shard_id == 0:
        accuracy = float((scores(x_test).argmax(axis=1) == y_test).mean())
        np.savez(str(Path(options.out) / "digits.npz"), **{name.split("/")[-1]: weights[name] for name in weights})
        print(f"final test accuracy {accuracy:.4f} of {options.num_shards} shards", flush=True)


main()
