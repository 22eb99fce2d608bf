"""Opens every page of the dashboard in a browser and compares what it shows with the ledger's rows, and with what
`/admin/v1` answers to the same question.

    tests/dashboard/run.sh BASE_URL ADMIN_KEY TEAM_KEY TEAM LEDGER_FILE

The gateway must run with the rows of `tests/dashboard/rows.rs`, however many. This file starts none; `cargo test
--test process dashboard` does, with a few thousand rows, and `make million` with a million.

Invariants: figures come from SQL over single rows, never from the sums that pages are read from; what the page
rounds the admin API must tell exactly; a case that fails does not keep the others from running; no case fails for
being slow; the last line counts, and a failure exits with 1.
"""

import os
import statistics
import sys
import time
import traceback
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from api import Api, exact
from book import DAY_MS, ERRORS, Book
from browser import Browser, number, shows

BASE, ADMIN_KEY, TEAM_KEY, TEAM, LEDGER = sys.argv[1:6]
SHOTS = os.environ.get("SHOTS", ".")
PAGES = ["overview", "teams", "routes", "cache", "splits", "calls", "health"]
EVIL = "<script>alert('stored')</script><img src=x onerror=alert(1)>\"'&"
EVIL_TEAM = "<b onmouseover=alert(1)>evil & sons</b>"
OTHERS = ["search", "support", "growth", "research", "mobile", "data-platform", EVIL_TEAM, "sandbox"]
OTHERS.remove(TEAM)

# Ten whole days that have ended, so that nothing moves while the suite runs.
TODAY = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
FIRST, LAST = (TODAY - timedelta(days=10)).date(), (TODAY - timedelta(days=1)).date()
DATES = f"from={FIRST}&to={LAST}"
WINDOW = {"from": FIRST.isoformat(), "to": TODAY.date().isoformat()}
SPAN = (int(TODAY.timestamp() * 1000) - 10 * DAY_MS, int(TODAY.timestamp() * 1000))

CASES = []


def case(run):
    CASES.append(run)
    return run


class Setting:
    """What the cases share: the book, the operator's browser, and one for whoever signs in anew."""

    def __init__(self):
        self.book = Book(LEDGER)
        self.api = Api(BASE, ADMIN_KEY)
        self.admin = Browser(BASE)
        self.admin.dress("light")
        sign_in(self.admin, ADMIN_KEY)


def sign_in(browser, key):
    browser.open("/dashboard/sign-in")
    browser.one("#key").send_keys(key, Keys.ENTER)


def wait(what, holds):
    for _ in range(200):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError(f"in vain: {what}")


def equal(found, expected, what=""):
    assert found == expected, f"{what}: found {found!r}, expected {expected!r}"


def near(shown, exact, what=""):
    assert shows(shown, exact), f"{what}: the page shows {shown!r}, the rows say {exact}"


def agree(shown, rows, told, what=""):
    """The page as far as it goes, and the admin API to the last digit, say what the rows say."""
    near(shown, rows, what)
    equal(exact(told), Decimal(rows), f"{what}, by the admin API")


def percent(part, whole):
    return Decimal(part) * 100 / Decimal(whole)


@case
def a_key_signs_in_and_nothing_else_does(setting):
    browser = Browser(BASE)
    try:
        browser.open("/dashboard/teams?range=7d")
        equal(browser.path(), "/dashboard/sign-in?next=%2Fdashboard%2Fteams%3Frange%3D7d", "a stranger")
        browser.one("#key").send_keys("sk-stiver-abc-wrong", Keys.ENTER)
        assert "wrong" in browser.one("[role=alert]").text
        browser.one("#key").send_keys(ADMIN_KEY, Keys.ENTER)
        equal(browser.path(), "/dashboard/teams?range=7d", "where one wanted to go")
        cookie = browser.driver.get_cookie("stiver_session")
        assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and cookie["path"] == "/dashboard", cookie
        assert ADMIN_KEY not in str(browser.driver.get_cookies()) and ADMIN_KEY not in browser.driver.page_source
        browser.one("form[action='/dashboard/sign-out'] button").click()
        wait("signing out", lambda: browser.path() == "/dashboard/sign-in")
        browser.open("/dashboard/overview")
        assert browser.path().startswith("/dashboard/sign-in"), browser.path()
    finally:
        browser.quit()


@case
def every_page_is_sound_in_every_dress(setting):
    browser = setting.admin
    browser.complaints()
    for mode in ["light", "dark", "phone"]:
        browser.dress(mode)
        for page in PAGES:
            browser.open(f"/dashboard/{page}")
            width = browser.js("return [document.documentElement.scrollWidth, innerWidth]")
            assert width[0] <= width[1], f"{page} in {mode} is {width[0]} wide"
            made = browser.js("return document.querySelectorAll('img, main b, script:not([src]), [style]:not(.tip)').length")
            equal(made, 0, f"elements of foreign make on {page}")
            empty = browser.js("return [...document.querySelectorAll('svg.plot')].filter((plot) => plot.getBoundingClientRect().width < 150).length")
            equal(empty, 0, f"charts without room on {page} in {mode}")
            if mode == "phone" and page == "calls":
                list_width = browser.js("const box = document.querySelector('table.calls').parentElement; return [box.scrollWidth, box.clientWidth]")
                assert list_width[0] <= list_width[1], f"the list of calls is {list_width[0]} wide"
            equal(browser.complaints(), [], f"{page} in {mode}")
            browser.shoot(mode, f"{SHOTS}/{page}-{mode}.png")
    browser.dress("light")


@case
def the_overview_shows_what_the_rows_say(setting):
    browser, book = setting.admin, setting.book
    browser.open(f"/dashboard/overview?{DATES}")
    told = setting.api.spend("", **WINDOW)
    n_calls = book.n_calls(SPAN)
    assert n_calls > 500, n_calls
    agree(browser.tile("Requests"), n_calls, told["n_calls"], "requests")
    n_errors, n_hits = book.n_calls(SPAN, f"AND outcome IN {ERRORS}"), book.n_calls(SPAN, "AND cache LIKE 'hit-%'")
    near(browser.tile("Error rate"), percent(n_errors, n_calls), "errors")
    near(browser.tile("Cache hit rate"), percent(n_hits, n_calls), "hits")
    equal((told["n_errors"], told["n_hits_exact"] + told["n_hits_semantic"]), (n_errors, n_hits), "by the admin API")
    agree(browser.tile("Net savings"), book.saved(SPAN), told["saved_usd"], "savings")
    overhead_us = book.one("SUM(overhead_us)", SPAN)
    near(browser.tile("Gateway overhead"), Decimal(overhead_us) / n_calls / 1000, "overhead")
    equal(told["overhead_us"], overhead_us, "overhead, by the admin API")
    totals = sum_of(browser.chart("spend"))
    days = setting.api.ask("spend", step="day", **WINDOW)["data"]
    for found, expected, day in zip(totals, book.cost_by_day(SPAN), days, strict=True):
        assert abs(Decimal(found) - expected) < Decimal("0.000001"), (found, expected)
        equal(exact(day["cost_usd"]), expected, day["at"])
    drawn = {name: sum(values) for name, values in browser.chart("answers").items()}
    by_path = book.n_by("path", SPAN)
    paths = {"Upstream": "upstream", "Local model": "local", "Exact cache": "exact", "Semantic cache": "semantic", "Not answered": "none"}
    equal(drawn, {label: by_path[path] for label, path in paths.items() if path in by_path}, "requests by what answered")
    told_by_path = setting.api.spend("path", **WINDOW)
    equal({path: row["n_calls"] for path, row in told_by_path.items()}, by_path, "by path, by the admin API")
    causes = browser.table("Net savings by cause")
    for cause, path in [("Exact cache hits", "exact"), ("Semantic cache hits", "semantic"), ("Local model", "local"), ("Cheaper model (route-down)", "upstream")]:
        nanos = book.one("SUM(baseline_nano_usd - cost_nano_usd)", SPAN, f"AND path = '{path}'")
        field = "saved_route_down_usd" if path == "upstream" else f"saved_{path}_usd"
        agree(causes[cause]["Saved"], Decimal(nanos) / 10**9, told[field], cause)
    latency = setting.api.ask("latency", **WINDOW)["data"][0]
    shown = browser.tile("p95 latency")
    assert abs(in_ms(shown) - Decimal(latency["p95_ms"])) <= Decimal(latency["p95_ms"]) / 100, (shown, latency)
    equal(latency["n_calls"], n_calls, "timed calls")


def in_ms(text):
    return number(text) * (1000 if text.endswith(" s") else 1)


def sum_of(series):
    return [sum(values) for values in zip(*series.values(), strict=True)]


@case
def today_and_this_month_are_what_the_rows_say(setting):
    browser, book = setting.admin, setting.book
    browser.open("/dashboard/overview")
    today = (int(TODAY.timestamp() * 1000), int(TODAY.timestamp() * 1000) + DAY_MS)
    month = (int(TODAY.replace(day=1).timestamp() * 1000), today[1])
    api = setting.api
    agree(browser.tile("Spend today"), book.cost(today), spent_since(api, TODAY), "today")
    agree(browser.tile("Spend this month"), book.cost(month), spent_since(api, TODAY.replace(day=1)), "this month")
    shown = browser.rows("Budgets")
    told = api.ask("budgets")["data"]
    equal(len(shown), len(told), "budgets")
    for of, dearest in dearest_now(book).items():
        equal(sorted(budget["name"] for budget in told if budget["of"] == of), sorted(dearest), f"the dearest, {of}")
    for (name, row), budget in zip(shown, told, strict=True):
        where, values = whose(budget)
        spent = book.cost(window_of(budget), where, values)
        agree(row["Used"] if "Used" in row else "", spent, budget["spent_usd"], f"used of {name}")
        agree(row["Limit"], exact(budget["limit_usd"]), budget["limit_usd"], f"limit of {name}")
        agree(row["Left"], max(Decimal(0), exact(budget["limit_usd"]) - spent), budget["left_usd"], f"left of {name}")
        assert row["Per"].startswith(budget["per"]), (row, budget)
    monthly = {name for name, row in shown if row["Per"] == "month"}
    equal(monthly, {TEAM, "support", "research", EVIL_TEAM}, "teams with a monthly budget in UTC")
    assert any("used up" in row["Outlook"] for name, row in shown if name == "research"), shown


def spent_since(api, day):
    return api.ask("spend", **{"from": day.date().isoformat(), "to": (TODAY + timedelta(days=1)).date().isoformat()})["data"][0]["cost_usd"]


def dearest_now(book):
    """Who is told of a budget that each of them has: the three that spent most since its window began, if anybody did."""
    users = datetime.now(ZoneInfo("Europe/Berlin")).replace(hour=0, minute=0, second=0, microsecond=0)
    keys = datetime.now(ZoneInfo("America/New_York")).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    found = {}
    for of, column, since in (("each_user", "user_name", users), ("each_key", "key_id", keys)):
        span = (int(since.timestamp() * 1000), int(time.time() * 1000) + DAY_MS)
        costs = book.cost_by(column, span, f"AND team = ? AND {column} IS NOT NULL", (TEAM,))
        found[of] = sorted(costs, key=costs.get, reverse=True)[:3]
    return found


def window_of(budget):
    return tuple(int(datetime.fromisoformat(budget[edge].replace("Z", "+00:00")).timestamp() * 1000) for edge in ("from", "to"))


def whose(budget):
    """The rows that a budget counts."""
    column = {"team": None, "each_key": "key_id", "each_user": "user_name"}[budget["of"]]
    return ("AND team = ?", (budget["team"],)) if column is None else (f"AND team = ? AND {column} = ?", (budget["team"], budget["name"]))


@case
def every_budget_burns_down_as_the_rows_say(setting):
    browser, book = setting.admin, setting.book
    browser.open(f"/dashboard/teams?team={TEAM}")
    budgets = setting.api.ask("budgets", team=TEAM)["data"]
    equal(len(browser.all("[id^=burn-down] svg.plot")), len(budgets), "a chart for each budget")
    kinds = {("month", "team"), ("day", "team"), ("week", "team")}
    kinds |= {kind for kind, of in ((("day", "each_user"), "each_user"), (("month", "each_key"), "each_key")) if dearest_now(book)[of]}
    equal({(budget["per"], budget["of"]) for budget in budgets}, kinds, "kinds of budgets")
    now_ms = int(time.time() * 1000)
    for idx, budget in enumerate(budgets):
        edges = edges_of(budget)
        where, values = whose(budget)
        left, expected = exact(budget["limit_usd"]), []
        for from_ms, to_ms in zip(edges, edges[1:]):
            if from_ms <= now_ms:
                left -= book.cost((from_ms, to_ms), where, values)
                expected.append(left)
        drawn = browser.chart(f"burn-down-{idx}")
        equal(len(drawn["Left"]), len(edges) - 1, f"columns of {budget}")
        for found, one in zip(drawn["Left"], expected):
            assert abs(Decimal(found) - one) < Decimal("0.00001"), (budget, found, one)
    browser.shoot("light", f"{SHOTS}/burn-down-light.png")


def edges_of(budget):
    """Hours of a day, and days of a week or a month, by the clocks of the budget's zone."""
    zone = ZoneInfo(budget["time_zone"])
    start, end = (datetime.fromtimestamp(ms / 1000, zone) for ms in window_of(budget))
    if budget["per"] == "day":
        n_hours = round((end.timestamp() - start.timestamp()) / 3600)
        return [round((start.timestamp() + hour * 3600) * 1000) for hour in range(n_hours + 1)]
    n_days = (end.date() - start.date()).days
    return [round((start + timedelta(days=day)).timestamp() * 1000) for day in range(n_days + 1)]


@case
def teams_routes_and_models_add_up(setting):
    browser, book = setting.admin, setting.book
    browser.open(f"/dashboard/teams?{DATES}")
    api = setting.api
    compare(browser.table("Teams"), book.cost_by("team", SPAN), api.spend("team", **WINDOW))
    compare(browser.table("Top models"), book.cost_by("model", SPAN), api.spend("model", **WINDOW))
    users = browser.table("Top users")
    spent, told = book.cost_by("user_name", SPAN), api.spend("user", **WINDOW)
    equal({name: exact(row["cost_usd"]) for name, row in told.items()}, spent, "users, by the admin API")
    del spent[""]
    equal(set(users), set(sorted(spent, key=spent.get, reverse=True)[:10]), "who spent most")
    for name, row in users.items():
        near(row["Cost"], spent[name], name)
    hours = api.ask("spend", step="hour", **WINDOW)["data"]
    equal(sum(hour["n_calls"] for hour in hours), book.n_calls(SPAN), "calls by hour, by the admin API")
    assert EVIL_TEAM in browser.table("Teams"), "a team's name is text"
    browser.open(f"/dashboard/routes?{DATES}")
    compare(browser.table("Routes"), book.cost_by("route", SPAN), api.spend("route", **WINDOW))
    n_calls = book.n_by("route", SPAN)
    for route, row in browser.table("Routes").items():
        equal(number(row["Requests"]), n_calls[route], route)
    large = book.n_calls(SPAN, "AND route = 'auto' AND tier = 'large'")
    near(browser.table("Tiers")["auto"]["large"], percent(large, n_calls["auto"]), "tier large of auto")
    upstreams = book.cost_by("upstream", SPAN)
    told = api.spend("upstream", **WINDOW)
    upstreams["(nothing was sent)"], told["(nothing was sent)"] = upstreams.pop(""), told.pop("")
    compare(browser.table("Upstreams"), upstreams, told)


def compare(table, spent, told):
    equal((set(table), set(told)), (set(spent), set(spent)), "names")
    for name, row in table.items():
        agree(row["Cost"], spent[name], told[name]["cost_usd"], name)


def promises_are_what_the_accounts_say(setting, told):
    """On the cache page, which is open."""
    browser, book = setting.admin, setting.book
    table = browser.table("At most 1.00 % wrong answers, with 95.00 % confidence")
    accounts = book.accounts()
    equal(set(table), {f"{one['team']} / {one['route']}" for one in told}, "scopes")
    equal({one["scope"] for one in told}, set(accounts), "scopes, by the admin API")
    for one in told:
        row, account = table[f"{one['team']} / {one['route']}"], accounts[one["scope"]]
        seen, n_requests = account["seen"], account["n_requests"]
        agree(row["Requests"], n_requests, one["n_requests"], "requests")
        agree(row["Audits"], seen["n_audits"], one["n_audits"], "audits")
        agree(row["Found wrong"], seen["n_wrong_audits"], one["n_wrong_audits"], "audits that found one")
        equal(row["Tier"], one["state"], "the tier")
        assert one["state"] == "open" or one["why"] in browser.text(), one["why"]
        for head, name, share in [
            ("Hits", "hit_rate", seen["n_hits"] / n_requests),
            ("Measured wrong", "false_hit_rate_measured", seen["n_wrong_estimated"] / n_requests),
            ("Proven wrong", "false_hit_rate_upper", one["false_hit_rate_upper"]),
        ]:
            assert abs(share - one[name]) < 1e-9, (name, share, one)
            if row[head] != "–":
                near(row[head], Decimal(share * 100), head)
        assert one["false_hit_rate_upper"] <= one["max_false_hit_rate"] == 0.01, one
        of_scope = ("AND team = ? AND route = ?", (one["team"], one["route"]))
        own_cost = book.one("COALESCE(SUM(own_cost_nano_usd), 0)", SPAN, *of_scope)
        saved = book.one("COALESCE(SUM(CASE WHEN path = 'semantic' THEN baseline_nano_usd - cost_nano_usd ELSE 0 END), 0)", SPAN, *of_scope)
        near(row["Cost of audits"], Decimal(own_cost) / 10**9, "the cost of audits")
        near(row["Net saved"], Decimal(saved - own_cost) / 10**9, "net of audits")
    equal({one["scope"]: one["state"] for one in told}["search/auto"], "open", "the tier")
    equal({one["scope"]: one["state"] for one in told}["support/auto"], "learning", "the tier")


@case
def cache_splits_and_health_are_what_the_rows_say(setting):
    browser, book = setting.admin, setting.book
    n_calls = book.n_calls(SPAN)
    browser.open(f"/dashboard/cache?{DATES}")
    by_cache = book.n_by("cache", SPAN)
    told = setting.api.ask("cache", **WINDOW)
    agree(browser.tile("Exact hits"), by_cache["hit-exact"], told["total"]["n_hits_exact"], "exact hits")
    agree(browser.tile("Semantic hits"), by_cache["hit-semantic"], told["total"]["n_hits_semantic"], "semantic hits")
    equal({word: n for word, n in told["by_outcome"].items() if n}, by_cache, "what the cache said, by the admin API")
    nanos = book.one("SUM(baseline_nano_usd - cost_nano_usd)", SPAN, "AND path IN ('exact', 'semantic')")
    agree(browser.tile("Saved by hits"), Decimal(nanos) / 10**9, told["total"]["saved_by_hits_usd"], "saved by hits")
    equal({row["route"]: row["n_calls"] for row in told["by_route"]}, book.n_by("route", SPAN), "routes of the cache")
    drawn = {name: sum(values) for name, values in browser.chart("cache").items() if sum(values)}
    equal(drawn, {"Exact hit": by_cache["hit-exact"], "Semantic hit": by_cache["hit-semantic"], "Miss": by_cache["miss"], "Bypass": by_cache["bypass"]}, "the chart")
    alike = browser.table("How alike semantic hits are")
    n_latest = min(500, by_cache["hit-semantic"])
    equal(sum(number(row["Hits"]) for row in alike.values()), n_latest, "semantic hits by similarity")
    equal([number(row["Hits"]) for row in alike.values()], [one["n"] for one in told["similarity"]["bins"]], "bins")
    promises_are_what_the_accounts_say(setting, told["risk"])
    browser.open(f"/dashboard/splits?{DATES}")
    arms = browser.table("cheap-first")
    n_by_arm, cost_by_arm = book.n_by("arm", SPAN), book.cost_by("arm", SPAN)
    equal(set(arms), {"control", "lower-bar"}, "arms")
    told = {split["name"]: split for split in setting.api.ask("splits", **WINDOW)["data"]}["cheap-first"]
    told_arms = {arm["name"]: arm for arm in told["arms"]}
    for arm, row in arms.items():
        agree(row["Calls"], n_by_arm[arm], told_arms[arm]["n_calls"], arm)
        agree(row["Cost"], cost_by_arm[arm], told_arms[arm]["cost_usd"], arm)
        near(row["Cost per call"], cost_by_arm[arm] / n_by_arm[arm], arm)
        errors = book.n_calls(SPAN, f"AND arm = ? AND outcome IN {ERRORS}", (arm,))
        near(row["Errors"], percent(errors, n_by_arm[arm]), arm)
        equal(told_arms[arm]["n_errors"], errors, f"errors of {arm}, by the admin API")
        saved = book.saved(SPAN, "AND arm = ?", (arm,))
        equal(exact(told_arms[arm]["saved_usd"]), saved, f"saved by {arm}, by the admin API")
        near(row["Saved per call"], saved / n_by_arm[arm], arm)
        assert abs(in_ms(row["p95"]) - Decimal(told_arms[arm]["p95_ms"])) <= Decimal(told_arms[arm]["p95_ms"]) / 100, (row, told_arms[arm])
    browser.open(f"/dashboard/health?{DATES}")
    told = setting.api.spend("", **WINDOW)
    n_estimated = book.n_calls(SPAN, "AND estimated")
    near(browser.tile("Estimated rows"), percent(n_estimated, n_calls), "estimated")
    equal(told["n_estimated"], n_estimated, "estimated, by the admin API")
    agree(browser.note("Unpriced rows"), book.n_calls(SPAN, "AND cost_nano_usd IS NULL"), told["n_unpriced"], "unpriced")
    equal(browser.table("Upstreams")["fake"]["State"], "breaker closed", "the upstream")
    health = setting.api.ask("health")
    equal({one["name"]: one["state"] for one in health["upstreams"]}["fake"], "breaker closed", "by the admin API")
    by_outcome = book.n_by("outcome", SPAN)
    equal({name: row["n_calls"] for name, row in setting.api.spend("outcome", **WINDOW).items()}, by_outcome, "outcomes, by the admin API")
    drawn = {name: sum(values) for name, values in browser.chart("outcomes").items()}
    equal(drawn["Upstream error"], by_outcome["upstream_error"], "calls that did not end well")


@case
def filters_and_links_lead_where_they_say(setting):
    browser, book = setting.admin, setting.book
    browser.open(f"/dashboard/overview?{DATES}")
    Select(browser.one("select[name=team]")).select_by_visible_text("support")
    wait("the filter applies itself", lambda: "team=support" in browser.path())
    equal(number(browser.tile("Requests")), book.n_calls(SPAN, "AND team = 'support'"), "requests of support")
    Select(browser.one("select[name=route]")).select_by_visible_text("auto")
    wait("the second filter, too", lambda: "route=auto" in browser.path())
    both = book.n_calls(SPAN, "AND team = 'support' AND route = 'auto'")
    equal(number(browser.tile("Requests")), both, "requests of support to auto")
    browser.driver.find_element(By.LINK_TEXT, "Cache").click()
    equal(browser.path(), f"/dashboard/cache?{DATES}&team=support&route=auto", "the navigation keeps the filters")
    assert number(browser.note("Hit rate").split("of")[1]) == both
    browser.driver.find_element(By.LINK_TEXT, "7 d").click()
    equal(browser.path(), "/dashboard/cache?range=7d&team=support&route=auto", "another range")
    week = (SPAN[1] - 6 * DAY_MS, SPAN[1] + DAY_MS)
    equal(number(browser.note("Hit rate").split("of")[1]), book.n_calls(week, "AND team = 'support' AND route = 'auto'"), "a week")
    browser.one("details.custom summary").click()
    for field, date in [("from", FIRST), ("to", FIRST)]:
        browser.js("document.querySelector('.custom [name=' + arguments[0] + ']').value = arguments[1]", field, str(date))
    browser.one("details.custom button").click()
    wait("dates of one's own", lambda: f"from={FIRST}" in browser.path())
    day = (SPAN[0], SPAN[0] + DAY_MS)
    equal(number(browser.note("Hit rate").split("of")[1]), book.n_calls(day, "AND team = 'support' AND route = 'auto'"), "one day")
    browser.open(f"/dashboard/teams?{DATES}")
    browser.driver.find_element(By.LINK_TEXT, EVIL_TEAM).click()
    assert browser.path().startswith("/dashboard/teams?"), browser.path()
    equal(list(browser.table("Teams")), [EVIL_TEAM], "one team alone")
    browser.open("/dashboard/overview?range=fortnight&from=x&outcome=fine")
    assert "is no range" in browser.text() and "is no outcome" in browser.text(), "junk is told"


@case
def calls_are_searched_paged_and_opened(setting):
    browser, book = setting.admin, setting.book
    browser.open(f"/dashboard/calls?{DATES}")
    first = shown_calls(browser)
    browser.driver.find_element(By.LINK_TEXT, "Older →").click()
    second = shown_calls(browser)
    newest = [row[0] for row in book.ask("id", SPAN, group="ORDER BY ts_ms DESC, id DESC LIMIT 100")]
    equal(first + second, newest, "two pages")
    equal([call["id"] for call in setting.api.ask("calls", limit=100, **WINDOW)["data"]], newest, "by the admin API")
    browser.open(f"/dashboard/calls?{DATES}")
    browser.one("input[name=q]").send_keys("support-user-0")
    Select(browser.one("select[name=outcome]")).select_by_visible_text("ok")
    browser.one(".search button").click()
    wait("the search", lambda: "q=support-user-0" in browser.path())
    expected = book.ask("id", SPAN, "AND user_name = 'support-user-0' AND outcome = 'ok'", group="ORDER BY ts_ms DESC, id DESC LIMIT 50")
    equal(shown_calls(browser), [row[0] for row in expected], "calls of one user")
    browser.open(f"/dashboard/calls?{DATES}&q=" + "%25_%27")
    assert "No call fits" in browser.text()
    dear = book.ask("id, cost_nano_usd, baseline_nano_usd, total_ms", SPAN, "AND tried IS NOT NULL AND tried <> '[]' AND cost_nano_usd > 0", group="LIMIT 1")[0]
    browser.open(f"/dashboard/calls/{dear[0]}")
    told = setting.api.ask(f"calls/{dear[0]}")
    agree(browser.tile("Cost"), Decimal(dear[1]) / 10**9, told["cost_usd"], "what it cost")
    agree(browser.tile("Saved"), Decimal(dear[2] - dear[1]) / 10**9, told["saved_usd"], "what it saved")
    stages = browser.js("return [...document.querySelectorAll('.stages h3')].map((head) => head.textContent)")
    equal(stages, ["Admitted", "Looked up", "Scored", "Planned", "Sent", "Settled"], "stages")
    assert "timeout" in browser.one(".tried").text, "the attempt that failed"
    browser.shoot("light", f"{SHOTS}/call-light.png")
    evil = book.one("id", SPAN, "AND user_name = ?", (EVIL,))
    browser.open(f"/dashboard/calls/{evil}")
    assert browser.text().count(EVIL) >= 2, "names are text"
    equal(browser.complaints(), [], "an attack in the names")


def shown_calls(browser):
    links = browser.js("return [...document.querySelectorAll('table.calls tbody th a')].map((link) => link.getAttribute('href'))")
    return [link.split("/")[-1].split("?")[0] for link in links]


@case
def charts_tell_their_values_to_mouse_and_keys(setting):
    browser = setting.admin
    browser.open(f"/dashboard/overview?{DATES}")
    plot = browser.one("#spend svg.plot")
    browser.js("arguments[0].scrollIntoView({block: 'center'})", plot)
    ActionChains(browser.driver).move_to_element_with_offset(plot, 5, 10).perform()
    wait("the tooltip", lambda: browser.js("return !document.querySelector('.tip').hidden"))
    said = browser.js("return [...document.querySelectorAll('.tip li:not(.total) .n')].map((cell) => cell.textContent)")
    values = [number(text) for text in said]
    assert len(values) > 3 and values == sorted(values, reverse=True), values
    day = browser.js("return document.querySelector('.tip .at').textContent")
    row = browser.js("""return [...document.querySelectorAll('#spend .behind tbody tr')].filter((row) => row.children[0].textContent === arguments[0])
        .map((row) => [...row.querySelectorAll('td')].map((cell) => cell.textContent))[0]""", day)
    assert set(said) <= set(row), (said, row)
    equal(browser.js("return document.querySelector('.tip .total .n').textContent"), row[-1], "the total")
    # Of the window: for a picture of the whole page it would move away from under the pointer.
    browser.driver.save_screenshot(f"{SHOTS}/tooltip-light.png")
    frame = browser.one("#spend .frame")
    browser.js("arguments[0].focus()", frame)
    frame.send_keys(Keys.HOME)
    first = browser.js("return document.querySelector('.tip .at').textContent")
    assert first.startswith(f"{FIRST:%a} {FIRST.day} "), first
    frame.send_keys(Keys.ARROW_RIGHT)
    assert browser.js("return document.querySelector('.tip .at').textContent") != first
    frame.send_keys(Keys.ESCAPE)
    assert browser.js("return document.querySelector('.tip').hidden")
    browser.one("#spend summary").click()
    equal(len(browser.all("#spend .behind tbody tr")), 10, "days in the table")
    assert browser.one("#spend .behind table").is_displayed()


@case
def the_theme_is_kept(setting):
    browser = setting.admin
    browser.dress("light")
    browser.open("/dashboard/overview")
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = browser.js(ground)
    browser.one("button.theme").click()
    dark = browser.js(ground)
    assert light != dark, light
    browser.driver.refresh()
    equal(browser.js(ground), dark, "after loading the page again")
    browser.one("button.theme").click()
    equal(browser.js(ground), light, "back again")


@case
def a_team_sees_itself_and_no_other(setting):
    book = setting.book
    browser = Browser(BASE)
    try:
        sign_in(browser, TEAM_KEY)
        browser.open(f"/dashboard/overview?{DATES}")
        equal(number(browser.tile("Requests")), book.n_calls(SPAN, "AND team = ?", (TEAM,)), "its own requests")
        for other in ["", "support", "%3Cb%20onmouseover%3Dalert(1)%3Eevil%20%26%20sons%3C%2Fb%3E"]:
            for page in PAGES:
                for more in ["", "&q=support", "&team=support&team=growth", "&q=user&outcome=ok"]:
                    browser.open(f"/dashboard/{page}?{DATES}&team={other}{more}")
                    source = browser.driver.page_source.replace("&q=support", "").replace('value="support"', "")
                    # Tags of the page itself may say what was searched for.
                    seen = [name for name in OTHERS if f">{name}<" in source or f"{name}-user" in source]
                    equal(seen, [], f"{page} with team={other}{more}")
                    equal(len(browser.all("select[name=team]")), 0, "nothing to choose a team by")
        strange = book.one("id", SPAN, "AND team = 'support'")
        browser.open(f"/dashboard/calls/{strange}?team=support")
        assert "no such call" in browser.text(), "a call of another team"
        own = book.one("id", SPAN, "AND team = ?", (TEAM,))
        browser.open(f"/dashboard/calls/{own}")
        assert own in browser.text(), "a call of its own"
        browser.dress("light")
        browser.open(f"/dashboard/teams?range=month")
        equal(list(browser.table("Teams")), [TEAM], "its own line alone")
        assert browser.all("#burn-down-0 svg.plot"), "its budget"
        browser.shoot("light", f"{SHOTS}/team-light.png")
        equal(browser.complaints(), [], "the team's pages")
    finally:
        browser.quit()


@case
def scripts_are_served_and_other_sites_are_not(setting):
    get, bearer = setting.api.get, setting.api.bearer
    status, headers, body = get(f"/dashboard/teams?{DATES}", bearer)
    assert status == 200 and "Spend by team" in body and headers["cache-control"] == "no-store"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy, policy
    equal(get("/dashboard/teams", {})[0], 401, "without a key")
    equal(get("/dashboard/teams", {"authorization": "Bearer sk-stiver-a-b"})[0], 401, "with a wrong key")
    for site in [{"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}]:
        equal(get("/dashboard/sign-out", bearer | site, "POST")[0], 403, f"a form from {site}")


@case
def how_long_pages_take_is_told(setting):
    """The median of seven loads, after one that is not counted, and of one in the browser; in milliseconds."""
    for days in ["30d", "90d"]:
        for page in PAGES:
            path = f"/dashboard/{page}?range={days}"
            setting.api.took_ms(path)
            median = statistics.median(setting.api.took_ms(path) for _ in range(7))
            setting.admin.open(path)
            drawn = setting.admin.js("const [load] = performance.getEntriesByType('navigation'); return load.loadEventEnd - load.startTime")
            print(f"time  {page:9} {days}: {median:6.0f} ms, drawn by the browser after {drawn:.0f} ms")


def main():
    setting = Setting()
    n_failed = 0
    for run in CASES:
        name = run.__name__.replace("_", " ")
        try:
            run(setting)
            print(f"ok    {name}", flush=True)
        except Exception:
            n_failed += 1
            print(f"FAIL  {name}\n{traceback.format_exc()}", flush=True)
    setting.admin.quit()
    print(f"{len(CASES) - n_failed} passed, {n_failed} failed")
    sys.exit(1 if n_failed else 0)


main()
