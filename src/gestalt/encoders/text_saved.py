"""The text side of an exported model: a sentence-transformers model without its weights, in a folder that needs neither package nor hub."""

import copy
import json
from pathlib import Path
from typing import Any

from torch import nn

from gestalt.encoders.text_sentence import SentenceModel, prepare
from gestalt.support.files import replacing

HEAD = "head.json"
"""The file of the layers after the encoder; beside it stand the encoder's ``config.json`` and the files of the tokenizer."""


def save_text(model: SentenceModel, folder: Path) -> None:
    """Write the architecture of the encoder and of the Dense layers, and the tokenizer, to a folder that is made if missing."""
    config = copy.deepcopy(model.encoder.config)
    config.architectures, config._name_or_path = [type(model.encoder).__name__], ""  # the path is of the machine that exported
    config.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    layers = [{"in": layer.in_features, "out": layer.out_features, "bias": layer.bias is not None} for layer in model.dense]
    head = {"pooling": model.pooling, "dense": layers, "longest": model.longest}
    with replacing(folder / HEAD) as partial:
        partial.write_text(json.dumps(head, indent=1) + "\n", encoding="utf-8")


def read_text(folder: Path) -> SentenceModel:
    """Build what ``save_text`` described, with fresh weights; nothing is downloaded and no code of the folder is run.

    Raises:
        ValueError: a file that is missing or cannot be read, or an encoder that this version of transformers lacks.
    """
    import transformers

    try:
        head = json.loads((folder / HEAD).read_text(encoding="utf-8"))
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        make: Any = getattr(transformers, str((config.architectures or [""])[0]), None)
        if not (isinstance(make, type) and issubclass(make, transformers.PreTrainedModel)):
            raise ValueError(f"transformers {transformers.__version__} has no encoder {config.architectures}")
        encoder: Any = make(config)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        dense = [nn.Linear(layer["in"], layer["out"], bias=layer["bias"]) for layer in head["dense"]]
        pooling, longest = str(head["pooling"]), int(head["longest"])
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise ValueError(
            f"{folder}: cannot be read as the text model of an exported folder: {' '.join(str(error).split())[:300]}"
        ) from error
    prepare(encoder)
    return SentenceModel(encoder, tokenizer, pooling=pooling, dense=dense, longest=longest, source=f"folder {folder}")
