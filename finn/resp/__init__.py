"""The Redis protocol, without I/O: commands from bytes, replies to bytes."""
