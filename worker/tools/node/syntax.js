"use strict";

// Distinguishes ES modules from CommonJS by their syntax, because files of both kinds end in `.js`.

const vm = require("node:vm");

const OF_A_MODULE = /import statement outside|token 'export'|import\.meta|await is only valid/;

// Returns the error that shows that `source` is not CommonJS, or undefined if it is. Does not run the source.
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

// Returns whether this error comes from the syntax of ES modules, and not from a mistake.
function isOfAModule(problem) {
  return OF_A_MODULE.test(problem.message);
}

module.exports = { commonJsProblem, isOfAModule };
