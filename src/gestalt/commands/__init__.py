"""The commands: one file each, with its flags, checks and work.  What ``run`` needs of torch
is imported inside it, so that a typo or ``--help`` ends at once.
"""

COMMANDS = {
    "train": "train an experiment and score it after each epoch",
    "features": "cache image features of a run's pairs from its tower's frozen part",
    "pretrain": "make an image init where none can be downloaded",
    "ablate": "run a grid of experiments and compare its cells",
    "data": "download a published set; inspect a source of pairs, pack it into tars, or show it",
    "eval": "score models or checkpoints, sweep image sizes or protocols, or calibrate a threshold",
    "reproduce": "score a published number again and print both numbers",
    "score": "score label maps of any system, without a model",
    "compare": "put results side by side, with intervals over images",
    "diagnose": "say where results lose mIoU, by the cause of the wrong pixels",
    "report": "write results as one HTML page that opens from disk",
    "export": "write a trained model as a folder that loads anywhere, or as a graph",
    "list": "print what can be chosen by name: experiments, benchmarks, protocols and so on",
    "segment": "give every pixel of pictures the label that it resembles most",
    "group": "divide pictures into groups of similar locations, without labels",
}
"""The file of each command in this folder -> what it does.  A file has ``flags(parser)``, which
declares its flags, ``run(arguments)``, which returns the exit status, and most have
``check(arguments)``, which refuses bad input before torch is imported and returns what it has read;
``run`` finds that as ``arguments.checked``.
"""
