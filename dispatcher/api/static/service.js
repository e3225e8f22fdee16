// The service itself: what happened today, and the STS_URL for AVR Core.

import { number, put } from "./text.js";

const COPIED_MS = 2_000;
const LOOPBACK = /^(localhost|.*\.localhost|127\..*|\[::1\])$/;

const get = (id) => document.getElementById(id);

export class Service {
  constructor() {
    get("copy").addEventListener("click", () => copyUrl());
    get("sts").hidden = true;
  }

  /** Shows the answer of `GET /service`. */
  show({ today, calls }) {
    showToday(today);
    showUrl(calls);
  }

  clear() {
    get("today-part").hidden = true;
    get("sts").hidden = true;
  }
}

function showToday({ since, calls, connections_refused: refused }) {
  const figures = [
    ["Completed", calls.completed, false],
    ["Failed", calls.failed, true],
    ["Refused", calls.rejected, true],
    ["Refused connections", refused, false],
  ];
  const list = get("today");
  while (list.children.length < figures.length) {
    const group = document.createElement("div");
    group.append(document.createElement("dt"), document.createElement("dd"));
    list.append(group);
  }
  figures.forEach(([name, value, isBad], place) => {
    const group = list.children[place];
    put(group.firstElementChild, name);
    put(group.lastElementChild, number(value));
    group.dataset.bad = String(isBad && value > 0);
  });
  const isMidnight = since.endsWith("T00:00:00Z");
  const time = since.slice(11, 16);
  put(
    get("today-since"),
    isMidnight
      ? "Of the service on this host, since 00:00 UTC."
      : `Of the service on this host, since ${time} UTC, when it began to count.`,
  );
  get("today-part").hidden = false;
}

function showUrl({ address, port, tls, needs_token: needsToken }) {
  get("sts").hidden = port === null;
  // People reached this host by the page's name, so AVR Core probably can, too.
  const isLocal = LOOPBACK.test(location.hostname);
  const host = isLocal ? (address.includes(":") ? `[${address}]` : address) : location.hostname;
  const url = `${tls ? "wss" : "ws"}://${host}:${port}`;
  const field = get("sts-url");
  if (field.value !== url) field.value = url;
  const hints = ["If AVR Core reaches this host by another name, or through a load balancer, use that name."];
  if (needsToken) hints.push("Add ?token= and the value of STS_TOKEN.");
  put(get("sts-hint"), hints.join(" "));
}

async function copyUrl() {
  const field = get("sts-url");
  field.select();
  let isCopied = false;
  try {
    // Only pages of HTTPS and of this host itself may write to the clipboard by this function.
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(field.value);
      isCopied = true;
    } else {
      isCopied = document.execCommand("copy");
    }
  } catch {
    // The text stays selected, for the keyboard.
  }
  put(get("copy"), isCopied ? "Copied" : "Selected");
  setTimeout(() => put(get("copy"), "Copy"), COPIED_MS);
}
