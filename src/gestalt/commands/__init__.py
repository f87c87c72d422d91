"""The commands of the command line: one file for each, with its flags, checks and work.

``run`` imports torch and similar packages inside the function, so that a typo or ``--help`` ends at
once.
"""

COMMANDS = {
    "train": "train an experiment and score it after each epoch",
    "features": "cache the features of the frozen part of a run's image tower",
    "pretrain": "pretrain an image tower where no weights can be downloaded",
    "ablate": "run a grid of experiments and compare its cells",
    "data": "download a published data set; inspect image-text pairs, pack them into tars, or show "
    "them",
    "eval": "score models or checkpoints, sweep image sizes or protocols, or calibrate a threshold",
    "reproduce": "measure a published number again and print both numbers",
    "survey": "score models on benchmarks, each under its own and a common protocol, on one page",
    "score": "score label maps of any system, without a model",
    "compare": "print results in one table, with intervals over images",
    "diagnose": "split the mIoU that results lose among the causes of wrong pixels",
    "report": "write results to one HTML page that opens without a server",
    "export": "write a trained model to a folder that loads anywhere, or to ONNX or torch.export",
    "list": "list the names of experiments, benchmarks, protocols and other choices",
    "segment": "label every pixel of pictures with the most similar of several words",
    "group": "divide pictures into groups of similar patches, without labels",
}
"""The file of each command in this folder -> what the command does.

Each file has ``flags(parser)``, which declares the flags, and ``run(arguments)``, which returns the
exit status. Most files also have ``check(arguments)``, which refuses bad input before torch is
imported. The return value of ``check`` is available to ``run`` as ``arguments.checked``.
"""
