/**
 * Whether new requests can be served: every expert needs an owner that can be asked now, or a disk
 * to read it from. Running calls find that out for themselves (calls.ts).
 */
import { OperatingError } from "@/errors.ts";
import type { CallContext } from "./calls.ts";
import { coverageError } from "./placement.ts";
import type { RouteTable } from "./replica_choice.ts";

export type CoverageContext = Pick<CallContext, "health" | "routes" | "localNode" | "fallback">;

/** The error to answer new requests with; undefined when all experts can be asked. */
export function coverageProblem(context: CoverageContext): OperatingError | undefined {
  if (context.fallback) return undefined;
  const table = context.routes();
  if (!table) {
    return new OperatingError("unavailable", "The experts are not placed yet", {
      retryAfterSeconds: 1,
    });
  }
  const uncovered = uncoveredIn(table, context);
  return uncovered.length > 0 ? coverageError(table.grid, uncovered) : undefined;
}

/** Slots whose owners are all disconnected or have not loaded them. */
export function uncoveredIn(
  table: RouteTable,
  { health, localNode }: Pick<CoverageContext, "health" | "localNode">,
): number[] {
  const isUp = table.nodes.map((node) => node === localNode || health.isConnected(node));
  const slots: number[] = [];
  for (let slot = 0; slot < table.grid.size; slot++) {
    if (!table.ownersOf(slot).some((node) => isUp[node])) slots.push(slot);
  }
  return slots;
}
