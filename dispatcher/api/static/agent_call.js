// "Call this agent": opens on a click on any element with the attribute `data-call-agent`.
//
// Such elements are hidden until the dispatcher permits calls from the page (PAGE_CALLS).

import { ask, token } from "./api.js";
import { Line, obstacle } from "./agent_call_line.js";
import { Turns } from "./agent_call_turns.js";
import { View } from "./agent_call_view.js";

const DRAW_MS = 200;
const TOKEN_MS = 1_000;
const AGAIN_MS = 5_000;

const view = new View(document.getElementById("agent-call"), {
  call,
  hangUp: () => line?.hangUp(),
  mute: (isMuted) => line?.mute(isMuted),
  press,
  close,
});
let rule; // what the dispatcher says about calls from the page
let line;
let turns = new Turns();
let began; // seconds of the audio clock; undefined: not in a call
let drawing;

async function look() {
  const asked = token.get();
  let again = 0;
  try {
    rule = await ask("page-call");
  } catch (error) {
    rule = undefined;
    // Without the right token, ask again when there is another one.
    if (error.status !== 401) again = AGAIN_MS;
  }
  const isPermitted = Boolean(rule?.enabled);
  document.documentElement.classList.toggle("page-calls", isPermitted);
  for (const button of document.querySelectorAll("[data-call-agent]")) button.hidden = !isPermitted;
  if (again) setTimeout(look, again);
  else if (!rule) awaitToken(asked);
}

function awaitToken(former) {
  const waiting = setInterval(() => {
    if (token.get() === former) return;
    clearInterval(waiting);
    look();
  }, TOKEN_MS);
}

function open() {
  if (!view.isOpen) {
    view.note("");
    const why = obstacle();
    view.help(why ? secureWays() : []);
    if (why) view.enter("closed", why);
    else view.enter("idle", introduction());
  }
  view.show(true);
}

function introduction() {
  const minutes = Math.round((rule?.seconds ?? 600) / 60);
  const recorded = rule?.recorded ? " It is recorded like other calls." : "";
  return (
    "Talk to the agent with your microphone; a headset is best. The browser asks for the microphone first. " +
    `The call lasts ${minutes} minutes at most, cannot be transferred, and uses the Realtime API like any call.${recorded}`
  );
}

function secureWays() {
  if (window.isSecureContext) return [];
  const port = location.port || "80";
  return [
    { text: "Reach the page through a tunnel, and open it as localhost:" },
    { code: `ssh -L ${port}:localhost:${port} ${location.hostname}` },
    { text: `Then open localhost:${port} in this browser. Or put a proxy with TLS in front of ADMIN_PORT.` },
  ];
}

function call() {
  turns = new Turns();
  view.note("");
  view.enter("calling", "Calling. Permit the microphone if the browser asks.");
  line = new Line({
    began(uuid, seconds) {
      began = line.seconds;
      rule = { ...rule, seconds };
      view.began(uuid);
      view.enter("live", "You are connected. Speak, or press keys.");
      drawing = setInterval(draw, DRAW_MS);
      draw();
    },
    heard(who, dbfs, at) {
      const answer = turns.hear(who, dbfs, at);
      if (answer) view.answered(answer, turns.answers);
    },
    transcript: (role, text) => view.said(role, text),
    interruption(at) {
      turns.interrupt(at);
      view.interrupted(turns.interruptions.length);
    },
    note: (text) => view.note(text),
    ended(text, hasBegun) {
      clearInterval(drawing);
      if (began !== undefined) draw(true);
      began = undefined;
      view.enter(hasBegun ? "ended" : "refused", text);
    },
  });
  line.open();
}

function draw(isOver = false) {
  view.tick(turns, began, line.seconds, { mostSeconds: rule.seconds, isOver: isOver === true });
}

function press(key) {
  if (began === undefined) return;
  line.press(key);
  turns.press(key, line.seconds);
  view.pressed(key);
}

function close() {
  view.show(false);
  opener?.focus();
}

let opener;
document.addEventListener("click", (event) => {
  const button = event.target instanceof Element ? event.target.closest("[data-call-agent]") : null;
  if (!button) return;
  event.preventDefault();
  opener = button;
  open();
});
look();
