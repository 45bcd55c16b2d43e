"""Second verifier of Sallyport's audit log, written from docs/formats/audit-log.md alone.

Usage: verify_audit_log.py VKEY. Each line of standard input names the directory of an export and,
after a tab, perhaps the file of a kept checkpoint; each is answered by one line: `verified SIZE`, or
the code and place of the fault. It reads an export into memory: clarity over speed.
"""

import base64, datetime, hashlib, json, os, re, sys, unicodedata

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ENTRY_MAX, DEPTH_MAX, INTEGER_MAX = 1 << 20, 16, (1 << 53) - 1
WHITE_SPACE = set("\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000 ") | set(map(chr, [*range(9, 14), *range(0x2000, 0x200B)]))


class Fault(Exception):
    pass


def require(condition, code="malformed", place=""):
    if not condition:
        raise Fault(f"{code} {place}")


def sha256(data):
    return hashlib.sha256(data).digest()


def root(hashes):
    """Merkle tree hash over nodes that are already hashed (RFC 6962 section 2.1)."""
    if len(hashes) < 2:
        return hashes[0] if hashes else sha256(b"")
    k = 1 << (len(hashes) - 1).bit_length() - 1
    return sha256(b"\x01" + root(hashes[:k]) + root(hashes[k:]))


# Entry


def is_canonical(value, depth=0):
    """Whether the parsed value keeps to the limits; its spelling is compared by `check_entry`."""
    if isinstance(value, (dict, list)):
        children = value.values() if isinstance(value, dict) else value
        return depth < DEPTH_MAX and all(is_canonical(child, depth + 1) for child in children)
    return not isinstance(value, int) or abs(value) <= INTEGER_MAX


def sort_members(value):
    if isinstance(value, dict):
        return {name: sort_members(value[name]) for name in sorted(value, key=lambda name: name.encode("utf-16-be"))}
    return [sort_members(item) for item in value] if isinstance(value, list) else value


def refuse_number(text):
    raise ValueError(text)


def check_entry(line):
    """Returns the number of an entry, or raises ValueError."""
    if len(line) > ENTRY_MAX:
        raise ValueError("size")
    entry = json.loads(line.decode("utf-8"), parse_float=refuse_number, parse_constant=refuse_number)
    if not isinstance(entry, dict) or set(entry) != {"actor", "at", "data", "event", "seq", "subject", "v"} or not is_canonical(entry):
        raise ValueError("members")
    # A repeated member, another order or another spelling does not survive this.
    if json.dumps(sort_members(entry), ensure_ascii=False, separators=(",", ":")).encode("utf-8") != line:
        raise ValueError("spelling")
    for name in ("actor", "subject"):
        if not isinstance(entry[name], str) or not 1 <= len(entry[name].encode("utf-8")) <= 512:
            raise ValueError(name)
    at, event, seq = entry["at"], entry["event"], entry["seq"]
    if not isinstance(at, str) or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z", at):
        raise ValueError("at")
    datetime.datetime.strptime(at, "%Y-%m-%dT%H:%M:%S.%fZ")
    if int(at[17:19]) > 59:  # strptime knows leap seconds, the format does not
        raise ValueError("at")
    if not isinstance(event, str) or len(event) > 64 or not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)+", event):
        raise ValueError("event")
    if not isinstance(entry["data"], dict) or type(seq) is not int or seq < 0 or type(entry["v"]) is not int or entry["v"] != 1:
        raise ValueError("envelope")
    return seq


# Checkpoint


def is_name(name):
    return 1 <= len(name.encode("utf-8")) <= 255 and not any(
        character in WHITE_SPACE or character == "+" or unicodedata.category(character) == "Cc" for character in name
    )


def decode64(text):
    try:
        decoded = base64.b64decode(text.encode("ascii"), validate=True)
    except ValueError:
        return None
    return decoded if base64.b64encode(decoded).decode() == text else None


def open_checkpoint(note, vkey):
    """Returns size and root of a checkpoint that the key signed, or raises Fault."""
    name, key_hash, key = vkey.split("+", 2)
    key, malformed = decode64(key), ("checkpoint-malformed", "checkpoint")
    key_id = sha256(name.encode() + b"\n" + key)[:4]
    assert key_id.hex() == key_hash and key[0] == 1, "vkey"
    require(len(note) <= 65536, *malformed)
    try:
        note = note.decode("utf-8")
    except UnicodeDecodeError:
        raise Fault(" ".join(malformed)) from None
    require(not re.search(r"[\x00-\x09\x0b-\x1f]", note), *malformed)
    text, separator, block = note.rpartition("\n\n")
    require(separator and block.endswith("\n"), *malformed)
    text, signatures = text + "\n", []
    for line in block[:-1].split("\n"):
        dash, _, rest = line.partition(" ")
        signer, space, encoded = rest.partition(" ")
        decoded = decode64(encoded)
        require(dash == "\u2014" and space and is_name(signer) and decoded and len(decoded) >= 5, *malformed)
        signatures.append((signer, decoded[:4], decoded[4:]))
    require(len(signatures) <= 16, *malformed)
    ours = [signature for signer, id, signature in signatures if (signer, id) == (name, key_id)]
    require(ours, "checkpoint-signature", "checkpoint")
    for signature in ours:
        try:
            Ed25519PublicKey.from_public_bytes(key[1:]).verify(signature, text.encode())
        except InvalidSignature:
            raise Fault("checkpoint-signature checkpoint") from None
    lines = text[:-1].split("\n")
    require(len(lines) >= 3 and all(lines) and is_name(lines[0]), *malformed)
    require(re.fullmatch("0|[1-9][0-9]{0,15}", lines[1]) and int(lines[1]) <= 1 << 53, *malformed)
    log_root = decode64(lines[2])
    require(log_root is not None and len(log_root) == 32, *malformed)
    require(lines[0] == name, "checkpoint-origin", "checkpoint")
    return int(lines[1]), log_root


# Export


def tile_name(level, number, width):
    digits = f"{number:0{(len(str(number)) + 2) // 3 * 3}d}"
    groups = [digits[place : place + 3] for place in range(0, len(digits), 3)]
    path = "/".join(["x" + group for group in groups[:-1]] + groups[-1:])
    return f"tile/{level}/{path}" + ("" if width == 256 else f".p/{width}")


def tiles_of(size):
    """(level, number, width) of every tile of a tree, lowest level first."""
    level = 0
    while nodes := size >> 8 * level:
        for number in range((nodes + 255) // 256):
            yield level, number, min(256, nodes - 256 * number)
        level += 1


def read(directory, name):
    try:
        with open(os.path.join(directory, name), "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise Fault(f"file-missing {name}") from None


def read_tile(directory, tile):
    data = read(directory, tile_name(*tile))
    require(len(data) == 32 * tile[2], "tile-altered", tile_name(*tile))
    return [data[place : place + 32] for place in range(0, len(data), 32)]


def subtrees(parts):
    """Root over tiles of falling level: each covers what is left of the tree from left to right."""
    result = None
    for hashes in reversed(parts):
        while hashes:  # the smallest complete subtree on the right first
            k = len(hashes) & -len(hashes)
            part, hashes = root(hashes[-k:]), hashes[:-k]
            result = part if result is None else sha256(b"\x01" + part + result)
    return sha256(b"") if result is None else result


def verify(directory, vkey, saved):
    size, log_root = open_checkpoint(read(directory, "checkpoint"), vkey)
    if saved:
        saved_size, saved_root = open_checkpoint(saved, vkey)
        require(saved_size <= size, "rollback", f"size {size}")

    tiles = sorted(tiles_of(size), key=lambda tile: (-tile[0], tile[1]))
    hashes = {tile[:2]: read_tile(directory, tile) for tile in tiles if tile[2] < 256}
    if subtrees(list(hashes.values())) != log_root:
        blame_tile(directory, size, log_root)
    for tile in tiles:
        if tile[2] == 256:
            level, number, _ = tile
            hashes[level, number] = read_tile(directory, tile)
            above = hashes[level + 1, number // 256][number % 256]
            require(root(hashes[level, number]) == above, "tile-altered", tile_name(*tile))
    leaves = [leaf for tile in tiles if tile[0] == 0 for leaf in hashes[tile[:2]]]
    if saved:
        require(root(leaves[:saved_size]) == saved_root, "fork", f"size {saved_size}")

    lines = split_lines(read(directory, "entries.jsonl"))
    for i in range(size):
        require(i < len(lines), "entries-truncated", f"entry {i}")
        check_line(lines, i, leaves)
    require(len(lines) == size, "entries-trailing", f"entry {size}")
    require(root([leaf_of(line) for line, _ in lines]) == log_root, "root-mismatch", "checkpoint")
    return f"verified {size}"


def split_lines(data):
    """(line, whether U+000A follows) for each line."""
    *lines, rest = data.split(b"\n")
    return [(line, True) for line in lines] + ([(rest, False)] if rest else [])


def leaf_of(line):
    return sha256(b"\x00" + line) if len(line) <= ENTRY_MAX else None


def check_line(lines, i, leaves):
    (line, ended), place = lines[i], f"entry {i}"
    leaf = leaf_of(line)
    if leaf != leaves[i]:
        require(ended, "entries-truncated", place)
        j = leaves.index(leaf) if leaf in leaves else None
        require(j is None or j > i, "entry-duplicated", place)
        later = any(leaf_of(other) == leaves[i] for other, _ in lines[i + 1 :])
        kinds = ("entry-altered", "entry-inserted") if j is None else ("entry-missing", "entry-out-of-order")
        raise Fault(f"{kinds[later]} {place}")
    require(ended, "entry-unterminated", place)
    try:
        seq = check_entry(line)
    except (ValueError, RecursionError):
        raise Fault(f"entry-malformed {place}") from None
    require(seq == i, "entry-misnumbered", place)


def blame_tile(directory, size, log_root):
    """The last tiles do not give the signed root: finds the one at fault, if the entries are good."""
    lines = split_lines(read(directory, "entries.jsonl"))[:size]
    leaves = [leaf_of(line) for line, ended in lines if ended]
    if len(leaves) == size and None not in leaves and root(leaves) == log_root:
        for level, number, width in tiles_of(size):
            span = 256**level
            nodes = range(number * 256, number * 256 + width)
            right = b"".join(root(leaves[node * span : (node + 1) * span]) for node in nodes)
            name = tile_name(level, number, width)
            path = os.path.join(directory, name)
            require(os.path.isfile(path) and read(directory, name) == right, "tile-altered", name)
    raise Fault("root-mismatch checkpoint")


def main():
    for request in sys.stdin.read().splitlines():
        directory, _, saved = request.partition("\t")
        try:
            print(verify(directory, sys.argv[1], open(saved, "rb").read() if saved else None))
        except Fault as fault:
            print(fault)


main()
