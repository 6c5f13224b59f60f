"""FF1, the format-preserving cipher of NIST SP 800-38G, over AES.

    Ff1Cipher(key, radix).encrypt(["0123456789", ...])

Values of one length are enciphered side by side: ten rounds, in each one call of AES for all of them. No
maintained library with a permissive licence does FF1; this follows the document's steps, named by its letters, and
its sample vectors are checked before a gateway serves.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from connectors.keys import Secret

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_ROUNDS = 10
_HALF_BYTES = 7  # a half and the number of its round fit one 64-bit word


class Ff1Cipher(Secret):
    """The cipher under one key. `key` has 16, 24 or 32 bytes, `radix` is from 2 to 36."""

    __slots__ = ("_aes", "_radix")

    def __init__(self, key: bytes, radix: int) -> None:
        super().__init__(b"")
        if not 2 <= radix <= len(DIGITS):
            raise ValueError("radix is from 2 to 36")
        # Single blocks only: the modes are FF1's own.
        aes = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305
        self._aes: Callable[[bytes], bytes] = aes.update
        self._radix = radix

    def takes(self, length: int) -> bool:
        """Whether values of that length can be enciphered here."""
        return length >= 2 and _bytes_of(length - length // 2, self._radix) <= _HALF_BYTES

    def encrypt(self, values: Sequence[str], tweak: bytes = b"") -> list[str]:
        """The values enciphered; all of one length that `takes` allows, of the digits below the radix."""
        return self._run(values, tweak, range(_ROUNDS))

    def decrypt(self, values: Sequence[str], tweak: bytes = b"") -> list[str]:
        """The values that `encrypt` made these of."""
        return self._run(values, tweak, range(_ROUNDS - 1, -1, -1))

    def _run(self, values: Sequence[str], tweak: bytes, rounds: range) -> list[str]:
        if not values:
            return []
        length, radix = len(values[0]), self._radix
        if not self.takes(length) or any(len(value) != length for value in values):
            raise ValueError("values of one length that the cipher takes")
        backwards = rounds.step < 0
        u, v = length // 2, length - length // 2
        first = [int(value[:u], radix) for value in values]
        second = [int(value[u:], radix) for value in values]
        b = _bytes_of(v, radix)
        d = 4 * -(-b // 4) + 4
        p = bytes([1, 2, 1]) + radix.to_bytes(3, "big") + bytes([10, u % 256]) + struct.pack(">II", length, len(tweak))
        # Of P || Q only the end of the last block differs: the round's number, and a half as a number.
        q = tweak + bytes((-len(tweak) - b - 1) % 16) + bytes(b + 1)
        high, low = struct.unpack(">QQ", _xor(self._chained(p + q[:-16]), q[-16:]))
        layout = struct.Struct(f">{2 * len(values)}Q")
        for number in rounds:
            m = u if number % 2 == 0 else v
            modulus, known = radix**m, (first if backwards else second)
            place = low ^ number << 8 * b
            words = [word for half in known for word in (high, place ^ half)]
            r = layout.unpack(self._aes(layout.pack(*words)))
            if d == 8:
                y: Sequence[int] = r[::2]
            else:  # 12
                y = [up << 32 | down >> 32 for up, down in zip(r[::2], r[1::2], strict=True)]
            if backwards:
                made = [(half - drawn) % modulus for half, drawn in zip(second, y, strict=True)]
                first, second = made, first
            else:
                made = [(half + drawn) % modulus for half, drawn in zip(first, y, strict=True)]
                first, second = second, made
        return [_text(a, u, radix) + _text(c, v, radix) for a, c in zip(first, second, strict=True)]

    def _chained(self, blocks: bytes) -> bytes:
        """CBC-MAC of whole blocks."""
        state = bytes(16)
        for start in range(0, len(blocks), 16):
            state = self._aes(_xor(state, blocks[start : start + 16]))
        return state


def _bytes_of(digits: int, radix: int) -> int:
    """How many bytes a number of so many digits needs."""
    greatest: int = radix**digits - 1
    return -(-greatest.bit_length() // 8)


def _xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def _text(number: int, digits: int, radix: int) -> str:
    if radix == 10:
        return str(number).zfill(digits)
    letters = []
    for _ in range(digits):
        number, digit = divmod(number, radix)
        letters.append(DIGITS[digit])
    return "".join(reversed(letters))
