// The page: requests calls and workers, asks people for the token, and opens the call that the address names.

import { ask, askList, problems, token } from "./api.js";
import { Call } from "./call.js";
import { Cluster } from "./cluster.js";
import { Ended } from "./ended.js";
import { Service } from "./service.js";
import { attention, count, put, sentence } from "./text.js";
import { Workers } from "./workers.js";

const POLL_MS = 2_000;
// The pause is at least this multiple of the last request's time, so that slow answers (thousands of calls) cost less.
const POLL_SHARE = 10;
const MOST_PAUSE_MS = 10_000;
const SERVICE_MS = 10_000;
// Time after which the page says that it waits for the first answer.
const SLOW_MS = 5_000;
// A person types on.
const TYPING_MS = 250;

const get = (id) => document.getElementById(id);
let goOn = () => {};
let isWoken = false;
let isConnected = false;
const cluster = new Cluster(wake);
const workers = new Workers();
const ended = new Ended(wake);
const service = new Service();
const call = new Call((uuid, conversation) => cluster.heard(uuid, conversation));
let shownAt = "";
let serviceAt = -Infinity;

/** Asks at once, or again if an answer is under way. */
function wake() {
  isWoken = true;
  goOn();
}

function complain(text) {
  put(get("trouble"), text);
  get("trouble").hidden = !text;
}

/** Shows whether the data on the page is old. */
function stale(isStale) {
  document.body.classList.toggle("stale", isStale);
  call.stale(isStale);
  if (!isStale) return;
  cluster.stale();
  workers.stale();
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
  ended.mark(uuid);
  if (uuid) {
    call.open(uuid);
  } else {
    call.close();
    (cluster.link(last) ?? ended.link(last) ?? get("find")).focus();
  }
}

function showProblems(lines) {
  put(get("problems"), lines.join(" · "));
  get("problems").hidden = lines.length === 0;
}

async function showService() {
  if (performance.now() - serviceAt < SERVICE_MS) return;
  try {
    service.show(await ask("service"));
    serviceAt = performance.now();
  } catch (error) {
    if (error.status !== 404) throw error;
    // A dispatcher of an earlier release does not say.
    service.clear();
  }
}

function summary(live, all) {
  const ill = all.filter((worker) => worker.state !== "ready" || worker.problem).length;
  const told = ill ? attention(ill, count(all.length, "worker")) : count(all.length, "worker");
  return `${count(live, "live call")}, ${all.length ? told : "no workers"}`;
}

async function poll() {
  const wanted = get("find").value.trim();
  const query = new URLSearchParams({ newest: "", limit: cluster.wanted });
  if (wanted) query.set("find", wanted);
  try {
    const [calls, all, lines] = await Promise.all([askList(`calls?${query}`), ask("workers"), problems(), showService()]);
    shownAt = new Date().toLocaleTimeString();
    isConnected = true;
    complain("");
    stale(false);
    letIn(true);
    put(get("summary"), summary(calls.live, all));
    document.title = count(calls.live, "call");
    showProblems(lines);
    cluster.show(calls, all, wanted);
    workers.show(all);
    route();
    // Not waited for: of many records, the dispatcher may look at thousands.
    ended.look(calls.entries, wanted).catch(refused);
  } catch (error) {
    refused(error);
  }
}

function refused(error) {
  isConnected = false;
  if (error.status === 401) {
    complain(token.get() ? "This is not the ADMIN_TOKEN of the dispatcher." : "");
    token.forget();
    shownAt = "";
    cluster.clear();
    workers.show([]);
    ended.clear();
    service.clear();
    serviceAt = -Infinity;
    call.close();
    showProblems([]);
    put(get("summary"), "Enter ADMIN_TOKEN to see the calls.");
    letIn(false);
    return;
  }
  const rest = shownAt ? `What you see is from ${shownAt}.` : "The page asks again every few seconds.";
  complain(`${sentence(error.message)} ${rest}`);
  put(get("summary"), shownAt ? "Not connected" : "Not connected yet");
  document.title = "Not connected";
  // Its lines are old, too, and the alert above says what is wrong now.
  showProblems([]);
  stale(true);
}

async function run() {
  const slow = setTimeout(() => {
    if (get("summary").textContent === "Connecting …") put(get("summary"), "Connecting … The dispatcher is slow to answer.");
  }, SLOW_MS);
  for (;;) {
    const began = performance.now();
    isWoken = false;
    // Poll only while the page is visible and the token is not being asked for.
    if (!document.hidden && get("entry").hidden) await poll();
    clearTimeout(slow);
    const took = performance.now() - began;
    // After a failure, which may have taken 15 s, the page asks again soon, as it says.
    const pause = isConnected ? Math.min(MOST_PAUSE_MS, Math.max(POLL_MS, POLL_SHARE * took)) : POLL_MS;
    await new Promise((resolve) => {
      goOn = resolve;
      setTimeout(resolve, isWoken ? 0 : pause);
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
let typing = 0;
get("find").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(wake, TYPING_MS);
});
window.addEventListener("hashchange", route);
document.addEventListener("visibilitychange", wake);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && call.uuid && !get("confirm").open) location.hash = "";
});
run();
