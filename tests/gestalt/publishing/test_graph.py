"""The dense image encoder as a graph equals the model at any size and batch, or no file is
written.
"""

import json
import re
import zipfile
from pathlib import Path

import pytest
import torch
from timm.layers import padding

import gestalt
from gestalt.models.start import build_model
from gestalt.publishing.graph import DenseGraph, preprocessing, trace, write_onnx, write_program
from tests.gestalt.command import run_here
from tests.gestalt.models.zoo import test_open_clip, test_timm, tiny_hf
from tests.gestalt.tiny_config import tiny_config
from tests.gestalt.tiny_model import WORDS, save_run, tiny

NONE = "image.patch_size=null image.width=null image.depth=null image.heads=null"
KINDS = {
    "positions of 224 pixels": (
        f"image.backbone=vit_tiny_patch16_224 {NONE} image.depth=2 image.eval_size=224"
    ),
    "cnn padded as in TensorFlow": (
        f"image.family=cnn image.backbone=tf_mobilenetv3_small_minimal_100 {NONE} "
        "image.train_size=64 image.eval_size=64 image.keep_tokens=1.0"
    ),
}


def build(words):
    torch.manual_seed(0)
    config = tiny_config(*WORDS, *words.split())
    return build_model(config).eval().requires_grad_(False), config.image.eval_size


@pytest.fixture(scope="module")
def traced():
    graph = DenseGraph(tiny()[0].requires_grad_(False))
    return graph, trace(graph)


@torch.no_grad()
def test_the_graph_gives_the_same_outputs_as_the_model_and_names_no_file_of_this_machine(
    traced, tmp_path
):
    graph, program = traced
    lines = write_program(program, tmp_path / "a.pt2", graph=graph, side=32)
    assert len(lines) == 3
    assert all("0.0e+00 dense, 0.0e+00 pooled" in line for line in lines)
    images = graph.example(4, rows=3, columns=9)
    dense, pooled = torch.export.load(tmp_path / "a.pt2").module()(images)
    model = tiny()[0]
    torch.testing.assert_close(dense, model.embed_patches(images), atol=1e-6, rtol=0)
    torch.testing.assert_close(pooled, model.embed_image(images), atol=1e-6, rtol=0)
    here = str(Path(gestalt.__file__).parent).encode()
    with zipfile.ZipFile(tmp_path / "a.pt2") as file:
        assert not any(here in file.read(name) for name in file.namelist())


def test_a_graph_of_other_weights_is_not_written(traced, tmp_path):
    other = DenseGraph(build("seed=1")[0])
    with pytest.raises(
        ValueError,
        match=r"a\.pt2: 1 x 32 x 32 pixels, .*: above 0\.0001, so the file was not written",
    ):
        write_program(traced[1], tmp_path / "a.pt2", graph=other, side=32)
    assert not list(tmp_path.iterdir())


class DependsOnValues(DenseGraph):
    """Branches on a value of the image."""

    def forward(self, pixels):
        dense, pooled = super().forward(pixels)
        return (dense if bool((pooled > 0).all()) else -dense), pooled


def test_a_model_that_cannot_be_traced_is_refused_in_one_line(capfd):
    with pytest.raises(
        ValueError,
        match=r"torch\.export cannot trace this model: Could not guard on data-dependent",
    ) as raised:
        trace(DependsOnValues(tiny()[0]))
    assert "\n" not in str(raised.value)
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.slow
def test_a_cnn_padded_as_in_tensorflow_is_traced_at_any_multiple_of_its_stride(tmp_path):
    general = padding.get_same_padding
    model, side = build(KINDS["cnn padded as in TensorFlow"])
    graph = DenseGraph(model)
    program = trace(graph)
    assert padding.get_same_padding is general
    lines = write_program(program, tmp_path / "a.pt2", graph=graph, side=side)
    sizes = ("1 x 64 x 64", "2 x 64 x 128", "3 x 96 x 160")
    assert [line.split(",")[0] for line in lines] == [f"a.pt2: {size} pixels" for size in sizes]
    assert all("0.0e+00 dense, 0.0e+00 pooled" in line for line in lines)


@torch.no_grad()
def test_float_pixels_in_0_to_1_are_the_same_pictures():
    model = tiny()[0]
    graph, floats = DenseGraph(model), DenseGraph(model, pixels="float")
    images = graph.example(2, rows=4, columns=5)
    assert torch.equal(floats.example(2, rows=4, columns=5), images / 255)
    for ours, theirs in zip(graph(images), floats(images / 255), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_onnx_equals_the_model(kind, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    model, side = build(KINDS[kind])
    graph = DenseGraph(model)
    assert len(write_onnx(trace(graph), tmp_path / "a.onnx", graph=graph, side=side)) == 3
    session = runtime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_outputs()] == ["dense", "pooled"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["open_clip", "hf", "timm"])
def test_onnx_of_another_library_s_vit_equals_the_model(kind, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    folder = tmp_path / "model"
    if kind == "open_clip":
        test_open_clip.saved(folder)
    elif kind == "hf":
        tiny_hf.saved(folder, kind="CLIP")
    else:
        test_timm.saved(folder, *test_timm.MODELS["class token"])
    model = gestalt.load(f"{kind}:{folder}", "cpu")
    graph, side = DenseGraph(model.encoder), model.config.image.eval_size
    assert len(write_onnx(trace(graph), tmp_path / "a.onnx", graph=graph, side=side)) == 3


@pytest.mark.slow
def test_the_command_writes_both_files_and_prints_what_it_measured(cwd, capsys):
    runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    line = f"export {save_run(cwd)} --onnx a.onnx --torch-export a.pt2 --pixels float"
    run_here(f'{line} --labels "a dog, cat"')
    lines = capsys.readouterr().out.splitlines()
    measured = r"largest difference to the model \d\.\de-\d+ dense|0\.0e\+00 dense"
    assert len(re.findall(measured, "\n".join(lines))) == 6
    assert {"a.onnx", "a.pt2"} <= set(lines)
    session = runtime.InferenceSession("a.onnx", providers=["CPUExecutionProvider"])
    shapes = {end.name: end.shape for end in (*session.get_inputs(), *session.get_outputs())}
    assert shapes == {
        "pixels": ["batch", 3, "height", "width"],
        "dense": ["batch", 32, "rows", "columns"],
        "pooled": ["batch", 32],
    }
    notes = session.get_modelmeta().custom_metadata_map
    assert json.loads(notes["preprocessing"])["value_range"] == [0, 1]
    labels = json.loads(notes["labels"])
    vectors = torch.tensor(json.loads(notes["label_embeddings"]))
    assert labels == ["a dog", "cat"]
    torch.testing.assert_close(vectors, tiny()[0].embed_text(labels))


def test_the_preprocessing_that_is_written_gives_the_pixels_that_the_tower_reads():
    model = tiny()[0]
    graph = DenseGraph(model)
    known = preprocessing(graph, side=32)
    pixels = graph.example(1, rows=4, columns=5)
    mean, std = (torch.tensor(known[key]).view(3, 1, 1) for key in ("mean", "std"))
    torch.testing.assert_close(
        model.image_tower.normalise(pixels), (pixels / known["value_range"][1] - mean) / std
    )
    assert (known["size"], known["multiple_of"]) == ([32, 32], [8, 8])


def test_labels_are_for_an_onnx_file(cwd, refusal):
    said = refusal("export run --torch-export a.pt2 --labels dog")
    assert "--labels: they are written to the ONNX file; name one with --onnx FILE" in said
