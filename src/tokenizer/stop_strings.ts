/**
 * Search for stop strings in streamed text, across the borders of the chunks. An Aho-Corasick
 * automaton (Aho and Corasick 1975): its depth is how much text may still become a stop string and
 * is held back. Works on text; stop tokens are the sampler's business.
 */

interface State {
  children: Map<number, State>;
  /** State of the longest proper suffix that begins a stop string; undefined at the root. */
  fallback: State | undefined;
  /** UTF-16 units of the prefix that this state stands for. */
  depth: number;
  /** Longest stop string that ends here. */
  matched: string | undefined;
}

/** What a chunk released. */
export interface StopResult {
  /** Text safe to emit: no stop string can begin in it. */
  text: string;
  /** The stop string that ended the text; it stays set in later results. */
  matched: string | undefined;
}

/**
 * The first stop string to be complete wins, whatever the chunks; of several that end together,
 * the longest. Empty stop strings are ignored.
 */
export class StopStrings {
  readonly #root: State;
  #state: State;
  /** Text not emitted yet; `#state.depth` units long between calls. */
  #held = "";
  #matched: string | undefined;

  constructor(stops: readonly string[]) {
    this.#root = buildAutomaton(stops.filter((stop) => stop !== ""));
    this.#state = this.#root;
  }

  /** Takes the next text. After a match only the text before the stop string comes out. */
  push(text: string): StopResult {
    if (this.#matched !== undefined) return { text: "", matched: this.#matched };
    if (this.#root.children.size === 0) return { text, matched: undefined };
    const pending = this.#held + text;
    for (let i = this.#held.length; i < pending.length; i++) {
      this.#state = this.#advance(pending.charCodeAt(i));
      const { matched } = this.#state;
      if (matched === undefined) continue;
      this.#matched = matched;
      this.#held = "";
      return { text: pending.slice(0, i + 1 - matched.length), matched };
    }
    const safeLength = pending.length - this.#state.depth;
    this.#held = pending.slice(safeLength);
    return { text: pending.slice(0, safeLength), matched: undefined };
  }

  /** The held back text, once nothing follows. */
  flush(): string {
    const held = this.#held;
    this.#held = "";
    this.#state = this.#root;
    return held;
  }

  #advance(unit: number): State {
    let state: State | undefined = this.#state;
    while (state !== undefined) {
      const child = state.children.get(unit);
      if (child !== undefined) return child;
      state = state.fallback;
    }
    return this.#root;
  }
}

function buildAutomaton(stops: readonly string[]): State {
  const root = newState(0);
  for (const stop of stops) {
    let state = root;
    for (let i = 0; i < stop.length; i++) {
      const unit = stop.charCodeAt(i);
      let child = state.children.get(unit);
      if (child === undefined) state.children.set(unit, child = newState(i + 1));
      state = child;
    }
    state.matched = stop;
  }
  // Breadth first: a fallback is shorter than its state, so it is complete before it is used.
  const queue = [root];
  for (const state of queue) {
    for (const [unit, child] of state.children) {
      let fallback = state.fallback;
      while (fallback !== undefined && !fallback.children.has(unit)) fallback = fallback.fallback;
      child.fallback = fallback?.children.get(unit) ?? root;
      child.matched ??= child.fallback.matched;
      queue.push(child);
    }
  }
  return root;
}

function newState(depth: number): State {
  return { children: new Map(), fallback: undefined, depth, matched: undefined };
}
