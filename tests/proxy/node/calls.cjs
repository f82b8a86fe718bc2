// Runs the calls of the SDKs that stdin names, and tells as JSON what each came to.
"use strict";

const fs = require("node:fs");
const OpenAI = require("openai");
const Anthropic = require("@anthropic-ai/sdk");

const SDKS = { openai: OpenAI, anthropic: Anthropic };
const clients = new Map();

function clientOf({ sdk, url, key }) {
  const name = `${sdk} ${url} ${key}`;
  if (!clients.has(name)) {
    const Client = SDKS[sdk].default ?? SDKS[sdk];
    clients.set(name, new Client({ apiKey: key, baseURL: url, maxRetries: 0, timeout: 20_000 }));
  }
  return clients.get(name);
}

async function run(call) {
  const client = clientOf(call);
  const names = call.method.split(".");
  const method = names.pop();
  const owner = names.reduce((from, name) => from[name], client);
  const given = call.params === null ? [] : Array.isArray(call.params) ? call.params : [call.params];
  if (call.file !== null) {
    given[0].file = await SDKS[call.sdk].toFile(Buffer.from(call.file), "a.jsonl");
  }
  const options = call.headers ? { headers: call.headers } : {};
  try {
    const { data, response } = await owner[method](...given, options).withResponse();
    const told = { status: response.status, headers: Object.fromEntries(response.headers) };
    if (given[0]?.stream) {
      const pieces = [];
      for await (const piece of data) {
        pieces.push(piece);
        if (pieces.length === call.leave_after) break;
      }
      return { ...told, value: pieces };
    }
    if (data instanceof Response) return { ...told, value: await data.text() };
    return { ...told, value: data.data && data.getNextPage ? data.data : data };
  } catch (error) {
    return {
      status: error.status ?? null,
      headers: error.headers ? Object.fromEntries(error.headers) : null,
      error: {
        name: error.constructor.name, message: error.message,
        code: error.code ?? null, type: error.type ?? null, body: error.error ?? null,
      },
    };
  }
}

async function main() {
  const { calls, together } = JSON.parse(fs.readFileSync(0, "utf8"));
  const outcomes = [];
  if (together) outcomes.push(...(await Promise.all(calls.map(run))));
  else for (const call of calls) outcomes.push(await run(call));
  process.stdout.write(JSON.stringify(outcomes), () => process.exit(0));
}

main();
