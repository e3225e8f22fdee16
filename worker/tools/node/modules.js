"use strict";

// Runs a tool's source as CommonJS or as an ES module, and returns what it exports.
//
// `require(esm)` is not used: Debian's Node 18 has none. A version of a tool is a module of its own, outside of
// require's cache, so that calls that began with the version before keep it. Node keeps ES modules until it ends.

const Module = require("node:module");
const path = require("node:path");
const { pathToFileURL } = require("node:url");
const { commonJsProblem, isOfAModule } = require("./syntax.js");

const loadedFiles = new Set();
const generations = new Map(); // directory -> how often its helpers were forgotten
let canHook; // whether `import` finds what imports.mjs finds; undefined before it was needed

async function exportsOf(file, source, version) {
  const directory = path.dirname(file);
  if (loadedFiles.has(file)) forgetHelpers(directory);
  loadedFiles.add(file);
  if (/\bimport\b/.test(source)) hook(); // CommonJS, too, may import()
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
  // Without hooks the file itself is read, and packages are those beside it.
  return import(hook() ? `avr-tool:${JSON.stringify({ url: url.href, source })}` : url.href);
}

// Node has `register` from 18.19 and 20.6 on.
function hook() {
  if (canHook === undefined) {
    canHook = typeof Module.register === "function";
    if (canHook) Module.register(pathToFileURL(path.join(__dirname, "imports.mjs")).href);
  }
  return canHook;
}

// What tools share by require("./...") or import is read again with the next version of one of them.
function forgetHelpers(directory) {
  generations.set(directory, (generations.get(directory) ?? 0) + 1);
  for (const cached of Object.keys(require.cache)) {
    if (cached.startsWith(directory + path.sep) && !cached.includes(`${path.sep}node_modules${path.sep}`)) {
      delete require.cache[cached];
    }
  }
}

// The tool among a module's exports: themselves, or the default one.
function toolOf(exports) {
  const given = Object(exports);
  return typeof given.handler !== "function" && given.default ? Object(given.default) : given;
}

module.exports = { exportsOf, toolOf };
