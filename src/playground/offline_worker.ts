/**
 * The page's service worker, registered once a visitor runs the model in the browser: keeps the page,
 * the engine and its modules, so that they also load when the server cannot be reached. While it can,
 * everything comes from there, and new versions show at once. The model's files are kept elsewhere
 * (`web/file_store.ts`); the API is never touched.
 */
import { narrowVariants } from "@/kernels/wasm/variants.ts";

/** What of the global scope is used: the type library knows windows only. */
interface ServiceWorkerScope {
  skipWaiting(): Promise<void>;
  readonly clients: { claim(): Promise<void> };
  readonly location: Location;
  addEventListener(type: "install" | "activate", listen: (event: LifeEvent) => void): void;
  addEventListener(type: "fetch", listen: (event: RequestEvent) => void): void;
}

interface LifeEvent {
  waitUntil(work: Promise<unknown>): void;
}

interface RequestEvent {
  readonly request: Request;
  respondWith(response: Promise<Response>): void;
}

const scope = globalThis as unknown as ServiceWorkerScope;
const CACHE = "flotilla-page";
const scripts = ["flotilla", "engine_worker", "kernel_worker", "codec_worker"];
const paths = [
  ...["/", "/playground/app.js", "/playground/style.css"],
  ...scripts.map((name) => `/web/${name}.js`),
  ...narrowVariants.map((variant) => `/web/wasm/compute-${variant}/compute_bg.wasm`),
  "/web/wasm/codec/codec_bg.wasm",
];

scope.addEventListener("install", (event) => {
  const keepAll = async () => {
    await (await caches.open(CACHE)).addAll(paths);
    await scope.skipWaiting();
  };
  event.waitUntil(keepAll());
});

scope.addEventListener("activate", (event) => event.waitUntil(scope.clients.claim()));

scope.addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  const isKept = origin === scope.location.origin && paths.includes(pathname);
  if (request.method === "GET" && isKept) event.respondWith(answer(request, pathname));
});

/** From the server, whose answer is kept; from the last one when it cannot be reached. */
async function answer(request: Request, path: string): Promise<Response> {
  const cache = await caches.open(CACHE);
  try {
    const response = await fetch(request);
    if (response.status === 200) await cache.put(path, response.clone());
    return response;
  } catch (error) {
    const kept = await cache.match(path);
    if (kept === undefined) throw error;
    return kept;
  }
}
