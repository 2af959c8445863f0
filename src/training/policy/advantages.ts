/** How good each answer was compared with its group: the advantages of GRPO, DAPO and RLOO. */
import { assert } from "@/assert.ts";

export interface AdvantageOptions {
  /** Divide by the group's standard deviation (GRPO, DAPO); false: Dr. GRPO. */
  readonly normalize?: boolean;
  readonly epsilon?: number;
}

/**
 * (reward - mean) / (deviation + epsilon) inside each group, one number per answer. The deviation is
 * that of a sample (n - 1). A group of one has mean 0 and deviation 1, as in verl.
 */
export function groupAdvantages(
  rewards: readonly number[],
  groups: readonly (string | number)[],
  { normalize = true, epsilon = 1e-6 }: AdvantageOptions = {},
): number[] {
  const members = membersOf(rewards, groups);
  return rewards.map((reward, i) => {
    const { mean, deviation } = momentsOf(members.get(groups[i]!)!);
    return normalize ? (reward - mean) / (deviation + epsilon) : reward - mean;
  });
}

/** RLOO: the reward minus the mean of the others of its group; alone, the reward itself. */
export function leaveOneOutAdvantages(
  rewards: readonly number[],
  groups: readonly (string | number)[],
): number[] {
  const members = membersOf(rewards, groups);
  return rewards.map((reward, i) => {
    const group = members.get(groups[i]!)!;
    const others = group.length - 1;
    if (others === 0) return reward;
    return (reward * group.length - group.reduce((a, b) => a + b, 0)) / others;
  });
}

function membersOf(
  rewards: readonly number[],
  groups: readonly (string | number)[],
): Map<string | number, number[]> {
  assert(rewards.length === groups.length, "one group per reward");
  const members = new Map<string | number, number[]>();
  for (const [i, group] of groups.entries()) {
    const list = members.get(group);
    if (list) list.push(rewards[i]!);
    else members.set(group, [rewards[i]!]);
  }
  return members;
}

function momentsOf(values: readonly number[]): { mean: number; deviation: number } {
  if (values.length === 1) return { mean: 0, deviation: 1 };
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, deviation: Math.sqrt(squares / (values.length - 1)) };
}

/** Whether a group teaches anything: its rewards differ. */
export function isInformative(rewards: readonly number[]): boolean {
  return rewards.some((reward) => Math.abs(reward - rewards[0]!) > 1e-9);
}

/** A prompt's answers with their rewards; null = could not be judged. */
export interface ScoredGroup<T> {
  readonly prompt: T;
  readonly rewards: readonly (number | null)[];
}

/**
 * DAPO's dynamic sampling: groups whose judged rewards are all equal, or fewer than two, are left
 * out, to be replaced by new prompts.
 */
export function selectGroups<T, G extends ScoredGroup<T>>(
  groups: readonly G[],
): { kept: G[]; dropped: number } {
  const kept = groups.filter(({ rewards }) => {
    const judged = rewards.filter((reward) => reward !== null);
    return judged.length >= 2 && isInformative(judged);
  });
  return { kept, dropped: groups.length - kept.length };
}
