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


def _towers(text=CLIP_TEXT, vision=VISION, **more):
    return {"text_config": text, "vision_config": vision, **more}


WITH_TWELVE = {"projection_dim": 12}
CLIP = _towers(**WITH_TWELVE)
SIGLIP_TEXT = {**CLIP_TEXT, "projection_size": 24}
ALT_TEXT = {**CLIP_TEXT, "max_position_embeddings": 12, "project_dim": 20, "type_vocab_size": 1}
ALIGN_TEXT = {**TEXT, "max_position_embeddings": 10, "pad_token_id": 0}
ALIGN_VISION = {
    "kernel_sizes": [3, 3, 3, 3],
    "in_channels": [32] * 4,
    "out_channels": [32] * 4,
    "depthwise_padding": [],
    "strides": [1, 2, 2, 2],
    "num_block_repeats": [1, 1, 1, 1],
    "expand_ratios": [1, 2, 2, 2],
    "image_size": SIZE,
    "width_coefficient": 0.25,
    "depth_coefficient": 1.0,
    "hidden_dim": 32,
}
BLIP_TEXT = {**CLIP_TEXT, "encoder_hidden_size": 24}
BLIP = _towers(BLIP_TEXT, **WITH_TWELVE, image_text_hidden_size=12)
GROUPS = {"depths": [1, 1], "num_group_tokens": [6, 4], "num_output_groups": [6, 4]}
GROUPVIT = _towers(vision={**VISION, **GROUPS}, **WITH_TWELVE, projection_intermediate_dim=20)
TIPS = _towers(
    {**ALIGN_TEXT, "hidden_size": 24},
    {**VISION, "num_register_tokens": 2},
    auto_map={"AutoModel": "modeling_tips.TIPSv2Model"},  # as published
)
KINDS = {  # configuration, its options, model, image processor
    "CLIP": ("CLIP", CLIP, "CLIPModel", "CLIP"),
    "MetaCLIP 2": ("MetaClip2", CLIP, "MetaClip2Model", "CLIP"),
    "Chinese-CLIP": ("ChineseCLIP", CLIP, "ChineseCLIPModel", "CLIP"),
    "SigLIP": ("Siglip", _towers(SIGLIP_TEXT), "SiglipModel", "Siglip"),
    "SigLIP 2": (
        "Siglip2",
        _towers(SIGLIP_TEXT, {**VISION, "num_patches": (SIZE // PATCH) ** 2}),
        "Siglip2Model",
        "Siglip2",
    ),
    "AltCLIP": ("AltCLIP", _towers(ALT_TEXT, **WITH_TWELVE), "AltCLIPModel", "CLIP"),
    "ALIGN": (
        "Align",
        _towers(ALIGN_TEXT, ALIGN_VISION, projection_dim=320),
        "AlignModel",
        "EfficientNet",
    ),
    "BLIP": ("Blip", BLIP, "BlipModel", "Blip"),
    "BLIP retrieval": ("Blip", BLIP, "BlipForImageTextRetrieval", "Blip"),
    "TIPSv2": ("Tipsv2", TIPS, "Tipsv2Model", "Tipsv2"),
    "GroupViT": ("GroupViT", GROUPVIT, "GroupViTModel", "CLIP"),
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
    family, towers, name, processor = KINDS[kind]
    config = getattr(transformers, f"{family}Config")(**towers)
    model = getattr(transformers, name)(config).eval()
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not key.endswith("running_var"):
            tensor += 0.05 * torch.randn(tensor.shape)  # norms, positions and running means too
    model.save_pretrained(folder)
    save_tokenizer(folder, length=10)
    options = {"patch_size": PATCH} if kind == "SigLIP 2" else {}
    options |= {"rescale_factor": 1 / 127.5, "rescale_offset": True} if kind == "ALIGN" else {}
    getattr(transformers, f"{processor}ImageProcessor")(**NORMALISED, **options).save_pretrained(
        folder
    )
    config = folder / "config.json"
    config.write_text(config.read_text().replace("Tipsv2Model", "TIPSv2Model"))  # as published
    return model
