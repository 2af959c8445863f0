/** `serve`: the OpenAI-compatible server and the playground. */
import { basename, resolve } from "node:path";
import { createApp } from "@/api/app.ts";
import { describeError } from "@/api/errors.ts";
import type { ModelOffer } from "@/api/model_files.ts";
import { systemClock } from "@/clock.ts";
import { type MemoryPlan, planText } from "@/engine/memory_plan.ts";
import { OperatingError } from "@/errors.ts";
import type { KvFormat } from "@/kernels/backend.ts";
import { workerCodec } from "@/media/codec.ts";
import { MediaLoader } from "@/media/media_source.ts";
import { prepareVideo } from "@/media/video.ts";
import { Logger, type LogLevel } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import { readKeys } from "./api_keys.ts";
import { backendFlags } from "./backend_flags.ts";
import { type ClusterFlags, clusterFlags } from "./cluster_flags.ts";
import { engineFlags } from "./engine_flags.ts";
import { type Flags, UsageError } from "./flags.ts";
import { gpuFlags } from "./gpu_flags.ts";
import { offerFolder } from "./offers.ts";
import { precisionFlags } from "./precision_flags.ts";
import { openServing, type Serving, type ServingOptions } from "./serving.ts";
import { type Handler, nanoFolder, siteHandler } from "./site.ts";
import { printLine } from "./terminal.ts";
import { VERSION } from "./version.ts";

const MIB = 1024 * 1024;

/** Names and folders of `--model`, or nano. */
export function modelFolders(flags: Flags): { id: string; folder: string }[] {
  const models = flags.list("model").map((value) => {
    const split = /^([\w.:-]+)=(.+)$/.exec(value);
    const folder = split?.[2] ?? value;
    return { id: split?.[1] ?? basename(resolve(folder)), folder };
  });
  const ids = models.map((model) => model.id);
  const twice = ids.find((id, index) => ids.indexOf(id) !== index);
  if (twice !== undefined) {
    throw new UsageError(`--model names "${twice}" twice; give names as NAME=DIR`);
  }
  return models.length > 0 ? models : [{ id: "nano", folder: nanoFolder }];
}

/** The options of a model that come from flags. */
export function servingOptions(
  flags: Flags,
): Omit<ServingOptions, "id" | "folder" | "log" | "metrics"> {
  const kvMib = flags.number("kv-mib");
  const msac = flags.string("msac");
  return {
    backend: backendFlags(flags),
    ...precisionFlags(flags),
    ...engineFlags(flags),
    gpu: gpuFlags(flags),
    synthetic: flags.on("synthetic"),
    verify: flags.on("verify"),
    contextTokens: flags.number("context"),
    kvFormat: flags.string("kv") as KvFormat | undefined,
    kvBytesMax: kvMib === undefined ? undefined : kvMib * MIB,
    tilesMax: flags.number("max-tiles"),
    msac: msac === undefined ? undefined : msac === "on",
    uprightPictures: !flags.on("no-exif"),
    anyRes: flags.on("anyres"),
  };
}

/** Answers until the models are loaded: alive, not ready. */
const startingHandler: Handler = (request) => {
  if (new URL(request.url).pathname === "/livez") return new Response("ok\n");
  const error = new OperatingError("unavailable", "The server is still loading its models", {
    retryAfterSeconds: 1,
  });
  const { status, body, headers } = describeError(error, "starting");
  return Response.json(body, { status, headers });
};

/** Hosts of `--media-allow`: repeated, separated by commas, or following one another. */
function allowedMediaHosts(flags: Flags): string[] {
  const named = flags.list("media-allow");
  if (named.length === 0 && flags.positionals.length > 0) {
    throw new UsageError(`Unexpected argument "${flags.positionals[0]}"; models go in --model DIR`);
  }
  return [...named, ...flags.positionals].flatMap((hosts) => hosts.split(",")).filter(Boolean);
}

class Server {
  readonly #flags: Flags;
  readonly #log: Logger;
  readonly #metrics = new Metrics();
  readonly #codec = workerCodec();
  readonly #servings: Serving[] = [];
  #handler: Handler = startingHandler;
  #draining = false;

  constructor(flags: Flags) {
    this.#flags = flags;
    this.#log = new Logger({
      level: (flags.string("log") ?? "info") as LogLevel,
      format: Deno.stderr.isTerminal() ? "pretty" : "json",
    });
  }

  async run(): Promise<number> {
    const startedAtMs = systemClock.nowMs();
    const apiKeys = await readKeys(this.#flags.string("api-key-file"));
    const mediaLoader = this.#mediaLoader();
    const bodyMib = this.#flags.number("body-mib");
    const stop = Promise.withResolvers<void>();
    const server = this.#listen();
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      Deno.addSignalListener(signal, () => stop.resolve());
    }
    try {
      await this.#load();
      const app = createApp({
        models: this.#servings.map((serving) => serving.served),
        apiKeys,
        clock: systemClock,
        log: this.#log,
        metrics: this.#metrics,
        mediaLoader,
        bodyBytesInFlightMax: bodyMib === undefined ? undefined : bodyMib * MIB,
        codec: this.#codec,
        offers: this.#offers(),
        readVideo: prepareVideo,
        cluster: this.#servings.find(({ cluster }) => cluster)?.cluster,
        version: VERSION,
        ready: () =>
          !this.#draining &&
          this.#servings.every(({ engine, problem }) => engine.stats().healthy && !problem()),
        startedAtMs,
      });
      this.#handler = siteHandler(app);
      const { hostname, port } = server.addr as Deno.NetAddr;
      const seconds = ((systemClock.nowMs() - startedAtMs) / 1000).toFixed(1);
      printLine(
        `Flotilla serves ${this.#servings.map(({ served }) => served.id).join(", ")} on ` +
          `http://${hostname}:${port} (ready in ${seconds} s)`,
      );
      await stop.promise;
      return 0;
    } finally {
      await this.#shutDown(server);
    }
  }

  async #cluster(): Promise<ClusterFlags | undefined> {
    const cluster = await clusterFlags(this.#flags);
    if (cluster && modelFolders(this.#flags).length > 1) {
      throw new UsageError("--cluster serves one model, --model is given more often");
    }
    return cluster;
  }

  /** Weights may be secret: of models other than nano they are given out only on demand. */
  #offers(): Map<string, ModelOffer> {
    const choice = this.#flags.string("web-models") ?? "shipped";
    if (choice === "none" || this.#flags.on("synthetic")) return new Map();
    const folders = modelFolders(this.#flags).filter(({ folder }) =>
      choice === "all" || resolve(folder) === resolve(nanoFolder)
    );
    return new Map(folders.map(({ id, folder }) => [id, offerFolder(id, folder)]));
  }

  #mediaLoader(): MediaLoader {
    const allowedHosts = allowedMediaHosts(this.#flags);
    try {
      return new MediaLoader({ allowedHosts });
    } catch (error) {
      if (error instanceof RangeError) throw new UsageError(`--media-allow: ${error.message}`);
      throw error;
    }
  }

  #listen(): Deno.HttpServer {
    const hostname = this.#flags.string("host") ?? "127.0.0.1";
    const port = this.#flags.number("port") ?? 8080;
    try {
      return Deno.serve(
        { hostname, port, onListen: () => {} },
        (request, info) => this.#handler(request, info),
      );
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
      throw new OperatingError(
        "unavailable",
        `Cannot listen on ${hostname}:${port}: the port is taken; choose another with --port`,
      );
    }
  }

  async #load(): Promise<void> {
    const cluster = await this.#cluster();
    for (const { id, folder } of modelFolders(this.#flags)) {
      let shownPercent = 0;
      const serving = await openServing({
        ...servingOptions(this.#flags),
        cluster,
        id,
        folder,
        log: this.#log,
        metrics: this.#metrics,
        onPlan: (plan) => this.#warnOfMemory(id, plan),
        onProgress: (done, total) => {
          const percent = Math.floor((100 * done) / total);
          if (percent < shownPercent + 10) return;
          shownPercent = percent;
          this.#log.debug("loading", { model: id, percent });
        },
      });
      this.#servings.push(serving);
      const { variant, reason, threads } = serving.backend.description;
      const { contextTokens, numericClass, facts } = serving.served;
      this.#log.info("model loaded", {
        model: id,
        parameters: facts.parameterCount,
        kernels: variant,
        reason,
        threads,
        numericClass,
        contextTokens,
      });
    }
  }

  /** The system grants pages before it has them, and ends the process when it has none left. */
  #warnOfMemory(model: string, plan: MemoryPlan): void {
    const availableBytes = Deno.systemMemoryInfo().available;
    if (plan.totalBytes <= availableBytes) return;
    this.#log.warn("memory may not suffice; --context or --kv-mib makes the KV cache smaller", {
      model,
      needed: planText(plan),
      availableGib: Number((availableBytes / 2 ** 30).toFixed(1)),
    });
  }

  /** Refuses new work, lets running answers end for a while, then closes everything. */
  async #shutDown(server: Deno.HttpServer): Promise<void> {
    this.#draining = true;
    const drained = Promise.all(this.#servings.map(({ engine }) => engine.drain()));
    let timer: ReturnType<typeof setTimeout> | undefined;
    const patience = new Promise((resolve) => timer = setTimeout(resolve, DRAIN_MS));
    await Promise.race([drained, patience]);
    clearTimeout(timer);
    for (const serving of this.#servings) await serving.close();
    this.#codec.close();
    await server.shutdown();
  }
}

/** How long running answers may go on after a stop signal. */
const DRAIN_MS = 10_000;

export async function serve(flags: Flags): Promise<number> {
  return await new Server(flags).run();
}
