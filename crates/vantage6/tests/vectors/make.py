"""Makes the vectors: keys and messages by vantage6-common's own RSACryptor. Run with a Python that has it (4.5.5):

    make.py > vectors.json            # new keys and messages
    make.py decrypt < question.json   # the other way: what RSACryptor reads in messages that others have made

A message's `reads` is what RSACryptor makes of it (base64), null if it fails.
"""

import base64
import json
import os
import sys
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from vantage6.common.encryption import RSACryptor
from vantage6.common.globals import STRING_ENCODING

# The class is a singleton; here are several.
Cryptor = RSACryptor
type(Cryptor)._instances = {}


def text(data: bytes) -> str:
    return base64.b64encode(data).decode(STRING_ENCODING)


def cryptor(pem: str) -> RSACryptor:
    type(Cryptor)._instances.clear()
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(pem)
        file.flush()
        return Cryptor(Path(file.name))


def reads(receiver: RSACryptor, message: str) -> str | None:
    try:
        return text(receiver.decrypt_str_to_bytes(message))
    except Exception:
        return None


def by_web_interface(plain: bytes, receiver: RSACryptor, key_again: bool = True, text_again: bool = True) -> str:
    """As encryption.service.ts of vantage6-ui: it hands the algorithms base64 instead of bytes."""
    key, iv = os.urandom(32), os.urandom(16)
    encryptor = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    body = encryptor.update(text(plain).encode() if text_again else plain) + encryptor.finalize()
    sealed = receiver.private_key.public_key().encrypt(text(key).encode() if key_again else key, padding.PKCS1v15())
    return "$".join(text(part) for part in (sealed, iv, body))


def make() -> dict:
    with tempfile.TemporaryDirectory() as folder:
        keys = {}
        for name in ("organization", "stranger"):
            file = Path(folder) / name
            private = RSACryptor.create_new_rsa_key(file)
            keys[name] = {
                "pkcs1": file.read_text(),
                "pkcs8": private.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                ).decode(),
                "public": text(RSACryptor.create_public_key_bytes(private)),
            }
        small = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        keys["small"] = {
            "pkcs8": small.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ).decode(),
            "public": text(RSACryptor.create_public_key_bytes(small)),
        }

    receiver = cryptor(keys["organization"]["pkcs1"])
    public = keys["organization"]["public"]
    task = b'{"method": "partial_average", "args": [], "kwargs": {"column_name": "salary \xc3\xa9"}}'
    plain = {
        "task": task,
        "empty": b"",
        "number": b"12345678",
        "word": b"true",
        "infinity": b"Infinity",
        "string": b'"aGVsbG8="',
        "one block": b'"34567890123456"',
        "a block and a byte": b'"345678901234567"',
        "large": json.dumps({"rows": [[i, i * i] for i in range(500)]}).encode(),
        "binary": bytes(range(256)),
        "base64 that is no JSON": base64.b64encode(b"something else"),
        "words": b"plain words, no JSON!",
        "not quite base64": b"abcdefg",
    }
    messages = [
        {"name": name, "plain": text(data), "message": receiver.encrypt_bytes_to_str(data, public)}
        for name, data in plain.items()
    ]
    for name, data in (("task", task), ("empty", b""), ("large", plain["large"]), ("binary", plain["binary"])):
        messages.append({"name": f"web: {name}", "plain": text(data), "message": by_web_interface(data, receiver)})
    messages.append({"name": "web: key alone", "plain": text(task), "message": by_web_interface(task, receiver, True, False)})
    messages.append({"name": "web: text alone", "plain": text(task), "message": by_web_interface(task, receiver, False, True)})
    for message in messages:
        message["reads"] = reads(receiver, message["message"])

    good = messages[0]["message"]
    key, iv, body = good.split("$")
    raw = base64.b64decode(key)
    stranger = keys["stranger"]["public"]
    seal = receiver.private_key.public_key().encrypt
    damaged = {
        "not encrypted": text(task),
        "text": "no message at all",
        "one part missing": f"{key}${iv}",
        "one part too many": f"{good}$AAAA",
        "another organization's": receiver.encrypt_bytes_to_str(task, stranger),
        "another length of key": receiver.encrypt_bytes_to_str(task, keys["small"]["public"]),
        "a bit of the key": "$".join((text(bytes([raw[0] ^ 1]) + raw[1:]), iv, body)),
        "half of the key": "$".join((text(raw[:256]), iv, body)),
        "no key": "$".join(("", iv, body)),
        "a key of 16 bytes": "$".join((text(seal(os.urandom(16), padding.PKCS1v15())), iv, body)),
        "a key that is text": "$".join((text(seal(b"hello", padding.PKCS1v15())), iv, body)),
        "key is no base64": "$".join(("?" + key[1:], iv, body)),
        "a short iv": "$".join((key, text(os.urandom(12)), body)),
        "no iv": "$".join((key, "", body)),
        "iv is no base64": "$".join((key, "*" + iv[1:], body)),
        "ends in the middle": good[: len(good) - 6] if len(body) % 4 == 0 else good[:-1],
        "body is no base64": good[:-9] + "*" + good[-8:],
        "something behind it": good + "=" * 4,
    }
    return {
        "keys": keys,
        "messages": messages,
        "damaged": [{"name": name, "message": message, "reads": reads(receiver, message)} for name, message in damaged.items()],
    }


if __name__ == "__main__":
    if sys.argv[1:] == ["decrypt"]:
        question = json.load(sys.stdin)
        receiver = cryptor(question["private_key"])
        answer = [reads(receiver, message) for message in question["messages"]]
    else:
        answer = make()
    json.dump(answer, sys.stdout, indent=1)
    print()
