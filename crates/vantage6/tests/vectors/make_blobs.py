"""Makes `blobs.json`: messages of a blob store, by vantage6-common's own cryptors, for the keys of `vectors.json`. Run with a Python that
has it (4.13 or later):

    make_blobs.py > blobs.json
    make_blobs.py decrypt < message   # the other way: what RSACryptor reads in a message that others have made
"""

import base64
import io
import json
import sys
import tempfile
from pathlib import Path

from vantage6.common.encryption import DummyCryptor, RSACryptor

KEY = json.loads((Path(__file__).parent / "vectors.json").read_text())["keys"]["organization"]
PLAIN = {
    "empty": b"",
    "short": b'{"a": 1}',
    "separators and line breaks": b"$$\r\n $" * 9,
    "of blocks": bytes(number * 7 % 256 for number in range(3 * 1024)),
}


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
    file.write(KEY["pkcs8"])
    file.flush()
    cryptor = RSACryptor(Path(file.name))

if sys.argv[1:] == ["decrypt"]:
    message = sys.stdin.buffer.read()
    whole = cryptor.decrypt(message)
    assert whole == b"".join(cryptor.decrypt_stream(io.BytesIO(message)))
    sys.stdout.buffer.write(whole)
else:
    messages = []
    for name, plain in PLAIN.items():
        encrypted = {
            "whole": cryptor.encrypt_bytes_to_str(plain, KEY["public"], skip_base64_encoding_of_msg=True),
            "as a stream": b"".join(cryptor.encrypt_stream(io.BytesIO(plain), KEY["public"], 100)),
        }
        messages += [
            {"name": f"{name}, {how}", "encrypted": True, "message": text(message), "plain": text(plain)}
            for how, message in encrypted.items()
        ]
        message = b"".join(DummyCryptor().encrypt_stream(io.BytesIO(plain), "", 100))
        messages.append({"name": f"{name}, base64", "encrypted": False, "message": text(message), "plain": text(plain)})
    json.dump(messages, sys.stdout, indent=1)
    print()
