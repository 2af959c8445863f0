/** Progress of a long command on standard error: a line that renews itself, or one per tenth. */
import type { Clock } from "@/clock.ts";

const encoder = new TextEncoder();
const RENEW_MS = 200;

export class ProgressLine {
  readonly #what: string;
  readonly #clock: Clock;
  readonly #terminal = Deno.stderr.isTerminal();
  readonly #startMs: number;
  /** What was there before the work of this run began, e.g. finished by an earlier run. */
  #firstDone: number | undefined;
  #shownMs = -Infinity;
  #shownTenth = 0;

  constructor(what: string, clock: Clock) {
    this.#what = what;
    this.#clock = clock;
    this.#startMs = clock.nowMs();
  }

  readonly update = (done: number, total: number): void => {
    this.#firstDone ??= done;
    const now = this.#clock.nowMs();
    const tenth = Math.floor(10 * done / total);
    const due = this.#terminal ? now - this.#shownMs >= RENEW_MS : tenth > this.#shownTenth;
    if (!due && done < total) return;
    this.#shownMs = now;
    this.#shownTenth = tenth;
    const text = `${this.#what} ${Math.floor(100 * done / total)} %${this.#rest(done, total)}`;
    this.#print(this.#terminal ? `\r\x1b[K${text}${done < total ? "" : "\n"}` : `${text}\n`);
  };

  #rest(done: number, total: number): string {
    const seconds = (this.#clock.nowMs() - this.#startMs) / 1000;
    if (done >= total) return ` in ${seconds.toFixed(1)} s`;
    const rate = (done - this.#firstDone!) / seconds;
    return rate > 0 ? `, ${Math.ceil((total - done) / rate)} s left` : "";
  }

  #print(text: string): void {
    Deno.stderr.writeSync(encoder.encode(text));
  }
}
