"""Real ``twistd`` processes, real sockets, on loopback only."""
