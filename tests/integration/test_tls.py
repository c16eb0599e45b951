"""TLS between real processes: members, clients, renewal of certificates, and who is refused."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.integration.cluster import Cluster, IntegrationTestCase
from tests.integration.process import environment, need, until
from tests.integration.resp import Access, Client, ask
from tests.protocols.certificates import Authority


def context(authority: Authority, pair: tuple[str, str] | None) -> ssl.SSLContext:
    """Return a client's side of TLS; names in certificates mean nothing here."""
    made = ssl.create_default_context(cafile=authority.path)
    made.check_hostname = False
    made.verify_flags |= ssl.VERIFY_X509_STRICT  # the default since Python 3.13
    if pair is not None:
        made.load_cert_chain(*pair)
    return made


class TLSTestCase(IntegrationTestCase):
    """Clusters whose members have certificates of one CA."""

    def setUp(self) -> None:
        super().setUp()
        self.certificates = str(Path(self.mktemp()).resolve())
        self.authority = Authority(self.certificates)

    def flags(self, name: str, authority: Authority | None = None, ca: bool = True) -> list[str]:
        """Return the flags of a node with a new certificate."""
        authority = authority or self.authority
        cert, key = authority.issue(name)
        flags = ["--tls-cert", cert, "--tls-key", key]
        return [*flags, "--tls-ca", authority.path] if ca else flags

    def secured(self, *flags: str, count: int = 3, secret: str | None = None) -> Cluster:
        """Start a cluster in which every node has a certificate of its own."""
        cluster = self.cluster(*flags)
        own = self.authority.issue("client")
        cluster.access = Access(secret, context(self.authority, own))
        first = cluster.found(*self.flags("node0"))
        for n in range(1, count):
            cluster.add("--join", first.address, *self.flags(f"node{n}")).start()
        return cluster.wait_ready()

    def subject(self, port: int) -> str:
        """Return the name in the certificate that a node shows."""
        access = Access(tls=context(self.authority, self.authority.issue("client")))
        with Client(port, access=access) as client:
            certificate: Any = client.socket.getpeercert()  # type: ignore[attr-defined]
        return str(dict(item[0] for item in certificate["subject"])["commonName"])


class MembersTests(TLSTestCase):
    """Three nodes over TLS."""

    def test_cluster_and_clients(self) -> None:
        """Members join and replicate; python, redis-py and redis-cli are served over TLS."""
        cluster = self.secured()
        client = cluster.client()
        self.assertEqual(client.insist("SET", "a", "b"), b"OK")
        cluster.wait_equal()
        leader = cluster.leader()
        cert, key = self.authority.issue("cli")
        import redis

        with redis.Redis(
            port=leader.port, ssl=True, ssl_ca_certs=self.authority.path, ssl_certfile=cert,
            ssl_keyfile=key, ssl_check_hostname=False,
        ) as connection:  # fmt: skip
            self.assertEqual(connection.get("a"), b"b")
        words = [need("redis-cli"), "-p", str(leader.port), "--tls", "--cacert"]
        words += [self.authority.path, "--cert", cert, "--key", key, "GET", "a"]
        run = subprocess.run(words, capture_output=True, text=True, timeout=30)
        self.assertEqual(run.stdout.strip(), "b", run.stderr)

    def test_leader_killed(self) -> None:
        """The rest goes on over TLS, and the killed one comes back."""
        cluster = self.secured()
        client = cluster.client()
        client.insist("SET", "a", "1")
        leader = cluster.leader()
        leader.kill()
        self.assertEqual(client.insist("SET", "a", "2"), b"OK")
        leader.start().wait_ready()
        cluster.wait_equal()
        self.assertEqual(client.insist("GET", "a"), b"2")

    def test_client_of_finn(self) -> None:
        """finn.client finds the leader over TLS, with a certificate or with CA and secret."""
        secret = Path(self.certificates) / "secret"
        secret.write_text("sesame")
        secret.chmod(0o600)
        cert, key = self.authority.issue("cli")
        for flags, words in (
            ([], ["--tls-cert", cert, "--tls-key", key]),
            (["--auth-file", str(secret)], ["--auth-file", str(secret)]),
        ):
            cluster = self.secured(*flags, secret="sesame" if flags else None)
            followers = [node.address for node in cluster.followers()]
            words += ["--tls-ca", self.authority.path, *followers, "SET", "a", "b"]
            run = subprocess.run(
                [sys.executable, "-m", "finn.client", *words],
                env=environment(), capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            self.assertEqual(run.stdout.strip(), "OK", run.stderr)
            cluster.reap()

    def test_clients_without_certificate(self) -> None:
        """Without --auth-file they may not do anything, and are told why."""
        node = self.secured(count=1).nodes[0]
        bare = Access(tls=context(self.authority, None))
        for words in (["GET", "a"], ["RAFTREMOVEPEER", node.address], ["AUTH", "x"]):
            self.assertRegex(str(ask(node.port, *words, access=bare)), "^(NOAUTH|ERR AUTH)")
        self.assertError(
            ask(node.port, "SET", "a", "b", access=bare),
            "NOAUTH A certificate of the cluster's CA is required.",
        )
        self.assertEqual(node.do("GET", "a"), None)

    def test_plaintext(self) -> None:
        """A client that does not speak TLS is cut off, and so is HTTP."""
        node = self.secured(count=1).nodes[0]
        for data in (b"PING\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"):
            with Client(node.port) as client:
                client.send(data)
                self.assertNotIn(b"PONG", client.read_to_end())
        node.wait_log("TLS with 127.0.0.1:")

    def test_reload(self) -> None:
        """SIGHUP: new connections see the new certificate, old ones and links go on."""
        cluster = self.secured()
        node = cluster.leader()
        number = cluster.nodes.index(node)
        with node.client() as old:
            old.do("SET", "a", "b")
            elections = node.stats()["term"]
            cert, key = self.authority.issue(f"renewed{number}")
            os.replace(cert, f"{self.certificates}/node{number}.crt")
            os.replace(key, f"{self.certificates}/node{number}.key")
            self.assertEqual(self.subject(node.port), f"node{number}")
            node.send_signal(signal.SIGHUP)
            node.wait_log("Certificates reloaded")
            self.assertEqual(self.subject(node.port), f"renewed{number}")
            self.assertEqual(old.do("GET", "a"), b"b")
            self.assertEqual(node.stats()["term"], elections)
            with open(f"{self.certificates}/node{number}.crt", "w") as file:
                file.write("nothing")
            node.send_signal(signal.SIGHUP)
            node.wait_log("certificates not reloaded")
            self.assertEqual(self.subject(node.port), f"renewed{number}")
        # A member that restarts is linked to with what was loaded.
        other = cluster.followers()[0]
        other.stop()
        other.start().wait_ready()
        self.assertEqual(cluster.client().insist("GET", "a"), b"b")


class RefusedTests(TLSTestCase):
    """Who is no member."""

    def refused(self, *flags: str) -> tuple[str, str]:
        """Let a node try to join; return what it and the leader say."""
        cluster = self.secured(count=1)
        first = cluster.nodes[0]
        stranger = cluster.add("--join", first.address, *flags).start()
        stranger.wait_log("failed to join node")
        until(lambda: " failed: " in first.log() or "refused" in first.log(), "the leader says so")
        lines = [line for line in stranger.log().splitlines() if "failed to join" in line]
        self.assertEqual(len(lines), 1, stranger.log())
        self.assertNotIn("Traceback", stranger.log() + first.log())
        self.assertEqual(first.do("RAFTPEERS"), [first.address.encode(), b"Leader"])
        told = [line for line in first.log().splitlines() if " failed: " in line]
        return lines[0], told[0] if told else ""

    def test_other_authority(self) -> None:
        """A certificate of another CA: both sides say so in one line."""
        other = Authority(self.certificates, "other")
        own, theirs = self.refused(*self.flags("stranger", other))
        self.assertIn("certificate verify failed", own)
        self.assertIn("TLS with 127.0.0.1:", theirs)

    def test_no_tls(self) -> None:
        """A member without TLS."""
        own, theirs = self.refused()
        self.assertIn("Lost connection", own)
        self.assertIn("TLS with 127.0.0.1:", theirs)
