"""Own files in, recovered inputs out; nothing in a file is ever run."""

import argparse
import os
import pickle
import sys
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from spear_core import client
from spear_core.attack import files, loading
from spear_core.errors import InputError
from spear_core.study.metrics import compare
from tests.core.zoo import batch, mlp, seeded


@pytest.fixture
def folder(tmp_path):
    model = nn.Sequential(nn.Linear(12, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 5)).double().eval()
    gradients = client.gradients(model, *batch(b=3))
    torch.save(model, tmp_path / "model.pt")
    torch.save(model.state_dict(), tmp_path / "state.pt")
    torch.save(gradients, tmp_path / "gradients.pt")
    torch.save(list(gradients.values()), tmp_path / "list.pt")
    np.savez(tmp_path / "gradients.npz", **{name: grad.numpy() for name, grad in gradients.items()})
    (tmp_path / "own_networks.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    layers = nn.Linear(12, 40), nn.BatchNorm1d(40), nn.ReLU(), nn.Linear(40, 5)\n"
        "    return nn.Sequential(*layers).double()\n"
        "def nothing():\n"
        "    return 3\n"
        "def fails():\n"
        "    raise RuntimeError('no such data')\n"
        "def leaves():\n"
        "    raise SystemExit(3)\n"
    )
    return tmp_path


@pytest.fixture
def own_networks(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    yield "own_networks:build"
    sys.modules.pop("own_networks", None)


def run(*arguments):
    parser = argparse.ArgumentParser()
    files.add_commands(parser.add_subparsers(required=True))
    args = parser.parse_args([str(argument) for argument in arguments])
    return args.run(args)


@pytest.mark.parametrize("name", ["gradients.pt", "list.pt", "gradients.npz"])
def test_diagnose(folder, name):
    text = run("diagnose", folder / "model.pt", folder / name)
    assert "BatchNorm1d → ReLU" in text and "attacks layer '0'" in text


def test_a_state_dict_with_its_network(folder, own_networks):
    plain = run("diagnose", folder / "model.pt", folder / "gradients.pt")
    assert run("diagnose", folder / "state.pt", folder / "gradients.pt", "--network", own_networks) == plain


def test_invert(folder):
    text = run(
        "invert", folder / "model.pt", folder / "gradients.pt", "--out", folder / "out", "--shape", "3,2,2"
    )
    inputs, labels = (np.load(folder / "out" / name) for name in ("inputs.npy", "labels.npy"))
    score = compare(torch.from_numpy(inputs), batch(b=3)[0])
    assert float(score.psnr.min()) > 150
    assert np.array_equal(labels[score.order], batch(b=3)[1])
    report = (folder / "out" / "report.txt").read_text(encoding="utf-8")
    assert report.startswith("Inversion\n  recovered          3 of 3 samples") and report.strip() in text
    pictures = sorted(folder.glob("out/sample_*.png"))
    assert len(pictures) == 3 and all(str(path) in text for path in pictures)
    assert Image.open(pictures[0]).size == (2, 2) and Image.open(pictures[0]).mode == "RGB"


@pytest.mark.parametrize(("shape", "mode"), [("3,4", "L"), ("1,3,4", "L"), ("2,2,3", "RGB"), ("3,4,1", "L")])
def test_pictures_in_the_stated_order(folder, shape, mode):
    run("invert", folder / "model.pt", folder / "gradients.pt", "--out", folder, "--shape", shape)
    picture = Image.open(folder / "sample_0.png")
    row = np.load(folder / "inputs.npy")[0]
    pixels = np.round(255 * (row - row.min()) / (row.max() - row.min()))
    assert picture.mode == mode and np.array_equal(np.asarray(picture).ravel(), pixels)


def test_options_reach_the_attack(folder):
    common = ("invert", folder / "model.pt", folder / "gradients.pt", "--out", folder)
    with pytest.raises(InputError, match="one of '0', '3', got 'fc'"):
        run(*common, "--layer", "fc")
    with pytest.raises(InputError, match="got 0"):
        run(*common, "--batch-size", "0")
    with pytest.raises(InputError, match="from 0 on"):
        run(*common, "--time-limit", "-1")
    with pytest.raises(InputError, match=r"must have 12 numbers in all, got \(5, 5\)"):
        run(*common, "--shape", "5,5")
    with pytest.raises(InputError, match=r"must be in eval mode|bias gradient is zero"):
        run(*common, "--train")


def test_a_second_run_leaves_nothing_of_the_first(folder):
    common = ("invert", folder / "model.pt", folder / "gradients.pt", "--out", folder / "out")
    run(*common, "--shape", "3,4")
    own = folder / "out" / "notes.txt"
    own.write_text("mine")
    model = nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 1)).double()
    torch.save(model, folder / "model.pt")
    torch.save(
        client.gradients(model, batch(b=3)[0], torch.ones(3, 1).double(), nn.functional.mse_loss), common[2]
    )
    run(*common)
    left = {path.name for path in (folder / "out").iterdir()}
    assert (
        left == {"inputs.npy", "certified_rows.npy", "report.txt", "notes.txt"} and own.read_text() == "mine"
    )


def test_pictures_of_the_user_stay_where_no_run_was_before(folder):
    picture = folder / "sample_77.png"
    picture.write_bytes(b"mine")
    run("invert", folder / "model.pt", folder / "gradients.pt", "--out", folder)
    assert picture.read_bytes() == b"mine"


def test_what_would_lose_the_result_is_refused_before_the_search(folder, monkeypatch):
    monkeypatch.setattr(files, "invert", lambda *_, **__: pytest.fail("searched"))
    common = ("invert", folder / "model.pt", folder / "gradients.pt", "--out")
    (folder / "file").write_text("")
    for out in (folder / "file", folder / "file" / "below"):
        with pytest.raises(InputError, match=r"--out must be a folder.*file is a file"):
            run(*common, out)
    with pytest.raises(InputError, match=r"must have 12 numbers in all, got \(5, 5\)"):
        run(*common, folder / "out", "--shape", "5,5")
    assert not (folder / "out").exists()


@pytest.mark.parametrize("shape", ["a,b", "3,0,4", "12", "1,2,3,4", "-3,4"])
def test_a_shape_that_is_none_is_named(folder, shape, capsys):
    with pytest.raises(SystemExit):
        run("invert", folder / "model.pt", folder / "gradients.pt", "--out", folder, f"--shape={shape}")
    assert "must be two or three whole numbers, as 3,32,32" in capsys.readouterr().err


class Hostile:
    def __reduce__(self):
        return os.mkdir, (os.environ["SPEAR_TEST_TARGET"],)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
@pytest.mark.parametrize("place", ["model", "gradients"])
def test_a_hostile_pickle_is_refused(folder, place, writer, monkeypatch):
    target = folder / "owned"
    monkeypatch.setenv("SPEAR_TEST_TARGET", str(target))
    bad = folder / "bad.pt"
    if writer == "torch":
        torch.save({"0.weight": Hostile()}, bad)
    else:
        bad.write_bytes(pickle.dumps(Hostile()))
    names = {"model": folder / "model.pt", "gradients": folder / "gradients.pt"} | {place: bad}
    with pytest.raises(InputError, match=r"bad.pt must be .* without running code \(weights only\), got: "):
        run("diagnose", names["model"], names["gradients"])
    assert not target.exists()


def test_a_hostile_array_archive_is_refused(folder, monkeypatch):
    monkeypatch.setenv("SPEAR_TEST_TARGET", str(folder / "owned"))
    np.savez(folder / "bad.npz", weight=np.array([Hostile()], dtype=object))
    with pytest.raises(InputError, match=r"bad.npz must be an archive of arrays"):
        run("diagnose", folder / "model.pt", folder / "bad.npz")
    assert not (folder / "owned").exists()


def test_arrays_without_names_are_a_list(folder):
    model, x = mlp(), batch(b=3)
    arrays = [grad.numpy() for grad in client.gradients(model, *x).values()]
    np.savez(folder / "unnamed.npz", *arrays)
    found = loading.load_gradients(folder / "unnamed.npz")
    assert [np.array_equal(*pair) for pair in zip(found, arrays, strict=True)] == [True] * 6
    torch.save(model, folder / "model.pt")
    run("invert", folder / "model.pt", folder / "unnamed.npz", "--out", folder / "out")
    assert float(compare(torch.from_numpy(np.load(folder / "out" / "inputs.npy")), x[0]).psnr.min()) > 150


def test_safetensors(folder, own_networks):
    save_file = pytest.importorskip("safetensors.torch").save_file
    save_file(torch.load(folder / "gradients.pt"), folder / "gradients.safetensors")
    save_file(torch.load(folder / "state.pt"), folder / "state.safetensors")
    plain = run("diagnose", folder / "model.pt", folder / "gradients.pt")
    both = folder / "state.safetensors", folder / "gradients.safetensors"
    assert run("diagnose", *both, "--network", own_networks) == plain
    both[1].write_bytes(both[1].read_bytes()[:100])
    with pytest.raises(InputError, match="must be a safetensors file"):
        loading.load_gradients(both[1])


def test_safetensors_without_the_library_says_so(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(InputError, match="pip install safetensors"):
        loading.load_gradients(folder / "gradients.safetensors")


def write_others(folder):
    np.save(folder / "one.npy", np.ones(3))
    (folder / "a.pkl").write_bytes(pickle.dumps({"weight": np.ones(3)}))
    (folder / "a.json").write_text('{"weight": [1.0]}')
    (folder / "a.txt").write_text("one, two")
    (folder / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99))
    torch.save({"weight": np.ones(3)}, folder / "arrays.pt")
    np.savez(folder / "objects.npz", weight=np.array([{}], dtype=object))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("one.npy", r"np.savez\('gradients.npz', \*arrays\)"),
        (
            "a.pkl",
            "a pickle, which can run any code .* where you trust its origin, load it there and write torch.save",
        ),
        ("a.json", "JSON perhaps: make tensors"),
        ("a.txt", "must be a mapping"),
        ("a.h5", "an HDF5 file: read its arrays with h5py"),
        ("arrays.pt", "NumPy arrays: save torch.as_tensor"),
        ("objects.npz", "objects, which can run any code .*: write arrays of numbers"),
    ],
)
@pytest.mark.parametrize("renamed", ["", ".pt", ".npz"])
def test_no_message_advises_to_run_code(folder, name, hint, renamed):
    write_others(folder)
    path = (folder / name).rename(folder / (name + renamed))
    match = hint if renamed != ".npz" or path.suffix == "" else "must be an archive of arrays"
    if renamed and name == "objects.npz":
        match = "must be"
    with pytest.raises(InputError, match=match) as refusal:
        loading.load_gradients(path)
    assert not [
        word for word in ("weights_only", "allow_pickle", "pickle.load") if word in str(refusal.value)
    ]


@pytest.mark.parametrize("name", ["bomb.npz", "bomb.pt"])
def test_a_small_file_that_claims_to_unpack_to_a_large_one_is_refused_before_it_is_unpacked(
    folder, name, monkeypatch
):
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weight.npy", bytes(300 * 2**20))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_, **__: pytest.fail("unpacked"))
    with pytest.raises(InputError, match="MiB that claims to unpack to 300 MiB"):
        loading.load_gradients(folder / name, mlp())


class Own(nn.Sequential):
    """A class that only this file knows."""


def test_a_model_of_an_own_class_is_refused_by_name(folder):
    torch.save(Own(nn.Linear(2, 2)), folder / "own.pt")
    with pytest.raises(InputError, match=r"torch.nn's classes, or a state dict with --network.*got: .*Own"):
        loading.load_model(folder / "own.pt")


@pytest.mark.parametrize(
    ("model", "network", "match"),
    [
        ("absent.pt", None, "must be a file that can be read: No such file"),
        ("state.pt", None, "got OrderedDict without --network"),
        ("list.pt", "own_networks:build", "got list with --network"),
        ("gradients.pt", "own_networks:build", "must be a state dict of own_networks:build"),
        ("state.pt", "own_networks", "must be package.module:callable without arguments"),
        ("state.pt", "own_networks:absent", "must be package.module:callable without arguments"),
        ("state.pt", "absent_networks:build", "must be package.module:callable without arguments"),
        ("state.pt", "own_networks:fails", "without arguments, got .*: RuntimeError: no such data"),
        ("state.pt", "own_networks:leaves", "without arguments, got .*: SystemExit: 3"),
        ("state.pt", "own_networks:nothing", "must build a torch.nn.Module, got int"),
        ("own_networks.py", None, "without running code"),
    ],
)
def test_refusals(folder, own_networks, model, network, match):
    with pytest.raises(InputError, match=match):
        loading.load_model(folder / model, network)


@pytest.mark.parametrize("cut", [0, 10, 500])
def test_truncated_files_are_refused(folder, cut):
    for name in ("gradients.pt", "gradients.npz"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:cut])
        with pytest.raises(InputError, match=f"{name} must be"):
            loading.load_gradients(folder / name)


def test_random_bytes_are_refused(folder):
    noise = torch.randint(256, (400,), generator=seeded(), dtype=torch.uint8).numpy().tobytes()
    for name in ("noise.pt", "noise.npz"):
        (folder / name).write_bytes(noise)
        with pytest.raises(InputError):
            loading.load_gradients(folder / name)


def test_prefixes_in_a_state_dict(folder, own_networks):
    state = {f"module.{name}": value for name, value in torch.load(folder / "state.pt").items()}
    torch.save(state, folder / "wrapped.pt")
    model = loading.load_model(folder / "wrapped.pt", own_networks)
    assert not model.training and torch.equal(model[0].weight, state["module.0.weight"])


def test_a_plain_network_trip(tmp_path):
    torch.save(mlp(), tmp_path / "model.pt")
    assert loading.load_model(tmp_path / "model.pt", train=True).training


def test_pictures_behind_convolutions_are_written(tmp_path):
    generator = torch.Generator().manual_seed(0)
    front = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    model = nn.Sequential(*front, nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 5))
    inputs = torch.randn(3, 1, 8, 8, generator=generator)
    torch.save(model, tmp_path / "model.pt")
    torch.save(client.gradients(model, inputs, torch.arange(3)), tmp_path / "gradients.pt")
    out = tmp_path / "out"
    arguments = ["invert", tmp_path / "model.pt", tmp_path / "gradients.pt", "--out", out, "--batch-size", 3]
    assert "pictures (1, 8, 8)" in run(*arguments, "--input-shape", "1,8,8")
    assert np.load(out / "network_inputs.npy").shape == (3, 1, 8, 8)
    assert len(np.load(out / "network_inputs_certified.npy")) == 3
    run(*arguments)
    assert not (out / "network_inputs.npy").exists(), "what an earlier result left goes"
