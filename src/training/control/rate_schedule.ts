/** Learning rates by step, as factors of the peak rate: warm-up, then cosine, WSD or constant. */
export type RateSchedule =
  | { readonly kind: "constant"; readonly warmupSteps: number }
  | {
    readonly kind: "cosine";
    readonly warmupSteps: number;
    readonly totalSteps: number;
    /** Factor at the end; default 0. */
    readonly endFactor?: number;
  }
  /** Warm-up, stable, decay: the stable part may be cut or prolonged at will. */
  | {
    readonly kind: "wsd";
    readonly warmupSteps: number;
    readonly totalSteps: number;
    readonly decaySteps: number;
    readonly decayShape?: "linear" | "sqrt";
    readonly endFactor?: number;
  };

/** What is wrong with a schedule whose parts do not fit into the whole. */
export function scheduleProblem(schedule: RateSchedule): string | undefined {
  if (schedule.kind === "constant") return undefined;
  const decay = schedule.kind === "wsd" ? schedule.decaySteps : 0;
  const { warmupSteps, totalSteps } = schedule;
  if (warmupSteps + decay <= totalSteps && totalSteps >= 1) return undefined;
  return `${warmupSteps} warm-up and ${decay} decay steps do not fit into ${totalSteps} steps`;
}

/** Factor for step `step`, counted from 0; beyond the end it stays what it was there. */
export function rateFactor(schedule: RateSchedule, step: number): number {
  const { warmupSteps } = schedule;
  if (step < warmupSteps) return step / Math.max(1, warmupSteps);
  if (schedule.kind === "constant") return 1;
  const { totalSteps, endFactor = 0 } = schedule;
  if (schedule.kind === "cosine") {
    const progress = Math.min(1, (step - warmupSteps) / Math.max(1, totalSteps - warmupSteps));
    return endFactor + (1 - endFactor) * (1 + Math.cos(Math.PI * progress)) / 2;
  }
  const start = totalSteps - schedule.decaySteps;
  if (step <= start) return 1;
  const progress = Math.min(1, (step - start) / Math.max(1, schedule.decaySteps));
  const fallen = schedule.decayShape === "sqrt" ? Math.sqrt(progress) : progress;
  return 1 - (1 - endFactor) * fallen;
}
