"""Twisted protocols: clients and members on one port, links, snapshots in transfer."""
