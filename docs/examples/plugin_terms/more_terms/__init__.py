"""Two more terms of the loss."""
