"""Pictures as a user hands them over, read as training data are."""

from gestalt.data_modules.pixels.pictures import Picture, read_picture, read_pictures

__all__ = ["Picture", "read_picture", "read_pictures"]
