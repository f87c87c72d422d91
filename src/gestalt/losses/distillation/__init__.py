"""Self-distillation: prototypes, targets without collapse, masks; pretraining uses them, and so may
a loss term of image-text training.
"""
