// Runs every case with the official OpenAI SDK, directly and through the gateway, and compares them.
//
//   DIRECT_BASE_URL=http://127.0.0.1:9100/v1 GATEWAY_BASE_URL=http://127.0.0.1:8080/v1 \
//   GATEWAY_KEY=... node tests/clients/node/suite.mjs [case ...]
//
// Without GATEWAY_BASE_URL the cases run against the fake upstream alone. The SDK is looked for
// under CLIENT_MODULES (target/clients/node), so that nothing is installed into the source tree.
// This file knows no case and starts no server.
//
// Invariants: a case passes through the gateway only if the SDK shows the same as without it, but
// for identifiers, times and the gateway's additions; the last line counts, and a failure exits with 1.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";
import { OpenAI } from "./sdk.mjs";
import { cases } from "./cases.mjs";

const RUN = randomUUID().slice(0, 8);
const ANSWER_HEADERS = ["x-stiver-path", "x-stiver-model", "x-stiver-cache"];
const ANSWERING = /\/(chat\/completions|completions|embeddings)$/;

/** One base URL, the clients for it, and the headers of what it answered. */
class Target {
  answers = [];

  // The tags are equally long, so that prompts with a tag count the same tokens.
  constructor({ name, tag, baseURL, key, directURL }) {
    Object.assign(this, { name, tag, baseURL, key });
    this.fakeRoot = directURL.replace(/\/v1\/?$/, "");
    this.client = this.newClient({ maxRetries: 0 });
  }

  newClient(options) {
    const fetchNoted = async (url, init) => {
      const response = await fetch(url, init);
      this.answers.push({ path: new URL(url).pathname, status: response.status, headers: response.headers });
      return response;
    };
    return new OpenAI({ apiKey: this.key, baseURL: this.baseURL, timeout: 20_000, fetch: fetchNoted, ...options });
  }

  /** A prompt that no cache has seen in an earlier run; both targets get the same. */
  say(text, directive = "") {
    return `${text} in node run ${RUN}` + (directive && ` [[fake: ${directive}]]`);
  }

  /** A prompt of this target's own, where the fake counts calls by their text. */
  sayApart(text, directive) {
    return this.say(`${text} by ${this.tag}`, directive);
  }

  async seenByFake(prompt) {
    const calls = await (await fetch(`${this.fakeRoot}/calls`)).json();
    return calls.filter((call) => call.body.includes(prompt));
  }

  /** Polls, because the fake is another process. */
  async waitFor(holds, what, seconds = 5) {
    const until = performance.now() + seconds * 1000;
    while (!(await holds())) {
      assert(performance.now() < until, `${what}: not within ${seconds} s`);
      await wait(20);
    }
  }

  get isGateway() {
    return this.name === "gateway";
  }
}

/** What two runs may differ in, taken out. */
function normalised(shown, tag) {
  if (Array.isArray(shown)) return shown.map((item) => normalised(item, tag));
  if (typeof shown === "string") return shown.replaceAll(tag, "TAG");
  if (shown === null || typeof shown !== "object") return shown;
  const kept = Object.entries(shown).filter(
    ([key, value]) => key !== "created" && !(key === "id" && /^(chatcmpl|cmpl)-/.test(value)),
  );
  return Object.fromEntries(kept.map(([key, value]) => [key, normalised(value, tag)]));
}

/** What the gateway adds to usage, taken out; says how often it was there. */
function withoutCost(shown) {
  let nCosts = 0;
  const walk = (value) => {
    if (Array.isArray(value)) return value.map(walk);
    if (value === null || typeof value !== "object") return value;
    const isUsage = "completion_tokens" in value || "total_tokens" in value;
    if (isUsage && "cost" in value) nCosts += 1;
    const kept = Object.entries(value).filter(([key]) => !(isUsage && key === "cost"));
    return Object.fromEntries(kept.map(([key, item]) => [key, walk(item)]));
  };
  return [walk(shown), nCosts];
}

function checkHeaders(target) {
  for (const { path, status, headers } of target.answers) {
    const where = `${path} answered ${status}`;
    assert(headers.get("x-request-id"), `${where} without x-request-id`);
    if (status !== 200 || !ANSWERING.test(path)) continue;
    // A stream's cost is known at its end only, and stands in its last chunk.
    const streamed = headers.get("content-type").includes("text/event-stream");
    const wanted = streamed ? ANSWER_HEADERS : [...ANSWER_HEADERS, "x-stiver-cost-usd"];
    const missing = wanted.filter((name) => !headers.get(name));
    assert.deepEqual(missing, [], `${where} without ${missing}`);
    assert(Number.isFinite(Number(headers.get("x-stiver-cost-usd") ?? 0)), `${where} with a cost that is no number`);
  }
}

/** Runs a case once and returns what it showed. */
async function checkCase(target, { showsUsage, run }, expected) {
  target.answers.length = 0;
  const shown = normalised(JSON.parse(JSON.stringify(await run(target))), target.tag);
  if (!target.isGateway) return shown;
  checkHeaders(target);
  const [kept, nCosts] = withoutCost(shown);
  if (showsUsage) assert(nCosts > 0, "no usage carried a cost");
  assert.deepEqual(kept, expected, undefined);
  return kept;
}

async function main(wanted) {
  const directURL = process.env.DIRECT_BASE_URL ?? "http://127.0.0.1:9100/v1";
  const targets = [new Target({ name: "direct", tag: "direct0", baseURL: directURL, key: "any-key", directURL })];
  if (process.env.GATEWAY_BASE_URL) {
    const [baseURL, key] = [process.env.GATEWAY_BASE_URL, process.env.GATEWAY_KEY ?? "any-key"];
    targets.push(new Target({ name: "gateway", tag: "gateway", baseURL, key, directURL }));
  }
  let [nPassed, nFailed] = [0, 0];
  for (const one of cases.filter(({ name }) => wanted.length === 0 || wanted.includes(name))) {
    let expected;
    for (const target of targets) {
      try {
        expected = await checkCase(target, one, expected);
        nPassed += 1;
        console.log(`ok    ${target.name.padEnd(8)} ${one.name}`);
      } catch (error) {
        nFailed += 1;
        console.log(`FAIL  ${target.name.padEnd(8)} ${one.name}: ${error.name}: ${error.message}`);
      }
    }
  }
  console.log(`${nPassed} passed, ${nFailed} failed`);
  return nFailed > 0 || nPassed === 0 ? 1 : 0;
}

process.exit(await main(process.argv.slice(2)));
