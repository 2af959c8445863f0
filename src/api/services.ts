/**
 * What every route needs: the models, the desk for pictures, and the outside world as values. Built
 * once per app; holds no state of requests (`exchange.ts`).
 */
import { PictureDesk, type PictureLoader } from "@/chat/images.ts";
import type { ServedModel } from "@/chat/served_model.ts";
import type { ClusterControl } from "@/cluster/cluster_control.ts";
import type { Clock } from "@/clock.ts";
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import type { VideoReader } from "@/media/animation.ts";
import type { Codec } from "@/media/codec.ts";
import { freshSeed } from "@/random.ts";
import type { Logger } from "@/telemetry/log.ts";
import type { Metrics } from "@/telemetry/metrics.ts";
import { BodyBudget } from "./body_budget.ts";
import type { ModelOffer } from "./model_files.ts";

/** What the composition root hands in. */
export interface AppDependencies {
  /** At least one; ids are unique. */
  readonly models: readonly ServedModel[];
  /** Id of the model that serves requests without `model`; default: the first. */
  readonly defaultModel?: string | undefined;
  /** Accepted Bearer keys; undefined or empty = no authentication. */
  readonly apiKeys?: readonly string[] | undefined;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly mediaLoader: PictureLoader;
  readonly codec: Codec;
  /** Samples video files; default: animated pictures only. */
  readonly readVideo?: VideoReader;
  /** The shards that compute the experts of a served model. */
  readonly cluster?: ClusterControl | undefined;
  /** Models, by id, whose files pages may load. */
  readonly offers?: ReadonlyMap<string, ModelOffer>;
  /** Version of the product. */
  readonly version: string;
  /** False while starting and while draining: `/readyz` answers 503. */
  readonly ready: () => boolean;
  readonly startedAtMs: number;
  /** Origins that browsers may call from; default none but the server's own. */
  readonly corsOrigins?: readonly string[] | undefined;
  /** Silence after which a stream sends a comment. */
  readonly streamPingMs?: number;
  /** Bytes of all request bodies in flight together. */
  readonly bodyBytesInFlightMax?: number | undefined;
  /** A name that was not given before, for requests and answers. */
  readonly newId?: () => string;
}

export class Services {
  readonly models: ReadonlyMap<string, ServedModel>;
  readonly desk: PictureDesk;
  readonly offers: ReadonlyMap<string, ModelOffer>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly metrics: Metrics;
  readonly cluster: ClusterControl | undefined;
  readonly version: string;
  readonly ready: () => boolean;
  readonly startedAtMs: number;
  readonly streamPingMs: number;
  readonly bodyBudget: BodyBudget;
  readonly newId: () => string;
  readonly #defaultModel: ServedModel;

  constructor(dependencies: AppDependencies) {
    const { models, defaultModel, mediaLoader, codec, readVideo } = dependencies;
    this.models = new Map(models.map((model) => [model.id, model]));
    this.#defaultModel = this.findModel(defaultModel ?? models[0]?.id ?? "");
    this.desk = new PictureDesk({ loader: mediaLoader, codec, readVideo });
    this.offers = dependencies.offers ?? new Map();
    this.clock = dependencies.clock;
    this.log = dependencies.log;
    this.metrics = dependencies.metrics;
    this.cluster = dependencies.cluster;
    this.version = dependencies.version;
    this.ready = dependencies.ready;
    this.startedAtMs = dependencies.startedAtMs;
    this.streamPingMs = dependencies.streamPingMs ?? limits.streamPingMs;
    this.bodyBudget = new BodyBudget(
      dependencies.bodyBytesInFlightMax ?? limits.bodyBytesInFlightMax,
    );
    this.newId = dependencies.newId ?? randomId;
  }

  /** The model of that id, or the default one. Throws OperatingError `model_not_found`. */
  findModel(id: string | null | undefined): ServedModel {
    const model = id === null || id === undefined ? this.#defaultModel : this.models.get(id);
    if (model !== undefined) return model;
    const served = [...this.models.keys()].join(", ");
    throw new OperatingError("model_not_found", `Model ${id} is not served here, only ${served}`, {
      field: "model",
    });
  }
}

function randomId(): string {
  const word = () => freshSeed().toString(16).padStart(8, "0");
  return word() + word() + word();
}
