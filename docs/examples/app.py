"""A page in the browser for your pictures: labels, heat maps and groups, on the public API.

    pip install '.[app]'
    python docs/examples/app.py clippy_dino_max

It listens on this machine alone, sends no statistics, and asks for nothing outside.
"""

import argparse
import itertools
import os
from functools import partial

# read when gradio is imported
os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}

import gradio as gr
import matplotlib
import numpy as np
from matplotlib.colors import TABLEAU_COLORS
from PIL import Image

import gestalt

# of this machine: the default theme asks Google for its own
FONTS = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")


def coloured(picture, values, names):
    """Show a map (H, W) over its picture: a colour for each name that has a pixel."""
    values = values.numpy()
    masks = [
        ((values == index) * 0.6, names[index]) for index in np.unique(values[values < len(names)])
    ]
    colours = dict(zip(names, itertools.cycle(TABLEAU_COLORS.values()), strict=False))
    return gr.AnnotatedImage(value=(picture, masks), color_map=colours)


def segment(model, picture, labels, threshold):
    """Segment a picture by comma-separated labels; return the coloured picture, the numbers, the
    choice of a heat map, and the tab.
    """
    names = [label.strip() for label in labels.split(",") if label.strip()]
    try:
        result = model.segment(
            picture, names, threshold=float(threshold) if threshold.strip() else None
        )
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from error
    rows = [
        [name, round(100 * result.areas[name], 1), round(result.scores[name].max, 3)]
        for name in names
    ]
    return (
        coloured(picture, result.map, names),
        rows,
        gr.Radio(choices=names, value=names[0]),
        gr.Tabs(selected="labels"),
    )


def heat(model, picture, label):
    """Draw the cosine of every location with a label over a picture, from its least to its largest
    value.
    """
    if picture is None or not label:
        return None
    values = model.similarity(picture, [label], templates=None, size="image")[0].numpy()
    shares = (values - values.min()) / max(float(np.ptp(values)), 1e-9)
    colours = matplotlib.colormaps["inferno"](shares, bytes=True)[..., :3]
    return Image.blend(picture, Image.fromarray(colours), 0.7)


def group(model, picture, groups):
    """Divide a picture into groups of similar locations, without labels."""
    try:
        values = model.group(picture, int(groups))
    except ValueError as error:
        raise gr.Error(str(error), print_exception=False) from error
    return coloured(
        picture, values, [f"group {number + 1}" for number in range(int(groups))]
    ), gr.Tabs(selected="groups")


def build(model):
    """Return the page for a model."""
    with gr.Blocks(title="Gestalt", analytics_enabled=False) as page:
        gr.Markdown(f"# Gestalt\nModel: `{model.name}`")
        with gr.Row():
            with gr.Column():
                picture = gr.Image(
                    type="pil",
                    image_mode="RGB",
                    sources=["upload", "clipboard"],
                    label="Picture",
                    buttons=[],
                )
                labels = gr.Textbox("dog, cat, grass", label="Labels, separated by commas")
                threshold = gr.Textbox(
                    "", label="Threshold: the least score of a labelled pixel; empty for none"
                )
                start = gr.Button("Segment", variant="primary")
                groups = gr.Slider(2, 20, value=8, step=1, label="Groups")
                divide = gr.Button("Group", elem_id="divide")
            with gr.Column(), gr.Tabs() as tabs:
                with gr.Tab("Labels", id="labels"):
                    labelled = gr.AnnotatedImage(label="Labels", format="png")
                    numbers = gr.Dataframe(
                        headers=["label", "area, %", "largest cosine"],
                        label="Areas",
                        interactive=False,
                    )
                    chosen = gr.Radio([], label="Heat map of")
                    warm = gr.Image(
                        label="Heat map",
                        interactive=False,
                        format="png",
                        elem_id="heat",
                        buttons=["download", "fullscreen"],
                    )
                with gr.Tab("Groups", id="groups"):
                    divided = gr.AnnotatedImage(label="Groups", format="png")
        start.click(
            partial(segment, model),
            [picture, labels, threshold],
            [labelled, numbers, chosen, tabs],
            api_name="segment",
        )
        chosen.change(partial(heat, model), [picture, chosen], warm, api_name="heat")
        divide.click(
            partial(group, model),
            [picture, groups],
            [divided, tabs],
            api_name="group",
        )
    return page


def start(page, port=None, wait=True):
    """Serve the page on this machine alone, and return its address."""
    theme = gr.themes.Default(font=FONTS[0], font_mono=FONTS[1])
    return page.launch(
        server_name="127.0.0.1",
        server_port=port,
        share=False,
        theme=theme,
        prevent_thread_lock=not wait,
    )[1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "model", help="an experiment, a run, a checkpoint, an exported folder, or KIND:NAME"
    )
    parser.add_argument("--port", type=int)
    words = parser.parse_args()
    start(build(gestalt.load(words.model)), words.port)
