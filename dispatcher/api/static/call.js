// One call: its facts, its live conversation, and the commands to it.

import { ask, events, pathOf } from "./api.js";
import { age, copy, entry, put, state, who } from "./text.js";

// Minimum and maximum time between two requests for the conversation, with and without events.
const SOON_MS = 300;
const SELDOM_MS = 3_000;
const AGAIN_MS = 1_000;
const MOST_ENTRIES = 300;
const NEAR_END_PX = 60;

const get = (id) => document.getElementById(id);

const ACTIVITIES = {
  interruption: () => "The caller interrupts",
  digits: ({ digits }) => `Keys pressed: ${digits}`,
  tool_call: ({ name }) => `Tool ${name} is running`,
  tool_result: () => "The tool has answered",
  live: () => "The session is live",
};

export class Call {
  #uuid = "";
  #closing = new AbortController();
  #refreshSoon = () => {};
  #heard;
  #lives;

  /** Calls `heard(uuid, conversation)` with the conversation so far; `lives(uuid)` returns whether a call is listed. */
  constructor(heard, lives) {
    this.#heard = heard;
    this.#lives = lives;
    get("say").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#say();
    });
    get("hang-up").addEventListener("click", () => {
      get("confirm").returnValue = "no";
      get("confirm").showModal();
    });
    get("confirm").addEventListener("close", () => {
      if (get("confirm").returnValue === "yes") this.#hangUp();
    });
  }

  get uuid() {
    return this.#uuid;
  }

  open(uuid) {
    this.close();
    this.#uuid = uuid;
    this.#closing = new AbortController();
    put(get("call-title").firstElementChild, uuid);
    put(get("confirm-text").querySelector("bdi"), uuid);
    get("facts").replaceChildren();
    get("conversation").replaceChildren();
    put(get("activity"), "");
    get("text").value = "";
    get("say").hidden = false;
    get("call").hidden = false;
    document.body.classList.add("opened");
    get("call-title").focus();
    const { signal } = this.#closing;
    this.#watch(uuid, signal);
    this.#follow(uuid, signal);
  }

  close() {
    this.#closing.abort();
    this.#uuid = "";
    if (get("confirm").open) get("confirm").close("no");
    get("call").hidden = true;
    document.body.classList.remove("opened");
  }

  /** Requests the conversation repeatedly, and soon after each event. */
  async #follow(uuid, signal) {
    while (!signal.aborted) {
      const refresh = new Promise((resolve) => (this.#refreshSoon = resolve));
      try {
        const call = await ask(pathOf(uuid));
        if (signal.aborted) return;
        this.#show(call);
        this.#heard(uuid, call.conversation);
      } catch (error) {
        if (signal.aborted) return;
        // No worker answers for a call between the loss of its worker and its recovery, but the call stays listed.
        if (error.status === 404 && !this.#lives(uuid)) return this.#ended();
        if (error.status !== 404) put(get("activity"), error.message);
      }
      await wait(SOON_MS);
      await Promise.race([refresh, wait(SELDOM_MS)]);
    }
  }

  async #watch(uuid, signal) {
    while (!signal.aborted) {
      try {
        for await (const event of events(uuid, signal)) {
          const activity = ACTIVITIES[event.type];
          if (activity) put(get("activity"), activity(event));
          else if (event.type === "transcript") put(get("activity"), "");
          this.#refreshSoon();
        }
      } catch {
        // The request for the conversation shows whether the call has ended or never existed.
      }
      this.#refreshSoon();
      // The call may have moved to another worker, so watch again.
      await wait(AGAIN_MS);
    }
  }

  #show(call) {
    const shown = who(call);
    put(get("call-title").firstElementChild, shown);
    put(get("confirm-text").querySelector("bdi"), shown);
    const moved = call.pins > 1 ? `, moved ${call.pins - 1}×` : "";
    const facts = {
      State: state(call.state),
      Age: age(call.seconds),
      Worker: call.worker + moved,
      Dispatcher: call.dispatcher,
      uuid: call.uuid,
      ...Object.fromEntries(Object.entries(call.metadata).filter(([name]) => name !== "from" && name !== "to")),
    };
    showFacts(facts);
    showConversation(call.conversation);
  }

  #ended() {
    this.#closing.abort();
    if (get("confirm").open) get("confirm").close("no");
    if (get("say").contains(document.activeElement)) get("call-title").focus();
    get("say").hidden = true;
    put(get("activity"), "The call has ended");
  }

  async #say() {
    const text = get("text").value.trim();
    if (text && (await this.#command(`${pathOf(this.#uuid)}/say`, "POST", { text }, "It will be said"))) {
      get("text").value = "";
    }
  }

  async #hangUp() {
    await this.#command(pathOf(this.#uuid), "DELETE", undefined, "Hanging up");
  }

  async #command(path, method, body, done) {
    const { signal } = this.#closing;
    try {
      await ask(path, method, body);
    } catch (error) {
      if (!signal.aborted) put(get("activity"), `Not done: ${error.message}`);
      return false;
    }
    if (signal.aborted) return false;
    put(get("activity"), done);
    this.#refreshSoon();
    return true;
  }
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function showFacts(facts) {
  const list = get("facts");
  const names = Object.keys(facts);
  while (list.children.length > 2 * names.length) list.lastElementChild.remove();
  names.forEach((name, number) => {
    if (list.children.length <= 2 * number) {
      list.append(document.createElement("dt"), document.createElement("dd"));
      list.lastElementChild.append(document.createElement("bdi"));
    }
    put(list.children[2 * number], name);
    put(list.children[2 * number + 1].firstElementChild, facts[name]);
  });
}

function showConversation(conversation) {
  const log = get("conversation");
  const follows = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END_PX;
  const shown = conversation.slice(-MOST_ENTRIES).filter(({ text, role }) => text || !role);
  while (log.children.length > shown.length) log.lastElementChild.remove();
  shown.forEach((each, number) => {
    const { kind, speaker, text } = entry(each);
    const row = log.children[number] ?? copy("entry-row");
    row.dataset.kind = kind;
    put(row.querySelector(".speaker"), speaker);
    put(row.querySelector(".text"), text);
    if (!row.isConnected) log.append(row);
  });
  if (follows) log.scrollTop = log.scrollHeight;
}
