"""Programs that use a node with the clients people use: ``PROGRAM PORT``, "passed VERSION"."""
