"""Dense prediction: the protocol, and the steps from an image to the winning prompt of a pixel."""
