// The line of a call from this page: ticket, WebSocket, microphone and speaker. It speaks AVR Core's messages.

import { ask, Refused } from "./api.js";

// Bytes that may wait in the socket, 1.5 s of audio. Beyond, words of the microphone are dropped, and the page says so.
const MOST_WAITING_BYTES = 32_768;
const BEGIN_MS = 15_000;
const SOUND_MS = 10_000;
const FRAME_SECONDS = 0.02;

const MICROPHONE = {
  audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
};
const MICROPHONE_ERRORS = {
  NotAllowedError: "The browser does not give the microphone to this page. Permit it beside the address, and call again.",
  NotFoundError: "This device has no microphone. Connect one, and call again.",
  NotReadableError: "Another program uses the microphone. End it, and call again.",
};
const CLOSED = {
  1000: "The call has ended.",
  1001: "The service has stopped.",
  1005: "The call has ended.",
  1006: "The connection to the dispatcher was lost.",
  1008: "The dispatcher did not understand this page. Reload it, and call again.",
  1011: "The service could not go on with the call.",
  1013: "The service takes no call at the moment. Try again in a while.",
};

/** Returns the end of a call in words: what the service said, or what the close code means. */
export function words(code, reason, said = "") {
  const told = [said, reason].filter((each, number, all) => each && all.indexOf(each) === number);
  if (code >= 4000 && told.length) return sentence(told.join(". "));
  const meaning = CLOSED[code] ?? `The connection was closed with the code ${code}.`;
  if (!told.length) return meaning;
  return code === 1000 ? sentence(told.join(". ")) : `${meaning} ${sentence(told.join(". "))}`;
}

function sentence(text) {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

/** Why the page cannot use a microphone at all, or "". */
export function obstacle() {
  if (!window.isSecureContext) {
    return `A browser gives the microphone only to pages with HTTPS, or of localhost. This page is ${location.origin}.`;
  }
  if (!navigator.mediaDevices?.getUserMedia || !window.AudioWorkletNode || !window.WebSocket) {
    return "This browser cannot carry a call. A current Firefox, Chrome, Edge or Safari can.";
  }
  return "";
}

/**
 * One call. `listener` gets began(uuid, seconds), heard(who, dbfs, atSeconds), transcript(role, text), interruption(atSeconds),
 * note(text) and ended(text).
 */
export class Line {
  #listener;
  #context;
  #stream;
  #socket;
  #microphone;
  #speaker;
  #timer;
  #said = ""; // the last `error` of the service
  #hasBegun = false;
  #isOver = false;
  #isHungUp = false;
  #unsent = 0;

  constructor(listener) {
    this.#listener = listener;
  }

  /** Seconds of the audio clock, by which everything on the timeline is told. */
  get seconds() {
    return this.#context?.currentTime ?? 0;
  }

  /** Calls the agent. The browser may ask for the microphone first. Must be called in a click. */
  async open() {
    // Before the first await: Safari starts audio only within the click.
    this.#context = new AudioContext({ latencyHint: "interactive" });
    const resumed = this.#context.resume();
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia(MICROPHONE);
      if (this.#isOver) return this.#release();
      const sound = Promise.all([this.#context.audioWorklet.addModule("page/agent_call_audio.js"), resumed]);
      await within(SOUND_MS, sound, "the browser starts no sound on this device");
      // The ticket is valid for some seconds, and the question for the microphone may take longer.
      const { ticket } = await ask("page-call", "POST");
      if (this.#isOver) return this.#release();
      this.#plug();
      this.#connect(ticket);
    } catch (error) {
      if (error instanceof Refused) this.#end(sentence(error.message));
      else this.#end(MICROPHONE_ERRORS[error.name] ?? sentence(`the call could not begin: ${error.message}`));
    }
  }

  press(digit) {
    this.#send({ type: "dtmf_digit", digit });
  }

  mute(isMuted) {
    this.#microphone?.port.postMessage({ muted: isMuted });
  }

  hangUp() {
    this.#isHungUp = true;
    if (this.#socket && this.#socket.readyState < WebSocket.CLOSING) this.#socket.close(1000, "");
    else this.#end("You hung up.");
  }

  #plug() {
    const microphone = new AudioWorkletNode(this.#context, "agent-call-microphone", { numberOfOutputs: 1 });
    const speaker = new AudioWorkletNode(this.#context, "agent-call-speaker", {
      numberOfInputs: 0,
      outputChannelCount: [1],
    });
    microphone.port.onmessage = ({ data }) => this.#sound(data);
    speaker.port.onmessage = ({ data }) => {
      this.#listener.heard("agent", data.dbfs, data.at);
      if (data.dropped) this.#listener.note("The agent is minutes ahead of the speaker: the rest of this reply was dropped.");
    };
    const [track] = this.#stream.getAudioTracks();
    track.addEventListener("ended", () => this.#listener.note("The microphone is gone: the agent hears silence."));
    this.#context.createMediaStreamSource(this.#stream).connect(microphone);
    // The microphone's node has a silent output, which keeps it running in each browser.
    microphone.connect(this.#context.destination);
    speaker.connect(this.#context.destination);
    this.#microphone = microphone;
    this.#speaker = speaker;
  }

  #connect(ticket) {
    const address = new URL("page-call/line", document.baseURI);
    address.protocol = address.protocol.replace("http", "ws"); // and so wss with TLS
    const socket = new WebSocket(address);
    this.#socket = socket;
    this.#timer = setTimeout(() => this.#end("The dispatcher does not answer."), BEGIN_MS);
    socket.addEventListener("open", () => this.#send({ type: "ticket", ticket }));
    socket.addEventListener("message", ({ data }) => this.#received(JSON.parse(data)));
    socket.addEventListener("close", ({ code, reason }) => {
      if (this.#isHungUp) this.#end("You hung up.");
      else if (!this.#hasBegun && code === 1006) this.#end("The dispatcher refused the connection, or a proxy passes no WebSockets.");
      else this.#end(words(code, reason, this.#said));
    });
  }

  #received(message) {
    switch (message.type) {
      case "began":
        clearTimeout(this.#timer);
        this.#hasBegun = true;
        this.#listener.began(message.uuid, message.seconds);
        break;
      case "audio": {
        const pcm = decode(message.audio);
        this.#speaker.port.postMessage({ pcm }, [pcm.buffer]);
        break;
      }
      case "interruption":
        this.#speaker.port.postMessage({ flush: true });
        this.#listener.interruption(this.seconds);
        break;
      case "transcript":
        this.#listener.transcript(message.role, message.text);
        break;
      case "error":
        this.#said = message.message;
        break;
      default: // a later release may say more
    }
  }

  #sound({ pcm, dbfs, at, dropped }) {
    this.#microphone.port.postMessage({ taken: true });
    if (!this.#hasBegun || this.#isOver) return;
    this.#listener.heard("user", dbfs, at);
    if (this.#socket.bufferedAmount > MOST_WAITING_BYTES) this.#unsent += 1;
    else this.#send({ type: "audio", audio: encode(pcm) });
    const lost = FRAME_SECONDS * (this.#unsent + dropped);
    if (lost) this.#listener.note(`The connection or this device is slow: ${Math.ceil(lost)} s of your words were lost.`);
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #end(text) {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    if (this.#socket && this.#socket.readyState < WebSocket.CLOSING) this.#socket.close(1000, "");
    this.#listener.ended(text, this.#hasBegun);
    this.#release();
  }

  #release() {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#microphone?.port.postMessage({ over: true });
    this.#speaker?.port.postMessage({ over: true });
    if (this.#context.state !== "closed") this.#context.close();
  }
}

/** Returns what `promise` gives, or throws an error with this message when the time is over. */
function within(ms, promise, message) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(message)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function encode(pcm) {
  return btoa(String.fromCharCode(...new Uint8Array(pcm.buffer)));
}

function decode(text) {
  const bytes = atob(text);
  // 16 bits, least significant byte first, whatever the byte order of this machine.
  const pcm = new Int16Array(bytes.length >> 1);
  for (let k = 0; k < pcm.length; k += 1) pcm[k] = bytes.charCodeAt(2 * k) | (bytes.charCodeAt(2 * k + 1) << 8);
  return pcm;
}
