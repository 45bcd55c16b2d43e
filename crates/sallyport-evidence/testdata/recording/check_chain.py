"""Prints the chain of a recording without its key, from docs/formats/recording.md alone.

Usage: check_chain.py FILE. One line per chunk, `INDEX CHAIN`, then `complete` or `cut after N`.
Compare the values with those in the audit log.
"""
import hashlib
import json
import struct
import sys

HEAD = struct.Struct(">QBIQQI")


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def follow(data):
    magic, version, length = struct.unpack_from(">8sHI", data)
    assert magic == b"SPREC\r\n\x1a", "not a recording"
    assert version == 1, "unsupported version"
    header = data[: 14 + length]
    text = header[14:].decode("ascii")
    canonical = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert canonical == text, "header is not canonical"

    chain = sha256(b"sallyport recording v1 header\0", header)
    at, index, is_final, last_us = len(header), 0, False, 0
    while at < len(data):
        assert not is_final, "bytes follow the final chunk"
        if len(data) - at < 4:
            break
        (length,) = struct.unpack_from(">I", data, at)
        assert HEAD.size + 16 <= length <= HEAD.size + 8 * 2**20 + 64 * 2**10, "length"
        chunk = data[at : at + 4 + length]
        if len(chunk) < 4 + length:
            break
        found, flags, frames, first_us, until_us, size = HEAD.unpack_from(chunk, 4)
        assert found == index and flags <= 1 and last_us <= first_us <= until_us, "head"
        assert (frames > 0 or flags == 1) and (frames == 0) == (size == 0), "head"
        chain = sha256(b"sallyport recording v1 chunk\0", chain, chunk)
        print(index, chain.hex())
        at, index, is_final, last_us = at + len(chunk), index + 1, flags == 1, until_us
    print("complete" if is_final else f"cut after {index}")


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as file:
        follow(file.read())
