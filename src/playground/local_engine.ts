/**
 * The model in this browser: loading it, what runs, and ending it. Knows the module for pages through
 * its types alone; the module itself is loaded when a visitor first wants it.
 */
import type {
  BackendChoice,
  EngineDescription,
  KeptModel,
  LoadOptions,
  LocalModel,
  OpenProgress,
} from "@/web/flotilla.ts";

/** The parts of `/web/flotilla.js` that the page uses. */
export interface EngineModule {
  loadModel(options: LoadOptions): Promise<LocalModel>;
  keptModels(): Promise<KeptModel[]>;
}

export type LocalState =
  | { readonly phase: "off" }
  | { readonly phase: "loading"; readonly progress: OpenProgress | undefined }
  | { readonly phase: "on"; readonly description: EngineDescription };

export const LOCAL_OFF: LocalState = { phase: "off" };

export interface StartOptions {
  /** Folder of the model's files; undefined: what an earlier visit kept. */
  readonly files: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
  readonly backend: BackendChoice;
}

export class LocalEngine {
  readonly #loadModule: () => Promise<EngineModule>;
  readonly #onChange: (state: LocalState) => void;
  #loading: AbortController | undefined;
  #model: LocalModel | undefined;

  constructor(options: {
    loadModule: () => Promise<EngineModule>;
    onChange: (state: LocalState) => void;
  }) {
    this.#loadModule = options.loadModule;
    this.#onChange = options.onChange;
  }

  /** Asks the engine like a server; undefined while it does not run. */
  get fetch(): typeof fetch | undefined {
    return this.#model?.fetch;
  }

  /** Whether it runs now; false when it was stopped meanwhile. Throws what loading throws. */
  async start({ files, headers, backend }: StartOptions): Promise<boolean> {
    this.stop();
    const controller = new AbortController();
    this.#loading = controller;
    this.#onChange({ phase: "loading", progress: undefined });
    try {
      const module = await this.#loadModule();
      const model = await module.loadModel({
        source: files ?? { kept: await firstKept(module) },
        ...{ headers, backend },
        signal: controller.signal,
        onProgress: (progress) => {
          if (this.#loading === controller) this.#onChange({ phase: "loading", progress });
        },
      });
      if (controller.signal.aborted) {
        model.close();
        return false;
      }
      this.#model = model;
      this.#onChange({ phase: "on", description: model.description });
      return true;
    } catch (error) {
      if (controller.signal.aborted) return false;
      this.#onChange(LOCAL_OFF);
      throw error;
    } finally {
      if (this.#loading === controller) this.#loading = undefined;
    }
  }

  /** Ends loading or the engine; the server answers from now on. */
  stop(): void {
    if (this.#loading === undefined && this.#model === undefined) return;
    this.#loading?.abort();
    this.#loading = undefined;
    this.#model?.close();
    this.#model = undefined;
    this.#onChange(LOCAL_OFF);
  }
}

async function firstKept(module: EngineModule): Promise<string> {
  const [kept] = await module.keptModels();
  if (kept !== undefined) return kept.url;
  throw new Error("no model is kept in this browser, and the server offers none");
}
