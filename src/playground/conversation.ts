/**
 * State of the page and everything a visitor can do to it. One immutable state object per change,
 * so views compare by identity. Knows the API through `client.ts`; draws nothing.
 */
import {
  chatBody,
  chatMessages,
  defaultSettings,
  type Exchange,
  type Settings,
} from "./chat_request.ts";
import {
  ApiError,
  type ChatEvent,
  type Connection,
  listModels,
  pictureGrids,
  streamChat,
  type Usage,
} from "./client.ts";
import { type EngineModule, LOCAL_OFF, LocalEngine, type LocalState } from "./local_engine.ts";
import type { Picture, TileGrid } from "./picture.ts";
import type { BackendChoice } from "@/web/flotilla.ts";

export type TurnState = "waiting" | "streaming" | "done" | "stopped" | "failed";

/** A question, its pictures and the answer as far as it came. */
export interface Turn extends Exchange {
  readonly id: number;
  readonly state: TurnState;
  readonly thinking: string;
  readonly progress: { readonly processed: number; readonly total: number } | undefined;
  /** Text and thinking deltas so far: about one per token while streaming. */
  readonly deltaCount: number;
  readonly firstTokenMs: number | undefined;
  readonly elapsedMs: number;
  readonly usage: Usage | undefined;
  readonly finishReason: string | undefined;
  readonly error: string | undefined;
  /** Whether the model in this browser was asked. */
  readonly ranHere: boolean;
}

export interface PageState {
  readonly models: readonly string[];
  readonly model: string;
  /** Where a page finds the files of a model, by its id, as far as they are given out. */
  readonly files: ReadonlyMap<string, string>;
  /** The model in this browser, which answers instead of the server while it is on. */
  readonly local: LocalState;
  /** "locked": the server wants an API key. */
  readonly server: "connecting" | "ready" | "locked" | "offline";
  readonly settings: Settings;
  readonly apiKey: string;
  readonly draft: readonly Picture[];
  readonly turns: readonly Turn[];
  /** By picture id; missing until the server told it. */
  readonly grids: ReadonlyMap<number, TileGrid>;
  /** A passing message about the draft or the server. */
  readonly notice: string | undefined;
  /** Body of the last request, for the curl command. */
  readonly lastBody: Readonly<Record<string, unknown>> | undefined;
}

export interface ConversationOptions {
  readonly fetch: typeof fetch;
  /** Monotonic milliseconds. */
  readonly nowMs: () => number;
  readonly apiKey?: string;
  /** Loads the engine for pages, when it is first wanted. */
  readonly loadEngine: () => Promise<EngineModule>;
  /** Keeps the page in the browser, so that it opens without the server; may fail. */
  readonly keepPage?: () => Promise<void>;
}

/** Pictures of one question; the server's own bound is per request. */
export const draftPicturesMax = 16;

export class Conversation {
  readonly #fetch: typeof fetch;
  readonly #nowMs: () => number;
  readonly #keepPage: () => Promise<void>;
  readonly #local: LocalEngine;
  readonly #listeners = new Set<() => void>();
  #state: PageState;
  #running: AbortController | undefined;
  #gridding: AbortController | undefined;
  #lastId = 0;

  constructor(options: ConversationOptions) {
    this.#fetch = options.fetch;
    this.#nowMs = options.nowMs;
    this.#keepPage = options.keepPage ?? (() => Promise.resolve());
    this.#local = new LocalEngine({
      loadModule: options.loadEngine,
      onChange: (local) => this.#set({ local }),
    });
    this.#state = {
      models: [],
      files: new Map(),
      local: LOCAL_OFF,
      model: "",
      server: "connecting",
      settings: defaultSettings,
      apiKey: options.apiKey ?? "",
      draft: [],
      turns: [],
      grids: new Map(),
      notice: undefined,
      lastBody: undefined,
    };
  }

  readonly state = (): PageState => this.#state;

  readonly subscribe = (listener: () => void): () => void => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  /** Numbers turns and pictures, unique in this page. */
  nextId(): number {
    return ++this.#lastId;
  }

  get busy(): boolean {
    return this.#running !== undefined;
  }

  /** Asks the server for its models; tells what is wrong when it cannot. */
  async connect(): Promise<void> {
    this.#set({ server: "connecting", notice: undefined });
    try {
      const listed = await listModels(this.#serverConnection());
      const models = listed.map(({ id }) => id);
      const files = new Map(listed.flatMap(({ id, files }) => files ? [[id, files]] : []));
      const kept = models.includes(this.#state.model) ? this.#state.model : models[0] ?? "";
      this.#set({ models, files, model: kept, server: "ready" });
    } catch (error) {
      const locked = error instanceof ApiError && error.status === 401;
      const notice = locked ? "This server asks for an API key" : message(error);
      this.#set({ server: locked ? "locked" : "offline", notice });
    }
  }

  setModel(model: string): void {
    // The model in this browser is the one that was chosen before.
    if (model !== this.#state.model) this.runOnServer();
    this.#set({ model, grids: new Map() });
    this.#measure();
  }

  /** Loads the chosen model into this browser, which then answers; on failure the server goes on. */
  async runHere(backend: BackendChoice = "auto"): Promise<void> {
    const { model, files, apiKey } = this.#state;
    this.#set({ notice: undefined });
    try {
      const headers = apiKey === "" ? {} : { authorization: `Bearer ${apiKey}` };
      if (!await this.#local.start({ files: files.get(model), headers, backend })) return;
      this.#keepPage().catch(() => {}); // without it, only the next visit needs the server
      const { local, models } = this.#state;
      if (local.phase !== "on" || models.length > 0) return;
      // The server was never reached: the kept model is the only one.
      this.#set({ models: [local.description.model], model: local.description.model });
    } catch (error) {
      const rest = this.#state.server === "ready" ? ". The server answers instead" : "";
      this.#set({ notice: `Cannot run the model in this browser: ${message(error)}${rest}` });
    }
  }

  /** Ends the model in this browser, also while it loads. */
  runOnServer(): void {
    if (this.#state.local.phase === "on") this.stop();
    this.#local.stop();
  }

  setSettings(change: Partial<Settings>): void {
    this.#set({ settings: { ...this.#state.settings, ...change } });
  }

  setApiKey(apiKey: string): void {
    this.#set({ apiKey });
  }

  setNotice(notice: string | undefined): void {
    this.#set({ notice });
  }

  addPictures(pictures: readonly Picture[]): void {
    const draft = [...this.#state.draft, ...pictures].slice(0, draftPicturesMax);
    const dropped = this.#state.draft.length + pictures.length - draft.length;
    const notice = dropped > 0
      ? `At most ${draftPicturesMax} pictures fit one question`
      : undefined;
    this.#set({ draft, notice });
    this.#measure();
  }

  removePicture(id: number): void {
    this.#set({ draft: this.#state.draft.filter((picture) => picture.id !== id) });
  }

  /** Ends the running answer; what came so far stays. */
  stop(): void {
    this.#running?.abort();
  }

  /** Forgets the conversation and the draft. */
  clear(): void {
    this.stop();
    this.#gridding?.abort();
    this.#set({ turns: [], draft: [], grids: new Map(), notice: undefined, lastBody: undefined });
  }

  /** Sends the draft with `question`; resolves when the answer ended, however it ended. */
  async send(question: string): Promise<void> {
    if (this.busy || (question === "" && this.#state.draft.length === 0)) return;
    const turn = this.#freshTurn(this.nextId(), { question, pictures: this.#state.draft });
    this.#set({ turns: [...this.#state.turns, turn], draft: [], notice: undefined });
    await this.#run(turn);
  }

  /** Asks the last question again, with the present settings. */
  async retry(): Promise<void> {
    const last = this.#state.turns.at(-1);
    if (this.busy || last === undefined) return;
    const turn = this.#freshTurn(last.id, last);
    this.#set({ turns: [...this.#state.turns.slice(0, -1), turn], notice: undefined });
    await this.#run(turn);
  }

  async #run(turn: Turn): Promise<void> {
    const controller = new AbortController();
    this.#running = controller;
    const { model, settings } = this.#state;
    // An unanswered question in the middle would put two user turns in a row.
    const past = this.#state.turns.filter((other) => other.id !== turn.id && other.answer !== "");
    const body = chatBody(model, chatMessages([...past, turn], settings.system), settings);
    this.#set({ lastBody: body });
    const startMs = this.#nowMs();
    const change = (patch: Partial<Turn>) =>
      this.#patchTurn(turn.id, { ...patch, elapsedMs: this.#nowMs() - startMs });
    try {
      for await (const event of streamChat(this.#connection(), body, controller.signal)) {
        const now = this.#state.turns.find((other) => other.id === turn.id);
        if (now !== undefined) change(applyEvent(now, event, this.#nowMs() - startMs));
      }
      change({ state: "done" });
    } catch (error) {
      if (controller.signal.aborted) change({ state: "stopped" });
      else change({ state: "failed", error: message(error) });
      if (turn.ranHere && isLost(error)) this.#fallBack();
      if (error instanceof ApiError && error.status === 401) this.#set({ server: "locked" });
    } finally {
      // Views read `busy`, so it changes before the last notification.
      this.#running = undefined;
      this.#set({});
    }
  }

  /** Asks how the draft's pictures are cut. Only an ornament: failure leaves pictures plain. */
  async #measure(): Promise<void> {
    this.#gridding?.abort();
    const pictures = this.#state.draft.filter((picture) => !this.#state.grids.has(picture.id));
    if (pictures.length === 0) return;
    const controller = new AbortController();
    this.#gridding = controller;
    const { model } = this.#state;
    const messages = chatMessages([{ question: "", pictures, answer: "" }], "");
    try {
      const request = model === "" ? { messages } : { model, messages };
      const found = await pictureGrids(this.#connection(), request, controller.signal);
      if (controller.signal.aborted) return;
      const grids = new Map(this.#state.grids);
      pictures.forEach((picture, index) => {
        const grid = found[index];
        if (grid !== undefined) grids.set(picture.id, grid);
      });
      this.#set({ grids });
    } catch (error) {
      if (!controller.signal.aborted) this.#set({ notice: message(error) });
    }
  }

  /** Who answers questions: the model in this browser, or the server. */
  #connection(): Connection {
    const here = this.#local.fetch;
    return here === undefined ? this.#serverConnection() : { apiKey: "", fetch: here };
  }

  #serverConnection(): Connection {
    return { apiKey: this.#state.apiKey, fetch: this.#fetch };
  }

  #freshTurn(id: number, asked: Pick<Turn, "question" | "pictures">): Turn {
    return freshTurn(id, { ...asked, ranHere: this.#local.fetch !== undefined });
  }

  /** The engine is gone, for lack of memory for instance. */
  #fallBack(): void {
    this.#local.stop();
    this.#set({ notice: "The model in this browser has stopped; the server answers from now on" });
  }

  #patchTurn(id: number, patch: Partial<Turn>): void {
    const turns = this.#state.turns.map((turn) => turn.id === id ? { ...turn, ...patch } : turn);
    this.#set({ turns });
  }

  #set(patch: Partial<PageState>): void {
    this.#state = { ...this.#state, ...patch };
    for (const listener of this.#listeners) listener();
  }
}

/** Speed of an answer in tokens per second after the first token; undefined below two tokens. */
export function tokensPerSecond(turn: Turn): number | undefined {
  const tokens = turn.usage?.completionTokens ?? turn.deltaCount;
  if (turn.firstTokenMs === undefined || tokens < 2) return undefined;
  const seconds = (turn.elapsedMs - turn.firstTokenMs) / 1000;
  return seconds > 0 ? (tokens - 1) / seconds : undefined;
}

/** Errors after which the engine of this page answers nothing more. */
function isLost(error: unknown): boolean {
  return error instanceof ApiError && (error.cause as { code?: string } | undefined)?.code ===
      "unavailable";
}

function freshTurn(
  id: number,
  { question, pictures, ranHere }: Pick<Turn, "question" | "pictures" | "ranHere">,
): Turn {
  return {
    id,
    question,
    pictures,
    ranHere,
    answer: "",
    thinking: "",
    state: "waiting",
    progress: undefined,
    deltaCount: 0,
    firstTokenMs: undefined,
    elapsedMs: 0,
    usage: undefined,
    finishReason: undefined,
    error: undefined,
  };
}

function applyEvent(turn: Turn, event: ChatEvent, elapsedMs: number): Partial<Turn> {
  switch (event.type) {
    case "progress":
      return { progress: { processed: event.processed, total: event.total } };
    case "usage":
      return { usage: event.usage };
    case "finish":
      return { finishReason: event.reason };
    case "text":
    case "thinking": {
      const added = event.type === "text"
        ? { answer: turn.answer + event.text }
        : { thinking: turn.thinking + event.text };
      return {
        ...added,
        state: "streaming",
        deltaCount: turn.deltaCount + 1,
        firstTokenMs: turn.firstTokenMs ?? elapsedMs,
      };
    }
  }
}

function message(error: unknown): string {
  if (error instanceof ApiError) {
    const where = error.field === undefined ? "" : ` (${error.field})`;
    const retry = error.retryAfterSeconds === undefined
      ? ""
      : `. Try again in ${error.retryAfterSeconds} s`;
    return error.message + where + retry;
  }
  return error instanceof Error ? error.message : String(error);
}
