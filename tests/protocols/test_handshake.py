"""Tests for finn.protocols.handshake, without any transport."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from finn.protocols.handshake import (
    HANDSHAKE_BYTES,
    Accepting,
    Dialling,
    HandshakeReader,
    LinkIdentity,
    LinkRefused,
    WrongPeer,
    _prove,
)
from finn.protocols.wire import frame

NONCE_D = b"d" * 32
NONCE_A = b"a" * 32


def identity(node_id: int, cluster_id: int = 7, secret: str | None = "s3cret") -> LinkIdentity:
    return LinkIdentity(node_id, cluster_id, f"host{node_id}:1", node_id * 100, secret)


def no_channel() -> bytes:
    return b""


class Handshake:
    """Both sides of a handshake; every part may be replaced before it runs."""

    def __init__(
        self,
        dialer: LinkIdentity | None = None,
        acceptor: LinkIdentity | None = None,
        to_id: int = 2,
        kind: str = "raft",
    ) -> None:
        self.dialing = Dialling(dialer or identity(1), to_id, kind, NONCE_D, no_channel)
        self.acceptor = acceptor or identity(2)
        self.nonce = NONCE_A

    def run(self) -> None:
        """Go through all three frames."""
        self.accepting = Accepting(self.acceptor, self.dialing.hello, self.nonce, no_channel)
        self.proof = self.dialing.receive(self.accepting.answer)
        self.dialer = self.accepting.receive(self.proof)
        self.peer = self.dialing.accepted()


class Agreement(SynchronousTestCase):
    """Who should come together does."""

    def test_with_a_secret(self) -> None:
        """Both prove it, and know each other."""
        shake = Handshake()
        shake.run()
        self.assertEqual((shake.peer.node_id, shake.peer.address), (2, "host2:1"))
        self.assertEqual((shake.dialer.node_id, shake.dialer.instance), (1, 100))
        self.assertEqual((shake.dialer.to_id, shake.dialer.kind), (2, "raft"))
        self.assertEqual(len(shake.proof[1]), 32)

    def test_without_a_secret(self) -> None:
        """Nothing is proved where nothing is to be proved."""
        shake = Handshake(identity(1, secret=None), identity(2, secret=None))
        shake.run()
        self.assertEqual(shake.proof, [b"PROOF", b""])

    def test_a_secret_of_any_bytes(self) -> None:
        """Secrets come from files, which need not be UTF-8."""
        secret = b"\xff\x00\xe4".decode("utf-8", "surrogateescape")
        Handshake(identity(1, secret=secret), identity(2, secret=secret)).run()

    def test_a_node_without_a_cluster_may_be_dialled(self) -> None:
        """That is how it gets one."""
        shake = Handshake(acceptor=identity(2, cluster_id=0))
        shake.run()
        self.assertEqual(shake.dialer.cluster_id, 7)

    def test_a_probe_asks_whoever_answers(self) -> None:
        """Of any cluster, with any id, even the asking node itself."""
        for acceptor in (identity(2, 8), identity(1), identity(3, 0)):
            shake = Handshake(acceptor=acceptor, to_id=0, kind="probe")
            shake.run()
            self.assertEqual(shake.peer.node_id, acceptor.node_id)
            self.assertEqual(shake.peer.cluster_id, acceptor.cluster_id)

    def test_freshness_is_told(self) -> None:
        """A node that holds no data says so."""
        fresh = LinkIdentity(2, 0, "host2:1", 5, "s3cret", fresh=True)
        shake = Handshake(acceptor=fresh, to_id=0, kind="probe")
        shake.run()
        self.assertTrue(shake.peer.fresh)
        self.assertFalse(shake.dialer.fresh)


class Refusals(SynchronousTestCase):
    """Who should not, does not, and hears why."""

    def refused(self, shake: Handshake, text: str) -> LinkRefused:
        with self.assertRaises(LinkRefused) as caught:
            shake.run()
        self.assertIn(text, str(caught.exception))
        return caught.exception

    def test_another_secret(self) -> None:
        """The dialer notices first: the acceptor proves before it asks for a proof."""
        self.refused(
            Handshake(acceptor=identity(2, secret="other")), "secrets (--auth-file) differ"
        )

    def test_a_secret_on_one_side_only(self) -> None:
        """A half-configured cluster says so."""
        self.refused(Handshake(acceptor=identity(2, secret=None)), "the other side has none")
        self.refused(Handshake(identity(1, secret=None)), "this node has none")

    def test_another_cluster(self) -> None:
        """After the proof, so that the acceptor's node may believe it."""
        error = self.refused(Handshake(acceptor=identity(2, 8)), "in cluster 0000000000000008")
        assert isinstance(error, WrongPeer)
        self.assertEqual(error.hello.cluster_id, 7)

    def test_no_cluster_may_not_dial_into_one(self) -> None:
        """A node that lost its identity is no member."""
        self.refused(Handshake(identity(1, 0)), "node is in cluster")

    def test_another_id(self) -> None:
        """An address may have changed hands."""
        self.refused(Handshake(to_id=3), "node 0000000000000002 answers here")

    def test_a_link_dials_somebody(self) -> None:
        """Only a probe is for anybody."""
        self.refused(Handshake(to_id=0), "has to say which node")

    def test_itself(self) -> None:
        """An id that is used twice, or a node that dialled itself."""
        self.refused(Handshake(acceptor=identity(1), to_id=1), "the dialing node itself")

    def test_the_dialer_judges_too(self) -> None:
        """An acceptor that says OK in spite of all is not believed."""
        shake = Handshake(to_id=3)
        with self.assertRaises(LinkRefused):
            shake.run()
        self.assertRaises(LinkRefused, shake.dialing.accepted)

    def test_ok_without_proof(self) -> None:
        """An acceptor cannot skip its part."""
        self.assertRaises(LinkRefused, Handshake().dialing.accepted)

    def test_another_version(self) -> None:
        """It is named, on either side."""
        shake = Handshake()
        shake.dialing.hello[1] = b"2"
        self.refused(shake, "version 2 is not known, 1 is spoken here")
        shake = Handshake()
        answer = Accepting(shake.acceptor, shake.dialing.hello, NONCE_A, no_channel).answer
        answer[1] = b"99"
        with self.assertRaises(LinkRefused) as caught:
            shake.dialing.receive(answer)
        self.assertIn("version 99", str(caught.exception))

    def test_fields_that_make_no_sense(self) -> None:
        """Each is looked at before anything is done with it."""
        for position, value in (
            (2, b"xyz"),
            (3, b"00000000000000000001"),
            (3, b"000000000000000G"),
            (4, b"\xff\xfe"),
            (4, b"a" * 400),
            (4, b"host\r\n:1"),
            (5, b""),
            (6, b"other"),
            (6, b"\xff"),
            (7, b"-000000000000001"),
            (9, b"short"),
        ):
            shake = Handshake()
            shake.dialing.hello[position] = value
            with self.assertRaises(LinkRefused, msg=f"{position} {value!r}"):
                shake.run()
        for hello in ([b"RAFTLINK"], [b"RAFTLINK", b"1"], [*Handshake().dialing.hello, b"x"]):
            with self.assertRaises(LinkRefused):
                Accepting(identity(2), hello, NONCE_A, no_channel)
        for proof in ([b"PROOF"], [b"NO", b"x"], [b"RAFTLINK", b"1", b"x"]):
            accepting = Accepting(identity(2), Handshake().dialing.hello, NONCE_A, no_channel)
            with self.assertRaises(LinkRefused):
                accepting.receive(proof)

    @given(st.lists(st.binary(max_size=40), max_size=12))
    def test_noise(self, parts: list[bytes]) -> None:
        """Whatever comes, it is a refusal and no other error."""
        dialing = Handshake().dialing
        for attempt in (
            lambda: Accepting(identity(2), [b"RAFTLINK", b"1", *parts], NONCE_A, no_channel),
            lambda: dialing.receive([b"RAFTLINK", b"1", *parts]),
            lambda: dialing.receive(parts),
        ):
            try:
                attempt()
            except LinkRefused:
                pass


class Attacks(SynchronousTestCase):
    """A proof is worth something in one place only."""

    def setUp(self) -> None:
        self.genuine = Handshake()
        self.genuine.run()

    def differs(self, call: object, *args: object) -> None:
        with self.assertRaises(LinkRefused) as caught:
            call(*args)  # type: ignore[operator]
        self.assertIn("differ", str(caught.exception))

    def test_a_replayed_handshake(self) -> None:
        """The acceptor's nonce is fresh: a recorded proof does not fit it."""
        accepting = Accepting(identity(2), self.genuine.dialing.hello, b"b" * 32, no_channel)
        self.differs(accepting.receive, self.genuine.proof)

    def test_a_replayed_answer(self) -> None:
        """So is the dialer's: a recorded answer does not fit it."""
        dialing = Dialling(identity(1), 2, "raft", b"e" * 32, no_channel)
        self.differs(dialing.receive, self.genuine.accepting.answer)

    def test_a_reflected_proof(self) -> None:
        """The acceptor's proof, sent back, does not prove the dialer."""
        accepting = Accepting(identity(2), self.genuine.dialing.hello, NONCE_A, no_channel)
        self.differs(accepting.receive, [b"PROOF", accepting.answer[-1]])

    def test_a_reflected_hello(self) -> None:
        """A dialer's own hello sent back to it brings an answer of another id."""
        dialing = Dialling(identity(1), 2, "raft", NONCE_D, no_channel)
        back = Accepting(identity(1), dialing.hello, NONCE_A, no_channel)
        proof = dialing.receive(back.answer)
        self.assertRaises(WrongPeer, back.receive, proof)
        self.assertRaises(LinkRefused, dialing.accepted)

    def test_a_changed_field(self) -> None:
        """Whatever is altered on the way, in either frame, breaks the proof."""
        for position, value in (
            (2, b"%016x" % 8),
            (3, b"%016x" % 9),
            (4, b"evil:1"),
            (5, b"%016x" % 9),
            (6, b"snapshot"),
            (7, b"%016x" % 9),
            (8, b"1"),
            (9, b"x" * 32),
        ):
            dialing = Dialling(identity(1), 2, "raft", NONCE_D, no_channel)
            hello = list(dialing.hello)
            hello[position] = value
            accepting = Accepting(identity(2), hello, NONCE_A, no_channel)
            self.differs(dialing.receive, accepting.answer)
        for position, value in (
            (2, b"%016x" % 8),
            (3, b"%016x" % 9),
            (4, b"evil:1"),
            (5, b"%016x" % 9),
            (6, b"1"),
            (7, b"x" * 32),
        ):
            dialing = Dialling(identity(1), 2, "raft", NONCE_D, no_channel)
            answer = list(self.genuine.accepting.answer)
            answer[position] = value
            self.differs(dialing.receive, answer)

    def test_fields_cannot_be_shifted(self) -> None:
        """The same bytes cut otherwise are other bytes to the proof."""
        one = identity(1)
        other = LinkIdentity(1, 7, "host1:12", 100, "s3cret")
        a = Handshake(one)
        b = Handshake(other)
        a.run()
        b.run()
        self.assertNotEqual(a.proof, b.proof)
        cuts = ([b"ab", b"c"], [b"a", b"bc"])
        proofs = {_prove("s3cret", b"", fields, [], b"") for fields in cuts}
        self.assertEqual(len(proofs), 2)

    def test_a_relay_between_two_channels(self) -> None:
        """Over TLS both must be at the ends of one channel."""
        dialing = Dialling(identity(1), 2, "raft", NONCE_D, lambda: b"channel 1")
        accepting = Accepting(identity(2), dialing.hello, NONCE_A, lambda: b"channel 2")
        self.differs(dialing.receive, accepting.answer)

    def test_claims_are_judged_after_the_proof(self) -> None:
        """Without the secret nobody learns, or causes, anything by claiming to be somebody."""
        stranger = Dialling(identity(1, 8, "guess"), 3, "raft", NONCE_D, no_channel)
        accepting = Accepting(identity(2), stranger.hello, NONCE_A, no_channel)
        with self.assertRaises(LinkRefused) as caught:
            accepting.receive([b"PROOF", b"x" * 32])
        self.assertNotIsInstance(caught.exception, WrongPeer)


class Readers(SynchronousTestCase):
    """Frames of a handshake out of bytes."""

    def read(self, *chunks: bytes) -> list[list[bytes] | str]:
        reader = HandshakeReader()
        out = []
        for chunk in chunks:
            reader.feed(chunk)
            while (got := reader.next()) is not None:
                out.append(got)
        return out

    def test_frames_and_status_lines_in_any_cut(self) -> None:
        """Whole, and one byte at a time."""
        data = frame([b"a", b"bc"]) + b"+OK\r\n" + frame([b""]) + b"-ERR no\r\n"
        expected = [[b"a", b"bc"], "+OK", [b""], "-ERR no"]
        self.assertEqual(self.read(data), expected)
        self.assertEqual(self.read(*[bytes([byte]) for byte in data]), expected)

    def test_the_rest_is_left(self) -> None:
        """What follows the handshake belongs to the messages."""
        reader = HandshakeReader()
        reader.feed(b"+OK\r\n*1\r\n$1\r\n")
        self.assertEqual(reader.next(), "+OK")
        self.assertEqual(reader.rest(), b"*1\r\n$1\r\n")

    def test_a_status_line_cannot_forge_log_lines(self) -> None:
        """Control characters do not reach the log."""
        self.assertEqual(self.read(b"-ERR a\x1b[2J\nb\r\n"), ["-ERR a?[2J?b"])

    def test_what_is_neither_is_refused(self) -> None:
        """And nothing large is kept."""
        for data in (
            b"PING\r\n",
            b"HTTP/1.1 400\r\n",
            b"*17\r\n",
            b"*1\r\n$5000\r\n",
            b"-" + b"x" * HANDSHAKE_BYTES,
            b"*1\r\n:1\r\n",
        ):
            with self.assertRaises(LinkRefused, msg=repr(data)):
                self.read(data)
            with self.assertRaises(LinkRefused, msg=repr(data)):
                self.read(*[bytes([byte]) for byte in data])

    @given(st.lists(st.binary(max_size=50)))
    def test_noise(self, chunks: list[bytes]) -> None:
        """Whatever comes, it is a refusal and no other error."""
        try:
            self.read(*chunks)
        except LinkRefused:
            pass
