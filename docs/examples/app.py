"""A page in the browser for your pictures: labels, heat maps and groups, on the public API.

    pip install '.[app,demo]'
    python docs/examples/app.py clippy_dino_max

It listens on this machine alone, sends no statistics, and asks for nothing outside.
"""

import argparse
import itertools
import os

# read when gradio is imported
os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}

import gradio as gr
import matplotlib
from matplotlib.colors import TABLEAU_COLORS, Normalize
from PIL import Image

import gestalt


def coloured(picture, values, names):
    """Show a map (H, W) over its picture: a colour for each name that has a pixel."""
    masks = [(values.numpy() == index, name) for index, name in enumerate(names)]
    shown = [(mask * 0.6, name) for mask, name in masks if mask.any()]
    colours = dict(zip(names, itertools.cycle(TABLEAU_COLORS.values()), strict=False))
    return gr.AnnotatedImage((picture, shown), color_map=colours)


def heat_map(picture, cosines):
    """Draw cosines (H, W) over a picture, from their least to their largest value."""
    colours = matplotlib.colormaps["inferno"](Normalize()(cosines), bytes=True)[..., :3]
    return Image.blend(picture, Image.fromarray(colours), 0.7)


def segment(picture, labels, threshold):
    """Segment a picture by comma-separated labels; return the coloured picture, the numbers, and a
    heat map of each label.
    """
    names = [label.strip() for label in labels.split(",") if label.strip()]
    result = model.segment(picture, names, threshold=threshold)
    rows = [
        [name, round(100 * result.areas[name], 1), round(result.scores[name].max, 3)]
        for name in names
    ]
    cosines = model.similarity(picture, names, templates=None, size="image").numpy()
    heat = [(heat_map(picture, one), name) for one, name in zip(cosines, names, strict=True)]
    return coloured(picture, result.map, names), rows, heat


def group(picture, groups):
    """Divide a picture into groups of similar locations, without labels."""
    names = [f"group {number + 1}" for number in range(groups)]
    return coloured(picture, model.group(picture, groups), names)


parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument(
    "model", help="an experiment, a run, a checkpoint, an exported folder, or KIND:NAME"
)
parser.add_argument("--port", type=int)
words = parser.parse_args()
model = gestalt.load(words.model)

with gr.Blocks(title="Gestalt") as page:
    gr.Markdown(f"# Gestalt\nModel: `{model.name}`")
    with gr.Row():
        with gr.Column():
            picture = gr.Image(label="Picture", type="pil", sources=["upload", "clipboard"])
            labels = gr.Textbox("dog, cat, grass", label="Labels, separated by commas")
            threshold = gr.Number(
                None, label="Threshold: the least score of a labelled pixel; empty for none"
            )
            start = gr.Button("Segment", variant="primary")
            groups = gr.Slider(2, 20, 8, step=1, precision=0, label="Groups")
            divide = gr.Button("Group", elem_id="divide")
        with gr.Column():
            labelled = gr.AnnotatedImage(label="Labels", format="png")
            numbers = gr.Dataframe(headers=["label", "area, %", "largest cosine"])
            heat = gr.Gallery(label="Heat maps", format="png", elem_id="heat")
            divided = gr.AnnotatedImage(label="Groups", format="png")
    start.click(segment, [picture, labels, threshold], [labelled, numbers, heat])
    divide.click(group, [picture, groups], divided)

# fonts of this machine: the default theme asks Google for its own
theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
page.launch(server_name="127.0.0.1", server_port=words.port, theme=theme, show_error=True)
