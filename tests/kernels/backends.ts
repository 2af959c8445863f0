/** The backends that the conformance suite runs on. */
import type { Backend } from "@/kernels/backend.ts";
import { openReferenceBackend } from "@/kernels/reference/backend.ts";

export interface BackendEntry {
  readonly label: string;
  open(): Promise<Backend>;
}

export const referenceEntry: BackendEntry = {
  label: "reference",
  open: () => Promise.resolve(openReferenceBackend()),
};

/** Fast backends, compared with the reference. */
export const fastEntries: readonly BackendEntry[] = [];

export const backendEntries: readonly BackendEntry[] = [referenceEntry, ...fastEntries];
