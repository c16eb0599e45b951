"""TLS on the one port: certificates, their reload, and what a link needs of the channel.

With a CA, members show each other certificates of it: a client's certificate is asked for and
checked, but not demanded, as clients use the same port; a link demands it
(``LinkIdentity.certificates``). Names in certificates are not compared with addresses: the CA is
the cluster's own, and whoever has a certificate of it is a member. Without a CA the channel is
encrypted and nobody is verified by it; then the shared secret is what proves members, over a
value derived from the channel, so that a relay in the middle is noticed.

pyOpenSSL comes with the extra ``tls`` and is imported when certificates are loaded.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    ISSLTransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from finn.errors import MissingExtra, StartFailed

_BINDING = b"EXPORTER-finn-link"
_BINDING_SIZE = 32


@implementer(IOpenSSLServerConnectionCreator, IOpenSSLClientConnectionCreator)
class TLSMaterial:
    """The certificate, key and CA of a node or client; makes the TLS side of its connections.

    Args:
        cert: path of the certificate, PEM, with its chain; None for a client without one.
        key: path of its private key, PEM.
        ca: path of the cluster's CA certificates, PEM, or None.

    Raises:
        MissingExtra: pyOpenSSL is not installed.
        StartFailed: a file cannot be used.
    """

    def __init__(self, cert: str | None, key: str | None, ca: str | None = None) -> None:
        self._paths = (cert, key, ca)
        self._server: Any = None
        self._client: Any = None
        self.reload()

    @property
    def verifies(self) -> bool:
        """Peers can show certificates that count."""
        return self._paths[2] is not None

    def reload(self) -> None:
        """Read the files again; connections made from now on use them.

        When it raises, what was loaded before stays in use.
        """
        try:
            from OpenSSL import SSL
            from twisted.internet.ssl import CertificateOptions
        except ImportError:
            raise MissingExtra("TLS", "OpenSSL", "tls") from None
        cert, key, ca = self._paths
        contexts = []
        for _ in range(2):
            context = CertificateOptions().getContext()
            try:
                if cert is not None and key is not None:
                    context.use_certificate_chain_file(cert)
                    context.use_privatekey_file(key)
                    context.check_privatekey()
                if ca is not None:
                    context.load_verify_locations(ca)
            except (SSL.Error, OSError) as e:
                used = ", ".join(path for path in self._paths if path is not None)
                raise StartFailed(f"TLS cannot use {used}: {e!r}") from None
            # Clients on this port need no certificate, so one that is missing does not fail here.
            mode = SSL.VERIFY_PEER if ca is not None else SSL.VERIFY_NONE
            context.set_verify(mode, lambda connection, x509, errno, depth, ok: bool(ok))
            contexts.append(context)
        self._server, self._client = contexts
        self._server.set_session_id(b"finn")

    def serverConnectionForTLS(self, tlsProtocol: Any) -> Any:
        from OpenSSL import SSL

        return SSL.Connection(self._server, None)

    def clientConnectionForTLS(self, tlsProtocol: Any) -> Any:
        from OpenSSL import SSL

        return SSL.Connection(self._client, None)

    def server_factory(self, factory: IProtocolFactory, clock: Any) -> IProtocolFactory:
        """Wrap a factory whose connections are accepted."""
        return self._wrap(False, factory, clock)

    def client_factory(self, factory: IProtocolFactory, clock: Any) -> IProtocolFactory:
        """Wrap a factory whose connections are dialled."""
        return self._wrap(True, factory, clock)

    def _wrap(self, client: bool, factory: IProtocolFactory, clock: Any) -> IProtocolFactory:
        from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

        wrapper = TLSMemoryBIOFactory(self, client, factory, clock)
        # Its default gathers small writes for a turn; ours are gathered already.
        wrapper.protocol = TLSMemoryBIOProtocol
        return wrapper


def channel_binding(transport: Any) -> bytes:
    """Return a value that both ends of this TLS channel derive and nobody else; else nothing."""
    if not ISSLTransport.providedBy(transport):
        return b""
    handle: Any = transport.getHandle()  # type: ignore[attr-defined]
    value: bytes = handle.export_keying_material(_BINDING, _BINDING_SIZE)
    return value


def explain(failure: Failure) -> str:
    """Return what OpenSSL says went wrong on a channel, empty when it is not that."""
    error = failure.value
    if not (type(error).__module__.startswith("OpenSSL.") and error is not None):
        return ""
    found = error.args[0] if error.args else ()
    reasons = [str(item[-1]) for item in found if isinstance(item, tuple)]
    return "; ".join(reasons) or type(error).__name__


def peer_certified(transport: Any) -> bool:
    """Say whether the peer showed a certificate (which the handshake has verified then)."""
    return ISSLTransport.providedBy(transport) and transport.getPeerCertificate() is not None
