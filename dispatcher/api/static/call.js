// One call: its facts, its live conversation, and the commands to it. After its end, its record if one is kept.

import { ask, askList, events, pathOf, Refused } from "./api.js";
import { showConversation } from "./conversation.js";
import { figureChips, figureFacts, metadata, prompt, showFacts, showGlance, showRecord, voice } from "./facts.js";
import { age, put, reason, sentence, state, who } from "./text.js";

// Minimum and maximum time between two requests for the conversation, with and without events.
const SOON_MS = 300;
const SELDOM_MS = 3_000;
const AGAIN_MS = 1_000;
// The record of a call is written within a second or two after its end.
const RECORD_TRIES = 6;

const get = (id) => document.getElementById(id);

const ACTIVITIES = {
  interruption: () => "The caller interrupts.",
  digits: ({ digits }) => `Keys pressed: ${digits}`,
  tool_call: ({ name }) => `Tool ${name} is running.`,
  tool_result: () => "The tool has answered.",
  live: () => "The session is live.",
  transcript: () => "",
};

export class Call {
  #uuid = "";
  #closing = new AbortController(); // of the whole view
  #ending = new AbortController(); // of the live part
  #refreshSoon = () => {};
  #heard;
  #call = null; // the last answer of the API
  #reason = "";
  #isStale = false;

  /** Calls `heard(uuid, conversation)` with the conversation so far. */
  constructor(heard) {
    this.#heard = heard;
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
    this.#ending = new AbortController();
    this.#call = null;
    this.#reason = "";
    this.#isStale = false;
    put(get("call-title").firstElementChild, uuid);
    put(get("confirm-text").querySelector("bdi"), uuid);
    showGlance([]);
    showFacts({ uuid });
    get("conversation").replaceChildren();
    put(get("activity"), "Loading …");
    get("text").value = "";
    get("say").hidden = true;
    get("call").hidden = false;
    document.body.classList.add("opened");
    // On a small screen the call takes the place of the lists.
    if (getComputedStyle(get("cluster")).display === "none") scrollTo(0, 0);
    get("call-title").focus({ preventScroll: true });
    const { signal } = this.#ending;
    this.#watch(uuid, signal);
    this.#follow(uuid, signal);
  }

  close() {
    this.#ending.abort();
    this.#closing.abort();
    this.#uuid = "";
    if (get("confirm").open) get("confirm").close("no");
    get("call").hidden = true;
    document.body.classList.remove("opened");
  }

  /** Shows whether the data is old: a state of the past is none of now. */
  stale(isStale) {
    if (this.#isStale === isStale || this.#ending.signal.aborted) return;
    this.#isStale = isStale;
    if (this.#call) this.#showFacts(this.#call);
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
        if (error.status !== 404) put(get("activity"), sentence(error.message));
        else if (!(await isListed(uuid)) && !signal.aborted) return this.#ended(uuid);
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
          // The call may go on in another session, and then this reason is none of the call.
          if (event.type === "session_ended") this.#reason = event.reason;
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

  #show(answer) {
    const isFirst = this.#call === null;
    // While no worker has the call, nothing is known of its session and conversation: what was shown stays.
    const call = answer.session || isFirst ? answer : { ...answer, session: this.#call.session };
    const hasConversation = answer.conversation.length > 0 || isFirst;
    this.#call = call;
    this.#isStale = false;
    if (isFirst) {
      put(get("activity"), "");
      get("say").hidden = false;
    }
    this.#showTitle(call);
    this.#showFacts(call);
    if (hasConversation) showConversation(get("conversation"), call.conversation);
  }

  #showTitle(call) {
    const shown = who(call);
    put(get("call-title").firstElementChild, shown);
    put(get("confirm-text").querySelector("bdi"), shown);
  }

  #showFacts(call) {
    const shown = state(call.state);
    const now = this.#isStale ? [`was ${shown}`, "unknown"] : [shown, call.state];
    showGlance([now, ...chipsOf(call)]);
    showFacts({ State: now[0], ...factsOf(call) });
  }

  async #ended(uuid) {
    this.#ending.abort();
    if (get("confirm").open) get("confirm").close("no");
    if (get("say").contains(document.activeElement)) get("call-title").focus();
    get("say").hidden = true;
    const seen = this.#call;
    if (seen) {
      const why = this.#reason ? `: ${this.#reason}` : "";
      put(get("activity"), sentence(`The call has ended${why}`));
      showGlance([["ended", "ended"], ...chipsOf(seen)]);
      showFacts({ Ended: sentence(this.#reason || "for a reason that is not known here"), ...factsOf(seen) });
    }
    const record = await this.#record(uuid, seen ? RECORD_TRIES : 1);
    if (this.#closing.signal.aborted || this.#uuid !== uuid) return;
    if (record instanceof Refused) {
      if (!seen && record.status === 404) this.#showUnknown(record);
      else if (!seen) put(get("activity"), sentence(record.message));
      return;
    }
    this.#showTitle(record);
    showRecord(record);
    put(get("activity"), sentence(`The call has ended: ${record.reason_text || reason(record.reason)}`));
    if (record.said?.length && !seen) showConversation(get("conversation"), record.said);
    else if (!seen) put(get("activity"), `${get("activity").textContent} What was said is not in its record.`);
  }

  /** Returns the record of a call; the refusal if there is none. */
  async #record(uuid, tries) {
    for (let each = 1; ; each += 1) {
      try {
        return await ask(`${pathOf(uuid)}/record`);
      } catch (error) {
        // Without an outbox there will be none: the message says what to set.
        if (each >= tries || error.status !== 404 || error.message.includes("nothing stores")) return error;
      }
      await wait(AGAIN_MS);
      if (this.#closing.signal.aborted) return new Refused(0, "");
    }
  }

  #showUnknown(refused) {
    showGlance([["not found", "unknown"]]);
    const isOff = refused.message.includes("nothing stores");
    const hint = isOff ? " Set CALL_RECORDS_KEEP_SECONDS to keep records of ended calls." : "";
    put(get("activity"), `No live call has this uuid, and no record of it is kept.${hint}`);
  }

  async #say() {
    const text = get("text").value.trim();
    if (text && (await this.#command(`${pathOf(this.#uuid)}/say`, "POST", { text }, "The agent says it next."))) {
      get("text").value = "";
    }
  }

  async #hangUp() {
    await this.#command(pathOf(this.#uuid), "DELETE", undefined, "Hanging up …");
  }

  async #command(path, method, body, done) {
    const { signal } = this.#ending;
    try {
      await ask(path, method, body);
    } catch (error) {
      if (!signal.aborted) put(get("activity"), sentence(`Not done: ${error.message}`));
      return false;
    }
    if (signal.aborted) return false;
    put(get("activity"), done);
    this.#refreshSoon();
    return true;
  }
}

const chipsOf = (call) => [[age(call.seconds)], [call.tenant], ...figureChips(call.figures)];

function factsOf(call) {
  const { figures, session } = call;
  return {
    Tenant: call.tenant,
    "Model, voice": voice(session ?? figures ?? {}),
    Prompt: prompt(session),
    ...figureFacts(figures),
    Worker: call.worker,
    Dispatcher: call.dispatcher,
    Began: new Date(call.started_at).toLocaleString(),
    uuid: call.uuid,
    ...metadata(call),
  };
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Returns whether a call lives that no worker answers for, as between the loss of its worker and its recovery. */
async function isListed(uuid) {
  try {
    const query = new URLSearchParams({ find: uuid, limit: 20 });
    return (await askList(`calls?${query}`)).entries.some((call) => call.uuid === uuid);
  } catch {
    return true; // not known: ask again
  }
}
