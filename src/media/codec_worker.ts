/**
 * Entry point of a codec worker: one sandbox, one call at a time. The main thread enforces time
 * limits by terminating it, see `codec_pool.ts`.
 */
import { assert } from "@/assert.ts";
import { OperatingError } from "@/errors.ts";
import { transferablesOf, type WorkerReply, type WorkerRequest } from "./codec_protocol.ts";
import { CodecSandbox } from "./codec_sandbox.ts";

/** The part of a worker's global scope that is used here. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<WorkerRequest>) => void) | null;
  postMessage(reply: WorkerReply, transfer?: Transferable[]): void;
}

const scope = self as unknown as WorkerScope;

function serve(): void {
  let sandbox: CodecSandbox | undefined;
  scope.onmessage = async ({ data: request }) => {
    if (request.kind === "start") {
      sandbox = new CodecSandbox(request.module);
      scope.postMessage({ kind: "ready" });
      return;
    }
    assert(sandbox !== undefined, "a codec worker is started before its first call");
    try {
      const value = await sandbox.perform(request.bytes, request.call);
      scope.postMessage({ kind: "result", value }, transferablesOf(value));
    } catch (error) {
      // The class of an error does not survive the message, so its code travels.
      const code = error instanceof OperatingError ? error.code : "internal";
      const message = error instanceof Error ? error.message : String(error);
      scope.postMessage({ kind: "failure", code, message });
    }
  };
}

serve();
