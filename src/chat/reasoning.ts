/**
 * Splits a streamed answer into its chain of thought and the answer proper. Works on text, so it
 * does not matter whether the tags are single tokens or spelled in pieces across token borders.
 */

const OPEN_TAG = "<think>";
const CLOSE_TAG = "</think>";

/** What a chunk of text became. */
export interface SplitText {
  readonly reasoning: string;
  readonly content: string;
}

/** Where the stream stands: nothing decided yet, inside the thought, or past it. */
export type ReasoningState = "undecided" | "reasoning" | "content";

/**
 * A thought counts only where the answer begins with `<think>` (white space aside); later tags are
 * ordinary text. A missing close tag leaves everything to the thought. White space at the edges of
 * the thought, and between it and the answer, is dropped.
 */
export class ReasoningSplitter {
  #state: ReasoningState = "undecided";
  /** Text that may still turn out to be a tag, or white space that may be an edge. */
  #held = "";
  #isAtEdge = false;
  #hasThought = false;

  get state(): ReasoningState {
    return this.#state;
  }

  /** Whether the answer began with a thought, closed or not. */
  get hasThought(): boolean {
    return this.#hasThought;
  }

  /** Takes the next text. */
  push(text: string): SplitText {
    this.#held += text;
    let reasoning = "";
    if (this.#state === "undecided") this.#decide();
    if (this.#state === "reasoning") reasoning = this.#takeReasoning();
    const content = this.#state === "content" ? this.#takeContent() : "";
    return { reasoning, content };
  }

  /** The rest, once nothing follows. */
  flush(): SplitText {
    const rest = this.#held;
    this.#held = "";
    // White space alone at the end of a thought is an edge; the beginning of a tag is text.
    if (this.#state === "reasoning") return { reasoning: rest.trimEnd(), content: "" };
    return { reasoning: "", content: this.#isAtEdge ? rest.trimStart() : rest };
  }

  #decide(): void {
    const start = this.#held.trimStart();
    if (start.startsWith(OPEN_TAG)) {
      this.#state = "reasoning";
      this.#hasThought = true;
      this.#held = start.slice(OPEN_TAG.length);
      this.#isAtEdge = true;
    } else if (!OPEN_TAG.startsWith(start)) {
      this.#state = "content";
    }
  }

  #takeReasoning(): string {
    this.#trimEdge();
    const close = this.#held.indexOf(CLOSE_TAG);
    if (close >= 0) {
      const reasoning = this.#held.slice(0, close).trimEnd();
      this.#held = this.#held.slice(close + CLOSE_TAG.length);
      this.#state = "content";
      this.#isAtEdge = true;
      return reasoning;
    }
    const safeText = this.#held.slice(0, this.#held.length - tagPrefixLength(this.#held));
    return this.#take(safeText.trimEnd().length);
  }

  #takeContent(): string {
    this.#trimEdge();
    return this.#take(this.#held.length);
  }

  #trimEdge(): void {
    if (!this.#isAtEdge) return;
    this.#held = this.#held.trimStart();
    this.#isAtEdge = this.#held === "";
  }

  #take(length: number): string {
    const taken = this.#held.slice(0, length);
    this.#held = this.#held.slice(length);
    return taken;
  }
}

/** Length of the longest end of `text` that may begin the close tag. */
function tagPrefixLength(text: string): number {
  for (let length = Math.min(CLOSE_TAG.length - 1, text.length); length > 0; length--) {
    if (CLOSE_TAG.startsWith(text.slice(-length))) return length;
  }
  return 0;
}
