"""Figures from the ledger's file by SQL written for the tests alone, row by row and from no sums."""

import json
import sqlite3
from decimal import Decimal

DAY_MS = 86_400_000
ERRORS = "('upstream_error', 'truncated', 'interrupted')"


class Book:
    def __init__(self, path):
        self.database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)

    def ask(self, columns, span, where="", values=(), group=""):
        sql = f"SELECT {columns} FROM postings WHERE ts_ms >= ? AND ts_ms < ? {where} {group}"
        return self.database.execute(sql, (*span, *values)).fetchall()

    def one(self, columns, span, where="", values=()):
        return self.ask(columns, span, where, values)[0][0]

    def n_calls(self, span, where="", values=()):
        return self.one("COUNT(*)", span, where, values)

    def cost(self, span, where="", values=()):
        return dollars(self.one("COALESCE(SUM(cost_nano_usd), 0)", span, where, values))

    def saved(self, span, where="", values=()):
        """Net: what baselines would have cost more, less our own cost."""
        both = "CASE WHEN cost_nano_usd IS NOT NULL AND baseline_nano_usd IS NOT NULL AND path <> 'none' THEN baseline_nano_usd - cost_nano_usd ELSE 0 END"
        return dollars(self.one(f"SUM({both}) - SUM(own_cost_nano_usd)", span, where, values))

    def cost_by(self, column, span, where="", values=()):
        rows = self.ask(f"COALESCE({column}, ''), SUM(cost_nano_usd)", span, where, values, f"GROUP BY {column}")
        return {name: dollars(cost or 0) for name, cost in rows}

    def n_by(self, column, span, where="", values=()):
        return dict(self.ask(f"COALESCE({column}, ''), COUNT(*)", span, where, values, f"GROUP BY {column}"))

    def accounts(self):
        """What each scope's account holds; one process keeps one line a scope."""
        lines = self.database.execute("SELECT scope, account FROM cache_risk WHERE scope <> '*'").fetchall()
        return {scope: json.loads(account)["account"] for scope, account in lines}

    def cost_by_day(self, span, where="", values=()):
        rows = dict(self.ask(f"(ts_ms - {span[0]}) / {DAY_MS}, SUM(cost_nano_usd)", span, where, values, "GROUP BY 1"))
        n_days = (span[1] - span[0]) // DAY_MS
        return [dollars(rows.get(day) or 0) for day in range(n_days)]


def dollars(nanos):
    return Decimal(nanos) / 10**9
