"""The node: drives the core, applies what is committed, and answers clients and members."""
