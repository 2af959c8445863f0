/** The cluster's bounds as one value, so that simulations can run with smaller ones. */
import { limits } from "@/limits.ts";

export interface ClusterBounds {
  readonly leaseTtlMs: number;
  readonly leaseRenewMs: number;
  /** Silence on a node's connection after which it gets no new calls. */
  readonly nodeSilenceMs: number;
  /** Time between two plans that only improve the balance, and copies of one of them. */
  readonly planIntervalMs: number;
  readonly planCopies: number;
  readonly planSettleMs: number;
  /** For how long a first plan waits for the expected nodes. */
  readonly planFirstWaitMs: number;
  readonly planStallMs: number;
  readonly planPublishMs: number;
  readonly planGraceMs: number;
  readonly callMs: number;
  readonly attemptMs: number;
  readonly ownerWaitMs: number;
  readonly retryMs: number;
  readonly attempts: number;
  readonly latencySamplesMin: number;
  readonly latencySamples: number;
  readonly hedgedRowsShare: number;
  readonly hedgedRowsSaved: number;
  readonly circuitFailures: number;
  readonly circuitOpenMs: number;
  readonly circuitOpenMsMax: number;
}

export const defaultClusterBounds: ClusterBounds = {
  leaseTtlMs: limits.leaseTtlMs,
  leaseRenewMs: limits.leaseRenewMs,
  nodeSilenceMs: limits.nodeSilenceMs,
  planIntervalMs: limits.planIntervalMs,
  planCopies: limits.planCopiesMax,
  planSettleMs: limits.planSettleMs,
  planFirstWaitMs: limits.planFirstWaitMs,
  planStallMs: limits.planStallMs,
  planPublishMs: limits.planPublishMs,
  planGraceMs: limits.planGraceMs,
  callMs: limits.layerCallMs,
  attemptMs: limits.layerAttemptMs,
  ownerWaitMs: limits.expertOwnerWaitMs,
  retryMs: limits.layerRetryMs,
  attempts: limits.layerAttemptsMax,
  latencySamplesMin: limits.latencySamplesMin,
  latencySamples: limits.latencySamplesMax,
  hedgedRowsShare: limits.hedgedRowsShare,
  hedgedRowsSaved: limits.hedgedRowsSaved,
  circuitFailures: limits.circuitFailuresMax,
  circuitOpenMs: limits.circuitOpenMs,
  circuitOpenMsMax: limits.circuitOpenMsMax,
};
