"""finn: fault-tolerant network services in Python, replicated with Raft, served over RESP."""

__version__ = "0.1.0"
