"""Plans of training runs: speed, memory and time, estimated from a few steps."""
