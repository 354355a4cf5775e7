#!/usr/bin/env python3
"""Creates a broadcast through the Live API and prints its id and publish key.

    create-broadcast.py TITLE

The address and the token come from CASTLOG_API_URL and CASTLOG_ADMIN_TOKEN.
"""

import json
import os
import sys
import urllib.error
import urllib.request

# On loopback an answer takes milliseconds; longer means that none will come.
TIMEOUT_SECONDS = 15


def fail(message):
    sys.exit(f"castlog: {message}")


def main():
    api = os.environ["CASTLOG_API_URL"].rstrip("/")
    token = os.environ.get("CASTLOG_ADMIN_TOKEN")
    if not token:
        fail("no admin token in the data folder: start castlog with ./dev up, or set CASTLOG_ADMIN_TOKEN")
    request = urllib.request.Request(
        f"{api}/v1/broadcasts",
        data=json.dumps({"title": sys.argv[1], "tags": ["test"], "options": {}}).encode(),
        headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
    )
    # A proxy for the outside has no business with loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
            created = json.load(answer)
    except urllib.error.HTTPError as refused:
        fail(f"the Live API refuses to create a broadcast: {refused.code} {refused.read(500).decode(errors='replace')}")
    except OSError as error:
        reason = getattr(error, "reason", error)
        fail(f"the Live API does not answer at {api} ({reason}): start castlog with ./dev up in another terminal")
    print(created["broadcast"]["id"], created["publish_key"])


main()
