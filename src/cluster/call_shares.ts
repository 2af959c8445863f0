/**
 * How the experts of one layer call are divided among attempts: a tree of shares. A share is
 * answered by its own attempt, or by all of its children, which divide its experts among them; that
 * holds for retries and hedges alike, so each expert is answered exactly once. calls.ts grows it.
 */
import type { NodeId } from "./placement.ts";

export interface CallPart {
  readonly attempt: number;
  readonly experts: readonly number[];
}

/** Names an attempt as its reply does. */
export interface ReplyKey {
  readonly attempt: number;
  readonly node: NodeId;
  readonly epoch: number;
}

export interface Attempt extends ReplyKey {
  readonly share: Share;
  sentMs: number;
  /** "late" has failed its time, but its reply is still taken. */
  state: "waiting" | "late" | "answered" | "closed";
}

export interface Share {
  readonly experts: readonly number[];
  readonly rows: number;
  /** Nodes that just failed these experts. */
  readonly avoid: Set<NodeId>;
  attempt: Attempt | undefined;
  children: readonly Share[];
  tries: number;
  /** Without attempt and children: when to try again, and since when there is nobody to ask. */
  retryMs: number;
  lonelySinceMs: number | undefined;
}

/** Moves a share's times, and those of its children. */
export function shiftTimes(share: Share, ms: number): void {
  share.retryMs += ms;
  if (share.lonelySinceMs !== undefined) share.lonelySinceMs += ms;
  for (const child of share.children) shiftTimes(child, ms);
}

export function isLive({ state }: Attempt): boolean {
  return state === "waiting" || state === "late";
}

export function isAnswered({ attempt, children }: Share): boolean {
  return attempt?.state === "answered" || (children.length > 0 && children.every(isAnswered));
}

/** Shares that nobody works on: not answered, not asked, and no ancestor is still waited for. */
export function openShares(share: Share): Share[] {
  const { attempt, children } = share;
  if (attempt?.state === "answered" || (attempt && isLive(attempt))) return [];
  return children.length > 0 ? children.flatMap(openShares) : [share];
}

export function collectParts({ attempt, experts, children }: Share, parts: CallPart[]): void {
  if (attempt?.state === "answered") parts.push({ attempt: attempt.attempt, experts });
  else for (const child of children) collectParts(child, parts);
}
