/** The switch between server and browser, and what runs in the browser. */
import { useState } from "hono/jsx/dom";
import type { BackendChoice, EngineDescription, OpenProgress } from "@/web/flotilla.ts";
import { type Conversation, type PageState, tokensPerSecond } from "./conversation.ts";

interface LocalPanelProps {
  readonly state: PageState;
  readonly conversation: Conversation;
}

export function LocalPanel({ state, conversation }: LocalPanelProps) {
  const { local } = state;
  const offered = canRunHere(state);
  const [backend, setBackend] = useState<BackendChoice>("auto");
  return (
    <section class="fields local" aria-label="Where answers come from">
      <label class="check">
        <input
          type="checkbox"
          role="switch"
          checked={local.phase !== "off"}
          disabled={local.phase === "off" && !offered}
          onChange={(event: Event) => {
            const isOn = (event.currentTarget as HTMLInputElement).checked;
            if (isOn) conversation.runHere(backend);
            else conversation.runOnServer();
          }}
        />
        Run in this browser
      </label>
      {local.phase === "off" && (
        <small>
          {offered
            ? "Loads the model once; then pictures and questions stay on this machine."
            : `This server does not give out the files of ${state.model}.`}
        </small>
      )}
      {local.phase === "off" && offered && (
        <select
          aria-label="Kernels"
          onChange={(event: Event) =>
            setBackend((event.currentTarget as HTMLSelectElement).value as BackendChoice)}
        >
          {backends.map(({ name, label }) => (
            <option key={name} value={name} selected={name === backend}>{label}</option>
          ))}
        </select>
      )}
      {local.phase === "loading" && <Loading progress={local.progress} />}
      {local.phase === "on" && <Running description={local.description} state={state} />}
    </section>
  );
}

const backends: readonly { name: BackendChoice; label: string }[] = [
  { name: "auto", label: "WebGPU where it is faster" },
  { name: "wasm", label: "WebAssembly" },
  { name: "webgpu", label: "WebGPU" },
];

/** Whether there are files to run: offered by the server, or kept when it cannot be reached. */
export function canRunHere({ server, model, files }: PageState): boolean {
  return server === "offline" || files.get(model) !== undefined;
}

/** How far loading is, in words. */
export function progressText(progress: OpenProgress | undefined): string {
  if (progress === undefined) return "Starting";
  const { phase, doneBytes, totalBytes } = progress;
  if (phase === "load") return `Preparing: ${Math.floor((100 * doneBytes) / totalBytes)} %`;
  return `Loading: ${megabytes(doneBytes)} of ${megabytes(totalBytes)} MB`;
}

/** The same for narrow places: each phase in per cent. */
export function progressShare(progress: OpenProgress | undefined): string {
  if (progress === undefined) return "Starting";
  const { phase, doneBytes, totalBytes } = progress;
  const percent = Math.floor((100 * doneBytes) / totalBytes);
  return `${phase === "load" ? "Preparing" : "Loading"} ${percent} %`;
}

function Loading({ progress }: { readonly progress: OpenProgress | undefined }) {
  return (
    <div class="waiting">
      <progress
        max={progress?.totalBytes ?? 1}
        {...(progress === undefined ? {} : { value: progress.doneBytes })}
        aria-label="Loading the model"
      />
      <small>{progressText(progress)}</small>
    </div>
  );
}

interface RunningProps {
  readonly description: EngineDescription;
  readonly state: PageState;
}

function Running({ description, state }: RunningProps) {
  const { backend, variant, threads, reason, isKept } = description;
  const last = state.turns.findLast((turn) => turn.ranHere);
  const speed = last && tokensPerSecond(last);
  const kernels = backend === "wasm"
    ? `WebAssembly: ${variant}, ${threads} ${threads === 1 ? "thread" : "threads"}`
    : `WebGPU: ${reason}`; // the adapter's name
  return (
    <dl class="facts-list">
      <dt>Kernels</dt>
      <dd>{kernels}</dd>
      {reason.startsWith("not ") && (
        <>
          <dt>Why</dt>
          <dd>{reason}</dd>
        </>
      )}
      <dt>Speed</dt>
      <dd>{speed === undefined ? "not measured yet" : `${speed.toFixed(1)} tokens/s`}</dd>
      <dt>Files</dt>
      <dd>{isKept ? "kept for the next visit" : "in memory only"}</dd>
    </dl>
  );
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}
