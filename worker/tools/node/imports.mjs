// Extends Node's `import` for tools. modules.js registers these hooks, and Node runs the hooks in a separate thread.
//
// - `avr-tool:{url, source}` is a tool with the source that the worker sent.
// - Packages that are not beside the tool are looked up in NODE_PATH, as for `require`.
// - Files beside a tool are read again for each new version of the tool, because their URLs carry the tool's `?avr=N`.
// - A `.js` file beside a tool is an ES module if its syntax is that of one, even with Node 18.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { fileURLToPath, pathToFileURL } from "node:url";

const require = createRequire(import.meta.url);
const { commonJsProblem, isOfAModule } = require("./syntax.js");

const TOOL = "avr-tool:";
const sources = new Map();

export async function resolve(specifier, context, next) {
  if (specifier.startsWith(TOOL)) {
    const { url, source } = JSON.parse(specifier.slice(TOOL.length));
    sources.set(url, source);
    return { url, format: "module", shortCircuit: true };
  }
  return beside(await find(specifier, context, next), context.parentURL);
}

export async function load(url, context, next) {
  const source = sources.get(url);
  if (source !== undefined) {
    sources.delete(url);
    return { format: "module", source, shortCircuit: true };
  }
  if (generationOf(url) && context.format !== "module" && new URL(url).pathname.endsWith(".js")) {
    const written = await readFile(fileURLToPath(url), "utf8");
    const problem = commonJsProblem(written, fileURLToPath(url));
    if (problem && isOfAModule(problem)) return { format: "module", source: written, shortCircuit: true };
  }
  return next(url, context);
}

async function find(specifier, context, next) {
  try {
    return await next(specifier, context);
  } catch (error) {
    const isPackage = error.code === "ERR_MODULE_NOT_FOUND" && !/^([./]|[a-z]+:)/.test(specifier);
    if (!isPackage) throw error;
    try {
      // `import` uses other conditions (`exports.import`) than `require`. So first resolve the package as a file beside
      // this one would, which finds the image's packages.
      return await next(specifier, { ...context, parentURL: import.meta.url });
    } catch {
      const found = fromNodePath(specifier);
      if (found === undefined) throw error;
      return next(found, context);
    }
  }
}

function fromNodePath(specifier) {
  try {
    return pathToFileURL(require.resolve(specifier)).href;
  } catch {
    return undefined;
  }
}

function beside(resolved, parentURL) {
  const generation = parentURL?.startsWith("file:") && generationOf(parentURL);
  if (!generation || !resolved.url.startsWith("file:") || resolved.url.includes("/node_modules/")) return resolved;
  const url = new URL(resolved.url);
  url.searchParams.set("avr", generation);
  return { ...resolved, url: url.href };
}

function generationOf(url) {
  return url.startsWith("file:") ? new URL(url).searchParams.get("avr") : null;
}
