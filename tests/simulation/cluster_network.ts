/**
 * A seeded world of processes and a network between them: messages are lost, delayed, repeated and
 * reordered, links are cut, processes pause (as by SIGSTOP), crash and start again, clocks drift.
 */
import type { Random } from "./workload.ts";

/** Length of one tick of the world. */
export const TICK_MS = 2;

export interface NetworkSetup {
  readonly loss: number;
  readonly duplication: number;
  readonly delayMs: number;
  /** Chance of a message that is ten times as late. */
  readonly tail: number;
}

/** One start of a program. */
export interface Process {
  receive(from: string, message: unknown): void;
  /** `nowMs` is the process's own, drifting clock. */
  tick(nowMs: number): void;
}

interface Host {
  readonly name: string;
  process: Process | undefined;
  start: () => Process;
  isPaused: boolean;
  /** Messages that wait in the socket of a paused process. */
  waiting: { from: string; message: unknown }[];
  readonly clockOffsetMs: number;
  readonly clockRate: number;
}

interface Packet {
  readonly from: string;
  readonly to: string;
  readonly message: unknown;
  /** Start of the receiver that it was sent to: a connection does not outlive its process. */
  readonly start: number;
}

/** The message that a peer's kernel sends when its process is gone. */
export interface ConnectionClosed {
  readonly type: "closed";
  readonly node: string;
}

export class Network {
  readonly #random: Random;
  readonly #hosts = new Map<string, Host>();
  readonly #starts = new Map<string, number>();
  readonly #packets = new Map<number, Packet[]>();
  readonly #cuts = new Set<string>();
  #tick = 0;
  setup: NetworkSetup;
  readonly trace: (line: string) => void;

  constructor(args: { random: Random; setup: NetworkSetup; trace: (line: string) => void }) {
    this.#random = args.random;
    this.setup = args.setup;
    this.trace = (line) => args.trace(`[${String(this.nowMs).padStart(6)}] ${line}`);
  }

  get nowMs(): number {
    return this.#tick * TICK_MS;
  }

  add(name: string, start: () => Process): void {
    this.#hosts.set(name, {
      name,
      process: undefined,
      start,
      isPaused: false,
      waiting: [],
      clockOffsetMs: Math.floor(this.#random() * 1e6),
      clockRate: 1 + (this.#random() - 0.5) * 0.02,
    });
    this.restart(name);
  }

  /** Crashes a process, if it runs, and starts it again. */
  restart(name: string): void {
    this.crash(name);
    const host = this.#hosts.get(name)!;
    this.trace(`${name} starts`);
    host.process = host.start();
  }

  crash(name: string): void {
    const host = this.#hosts.get(name)!;
    this.#starts.set(name, this.startOf(name) + 1);
    host.isPaused = false;
    host.waiting = [];
    if (!host.process) return;
    this.trace(`${name} crashes`);
    host.process = undefined;
    for (const peer of this.#hosts.keys()) {
      if (peer !== name) this.send(name, peer, { type: "closed", node: name });
    }
  }

  pause(name: string): void {
    this.trace(`${name} pauses`);
    this.#hosts.get(name)!.isPaused = true;
  }

  resume(name: string): void {
    const host = this.#hosts.get(name)!;
    if (!host.isPaused) return;
    this.trace(`${name} resumes`);
    host.isPaused = false;
    const waiting = host.waiting;
    host.waiting = [];
    for (const { from, message } of waiting) host.process?.receive(from, message);
  }

  isUp(name: string): boolean {
    return this.#hosts.get(name)!.process !== undefined;
  }

  isPaused(name: string): boolean {
    return this.#hosts.get(name)!.isPaused;
  }

  /** Counts the starts of a process. */
  startOf(name: string): number {
    return this.#starts.get(name) ?? 0;
  }

  cut(a: string, b: string): void {
    this.trace(`cut between ${a} and ${b}`);
    this.#cuts.add(`${a} ${b}`).add(`${b} ${a}`);
  }

  healCuts(): void {
    if (this.#cuts.size > 0) this.trace("all cuts heal");
    this.#cuts.clear();
  }

  send(from: string, to: string, message: unknown): void {
    const { loss, duplication } = this.setup;
    if (this.#cuts.has(`${from} ${to}`) || this.#random() < loss) return;
    const copies = this.#random() < duplication ? 2 : 1;
    for (let copy = 0; copy < copies; copy++) {
      const at = this.#tick + 1 + Math.floor(this.#delayMs() / TICK_MS);
      const packets = this.#packets.get(at) ?? [];
      packets.push({ from, to, message, start: this.startOf(to) });
      this.#packets.set(at, packets);
    }
  }

  #delayMs(): number {
    const { delayMs, tail } = this.setup;
    return this.#random() * delayMs * (this.#random() < tail ? 10 : 1);
  }

  /** One tick: what is due arrives, then every running process acts. */
  step(): void {
    this.#tick += 1;
    const due = this.#packets.get(this.#tick) ?? [];
    this.#packets.delete(this.#tick);
    for (const { from, to, message, start } of due) {
      const host = this.#hosts.get(to)!;
      if (!host.process || start !== this.startOf(to)) continue;
      if (host.isPaused) host.waiting.push({ from, message });
      else host.process.receive(from, message);
    }
    for (const host of this.#hosts.values()) {
      if (!host.isPaused) host.process?.tick(this.clockOf(host.name));
    }
  }

  /** What a process's clock shows. */
  clockOf(name: string): number {
    const { clockOffsetMs, clockRate } = this.#hosts.get(name)!;
    return clockOffsetMs + this.nowMs * clockRate;
  }
}
