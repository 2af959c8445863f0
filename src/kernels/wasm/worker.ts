/**
 * One thread of the team. It answers "ready" once its kernels stand, then stays inside WebAssembly
 * until the team stops; it never handles another message.
 */
import { instantiateKernels } from "./instance.ts";

/** What a thread is started with. */
export interface ThreadStart {
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly control: number;
  readonly thread: number;
  readonly threads: number;
}

/** What a thread says: once ready, then how it ended. */
export type ThreadMessage =
  | { readonly kind: "ready"; readonly tableHash: number; readonly fused: boolean }
  | { readonly kind: "stopped" }
  | { readonly kind: "failed"; readonly message: string };

interface WorkerScope {
  onmessage: ((event: MessageEvent<ThreadStart>) => void) | null;
  postMessage(message: ThreadMessage): void;
  close(): void;
}

const scope = globalThis as unknown as WorkerScope;

scope.onmessage = ({ data }) => {
  try {
    const kernels = instantiateKernels(data.module, data.memory);
    scope.postMessage({
      kind: "ready",
      tableHash: kernels.table_hash(),
      fused: Boolean(kernels.madd_is_fused()),
    });
    kernels.work(data.control, data.thread, data.threads);
    scope.postMessage({ kind: "stopped" });
  } catch (error) {
    scope.postMessage({ kind: "failed", message: String(error) });
  }
  scope.close();
};
