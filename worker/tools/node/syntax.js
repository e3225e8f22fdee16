"use strict";

// Tells ES modules from CommonJS by their syntax, as files of both kinds end in `.js`.

const vm = require("node:vm");

const OF_A_MODULE = /import statement outside|token 'export'|import\.meta|await is only valid/;

// The error by which `source` is no CommonJS; undefined if it is. Nothing is run.
function commonJsProblem(source, file) {
  try {
    vm.compileFunction(source.replace(/^#!.*/, ""), ["exports", "require", "module", "__filename", "__dirname"], {
      filename: file,
    });
    return undefined;
  } catch (error) {
    return error;
  }
}

// Whether this error comes from the syntax of modules, and not from a mistake.
function isOfAModule(problem) {
  return OF_A_MODULE.test(problem.message);
}

module.exports = { commonJsProblem, isOfAModule };
