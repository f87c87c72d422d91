"""Tiny models of transformers with random weights, as ``save_pretrained`` writes them."""

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = ("a", "photo", "of", "dog", "cat", "grass", "the", "sky")
SIZE, PATCH = 64, 16
TEXT = {
    "vocab_size": 16,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
VISION = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": SIZE,
    "patch_size": PATCH,
}
NORMALISED = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25]}
ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
CLIP_TEXT = {**TEXT, **ENDS, "max_position_embeddings": 10}


def _clip(name="CLIP"):
    towers = {"text_config": CLIP_TEXT, "vision_config": VISION, "projection_dim": 12}
    return getattr(transformers, f"{name}Config")(**towers), f"{name}Model", "CLIPImageProcessor"


def _siglip():
    text = {**CLIP_TEXT, "projection_size": 24}
    return (
        transformers.SiglipConfig(text_config=text, vision_config=VISION),
        "SiglipModel",
        "SiglipImageProcessor",
    )


def _siglip2():
    text = {**CLIP_TEXT, "projection_size": 24}
    vision = {**VISION, "num_patches": (SIZE // PATCH) ** 2}
    return (
        transformers.Siglip2Config(text_config=text, vision_config=vision),
        "Siglip2Model",
        "Siglip2ImageProcessor",
    )


def _altclip():
    text = {**TEXT, **ENDS, "max_position_embeddings": 12, "project_dim": 20, "type_vocab_size": 1}
    return (
        transformers.AltCLIPConfig(text_config=text, vision_config=VISION, projection_dim=12),
        "AltCLIPModel",
        "CLIPImageProcessor",
    )


def _align():
    stages = {
        "kernel_sizes": [3, 3, 3, 3],
        "in_channels": [32] * 4,
        "out_channels": [32] * 4,
        "depthwise_padding": [],
    }
    stages |= {
        "strides": [1, 2, 2, 2],
        "num_block_repeats": [1, 1, 1, 1],
        "expand_ratios": [1, 2, 2, 2],
    }
    vision = {
        **stages,
        "image_size": SIZE,
        "width_coefficient": 0.25,
        "depth_coefficient": 1.0,
        "hidden_dim": 32,
    }
    text = {**TEXT, "max_position_embeddings": 10, "pad_token_id": 0}
    return (
        transformers.AlignConfig(text_config=text, vision_config=vision, projection_dim=320),
        "AlignModel",
        "EfficientNetImageProcessor",
    )


def _blip():
    text = {**TEXT, **ENDS, "max_position_embeddings": 10, "encoder_hidden_size": 24}
    config = transformers.BlipConfig(
        text_config=text, vision_config=VISION, projection_dim=12, image_text_hidden_size=12
    )
    return config, "BlipModel", "BlipImageProcessor"


def _blip_retrieval():
    config, _, processor = _blip()
    return config, "BlipForImageTextRetrieval", processor


def _groupvit():
    vision = {**VISION, "depths": [1, 1], "num_group_tokens": [6, 4], "num_output_groups": [6, 4]}
    config = transformers.GroupViTConfig(
        text_config=CLIP_TEXT,
        vision_config=vision,
        projection_dim=12,
        projection_intermediate_dim=20,
    )
    return config, "GroupViTModel", "CLIPImageProcessor"


KINDS = {
    "CLIP": _clip,
    "MetaCLIP 2": lambda: _clip("MetaClip2"),
    "Chinese-CLIP": lambda: _clip("ChineseCLIP"),
    "SigLIP": _siglip,
    "SigLIP 2": _siglip2,
    "AltCLIP": _altclip,
    "ALIGN": _align,
    "BLIP": _blip,
    "BLIP retrieval": _blip_retrieval,
    "GroupViT": _groupvit,
}


def save_tokenizer(folder, *, length, **options):
    """Write a tokenizer of whole words with a start and an end token."""
    vocabulary = {
        word: number for number, word in enumerate(("<pad>", "<s>", "</s>", "<unk>", *WORDS))
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    tokens = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=length, **tokens, **options
    ).save_pretrained(folder)


def saved(folder, *, kind):
    """Write a tiny model of a kind with tokenizer and image processor; returns the model."""
    torch.manual_seed(0)
    config, name, processor = KINDS[kind]()
    model = getattr(transformers, name)(config).eval()
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not key.endswith("running_var"):
            tensor += 0.05 * torch.randn(tensor.shape)  # norms, positions and running means too
    model.save_pretrained(folder)
    save_tokenizer(folder, length=10)
    options = {"patch_size": PATCH} if kind == "SigLIP 2" else {}
    options |= {"rescale_factor": 1 / 127.5, "rescale_offset": True} if kind == "ALIGN" else {}
    getattr(transformers, processor)(**NORMALISED, **options).save_pretrained(folder)
    return model
