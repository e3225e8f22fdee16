"use strict";

// Runs a tool's source as CommonJS or as an ES module, and returns what it exports.
//
// `require(esm)` is not used, because Debian's Node 18 does not support it. Each version of a tool is a separate module
// outside of require's cache, so that running calls keep their version. Node never frees an ES module.

const Module = require("node:module");
const path = require("node:path");
const { pathToFileURL } = require("node:url");
const { commonJsProblem, isOfAModule } = require("./syntax.js");

const loadedFiles = new Set();
const generations = new Map(); // directory -> number of times that its helpers were forgotten
let canHook; // whether imports.mjs could be registered; undefined before the first use

async function exportsOf(file, source, version) {
  const directory = path.dirname(file);
  if (loadedFiles.has(file)) forgetHelpers(directory);
  loadedFiles.add(file);
  if (/\bimport\b/.test(source)) hook(); // CommonJS files, too, may call import()
  if (file.endsWith(".mjs")) return importModule(file, source, version);
  const problem = commonJsProblem(source, file);
  if (!problem) return runScript(file, source);
  try {
    return await importModule(file, source, version);
  } catch (error) {
    throw error instanceof SyntaxError && !isOfAModule(problem) ? problem : error;
  }
}

function runScript(file, source) {
  const module = new Module(file, null);
  module.filename = file;
  module.paths = Module._nodeModulePaths(path.dirname(file));
  module._compile(source, file);
  return module.exports;
}

function importModule(file, source, version) {
  const url = pathToFileURL(file);
  url.searchParams.set("avr", String(generations.get(path.dirname(file)) ?? 0));
  url.searchParams.set("version", String(version));
  // Without hooks, Node reads the file itself, and finds only packages beside the file.
  return import(hook() ? `avr-tool:${JSON.stringify({ url: url.href, source })}` : url.href);
}

// `Module.register` exists from Node 18.19 and 20.6 on (Node's documentation of node:module).
function hook() {
  if (canHook === undefined) {
    canHook = typeof Module.register === "function";
    if (canHook) Module.register(pathToFileURL(path.join(__dirname, "imports.mjs")).href);
  }
  return canHook;
}

// Makes the next import read a directory's helper files again. Called for each new version of a tool there.
function forgetHelpers(directory) {
  generations.set(directory, (generations.get(directory) ?? 0) + 1);
  for (const cached of Object.keys(require.cache)) {
    if (cached.startsWith(directory + path.sep) && !cached.includes(`${path.sep}node_modules${path.sep}`)) {
      delete require.cache[cached];
    }
  }
}

// Returns the tool that a module exports: the exports themselves, or the default export.
function toolOf(exports) {
  const given = Object(exports);
  return typeof given.handler !== "function" && given.default ? Object(given.default) : given;
}

module.exports = { exportsOf, toolOf };
