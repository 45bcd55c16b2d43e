"""Opens a stored vault by docs/formats/vault.md alone: no line here is taken from the Rust code.

usage: open_vault.py FILE

FILE is JSON: "keyring" (stored text), "shares" (texts, enough of them) or "key_file" (hex),
"secrets" (stored texts), "recordings" (pairs of recording id and wrapped key). Prints what they
open to, as JSON lists of hex. Python's standard library and `cryptography`.
"""

import base64
import hashlib
import hmac
import json
import sys

from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"


def from_base64(text):
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


def from_base32(text):
    value, bits = 0, 0
    for character in text.replace("-", ""):
        value, bits = value << 5 | BASE32.index(character), bits + 5
    return (value >> bits % 8).to_bytes(bits // 8, "big")


def bound(domain, *fields):
    out = b""
    for field in (domain.encode(), *fields):
        if isinstance(field, int):
            field = field.to_bytes(8, "big")
        out += len(field).to_bytes(8, "big") + field
    return out


def unseal(key, associated, sealed):
    return AESGCMSIV(key).decrypt(sealed[:12], sealed[12:], associated)


def multiply(left, right):
    product = 0
    while right:
        product ^= left * (right & 1)
        left, right = left << 1 ^ (0x11D if left & 0x80 else 0), right >> 1
    return product


def inverse(element):
    return next(x for x in range(256) if multiply(x, element) == 1)


def recover(points):
    secret = bytearray(32)
    for x, y in points.items():
        weight = 1
        for other in points:
            if other != x:
                weight = multiply(weight, multiply(other, inverse(other ^ x)))
        for place in range(32):
            secret[place] ^= multiply(weight, y[place])
    return bytes(secret)


def read_share(text, keyring_id, parameters):
    assert text.startswith("sps1-")
    content = from_base32(text[5:])
    content, checksum = content[:-6], content[-6:]
    assert hashlib.sha256(content).digest()[:6] == checksum
    assert content[:10] == keyring_id and content[11] == parameters["threshold"]
    index, y = content[10], content[12:]
    digest = hashlib.sha256(
        bound("sallyport share digest v1", keyring_id, content[10:12], y)
    ).digest()
    assert digest == from_base64(parameters["digests"][index - 1])
    return index, y


def open_keyring(stored, shares, key_file):
    record = json.loads(stored)
    assert record["format"] == 1
    keyring_id, seal = from_base32(record["id"]), record["seal"]
    if seal["kind"] == "shamir":
        parameters = json.loads(seal["parameters"])
        points = dict(read_share(share, keyring_id, parameters) for share in shares)
        assert len(points) >= parameters["threshold"]
        seal_key = recover(points)
    else:
        assert seal["kind"] == "key_file" and seal["parameters"] == ""
        seal_key = bytes.fromhex(key_file)
    check = hmac.new(seal_key, bound("sallyport seal key check v1", keyring_id), "sha256")
    assert check.digest()[:16] == from_base64(seal["key_check"])
    associated = bound(
        "sallyport root key v1", keyring_id, seal["kind"].encode(), seal["parameters"].encode()
    )
    root_key = unseal(seal_key, associated, from_base64(seal["wrapped_root_key"]))
    associated = bound("sallyport keyring v1", keyring_id, record["generation"])
    keys = unseal(root_key, associated, from_base64(record["sealed_keys"]))
    assert len(keys) % 36 == 0
    entries = [keys[at : at + 36] for at in range(0, len(keys), 36)]
    return {int.from_bytes(entry[:4], "big"): entry[4:] for entry in entries}


def open_secret(keys, stored):
    secret = json.loads(stored)
    assert secret["format"] == 1
    path, version, key_id = secret["path"].encode(), secret["version"], secret["key_id"]
    associated = bound("sallyport data key v1", path, version, key_id)
    data_key = unseal(keys[key_id], associated, from_base64(secret["wrapped_data_key"]))
    associated = bound("sallyport secret v1", path, version)
    return unseal(data_key, associated, from_base64(secret["ciphertext"]))


def open_recording_key(keys, recording_id, wrapped):
    form, key_id, sealed = wrapped.split(".")
    assert form == "srk1"
    associated = bound("sallyport recording key v1", recording_id.encode(), int(key_id))
    return unseal(keys[int(key_id)], associated, from_base64(sealed))


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        stored = json.load(file)
    keys = open_keyring(stored["keyring"], stored.get("shares"), stored.get("key_file"))
    secrets = [open_secret(keys, text).hex() for text in stored["secrets"]]
    recordings = [open_recording_key(keys, *pair).hex() for pair in stored["recordings"]]
    print(json.dumps({"secrets": secrets, "recordings": recordings}))


main()
