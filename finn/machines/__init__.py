"""The bundled machine: a key-value store that answers as Redis does (``finn.machines.kv:KV``)."""
