"""Puts and gets through several gateways, a few at a time, and prints what failed as JSON."""

import json
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from c3serve import Client

SECONDS_MIN = 7
urls, calls = sys.argv[1], int(sys.argv[2])
begun = time.monotonic()
failed: list[str] = []
wrong = 0


def put_and_get(number: int) -> int:
    """Makes two calls, and goes on until the kills have happened."""
    made = 0
    while made == 0 or (number < 4 and time.monotonic() - begun < SECONDS_MIN):
        text = f"{uuid.uuid4()}\n" + "Nothing in the world is as soft as water. " * 20
        try:
            global wrong
            wrong += c3.get(c3.put(text).id) != text
        except Exception as error:
            failed.append(f"{type(error).__name__}: {error}")
        made += 2
    return made


with Client(urls) as c3, ThreadPoolExecutor(4) as pool:
    made = sum(pool.map(put_and_get, range(calls // 2)))
print(json.dumps({"calls": made, "failed": failed, "wrong": wrong, "seconds": time.monotonic() - begun}))
