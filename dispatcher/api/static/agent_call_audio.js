// The audio thread of a call from this page: 8 kHz of the telephone, and the rate of the sound card.
//
// An AudioWorklet loads this file, which imports nothing: not every browser lets a worklet import. Outside of a worklet
// it only exports its classes, for tests.

export const LINE_HZ = 8000;
export const FRAME_SAMPLES = 160;
// Audio that may wait to be played. A reply of the longest response (4,096 tokens) has 205 s. Beyond, new audio is dropped.
export const MOST_PLAY_SECONDS = 240;
// The speaker starts with this much audio, or after this time, so that late messages leave no gap.
export const PRIME_SAMPLES = 0.06 * LINE_HZ;
// Frames of the microphone that the page has not taken yet (2 s). Beyond, frames are dropped, because old words help nobody.
export const MOST_FRAMES_WAITING = 100;

const PASS_SHARE = 0.425; // of the lower rate: 3,400 Hz at 8 kHz, the telephone's band
const STOP_SHARE = 0.5; // 4,000 Hz: nothing above may fold into the band
const STOP_DB = 75;
const MOST_BLOCK = 4096;

/** Kaiser's window needs the modified Bessel function of order 0. */
function bessel(x) {
  let term = 1;
  let sum = 1;
  for (let k = 1; term > 1e-12 * sum; k += 1) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function divisor(a, b) {
  return b ? divisor(b, a % b) : a;
}

/** Converts a stream from one rate to another with a polyphase low-pass filter (Kaiser window, linear phase). */
export class Resampler {
  #phases; // the filter's taps, one array for each position between two input samples
  #taps;
  #step; // input samples per output sample: #step / #phases.length
  #time = 0; // of the next output, in input samples times #phases.length
  #past; // the last #taps - 1 input samples, and behind them the present block

  constructor(fromHz, toHz) {
    const common = divisor(fromHz, toHz);
    const phases = toHz / common;
    this.#step = fromHz / common;
    const low = Math.min(fromHz, toHz);
    const cutoff = ((PASS_SHARE + STOP_SHARE) / 2) * low;
    const width = (STOP_SHARE - PASS_SHARE) * low;
    // Kaiser's formulas: length and shape for this attenuation and this width of the transition.
    const seconds = (STOP_DB - 7.95) / (14.36 * width);
    const beta = 0.1102 * (STOP_DB - 8.7);
    this.#taps = fromHz === toHz ? 1 : Math.ceil(seconds * fromHz) + 1;
    const middle = (this.#taps - 1) / 2;
    this.#phases = Array.from({ length: phases }, (_, phase) => {
      const taps = new Float32Array(this.#taps);
      for (let k = 0; k < this.#taps; k += 1) {
        const at = (k + phase / phases - middle) / fromHz; // seconds from the middle of the filter
        const place = (2 * at) / seconds;
        const angle = 2 * Math.PI * cutoff * at;
        const window = Math.abs(place) < 1 ? bessel(beta * Math.sqrt(1 - place ** 2)) : 0;
        taps[k] = this.#taps === 1 ? 1 : window * (angle ? Math.sin(angle) / angle : 1);
      }
      const gain = taps.reduce((sum, tap) => sum + tap, 0);
      return taps.map((tap) => tap / gain);
    });
    this.#past = new Float32Array(this.#taps - 1 + MOST_BLOCK);
  }

  /** Delay of the filter in seconds of its input. */
  get delaySamples() {
    return (this.#taps - 1) / 2;
  }

  /** Takes at most `MOST_BLOCK` input samples, and calls `put(sample)` for each output sample. */
  push(input, put) {
    const taps = this.#taps;
    const phases = this.#phases.length;
    this.#past.set(input, taps - 1);
    const end = input.length * phases;
    for (; this.#time < end; this.#time += this.#step) {
      const filter = this.#phases[this.#time % phases];
      const newest = Math.floor(this.#time / phases) + taps - 1;
      let sum = 0;
      for (let k = 0; k < taps; k += 1) sum += filter[k] * this.#past[newest - k];
      put(sum);
    }
    this.#time -= end;
    this.#past.copyWithin(0, input.length, input.length + taps - 1);
  }
}

/** Returns the level of samples in dBFS, of a sine at full scale 0 dB; at least -100. */
export function level(samples) {
  let power = 0;
  for (const sample of samples) power += sample * sample;
  return Math.max(-100, 10 * Math.log10((2 * power) / Math.max(1, samples.length) + 1e-12));
}

/** Makes frames of PCM16 at 8 kHz from the microphone's samples. */
export class FrameMaker {
  #resampler;
  #frame = new Float32Array(FRAME_SAMPLES);
  #filled = 0;

  constructor(fromHz) {
    this.#resampler = new Resampler(fromHz, LINE_HZ);
  }

  /** Calls `done(pcm, dbfs)` for each frame that has become full. */
  push(samples, done) {
    this.#resampler.push(samples, (sample) => {
      this.#frame[this.#filled] = sample;
      this.#filled += 1;
      if (this.#filled < FRAME_SAMPLES) return;
      this.#filled = 0;
      done(Int16Array.from(this.#frame, (each) => Math.round(32767 * Math.max(-1, Math.min(1, each)))), level(this.#frame));
    });
  }
}

/** The audio that waits to be played: a ring of PCM16 at 8 kHz. */
export class PlayBuffer {
  #ring;
  #start = 0;
  #length = 0;
  #isPlaying = false;
  #waited = 0; // samples of silence since audio has been waiting
  dropped = 0;

  constructor(seconds = MOST_PLAY_SECONDS) {
    this.#ring = new Int16Array(seconds * LINE_HZ);
  }

  get length() {
    return this.#length;
  }

  get isPlaying() {
    return this.#isPlaying;
  }

  add(pcm) {
    const room = Math.min(pcm.length, this.#ring.length - this.#length);
    this.dropped += pcm.length - room;
    for (let k = 0; k < room; k += 1) {
      this.#ring[(this.#start + this.#length + k) % this.#ring.length] = pcm[k];
    }
    this.#length += room;
  }

  /** Drops what has not been played. */
  flush() {
    this.#length = 0;
    this.#isPlaying = false;
    this.#waited = 0;
  }

  /** Fills `samples` with the next audio, or with silence where there is none. */
  take(samples) {
    if (!this.#isPlaying && this.#length) {
      this.#isPlaying = this.#length >= PRIME_SAMPLES || this.#waited >= PRIME_SAMPLES;
      this.#waited += samples.length;
    }
    const count = this.#isPlaying ? Math.min(samples.length, this.#length) : 0;
    for (let k = 0; k < count; k += 1) samples[k] = this.#ring[(this.#start + k) % this.#ring.length] / 32768;
    samples.fill(0, count);
    this.#start = (this.#start + count) % this.#ring.length;
    this.#length -= count;
    if (this.#isPlaying && !this.#length) {
      this.#isPlaying = false;
      this.#waited = 0;
    }
  }
}

/** Makes the speaker's samples from the audio that waits. */
export class SpeakerSource {
  #resampler;
  #buffer;
  #block = new Float32Array(FRAME_SAMPLES / 8);
  #ready = new Float32Array(2 * MOST_BLOCK);
  #count = 0;

  constructor(toHz, buffer) {
    this.#resampler = new Resampler(LINE_HZ, toHz);
    this.#buffer = buffer;
  }

  /** Fills `output`, which has at most `MOST_BLOCK` samples. */
  fill(output) {
    while (this.#count < output.length) {
      this.#buffer.take(this.#block);
      this.#resampler.push(this.#block, (sample) => {
        this.#ready[this.#count] = sample;
        this.#count += 1;
      });
    }
    output.set(this.#ready.subarray(0, output.length));
    this.#ready.copyWithin(0, output.length, this.#count);
    this.#count -= output.length;
  }
}

if (globalThis.AudioWorkletProcessor !== undefined) {
  const REPORT_SECONDS = FRAME_SAMPLES / LINE_HZ;

  /** The microphone: posts {pcm, dbfs, at}. The page answers each with a message, so that frames cannot pile up. */
  class Microphone extends AudioWorkletProcessor {
    #frames = new FrameMaker(sampleRate);
    #silence = new Float32Array(128);
    #mix = new Float32Array(128);
    #waiting = 0;
    #dropped = 0;
    #isMuted = false;
    #isOver = false;

    constructor() {
      super();
      this.port.onmessage = ({ data }) => {
        if (data.taken) this.#waiting -= 1;
        if (data.muted !== undefined) this.#isMuted = data.muted;
        if (data.over) this.#isOver = true;
      };
    }

    process([channels], [[output]]) {
      // Without a microphone there is no channel; silence keeps the call alive.
      const blockLength = output?.length ?? 128;
      let samples = channels[0] ?? this.#silence.subarray(0, blockLength);
      if (channels.length > 1) {
        this.#mix.fill(0);
        for (const channel of channels) channel.forEach((sample, k) => (this.#mix[k] += sample / channels.length));
        samples = this.#mix.subarray(0, blockLength);
      }
      if (this.#isMuted) samples = this.#silence.subarray(0, blockLength);
      this.#frames.push(samples, (pcm, dbfs) => {
        if (this.#waiting >= MOST_FRAMES_WAITING) {
          this.#dropped += 1;
          return;
        }
        this.#waiting += 1;
        this.port.postMessage({ pcm, dbfs, at: currentTime, dropped: this.#dropped }, [pcm.buffer]);
      });
      return !this.#isOver;
    }
  }

  /** The speaker: takes {pcm} and {flush}, and posts {dbfs, at, waiting, dropped} every 20 ms while there is sound. */
  class Speaker extends AudioWorkletProcessor {
    #buffer = new PlayBuffer();
    #source = new SpeakerSource(sampleRate, this.#buffer);
    #heard = new Float32Array(Math.round(REPORT_SECONDS * sampleRate));
    #count = 0;
    #wasLoud = false;
    #isOver = false;

    constructor() {
      super();
      this.port.onmessage = ({ data }) => {
        if (data.pcm) this.#buffer.add(data.pcm);
        if (data.flush) this.#buffer.flush();
        if (data.over) this.#isOver = true;
      };
    }

    process(_, [[output]]) {
      this.#source.fill(output);
      for (const sample of output) {
        this.#heard[this.#count] = sample;
        this.#count += 1;
        if (this.#count === this.#heard.length) this.#report();
      }
      return !this.#isOver;
    }

    #report() {
      this.#count = 0;
      const dbfs = level(this.#heard);
      const isLoud = dbfs > -90;
      if (isLoud || this.#wasLoud) {
        const waiting = this.#buffer.length / LINE_HZ;
        this.port.postMessage({ dbfs, at: currentTime, waiting, dropped: this.#buffer.dropped / LINE_HZ });
      }
      this.#wasLoud = isLoud;
    }
  }

  registerProcessor("agent-call-microphone", Microphone);
  registerProcessor("agent-call-speaker", Speaker);
}
