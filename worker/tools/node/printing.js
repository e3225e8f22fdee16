"use strict";

// Tells the worker which call printed a line, so that the worker logs the line with the call's uuid. Output that is
// printed outside of calls goes to stdout and stderr unchanged.

const { AsyncLocalStorage } = require("node:async_hooks");

const MAX_LINE_CHARACTERS = 301; // the worker truncates at 300, and the last one shows that there was more
const MAX_LINES_PER_SECOND = 20; // the same maximum as in the worker

const calls = new AsyncLocalStorage();

// Runs `handler`, and attributes all lines that the handler prints, even later, to this call.
async function inCall(printer, handler) {
  const call = { printer, rest: "" };
  try {
    return await calls.run(call, handler);
  } finally {
    if (call.rest) tell(call, call.rest);
    call.rest = "";
  }
}

let send;
let second = 0;
let lines = 0;
let dropped = 0;

// Passes the lines of calls to `sendLine`, as {uuid, tool, text, dropped}.
function watch(sendLine) {
  send = sendLine;
  for (const stream of [process.stdout, process.stderr]) {
    const write = stream.write.bind(stream);
    stream.write = (chunk, encoding, done) => {
      const call = calls.getStore();
      if (!call) return write(chunk, encoding, done);
      print(call, typeof chunk === "string" ? chunk : Buffer.from(chunk).toString("utf8"));
      const callback = typeof encoding === "function" ? encoding : done;
      if (typeof callback === "function") process.nextTick(callback);
      return true;
    };
  }
}

function print(call, text) {
  const whole = text.split("\n");
  whole[0] = call.rest + whole[0];
  call.rest = whole.pop().slice(0, MAX_LINE_CHARACTERS);
  for (const line of whole) tell(call, line);
}

function tell(call, line) {
  if (!line.trim()) return;
  const now = Math.floor(performance.now() / 1000);
  if (now !== second) {
    second = now;
    lines = 0;
  }
  if (lines >= MAX_LINES_PER_SECOND) {
    dropped += 1;
    return;
  }
  lines += 1;
  send({ ...call.printer, text: line.slice(0, MAX_LINE_CHARACTERS), dropped });
  dropped = 0;
}

module.exports = { inCall, watch };
