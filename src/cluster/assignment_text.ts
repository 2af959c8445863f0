/**
 * Assignments (planner to node) and reports (node to fronts) as text, slots as ranges. Both sides
 * number the slots alike because they serve the same weights. Reads nothing on trust.
 */
import { type ExpertGrid, formatSlots, parseSlots } from "./expert_grid.ts";
import type { Assignment, HeldReport } from "./holdings.ts";
import { countIn, fieldProblem, type Fields, objectOf, stringIn } from "./text_fields.ts";

export function encodeAssignment(assignment: Assignment): string {
  return JSON.stringify({ ...assignment, keep: formatSlots(assignment.keep) });
}

/** The inverse of `encodeAssignment`. Throws SyntaxError or RangeError. */
export function decodeAssignment(text: string, grid: ExpertGrid): Assignment {
  const value = objectOf(JSON.parse(text), "message");
  return { ...orderOf(value), keep: parseSlots(stringIn(value, "keep"), grid.size) };
}

export function encodeReport(report: HeldReport): string {
  return JSON.stringify({ ...report, held: formatSlots(report.held) });
}

/** The inverse of `encodeReport`. Throws SyntaxError or RangeError. */
export function decodeReport(text: string, grid: ExpertGrid): HeldReport {
  const value = objectOf(JSON.parse(text), "message");
  const { failure } = value;
  if (failure !== undefined && typeof failure !== "string") throw fieldProblem("failure", failure);
  return {
    node: stringIn(value, "node"),
    incarnation: countIn(value, "incarnation"),
    ...orderOf(value),
    held: parseSlots(stringIn(value, "held"), grid.size),
    failure,
  };
}

function orderOf(value: Fields) {
  const order = {
    fence: countIn(value, "fence"),
    serial: countIn(value, "serial"),
    epochMin: countIn(value, "epochMin"),
    epochMax: countIn(value, "epochMax"),
  };
  if (order.epochMin > order.epochMax) throw fieldProblem("epochMin", order.epochMin);
  return order;
}
