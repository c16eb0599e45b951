"""Numbers as Redis reads and writes them.

INCRBYFLOAT computes with the C type ``long double`` of x86-64 (a mantissa of 64 bits); it is
imitated here with exact fractions, so that every node gets the same digits, and Redis' digits.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction

from finn.errors import CommandError

INT_MIN = -(1 << 63)
INT_MAX = (1 << 63) - 1

NOT_AN_INTEGER = "ERR value is not an integer or out of range"
NOT_A_FLOAT = "ERR value is not a valid float"
NOT_FINITE = "ERR increment would produce NaN or Infinity"

_FLOAT = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?")
_INFINITE = re.compile(rb"[+-]?inf(?:inity)?", re.IGNORECASE)
_MANTISSA_BITS = 64
_LARGEST_EXPONENT = 16384
_MOST_DIGITS = 4950  # of the largest and smallest numbers, before or after the point
_LONGEST_FLOAT = 5119
_FRACTION_DIGITS = 17
_CHUNK_DIGITS = 4000  # Python refuses to print integers of more than 4,300 digits


def parse_int(data: bytes, error: str = NOT_AN_INTEGER) -> int:
    """Return a 64-bit integer written the one way Redis takes: no ``+``, blanks, leading zeros.

    Raises:
        CommandError: with ``error`` as its text.
    """
    try:
        number = int(data) if len(data) <= 20 else None
    except ValueError:
        number = None
    if number is None or not INT_MIN <= number <= INT_MAX or b"%d" % number != data:
        raise CommandError(error)
    return number


def parse_float(data: bytes, error: str = NOT_A_FLOAT) -> Fraction | None:
    """Return a number as ``long double`` holds it, or None for an infinite one.

    Raises:
        CommandError: with ``error`` as its text.
    """
    if len(data) <= _LONGEST_FLOAT:
        if _FLOAT.fullmatch(data):
            decimal = Decimal(data.decode())
            if not decimal:
                return Fraction(0)
            # Before anything is computed: the powers of ten of larger exponents are enormous.
            if abs(decimal.adjusted()) <= _MOST_DIGITS:
                number = _rounded(Fraction(decimal))
                if abs(number) < 1 << _LARGEST_EXPONENT:
                    return number
        elif _INFINITE.fullmatch(data):
            return None
    raise CommandError(error)


def add_floats(value: Fraction | None, increment: Fraction | None) -> bytes:
    """Return the digits of a sum.

    Raises:
        CommandError: it is not finite.
    """
    if value is None or increment is None:
        raise CommandError(NOT_FINITE)
    total = _rounded(value + increment)
    if abs(total) >= 1 << _LARGEST_EXPONENT:
        raise CommandError(NOT_FINITE)
    return format_float(total)


def format_float(value: Fraction) -> bytes:
    """Write a number with up to 17 digits after the point, and no zeros at the end."""
    digits, rest = divmod(abs(value.numerator) * 10**_FRACTION_DIGITS, value.denominator)
    if 2 * rest > value.denominator or (2 * rest == value.denominator and digits & 1):
        digits += 1
    whole, fraction = divmod(digits, 10**_FRACTION_DIGITS)
    text = _digits(whole)
    if fraction:
        text += "." + f"{fraction:0{_FRACTION_DIGITS}}".rstrip("0")
    return ("-" + text if value < 0 and digits else text).encode()


def _digits(number: int) -> str:
    high, low = divmod(number, 10**_CHUNK_DIGITS)
    return f"{high}{low:0{_CHUNK_DIGITS}}" if high else str(low)


def _rounded(value: Fraction) -> Fraction:
    """Round to the nearest number with a mantissa of 64 bits, to even when between two."""
    numerator, denominator = abs(value.numerator), value.denominator
    if not numerator:
        return value
    shift = _MANTISSA_BITS - numerator.bit_length() + denominator.bit_length()
    mantissa, rest, divisor = _shifted(numerator, denominator, shift)
    if mantissa >> _MANTISSA_BITS:
        shift -= 1
        mantissa, rest, divisor = _shifted(numerator, denominator, shift)
    if 2 * rest > divisor or (2 * rest == divisor and mantissa & 1):
        mantissa += 1
    result = Fraction(mantissa << max(-shift, 0), 1 << max(shift, 0))
    return -result if value < 0 else result


def _shifted(numerator: int, denominator: int, shift: int) -> tuple[int, int, int]:
    """Divide ``numerator * 2**shift``; returns quotient, rest and the divisor used."""
    divisor = denominator << max(-shift, 0)
    return (*divmod(numerator << max(shift, 0), divisor), divisor)
