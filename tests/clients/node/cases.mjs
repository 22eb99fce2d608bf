// The cases: each uses the SDK as an application would and returns what the SDK showed.
//
// A case asserts what must hold anywhere; that the gateway changes nothing is for the suite to compare.
//
// Invariants: every prompt is new in every run; a case leaves no stream open.

import assert from "node:assert/strict";
import { sdk, z, zodResponseFormat } from "./sdk.mjs";

const CHAT_MODEL = process.env.CHAT_MODEL ?? "gpt-4o-mini";
const COMPLETIONS_MODEL = process.env.COMPLETIONS_MODEL ?? "gpt-3.5-turbo-instruct";
const EMBEDDINGS_MODEL = process.env.EMBEDDINGS_MODEL ?? "text-embedding-3-small";
const N_CONCURRENT = 20;
// One transparent pixel.
const PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7";

export const cases = [];
const test = (name, run) => cases.push({ name, run, showsUsage: false });
/** A case whose answers must carry the gateway's cost. */
const testCosting = (name, run) => cases.push({ name, run, showsUsage: true });

const weatherTool = (name = "get_weather") => ({
  type: "function",
  function: {
    name,
    strict: true,
    parameters: {
      type: "object",
      properties: { city: { type: "string" }, unit: { enum: ["celsius", "fahrenheit"] } },
      required: ["city", "unit"],
      additionalProperties: false,
    },
  },
});

const Solution = z.object({
  steps: z.array(z.object({ explanation: z.string(), output: z.string() })),
  final_answer: z.string(),
  confidence: z.number(),
});

const userSays = (content) => [{ role: "user", content }];

const ask = (target, text, directive = "", { client = target.client, ...options } = {}) =>
  client.chat.completions.create({ model: CHAT_MODEL, messages: userSays(target.say(text, directive)), ...options });

async function chunksOf(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const wordsOf = (chunks) =>
  chunks.flatMap((chunk) => chunk.choices.map((choice) => choice.delta.content ?? "")).join("");

testCosting("chat", async (target) => {
  const completion = await ask(target, "say hello");
  assert(completion.choices[0].message.content.includes("say hello"));
  assert(completion._request_id);
  return completion;
});

test("chat with the raw response", async (target) => {
  const call = ask(target, "say hello rawly");
  const { data, response, request_id } = await call.withResponse();
  assert.equal(data._request_id, response.headers.get("x-request-id"));
  assert.equal(data._request_id, request_id);
  return data.choices;
});

testCosting("chat with cached tokens", async (target) => {
  const completion = await ask(target, "remember", "cached=16 prompt=64");
  assert.equal(completion.usage.prompt_tokens_details.cached_tokens, 16);
  return completion;
});

test("chat stream", async (target) => {
  const chunks = await chunksOf(await ask(target, "stream to me", "chunks=12", { stream: true }));
  assert.equal(chunks[0].choices[0].delta.role, "assistant");
  assert.equal(chunks.at(-1).choices[0].finish_reason, "stop");
  assert(chunks.every((chunk) => !chunk.usage), "usage was not asked for");
  return chunks;
});

testCosting("chat stream with usage", async (target) => {
  const options = { stream: true, stream_options: { include_usage: true } };
  const chunks = await chunksOf(await ask(target, "stream and count", "chunks=12 cached=4", options));
  assert.deepEqual(chunks.at(-1).choices, []);
  assert.equal(chunks.at(-1).usage.completion_tokens, 12);
  return chunks;
});

test("chat stream in odd pieces", async (target) => {
  const stream = await ask(target, "pieces", "chunks=8 split=7 crlf comments multi_data", { stream: true });
  return wordsOf(await chunksOf(stream));
});

testCosting("tools", async (target) => {
  const completion = await ask(target, "weather in Paris", "", { tools: [weatherTool()], tool_choice: "auto" });
  const { message, finish_reason } = completion.choices[0];
  assert.equal(finish_reason, "tool_calls");
  const toolSays = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "18 degrees" };
  const messages = [...userSays(target.say("weather, told by a tool")), message, toolSays];
  const told = await target.client.chat.completions.create({ model: CHAT_MODEL, messages, tools: [weatherTool()] });
  assert.equal(told.choices[0].message.tool_calls, undefined);
  return [completion, told];
});

testCosting("parallel tools", async (target) => {
  const tools = [weatherTool(), weatherTool("get_forecast")];
  const completion = await ask(target, "weather twice", "parallel=2", { tools, parallel_tool_calls: true });
  const names = completion.choices[0].message.tool_calls.map((call) => call.function.name);
  assert.deepEqual(names, ["get_weather", "get_forecast"]);
  return completion;
});

test("streamed tools", async (target) => {
  const tools = [weatherTool(), weatherTool("get_forecast")];
  const messages = userSays(target.say("weather twice, streamed", "parallel=2"));
  const stream = target.client.chat.completions.stream({ model: CHAT_MODEL, messages, tools });
  const completion = await stream.finalChatCompletion();
  assert.equal(completion.choices[0].message.tool_calls[1].function.parsed_arguments.unit, "celsius");
  return completion;
});

testCosting("structured output", async (target) => {
  const response_format = zodResponseFormat(Solution, "solution");
  const messages = userSays(target.say("solve 8x + 7 = -23"));
  const completion = await target.client.chat.completions.parse({ model: CHAT_MODEL, messages, response_format });
  assert.equal(completion.choices[0].message.parsed.confidence, 1.5);
  return completion;
});

testCosting("vision parts", async (target) => {
  const text = target.say("what is in this picture");
  const messages = userSays([{ type: "text", text }, { type: "image_url", image_url: { url: PIXEL } }]);
  const completion = await target.client.chat.completions.create({ model: CHAT_MODEL, messages });
  assert(completion.choices[0].message.content.includes("picture"));
  return completion;
});

testCosting("logprobs", async (target) => {
  const completion = await ask(target, "how sure", "chunks=5", { logprobs: true, top_logprobs: 2 });
  assert.equal(completion.choices[0].logprobs.content.length, 5);
  return completion;
});

testCosting("several choices", async (target) => {
  const completion = await ask(target, "say it twice", "", { n: 2 });
  assert.deepEqual(completion.choices.map((choice) => choice.index), [0, 1]);
  return completion;
});

testCosting("stop sequences", async (target) => {
  const completion = await ask(target, "one two STOPHERE three", "", { stop: ["STOPHERE"] });
  assert(completion.choices[0].message.content.endsWith("one two "));
  return completion;
});

testCosting("seed", async (target) => {
  const completion = await ask(target, "the same again", "", { seed: 42 });
  assert(completion.system_fingerprint.endsWith("42"));
  return completion;
});

testCosting("reasoning", async (target) => {
  const completion = await ask(target, "think first", "reasoning=6", { reasoning_effort: "low" });
  assert.equal(completion.usage.completion_tokens_details.reasoning_tokens, 6);
  assert(completion.choices[0].message.reasoning_content.startsWith("thought0"));
  return completion;
});

testCosting("unknown fields", async (target) => {
  const sent = { list: [1, 2.5, null], text: "é\u2028" };
  const completion = await ask(target, "strangers", "unknown", { x_custom: sent });
  assert.deepEqual(completion.x_echo, { x_custom: sent });
  assert.equal(completion.x_unknown.kept, true);
  return completion;
});

testCosting("completions", async (target) => {
  const prompt = target.say("once upon a time", "chunks=9");
  const completion = await target.client.completions.create({ model: COMPLETIONS_MODEL, prompt });
  assert.equal(completion.usage.completion_tokens, 9);
  return completion;
});

test("completions streamed", async (target) => {
  const prompt = target.say("once upon a stream", "chunks=9");
  const chunks = await chunksOf(
    await target.client.completions.create({ model: COMPLETIONS_MODEL, prompt, stream: true }),
  );
  assert(chunks.map((chunk) => chunk.choices[0].text).join("").includes("once upon a stream"));
  return chunks;
});

test("embeddings as the SDK asks", async (target) => {
  const input = [target.say("first text"), target.say("second text")];
  const answer = await target.client.embeddings.create({ model: EMBEDDINGS_MODEL, input });
  assert.equal(answer.data.length, 2);
  assert.equal(typeof answer.data[1].embedding[0], "number");
  return answer;
});

test("embeddings as floats", async (target) => {
  const options = { encoding_format: "float", dimensions: 64 };
  const input = target.say("a text of floats");
  const answer = await target.client.embeddings.create({ model: EMBEDDINGS_MODEL, input, ...options });
  assert.equal(answer.data[0].embedding.length, 64);
  return answer;
});

test("models", async (target) => {
  const ids = [];
  for await (const model of target.client.models.list()) ids.push(model.id);
  assert(ids.includes(CHAT_MODEL));
  const { id, object } = await target.client.models.retrieve(CHAT_MODEL);
  // Which other models there are is the server's affair.
  return { id, object };
});

async function errorOf(promise) {
  const error = await promise.then(() => null, (error) => error);
  assert(error, "nothing was raised");
  return error;
}

function shownError(error, kind) {
  assert.equal(error.constructor, kind, `${error.constructor.name}: ${error.message}`);
  for (const key of ["message", "type", "param", "code"]) assert(key in error.error, `the body has no ${key}`);
  return { kind: kind.name, status: error.status };
}

test("error 400 of the request", async (target) => {
  const error = await errorOf(target.client.chat.completions.create({ model: CHAT_MODEL, messages: [] }));
  return shownError(error, sdk.BadRequestError);
});

test("error 400 of the upstream", async (target) => {
  const error = await errorOf(ask(target, "too long", 'status=400 message="context is too long"'));
  assert(error.message.includes("context is too long"), "the caller must learn what is wrong with the request");
  return shownError(error, sdk.BadRequestError);
});

test("error 401 for a bad key", async (target) => {
  const client = target.newClient({ apiKey: "bad-key", maxRetries: 0 });
  return shownError(await errorOf(ask(target, "let me in", "", { client })), sdk.AuthenticationError);
});

test("error 404 for an unknown model", async (target) => {
  const call = target.client.chat.completions.create({ model: "no-such-model", messages: userSays("anyone?") });
  return shownError(await errorOf(call), sdk.NotFoundError);
});

test("error 429 of the upstream", async (target) =>
  shownError(await errorOf(ask(target, "too fast", "status=429 retry_after=1")), sdk.RateLimitError));

test("error 500 of the upstream", async (target) => {
  const error = await errorOf(ask(target, "broken", "status=500"));
  assert.equal(error.constructor, sdk.InternalServerError);
  return error.constructor.name;
});

test("retry after 429, then success", async (target) => {
  const client = target.newClient({ maxRetries: 2 });
  const prompt = target.sayApart("patience", "status=429 retry_after_ms=50 fail_first=1");
  const completion = await ask(target, "", "", { client, messages: userSays(prompt) });
  const calls = await target.seenByFake(prompt.split(" [[")[0]);
  assert.equal(calls.length, 2, `the upstream saw ${calls.length} calls`);
  return completion;
});

test("timeout", async (target) => {
  const client = target.newClient({ maxRetries: 0, timeout: 400 });
  const error = await errorOf(ask(target, "never answered", "hang=headers", { client }));
  assert.equal(error.constructor, sdk.APIConnectionTimeoutError);
  return error.constructor.name;
});

test("abort in mid-stream", async (target) => {
  const prompt = target.sayApart("interrupted", "chunks=10 pause_at=4");
  const stream = await ask(target, "", "", { messages: userSays(prompt), stream: true });
  const heard = [];
  for await (const chunk of stream) {
    heard.push(chunk.choices[0].delta.content);
    if (heard.length === 5) stream.controller.abort();
  }
  const isGone = async () => {
    const calls = await target.seenByFake(prompt.split(" [[")[0]);
    return calls.length === 1 && calls[0].ending === "client_gone";
  };
  await target.waitFor(isGone, "the upstream notices that the client left");
  return heard;
});

test("error in mid-stream", async (target) => {
  const stream = await ask(target, "fails half way", "chunks=6 error_at=3", { stream: true });
  const heard = [];
  const listen = async () => {
    for await (const chunk of stream) heard.push(chunk.choices[0].delta.content);
  };
  const error = await errorOf(listen());
  assert(error instanceof sdk.APIError && error.type, `${error}`);
  return heard;
});

test("truncated stream is no success", async (target) => {
  const stream = await ask(target, "cut half way", "chunks=6 cut=3", { stream: true });
  const heard = [];
  const listen = async () => {
    for await (const chunk of stream) heard.push(chunk.choices[0].delta.content);
  };
  await errorOf(listen());
  return heard;
});

testCosting("twenty at once", (target) => {
  const one = async (nth) => {
    const said = `caller number ${String(nth).padStart(2, "0")}`;
    const completion = await ask(target, said, "chunks=8");
    assert(completion.choices[0].message.content.includes(said));
    return completion;
  };
  return Promise.all(Array.from({ length: N_CONCURRENT }, (_, nth) => one(nth)));
});
