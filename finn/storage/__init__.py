"""Durable things: files and the disk thread, log stores, snapshots and the identity of a node."""
