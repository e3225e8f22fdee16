"use strict";

// `digits`, with which a tool asks the caller for keys: see worker/tools/caller_digits.py.
//
//   const pin = await digits("Please enter your PIN.", 4, 10);
//
// It is a global, so that files of both module systems have it, with each version of Node.

const { AsyncLocalStorage } = require("node:async_hooks");

class DigitsError extends Error {
  get name() {
    return this.constructor.name;
  }
}
class DigitsLost extends DigitsError {}
class DigitsRefused extends DigitsError {}

const runs = new AsyncLocalStorage();
const waiting = new Map(); // number -> resolves with the worker's answer
let next = 1;
let send;

// Runs `handler`, which may ask the caller of the worker's request `request` until the handler has ended.
async function askingFor(request, handler) {
  const run = { request, isOver: false };
  try {
    return await runs.run(run, handler);
  } finally {
    run.isOver = true;
  }
}

async function entry(prompt, count, timeout) {
  const run = runs.getStore();
  if (!run || run.isOver) throw new DigitsRefused("digits() works only in a handler, while it runs");
  const ask = next++;
  const line = await new Promise((resolve) => {
    send({ request: run.request, ask, prompt, count, timeout }); // throws if JSON has no such value
    waiting.set(ask, resolve);
  });
  if (line.ending === "lost") throw new DigitsLost(line.message);
  if (line.ending === "refused") throw new DigitsRefused(line.message);
  return { digits: line.digits, endedBy: line.ending };
}

async function digits(prompt, count, timeout) {
  return (await entry(prompt, count, timeout)).digits;
}
Object.assign(digits, { entry, Error: DigitsError, Lost: DigitsLost, Refused: DigitsRefused });

// Takes an answer of the worker. The worker answers each request, also if the run has ended.
function answered({ ask, ...line }) {
  const resolve = waiting.get(ask);
  waiting.delete(ask);
  if (resolve) resolve(line);
  return null;
}

// Passes requests to `sendLine`, as {request, ask, prompt, count, timeout}.
function watch(sendLine) {
  send = sendLine;
  globalThis.digits = digits;
}

module.exports = { answered, askingFor, watch };
