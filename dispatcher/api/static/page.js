// The page: requests calls and workers, asks people for the token, and opens the call that the address names.

import { ask, askAll, problems, token } from "./api.js";
import { Call } from "./call.js";
import { Cluster } from "./cluster.js";
import { put } from "./text.js";

const POLL_MS = 2_000;
// The pause is at least this multiple of the last request's time, so that slow answers (thousands of calls) cost less.
const POLL_SHARE = 10;

const get = (id) => document.getElementById(id);
const cluster = new Cluster();
const call = new Call(
  (uuid, conversation) => cluster.heard(uuid, conversation),
  (uuid) => cluster.lists(uuid),
);
let wake = () => {};
let shownAt = "";

function complain(text) {
  put(get("trouble"), text);
  get("trouble").hidden = !text;
  document.body.classList.toggle("stale", Boolean(text));
}

function letIn(isIn) {
  get("board").hidden = !isIn;
  if (get("entry").hidden === isIn) return;
  get("entry").hidden = isIn;
  if (!isIn) get("token").focus();
}

function route() {
  let uuid = "";
  try {
    uuid = decodeURIComponent(location.hash.slice(1));
  } catch {
    // Not an address of this page.
  }
  if (get("board").hidden || uuid === call.uuid) return;
  const last = call.uuid;
  cluster.mark(uuid);
  if (uuid) {
    call.open(uuid);
  } else {
    call.close();
    cluster.focus(last);
  }
}

async function showProblems() {
  const lines = await problems();
  put(get("problems"), lines.join(" · "));
  get("problems").hidden = lines.length === 0;
}

async function poll() {
  try {
    const [calls, workers] = await Promise.all([askAll("calls"), ask("workers"), showProblems()]);
    shownAt = new Date().toLocaleTimeString();
    complain("");
    letIn(true);
    cluster.show(calls, workers);
    route();
  } catch (error) {
    if (error.status === 401) {
      complain(token.get() ? "This is not the ADMIN_TOKEN of the dispatcher." : "");
      token.forget();
      cluster.clear();
      call.close();
      put(get("summary"), "Who looks at calls has to bring the token.");
      letIn(false);
    } else {
      complain(`${error.message}.${shownAt ? ` What you see is of ${shownAt}.` : ""}`);
    }
  }
}

async function run() {
  for (;;) {
    const began = performance.now();
    // Poll only while the page is visible and the token is not being asked for.
    if (!document.hidden && get("entry").hidden) await poll();
    const pause = Math.max(POLL_MS, POLL_SHARE * (performance.now() - began));
    await new Promise((resolve) => {
      wake = resolve;
      setTimeout(resolve, pause);
    });
  }
}

get("entry").addEventListener("submit", (event) => {
  event.preventDefault();
  token.keep(get("token").value.trim());
  get("token").value = "";
  poll();
});
get("close").addEventListener("click", (event) => {
  event.preventDefault();
  location.hash = "";
});
window.addEventListener("hashchange", route);
document.addEventListener("visibilitychange", () => wake());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && call.uuid && !get("confirm").open) location.hash = "";
});
run();
