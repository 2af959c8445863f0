/** The table of routes: one row per method and path. A new endpoint is one file and one row. */
import { handleChatCompletion } from "./chat_completions.ts";
import {
  handleClusterDrain,
  handleClusterExperts,
  handleClusterRebalance,
  handleClusterStatus,
} from "./cluster.ts";
import { handleCompletion } from "./completions.ts";
import { handleDocs } from "./docs.ts";
import type { AppContext } from "./exchange.ts";
import { handleLive, handleMetrics, handleReady, handleVersion } from "./health.ts";
import { handleModelFile } from "./model_files.ts";
import { handleModel, handleModels } from "./models.ts";
import { handleOpenApi } from "./openapi.ts";
import { handleRender } from "./render.ts";
import type { Services } from "./services.ts";
import { handleDetokenize, handleTokenize } from "./tokenize.ts";

export type RouteHandler = (
  context: AppContext,
  services: Services,
) => Response | Promise<Response>;

export interface Route {
  readonly method: "GET" | "POST";
  /** Hono's pattern; also the label of the route in metrics. */
  readonly path: string;
  readonly handler: RouteHandler;
  /** Answers without a key. */
  readonly isPublic?: true;
}

export const ROUTES: readonly Route[] = [
  { method: "POST", path: "/v1/chat/completions", handler: handleChatCompletion },
  { method: "POST", path: "/v1/completions", handler: handleCompletion },
  { method: "GET", path: "/v1/models", handler: handleModels },
  { method: "GET", path: "/v1/models/:id{.+}", handler: handleModel },
  { method: "GET", path: "/web/models/:id/:name", handler: handleModelFile },
  { method: "POST", path: "/tokenize", handler: handleTokenize },
  { method: "POST", path: "/detokenize", handler: handleDetokenize },
  { method: "POST", path: "/render", handler: handleRender },
  { method: "GET", path: "/cluster/status", handler: handleClusterStatus },
  { method: "GET", path: "/cluster/experts", handler: handleClusterExperts },
  { method: "POST", path: "/cluster/drain", handler: handleClusterDrain },
  { method: "POST", path: "/cluster/rebalance", handler: handleClusterRebalance },
  { method: "GET", path: "/livez", handler: handleLive, isPublic: true },
  { method: "GET", path: "/readyz", handler: handleReady, isPublic: true },
  { method: "GET", path: "/metrics", handler: handleMetrics },
  { method: "GET", path: "/version", handler: handleVersion },
  { method: "GET", path: "/openapi.json", handler: handleOpenApi },
  { method: "GET", path: "/docs", handler: handleDocs },
];
