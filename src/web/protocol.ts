/**
 * The messages between a page and the worker that runs the engine: one `open`, then requests of the
 * HTTP API by number, whose bodies come in chunks as the page pulls them.
 */
import type { ErrorCode } from "@/errors.ts";
import type { Variant } from "@/kernels/wasm/variants.ts";
import type { Quantisation } from "@/weights/precision.ts";

/** Where a model's files come from. */
export type ModelLocation =
  /** A folder on a server that lists its files in `files.json`. */
  | {
    readonly kind: "url";
    readonly url: string;
    readonly headers: Readonly<Record<string, string>>;
  }
  /** The same, from an earlier visit, without asking the server. */
  | { readonly kind: "kept"; readonly url: string }
  /** Files that the visitor chose. */
  | { readonly kind: "files"; readonly label: string; readonly files: readonly File[] };

export type BackendChoice = "auto" | "wasm" | "webgpu";

/** How a model is to run; what is undefined is decided by what the browser has. */
export interface RunOptions {
  readonly backend: BackendChoice;
  readonly variant?: Variant | undefined;
  readonly threads?: number | undefined;
  readonly quantisation?: Quantisation | undefined;
  readonly contextTokens?: number | undefined;
}

/** How far opening a model is. */
export interface OpenProgress {
  /** Files come from the network (or are found from an earlier visit); weights are laid out. */
  readonly phase: "download" | "load";
  readonly doneBytes: number;
  readonly totalBytes: number;
}

/** What runs, and how. */
export interface EngineDescription {
  /** Name of the model in requests and answers. */
  readonly model: string;
  readonly backend: "wasm" | "webgpu";
  /** Build of the kernels, e.g. "relaxed-simd+threads". */
  readonly variant: string;
  /** Why this build runs and not a faster one. */
  readonly reason: string;
  readonly threads: number;
  /** Equal class, equal tokens for the same request and seed. */
  readonly numericClass: string;
  readonly contextTokens: number;
  /** Whether the files stay in the browser for the next visit. */
  readonly isKept: boolean;
}

/** A model whose files are in this browser, whole or begun. */
export interface KeptModel {
  readonly url: string;
  readonly model: string;
  readonly totalBytes: number;
}

export type ToWorker =
  | {
    readonly kind: "open";
    readonly location: ModelLocation;
    readonly run: RunOptions;
    /** Folder of the worker scripts and modules. */
    readonly assets: string;
  }
  | {
    readonly kind: "request";
    readonly id: number;
    readonly method: string;
    /** Path and query. */
    readonly path: string;
    readonly headers: readonly (readonly [string, string])[];
    readonly body: ArrayBuffer | undefined;
  }
  | { readonly kind: "pull"; readonly id: number }
  | { readonly kind: "cancel"; readonly id: number }
  | { readonly kind: "forget"; readonly url: string }
  | { readonly kind: "list kept" };

export interface WorkerFailure {
  readonly code: ErrorCode;
  readonly message: string;
}

export type FromWorker =
  | { readonly kind: "progress"; readonly progress: OpenProgress }
  | { readonly kind: "opened"; readonly description: EngineDescription }
  | { readonly kind: "forgotten" }
  | { readonly kind: "kept"; readonly models: readonly KeptModel[] }
  | ({ readonly kind: "failed" } & WorkerFailure)
  | {
    readonly kind: "response";
    readonly id: number;
    readonly status: number;
    readonly headers: readonly (readonly [string, string])[];
  }
  | { readonly kind: "chunk"; readonly id: number; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly kind: "end"; readonly id: number }
  | { readonly kind: "broken"; readonly id: number; readonly message: string };
