"use strict";

// Runs the operator's JavaScript tools for one worker.
//
//   node host.js WITHHELD FD
//
// WITHHELD lists the names of variables that tools do not see, separated by commas. FD is a socket to the worker.
// Both sides write JSON objects, one per line:
//
//   {id, op: "load", version, file, source}           -> {id, result: {name, description, input_schema, idempotent}}
//   {id, op: "call", version, uuid, args, metadata}   -> {id, result: "text"}
//   {id, op: "ping"}                                  -> {id, result: null}
//   {id, op: "drop", version}                         -> {id, result: null}
//   {id, op: "cancel", request}                       -> {id, result: null}
//   {id, op: "entry", ask, ending, digits, message}   -> {id, result: null}
//
// A failed request has, instead of `result`, {id, error: {type, message, where}}. Other lines to the worker:
// {id: -2, level, event, fields} for the worker's log; {id: -4, uuid, tool, text, dropped} for a line that a call
// printed; {id: -5, request, ask, prompt, count, timeout} for keys that a call wants, answered by `entry`. The socket is not stdin or stdout, so that output of tools and their programs cannot mix with replies.

const net = require("node:net");
const path = require("node:path");
const { exportsOf, toolOf } = require("./modules.js");
const keys = require("./digits.js");
const { inCall, watch } = require("./printing.js");

// The worker truncates at 32 KiB. One character more shows the worker that there was more.
const MAX_OUTPUT_CHARACTERS = 32 * 1024 + 1;
const MAX_DEFINITION_CHARACTERS = 64 * 1024; const MAX_MESSAGE_CHARACTERS = 1000;

const LOG = -2;
const PRINTED = -4;
const ASK = -5;

const tools = new Map(); // version -> a promise of {file, tool}

const operations = {
  async load({ version, file, source }) {
    const loading = load(version, file, source);
    loading.catch(() => {}); // this request and each later call report the error
    tools.set(version, loading);
    return (await loading).definition;
  },

  async call({ id, version, uuid, args, metadata }) {
    const loaded = await Promise.resolve(tools.get(version)).catch(() => undefined);
    if (!loaded) throw new Failure(new Error("it could not be loaded again"), "");
    const { file, tool } = loaded;
    try {
      const { handler } = tool;
      // AVR passes two arguments, so a third parameter with a default value is not meant for the metadata.
      const given = handler.length >= 3 ? [uuid, args, metadata] : [uuid, args];
      const run = () => keys.askingFor(id, () => handler.apply(tool, given));
      return render(await inCall({ uuid, tool: String(tool.name) }, run));
    } catch (error) {
      throw new Failure(error, file);
    }
  },

  ping: () => null,

  entry: keys.answered,

  drop({ version }) {
    tools.delete(version);
    return null;
  },

  cancel: () => null, // JavaScript cannot be interrupted
};

class Failure {
  constructor(error, file) {
    this.type = text(() => error.name) || typeof error;
    this.message = text(() => error.message) || (error instanceof Error ? "" : text(() => error));
    // Remove the query that modules.js adds to the URLs of ES modules.
    this.where = place(text(() => error.stack, Infinity).replace(/\?avr=[^:\s)]*/g, ""), file);
  }
}

function text(read, maxCharacters = MAX_MESSAGE_CHARACTERS) {
  try {
    return String(read() ?? "").slice(0, maxCharacters);
  } catch {
    return "";
  }
}

// Returns the first line of `file` in a stack, otherwise the first line of another file that is not Node's own.
// The result is a base name and a line number.
function place(stack, file) {
  const inFile = file && stack.includes(`${file}:`) && stack.slice(stack.indexOf(`${file}:`) + file.length);
  const [, line] = (inFile && /^:(\d+)/.exec(inFile)) || [];
  if (line) return `${path.basename(file)}:${line}`;
  const [, other, otherLine] = /(?:^|[\s(])((?!node:)[^\s()]+):(\d+):\d+\)?$/m.exec(stack) || [];
  return other ? `${path.basename(other)}:${otherLine}` : "";
}

function render(value) {
  const rendered = typeof value === "string" ? value : JSON.stringify(value) ?? "null";
  return rendered.slice(0, MAX_OUTPUT_CHARACTERS);
}

// The request contains the source, so that a version can be loaded again after its file or this process is gone.
async function load(version, file, source) {
  try {
    const tool = toolOf(await exportsOf(file, source, version));
    const { name, description, input_schema, idempotent, handler } = tool;
    if (typeof handler !== "function") throw new TypeError("handler is no function: export handler(uuid, args)");
    const definition = JSON.stringify({ name, description, input_schema, idempotent });
    if (definition.length > MAX_DEFINITION_CHARACTERS) throw new RangeError("the definition is too long");
    return { file, tool, definition: JSON.parse(definition) };
  } catch (error) {
    throw new Failure(error, file);
  }
}

async function answer({ op, ...request }) {
  const { id } = request;
  let reply;
  try {
    reply = { id, result: await operations[op](request) };
  } catch (failure) {
    reply = { id, error: failure instanceof Failure ? failure : new Failure(failure, "") };
  }
  send(reply);
}

function send(line) {
  channel.write(`${JSON.stringify(line)}\n`);
}

watch((line) => send({ id: PRINTED, ...line }));
keys.watch((line) => send({ id: ASK, ...line }));

// Log the first read of each withheld variable.
const unread = new Set(process.argv[2].split(",").filter(Boolean));
process.env = new Proxy(process.env, {
  get(variables, name) {
    const value = variables[name];
    if (value === undefined && unread.delete(name)) {
      const fields = { variable: name, hint: `TOOLS_ENV=${name} lets tools see it` };
      send({ id: LOG, level: "warning", event: "a tool read a variable that is withheld from tools", fields });
    }
    return value;
  },
});

// An unawaited promise that rejects, or a timer that throws, must not end the process and fail other calls.
function outsideOfHandlers(error) {
  const failure = new Failure(error, "");
  const fields = { error: failure.type, where: failure.where };
  send({ id: LOG, level: "warning", event: "a tool failed outside of its handler", fields });
}
process.on("uncaughtException", outsideOfHandlers);
process.on("unhandledRejection", outsideOfHandlers);

const channel = new net.Socket({ fd: Number(process.argv[3]) });
let waiting = "";
channel.setEncoding("utf8");
channel.on("data", (chunk) => {
  const lines = (waiting + chunk).split("\n");
  waiting = lines.pop();
  for (const line of lines) answer(JSON.parse(line));
});
channel.on("error", () => {});
channel.on("close", () => process.exit(0)); // the worker has ended
answer({ id: 0, op: "ping" });
