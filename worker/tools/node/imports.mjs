// What `import` finds for tools, beyond what Node finds. Registered by modules.js, and run in a thread of Node's own.
//
// - `avr-tool:{url, source}` is a tool, whose source came from the worker.
// - Packages that are not beside the tool are those of NODE_PATH, as for `require`.
// - Files beside a tool are read again with a new version of it: they carry its `?avr=N`.
// - A file beside a tool that ends in `.js` is a module if it is written as one, also with Node 18.

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
      // Modules have conditions of their own (`exports.import`), so the image's packages are found as by a neighbour.
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
