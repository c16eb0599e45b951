"""How two members get to know each other: sans-I/O, a function of frames.

All frames are RESP arrays of bulk strings, but the last. D dials, A accepts::

    D: RAFTLINK version cluster-id from-id from-address to-id kind instance fresh nonce-d
    A: RAFTLINK version cluster-id id      address            instance fresh nonce-a proof-a
    D: PROOF proof-d
    A: +OK                                          or at any point: -ERR reason, and closes

Ids and instances are 16 hexadecimal digits, 0 for none; ``fresh`` is 0 or 1; ``to-id`` is 0
when anybody may answer (probes). Nonces are 32 random bytes.

With a shared secret, proof-a and proof-d are HMAC-SHA256 under it over a label of the side that
proves and every field of both first frames, each preceded by its length: a proof made for one
side, id, address, kind, or pair of nonces is worth nothing anywhere else, so it can neither be
replayed nor reflected. Over TLS a value derived from the channel is covered too, and a relay
between two channels shows. Without a secret the proofs are empty, and one that is not is refused:
a half-configured cluster says so at once.

The acceptor judges ids and cluster only after it has seen the proof, so that nobody without
the secret can act on a node by claiming to be somebody.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass

from finn.errors import FinnError, printable
from finn.protocols.frames import FrameReader
from finn.protocols.wire import VERSION

HELLO = b"RAFTLINK"
PROOF = b"PROOF"
KINDS = ("raft", "snapshot", "probe")
NONCE_SIZE = 32
HANDSHAKE_BYTES = 4096
HANDSHAKE_PARTS = 16
_DIALER = b"finn link dialer"
_ACCEPTOR = b"finn link acceptor"
_MAX_ADDRESS = 300


class LinkRefused(FinnError):
    """A handshake failed; the text says why, for both sides' logs."""


@dataclass(frozen=True)
class LinkIdentity:
    """What a node says of itself on its links, and what it asks of the other side.

    Attributes:
        node_id: 64-bit id.
        cluster_id: 64-bit id, 0 while the node belongs to no cluster.
        address: how others reach the node.
        instance: drawn by each process anew.
        secret: shared by the members, or None.
        fresh: the node holds no data of any cluster.
        certificates: a peer must have shown a certificate of the cluster's CA.
    """

    node_id: int
    cluster_id: int
    address: str
    instance: int
    secret: str | None = None
    fresh: bool = False
    certificates: bool = False


@dataclass(frozen=True)
class PeerHello:
    """What the other side said of itself; true as far as secret or certificate prove it.

    ``kind`` is the kind of the link, ``to_id`` the id that was dialled.
    """

    node_id: int
    cluster_id: int
    address: str
    instance: int
    fresh: bool
    kind: str = "raft"
    to_id: int = 0


class Dialling:
    """The dialing side.

    Args:
        identity: of this node.
        to_id: the id expected, 0 for any.
        kind: of the link.
        nonce: 32 fresh random bytes.
        binding: returns a value derived from the TLS channel, or nothing.
    """

    def __init__(
        self,
        identity: LinkIdentity,
        to_id: int,
        kind: str,
        nonce: bytes,
        binding: Callable[[], bytes],
    ) -> None:
        self._identity = identity
        self._to_id = to_id
        self._kind = kind
        self._binding = binding
        self.peer: PeerHello | None = None
        self.hello = [
            HELLO,
            b"%d" % VERSION,
            _hex(identity.cluster_id),
            _hex(identity.node_id),
            identity.address.encode(),
            _hex(to_id),
            kind.encode(),
            _hex(identity.instance),
            b"%d" % identity.fresh,
            nonce,
        ]

    def receive(self, frame: list[bytes]) -> list[bytes]:
        """Check the acceptor's answer and return the frame that proves this side.

        Raises:
            LinkRefused: the answer is not what it should be.
        """
        if len(frame) != 9 or frame[0] != HELLO:
            raise LinkRefused("answer to RAFTLINK makes no sense: is it a finn node?")
        _check_version(frame[1])
        answer, proof = frame[:8], frame[8]
        _, _, cluster, node, address, instance, fresh, nonce = answer
        if len(nonce) != NONCE_SIZE:
            raise LinkRefused("nonce has a wrong size")
        peer = PeerHello(
            _unhex(node),
            _unhex(cluster),
            _address(address),
            _unhex(instance),
            fresh == b"1",
            self._kind,
            self._to_id,
        )
        secret = self._identity.secret
        binding = self._binding()
        _check_proof(secret, proof, _ACCEPTOR, self.hello, answer, binding)
        self.peer = peer
        return [PROOF, _prove(secret, _DIALER, self.hello, answer, binding)]

    def accepted(self) -> PeerHello:
        """The acceptor said OK: return who it is.

        Raises:
            LinkRefused: it is not whom we dialled.
        """
        if self.peer is None:
            raise LinkRefused("accepted before it proved itself")
        refusal = judge(
            self.peer.node_id,
            self.peer.cluster_id,
            self._to_id,
            self._identity.cluster_id,
            self._kind,
        )
        if refusal is not None:
            raise LinkRefused(refusal)
        return self.peer


class Accepting:
    """The accepting side.

    Args:
        identity: of this node.
        hello: the dialer's first frame.
        nonce: 32 fresh random bytes.
        binding: as for ``Dialling``.

    Raises:
        LinkRefused: the hello makes no sense.
    """

    def __init__(
        self,
        identity: LinkIdentity,
        hello: list[bytes],
        nonce: bytes,
        binding: Callable[[], bytes],
    ) -> None:
        if len(hello) > 1:
            _check_version(hello[1])
        if len(hello) != 10 or hello[0] != HELLO:
            raise LinkRefused("RAFTLINK has a wrong number of fields")
        _, _, cluster, node, address, to_id, kind, instance, fresh, their_nonce = hello
        if kind.decode("ascii", "replace") not in KINDS:
            raise LinkRefused(f"unknown kind of link '{printable(kind, 32)}'")
        if len(their_nonce) != NONCE_SIZE:
            raise LinkRefused("nonce has a wrong size")
        self.peer = PeerHello(
            _unhex(node),
            _unhex(cluster),
            _address(address),
            _unhex(instance),
            fresh == b"1",
            kind.decode(),
            _unhex(to_id),
        )
        self._identity = identity
        self._hello = hello
        self._binding = binding()
        answer = [
            HELLO,
            b"%d" % VERSION,
            _hex(identity.cluster_id),
            _hex(identity.node_id),
            identity.address.encode(),
            _hex(identity.instance),
            b"%d" % identity.fresh,
            nonce,
        ]
        self._answer = answer
        proof = _prove(identity.secret, _ACCEPTOR, hello, answer, self._binding)
        self.answer = [*answer, proof]

    def receive(self, frame: list[bytes]) -> PeerHello:
        """Check the dialer's proof, and only then what it claims.

        Raises:
            LinkRefused: it does not prove the secret.
            WrongPeer: it does, but this is not the node or cluster it looks for.
        """
        if len(frame) != 2 or frame[0] != PROOF:
            raise LinkRefused("proof expected")
        identity, peer = self._identity, self.peer
        _check_proof(identity.secret, frame[1], _DIALER, self._hello, self._answer, self._binding)
        if peer.kind != "probe" and peer.node_id == identity.node_id:
            raise WrongPeer("this is the dialing node itself", peer)
        refusal = judge(
            identity.node_id, identity.cluster_id, peer.to_id, peer.cluster_id, peer.kind
        )
        if refusal is not None:
            raise WrongPeer(refusal, peer)
        return peer


class WrongPeer(LinkRefused):
    """The other side proved the secret, but belongs to another cluster or looks for another id.

    Args:
        reason: why.
        hello: what it said.
    """

    def __init__(self, reason: str, hello: PeerHello) -> None:
        super().__init__(reason)
        self.hello = hello


def judge(
    node_id: int, cluster_id: int, dialled: int, dialer_cluster: int, kind: str
) -> str | None:
    """Say why a node (the first two) is not the one that was dialled, or None when it is.

    A node without a cluster may be dialled by a member of any: that is how it gets one.
    """
    if dialled and dialled != node_id:
        return f"node {node_id:016x} answers here, not {dialled:016x}"
    if kind == "probe":
        return None
    if not dialled:
        return "a link has to say which node it dials"
    if cluster_id and cluster_id != dialer_cluster:
        return f"node is in cluster {cluster_id:016x}, not {dialer_cluster:016x}"
    return None


def _hex(number: int) -> bytes:
    return b"%016x" % number


def _unhex(text: bytes) -> int:
    if len(text) != 16 or not set(text) <= set(b"0123456789abcdef"):
        raise LinkRefused("id makes no sense")
    return int(text, 16)


def _address(data: bytes) -> str:
    try:
        address = data.decode()
    except UnicodeDecodeError:
        raise LinkRefused("address makes no sense") from None
    if len(address) > _MAX_ADDRESS or not address.isprintable():
        raise LinkRefused("address makes no sense")
    return address


def _check_version(version: bytes) -> None:
    if version != b"%d" % VERSION:
        raise LinkRefused(
            f"link format version {printable(version, 16)} is not known, {VERSION} is spoken here"
        )


def _prove(
    secret: str | None, label: bytes, hello: list[bytes], answer: list[bytes], binding: bytes
) -> bytes:
    if secret is None:
        return b""
    proof = hmac.new(secret.encode("utf-8", "surrogateescape"), digestmod="sha256")
    for field in (label, *hello, *answer, binding):
        proof.update(len(field).to_bytes(4, "little"))
        proof.update(field)
    return proof.digest()


def _check_proof(
    secret: str | None,
    proof: bytes,
    label: bytes,
    hello: list[bytes],
    answer: list[bytes],
    binding: bytes,
) -> None:
    if secret is None:
        if proof:
            raise LinkRefused("the other side has a secret (--auth-file), this node has none")
        return
    if not proof:
        raise LinkRefused("this node has a secret (--auth-file), the other side has none")
    if not hmac.compare_digest(_prove(secret, label, hello, answer, binding), proof):
        raise LinkRefused("the secrets (--auth-file) differ")


class HandshakeReader:
    """Cuts handshake frames out of a stream: short arrays, or one status line.

    It is strict and holds little: nobody has proved anything yet.
    """

    def __init__(self) -> None:
        self._frames = FrameReader(HANDSHAKE_BYTES, HANDSHAKE_PARTS)
        self._held = b""
        self._begun = False  # a frame is incomplete in the frame reader

    def feed(self, data: bytes) -> None:
        """Take bytes."""
        self._held += data

    def next(self) -> list[bytes] | str | None:
        """Return the next frame, a status line as text, or None when it is not complete.

        Raises:
            LinkRefused: it is neither, or longer than allowed.
        """
        held = self._held
        if not held:
            return None
        if not self._begun and held[0] in b"+-":
            end = held.find(b"\r\n", 0, HANDSHAKE_BYTES)
            if end < 0:
                if len(held) >= HANDSHAKE_BYTES:
                    raise LinkRefused("handshake is too long")
                return None
            self._held = held[end + 2 :]
            return printable(held[:end], 512)
        self._held = b""
        frames = self._frames.feed(held, 1)
        if self._frames.error is not None:
            raise LinkRefused(f"{self._frames.error} in the handshake: is it a finn node?")
        self._begun = not frames
        if not frames:
            return None
        self._held = self._frames.take_rest()
        return frames[0]

    def rest(self) -> bytes:
        """Return and forget what is not parsed."""
        rest, self._held = self._held, b""
        return rest
