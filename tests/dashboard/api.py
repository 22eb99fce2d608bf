"""Asks `/admin/v1` as a program of the operator's would, and measures how long pages take.

Knows nothing of what is right; the suite does.
"""

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from decimal import Decimal


class Api:
    def __init__(self, base, key):
        self.base = base
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.bearer = {"authorization": f"Bearer {key}"}

    def get(self, path, headers, method="GET"):
        """Status, headers and text of any path."""
        body = b"" if method == "POST" else None
        request = urllib.request.Request(self.base + path, headers=headers, method=method, data=body)
        try:
            with self.opener.open(request) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.headers, refused.read().decode()

    def ask(self, name, **parameters):
        """What `/admin/v1/NAME` tells the operator."""
        query = urllib.parse.urlencode(parameters)
        status, _, text = self.get(f"/admin/v1/{name}?{query}", self.bearer)
        assert status == 200, (name, parameters, text)
        return json.loads(text)

    def spend(self, by, **parameters):
        """Lines of a spend report by name; one alone without a dimension."""
        rows = self.ask("spend", by=by, **parameters)["data"]
        return {row[by]: row for row in rows} if by else rows[0]

    def took_ms(self, path):
        """From a request to the last byte of its answer, on the side of who asked."""
        begun = time.perf_counter()
        status, _, text = self.get(path, self.bearer)
        assert status == 200 and "</html>" in text, path
        return (time.perf_counter() - begun) * 1000


def exact(text):
    return Decimal(text or 0)
