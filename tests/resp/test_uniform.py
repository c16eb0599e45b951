"""Pipelines of one command with arguments of equal sizes: read as all others are, only faster."""

from __future__ import annotations

from typing import Any

import hiredis
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from finn.errors import ProtocolError
from finn.resp import reader as reader_module
from finn.resp.commands import UniformCommands
from finn.resp.reader import ALIKE, ALIKE_PROVEN, CommandReader, parse_commands
from finn.resp.replies import pack_command
from finn.resp.strict import ReaderLimits, StrictParser
from finn.resp.uniform import LARGE, LARGEST_ALONE, REST, LastCommand, _shape


def pipeline(name: bytes, *rows: tuple[bytes, ...]) -> bytes:
    """Encode commands of one name."""
    return b"".join([pack_command([name, *row]) for row in rows])


def rows(count: int) -> list[tuple[bytes, ...]]:
    """Make keys and values of equal sizes."""
    return [(b"key:%04d" % i, b"%06d" % (7 * i)) for i in range(count)]


class UniformTests(SynchronousTestCase):
    def learned(self, data: bytes) -> CommandReader:
        """Return a reader that has read such a pipeline."""
        reader = CommandReader()
        reader.feed(data)
        return reader

    def test_they_are_the_commands(self) -> None:
        """One by one, by place, in parts, and by columns."""
        data = pipeline(b"SET", *rows(10))
        expected = [[b"SET", *row] for row in rows(10)]
        commands, raw = self.learned(data).feed(data)
        assert isinstance(commands, UniformCommands)
        self.assertEqual((list(commands), len(commands), raw), (expected, 10, data))
        self.assertEqual((commands[0], commands[9], commands[-1]), (*expected[::9], expected[9]))
        self.assertRaises(IndexError, lambda: commands[10])
        for part in (slice(3), slice(4, 8), slice(8, 99), slice(9, 2), slice(-3, None)):
            self.assertEqual(list(commands[part]), expected[part])
            self.assertIsInstance(commands[part], UniformCommands)
        self.assertRaises(ValueError, lambda: commands[::2])
        self.assertEqual(commands.columns(), [list(c) for c in zip(*rows(10), strict=True)])

    def test_few_are_read_one_by_one(self) -> None:
        """Below the bound the other way is as fast."""
        for count in (ALIKE - 1, ALIKE):
            data = pipeline(b"SET", *rows(count))
            commands, raw = self.learned(pipeline(b"SET", *rows(ALIKE))).feed(data)
            self.assertEqual((list(commands), raw), ([[b"SET", *r] for r in rows(count)], data))
            self.assertEqual(isinstance(commands, UniformCommands), count == ALIKE)

    def test_any_bytes(self) -> None:
        """Signs of the protocol, of formats, and of other types are bytes as all others."""
        for name in (b"SET", b"%b%d", b"%", b"\r\n", b"$"):
            for value in (b"%b%d%%", b"\r\n\r\n$1", b"+=(~|>", b"\0\xff\r$*1", b"$6\r\nab"):
                data = pipeline(name, *[(value[i:] + value[:i], b"") for i in range(5)])
                commands, raw = self.learned(data).feed(data)
                self.assertIsInstance(commands, UniformCommands)
                self.assertEqual(list(commands), CommandReader().feed(data)[0])
                self.assertEqual(raw, data)

    def test_no_arguments(self) -> None:
        """Commands that are a name alone."""
        data = pipeline(b"PING", *[()] * 9)
        commands, _ = self.learned(data).feed(data)
        self.assertIsInstance(commands, UniformCommands)
        self.assertEqual((list(commands), commands[2:4][1]), ([[b"PING"]] * 9, [b"PING"]))

    def test_what_is_not_alike(self) -> None:
        """One command that differs, in any byte and anywhere, is what it is, or the same error."""
        data = pipeline(b"SET", *rows(6))
        size = len(data) // 6
        for at in (*range(size), *range(2 * size, 3 * size), *range(len(data) - size, len(data))):
            for byte in b"\r\n$*0317SX":
                changed = data[:at] + bytes([byte]) + data[at + 1 :]
                reader = self.learned(data)
                oracle = StrictParser(ReaderLimits())
                expected = oracle.feed(changed)
                commands, raw = reader.feed(changed)
                self.assertEqual((list(commands), reader.error), (expected, oracle.error))
                self.assertIn(raw, (None, changed, b"".join(map(pack_command, expected))))

    def test_large_ones_that_are_not_alike(self) -> None:
        """Of them only what stands between the arguments is compared."""
        value = b"v" * LARGE
        one = pack_command([b"SET", b"key:01", value])
        others = [at for at in range(len(one)) if value[:9] not in one[max(at - 4, 0) : at + 14]]
        self.assertIn(len(one) - 1, others)
        for count, place in ((ALIKE, 0), (ALIKE, 2), (ALIKE, ALIKE - 1), (1, 0)):
            data = count * one
            for at in others:
                for byte in b"\r\n$*01S":
                    where = place * len(one) + at
                    changed = data[:where] + bytes([byte]) + data[where + 1 :]
                    reader = self.learned(data)
                    reader.feed(data)
                    oracle = StrictParser(ReaderLimits())
                    expected = oracle.feed(changed)
                    found, _ = reader.feed(changed)
                    self.assertEqual((list(found), reader.error), (expected, oracle.error))

    def test_large_payloads(self) -> None:
        """Read behind the header of their record, and refused where they are something else."""
        for count in (1, ALIKE_PROVEN):
            command = [b"SET", b"key:01", b"v" * LARGE]
            payload = count * pack_command(command)
            for _ in range(3):
                self.assertEqual([*parse_commands(b"head" + payload, 4, count)], count * [command])
            for sign in (b"*", b"$"):
                broken = payload[::-1].replace(sign, b"?", 1)[::-1]
                with self.assertRaises(ProtocolError):
                    parse_commands(b"head" + broken, 4, count)
                self.assertEqual([*parse_commands(b"head" + payload, 4, count)], count * [command])

    def test_another_name_or_size_in_between(self) -> None:
        """It is not taken for one of them."""
        data = pipeline(b"SET", *rows(6))
        for other in ([b"DEL", *rows(1)[0]], [b"SET", b"key:00001", b"12345"], [b"SET", b"k"]):
            changed = data + pack_command(other) + data
            commands, raw = self.learned(data).feed(changed)
            self.assertEqual(list(commands)[6], other)
            self.assertEqual((len(commands), raw), (13, changed))

    def test_a_chunk_that_ends_within_a_command(self) -> None:
        """What is whole is read at once, the rest is completed and stands before the next ones."""
        data = pipeline(b"SET", *rows(12))
        expected = [[b"SET", *row] for row in rows(12)]
        size = len(data) // 12
        for cut in range(6 * size, 7 * size + 1):
            reader = self.learned(data)
            one, raw_one = reader.feed(data[:cut])
            two, raw_two = reader.feed(data[cut:])
            self.assertIsInstance(one, UniformCommands)
            self.assertIsInstance(two, UniformCommands)
            self.assertEqual([*one, *two], expected)
            self.assertEqual((raw_one or b"") + (raw_two or b""), data)

    def test_what_is_learned_of_a_part(self) -> None:
        """Chunks that end within commands tell what comes next, as whole ones do."""
        data = pipeline(b"SET", *rows(12))
        reader = CommandReader()
        reader.feed(data[:-9])
        commands, raw = reader.feed(data[-9:] + data)
        self.assertIsInstance(commands, UniformCommands)
        self.assertEqual(list(commands), [[b"SET", *row] for row in [rows(12)[-1], *rows(12)]])
        self.assertEqual(raw, data[-len(data) // 12 :] + data)

    def test_values_that_look_like_large_arrays(self) -> None:
        """hiredis must not see them; they are learned from how they are read instead."""
        for end in (0, 9):
            data = pipeline(b"SET", *[(b"k", b"*99999999 %d" % i) for i in range(9)])
            reader = CommandReader()
            first, raw = reader.feed(data[: len(data) - end])
            self.assertEqual((len(first), raw), (9 if not end else 8, None))
            commands, _ = reader.feed(data[len(data) - end :] + data)
            self.assertIsInstance(commands, UniformCommands)
            self.assertEqual([*commands][-9:], StrictParser(ReaderLimits()).feed(data))

    def test_the_begin_of_another_one_behind_them(self) -> None:
        """Bytes that look like a part of one may hold others."""
        data = pipeline(b"SET", *[(b"k%d" % i, b"v" * 40) for i in range(6)])
        small = pipeline(b"SET", (b"k7", b"1"), (b"k8", b"2"))
        for rest in (small, small[:30], b"*3\r\n$3\r\nSET\r\n$2\r\nxx\rx"):
            reader = self.learned(data)
            oracle = StrictParser(ReaderLimits())
            found = [*reader.feed(data + rest)[0], *reader.feed(small)[0]]
            expected = oracle.feed(data + rest) + oracle.feed(small)
            self.assertEqual((found, reader.error), (expected, oracle.error))

    def test_another_command_completed_before_them(self) -> None:
        """It is not counted among them."""
        data = pipeline(b"SET", *rows(8))
        for other in ([b"GET", b"key"], [b"DEL", b"a", b"b"]):
            reader = self.learned(data)
            packed = pack_command(other)
            reader.feed(packed[:-1])
            commands, raw = reader.feed(packed[-1:] + data)
            self.assertEqual(list(commands), [other] + [[b"SET", *row] for row in rows(8)])
            self.assertEqual(raw, packed + data)

    def test_shorter_commands_behind_them(self) -> None:
        """They are read with the others, and the bytes are those of all."""
        data = pipeline(b"SET", *rows(8))
        expected = [[b"SET", *row] for row in rows(8)]
        for others in ([[b"GET", b"k"]], [[b"PING"], [b"GET", b""]]):
            for _ in range(2):
                more = b"".join(map(pack_command, others))
                commands, raw = self.learned(data).feed(data + more)
                self.assertEqual((list(commands), raw), (expected + others, data + more))
        for tail in (b"PING\r\n", b"\r\n", b"*x\r\n", b"*0\r\n"):
            oracle = StrictParser(ReaderLimits())
            wanted = oracle.feed(data + tail)
            reader = self.learned(data)
            commands, raw = reader.feed(data + tail)
            self.assertEqual((list(commands), reader.error), (wanted, oracle.error))
            self.assertIn(raw, (None, data))

    def test_nothing_large_is_remembered(self) -> None:
        """Of a client that may be gone tomorrow."""
        for row in (b"x" * 65,), tuple(b"%d" % (i % 10) for i in range(20)):
            data = pipeline(row[0], *[row[1:]] * 8)
            self.assertNotIsInstance(self.learned(data).feed(data)[0], UniformCommands)

    def test_payloads_that_are_no_commands(self) -> None:
        """They are refused, however many there are."""
        for nonsense in (b":1\r\n", b"*0\r\n", b"+OK\r\n", b"*1\r\n:1\r\n"):
            data = nonsense * ALIKE_PROVEN
            self.assertRaises(ProtocolError, parse_commands, data, 0, ALIKE_PROVEN)
            self.assertEqual(len(parse_commands(pack_command([b"PING"]), 0, 1)), 1)

    def test_payloads(self) -> None:
        """An entry's payload is read so as well; its count is still checked."""
        data = pipeline(b"SET", *rows(ALIKE_PROVEN))
        expected = [[b"SET", *row] for row in rows(ALIKE_PROVEN)]
        for _ in range(2):
            found = parse_commands(b"head" + data, 4, ALIKE_PROVEN)
            self.assertEqual(list(found), expected)
        self.assertIsInstance(found, UniformCommands)
        for count in (ALIKE_PROVEN - 1, ALIKE_PROVEN + 1, 1):
            self.assertRaises(ProtocolError, parse_commands, data, 0, count)


class LastCommandTests(SynchronousTestCase):
    """Commands that come alone, one like the other."""

    def learned(self, command: list[bytes]) -> CommandReader:
        """Return a reader that knows the shape of a command."""
        reader = CommandReader()
        for _ in range(2):
            self.assertEqual(reader.feed(pack_command(command))[0], [command])
        return reader

    def taken_apart(self) -> list[bytes]:
        """Note what is read in the slower way."""
        slower: list[bytes] = []
        pack = reader_module._pack
        self.patch(reader_module, "_pack", lambda args: slower.append(args[0]) or pack(args))
        return slower

    def test_the_same_shape(self) -> None:
        """The third of a shape is cut out by it; others are not, and end that for a while."""
        slower = self.taken_apart()
        for args in ([], [b"k1"], [b"k1", b"%d$"], [b""]):
            slower.clear()
            reader = self.learned([b"CMD", *args])
            self.assertEqual(slower, [b"CMD"] * 2)
            slower.clear()
            for values in (args, [bytes(reversed(arg)) for arg in args]):
                data = pack_command([b"CMD", *values])
                self.assertEqual(reader.feed(data), ([[b"CMD", *values]], data))
            self.assertEqual(slower, [])
            other = pack_command([b"XYZ", *args])
            self.assertEqual(reader.feed(other), ([[b"XYZ", *args]], other))
            self.assertEqual(slower, [b"XYZ"])
            self.assertEqual(reader.feed(b""), ([], None))
            for _ in range(REST + 4):  # the other one was the first of the rest
                reader.feed(pack_command([b"CMD", *args]))
            self.assertEqual(slower, [b"XYZ"] + [b"CMD"] * (REST + 1))

    def test_shapes_that_come_twice_only(self) -> None:
        """They are of no use, and seldom learned."""
        _shape.cache_clear()
        reader = CommandReader()
        for size in range(4 * REST):
            for _ in range(2):
                command = [b"SET", b"k" * size]
                self.assertEqual(reader.feed(pack_command(command))[0], [command])
        self.assertIn(_shape.cache_info().misses, range(1, 12))

    def test_large_ones(self) -> None:
        """They are read in the other way, as fast and with fewer copies."""
        command = [b"SET", b"k", b"v" * LARGEST_ALONE]
        for _ in range(3):
            parse_commands(pack_command(command), 0, 1)
        drained = self.drained()
        payload = pack_command(command)
        parse_commands(payload, 0, 1)
        self.assertEqual(b"".join(drained)[: len(payload)], payload)

    def drained(self) -> list[bytes]:
        """Note all of payloads that is read by hiredis."""
        drained: list[bytes] = []

        class Spy(hiredis.Reader):
            def feed(self, data: bytes, *where: int) -> None:
                offset, size = where or (0, len(data))
                drained.append(data[offset : offset + size])
                super().feed(data, *where)

        def renew() -> None:
            self.assertRaises(ProtocolError, parse_commands, b"", 0, 1)

        self.addCleanup(renew)  # when hiredis' own is there again
        self.patch(hiredis, "Reader", Spy)
        renew()
        return drained

    def test_any_byte_may_differ(self) -> None:
        """It is what it is, or the same error, and so is what follows."""
        data = pack_command([b"SET", b"key:01", b"value"])
        for at in range(len(data)):
            for byte in b"\r\n$*0315SX":
                changed = data[:at] + bytes([byte]) + data[at + 1 :]
                reader = self.learned([b"SET", b"key:01", b"value"])
                oracle = StrictParser(ReaderLimits())
                expected = oracle.feed(changed) + oracle.feed(data)
                found = [*reader.feed(changed)[0], *reader.feed(data)[0]]
                self.assertEqual((found, reader.error), (expected, oracle.error))

    def test_one_that_looks_like_a_large_array(self) -> None:
        """hiredis must not see it; the next one is expected all the same."""
        command = [b"SET", b"k", b"*99999999"]
        packed = pack_command(command)
        reader = CommandReader()
        raws = [reader.feed(packed)[1] for _ in range(4)]
        self.assertEqual(raws[-1], packed)

    def test_within_another_command(self) -> None:
        """Bytes that look like such a command may be an argument."""
        data = pack_command([b"GET", b"key:01"])
        reader = self.learned([b"GET", b"key:01"])
        self.assertEqual(reader.feed(b"*2\r\n$4\r\nECHO\r\n$%d\r\n" % len(data))[0], [])
        self.assertEqual(reader.feed(data)[0], [])
        self.assertEqual(reader.feed(b"\r\n")[0], [[b"ECHO", data]])

    def test_limits_that_change(self) -> None:
        """What was read within the old ones may be beyond the new ones."""
        command = [b"SET", b"key", b"v" * 100]
        reader = self.learned(command)
        limits = ReaderLimits(command_bytes=50)
        oracle = StrictParser(limits)
        self.assertEqual(oracle.feed(pack_command(command)), [])
        reader.set_limits(limits)
        self.assertEqual(reader.feed(pack_command(command))[0], [])
        self.assertEqual(reader.error, oracle.error)

    def test_payloads(self) -> None:
        """An entry's payload is read so as well, and its count checked."""
        self.patch(reader_module, "_payload", LastCommand())
        for value in (b"v1", b"v2"):
            parse_commands(pack_command([b"SET", b"k", value]), 0, 1)
        drained = self.drained()
        parse_commands(pack_command([b"SET", b"k", b"v3"]), 0, 1)
        self.assertEqual(drained, [])
        for command in ([b"SET", b"k", b"v1"], [b"SET", b"k", b"v2"], [b"SET", b"k", b"v3"]):
            payload = pack_command(command)
            self.assertEqual(list(parse_commands(b"head" + payload, 4, 1)), [command])
            self.assertRaises(ProtocolError, parse_commands, payload, 0, 2)
            self.assertRaises(ProtocolError, parse_commands, payload[:-1], 0, 1)


sizes = st.lists(st.integers(0, 12), max_size=3)


@st.composite
def pipelines(draw: Any) -> bytes:
    """Chunks of commands of few shapes, of which any byte may be wrong."""
    alphabet = st.sampled_from(b"\r\n$*%+=abc\0\xff0123")
    chunks = []
    for shape in draw(st.lists(sizes, min_size=1, max_size=3)):
        for _ in range(draw(st.integers(0, 7))):
            args = [bytes(draw(st.lists(alphabet, min_size=n, max_size=n))) for n in shape]
            chunks.append(pack_command([b"CMD", *args]))
    data = bytearray(b"".join(chunks))
    if data and draw(st.booleans()):
        data[draw(st.integers(0, len(data) - 1))] = draw(alphabet)
    return bytes(data)


class FuzzTests(SynchronousTestCase):
    @settings(max_examples=600, deadline=None)
    @given(st.lists(pipelines(), max_size=6), st.lists(st.integers(1, 300), max_size=6))
    def test_reader_equals_grammar(self, streams: list[bytes], cuts: list[int]) -> None:
        """Whatever pipelines came before, and however they are cut."""
        stream = b"".join(streams)
        oracle = StrictParser(ReaderLimits())
        expected = oracle.feed(stream)
        reader = CommandReader()
        found: list[list[bytes]] = []
        pieces = streams
        if cuts:
            pieces, at = [], 0
            for size in [*cuts, len(stream)]:
                pieces.append(stream[at : at + size])
                at += size
        for piece in pieces:
            commands, raw = reader.feed(piece)
            found += commands
            if raw is not None:
                self.assertEqual(raw, b"".join(map(pack_command, commands)))
                self.assertEqual(list(parse_commands(raw, 0, len(commands))), list(commands))
        self.assertEqual((found, reader.error), (expected, oracle.error))
